"""The mask of the frame before, spoiled the way a tracker spoils it: MaskTrack's second input in training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from handful.lucid.cut import box_of
from handful.lucid.fill import hole_of
from handful.lucid.move import Bend, apply, gentle, inverse, outline_points, pose, remapped, upsampled

DISK_RADIUS_PX = 5
SCALE = 0.05
SHIFT = 0.1
BEND = 0.05


def corrupted(ids: np.ndarray, rng: np.random.Generator, *, bend: float = BEND) -> np.ndarray:
    """Each object's mask moved or bent a little, then thickened: (h, w) ids, of the same dtype.

    Perazzi et al. 2017 (arXiv 1612.02646): by a coin's toss either scaled by +-5 % and shifted by up to +-10 % of its
    box, or bent by a thin-plate spline whose five border points move by up to +-`bend` of the box (Lucid Data
    Dreaming's released code: 5 %); then dilated by a disk of radius 5 px. Later ids lie over earlier ones.
    """
    result = np.zeros_like(ids)
    ignore = np.iinfo(ids.dtype).max
    for number in np.unique(ids).tolist():
        drawn = rng.uniform(-1, 1, 4 + 2 * 5)
        where = ids == number
        if number in (0, ignore):
            continue
        box = np.array(box_of(where))
        size = (box[2:] - box[:2]).astype(float)
        reach = np.ceil(0.2 * size).astype(int) + DISK_RADIUS_PX + 2
        left, top = np.maximum(0, box[:2] - reach).tolist()
        right, bottom = np.minimum(ids.shape[::-1], box[2:] + reach).tolist()
        crop = where[top:bottom, left:right].astype(np.uint8) * 255
        back: Callable[[np.ndarray], np.ndarray]
        if drawn[0] < 0 or min(size) < 8:
            scale = 1 + SCALE * (1 if drawn[1] > 0 else -1)
            shift = np.rint(drawn[2:4] * 10) / 10 * SHIFT * size
            back = partial(apply, inverse(pose((box[:2] + box[2:]) / 2.0, shift, 0.0, scale)))
        else:
            points = outline_points(where[top:bottom, left:right], 5, rng) + np.array([left, top])
            offsets = np.rint(drawn[4:].reshape(5, 2) * 10) / 10 * bend * size
            back = partial(_bent, gentle(points, offsets, box.astype(float)))
        maps = upsampled(lambda p, back=back, at=(left, top): back(p) - np.array(at), (left, top, right, bottom))
        spoiled = remapped(crop, maps)
        thick = hole_of(spoiled >= 128, DISK_RADIUS_PX)
        np.copyto(result[top:bottom, left:right], ids.dtype.type(number), where=thick)
    return result


def _bent(bend: Bend, p: np.ndarray) -> np.ndarray:
    return np.asarray(p + bend(p))
