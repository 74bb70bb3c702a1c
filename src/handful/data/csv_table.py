"""Label files in CSV: comma, semicolon or tab, with or without a header; columns by the many names that they have."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handful.data.finding import Finding, OnFinding
from handful.data.paths import is_image_name, relative
from handful.data.reading import label_text

MOST_BYTES = 1 << 28
_PLAIN = re.compile(r"[^a-z0-9]+")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*[-+]?(nan|inf|infinity)\s*", re.IGNORECASE)


@dataclass
class Table:
    """The rows of a CSV file as text. header: its names in plain letters ("xmin"); [] when the first row is data."""

    header: list[str]
    titles: list[str]
    rows: list[list[str]]

    def column(self, *names: str) -> int | None:
        """Where the first of some columns is, None without it."""
        return next((self.header.index(name) for name in names if name in self.header), None)


def plain(title: str) -> str:
    """A column's name in small letters and digits only: "X_Min" is xmin."""
    return _PLAIN.sub("", title.strip().lstrip("\ufeff").lower())


def is_number(text: str) -> bool:
    """Whether a cell holds a number (NaN and infinity are numbers, to be told later)."""
    return len(text) < 400 and _NUMBER.fullmatch(text) is not None


def first_rows(data: bytes, most: int = 8) -> list[list[str]]:
    """The first whole rows of a file's beginning, to tell what it is; [] when it is no table."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[: most + 1]
    if not lines or len(lines[0]) > 20_000:
        return []
    try:
        return [row for row in csv.reader(lines[:most], delimiter=delimiter(lines[0])) if any(c.strip() for c in row)]
    except csv.Error:
        return []


def delimiter(line: str) -> str:
    """What stands between the cells of a line."""
    return max((",", ";", "\t"), key=line.count)


def table(path: Path, root: Path, on_finding: OnFinding) -> Table | None:
    """A CSV file, None after telling why it cannot be used; without a header if its first cell is an image's name."""
    file = relative(path, root)
    text = label_text(path, root, on_finding, most=MOST_BYTES, empty=False)
    if text is None:
        return None
    first = text.split("\n", 1)[0]
    try:
        held = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(first), skipinitialspace=True)
        rows = [row for row in held if any(cell.strip() for cell in row)]
    except csv.Error as error:
        on_finding(Finding("unreadable_labels", file, str(error), detail=f"is not readable CSV ({error})"))
        return None
    if rows and is_image_name(rows[0][0].strip()):
        return Table([], [], rows)
    titles = [cell.strip() for cell in rows[0]] if rows else []
    return Table([plain(cell) for cell in titles], titles, rows[1:])


def cells(row: Sequence[str], at: Sequence[int | None]) -> Iterator[str]:
    """Some cells of a row, "" where there is none."""
    for i in at:
        yield row[i].strip() if i is not None and i < len(row) else ""
