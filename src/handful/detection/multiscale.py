"""Multi-scale proposals: one network on an image pyramid, on all of it or only where a finer scale is worth its time.

Every scale shows the image twice as large as the one before. The mode "pyramid" runs the network on all of the image at
every scale (SNIPER's inference; Singh 2018, arXiv:1805.09300). "focus" runs it at a finer scale only where the coarser
one says that there is something small: these parts are cut out and packed onto as few canvases as possible (AutoFocus;
Najibi 2019, arXiv:1812.01600, where each chip is by itself). The network is loaded once.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from handful.detection.chips import (
    MEDIUM_PX,
    SMALL_PX,
    Placed,
    Scale,
    focus_rectangles,
    packed,
    pyramid,
    ranges,
    uncut,
    valid,
)
from handful.detection.contract import Proposals, Proposer
from handful.detection.fusion import area, inside, nms
from handful.errors import DataError
from handful.image import fit
from handful.pick import unknown
from handful.words import counted

MODES = ("whole", "pyramid", "focus")
SIDE_PX = 416  # of a canvas, for a proposer that does not say how large its input is
CELL_PX = 16  # of a focus map, in px of the input
MAX_SCALES = 2  # that fit_scales chooses by itself
BATCH = 4  # canvases
LONG = 3.0  # an image with a higher aspect ratio is also cut into pieces: shrunk into a square it shows nothing
MAX_FACTOR = 4.0  # px of the input for one of the image: a larger one shows nothing more
NEAR_PX = 4.0  # a box that ends so near to the edge of a piece, in px of the input, may be cut off
MIN_INSIDE = 0.9  # share of a box that must lie in its piece: a canvas has edges where the image has none
MAX_CACHED = 40  # canvases of an image whose feature maps stay in memory for features, about 3 MB each
FEATURE_PX = 42.0  # a box's features come from the coarsest scale that shows it so large: small ones lose details
SAME_IOU = 0.8  # above it two boxes of a scale are one, found in two pieces


@dataclass(frozen=True)
class Scales:
    """The image pyramid. count: of scales, each twice as fine as the one before. mode: one of MODES, where the finer
    ones are run: nowhere, everywhere, or in focus chips. focus_threshold: of the focus map, from which a place is in a
    focus chip; min_cells: of a focus chip's width and height."""

    count: int = 1
    mode: str = "whole"
    focus_threshold: float = 0.2
    min_cells: int = 4

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("scale mode", self.mode, MODES)
        if not 1 <= self.count <= 4:
            raise DataError(f"{counted(self.count, 'scale')}; wanted 1 to 4, for each costs four times the one before")
        if not 0 <= self.focus_threshold <= 1 or self.min_cells < 1:
            raise DataError(f"focus_threshold is {self.focus_threshold} and min_cells {self.min_cells}; wanted 0 to 1, "
                            "and 1 or more")  # fmt: skip


def fit_scales(
    images: Sequence[tuple[tuple[int, int], np.ndarray]], side_px: int = SIDE_PX, max_scales: int = MAX_SCALES
) -> Scales:
    """The scales that fit a data set, by the sizes of its objects (chips.pyramid): one if that shows nearly all of them
    large enough, else up to `max_scales`, in the mode "focus".

    images: (width, height) in px, and boxes (n, 4) px, of each. Raises DataError without a box.
    """
    sizes = np.concatenate([np.zeros(0), *(np.sqrt(area(boxes)) for _, boxes in images)])
    long_px = np.repeat([max(size_wh) for size_wh, _ in images], [len(boxes) for _, boxes in images])
    count = len(pyramid(sizes, long_px, side_px, max_scales=max_scales))
    return Scales(count, "focus" if count > 1 else "whole")


