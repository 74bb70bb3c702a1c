"""COCO's twelve figures, of boxes or of masks, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from handful.pick import need

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
OVERLAPS = np.linspace(0.5, 0.95, 10)


def coco_stats(
    things: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]], sizes_wh: Sequence[tuple[int, int]],
    classes: Sequence[str], kind: str,
) -> tuple[dict[str, float | None], dict[str, float | None]]:  # fmt: skip
    """The same of COCO's rows. kind: "bbox" or "segm"."""
    fast = need("faster_coco_eval", "detect")
    images = [{"id": i, "width": wide, "height": high} for i, (wide, high) in enumerate(sizes_wh)]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables, and stdout is for JSON
        sides = [fast.COCO({"images": images, "categories": categories, "annotations": list(rows)})
                 for rows in (things, answers)]  # fmt: skip
        result = fast.COCOeval_faster(*sides, kind)
        result.evaluate()
        result.accumulate()
        result.summarize()
    precision = np.asarray(result.eval["precision"]).reshape(len(OVERLAPS), -1, len(classes), 4, 3)[:, :, :, 0, 2]
    each: dict[str, float | None] = {}
    for i, name in enumerate(classes):
        own_precision = precision[:, :, i]
        own_precision = own_precision[own_precision > -1]
        each[name] = float(own_precision.mean()) if own_precision.size else None
    return {k: float(v) if v > -1 else None for k, v in zip(STATS, result.stats[:12], strict=True)}, each
