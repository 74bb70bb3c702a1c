"""COCO's twelve figures of boxes or masks (Lin et al. 2014, Microsoft COCO, arXiv:1405.0312), by faster-coco-eval.

Every detector is measured here, whether it was trained or taught.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handful.curate.balance import area_of
from handful.data.shapes import painted
from handful.pick import need
from handful.types import Object

# COCO's own names, in the order in which its evaluator gives them; those of masks begin with "mask_"
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOUS = np.linspace(0.5, 0.95, 10)
RULE = {
    "name": "coco",
    "AP": "mean over classes and over the overlaps (IoU) .50, .55, ..., .95 at which a prediction counts as right, of "
    "the precision at 101 recalls; at most 100 predictions an image and class; classes without an object do not count",
    "AP50, AP75": "as AP, at one overlap",
    "AR1, AR10, AR100": "share of objects found with at most so many predictions an image and class, mean over the "
    "same overlaps and classes",
    "APs, APm, APl, ARs, ARm, ARl": "small, medium and large objects alone: less than 32 x 32 px of the image, less "
    "than 96 x 96, and the others, by the area the labels say, or else of the outline or pixels, or else of the box",
    "crowds": "predictions inside a crowd are neither right nor wrong",
    "mask_...": "the same figures, with the overlap of pixels instead of boxes",
}
Row = dict[str, Any]


def rule_of(masks: bool) -> dict[str, str]:
    """The rules in words that a result with or without masks was measured by."""
    return {key: text for key, text in RULE.items() if masks or not key.startswith("mask_")}


def area_px(thing: Object, box: Sequence[float], size_wh: tuple[int, int]) -> float:
    """The area of an object in px^2: as the labels say, or else of its outline or pixels, or else of the box."""
    labeled = thing.attributes.get("area")
    if isinstance(labeled, int | float) and not isinstance(labeled, bool) and labeled > 0:
        return float(labeled)
    if thing.rle is not None or thing.polygons_px:
        return float(area_of(thing, size_wh)[0])
    return float((box[2] - box[0]) * (box[3] - box[1]))


def mask_of(thing: Object, box: Sequence[float], size_wh: tuple[int, int]) -> np.ndarray | None:
    """The pixels (h, w) bool of an object; of a crowd that has none, those of its box; None for any other."""
    pixels = painted(thing, size_wh)
    if pixels is None and thing.crowd:
        left, top, right, bottom = np.rint(np.clip(box, 0, [*size_wh, *size_wh])).astype(int)
        pixels = np.zeros(size_wh[::-1], dtype=bool)
        pixels[top:bottom, left:right] = True
    return pixels


def run_lengths(pixels: np.ndarray) -> dict[str, Any]:
    """(h, w) bool or uint8 of 0 and 1 as pycocotools' compressed run lengths."""
    made: dict[str, Any] = need("pycocotools.mask", "data").encode(np.asfortranarray(pixels, dtype=np.uint8))
    return made


def truth_row(
    thing: Object, label: int, box: Sequence[float], size_wh: tuple[int, int], pixels: np.ndarray | None = None
) -> Row:
    """A labeled object as COCO has it. box: left, top, right, bottom in px; pixels: (h, w) bool, where masks are
    measured."""
    row: Row = {"category_id": label, "bbox": xywh(box), "area": area_px(thing, box, size_wh),
                "iscrowd": int(thing.crowd)}  # fmt: skip
    return row if pixels is None else {**row, "segmentation": run_lengths(pixels)}


def predicted_row(label: int, score: float, box: Sequence[float], mask: dict[str, Any] | None = None) -> Row:
    """A prediction as COCO has it. box: left, top, right, bottom in px; mask: run lengths, where masks are measured."""
    row: Row = {"category_id": label, "bbox": xywh(box), "score": float(score), "iscrowd": 0}
    return row if mask is None else {**row, "segmentation": mask}


def xywh(box: Iterable[float]) -> list[float]:
    """Left, top, right, bottom -> COCO's left, top, width, height."""
    left, top, right, bottom = (float(v) for v in box)
    return [left, top, right - left, bottom - top]


def coco_table(
    truth: Sequence[Sequence[Row]], predicted: Sequence[Sequence[Row]], sizes_wh: Sequence[tuple[int, int]],
    classes: Sequence[str], kind: str = "bbox",
) -> tuple[dict[str, float | None], dict[str, float | None]]:  # fmt: skip
    """STATS, and the AP of each class; 0..1, None where there is nothing to measure by.

    truth, predicted: of each image the rows that truth_row and predicted_row give. sizes_wh: of the images. kind:
    "bbox", or "segm" for rows with masks.
    """
    fast = need("faster_coco_eval", "train")
    images = [{"id": i, "width": wide, "height": high} for i, (wide, high) in enumerate(sizes_wh)]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables, and stdout is for JSON
        sides = [fast.COCO({"images": images, "categories": categories, "annotations": rows})
                 for rows in (_numbered(truth), [_sized(row, kind) for row in _numbered(predicted)])]  # fmt: skip
        result = fast.COCOeval_faster(*sides, kind)
        result.evaluate()
        result.accumulate()
        result.summarize()
    # overlaps, recalls, classes, ranges of area, most predictions: of all areas, with 100 predictions
    precision = np.asarray(result.eval["precision"]).reshape(len(IOUS), -1, len(classes), 4, 3)[:, :, :, 0, 2]
    each: dict[str, float | None] = {}
    for i, name in enumerate(classes):
        own = precision[:, :, i]
        own = own[own > -1]
        each[name] = float(own.mean()) if own.size else None
    return {k: float(v) if v > -1 else None for k, v in zip(STATS, result.stats[:12], strict=True)}, each


def _numbered(images: Sequence[Sequence[Row]]) -> list[Row]:
    rows = [(i, row) for i, own in enumerate(images) for row in own]
    return [{**row, "id": n, "image_id": i} for n, (i, row) in enumerate(rows, 1)]


def _sized(row: Row, kind: str) -> Row:
    """A prediction with its area, which decides whether a wrong one counts among small, medium or large ones."""
    if kind == "bbox":
        return {**row, "area": row["bbox"][2] * row["bbox"][3]}
    return {**row, "area": int(need("pycocotools.mask", "data").area(row["segmentation"]))}
