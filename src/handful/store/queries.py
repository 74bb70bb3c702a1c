"""Questions to the store's tables, each over a connection that the caller holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, and_, func, null, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import aliased

from handful.errors import DataError
from handful.store.annotations import OBJECTS, Annotation, Change, Label
from handful.store.tables import CategoryRow, ClipRow, HistoryRow, ImageRow, LabelRow, RevisionRow

T = TypeVar("T")
MANY = 500  # ids in one question; every database takes that many
State = dict[str, Any]  # a label as the history keeps it


def chunks(items: Iterable[T], size: int = MANY) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def state_of(kind: str, category: int | None, track: int | None, data: Any, author: str, time: datetime) -> State:
    """A label as JSON: all of it but its place, id and version, none of which a change can touch."""
    return {"kind": kind, "class": category, "track": track, "data": data, "author": author, "time": time.isoformat()}


def row_state(row: Any) -> State:
    """The same of a row of LabelRow."""
    return state_of(row.kind, row.category_id, row.track, row.data, row.author, row.time)


def columns_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of LabelRow that hold a state."""
    return {
        "kind": state["kind"],
        "category_id": state["class"],
        "track": state["track"],
        "data": state["data"],
        "author": state["author"],
        "time": datetime.fromisoformat(state["time"]),
    }


def label_of(
    state: Mapping[str, Any], names: Mapping[int, str], *, id: int, image: int | None, clip: int | None, version: int
) -> Label:
    """A label for people. names: class names by id."""
    name = None if state["class"] is None else names[state["class"]]
    annotation = Annotation.from_data(state["kind"], name, state["track"], state["data"])
    return Label(id, image, clip, annotation, state["author"], datetime.fromisoformat(state["time"]), version)


def change_of(row: Any, names: Mapping[int, str]) -> Change:
    """A row of the history and its revision, for people."""

    def label(state: Any, version: int) -> Label | None:
        place = {"id": row.label_id, "image": row.image_id, "clip": row.clip_id}
        return None if state is None else label_of(state, names, **place, version=version)

    before, after = label(row.before, 0), label(row.after, row.step)
    return Change(row.step, row.action, row.target, row.author, row.time, row.label_id, before, after)


def class_names(db: Connection) -> dict[int, str]:
    """The name of every class, by id."""
    return {row.id: row.name for row in db.execute(select(CategoryRow.id, CategoryRow.name))}


def last_revision(db: Connection) -> int:
    """The number of the last revision; 0 for a new store."""
    return db.scalar(select(func.max(RevisionRow.number))) or 0


def revision_at(db: Connection, at: int | datetime) -> int:
    """A revision's number, or that of the last revision up to a moment. Raises DataError for a revision that is not
    there yet."""
    last = last_revision(db)
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise DataError(f"the time {at} has no zone, so nobody knows when that was; wanted one, such as UTC")
        return db.scalar(select(func.max(RevisionRow.number)).where(RevisionRow.time <= at)) or 0
    if not 0 <= at <= last:
        raise DataError(f"there is no revision {at}; wanted 0 to {last}")
    return at


def labels_now(db: Connection, names: Mapping[int, str], where: ColumnElement[bool]) -> list[Label]:
    """The labels that a condition on LabelRow finds, in the order they were first made."""
    return [
        label_of(row_state(row), names, id=row.id, image=row.image_id, clip=row.clip_id, version=row.version)
        for row in db.execute(select(*LabelRow.__table__.c).where(where).order_by(LabelRow.id))
    ]


def labels_then(
    db: Connection, names: Mapping[int, str], at: int, where: ColumnElement[bool] | None = None
) -> list[Label]:
    """The labels after revision `at`, read from the history. where: a condition on HistoryRow's image or clip."""
    newest = select(func.max(HistoryRow.id)).where(HistoryRow.step <= at).group_by(HistoryRow.label_id)
    if where is not None:
        newest = newest.where(where)
    rows = db.execute(
        select(*HistoryRow.__table__.c)
        .where(HistoryRow.id.in_(newest), HistoryRow.after.is_not(null()))
        .order_by(HistoryRow.label_id)
    )
    return [
        label_of(row.after, names, id=row.label_id, image=row.image_id, clip=row.clip_id, version=row.step)
        for row in rows
    ]


def of_place(table: Any, image: int | None = None, clip: int | None = None) -> ColumnElement[bool]:
    """The condition that a row of LabelRow or HistoryRow belongs to this image, or to this clip."""
    found: ColumnElement[bool] = table.image_id == image if image is not None else table.clip_id == clip
    return found


