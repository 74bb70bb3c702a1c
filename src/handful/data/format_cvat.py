"""CVAT XML: "CVAT for images 1.1" and "CVAT for video 1.1", annotations.xml beside images/.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/. Boxes, polygons, ellipses, masks and turned boxes; the
tag of an image is its class. Polygons of one class and group_id are parts of one object. Points, lines, cuboids and
skeletons are told (unheld_mark). Of a video the frames must lie there as images; a box is drawn in between its frames
on straight lines, as CVAT does.

Not held: tracks, parents, licenses, classes and boxes beside outlines or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from handful.data import cvat_rows, sniff
from handful.data.coco_rows import categories_of
from handful.data.cvat_tracks import frames_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import size_of
from handful.data.listed import Row, assembled, classes_in, root_of, silent
from handful.data.marks import Mark, Said, class_text
from handful.data.paths import Shelf
from handful.data.reading import label_bytes
from handful.data.voc_classes import ILLEGAL
from handful.data.writing import Writer, size_for_writing
from handful.data.xml_tree import xml_tree
from handful.errors import DataError
from handful.types import Category, Dataset

TITLE = "CVAT XML (for images and for video)"
TREE = """\
annotations.xml   <annotations><version>1.1</version><image id="0" name="a.jpg" width="160" height="120">
                    <box label="mug" xtl="1" ytl="1" xbr="50" ybr="60"/></image></annotations>
images/
  a.jpg
"""
PRECEDENCE = 31
MARKS = True
_MOST_BYTES, _MOST_ELEMENTS = 1 << 28, 5_000_000
_TOP = re.compile(rb"<annotations[\s>]")
_INSIDE = re.compile(rb"<(image|track|meta|version)[\s>]")


def _is_it(data: bytes) -> bool:
    return _TOP.search(data) is not None and _INSIDE.search(data) is not None


def detect(folder: Path) -> bool:
    """Whether CVAT's XML lies below the folder, or it is such a file."""
    return sniff.is_there(folder, ".xml", is_it=_is_it)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every XML file of CVAT's below a folder. Raises DataError when there is none."""
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = sniff.all_of(place, shelf.others, ".xml", is_it=_is_it)
    if not names:
        raise DataError(f"{folder} has no XML file of CVAT's in it; wanted <annotations> with <image> or <track>")
    rows: list[Row] = []
    listed: dict[str, Any] = {}
    for name in names:
        data = label_bytes(root / name, root, on_finding, most=_MOST_BYTES) if shelf.inside(name, on_finding) else None
        top = None if data is None else xml_tree(data, "annotations", on_finding, file=name, most=_MOST_ELEMENTS)
        if top is not None:
            listed.update(_labels(top))
            rows += _images(top, name)
            rows += frames_of(top, shelf, name, on_finding)
    used = frozenset[str]().union(*(classes_in(row.said(silent)) for row in rows))
    order = [*listed, *sorted(used - listed.keys())]
    table = [{"id": i, "name": name, "color": listed.get(name)} for i, name in enumerate(order, 1)]
    categories = categories_of(table, on_finding, file=names[0])
    return assembled("cvat", shelf, rows, on_finding, categories=categories)


def _labels(top: Element) -> Iterator[tuple[str, list[int] | None]]:
    """The classes that the file lists, with their colors; those inside skeletons are no classes."""
    for node in top.iterfind("meta//labels/label"):
        name = class_text(node.findtext("name") or "")
        if name is not None and not (node.findtext("parent") or "").strip():
            rgb = re.fullmatch(r"#([0-9a-fA-F]{6})", (node.findtext("color") or "").strip())
            yield name, None if rgb is None else [int(rgb[1][i : i + 2], 16) for i in (0, 2, 4)]


def _images(top: Element, file: str) -> Iterator[Row]:
    for node in top.iterfind("image"):
        subset, name = node.get("subset"), node.get("name")
        own = f"images/{subset}/{name}" if subset else name
        yield Row(own, file, lambda tell, node=node: _said(node, file, tell), split=_split(subset))  # type: ignore[misc]


def _split(subset: str | None) -> str | None:
    """A subset of a task; "default" is CVAT's name for none."""
    return None if subset is None else "" if subset.lower() in ("", "default") else subset


