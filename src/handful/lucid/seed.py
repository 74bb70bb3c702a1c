"""What a clip is dreamed from: one image and whose pixels are whose, from any data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from handful.data.shapes import painted
from handful.data.writing import image_of
from handful.errors import DataError
from handful.types import Sample

MAX_ASPECT = 32_000  # OpenCV's warps stop at 32,767 px a side
BYTES_PER_PX = 160  # measured at the peak, with PatchMatch; half of it without


@dataclass(frozen=True, eq=False)
class Seed:
    """An image and its objects.

    id: unique in its data set; every random number depends on it. rgb_u8: (h, w, 3) uint8 RGB. ids: (h, w) uint8 or
    uint16, 0 background, 255 or 65535 not labeled. whole: pixels of one id are one object and move together; False
    when ids are classes, so that parts that do not touch move by themselves.
    Raises DataError, naming the seed, for other arrays or sizes, and for a mask that is empty or covers everything.
    """

    id: str
    rgb_u8: np.ndarray
    ids: np.ndarray
    whole: bool = True

    def __post_init__(self) -> None:
        rgb, ids = self.rgb_u8, self.ids
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise DataError(f"seed {self.id}: the image must be uint8 (h, w, 3) in RGB order")
        if not isinstance(ids, np.ndarray) or ids.dtype not in (np.uint8, np.uint16) or ids.ndim != 2:
            raise DataError(f"seed {self.id}: the mask must be uint8 or uint16 (h, w)")
        if ids.shape != rgb.shape[:2]:
            (h, w), (mh, mw) = rgb.shape[:2], ids.shape
            raise DataError(f"seed {self.id}: the mask is {mw}x{mh} px and the image {w}x{h} px; they must be equal")
        if min(ids.shape) < 8 or max(ids.shape) > MAX_ASPECT:
            raise DataError(f"seed {self.id}: {ids.shape[1]}x{ids.shape[0]} px; wanted sides of 8 to {MAX_ASPECT:,} px")
        if not (self.foreground).any():
            raise DataError(f"seed {self.id}: the mask is empty; there is nothing to move")
        if self.foreground.all():
            raise DataError(f"seed {self.id}: the mask covers the whole image; there is no background to move it over")

    @property
    def ignore(self) -> int:
        """The id that means "not labeled"."""
        return int(np.iinfo(self.ids.dtype).max)

    @property
    def foreground(self) -> np.ndarray:
        """(h, w) bool: pixels of any object."""
        found: np.ndarray = (self.ids > 0) & (self.ids < self.ignore)
        return found

    def fitted(self, *, max_px: int, max_side_px: int | None) -> Seed:
        """Itself, or shrunk so that its longer side is max_side_px. Raises DataError when it is still too large."""
        height, width = self.ids.shape
        if max_side_px is not None and max(height, width) > max_side_px:
            scale = max_side_px / max(height, width)
            size = max(8, round(width * scale)), max(8, round(height * scale))
            rgb = cv2.resize(self.rgb_u8, size, interpolation=cv2.INTER_AREA)
            return Seed(self.id, rgb, cv2.resize(self.ids, size, interpolation=cv2.INTER_NEAREST_EXACT), self.whole)
        if height * width > max_px:
            raise DataError(
                f"seed {self.id}: {width}x{height} px would take about {height * width * BYTES_PER_PX / 2**30:.1f} GiB "
                f"of memory (at most {max_px:,} px are taken); shrink it with --max-side {max_side_for(max_px)}"
            )
        return self


def max_side_for(max_px: int) -> int:
    """A round longest side (px) that keeps any image of 4:3 and longer below max_px."""
    return int((max_px * 4 / 3) ** 0.5 // 100 * 100)


@dataclass(frozen=True, eq=False)
class SeedRef:
    """A seed not read yet: load() reads it, and raises DataError when it is no good."""

    id: str
    load: Callable[[], Seed]


def seeds_of(samples: Iterable[Sample]) -> Iterator[SeedRef]:
    """The samples that say which pixel is whose, as seeds; others are passed over.

    Objects with outlines or pixels become the ids 1, 2, ... in their order, and lie over one another in that order;
    crowds are marked "not labeled". Samples with a mask only keep its ids, as classes. A clip's frames are one seed
    each; take the first frames only with `first_frames`.
    """
    for sample in samples:
        outlined = [o for o in sample.objects or () if o.polygons_px or o.rle is not None]
        if outlined or sample.mask is not None:
            yield SeedRef(seed_id(sample), partial(_load, sample))


def first_frames(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Samples that are images, and of every clip only its first frame (the first that comes)."""
    seen = set()
    for sample in samples:
        key = (sample.split, sample.clip)
        if sample.clip is None or key not in seen:
            seen.add(key)
            yield sample


def seed_id(sample: Sample) -> str:
    """SPLIT/NAME: unique in a data set."""
    return f"{sample.split}/{sample.name}" if sample.split else sample.name


def _load(sample: Sample) -> Seed:
    name = seed_id(sample)
    rgb = image_of(sample).rgb_u8
    outlined = [o for o in sample.objects or () if o.polygons_px or o.rle is not None]
    if not outlined:
        assert sample.mask is not None
        # of a clip, an id is an object; of an image, a class
        return Seed(name, rgb, sample.mask().ids, whole=sample.clip is not None)
    height, width = rgb.shape[:2]
    dtype = np.uint8 if len(outlined) < 255 else np.uint16
    ids = np.zeros((height, width), dtype)
    number = 0
    for thing in sorted(outlined, key=lambda o: o.crowd, reverse=True):  # objects lie over crowds
        pixels = painted(thing, (width, height))
        if pixels is None or pixels.shape != ids.shape:
            raise DataError(f"seed {name}: an outline of {thing.label!r} is not of the image's size, {width}x{height}")
        number += not thing.crowd
        ids[pixels] = np.iinfo(dtype).max if thing.crowd else number
    return Seed(name, rgb, ids)
