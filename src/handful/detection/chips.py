"""Chips: the parts of an image that are worth a finer scale. SNIPER's chips, AutoFocus's focus chips, and packing.

SNIPER: Singh, Najibi, Davis 2018, arXiv:1805.09300. AutoFocus: Najibi, Singh, Davis 2019, arXiv:1812.01600.
A scale is how many px of the network's input one px of the image becomes. Boxes and windows are (n, 4) float64: left,
top, right, bottom in px of the image, whatever the scale. An object's size is the square root of its box's area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handful.detection.fusion import area, inside
from handful.errors import DataError
from handful.words import counted

COMFORT = (0.06, 0.75)  # sizes that a chip is good at, as shares of its side
OVERLAP = 0.3  # of neighboring windows in inference: what is as large as that is whole in one of them
SMALL_PX, MEDIUM_PX = 5.0, 64.0  # AutoFocus: an object of a size between them is worth a finer scale
GAP_PX = 8


@dataclass(frozen=True)
class Scale:
    """One level of a pyramid. factor: px of input for one px of the image, None to fit the image's long side into the
    chip. train_range, valid_range: (least, most) size in px of the image of objects to train on here, and of detections
    to keep here; the second is wider, so that nothing falls between two scales."""

    factor: float | None
    train_range: tuple[float, float]
    valid_range: tuple[float, float]

    def of(self, size_wh: tuple[int, int], side_px: int) -> float:
        """The factor for an image."""
        return side_px / max(size_wh) if self.factor is None else self.factor


def pyramid(
    sizes_px: np.ndarray, long_px: np.ndarray, side_px: int, *, max_scales: int = 3, spare: float = 0.05
) -> tuple[Scale, ...]:
    """Scales and their valid ranges for a data set, coarsest first.

    sizes_px: (n,) sizes of its objects; long_px: (n,) long side of the image each is in, both in px of the image;
    side_px: of a chip. The first scale fits the image into a chip; as long as more than `spare` of the objects are too
    small for the finest one, one of twice its factor is added, at most `max_scales` in all. Ranges follow COMFORT and
    tile: the coarsest has no upper end, the finest no lower one. Raises DataError for no objects or sizes of 0 or less.
    """
    sizes_px, long_px = np.asarray(sizes_px, np.float64), np.asarray(long_px, np.float64)
    if not sizes_px.size or sizes_px.shape != long_px.shape:
        raise DataError(
            f"scales are chosen by the sizes of objects; got {sizes_px.size} sizes, {counted(long_px.size, 'image')}"
        )
    if not ((sizes_px > 0).all() and (long_px > 0).all() and np.isfinite(sizes_px).all()):
        raise DataError("an object or an image has a size of 0 px or less, or NaN")
    fit = side_px / float(np.median(long_px))
    factors = [fit]
    small = sizes_px * side_px / long_px
    while len(factors) < max_scales and (small < COMFORT[0] * side_px).mean() > spare:
        factors.append(factors[-1] * 2)
        small = small * 2
    levels = ranges(factors, side_px)
    return (Scale(None, levels[0].train_range, levels[0].valid_range), *levels[1:])


def ranges(factors: Sequence[float], side_px: int) -> tuple[Scale, ...]:
    """Scales of rising factors with their valid ranges: COMFORT's, open at both ends of the pyramid, and without a gap
    however far apart two factors are."""
    levels = []
    for i, factor in enumerate(factors):
        low, high = 0.0, COMFORT[1] * side_px / factor if i else math.inf
        if i + 1 < len(factors):
            low = min(COMFORT[0] * side_px / factor, COMFORT[1] * side_px / factors[i + 1])
        levels.append(Scale(factor, (low, high), (low * 0.8, high * 1.2)))
    return tuple(levels)


def windows(size_wh: tuple[int, int], side_px: float, stride_px: float) -> np.ndarray:
    """All squares of side_px px of the image, stride_px apart, and those at its right and lower edge. (n, 4)

    An image narrower or lower than that has windows that reach over its edge.
    """
    if not (side_px > 0 and stride_px > 0):
        raise DataError(f"windows need a side and a stride above 0 px, got {side_px} and {stride_px}")
    places = []
    for length in size_wh:
        last = max(0.0, length - side_px)
        steps = np.arange(0.0, last, stride_px)
        places.append(np.append(steps[last - steps > 1e-9], last))
    left, top = (grid.ravel() for grid in np.meshgrid(*places))
    return np.stack([left, top, left + side_px, top + side_px], axis=1)


def greedy_cover(holds: np.ndarray, rng: np.random.Generator, max_windows: int | None = None) -> list[int]:
    """Greedy set cover: the window that holds most of what no chosen one holds yet, until none holds any.

    holds: (windows, objects) bool. Of windows that hold as many the one first in a random order. max_windows: stop
    there.
    """
    order = rng.permutation(len(holds))
    there, left = holds[order], np.ones(holds.shape[1], bool)
    found: list[int] = []
    while left.any() and len(there) and (max_windows is None or len(found) < max_windows):
        gain = (there & left).sum(axis=1)
        best = int(gain.argmax())
        if not gain[best]:
            break
        found.append(int(order[best]))
        left &= ~there[best]
    return found


def valid(boxes: np.ndarray, scale_range: tuple[float, float]) -> np.ndarray:
    """(n,) bool: boxes whose size lies in a range."""
    size = np.sqrt(area(boxes))
    return np.asarray((size >= scale_range[0]) & (size <= scale_range[1]))


def positive_chips(
    boxes: np.ndarray, size_wh: tuple[int, int], scale: Scale, side_px: int, rng: np.random.Generator
) -> np.ndarray:
    """Chips (n, 4) that together wholly hold every box that is valid at this scale and fits into one."""
    factor = scale.of(size_wh, side_px)
    side = side_px / factor
    wanted = boxes[valid(boxes, scale.train_range)]
    there = windows(size_wh, side, side * rng.uniform(56, 60) / 512)  # SNIPER's stride, drawn anew each epoch
    held = inside(wanted, there).T >= 1 - 1e-9
    return there[greedy_cover(held, rng)]


def negative_chips(
    proposals: np.ndarray, positive: np.ndarray, size_wh: tuple[int, int], scale: Scale, side_px: int,
    rng: np.random.Generator, *, min_proposals: int = 10, max_chips: int = 2,
) -> np.ndarray:  # fmt: skip
    """Chips where a half-trained proposer sees many objects and no positive chip lies: what it must learn to leave.

    proposals, positive: (n, 4). Each chip holds at least `min_proposals` proposals that no positive chip holds; at most
    `max_chips` of them, drawn.
    """
    factor = scale.of(size_wh, side_px)
    side = side_px / factor
    false = proposals[valid(proposals, scale.valid_range)]
    if len(positive) and len(false):
        false = false[~(inside(false, positive) >= 1 - 1e-9).any(axis=1)]
    there = windows(size_wh, side, side * rng.uniform(56, 60) / 512)
    held = inside(false, there).T >= 1 - 1e-9
    found = [i for i in greedy_cover(held, rng) if held[i].sum() >= min_proposals]
    return there[rng.permutation(found)[:max_chips].astype(np.int64)] if found else np.zeros((0, 4))


def focus_rectangles(
    focus: np.ndarray, *, threshold: float, min_cells: int, stride_px: float = 1.0
) -> np.ndarray:  # fmt: skip
    """Focus chips (n, 4): rectangles around the places where a focus map reaches the threshold, at least `min_cells`
    cells wide and high.

    focus: (h, w) 0..1 a cell of stride_px; the result is in the px the stride is in. Cells at or above the threshold,
    grown by one, are joined where they touch; each group's rectangle is grown to the least size inside the map, and
    rectangles that now touch are joined, until nothing changes.
    """
    high, wide = focus.shape
    around = np.pad(focus >= threshold, 1)
    mask = np.zeros((high, wide), bool)
    for down in range(3):
        for across in range(3):
            mask |= around[down : down + high, across : across + wide]
    before = -1
    while True:
        found = _groups(mask)
        if len(found) == before:
            return np.array(found, np.float64).reshape(-1, 4) * stride_px
        before = len(found)
        mask = np.zeros_like(mask)
        for left, top, right, bottom in found:
            (left, right), (top, bottom) = _grown(left, right, min_cells, wide), _grown(top, bottom, min_cells, high)
            mask[top:bottom, left:right] = True


def _groups(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The rectangle of each group of cells that touch, at a side or a corner, in order of their first cell."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    runs = np.concatenate([np.argwhere(edges == 1), np.argwhere(edges == -1)[:, 1:]], 1).tolist()  # row, from, to
    group = list(range(len(runs)))  # of a run: itself, or one before that it touches

    def first(i: int) -> int:
        while group[i] != i:
            group[i] = i = group[group[i]]
        return i

    above = 0
    for i, (row, start, end) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] < start):
            above += 1
        for k in range(above, i):
            if runs[k][0] >= row or runs[k][1] > end:
                break
            low, high = sorted((first(k), first(i)))
            group[high] = low
    found: dict[int, tuple[int, int, int, int]] = {}
    for i, (row, start, end) in enumerate(runs):
        left, top, right, _ = found.get(first(i), (start, row, end, row))
        found[first(i)] = (min(left, start), top, max(right, end), row + 1)
    return list(found.values())


def _grown(low: int, high: int, least: int, size: int) -> tuple[int, int]:
    least = min(least, size)
    if high - low >= least:
        return low, high
    low = min(max(0, low - (least - (high - low)) // 2), size - least)
    return low, low + least


def uncut(boxes: np.ndarray, window: Sequence[float], size_wh: tuple[int, int], near_px: float) -> np.ndarray:
    """(n,) bool: boxes that do not come within near_px of a side of their window that is not a side of the image: those
    may be the visible rest of something cut. All in px of the image."""
    left, top, right, bottom = window
    width, height = size_wh
    bad = np.zeros(len(boxes), bool)
    if left > near_px:
        bad |= boxes[:, 0] - left < near_px
    if top > near_px:
        bad |= boxes[:, 1] - top < near_px
    if width - right > near_px:
        bad |= right - boxes[:, 2] < near_px
    if height - bottom > near_px:
        bad |= bottom - boxes[:, 3] < near_px
    return ~bad


@dataclass(frozen=True)
class Placed:
    """A rectangle of an image on a canvas: window (left, top, right, bottom) in px of the image, which canvas, and
    where its left upper corner lies there, in px of the canvas; factor: px of canvas for one px of the image."""

    window: tuple[float, float, float, float]
    canvas: int
    at_xy: tuple[int, int]
    factor: float

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height on the canvas."""
        left, top, right, bottom = self.window
        return max(1, round((right - left) * self.factor)), max(1, round((bottom - top) * self.factor))


