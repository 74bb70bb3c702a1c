"""Which images a COCO file speaks of, decided once for the whole file: from all names in it and all images there are.

A name is never looked for alone: two splits often have the same names, and the first folder where one fits may be the
other split's. What fits several folders equally well is told and not read.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from handful import running
from handful.data.coco_index import Index
from handful.data.coco_rows import size_of, written_name
from handful.data.finding import Finding, OnFinding
from handful.data.label_tree import header
from handful.data.paths import (
    COPY_LINKED,
    Tails,
    folded,
    is_from_elsewhere,
    is_image_name,
    linked_folders,
    name_parts,
    relative,
    split_kind,
    walk,
)
from handful.words import counted, shell

USUAL = frozenset(("", "images", "image", "imgs", "img", "data", "photos", "pictures", "jpegimages", "rgb"))
LABEL_FOLDERS = frozenset(("annotations", "annotation", "annots", "anns", "ann", "labels", "label", "json"))
_DRAWN = frozenset(("mask", "masks", "segmentation", "seg", "segs", "gt", "groundtruth", "panoptic", "semantic",
                    "depth", "annotation", "annotations", "labels", "overlay", "overlays", "visualization", "thumbs",
                    "thumbnails"))  # fmt: skip
_WORD = re.compile(r"[a-z]+")
_PLAIN = re.compile(r"[\w-][\w. -]*(/[\w-][\w. -]*)*", re.ASCII)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of a file that is uploaded
_SAMPLE, _RIVALS, _SIZES = 64, 24, 8


def _pass(finding: Finding) -> None:
    """For a look at rows that are told when they are read."""


@dataclass
class Bound:
    """The images of one file. place: the folder their names are relative to. names: name as written -> image.

    sure: whether the place was found, so that images there which no file lists are ones nobody labeled.
    """

    place: Path
    names: dict[str, str] = field(default_factory=dict)
    sure: bool = False


class Tree:
    """Every image below a folder, listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = list(walk(root))
        self.images = [name for name in self.files if is_image_name(name)]
        self.exact = frozenset(self.images)

    @cached_property
    def links(self) -> list[tuple[str, str]]:
        """Folders that are links out of the data set, and where they lead."""
        real = os.path.realpath(self.root) + os.sep
        return [(name, to) for name, to in linked_folders(self.root) if not f"{to}{os.sep}".startswith(real)]

    @cached_property
    def tails(self) -> Tails:
        """The images by their last parts."""
        return Tails(self.images)

    @cached_property
    def spelled(self) -> dict[str, str]:
        """Each image by its name, letters in any case."""
        return {folded(name): name for name in self.images}

    def in_folder(self, folder: str, parts: Sequence[str]) -> str | None:
        """The image with this path inside a folder, letters in any case."""
        name = "/".join((folder, *parts) if folder else parts)
        return name if name in self.exact else self.spelled.get(folded(name))

    def below(self, folder: str) -> list[str]:
        """The files below a folder, relative to it."""
        return [n[len(folder) + 1 :] for n in self.files if n.startswith(f"{folder}/")] if folder else self.files


def bind(
    parts: Sequence[Index], root: Path, images: Path | None, on_finding: OnFinding
) -> tuple[dict[Path, Bound], Tree]:
    """{label file: its images} and the images there are. images: where they lie, if somebody said so.

    Told are names without an image, names that fit several, and labels of one split that only fit another's images.
    """
    tree = Tree(images if images is not None else root)
    found: dict[Path, Bound] = {}
    folders: dict[str, list[Index]] = {}
    for part in parts:
        names = _Names(part, tree)
        folder = _folder(names, tree, root, on_finding)
        found[part.file] = Bound(tree.root)
        if folder is not None:
            folders.setdefault(folder, []).append(part)
            found[part.file] = names.bound(folder, root, on_finding)
    for folder, those in folders.items() if images is None else ():
        _unmix(folder, those, found, root, on_finding)
    return found, tree


