"""JSON files that name classes which are numbers elsewhere: cat_to_name.json, label_num_to_name.json, classes.json.

{"0": "cup", "1": "plate"}, {"cup": 0, "plate": 1}, {"0": ["n01440764", "tench"]}, or, called like a list of classes,
["cup", "plate"] from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import above
from handful.data.ledger import NAMES, note
from handful.data.marks import class_text
from handful.types import Category, Dataset, Sample

MOST_BYTES = 1 << 20
LEVELS = 2  # of folders that are looked at
LIST = re.compile(r"(?i)\w*(class|label|categor|name|code)\w*\.json")
_START = re.compile(rb'^(\xef\xbb\xbf)?\s*(\[\s*"|\{\s*"[^"]{1,200}"\s*:\s*("|\d+\s*[,}]|\[\s*"))')
_NUMBER = re.compile(r"\d{1,9}")
Names = dict[int, str]


def read(path: Path) -> Names | None:
    """{number: name} of a file that says nothing else, None for any other file."""
    if _START.match(sniff.ends(path)) is None or path.stat().st_size > MOST_BYTES:
        return None
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(value, list):
        named = dict(enumerate(value)) if LIST.fullmatch(path.name) else {}
    elif all(_NUMBER.fullmatch(key) for key in value):
        named = {
            int(key): name[1] if isinstance(name, list) and len(name) == 2 else name for key, name in value.items()
        }
        named = named if len(named) == len(value) else {}
    elif all(type(number) is int and number >= 0 for number in value.values()):
        named = {number: name for name, number in value.items()}
        named = named if len(named) == len(value) else {}
    else:
        return None
    held = {number: class_text(name) for number, name in named.items() if isinstance(name, str)}
    whole = {number: name for number, name in held.items() if name is not None}
    return whole if whole and len(whole) == len(named) else None


def find(folder: Path) -> dict[str, Names]:
    """The files that name classes by number in a folder and a little below it, by their paths."""
    opened: dict[str, int] = {}
    found: dict[str, Names] = {}
    for name in sniff.files(folder, ".json") if folder.is_dir() else ():
        at = name.rpartition("/")[0]
        opened[at] = opened.get(at, 0) + 1
        if name.count("/") < LEVELS and opened[at] <= sniff.EACH and (names := read(folder / name)) is not None:
            found[name] = names
    if not found and above(folder) is not None:  # of a split alone: those beside it, if they name its numbers
        beside = (p for p in sorted((folder / "..").glob("*.json"))[: sniff.EACH] if p.is_file())
        found = {f"../{path.name}": names for path in beside if (names := read(path)) is not None}
    return found


def are_numbers(names: Sequence[str]) -> bool:
    """Whether all classes of a set are called by numbers."""
    return len(names) > 0 and all(_NUMBER.fullmatch(name) for name in names)


def names_for(
    classes: Sequence[str], folder: Path, files: Mapping[str, Names], on_finding: OnFinding
) -> dict[str, str]:
    """{class: name} of classes that are numbers, from a file in their folder; {} without one.

    files: of `find`. Told is a file that does not name each class, or two of them alike, and files that name them in
    two ways.
    """
    if not files:
        return {}
    numbers = {int(name) for name in classes}
    files = {file: names for file, names in files.items() if not file.startswith("../") or numbers <= names.keys()}
    if not files:
        return {}
    (file, names), *others = files.items()
    for other, said in others:
        if any(said.get(n) != names.get(n) for n in numbers):
            detail = f"names the classes otherwise than {file}; take the one that is wrong away"
            on_finding(Finding("unread_labels", other, file, detail=detail))
            return {}
    missing = sorted(numbers - names.keys())
    if missing or len({names[n] for n in numbers}) < len(classes):
        why = f"has no name for {', '.join(map(str, missing[:5]))}" if missing else "names two of them alike"
        detail = f"names classes by number, and {why}; mend it, or take it away to go on with numbers"
        on_finding(Finding("unread_labels", file, missing[:20], detail=detail))
        return {}
    for name in files:
        note(folder / name, NAMES)
    return {name: names[int(name)] for name in classes}


def named(dataset: Dataset, folder: Path, on_finding: OnFinding) -> Dataset | None:
    """A set with the names that a file gives its numbers (names_for); None where no file does."""
    classes = [c.name for c in dataset.categories]
    called = names_for(classes, folder, find(folder), on_finding) if are_numbers(classes) else {}
    return _renamed(dataset, called) if called else None


def _renamed(dataset: Dataset, called: Mapping[str, str]) -> Dataset:
    """The same set with other names for its classes."""

    def of(sample: Sample) -> Sample:
        more: dict[str, Any] = {}
        if sample.label is not None:
            more["label"] = called.get(sample.label, sample.label)
        if sample.objects:
            more["objects"] = tuple(replace(o, label=called.get(o.label, o.label)) for o in sample.objects)
        return replace(sample, **more) if more else sample

    def category(c: Category) -> Category:
        return replace(c, name=called[c.name], parent=called.get(c.parent, c.parent) if c.parent else c.parent)

    return replace(
        dataset, categories=tuple(map(category, dataset.categories)), samples=lambda: (of(s) for s in dataset)
    )
