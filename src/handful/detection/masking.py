"""What a mask of a detection is, where it lies, and the contract of every masks_*.py.

A file `masks_x.py` makes the way "x" exist. It holds what `Masks` below lists and nothing else is needed.
tests/detection/test_masks.py runs over every file it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import handful.detection
from handful.detection.contract import inside_photo
from handful.errors import DataError
from handful.pick import names, need, pick

GREY = 127  # what lies outside the photo, about the colour that normalises to 0


@dataclass(frozen=True, eq=False)
class Patch:
    """The pixels of one thing: pixels (h, w) bool, the smallest rectangle around them, whose left upper pixel is
    left_top, (x, y) in whole px of the photo. Raises DataError for other arrays and where no pixel is True."""

    left_top: tuple[int, int]
    pixels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.bool_ or not self.pixels.any():
            raise DataError(f"a mask must be bool (h, w) with a pixel in it, got {self.pixels.dtype} "
                            f"{self.pixels.shape} with {int(np.count_nonzero(self.pixels))}")  # fmt: skip

    @property
    def box_px(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in px of the photo, the last two exclusive."""
        high, wide = self.pixels.shape
        return (*self.left_top, self.left_top[0] + wide, self.left_top[1] + high)

    def whole(self, size_wh: tuple[int, int]) -> np.ndarray:
        """(h, w) bool over the whole photo."""
        left, top, right, bottom = self.box_px
        out = np.zeros(size_wh[::-1], bool)
        out[top:bottom, left:right] = self.pixels
        return out

    def rle(self, size_wh: tuple[int, int]) -> dict[str, Any]:
        """COCO's compressed run lengths over the whole photo, as JSON: {"size": [h, w], "counts": "..."}."""
        mask_api = need("pycocotools.mask", "data")
        made = mask_api.encode(np.asfortranarray(self.whole(size_wh), dtype=np.uint8))
        return {"size": [int(v) for v in made["size"]], "counts": made["counts"].decode("ascii")}


