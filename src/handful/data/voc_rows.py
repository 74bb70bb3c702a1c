"""The XML of Pascal VOC, one image at a time: pure functions between its bytes and handful's types.

VOC counts pixels from 1 and its right and bottom belong to the box; here left = xmin - 1 and right = xmax, worked out
in decimals, so that 1.08 comes back as 1.08. What VOC has no tag for goes into <attributes>, as CVAT and Datumaro
write it, with its value as JSON where the bare text would mean something else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.masks import MAX_PIXELS
from handful.data.reading import Few
from handful.data.shapes import box_of, checked_box, checked_polygon
from handful.data.voc_classes import ILLEGAL, class_name
from handful.data.xml_tree import xml_tree
from handful.types import Object, Sample

FLAGS = ("truncated", "occluded", "difficult")
UNSAID = ("", "Unspecified")  # what VOC writes for a pose nobody noted
FROM_OBJECTS = "handful:mask"  # an attribute: the class map was painted from the objects, nobody drew it

_ROOT_TAGS = frozenset(("filename", "folder", "size", "object", "source", "owner", "segmented", "attributes"))
_SHAPES = ("bndbox", "polygon", "robndbox")
_MOST_TEXT = 100_000
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?", re.ASCII)
_ZERO = re.compile(r"0{1,9}(\.0{0,20})?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass
class Annotation:
    """What one XML file says. size_wh: None when it does not say, or says what no image can have (size_text).

    painted: the class map came from the objects.
    """

    filename: str = ""
    size_wh: tuple[int, int] | None = None
    size_text: str = ""
    objects: list[Element] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    painted: bool = False


def annotation(data: bytes, on_finding: OnFinding, *, file: str) -> Annotation | None:
    """One XML file's bytes, parsed; None after telling why they cannot be used."""
    root = xml_tree(data, "annotation", on_finding, file=file)
    if root is None:
        return None
    found = Annotation(filename=_text(root, "filename"), objects=root.findall("object"))
    found.size_wh, found.size_text = _size(root)
    if (folder := _text(root, "folder")) != "":
        found.attributes["folder"] = folder
    for tag in ("source", "owner"):
        node = root.find(tag)
        if node is not None and len(node):
            found.attributes[tag] = {str(child.tag): (child.text or "").strip() for child in node if not len(child)}
    if (segmented := _text(root, "segmented")) != "":
        found.attributes["segmented"] = value_of(segmented)
    for child in root:
        tag = str(child.tag)
        if tag not in _ROOT_TAGS and (value := _nested(child)) != "":
            found.attributes[tag] = [*found.attributes.get(tag, []), value] if len(child) else value
    found.attributes.update(_attributes(root))
    found.painted = found.attributes.pop(FROM_OBJECTS, None) is True
    return found


def _nested(node: Element) -> Any:
    """What an element says: its text, or an object of what is in it, a list for each tag."""
    if not len(node):
        return value_of(node.text or "")
    found: dict[str, list[Any]] = {}
    for child in node:
        found.setdefault(str(child.tag), []).append(_nested(child))
    return found


