"""ADE20K as prepared for the scene parsing challenge (Zhou et al. 2017): 150 classes, 0 for everything else.

images/{training,validation}/a.jpg and annotations/{training,validation}/a.png, perhaps below ADEChallengeData2016/;
0 is ignore. objectInfo150.txt names the classes; without it they are called as in the label maps that come with
handful. In annotations_instance/ red is one of 100 countable classes, by a number of its own, and green the object.
The splits are called train, val and test here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from handful.data import sniff
from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_tree import (
    decoder,
    mask_names,
    paired,
    segments,
    split_names,
    split_of,
    stored,
    top_of,
    with_mask,
)
from handful.data.labelmaps import label_map
from handful.data.masks import open_values, write_ids
from handful.data.paths import Shelf, relative
from handful.data.reading import Few, label_text
from handful.data.shapes import painted
from handful.data.writing import Writer, image_of
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Dataset, Object, Sample
from handful.words import counted

PRECEDENCE = 55
TITLE = "ADE20K (SceneParsing)"
TREE = """\
images/training/a.jpg
annotations/training/a.png         0 for none, 1 to 150
annotations_instance/training/a.png
objectInfo150.txt
"""
BELOW = "ADEChallengeData2016"
IMAGES, MASKS, THINGS = "images", "annotations", "annotations_instance"
NAMES = "objectInfo150.txt"
SPLITS = {"training": "train", "validation": "val", "testing": "test"}
# the classes that annotations_instance numbers 1 to 100
COUNTABLE = (8, 9, 11, 13, 15, 16, 19, 20, 21, 23, 24, 25, 28, 31, 32, 33, 34, 36, 37, 38, 39, 40, 42, 43, 44, 45, 46,
             48, 50, 51, 54, 56, 57, 58, 59, 63, 65, 66, 67, 68, 70, 71, 72, 73, 74, 75, 76, 77, 79, 81, 82, 83, 84, 86,
             87, 88, 89, 90, 91, 93, 94, 96, 98, 99, 103, 104, 105, 108, 109, 111, 112, 113, 116, 117, 119, 120, 121,
             122, 124, 125, 126, 127, 128, 130, 131, 133, 134, 135, 136, 137, 138, 139, 140, 143, 144, 145, 147, 148,
             149, 150)  # fmt: skip
_IMAGE = re.compile(r"^ADE_(train|val|test|frame)_\d{8}$")


@cache
def standard() -> tuple[Category, ...]:
    """The 150 classes, called as in the label maps; those that annotations_instance counts are objects."""
    names = label_map("ten").table["ade20k"]
    return tuple(Category(i, name, thing=i in COUNTABLE) for i, name in enumerate(names, 1))


def detect(folder: Path) -> bool:
    """Whether images/ and annotations/ hold ADE20K: by objectInfo150.txt, or by the images' names."""
    return _root(Path(folder)) is not None or _whole(Path(folder)) is not None


def _whole(folder: Path) -> str | None:
    """An image of the whole ADE20K (2016 or 2021), whose masks are beside it as a_seg.png."""
    for name in sniff.files(folder, "_seg.png"):
        image = name.removesuffix("_seg.png") + ".jpg"
        if _IMAGE.match(PurePosixPath(image).stem) and (folder / image).is_file():
            return image
    return None


def _root(folder: Path) -> Path | None:
    for place in (folder, folder / BELOW):
        if not (place / IMAGES).is_dir() or not (place / MASKS).is_dir():
            continue
        if (place / NAMES).is_file():
            return place
        for split in SPLITS:
            below = place / IMAGES / split
            if below.is_dir() and any(_IMAGE.match(p.stem) for p, _ in zip(below.iterdir(), range(100), strict=False)):
                return place
    return None


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The images in order of split and name, with masks, and objects where there is annotations_instance/.

    Raises DataError when the folder is not ADE20K.
    """
    folder = Path(folder)
    root = _root(folder)
    whole = _whole(folder) if root is None else None
    if whole is not None:
        raise DataError(
            f"{folder / whole} is of the whole ADE20K, whose 3,000 classes are not read; take the same images with 150 "
            "classes, ADEChallengeData2016 from http://sceneparsing.csail.mit.edu, which are read as they are"
        )
    if root is None:
        raise DataError(f"{folder} has no {IMAGES}/ and {MASKS}/ of ADE20K in it")
    images, shelf, things = (Shelf(root / name, folder) for name in (IMAGES, MASKS, THINGS))
    names = sorted(images.images)
    mask_of = paired(names, shelf, on_finding)
    categories = _classes(root / NAMES, folder, on_finding)
    things_of = paired(names, things, on_finding) if categories == standard() else {}  # it numbers ADE20K's own classes
    decode = decoder(categories, on_finding, ignore=0)
    rows = sorted((SPLITS.get(split or "", split or ""), name, at) for at in names for split, name in [split_of(at)])

    def samples() -> Iterator[Sample]:
        for split, name, at in rows:
            if images.inside(at, on_finding):
                objects = _objects(things, things_of[at], categories, on_finding) if at in things_of else None
                sample = Sample(images.folder / at, name=name, split=split or None, objects=objects)
                yield with_mask(sample, shelf, mask_of.get(at), decode, on_finding)

    return Dataset("ade20k", folder, categories, samples, len(rows))


def _classes(path: Path, root: Path, on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes of objectInfo150.txt (tab-separated); the standard ones by their short names."""
    if not path.is_file():
        return standard()
    text, file = label_text(path, root, on_finding, empty=False), relative(path, root)
    few, rows = Few(on_finding), []
    for line in (text or "").split("\n")[1:]:
        cells = [cell.strip() for cell in line[:2000].split("\t")]
        number = cells[0]
        if number.isascii() and number.isdigit() and 0 < int(number[:6]) < 255 and len(cells) >= 2:
            rows.append({"id": int(number), "name": cells[-1]})
        elif line.strip():
            detail = f"has the line {line[:60]!r}; wanted Idx, Ratio, Train, Val and Name, with tabs between"
            few(Finding("broken_label", file, line[:60], detail=detail))
    few.close()
    if [(row["id"], str(row["name"]).split(",")[0]) for row in rows] == [(c.id, c.name) for c in standard()]:
        return standard()
    return categories_of(rows, on_finding, file=file)


