"""The rows of a COCO file, one at a time: pure functions between JSON objects and handful's types."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from handful.data.finding import Finding, OnFinding
from handful.data.masks import MAX_PIXELS
from handful.data.near_names import spelled_alike
from handful.data.shapes import box_of, checked_box, checked_polygon, checked_rle, painted
from handful.types import Category, Object, Rle, Sample

OWN_KEYS = frozenset(("image_id", "category_id", "bbox", "segmentation", "iscrowd", "track_id"))
IMAGE_KEYS = frozenset(("file_name", "width", "height"))
NAME_KEYS = ("file_name", "filename", "path", "coco_url")  # LVIS has only URLs
CATEGORY_KEYS = frozenset(("id", "name", "supercategory", "isthing", "color"))
DECIMALS = 6  # a millionth of a pixel: what is left of 1.08 + 611.59 - 1.08


def identifier(value: Any) -> int | str | None:
    """An id as it may stand in JSON: a whole number or text; anything else is None."""
    kind = type(value)
    if kind is int or kind is str:
        return value  # type: ignore[no-any-return]
    return int(value) if kind is float and value.is_integer() else None


def as_listed(key: int | str | None, listed: Container[Any]) -> int | str | None:
    """An id as the list of what it refers to has it: some tools write 7 in one place and "7" in the other."""
    if key in listed or key is None:
        return key
    if isinstance(key, str):
        other: int | str = int(key) if key.isascii() and key.isdigit() and len(key) < 19 else key
    else:
        other = str(key)
    return other if other in listed else key


def written_name(row: Mapping[str, Any]) -> Any:
    """The name of its image as a row has it; None when it has none."""
    return next((row[key] for key in NAME_KEYS if row.get(key) is not None), None)


def categories_of(rows: Any, on_finding: OnFinding, *, file: str) -> tuple[Category, ...]:
    """The classes listed, ids and names unique; what is doubled or broken is told and passed over."""
    return listed_categories(rows, on_finding, file=file)[0]


def listed_categories(
    rows: Any, on_finding: OnFinding, *, file: str
) -> tuple[tuple[Category, ...], dict[int, str], frozenset[int]]:
    """(classes, the class name of each id, ids of two classes).

    A name with two ids is one class, with the first id. An id with two names is told, and means nothing.
    """
    if not isinstance(rows, list):
        on_finding(Finding("unreadable_labels", file, type(rows).__name__, detail="has no list of categories"))
        return (), {}, frozenset()
    found: dict[str, Category] = {}
    ids: dict[int, str] = {}
    clashing: set[int] = set()
    twins: dict[str, str] = {}
    for row in rows:
        key, name = (identifier(row.get("id")), row.get("name")) if isinstance(row, dict) else (None, None)
        if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10:
            key = int(key)
        if not isinstance(key, int) or key < 0 or not isinstance(name, str) or not name or not is_text(name):
            on_finding(Finding("broken_label", file, str(row)[:100], detail=f"has the category {str(row)[:100]}; "
                         "wanted an id from 0 up and a name"))  # fmt: skip
            continue
        if ids.get(key, name) != name:
            detail = f"gives the id {key} to {ids[key]!r} and to {name!r}, so that its labels are of neither"
            on_finding(Finding("category_clash", file, {"id": key, "names": [ids[key], name]}, detail=detail))
            clashing.add(key)
            continue
        if name in found:
            other = "" if found[name].id == key else f", with the ids {found[name].id} and {key}"
            detail = f"lists the category {name!r} twice{other or f' (id {key})'}"
            on_finding(Finding("duplicate_category", file, {"id": key, "name": name}, detail=detail))
            ids[key] = name
            continue
        twin = twins.get(spelled_alike(name))
        if twin is not None:
            on_finding(Finding("category_twins", file, [twin, name], detail=f"has the classes {twin!r} and {name!r}"))
        twins[spelled_alike(name)] = name
        ids[key] = name
        parent, thing, rgb = row.get("supercategory"), row.get("isthing"), row.get("color")
        more = attributes_of(row, CATEGORY_KEYS, on_finding, file=file, what=f"the category {name!r}")
        if parent is not None and not isinstance(parent, str):
            more["supercategory"] = parent
        found[name] = Category(
            key, name, parent if isinstance(parent, str) else None, None if thing is None else bool(thing),
            (rgb[0], rgb[1], rgb[2]) if is_rgb(rgb) else None,
            {**more, **({} if rgb is None or is_rgb(rgb) else {"color": rgb})},
        )  # fmt: skip
    names = {key: name for key, name in ids.items() if key not in clashing}
    first = {name: key for key, name in reversed(names.items())}
    return tuple(replace(c, id=first[c.name]) for c in found.values() if c.name in first), names, frozenset(clashing)


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can hold halves of characters, which cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_rgb(value: Any) -> bool:
    """Whether a JSON value is a color: three whole numbers from 0 to 255."""
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


def category_row(category: Category) -> dict[str, Any]:
    """A class as COCO lists it."""
    row: dict[str, Any] = {"id": category.id, "name": category.name}
    if category.parent is not None:
        row["supercategory"] = category.parent
    if category.thing is not None:
        row["isthing"] = int(category.thing)
    if category.rgb is not None:
        row["color"] = list(category.rgb)
    return {**row, **{key: value for key, value in category.attributes.items() if key not in row}}


def size_of(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) in px as the row says, None when it does not say, or says what no image can have.

    Whole numbers written as 160.0 or "160" are numbers.
    """
    width, height = _side(row.get("width")), _side(row.get("height"))
    return (width, height) if 0 < width * height <= MAX_PIXELS else None


