"""Files that name the classes of masks, as tools and authors leave them: a name a line, or a table with colors.

classes.txt, labels.txt, class_names.txt, codes.txt, *.names: a name a line, from 0. _classes.csv (Roboflow): value and
name. class_dict.csv: name, red, green, blue. label_colors.txt: red green blue name. labelmap.txt (CVAT):
name:red,green,blue::.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import above
from handful.data.label_names import MAX_ID, Labels, colors_of
from handful.data.paths import relative
from handful.data.reading import label_text

NAMES = re.compile(
    r"(?i)(_?(classes|class_?names|class_?dict|class_?list|labels|label_?names|label_?colou?rs|label_?map|codes|names|"
    r"categories|category_?names|obj)(\.(txt|csv|names))|.*\.names)"
)
MOST = 1 << 22


def is_class_list(name: str) -> bool:
    """Whether a file is called as lists of classes are."""
    return NAMES.fullmatch(name) is not None


def find(folder: Path, folders: Iterable[str]) -> list[Path]:
    """The lists of classes in a folder, or in those of its folders that are named and their parents; nearest first.

    Of a split alone, where it has none, those beside it.
    """
    seen: dict[Path, None] = {}
    for name in sorted(folders, key=lambda n: -n.count("/")):
        place = folder / name
        while place != folder and folder in place.parents:
            seen[place] = None
            place = place.parent
    seen[folder] = None
    found = [path for place in seen if place.is_dir() for path in _lists_in(place)]
    return found or (_lists_in(folder / "..") if above(folder) is not None else [])


def _lists_in(place: Path) -> list[Path]:
    return [path for path in sorted(place.iterdir()) if path.is_file() and is_class_list(path.name)]


def named(folder: Path, lists: Sequence[Path], on_finding: OnFinding) -> Labels | None:
    """The classes of the first of some lists that can be read, or None; one that says otherwise is told."""
    found = [(path, labels) for path in lists if (labels := read(path, folder, on_finding)) is not None]
    for path, labels in found[1:]:
        if labels.categories != found[0][1].categories:
            names = " and ".join(sorted(str(p.relative_to(folder)) for p in (found[0][0], path)))
            on_finding(Finding("unreadable_labels", names, detail="name the values of the masks in two ways"))
    return found[0][1] if found else None


def read(path: Path, root: Path, on_finding: OnFinding) -> Labels | None:
    """The classes that a list names, or None after telling why it cannot be read."""
    file = relative(path, root)
    text = label_text(path, root, on_finding, most=MOST, empty=False)
    if text is None:
        return None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if "\0" in text or not lines or len(lines) > MAX_ID:
        detail = f"is no list of classes ({len(lines)} lines); wanted a name a line"
        on_finding(Finding("unreadable_labels", file, len(lines), detail=detail))
        return None
    try:
        table = _table(lines)
    except csv.Error as error:
        on_finding(Finding("unreadable_labels", file, str(error), detail=f"is no list of classes ({error})"))
        return None
    rows = table or [{"id": i, "name": line} for i, line in enumerate(numbers_before(lines) or lines)]
    categories = categories_of(rows, on_finding, file=file)
    return Labels(categories, colors=colors_of(categories))


def numbers_before(lines: Sequence[str]) -> list[str] | None:
    """The names of lines that begin with their numbers, 0, 1, 2, ...: "0 cup", "1: plate"; None for other lines."""
    apart = [re.fullmatch(r"\s*(\d{1,5})\s*(?:[:=.)\t]|\s)\s*(\S.*)", line) for line in lines]
    found = [match[2].strip() for match in apart if match is not None]
    numbers = [int(match[1]) for match in apart if match is not None]
    return found if len(lines) > 1 and numbers == list(range(len(lines))) else None


def _table(lines: Sequence[str]) -> list[dict[str, object]] | None:
    """Rows of a list that says more than names, or None."""
    colon = [re.fullmatch(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*", line) for line in lines]
    if all(colon):
        return [_row(i, m[1], m.group(2, 3, 4)) for i, m in enumerate(colon) if m is not None]
    spaced = [re.fullmatch(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(.+)", line) for line in lines]
    if all(spaced):
        return [_row(i, m[4], m.group(1, 2, 3)) for i, m in enumerate(spaced) if m is not None]
    cells = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    width = len(cells[0])
    if width < 2 or any(len(row) != width for row in cells):
        return None
    head = [cell.lower() for cell in cells[0]]
    body = cells[1:] if not any(_is_number(cell) for cell in cells[0]) else cells
    if width == 2 and all(_is_number(row[0]) for row in body):
        return [{"id": int(row[0]), "name": row[1]} for row in body]
    if width == 2 and all(_is_number(row[1]) for row in body):
        return [{"id": int(row[1]), "name": row[0]} for row in body]
    if width == 4 and all(all(_is_number(cell) for cell in row[1:]) for row in body):
        return [_row(i, row[0], row[1:]) for i, row in enumerate(body)]
    if width == 4 and all(all(_is_number(cell) for cell in row[:3]) for row in body):
        return [_row(i, row[3], row[:3]) for i, row in enumerate(body)]
    numbers = [i for i, cell in enumerate(head) if cell in ("id", "index", "value", "pixel value", "label id")]
    names = [i for i, cell in enumerate(head) if cell in ("name", "class", "label", "category")]
    if len(numbers) == 1 and len(names) == 1 and all(_is_number(row[numbers[0]]) for row in body):
        return [{"id": int(row[numbers[0]]), "name": row[names[0]]} for row in body]
    return None


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) < 10


def _row(i: int, name: str, rgb: Sequence[str]) -> dict[str, object]:
    return {"id": i, "name": name, "color": [int(value) for value in rgb]}
