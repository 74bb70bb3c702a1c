"""Label Studio's regions, in its full and its short JSON, as marks: pure functions of JSON values. Percent of the image
become pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handful.data import label_studio_rle
from handful.data.json_labels import number, size_of
from handful.data.marks import Mark, class_text, ellipse, turned, unheld
from handful.data.shapes import bounds, pixels_of, rle_of
from handful.types import Object

LABELS = {
    "rectanglelabels": "rectangle",
    "polygonlabels": "polygon",
    "ellipselabels": "ellipse",
    "brushlabels": "brush",
}
SHAPES = frozenset(LABELS.values())
OTHERS = frozenset(("keypointlabels", "keypoint", "videorectangle", "vectorlabels", "vector", "bitmasklabels"))
CROWD = "iscrowd"


@dataclass
class Answer:
    """What one person said of an image: regions by (shape, value, labels, row), and choices."""

    regions: list[tuple[str, dict[str, Any], list[Any], dict[str, Any]]] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    size_wh: tuple[int, int] | None = None
    turned: Any = 0


def answer_of(result: Sequence[Any]) -> Answer:
    """A result, or the rows of a short export, which have no value of their own."""
    found = Answer()
    by_id: dict[Any, int] = {}
    for i, row in enumerate(result):
        if not isinstance(row, dict):
            found.regions.append(("broken", {}, [], {"id": row}))
            continue
        value = row.get("value") if isinstance(row.get("value"), dict) else row
        value = value if isinstance(value, dict) else {}
        size = size_of(row.get("original_width"), row.get("original_height"))
        found.size_wh = found.size_wh or size
        found.turned = found.turned or row.get("image_rotation") or 0
        kind = row.get("type")
        kind = kind if isinstance(kind, str) else _kind(value)
        key = str(row.get("id", f"row {i}"))  # in a short export a region has no id, and is one of its own
        if kind == "choices":
            choices = value.get("choices")
            found.choices += choices if isinstance(choices, list) else [choices]
        elif kind in LABELS or kind in SHAPES or kind in OTHERS:
            labels = value.get(kind)
            if kind in LABELS or key not in by_id:
                by_id.setdefault(key, len(found.regions))
                shape = LABELS.get(kind, kind)
                found.regions.append((shape, value, labels if isinstance(labels, list) else [], row))
            if kind in LABELS:
                _drop_bare(found, by_id, key)
        elif kind == "labels":  # the class of a shape that has none of its own
            labels = value.get("labels")
            at = by_id.get(key)
            if isinstance(labels, list) and at is not None and not found.regions[at][2]:
                shape, held, _, about = found.regions[at]
                found.regions[at] = (shape, held, labels, about)
            elif at is None:
                by_id[key] = len(found.regions)
                shape = shape_of(value) or "labels"
                found.regions.append((shape, value, labels if isinstance(labels, list) else [], row))
    return found


def shape_of(value: Mapping[str, Any]) -> str | None:
    """The shape that a region's own numbers make it, None for what is no region."""
    shapes = {"width": "rectangle", "points": "polygon", "radiusX": "ellipse", "rle": "brush"}
    return next((shape for key, shape in shapes.items() if key in value), None)


def _kind(value: Mapping[str, Any]) -> str:
    """What a row without a type is: by the key of its class, else by its shape, which then has no class."""
    named = next((k for k in (*LABELS, *OTHERS, "choices", "labels") if k in value), None)
    return named or shape_of(value) or ""


def _key(shape: str) -> str:
    return next((key for key, named in LABELS.items() if named == shape), "labels")


def _drop_bare(found: Answer, by_id: dict[Any, int], key: str) -> None:
    """A rectangle and its rectanglelabels share an id: the first is the same thing without a class."""
    first, last = by_id[key], len(found.regions) - 1
    if first != last and not found.regions[first][2]:
        found.regions[first] = found.regions.pop()


def marks_of(answer: Answer, what: str, size_wh: tuple[int, int]) -> Iterator[Mark]:
    """The marks of an answer for an image of a size in px."""
    for i, (kind, value, labels, row) in enumerate(answer.regions, 1):
        yield _mark(kind, value, labels, row, f"{what}, region {i}", size_wh, answer.turned)


