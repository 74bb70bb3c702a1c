"""The tables of the labeling store. Change one here, and write the migration that gets there in
migrations/versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    TypeDecorator,
    Unicode,
    UnicodeText,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

HEAD = "0001"  # the newest of migrations/versions; a test holds the two together
VERSION_TABLE = "handful_version"
MYSQL = ("mysql", "mariadb")
UNBOUNDED = ("sqlite", "postgresql")  # any text may be a key there
WORD, SHORT = 640, 128  # characters of a key elsewhere; the two together are InnoDB's 3072 bytes

Whole = BigInteger().with_variant(Integer, "sqlite")
Word = Unicode(WORD).with_variant(UnicodeText(), *UNBOUNDED)
Short = Unicode(SHORT).with_variant(UnicodeText(), *UNBOUNDED)


class JsonText(TypeDecorator[Any]):
    """JSON as text: MySQL's own JSON rounds large whole numbers, and other databases have none."""

    impl = UnicodeText().with_variant(mysql.LONGTEXT(), *MYSQL)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """None is NULL."""
        return None if value is None else json.dumps(value, allow_nan=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """As it was."""
        return None if value is None else json.loads(value)


Data = JsonText().with_variant(JSON(none_as_null=True), *UNBOUNDED)


class Utc(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond. Some databases keep no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), *MYSQL)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a time without a zone is refused, because nobody knows when that was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name in ("sqlite", *MYSQL) else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As UTC, whatever zone the server speaks in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What all tables share: names for every constraint, so that a later migration can speak of them."""

    type_annotation_map = {int: Whole, str: UnicodeText}  # noqa: RUF012
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _number() -> Mapped[int]:
    """A key that the store counts out itself, under the lock of a writer: no gaps, and none is used twice."""
    return mapped_column(primary_key=True, autoincrement=False)


class Source(Base):
    """Where images come from. root: a folder; relative to the store's own folder when it lies in it."""

    __tablename__ = "sources"
    id: Mapped[int] = _number()
    root: Mapped[str] = mapped_column(Word, unique=True)
    format: Mapped[str]
    info: Mapped[Any] = mapped_column(Data)


class CategoryRow(Base):
    """A class. Never removed nor renamed, since the history speaks of it by its id."""

    __tablename__ = "categories"
    id: Mapped[int] = _number()
    name: Mapped[str] = mapped_column(Word, unique=True)
    parent: Mapped[str | None]
    thing: Mapped[bool | None]
    rgb: Mapped[Any] = mapped_column(Data, nullable=True)


class ClipRow(Base):
    """A film. split: "" for none. path: the clip's own file, if its frames are not images."""

    __tablename__ = "clips"
    id: Mapped[int] = _number()
    split: Mapped[str] = mapped_column(Short)
    name: Mapped[str] = mapped_column(Word)
    path: Mapped[str | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    fps: Mapped[float | None] = mapped_column(Double)
    frames: Mapped[int | None]
    __table_args__ = (UniqueConstraint("split", "name"),)


class ImageRow(Base):
    """An image. split: "" for none. path: below the source's root, or as it is without a source. packed: `path` holds
    many images, and only the reader of its format can get at this one.
    """

    __tablename__ = "images"
    id: Mapped[int] = _number()
    source_id: Mapped[int | None] = mapped_column(ForeignKey("sources.id"))
    path: Mapped[str]
    split: Mapped[str] = mapped_column(Short)
    name: Mapped[str] = mapped_column(Word)
    sha256: Mapped[str | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    licence: Mapped[str | None]  # the column was called so before the API said `license`
    clip_id: Mapped[int | None] = mapped_column(ForeignKey("clips.id"))
    frame: Mapped[int | None]
    packed: Mapped[bool]
    attributes: Mapped[Any] = mapped_column(Data)
    __table_args__ = (UniqueConstraint("split", "name"), Index(None, "clip_id", "frame"))


class LabelRow(Base):
    """A label as it is now, of an image or else of a clip. version: the revision that last changed it, which is
    recorded after it: a reference only where references may wait for the commit.
    """

    __tablename__ = "labels"
    id: Mapped[int] = _number()
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"), index=True)
    clip_id: Mapped[int | None] = mapped_column(ForeignKey("clips.id"), index=True)
    kind: Mapped[str]
    category_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    track: Mapped[int | None]
    data: Mapped[Any] = mapped_column(Data)
    author: Mapped[str]
    time: Mapped[datetime] = mapped_column(Utc)
    version: Mapped[int] = mapped_column(ForeignKey("steps.number", deferrable=True, initially="DEFERRED"))
    __table_args__ = (CheckConstraint("(image_id IS NULL) <> (clip_id IS NULL)", name="one_place"),)


class RevisionRow(Base):
    """One revision of the history: 1, 2, 3, ... in the order they were kept. Only ever added to.

    target: the revision that this one undid or did again. changes: how many rows of the history belong to it.
    """

    __tablename__ = "steps"
    number: Mapped[int] = _number()
    author: Mapped[str]
    time: Mapped[datetime] = mapped_column(Utc, index=True)
    action: Mapped[str]
    target: Mapped[int | None] = mapped_column(ForeignKey("steps.number"), index=True)
    changes: Mapped[int]


class HistoryRow(Base):
    """One change of one label. Only ever added to; before is NULL for an added label, after for a removed one."""

    __tablename__ = "history"
    id: Mapped[int] = _number()
    step: Mapped[int] = mapped_column(ForeignKey("steps.number"), index=True)
    label_id: Mapped[int]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"))
    clip_id: Mapped[int | None] = mapped_column(ForeignKey("clips.id"), index=True)
    before: Mapped[Any] = mapped_column(Data, nullable=True)
    after: Mapped[Any] = mapped_column(Data, nullable=True)
    __table_args__ = (Index(None, "label_id", "id"), Index(None, "image_id", "step"))
