"""From the classes of one data set to the classes of another: reviewed tables, one CSV file a label map.

A table has the columns source, id, name, target and note. Each class of each source has its row, so nothing is mapped
by default: a class that fits no target goes to the rest ("other", "background") or to "ignore". The rows of the source
"target" are the targets themselves, with the ids they have in masks.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handful.errors import DataError
from handful.pick import unknown
from handful.types import Category, Dataset, Mask, Object, Sample

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # Python 3.10 has it elsewhere

IGNORE, VOCABULARY, OWN = "ignore", "target", "names"
REST = frozenset({"other", "background"})
NOT_LABELED = frozenset({"void", "unlabelled", "unlabeled", "ignore"})  # says so itself, in whichever data set
COLUMNS = ("source", "id", "name", "target", "note")
_FOLDER = files("handful.data") / "labels"
LABEL_MAPS = tuple(sorted(p.name.removesuffix(".csv") for p in _FOLDER.iterdir() if p.name.endswith(".csv")))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Where the classes of known data sets go.

    targets: the classes it leads to, with their ids; "ignore" (255 in masks) is none of them. table: for each source,
    the target of each of its class names, None for "ignore".
    """

    name: str
    targets: tuple[Category, ...]
    table: dict[str, dict[str, str | None]]

    def source_for(self, names: Iterable[str]) -> str:
        """The source that has all these class names, or else has them in another case; the smallest if several do.

        Raises DataError when none does, with the nearest names, or when several do and map a name differently.
        """
        names = list(dict.fromkeys(names))
        if not names:
            raise DataError(f"no class names to find in the label map {self.name!r}; the data set has no classes")
        for loose in (False, True):
            found = {source: _found(rows, names, loose) for source, rows in self.table.items()}
            fits = [source for source, targets in found.items() if len(targets) == len(names)]
            differ = [n for n in names if len({found[source][n] for source in fits}) > 1]
            if differ:
                raise DataError(
                    f"the class names fit {' and '.join(fits)} of the label map {self.name!r}, which map "
                    f"{_few(differ)} differently; name the source: --labels-from {fits[0]}"
                )
            if fits:
                return min(fits, key=lambda source: len(self.table[source]))
        raise self._uncovered(names)

    def translate(self, names: Iterable[str], source: str | None = None) -> dict[str, str | None]:
        """{"cat": "pet", "void": None}: the target of each name, None for "ignore".

        Raises UnknownName for a source that does not exist, DataError for names that it does not have.
        """
        names = list(names)
        if source is None:
            source = self.source_for(names)
        elif source not in self.table:
            raise unknown("source", source, self.table)
        found = _found(self.table[source], names, loose=True)
        absent = [name for name in names if name not in found]
        if absent:
            near = _nearest(absent, self.table[source])
            raise DataError(f"the source {source!r} of the label map {self.name!r} has no {near}")
        return found

    def _uncovered(self, names: list[str]) -> DataError:
        every = {name: None for rows in self.table.values() for name in rows}
        nowhere = [name for name in names if not _found(every, [name], loose=True)]
        best = max(self.table, key=lambda source: len(_found(self.table[source], names, loose=True)))
        absent = [name for name in names if name not in _found(self.table[best], names, loose=True)]
        do = "give a table of your own with the columns name,target: --labels TABLE.csv"
        if nowhere:
            return DataError(f"no source of the label map {self.name!r} has {_nearest(nowhere, every)}; {do}")
        return DataError(
            f"no one source of the label map {self.name!r} has all {len(names)} class names; "
            f"{best} has all but {_few(absent)}; {do}"
        )


def label_map(name: str | Path) -> LabelMap:
    """A label map that comes with handful ("ten", "person"), or a table of your own (a path, or a name in .csv).

    Your own table needs the columns name and target only; its targets get their ids in order, "other" or "background"
    first. Raises UnknownName with the nearest name, or DataError naming the file and line.
    """
    if isinstance(name, Path) or name.endswith(".csv"):
        path = Path(name)
        return _read(path, path.stem)
    if name not in LABEL_MAPS:
        raise unknown("label map", name, LABEL_MAPS)
    return _own(name)


