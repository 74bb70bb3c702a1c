"""Boxes of an image cut out and resized: the same for a taught detector and a compiled one.

Many proposals are the same thing a little otherwise. What its crop shows is the same too, so a few crops, each shared
by the boxes that overlap it most, are as good as one a box (benchmarks/modes.py).
"""

from __future__ import annotations

import numpy as np

from handful.boxes import iou
from handful.image import fit

MIN_PX = 2
SHARED_IOU = 0.5  # a box that overlaps a crop by that much gets none of its own
LEAST_IOU = 0.3  # one that overlaps every crop by less takes none


def share_crops(
    boxes: np.ndarray, most: int, least_iou: float = LEAST_IOU, shared_iou: float = SHARED_IOU
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Which boxes are cut out, and whose crop each box takes.

    boxes: (n, 4) px, best first; most: crops at most; shared_iou, least_iou: as SHARED_IOU and LEAST_IOU. Returns (m,)
    int64, the boxes that are cut out, in their order, and (n,) int64, for each box the place in those of the one that
    it overlaps most; -1 where that is less than least_iou.
    """
    if not len(boxes) or most < 1:
        return np.zeros(0, np.int64), np.full(len(boxes), -1, np.int64)
    overlap, own = iou(boxes, boxes), [0]
    for i in range(1, len(boxes)):
        if len(own) == most:
            break
        if overlap[i, own].max() < shared_iou:
            own.append(i)
    shared = overlap[:, own]
    taken = np.where(shared.max(axis=1) < least_iou, -1, shared.argmax(axis=1))
    return np.array(own, np.int64), taken.astype(np.int64)


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
