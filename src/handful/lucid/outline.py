"""A mask from a box around an object, where nobody drew one."""

from __future__ import annotations

import cv2
import numpy as np

from handful.errors import DataError

ROUNDS = 8


def mask_in_box(rgb_u8: np.ndarray, box_px: tuple[float, float, float, float]) -> np.ndarray:
    """(h, w) bool: what stands out from its ground within a box (left, top, right, bottom; the last two exclusive).

    GrabCut (Rother et al. 2004), without crumbs (less than a fiftieth of its largest piece) and with its holes closed
    (less than a tenth of it). A guess: look at it before you learn from it.
    Raises DataError for a box without area, outside the image, or with nothing in it.
    """
    height, width = rgb_u8.shape[:2]
    if not np.isfinite(box_px).all():
        raise DataError(f"the box {box_px} holds NaN or infinity")
    left, top = max(0, round(box_px[0])), max(0, round(box_px[1]))
    right, bottom = min(width, round(box_px[2])), min(height, round(box_px[3]))
    if right - left < 4 or bottom - top < 4:
        raise DataError(f"the box {box_px} has less than 4 px of the image's {width}x{height} along a side")
    if right - left >= width and bottom - top >= height:
        raise DataError("the box covers the whole image; there is no ground outside it to tell the object from")
    cv2.setRNGSeed(0)  # its clusters begin at random places
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(rgb_u8, labels, (left, top, right - left, bottom - top), *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    closed = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(closed)
    areas = stats[:, cv2.CC_STAT_AREA]
    if len(areas) < 2:
        raise DataError(f"nothing stands out in the box {box_px}; draw a mask instead")
    kept = np.isin(pieces, 1 + np.flatnonzero(areas[1:] >= areas[1:].max() / 50))
    _, gaps, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < kept.sum() / 10)
    return np.asarray(kept | np.isin(gaps, small[small > 0]))
