"""GrabCut in the box (Rother et al. 2004): the pixels whose color differs from what lies around the box. Not
trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handful.detection.masking import box_patch, clipped, tight_patch, windows
from handful.errors import DataError
from handful.results import Patch

DESCRIPTION = "GrabCut in the box"
MARGIN = 0.3  # of the box on each side: the background that the object is separated from
SIDE_PX = 192  # a larger box is shrunk to this; its time grows with the area, its masks hardly better


def available() -> bool:
    """As handful.detection.masking.MasksModule."""
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> GrabCut:
    """As handful.detection.masking.MasksModule."""
    return GrabCut()


class GrabCut:
    """See handful.detection.masking.Masker."""

    network: Any = None

    def __init__(self) -> None:
        self.about: dict[str, Any] = {
            "name": "grabcut", "license": "none", "trained_on": "nothing", "params": 0,
            "paper": "Rother, Kolmogorov & Blake 2004, GrabCut", "margin": MARGIN, "side_px": SIDE_PX,
        }  # fmt: skip

    def segment(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """As Masker; the whole box where nothing stands out in it, or no ground is left around it."""
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        return [_one(rgb_u8, box, size_wh) for box in clipped(boxes, size_wh)]


def _one(rgb_u8: np.ndarray, box: np.ndarray, size_wh: tuple[int, int]) -> Patch:
    import cv2

    from handful.lucid.outline import mask_in_box

    window = windows(box, MARGIN)[0]
    left, top = (int(v) for v in np.floor(np.maximum(window[:2], 0)))
    right, bottom = (int(v) for v in np.ceil(np.minimum(window[2:], size_wh)))
    part = np.ascontiguousarray(rgb_u8[top:bottom, left:right])
    high, wide = part.shape[:2]
    factor = min(1.0, SIDE_PX / max(box[2] - box[0], box[3] - box[1]))
    if factor < 1:
        part = cv2.resize(
            part, (max(1, round(wide * factor)), max(1, round(high * factor))), interpolation=cv2.INTER_AREA
        )
    across, down = part.shape[1] / wide, part.shape[0] / high
    own = (box - [left, top, left, top]) * [across, down, across, down]
    try:
        found = mask_in_box(part, (float(own[0]), float(own[1]), float(own[2]), float(own[3])))
    except DataError:
        return box_patch(box, size_wh)
    if factor < 1:
        found = cv2.resize(found.astype(np.float32), (wide, high), interpolation=cv2.INTER_LINEAR) >= 0.5
    return tight_patch(found, (left, top)) if found.any() else box_patch(box, size_wh)
