"""How far two detectors agree in what they find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handful.boxes import iou
from handful.errors import DataError
from handful.results import Detections
from handful.words import counted

OVERLAP = 0.9


def agreement(got: Sequence[Detections], want: Sequence[Detections]) -> dict[str, Any]:
    """Two detectors' answers to the same photos, see compare_detections.RULE: matched_of_want,
    matched_of_got, counts, score differences.

    Raises DataError for other numbers of photos, other classes, or nothing found on the side of `want`.
    """
    if len(got) != len(want) or any(g.classes != w.classes for g, w in zip(got, want, strict=True)):
        raise DataError(
            f"{len(got)} and {counted(len(want), 'photo')}, or other classes; wanted the same detector and photos"
        )
    pairs, gaps = 0, [0.0]
    for one, other in zip(got, want, strict=True):
        over = iou(other.xyxy_px, one.xyxy_px)
        same = (other.label[:, None] == one.label[None]) & (other.unknown[:, None] == one.unknown[None])
        over[~same] = 0.0
        for i in np.argsort(-other.score, kind="stable").tolist():
            if over.shape[1] and over[i].max() >= OVERLAP:
                j = int(over[i].argmax())
                over[:, j] = 0.0
                pairs += 1
                gaps.append(abs(float(one.score[j] - other.score[i])))
    counts = sum(map(len, got)), sum(map(len, want))
    if not counts[1]:
        raise DataError(f"the detector found nothing in {counted(len(want), 'photo')}, so there is nothing to "
                        "compare; give photos with things in them: --photos")  # fmt: skip
    return {
        "images": len(want), "boxes_want": counts[1], "boxes_got": counts[0], "matched": pairs,
        "matched_of_want": pairs / counts[1], "matched_of_got": pairs / counts[0] if counts[0] else 0.0,
        "largest_score_difference": max(gaps), "mean_score_difference": sum(gaps) / max(1, pairs),
    }  # fmt: skip


def packed(found: Sequence[Detections]) -> dict[str, np.ndarray]:
    """Answers to photos as arrays, one after another, without their vectors."""
    names = ("xyxy_px", "score", "label", "margin")
    whole = {name: np.concatenate([getattr(one, name) for one in found]) for name in names}
    return {**whole, "count": np.array([len(one) for one in found])}


def unpacked(arrays: dict[str, np.ndarray], classes: Sequence[str]) -> list[Detections]:
    """The answers that went into `packed`."""
    ends, found = np.cumsum(arrays["count"]), []
    for end, count in zip(ends.tolist(), arrays["count"].tolist(), strict=True):
        part: dict[str, Any] = {
            name: arrays[name][end - count : end] for name in ("xyxy_px", "score", "label", "margin")
        }
        found.append(Detections(tuple(classes), vectors=np.zeros((count, 0)), **part))
    return found
