"""Where the images of the store are, and which clips and classes there are."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from handful.errors import DataError
from handful.store import queries as read
from handful.store.annotations import checked_text
from handful.store.tables import ClipRow, ImageRow, Source
from handful.types import Category


@dataclass(frozen=True)
class StoredImage:
    """An image of the store. path: where it is. uri: its address, when it is no file. size_wh: (width, height) px.

    name: its path inside its split, which nothing else there has. sha256: of the file's bytes, when known.
    """

    id: int
    name: str
    split: str | None
    path: Path
    uri: str | None
    size_wh: tuple[int, int] | None
    sha256: str | None
    license: str | None
    clip: str | None
    frame: int | None
    attributes: Mapping[str, Any]


def place_of(path: Path | str, root: Path | str | None) -> tuple[bool, str]:
    """Whether an image lies in a folder, and its path: inside it then, or else the whole of it."""
    whole = os.path.abspath(path)
    if root is not None:
        folder = os.path.join(os.path.abspath(root), "")
        if whole.startswith(folder):
            return True, Path(whole[len(folder) :]).as_posix()
    return False, Path(whole).as_posix()


def root_text(folder: Path | None, root: Path | str) -> str:
    """How the root is kept: from the store's own folder when it lies in it, so that both can be moved together."""
    whole = os.path.abspath(root)
    if folder is not None and (whole == str(folder) or whole.startswith(os.path.join(folder, ""))):
        return Path(os.path.relpath(whole, folder)).as_posix()
    return checked_text(Path(whole).as_posix(), "the root")


def root_of(folder: Path | None, text: str) -> Path:
    """The folder that `root_text` was made from."""
    return Path(os.path.normpath(os.path.join(folder or "", text)))


def add_source(db: Connection, folder: Path | None, root: Path | str, format: str, info: Any) -> int:
    """The id of a root; added when it is new."""
    text = root_text(folder, root)
    found = db.execute(select(Source.id, Source.format).where(Source.root == text)).one_or_none()
    if found is not None:
        if format and not found.format:  # so far it only had single images
            db.execute(update(Source).where(Source.id == found.id).values(format=format, info=info))
        return int(found.id)
    id = read.next_id(db, Source.id)
    db.execute(insert(Source).values(id=id, root=text, format=format, info=info))
    return id


def clip_ids(db: Connection, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The ids of clips by (split, name), "" for no split; added when they are new."""
    found = {}
    for split, name in sorted(keys):
        id = db.scalar(select(ClipRow.id).where(ClipRow.split == split, ClipRow.name == name))
        if id is None:
            id = read.next_id(db, ClipRow.id)
            db.execute(insert(ClipRow).values(id=id, split=split, name=checked_text(name, "the clip")))
        found[split, name] = int(id)
    return found


def add_image(
    db: Connection,
    folder: Path | None,
    path: Path | str,
    *,
    root: Path | str | None,
    name: str | None,
    split: str,
    clip: str | None,
    size_wh: tuple[int, int] | None,
    **more: Any,
) -> int:
    """Add one image and return its id. folder: the store's own, the root when none is given. Raises DataError when
    there is one of its name. The rest as in `Store.add_image`.
    """
    root = root if root is not None else folder
    uri = isinstance(path, str) and "://" in path
    inside, text = (False, str(path)) if uri else place_of(path, root)
    name = checked_text(name or text, "the name")
    found = db.scalar(select(ImageRow.id).where(ImageRow.split == split, ImageRow.name == name))
    if found is not None:
        raise DataError(f"{name!r} is there already, as image {found}; wanted a new name, or its id from find")
    id = read.next_id(db, ImageRow.id)
    values = {
        "id": id,
        "source_id": add_source(db, folder, root or "", "", {}) if inside else None,
        "path": checked_text(text, "the path"),
        "split": checked_text(split, "the split"),
        "name": name,
        "width": size_wh and size_wh[0],
        "height": size_wh and size_wh[1],
        "clip_id": None if clip is None else clip_ids(db, {(split, clip)})[split, clip],
        "packed": False,
    }
    db.execute(insert(ImageRow).values(**values, **more))
    return id


def images(db: Connection, folder: Path | None, after: int, limit: int) -> list[StoredImage]:
    """The images by id that come after one."""
    rows = db.execute(select(*ImageRow.__table__.c).where(ImageRow.id > after).order_by(ImageRow.id).limit(limit)).all()
    roots = {row.id: root_of(folder, row.root) for row in db.execute(select(Source.id, Source.root))}
    clips = clip_names(db, {row.clip_id for row in rows})
    return [stored_image(row, roots, clips) for row in rows]


def clip_names(db: Connection, ids: Collection[int | None]) -> dict[int, str]:
    """The names of clips by id."""
    wanted = sorted(id for id in ids if id is not None)
    return {
        row.id: row.name
        for part in read.chunks(wanted)
        for row in db.execute(select(ClipRow.id, ClipRow.name).where(ClipRow.id.in_(part)))
    }


def stored_image(row: Any, roots: Mapping[int, Path], clips: Mapping[int, str]) -> StoredImage:
    """A row of ImageRow for people. roots: folders by source; clips: names by id."""
    uri = row.path if row.source_id is None and "://" in row.path else None
    return StoredImage(
        row.id,
        row.name,
        row.split or None,
        Path(row.path) if row.source_id is None else roots[row.source_id] / row.path,
        uri,
        read.size_of(row),
        row.sha256,
        row.licence,
        None if row.clip_id is None else clips[row.clip_id],
        row.frame,
        row.attributes,
    )


def to_category(row: Any) -> Category:
    """A row of CategoryRow as a class."""
    return Category(row.id, row.name, row.parent, row.thing, None if row.rgb is None else tuple(row.rgb))
