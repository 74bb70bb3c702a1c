"""FiftyOne: data/ with labels.json (image classification and detection), or with samples.json (FiftyOneDataset).

https://docs.voxel51.com/user_guide/export_datasets.html. Boxes are fractions of the image. Of samples.json the field
ground_truth is read, or the only one that holds labels; polylines that are closed are outlines; masks in detections
are told (unheld_mark).
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.image_finder import split_name, split_word
from handful.data.json_labels import LARGE, json_value, number, size_of, wanted
from handful.data.listed import Row, assembled, classes_in, root_of, silent
from handful.data.marks import Mark, Said, class_text, unheld
from handful.data.paths import Shelf
from handful.errors import DataError
from handful.types import Category, Dataset

TITLE = "FiftyOne (labels.json, samples.json)"
TREE = """\
data/
  a.jpg
labels.json   {"classes": ["mug"], "labels": {"a": [{"label": 0, "bounding_box": [0.01, 0.01, 0.31, 0.49]}]}}
"""
PRECEDENCE = 39
MARKS = True
_CLASSES = re.compile(rb'"classes"\s*:\s*(null|\[)')
_LABELS = re.compile(rb'"labels"\s*:\s*\{')
_SAMPLES = re.compile(rb'"samples"\s*:\s*\[')
_KINDS = ("Classification", "Detection", "Detections", "Polyline", "Polylines", "Keypoints", "Segmentation")
_NO_FIELDS = frozenset(("filepath", "tags", "metadata"))
_OWN = frozenset(("_id", "_cls", "attributes", "label", "bounding_box", "mask", "index", "points", "closed", "filled",
                  "confidence", "tags", "mask_path"))  # fmt: skip


def _is_it(data: bytes) -> bool:
    return _SAMPLES.search(data) is not None or (_CLASSES.search(data) is not None and _LABELS.search(data) is not None)


def _ours(name: str, folder: Path) -> bool:
    at = posixpath.dirname(name)
    named = posixpath.basename(name) in ("labels.json", "samples.json")
    return named and (folder / at / "data").is_dir() and _is_it(sniff.ends(folder / name))


def detect(folder: Path) -> bool:
    """Whether labels.json or samples.json of FiftyOne's lies below the folder, beside data/."""
    folder = Path(folder)
    return folder.is_dir() and any(_ours(name, folder) for name in sniff.files(folder, ".json"))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such file below a folder. Raises DataError when there is none."""
    root = root_of(Path(folder))
    shelf = Shelf(root, root)
    names = [name for name in shelf.others if name.endswith(".json") and _ours(name, root)]
    if not names:
        raise DataError(f"{folder} has no labels.json or samples.json of FiftyOne's beside a folder data")
    rows: list[Row] = []
    listed: list[str] = []
    for name in names:
        value = json_value(root / name, root, on_finding, most=LARGE) if shelf.inside(name, on_finding) else None
        top = wanted(value, dict, "samples or labels", on_finding, file=name)
        if isinstance(top.get("samples"), list):
            rows += _samples(top["samples"], name, on_finding)
        else:
            classes = wanted(top.get("classes"), list, "classes", on_finding, file=name)
            called = [class_text(c) or "" for c in classes]
            listed += [c for c in called if c not in listed]
            rows += _labels(wanted(top.get("labels"), dict, "labels", on_finding, file=name), called, name)
    categories: tuple[Category, ...] | None = None
    if listed:
        more = frozenset[str]().union(*(classes_in(row.said(silent)) for row in rows)) - set(listed)
        table = [{"id": i, "name": name} for i, name in enumerate([*listed, *sorted(more)])]
        categories = categories_of(table, on_finding, file=names[0])
    return assembled("fiftyone", shelf, rows, on_finding, categories=categories)


def _beside(name: str) -> tuple[str, str | None]:
    """(the folder of a file's images, the split that its own folder says)."""
    at = posixpath.dirname(name)
    last = posixpath.basename(at)
    return posixpath.join(at, "data"), split_name(last)


def _labels(labels: Mapping[str, Any], called: Sequence[str], file: str) -> Iterator[Row]:
    data, split = _beside(file)
    for key, value in labels.items():

        def said(tell: OnFinding, key: str = key, value: Any = value) -> Said:
            if value is None:
                return Said()
            if not isinstance(value, list):
                if _name(value, called) is None:
                    detail = f"says that {key[:100]} is of class {str(value)[:60]}, which is not listed"
                    tell(Finding("unknown_category", file, str(value)[:60], detail=detail))
                return Said(label=_name(value, called))
            rows = [(row if isinstance(row, dict) else {}, i) for i, row in enumerate(value, 1)]
            named = [({**row, "label": _name(row.get("label"), called)}, f"{key[:100]}, box {i}") for row, i in rows]
            return Said(scaled=lambda size: [_detection(row, what, size) for row, what in named])

        yield Row(posixpath.join(data, key), file, said, split=split)


def _name(value: Any, called: Sequence[str]) -> str | None:
    """A class by its place in the list, or by its name."""
    if type(value) is int and called:
        return called[value] or None if 0 <= value < len(called) else None
    return class_text(value)


def _samples(samples: Sequence[Any], file: str, on_finding: OnFinding) -> Iterator[Row]:
    rows = [row for row in samples if isinstance(row, dict)]
    counts = Counter(key for row in rows for key, value in row.items()
                     if key not in _NO_FIELDS and isinstance(value, dict) and value.get("_cls") in _KINDS)  # fmt: skip
    field = "ground_truth" if "ground_truth" in counts else next(iter(counts), None)
    if len(counts) > 1 and field != "ground_truth":
        names = ", ".join(sorted(counts))[:200]
        detail = f"has labels in the fields {names}; which are the truth? Export one field, or call it ground_truth"
        on_finding(Finding("broken_label", file, sorted(counts)[:20], detail=detail))
        return
    _, split = _beside(file)
    for row in rows:
        path = row.get("filepath")
        tags = [t for t in row["tags"] if isinstance(t, str)] if isinstance(row.get("tags"), list) else []
        splits = [tag for tag in tags if split_word(tag)]
        name = posixpath.join(posixpath.dirname(file), path) if isinstance(path, str) else path
        yield Row(name, file, lambda tell, row=row: _said(row, field, file, tell),  # type: ignore[misc]
                  split=splits[0] if len(splits) == 1 else split)  # fmt: skip


def _said(row: Mapping[str, Any], field: str | None, file: str, tell: OnFinding) -> Said:
    about = row.get("metadata")
    size = size_of(about.get("width"), about.get("height")) if isinstance(about, dict) else None
    held = row.get(field) if field is not None else None
    if not isinstance(held, dict):
        return Said(size_wh=size)
    kind = held.get("_cls")
    what = posixpath.basename(str(row.get("filepath")))[:100]
    if kind == "Classification":
        return Said(size_wh=size, label=class_text(held.get("label")))
    if kind in ("Detections", "Detection"):
        things = held.get("detections") if kind == "Detections" else [held]
        rows = [thing if isinstance(thing, dict) else {} for thing in things] if isinstance(things, list) else []
        return Said(size_wh=size, scaled=lambda scale: [_detection(t, f"{what}, box {i}", scale)
                                                        for i, t in enumerate(rows, 1)])  # fmt: skip
    if kind in ("Polylines", "Polyline"):
        lines = held.get("polylines") if kind == "Polylines" else [held]
        rows = [line if isinstance(line, dict) else {} for line in lines] if isinstance(lines, list) else []
        return Said(size_wh=size, scaled=lambda scale: [_polyline(t, f"{what}, outline {i}", scale)
                                                        for i, t in enumerate(rows, 1)])  # fmt: skip
    tell(Finding("unheld_mark", file, str(kind)[:60], detail=f"has {kind} for {what}, which are not read"))
    return Said(size_wh=size)


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: v for k, v in row.items() if k not in _OWN and isinstance(v, str | int | float | bool)}
    own = row.get("attributes")
    return found | ({k: v for k, v in own.items() if not isinstance(v, dict | list)} if isinstance(own, dict) else {})


