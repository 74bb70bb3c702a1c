"""Augmentation for classification: images mirrored, shifted, zoomed, turned, in other colors, a piece cut out.

Every random choice follows from (seed, epoch, number of the batch), so training can be stopped and resumed between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.pick import need
from handful.training.augment import GRAY, Settings, recolored


@dataclass(frozen=True)
class Augment(Settings):
    """How far an image may be changed.

    mirror: half the images mirrored in the first epoch, and then each in every other one (Jordan, "94% on CIFAR-10 in
    3.29 seconds", 2024). shift: most shift as a share of each side, what comes in from outside is reflected. scale:
    (least, most) enlargement, log-uniform. rotate_deg: most turn to either side. brightness, contrast, saturation:
    most change as a factor. hue_deg: most turn of the colors. cutout: side of a gray square as a share of the image's
    (DeVries & Taylor, 2017), 0 for none.
    """

    mirror: bool = True
    shift: float = 0.1
    scale: tuple[float, float] = (0.8, 1.25)
    rotate_deg: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue_deg: float = 5.0
    cutout: float = 0.0

    @property
    def moves_only(self) -> bool:
        """Whether whole pixels are moved and nothing else, which is many times as fast."""
        return self.scale == (1, 1) and not self.rotate_deg


NOTHING = Augment(False, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def augmented(
    rgb: np.ndarray, which: np.ndarray, how: Augment, key: tuple[int, int, int], rank: int = 0, world_size: int = 1
) -> np.ndarray:
    """Each image changed.

    rgb: (n, h, w, 3) uint8 RGB; which: (n,) their numbers in the set, key: (seed, epoch, number of the batch).
    rank, world_size: these are every world_size-th images of the batch, and are changed as they would be in the whole
    of it.
    Returns (n, h, w, 3) uint8.
    """
    seed, epoch, _ = key
    rng = np.random.default_rng((*key, 3))
    n, height, width, _ = rgb.shape
    all_, own = n * world_size, slice(rank, None, world_size)
    first = np.array([np.random.default_rng((seed, int(i), 4)).random() < 0.5 for i in which], dtype=bool)
    mirrored = (first ^ bool(epoch % 2)) if how.mirror else np.zeros(n, dtype=bool)
    shift = rng.uniform(-how.shift, how.shift, (all_, 2))[own] * (height, width)
    if how.moves_only:
        moved = _moved(rgb, np.rint(shift).astype(np.int64), mirrored)
    else:
        scale = np.exp(rng.uniform(np.log(how.scale[0]), np.log(how.scale[1]), all_))[own]
        angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg, all_))[own]
        moved = _warped(rgb, shift, mirrored, scale, angle)
    if any(how.color.values()):
        own_rngs = rng.spawn(all_)[own]
        moved = np.stack([recolored(one, its, **how.color) for one, its in zip(moved, own_rngs, strict=True)])
    if how.cutout:
        side = max(1, round(how.cutout * min(height, width)))
        for one, (y, x) in zip(moved, rng.random((all_, 2))[own], strict=True):
            top, left = int(y * height) - side // 2, int(x * width) - side // 2
            one[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = GRAY
    return moved


def _reflected(at: np.ndarray, size: int) -> np.ndarray:
    """Indices that lie outside 0..size - 1, as if the image were mirrored at its outermost pixels."""
    at = np.abs(at) % max(1, 2 * size - 2)
    return np.asarray(np.minimum(at, 2 * size - 2 - at)) if size > 1 else np.zeros_like(at)


def _moved(rgb: np.ndarray, shift: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    n, height, width, _ = rgb.shape
    rows = _reflected(np.arange(height)[None] + shift[:, :1], height)
    columns = _reflected(np.arange(width)[None] + shift[:, 1:], width)
    columns[mirrored] = columns[mirrored, ::-1]
    return np.asarray(rgb[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]])


def _warped(
    rgb: np.ndarray, shift: np.ndarray, mirrored: np.ndarray, scale: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    cv2 = need("cv2", "train")
    n, height, width, _ = rgb.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    out = np.empty_like(rgb)
    for i in range(n):
        turn = scale[i] * np.array([[np.cos(angle[i]), -np.sin(angle[i])], [np.sin(angle[i]), np.cos(angle[i])]])
        if mirrored[i]:
            turn = turn @ np.array([[-1.0, 0.0], [0.0, 1.0]])
        way = np.concatenate([turn, (middle - turn @ middle - shift[i, ::-1])[:, None]], axis=1)
        # bilinear reads 2x2 pixels, so what gets much smaller is smoothed first
        source = cv2.GaussianBlur(rgb[i], (0, 0), 0.35 / scale[i]) if scale[i] < 2 / 3 else rgb[i]
        out[i] = cv2.warpAffine(source, way, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return out
