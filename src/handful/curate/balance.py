"""How much of each class a data set has; a subset with about the same of each; weights that make up for the rest."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from handful.data.shapes import box_of, decompress
from handful.errors import DataError
from handful.pick import need, unknown
from handful.progress import track
from handful.types import Dataset, Object, Sample

Per = Literal["images", "objects", "pixels"]
RULES = ("enet", "effective", "inverse", "median")


class Held(NamedTuple):
    """What one image has of one class. boxes: objects whose pixels are not known and were taken to fill their box."""

    objects: int = 0
    pixels: int = 0
    boxes: int = 0


def key_of(sample: Sample) -> str:
    """The name that no other sample of its data set has: SPLIT/NAME, or NAME when there is no split."""
    name = sample.name or sample.path.as_posix()
    return f"{sample.split}/{name}" if sample.split else name


def held_by(
    sample: Sample, names: Mapping[int, str], *, pixels: bool = True, areas: Sequence[tuple[int, bool]] | None = None
) -> dict[str, Held] | None:
    """What an image has of each class in it; None when nobody looked, {} when nothing is there.

    names: class id -> name, for masks. Pixels are those of the mask, else of outlines and run lengths, else of boxes;
    overlaps count twice. A crowd is no object, but its pixels count. The class of a whole image has no pixels.
    pixels: False saves counting those of outlines. areas: area_of each object, if known.
    """
    if sample.label is None and sample.objects is None and sample.mask is None:
        return None
    held: dict[str, Held] = {}

    def add(name: str, objects: int, px: int, boxes: int = 0) -> None:
        a = held.get(name, Held())
        held[name] = Held(a.objects + objects, a.pixels + px, a.boxes + boxes)

    if sample.label is not None:
        add(sample.label, 0, 0)
    for i, thing in enumerate(sample.objects or ()):
        px, boxed = 0, False
        if sample.mask is None and pixels:
            px, boxed = areas[i] if areas is not None else area_of(thing, sample.size_wh)
        add(thing.label, 0 if thing.crowd else 1, px, int(boxed))
    if sample.mask is not None:
        mask = sample.mask()
        found = np.bincount(mask.ids.ravel(), minlength=mask.ignore + 1)
        found[mask.ignore] = 0
        for value in np.flatnonzero(found).tolist():
            if value in names:
                add(names[value], 0, int(found[value]))
    return held


def area_of(thing: Object, size_wh: tuple[int, int] | None) -> tuple[int, bool]:
    """(pixels of an object, whether they are those of its box because nothing finer is known)."""
    if thing.rle is not None:
        counts = thing.rle.counts
        return sum((decompress(counts) if isinstance(counts, bytes) else counts)[1::2]), False
    box = box_of(thing)
    if box is None:
        return 0, False
    if not thing.polygons_px:
        return round((box[2] - box[0]) * (box[3] - box[1])), True
    mask_api = need("pycocotools.mask", "data")
    width, height = size_wh or (math.ceil(box[2]) + 1, math.ceil(box[3]) + 1)
    parts = mask_api.frPyObjects([p.ravel().tolist() for p in thing.polygons_px], height, width)
    return int(mask_api.area(mask_api.merge(parts))), False


def counts(dataset: Dataset) -> dict[str, Any]:
    """How much there is of each class, in one pass; classes in the order of the categories, those without any too.

    {"images", "labeled", "empty", "unlabeled": images, "boxes_as_pixels": objects that have only a box,
    "classes": {name: {"images", "objects", "pixels", "image_pixels": all pixels of the images that hold the class}}}.
    """
    total = {"images": 0, "labeled": 0, "empty": 0, "unlabeled": 0, "boxes_as_pixels": 0}
    names = {c.id: c.name for c in dataset.categories}
    none = {"images": 0, "objects": 0, "pixels": 0, "image_pixels": 0}
    classes = {c.name: none.copy() for c in dataset.categories}
    for sample in track(dataset, "counting", len(dataset)):
        held = held_by(sample, names)
        total["images"] += 1
        total["unlabeled" if held is None else "labeled"] += 1
        total["empty"] += held == {}
        whole = sum(h.pixels for h in (held or {}).values())
        if sample.mask is None and sample.size_wh is not None:
            whole = sample.size_wh[0] * sample.size_wh[1]
        for name, h in (held or {}).items():
            row = classes.setdefault(name, none.copy())
            row["images"] += 1
            row["objects"] += h.objects
            row["pixels"] += h.pixels
            row["image_pixels"] += whole
            total["boxes_as_pixels"] += h.boxes
    return {**total, "classes": classes}


def weights(
    counts: Mapping[str, Any], *, rule: str = "enet", per: Per | None = None, beta: float = 0.9999
) -> dict[str, float]:
    """A weight a class for the loss, from `counts`: rare classes weigh more. A class without any gets 0.

    enet: 1 / ln(1.02 + p), p the class's share of all; 1.4 to 50, not normalized (Paszke et al., ENet, 2016).
    effective: (1 - b) / (1 - b^n), n how many, b = beta; normalized to a mean of 1 over the classes there are (Cui et
    al., "Class-balanced loss based on effective number of samples", 2019).
    inverse: N / (k n), N of all, k classes; each class then weighs N / k in all.
    median: m / f, f the class's share of the pixels of the images that hold it, m the median of all f (Badrinarayanan
    et al., "SegNet", 2017); counted in pixels only.
    per: what is counted; None takes pixels for enet and median, images for effective and inverse.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if rule == "median" and per not in (None, "pixels"):
        raise DataError(f"the rule median counts pixels, not {per}; leave per out")
    what = per or ("pixels" if rule in ("enet", "median") else "images")
    rows: Mapping[str, Mapping[str, int]] = counts["classes"]
    n = {name: row[what] for name, row in rows.items() if row[what] > 0}
    if not n:
        raise DataError(f"no class has any {what}; count something else with per=")
    if rule == "enet":
        some = {name: 1 / math.log(1.02 + v / sum(n.values())) for name, v in n.items()}
    elif rule == "effective":
        if not 0 <= beta < 1:
            raise DataError(f"beta is {beta}; wanted 0 or more and below 1")
        raw = {name: (1 - beta) / (1 - beta**v) for name, v in n.items()}
        some = {name: v * len(raw) / sum(raw.values()) for name, v in raw.items()}
    elif rule == "inverse":
        some = {name: sum(n.values()) / (len(n) * v) for name, v in n.items()}
    else:
        share = {name: v / rows[name]["image_pixels"] for name, v in n.items()}
        some = {name: float(np.median(list(share.values()))) / v for name, v in share.items()}
    return {name: some.get(name, 0.0) for name in rows}