def pyramid_scales(size_wh: tuple[int, int], side_px: int, count: int) -> tuple[tuple[Scale, ...], int]:
    """The scales of one image, coarsest first, with the valid range of object sizes at each; and how many of them are
    run on all of the image in every mode.

    The first fits it into a square of side_px; `count` - 1 more, each twice as fine, up to MAX_FACTOR. Of an image
    longer than LONG times its height the first shows nothing, so others follow it, each at most twice as fine, until
    one shows it as large as if it were 3 : 4.
    """
    long, short = max(size_wh), min(size_wh)
    factors = [side_px / long]
    if long > LONG * short and (last := min(0.75 * side_px / short, MAX_FACTOR)) > factors[0]:
        steps = math.ceil(math.log2(last / factors[0]) - 1e-9)
        factors += [factors[0] * (last / factors[0]) ** (i / steps) for i in range(1, steps + 1)]
    always, last = len(factors), factors[-1]
    factors += [last * 2**i for i in range(1, count) if last * 2**i <= MAX_FACTOR]
    return ranges(factors, side_px), always


class FocusMap:
    """A focus map over an image: for each cell of CELL_PX px of the input at a scale, 0 to 1, how much a finer scale is
    likely to find there. value: (h, w) float64."""

    def __init__(self, size_wh: tuple[int, int], factor: float) -> None:
        self.size_wh, self.factor, self.cell = size_wh, factor, CELL_PX / factor
        self.value = np.zeros((math.ceil(size_wh[1] / self.cell), math.ceil(size_wh[0] / self.cell)))

    def add_boxes(self, boxes: np.ndarray, quality: np.ndarray) -> None:
        """Of a proposer without a focus map: cells that a box of AutoFocus's sizes touches get its quality."""
        size = np.sqrt(area(boxes)) * self.factor
        there = (size > SMALL_PX) & (size < MEDIUM_PX)
        for (left, top, right, bottom), value in zip(boxes[there] / self.cell, quality[there], strict=True):
            cells = self.value[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]
            np.maximum(cells, value, out=cells)

    def add_map(self, focus: np.ndarray, window: Sequence[float], part: Sequence[float]) -> None:
        """A proposer's own map. focus: (h, w); window: the part of the image it was run on, px of the image; part:
        which part of `focus` that is, in shares of its width and height. Both left, top, right, bottom. A cell has the
        maximum of what lies in it, however fine or coarse the map is."""
        rows, columns = (self._places(focus.shape[axis], window, part, axis) for axis in (0, 1))
        cells = np.ix_(rows[0], columns[0])
        np.maximum.at(self.value, cells, focus[np.ix_(rows[1], columns[1])])

    def _places(
        self, size: int, window: Sequence[float], part: Sequence[float], axis: int
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Along an axis, 0 down, 1 across: pairs of a cell and an element of a proposer's map, the middle of one of
        which lies in the other."""
        low, high, first, last = (one[i] for one in (window, part) for i in (1 - axis, 3 - axis))
        cells = np.arange(self.value.shape[axis])
        middle = np.minimum((cells + 0.5) * self.cell, self.size_wh[1 - axis] - 0.5)
        cells, middle = cells[(middle >= low) & (middle < high)], middle[(middle >= low) & (middle < high)]
        there = ((first + (middle - low) / (high - low) * (last - first)) * size).astype(np.int64)
        places = np.arange(size)
        share = ((places + 0.5) / size - first) / (last - first)
        places, share = places[(share >= 0) & (share < 1)], share[(share >= 0) & (share < 1)]
        own = ((low + share * (high - low)) / self.cell).astype(np.int64)
        return np.append(cells, own), np.append(np.minimum(there, size - 1), places)

    def rectangles(self, threshold: float, min_cells: int) -> np.ndarray:
        """Focus chips: (n, 4) px of the image."""
        found = focus_rectangles(self.value, threshold=threshold, min_cells=min_cells, stride_px=self.cell)
        wide, high = self.size_wh
        return np.asarray(np.minimum(found, np.array([wide, high, wide, high], np.float64)))


Cache = OrderedDict[tuple[float, int], Proposals]  # by scale and canvas


class CanvasLevel:
    """An image at one of its finer scales: parts of it packed onto canvases, each run when it is first needed.

    pieces: each canvas's parts. MAX_CACHED of the canvases of all scales stay in memory; another is run again if need
    be.
    """

    def __init__(
        self, proposer: MultiScaleProposer, rgb_u8: np.ndarray, rectangles: np.ndarray, level: Scale, max_boxes: int,
        cache: Cache,
    ) -> None:  # fmt: skip
        """rectangles: (n, 4) px of the image; max_boxes: of a canvas; cache: the image's canvases of all scales."""
        self.proposer, self.rgb_u8, self.max_boxes = proposer, rgb_u8, max_boxes
        self.factor = float(level.factor or 1.0)
        self.size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        whole = np.concatenate([np.floor(rectangles[:, :2]), np.ceil(rectangles[:, 2:])], 1)
        placed, count = packed(whole, self.factor, proposer.side_px)
        self.pieces: list[list[Placed]] = [[] for _ in range(count)]
        for one in placed:  # whole px, as it is cut out
            left, top, right, bottom = (float(round(v)) for v in one.window)
            window = (left, top, max(right, left + 1), max(bottom, top + 1))
            self.pieces[one.canvas].append(replace(one, window=window))
        self._cache = cache
        self._of = [(i, one) for i, own in enumerate(self.pieces) for one in own]
        self._windows = np.array([one.window for _, one in self._of], np.float64).reshape(-1, 4)

    def batches(self) -> Iterator[tuple[int, Proposals]]:
        """All canvases, in batches."""
        for start in range(0, len(self.pieces), BATCH):
            some = range(start, min(start + BATCH, len(self.pieces)))
            yield from zip(some, self._proposed(some), strict=True)

    def _proposed(self, canvases: Iterable[int]) -> list[Proposals]:
        absent = [i for i in canvases if (self.factor, i) not in self._cache]
        frames = [self._canvas(i) for i in absent]
        for i, proposals in zip(absent, self.proposer.run(frames, self.max_boxes), strict=True):
            self._cache[self.factor, i] = proposals
        found = [self._cache[self.factor, i] for i in canvases]
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return found

    def _canvas(self, canvas: int) -> np.ndarray:
        """(side_px, side_px, 3) uint8, black where nothing lies."""
        frame = np.zeros((self.proposer.side_px, self.proposer.side_px, 3), np.uint8)
        for one in self.pieces[canvas]:
            left, top, right, bottom = (int(v) for v in one.window)
            (x, y), (wide, high) = one.at_xy, _on_canvas(one, self.proposer.side_px)
            frame[y : y + high, x : x + wide] = fit(self.rgb_u8[top:bottom, left:right], (high, wide))
        return frame

    def found(self, focus_map: FocusMap, valid_range: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """The boxes (n, 4) px of the image of a size in the valid range, and their quality, best first. What the next
        scale should be run on goes into `focus_map`."""
        boxes, quality = np.zeros((0, 4)), np.zeros(0)
        for i, proposals in self.batches():
            middle = (proposals.xyxy_px[:, :2] + proposals.xyxy_px[:, 2:]) / 2
            for piece in self.pieces[i]:
                (x, y), (wide, high) = piece.at_xy, _on_canvas(piece, self.proposer.side_px)
                there = ((middle >= (x, y)) & (middle < (x + wide, y + high))).all(axis=1)
                there &= (
                    inside(proposals.xyxy_px, np.array([[x, y, x + wide, y + high]], np.float64))[:, 0] >= MIN_INSIDE
                )
                own, value = self._canvas_to_image(proposals.xyxy_px[there], piece), proposals.quality[there]
                if proposals.focus is None:
                    focus_map.add_boxes(own, value)
                else:
                    part = np.array([x, y, x + wide, y + high]) / self.proposer.side_px
                    focus_map.add_map(proposals.focus, piece.window, part.tolist())
                stays = uncut(own, piece.window, self.size_wh, NEAR_PX / self.factor) & valid(own, valid_range)
                boxes, quality = np.concatenate([boxes, own[stays]]), np.concatenate([quality, value[stays]])
            best = nms(boxes, quality, SAME_IOU)[: self.max_boxes]
            boxes, quality = boxes[best], quality[best]
        return boxes, quality

    def _canvas_to_image(self, boxes: np.ndarray, piece: Placed) -> np.ndarray:
        """Boxes in px of the canvas to px of the image, cut at the piece's sides."""
        left, top, right, bottom = piece.window
        at = np.array([left, top, left, top]) + (boxes - [*piece.at_xy, *piece.at_xy]) / self.factor
        return np.asarray(np.clip(at, [left, top, left, top], [right, bottom, right, bottom]))

    def holds(self, boxes: np.ndarray) -> np.ndarray:
        """(n,) int64: the number of the piece that holds each box, with the most around it; -1 for none."""
        if not len(self._windows) or not len(boxes):
            return np.full(len(boxes), -1, np.int64)
        before, after = boxes[:, None, :2] - self._windows[:, :2], self._windows[:, 2:] - boxes[:, None, 2:]
        around = np.concatenate([before, after], 2)
        at_edge = [self._windows[:, 0] <= 0, self._windows[:, 1] <= 0,
                   self._windows[:, 2] >= self.size_wh[0], self._windows[:, 3] >= self.size_wh[1]]  # fmt: skip
        room = np.where(np.stack(at_edge, 1) & (around >= -1e-6), np.inf, around).min(axis=2)
        best = room.argmax(axis=1)
        return np.where(room[np.arange(len(boxes)), best] >= 0, best, -1)

    def features(self, boxes: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        """(n, dim) float32; pieces: of `holds`, none of them -1."""
        found = np.zeros((len(boxes), self.proposer.dim), np.float32)
        canvas = np.array([self._of[p][0] for p in pieces], np.int64)
        for i in np.unique(canvas).tolist():
            (proposals,) = self._proposed([i])
            own = np.flatnonzero(canvas == i)
            where = [self._of[p][1] for p in pieces[own]]
            corner = np.array([[*one.window[:2], *one.window[:2]] for one in where])
            at = np.array([[*one.at_xy, *one.at_xy] for one in where], np.float64)
            found[own] = proposals.features((boxes[own] - corner) * self.factor + at)
        return found


def _on_canvas(piece: Placed, side_px: int) -> tuple[int, int]:
    """Width and height of a piece on its canvas, which it may not be rounded beyond."""
    (wide, high), (x, y) = piece.size_wh, piece.at_xy
    return min(wide, side_px - x), min(high, side_px - y)


class MultiScaleProposer:
    """A proposer that runs another one at several scales; see handful.detection.contract.Proposer.

    The other one may say how large its input is (side_px) and take several images at once (propose_batch). px: of input
    that its network has been given since this was made, for `images` images.
    """

    def __init__(self, proposer: Proposer, scales: Scales | None = None) -> None:
        self.proposer, self.scales = proposer, scales or Scales()
        self.side_px = int(getattr(proposer, "side_px", SIDE_PX))
        self.px = self.images = 0
        self.dim, self.network = proposer.dim, proposer.network
        # features of several scales are other features, so they must not be mixed with one scale's
        self.about = {**proposer.about, "scales": self.scales.count} if self.scales.count > 1 else proposer.about

    def run(self, images: Sequence[np.ndarray], max_boxes: int) -> list[Proposals]:
        """The proposals of the other one for images or canvases."""
        self.px += len(images) * self.side_px**2
        many = getattr(self.proposer, "propose_batch", None)
        return list(many(images, max_boxes)) if many else [self.proposer.propose(one, max_boxes) for one in images]

    def encode(self, rgb_u8: np.ndarray) -> Proposals:
        """As Proposer; a canvas is run when a box lies there."""
        levels, _ = pyramid_scales((rgb_u8.shape[1], rgb_u8.shape[0]), self.side_px, self.scales.count)
        (first,) = self.run([rgb_u8], 1)
        cache: Cache = OrderedDict()
        views = [CanvasLevel(self, rgb_u8, _whole(rgb_u8), level, 1, cache) for level in levels[1:]]
        return replace(first, features=self._features(first, levels, views)) if views else first

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """As Proposer. Proposals.scale counts from 0, the coarsest. Boxes of one object from several scales are all
        given; the detector fuses them. Features of a box come from the scale that shows it FEATURE_PX large, as
        encode's do, or where that was not run, from the next coarser one."""
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        count = 1 if self.scales.mode == "whole" else self.scales.count
        levels, always = pyramid_scales(size_wh, self.side_px, count)
        (first,) = self.run([rgb_u8], max_boxes)
        self.images += 1
        if len(levels) == 1:
            return first
        focus_map, views = FocusMap(size_wh, float(levels[0].factor or 1.0)), list[CanvasLevel]()
        cache: Cache = OrderedDict()
        if first.focus is None:
            focus_map.add_boxes(first.xyxy_px, first.quality)
        else:
            focus_map.add_map(first.focus, (0, 0, *size_wh), (0, 0, 1, 1))
        held = [(first.xyxy_px, first.quality)]
        for i, level in enumerate(levels[1:], 1):
            everywhere = i < always or self.scales.mode == "pyramid"
            chips = focus_map.rectangles(self.scales.focus_threshold, self.scales.min_cells)
            rectangles = _whole(rgb_u8) if everywhere else chips
            boxes, quality = held[-1]  # what is small is left to the finer scale, where that is run
            large = valid(boxes, (levels[i - 1].valid_range[0], math.inf))
            left = (inside(boxes, rectangles) >= 0.5).any(axis=1) & ~large
            held[-1] = boxes[~left], quality[~left]
            focus_map = FocusMap(size_wh, float(level.factor or 1.0))
            views.append(CanvasLevel(self, rgb_u8, rectangles, level, max_boxes, cache))
            held.append(views[-1].found(focus_map, (0.0, level.valid_range[1])))
        boxes, quality = (np.concatenate([one[k] for one in held]) for k in (0, 1))
        scale = np.repeat(np.arange(len(held)), [len(one[1]) for one in held])
        order = np.argsort(-quality, kind="stable")[:max_boxes]
        return Proposals(boxes[order], quality[order], scale[order], self._features(first, levels, views), first.focus)

    def _features(
        self, first: Proposals, levels: Sequence[Scale], views: Sequence[CanvasLevel]
    ) -> Callable[[np.ndarray], np.ndarray]:  # fmt: skip
        factors = np.array([float(level.factor or 1.0) for level in levels])

        def features(wanted: np.ndarray) -> np.ndarray:
            boxes = np.asarray(wanted, np.float64).reshape(-1, 4)
            shown = np.sqrt(area(boxes))[:, None] * factors >= FEATURE_PX
            best = np.where(shown.any(axis=1), shown.argmax(axis=1), len(levels) - 1)
            found = np.zeros((len(boxes), self.dim), np.float32)
            open_ = np.ones(len(boxes), bool)
            for i in range(len(views), 0, -1):
                mine = np.flatnonzero(open_ & (best >= i))
                pieces = views[i - 1].holds(boxes[mine])
                mine, pieces = mine[pieces >= 0], pieces[pieces >= 0]
                found[mine] = views[i - 1].features(boxes[mine], pieces)
                open_[mine] = False
            if open_.any():
                found[open_] = first.features(boxes[open_])
            return found

        return features


def _whole(rgb_u8: np.ndarray) -> np.ndarray:
    return np.array([[0.0, 0.0, rgb_u8.shape[1], rgb_u8.shape[0]]])