def split(rectangle: Sequence[float], side_px: float, overlap: float = OVERLAP) -> np.ndarray:
    """A rectangle cut into overlapping pieces no wider or higher than side_px. (n, 4)"""
    left, top, right, bottom = rectangle
    across, down = _cuts(right - left, side_px, overlap), _cuts(bottom - top, side_px, overlap)
    return np.array([[left + x, top + y, left + x + w, top + y + h] for y, h in down for x, w in across])


def _cuts(length: float, side: float, overlap: float) -> list[tuple[float, float]]:
    if length <= side:
        return [(0.0, length)]
    count = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9) + 1
    step = (length - side) / (count - 1)
    return [(i * step, side) for i in range(count)]


def packed(rectangles: np.ndarray, factor: float, side_px: int, gap_px: int = GAP_PX) -> tuple[list[Placed], int]:
    """Rectangles of an image, enlarged by `factor`, on as few square canvases as shelves allow, none over another.

    rectangles: (n, 4) px of the image; larger ones are split first. Returns where each lies and how many canvases.
    First fit by decreasing height (Coffman 1980): not the least number of canvases, but near it, and quick.
    """
    parts: list[Any] = [tuple(map(float, p)) for r in rectangles for p in split(r, side_px / factor)]
    order = sorted(parts, key=lambda p: (p[1] - p[3], p[0] - p[2], p))
    shelves: list[list[int]] = []  # canvas, top, height, how far it is filled
    filled: list[int] = []  # how far down each canvas is
    found = []
    for window in order:
        wide, high = Placed(window, 0, (0, 0), factor).size_wh
        wide, high = min(wide, side_px), min(high, side_px)
        shelf = next((s for s in shelves if s[2] >= high and s[3] + wide <= side_px), None)
        if shelf is None:
            canvas = next((i for i, down in enumerate(filled) if down + high <= side_px), len(filled))
            if canvas == len(filled):
                filled.append(0)
            shelf = [canvas, filled[canvas], high, 0]
            shelves.append(shelf)
            filled[canvas] += high + gap_px
        found.append(Placed(window, shelf[0], (shelf[3], shelf[1]), factor))
        shelf[3] += wide + gap_px
    return found, len(filled)