@dataclass(frozen=True)
class Selection:
    """Which images were chosen, and what there is of each class before and after.

    names: as key_of names them, sorted. before and after: class -> how much, counted in `per`.
    """

    names: tuple[str, ...]
    per: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    seed: int

    def as_json(self) -> dict[str, Any]:
        """For a report, with how uneven the classes are before and after."""
        both = {"uneven_before": uneven(self.before), "uneven_after": uneven(self.after, of=self.before)}
        return {"schema_version": 1, **asdict(self), **both}


def uneven(amounts: Mapping[str, float], *, of: Mapping[str, float] | None = None) -> float:
    """Standard deviation over mean of the amounts of the classes there are (in `of`, if given); 0 is balanced."""
    there = [amounts.get(name, 0) for name, n in (of or amounts).items() if n > 0]
    return float(np.std(there) / np.mean(there)) if sum(there) else 0.0


def balance(
    dataset: Dataset, *, per: Per = "images", size: int | None = None, seed: int = 0,
    classes: Collection[str] | None = None,
) -> Selection:  # fmt: skip
    """Choose images so that each class has as near as possible the same number of images, objects or pixels.

    size: how many images; None takes as many as leave the classes about least uneven: where each image has one class,
    as many of each as of the rarest. classes: only these are balanced (leave "background" out). An image often holds
    several classes, so an exact balance seldom exists: again and again the image is taken that leaves fewest classes
    out and then the classes least uneven (see `uneven`); at the end single images are exchanged where that helps.
    Images without any of the classes are not chosen. The same seed chooses the same images, whatever their order.
    """
    rows = table(dataset, per, classes)
    if not rows.index.size:
        raise DataError(f"{dataset.root} has no {per} of any class to balance; count something else with per=")
    if size is not None and size < 1:
        raise DataError(f"size is {size}; wanted 1 or more images")
    picker = Picker(rows, np.random.default_rng(seed))
    picker.fill(size)
    picker.repair()
    sums = (rows.sums(i).astype(int).tolist() for i in (range(len(rows.keys)), picker.chosen))
    before, after = (dict(zip(rows.classes, n, strict=True)) for n in sums)
    return Selection(tuple(sorted(rows.keys[i] for i in picker.chosen)), per, before, after, seed)


