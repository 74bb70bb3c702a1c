"""Detections drawn into their image, and written as a JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handful.files import replacing
from handful.pick import need
from handful.results import Detections


def painted(rgb_u8: np.ndarray, found: Detections) -> np.ndarray:
    """A copy of an image (h, w, 3) uint8 RGB with each box, its class and score, and its mask where there is one."""
    return found.plot(rgb_u8)


def write_drawn(rgb_u8: np.ndarray, found: Detections, path: Path) -> None:
    """Write `painted` as a JPEG. Raises DataError when the file cannot be written; an older one is then as it was."""
    with replacing(path) as part:
        need("PIL.Image", "teach").fromarray(painted(rgb_u8, found)).save(part, format="JPEG", quality=90)
