"""Dividing a data set for training and testing, so that what belongs together stays together and each part has its
share of every class.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful.curate import near_duplicates
from handful.curate.balance import Picker, Table, key_of, table
from handful.curate.image_metadata import Cache, gather
from handful.data.writing import image_of
from handful.errors import DataError
from handful.pick import unknown
from handful.progress import track
from handful.types import Dataset, Sample
from handful.words import counted, shell

SHARES = {"train": 0.8, "val": 0.2}
PHOTOS = 10.0  # what the share of all images counts for, where the share of one class counts for 1


@dataclass(frozen=True)
class Split:
    """Which part each sample belongs to.

    parts: the shares wanted. of: sample (as key_of names it) -> part. renamed: sample -> its new name, where the old
    one is taken by a sample of another old split. groups: those of two or more samples that were kept together.
    images: part -> images. classes: class -> part -> images that hold it. seed: what ties fell by.
    """

    parts: Mapping[str, float]
    of: Mapping[str, str]
    renamed: Mapping[str, str]
    groups: Sequence[Sequence[str]]
    images: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    seed: int

    @property
    def deviation(self) -> dict[str, Any]:
        """Share got less share wanted: of all images by part, of each class's images by class and part, the largest
        of these without its sign, and the mean over the classes, each by its images.
        """
        whole = sum(self.images.values())
        images = {part: n / whole - self.parts[part] for part, n in self.images.items()}
        classes = {
            name: {part: n / sum(row.values()) - self.parts[part] for part, n in row.items()}
            for name, row in self.classes.items()
            if sum(row.values())
        }
        off = [(max(map(abs, row.values())), sum(self.classes[name].values())) for name, row in classes.items()]
        mean = sum(a * n for a, n in off) / sum(n for _, n in off) if off else 0.0
        return {"images": images, "per_class": classes, "largest": max((a for a, _ in off), default=0.0), "mean": mean}

    def as_json(self) -> dict[str, Any]:
        """For a report or a file beside the data."""
        told = asdict(self)
        per_class = told.pop("classes")
        return {"schema_version": 1, **told, "per_class": per_class, "deviation": self.deviation}


def split(
    dataset: Dataset, *, parts: Mapping[str, float] = SHARES, by: str | None = None, seed: int = 0, near: bool = True,
    cache: Path | None = None,
) -> Split:  # fmt: skip
    """Give each sample a part, so that each part has its share of the images and of every class.

    parts: name -> share; they sum to 1. by: samples that share this stay together: "clip", "folder" (the image's,
    inside its old split) or the name of an attribute; a sample without it stands alone. near: images that look the
    same stay together, too; every image is opened for that. cache: a folder that remembers what images look like.

    Iterative stratification for several labels an image (Sechidis, Tsoumakas and Vlahavas, "On the stratification of
    multi-label data", 2011), on groups in place of images: the rarest class is dealt out first, each of its groups,
    large ones first, to the part that lacks most of it. Then single groups move wherever that brings the shares
    closer. Where groups are large, dealing them out by size alone is tried too, and the closer of the two kept. Empty
    and unlabeled images count as classes of their own. The same seed gives the same split, whatever the order of the
    samples.
    """
    _checked(parts)
    rows, about, groups = _grouped(dataset, by, near, cache)
    if len(about) < len(parts):
        raise DataError(f"{dataset.root} has {counted(len(about), 'image')}; wanted {len(parts)} or more, one a part")
    if len(groups) < len(parts):
        raise DataError(
            f"{dataset.root} falls into {counted(len(groups), 'group')} that must stay together; wanted {len(parts)} "
            "or more, one a part; ask for fewer parts, or hold fewer together: --no-near, and no --by"
        )
    rng = np.random.default_rng(seed)
    whole = _groups_table(rows, groups, states=True)
    sizes, shares = np.array([len(g) for g in groups], dtype=np.float64), np.array(list(parts.values()))
    starts = [_stratified(whole, sizes, shares, rng)]
    if sizes.max() > 1:  # large groups leave no room to mend: dealt by size, they may lie better
        starts.append(np.full(len(groups), -1))
    _, part = min((_closer(whole, sizes, shares, start, rng) for start in starts), key=lambda found: found[0])
    return _made(dict(parts), rows, about, groups, part.tolist(), seed)


def curated_test(
    dataset: Dataset, per_class: int, *, seed: int = 0, by: str | None = None, near: bool = True,
    cache: Path | None = None,
) -> Split:  # fmt: skip
    """A test set with `per_class` images of each class, as far as there are; the rest is "train".

    Whole groups go to the test set (by, near and cache as in `split`), so a class may get a few more, above all one
    that others come with. No class gives away more than half of its images, so a class with one image stays in
    training; `Split.classes` says what each got. Images without labels stay in training.
    """
    if per_class < 1:
        raise DataError(f"per_class is {per_class}; wanted 1 or more images a class")
    rows, about, groups = _grouped(dataset, by, near, cache)
    whole = _groups_table(rows, groups, states=False)
    half = np.floor(whole.sums(range(len(groups))) / 2)
    picker = Picker(whole, np.random.default_rng(seed), most=half)
    picker.cover(per_class)
    if not picker.chosen:
        raise DataError(f"{dataset.root} has no class with two images that may be parted; wanted labeled images")
    test = np.zeros(len(groups), dtype=np.int64)
    test[picker.chosen] = 1
    share = sum(len(groups[i]) for i in picker.chosen) / len(rows.keys)
    return _made({"train": 1 - share, "test": share}, rows, about, groups, test.tolist(), seed)


def apply(dataset: Dataset, split: Split) -> Dataset:
    """The data set with its new splits, read as it is asked for. Raises DataError for a sample the split lacks."""

    def samples() -> Iterator[Sample]:
        for sample in dataset:
            key = key_of(sample)
            if key not in split.of:
                raise DataError(f"{key} is not in the split, which was made of other samples; make it again")
            name = split.renamed.get(key, sample.name)
            yield replace(sample, split=split.of[key], name=name)

    return replace(dataset, samples=samples, count=len(split.of))


def _checked(parts: Mapping[str, float]) -> None:
    for name, share in parts.items():
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise DataError(f"{name!r} cannot name a part; wanted a word such as train or val")
        if not 0 < share <= 1:
            raise DataError(f"the share of {name} is {share}; wanted more than 0 and 1 at most")
    if not parts or abs(sum(parts.values()) - 1) > 1e-6:
        raise DataError(f"the shares sum to {sum(parts.values()):g}; wanted 1")


def _grouped(
    dataset: Dataset, by: str | None, near: bool, cache: Path | None
) -> tuple[Table, list[tuple[str | None, str]], list[list[int]]]:
    """(what each image holds, its old split and name, numbers of images that must stay together), sorted by key."""
    rows = table(dataset, "images")
    if not rows.keys:
        raise DataError(f"{dataset.root} has no images to divide")
    number = {key: i for i, key in enumerate(rows.keys)}
    about: list[tuple[str | None, str]] = [(None, "")] * len(number)
    prints: list[near_duplicates.Fingerprint | None] = [None] * len(number)
    sources: dict[str, int] = {}
    known: set[str] = set()
    pairs: list[tuple[int, int]] = []
    for sample, mark in _marked(dataset, cache) if near else ((s, None) for s in dataset):
        i = number[key_of(sample)]
        about[i], prints[i] = (sample.split, sample.name or sample.path.name), mark
        known.update(sample.attributes)
        source = _source(sample, by)
        if source is not None:
            pairs.append((sources.setdefault(source, i), i))
    if by is not None and not sources:
        if by in ("clip", "folder"):
            raise DataError(f"no sample of {dataset.root} has a {by}; leave --by out, or name an attribute")
        raise unknown("attribute", by, ["clip", "folder", *sorted(known)])
    if near:
        held = [p for p in prints if p is not None]
        pairs += [(a, b) for group in near_duplicates.clusters(held) for a, b in pairwise(group)]
    return rows, about, near_duplicates.groups(len(number), pairs)


def _source(sample: Sample, by: str | None) -> str | None:
    if by is None:
        return None
    if by == "clip":
        return sample.clip
    if by == "folder":
        folder = str(PurePosixPath(sample.name).parent)
        return None if folder == "." else folder
    value = sample.attributes.get(by)
    return None if value is None else json.dumps(value, sort_keys=True, default=str)


def _marked(dataset: Dataset, cache: Path | None) -> Iterator[tuple[Sample, near_duplicates.Fingerprint]]:
    """Each sample with its image's fingerprint. Raises DataError for an image that cannot be read."""
    with Cache(cache) as kept:
        items = ((s, s.path if s.pixels is None else None) for s in track(dataset, "comparing images", len(dataset)))
        for sample, meta in gather(items, kept):
            mark = near_duplicates.fingerprint(image_of(sample)) if sample.pixels is not None else meta.fingerprint
            if mark is None:
                raise DataError(
                    f"{sample.path} {meta.error_text}; repair a copy: handful data check {shell(dataset.root)} --fix "
                    "COPY; or leave near-duplicates apart: --no-near"
                )
            yield sample, mark


def _groups_table(rows: Table, groups: Sequence[Sequence[int]], *, states: bool) -> Table:
    """A table of groups: how many images of each has each class. states: with empty and unlabeled as classes, too."""
    extra = ("empty", "unlabeled") if states else ()
    k = len(rows.classes)
    start, index, much = [0], [], []
    for group in groups:
        entries, _ = rows.entries(np.array(group))
        of = rows.index[entries].tolist() + [k + extra.index(rows.state[i]) for i in group if rows.state[i] in extra]
        classes, many = np.unique(np.array(of, dtype=np.int64), return_counts=True)
        index.append(classes)
        much.append(many)
        start.append(start[-1] + len(classes))
    return Table(
        [rows.keys[g[0]] for g in groups], (*rows.classes, *(f"({e})" for e in extra)), np.array(start),
        np.concatenate(index), np.concatenate(much).astype(np.float64), [""] * len(groups),
    )  # fmt: skip


def _stratified(groups: Table, sizes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) the part of each group by Sechidis's rule. sizes: (n,) images in each. shares: (parts,)."""
    n, k = len(groups.keys), len(groups.classes)
    rank = rng.permutation(n)
    left = groups.sums(range(n))
    lack = shares[:, None] * left
    room = shares * sizes.sum()
    owner = np.repeat(np.arange(n), np.diff(groups.start))
    order = np.lexsort((rank[owner], -groups.much, groups.index))
    ends = np.searchsorted(groups.index[order], np.arange(k + 1))
    part = np.full(n, -1)
    while (left > 0).any():
        c = int(np.where(left > 0, left, np.inf).argmin())
        for g in owner[order[ends[c] : ends[c + 1]]].tolist():
            if part[g] < 0:
                # most lacking first; of equals the part with most room, then by lot; rounded, or noise would decide
                part[g] = j = np.lexsort((rng.random(len(shares)), room.round(6), lack[:, c].round(6)))[-1]
                mine = slice(groups.start[g], groups.start[g + 1])
                lack[j, groups.index[mine]] -= groups.much[mine]
                room[j] -= sizes[g]
                left[groups.index[mine]] -= groups.much[mine]
    for g in np.flatnonzero(part < 0).tolist():  # images without any class
        part[g] = j = np.lexsort((rng.random(len(shares)), room.round(6)))[-1]
        room[j] -= sizes[g]
    return part


def _closer(
    groups: Table, sizes: np.ndarray, shares: np.ndarray, part: np.ndarray, rng: np.random.Generator, rounds: int = 10
) -> tuple[float, np.ndarray]:
    """(how far off, (n,) parts) after moving single groups while the parts come closer to their shares.

    How far off is the sum over parts and classes, and PHOTOS times over the images as such, of (got - wanted)^2 /
    wanted. part: -1 for a group to be dealt out first, large ones before small ones. No part is left empty.
    """
    n, k = len(groups.keys), len(groups.classes)
    part, rank = part.copy(), rng.permutation(n)
    wanted = shares[:, None] * np.append(groups.sums(range(n)), sizes.sum())  # the last column counts images
    weight = np.append(np.ones(k), PHOTOS)
    got = np.zeros_like(wanted)

    def put(g: int, to: int) -> None:
        of, much = entries(g)
        if part[g] >= 0:
            got[part[g], of] -= much
        got[to, of] += much
        part[g] = to

    def entries(g: int) -> tuple[np.ndarray, np.ndarray]:
        mine = slice(groups.start[g], groups.start[g + 1])
        return np.append(groups.index[mine], k), np.append(groups.much[mine], sizes[g])

    def change(g: int) -> np.ndarray:
        """(parts,) how much further off all is when the group goes there."""
        of, much = entries(g)
        over, per = got[:, of] - wanted[:, of], weight[of] * much / wanted[:, of]
        come = ((2 * over + much) * per).sum(1)
        if part[g] >= 0:
            come += ((much - 2 * over) * per)[part[g]].sum()
            come[part[g]] = 0
        return np.asarray(come)

    for g, to in enumerate(part.tolist()):
        if to >= 0:
            part[g] = -1
            put(g, to)
    for g in np.lexsort((rank, -sizes)).tolist():
        if part[g] < 0:
            put(g, int(change(g).argmin()))
    members = np.bincount(part, minlength=len(shares))
    for empty in np.flatnonzero(members == 0).tolist():
        largest = int(members.argmax())
        put(min(np.flatnonzero(part == largest).tolist(), key=lambda g: (sizes[g], rank[g])), empty)
        members = np.bincount(part, minlength=len(shares))
    for _ in range(rounds):
        moved = False
        for g in rng.permutation(n).tolist():
            come, a = change(g), part[g]
            b = int(come.argmin())
            if come[b] < -1e-9 and members[a] > 1:
                put(g, b)
                members[a] -= 1
                members[b] += 1
                moved = True
        if not moved:
            break
    off = weight * (got - wanted) ** 2 / np.maximum(wanted, 1e-12)
    return float(off.sum()), part


def _made(
    parts: dict[str, float], rows: Table, about: Sequence[tuple[str | None, str]], groups: Sequence[Sequence[int]],
    part: Sequence[int], seed: int,
) -> Split:  # fmt: skip
    names = list(parts)
    of = {rows.keys[i]: names[part[g]] for g, members in enumerate(groups) for i in members}
    members = {name: [i for i, key in enumerate(rows.keys) if of[key] == name] for name in names}
    sums = {name: rows.sums(members[name]).astype(int).tolist() for name in names}
    classes = {c: {name: sums[name][i] for name in names} for i, c in enumerate(rows.classes)}
    return Split(
        parts, {key: of[key] for key in rows.keys}, _renamed(rows.keys, about, of),
        tuple(tuple(rows.keys[i] for i in g) for g in groups if len(g) > 1),
        {name: len(members[name]) for name in names}, classes, seed,
    )  # fmt: skip


def _renamed(keys: Sequence[str], about: Sequence[tuple[str | None, str]], of: Mapping[str, str]) -> dict[str, str]:
    """New names for samples of different old splits that would be in each other's way in one part. Names that differ
    in case or suffix only are in the way too: on some disks, and for formats that name labels by the image's stem.
    """
    old = {key: split for key, (split, _) in zip(keys, about, strict=True)}
    new = {key: name for key, (_, name) in zip(keys, about, strict=True)}
    for _ in range(4):
        seats: dict[tuple[str, str], list[str]] = defaultdict(list)
        for key in keys:
            seats[of[key], str(PurePosixPath(new[key]).with_suffix("")).casefold()].append(key)
        clashes = [seat for seat in seats.values() if len({old[key] for key in seat}) > 1]
        if not clashes:
            return {key: new[key] for key, (_, name) in zip(keys, about, strict=True) if new[key] != name}
        for key in (key for seat in clashes for key in seat if old[key]):
            new[key] = f"{old[key]}/{new[key]}"
    raise DataError(f"the samples {', '.join(clashes[0][:3])} cannot get names of their own in one part; rename them")