def select(dataset: Dataset, names: Collection[str]) -> Dataset:
    """The samples of these names (see key_of), in the data set's own order, read as they are asked for.

    Raises DataError when all are read and a name was not there.
    """
    wanted = frozenset(names)

    def samples() -> Iterator[Sample]:
        missing = set(wanted)
        for sample in dataset:
            key = key_of(sample)
            if key in wanted:
                missing.discard(key)
                yield sample
        if missing:
            raise DataError(f"{dataset.root} lacks {len(missing)} of the samples asked for: {min(missing)}, ...")

    return replace(dataset, samples=samples, count=len(wanted))


@dataclass(frozen=True, eq=False)
class Table:
    """What each image has of each class, images sorted by name: image i has the entries start[i] to start[i + 1].

    start: (n + 1,) int64. index: (m,) int64, which class an entry is of; much: (m,) float64, how much of it, above 0.
    state: "" for each image, or "empty" or "unlabeled".
    """

    keys: list[str]
    classes: tuple[str, ...]
    start: np.ndarray
    index: np.ndarray
    much: np.ndarray
    state: list[str]

    def entries(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the entries of these images one after the other, where each image's begin), for images that have some."""
        first, many = self.start[images], self.start[images + 1] - self.start[images]
        begin = np.cumsum(many) - many
        return np.repeat(first - begin, many) + np.arange(int(many.sum())), begin

    def sums(self, images: Sequence[int] | range) -> np.ndarray:
        """(classes,) how much of each class these images have together."""
        entries, _ = self.entries(np.array(images, dtype=np.int64))
        return np.bincount(self.index[entries], weights=self.much[entries], minlength=len(self.classes))


def table(dataset: Dataset, per: Per, classes: Collection[str] | None = None) -> Table:
    """Read a data set once. Raises DataError for two samples of one name, UnknownName for a class that is not there."""
    listed = [c.name for c in dataset.categories]
    names, number = {c.id: c.name for c in dataset.categories}, {name: i for i, name in enumerate(listed)}
    rows: list[tuple[str, int, int, str]] = []
    index, much = array("q"), array("d")
    for sample in track(dataset, "reading labels", len(dataset)):
        held, begin = held_by(sample, names, pixels=per == "pixels"), len(index)
        for name, h in (held or {}).items():
            amount = 1 if per == "images" else getattr(h, per)
            if amount and (classes is None or name in classes):
                index.append(number.setdefault(name, len(number)))
                much.append(amount)
        rows.append((key_of(sample), begin, len(index), "unlabeled" if held is None else "" if held else "empty"))
    if wrong := sorted(set(classes or ()) - set(number)):
        raise unknown("class", wrong[0], number)
    rows.sort()
    for a, b in pairwise(rows):
        if a[0] == b[0]:
            raise DataError(f"{dataset.root} has two samples named {a[0]}; a name must be one sample's only")
    begun, ended = (np.array([row[i] for row in rows], dtype=np.int64) for i in (1, 2))
    start = np.append(0, np.cumsum(ended - begun)).astype(np.int64)
    order = np.repeat(begun - start[:-1], ended - begun) + np.arange(len(index))
    every = [*listed, *sorted(set(number) - set(listed))]
    kept = {name: number[name] for name in every if classes is None or name in classes}
    to = np.full(len(number), -1)
    to[list(kept.values())] = range(len(kept))
    return Table(
        [row[0] for row in rows], tuple(kept), start, to[np.array(index, dtype=np.int64)[order]],
        np.array(much)[order], [row[3] for row in rows],
    )  # fmt: skip


class Picker:
    """Chooses images one by one, so that first no class is left out and then the classes are least uneven.

    have: (classes,) how much of each is chosen. chosen: numbers of images in the table. most: what no class may
    exceed. Of more than LOOKS images a random LOOKS are looked at (stochastic greedy; Mirzasoleiman et al., "Lazier
    than lazy greedy", 2015), always with some of the class that has least.
    """

    LOOKS, SLACK, ROUNDS = 2048, 0.02, 3

    def __init__(self, table: Table, rng: np.random.Generator, *, most: np.ndarray | None = None) -> None:
        self.table, self.rng, self.most = table, rng, most
        n, k = len(table.keys), len(table.classes)
        rank = rng.permutation(n)  # of equal images the first by this one is taken
        photo = np.repeat(np.arange(n), np.diff(table.start))
        order = np.lexsort((rank[photo], table.index))
        ends = np.searchsorted(table.index[order], np.arange(k + 1))
        self.many = np.diff(ends)
        # the images of each class; last, all that have any
        self.all = [photo[order[ends[c] : ends[c + 1]]] for c in range(k)]
        self.all.append(np.array(sorted(set(photo.tolist()), key=rank.__getitem__), dtype=np.int64))
        self.waiting = self.all.copy()
        self.have, self.free, self.chosen = np.zeros(k), np.ones(n, dtype=bool), list[int]()

    def _some(self, c: int) -> np.ndarray:
        waiting = self.waiting[c]
        if waiting.size > self.LOOKS:
            waiting = waiting[np.unique(self.rng.integers(waiting.size, size=self.LOOKS))]
        some = waiting[self.free[waiting]]
        if some.size < waiting.size // 4:  # most are used up: from now on look at the others alone
            self.waiting[c] = waiting = self.waiting[c][self.free[self.waiting[c]]]
            some = waiting[: self.LOOKS]
        return some

    def _any(self) -> np.ndarray:
        return np.concatenate([self._some(self._least(self.many > 0)), self._some(len(self.have))])

    def _least(self, open_: np.ndarray) -> int:
        """The class that has least, of those the one in fewest images."""
        return int(np.lexsort((self.many, np.where(open_, self.have, np.inf)))[0])

    def _take(self, i: int, sign: int = 1) -> None:
        mine = slice(self.table.start[i], self.table.start[i + 1])
        self.have[self.table.index[mine]] += sign * self.table.much[mine]
        self.free[i] = sign < 0

    def best(self, ids: np.ndarray) -> int | None:
        """Which of these images to choose next; None when none may be."""
        if not ids.size:
            return None
        entries, begin = self.table.entries(ids)
        of, much = self.table.index[entries], self.table.much[entries]
        # unevenness squared is classes x sum of squares / square of the sum - 1; the quotient is 1 at most, so that a
        # class that is no longer missing counts for more
        squares = (self.have**2).sum() + np.add.reduceat(much * (2 * self.have[of] + much), begin)
        score = squares / (self.have.sum() + np.add.reduceat(much, begin)) ** 2
        score -= np.add.reduceat((self.have[of] == 0).astype(np.float64), begin)
        if self.most is not None:
            score[np.add.reduceat((self.have[of] + much > self.most[of]).astype(np.int64), begin) > 0] = np.inf
        at = int(score.argmin())
        return int(ids[at]) if np.isfinite(score[at]) else None

    def pick(self, c: int | None = None) -> bool:
        """Choose one more image, of class c if given; False when there is none that may be."""
        i = self.best(self._any() if c is None else self._some(c))
        if i is not None:
            self._take(i)
            self.chosen.append(i)
        return i is not None

    def cover(self, at_least: float) -> None:
        """Choose until every class has so much or no image may be chosen for it, then let go of needless ones."""
        open_ = self.many > 0
        while open_.any() and self.have[c := self._least(open_)] < at_least:
            open_[c] = self.pick(c)
        for i in reversed(self.chosen.copy()):
            self._take(i, -1)
            if (self.have[self.table.index[self.table.start[i] : self.table.start[i + 1]]] >= at_least).all():
                self.chosen.remove(i)
            else:
                self._take(i)

    def fill(self, size: int | None) -> None:
        """Choose up to `size` images. None: of the numbers that leave the classes within SLACK of the least uneven,
        the one whose smallest class is largest, and of those the least uneven.
        """
        late, least = 0, np.inf
        seen: list[tuple[float, float]] = []  # image by image: classes missing + unevenness, the smallest class
        while (size is None or len(self.chosen) < size) and self.pick():
            there = self.have[self.many > 0]
            seen.append((float((there == 0).sum() + there.std() / there.mean()), float(there.min())))
            least = min(least, seen[-1][0])
            if seen[-1][0] <= least + self.SLACK:
                late = len(self.chosen)
            # twice as many and never better: what the rare classes lack is not there
            if size is None and len(self.chosen) > 2 * (late + len(self.have)):
                break
        if size is None:
            fit = [i for i, row in enumerate(seen) if row[0] <= least + self.SLACK]
            keep = min(reversed(fit), key=lambda i: (-seen[i][1], round(seen[i][0], 9))) + 1
            for i in self.chosen[keep:]:
                self._take(i, -1)
            del self.chosen[keep:]

    def repair(self) -> None:
        """Exchange single images for better ones, ROUNDS times at most; among very many, one makes no difference."""
        for _ in range(self.ROUNDS if len(self.chosen) <= self.LOOKS else 0):
            before, self.waiting = self.chosen.copy(), self.all.copy()
            for at in self.rng.permutation(len(before)).tolist():
                old = before[at]
                self._take(old, -1)
                new = self.best(np.append(self._any(), old))
                self.chosen[at] = old if new is None else new
                self._take(self.chosen[at])
            if self.chosen == before:
                break
