"""CSV files that name the class of each image: Kaggle's train.csv, Roboflow's _classes.csv, tables of ones and zeros.

One column names images, with or without suffix; one, called label, class, category, ..., or the only other one, their
class; or there is a column of 0 and 1 for each class. An image of several ones is told (several_classes), one of none
is unlabeled. A column called split, set or subset says the split. sample_submission.csv is passed over.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath

from handful.data import sniff
from handful.data.csv_columns import IMAGES, NO_CLASSES, SPLITS, class_column, tell_words, unused_numbers
from handful.data.csv_table import Table, cells, first_rows, plain, table
from handful.data.finding import Finding, OnFinding, stop
from handful.data.format_csv_boxes import detect as has_boxes
from handful.data.format_csv_boxes import is_answer
from handful.data.listed import Row, assembled, in_split, root_of
from handful.data.marks import Said, class_text
from handful.data.paths import Shelf, folded, is_image_name
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Dataset

TITLE = "CSV of classes (Kaggle's train.csv, Roboflow's _classes.csv)"
TREE = """\
train.csv   id,label
            a,mug
            b,plate
train/
  a.jpg
  b.jpg
"""
PRECEDENCE = 36
FILE = "_classes.csv"
CLASSES = ("label", "class", "classname", "labelname", "category", "categoryname", "target", "labels", "classes",
           "breed", "species", "diagnosis", "dx", "classid", "labelid", "categoryid", "y")  # fmt: skip
IMAGE_COLUMNS = (*IMAGES, "filenames", "filepaths", "images", "imageids", "fname", "filenamejpg")
MASK_COLUMNS = frozenset(("encodedpixels", "rle", "rlemask", "maskrle", "segmentation", "polygon", "points", "mask"))
_ON, _OFF = ("1", "1.0", "true", "True"), ("0", "0.0", "false", "False", "")
_NUMBERS = re.compile(r"[\s\[\](]*-?\d+(\.\d+)?([\s,;\[\]()]+-?\d+(\.\d+)?){3,}[\s\[\])]*")
_NOTHING = frozenset(("", "?", "-", "n/a", "#n/a", "nan", "null"))  # as tables say that there is no class
_SEEN = 50  # rows that tell whether a column names images


def _names_images(values: Sequence[str], known: set[str]) -> bool:
    """Whether most of a column's texts are images that are there, by last name or stem."""
    held = [PurePosixPath(v.replace("\\", "/")).name for v in values if v]
    return len(held) > 0 and sum(folded(name) in known for name in held) * 2 > len(held)


def _known(images: Sequence[str]) -> set[str]:
    names = {folded(PurePosixPath(image).name) for image in images}
    return names | {PurePosixPath(name).stem for name in names}


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], known: set[str]) -> tuple[int, list[int]] | None:
    """(the column of images, the column of classes or those of ones and zeros), None when there are none."""
    order = sorted(range(len(header)), key=lambda i: (header[i] not in IMAGE_COLUMNS, i))
    seen = rows[:_SEEN]
    columns = [[next(cells(row, [i])) for row in seen] for i in range(len(header))]
    # numbers name images only where the column says so: 0,1,2 may be pixels' values, and 0.jpg be there
    may = [i for i in order if header[i] in IMAGE_COLUMNS or any(map(is_image_name, columns[i]))]
    image = next((i for i in may if _names_images(columns[i], known)), None)
    if image is None:
        return None
    rest = [i for i, name in enumerate(header) if i != image and name not in SPLITS and name]
    if MASK_COLUMNS & set(header):
        return None
    named = class_column(header, rows, CLASSES, {image})
    binary = [i for i in rest if all(v in _ON + _OFF for row in rows for v in cells(row, [i]))]
    if len(rest) >= 2 and len(binary) == len(rest):
        return image, rest
    if named is not None:
        return image, [named]
    if len(rest) != 1:
        return None
    # a caption or a date of each image is no class: classes come again
    values = [next(cells(row, rest)) for row in rows]
    again = len(set(values)) * 2 <= len(values) and header[rest[0]] not in NO_CLASSES
    return (image, rest) if again or header[rest[0]] == "id" else None


def _is_table(data: bytes, known: set[str]) -> bool:
    rows = first_rows(data, _SEEN)
    if len(rows) < 2 or is_image_name(rows[0][0].strip()):
        return False
    return _columns([plain(cell) for cell in rows[0]], rows[1:], known) is not None


def detect(folder: Path) -> bool:
    """Whether a CSV file below the folder names images that are there, with their classes."""
    folder = Path(folder)
    if folder.is_file():
        return folder.suffix.lower() == ".csv" and _ours(folder.name, folder.parent)
    if next(sniff.files(folder, ".csv"), None) is None or has_boxes(folder):
        return False
    known = _known(list(sniff.images(folder)))
    return any(not is_answer(name) and _is_table(sniff.ends(folder / name), known)
               for name in sniff.files(folder, ".csv"))  # fmt: skip


