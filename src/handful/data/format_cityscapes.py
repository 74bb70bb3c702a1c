"""Cityscapes: frames of streets with a class a pixel, and one number an object (Cordts et al. 2016).

leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png, gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png and _instanceIds.png; gtCoarse
where there is no fine one. An image is called CITY/NAME.png here. The classes and their ids are Cityscapes' own; ids 0
to 3, which evaluation leaves out as others, stay classes. An instance id is class * 1000 + number; below 1000 it is a
group of objects nobody told apart: crowd. Number plates are class -1, which stands in no mask. What is in the masks of
the test split is no label: its images are unlabeled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_tree import decoder, paired, segments, split_of, stem, stored, with_mask
from handful.data.masks import open_values, value_counts
from handful.data.paths import Shelf, relative
from handful.data.shapes import painted
from handful.data.writing import Writer, image_of, stems_are_unique
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Dataset, Object, Sample
from handful.words import counted

PRECEDENCE = 45
TITLE = "Cityscapes"
TREE = """\
leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png
gtFine/train/CITY/CITY_000000_000019_gtFine_labelIds.png
gtFine/train/CITY/CITY_000000_000019_gtFine_instanceIds.png
"""
IMAGES, IMAGE_TAIL = "leftImg8bit", "_leftImg8bit"
KINDS = ("gtFine", "gtCoarse")
DUMMY = frozenset((0, 1, 2, 3))  # all that is in the masks of the test split
GROUPS = {"void": "unlabeled 0 0 0, ego vehicle 0 0 0, rectification border 0 0 0, out of roi 0 0 0, static 0 0 0, "
                  "dynamic 111 74 0, ground 81 0 81",
          "flat": "road 128 64 128, sidewalk 244 35 232, parking 250 170 160, rail track 230 150 140",
          "construction": "building 70 70 70, wall 102 102 156, fence 190 153 153, guard rail 180 165 180, "
                          "bridge 150 100 100, tunnel 150 120 90",
          "object": "pole 153 153 153, polegroup 153 153 153, traffic light 250 170 30, traffic sign 220 220 0",
          "nature": "vegetation 107 142 35, terrain 152 251 152",
          "sky": "sky 70 130 180",
          "human": "person 220 20 60, rider 255 0 0",
          "vehicle": "car 0 0 142, truck 0 0 70, bus 0 60 100, caravan 0 0 90, trailer 0 0 110, train 0 80 100, "
                     "motorcycle 0 0 230, bicycle 119 11 32"}  # fmt: skip
THINGS = ("human", "vehicle")
_NAME = re.compile(r"^(?P<clip>.+_\d{6})_(?P<frame>\d{6})$")


def _table() -> tuple[Category, ...]:
    rows: list[Category] = []
    for parent, names in GROUPS.items():
        for row in names.split(", "):
            name, r, g, b = row.rsplit(" ", 3)
            rows.append(Category(len(rows), name, parent, parent in THINGS, (int(r), int(g), int(b))))
    return tuple(rows)


CATEGORIES = _table()


def detect(folder: Path) -> bool:
    """Whether the folder has leftImg8bit/ with splits in it."""
    place = Path(folder) / IMAGES
    return place.is_dir() and any(p.is_dir() for p in place.iterdir())


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The images in order of split and name; `clip` is city and sequence, `frame` its number, objects have pixels.

    Raises DataError when there is no leftImg8bit/.
    """
    folder = Path(folder)
    if not detect(folder):
        raise DataError(f"{folder} has no {IMAGES}/ with splits in it; wanted the layout of Cityscapes")
    images = Shelf(folder / IMAGES, folder)
    named = sorted(at for at in images.images if stem(at).endswith(IMAGE_TAIL))
    others = sorted(images.images - set(named))
    if others:
        few = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        detail = f"{counted(len(others), 'image')} not called *{IMAGE_TAIL}.png passed over ({few})"
        on_finding(Finding("not_an_image", IMAGES, others[:20], len(others), detail))
    parts = {at.partition("/")[0] for at in named}
    masks: dict[str, tuple[Shelf, str]] = {}
    instances: dict[str, tuple[Shelf, str]] = {}
    for kind in KINDS:
        shelf = Shelf(folder / kind, folder)
        for found, what, told in ((masks, "labelIds", on_finding), (instances, "instanceIds", lambda finding: None)):
            key = _mask_key(f"_{kind}_{what}", parts)
            for at, name in paired(named, shelf, told, key=_key, mask_key=key).items():
                found.setdefault(at, (shelf, name))
    dummies = _dummies([at for at in named if at in masks and at.startswith("test/")], masks, folder, on_finding)
    decode = decoder(CATEGORIES, on_finding)

    rows = sorted((*split_of(_key(at) + PurePosixPath(at).suffix, sorted(parts)), at) for at in named)

    def samples() -> Iterator[Sample]:
        for split, name, at in rows:
            if not images.inside(at, on_finding):
                continue
            match = _NAME.match(PurePosixPath(name).stem)
            clip, frame = (match["clip"], int(match["frame"])) if match else (None, None)
            objects = None
            if at in instances and at not in dummies:
                objects = _objects(*instances[at], on_finding)
            sample = Sample(images.folder / at, name=name, split=split, clip=clip, frame=frame, objects=objects)
            shelf, mask = masks.get(at, (images, None)) if at not in dummies else (images, None)
            yield with_mask(sample, shelf, mask, decode, on_finding)

    return Dataset("cityscapes", folder, CATEGORIES, samples, len(named))