class Masker(Protocol):
    """A way to masks that is ready. about: JSON: name, licence, what it was trained on, parameters. network: its torch
    module, whose weights a detector's folder keeps; None without one."""

    about: dict[str, Any]
    network: Any

    def cut(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """The pixels of the thing in each of boxes (n, 4) px of a photo (h, w, 3) uint8 RGB, in their order. Raises
        DataError for a box that lies outside the photo or has no area."""
        ...


class Masks(Protocol):
    """A module masks_*.py. WHAT: a line for people."""

    DESCRIPTION: str

    def available(self) -> bool:
        """Whether all it needs is on this machine."""
        ...

    def load(self, state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Masker:
        """Ready to cut. state, about: {parameter: tensor} and Masker.about of one that was kept, instead of what comes
        with handful. Raises DataError or MissingPackage."""
        ...


def best_way() -> str:
    """The name of the best way to masks that is on this machine."""
    there = [name for name in names(handful.detection, "masks") if pick(handful.detection, "masks", name).available()]
    return "head" if "head" in there else "none"


def kept(state: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> Masker:
    """The way to masks that a detector's folder keeps in the file `path`. Raises DataError naming it."""
    try:
        found: Masker = pick(handful.detection, "masks", str(about.get("name"))).load(state, about)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return found


def inside(boxes: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) float64 cut at the photo's edges. Raises DataError for one that lies outside or has no area."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    cut, there = inside_photo(boxes, size_wh)
    if not (there.all() and np.isfinite(boxes).all()):
        bad = boxes[int(np.argmin(there & np.isfinite(boxes).all(axis=1)))].tolist()
        raise DataError(f"the box {bad} lies outside the photo of {size_wh[0]}x{size_wh[1]} px, or has no area")
    return cut


def windows(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Boxes (n, 4) grown on each side by a share of their own width and height; they may reach over the photo."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    more = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate([boxes[:, :2] - more, boxes[:, 2:] + more], axis=1)


def sampled(pixels: np.ndarray, window: np.ndarray, side_px: int, outside: int = GREY) -> np.ndarray:
    """What a window (left, top, right, bottom, in px of the photo, to fractions) shows, squashed to a square.

    pixels: (h, w, 3) or (h, w) uint8; the result is (side_px, side_px, ...) uint8, bilinear and antialiased, with
    `outside` beyond the photo's edges.
    """
    image = need("PIL.Image", "teach")
    height, width = pixels.shape[:2]
    left, top = int(np.floor(window[0])) - 1, int(np.floor(window[1])) - 1
    right, bottom = int(np.ceil(window[2])) + 1, int(np.ceil(window[3])) + 1
    part = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    around = [(max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width))]
    if any(map(any, around)):
        part = np.pad(part, around + [(0, 0)] * (pixels.ndim - 2), constant_values=outside)
    place = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    shrunk = image.fromarray(np.ascontiguousarray(part))
    return np.array(shrunk.resize((side_px, side_px), image.Resampling.BILINEAR, box=place))


def placed(chance: np.ndarray, window: np.ndarray, box: np.ndarray, size_wh: tuple[int, int]) -> Patch:
    """The pixels of a photo where a map over a window says 0.5 or more, read bilinearly at the pixels' middles.

    chance: (s, s) float32, 0 to 1. Nothing outside `box`, whole pixels around it counted in, is taken. Where no pixel
    reaches 0.5 the likeliest one is, so that what was found is never nothing.
    """
    low = np.maximum(np.floor(np.asarray(box[:2], np.float64)), 0).astype(int)
    high = np.minimum(np.ceil(np.asarray(box[2:], np.float64)), size_wh).astype(int)
    across = _weights(low[0], high[0], window[0], window[2], chance.shape[1])
    down = _weights(low[1], high[1], window[1], window[3], chance.shape[0])
    there = down @ chance @ across.T
    return patch(there >= min(0.5, float(there.max())), (int(low[0]), int(low[1])))


def patch(pixels: np.ndarray, left_top: tuple[int, int]) -> Patch:
    """A bool rectangle of a photo without its empty edges. Raises DataError where no pixel is True."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if rows.size:
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        left_top = (left_top[0] + int(columns[0]), left_top[1] + int(rows[0]))
    return Patch(left_top, np.ascontiguousarray(pixels))


def _weights(low: int, high: int, start: float, end: float, count: int) -> np.ndarray:
    """(high - low, count) float32: how much each of `count` samples from start to end says of each pixel's middle."""
    at = (np.arange(low, high) + 0.5 - start) / (end - start) * count - 0.5
    at = np.clip(at, 0, count - 1)
    first = np.minimum(np.floor(at).astype(int), max(0, count - 2))
    out = np.zeros((high - low, count), np.float32)
    rows = np.arange(high - low)
    out[rows, first] = 1 - (at - first)
    if count > 1:
        out[rows, first + 1] += at - first
    return out


def filled(box: np.ndarray, size_wh: tuple[int, int]) -> Patch:
    """The pixels whose middles lie in a box, or else those its middle lies in: always one or more."""
    low, high = (np.ceil(part - 0.5).astype(int) for part in (box[:2], box[2:]))
    middle = np.minimum(np.floor((box[:2] + box[2:]) / 2).astype(int), np.array(size_wh) - 1)
    low, high = np.where(high > low, low, middle), np.where(high > low, high, middle + 1)
    return Patch((int(low[0]), int(low[1])), np.ones((high[1] - low[1], high[0] - low[0]), bool))


def overlap(one: Patch, other: np.ndarray) -> float:
    """IoU of a patch and a bool mask (h, w) over the whole photo."""
    left, top, right, bottom = one.box_px
    both = int(np.count_nonzero(one.pixels & other[top:bottom, left:right]))
    return both / (int(np.count_nonzero(one.pixels)) + int(np.count_nonzero(other)) - both)
