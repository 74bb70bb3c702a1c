"""Masks of detections: the contract of every masks_*.py, and the geometry they share.

A file `masks_x.py` makes the mask method "x" exist. It holds what `MasksModule` below lists and nothing else is needed.
tests/detection/test_masks.py runs over every file it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import handful.detection
from handful.detection.contract import clip_to_image
from handful.errors import DataError
from handful.pick import names, need, pick
from handful.results import Patch

GRAY = 127  # outside the image: about the color that normalizes to 0


class Masker(Protocol):
    """A mask method, ready to run. about: JSON: name, license, what it was trained on, parameters. network: its torch
    module, whose weights a detector's folder keeps; None without one."""

    about: dict[str, Any]
    network: Any

    def segment(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """The pixels of the object in each of boxes (n, 4) px of an image (h, w, 3) uint8 RGB, in their order. Raises
        DataError for a box that lies outside the image or has no area."""
        ...


class MasksModule(Protocol):
    """A module masks_*.py. DESCRIPTION: a line for people."""

    DESCRIPTION: str

    def available(self) -> bool:
        """Whether all it needs is on this machine."""
        ...

    def load(self, state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Masker:
        """Ready to run. state, about: {parameter: tensor} and Masker.about of a saved one, instead of what comes with
        handful. Raises DataError or MissingPackage."""
        ...


def best_method() -> str:
    """The name of the best mask method on this machine."""
    there = [name for name in names(handful.detection, "masks") if pick(handful.detection, "masks", name).available()]
    return "head" if "head" in there else "none"


def load_saved(state: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> Masker:
    """The mask method that a detector's folder keeps in the file `path`. Raises DataError naming it."""
    try:
        found: Masker = pick(handful.detection, "masks", str(about.get("name"))).load(state, about)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return found


def clipped(boxes: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) float64 clipped to the image. Raises DataError for one that lies outside or has no area."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    cut, there = clip_to_image(boxes, size_wh)
    if not (there.all() and np.isfinite(boxes).all()):
        bad = boxes[int(np.argmin(there & np.isfinite(boxes).all(axis=1)))].tolist()
        raise DataError(f"the box {bad} lies outside the image of {size_wh[0]}x{size_wh[1]} px, or has no area")
    return cut


def windows(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Boxes (n, 4) grown on each side by a share of their own width and height; they may reach over the image."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    more = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate([boxes[:, :2] - more, boxes[:, 2:] + more], axis=1)


def resample(pixels: np.ndarray, window: np.ndarray, side_px: int, outside: int = GRAY) -> np.ndarray:
    """A window (left, top, right, bottom, in px of the image, to fractions) of an image, resized to a square.

    pixels: (h, w, 3) or (h, w) uint8; the result is (side_px, side_px, ...) uint8, bilinear and antialiased, with
    `outside` beyond the image's edges.
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


def threshold_patch(probability: np.ndarray, window: np.ndarray, box: np.ndarray, size_wh: tuple[int, int]) -> Patch:
    """The pixels of an image where a map over a window is 0.5 or more, read bilinearly at the pixels' middles.

    probability: (s, s) float32, 0 to 1. Nothing outside `box`, whole pixels around it counted in, is taken. Where no
    pixel reaches 0.5 the likeliest one is taken, so that a mask is never empty.
    """
    low = np.maximum(np.floor(np.asarray(box[:2], np.float64)), 0).astype(int)
    high = np.minimum(np.ceil(np.asarray(box[2:], np.float64)), size_wh).astype(int)
    across = _weights(low[0], high[0], window[0], window[2], probability.shape[1])
    down = _weights(low[1], high[1], window[1], window[3], probability.shape[0])
    there = down @ probability @ across.T
    return tight_patch(there >= min(0.5, float(there.max())), (int(low[0]), int(low[1])))


def tight_patch(pixels: np.ndarray, left_top: tuple[int, int]) -> Patch:
    """A bool rectangle of an image without its empty edges. Raises DataError where no pixel is True."""
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


def box_patch(box: np.ndarray, size_wh: tuple[int, int]) -> Patch:
    """The pixels whose middles lie in a box, or else those its middle lies in: always one or more."""
    low, high = (np.ceil(part - 0.5).astype(int) for part in (box[:2], box[2:]))
    middle = np.minimum(np.floor((box[:2] + box[2:]) / 2).astype(int), np.array(size_wh) - 1)
    low, high = np.where(high > low, low, middle), np.where(high > low, high, middle + 1)
    return Patch((int(low[0]), int(low[1])), np.ones((high[1] - low[1], high[0] - low[0]), bool))


def mask_iou(one: Patch, other: np.ndarray) -> float:
    """IoU of a patch and a bool mask (h, w) over the whole image."""
    left, top, right, bottom = one.box_px
    both = int(np.count_nonzero(one.pixels & other[top:bottom, left:right]))
    return both / (int(np.count_nonzero(one.pixels)) + int(np.count_nonzero(other)) - both)
