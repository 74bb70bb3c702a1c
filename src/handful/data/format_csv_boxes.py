"""CSV files with a box a row: Roboflow's and TensorFlow's, RetinaNet's, Open Images', and others with a header.

Read are a class with xmin, ymin, xmax, ymax (x1, left, bbox_x1, ...), with x, y, w, h (the left top corner), with
x_center, y_center, or with a column bbox "[x, y, w, h]"; without a header RetinaNet's PATH,x1,y1,x2,y2,CLASS. Numbers
that are all from 0 to 1, in a list without the images' sizes, are fractions. A row without a box says that the image
is empty. Open Images' names are those of class-descriptions*.csv where it is there, and IsGroupOf marks crowds.

Not held: outlines, pixels, crowds, tracks, attributes, ids.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.data import angles, class_lists, sniff
from handful.data.class_lists import is_class_list
from handful.data.csv_columns import IMAGES, NO_CLASS, boxes_in, class_column, tell_words
from handful.data.csv_table import Table, cells, first_rows, is_number, plain, table
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import number, size_of
from handful.data.listed import Row, assembled, classes_in, in_split, root_of, silent
from handful.data.marks import Mark, Said
from handful.data.paths import Shelf, is_image_name
from handful.data.shapes import box_of
from handful.data.suspects import report_unread
from handful.data.writing import Writer, size_for_writing
from handful.errors import DataError
from handful.types import Category, Dataset

TITLE = "CSV of boxes (Roboflow, TensorFlow, RetinaNet, Open Images)"
TREE = """\
train/
  a.jpg
  b.jpg
  _annotations.csv   filename,width,height,class,xmin,ymin,xmax,ymax
                     a.jpg,160,120,mug,1,1,50,60
"""
PRECEDENCE = 34
MARKS = True
FILE = "_annotations.csv"
HEADER = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
CLASSES = ("class", "classname", "label", "labelname", "category", "categoryname", "classid", "cls", "object", "target",
           "objectclass", "type", "name", "labels", "classes", "categoryid")  # fmt: skip
SIZES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("origwidth", "origheight"), ("imgw", "imgh"),
         ("imagew", "imageh"), ("width", "height"))  # fmt: skip
_FLAGS = {"isoccluded": "occluded", "istruncated": "truncated", "isdepiction": "depiction", "isinside": "inside"}


def _is_it(data: bytes) -> bool:
    rows = first_rows(data)
    if not rows:
        return False
    if is_image_name(rows[0][0].strip()):  # RetinaNet's, without a header
        held = [row for row in rows if len(row) == 6 and is_image_name(row[0].strip())]
        boxes = [row for row in held if all(is_number(c) for c in row[1:5]) and not is_number(row[5])]
        return len(held) == len(rows) and (bool(boxes) or all(not "".join(row[1:]).strip() for row in held))
    header = [plain(cell) for cell in rows[0]]
    box = boxes_in(header)
    return box is not None and _image_column(header, box[1]) is not None


def _image_column(header: Sequence[str], used: Sequence[str]) -> int | None:
    return next((header.index(name) for name in IMAGES if name in header and name not in used), None)


def is_answer(name: str) -> bool:
    """Whether a file is what a model answered, or a form for it: no labels."""
    return any(word in name.lower() for word in ("submission", "predict"))


def detect(folder: Path) -> bool:
    """Whether a CSV file with a box a row lies below the folder, and images do."""
    folder = Path(folder)
    if folder.is_file():
        return folder.suffix.lower() in (".csv", ".tsv") and _is_it(sniff.ends(folder))
    return sniff.likely(folder, ".csv", ".tsv", is_it=_is_it) is not None and sniff.has_images(folder)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such CSV file below a folder; the images' headers are read where no size is given.

    Raises DataError when there is none.
    """
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = [place.name] if place.is_file() else [n for n in shelf.others if n.lower().endswith((".csv", ".tsv"))]
    names = [n for n in names if not is_answer(n) and _is_it(sniff.ends(root / n))]
    if not names:
        raise DataError(f"{folder} has no CSV file of boxes in it; wanted a header such as {','.join(HEADER)}")
    called = _descriptions(shelf, on_finding)
    rows: list[Row] = []
    bare: list[str] = []  # files without classes
    for name in names:
        held = table(root / name, root, on_finding) if shelf.inside(name, on_finding) else None
        at = None if held is None else _columns(held)
        if held is None or at is None or tell_words(held, at.label, _used(at), name, on_finding):
            continue
        if angles.tell_columns(held, _used(at), at.kind, name, on_finding):
            continue
        rows += _rows(held, at, name, called)
        bare += [name] if at.label is None else []
    if bare:
        few = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
        detail = f"{NO_CLASS}; every box is of a class called 0; a column class would name them"
        on_finding(Finding("no_label_map", bare[0] if len(bare) == 1 else ".", bare[:20], len(bare), f"{few} {detail}"
                           if len(bare) > 1 else detail))  # fmt: skip
    used = frozenset[str]().union(*(classes_in(row.said(silent)) for row in rows))
    tell = _but_no_names(on_finding) if bare else on_finding
    return assembled("csv_boxes", shelf, rows, tell, categories=_listed(shelf, set(names), used, on_finding))


