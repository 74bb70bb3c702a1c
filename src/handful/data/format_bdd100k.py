"""BDD100K and Scalabel: one JSON file of frames (det_train.json, {"frames": [...]}), or one file an image.

https://doc.bdd100k.com/format.html. box2d are boxes; poly2d that are closed outlines,
curved where their types say C; rle pixels; lanes and other lines are told (unheld_mark). Attributes are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import sniff
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import LARGE, json_value, number, size_of
from handful.data.listed import Row, assembled, root_of
from handful.data.marks import Mark, Said, unheld
from handful.data.paths import Shelf
from handful.errors import DataError
from handful.types import Dataset
from handful.words import counted

TITLE = "BDD100K and Scalabel JSON"
TREE = """\
images/100k/train/a.jpg
labels/det_20/det_train.json   [{"name": "a.jpg", "attributes": {"weather": "clear"}, "labels": [
                                 {"id": "1", "category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 50, "y2": 60}}]}]
"""
PRECEDENCE = 38
MARKS = True
_LABELS = re.compile(rb'"(labels|objects)"\s*:\s*(\[|null)')
_SHAPES = re.compile(rb'"(box2d|poly2d|manualShape|videoName|timestamp)"\s*:')
_NAME = re.compile(rb'"name"\s*:\s*"')
_STEPS = 8  # points of a curve
_OWN = frozenset(("id", "category", "box2d", "poly2d", "rle", "attributes", "manualShape", "manualAttributes", "box3d",
                  "graph"))  # fmt: skip


def _is_it(data: bytes) -> bool:
    return all(pattern.search(data) is not None for pattern in (_LABELS, _SHAPES, _NAME))


def detect(folder: Path) -> bool:
    """Whether JSON of BDD100K's lies below the folder, or it is such a file."""
    return sniff.is_there(folder, ".json", is_it=_is_it)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such JSON file below a folder; headers are read for sizes that are not given.

    Raises DataError when there is none.
    """
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = sniff.all_of(place, shelf.others, ".json", is_it=_is_it)
    if not names:
        raise DataError(f"{folder} has no JSON file of BDD100K's in it; wanted frames with labels and box2d")
    rows: list[Row] = []
    many = False
    for name in names:
        value = json_value(root / name, root, on_finding, most=LARGE) if shelf.inside(name, on_finding) else None
        many = many or isinstance(value, list) or (isinstance(value, dict) and "name" not in value)
        rows += _rows(value, name, on_finding)
    return assembled("bdd100k", shelf, rows, on_finding, lists=many)


def _rows(value: Any, file: str, on_finding: OnFinding) -> Iterator[Row]:
    if isinstance(value, dict) and "name" in value:  # one file an image: its one frame has the objects
        frames = value.get("frames")
        first = frames[0] if isinstance(frames, list) and frames and isinstance(frames[0], dict) else {}
        if isinstance(frames, list) and len(frames) > 1:
            detail = f"has {counted(len(frames), 'frame')}; only files of one image are read"
            on_finding(Finding("broken_label", file, len(frames), detail=detail))
        rows: Any = [{**value, "labels": first.get("objects", value.get("labels"))}]
    elif isinstance(value, dict):
        rows = value.get("frames")
    else:
        rows = value
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            detail = f"has the frame {str(row)[:60]!r}; wanted an object"
            on_finding(Finding("broken_label", file, str(row)[:60], detail=detail))
            continue
        yield Row(row.get("name"), file, lambda tell, row=row: _said(row, file, tell))  # type: ignore[misc]


def _said(row: Mapping[str, Any], file: str, tell: OnFinding) -> Said:
    about = row.get("size")
    size = size_of(about.get("width"), about.get("height")) if isinstance(about, dict) else None
    attributes = row.get("attributes")
    attributes = dict(attributes) if isinstance(attributes, dict) else {}
    labels = row.get("labels")
    if labels is None:
        return Said(None, size, attributes=attributes)
    what = str(row.get("name"))[:100]
    if not isinstance(labels, list):
        detail = f"has labels for {what} that are a JSON {type(labels).__name__}; wanted a list"
        tell(Finding("broken_label", file, type(labels).__name__, detail=detail))
        return Said(None, size, attributes=attributes)
    marks = [_mark(label, f"{what}, label {i}") for i, label in enumerate(labels, 1)]
    return Said(marks, size, attributes=attributes)


def _mark(row: Any, what: str) -> Mark:
    if not isinstance(row, dict):
        return Mark(None, what, fault=("broken_label", str(row)[:60], "is no JSON object"))
    label = row.get("category")
    own = row.get("attributes")
    attributes = {k: v for k, v in row.items() if k not in _OWN} | (dict(own) if isinstance(own, dict) else {})
    crowd = attributes.pop("crowd", None) is True
    kept = {k: v for k, v in attributes.items() if v not in (None, "none")}
    more: dict[str, Any] = {"attributes": kept, "crowd": crowd}
    box, parts, rle = row.get("box2d"), row.get("poly2d"), row.get("rle")
    if isinstance(rle, dict):
        return Mark(label, what, rle=rle, **more)
    if isinstance(parts, list) and parts:
        return _outline(label, what, parts, more)
    if isinstance(box, dict):
        numbers = [number(box.get(key)) for key in ("x1", "y1", "x2", "y2")]
        held = [v for v in numbers if v is not None]
        if len(held) != 4:
            said = str(box)[:60]
            return Mark(label, what, fault=("broken_label", said, f"has the box {said}; wanted x1, y1, x2, y2"))
        return Mark(label, what, held, **more)
    kind = next((k for k in ("box3d", "graph") if row.get(k) is not None), "label without a shape")
    return Mark(label, what, fault=unheld(kind))


def _outline(label: Any, what: str, parts: Sequence[Any], more: Mapping[str, Any]) -> Mark:
    if isinstance(parts[0], list):  # one file an image: [[x, y, "L"], ...]; lanes are lines
        if str(label).startswith("lane"):
            return Mark(label, what, fault=unheld("line"))
        points = [p for p in parts if isinstance(p, list) and len(p) == 3]
        parts = [{"vertices": [p[:2] for p in points], "types": "".join(str(p[2])[:1] for p in points), "closed": True}]
    polygons = []
    for part in parts:
        part = part if isinstance(part, dict) else {}
        if part.get("closed") is not True:
            return Mark(label, what, fault=unheld("line"))
        vertices = part.get("vertices")
        pairs = [p for p in vertices if isinstance(p, list) and len(p) == 2] if isinstance(vertices, list) else []
        numbers = [number(v) for pair in pairs for v in pair]
        held = [v for v in numbers if v is not None]
        if len(held) != len(numbers) or not isinstance(vertices, list) or len(pairs) != len(vertices):
            said = str(vertices)[:60]
            return Mark(label, what, fault=("broken_polygon", said, f"has an outline of {said}"))
        polygons.append(_curved(np.array(held).reshape(-1, 2), str(part.get("types") or "")))
    return Mark(label, what, polygons=polygons, **more)


def _curved(points: np.ndarray, types: str) -> np.ndarray:
    """Points with cubic curves drawn: two points of type C between two others are where a curve is drawn to."""
    if len(types) != len(points) or "C" not in types or len(points) > 10_000:
        return points
    found: list[np.ndarray] = []
    i = 0
    while i < len(points):
        found.append(points[i])
        if types[i] != "C" and types[i + 1 : i + 3] == "CC":
            a, b, c, d = points[i], points[i + 1], points[i + 2], points[(i + 3) % len(points)]
            for t in np.arange(1, _STEPS) / _STEPS:
                found.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t * t * c + t**3 * d)
            i += 2
        i += 1
    return np.array(found)
