"""One network, several scales: a source of boxes that looks at a photo again, larger, where that is worth it.

Every scale shows the photo twice as large as the one before. "pyramid" looks at all of it at every scale (SNIPER's
inference; Singh 2018, arXiv:1805.09300); "focus" at a finer scale only where the coarser one says that there is
something small, cut out and packed onto as few canvases as possible (AutoFocus; Najibi 2019, arXiv:1812.01600, where
each chip is by itself). The network is loaded once.
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
from handful.detection.fusion import apart, area, inside
from handful.errors import DataError
from handful.image import fit
from handful.pick import unknown

LOOKS = ("whole", "pyramid", "focus")
SIDE_PX = 416  # of a canvas, for an eye that does not say how large its input is
CELL_PX = 16  # of a focus map, in px of the input
MOST = 2  # scales that are chosen unasked
AT_ONCE = 4  # canvases in memory, and in a batch
LONG = 3.0  # a photo so many times as long as high is also looked at in pieces: squeezed into a square it shows nothing
ENLARGED = 4.0  # px of the input for one of the photo: larger than that there is nothing more to see
NEAR_PX = 4.0  # a box that ends so near to the end of a piece, in px of the input, may be cut
PART = 0.9  # share of a box that must lie in its piece: a canvas has edges where the photo has none
HELD = 40  # canvases of a photo whose maps stay in memory for features, about 3 MB each
FEATURE_PX = 42.0  # a box's features come from the coarsest scale that shows it so large: small things lose theirs
TWICE = 0.8  # IoU above which two boxes of a scale are one, found in two pieces


@dataclass(frozen=True)
class Scales:
    """How a photo is looked at. count: of scales, each twice as fine as the one before. look: one of LOOKS. threshold:
    of the focus map, at and above which a place is looked at again; least: cells a focus chip is wide and high."""

    count: int = 1
    look: str = "whole"
    threshold: float = 0.2
    least: int = 4

    def __post_init__(self) -> None:
        if self.look not in LOOKS:
            raise unknown("way to look", self.look, LOOKS)
        if not 1 <= self.count <= 4:
            raise DataError(f"{self.count} scales; wanted 1 to 4, for each costs four times the one before")
        if not 0 <= self.threshold <= 1 or self.least < 1:
            raise DataError(f"threshold is {self.threshold} and least {self.least}; wanted 0 to 1, and 1 or more")


def fitting(photos: Sequence[tuple[tuple[int, int], np.ndarray]], side_px: int = SIDE_PX, most: int = MOST) -> Scales:
    """How to look at a data set's photos, by the sizes of its things (chips.pyramid): at one scale if that shows nearly
    all of them large enough, else at up to `most`, the finer ones where there is something small.

    photos: width and height, and boxes (n, 4) px, of each. Raises DataError without a box.
    """
    sizes = np.concatenate([np.zeros(0), *(np.sqrt(area(boxes)) for _, boxes in photos)])
    long_px = np.repeat([max(size_wh) for size_wh, _ in photos], [len(boxes) for _, boxes in photos])
    count = len(pyramid(sizes, long_px, side_px, most=most))
    return Scales(count, "focus" if count > 1 else "whole")


def ladder(size_wh: tuple[int, int], side_px: int, count: int) -> tuple[tuple[Scale, ...], int]:
    """The scales at which a photo is looked at, coarsest first, with the sizes believed at each; and how many of them
    show all of it whatever was seen before.

    The first fits it into a square of side_px; `count` - 1 more, each twice as fine, up to ENLARGED. Of a photo longer
    than LONG times its height the first shows nothing, so that others follow it, each at most twice as fine, until one
    shows it as large as if it were one of 3 : 4.
    """
    most, least = max(size_wh), min(size_wh)
    factors = [side_px / most]
    if most > LONG * least and (last := min(0.75 * side_px / least, ENLARGED)) > factors[0]:
        steps = math.ceil(math.log2(last / factors[0]) - 1e-9)
        factors += [factors[0] * (last / factors[0]) ** (i / steps) for i in range(1, steps + 1)]
    sure, last = len(factors), factors[-1]
    factors += [last * 2**i for i in range(1, count) if last * 2**i <= ENLARGED]
    return ranges(factors, side_px), sure


class Worth:
    """A focus map over a photo: for each cell of CELL_PX px of the input at a scale, 0 to 1, how much is to be expected
    from looking closer. chance: (h, w) float64."""

    def __init__(self, size_wh: tuple[int, int], factor: float) -> None:
        self.size_wh, self.factor, self.cell = size_wh, factor, CELL_PX / factor
        self.chance = np.zeros((math.ceil(size_wh[1] / self.cell), math.ceil(size_wh[0] / self.cell)))

    def add_boxes(self, boxes: np.ndarray, quality: np.ndarray) -> None:
        """Of an eye without a focus map: cells that a box of AutoFocus's sizes touches are worth its quality."""
        size = np.sqrt(area(boxes)) * self.factor
        there = (size > SMALL_PX) & (size < MEDIUM_PX)
        for (left, top, right, bottom), value in zip(boxes[there] / self.cell, quality[there], strict=True):
            cells = self.chance[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]
            np.maximum(cells, value, out=cells)

    def add_map(self, focus: np.ndarray, window: Sequence[float], part: Sequence[float]) -> None:
        """What an eye says itself. focus: (h, w); window: where it looked, px of the photo; part: which part of the
        focus map that is, in shares of its width and height. Both left, top, right, bottom. A cell has the most of what
        lies in it, however fine or coarse the map is."""
        rows, columns = (self._places(focus.shape[axis], window, part, axis) for axis in (0, 1))
        cells = np.ix_(rows[0], columns[0])
        np.maximum.at(self.chance, cells, focus[np.ix_(rows[1], columns[1])])

    def _places(
        self, size: int, window: Sequence[float], part: Sequence[float], axis: int
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Along an axis, 0 down, 1 across: pairs of a cell and a place of an eye's map, the middle of one of which lies
        in the other."""
        low, high, first, last = (one[i] for one in (window, part) for i in (1 - axis, 3 - axis))
        cells = np.arange(self.chance.shape[axis])
        middle = np.minimum((cells + 0.5) * self.cell, self.size_wh[1 - axis] - 0.5)
        cells, middle = cells[(middle >= low) & (middle < high)], middle[(middle >= low) & (middle < high)]
        there = ((first + (middle - low) / (high - low) * (last - first)) * size).astype(np.int64)
        places = np.arange(size)
        share = ((places + 0.5) / size - first) / (last - first)
        places, share = places[(share >= 0) & (share < 1)], share[(share >= 0) & (share < 1)]
        own = ((low + share * (high - low)) / self.cell).astype(np.int64)
        return np.append(cells, own), np.append(np.minimum(there, size - 1), places)

    def rectangles(self, threshold: float, least: int) -> np.ndarray:
        """(n, 4) px of the photo: where to look closer."""
        found = focus_rectangles(self.chance, threshold=threshold, least=least, stride_px=self.cell)
        wide, high = self.size_wh
        return np.asarray(np.minimum(found, np.array([wide, high, wide, high], np.float64)))


Held = OrderedDict[tuple[float, int], Proposals]  # by scale and canvas


class View:
    """A photo at one of its finer scales: parts of it on canvases, each looked at when it is first asked for.

    pieces: each canvas's parts. HELD of the canvases of all scales stay in memory; another one is looked at again if
    need be.
    """

    def __init__(
        self, proposer: ManyScales, rgb_u8: np.ndarray, rectangles: np.ndarray, level: Scale, most: int, held: Held
    ) -> None:
        """rectangles: (n, 4) px of the photo; most: boxes of a canvas; held: the photo's canvases of all scales."""
        self.proposer, self.rgb_u8, self.factor, self.most = proposer, rgb_u8, float(level.factor or 1.0), most
        self.size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        whole = np.concatenate([np.floor(rectangles[:, :2]), np.ceil(rectangles[:, 2:])], 1)
        placed, count = packed(whole, self.factor, proposer.side_px)
        self.pieces: list[list[Placed]] = [[] for _ in range(count)]
        for one in placed:  # whole px, as it is cut out
            left, top, right, bottom = (float(round(v)) for v in one.window)
            window = (left, top, max(right, left + 1), max(bottom, top + 1))
            self.pieces[one.canvas].append(replace(one, window=window))
        self._held = held
        self._of = [(i, one) for i, own in enumerate(self.pieces) for one in own]
        self._windows = np.array([one.window for _, one in self._of], np.float64).reshape(-1, 4)

    def seen(self) -> Iterator[tuple[int, Proposals]]:
        """All canvases, in batches."""
        for start in range(0, len(self.pieces), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(self.pieces)))
            yield from zip(some, self._looked(some), strict=True)

    def _looked(self, canvases: Iterable[int]) -> list[Proposals]:
        absent = [i for i in canvases if (self.factor, i) not in self._held]
        for i, seen in zip(absent, self.proposer.through([self._drawn(i) for i in absent], self.most), strict=True):
            self._held[self.factor, i] = seen
        told = [self._held[self.factor, i] for i in canvases]
        while len(self._held) > HELD:
            self._held.popitem(last=False)
        return told

    def _drawn(self, canvas: int) -> np.ndarray:
        """(side_px, side_px, 3) uint8, black where nothing lies."""
        frame = np.zeros((self.proposer.side_px, self.proposer.side_px, 3), np.uint8)
        for one in self.pieces[canvas]:
            left, top, right, bottom = (int(v) for v in one.window)
            (x, y), (wide, high) = one.at_xy, _on_canvas(one, self.proposer.side_px)
            frame[y : y + high, x : x + wide] = fit(self.rgb_u8[top:bottom, left:right], (high, wide))
        return frame

    def found(self, worth: Worth, kept: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """The boxes (n, 4) px of the photo of a size that is kept, and their quality, best first; what is worth an even
        closer look goes into `worth`."""
        boxes, quality = np.zeros((0, 4)), np.zeros(0)
        for i, seen in self.seen():
            middle = (seen.xyxy_px[:, :2] + seen.xyxy_px[:, 2:]) / 2
            for piece in self.pieces[i]:
                (x, y), (wide, high) = piece.at_xy, _on_canvas(piece, self.proposer.side_px)
                there = ((middle >= (x, y)) & (middle < (x + wide, y + high))).all(axis=1)
                there &= inside(seen.xyxy_px, np.array([[x, y, x + wide, y + high]], np.float64))[:, 0] >= PART
                own, value = self._on_photo(seen.xyxy_px[there], piece), seen.quality[there]
                if seen.focus is None:
                    worth.add_boxes(own, value)
                else:
                    part = np.array([x, y, x + wide, y + high]) / self.proposer.side_px
                    worth.add_map(seen.focus, piece.window, part.tolist())
                stays = uncut(own, piece.window, self.size_wh, NEAR_PX / self.factor) & valid(own, kept)
                boxes, quality = np.concatenate([boxes, own[stays]]), np.concatenate([quality, value[stays]])
            best = apart(boxes, quality, TWICE)[: self.most]
            boxes, quality = boxes[best], quality[best]
        return boxes, quality

    def _on_photo(self, boxes: np.ndarray, piece: Placed) -> np.ndarray:
        """Boxes in px of the canvas to px of the photo, cut at the piece's sides."""
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
            (seen,) = self._looked([i])
            own = np.flatnonzero(canvas == i)
            where = [self._of[p][1] for p in pieces[own]]
            corner = np.array([[*one.window[:2], *one.window[:2]] for one in where])
            at = np.array([[*one.at_xy, *one.at_xy] for one in where], np.float64)
            found[own] = seen.features((boxes[own] - corner) * self.factor + at)
        return found


def _on_canvas(piece: Placed, side_px: int) -> tuple[int, int]:
    """Width and height of a piece on its canvas, which it may not be rounded beyond."""
    (wide, high), (x, y) = piece.size_wh, piece.at_xy
    return min(wide, side_px - x), min(high, side_px - y)


class ManyScales:
    """An eye that looks through another one at several scales; see handful.detection.contract.Eye.

    An eye may say how large its input is (side_px) and look at several photos at once (look_many: a list of photos and
    `most` -> a list of Seen). px: of input the network has been given since this was made, for `photos` photos.
    """

    def __init__(self, proposer: Proposer, scales: Scales | None = None) -> None:
        self.proposer, self.scales = proposer, scales or Scales()
        self.side_px = int(getattr(proposer, "side_px", SIDE_PX))
        self.px = self.photos = 0
        self.dim, self.network = proposer.dim, proposer.network
        # features are of other scales, so what was learned from them is not to be asked about one scale's
        self.about = {**proposer.about, "scales": self.scales.count} if self.scales.count > 1 else proposer.about

    def through(self, photos: Sequence[np.ndarray], most: int) -> list[Proposals]:
        """Photos or canvases as the eye itself sees them."""
        self.px += len(photos) * self.side_px**2
        many = getattr(self.proposer, "look_many", None)
        return list(many(photos, most)) if many else [self.proposer.look(one, most) for one in photos]

    def glance(self, rgb_u8: np.ndarray) -> Proposals:
        """What is needed to ask for features of boxes that are known: canvases are looked at when a box lies there."""
        levels, _ = ladder((rgb_u8.shape[1], rgb_u8.shape[0]), self.side_px, self.scales.count)
        (first,) = self.through([rgb_u8], 1)
        kept: Held = OrderedDict()
        views = [View(self, rgb_u8, _whole(rgb_u8), level, 1, kept) for level in levels[1:]]
        return replace(first, features=self._features(first, levels, views)) if views else first

    def look(self, rgb_u8: np.ndarray, most: int = 100) -> Proposals:
        """As Eye. Seen.scale counts from 0, the coarsest; what several scales found of one thing is all told, for to
        fuse it is the detector's. Features of a box come from the scale that shows it FEATURE_PX large, as glance's
        do, or where nobody has looked there, from the next coarser one."""
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        count = 1 if self.scales.look == "whole" else self.scales.count
        levels, sure = ladder(size_wh, self.side_px, count)
        (first,) = self.through([rgb_u8], most)
        self.photos += 1
        if len(levels) == 1:
            return first
        worth, views = Worth(size_wh, float(levels[0].factor or 1.0)), list[View]()
        kept: Held = OrderedDict()
        if first.focus is None:
            worth.add_boxes(first.xyxy_px, first.quality)
        else:
            worth.add_map(first.focus, (0, 0, *size_wh), (0, 0, 1, 1))
        held = [(first.xyxy_px, first.quality)]
        for i, level in enumerate(levels[1:], 1):
            everywhere = i < sure or self.scales.look == "pyramid"
            rectangles = _whole(rgb_u8) if everywhere else worth.rectangles(self.scales.threshold, self.scales.least)
            boxes, quality = held[-1]  # what is small is left to the finer scale, where that looks
            left = (inside(boxes, rectangles) >= 0.5).any(axis=1) & ~valid(boxes, (levels[i - 1].kept[0], math.inf))
            held[-1] = boxes[~left], quality[~left]
            worth = Worth(size_wh, float(level.factor or 1.0))
            views.append(View(self, rgb_u8, rectangles, level, most, kept))
            held.append(views[-1].found(worth, (0.0, level.kept[1])))
        boxes, quality = (np.concatenate([one[k] for one in held]) for k in (0, 1))
        scale = np.repeat(np.arange(len(held)), [len(one[1]) for one in held])
        order = np.argsort(-quality, kind="stable")[:most]
        return Proposals(boxes[order], quality[order], scale[order], self._features(first, levels, views), first.focus)

    def _features(
        self, first: Proposals, levels: Sequence[Scale], views: Sequence[View]
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
