"""The lines of a YOLO label file: pure functions between its text and handful's types.

A line is a class id and, as fractions of the image's width and height, either center and size of a box or the points
of one outline. A file holds boxes or outlines: in one that has outlines, Ultralytics takes a line of five numbers for
an outline of two points.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.reading import Few
from handful.data.shapes import MAX_POINTS, OUTSIDE_PX, checked_box, pixels_of
from handful.data.yolo_outline import joined, outlines
from handful.types import Category, Object

FAR = 2.0  # a box may leave the image by some of its size; a number above this is no fraction of it
FARTHEST = 1e6  # and no image has so many pixels a side: such a number is broken otherwise
DECIMALS = 6  # of a pixel, when read
_MOST_LINE = 64 * MAX_POINTS  # characters


def objects_of(
    text: str, names: Mapping[int, str], size_wh: tuple[int, int], on_finding: OnFinding, *, file: str,
    points: tuple[int, int] = (0, 0), names_file: str = ".",
) -> tuple[Object, ...]:  # fmt: skip
    """The objects of a label file, in its order; what is wrong with the others is told.

    points: how many keypoints follow a box, and of how many numbers each. names_file: where the classes are listed.
    """
    few = Few(on_finding)
    mixed = not points[0] and any(len(line) < _MOST_LINE and len(line.split()) > 6 for line in io.StringIO(text))
    found = [
        object_of(line, number, names, size_wh, few, file=file, outlined=mixed, points=points, names_file=names_file)
        for number, line in enumerate(io.StringIO(text), 1)
        if line.strip()
    ]
    few.close()
    return tuple(thing for thing in found if thing is not None)


def object_of(
    line: str, number: int, names: Mapping[int, str], size_wh: tuple[int, int], on_finding: OnFinding, *, file: str,
    outlined: bool = False, points: tuple[int, int] = (0, 0), names_file: str = ".",
) -> Object | None:  # fmt: skip
    """One line, or None after telling why it cannot be used. outlined: the file has outlines."""

    def broken(why: str, code: str = "broken_label") -> Object | None:
        on_finding(Finding(code, file, number, detail=f"line {number} {why}"))
        return None

    if len(line) >= _MOST_LINE:
        return broken(f"has {len(line)} characters", "broken_polygon")
    words = line.split()
    key = _whole(words[0])
    if key is None:
        return broken(f"starts with {words[0][:40]!r}; wanted a class id")
    if key not in names:
        detail = f"line {number} is of class {key}, which is not listed"
        cause = f"class {key} is not listed in {names_file}"
        on_finding(Finding("unknown_category", file, key, detail=detail, cause=cause))
        return None
    try:
        values = np.array([float(word) for word in words[1:]])
    except ValueError:
        return broken(f"is {line.strip()[:60]!r}; wanted numbers")
    if not np.isfinite(values).all():
        return broken("has NaN or infinity", "not_finite")
    what = f"line {number} ({names[key]})"
    many = points[0] * points[1]
    if _far(values, many):
        return broken(f"is {line.strip()[:60]!r}, in pixels as it seems; wanted fractions of the image, 0 to 1")
    if len(values) == 4 + many:
        if outlined:
            return broken("is a box in a file of outlines, which is read as an outline of two points")
        box = _box(values[:4], size_wh)
        checked = checked_box(box, size_wh, on_finding, file=file, what=what)
        more = _keypoints(values[4:].reshape(points), size_wh) if many else {}
        return Object(names[key], checked, attributes=more) if checked is not None else None
    if many or len(values) < 6 or len(values) % 2:
        return broken(f"has {len(words)} numbers; wanted a class with a box (5) or an outline (7, 9, ...)")
    if len(values) > 2 * MAX_POINTS:
        return broken(f"has an outline of {len(values) // 2} points", "broken_polygon")
    return _outlined(names[key], values.reshape(-1, 2), size_wh, on_finding, file, what)


def _far(values: np.ndarray, many: int) -> bool:
    """Whether the numbers of a box, or most of an outline, are no fractions: cut at the edge they would be the whole
    image. many: how many numbers of keypoints follow the box."""
    if len(values) == 4 + many:
        inside = bool((values[:2] - values[2:4] / 2 < 1).all() and (values[:2] + values[2:4] / 2 > 0).all())
        return inside and FAR < float(np.abs(values[:4]).max()) < FARTHEST  # else it is told as off the image
    return not many and len(values) > 4 and float(np.median(np.abs(values))) > FAR


def _keypoints(values: np.ndarray, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Keypoints as COCO has them: [x, y, visible, ...] in px, 0 0 0 for one that is not labeled."""
    rows: list[float | int] = []
    for x, y, *seen in values.tolist():
        there = bool(seen[0]) if seen else (x, y) != (0, 0)
        flag = int(seen[0]) if seen and seen[0] in (0, 1, 2) else 2 * there
        rows += [round(x * size_wh[0], DECIMALS), round(y * size_wh[1], DECIMALS), flag] if there else [0, 0, 0]
    return {"keypoints": rows, "num_keypoints": sum(flag > 0 for flag in rows[2::3])}