def _ours(name: str, root: Path) -> bool:
    return _is_table(sniff.ends(root / name), _known(list(sniff.images(root))))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every such CSV file below a folder. Raises DataError when there is none."""
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    known = _known(sorted(shelf.images))
    names = [place.name] if place.is_file() else [n for n in shelf.others if n.lower().endswith(".csv")]
    names = [n for n in names if not is_answer(n) and _is_table(sniff.ends(root / n), known)]
    if not names:
        raise DataError(f"{folder} has no CSV file in it that names its images and their classes")
    rows: list[Row] = []
    for name in names:
        held = table(root / name, root, on_finding) if shelf.inside(name, on_finding) else None
        at = None if held is None else _columns(held.header, held.rows, known)
        if held is not None and at is None:
            detail = f"has columns in which it is not clear which names the class ({', '.join(held.titles)[:200]})"
            on_finding(Finding("broken_label", name, held.titles[:20], detail=detail))
        elif held is not None and at is not None:
            if len(at[1]) == 1 and tell_words(held, at[1][0], {at[0]}, name, on_finding):
                continue
            _tell_places(held, {at[0], *at[1]}, name, on_finding)
            rows += _rows(held, name, *at)
    return assembled("csv_classes", shelf, rows, on_finding)


def _tell_places(held: Table, used: Set[int], file: str, on_finding: OnFinding) -> None:
    """Numbers beside the classes that speak of places, and so may be boxes or points: they would be lost in silence."""
    found = [held.titles[i] for i in (*unused_numbers(held.header, held.rows, used), *_lists(held, used))]
    if found:
        detail = (
            f"has numbers as {', '.join(found)[:200]} that may be boxes or points and were not read, beside its "
            "classes; call the columns of boxes xmin, ymin, xmax, ymax, or x_center, y_center, width, height, or take "
            "them away"
        )
        on_finding(Finding("unread_labels", file, found[:20], len(found), detail))


def _lists(held: Table, used: Set[int]) -> list[int]:
    """The columns whose cells hold four numbers or more: a box, an outline, run lengths."""
    texts = {i: [text for row in held.rows[:_SEEN] for text in cells(row, [i]) if text]
             for i in range(len(held.titles)) if i not in used}  # fmt: skip
    return [i for i, several in texts.items() if several and all(map(_NUMBERS.fullmatch, several))]


def _rows(held: Table, file: str, image: int, classes: Sequence[int]) -> Iterator[Row]:
    """A row an image: one that is listed again with the same class is listed once."""
    split_at = held.column(*SPLITS)
    several = _combined({text for row in held.rows for text in cells(row, classes)}) if len(classes) == 1 else {}
    by_image: dict[tuple[str, str], list[Sequence[str]]] = {}
    for row in held.rows:
        name, split = cells(row, [image, split_at])
        by_image.setdefault((name, split), []).append(row)
    for (name, split), rows in by_image.items():

        def said(tell: OnFinding, name: str = name, rows: Sequence[Sequence[str]] = rows) -> Said:
            return _said(held, rows, name, classes, several, file, tell)

        yield Row(name, file, said, split or None)


def _combined(texts: Set[str]) -> dict[str, list[str]]:
    """{text: its classes} of cells that name several: "Mass|Edema" where Mass is one by itself, or "scab rot" where
    both are and there are more such cells, since a hot dog is neither hot nor a dog."""
    found: dict[str, list[str]] = {}
    for mark in "|;,":
        apart = {text: [part.strip() for part in text.split(mark) if part.strip()] for text in texts if mark in text}
        alone = texts - apart.keys()
        known = {part for part, n in Counter(p for parts in apart.values() for p in set(parts)).items() if n > 1}
        whole = mark != "|"  # "Doe, Jane" may be one name
        for text, parts in apart.items():
            same = set(parts) & (alone | known)
            if len(parts) > 1 and (same == set(parts) if whole else same):
                found[text] = parts
    spaced = {text: text.split() for text in texts if " " in text}
    spaced = {text: parts for text, parts in spaced.items() if set(parts) <= texts}
    return found | (spaced if len(spaced) > 1 else {})


def _said(
    held: Table, rows: Sequence[Sequence[str]], name: str, classes: Sequence[int],
    several: Mapping[str, Sequence[str]], file: str, tell: OnFinding,
) -> Said:  # fmt: skip
    if len(classes) == 1:
        found = [text for row in rows for text in cells(row, classes) if text.lower() not in _NOTHING]
        on = list(dict.fromkeys(part for text in found for part in several.get(text, (text,))))
    else:
        on = [held.titles[k] for k in classes if any(next(cells(row, [k])) in _ON for row in rows)]
    if len(on) > 1:
        detail = f"says that {name[:100]} is of the classes {', '.join(on)[:200]}; wanted one"
        tell(Finding("several_classes", file, on[:20], detail=detail))
    return Said(label=class_text(on[0]) if len(on) == 1 else None)


def write(dataset: Dataset, writer: Writer) -> None:
    """Write each image into the folder of its split, and _classes.csv beside them: filename,label.

    An image of no class is not listed. Raises DataError for a class name that would not come back.
    """
    held: dict[str, list[tuple[str, str]]] = {}
    for sample in dataset:
        name = writer.image(sample, in_split(sample))
        rows = held.setdefault(sample.split or "", [])
        if sample.label is not None:
            if class_text(sample.label) != sample.label:
                raise DataError(f"a CSV file cannot hold the class {sample.label!r}; rename it")
            rows.append((name.removeprefix(f"{sample.split}/") if sample.split else name, sample.label))
    if not any(held.values()):
        raise DataError(f"{dataset.root} has no image with a class, and a CSV file of classes holds nothing else")
    for split, rows in held.items():
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(("filename", "label"))
        out.writerows(rows)
        writer.text(f"{split}/{FILE}" if split else FILE, text.getvalue())
