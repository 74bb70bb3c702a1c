"""Classes, images, clips, their labels, and a history that is only ever added to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)
ONLY_ADDED_TO = ("steps", "history")


def upgrade() -> None:
    """Carry it out."""
    key("categories", "id", must("name", sa.Text()), may("parent", sa.Text()), may("thing", sa.Boolean()),
        may("rgb", JSON), sa.UniqueConstraint("name", name="uq_categories_name"))  # fmt: skip
    key("clips", "id", must("split", sa.Text()), must("name", sa.Text()), may("path", sa.Text()), may("width", WHOLE),
        may("height", WHOLE), may("fps", sa.Double()), may("frames", WHOLE),
        sa.UniqueConstraint("split", "name", name="uq_clips_split_name"))  # fmt: skip
    key("sources", "id", must("root", sa.Text()), must("format", sa.Text()), must("info", JSON),
        sa.UniqueConstraint("root", name="uq_sources_root"))  # fmt: skip
    key("steps", "number", must("author", sa.Text()), must("time", TIME), must("action", sa.Text()),
        may("target", WHOLE), must("changes", WHOLE), refers("steps", "target", "steps.number"))  # fmt: skip
    key("images", "id", may("source_id", WHOLE), must("path", sa.Text()), must("split", sa.Text()),
        must("name", sa.Text()), may("sha256", sa.Text()), may("width", WHOLE), may("height", WHOLE),
        may("licence", sa.Text()), may("clip_id", WHOLE), may("frame", WHOLE), must("packed", sa.Boolean()),
        must("attributes", JSON), refers("images", "clip_id", "clips.id"),
        refers("images", "source_id", "sources.id"),
        sa.UniqueConstraint("split", "name", name="uq_images_split_name"))  # fmt: skip
    key("history", "id", must("step", WHOLE), must("label_id", WHOLE), may("image_id", WHOLE), may("clip_id", WHOLE),
        may("before", JSON), may("after", JSON), refers("history", "clip_id", "clips.id"),
        refers("history", "image_id", "images.id"), refers("history", "step", "steps.number"))  # fmt: skip
    key("labels", "id", may("image_id", WHOLE), may("clip_id", WHOLE), must("kind", sa.Text()),
        may("category_id", WHOLE), may("track", WHOLE), must("data", JSON), must("author", sa.Text()),
        must("time", TIME), must("version", WHOLE),
        sa.CheckConstraint("(image_id IS NULL) <> (clip_id IS NULL)", name=op.f("ck_labels_one_place")),
        refers("labels", "category_id", "categories.id"), refers("labels", "clip_id", "clips.id"),
        refers("labels", "image_id", "images.id"),
        refers("labels", "version", "steps.number", deferrable=True, initially="DEFERRED"))  # fmt: skip
    for table, *columns in (
        ("steps", "target"), ("steps", "time"), ("images", "clip_id", "frame"), ("history", "clip_id"),
        ("history", "image_id", "step"), ("history", "label_id", "id"), ("history", "step"), ("labels", "category_id"),
        ("labels", "clip_id"), ("labels", "image_id"),
    ):  # fmt: skip
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
    protect()


def key(table: str, name: str, *parts: Any) -> None:
    """A table with a key that the store counts out itself."""
    first = sa.Column(name, WHOLE, autoincrement=False, nullable=False)
    op.create_table(table, first, sa.PrimaryKeyConstraint(name, name=f"pk_{table}"), *parts)


def must(name: str, kind: Any) -> Any:
    """A column that is never NULL."""
    return sa.Column(name, kind, nullable=False)


def may(name: str, kind: Any) -> Any:
    """A column that may be NULL."""
    return sa.Column(name, kind, nullable=True)


def refers(table: str, column: str, to: str, **more: Any) -> Any:
    """A column that names a row of another table."""
    return sa.ForeignKeyConstraint([column], [to], name=f"fk_{table}_{column}", **more)


def protect() -> None:
    """Let the database itself refuse to rewrite the history."""
    why = "the history is only ever added to"
    if op.get_bind().dialect.name == "sqlite":
        for table in ONLY_ADDED_TO:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{why}'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION handful_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{why}'; END $$"
    )
    for table in ONLY_ADDED_TO:
        op.execute(
            f"CREATE TRIGGER {table}_only_added_to BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION handful_only_added_to()"
        )