def point_names(categories: Sequence[Category]) -> list[str]:
    """The names of the keypoints, where every class has the same ones; [] where a YOLO file cannot say them."""
    lists = [c.attributes.get("keypoints") for c in categories]
    first = lists[0] if lists else None
    same = isinstance(first, list) and bool(first) and all(names == first for names in lists)
    return list(first) if same and first is not None and all(isinstance(name, str) for name in first) else []


def _whole(word: str) -> int | None:
    """A class id: Ultralytics writes 3, others 3.0."""
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 1e9 else None


def _box(values: np.ndarray, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, w, h = values.tolist()
    width, height = size_wh
    left, right = round((x - w / 2) * width, DECIMALS), round((x + w / 2) * width, DECIMALS)
    return left, round((y - h / 2) * height, DECIMALS), right, round((y + h / 2) * height, DECIMALS)


def _outlined(
    label: str, fractions: np.ndarray, size_wh: tuple[int, int], on_finding: OnFinding, file: str, what: str
) -> Object | None:
    """An object of one outline; its box is the smallest around it, as Ultralytics takes it."""
    with np.errstate(over="ignore"):
        polygon = np.round(fractions * size_wh, DECIMALS)
    (left, top), (right, bottom) = polygon.min(0).tolist(), polygon.max(0).tolist()
    over = max(-left, -top, right - size_wh[0], bottom - size_wh[1])
    off = right <= 0 or bottom <= 0 or left >= size_wh[0] or top >= size_wh[1]
    if over > OUTSIDE_PX and not off:
        detail = f"{what} leaves the {size_wh[0]}x{size_wh[1]} image by {over:g} px"
        value = [str(v) if math.isinf(v) else v for v in (left, top, right, bottom)]
        on_finding(Finding("box_outside", file, value, detail=detail))
        polygon = np.clip(polygon, 0, size_wh)
        (left, top), (right, bottom) = polygon.min(0).tolist(), polygon.max(0).tolist()
    box = checked_box((left, top, right, bottom), size_wh, on_finding, file=file, what=what)
    return None if box is None else Object(label, box, (polygon,))


def lines_of(
    objects: Iterable[Object], ids: Mapping[str, int], size_wh: tuple[int, int], points: Sequence[str] = ()
) -> Iterator[str]:
    """The lines of a label file: outlines for all objects if one of them has a shape, boxes otherwise.

    Left out are crowds, which would be read as one object, and objects without an area. points: the keypoints that
    follow each box; then nothing is outlined.
    """
    things = [thing for thing in objects if not thing.crowd]
    outlined = not points and any(thing.polygons_px or thing.rle is not None for thing in things)
    for thing in things:
        fractions = _outline(thing, size_wh) if outlined else _center_and_size(thing, size_wh)
        if fractions is not None:
            line = _line(ids[thing.label], fractions, size_wh)
            yield f"{line} {_points_text(thing, len(points), size_wh)}" if points else line


def _points_text(thing: Object, count: int, size_wh: tuple[int, int]) -> str:
    said = thing.attributes.get("keypoints")
    fine = isinstance(said, list) and len(said) == 3 * count and all(isinstance(v, int | float) for v in said)
    values = said if fine and isinstance(said, list) else [0] * (3 * count)
    digits = max(10, 6 + len(str(max(size_wh))))
    fractions = (v if i % 3 == 2 else min(max(v / size_wh[i % 3], 0), 1) for i, v in enumerate(values))
    return " ".join(f"{v:.{digits}f}".rstrip("0").rstrip(".") or "0" for v in fractions)


def _center_and_size(thing: Object, size_wh: tuple[int, int]) -> np.ndarray | None:
    if thing.box_px is None:
        return None
    corners = np.array(thing.box_px).reshape(2, 2)
    for _ in range(2):
        fractions = np.stack([corners.mean(0), corners[1] - corners[0]]) / size_wh
        if fractions.min() >= 0 and fractions.max() <= 1:
            break
        corners = np.clip(corners, 0, size_wh)  # Ultralytics drops an image with a number that is no fraction
    return fractions


def _outline(thing: Object, size_wh: tuple[int, int]) -> np.ndarray | None:
    """One outline of an object as fractions: its parts joined, its pixels traced without holes, or its box."""
    parts = list(thing.polygons_px) if thing.rle is None else outlines(pixels_of(thing.rle))
    for points in (joined(parts) if parts else None, _corners(thing)):
        if points is not None:
            cut = np.clip(points, 0, size_wh)
            if (cut.max(0) > cut.min(0)).all():
                return np.asarray(cut / size_wh)
    return None


def _corners(thing: Object) -> np.ndarray | None:
    if thing.box_px is None:
        return None
    left, top, right, bottom = thing.box_px
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _line(key: int, fractions: np.ndarray, size_wh: tuple[int, int]) -> str:
    digits = max(10, 6 + len(str(max(size_wh))))  # enough to come back within a millionth of a pixel
    texts = (f"{v:.{digits}f}".rstrip("0").rstrip(".") for v in fractions.ravel().tolist())
    return " ".join([str(key), *(text or "0" for text in texts)])
