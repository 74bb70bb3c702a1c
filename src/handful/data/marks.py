"""What a label file says of one image, before it is checked: marks with classes as they stand there, made into objects.

Also the shapes that tools have and COCO has not: turned boxes, circles and ellipses become outlines with the box
around them; holes become pixels; fractions and percent become pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handful.data.coco_rows import attributes_of, is_text
from handful.data.finding import Finding, OnFinding
from handful.data.json_labels import number
from handful.data.reading import Few
from handful.data.shapes import OUTSIDE_PX, box_of, checked_box, checked_polygon, checked_rle, painted, rle_of
from handful.types import Object, Rle
from handful.words import counted

ROUND = 64  # corners of the outline of a circle
DECIMALS = 6  # of a pixel, where fractions were multiplied
_FAR_PX = 1e9


@dataclass(frozen=True)
class Mark:
    """One thing in a label file. what: how people are told of it ("shape 3").

    label: its class as it stands there. xyxy: left, top, right, bottom, px. polygons: x1, y1, x2, ... of each part, px;
    holes likewise. rle: COCO's {"size", "counts"}, or what was painted. turned: an outline because it is turned.
    fault: (code, value, why), when it is known already that it cannot be used.
    """

    label: Any
    what: str
    xyxy: Sequence[Any] | None = None
    polygons: Sequence[Any] = ()
    holes: Sequence[Any] = ()
    rle: Mapping[str, Any] | Rle | None = None
    crowd: bool = False
    track: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    turned: bool = False
    fault: tuple[str, Any, str] | None = None


@dataclass(frozen=True)
class Said:
    """What a label file says of one image. marks: None when nobody looked. size_wh: None when it does not say.

    scaled: the marks for a size of the image, where they are fractions of it. label: the class of the whole image.
    """

    marks: Sequence[Mark] | None = None
    size_wh: tuple[int, int] | None = None
    label: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scaled: Callable[[tuple[int, int]], Sequence[Mark]] | None = None


def unheld(kind: Any) -> tuple[str, Any, str]:
    """The fault of a mark that is neither box nor outline nor pixels: a point, a line, a cuboid."""
    return "unheld_mark", str(kind)[:60], f"is a {str(kind)[:60]}, which is neither a box nor an outline nor a mask"


def class_text(value: Any) -> str | None:
    """A class's name as it may stand in a file: text, or a number as its text; None for anything else."""
    if isinstance(value, str):
        value = value.strip()
        return value if value and len(value) <= 1000 and is_text(value) else None
    if type(value) is int and abs(value) < 1 << 53:
        return str(value)
    return str(int(value)) if type(value) is float and value == value // 1 and abs(value) < 1 << 53 else None


def objects_of(
    marks: Sequence[Mark], names: frozenset[str] | set[str], size_wh: tuple[int, int], on_finding: OnFinding, *,
    file: str,
) -> tuple[Object, ...]:  # fmt: skip
    """The objects of one image's marks, in their order; what is wrong with the others is told."""
    few = Few(on_finding)
    found = [_object(mark, names, size_wh, few, file) for mark in marks]
    few.close()
    turned = sum(mark.turned for mark, thing in zip(marks, found, strict=True) if thing is not None)
    if turned:
        detail = f"has {counted(turned, 'turned box')}; each is an outline of four corners, with the box around it"
        on_finding(Finding("turned_box", file, turned, turned, detail))
    return tuple(thing for thing in found if thing is not None)


def _object(
    mark: Mark, names: frozenset[str] | set[str], size_wh: tuple[int, int], tell: OnFinding, file: str
) -> Object | None:
    label = class_text(mark.label)
    if mark.fault is not None:
        code, value, why = mark.fault
        tell(Finding(code, file, value, detail=f"{mark.what} {why}"))
        return None
    if label is None:
        value = str(mark.label)[:60]
        tell(Finding("broken_label", file, value, detail=f"{mark.what} has the class {value!r}; wanted a name"))
        return None
    if label not in names:
        detail = f"{mark.what} is of class {label[:60]!r}, which is not listed"
        tell(Finding("unknown_category", file, label[:60], detail=detail))
        return None
    what = f"{mark.what} ({label[:60]})"
    polygons: list[np.ndarray] = []
    for flat in mark.polygons:
        polygon = checked_polygon(_flat(flat), tell, file=file, what=what)
        if polygon is None:
            return None
        polygons.append(polygon)
    rle, box = _pixels(mark, polygons, size_wh, tell, file, what)
    if box is False:
        return None
    if mark.holes:
        polygons = []
    if mark.xyxy is not None:
        box = _box(mark.xyxy, size_wh, tell, file, what)
    elif polygons:
        polygons, box = _inside(polygons, size_wh, tell, file, what)
    if box is None:
        if mark.xyxy is None and not mark.polygons and mark.rle is None:
            tell(Finding("broken_label", file, mark.what, detail=f"{what} has neither a box nor a shape"))
        return None
    attributes = kept_attributes(mark.attributes, tell, file=file, what=what)
    return Object(label, box, tuple(polygons), rle, mark.crowd, mark.track, attributes)