def _text(node: Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()


def _size(root: Element) -> tuple[tuple[int, int] | None, str]:
    """(the size, "") or (None, the text of one that no image can have)."""
    node = root.find("size")
    if node is None:
        return None, ""
    said = [_text(node, "width"), _text(node, "height")]
    sides = [_number(text) for text in said]
    width, height = (0 if v is None or not 0 < v < 1 << 20 or v % 1 else int(v) for v in sides)
    if not 0 < width * height <= MAX_PIXELS:
        return None, f"{said[0][:20]} x {said[1][:20]}"
    return (width, height), ""


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def value_of(text: str) -> Any:
    """The value of an attribute's text: JSON where it is JSON, CVAT's True and False, or else the text itself."""
    text = text.strip()
    if text in ("True", "False"):
        return text == "True"
    if len(text) > _MOST_TEXT:
        return text
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def text_of(value: Any) -> str:
    """The text that value_of turns into the value again."""
    if isinstance(value, str) and holds(value) and value not in ("True", "False") and value_of(value) == value:
        return value
    return json.dumps(value)


def holds(text: str) -> bool:
    """Whether XML gives a text back as it was: no control characters, no space at its ends."""
    return text == text.strip() and not ILLEGAL.search(text)


def _attributes(node: Element) -> dict[str, Any]:
    """The <attributes> of CVAT and Datumaro."""
    found: dict[str, Any] = {}
    for pair in node.iterfind("attributes/attribute"):
        name = _text(pair, "name")
        if name.startswith('"'):
            name = str(value_of(name))
        if name:
            found[name] = value_of(pair.findtext("value") or "")
    return found


def objects_of(
    said: Annotation, names: Mapping[str, str], size_wh: tuple[int, int] | None, on_finding: OnFinding, *, file: str,
    first: int = 1,
) -> list[Object]:  # fmt: skip
    """The objects of an XML file, in its order; what is wrong with the others is told.

    names: the class for each text that may stand in <name>. first: from which number on pixels are counted.
    """
    few = Few(on_finding)
    found = [
        object_of(node, number, names, size_wh, few, file=file, first=first)
        for number, node in enumerate(said.objects, 1)
    ]
    few.close()
    return [thing for thing in found if thing is not None]


def object_of(
    node: Element,
    number: int,
    names: Mapping[str, str],
    size_wh: tuple[int, int] | None,
    on_finding: OnFinding,
    *,
    file: str,
    first: int = 1,
) -> Object | None:
    """One <object>, or None after telling why it cannot be used."""
    raw = node.findtext("name") or ""
    label = names.get(raw) or names.get(raw.strip())
    what = f"object {number} ({raw.strip()[:60]})"
    if label is None:
        if raw.strip():
            detail, cause = f"{what} is of a class that is not listed", f"class {raw.strip()[:60]!r} is not listed"
            on_finding(Finding("unknown_category", file, raw.strip()[:60], detail=detail, cause=cause))
        else:
            on_finding(Finding("broken_label", file, number, detail=f"object {number} has no name"))
        return None
    polygon = _polygon(node, what, on_finding, file)
    box = None
    if polygon is None or node.find("bndbox") is not None:
        box = _box(node.find("bndbox"), what, size_wh, on_finding, file, first)
        if box is None:
            return None
    attributes: dict[str, Any] = {}
    for child in node:
        tag, text = str(child.tag), (child.text or "").strip()
        if len(child) and tag not in (*_SHAPES, "attributes"):  # <part>, <actions>
            attributes[tag] = [*attributes.get(tag, []), _nested(child)]
            continue
        if len(child) or tag in ("name", *_SHAPES, "attributes") or not text:
            continue
        if tag == "pose":
            value: Any = None if text in UNSAID else text
        else:
            value = value_of(text)
            # truncated and difficult stand in every VOC file: 0 says no more than their absence does elsewhere
            value = None if tag in ("truncated", "difficult") and value == 0 else value
        if value is not None:
            attributes[tag] = value
    attributes.update(_attributes(node))
    track = attributes.pop("track_id", None)
    if type(track) is not int and track is not None:
        attributes["track_id"], track = track, None
    crowd = attributes.pop("iscrowd", 0) in (1, True)
    return Object(label, box, () if polygon is None else (polygon,), None, crowd, track, attributes)


def _polygon(node: Element, what: str, on_finding: OnFinding, file: str) -> np.ndarray | None:
    """The outline of an object where it has one: Roboflow's x1, y1, x2, ..., LabelMe's <pt>, or a turned box."""
    shape, turned = node.find("polygon"), node.find("robndbox")
    if shape is not None:
        named = {str(child.tag): child.text or "" for child in shape}
        texts = [named.get(f"{axis}{i}", "") for i in range(1, len(shape) // 2 + 1) for axis in "xy"]
        if shape.find("pt") is not None:
            texts = [_text(point, axis) for point in shape.iterfind("pt") for axis in "xy"]
        numbers = [_number(text.strip()) for text in texts]
        flat = [math.nan if v is None else float(v) for v in numbers]
        return checked_polygon(flat, on_finding, file=file, what=what)
    if turned is None or node.find("bndbox") is not None:
        return None
    numbers = [_number(_text(turned, tag)) for tag in ("cx", "cy", "w", "h", "angle")]
    if None in numbers:
        return None
    x, y, w, h, angle = (float(v) for v in numbers if v is not None)
    along = np.array([math.cos(angle), math.sin(angle)]) * w / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * h / 2
    corners = np.add([-along - across, along - across, along + across, across - along], (x, y))
    return checked_polygon(corners.ravel().tolist(), on_finding, file=file, what=what)


def counts_from_zero(said: Annotation) -> bool:
    """Whether a box begins at pixel 0, which VOC does not have: such files count from 0, as many tools write them."""
    corners = (node.findtext(f"bndbox/{tag}") or "" for node in said.objects for tag in ("xmin", "ymin"))
    return any(_ZERO.fullmatch(text.strip()) for text in corners)


def _box(
    node: Element | None, what: str, size_wh: tuple[int, int] | None, on_finding: OnFinding, file: str, first: int
) -> tuple[float, float, float, float] | None:
    texts = [] if node is None else [_text(node, tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
    if texts and all(_NUMBER.fullmatch(t) or _NOT_FINITE.fullmatch(t) for t in texts):
        numbers = [_number(text) for text in texts]
        if None in numbers:
            value = [text[:30] for text in texts]
            on_finding(Finding("not_finite", file, value, detail=f"{what} has the box {value}"))
            return None
        left, top, right, bottom = (float(v - (first if i < 2 else 0)) for i, v in enumerate(numbers) if v is not None)
        if max(map(abs, (left, top, right, bottom))) <= 1e9:
            return checked_box((left, top, right, bottom), size_wh, on_finding, file=file, what=what)
    value = [text[:30] for text in texts]
    on_finding(
        Finding("broken_label", file, value, detail=f"{what} has the box {value}; wanted xmin, ymin, xmax, ymax")
    )
    return None


def xml_of(sample: Sample, filename: str, size_wh: tuple[int, int], *, painted: bool) -> str:
    """The XML of a sample, its objects in order. Raises DataError for a class name that XML cannot hold."""
    root = Element("annotation")
    rest = dict(sample.attributes)
    _plain(root, "folder", rest)
    SubElement(root, "filename").text = ILLEGAL.sub("?", filename)  # the file is found by its stem
    for tag in ("source", "owner"):
        value = rest.get(tag)
        if isinstance(value, dict) and value and all(_TAG.fullmatch(k) and _bare(v) for k, v in value.items()):
            node = SubElement(root, tag)
            for key, text in rest.pop(tag).items():
                SubElement(node, key).text = text
    size = SubElement(root, "size")
    for tag, side in (("width", size_wh[0]), ("height", size_wh[1]), ("depth", 3)):
        SubElement(size, tag).text = str(side)
    if type(rest.get("segmented")) is int:
        SubElement(root, "segmented").text = str(rest.pop("segmented"))
    if painted:
        rest[FROM_OBJECTS] = True
    _add_attributes(root, rest)
    for thing in sample.objects or ():
        _add_object(root, thing)
    indent(root, " " * 2)
    return tostring(root, encoding="unicode") + "\n"


def _bare(value: Any) -> bool:
    return isinstance(value, str) and holds(value)


def _plain(node: Element, tag: str, rest: dict[str, Any]) -> None:
    """Move a text from the rest to a tag of its own, if it comes back from there."""
    if _bare(rest.get(tag)) and rest[tag]:
        SubElement(node, tag).text = rest.pop(tag)


def _add_object(root: Element, thing: Object) -> None:
    box = box_of(thing)
    if box is None:
        return
    node = SubElement(root, "object")
    SubElement(node, "name").text = class_name(thing.label)
    rest = dict(thing.attributes)
    pose = rest.get("pose")
    if _bare(pose) and pose not in UNSAID:
        _plain(node, "pose", rest)
    else:
        SubElement(node, "pose").text = UNSAID[1]
    for flag in FLAGS:
        value = rest.get(flag)
        if flag != "occluded" or value in (0, 1):
            SubElement(node, flag).text = "1" if value == 1 else "0"
        if type(value) is int and (value == 1 or (value == 0 and flag == "occluded")):
            del rest[flag]
    bounds = SubElement(node, "bndbox")
    for i, tag in enumerate(("xmin", "ymin", "xmax", "ymax")):
        SubElement(bounds, tag).text = decimals(_tidy(box[i]) + (i < 2))
    if thing.crowd:
        rest["iscrowd"] = 1
    if thing.track is not None:
        rest["track_id"] = thing.track
    _add_attributes(node, rest)


def _tidy(value: float) -> Decimal:
    """A coordinate in decimals, without the noise that sums leave: 1.08 + 611.59 is 612.67."""
    short = round(float(value), 6)
    return Decimal(repr(short if abs(short - value) < 1e-9 else float(value)))


def decimals(value: Decimal) -> str:
    """A number without exponent and needless zeros: 48, 1.08."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _add_attributes(node: Element, values: Mapping[str, Any]) -> None:
    if not values:
        return
    list_ = SubElement(node, "attributes")
    for name, value in values.items():
        pair = SubElement(list_, "attribute")
        bare = holds(name) and name and not name.startswith('"')
        SubElement(pair, "name").text = name if bare else json.dumps(name)
        SubElement(pair, "value").text = text_of(value)