def plan(dataset: Dataset, map: LabelMap, *, source: str | None = None) -> dict[str, Any]:
    """What remap would do, JSON values only.

    source: the vocabulary it read the class names in. targets: for each target, the classes that go there; ignore: the
    classes that are left out of masks; objects_dropped: the classes whose objects are left out. Raises as remap does.
    """
    names = [category.name for category in dataset.categories]
    to = map.translate(names, source)
    return {
        "map": map.name,
        "source": source or map.source_for(names),
        "targets": {target.name: [n for n in names if to[n] == target.name] for target in map.targets},
        "ignore": [n for n in names if to[n] is None],
        "objects_dropped": [n for n in names if _no_object(to[n])],
    }


def remap(dataset: Dataset, map: LabelMap, *, source: str | None = None) -> Dataset:
    """The same samples with the classes of the map's targets, translated as they are asked for.

    Masks become uint8 with 255 for "ignore". Objects of the rest ("other", "background") and of "ignore" are left out
    (`plan` says which); an image's own label becomes None where it is ignored. source: the vocabulary to read the class
    names in; found by itself when not given. Raises DataError when the names are not known; and later, from a sample,
    for a label that is no class of the data set, and from its mask, for such a value, naming the file.
    """
    to = map.translate([category.name for category in dataset.categories], source)
    ids = {target.name: target.id for target in map.targets}
    values = {category.id: None if (t := to[category.name]) is None else ids[t] for category in dataset.categories}

    def translated() -> Iterator[Sample]:
        for sample in dataset:
            label = None if sample.label is None else _target(sample.label, to, sample)
            objects = None if sample.objects is None else tuple(_translated_objects(sample, to))
            mask = None if sample.mask is None else partial(_translated_mask, sample, values)
            yield replace(sample, label=label, objects=objects, mask=mask)

    return replace(dataset, categories=map.targets, samples=translated)


def _no_object(target: str | None) -> bool:
    return target is None or target in REST


def _target(label: str, to: Mapping[str, str | None], sample: Sample) -> str | None:
    if label not in to:
        where = sample.name or sample.path
        raise DataError(f"{where}: {label!r} is no class of the data set; there is {_few(list(to))}")
    return to[label]


def _translated_objects(sample: Sample, to: Mapping[str, str | None]) -> Iterator[Object]:
    for thing in sample.objects or ():
        target = _target(thing.label, to, sample)
        if target is not None and not _no_object(target):
            yield replace(thing, label=target)


