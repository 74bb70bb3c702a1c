"""Whether a store is whole: its file, its revisions, and its labels against the history that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from handful.store.annotations import OBJECTS
from handful.store.backend import of
from handful.store.queries import row_state
from handful.store.tables import HistoryRow, LabelRow, RevisionRow

PAGE = 5000  # rows in memory at once


def problems(db: Connection) -> Iterator[str]:
    """What is wrong with a store, one line each; nothing when it is whole. Reads all of it."""
    yield from of(db).faults(db)
    yield from _revisions(db)
    yield from _labels(db)


def _revisions(db: Connection) -> Iterator[str]:
    counted = db.execute(select(HistoryRow.step, func.count()).group_by(HistoryRow.step))
    rows: dict[int, int] = {row[0]: row[1] for row in counted}
    number, time = 0, None
    for revision in _pages(db, RevisionRow, RevisionRow.number):
        number += 1
        if revision.number != number:
            yield f"revision {number} is missing before revision {revision.number}"
            number = revision.number
        if time is not None and revision.time < time:
            yield f"revision {number} is older than the revision before it"
        time = revision.time
        if rows.pop(number, 0) != revision.changes:
            yield f"revision {number} is not whole: it has not the {revision.changes} changes it should have"
    for lost in rows:
        yield f"revision {lost} has changes, and is not there"


def _labels(db: Connection) -> Iterator[str]:
    # digests instead of the labels themselves: a large store need not fit in memory
    now: dict[int, tuple[bytes, int]] = {}
    for row in _pages(db, HistoryRow, HistoryRow.id):
        have = now.pop(row.label_id, None)
        if (have and have[0]) != (row.before and _digest(row, row.before)):
            yield f"revision {row.step} changed label {row.label_id} from what it was not"
        if row.after is not None:
            now[row.label_id] = _digest(row, row.after), row.step
    marked: dict[int, set[str]] = {}
    for row in _pages(db, LabelRow, LabelRow.id):
        if now.pop(row.id, None) != (_digest(row, row_state(row)), row.version):
            yield f"label {row.id} is not as the history says"
        if row.image_id is not None and (row.kind == "empty" or row.kind in OBJECTS):
            kinds = marked.setdefault(row.image_id, set())
            if "empty" in (*kinds, row.kind) and kinds:
                yield f"image {row.image_id} is marked empty, and has something else besides"
            kinds.add(row.kind)
    for lost in now:
        yield f"label {lost} is in the history, and is not there"


def _digest(row: Any, state: Any) -> bytes:
    told = json.dumps([row.image_id, row.clip_id, state], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def _pages(db: Connection, table: Any, key: Any) -> Iterator[Any]:
    last = -1
    query = select(*table.__table__.c).order_by(key).limit(PAGE)
    while rows := db.execute(query.where(key > last)).all():
        yield from rows
        last = getattr(rows[-1], key.key)
