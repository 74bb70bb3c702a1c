"""A COCO file indexed, not loaded: its rows stay bytes until somebody asks for them."""

from __future__ import annotations

import json
import mmap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from handful.data.coco_rows import as_listed, attributes_of, identifier, listed_categories
from handful.data.finding import Finding, OnFinding
from handful.data.ledger import LABELS, note
from handful.data.paths import relative
from handful.data.reading import is_pointer, tell_pointer
from handful.pick import need
from handful.types import Category
from handful.words import counted

MAP_FROM_BYTES = 1 << 26  # above this the file is mapped, so that the system can take its memory back
LENIENT_BYTES = 1 << 28  # above this a file with NaN in it is not read a second, slower way


@dataclass
class Index:
    """One COCO file: image rows in order, annotation rows by image id, and what is said of the whole.

    A row is bytes of the file (msgspec.Raw), or a dict where the file is not strict JSON. names: the class of each id.
    """

    file: Path
    split: str | None
    images: list[Any] = field(default_factory=list)
    labels: dict[int | str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    categories: tuple[Category, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)
    doubled: dict[int | str, int] = field(default_factory=dict)
    has_labels: bool = True
    folder: Path = Path()

    def rows(self, on_finding: OnFinding, root: Path) -> Iterator[dict[str, Any]]:
        """The image rows, decoded; broken ones are told and passed over."""
        return self._decoded(self.images, "an image", on_finding, root)

    def labels_of(self, key: Any, on_finding: OnFinding, root: Path) -> Iterator[dict[str, Any]]:
        """The annotation rows of an image, decoded; broken ones are told and passed over."""
        return self._decoded(self.labels.get(key, ()), "a label", on_finding, root)

    def _decoded(self, rows: Iterable[Any], what: str, on_finding: OnFinding, root: Path) -> Iterator[dict[str, Any]]:
        for row in rows:
            value = decoded(row)
            if value is None:
                text = str(bytes(row)[:80]) if _is_raw(row) else type(row).__name__
                on_finding(
                    Finding("broken_label", relative(self.file, root), text, detail=f"has {what} that is no object")
                )
            else:
                yield value


@cache
def _decode() -> Any:
    return need("msgspec.json", "data").Decoder().decode


def _is_raw(row: Any) -> bool:
    """Whether a row is still bytes; in a file that is not strict JSON it can be anything."""
    return isinstance(row, need("msgspec", "data").Raw)


def decoded(row: Any) -> dict[str, Any] | None:
    """A row as a dict, with Python's infinity for numbers beyond JSON's; None when it is no readable object."""
    if not _is_raw(row):
        return row if isinstance(row, dict) else None
    value: Any
    try:
        value = _decode()(row)
    except (ValueError, RecursionError):  # msgspec's and Unicode's errors are ValueErrors
        try:
            value = json.loads(bytes(row))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def top_level(file: Path, root: Path, on_finding: OnFinding) -> dict[str, Any] | None:
    """The file's top-level values: bytes (msgspec.Raw), or Python data where the file is not strict JSON.

    None after telling why it cannot be read.
    """
    msgspec = need("msgspec", "data")
    name = relative(file, root)
    note(file, LABELS)
    try:
        size = file.stat().st_size
        if size == 0:
            on_finding(Finding("empty_file", name, 0, detail="is a label file of zero bytes"))
            return None
        with open(file, "rb") as opened:
            data: Any = (
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size > MAP_FROM_BYTES else opened.read()
            )
    except OSError as error:
        on_finding(Finding("unreadable_labels", name, detail=f"cannot be read ({error.strerror or error})"))
        return None
    if is_pointer(data[:64]):
        tell_pointer(name, on_finding)
        return None
    try:
        raw_object: Any = dict.__class_getitem__((str, msgspec.Raw))
        return dict(msgspec.json.decode(data, type=raw_object))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error)
    if size <= LENIENT_BYTES:
        try:  # Python itself writes NaN and Infinity; only such files come out of this whole
            value = json.loads(bytes(data))
            if isinstance(value, dict):
                return value
            why = f"holds a JSON {type(value).__name__}; wanted an object"
        except (ValueError, RecursionError):
            pass
    on_finding(
        Finding("unreadable_labels", name, why[:200], detail=f"is not readable JSON ({why[:200]}; {size} bytes)")
    )
    return None