class _Names:
    """The names in one label file, as parts. strip: how many of their first folders are not there."""

    def __init__(self, part: Index, tree: Tree) -> None:
        self.part, self.tree = part, tree
        self.sizes: dict[str, tuple[int, int] | None] = {}
        written: dict[str, None] = {}
        self.unnamed = 0
        for row in part.rows(_pass, tree.root):
            name = written_name(row)
            if isinstance(name, str):
                written[name] = None
                if len(self.sizes) < _SIZES:
                    self.sizes[name] = size_of(row)
            else:
                self.unnamed += 1
        self.written = list(written)
        self.elsewhere: set[str] = set()
        self.parts = {name: parts for name in self.written if (parts := self._parts(name))}
        self.strip = 0

    def _parts(self, name: str) -> list[str]:
        if _PLAIN.fullmatch(name) and not _UPLOADED.match(name.rpartition("/")[2]):  # as nearly all are
            return name.split("/")
        parts = name_parts(name)
        if is_from_elsewhere(name):
            self.elsewhere.add(name)
        if parts and not self.tree.tails.ending(parts[-1:]):
            for other in (name_parts(unquote(name)), [*parts[:-1], _UPLOADED.sub("", parts[-1])]):
                if other and other != parts and self.tree.tails.ending(other[-1:]):
                    return other
        return parts

    def shared(self) -> int:
        """How many first folders all names have in common."""
        folders = [parts[:-1] for parts in self.parts.values()]
        low, high = min(folders, default=[]), max(folders, default=[])
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))

    def candidates(self, strip: int) -> dict[str, int]:
        """The folders that hold these names without their first folders, and how many of them."""
        values = list(self.parts.values())
        votes: Counter[str] = Counter()
        for parts in values[:: max(1, len(values) // _SAMPLE)]:
            tail = parts[strip:]
            for image in self.tree.tails.ending(tail):
                votes["/".join(image.split("/")[: -len(tail)])] += 1
        return {folder: sum(self.tree.in_folder(folder, parts[strip:]) is not None for parts in values)
                for folder, _ in votes.most_common(_RIVALS)}  # fmt: skip

    def bound(self, folder: str, root: Path, on_finding: OnFinding) -> Bound:
        """The images by their written names; what is not in the folder is looked for in all, and told."""
        tree, file = self.tree, relative(self.part.file, root)
        kind = split_kind(self.part.split or "")
        at: dict[str, str] = {}
        strays: dict[str, str] = {}
        for written, parts in self.parts.items():
            name = tree.in_folder(folder, parts[self.strip :])
            if name is not None:
                at[written] = name
            else:
                others = [n for n in tree.tails.ending(parts[self.strip :]) if _may_be(n, kind) and not _drawn(n)]
                if len(others) == 1:
                    strays[written] = others[0]
        absent = [name for name in self.parts if name not in at and name not in strays]
        if strays and len(strays) >= len(absent):  # the file speaks of several folders at once
            at |= strays
        else:
            absent += list(strays)
        place = self._place(folder, at.values())
        self._tell(at, absent, place, file, on_finding)
        start = len(place) + 1 if place else 0
        return Bound(tree.root / place, {written: name[start:] for written, name in at.items()}, True)

    def _place(self, folder: str, images: Iterable[str]) -> str:
        """The folder that names are relative to: the one found, or the images/ or split that all names begin with."""
        first = next(iter(self.parts.values()), [])[self.strip :]
        if self.shared() > self.strip and len(first) > 1:
            inside = f"{folder}/{first[0]}".lstrip("/")
            split = split_kind(self.part.split or "")
            if first[0].lower() in USUAL or first[0] == self.part.split or (split and split_kind(first[0]) == split):
                folder = inside
        folders = {n.rpartition("/")[0] for n in images} | {folder}
        return "" if "" in folders else os.path.commonpath(folders)

    def _tell(self, at: dict[str, str], absent: list[str], place: str, file: str, on_finding: OnFinding) -> None:
        _tell_nameless(self, file, on_finding)
        other_case = [n for n, image in at.items() if not image.endswith("/".join(self.parts[n][self.strip :]))]
        if other_case:
            own = "/".join(self.parts[other_case[0]])
            detail = f"says {own}, the file is {at[other_case[0]]}" + _and_more(other_case)
            on_finding(Finding("wrong_case_name", file, own, len(other_case), detail))
        moved = [n for n in at if self.strip or n in self.elsewhere]
        if moved:
            detail = f"names its images by paths of another machine ({moved[0]!r} is {at[moved[0]]})"
            on_finding(Finding("moved_name", file, moved[0][:200], len(moved), detail + _and_more(moved)))
        unsafe = [name for name in absent if name in self.elsewhere]
        gone = ["/".join(self.parts[name]) for name in absent if name not in self.elsewhere]
        if unsafe:
            detail = f"names the image {_few(unsafe)}, which is not below {self.tree.root}"
            on_finding(Finding("unsafe_path", file, unsafe[0][:200], len(unsafe), detail))
        if not gone:
            return
        where = self.tree.root / place
        if len(gone) == 1 and at:
            detail = f"{gone[0]} is not in {where}"
        elif at:
            detail = f"{len(gone)} of its {counted(len(self.parts), 'image')} are not in {where} ({_few(gone)})"
        else:
            detail = f"none of its {counted(len(gone), 'image')} is in {where} ({_few(gone)})"
            detail = (
                f"{gone[0]} is not in {where}" if len(gone) == 1 else detail
            ) + f"; where they lie elsewhere, say so: {_say(self.tree.root / file, 'FOLDER')}"
        on_finding(Finding("missing_image", file, gone[0] if len(gone) == 1 else gone[:20], len(gone), detail))


def _tell_nameless(names: _Names, file: str, on_finding: OnFinding) -> None:
    if names.unnamed:
        detail = f"lists {counted(names.unnamed, 'image')} without a file_name, so that nothing says which"
        on_finding(Finding("broken_label", file, "file_name", names.unnamed, detail))
    for written in names.written:
        if written not in names.parts:
            on_finding(Finding("unsafe_path", file, written[:200], detail=f"names the image {written[:200]!r}"))


def _few(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:200]) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _may_be(folder: str, kind: str | None) -> bool:
    """Whether a folder can be of a split: none that is called as another is."""
    own = split_kind(*folder.split("/")[:-1]) if is_image_name(folder) else split_kind(*folder.split("/"))
    return kind is None or own in (kind, None)


def _drawn(folder: str) -> bool:
    """Whether a folder is called as those of masks are; annotations/images is not."""
    names = (folder.rpartition("/")[0] if is_image_name(folder) else folder).lower().split("/")
    return names[-1] not in USUAL and any(_DRAWN & set(_WORD.findall(name)) for name in names)


def _folder(names: _Names, tree: Tree, root: Path, on_finding: OnFinding) -> str | None:
    """The folder of a file's images; "" is all; None after telling that several fit, or where a link leads."""
    part, total = names.part, len(names.parts)
    file = relative(part.file, root)
    best: tuple[int, int, dict[str, int]] = (0, 0, {})
    for strip in range(names.shared() + 1):
        found = names.candidates(strip)
        count = max(found.values(), default=0)
        if count > best[0]:
            best = count, strip, found
        if 2 * count >= total:
            break
    count, names.strip, found = best
    if not count:
        if total and tree.links:
            _tell_links(tree, root, file, on_finding)
            _tell_nameless(names, file, on_finding)
            return None
        return _usual(part, tree)
    rivals = {folder: n for folder, n in found.items() if 2 * n >= count}
    kind = split_kind(part.split or "")
    rivals = {folder: n for folder, n in rivals.items() if _may_be(folder, kind)} or rivals
    rivals = {folder: n for folder, n in rivals.items() if not _drawn(folder)}
    if not rivals:  # there are masks with these names, and no images
        return _usual(part, tree)
    ranks = {folder: _rank(folder, part, tree.root) for folder in rivals}
    top = max(ranks.values())
    first = [folder for folder in rivals if ranks[folder] == top]
    if len(first) > 1:
        first = _of_size(first, names) or first
    most = [folder for folder in first if rivals[folder] == max(rivals[f] for f in first)]
    if len(most) > 1:
        places = [str(relative(tree.root / folder, root)) for folder in sorted(most)]
        detail = f"has {counted(total, 'image')} that may be those of {' or '.join(places)}; nothing is guessed: "
        detail += "name the file and say which are its images, as in " + _say(part.file, tree.root / most[0])
        on_finding(Finding("ambiguous_image", file, places, total, detail))
        return None
    return most[0]


def _usual(part: Index, tree: Tree) -> str:
    """Where the images of a file lie that names none of those there are: the first usual place that is a folder."""
    split = part.split or ""
    base = relative(part.file.parent, tree.root)
    base = "" if base == "." or os.path.isabs(base) else base
    places = [f"images/{split}", split, "images", f"{split}2017", f"{base}/images", f"{base}/{split}", base]
    found = (place.strip("/") for place in places)
    return next((place for place in found if place and (tree.root / place).is_dir()), "")


def _say(file: Path, images: object) -> str:
    """How to say that a folder holds the images of a file: `FILE.json --images FOLDER`."""
    how = running.reading(f"--images {shell(images) if images != 'FOLDER' else images}", file, "coco")
    return f"{shell(file)} {how}" if how.startswith("--") else how


def _tell_links(tree: Tree, root: Path, file: str, on_finding: OnFinding) -> None:
    for name, to in tree.links:
        detail = f"is a link to {to}, outside the data set, so that the images {file} names there are not read; say "
        detail += f"that those are meant: {_say(root / file, to)}; or {COPY_LINKED}"
        on_finding(Finding("linked_folder", name, to, detail=detail))


def _rank(folder: str, part: Index, root: Path) -> tuple[bool, bool, bool]:
    """How well a folder is placed: near the label file, called as its split, called as folders of images are."""
    base = part.file.parent
    base = base.parent if base.name.lower() in LABEL_FOLDERS and base != root else base
    near = relative(base, root)
    near = "" if near in (".", str(base)) else near
    own = bool(near) and (folder == near or folder.startswith(f"{near}/"))
    kind = split_kind(part.split or "")
    names = folder.split("/")
    split = bool(part.split) and (part.split in names or (kind is not None and split_kind(*names) == kind))
    inside = folder[len(near) :].strip("/") if own else folder
    rest = [name for name in inside.split("/") if name != part.split and split_kind(name) is None]
    return own, split, all(name.lower() in USUAL for name in rest)


def _of_size(folders: Iterable[str], names: _Names) -> list[str]:
    """The folders whose images have the size that the file gives the first of them."""
    fine = []
    for folder in folders:
        for written, size in names.sizes.items():
            image = names.tree.in_folder(folder, names.parts.get(written, ["\0"])[names.strip :])
            said = header(names.tree.root / image) if image is not None and size is not None else None
            if said is not None and size not in (said[1], said[1][::-1]):
                break
        else:
            fine.append(folder)
    return fine


def _unmix(folder: str, parts: Sequence[Index], found: dict[Path, Bound], root: Path, on_finding: OnFinding) -> None:
    """Labels of one split that only fit the images of another are not read: those of their own split are not there.

    Unless the other's labels lie there too and name other images: then the folder is one of both.
    """
    kind = split_kind(*folder.split("/"))
    own = [p for p in parts if kind is not None and split_kind(p.split or "") == kind]
    for part in parts:
        other = split_kind(part.split or "")
        if None in (kind, other) or other == kind:
            continue
        names = found[part.file].names
        shared = [n for n in names if any(n in found[p.file].names for p in own)] if own else list(names)
        if shared:
            file, place = relative(part.file, root), found[part.file].place
            detail = f"names images that are only in {relative(place, root)}"
            detail += f", as {relative(own[0].file, root)} does ({_few(shared)})" if own else f" ({_few(shared)})"
            detail += (
                f", so the images of {part.split} are not there; put them into a folder called {part.split}, or say "
            )
            detail += f"that those are meant: {_say(part.file, place)}"
            on_finding(Finding("ambiguous_image", file, shared[:20], len(shared), detail))
            found[part.file] = Bound(found[part.file].place)
