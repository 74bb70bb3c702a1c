"""How good the masks of a taught detector are: COCO's table over pixels instead of boxes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from handful.data.shapes import box_of, painted
from handful.detection.coco_table import STATS, coco_stats
from handful.detection.irene import Detections, Irene
from handful.detection.masking import patch
from handful.types import Sample

RULE = "COCO's table, as of boxes, with the IoU of pixels; only photos every thing of which has outlines or pixels"


class Segm:
    """Masks of photos gathered, and judged together. way: to masks, by name; True for the detector's own."""

    def __init__(self, detector: Irene, way: bool | str = True) -> None:
        self.way = detector.masks if way is True else str(way)
        self.masker = detector.masker(None if way is True else self.way)
        self.detector = detector
        self.things: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.sizes: list[tuple[int, int]] = []
        self.left_out, self.seconds, self.cut = 0, 0.0, 0

    def add(self, sample: Sample, rgb_u8: np.ndarray, found: Detections) -> None:
        """One photo (h, w, 3) uint8 RGB and what was found in it, boxes alone; left out when its things lack masks."""
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        things = truth_of(sample, size_wh)
        if things is None:
            self.left_out += 1
            return
        number = {name: i for i, name in enumerate(self.detector.classes)}
        photo = len(self.sizes)
        self.sizes.append(size_wh)
        for thing in things:
            if thing["name"] in number:
                row = {**thing, "id": len(self.things) + 1, "image_id": photo, "category_id": number[thing["name"]]}
                self.things.append(row)
        began = time.perf_counter()
        boxes, place = np.unique(found.xyxy_px, axis=0, return_inverse=True)
        masks = self.masker.cut(rgb_u8, boxes)
        self.seconds += time.perf_counter() - began
        self.cut += len(boxes)
        for i, at in enumerate(place.ravel().tolist()):
            mask = masks[at]
            left, top, right, bottom = mask.box_px
            self.answers.append({
                "id": len(self.answers) + 1, "image_id": photo, "category_id": number[found.classes[found.label[i]]],
                "segmentation": mask.rle(size_wh), "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
                "area": int(np.count_nonzero(mask.pixels)), "score": float(found.score[i]),
            })  # fmt: skip

    def told(self) -> dict[str, Any]:
        """COCO's twelve figures (None where there is nothing to measure by), per_class, photos, left_out, things, way,
        seconds_per_mask."""

        classes: Sequence[str] = self.detector.classes
        nothing: tuple[dict[str, float | None], dict[str, float | None]] = dict.fromkeys(STATS), dict.fromkeys(classes)
        made = coco_stats(self.things, self.answers, self.sizes, classes, "segm") if self.things else nothing
        return {
            **made[0], "per_class": made[1], "photos": len(self.sizes), "left_out": self.left_out,
            "things": sum(not thing["iscrowd"] for thing in self.things), "way": self.way,
            "seconds_per_mask": self.seconds / self.cut if self.cut else None,
        }  # fmt: skip


def truth_of(sample: Sample, size_wh: tuple[int, int]) -> list[dict[str, Any]] | None:
    """The things of a photo as COCO's rows, with "name"; None when one that is no crowd has neither outline nor pixels.
    A crowd without either is left aside."""
    rows: list[dict[str, Any]] = []
    for thing in sample.objects or ():
        pixels, box = painted(thing, size_wh), box_of(thing)
        if pixels is None or box is None or not pixels.any():
            if thing.crowd:
                continue
            return None
        own = patch(pixels, (0, 0))
        said = thing.attributes.get("area")
        size = float(said) if isinstance(said, int | float) and said > 0 else float(np.count_nonzero(pixels))
        rows.append({"name": thing.label, "segmentation": own.rle(size_wh), "area": size, "iscrowd": int(thing.crowd),
                     "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]})  # fmt: skip
    return rows


def text_of(segm: dict[str, Any]) -> str:
    """A line for people."""
    told = ", ".join(f"{k} -" if segm[k] is None else f"{k} {100 * segm[k]:.1f}" for k in ("AP", "AP50", "AP75"))
    out = f"; {segm['left_out']} left out, whose things have no masks" if segm["left_out"] else ""
    ms = "" if segm["seconds_per_mask"] is None else f", {1000 * segm['seconds_per_mask']:.0f} ms a mask"
    return f"masks by {segm['way']}: {told} on {segm['photos']} photos{out}{ms}"
