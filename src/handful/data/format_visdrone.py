"""VisDrone: images from drones, a text file of eight numbers a line for each, in annotations/ beside images/.

https://github.com/VisDrone/VisDrone2018-DET-toolkit: left, top, width, height, 1 (0: not counted), class, truncation,
occlusion. The classes have VisDrone's names where the images have its names (0000001_02999_d_0000005.jpg), those of
classes.txt where it is there, else their numbers. Regions that are not counted are crowds, for they may hold anything.
Clips (ten numbers a line, one file a clip) are refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from handful.data import sniff
from handful.data.coco_rows import categories_of
from handful.data.finding import OnFinding, stop
from handful.data.json_labels import number
from handful.data.listed import assembled, classes_in, root_of, silent
from handful.data.marks import Mark, sides
from handful.data.paths import Shelf
from handful.data.reading import label_text
from handful.data.text_folders import TextFiles, rows_of
from handful.errors import DataError
from handful.types import Dataset

TITLE = "VisDrone (detection)"
TREE = """\
VisDrone2019-DET-train/
  images/0000002_00005_d_0000014.jpg
  annotations/0000002_00005_d_0000014.txt   684,8,273,116,1,4,0,0
"""
PRECEDENCE = 38
MARKS = True
NAMES = ("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle",
         "bus", "motor", "others")  # fmt: skip
_IMAGE = re.compile(r"\d{7}_\d{5}_d_\d{7}")
_LINE = re.compile(rb"^[ \t]{0,9}(-?\d{1,9},){4}[01],\d{1,2},-?\d,-?\d,?[ \t\r]*$", re.MULTILINE)
_CLIP = re.compile(
    rb"^[ \t]{0,9}(\d{1,9},){2}(-?\d{1,9},){2}(\d{1,9},){2}[01],\d{1,2},-?\d,-?\d,?[ \t\r]*$", re.MULTILINE
)


def _is_it(data: bytes) -> bool:
    return _LINE.match(data) is not None or _CLIP.match(data) is not None


def _wanted(folder: str) -> bool:
    return folder.lower() in ("annotations", "labels")


_FILES = TextFiles(_is_it, _wanted)


def detect(folder: Path) -> bool:
    """Whether text files of VisDrone's lie below the folder."""
    return _FILES.there(Path(folder))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such text file below a folder; the images' headers are read for their sizes.

    Raises DataError when there is none, and for clips.
    """
    root = root_of(Path(folder))
    found = list(_FILES.below(root))
    clips = [name for name in found if _CLIP.search(sniff.ends(root / name))]
    if clips:
        why = "has the labels of a clip of VisDrone's, ten numbers a line, which are not read"
        raise DataError(f"{root / clips[0]} {why}; convert them to COCO with an entry for each frame")
    if not found:
        raise DataError(f"{folder} has no text file of VisDrone's in it; wanted annotations/ with eight numbers a line")
    places = {posixpath.dirname(name) for name in found}
    shelf = Shelf(root, root)
    names = [name for name in shelf.others if name.lower().endswith(".txt") and posixpath.dirname(name) in places]
    called = _names(shelf, names, on_finding)
    rows = list(rows_of(names, shelf, _image, _marks(called)))
    used = frozenset[str]().union(*(classes_in(row.said(silent)) for row in rows))
    if called is None:
        return assembled("visdrone", shelf, rows, on_finding, lists=False)
    odd = sorted(used - set(called))
    table = [{"id": i, "name": name} for i, name in enumerate((*called, *odd))]
    return assembled("visdrone", shelf, rows, on_finding, lists=False,
                     categories=categories_of(table, on_finding, file="annotations"))  # fmt: skip


def _names(shelf: Shelf, files: Sequence[str], on_finding: OnFinding) -> tuple[str, ...] | None:
    lists = [name for name in shelf.others if posixpath.basename(name) in ("classes.txt", "labels.txt")]
    if lists and shelf.inside(lists[0], on_finding):
        text = label_text(shelf.folder / lists[0], shelf.root, on_finding)
        return None if text is None else tuple(line.strip() for line in text.strip().split("\n"))
    own = all(_IMAGE.fullmatch(posixpath.splitext(posixpath.basename(name))[0]) for name in files)
    return NAMES if own else None


def _image(name: str) -> str:
    folder, file = posixpath.split(name)
    return posixpath.join(posixpath.dirname(folder), "images", posixpath.splitext(file)[0])


def _marks(called: tuple[str, ...] | None) -> Callable[[str, int], Mark]:
    def mark(line: str, i: int) -> Mark:
        words = line.rstrip(",").split(",")
        numbers = [number(word.strip()) for word in words]
        if len(words) != 8 or None in numbers:
            detail = f"is {line[:60]!r}; wanted left,top,width,height,score,class,truncation,occlusion"
            return Mark(None, f"line {i}", fault=("broken_label", i, detail))
        key = words[5].strip()
        name = called[int(key)] if called is not None and key.isdigit() and int(key[:6]) < len(called) else key
        said = {"truncated": numbers[6], "occluded": numbers[7]}
        about = {what: int(v) for what, v in said.items() if v is not None and v > 0 and v < 100}
        return Mark(name, f"line {i}", sides(*words[:4]), crowd=numbers[4] == 0, attributes=about)

    return mark
