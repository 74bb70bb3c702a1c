"""The names of YOLO's classes where data.yaml has none: lists beside it, and the notes that Label Studio adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handful.data.class_lists import numbers_before
from handful.data.finding import Finding, OnFinding
from handful.data.json_labels import json_value, whole
from handful.data.paths import relative
from handful.data.reading import label_text

NAME_FILES = ("obj.names", "*.names", "classes.txt", "[Ll]abels/classes.txt", "_darknet.labels", "*/_darknet.labels",
              "*/classes.txt", "*/[Ll]abels/classes.txt", "*/*.names")  # fmt: skip
ABOVE = NAME_FILES[:3]  # of the folder above a split
NOTES = "notes.json"
_CONFIG_BYTES = 1 << 22
Names = list[tuple[Any, Any]] | None


def names_beside(
    root: Path, on_finding: OnFinding, patterns: Sequence[str] = NAME_FILES
) -> tuple[str, Names]:  # fmt: skip
    """(file, (id, name) of each class) of the first kind of list that is there; lists that disagree are told."""
    file, found = "", None
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            text = label_text(path, root, on_finding, most=_CONFIG_BYTES) if path.is_file() else None
            if text is None:
                continue
            names = _lines(text.rstrip().replace("\r\n", "\n").split("\n")) if text.strip() else []
            if found is None:
                file, found = relative(path, root), names
            elif found != names:
                detail = f"lists other classes than {file}, which is read"
                on_finding(Finding("duplicate_category", relative(path, root), file, detail=detail))
        if found is not None:
            break
    return file, found


def _lines(lines: Sequence[str]) -> list[tuple[Any, Any]]:
    """(id, name) of a name a line, or of lines that begin with their numbers from 0: "0: cup", "1: plate"."""
    numbered = numbers_before(lines)
    return list(enumerate(lines)) if numbered is None else list(enumerate(numbered))


def with_notes(file: str, names: Names, root: Path, on_finding: OnFinding) -> tuple[str, Names]:
    """The names, held against notes.json, in which Label Studio numbers the classes too; its own where there is no
    list.
    """
    path = root / NOTES
    value = json_value(path, root, on_finding) if path.is_file() else None
    rows = value.get("categories") if isinstance(value, dict) else None
    pairs = [(whole(row.get("id")), row.get("name")) for row in rows if isinstance(row, dict)] if rows and isinstance(
        rows, list) else []  # fmt: skip
    said: list[tuple[Any, Any]] = sorted((i, name) for i, name in pairs if i is not None and isinstance(name, str))
    if said and names is None:
        return NOTES, said
    held = [(whole(i), name) for i, name in names or ()]
    if said and sorted((i, name) for i, name in held if i is not None and isinstance(name, str)) != said:
        detail = f"numbers the classes otherwise than {file}, which is read; remove the one that is wrong"
        on_finding(Finding("category_mismatch", NOTES, [list(pair) for pair in said[:20]], detail=detail))
    return file, names
