"""VGG Image Annotator (VIA): projects and exports of versions 1, 2 and 3 as JSON, and its CSV.

https://www.robots.ox.ac.uk/~vgg/software/via/. Rectangles are boxes; polygons, circles and ellipses outlines; points
and lines are told (unheld_mark). The class of a region is its only attribute, or the one called class, label, category,
name or type; without any attribute all regions are of class 0. An image without regions is one nobody labeled, since
VIA lists every image that was opened; where no image has regions, the class is that of the file's attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.csv_table import first_rows, plain, table
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import LARGE, json_value
from handful.data.listed import Row, assembled, root_of
from handful.data.marks import Said
from handful.data.paths import Shelf
from handful.data.via_rows import Image, class_key, class_of, images_in_csv, images_of, mark_of
from handful.errors import DataError
from handful.types import Dataset

TITLE = "VIA (VGG Image Annotator) JSON and CSV"
TREE = """\
via_region_data.json   {"a.jpg12345": {"filename": "a.jpg", "size": 12345, "file_attributes": {}, "regions": [
                         {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 49, "height": 59},
                          "region_attributes": {"class": "mug"}}]}}
a.jpg
"""
PRECEDENCE = 33
MARKS = True
_V12 = re.compile(rb'"(shape_attributes|file_attributes|_via_img_metadata|_via_settings)"\s*:')
_V3 = re.compile(rb'"(vid|fid_list|anchor_id|pid)"\s*:')


def _is_json(data: bytes) -> bool:
    return _V12.search(data) is not None or (len(set(_V3.findall(data))) >= 2 and b'"project"' in data)


def _is_csv(data: bytes) -> bool:
    rows = first_rows(data, 2)
    return bool(rows) and {"filename", "regionshapeattributes"} <= {plain(cell) for cell in rows[0]}


def _is_it(name: str, root: Path) -> bool:
    data = sniff.ends(root / name)
    return (name.lower().endswith(".json") and _is_json(data)) or (name.lower().endswith(".csv") and _is_csv(data))


def detect(folder: Path) -> bool:
    """Whether VIA's files lie below the folder, or it is one."""
    folder = Path(folder)
    if folder.is_file():
        return _is_it(folder.name, folder.parent)
    found = sniff.likely(folder, ".json", is_it=_is_json)
    return found is not None or sniff.likely(folder, ".csv", is_it=_is_csv) is not None


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every file of VIA's below a folder; the images' headers are read for their sizes.

    Raises DataError when there is none, and when it is not clear which attribute is the class.
    """
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = [place.name] if place.is_file() else [n for n in shelf.others if _is_it(n, root)]
    held: list[tuple[str, Image]] = []
    for name in names:
        if not shelf.inside(name, on_finding):
            continue
        if name.lower().endswith(".csv"):
            rows = table(root / name, root, on_finding)
            found = [] if rows is None else images_in_csv(rows, on_finding, file=name)
        else:
            found = images_of(json_value(root / name, root, on_finding, most=LARGE), on_finding, file=name)
        held += [(name, image) for image in found]
    if not names:
        raise DataError(f"{folder} has no file of VIA's in it; wanted its JSON or CSV")
    return assembled("via", shelf, _rows(held, names[0], on_finding), on_finding)


def _rows(held: list[tuple[str, Image]], file: str, on_finding: OnFinding) -> Iterator[Row]:
    regions = any(image.regions for _, image in held)
    said = [r for _, image in held for _, r in image.regions] if regions else [i.attributes for _, i in held]
    key = class_key(said)
    if isinstance(key, list):
        names = ", ".join(key)[:200]
        detail = f"has the attributes {names}; which is the class? Call it class, or keep that one alone"
        on_finding(Finding("broken_label", file, key[:20], detail=detail))
        return
    for name, image in held:
        yield Row(image.name, name, lambda tell, i=image, n=name: _said(i, key, regions, n, tell))  # type: ignore[misc]


def _said(image: Image, key: str | None, regions: bool, file: str, tell: OnFinding) -> Said:
    if regions:
        name = str(image.name)[:100]
        marks = [mark_of(shape, said, key, f"{name}, region {i}") for i, (shape, said) in enumerate(image.regions)]
        return Said(marks or None, attributes=image.attributes)
    label, fault = class_of(image.attributes.get(key)) if key is not None and key in image.attributes else (None, None)
    if fault is not None and fault[0] == "several_classes":
        tell(Finding(fault[0], file, fault[1], detail=f"says that {str(image.name)[:100]} {fault[2]}"))
    rest: dict[str, Any] = {k: v for k, v in image.attributes.items() if k != key}
    return Said(label=label, attributes=rest)
