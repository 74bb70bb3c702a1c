"""Classes, images, clips, their labels, and a history that is only ever added to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from handful.store.backend import of

revision = "0001"
down_revision = None

MYSQL, UNBOUNDED = ("mysql", "mariadb"), ("sqlite", "postgresql")
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), *MYSQL)
JSON = sa.UnicodeText().with_variant(mysql.LONGTEXT(), *MYSQL).with_variant(sa.JSON(none_as_null=True), *UNBOUNDED)
TEXT = sa.UnicodeText()
# keys: the two together are as long as InnoDB's can be
WORD = sa.Unicode(640).with_variant(TEXT, *UNBOUNDED)
SHORT = sa.Unicode(128).with_variant(TEXT, *UNBOUNDED)
ONLY_ADDED_TO = ("steps", "history")


def upgrade() -> None:
    """Carry it out."""
    backend = of(op.get_bind())
    key("categories", "id", must("name", WORD), may("parent", TEXT), may("thing", sa.Boolean()),
        may("rgb", JSON), sa.UniqueConstraint("name", name="uq_categories_name"))  # fmt: skip
    key("clips", "id", must("split", SHORT), must("name", WORD), may("path", TEXT), may("width", WHOLE),
        may("height", WHOLE), may("fps", sa.Double()), may("frames", WHOLE),
        sa.UniqueConstraint("split", "name", name="uq_clips_split_name"))  # fmt: skip
    key("sources", "id", must("root", WORD), must("format", TEXT), must("info", JSON),
        sa.UniqueConstraint("root", name="uq_sources_root"))  # fmt: skip
    key("steps", "number", must("author", TEXT), must("time", TIME), must("action", TEXT),
        may("target", WHOLE), must("changes", WHOLE), refers("steps", "target", "steps.number"))  # fmt: skip
    key("images", "id", may("source_id", WHOLE), must("path", TEXT), must("split", SHORT),
        must("name", WORD), may("sha256", TEXT), may("width", WHOLE), may("height", WHOLE),
        may("licence", TEXT), may("clip_id", WHOLE), may("frame", WHOLE), must("packed", sa.Boolean()),
        must("attributes", JSON), refers("images", "clip_id", "clips.id"),
        refers("images", "source_id", "sources.id"),
        sa.UniqueConstraint("split", "name", name="uq_images_split_name"))  # fmt: skip
    key("history", "id", must("step", WHOLE), must("label_id", WHOLE), may("image_id", WHOLE), may("clip_id", WHOLE),
        may("before", JSON), may("after", JSON), refers("history", "clip_id", "clips.id"),
        refers("history", "image_id", "images.id"), refers("history", "step", "steps.number"))  # fmt: skip
    key("labels", "id", may("image_id", WHOLE), may("clip_id", WHOLE), must("kind", TEXT),
        may("category_id", WHOLE), may("track", WHOLE), must("data", JSON), must("author", TEXT),
        must("time", TIME), must("version", WHOLE),
        sa.CheckConstraint("(image_id IS NULL) <> (clip_id IS NULL)", name=op.f("ck_labels_one_place")),
        refers("labels", "category_id", "categories.id"), refers("labels", "clip_id", "clips.id"),
        refers("labels", "image_id", "images.id"),
        # a step is recorded after its labels; where this cannot be, the store's own check still sees a lost step
        *([refers("labels", "version", "steps.number", deferrable=True, initially="DEFERRED")]
          if backend.deferrable else []))  # fmt: skip
    for table, *columns in (
        ("steps", "target"), ("steps", "time"), ("images", "clip_id", "frame"), ("history", "clip_id"),
        ("history", "image_id", "step"), ("history", "label_id", "id"), ("history", "step"), ("labels", "category_id"),
        ("labels", "clip_id"), ("labels", "image_id"),
    ):  # fmt: skip
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
    backend.protect(op.get_bind(), ONLY_ADDED_TO)


def key(table: str, name: str, *parts: Any) -> None:
    """A table with a key that the store counts out itself."""
    options = of(op.get_bind()).tables(op.get_bind())
    first = sa.Column(name, WHOLE, autoincrement=False, nullable=False)
    op.create_table(table, first, sa.PrimaryKeyConstraint(name, name=f"pk_{table}"), *parts, **options)


def must(name: str, kind: Any) -> Any:
    """A column that is never NULL."""
    return sa.Column(name, kind, nullable=False)


def may(name: str, kind: Any) -> Any:
    """A column that may be NULL."""
    return sa.Column(name, kind, nullable=True)


def refers(table: str, column: str, to: str, **more: Any) -> Any:
    """A column that names a row of another table."""
    return sa.ForeignKeyConstraint([column], [to], name=f"fk_{table}_{column}", **more)
