"""Supervisely: a project of data sets, img/ and ann/ in each, with the classes in meta.json.

https://docs.supervisely.com/data-organization/00_ann_format_navi. Rectangles are boxes, whose last pixels belong to
them; polygons outlines, with holes pixels; bitmaps pixels; points, lines and cuboids are told (unheld_mark). A data set
that is called as splits are is one; where there are several others, their names begin the images'. Where no image has
objects, an image's tag is its class.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.image_finder import split_name
from handful.data.json_labels import json_value, number, size_of, wanted
from handful.data.listed import Row, assembled, classes_in, root_of, silent
from handful.data.marks import Mark, Said, class_text, ordered, unheld
from handful.data.painted_text import placed_at, unpacked
from handful.data.paths import Shelf
from handful.errors import DataError
from handful.types import Category, Dataset

TITLE = "Supervisely JSON"
TREE = """\
meta.json          {"classes": [{"title": "mug", "shape": "rectangle", "color": "#FF0000"}], "tags": []}
ds0/
  img/a.jpg
  ann/a.jpg.json   {"size": {"height": 120, "width": 160}, "tags": [], "objects": [{"classTitle": "mug",
                    "geometryType": "rectangle", "points": {"exterior": [[1, 1], [49, 59]], "interior": []}}]}
"""
PRECEDENCE = 31
MARKS = True
META = "meta.json"
_SIZE = re.compile(rb'"size"\s*:\s*\{')
_OBJECTS = re.compile(rb'"objects"\s*:\s*\[')


def _is_it(data: bytes) -> bool:
    return _SIZE.search(data) is not None and _OBJECTS.search(data) is not None


def _is_ann(name: str) -> bool:
    return posixpath.basename(posixpath.dirname(name)) == "ann" and name.lower().endswith(".json")


def detect(folder: Path) -> bool:
    """Whether annotations of Supervisely's lie below the folder, in folders called ann."""
    folder = Path(folder)
    return folder.is_dir() and any(
        _is_ann(name) and _is_it(sniff.ends(folder / name)) for name in sniff.files(folder, ".json")
    )


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of a project, or of one of its data sets. Raises DataError when it is none."""
    root = root_of(Path(folder))
    shelf = Shelf(root, root)
    names = [name for name in shelf.others if _is_ann(name)]
    if not names:
        raise DataError(f"{folder} is no project of Supervisely's; wanted ann/ and img/ in each data set of it")
    photos = {name for name in shelf.images if posixpath.basename(posixpath.dirname(name)) == "img"}
    shelf.images = photos or shelf.images  # masks_machine/ and masks_human/ hold pictures, too
    held = {name: top for name in names if (top := _top(name, shelf, on_finding)) is not None}
    tags = not any(top.get("objects") for top in held.values())
    rows = [_row(name, top, shelf, tags=tags) for name, top in held.items()]
    held.clear()
    metas = [name for name in shelf.others if posixpath.basename(name) == META]
    listed = [c for name in metas for c in _classes(name, shelf, on_finding)]
    used = frozenset[str]().union(*(row.names or frozenset() for row in rows))
    categories: tuple[Category, ...] | None = None
    if listed:
        title = {row["name"] for row in listed}
        more = [{"name": label} for label in sorted({row.said(silent).label for row in rows} - {None} - title)]  # type: ignore[union-attr, type-var]
        table = [{"id": i, **row} for i, row in enumerate([*listed, *more], 1)]
        categories = categories_of(table, on_finding, file=metas[0])
    elif used:
        on_finding(Finding("no_label_map", META, sorted(used)[:20], detail="is not there; classes are those in ann/"))
    return assembled("supervisely", shelf, rows, on_finding, categories=categories, lists=False)


def _classes(name: str, shelf: Shelf, on_finding: OnFinding) -> Iterator[dict[str, Any]]:
    value = json_value(shelf.folder / name, shelf.root, on_finding) if shelf.inside(name, on_finding) else None
    top = wanted(value, dict, "classes", on_finding, file=name)
    for row in wanted(top.get("classes"), list, "classes", on_finding, file=name):
        title = class_text(row.get("title")) if isinstance(row, dict) else None
        if title is None:
            on_finding(Finding("broken_label", name, str(row)[:60], detail=f"has the class {str(row)[:60]}"))
            continue
        color = re.fullmatch(r"#([0-9a-fA-F]{6})", str(row.get("color")))
        yield {"name": title, "color": None if color is None else [int(color[1][i : i + 2], 16) for i in (0, 2, 4)]}


def _row(name: str, top: Mapping[str, Any], shelf: Shelf, *, tags: bool) -> Row:
    def said(tell: OnFinding) -> Said | None:
        again = _top(name, shelf, tell)
        return None if again is None else _said(again, name, tell, tags=tags)

    base = posixpath.dirname(posixpath.dirname(name))
    image = posixpath.join(base, "img", posixpath.basename(name)[:-5])  # a.jpg.json; older projects have a.json
    split = split_name(posixpath.basename(base))
    return Row(image, name, said, split=split, names=classes_in(_said(top, name, silent, tags=tags)))


def _top(name: str, shelf: Shelf, on_finding: OnFinding) -> dict[str, Any] | None:
    value = json_value(shelf.folder / name, shelf.root, on_finding) if shelf.inside(name, on_finding) else None
    if value is None or isinstance(value, dict):
        return value
    on_finding(Finding("unreadable_labels", name, type(value).__name__, detail="is no JSON object"))
    return None


def _said(top: Mapping[str, Any], file: str, tell: OnFinding, *, tags: bool) -> Said:
    """tags: no image of the project has objects, so that the images' tags are their classes."""
    about = top.get("size")
    size = size_of(about.get("width"), about.get("height")) if isinstance(about, dict) else None
    objects = wanted(top.get("objects"), list, "objects", tell, file=file)
    tagged = _tags(top.get("tags"))
    attributes = {"description": top["description"]} if top.get("description") else {}
    on = [name for name, value in tagged.items() if value is None and split_name(name) is None]
    if tags and on:
        if len(on) > 1:
            detail = f"is tagged {', '.join(on)[:200]}; wanted one class"
            tell(Finding("several_classes", file, on[:20], detail=detail))
        return Said(None, size, class_text(on[0]) if len(on) == 1 else None, attributes)
    marks = [_mark(row, f"object {i}", size) for i, row in enumerate(objects, 1)]
    return Said(marks, size, attributes=attributes | ({"tags": tagged} if tagged else {}))