def _but_no_names(on_finding: OnFinding) -> OnFinding:
    """Tells all but that classes are numbers, where there is no class at all and that is told."""
    return lambda finding: None if finding.code == "no_label_map" else on_finding(finding)


def _used(at: _Columns) -> set[int]:
    return {at.image, *at.box, *(k for k in at.size if k is not None), *at.flags.values()}


def _listed(shelf: Shelf, read: Set[str], used: frozenset[str], on_finding: OnFinding) -> tuple[Category, ...] | None:
    """The classes of a list that lies there and names one that is used, as keras-retinanet's classes.csv."""
    for name in shelf.others:
        if name not in read and is_class_list(name.rpartition("/")[2]) and shelf.inside(name, on_finding):
            labels = class_lists.read(shelf.folder / name, shelf.root, silent)
            if labels is not None and used & {c.name for c in labels.categories}:
                return labels.categories
            report_unread(shelf.root, {name: "is called like a list of classes, of which none is used"}, on_finding)
    return None


def _descriptions(shelf: Shelf, on_finding: OnFinding) -> dict[str, str]:
    """Open Images' names for its codes: /m/011k07,Tortoise."""
    found: dict[str, str] = {}
    for name in shelf.others:
        if name.rpartition("/")[2].lower().startswith("class-descriptions") and name.lower().endswith(".csv"):
            held = table(shelf.folder / name, shelf.root, on_finding) if shelf.inside(name, on_finding) else None
            rows = [] if held is None else [held.titles, *held.rows]
            found |= {row[0].strip(): row[1].strip() for row in rows if len(row) > 1 and row[0].strip()}
    return found


@dataclass(frozen=True)
class _Columns:
    """Where a file has what. kind: corners, sides, centers or together."""

    kind: str
    image: int
    label: int | None
    box: list[int]
    size: list[int | None]
    crowd: int | None
    flags: dict[str, int]


def _columns(held: Table) -> _Columns | None:
    if not held.header:
        return _Columns("corners", 0, 5, [1, 2, 3, 4], [None, None], None, {})
    box = boxes_in(held.header)
    image = None if box is None else _image_column(held.header, box[1])
    if box is None or image is None:
        return None
    kind, columns = box
    label = class_column(held.header, held.rows, CLASSES, {image, *(held.header.index(n) for n in columns)})
    pairs = [pair for pair in SIZES if set(pair) <= set(held.header) and not set(pair) & set(columns)]
    size: list[int | None] = [held.header.index(n) for n in pairs[0]] if pairs else [None, None]
    flags = {name: held.header.index(k) for k, name in _FLAGS.items() if k in held.header}
    return _Columns(kind, image, label, [held.header.index(n) for n in columns], size, held.column("isgroupof"), flags)


