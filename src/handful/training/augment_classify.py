"""Views of photos for a classifier: mirrored, shifted, zoomed, turned, other colours, a piece cut out.

All chances follow from (seed, epoch, number of the batch), so training can be stopped and resumed between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.errors import DataError
from handful.pick import need
from handful.training.augment_segment import COLOURS, coloured


@dataclass(frozen=True)
class Views:
    """How far a photo may be changed.

    mirror: half the photos mirrored in the first epoch, and then each in every other one (Jordan, "94% on CIFAR-10 in
    3.29 seconds", 2024). shift: most shift as a share of each side, what comes in from outside is reflected. scale:
    (least, most) enlargement, log-uniform. rotate_deg: most turn to either side. brightness, contrast, saturation:
    most change as a factor. hue_deg: most turn of the colours. cutout: side of a grey square as a share of the photo's
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

    def __post_init__(self) -> None:
        least, most = self.scale
        if not 0.05 <= least <= most <= 20:
            raise DataError(f"scale is {least} to {most}; wanted 0.05 <= least <= most <= 20")
        for name in ("shift", "brightness", "contrast", "saturation", "cutout"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 or more and below 1")
        for name in ("rotate_deg", "hue_deg"):
            if not 0 <= getattr(self, name) <= 180:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 to 180 degrees")

    @property
    def moves_only(self) -> bool:
        """Whether whole pixels are moved and nothing else, which is many times as fast."""
        return self.scale == (1, 1) and not self.rotate_deg


NOTHING = Views(False, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def viewed(
    rgb: np.ndarray, which: np.ndarray, how: Views, key: tuple[int, int, int], rank: int = 0, world: int = 1
) -> np.ndarray:
    """A view of each photo.

    rgb: (n, h, w, 3) uint8, red first; which: (n,) their numbers in the set, key: (seed, epoch, number of the batch).
    rank, world: these are every world-th photos of the batch, and get the views they would have in the whole of it.
    Returns (n, h, w, 3) uint8.
    """
    seed, epoch, _ = key
    rng = np.random.default_rng((*key, 3))
    n, height, width, _ = rgb.shape
    all_, own = n * world, slice(rank, None, world)
    first = np.array([np.random.default_rng((seed, int(i), 4)).random() < 0.5 for i in which], dtype=bool)
    mirrored = (first ^ bool(epoch % 2)) if how.mirror else np.zeros(n, dtype=bool)
    shift = rng.uniform(-how.shift, how.shift, (all_, 2))[own] * (height, width)
    if how.moves_only:
        moved = _moved(rgb, np.rint(shift).astype(np.int64), mirrored)
    else:
        scale = np.exp(rng.uniform(np.log(how.scale[0]), np.log(how.scale[1]), all_))[own]
        angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg, all_))[own]
        moved = _warped(rgb, shift, mirrored, scale, angle)
    colours = {k: getattr(how, k) for k in COLOURS}
    if any(colours.values()):
        chances = rng.spawn(all_)[own]
        moved = np.stack([coloured(one, its, **colours) for one, its in zip(moved, chances, strict=True)])
    if how.cutout:
        side = max(1, round(how.cutout * min(height, width)))
        for one, (y, x) in zip(moved, rng.random((all_, 2))[own], strict=True):
            top, left = int(y * height) - side // 2, int(x * width) - side // 2
            one[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 114
    return moved


def _reflected(at: np.ndarray, size: int) -> np.ndarray:
    """Indices that lie outside 0..size - 1, as if the photo were mirrored at its outermost pixels."""
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
