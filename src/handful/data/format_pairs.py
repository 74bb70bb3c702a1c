"""Photographs and masks whose names pair, in any folders: train/ and train_mask/, imgs/a.jpg and masks/a_mask.png.

How they pair is found out (pairing.py), or told by patterns: images="imgs/{}.jpg", masks="masks/{}_mask.png". The
split is the first part of the name that is called so. Where masks mirror images/ in a folder of their own, that is the
format `masks`. Names of the values come from a list that lies there (label_names.py); without one, 0 and 255 are
background and foreground, masks that number the things of each image are objects, and other values are named by their
numbers. Several masks of one image are its objects.
A mask in the alpha channel is read there. Soft edges are an error unless a threshold is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from handful import running
from handful.data import class_lists, instance_ids, pairing
from handful.data.finding import Finding, OnFinding, stop
from handful.data.folder_names import LABELED_SPLITS
from handful.data.format_masks import meaning_of
from handful.data.instance_ids import CATEGORIES, OBJECT
from handful.data.label_names import FILE, Labels, labels_of
from handful.data.label_tree import Decode, decoder_of, header, segments, translator
from handful.data.looks import checked_threshold, hard_values
from handful.data.masks import no_mask, same_size, value_counts
from handful.data.paths import Shelf
from handful.data.reading import upright_size
from handful.errors import DataError
from handful.pick import unknown
from handful.progress import track
from handful.types import Category, Dataset, Mask, Object, Sample
from handful.words import shell

PRECEDENCE = 85  # after images/ with a folder of masks that mirrors it, before folders of classes
TITLE = "Photos and masks in pairs"
TREE = """\
train/a.jpg             photographs in one folder, masks in another
train_mask/a_mask.png   names that share all but words such as mask, seg, label, gt
classes.txt             the names of 0, 1, 2, ..., if they have any
"""
BINARY = {0: 0, 255: 1}


def detect(folder: Path) -> bool:
    """Whether photographs and masks pair by their names there."""
    return Path(folder).is_dir() and bool(pairing.find(Path(folder)))


def mask_trees(folder: Path) -> list[str]:
    """What the trees of masks are called."""
    return [pairs.title for pairs in pairing.find(Path(folder))]


@dataclass(frozen=True)
class _Set:
    folder: Path
    shelf: Shelf
    pairs: pairing.Pairs
    threshold: int | None


def read(
    folder: Path,
    *,
    on_finding: OnFinding = stop,
    masks: str | None = None,
    images: str | Path | None = None,
    threshold: int | None = None,
) -> Dataset:
    """The photographs of the pairs in order of split and name, each with its mask; without one it is unlabeled.

    masks: which tree, or a pattern with `{}`; images: a pattern with `{}`. threshold: values of a soft mask from it on
    are foreground. Raises DataError where several trees are there and none is named, UnknownName for one that is not.
    """
    folder = Path(folder)
    checked_threshold(threshold)
    patterned = images is not None or (masks is not None and "{}" in masks)
    found = pairing.told(folder, None if images is None else str(images), masks) if patterned else pairing.find(folder)
    if not found:
        how = running.reading("--images 'a/{}.jpg' --masks-in 'b/{}_mask.png'", folder, "masks")
        raise DataError(f"{folder} has no photographs and masks whose names pair; say how: {how}")
    titles = [pairs.title for pairs in found]
    if not patterned and masks is not None:
        if masks not in titles:
            raise unknown("tree of masks", masks, titles)
        found = [pairs for pairs in found if pairs.title == masks]
    if len(found) > 1:
        how = running.reading(f"--masks-in {shell(titles[0])}", folder, "masks")
        raise DataError(f"{folder} has {len(found)} trees of masks: {', '.join(titles)}; name one, as in: {how}")
    one = _Set(folder, Shelf(folder, folder), found[0], threshold)
    for name in one.pairs.orphans:
        on_finding(Finding("missing_image", name, detail="is a mask, but there is no image of its name"))
    lists = class_lists.find(folder, {str(PurePosixPath(n).parent) for ns in one.pairs.masks.values() for n in ns})
    labels = _named(folder, lists, on_finding)
    if labels is not None and one.pairs.look == "mask":
        one = replace(one, pairs=replace(one.pairs, look="named"))
    if one.pairs.objects:
        return _of_objects(one, labels, on_finding)
    categories, decode = _meaning(one, labels, on_finding)

    def samples() -> Iterator[Sample]:
        for split, name, at in _rows(one.pairs):
            if not one.shelf.inside(at, on_finding):
                continue
            files = one.pairs.masks.get(at, ())
            sample = Sample(folder / at, name=name, split=split or None)
            if not files or not all([one.shelf.inside(file, on_finding) for file in files]):
                yield sample
                continue
            if decode is None:
                for file in files:
                    sample = instance_ids.with_things(sample, one.shelf, file, on_finding, one.pairs.look, threshold)
                yield sample
                continue
            reader = _mask_reader(one, files, folder / at, decode, on_finding)
            yield Sample(folder / at, name=name, split=split or None, mask=reader, mask_path=folder / files[0])

    return Dataset("pairs", folder, categories, samples, len(one.pairs.photos))


def _rows(pairs: pairing.Pairs) -> list[tuple[str, str, str]]:
    """(split, name without it, path) in order. A folder called train_images is the split train."""
    photos = pairs.photos
    rows = []
    for at in photos:
        parts = list(PurePosixPath(at).parts)
        for i, part in enumerate(parts[:-1]):
            tokens = [t.lower() for t in pairing.TOKEN.findall(part)]
            words = [t for t in tokens if t not in pairing.IMAGE_WORDS]
            split = words[0] if len(words) == 1 and words[0] in LABELED_SPLITS else ""
            split = split or (pairing.without_split(part)[0].lower() if pairs.loose else "")
            if split:
                rows.append((split, "/".join(parts[:i] + parts[i + 1 :]), at))
                break
        else:
            rows.append(("", at, at))
    if len({(split, name) for split, name, _ in rows}) < len(rows):
        rows = [(split, at, at) for split, _, at in rows]
    return sorted(rows)


def _named(folder: Path, lists: Sequence[Path], on_finding: OnFinding) -> Labels | None:
    if (folder / FILE).exists():
        return labels_of(folder, None, on_finding)
    return class_lists.named(folder, lists, on_finding)


def _values(one: _Set, name: str, on_finding: OnFinding) -> np.ndarray | None:
    return hard_values(one.folder / name, one.folder, one.pairs.look, one.threshold, on_finding)


def _meaning(one: _Set, labels: Labels | None, on_finding: OnFinding) -> tuple[tuple[Category, ...], Decode | None]:
    """The classes, and what turns stored values into ids; None for it as format_masks.meaning_of."""
    files = sorted(name for names in one.pairs.masks.values() for name in names)
    opened = partial(hard_values, root=one.folder, look=one.pairs.look, threshold=one.threshold)
    if labels is None:
        labels, decode = meaning_of(one.pairs.title, one.shelf, files, opened, on_finding)
        return labels.categories, decode
    if {c.id for c in labels.categories} == {0, 1} and _are_two_valued(one, files):
        return labels.categories, translator(BINARY, on_finding)
    return labels.categories, decoder_of(labels, on_finding)


def _are_two_valued(one: _Set, files: Sequence[str]) -> bool:
    """Whether the masks hold 0 and 255 alone, so that names for 0 and 1 are meant for these."""
    seen: set[int] = set()
    for name in track(files, "looking for values in masks"):
        values = _values(one, name, lambda finding: None) if one.shelf.inside(name, lambda finding: None) else None
        if values is not None:
            seen.update(value_counts(values)[0].tolist())
    return 255 in seen and seen <= BINARY.keys()


def _mask_reader(
    one: _Set, files: Sequence[str], image: Path, decode: Decode, on_finding: OnFinding
) -> Callable[[], Mask]:
    """The masks of one image as one: a later one is drawn over the earlier where it is not background."""

    def read_one(name: str) -> Mask:
        values = _values(one, name, on_finding)
        mask = None if values is None else decode(values, one.folder / name, name)
        if mask is None:
            raise no_mask(one.folder / name)
        said = header(image)
        if said is not None and mask.ids.shape[::-1] != said[1]:
            upright = upright_size(image, one.folder, lambda finding: None)
            if not same_size(mask, upright or said[1], on_finding, file=name):
                raise no_mask(one.folder / name)
        return mask

    def read() -> Mask:
        found = [read_one(name) for name in files]
        ids = found[0].ids.copy()
        for more in found[1:]:
            ids[more.ids != 0] = more.ids[more.ids != 0]
        return Mask(ids)

    return read


def _of_objects(one: _Set, labels: Labels | None, on_finding: OnFinding) -> Dataset:
    """Each mask is one object of one class."""
    categories = labels.categories if labels is not None and len(labels.categories) == 1 else CATEGORIES
    if labels is None:
        detail = f"has no name for its objects; all are called {OBJECT}"
        on_finding(Finding("no_label_map", one.pairs.title, OBJECT, detail=detail))

    def samples() -> Iterator[Sample]:
        for split, name, at in _rows(one.pairs):
            if not one.shelf.inside(at, on_finding):
                continue
            objects: list[Object] = []
            for file in one.pairs.masks.get(at, ()):
                values = _values(one, file, on_finding) if one.shelf.inside(file, on_finding) else None
                if values is None or values.ndim != 2:
                    continue
                for _, rle, box in segments((values > 0).astype(np.uint8)):
                    objects.append(Object(categories[0].name, box, rle=rle))
            there = tuple(objects) if at in one.pairs.masks else None
            yield Sample(one.folder / at, name=name, split=split or None, objects=there)

    return Dataset("pairs", one.folder, categories, samples, len(one.pairs.photos))