def _said(image: Element, file: str, tell: OnFinding) -> Said:
    size = size_of(image.get("width"), image.get("height"))
    marks, groups = [], []
    for i, node in enumerate((n for n in image if n.tag in cvat_rows.SHAPES), 1):
        marks.append(cvat_rows.mark_of(node, f"image {image.get('id')}, {node.tag} {i}", size))
        groups.append((node.tag, marks[-1].label, marks[-1].attributes.get("group_id")))
    tags = [name for node in image.iterfind("tag") if (name := class_text(node.get("label"))) is not None]
    if len(set(tags)) > 1:
        detail = f"says that {image.get('name')} is {' and '.join(sorted(set(tags)))[:200]}; wanted one class"
        tell(Finding("several_classes", file, sorted(set(tags))[:20], detail=detail))
    label = tags[0] if len(set(tags)) == 1 else None
    attributes = cvat_rows.attributes_of(image)
    return Said(None if tags and not marks else _joined(marks, groups), size, label, attributes)


def _joined(marks: Sequence[Mark], groups: Sequence[tuple[str, Any, Any]]) -> list[Mark]:
    """Polygons of one class and group are parts of one object."""
    found: list[Mark] = []
    first: dict[tuple[str, Any, Any], int] = {}
    for mark, key in zip(marks, groups, strict=True):
        if key[0] != "polygon" or key[2] is None or key not in first:
            if key[0] == "polygon" and key[2] is not None:
                first[key] = len(found)
            found.append(mark)
        else:
            other = found[first[key]]
            found[first[key]] = Mark(**{**other.__dict__, "polygons": [*other.polygons, *mark.polygons]})
    return found


def write(dataset: Dataset, writer: Writer) -> None:
    """Write annotations.xml ("CVAT for images 1.1") and images/, with a folder for each split, CVAT's subsets.

    An image nobody labeled is not listed. Raises DataError for a class name that XML cannot hold.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    splits = list(dict.fromkeys(sample.split for sample in dataset if sample.split))
    about = SubElement(SubElement(root, "meta"), "project" if splits else "task")
    tasks = SubElement(about, "tasks") if splits else about
    for name in splits:  # a task for each subset, which is where CVAT and Datumaro look for their names
        SubElement(SubElement(tasks, "task"), "subset").text = name
    labels = SubElement(about, "labels")
    keys = _attribute_names(dataset)
    for c in dataset.categories:
        _add_label(labels, c, sorted(keys.get(c.name, ())))
    for i, sample in enumerate(dataset):
        before = f"images/{sample.split}/" if sample.split else "images/"
        name = writer.image(sample, before + sample.name).removeprefix(before)
        if sample.objects is None and sample.label is None:
            continue
        width, height = size_for_writing(sample)
        if ILLEGAL.search(name):
            raise DataError(f"XML cannot hold the name {name!r}; rename the image")
        named = {"id": str(i), "name": name, **({"subset": sample.split} if sample.split else {})}
        node = SubElement(root, "image", {**named, "width": str(width), "height": str(height)})
        used = [t.attributes.get("group_id") for t in sample.objects or ()]
        free = iter(n for n in range(1, 1 << 30) if n not in used)
        for thing in sample.objects or ():
            if len(thing.polygons_px) > 1 and thing.rle is None and type(thing.attributes.get("group_id")) is not int:
                thing = type(thing)(**{**thing.__dict__, "attributes": {**thing.attributes, "group_id": next(free)}})
            cvat_rows.add(node, thing)
        if sample.label is not None:
            SubElement(node, "tag", {"label": sample.label, "source": "manual"})
        cvat_rows.add_attributes(node, sample.attributes)
    indent(root, "  ")
    writer.path("images/x")
    text = tostring(root, encoding="unicode")
    writer.text("annotations.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _attribute_names(dataset: Dataset) -> dict[str, set[str]]:
    """What is said of the objects of each class: CVAT takes only attributes that a class declares."""
    found: dict[str, set[str]] = {}
    for sample in dataset:
        for thing in sample.objects or ():
            names = thing.attributes.keys() - {"occluded", "group_id"} | ({cvat_rows.CROWD} if thing.crowd else set())
            found.setdefault(thing.label, set()).update(names)
    return found


def _add_label(labels: Element, category: Category, attributes: Sequence[str]) -> None:
    if ILLEGAL.search(category.name) or category.name != category.name.strip():
        raise DataError(f"XML cannot hold the class {category.name!r}; rename it")
    label = SubElement(labels, "label")
    SubElement(label, "name").text = category.name
    if category.rgb is not None:
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*category.rgb)
    held = SubElement(label, "attributes")
    for name in attributes:
        if ILLEGAL.search(name):
            raise DataError(f"XML cannot hold the attribute {name!r}; rename it")
        attribute = SubElement(held, "attribute")
        for tag, text in (("name", name), ("mutable", "False"), ("input_type", "text"), ("values", "")):
            SubElement(attribute, tag).text = text
