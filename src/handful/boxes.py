"""Boxes in an image: areas, overlaps, non-maximum suppression. NumPy alone, as a phone's program would have it.

Boxes are (n, 4) float, left, top, right, bottom in px, right and bottom exclusive; scores (n,) float.
"""

from __future__ import annotations

import numpy as np

from handful.arrays import F64, I64

MIN_NMS_SCORE = 1e-3  # below it a box is dropped (Bodla 2017)
AT_ONCE = 64


def iou(a: np.ndarray, b: np.ndarray) -> F64:
    """(n, 4), (m, 4) -> (n, m) float64: shared area over joint area, 0 where a box has none."""
    shared = _shared(a, b)
    joint = area(a)[:, None] + area(b)[None] - shared
    return np.asarray(np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0))


def inside(a: np.ndarray, b: np.ndarray) -> F64:
    """(n, 4), (m, 4) -> (n, m) float64: the share of each a's area that lies in b."""
    shared, own = _shared(a, b), area(a)[:, None]
    return np.asarray(np.divide(shared, own, out=np.zeros_like(shared), where=own > 0))


def area(boxes: np.ndarray) -> F64:
    """(n, 4) -> (n,) float64 px^2; 0 for a box turned inside out."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    found: np.ndarray = sides[:, 0] * sides[:, 1]
    return found


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2]).astype(np.float64)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    found: np.ndarray = sides[..., 0] * sides[..., 1]
    return found


def nms(boxes: np.ndarray, scores: np.ndarray, nms_iou: float) -> I64:
    """Non-maximum suppression: the boxes that stay, best first, (m,) int64.

    One that shares more than `nms_iou` IoU with a better one that stays is dropped, and so is one that scores below
    MIN_NMS_SCORE. Of equal ones the first in order is the better.
    """
    there = np.flatnonzero(scores >= MIN_NMS_SCORE)
    order = there[np.argsort(-scores[there], kind="stable")]
    own = np.asarray(boxes, np.float64)[order]
    stays = np.zeros(len(order), bool)
    kept = np.empty((len(order), 4))
    count = 0
    for start in range(0, len(order), AT_ONCE):  # all at once would be n^2 pairs, one at a time n calls
        some = own[start : start + AT_ONCE]
        free = np.logical_not(_over(some, kept[:count], nms_iou).any(axis=1))
        among = _over(some, some, nms_iou)
        for i in np.flatnonzero(free).tolist():
            if free[i]:
                free[i + 1 :] &= ~among[i, i + 1 :]
        stays[start : start + AT_ONCE] = free
        new = some[free]
        kept[count : count + len(new)] = new
        count += len(new)
    return np.asarray(order[stays], np.int64)


def _over(a: np.ndarray, b: np.ndarray, overlap: float) -> np.ndarray:
    """(n, m) bool: whether they share more than so much IoU."""
    wide = np.minimum(a[:, 2:3], b[:, 2]) - np.maximum(a[:, 0:1], b[:, 0])
    high = np.minimum(a[:, 3:4], b[:, 3]) - np.maximum(a[:, 1:2], b[:, 1])
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    joint = area(a)[:, None] + area(b) - shared
    return np.asarray(shared > overlap * joint)