def _tags(value: Any) -> dict[str, Any]:
    rows = value if isinstance(value, list) else []
    found = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            found[row["name"]] = row.get("value")
        elif isinstance(row, str):
            found[row] = None
    return found


def _mark(row: Any, what: str, size: tuple[int, int] | None) -> Mark:
    if not isinstance(row, dict):
        return Mark(None, what, fault=("broken_label", str(row)[:60], "is no JSON object"))
    label = row.get("classTitle")
    points = row.get("points")
    points = points if isinstance(points, dict) else {}
    outer, holes = points.get("exterior"), points.get("interior")
    bitmap = row.get("bitmap")
    kind = row.get("geometryType") or ("bitmap" if bitmap else "polygon")
    attributes: dict[str, Any] = {"tags": tags} if (tags := _tags(row.get("tags"))) else {}
    more: dict[str, Any] = {"attributes": attributes | ({"description": d} if (d := row.get("description")) else {})}
    if kind == "bitmap":
        try:
            if not isinstance(bitmap, dict) or size is None:
                raise ValueError("a bitmap without its pixels, or of an image without its size")
            at = [number(v) for v in bitmap["origin"]] if isinstance(bitmap.get("origin"), list) else []
            if len(at) != 2 or at[0] is None or at[1] is None or not abs(at[0]) + abs(at[1]) < 1e6:
                raise ValueError("a bitmap that lies nowhere")
            mask = unpacked(bitmap.get("data"), compressed=True)
            return Mark(label, what, rle=placed_at(mask, int(at[0]), int(at[1]), size), **more)
        except ValueError as error:
            return Mark(label, what, fault=("broken_label", str(kind), f"is {error}"))
    if kind not in ("rectangle", "polygon"):
        return Mark(label, what, fault=unheld(kind))
    pairs = [p for p in outer if isinstance(p, list) and len(p) == 2] if isinstance(outer, list) else []
    if not isinstance(outer, list) or len(pairs) != len(outer) or (kind == "rectangle" and len(pairs) != 2):
        said = str(outer)[:60]
        return Mark(label, what, fault=("broken_label", said, f"is a {kind} of the points {said}"))
    flat = [v for pair in pairs for v in pair]
    if kind == "rectangle":
        left, top, *rest = ordered(*flat)
        # the last row and column belong to it
        return Mark(label, what, [left, top, *(v + 1 if isinstance(v, float) else v for v in rest)], **more)
    holes = holes if isinstance(holes, list) else [] if holes is None else [[holes]]
    inner = [[v for p in hole for v in (p if isinstance(p, list) else [p])] if isinstance(hole, list) else [hole]
             for hole in holes]  # fmt: skip
    return Mark(label, what, polygons=[flat], holes=[hole for hole in inner if hole], **more)
