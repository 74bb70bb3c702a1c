"""LabelMe: a JSON file an image, as LabelMe, X-AnyLabeling and AnyLabeling write it.

https://github.com/wkentaro/labelme. Rectangles are boxes; polygons, turned rectangles and circles outlines; masks
pixels. Polygons and masks of one class and group_id are one object, as LabelMe's own exporters take them. Points and
lines are told (unheld_mark). An image is found by imagePath, or by the JSON file's own stem. Where no
image has a shape, the flag that is set is the image's class.

Not held: tracks, classes without a label, parents, licenses.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful.data import sniff
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import json_value, number, size_of, wanted, whole
from handful.data.listed import Row, assembled, classes_in, in_split, root_of, silent
from handful.data.marks import Mark, Said, class_text, ellipse, ordered, unheld
from handful.data.painted_text import packed, placed_at, unpacked
from handful.data.paths import Shelf, folded, name_parts
from handful.data.shapes import bounds, pixels_of
from handful.data.writing import Writer, size_for_writing
from handful.errors import DataError
from handful.files import to_json
from handful.types import Dataset, Object, Sample

TITLE = "LabelMe JSON"
TREE = """\
photos/
  a.jpg
  a.json   {"shapes": [{"label": "mug", "points": [[1, 1], [50, 60]], "shape_type": "rectangle"}],
            "imagePath": "a.jpg", "imageHeight": 120, "imageWidth": 160}
  b.jpg
  b.json   {"shapes": [], ...}: looked at, nothing there
"""
PRECEDENCE = 32
MARKS = True
_SHAPES = re.compile(rb'"shapes"\s*:\s*\[')
_PATH = re.compile(rb'"image(Path|Data|Height)"\s*:')
HELD = (
    "; it lies in the file itself (imageData), and this writes it beside each: "
    'python -c "import base64, json, sys; '
    "[open(f[:-4] + 'jpg', 'wb').write(base64.b64decode(json.load(open(f, encoding='utf-8'))['imageData'])) "
    'for f in sys.argv[1:]]" *.json'
)
_MOST = 1 << 27  # imageData holds the whole image
_OWN = frozenset(
    (
        "label",
        "points",
        "group_id",
        "shape_type",
        "flags",
        "mask",
        "attributes",
        "description",
        "line_color",
        "fill_color",
    )
)
_GROUPED = ("polygon", "mask", "circle")


def _is_it(data: bytes) -> bool:
    return _SHAPES.search(data) is not None and _PATH.search(data) is not None


def detect(folder: Path) -> bool:
    """Whether LabelMe's JSON files lie below the folder, or it is one."""
    return sniff.is_there(folder, ".json", is_it=_is_it)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every JSON file of LabelMe's below a folder. Raises DataError when there is none."""
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = sniff.all_of(place, shelf.others, ".json", is_it=_is_it)
    if not names:
        raise DataError(f'{folder} has no JSON file of LabelMe\'s in it; wanted "shapes" and "imagePath"')
    firsts = {name: top for name in names if (top := _first(name, shelf, on_finding)) is not None}
    _tell_others(firsts, shelf, on_finding)
    flags = not any(first.shapes for first in firsts.values())
    rows = [_row(name, first, shelf, flags=flags) for name, first in firsts.items()]
    return assembled("labelme", shelf, rows, on_finding, lists=False)


def _tell_others(firsts: Mapping[str, _First], shelf: Shelf, on_finding: OnFinding) -> None:
    """Tell files that name another image than they are called after, where both are there: they were copied."""
    stems = {os.path.splitext(image)[0] for image in shelf.images}
    files = {image.rpartition("/")[2] for image in shelf.images}
    for name, first in firsts.items():
        own = os.path.splitext(name)[0]
        said = next(iter(name_parts(first.image)[-1:]), "")
        if own in stems and said in files and folded(os.path.splitext(said)[0]) != folded(own.rpartition("/")[2]):
            detail = f"names {said[:100]}, and is read as its labels, though there is an image called as the file is"
            cause = "files name another image than they are called after, and are read as the labels of that"
            on_finding(Finding("other_filename", name, said[:100], detail=detail, cause=cause))


@dataclass(frozen=True)
class _First:
    """What is kept of a file until its image is asked for."""

    image: Any
    shapes: bool
    names: frozenset[str]
    held: bool  # the photograph lies in the file itself