def _key(at: str) -> str:
    return stem(at).removesuffix(IMAGE_TAIL)


def _mask_key(tail: str, parts: set[str]) -> Callable[[str], str | None]:
    """Labels of splits whose images were not fetched (train_extra) are no fault, and no keys."""

    def key(name: str) -> str | None:
        own = stem(name)
        return own.removesuffix(tail) if own.endswith(tail) and name.partition("/")[0] in parts else None

    return key


def _dummies(
    tests: list[str], masks: dict[str, tuple[Shelf, str]], root: Path, on_finding: OnFinding
) -> frozenset[str]:
    """The images of the test split, if the first of their masks hold no class; tells how many."""
    for at in tests[:3]:
        shelf, name = masks[at]
        inside = shelf.inside(name, lambda finding: None)
        values = open_values(shelf.folder / name, root, lambda finding: None) if inside else None
        if values is None or not set(value_counts(values)[0].tolist()) <= DUMMY:
            return frozenset()
    if tests:
        detail = f"has {counted(len(tests), 'image')} whose masks hold no class; they are taken as unlabeled"
        on_finding(Finding("unlabeled_image", f"{IMAGES}/test", len(tests), len(tests), detail))
    return frozenset(tests)


def _objects(shelf: Shelf, name: str, on_finding: OnFinding) -> tuple[Object, ...] | None:
    """The objects in a map of instance ids; None when it cannot be used."""
    path = shelf.folder / name
    if not shelf.inside(name, on_finding):
        return None
    values, file = open_values(path, shelf.root, on_finding), relative(path, shelf.root)
    if values is None or values.ndim == 3:
        if values is not None:
            on_finding(Finding("mask_not_ids", file, "RGB", detail="is a colored map; wanted instance ids in 16 bits"))
        return None
    found = []
    for value, rle, box in segments(values):
        number = value // 1000 if value >= 1000 else value
        if number >= len(CATEGORIES):
            if value not in (255, 65535):  # not labeled
                detail = f"holds the instance {value}, which is of no class"
                on_finding(Finding("label_outside_map", file, value, detail=detail))
        elif value >= 1000 or CATEGORIES[number].thing:
            found.append(Object(CATEGORIES[number].name, box, rle=rle, crowd=value < 1000))
    return tuple(found)


def write(dataset: Dataset, writer: Writer) -> None:
    """Write leftImg8bit/ and gtFine/: class ids of Cityscapes by name, and instance ids where there are objects.

    What is ignored becomes 0, unlabeled. Of objects that overlap, the later one has the pixels. Raises DataError for
    classes that Cityscapes does not have.
    """
    ids = {c.name: c.id for c in CATEGORIES}
    absent = [c.name for c in dataset.categories if c.name not in ids]
    if absent:
        few = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
        raise DataError(f"{dataset.root} has {counted(len(absent), 'class')} that Cityscapes does not have ({few})")
    if not stems_are_unique(dataset):
        raise DataError(
            f"{dataset.root} has images that differ in their suffix only; Cityscapes names masks by the rest"
        )
    number = np.zeros(65536, dtype=np.uint8)
    for c in dataset.categories:
        number[c.id] = ids[c.name]
    for sample in dataset:
        split = sample.split or "train"
        path = PurePosixPath(sample.name)
        writer.image(sample, f"{IMAGES}/{split}/{path.with_name(path.stem + IMAGE_TAIL + path.suffix)}")
        base = f"{KINDS[0]}/{split}/{stem(sample.name)}_{KINDS[0]}"
        classes = None
        if sample.mask is not None:
            own = stored(sample.mask(), dataset.categories, sample.name)
            classes = number[own]  # what is ignored has no class, and stays 0
            _save(classes, writer.path(f"{base}_labelIds.png"))
        if sample.objects is not None:
            width, height = classes.shape[::-1] if classes is not None else _size(sample)
            values = np.zeros((height, width), np.uint16) if classes is None else classes.astype(np.uint16)
            _paint(values, sample, ids)
            _save(values, writer.path(f"{base}_instanceIds.png"))


def _size(sample: Sample) -> tuple[int, int]:
    return sample.size_wh or image_of(sample).size_wh


def _paint(values: np.ndarray, sample: Sample, ids: dict[str, int]) -> None:
    """Put the objects' numbers into a map of classes."""
    counts: Counter[int] = Counter()
    for thing in sample.objects or ():
        pixels = painted(thing, (values.shape[1], values.shape[0]))
        own = ids[thing.label]
        if pixels is None or pixels.shape != values.shape:
            continue
        if counts[own] > 999 or (own == 0 and not thing.crowd):
            raise DataError(f"{sample.path} has more objects of {thing.label!r} than Cityscapes can number")
        values[pixels] = own if thing.crowd else own * 1000 + counts[own]
        counts[own] += not thing.crowd


def _save(values: np.ndarray, path: Path) -> None:
    need("PIL.Image", "data").fromarray(values).save(path, format="PNG")