def image_row(db: Connection, image: int, place: str) -> Row[Any]:
    """One image. Raises DataError when it is not there."""
    row = db.execute(select(*ImageRow.__table__.c).where(ImageRow.id == image)).one_or_none()
    if row is None:
        raise DataError(f"{place} has no image {image}; wanted the id of one, as add_image or find gives it")
    return row


def clip_row(db: Connection, clip: int, place: str) -> Row[Any]:
    """One clip. Raises DataError when it is not there."""
    row = db.execute(select(*ClipRow.__table__.c).where(ClipRow.id == clip)).one_or_none()
    if row is None:
        raise DataError(f"{place} has no clip {clip}; wanted the id of one, as add_clip or find_clip gives it")
    return row


def size_of(row: Any) -> tuple[int, int] | None:
    """(width, height) in px of an image or clip, if known."""
    return None if row.width is None or row.height is None else (row.width, row.height)


def rows_by_id(db: Connection, ids: Sequence[int]) -> dict[int, Any]:
    """The rows of labels, by id; those that are gone are not in it."""
    found: dict[int, Any] = {}
    for part in chunks(ids):
        for row in db.execute(select(*LabelRow.__table__.c).where(LabelRow.id.in_(part))):
            found[row.id] = row
    return found


def who_last(db: Connection, label: int) -> tuple[Any, bool] | None:
    """The revision that last touched a label, and whether that removed it; None when there never was such a label."""
    row = db.execute(
        select(*RevisionRow.__table__.c, HistoryRow.after)
        .join(HistoryRow, HistoryRow.step == RevisionRow.number)
        .where(HistoryRow.label_id == label)
        .order_by(HistoryRow.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row, row.after is None)


def undone() -> ColumnElement[bool]:
    """Whether a revision of RevisionRow is undone now: undoing and doing again alternate, so an odd count means
    undone."""
    later = aliased(RevisionRow)
    count = select(func.count()).where(later.target == RevisionRow.number).scalar_subquery()
    return count % 2 == 1


def to_undo(db: Connection, author: str | None) -> Any:
    """The last revision, of this author or of anybody, that is not undone; None when there is none."""
    query = select(*RevisionRow.__table__.c).where(RevisionRow.target.is_(None), ~undone())
    if author is not None:
        query = query.where(RevisionRow.author == author)
    return db.execute(query.order_by(RevisionRow.number.desc()).limit(1)).one_or_none()


def to_redo(db: Connection, author: str | None) -> Any:
    """The revision that was undone last, unless something new came after that; None when there is none."""
    undo = aliased(RevisionRow)
    new = select(func.coalesce(func.max(RevisionRow.number), 0)).where(RevisionRow.target.is_(None))
    query = (
        select(*RevisionRow.__table__.c)
        .join(undo, undo.target == RevisionRow.number)
        .where(undone())
        .order_by(undo.number.desc())
        .limit(1)
    )
    if author is not None:
        new = new.where(RevisionRow.author == author)
        query = query.where(RevisionRow.author == author)
    return db.execute(query.where(undo.number > new.scalar_subquery())).one_or_none()


def contradiction(db: Connection, images: Sequence[int]) -> int | None:
    """An image among these that is marked empty and has objects, or is marked empty twice; None when all is well."""
    one, other = aliased(LabelRow), aliased(LabelRow)
    both = and_(one.image_id == other.image_id, one.kind == "empty", one.id != other.id)
    clash = or_(other.kind == "empty", other.kind.in_(list(OBJECTS)))
    for part in chunks(images):
        found = db.scalar(select(one.image_id).join(other, both).where(one.image_id.in_(part), clash).limit(1))
        if found is not None:
            return int(found)
    return None


def next_track(db: Connection, clip: int) -> int:
    """A number that no track of the clip has or had, neither a track nor an object followed from image to image."""
    made = (row.after for row in db.execute(select(HistoryRow.after).where(HistoryRow.clip_id == clip)))
    used = [state["track"] for state in made if state is not None]
    followed = select(func.max(LabelRow.track)).join(ImageRow, ImageRow.id == LabelRow.image_id)
    return max([*used, db.scalar(followed.where(ImageRow.clip_id == clip)) or 0], default=0) + 1


def next_id(db: Connection, column: Any) -> int:
    """One more than the largest there is. Safe, since one writer writes at a time."""
    return (db.scalar(select(func.max(column))) or 0) + 1
