"""Boxes of an image cut out and resized: the same for a taught detector and a compiled one."""

from __future__ import annotations

import numpy as np

from handful.image import fit

MIN_PX = 2


def crop_boxes(rgb_u8: np.ndarray, boxes: np.ndarray, side_px: int, margin: float) -> np.ndarray:
    """(n, side_px, side_px, 3) uint8: each box with a margin around it, cut at the image's edges, resized to a square
    (bilinear, antialiased)."""
    height, width = rgb_u8.shape[:2]
    out = np.empty((len(boxes), side_px, side_px, 3), np.uint8)
    more = (boxes[:, 2:] - boxes[:, :2]) * margin
    low = np.floor(np.maximum(boxes[:, :2] - more, 0)).astype(np.int64)
    high = np.ceil(np.minimum(boxes[:, 2:] + more, [width, height])).astype(np.int64)
    for i in range(len(boxes)):
        left, right = _at_least(int(low[i, 0]), int(high[i, 0]), width)
        top, bottom = _at_least(int(low[i, 1]), int(high[i, 1]), height)
        out[i] = fit(rgb_u8[top:bottom, left:right], (side_px, side_px))
    return out


def _at_least(low: int, high: int, size: int) -> tuple[int, int]:
    wanted = min(MIN_PX, size)
    low = min(low, size - wanted)
    return low, max(high, low + wanted)
