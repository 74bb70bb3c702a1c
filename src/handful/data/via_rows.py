"""The regions of the VGG Image Annotator, versions 1 to 3 and CSV, as marks: pure functions of JSON values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from handful.data.csv_table import Table
from handful.data.finding import Finding, OnFinding
from handful.data.json_labels import number
from handful.data.marks import Mark, class_text, ellipse, sides, unheld
from handful.words import counted

CLASSES = ("class", "label", "classname", "category", "name", "type", "object", "objectclass", "classlabel")
_V3 = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon", 8: "rect", 9: "circle"}
_FILES = {4: "video", 8: "audio"}


@dataclass
class Image:
    """What VIA says of one image: its regions as (shape attributes, region attributes), and its own attributes."""

    name: Any
    regions: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def images_of(top: Any, tell: OnFinding, *, file: str) -> list[Image]:
    """The images of a project or an export, of any version."""
    if not isinstance(top, dict):
        return []
    if isinstance(top.get("metadata"), dict) and isinstance(top.get("file"), dict):
        return list(_version_3(top, tell, file))
    held = top.get("_via_img_metadata", top)
    found = []
    for key, row in held.items() if isinstance(held, dict) else ():
        if not isinstance(row, dict) or "regions" not in row:
            if not key.startswith("_via"):
                detail = f"has the entry {key[:60]!r} without regions"
                tell(Finding("broken_label", file, key[:60], detail=detail))
            continue
        image = Image(row.get("filename"), attributes=_object(row.get("file_attributes")))
        regions = row["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions if isinstance(regions, list) else ():
            region = _object(region)
            image.regions.append((_object(region.get("shape_attributes")), _object(region.get("region_attributes"))))
        found.append(image)
    return found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _version_3(top: Mapping[str, Any], tell: OnFinding, file: str) -> Iterator[Image]:
    titles: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, row in _object(top.get("attribute")).items():
        row = _object(row)
        titles[key] = (str(row.get("aname") or key), _object(row.get("options")))
    fids = {key: [str(f) for f in fid] for key, row in _object(top.get("view")).items()
            if isinstance(fid := _object(row).get("fid_list"), list)}  # fmt: skip
    files = {}
    for key, row in top["file"].items():
        row = _object(row)
        kind = row.get("type")
        if isinstance(kind, int) and kind in _FILES:
            detail = f"has labels of the {_FILES[kind]} {str(row.get('fname'))[:100]}, which are not read"
            tell(Finding("unheld_mark", file, str(row.get("fname"))[:100], detail=detail))
        else:
            files[str(row.get("fid", key))] = Image(row.get("fname"))
    for key, row in top["metadata"].items():
        row = _object(row)
        view = fids.get(str(row.get("vid")), [])
        image = files.get(view[0]) if len(view) == 1 else None
        if image is None:
            if len(view) != 1:
                detail = f"has the entry {key[:60]!r} of {counted(len(view), 'file')}; wanted one image"
                tell(Finding("broken_label", file, key[:60], detail=detail))
            continue
        said = {}
        for aid, value in _object(row.get("av")).items():
            title, options = titles.get(aid, (aid, {}))
            said[title] = options.get(value, value) if isinstance(value, str) else value
        xy = row.get("xy")
        if isinstance(xy, list) and xy:
            image.regions.append((_shape_3(xy), said))
        else:
            image.attributes.update(said)
    yield from files.values()


def _shape_3(xy: list[Any]) -> dict[str, Any]:
    kind = _V3.get(xy[0], f"shape {str(xy[0])[:20]}") if type(xy[0]) is int else str(xy[0])[:20]
    keys = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
    if kind == "polygon":
        return {"name": kind, "all_points_x": xy[1::2], "all_points_y": xy[2::2]}
    return {"name": kind, **dict(zip(keys.get(kind, ()), xy[1:], strict=False))}


def images_in_csv(held: Table, tell: OnFinding, *, file: str) -> list[Image]:
    """The images of VIA's CSV, whose cells hold JSON."""
    at = {name: held.header.index(name) for name in held.header}
    found: dict[str, Image] = {}
    for i, row in enumerate(held.rows, 2):
        cells = {name: row[k].strip() for name, k in at.items() if k < len(row)}
        values = []
        for name in ("fileattributes", "regionshapeattributes", "regionattributes"):
            try:
                values.append(_object(json.loads(cells.get(name) or "{}")))
            except (ValueError, RecursionError):
                tell(Finding("broken_label", file, i, detail=f"row {i} has {name} that are no JSON"))
                values.append({})
        image = found.setdefault(cells.get("filename", ""), Image(cells.get("filename", "")))
        image.attributes.update(values[0])
        if values[1]:
            image.regions.append((values[1], values[2]))
    return list(found.values())


def class_key(said: Iterable[Mapping[str, Any]]) -> str | list[str] | None:
    """Which attribute is the class: the only one, or the one that is called so; the names when that is not clear,
    None when there is none.
    """
    counts = Counter(key for attributes in said for key, value in attributes.items() if value not in ("", {}, None))
    if len(counts) <= 1:
        return next(iter(counts), None)
    for name in CLASSES:
        found = [key for key in counts if "".join(c for c in key.lower() if c.isalnum()) == name]
        if len(found) == 1:
            return found[0]
    return sorted(counts)


def class_of(value: Any) -> tuple[str | None, tuple[str, Any, str] | None]:
    """The class in an attribute: text, or the one box that is ticked; a fault when it is none or several."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on in (True, "true", 1)]
        if len(ticked) > 1:
            return None, ("several_classes", ticked[:20], f"is of the classes {', '.join(ticked)[:200]}; wanted one")
        value = ticked[0] if ticked else None
    name = class_text(value)
    return name, None if name is not None else ("broken_label", str(value)[:60], "has no class")


def mark_of(shape: Mapping[str, Any], said: Mapping[str, Any], key: str | None, what: str) -> Mark:
    """One region. key: which attribute is its class; None: there are no classes, all are called 0."""
    label, fault = ("0", None) if key is None else class_of(said.get(key))
    if fault is not None:
        return Mark(None, what, fault=fault)
    kind = shape.get("name")
    more: dict[str, Any] = {"attributes": {k: v for k, v in said.items() if k != key}}
    values = {k: number(v) for k, v in shape.items() if k != "name"}
    if kind in ("rect", "rectangle"):
        return Mark(label, what, sides(*(shape.get(k) for k in ("x", "y", "width", "height"))), **more)
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            return Mark(label, what, fault=("broken_label", str(xs)[:60], "has points without x or y"))
        return Mark(label, what, polygons=[[v for pair in zip(xs, ys, strict=True) for v in pair]], **more)
    if kind in ("circle", "ellipse"):
        x, y = values.get("cx"), values.get("cy")
        rx, ry = (values.get("r"),) * 2 if kind == "circle" else (values.get("rx"), values.get("ry"))
        if x is None or y is None or rx is None or ry is None or not abs(x) + abs(y) + abs(rx) + abs(ry) < 1e9:
            return Mark(label, what, fault=("broken_label", str(dict(shape))[:60], f"is a {kind} without its numbers"))
        degrees = (values.get("theta") or 0.0) * 57.29577951308232  # VIA's theta is in radians
        return Mark(label, what, polygons=[ellipse(x, y, rx, ry, degrees if abs(degrees) < 1e6 else 0.0)], **more)
    return Mark(label, what, fault=unheld(kind) if isinstance(kind, str) else ("broken_label", None, "has no shape"))
