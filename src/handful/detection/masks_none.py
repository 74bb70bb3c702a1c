"""No mask at all: the whole box, to the nearest pixel. What every other way has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handful.detection.masking import Patch, filled, inside

DESCRIPTION = "the whole box"


def available() -> bool:
    """As handful.detection.masking.Masks."""
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Whole:
    """As handful.detection.masking.Masks."""
    return Whole()


class Whole:
    """See handful.detection.masking.Masker."""

    network: Any = None

    def __init__(self) -> None:
        self.about: dict[str, Any] = {"name": "none", "licence": "none", "trained_on": "nothing", "params": 0}

    def cut(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """As Masker."""
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        return [filled(box, size_wh) for box in inside(boxes, size_wh)]
