"""What the values of masks mean: labels.json, or a text file with a name a line.

labels.json holds {"labels": {"0": "other", ...}, "ignore": 255}; with several trees of masks in one folder it holds
{"<tree>": {...}, "<tree>_ignore": 255}, or "<tree>_ids" for the names. "rgb", "parents" and "things" say more of the
classes, by id; "splits" lists which first folders are splits, where names alone would mislead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handful.data.coco_rows import listed_categories
from handful.data.finding import Finding, OnFinding
from handful.data.reading import label_text
from handful.data.writing import Writer
from handful.files import to_json
from handful.types import Category

FILE = "labels.json"
LISTS = ("labels.txt", "classes.txt", "codes.txt", "class_names.txt", "label_names.txt")
MAX_ID = 65534  # 65535 is ignore in 16 bits
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """Classes of a tree of masks. ignore: the stored value that means "not labeled" beside the largest one.

    same: the first value of a class that has several. colors: the colors of the classes, where masks are colored.
    splits: the first folders that are splits; None when the file does not say. ours: whether the file is in the
    form that is written here.
    """

    categories: tuple[Category, ...]
    ignore: int | None = None
    colors: Mapping[Rgb, int] = field(default_factory=dict)
    splits: tuple[str, ...] | None = None
    ours: bool = False
    same: Mapping[int, int] = field(default_factory=dict)


def is_ours(folder: Path) -> bool:
    """Whether labels.json is there in the form that is written here."""
    top = _object(folder, lambda finding: None)
    return top is not None and isinstance(top.get("labels"), dict)


def labels_of(folder: Path, tree: str | None, on_finding: OnFinding) -> Labels | None:
    """The names for the masks in folder/tree, or None when no file names them; what is wrong in the files is told."""
    top = _object(folder, on_finding)
    for key in (tree, f"{tree}_ids", "labels"):
        if top is not None and key in top:
            return _labels(top, key, f"{tree}_ignore", on_finding)
    for name in LISTS:
        if (folder / name).exists():
            text = label_text(folder / name, folder, on_finding, empty=False)
            return None if text is None else _listed(text, name, on_finding)
    return None


def _object(folder: Path, on_finding: OnFinding) -> dict[str, Any] | None:
    path = folder / FILE
    text = label_text(path, folder, on_finding, empty=False) if path.exists() else None
    if text is None:
        return None
    doubled: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and found[key] != value:
                doubled.append(key)
            found[key] = value
        return {key: value for key, value in found.items() if key not in doubled}

    try:
        value = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        on_finding(
            Finding("unreadable_labels", FILE, str(error)[:200], detail=f"is not readable JSON ({str(error)[:200]})")
        )
        return None
    if doubled:
        detail = f"has the key {doubled[0]!r} twice, with two values; neither counts"
        on_finding(Finding("category_clash", FILE, doubled[0], len(doubled), detail=detail))
    if not isinstance(value, dict):
        detail = f"holds a JSON {type(value).__name__}; wanted an object"
        on_finding(Finding("unreadable_labels", FILE, type(value).__name__, detail=detail))
        return None
    return value


def _labels(top: Mapping[str, Any], key: str, ignore_key: str, on_finding: OnFinding) -> Labels:
    table = top[key]
    if not isinstance(table, dict):
        detail = f"has {key!r} that is a JSON {type(table).__name__}; wanted an object of names by id"
        on_finding(Finding("broken_label", FILE, type(table).__name__, detail=detail))
        table = {}
    ignore = top.get(ignore_key, top.get("ignore"))
    if ignore is not None and not (type(ignore) is int and 0 <= ignore <= MAX_ID + 1):
        on_finding(
            Finding("broken_label", FILE, str(ignore)[:60], detail=f"says to ignore {str(ignore)[:60]}; wanted a value")
        )
        ignore = None
    more = {what: _by_id(top.get(what, {}), what, on_finding) for what in ("rgb", "parents", "things")}
    rows = []
    for text, name in table.items():
        number = _number(text)
        if number is None:
            detail = f"has the id {text[:60]!r}; wanted a number from 0 to {MAX_ID}"
            on_finding(Finding("broken_label", FILE, text[:60], detail=detail))
        elif number != ignore:  # a name for what is not labeled is no class
            row = {"id": number, "name": name, "color": more["rgb"].get(number)}
            rows.append({**row, "supercategory": more["parents"].get(number), "isthing": more["things"].get(number)})
    categories, names, _ = listed_categories(rows, on_finding, file=FILE)
    for number, rgb in more["rgb"].items():
        if any(c.id == number and c.rgb is None for c in categories):
            detail = f"has the color {str(rgb)[:60]} for {number}; wanted three numbers from 0 to 255"
            on_finding(Finding("broken_label", FILE, number, detail=detail))
    splits = top.get("splits")
    if splits is not None and not (isinstance(splits, list) and all(isinstance(s, str) and s for s in splits)):
        on_finding(Finding("broken_label", FILE, str(splits)[:60], detail="has splits that are no list of names"))
        splits = None
    splits = None if splits is None else tuple(splits)
    return Labels(categories, ignore, colors_of(categories), splits, key == "labels", _same(categories, names))


def _same(categories: Sequence[Category], names: Mapping[int, str]) -> dict[int, int]:
    """The value of its class for each value that is a second one of a class."""
    first = {c.name: c.id for c in categories}
    return {value: first[name] for value, name in names.items() if first[name] != value}


def colors_of(categories: Sequence[Category]) -> dict[Rgb, int]:
    """The id of each color; of two classes of one color, the first."""
    found: dict[Rgb, int] = {}
    for c in categories:
        if c.rgb is not None:
            found.setdefault(c.rgb, c.id)
    return found


def _by_id(table: Any, what: str, on_finding: OnFinding) -> dict[int, Any]:
    if not isinstance(table, dict):
        on_finding(Finding("broken_label", FILE, type(table).__name__, detail=f"has {what!r} that is no object by id"))
        return {}
    return {number: value for text, value in table.items() if (number := _number(text)) is not None}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_ID else None


def _listed(text: str, file: str, on_finding: OnFinding) -> Labels:
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if len(lines) > MAX_ID:
        detail = f"has {len(lines)} lines; wanted a name a line, {MAX_ID} at most"
        on_finding(Finding("unreadable_labels", file, len(lines), detail=detail))
        lines = []
    if "\0" in text:
        on_finding(Finding("unreadable_labels", file, detail="is no text"))
        lines = []
    rows = [{"id": i, "name": name} for i, name in enumerate(lines)]
    categories, names, _ = listed_categories(rows, on_finding, file=file)
    return Labels(categories, same=_same(categories, names))


def write_labels(
    writer: Writer, categories: Sequence[Category], *, ignore: int, splits: Sequence[str] | None = None
) -> None:
    """Write labels.json."""
    top: dict[str, Any] = {"labels": {str(c.id): c.name for c in categories}, "ignore": ignore}
    more: dict[str, Callable[[Category], Any]] = {
        "rgb": lambda c: None if c.rgb is None else list(c.rgb),
        "parents": lambda c: c.parent,
        "things": lambda c: c.thing,
    }
    for key, of in more.items():
        said = {str(c.id): value for c in categories if (value := of(c)) is not None}
        if said:
            top[key] = said
    if splits is not None:
        top["splits"] = list(splits)
    writer.text(FILE, to_json(top) + "\n")
