"""A mask from a box around an object, where nobody drew one."""

from __future__ import annotations

import cv2
import numpy as np

from handful.errors import DataError

ROUNDS = 8


def mask_in_box(rgb_u8: np.ndarray, box_px: tuple[float, float, float, float]) -> np.ndarray:
    """(h, w) bool: what stands out from its ground within a box (left, top, right, bottom; the last two exclusive).

    GrabCut (Rother et al. 2004) and its largest piece, without holes of less than a fiftieth of it. A guess: look at
    it before you learn from it. Raises DataError for a box without area, outside the photo, or with nothing in it.
    """
    height, width = rgb_u8.shape[:2]
    if not np.isfinite(box_px).all():
        raise DataError(f"the box {box_px} holds NaN or infinity")
    left, top = max(0, round(box_px[0])), max(0, round(box_px[1]))
    right, bottom = min(width, round(box_px[2])), min(height, round(box_px[3]))
    if right - left < 4 or bottom - top < 4:
        raise DataError(f"the box {box_px} has less than 4 px of the photo's {width}x{height} along a side")
    if right - left >= width and bottom - top >= height:
        raise DataError("the box covers the whole photo; there is no ground outside it to tell the object from")
    cv2.setRNGSeed(0)  # its clusters begin at random places
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(rgb_u8, labels, (left, top, right - left, bottom - top), *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        raise DataError(f"nothing stands out in the box {box_px}; draw a mask instead")
    piece = (pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(1 - piece)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < piece.sum() / 50)
    return np.asarray((piece > 0) | np.isin(holes, small[small > 0]))
