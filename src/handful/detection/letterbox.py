"""A photo in a proposer's square, and the boxes that come out of it: the steps before and after its network.

A PC (proposer_*.py) and a compiled detector (handful.device.detector) take them from here alike.
"""

from __future__ import annotations

import numpy as np

from handful.detection.contract import inside_photo
from handful.detection.fusion import apart
from handful.image import fit


def letterbox(rgb_u8: np.ndarray, side_px: int) -> tuple[np.ndarray, float, tuple[float, float]]:
    """A photo shrunk or enlarged until it fits into a black square, in its middle.

    Returns the square (side_px, side_px, 3) uint8, px of the square for one px of the photo, and (left, top) of the
    photo in it.
    """
    height, width = rgb_u8.shape[:2]
    factor = side_px / max(height, width)
    high, wide = max(1, min(side_px, round(height * factor))), max(1, min(side_px, round(width * factor)))
    left, top = (side_px - wide) // 2, (side_px - high) // 2
    frame = np.zeros((side_px, side_px, 3), np.uint8)
    frame[top : top + high, left : left + wide] = fit(rgb_u8, (high, wide))
    return frame, factor, (float(left), float(top))


def on_photo(boxes: np.ndarray, factor: float, left_top: tuple[float, float]) -> np.ndarray:
    """Boxes (n, 4) in px of the square -> float64 px of the photo, not yet cut at its edges."""
    return np.asarray((np.asarray(boxes, np.float64) - [*left_top, *left_top]) / factor)


def on_frame(boxes: np.ndarray, factor: float, left_top: tuple[float, float]) -> np.ndarray:
    """Boxes (n, 4) in px of the photo -> float64 px of the square."""
    return np.asarray(np.asarray(boxes, np.float64).reshape(-1, 4) * factor + [*left_top, *left_top])


def best_boxes(
    boxes: np.ndarray, quality: np.ndarray, size_wh: tuple[int, int], *, first: int, overlap: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes worth asking about, best first: (n, 4) float64 px of the photo and (n,) float64, n at most `most`.

    boxes: (m, 4) px of the photo; quality: (m,). The `first` best are cut at the photo's edges; then non-maximum
    suppression at an IoU of `overlap`. Of equal ones the first in order.
    """
    quality = np.asarray(quality, np.float64)
    order = np.argsort(-quality, kind="stable")[:first]
    whole, there = inside_photo(boxes[order], size_wh)
    whole, quality = whole[there], quality[order][there]
    stays = apart(whole, quality, overlap)[:most]
    return whole[stays], quality[stays]
