"""Create ML: a JSON file of boxes by their middle, as Apple's Create ML takes it and Roboflow writes it.

https://developer.apple.com/documentation/createml/building-an-object-detector-data-source. A list of images with
their annotations, _annotations.createml.json beside the images of each split, or any other JSON file of that form.

Not held: outlines, pixels, crowds, tracks, attributes, ids, the images' sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import LARGE, json_value, number, wanted
from handful.data.listed import Row, assembled, in_split, root_of
from handful.data.marks import Mark, Said, class_text
from handful.data.paths import Shelf
from handful.data.shapes import box_of
from handful.data.writing import Writer
from handful.errors import DataError
from handful.files import to_json
from handful.types import Dataset

TITLE = "Create ML JSON"
TREE = """\
train/
  a.jpg
  _annotations.createml.json   [{"image": "a.jpg", "annotations": [{"label": "mug",
                                 "coordinates": {"x": 25.5, "y": 30.5, "width": 49, "height": 59}}]}]
"""
PRECEDENCE = 35
MARKS = True
FILE = "_annotations.createml.json"
_LIST = re.compile(rb'^\s*(\xef\xbb\xbf)?\s*\[\s*\{\s*"')
_KEYS = re.compile(rb'"(image|imagefilename|imageFilename)"\s*:\s*"')
_ROWS = re.compile(rb'"(annotations|annotation)"\s*:\s*[\["]')
_COORDINATES = re.compile(rb'"coordinates"\s*:\s*\{')


def _is_it(data: bytes) -> bool:
    top = _LIST.search(data) is not None and _KEYS.search(data) is not None and _ROWS.search(data) is not None
    empty = re.search(rb'"annotations?"\s*:\s*\[\s*\{', data) is None  # a list of empty images only
    return top and (_COORDINATES.search(data) is not None or empty)


def detect(folder: Path) -> bool:
    """Whether Create ML's JSON lies below the folder, or it is such a file."""
    return sniff.is_there(folder, ".json", is_it=_is_it)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such JSON file below a folder; the images' headers are read for their sizes.

    Raises DataError when there is none.
    """
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = sniff.all_of(place, shelf.others, ".json", is_it=_is_it)
    if not names:
        raise DataError(f'{folder} has no JSON file of Create ML\'s in it; wanted "image" and "coordinates"')
    rows: list[Row] = []
    for name in names:
        value = json_value(root / name, root, on_finding, most=LARGE) if shelf.inside(name, on_finding) else None
        rows += _rows(wanted(value, list, "images", on_finding, file=name), name, on_finding)
    return assembled("createml", shelf, rows, on_finding)


def _rows(top: list[Any], file: str, on_finding: OnFinding) -> Iterator[Row]:
    for i, row in enumerate(top, 1):
        if not isinstance(row, dict):
            detail = f"has the image {str(row)[:60]!r}; wanted an object"
            on_finding(Finding("broken_label", file, i, detail=detail))
            continue
        name = next((row[k] for k in ("image", "imagefilename", "imageFilename") if k in row), None)
        held = next((row[k] for k in ("annotations", "annotation") if k in row), None)
        yield Row(name, file, lambda tell, held=held, name=name: _said(held, name, file, tell))  # type: ignore[misc]


def _said(held: Any, name: Any, file: str, tell: OnFinding) -> Said:
    if isinstance(held, str):
        return Said(label=class_text(held))
    labels = wanted(held, list, "annotations", tell, file=file)
    marks = [_mark(row, f"{str(name)[:100]}, box {i}") for i, row in enumerate(labels, 1)]
    return Said(None if held is None else marks)


def _mark(row: Any, what: str) -> Mark:
    at = row.get("coordinates") if isinstance(row, dict) else None
    if not isinstance(at, dict):
        return Mark(None, what, fault=("broken_label", str(row)[:60], f"is {str(row)[:60]}; wanted coordinates"))
    x, y, w, h = (number(at.get(key)) for key in ("x", "y", "width", "height"))
    if x is None or y is None or w is None or h is None:
        detail = f"has the coordinates {str(at)[:100]}; wanted x, y, width, height"
        return Mark(row.get("label"), what, fault=("broken_label", str(at)[:60], detail))
    return Mark(row.get("label"), what, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))


def write(dataset: Dataset, writer: Writer) -> None:
    """Write each image into the folder of its split, and one JSON file beside them. An image nobody labeled is not
    listed.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    for sample in dataset:
        name = writer.image(sample, in_split(sample))
        rows = held.setdefault(sample.split or "", [])
        if sample.objects is None:
            continue
        boxes = [(thing.label, box) for thing in sample.objects if (box := box_of(thing)) is not None]
        rows.append({
            "image": name.removeprefix(f"{sample.split}/") if sample.split else name,
            "annotations": [{"label": label, "coordinates": _middle(box)} for label, box in boxes],
        })  # fmt: skip
    if not any(held.values()):
        raise DataError(f"{dataset.root} has no image with boxes, and Create ML's JSON holds nothing else")
    for split, rows in held.items():
        writer.text(f"{split}/{FILE}" if split else FILE, to_json(rows) + "\n")


def _middle(box: tuple[float, float, float, float]) -> dict[str, float]:
    left, top, right, bottom = map(float, box)
    return {"x": (left + right) / 2, "y": (top + bottom) / 2, "width": right - left, "height": bottom - top}