def _side(value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 10:
        return int(value)
    number = identifier(value)
    return number if isinstance(number, int) and 0 < number < 1 << 20 else 0


def object_of(
    row: Mapping[str, Any],
    names: Mapping[Any, str],
    size_wh: tuple[int, int] | None,
    on_finding: OnFinding,
    *,
    file: str,
) -> Object | None:
    """One annotation as an Object, or None after telling why it cannot be used."""
    what = f"label {row.get('id')}"
    label = names.get(as_listed(identifier(row.get("category_id")), names))
    if label is None:
        value = row.get("category_id")
        detail = f"{what} is of category {str(value)[:60]}, which is not listed"
        said = value if isinstance(value, int) else str(value)[:60]
        cause = f"category {str(value)[:60]} is not listed in {file}"
        on_finding(Finding("unknown_category", file, said, detail=detail, cause=cause))
        return None
    box = None
    if row.get("bbox") not in (None, []):
        box = _box(row["bbox"], size_wh, on_finding, file=file, what=f"{what} ({label})")
        if box is None:
            return None
    what = f"{what} ({label})"
    polygons, rle = [], None
    shape = row.get("segmentation")
    if isinstance(shape, dict):
        rle = checked_rle(shape, size_wh, on_finding, file=file, what=what)
    elif isinstance(shape, list):
        if shape and not isinstance(shape[0], list):
            detail = f"{what} has an outline that stands in no list of outlines"
            on_finding(
                Finding(
                    "flat_outline",
                    file,
                    row.get("id"),
                    detail=detail,
                    cause="outlines that stand in no list of outlines",
                )
            )
            shape = [shape]
        for flat in shape:
            polygon = checked_polygon(flat, on_finding, file=file, what=what)
            if polygon is not None:
                polygons.append(polygon)
    elif shape is not None:
        detail = f"{what} has a segmentation of type {type(shape).__name__}"
        on_finding(Finding("broken_polygon", file, str(shape)[:60], detail=detail))
    if box is None and not polygons and rle is None:
        on_finding(Finding("broken_label", file, row.get("id"), detail=f"{what} has neither a box nor a usable shape"))
        return None
    attributes = attributes_of(row, OWN_KEYS, on_finding, file=file, what=what)
    area = attributes.get("area")
    if area is not None and not (type(area) in (int, float) and 0 < area < math.inf):
        on_finding(Finding("wrong_area", file, str(area), detail=f"{what} has the area {area}"))
        del attributes["area"]
    track = row.get("track_id")
    return Object(label, box, tuple(polygons), rle, bool(row.get("iscrowd", 0)),
                  track if type(track) is int else None, attributes)  # fmt: skip


def attributes_of(
    row: Mapping[str, Any], own: frozenset[str], on_finding: OnFinding, *, file: str, what: str
) -> dict[str, Any]:  # fmt: skip
    """What else a row says; what is no JSON (NaN, infinity), or too deep for any tool, is told and left out."""
    found = {k: v for k, v in row.items() if k not in own}
    for key in [k for k, v in found.items() if not (type(v) in (int, str) or _finite(v))]:
        if key != "area":  # its own finding says so
            on_finding(
                Finding("not_finite", file, key, detail=f"{what} has NaN, infinity or endless nesting as {key!r}")
            )
            del found[key]
    return found


def _finite(value: Any, depth: int = 50) -> bool:
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_finite(v, depth - 1) for v in inside)
    return type(value) is not float or math.isfinite(value)


