"""Data sets made of label files that name their images: one row an image, read when its sample is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding
from handful.data.image_finder import Finder, placed, split_in
from handful.data.marks import Said, class_text, kept_attributes, objects_of
from handful.data.paths import Shelf
from handful.data.reading import Few, unless_dropped, upright_size
from handful.types import Category, Dataset, Sample
from handful.words import counted

NO_PHOTOS = ("mask", "segm", "label", "annot", "instance", "panoptic", "depth", "trimap", "matte", "parts", "truth")


@dataclass(frozen=True)
class Row:
    """An image as a label file names it. said: what the file says of it, told through the call it is given.

    split: where the file says so itself; "" is a list's that says it has none. beside: an image with the label file's
    stem will do. names: the classes it names, where that is known without asking it. missing: what to say
    besides where the image is not there.
    """

    image: Any
    file: str
    said: Callable[[OnFinding], Said | None]
    split: str | None = None
    beside: bool = False
    names: frozenset[str] | None = None
    missing: str = ""


def root_of(place: Path) -> Path:
    """The folder of a data set that was named by itself or by one of its label files."""
    return place.parent if place.is_file() else place


def silent(finding: Finding) -> None:
    """For a first look at what is told when the samples are read."""


@dataclass(frozen=True)
class Found:
    """A row whose image is there."""

    image: str
    name: str
    split: str | None
    row: Row


def assembled(
    format: str, shelf: Shelf, rows: Iterable[Row], on_finding: OnFinding, *, lists: bool = True,
    categories: Sequence[Category] | None = None, info: Mapping[str, Any] | None = None,
) -> Dataset:  # fmt: skip
    """The data set of these rows, in order of split and name, and the images beside them that no row names.

    categories: every class, where the label files list them; else those that the rows name, sorted, ids from 1.
    lists: a label file is about many images, so that its name may say the split. Raises DataError without any image.
    """
    root = shelf.root
    found = _found(shelf, list(rows), on_finding, lists=lists)
    if categories is None:
        categories = _named(found, on_finding)
    taken = {row.image for row in found}
    folders = {PurePosixPath(image).parent.as_posix() for image in taken}
    loose = [image for image in sorted(shelf.images - taken) if _may_be_photo(image, folders)]
    keys = {(row.split, row.name) for row in found}
    rest: list[Found] = []
    for image in loose:
        split, name = placed(image)
        name = name if (split, name) not in keys else image
        keys.add((split, name))
        rest.append(Found(image, name, split, Row(image, ".", lambda tell: Said())))
    if rest:
        detail = f"{counted(len(rest), 'image has', 'images have')} no labels, so nobody looked ({rest[0].image}, ...)"
        where = rest[0].image if len(rest) == 1 else "."
        on_finding(Finding("unlabeled_image", where, [row.image for row in rest[:5]], len(rest), detail))
    every = sorted(found, key=lambda row: (row.split or "", row.name)) + rest
    names = {c.name for c in categories}

    def samples() -> Iterator[Sample]:
        for row in every:
            sample = _sample(row, shelf, names, root, on_finding)
            if sample is not None:
                yield sample

    return Dataset(format, root, tuple(categories), samples, len(every), info or {})


def _may_be_photo(image: str, folders: set[str]) -> bool:
    at = PurePosixPath(image).parent
    if at.as_posix() in folders:
        return True
    return not any(word in part.lower() for part in at.parts for word in NO_PHOTOS)


def _found(shelf: Shelf, rows: Sequence[Row], on_finding: OnFinding, *, lists: bool) -> list[Found]:
    """The rows whose images are there, each image once."""
    finder, few = Finder(shelf), Few(on_finding)
    first: dict[str, Row] = {}
    doubled: set[str] = set()
    by_name: dict[tuple[str | None, str], str] = {}
    found: list[Found] = []
    for row in rows:
        stem = split_in(row.file) if lists and row.split is None else None
        tell = few if not row.missing else _adding(few, row.missing)
        image = finder.find(row.image, tell, file=row.file, split=row.split or stem, beside=row.beside)
        if image is None:
            continue
        if image in first:
            other = first[image].file
            where = "twice" if other == row.file else f"and so does {other}"
            detail = f"has labels for {image} {where}, so that none of them are read"
            few(Finding("two_label_files", row.file, image, detail=detail))
            doubled.add(image)
            continue
        first[image] = row
        split, name = placed(image)
        if row.split is not None:
            split = row.split or None
            name = name.removeprefix(f"{split}/")
        else:
            split = split or stem
        if (split, name) in by_name:
            name = image  # two folders of images, each with an image of that name
        by_name[split, name] = image
        found.append(Found(image, name, split, row))
    few.close()
    return [row for row in found if row.image not in doubled]


def _adding(tell: OnFinding, more: str) -> OnFinding:
    """Tells that an image is missing with a few words more."""
    return lambda f: tell(replace(f, detail=f.detail + more) if f.code == "missing_image" else f)


def _named(found: Sequence[Found], on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes that the rows name."""
    names: set[str] = set()
    for row in found:
        names |= classes_in(row.row.said(silent)) if row.row.names is None else row.row.names
    file = found[0].row.file if len({row.row.file for row in found}) == 1 else "."
    numbers = bool(names) and all(name.isascii() and name.isdigit() for name in names)
    order = sorted(names, key=int) if numbers else sorted(names)
    if numbers:
        detail = "has numbers for its classes and no names; each is called by its number"
        on_finding(Finding("no_label_map", file, order[:50], len(names), detail))
    return categories_of([{"id": i, "name": name} for i, name in enumerate(order, 1)], on_finding, file=file)


def classes_in(said: Said | None) -> frozenset[str]:
    """The classes that the marks of an image name."""
    if said is None:
        return frozenset()
    marks = said.scaled(said.size_wh or (1, 1)) if said.scaled is not None else said.marks or ()
    held = (class_text(mark.label) for mark in marks)
    return frozenset(name for name in (*held, said.label) if name)


def _sample(found: Found, shelf: Shelf, names: set[str], root: Path, on_finding: OnFinding) -> Sample | None:
    row = found.row
    if not shelf.inside(found.image, on_finding):
        return None
    said = row.said(on_finding)
    if said is None:
        return None
    path, size = shelf.folder / found.image, said.size_wh
    objects = None
    if size is None and (said.marks or said.scaled is not None):
        size = upright_size(path, root, on_finding)
        if size is None:
            return None
    marks = said.scaled(size) if said.scaled is not None and size is not None else said.marks
    dropped = 0
    if marks is not None:
        things = objects_of(marks, names, size or (1, 1), on_finding, file=row.file)
        objects, dropped = unless_dropped(things, len(marks)), len(marks) - len(things)
    label = said.label
    if label is not None and label not in names:
        detail = f"says that {found.image} is of class {label[:60]!r}, which is not listed"
        on_finding(Finding("unknown_category", row.file, label[:60], detail=detail))
        label = None
    about = kept_attributes(said.attributes, on_finding, file=row.file, what=f"the image {found.image}")
    return Sample(
        path, label=label, objects=objects, name=found.name, split=found.split, size_wh=said.size_wh or size,
        attributes=about, dropped=dropped,
    )  # fmt: skip


def in_split(sample: Sample) -> str:
    """Where a sample's image goes below the folder of a split: SPLIT/NAME, or NAME without splits."""
    return f"{sample.split}/{sample.name}" if sample.split else sample.name