def rows_of(top: Mapping[str, Any], key: str, file: str, on_finding: OnFinding) -> list[Any]:
    """A top-level list as rows, still bytes where they can be; [] when it is absent or, after telling, no list."""
    msgspec = need("msgspec", "data")
    value = top.get(key)
    if value is None or isinstance(value, list):
        return value or []
    try:
        if isinstance(value, msgspec.Raw):
            raw_list: Any = list.__class_getitem__(msgspec.Raw)
            return list(msgspec.json.decode(value, type=raw_list))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    on_finding(Finding("unreadable_labels", file, key, detail=f"has {key!r} that is no readable list"))
    return []


def plain(value: Any) -> Any:
    """A top-level value as Python data; None when it cannot be read."""
    msgspec = need("msgspec", "data")
    try:
        return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def index(file: Path, root: Path, split: str | None, on_finding: OnFinding) -> Index | None:
    """Index one COCO file; ids used twice and labels of unlisted images are told here. None when unreadable."""
    msgspec = need("msgspec", "data")
    name = relative(file, root)
    top = top_level(file, root, on_finding)
    if top is None:
        return None
    found = Index(file, split)
    found.has_labels = "annotations" in top
    seen: set[int | str] = set()
    slim = msgspec.json.Decoder(msgspec.defstruct("Ids", [("id", Any, None), ("image_id", Any, None)]))

    def ids(row: Any) -> tuple[int | str | None, int | str | None]:
        try:
            both = slim.decode(row)
            return identifier(both.id), identifier(both.image_id)
        except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = decoded(row) or {}
            return identifier(value.get("id")), identifier(value.get("image_id"))

    for row in rows_of(top, "images", name, on_finding):
        key, _ = ids(row)
        if key is None:
            on_finding(Finding("broken_label", name, detail="lists an image without an id"))
            continue
        if key in seen:
            found.doubled[key] = found.doubled.get(key, 1) + 1
        seen.add(key)
        found.images.append(row)
    for key, times in found.doubled.items():
        on_finding(
            Finding("duplicate_image_id", name, key, times, detail=f"lists {counted(times, 'image')} with the id {key}")
        )
    taken: set[int | str] = set()
    twice = 0
    orphans: dict[int | str | None, int] = defaultdict(int)
    for row in rows_of(top, "annotations", name, on_finding):
        key, image = ids(row)
        image = as_listed(image, seen)
        if image is None or image not in seen:
            orphans[image] += 1
            continue
        if key is not None and key in taken:
            twice += 1
            if twice <= 20:
                on_finding(Finding("duplicate_label_id", name, key, detail=f"lists two labels with the id {key}",
                                   cause="label ids used twice"))  # fmt: skip
        elif key is not None:
            taken.add(key)
        found.labels[image].append(row)
    if twice > 20:
        on_finding(Finding("duplicate_label_id", name, count=twice - 20, detail=f"lists {twice - 20} more ids twice"))
    for image, count in orphans.items():
        on_finding(Finding("orphan_label", name, image, count, detail=f"has {counted(count, 'label')} of the image "
                     f"{image}, which is not listed"))  # fmt: skip
    listed = plain(top.get("categories"))
    if listed is None or listed == []:
        listed = _numbered(found, name, on_finding)
    found.categories, found.names, _ = listed_categories(listed, on_finding, file=name)
    rest = {k: plain(v) for k, v in top.items() if k not in ("images", "annotations", "categories")}
    found.rest = attributes_of(rest, frozenset(), on_finding, file=name, what="the file")
    return found


def _numbered(found: Index, name: str, on_finding: OnFinding) -> list[dict[str, Any]]:
    """The classes of a file that lists none: the ids in its labels, each called by its number."""
    used: set[int] = set()
    for rows in found.labels.values():
        for row in map(decoded, rows):
            segments = (row or {}).get("segments_info")
            for part in segments if isinstance(segments, list) else [row]:
                key = identifier(part.get("category_id")) if isinstance(part, dict) else None
                if isinstance(key, int) and key >= 0:
                    used.add(key)
    if used:
        what = counted(len(used), "class")
        detail = f"lists no categories, so that nothing names its {what}; each is called by its number"
        on_finding(Finding("no_label_map", name, sorted(used)[:50], len(used), detail))
    return [{"id": key, "name": str(key)} for key in sorted(used)]
