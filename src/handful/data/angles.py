"""Angles of boxes that are not read as a turn: in a column of a CSV file, or among what a label file says besides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from handful.data.csv_table import Table, cells
from handful.data.finding import Finding, OnFinding
from handful.data.json_labels import number
from handful.types import Dataset, Object, Sample
from handful.words import counted

# rotation, bbox_rotation, angle_deg, box_theta; not camera_angle, view_angle and orientation, which say other things
WORDS = re.compile(
    r"(b?box|bounding_?box|rect|obb|rbox)?_?(rotation|rotate|rot|angle|theta)_?(deg|degrees|rad|radians)?"
)
HOLDS = 1e-6  # smaller angles turn nothing


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], used: set[int]) -> list[int]:
    """The columns of a CSV file of boxes that give angles other than 0."""
    named = [i for i, name in enumerate(header) if i not in used and WORDS.fullmatch(name)]
    return [i for i in named if any(_turns(text) for row in rows for text in cells(row, [i]))]


def tell_columns(held: Table, used: set[int], kind: str, file: str, on_finding: OnFinding) -> bool:
    """Whether a file turns its boxes by a column; told, since nobody says about what point and which way round.

    kind: how its boxes are given; corners of a turned box say all of it.
    """
    found = columns(held.header, held.rows, used) if kind != "corners" else []
    if not found:
        return False
    named = " and ".join(repr(held.titles[i]) for i in found)
    detail = f"turns its boxes by the column {named}, which is not read; take it away to read them as if straight"
    on_finding(Finding("unread_labels", file, [held.titles[i] for i in found], len(found), detail))
    return True


def watched(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set, which tells at its end the boxes whose attributes give an angle and that have no outline."""

    def samples() -> Iterator[Sample]:
        count, first = 0, ""
        for sample in dataset:
            turned = sum(map(_has_angle, sample.objects or ()))
            count, first = count + turned, first or (sample.name or str(sample.path) if turned else "")
            yield sample
        if count:
            detail = f"{counted(count, 'box has', 'boxes have')} an angle among the attributes, and no outline ({first}"
            detail += ", ...); each is read as if it were straight"
            on_finding(Finding("unread_angle", ".", first, count, detail))

    return replace(dataset, samples=samples)


def _has_angle(thing: Object) -> bool:
    if not thing.attributes or thing.polygons_px or thing.rle is not None:
        return False
    inner = thing.attributes.get("attributes")
    return _gives(thing.attributes) or (isinstance(inner, Mapping) and _gives(inner))


def _gives(said: Mapping[str, Any]) -> bool:
    return any(_is_angle(key) and _turns(value) for key, value in said.items())


@lru_cache(maxsize=1024)  # of a million labels the keys are few
def _is_angle(key: object) -> bool:
    return isinstance(key, str) and WORDS.fullmatch(key.lower()) is not None


def _turns(value: Any) -> bool:
    found = None if isinstance(value, bool) else number(value)
    return found is not None and abs(found) > HOLDS