def _mark(
    kind: str, value: Mapping[str, Any], labels: Sequence[Any], row: Mapping[str, Any], what: str,
    size: tuple[int, int], image_turned: Any,
) -> Mark:  # fmt: skip
    if kind in OTHERS or kind == "labels":
        return Mark(None, what, fault=unheld(kind))
    if kind == "broken":
        return Mark(None, what, fault=("broken_label", str(row.get("id"))[:60], "is no JSON object"))
    if image_turned not in (0, 360):
        said = str(image_turned)[:20]
        return Mark(None, what, fault=("broken_label", said, f"is drawn on an image turned by {said} degrees"))
    if len(labels) > 1:
        names = ", ".join(str(v)[:60] for v in labels[:5])
        return Mark(
            None, what, fault=("several_classes", [str(v)[:60] for v in labels[:20]], f"is {names}; wanted one")
        )
    label = labels[0] if labels else None
    if label is None:
        has = ", ".join(str(key) for key in value)[:200]
        why = f"names no class, neither under {_key(kind)} nor under labels; it has {has}"
        return Mark(None, what, fault=("broken_label", has, why))
    about = row.get("meta")
    attributes = dict(about) if isinstance(about, dict) else {}
    more: dict[str, Any] = {"crowd": attributes.pop(CROWD, False) is True, "attributes": attributes}
    width, height = size
    if kind == "polygon":
        points = value.get("points")
        flat = [v for p in points for v in p] if isinstance(points, list) and all(map(_is_pair, points)) else None
        if flat is None:
            return Mark(label, what, fault=("broken_label", str(points)[:60], "has no points"))
        numbers = [number(v) for v in flat]
        scaled = [None if v is None else round(v * size[i % 2] / 100, 6) for i, v in enumerate(numbers)]
        return Mark(label, what, polygons=[scaled], **more)
    if kind == "brush":
        try:
            mask = label_studio_rle.unpacked(value.get("rle"), size)
        except ValueError as error:
            return Mark(label, what, fault=("broken_rle", str(value.get("format"))[:30], f"has {error}"))
        return Mark(label, what, rle=rle_of(mask), **more)
    keys = ("x", "y", "radiusX", "radiusY") if kind == "ellipse" else ("x", "y", "width", "height")
    numbers = [number(value.get(key)) for key in (*keys, "rotation")]
    degrees = 0.0 if value.get("rotation") is None else numbers[4]
    held = [v for v in numbers[:4] if v is not None]
    if len(held) != 4 or degrees is None or not math.isfinite(degrees):
        said = str({key: value.get(key) for key in (*keys, "rotation")})[:100]
        return Mark(label, what, fault=("broken_label", said, f"is a {kind} of {said}"))
    x, y, w, h = (v * (width, height)[i % 2] / 100 for i, v in enumerate(held))
    if kind == "ellipse":
        if not all(map(math.isfinite, (x, y, w, h))):
            return Mark(label, what, (x, y, x + w, y + h), **more)
        return Mark(label, what, polygons=[ellipse(x, y, w, h, degrees)], **more)
    if degrees % 360 == 0 or not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        return Mark(label, what, (x, y, x + w, y + h), **more)
    # Label Studio turns a box about its left top corner
    return Mark(label, what, polygons=[turned((x, y, x + w, y + h), degrees, (x, y))], turned=True, **more)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def choice_of(answer: Answer) -> tuple[str | None, list[str]]:
    """(the class of the whole image, all that were chosen)."""
    found = [name for value in answer.choices if (name := class_text(value)) is not None]
    return (found[0] if len(found) == 1 else None), found


def regions_of(thing: Object, size_wh: tuple[int, int], key: str) -> Iterator[dict[str, Any]]:
    """An object as Label Studio's regions: a brush, one polygon a part, or a rectangle."""
    about: dict[str, Any] = {"to_name": "image", "original_width": size_wh[0], "original_height": size_wh[1],
                             "image_rotation": 0}  # fmt: skip
    rest = dict(thing.attributes) | ({CROWD: True} if thing.crowd else {})
    about |= {"meta": rest} if rest else {}

    def region(kind: str, value: dict[str, Any], part: int) -> dict[str, Any]:
        named = {"id": f"{key}_{part}", "from_name": kind, "type": kind, "value": {**value, kind: [thing.label]}}
        return {**named, **about}

    if thing.rle is not None:
        mask = pixels_of(thing.rle)
        if bounds(mask) is not None:
            yield region("brushlabels", {"format": "rle", "rle": label_studio_rle.packed(mask)}, 0)
    elif thing.polygons_px:
        for i, part in enumerate(thing.polygons_px):
            points = (np.asarray(part) * 100 / size_wh).tolist()
            yield region("polygonlabels", {"points": points, "closed": True}, i)
    elif thing.box_px is not None:
        left, top, right, bottom = thing.box_px
        across, down = 100 / size_wh[0], 100 / size_wh[1]
        value = {"x": left * across, "y": top * down, "width": (right - left) * across, "height": (bottom - top) * down}
        yield region("rectanglelabels", {**value, "rotation": 0}, 0)