def _box(
    value: Any, size_wh: tuple[int, int] | None, on_finding: OnFinding, *, file: str, what: str
) -> tuple[float, float, float, float] | None:
    numbers = isinstance(value, list) and len(value) == 4 and set(map(type, value)) <= {int, float}
    if not numbers or (not max(map(abs, value)) <= 1e9 and any(1e9 < abs(v) < math.inf for v in value)):
        on_finding(Finding("broken_label", file, str(value)[:100], detail=f"{what} has the box {str(value)[:100]}; "
                     "wanted [left, top, width, height]"))  # fmt: skip
        return None
    left, top, width, height = value
    if width < 0 or height < 0:
        on_finding(Finding("box_negative", file, value, detail=f"{what} is {width:g} x {height:g} px"))
        return None
    return checked_box((left, top, left + width, top + height), size_wh, on_finding, file=file, what=what)


def image_row(sample: Sample, key: int | str, name: str, size_wh: tuple[int, int]) -> dict[str, Any]:
    """A sample as COCO lists images."""
    row: dict[str, Any] = {"id": key, "file_name": name, "width": size_wh[0], "height": size_wh[1]}
    return {**row, **{k: v for k, v in sample.attributes.items() if k not in row}}


def label_row(
    thing: Object, key: int | str, image: int | str, category: int, size_wh: tuple[int, int]
) -> dict[str, Any]:
    """An object as COCO lists annotations; the box and the area are computed where there is none."""
    attributes = {k: v for k, v in thing.attributes.items() if k != "id"}
    row: dict[str, Any] = {"id": key, "image_id": image, "category_id": category}
    box = box_of(thing)
    if box is not None:
        left, top, right, bottom = box
        row["bbox"] = [left, top, round(right - left, DECIMALS), round(bottom - top, DECIMALS)]
    if "area" not in attributes:
        attributes["area"] = area_of(thing, size_wh)
    row["iscrowd"] = int(thing.crowd)
    row["segmentation"] = segmentation_of(thing)
    if thing.track is not None:
        row["track_id"] = thing.track
    return {**row, **attributes}


def area_of(thing: Object, size_wh: tuple[int, int]) -> float:
    """Pixels of the shape, or of the box when there is no shape."""
    pixels = painted(thing, size_wh)
    if pixels is not None:
        return float(pixels.sum())
    left, top, right, bottom = thing.box_px or (0, 0, 0, 0)
    return round((right - left) * (bottom - top), DECIMALS)


def segmentation_of(thing: Object) -> Any:
    """The shape as COCO writes it: outlines, run lengths (compressed or not, as they came), or []."""
    if thing.rle is not None:
        return rle_row(thing.rle)
    return [polygon.ravel().tolist() for polygon in thing.polygons_px]


def rle_row(rle: Rle) -> dict[str, Any]:
    """Run lengths as COCO writes them."""
    counts = rle.counts.decode("ascii") if isinstance(rle.counts, bytes) else list(rle.counts)
    return {"size": list(rle.size_hw), "counts": counts}