def _first(name: str, shelf: Shelf, on_finding: OnFinding) -> _First | None:
    top = _top(name, shelf, on_finding)
    if top is None:
        return None
    names = classes_in(_said(top, name, silent, flags=True))
    return _First(top.get("imagePath"), bool(top.get("shapes")), names, bool(top.get("imageData")))


def _row(name: str, first: _First, shelf: Shelf, *, flags: bool) -> Row:
    def said(tell: OnFinding) -> Said | None:
        top = _top(name, shelf, tell)
        return None if top is None else _said(top, name, tell, flags=flags)

    names = first.names if first.shapes or flags else frozenset[str]()
    return Row(first.image, name, said, beside=True, names=names, missing=HELD if first.held else "")


def _top(name: str, shelf: Shelf, on_finding: OnFinding) -> dict[str, Any] | None:
    if not shelf.inside(name, on_finding):
        return None
    value = json_value(shelf.folder / name, shelf.root, on_finding, most=_MOST)
    if isinstance(value, dict):
        return value
    if value is not None:
        on_finding(Finding("unreadable_labels", name, type(value).__name__, detail="is no JSON object"))
    return None


def _said(top: Mapping[str, Any], file: str, tell: OnFinding, *, flags: bool) -> Said:
    """flags: no image of the set has shapes, so that the images' flags are their classes."""
    size = size_of(top.get("imageWidth"), top.get("imageHeight"))
    shapes = wanted(top.get("shapes"), list, "shapes", tell, file=file)
    said = top.get("flags")
    said = {k: v for k, v in said.items() if isinstance(k, str)} if isinstance(said, dict) else {}
    on = [name for name, value in said.items() if value is True]
    if not shapes and flags and on:
        if len(on) > 1:
            detail = f"is flagged {', '.join(on)[:200]}; wanted one class"
            tell(Finding("several_classes", file, on[:20], detail=detail))
        return Said(None, size, class_text(on[0]) if len(on) == 1 else None)
    marks = [_mark(shape, f"shape {i}", size) for i, shape in enumerate(shapes, 1)]
    return Said(_grouped(shapes, marks), size, attributes={"flags": said} if said else {})


def _mark(shape: Any, what: str, size: tuple[int, int] | None) -> Mark:
    if not isinstance(shape, dict):
        return Mark(None, what, fault=("broken_label", str(shape)[:60], "is no JSON object"))
    kind = shape.get("shape_type") or "polygon"  # old files have polygons only, and do not say so
    label = shape.get("label")
    points = shape.get("points")
    points = points if isinstance(points, list) else []
    attributes = {k: v for k, v in shape.items() if k not in _OWN and v not in (None, False, [], {})}
    if shape.get("description"):
        attributes["description"] = shape["description"]
    if isinstance(shape.get("attributes"), dict):
        attributes |= {k: v for k, v in shape["attributes"].items() if k != "shape_type"}
    if whole(shape.get("group_id")) is not None:
        attributes["group_id"] = whole(shape["group_id"])
    flags = shape.get("flags")
    flags = dict(flags) if isinstance(flags, dict) else {}
    more: dict[str, Any] = {"crowd": flags.pop("iscrowd", False) is True}
    if any(flags.values()):
        attributes["flags"] = flags
    more["attributes"] = attributes
    pairs = [p for p in points if isinstance(p, list) and len(p) == 2]
    flat = [v for pair in pairs for v in pair]
    broken = ("broken_label", str(points)[:60], f"is a {str(kind)[:30]} of the points {str(points)[:60]}")
    if len(pairs) != len(points) or None in [number(v) for v in flat]:
        return Mark(label, what, fault=broken)
    if kind == "rectangle" and len(pairs) in (2, 4):
        xs, ys = [number(v) or 0.0 for v in flat[::2]], [number(v) or 0.0 for v in flat[1::2]]
        if not all(map(math.isfinite, (*xs, *ys))):
            return Mark(label, what, ordered(xs[0], ys[0], xs[1], ys[1]), **more)
        if len(pairs) == 2 or (len({*xs}) == 2 and len({*ys}) == 2):
            return Mark(label, what, (min(xs), min(ys), max(xs), max(ys)), **more)
        return Mark(label, what, polygons=[flat], turned=True, **more)
    if kind in ("polygon", "rotation", "oriented_rectangle", "quadrilateral"):
        return Mark(label, what, polygons=[flat], turned=kind != "polygon", **more)
    if kind == "circle" and len(pairs) == 2:
        x, y, ex, ey = (number(v) or 0.0 for v in flat)
        radius = math.hypot(ex - x, ey - y)
        return Mark(label, what, polygons=[ellipse(x, y, radius, radius)] if math.isfinite(radius) else [flat], **more)
    if kind == "mask" and len(pairs) == 2 and size is not None:
        left, top = (number(v) for v in pairs[0])
        try:
            if left is None or top is None or not math.isfinite(left + top):
                raise ValueError("a mask that lies nowhere")
            return Mark(label, what, rle=placed_at(unpacked(shape.get("mask")), int(left), int(top), size), **more)
        except ValueError as error:
            return Mark(label, what, fault=("broken_label", str(kind), f"is {error}"))
    known = kind in ("rectangle", "circle", "mask") or not isinstance(kind, str)
    return Mark(label, what, fault=broken if known else unheld(kind))


