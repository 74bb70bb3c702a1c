"""Evaluation of a taught detector's masks: COCO's table over pixels instead of boxes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from handful.data.shapes import box_of
from handful.detection.irene import Irene
from handful.results import Detections
from handful.training.coco_table import STATS, Row, coco_table, mask_of, predicted_row, truth_row
from handful.types import Sample
from handful.words import counted

RULE = "mask_AP and the like are of those images alone, every object of which has an outline or pixels"


class MaskTable:
    """Masks of images gathered, and measured together. method: of masks, by name; True for the detector's own."""

    def __init__(self, detector: Irene, method: bool | str = True) -> None:
        self.method = detector.masks if method is True else str(method)
        self.masker = detector.masker(None if method is True else self.method)
        self.classes = tuple(detector.classes)
        self.truth: list[list[Row]] = []
        self.predicted: list[list[Row]] = []
        self.sizes: list[tuple[int, int]] = []
        self.left_out, self.seconds, self.masks = 0, 0.0, 0

    def add(self, sample: Sample, rgb_u8: np.ndarray, found: Detections) -> None:
        """One image (h, w, 3) uint8 RGB and the boxes found in it; left out when its objects lack masks."""
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        number = {name: i for i, name in enumerate(self.classes)}
        truth = ground_truth_of(sample, size_wh, number)
        if truth is None:
            self.left_out += 1
            return
        began = time.perf_counter()
        boxes, place = np.unique(found.xyxy_px, axis=0, return_inverse=True)
        masks = self.masker.segment(rgb_u8, boxes)
        self.seconds += time.perf_counter() - began
        self.masks += len(boxes)
        self.sizes.append(size_wh)
        self.truth.append(truth)
        self.predicted.append([
            predicted_row(number[found.classes[found.label[i]]], found.score[i], masks[at].box_px,
                          masks[at].rle(size_wh))
            for i, at in enumerate(place.ravel().tolist())
        ])  # fmt: skip

    def result(self) -> dict[str, Any]:
        """COCO's twelve figures ("mask_AP", ...; None where there is nothing to measure by), "mask_per_class", and
        "masks": {"method", "images", "left_out", "objects", "seconds_per_mask"}."""
        nothing: tuple[dict[str, float | None], dict[str, float | None]]
        nothing = dict.fromkeys(STATS), dict.fromkeys(self.classes)
        there = any(self.truth)
        stats, each = coco_table(self.truth, self.predicted, self.sizes, self.classes, "segm") if there else nothing
        return {
            **{f"mask_{name}": value for name, value in stats.items()},
            "mask_per_class": each,
            "masks": {
                "method": self.method, "images": len(self.sizes), "left_out": self.left_out,
                "objects": sum(not row["iscrowd"] for rows in self.truth for row in rows),
                "seconds_per_mask": self.seconds / self.masks if self.masks else None,
            },
        }  # fmt: skip


def ground_truth_of(sample: Sample, size_wh: tuple[int, int], number: dict[str, int]) -> list[Row] | None:
    """The objects of an image as COCO's rows, those of other classes than {name: number} left out; None when any
    object that is no crowd has neither outline nor pixels."""
    rows: list[Row] = []
    for thing in sample.objects or ():
        box = box_of(thing)
        pixels = mask_of(thing, box, size_wh) if box is not None else None
        if box is None or pixels is None:
            return None
        if thing.label in number:
            rows.append(truth_row(thing, number[thing.label], box, size_wh, pixels))
    return rows


def text_of(result: dict[str, Any]) -> str:
    """A line for people."""
    masks = result["masks"]
    values = {name: result[f"mask_{name}"] for name in ("AP", "AP50", "AP75")}
    figures = ", ".join(f"{name} -" if v is None else f"{name} {100 * v:.1f}" for name, v in values.items())
    out = f"; {masks['left_out']} left out, whose objects have no masks" if masks["left_out"] else ""
    ms = "" if masks["seconds_per_mask"] is None else f", {1000 * masks['seconds_per_mask']:.0f} ms a mask"
    return f"masks by {masks['method']}: {figures} on {counted(masks['images'], 'image')}{out}{ms}"
