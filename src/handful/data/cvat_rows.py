"""The XML of CVAT, one image at a time: pure functions between its elements and handful's types."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from handful.data.json_labels import number, whole
from handful.data.marks import Mark, ellipse, turned, unheld
from handful.data.painted_text import placed_at
from handful.data.shapes import bounds, pixels_of
from handful.data.voc_classes import ILLEGAL
from handful.data.voc_rows import text_of, value_of
from handful.errors import DataError
from handful.types import Object

SHAPES = frozenset(("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton"))
FLAGS = ("occluded", "group_id")
CROWD = "is_crowd"  # as CVAT's own importer of COCO calls it
_MOST_RUNS = 1 << 22


def mark_of(node: Element, what: str, size_wh: tuple[int, int] | None, *, label: str | None = None) -> Mark:
    """One shape. label: its track's class."""
    said = node.get("label") if label is None else label
    attributes = attributes_of(node)
    for flag in FLAGS:
        value = whole(node.get(flag))
        if value:
            attributes[flag] = value
    crowd = attributes.pop(CROWD, False) is True
    more: dict[str, Any] = {"attributes": attributes, "crowd": crowd}
    try:
        if node.tag == "box":
            return Mark(said, what, **_box(node), **more)
        if node.tag == "polygon":
            pairs = [pair.split(",") for pair in (node.get("points") or "").split(";")]
            odd = next((pair for pair in pairs if len(pair) != 2), None)
            if odd is not None:
                raise ValueError(f"a polygon with the point {','.join(odd)[:60]!r}")
            return Mark(said, what, polygons=[[v for pair in pairs for v in pair]], **more)
        if node.tag == "ellipse":
            x, y, rx, ry = _numbers(node, "cx", "cy", "rx", "ry")
            degrees = number(node.get("rotation", "0")) or 0.0
            return Mark(said, what, polygons=[ellipse(x, y, rx, ry, degrees)], turned=degrees % 180 != 0, **more)
        if node.tag == "mask":
            return Mark(said, what, rle=_mask(node, size_wh), **more)
    except ValueError as error:
        return Mark(said, what, fault=("broken_label", str(error)[:100], f"is {error}"))
    return Mark(said, what, fault=unheld(node.tag))


def _numbers(node: Element, *names: str) -> list[float]:
    found = [number(node.get(name)) for name in names]
    values = [v for v in found if v is not None and math.isfinite(v)]
    if len(values) != len(names):
        raise ValueError(f"a {node.tag} with {', '.join(f'{n}={str(node.get(n))[:20]}' for n in names)}")
    return values


def _box(node: Element) -> dict[str, Any]:
    sides = [node.get(name) for name in ("xtl", "ytl", "xbr", "ybr")]
    degrees = number(node.get("rotation", "0"))
    if degrees is None or not math.isfinite(degrees):
        raise ValueError(f"a box with the rotation {str(node.get('rotation'))[:20]}")
    if degrees % 360 == 0:
        return {"xyxy": sides}
    left, top, right, bottom = _numbers(node, "xtl", "ytl", "xbr", "ybr")
    if right <= left or bottom <= top:
        return {"xyxy": sides}
    return {"polygons": [turned((left, top, right, bottom), degrees)], "turned": True}


def _mask(node: Element, size_wh: tuple[int, int] | None) -> Any:
    """Run lengths along the rows of a part of the image, background first."""
    left, top, width, height = (int(v) for v in _numbers(node, "left", "top", "width", "height"))
    text = node.get("rle") or ""
    if size_wh is None or not (0 < width <= size_wh[0] and 0 < height <= size_wh[1]) or text.count(",") > _MOST_RUNS:
        raise ValueError(f"a mask of {width}x{height} px")
    words = [word.strip() for word in text.split(",")]
    runs = [int(word) for word in words if re.fullmatch(r"[0-9]{1,9}", word)]
    if len(runs) != len(words) or sum(runs) != width * height:
        raise ValueError(f"a mask whose runs sum to {sum(runs)}; wanted {width * height}")
    values = np.zeros(len(runs), dtype=bool)
    values[1::2] = True
    return placed_at(np.repeat(values, runs).reshape(height, width), left, top, size_wh)


def attributes_of(node: Element) -> dict[str, Any]:
    """The <attribute> elements of a shape or an image."""
    found: dict[str, Any] = {}
    for child in node.iterfind("attribute"):
        name, text = child.get("name"), child.text or ""
        if name and text.strip():
            found[name] = {"true": True, "false": False}.get(text, value_of(text))
    return found


def add(image: Element, thing: Object) -> None:
    """An object as CVAT writes it: a mask, one polygon a part (of one group), or a box."""
    rest = dict(thing.attributes)
    about = {"label": thing.label, "source": "manual", "occluded": "1" if rest.get("occluded") == 1 else "0"}
    rest = {k: v for k, v in rest.items() if k != "occluded" or type(v) is not int or v not in (0, 1)}
    if type(rest.get("group_id")) is int:
        about["group_id"] = str(rest.pop("group_id"))
    if thing.crowd:
        rest[CROWD] = True
    nodes = []
    if thing.rle is not None:
        mask = pixels_of(thing.rle)
        box = bounds(mask)
        if box is not None:
            left, top, right, bottom = map(int, box)
            runs = _runs(mask[top:bottom, left:right])
            where = {"left": left, "top": top, "width": right - left, "height": bottom - top}
            nodes.append(SubElement(image, "mask", {**about, "rle": ", ".join(map(str, runs)),
                                                    **{k: str(v) for k, v in where.items()}}))  # fmt: skip
    elif thing.polygons_px:
        for part in thing.polygons_px:
            points = ";".join(f"{float(x)!r},{float(y)!r}" for x, y in part.tolist())
            nodes.append(SubElement(image, "polygon", {**about, "points": points}))
    elif thing.box_px is not None:
        sides = zip(("xtl", "ytl", "xbr", "ybr"), thing.box_px, strict=True)
        nodes.append(SubElement(image, "box", {**about, **{k: repr(float(v)) for k, v in sides}}))
    for node in nodes:
        node.set("z_order", "0")
        add_attributes(node, rest)


def add_attributes(node: Element, values: Mapping[str, Any]) -> None:
    """Attributes as elements, true and false as CVAT's checkboxes have them."""
    for name, value in values.items():
        if ILLEGAL.search(name) or not name:
            raise DataError(f"XML cannot hold the attribute {name!r}; rename it")
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else text_of(value)
        SubElement(node, "attribute", {"name": name}).text = text


def _runs(mask: np.ndarray) -> list[int]:
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs
