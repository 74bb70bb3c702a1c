"""Label files in JSON: parsed, or told why not; numbers in them that are numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from handful.data.finding import Finding, OnFinding
from handful.data.paths import relative
from handful.data.reading import MOST_BYTES, label_text

LARGE = 1 << 29  # a file about all images


def json_value(path: Path, root: Path, on_finding: OnFinding, *, most: int = MOST_BYTES) -> Any:
    """What a JSON file holds, None after telling why it cannot be used; NaN and infinity are let through."""
    text = label_text(path, root, on_finding, most=most, empty=False)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested beyond use" if isinstance(error, RecursionError) else str(error)[:200]
        on_finding(Finding("unreadable_labels", relative(path, root), why, detail=f"is not readable JSON ({why})"))
        return None


def wanted(value: Any, kind: type, what: str, on_finding: OnFinding, *, file: str) -> Any:
    """The value if it is of a kind (dict or list), or an empty one after telling; None counts as empty."""
    if isinstance(value, kind):
        return value
    if value is not None:
        got = type(value).__name__
        detail = f"has {what} that are a JSON {got}; wanted {'an object' if kind is dict else 'a list'}"
        on_finding(Finding("broken_label", file, got, detail=detail))
    return kind()


def number(value: Any) -> float | None:
    """A number of JSON, or a text that is one, as float (NaN and infinity too); None for anything else."""
    if isinstance(value, str) and len(value) < 400:
        try:
            return float(value) if value.isascii() and "_" not in value else None
        except ValueError:
            return None
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value) if abs(value) < 1 << 1000 else math.inf
    return None


def whole(value: Any) -> int | None:
    """A whole number of JSON, also as 3.0 or "3"; None for anything else, and beyond 2 to the power of 53."""
    found = number(value)
    return int(found) if found is not None and found == found // 1 and abs(found) < 1 << 53 else None


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) in px as a file says them, None when no image can have them."""
    w, h = whole(width), whole(height)
    return (w, h) if w is not None and h is not None and 0 < w < 1 << 20 and 0 < h < 1 << 20 else None