def _objects(
    shelf: Shelf, name: str, categories: tuple[Category, ...], on_finding: OnFinding
) -> tuple[Object, ...] | None:
    """The objects in a map of red, class, and green, object; None when it cannot be used."""
    if not shelf.inside(name, on_finding):
        return None
    path, file = shelf.folder / name, relative(shelf.folder / name, shelf.root)
    values = open_values(path, shelf.root, on_finding)
    if values is None:
        return None
    if values.ndim == 2:  # all of one gray: as colors, red and green are the same
        values = np.repeat(values[..., None], 3, axis=2)
    code = values[..., 0].astype(np.uint16) * 256 + values[..., 1]
    known = {c.id: c.name for c in categories}
    found = []
    for value, rle, box in segments(np.where(code < 256, 0, code)):
        number = COUNTABLE[value // 256 - 1] if value // 256 <= len(COUNTABLE) else None
        if number not in known:
            detail = f"holds the class {value // 256}; wanted one of {len(COUNTABLE)}"
            on_finding(Finding("label_outside_map", file, value // 256, detail=detail))
        else:
            found.append(Object(known[number], box, rle=rle))
    return tuple(found)


def write(dataset: Dataset, writer: Writer) -> None:
    """Write images/, annotations/ and objectInfo150.txt; annotations_instance/ for objects of ADE20K's own classes.

    Ids from 1 to 254 are kept, others are numbered anew. Raises DataError for more than 254 classes, and for names
    that a table with tabs cannot hold.
    """
    own = [(c.id, c.name) for c in dataset.categories] == [(c.id, c.name) for c in standard()]
    kept = all(1 <= c.id <= 254 for c in dataset.categories)
    number = {c.id: c.id if kept else i for i, c in enumerate(dataset.categories, 1)}
    if max(number.values(), default=0) > 254:
        raise DataError(f"{dataset.root} has {counted(len(number), 'class')}; ADE20K's masks hold 254 at most")
    bad = [c.name for c in dataset.categories if c.name != c.name.strip() or "\t" in c.name or "\n" in c.name]
    if bad:
        raise DataError(f"{NAMES} cannot hold the name {bad[0]!r}; rename the class")
    folder_of = {split: folder for folder, split in SPLITS.items()}
    lookup = np.zeros(top_of(dataset.categories) + 1, dtype=np.uint8)
    for old, new in number.items():
        lookup[old] = new
    mask_name = mask_names(split_names(dataset))
    for place in (IMAGES, MASKS):
        writer.path(f"{place}/x")
    for sample in dataset:
        before = f"{folder_of.get(sample.split, sample.split)}/" if sample.split else ""
        name = writer.image(sample, f"{IMAGES}/{before}{sample.name}").removeprefix(f"{IMAGES}/")
        if sample.mask is not None:
            ids = lookup[stored(sample.mask(), dataset.categories, name)]
            write_ids(writer.path(f"{MASKS}/{mask_name(name)}"), ids)
        if sample.objects is not None and own:
            picture = need("PIL.Image", "data").fromarray(_map(sample))
            picture.save(writer.path(f"{THINGS}/{mask_name(name)}"), format="PNG")
    rows = (f"{number[c.id]}\t0\t0\t0\t{c.name}\n" for c in dataset.categories)
    writer.text(NAMES, "Idx\tRatio\tTrain\tVal\tName\n" + "".join(rows))


def _map(sample: Sample) -> np.ndarray:
    """Red, class, and green, object, of an image's countable objects."""
    width, height = sample.size_wh or image_of(sample).size_wh
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    numbers = {c.name: COUNTABLE.index(c.id) + 1 for c in standard() if c.id in COUNTABLE}
    counts: Counter[str] = Counter()
    for thing in sample.objects or ():
        pixels = painted(thing, (width, height))
        if thing.label in numbers and pixels is not None and pixels.shape == (height, width):
            counts[thing.label] += 1
            if counts[thing.label] > 255:
                raise DataError(f"{PurePosixPath(sample.name)} has over 255 objects of {thing.label!r}")
            rgb[pixels] = numbers[thing.label], counts[thing.label], 0
    return rgb