def kept_attributes(said: Mapping[str, Any], tell: OnFinding, *, file: str, what: str) -> dict[str, Any]:
    """What else is said of a thing, as far as it is JSON; an area is one like any other here."""
    found = attributes_of(said, frozenset(), tell, file=file, what=what)
    if type(found.get("area")) is float and not math.isfinite(found["area"]):
        tell(Finding("not_finite", file, "area", detail=f"{what} has NaN or infinity as 'area'"))
        del found["area"]
    return found


def _flat(points: Any) -> Any:
    """Numbers of an outline; text and the like make it a broken one."""
    if isinstance(points, np.ndarray):
        return points.ravel()
    found = [number(v) for v in points] if isinstance(points, list | tuple) else []
    return [] if None in found else found


def _pixels(
    mark: Mark, polygons: list[np.ndarray], size_wh: tuple[int, int], tell: OnFinding, file: str, what: str
) -> tuple[Rle | None, Any]:
    """Run lengths and the box around them; (None, None) without any, a box of False where they cannot be used."""
    if mark.holes:
        holes = [checked_polygon(_flat(flat), tell, file=file, what=f"{what}, a hole") for flat in mark.holes]
        whole = painted(Object("", polygons_px=tuple(polygons)), size_wh) if polygons else None
        if whole is None or None in [h if h is None else 0 for h in holes]:
            return None, False
        for hole in holes:
            inner = painted(Object("", polygons_px=(hole,)), size_wh) if hole is not None else None
            whole = whole & ~inner if inner is not None else whole
        rle: Rle | None = rle_of(whole)
    elif isinstance(mark.rle, Rle):
        rle = mark.rle
    elif mark.rle is not None:
        rle = checked_rle(mark.rle, size_wh, tell, file=file, what=what)
        if rle is None:
            return None, False
    else:
        return None, None
    box = box_of(Object("", rle=rle))
    if box is None:
        tell(Finding("box_no_area", file, mark.what, detail=f"{what} has no pixel"))
        return None, False
    return rle, box


def _box(
    xyxy: Sequence[Any], size_wh: tuple[int, int], tell: OnFinding, file: str, what: str
) -> tuple[float, float, float, float] | None:
    values = [number(v) for v in xyxy]
    numbers = [v for v in values if v is not None]
    if len(numbers) != 4 or len(values) != 4 or any(_FAR_PX < abs(v) < math.inf for v in numbers):
        value = [str(v)[:30] for v in xyxy][:6]
        tell(Finding("broken_label", file, value, detail=f"{what} has the box {value}; wanted four numbers"))
        return None
    left, top, right, bottom = (round(v, DECIMALS) if math.isfinite(v) else v for v in numbers)
    return checked_box((left, top, right, bottom), size_wh, tell, file=file, what=what)


def _inside(
    polygons: list[np.ndarray], size_wh: tuple[int, int], tell: OnFinding, file: str, what: str
) -> tuple[list[np.ndarray], tuple[float, float, float, float] | None]:
    """The outlines, cut at the image's edge where they leave it, and the box around them."""
    points = np.concatenate(polygons)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    over = max(-left, -top, right - size_wh[0], bottom - size_wh[1])
    if over > OUTSIDE_PX:
        detail = f"{what} leaves the {size_wh[0]}x{size_wh[1]} image by {over:g} px"
        tell(Finding("box_outside", file, [left, top, right, bottom], detail=detail))
        cut = [np.clip(polygon, 0, size_wh) for polygon in polygons]
        polygons = [polygon for polygon in cut if np.ptp(polygon, axis=0).all()]
        if not polygons:
            return [], None
        points = np.concatenate(polygons)
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return polygons, checked_box((left, top, right, bottom), size_wh, tell, file=file, what=what)


def sides(left: Any, top: Any, width: Any, height: Any) -> list[Any]:
    """Left, top, width, height as left, top, right, bottom; what is no number stays as it is, to be told."""
    x, y, w, h = (number(v) for v in (left, top, width, height))
    if x is None or y is None or w is None or h is None:
        return [left, top, width, height, "not numbers"]
    return [x, y, x + w, y + h]


def ordered(x1: Any, y1: Any, x2: Any, y2: Any) -> list[Any]:
    """Two opposite corners, drawn from anywhere, as left, top, right, bottom."""
    a, b, c, d = (number(v) for v in (x1, y1, x2, y2))
    if a is None or b is None or c is None or d is None:
        return [x1, y1, x2, y2, "not numbers"]
    return [min(a, c), min(b, d), max(a, c), max(b, d)] if all(map(math.isfinite, (a, b, c, d))) else [a, b, c, d]


def turned(xyxy: Sequence[float], degrees: float, about: tuple[float, float] | None = None) -> np.ndarray:
    """The corners, (4, 2) px, of a box turned clockwise about a point, its middle if none is given."""
    left, top, right, bottom = xyxy
    x, y = ((left + right) / 2, (top + bottom) / 2) if about is None else about
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - (x, y)
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(np.round(corners @ matrix + (x, y), DECIMALS))


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> np.ndarray:
    """An outline of an ellipse, (ROUND, 2) px."""
    at = np.arange(ROUND) * (2 * math.pi / ROUND)
    angle = math.radians(degrees)
    points = np.stack([rx * np.cos(at), ry * np.sin(at)], axis=1)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(np.round(points @ matrix + (x, y), DECIMALS))