def _rows(held: Table, at: _Columns, file: str, called: Mapping[str, str]) -> Iterator[Row]:
    """The images of one file, each with its rows."""
    fractions = _are_fractions(held, at)
    by_image: dict[str, list[tuple[int, list[str]]]] = {}
    for i, row in enumerate(held.rows, 2 if held.header else 1):
        by_image.setdefault(next(cells(row, [at.image])), []).append((i, row))

    def marks(rows: list[tuple[int, list[str]]], scale: tuple[int, int]) -> list[Mark]:
        found = (_mark(i, row, at, called, scale) for i, row in rows)
        return [mark for mark in found if mark is not None]

    def said_of(rows: list[tuple[int, list[str]]]) -> Callable[[OnFinding], Said]:
        size = size_of(*cells(rows[0][1], at.size))
        if fractions:
            return lambda tell: Said(size_wh=size, scaled=lambda scale: marks(rows, scale))
        return lambda tell: Said(marks(rows, (1, 1)), size)

    for name, rows in by_image.items():
        yield Row(name, file, said_of(rows))


def _mark(i: int, row: Sequence[str], at: _Columns, called: Mapping[str, str], scale: tuple[int, int]) -> Mark | None:
    """The box in a row, None where the row says that there is none."""
    values: list[Any] = list(cells(row, at.box))
    if at.kind == "together":
        values = _together(values[0])
    (text,) = cells(row, [at.label]) if at.label is not None else ("0",)
    if not any(values):
        return None if not text or at.label is None else Mark(text, f"row {i}", fault=(
            "broken_label", text[:60], f"has a class ({text[:60]}) and no box"))  # fmt: skip
    said = {name: next(cells(row, [k])) for name, k in at.flags.items()}
    flags = {name: int(value) for name, value in said.items() if value == "1"}
    crowd = at.crowd is not None and next(cells(row, [at.crowd])) == "1"
    return Mark(called.get(text, text), f"row {i}", _corners(values, at.kind, scale), crowd=crowd, attributes=flags)


def _corners(values: Sequence[Any], kind: str, scale: tuple[int, int]) -> list[Any]:
    """Left, top, right, bottom, px; five values, to be told, where they are no numbers."""
    numbers = [number(v) for v in values]
    found = [v for v in numbers if v is not None]
    if len(found) != 4:
        return [*values, "not numbers"]
    a, b, c, d = (v * scale[i % 2] for i, v in enumerate(found))
    if kind == "corners":
        return [a, b, c, d]
    return [a, b, a + c, b + d] if kind != "centers" else [a - c / 2, b - d / 2, a + c / 2, b + d / 2]


def _are_fractions(held: Table, at: _Columns) -> bool:
    """Whether all boxes are between 0 and 1, as in Open Images' lists; those that give the image's size are in px."""
    if any(column is not None for column in at.size):
        return False
    largest, some = 0.0, False
    for row in held.rows:
        texts = list(cells(row, at.box))
        for value in _together(texts[0]) if at.kind == "together" else texts:
            v = number(value)
            if v is not None and v == v:
                largest, some = max(largest, v), some or v > 0
    return some and largest <= 1


def _together(text: str) -> list[Any]:
    """The numbers of "[x, y, w, h]"."""
    try:
        value = json.loads(text) if text.startswith("[") and len(text) < 1000 else text.split()
    except (ValueError, RecursionError):
        value = []
    return value if isinstance(value, list) and (not value or len(value) == 4) else [text, "", "", ""]


def write(dataset: Dataset, writer: Writer) -> None:
    """Write each image into the folder of its split, and _annotations.csv beside them, as Roboflow does.

    An empty image has one row without class and box; one nobody labeled has none. Raises DataError for a class name
    that would not come back.
    """
    held: dict[str, list[list[Any]]] = {}
    for sample in dataset:
        name = writer.image(sample, in_split(sample))
        rows = held.setdefault(sample.split or "", [])
        if sample.objects is None:
            continue
        about = [name.removeprefix(f"{sample.split}/") if sample.split else name, *size_for_writing(sample)]
        boxes = [(thing.label, box) for thing in sample.objects if (box := box_of(thing)) is not None]
        for label, box in boxes:
            if label != label.strip() or not label:
                raise DataError(f"a CSV file cannot hold the class {label!r}; rename it")
            rows.append([*about, label, *(repr(float(v)).removesuffix(".0") for v in box)])
        if not boxes:
            rows.append([*about, "", "", "", "", ""])
    if not any(held.values()):
        raise DataError(f"{dataset.root} has no image with boxes, and a CSV file of boxes holds nothing else")
    for split, rows in held.items():
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(HEADER)
        out.writerows(rows)
        writer.text(f"{split}/{FILE}" if split else FILE, text.getvalue())
