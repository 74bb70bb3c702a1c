"""Annotations of an image or a clip: checked once, and turned into JSON and into objects without loss."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from handful.data.shapes import OUTSIDE_PX, decompress
from handful.errors import DataError
from handful.types import Object, Rle

Box = tuple[float, float, float, float]
# what each kind must hold; "somewhere" is an object that is in the image, nobody said where
OBJECTS = {"box": "box_px", "polygon": "polygons_px", "mask": "rle", "point": "point_px", "somewhere": ""}
# "area" and "ignore" together are the class of each pixel: the pixels of one class, and those nobody decided on
KINDS = {**OBJECTS, "tag": "", "area": "rle", "ignore": "rle", "empty": "", "track": "keyframes"}
CLASSLESS = ("ignore", "empty")
_MAY = {"polygon": {"box_px"}, "mask": {"box_px", "polygons_px"}}
_SHAPES = ("box_px", "polygons_px", "rle", "point_px", "keyframes")
_WHOLE = 1 << 62


class Keyframe(NamedTuple):
    """Where an object is in one frame of a clip; box_px None: from this frame on it is out of view."""

    frame: int
    box_px: Box | None


@dataclass(frozen=True, eq=False)
class Annotation:
    """An annotation of an image, or (kind "track") of a clip. Pixels are the image's own, right and bottom exclusive.

    kind: one of KINDS. label: its class; None for "ignore" and "empty". box_px: left, top, right, bottom.
    polygons_px: outlines, each of (x, y) points. rle: painted pixels. point_px: (x, y). keyframes: by rising frame.
    crowd, track, attributes: as in `Object`. wide: an "area" or "ignore" of a mask with 16 bits a pixel.
    """

    kind: str
    label: str | None = None
    box_px: Box | None = None
    polygons_px: tuple[tuple[tuple[float, float], ...], ...] = ()
    rle: Rle | None = None
    point_px: tuple[float, float] | None = None
    keyframes: tuple[Keyframe, ...] = ()
    crowd: bool = False
    track: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    wide: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Annotation) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]

    def _parts(self) -> tuple[object, ...]:
        return self.kind, self.label, self.track, self.data()

    @staticmethod
    def of(thing: Object) -> Annotation:
        """The annotation that says what an object says. A point is an object with the attribute "point_px": [x, y]."""
        attributes, point = dict(thing.attributes), None
        if thing.rle is not None:
            kind = "mask"
        elif thing.polygons_px:
            kind = "polygon"
        elif thing.box_px is not None:
            kind = "box"
        elif "point_px" in attributes:
            kind, point = "point", attributes.pop("point_px")
        else:
            kind = "somewhere"
        outlines = tuple(np.asarray(p, dtype=np.float64) for p in thing.polygons_px)
        if any(p.ndim != 2 or p.shape[1] != 2 for p in outlines):
            raise DataError(f"an outline of {thing.label} is {[p.shape for p in outlines]}; wanted (n, 2) each")
        polygons = tuple(tuple((x, y) for x, y in p.tolist()) for p in outlines)
        return Annotation(
            kind, thing.label, thing.box_px, polygons, thing.rle, point, (), thing.crowd, thing.track, attributes
        )

    def object(self) -> Object:
        """The object that says the same. Raises DataError for a kind that is none (tag, area, ignore, empty, track)."""
        if self.kind not in OBJECTS or self.label is None:
            raise DataError(f"an annotation of kind {self.kind} is no object; wanted one of {', '.join(OBJECTS)}")
        attributes = dict(self.attributes)
        if self.point_px is not None:
            attributes["point_px"] = list(self.point_px)
        polygons = tuple(np.array(p, dtype=np.float64) for p in self.polygons_px)
        return Object(self.label, self.box_px, polygons, self.rle, self.crowd, self.track, attributes)

    def data(self) -> dict[str, Any]:
        """All but kind, label and track, as JSON; only what is there."""
        rle = self.rle
        parts: dict[str, Any] = {
            "box": self.box_px and list(self.box_px),
            "polygons": [[list(p) for p in outline] for outline in self.polygons_px],
            "rle": rle
            and {
                "size": list(rle.size_hw),
                "counts": rle.counts.decode("ascii") if isinstance(rle.counts, bytes) else list(rle.counts),
            },
            "point": self.point_px and list(self.point_px),
            "keyframes": [[k.frame, k.box_px and list(k.box_px)] for k in self.keyframes],
            "crowd": self.crowd,
            "attributes": dict(self.attributes),
            "wide": self.wide,
        }
        return {name: value for name, value in parts.items() if value}

    @staticmethod
    def from_data(kind: str, label: str | None, track: int | None, data: Mapping[str, Any]) -> Annotation:
        """The annotation that `data()` was made from."""
        return Annotation(
            kind,
            label,
            _box(data.get("box")),
            tuple(tuple((x, y) for x, y in outline) for outline in data.get("polygons", ())),
            _read_rle(data["rle"]) if "rle" in data else None,
            tuple(data["point"]) if "point" in data else None,
            tuple(Keyframe(frame, _box(box)) for frame, box in data.get("keyframes", ())),
            data.get("crowd", False),
            track,
            data.get("attributes", {}),
            data.get("wide", False),
        )

    def checked(self, size_wh: tuple[int, int] | None = None, frames: int | None = None) -> Annotation:
        """This annotation in plain numbers. Raises DataError when it cannot be meant.

        size_wh: (width, height) of the image in px, frames: length of the clip; None when unknown.
        """
        what = (
            f"a {self.kind} of class {self.label!r}"
            if self.label is not None
            else f"an annotation of kind {self.kind!r}"
        )
        if self.kind not in KINDS:
            raise DataError(f"there is no label of kind {self.kind!r}; wanted one of {', '.join(KINDS)}")
        if (self.label is None) != (self.kind in CLASSLESS):
            raise DataError(f"{what} {'without a class' if self.label is None else 'cannot have one'}; fix the label")
        must = KINDS[self.kind]
        for name in _SHAPES:
            value = getattr(self, name)
            there = value is not None and value != ()
            if there != (name == must) and not (there and name in _MAY.get(self.kind, ())):
                raise DataError(f"{what} {'has a' if there else 'has no'} {name}; wanted {must or 'no shape'}")
        if self.track is not None and not (_is_whole(self.track) and -_WHOLE < self.track < _WHOLE):
            raise DataError(f"{what} has the track {self.track!r}; wanted a whole number")
        return Annotation(
            self.kind,
            self.label,
            None if self.box_px is None else checked_box(self.box_px, size_wh, what),
            tuple(_outline(p, size_wh, what) for p in self.polygons_px),
            None if self.rle is None else _rle(self.rle, size_wh, what),
            None if self.point_px is None else _points([self.point_px], size_wh, what)[0],
            _keyframes(self.keyframes, size_wh, frames, what),
            bool(self.crowd),
            None if self.track is None else int(self.track),
            plain_json(self.attributes, what),
            bool(self.wide),
        )


@dataclass(frozen=True)
class Label:
    """An annotation in the store. image or clip: the id of where it is. author, time (UTC): who said so last, and when.

    version: the revision that last changed it; give it back when changing, so that nobody's change is lost.
    """

    id: int
    image: int | None
    clip: int | None
    annotation: Annotation
    author: str
    time: datetime
    version: int


@dataclass(frozen=True)
class Change:
    """One row of the history: `revision` did `action` to a label. before None: added. after None: removed.

    target: the revision that was undone or done again, else None. The version of `before` is not kept: 0.
    """

    revision: int
    action: str
    target: int | None
    author: str
    time: datetime
    label: int
    before: Label | None
    after: Label | None


def box_at(keyframes: Sequence[Keyframe], frame: int) -> Box | None:
    """Where an object is in a frame (px): straight lines between keyframes; None when out of view.

    Before the first and after the last keyframe nobody said anything: None. A box followed by an out-of-view keyframe
    stays where it is until then.
    """
    before = after = None
    for key in keyframes:
        if key.frame <= frame:
            before = key
        elif after is None:
            after = key
    if before is None or before.box_px is None or before.frame == frame:
        return before.box_px if before else None
    if after is None:
        return None
    if after.box_px is None:
        return before.box_px
    part = (frame - before.frame) / (after.frame - before.frame)
    a, b, c, d = (p + (q - p) * part for p, q in zip(before.box_px, after.box_px, strict=True))
    return a, b, c, d


def checked_box(box: Sequence[float], size_wh: tuple[int, int] | None, what: str) -> Box:
    """The box in plain numbers. Raises DataError unless finite, with area, and within a pixel of the image."""
    if len(box) != 4:
        raise DataError(f"{what} has a box of {len(box)} numbers; wanted left, top, right, bottom")
    (left, top), (right, bottom) = _points([box[:2], box[2:]], size_wh, what)
    if not (left < right and top < bottom):
        raise DataError(f"{what} has a box without area, {list(map(float, box))}; wanted left < right and top < bottom")
    return left, top, right, bottom


def plain_json(value: Any, what: str) -> Any:
    """A value as JSON gives it back: lists, plain numbers. Raises DataError for NaN, infinity and what JSON has not."""

    def plain(odd: Any) -> Any:
        if isinstance(odd, (np.generic, np.ndarray)):
            return odd.tolist()
        raise TypeError(f"{type(odd).__name__} has no JSON form")

    if isinstance(value, Mapping):
        value = dict(value)
        if not value:
            return {}
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} has something beside it that cannot be kept ({error}); wanted JSON values") from error


def checked_text(value: object, what: str) -> str:
    """A text that any database keeps. Raises DataError for NUL characters and bytes that are no text."""
    if not isinstance(value, str):
        raise DataError(f"{what} is {type(value).__name__}; wanted text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{what} {value!r} is not UTF-8; rename it") from None
    if "\0" in value:
        raise DataError(f"{what} {value!r} has a NUL character in it; rename it")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _box(box: Sequence[float] | None) -> Box | None:
    return None if box is None else (box[0], box[1], box[2], box[3])


def _read_rle(data: Mapping[str, Any]) -> Rle:
    counts = data["counts"]
    return Rle((data["size"][0], data["size"][1]), counts.encode("ascii") if isinstance(counts, str) else tuple(counts))


def _points(
    points: Sequence[Sequence[float]], size_wh: tuple[int, int] | None, what: str
) -> tuple[tuple[float, float], ...]:
    try:
        plain = tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} has a point that is not two numbers ({error}); wanted x, y in px") from error
    if not all(math.isfinite(v) for point in plain for v in point):
        raise DataError(f"{what} has NaN or infinity in it; wanted px")
    if size_wh is not None:
        width, height = size_wh
        for x, y in plain:
            over = max(-x, -y, x - width, y - height)
            if over > OUTSIDE_PX:
                raise DataError(
                    f"{what} leaves the {width}x{height} image by {over:g} px at ({x:g}, {y:g}); "
                    f"wanted {OUTSIDE_PX:g} px at most"
                )
    return plain


def _outline(
    points: Sequence[Sequence[float]], size_wh: tuple[int, int] | None, what: str
) -> tuple[tuple[float, float], ...]:
    if len(points) < 3:
        raise DataError(f"{what} has an outline of {len(points)} points; wanted 3 or more")
    return _points(points, size_wh, what)


def _rle(rle: Rle, size_wh: tuple[int, int] | None, what: str) -> Rle:
    height, width = map(int, rle.size_hw)
    if size_wh is not None and (width, height) != size_wh:
        raise DataError(f"{what} is painted on {width}x{height} px; the image has {size_wh[0]}x{size_wh[1]}")
    try:
        runs = decompress(rle.counts) if isinstance(rle.counts, bytes) else list(map(int, rle.counts))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} has run lengths that cannot be read ({error}); wanted COCO's") from error
    if min(height, width) < 1 or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise DataError(f"{what} has run lengths that sum to {sum(runs)}; wanted {height} x {width} px")
    if not any(runs[1::2]):
        raise DataError(f"{what} is painted on no pixel; wanted one or more")
    return Rle((height, width), rle.counts if isinstance(rle.counts, bytes) else tuple(runs))


def _keyframes(
    keyframes: Sequence[Keyframe], size_wh: tuple[int, int] | None, frames: int | None, what: str
) -> tuple[Keyframe, ...]:
    checked, last = [], -1
    for frame, box in keyframes:
        if not _is_whole(frame) or not last < frame < (_WHOLE if frames is None else frames):
            end = "" if frames is None else f", below {frames}"
            raise DataError(f"{what} has the keyframe {frame!r} after {last}; wanted whole numbers from 0, rising{end}")
        last = int(frame)
        checked.append(Keyframe(last, None if box is None else checked_box(box, size_wh, f"{what} in frame {frame}")))
    if checked and all(k.box_px is None for k in checked):
        raise DataError(f"{what} is never in view; wanted a box in one keyframe or more")
    return tuple(checked)
