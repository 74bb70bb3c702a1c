"""No mask at all: the whole box, to the nearest pixel. The baseline of every other mask method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handful.detection.masking import box_patch, clipped
from handful.results import Patch

DESCRIPTION = "the whole box"


def available() -> bool:
    """As handful.detection.masking.MasksModule."""
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Whole:
    """As handful.detection.masking.MasksModule."""
    return Whole()


class Whole:
    """See handful.detection.masking.Masker."""

    network: Any = None

    def __init__(self) -> None:
        self.about: dict[str, Any] = {"name": "none", "license": "none", "trained_on": "nothing", "params": 0}

    def segment(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """As Masker."""
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        return [box_patch(box, size_wh) for box in clipped(boxes, size_wh)]