def _grouped(shapes: list[Any], marks: list[Mark]) -> list[Mark]:
    """Outlines of one class and group are the parts of one object."""
    found: list[Mark] = []
    first: dict[tuple[str, Any], int] = {}
    for shape, mark in zip(shapes, marks, strict=True):
        group = mark.attributes.get("group_id")
        kind = shape.get("shape_type") or "polygon" if isinstance(shape, dict) else None
        if mark.fault is not None or group is None or kind not in _GROUPED or mark.rle is not None:
            found.append(mark)
            continue
        key = (str(mark.label), group)
        if key in first:
            other = found[first[key]]
            found[first[key]] = Mark(**{**other.__dict__, "polygons": [*other.polygons, *mark.polygons]})
        else:
            first[key] = len(found)
            found.append(mark)
    return found


def write(dataset: Dataset, writer: Writer) -> None:
    """Write each image into the folder of its split with a JSON file beside it; none for one nobody labeled.

    Raises DataError when two images would share a JSON file.
    """
    taken: dict[str, Path] = {}
    for sample in dataset:
        name = writer.image(sample, in_split(sample))
        if sample.objects is None and sample.label is None:
            continue
        path = PurePosixPath(name)
        file = str(path.with_suffix(".json"))
        if file.casefold() in taken:
            raise DataError(f"{sample.path} and {taken[file.casefold()]} would share the label file {file}; rename one")
        taken[file.casefold()] = sample.path
        width, height = size_for_writing(sample)
        flags = sample.attributes.get("flags")
        top: dict[str, Any] = {"version": "5.4.1", "flags": dict(flags) if isinstance(flags, Mapping) else {}}
        if sample.label is not None and not sample.objects:
            top["flags"] = {sample.label: True}
        top["shapes"] = list(_shapes(sample, file))
        top |= {"imagePath": path.name, "imageData": None, "imageHeight": height, "imageWidth": width}
        writer.text(file, to_json(top) + "\n")


def _shapes(sample: Sample, file: str) -> Iterator[dict[str, Any]]:
    used = {t.attributes["group_id"] for t in sample.objects or () if type(t.attributes.get("group_id")) is int}
    free = iter(n for n in range(1 << 30) if n not in used)
    for thing in sample.objects or ():
        group = thing.attributes.get("group_id")
        rest = {k: v for k, v in thing.attributes.items() if k != "group_id" or type(v) is not int}
        about: dict[str, Any] = {"label": thing.label, "group_id": group if type(group) is int else None}
        about["description"] = rest.pop("description", "") if isinstance(rest.get("description", ""), str) else ""
        about["flags"] = {"iscrowd": True} if thing.crowd else {}
        about |= {"attributes": rest} if rest else {}
        yield from _of(thing, about, free)


def _of(thing: Object, about: dict[str, Any], free: Iterator[int]) -> Iterator[dict[str, Any]]:
    if thing.rle is not None:
        whole_mask = pixels_of(thing.rle)
        box = bounds(whole_mask)
        if box is not None:
            left, top, right, bottom = map(int, box)
            points = [[left, top], [right - 1, bottom - 1]]  # the last pixel belongs to it
            held = packed(whole_mask[top:bottom, left:right])
            yield {**about, "points": points, "shape_type": "mask", "mask": held}
    elif thing.polygons_px:
        if len(thing.polygons_px) > 1 and about["group_id"] is None:
            about = {**about, "group_id": next(free)}
        for part in thing.polygons_px:
            yield {**about, "points": np.asarray(part).tolist(), "shape_type": "polygon"}
    elif thing.box_px is not None:
        left_px, top_px, right_px, bottom_px = thing.box_px
        yield {**about, "points": [[left_px, top_px], [right_px, bottom_px]], "shape_type": "rectangle"}
