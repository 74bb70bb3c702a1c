"""Which files of a folder are COCO's, and what their names say: of which split they are, and of which task."""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from handful.data.coco_images import LABEL_FOLDERS
from handful.data.finding import Finding, OnFinding
from handful.data.paths import relative, split_kind
from handful.data.reading import is_pointer

OTHER_TASKS = ("captions", "person_keypoints", "image_info", "densepose")  # they list the same images once more
_NAME = re.compile(
    r"^(?P<kind>instances|panoptic|stuff|person_keypoints|_?annotations?(\.coco)?)?[_-]?(?P<split>.*?)"
    r"([_.-](annotations?|instances|coco|labels?))*$"
)
_GENERAL = frozenset(("", "default", "result", "results", "labels", "label", "coco", "dataset", "data", "annotation",
                      "annotations", "instances", "output", "export", "all"))  # fmt: skip
_LISTS = {key: re.compile(rb'"%s"\s*:\s*\[' % key) for key in (b"images", b"annotations", b"categories")}
_SNIFF_BYTES, _MOST_FILES = 1 << 16, 200  # a folder of more JSON files than that has one an image


def files_in(folder: Path) -> list[Path]:
    """The COCO files of a folder, or the file itself: in it, in annotations/ or labels/, or in each split's folder."""
    if folder.is_file():
        return [folder] if folder.suffix.lower() == ".json" and looks_like(folder) else []
    return [p for p in _all(folder) if not (_of_other_task(p) and _is_doubled(p, folder))]


def _all(folder: Path) -> list[Path]:
    found = [*_json_in(folder), *folder.glob("*/_annotations.coco.json")]
    if folder.is_dir():
        places = [p for p in folder.iterdir() if p.is_dir() and (p.name.lower() in LABEL_FOLDERS or split_kind(p.name))]
        for place in sorted(places):
            found += _json_in(place)
            if place.name.lower() not in LABEL_FOLDERS:
                found += itertools.chain.from_iterable(_json_in(place / name) for name in sorted(LABEL_FOLDERS))
    order = {p: None for p in found if not p.name.startswith(".") and not p.name.startswith("captions")}
    return [p for p in order if p.name.startswith(("instances", "panoptic")) or looks_like(p)]


def _json_in(place: Path) -> Iterable[Path]:
    found = sorted(place.glob("*.json")) if place.is_dir() else []
    return found if len(found) <= _MOST_FILES else [p for p in found if p.stem.startswith(("instances", "panoptic"))]


def _of_other_task(file: Path) -> bool:
    return file.name.startswith(OTHER_TASKS)


def _is_doubled(file: Path, folder: Path) -> bool:
    """Whether a file of keypoints stands beside one of instances for the same split."""
    split = split_of(file, folder)[1]
    return any(split_of(p, folder)[1] == split for p in _all(folder) if not _of_other_task(p))


def tell_others(folder: Path, on_finding: OnFinding) -> None:
    """Tell the files of other tasks that are not read."""
    used = set(files_in(folder))
    for file in _others(folder):
        if file not in used:
            detail = "holds labels of another task (captions, keypoints), which are not read"
            on_finding(Finding("other_task", relative(file, folder), detail=detail))


def _others(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "annotations"):
        yield from (p for p in _json_in(place) if p.name.startswith(OTHER_TASKS))


def looks_like(file: Path) -> bool:
    """From the file's ends: "images" and "annotations" or "categories" are lists at the top of it.

    So does, in annotations/, an empty file, or one that Git LFS has not fetched: it is told when it is read.
    """
    try:
        with open(file, "rb") as opened:
            start = opened.read(_SNIFF_BYTES)
            opened.seek(max(0, file.stat().st_size - _SNIFF_BYTES))
            text = start + opened.read(_SNIFF_BYTES)
    except OSError:
        return False
    if not text.strip() or is_pointer(start):
        return file.parent.name.lower() == "annotations" or file.name.startswith(("instances", "_annotations"))
    found = [key for key, list_ in _LISTS.items() if list_.search(text)]
    if found == [b"images"] and file.stat().st_size > 2 * _SNIFF_BYTES:  # no categories, and a long list of images
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return _LISTS[b"annotations"].search(whole) is not None
    return len(found) >= 2


def split_of(file: Path, root: Path) -> tuple[str, str | None]:
    """("instances" or "panoptic", split) from a file's name, or from its folder's where each split has its own."""
    match = _NAME.match(file.stem)
    kind = "panoptic" if match and match["kind"] == "panoptic" else "instances"
    split = (match["split"] if match else file.stem) or None
    if split is None or split.lower() in _GENERAL:
        split = None
        place = file.parent.parent if file.parent.name in LABEL_FOLDERS and file.parent != root else file.parent
        if place != root and root in place.parents:
            split = place.name
    return kind, split
