"""One revision of the history: what is changed through it is kept together with its record, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Insert, delete, insert, select, update
from sqlalchemy.engine import Connection

from handful.errors import DataError
from handful.store import queries as read
from handful.store.annotations import OBJECTS, Annotation, Label, checked_text
from handful.store.backend import of
from handful.store.tables import HistoryRow, LabelRow, RevisionRow
from handful.types import Object
from handful.words import counted


class Revision:
    """Changes under way; made by `Store.revision`. Its methods are those of the store, without the author.

    number: its place in the history. Every method raises DataError, and then nothing of the revision is kept.
    """

    def __init__(self, db: Connection, *, author: str, now: datetime, place: str, action: str | None = None) -> None:
        self.db, self.place = db, place
        self.author = checked_text(author, "the author")
        last = db.execute(select(*RevisionRow.__table__.c).order_by(RevisionRow.number.desc()).limit(1)).one_or_none()
        self.number: int = last.number + 1 if last else 1
        # a clock that was set back must not make the history go back
        self.time = max(now, last.time) if last else now
        self._action, self._target = action, None
        self._actions: list[str] = []
        self._history: list[dict[str, Any]] = []
        self._names = read.class_names(db)
        self._next_label = read.next_id(db, HistoryRow.label_id)

    def add(self, image: int, annotation: Annotation | Object) -> Label:
        """Add an annotation to an image. An object in an image marked empty takes that annotation away."""
        row = read.image_row(self.db, image, self.place)
        annotation = _annotation(annotation)
        if annotation.kind in ("track", "empty"):
            raise DataError(f"{row.name} cannot have a {annotation.kind} added to it; use add_track and mark_empty")
        annotation = self._checked(annotation, row.name, read.size_of(row))
        if annotation.kind in OBJECTS:
            for empty in self._rows(image, ["empty"]):
                self._write(empty, None)
        return self._new("add", image, None, annotation)

    def add_track(self, clip: int, annotation: Annotation) -> Label:
        """Add a track: where one object is throughout a clip. A track without a number gets the next one of its
        clip."""
        row = read.clip_row(self.db, clip, self.place)
        if annotation.kind != "track":
            raise DataError(
                f"{row.name} cannot have a {annotation.kind} added to it; wanted an annotation of kind track"
            )
        annotation = self._checked(annotation, row.name, read.size_of(row), row.frames)
        if annotation.track is None:
            annotation = replace(annotation, track=read.next_track(self.db, clip))
        return self._new("add", None, clip, annotation)

    def change(self, label: int, annotation: Annotation | Object, *, version: int, force: bool = False) -> Label:
        """Replace an annotation. version: the label's, as it was read; force: whoever changed it since."""
        row = self._current(label, version, force)
        annotation = _annotation(annotation)
        where = read.image_row(self.db, row.image_id, self.place) if row.clip_id is None else None
        clip = read.clip_row(self.db, row.clip_id, self.place) if where is None else None
        if annotation.kind == "empty" or row.kind == "empty" or (annotation.kind == "track") != (clip is not None):
            raise DataError(
                f"label {label} is a {row.kind} and cannot become a {annotation.kind}; remove it and add another"
            )
        place = where or clip
        annotation = self._checked(annotation, place.name, read.size_of(place), clip.frames if clip else None)  # type: ignore[union-attr]
        if clip is not None and annotation.track is None:
            annotation = replace(annotation, track=row.track)
        state = self._state(annotation)
        was = read.row_state(row)
        if all(state[part] == was[part] for part in ("kind", "class", "track", "data")):
            return self._label(row.id, row.image_id, row.clip_id, was, row.version)
        self._actions.append("change")
        if annotation.kind in OBJECTS and row.kind not in OBJECTS:
            for empty in self._rows(row.image_id, ["empty"]):
                self._write(empty, None)
        self._write(row, state)
        return self._label(row.id, row.image_id, row.clip_id, state, self.number)

    def remove(self, label: int, *, version: int, force: bool = False) -> None:
        """Remove a label. version and force as in `change`."""
        row = self._current(label, version, force)
        self._actions.append("remove")
        self._write(row, None)

    def mark_empty(self, image: int) -> None:
        """Mark an image as empty: somebody looked, and nothing is there."""
        row = read.image_row(self.db, image, self.place)
        objects = self._rows(image, list(OBJECTS))
        if objects:
            raise DataError(f"{row.name} has {counted(len(objects), 'object')} and cannot be empty; clear it first")
        if not self._rows(image, ["empty"]):
            self._new("empty", image, None, Annotation("empty"))

    def unmark_empty(self, image: int) -> None:
        """Take the empty mark back: nobody looked."""
        read.image_row(self.db, image, self.place)
        for row in self._rows(image, ["empty"]):
            self._actions.append("unmark")
            self._write(row, None)

    def clear(self, image: int) -> int:
        """Remove all labels of an image, so that it is unlabeled. Returns how many there were."""
        read.image_row(self.db, image, self.place)
        rows = self._rows(image, None)
        for row in rows:
            self._actions.append("clear")
            self._write(row, None)
        return len(rows)

    def add_many(self, annotations: Sequence[tuple[int, Annotation]]) -> int:
        """Add checked annotations to images that have none yet: (image, annotation). Returns how many."""
        if annotations:
            self._actions.append("import")
        rows = []
        for image, annotation in annotations:
            state = self._state(annotation)
            rows.append(self._row(self._next_label, image, None, state))
            self._record(self._next_label, image, None, None, state)
            self._next_label += 1
        insert_all(self.db, insert(LabelRow), rows)
        return len(rows)

    def reverse(self, target: Any, *, back: bool) -> None:
        """Undo a revision (a row of RevisionRow), or do it again. Raises DataError when somebody changed the same
        since."""
        self._action, self._target = "undo" if back else "redo", target.number
        rows = self.db.execute(
            select(*HistoryRow.__table__.c)
            .where(HistoryRow.step == target.number)
            .order_by(HistoryRow.id.desc() if back else HistoryRow.id)
        ).all()
        there = read.rows_by_id(self.db, sorted({row.label_id for row in rows}))
        first = {row.label_id: read.row_state(there[row.label_id]) if row.label_id in there else None for row in rows}
        now = dict(first)
        places = {row.label_id: (row.image_id, row.clip_id) for row in rows}
        for row in rows:
            have, want = (row.after, row.before) if back else (row.before, row.after)
            if now[row.label_id] != have:
                raise DataError(
                    f"revision {target.number} by {target.author!r} cannot be {'undone' if back else 'done again'}: "
                    f"{self._who(row.label_id)} since; undo that first"
                )
            now[row.label_id] = want
            self._record(row.label_id, *places[row.label_id], have, want)
        self._write_all(first, now, places)
        clash = read.contradiction(self.db, sorted({image for image, _ in places.values() if image is not None}))
        if clash is not None:
            name = read.image_row(self.db, clash, self.place).name
            raise DataError(
                f"revision {target.number} by {target.author!r} cannot be {'undone' if back else 'done again'}: {name} "
                "would be marked empty and have objects; undo what was said of it since first"
            )

    def finish(self) -> None:
        """Record the revision. Nothing is recorded when nothing was changed."""
        if not self._history:
            return
        kinds = sorted(set(self._actions))
        action = self._action or (kinds[0] if len(kinds) == 1 else "several")
        revision = {"number": self.number, "author": self.author, "time": self.time, "action": action}
        self.db.execute(insert(RevisionRow).values(**revision, target=self._target, changes=len(self._history)))
        first = read.next_id(self.db, HistoryRow.id)
        rows = ({"id": i, "step": self.number, **row} for i, row in enumerate(self._history, first))
        insert_all(self.db, insert(HistoryRow), list(rows))

    def _checked(
        self, annotation: Annotation, name: str, size_wh: tuple[int, int] | None, frames: int | None = None
    ) -> Annotation:
        try:
            annotation = annotation.checked(size_wh, frames)
            self._class(annotation.label)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        return annotation

    def _class(self, name: str | None) -> int | None:
        if name is None:
            return None
        ids = {known: id for id, known in self._names.items()}
        if name not in ids:
            near = get_close_matches(name, list(ids), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"there is no class {name!r} in {self.place}; wanted one that add_category made{hint}")
        return ids[name]

    def _state(self, annotation: Annotation) -> read.State:
        return read.state_of(
            annotation.kind, self._class(annotation.label), annotation.track, annotation.data(), self.author, self.time
        )

    def _label(self, id: int, image: int | None, clip: int | None, state: Mapping[str, Any], version: int) -> Label:
        return read.label_of(state, self._names, id=id, image=image, clip=clip, version=version)

    def _row(self, id: int, image: int | None, clip: int | None, state: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": id, "image_id": image, "clip_id": clip, **read.columns_of(state), "version": self.number}

    def _rows(self, image: int, kinds: list[str] | None) -> Sequence[Any]:
        query = select(*LabelRow.__table__.c).where(LabelRow.image_id == image).order_by(LabelRow.id)
        return self.db.execute(query if kinds is None else query.where(LabelRow.kind.in_(kinds))).all()

    def _current(self, label: int, version: int, force: bool) -> Any:
        row = read.rows_by_id(self.db, [label]).get(label)
        if row is None and read.who_last(self.db, label) is None and not any(
            r["label_id"] == label for r in self._history
        ):  # fmt: skip
            raise DataError(f"{self.place} has no label {label}; wanted the id of one, as add and labels give it")
        if row is None or (row.version != version and not force):
            raise DataError(f"{self._who(label)}; load it again, or use force to change it all the same")
        return row

    def _who(self, label: int) -> str:
        """ "label 5 was changed by 'ann' at 2026-01-01 10:00:00 (revision 7)" """
        last = read.who_last(self.db, label)
        if last is None or any(row["label_id"] == label for row in self._history):
            return f"label {label} was changed in this same revision"
        revision, gone = last
        what, time = "removed" if gone else "changed", f"{revision.time:%Y-%m-%d %H:%M:%S} UTC"
        return f"label {label} was {what} by {revision.author!r} at {time} (revision {revision.number})"

    def _new(self, action: str, image: int | None, clip: int | None, annotation: Annotation) -> Label:
        state, id = self._state(annotation), self._next_label
        self._next_label += 1
        self._actions.append(action)
        self.db.execute(insert(LabelRow).values(**self._row(id, image, clip, state)))
        self._record(id, image, clip, None, state)
        return self._label(id, image, clip, state, self.number)

    def _write(self, row: Any, state: Mapping[str, Any] | None) -> None:
        was, places = read.row_state(row), {row.id: (row.image_id, row.clip_id)}
        self._record(row.id, row.image_id, row.clip_id, was, state)
        self._write_all({row.id: was}, {row.id: state}, places)

    def _write_all(self, first: Mapping[int, Any], last: Mapping[int, Any], places: Mapping[int, Any]) -> None:
        gone = [i for i, state in last.items() if state is None and first[i] is not None]
        for part in read.chunks(gone):
            self.db.execute(delete(LabelRow).where(LabelRow.id.in_(part)))
        new = [
            self._row(i, places[i][0], places[i][1], s) for i, s in last.items() if s is not None and first[i] is None
        ]
        insert_all(self.db, insert(LabelRow), sorted(new, key=lambda row: row["id"]))
        for i, state in last.items():
            if state is not None and first[i] is not None:
                values = {**read.columns_of(state), "version": self.number}
                self.db.execute(update(LabelRow).where(LabelRow.id == i).values(**values))

    def _record(self, label: int, image: int | None, clip: int | None, before: Any, after: Any) -> None:
        self._history.append(
            {"label_id": label, "image_id": image, "clip_id": clip, "before": before, "after": after and dict(after)}
        )


def insert_all(db: Connection, statement: Insert, rows: Sequence[dict[str, Any]]) -> None:
    """Insert many rows of one table, in few statements."""
    if rows:
        db.execute(of(db).many(statement), rows)


def _annotation(annotation: Annotation | Object) -> Annotation:
    return Annotation.of(annotation) if isinstance(annotation, Object) else annotation
