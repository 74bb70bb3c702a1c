"""DOTA: aerial images with turned boxes, a text file an image in labelTxt/.

https://captain-whu.github.io/DOTA/dataset.html. A line has the four corners in pixels, the class, and 1 if it is
difficult; lines such as gsd:0.14 before them are passed over. Each box is kept as its outline, with the upright box
around it (turned_box).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from handful.data.finding import OnFinding, stop
from handful.data.json_labels import number
from handful.data.listed import assembled, root_of
from handful.data.marks import Mark
from handful.data.paths import Shelf
from handful.data.text_folders import TextFiles, rows_of
from handful.errors import DataError
from handful.types import Dataset

TITLE = "DOTA labelTxt (turned boxes)"
TREE = """\
train/
  images/P0001.png
  labelTxt/P0001.txt   imagesource:GoogleEarth
                       gsd:0.146343590398
                       2753 2408 2861 2385 2888 2468 2805 2502 plane 0
"""
PRECEDENCE = 37
MARKS = True
_LINE = re.compile(
    rb"^[ \t]*([-+.\deE]{1,30}[ \t]{1,9}){8}[A-Za-z][\w-]{0,60}([ \t]{1,9}[\w-]{1,60}){0,4}[ \t\r]*$", re.MULTILINE
)
_HEAD = re.compile(r"(imagesource|gsd|acquisition dates?)\s*:", re.IGNORECASE)


def _is_it(data: bytes) -> bool:
    return _LINE.search(data) is not None


def _wanted(folder: str) -> bool:
    return folder.lower().startswith("labeltxt") or folder.lower() in ("annfiles", "labels", "annotations")


_FILES = TextFiles(_is_it, _wanted)


def detect(folder: Path) -> bool:
    """Whether text files of DOTA's lie below the folder."""
    return _FILES.there(Path(folder))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such text file below a folder; the images' headers are read for their sizes.

    Raises DataError when there is none.
    """
    root = root_of(Path(folder))
    places = {posixpath.dirname(name) for name in _FILES.below(root)}
    if not places:
        raise DataError(f"{folder} has no text file of DOTA's in it; wanted labelTxt/ with x1 y1 ... x4 y4 CLASS")
    shelf = Shelf(root, root)
    names = [name for name in shelf.others if name.lower().endswith(".txt") and posixpath.dirname(name) in places]
    rows = rows_of(names, shelf, _image, _mark)
    return assembled("dota", shelf, rows, on_finding, lists=False)


def _image(name: str) -> str:
    """images/P0001 of labelTxt/P0001.txt, by its end, wherever that is."""
    folder, file = posixpath.split(name)
    while _wanted(posixpath.basename(folder)):
        folder = posixpath.dirname(folder)
    return posixpath.join(folder, "images", posixpath.splitext(file)[0])


def _mark(line: str, i: int) -> Mark | None:
    if _HEAD.match(line):
        return None
    words = line.split()
    corners = [number(word) for word in words[:8]]
    if len(words) < 9 or None in corners:
        detail = f"is {line[:60]!r}; wanted x1 y1 x2 y2 x3 y3 x4 y4 CLASS 0"
        return Mark(None, f"line {i}", fault=("broken_label", i, detail))
    last = words[-1] if len(words) > 9 and words[-1].isdigit() else None
    label = " ".join(words[8:-1] if last is not None else words[8:])
    attributes = {"difficult": int(last[:3])} if last is not None and int(last[:3]) else {}
    return Mark(label, f"line {i}", polygons=[corners], attributes=attributes, turned=True)
