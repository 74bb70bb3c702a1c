"""ImageNet-style folders: one folder a class, images inside; or one image a class, named after it.

CLASS/PHOTO, SPLIT/CLASS/PHOTO or CLASS/SPLIT/PHOTO, where the splits are folders called train, val, valid, validation
or test. Folders in folders whose names do not tell which are the classes are refused (class_folders.py).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from handful import running
from handful.data import class_folders, class_maps, own_files, pairing
from handful.data.finding import Finding, OnFinding, stop
from handful.data.folder_names import HOLDERS, SPLITS
from handful.data.near_names import spelled_alike
from handful.data.paths import (
    COPY_LINKED,
    MADE,
    Shelf,
    holds_data,
    is_image_name,
    is_leftover,
    linked_folders,
    relative,
)
from handful.data.suspects import Suspects, report_unread
from handful.data.writing import Writer
from handful.errors import DataError
from handful.files import sha256
from handful.image import list_images
from handful.pick import unknown
from handful.types import Category, Dataset, Sample
from handful.words import counted

PRECEDENCE = 90
TITLE = "A folder a class"
TREE = """\
mug/a.jpg
plate/b.jpg
train/mug/a.jpg                    or in folders that are splits
mug/train/a.jpg
"""
UNLABELED = frozenset(("unlabeled", "unlabelled", "unannotated", "unsorted"))  # no thing is called so
ABOUT = re.compile(r"(?i)(readme|licen[cs]e|copying|notice|attribution|dataset)\b.*|.*\.md$")


def detect(folder: Path) -> bool:
    """Whether images lie in folders that can be their classes."""
    folder = Path(folder)
    if not folder.is_dir():
        return False
    below = _folders(folder)
    if any(_has_images(p) for p in below):
        return True
    if any(p.name.lower() in SPLITS | HOLDERS and any(map(_has_images, _folders(p))) for p in below):
        return True
    return sum(any(map(_has_images, _folders(p))) for p in below) > 1  # read as one, or refused as one


def _folders(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir()
        if p.is_dir() and not p.is_symlink() and not p.name.startswith(".") and p.name != "__MACOSX"
    )  # fmt: skip


def _has_images(folder: Path) -> bool:
    return any(is_image_name(p.name) and not p.name.startswith(".") for p in folder.iterdir())


def read(
    folder: Path, *, on_finding: OnFinding = stop, classes: Sequence[str] | None = None, flat: bool = False
) -> Dataset:
    """The images below a folder with their class, sorted by split, class and name. No image is opened.

    flat: the images lie directly in the folder, one a class, and each file's name is its class. classes: keep only
    these. Images in a lone folder called images, and images beside class folders, are of no class (label None).
    Raises DataError, naming the file, when there is no class at all; UnknownName for a class that is not there.
    """
    folder = Path(folder)
    loose, _ = list_images(folder)  # says what is wrong when it is no folder
    below = _folders(folder)
    if not flat and len(below) == 1 and below[0].name.lower() in HOLDERS and not loose:
        return _of(below[0], folder, on_finding, classes, flat, holder=True)
    if not flat and not loose and not detect(folder):
        inside = [p for p in below if detect(p)]
        if len(inside) == 1:  # data/cup/0.jpg, given what data lies in
            return read(inside[0], on_finding=on_finding, classes=classes)
    return _of(folder, folder, on_finding, classes, flat)


def _of(
    place: Path, root: Path, on_finding: OnFinding, classes: Sequence[str] | None, flat: bool, holder: bool = False
) -> Dataset:
    shelf = Shelf(place, root)
    own = {name for name, why in shelf.passed.items() if why == MADE}
    masks = _masks_among(shelf, on_finding)
    images = sorted(set(shelf.images) - masks)
    if not flat:
        class_folders.clear(place, images)
    swapped = not flat and class_folders.are_splits_inside(images)  # CLASS/SPLIT
    parts = {PurePosixPath(name).parts[0] for name in images if "/" in name}
    splits = bool(parts) and not flat and all(p.lower() in SPLITS for p in parts)
    rows: list[tuple[str | None, str | None, str]] = []  # split, class, name inside the split
    where: dict[tuple[str | None, str], str] = {}  # split and name -> path
    deep = [PurePosixPath(name).parts[splits:] for name in images]
    # beside other folders they are classes like those: photos and drawings, Images and Text; `write` makes `images`
    aside: list[str] = []
    unlabeled: list[str] = []
    only_holders = all(parts[0].lower() in HOLDERS for parts in deep if len(parts) > 1)
    for name in images:
        path = PurePosixPath(name)
        if swapped and len(path.parts) > 1:
            path = PurePosixPath(path.parts[1], path.parts[0], *path.parts[2:])
        split = path.parts[0] if (splits or swapped) and len(path.parts) > 1 else None
        inside = path.relative_to(split) if split else path
        label = path.stem if flat else inside.parts[0] if len(inside.parts) > 1 else None
        at = str(inside)
        if not flat and label is not None and label.lower() in HOLDERS and (only_holders or label == "images"):
            short = str(inside.relative_to(label))
            aside += [name] * (not only_holders)
            label, at = None, at if (split, short) in where else short
        if not flat and label is not None and label.lower() in UNLABELED:
            unlabeled.append(name)
            label = None
        rows.append((split, label, at))
        where[split, at] = name
    found = sorted({label for _, label, _ in rows if label is not None})
    _linked(place, root, on_finding)
    if not rows:
        drawn = ", but what handful drew or made itself" if own else ""
        raise DataError(f"{place} has no images in or below it{drawn}; wanted CLASS/PHOTO.jpg")
    if not found and not holder and not any("/" in name for name in images):
        do = "move them into a folder for each class"
        do += ", or use --flat where each file's name is its class" if running.has("--flat") else ""
        raise DataError(
            f"{place} has no class folders in it ({counted(len(rows), 'loose image')}); wanted CLASS/PHOTO.jpg; {do}"
        )
    if aside:
        detail = ("lie in images/, where images of no class are, beside class folders; if it is a class too, "
                  "rename it to Images/")  # fmt: skip
        on_finding(Finding("unlabeled_image", ".", aside[:20], len(aside), detail))
    if unlabeled and found:
        detail = f"lie in {PurePosixPath(unlabeled[0]).parent}/, which is read as images of no class, as its name says"
        on_finding(Finding("unlabeled_image", ".", unlabeled[:20], len(unlabeled), detail))
    _twins(place, root, found, on_finding)
    maps = class_maps.find(root) if class_maps.are_numbers(found) else {}
    suspects = _labels_among(shelf, maps, on_finding) | set(maps)
    held = {part for name in masks | suspects for part in PurePosixPath(name).parts[:-1]}
    held |= {part for name in unlabeled for part in PurePosixPath(name).parts[:-1]}
    held |= {part for name in own for part in PurePosixPath(name).parts[: None if name.endswith("/") else -1]}
    _empty(place, parts if splits else None, {*found, *held}, on_finding)
    called = class_maps.names_for(found, root, maps, on_finding)
    if called:
        rows = [(split, None if label is None else called[label], at) for split, label, at in rows]
        found = sorted(called.values())
    if shelf.others:
        broken = [name for name in shelf.others if is_leftover(name)]
        for name in broken:
            on_finding(Finding("leftover_file", name, detail="is what a broken copy or download leaves behind"))
        others = sorted(n for n in set(shelf.others) - set(broken) - suspects if not ABOUT.match(PurePosixPath(n).name))
        if others:
            few = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            detail = f"{counted(len(others), 'file')} passed over, since not an image ({few})"
            files = tuple(place / name for name in others)
            on_finding(Finding("not_an_image", ".", others[:20], len(others), detail, files))
    if classes is not None:
        for name in classes:
            if name not in found:
                raise unknown("class", name, found)
        rows = [row for row in rows if row[1] in set(classes)]
        found = sorted(set(classes))

    def samples() -> Iterator[Sample]:
        for split, label, name in rows:
            at = where[split, name]
            if own_files.is_drawn(str(place), at):  # one among photographs, which walk does not open
                detail = "is a picture that handful drew, and is passed over"
                on_finding(Finding("not_an_image", at, detail=detail))
            elif shelf.inside(at, on_finding):
                yield Sample(place / at, label=label, name=name, split=split)

    return Dataset("folder", root, tuple(Category(i, name) for i, name in enumerate(found)), samples, len(rows))


def _labels_among(shelf: Shelf, maps: Collection[str], on_finding: OnFinding) -> set[str]:
    """What looks like labels or masks beside folders that are taken for classes, told: it would be lost in silence."""
    suspects = Suspects(shelf.folder, shelf.images)
    found = {name: why for name in shelf.others if name not in maps and (why := suspects.why(name)) is not None}
    report_unread(shelf.folder, found, on_finding)
    return set(found)


def _masks_among(shelf: Shelf, on_finding: OnFinding) -> set[str]:
    """What looks like masks beside photographs, told: it is learned neither as a photograph nor as a class."""
    every: set[str] = set()
    for pairs in pairing.find(shelf.folder, shelf.images):
        masks = {mask: "looks like the mask of an image" for several in pairs.masks.values() for mask in several}
        if running.has("--masks-in"):
            do = f"to read them: {pairing.how_to_read(shelf.folder, pairs.title)}"
        else:  # a copy with the masks read would hold no classes of images, which this verb wants
            do = "masks say no class of an image; move them away to go on with the photographs alone"
        report_unread(shelf.folder, masks, on_finding, do)
        every |= set(masks)
    if not every:
        for at, names in class_folders.masks_without_photos(shelf.folder, shelf.images).items():
            why = f"looks like a mask, so {at} is no class, and its name is that of no one photo"
            do = f"move {at}/ away to read the classes alone, or give each mask its photo's name"
            report_unread(shelf.folder, dict.fromkeys(names, why), on_finding, do)
            every.update(names)
    if not every:
        for at, partners in class_folders.masks_by_name(shelf.folder, shelf.images).items():
            why = f"looks like a mask of the photo of its name, so {at} is no class"
            do = class_folders.how_to_pair(shelf.folder, at, partners)
            do += f"; move {at}/ away to read the classes alone, or, if it is one, give its images names of their own"
            report_unread(shelf.folder, dict.fromkeys(partners, why), on_finding, do.removeprefix("; "))
            every.update(partners)
    return every


def _linked(place: Path, root: Path, on_finding: OnFinding) -> None:
    """Folders that are links, whose images are not read: a class would be lost in silence."""
    for name, to in linked_folders(place):
        if holds_data(to):
            detail = f"is a link to {to}, which is not followed, so that its images are not read; {COPY_LINKED}"
            on_finding(Finding("linked_folder", relative(place / name, root), to, detail=detail))


def _twins(place: Path, root: Path, found: Sequence[str], on_finding: OnFinding) -> None:
    twins = defaultdict(list)
    for name in found:
        twins[spelled_alike(name)].append(name)
    for group in twins.values():
        if len(group) > 1:
            detail = f"has {counted(len(group), 'class')} of one name in different spelling: {', '.join(group)}"
            on_finding(Finding("category_twins", str(place), group, len(group), detail))


def _empty(place: Path, splits: set[str] | None, found: Collection[str], on_finding: OnFinding) -> None:
    parents = [place / split for split in sorted(splits)] if splits else [place]
    names = {p.name for parent in parents for p in _folders(parent)}
    for name in sorted(names - set(found) - {p for p in names if p.lower() in HOLDERS}):
        on_finding(Finding("empty_class_folder", name, name, detail="has no images in it"))


def write(dataset: Dataset, writer: Writer) -> None:
    """Write SPLIT/CLASS/PHOTO, or CLASS/PHOTO without splits; images of no class go to a folder called images.

    Raises DataError for a class name that cannot be a folder's.
    """
    for sample in dataset:
        name = sample.name
        if sample.label is not None:
            if "/" in sample.label or sample.label.startswith("."):
                raise DataError(f"the class {sample.label!r} cannot be a folder's name; rename it")
            parts = PurePosixPath(name).parts
            name = name if parts[0] == sample.label and len(parts) > 1 else f"{sample.label}/{name}"
        else:
            name = f"images/{name}"
        writer.image(sample, f"{sample.split}/{name}" if sample.split else name)


def digest(samples: Sequence[Sample]) -> str:
    """One SHA-256 over the labels and bytes of all images, whatever their order and names."""
    lines = sorted(f"{sample.label}\0{sha256(sample.path)}" for sample in samples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()