def _lookup_table(values: Mapping[int, int | None], dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """For each value that a mask of this type can hold: its new value, and whether it means anything at all."""
    top = int(np.iinfo(dtype).max)
    new, known = np.full(top + 1, 255, np.uint8), np.zeros(top + 1, bool)
    for old, value in values.items():
        if 0 <= old < top:  # Cityscapes has a class -1, which masks cannot show
            new[old], known[old] = 255 if value is None else value, True
    known[top] = True
    return new, known


def _translated_mask(sample: Sample, values: Mapping[int, int | None]) -> Mask:
    assert sample.mask is not None
    ids = sample.mask().ids
    new, known = _lookup_table(values, ids.dtype)
    strange = ~known[ids]
    if strange.any():
        value, pixels = np.unique(ids[strange], return_counts=True)
        said = _few([f"{v} in {n} pixels" for v, n in zip(value.tolist(), pixels.tolist(), strict=True)], quote=False)
        where = sample.mask_path or sample.name or sample.path
        raise DataError(f"{where}: values that are no class of the data set: {said}; add the class or mend the mask")
    return Mask(new[ids])


def _found(rows: Mapping[str, str | None], names: Iterable[str], loose: bool) -> dict[str, str | None]:
    """The names that a source has, with their targets. loose: in any case, and with synonyms after a comma."""
    folded = {_fold(name): target for name, target in rows.items()}
    found: dict[str, str | None] = {}
    for name in names:
        if name in rows:
            found[name] = rows[name]
        elif _fold(name) in NOT_LABELED and _fold(name) not in folded:
            found[name] = None
        elif loose and (key := next((k for k in (_fold(name), _fold(name.split(",")[0])) if k in folded), None)):
            found[name] = folded[key]
    return found


def _fold(name: str) -> str:
    return name.strip().casefold()


def _few(names: list[str], quote: bool = True) -> str:
    shown = [repr(name) if quote else name for name in names[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _nearest(names: list[str], known: Iterable[str]) -> str:
    folded = {_fold(name): name for name in known}
    said = []
    for name in names:
        near = difflib.get_close_matches(_fold(name), folded, 1, cutoff=0.5)
        said.append(repr(name) + (f" (nearest: {folded[near[0]]!r})" if near else ""))
    return _few(said, quote=False)


@cache
def _own(name: str) -> LabelMap:
    return _read(_FOLDER / f"{name}.csv", name)


def _rows(file: Traversable | Path) -> list[tuple[str, dict[str, str]]]:
    """[("my.csv line 2", {"source": "names", "name": "cat", ...}), ...], checked cell by cell."""
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets begin their files with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as a table: {error}; wanted a CSV file in UTF-8") from error
    lines = csv.DictReader(StringIO(text, newline=""), strict=True)
    wanted = "wanted the columns name,target and, if you like, source, id and note"
    result: list[tuple[str, dict[str, str]]] = []
    try:
        columns = [column.strip() for column in lines.fieldnames or ()]
        lines.fieldnames = columns
        for column in columns:
            if column not in COLUMNS or columns.count(column) > 1:
                raise DataError(f"{file} line 1: column {column!r} is unknown or there twice; {wanted}")
        if not {"name", "target"} <= set(columns):
            raise DataError(f"{file} line 1: no column {('name' if 'target' in columns else 'target')!r}; {wanted}")
        for row in lines:
            where = f"{file} line {lines.line_num}"
            if None in row:  # where csv puts what is too much; a cell that is absent is an empty one
                raise DataError(f"{where}: wanted {len(columns)} cells, as in line 1; quote a cell that holds a comma")
            cells = {column: (cell or "").strip() for column, cell in row.items()}
            for column in ("name", "target"):
                if not cells[column]:
                    raise DataError(f"{where}: {column} is empty; wanted a class, or target 'ignore'")
            result.append((where, {"source": OWN, "id": "", **{c: cell for c, cell in cells.items() if cell}}))
    except csv.Error as error:
        raise DataError(f"{file} line {lines.line_num + 1}: not a CSV table ({error})") from error
    if not result:
        raise DataError(f"{file} has no rows; {wanted}")
    return result


def _read(file: Traversable | Path, name: str) -> LabelMap:
    rows = _rows(file)
    targets = _targets(rows, file)
    known = {target.name for target in targets} | {IGNORE}
    table: dict[str, dict[str, str | None]] = {}
    seen: dict[tuple[str, str], str] = {}
    for where, row in rows:
        if row["target"] not in known:
            near = _nearest([row["target"]], known)
            raise DataError(f"{where}: {near} is not among the rows of the source {VOCABULARY!r}")
        twin = seen.setdefault((row["source"], _fold(row["name"])), where)
        if twin != where:
            raise DataError(f"{where}: {row['name']!r} is already in {twin.removeprefix(str(file)).strip()}")
        to = None if row["target"] == IGNORE else row["target"]
        table.setdefault(row["source"], {})[row["name"]] = to
    return LabelMap(name, targets, table)


def _targets(rows: list[tuple[str, dict[str, str]]], file: Traversable | Path) -> tuple[Category, ...]:
    """From the rows of the source "target" if there are any; else in the order they appear, the rest first."""
    said = [(where, row) for where, row in rows if row["source"] == VOCABULARY]
    if not said:
        names = dict.fromkeys(row["target"] for _, row in rows if row["target"] != IGNORE)
        ids = {name: i for i, name in enumerate(sorted(names, key=lambda name: name not in REST))}
        if not 0 < len(ids) <= 255:
            raise DataError(f"{file} has {len(ids)} targets beside 'ignore'; wanted 1 to 255")
        return tuple(Category(i, name) for name, i in ids.items())
    found: dict[int, Category] = {}
    for where, row in said:
        number = int(row["id"]) if row["id"].isascii() and row["id"].isdigit() else -1
        if not 0 <= number < 255 or number in found or row["target"] != row["name"] or row["name"] == IGNORE:
            raise DataError(
                f"{where}: a row of the source {VOCABULARY!r} needs its own id, 0 to 254, and its name as target"
            )
        found[number] = Category(number, row["name"])
    return tuple(found[number] for number in sorted(found))