def _detection(row: Mapping[str, Any], what: str, size: tuple[int, int]) -> Mark:
    box, label = row.get("bounding_box"), row.get("label")
    if row.get("mask") is not None or row.get("mask_path") is not None:
        return Mark(label, what, fault=("unheld_mark", "mask", "has a mask in FiftyOne's own form; export it as COCO"))
    numbers = [number(v) for v in box] if isinstance(box, list) else []
    held = [v for v in numbers if v is not None]
    if len(held) != 4 or len(numbers) != 4:
        detail = f"has the box {str(box)[:60]}; wanted [left, top, width, height] as fractions"
        return Mark(label, what, fault=("broken_label", str(box)[:60], detail))
    x, y, w, h = (v * size[i % 2] for i, v in enumerate(held))
    return Mark(label, what, (x, y, x + w, y + h), attributes=_attributes(row))


def _polyline(row: Mapping[str, Any], what: str, size: tuple[int, int]) -> Mark:
    label, parts = row.get("label"), row.get("points")
    if row.get("closed") is not True and row.get("filled") is not True:
        return Mark(label, what, fault=unheld("line"))
    polygons = []
    for part in parts if isinstance(parts, list) else ():
        pairs = [p for p in part if isinstance(p, list) and len(p) == 2] if isinstance(part, list) else []
        numbers = [number(v) for pair in pairs for v in pair]
        polygons.append([None if v is None else round(v * size[i % 2], 6) for i, v in enumerate(numbers)])
    return Mark(label, what, polygons=polygons, attributes=_attributes(row))
