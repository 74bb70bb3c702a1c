"""What each image's file says, read once: hash, size, orientation, color, fingerprint. Cached, so that a second check
of a folder opens only what changed, and one that was cut short goes on where it stopped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from handful.curate.near_duplicates import SIDE, Fingerprint, fingerprint
from handful.data.reading import POINTER, is_pointer
from handful.errors import DataError
from handful.image import TooManyPixels, decode

VERSION = 2  # of Facts and of what they are computed with: another one starts an empty cache
SMALL_PX = 96  # what the likeness needs; a JPEG may come out of its decoder at this size, several times quicker
KEEP_EVERY = 200  # images between two writes to the cache: what a kill can cost
# what another moment, or a package that is installed later, may answer otherwise
UNSETTLED = ("cannot be read (", "is a HEIC image, which needs", "is an AVIF image that cannot be read")
T = TypeVar("T")


@dataclass(frozen=True)
class ImageMetadata:
    """sha256 of the file; size_wh upright and stored_wh in the file (px); EXIF orientation 1 to 8; Pillow's format and
    mode; notes of image.decode. error: "" or the finding's code, with error_text. mark: the fingerprint, as text.
    """

    sha256: str
    size_wh: tuple[int, int] = (0, 0)
    stored_wh: tuple[int, int] = (0, 0)
    orientation: int = 1
    format: str = ""
    mode: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""
    error_text: str = ""
    mark: str = ""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What near_duplicates.near_pairs compares; None for an image that cannot be read."""
        return _unpacked(self.mark) if self.mark else None


def read_metadata(path: Path) -> ImageMetadata:
    """Read one image's file whole. Never raises for a bad image: error says what is wrong."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return ImageMetadata("", error="unreadable_image", error_text=f"cannot be read ({error.strerror or error})")
    digest = hashlib.sha256(data).hexdigest()
    if not data:
        return ImageMetadata(digest, error="empty_file", error_text="has zero bytes")
    if is_pointer(data):
        return ImageMetadata(digest, error="lfs_pointer", error_text=POINTER)
    try:
        seen = decode(path, data=data, small_px=SMALL_PX)
    except TooManyPixels as error:
        return ImageMetadata(digest, error="image_bomb", error_text=_without(path, error))
    except DataError as error:
        return ImageMetadata(digest, error="unreadable_image", error_text=_without(path, error))
    mark = _packed(fingerprint(seen.image))
    notes = tuple(n for n in seen.image.notes if "EXIF" not in n)
    return ImageMetadata(
        digest, seen.size_wh, seen.stored_wh, seen.orientation, seen.format, seen.mode, notes, mark=mark
    )  # fmt: skip


def _packed(one: Fingerprint) -> str:
    whole = one.bits.to_bytes(8, "big") + one.flipped.to_bytes(8, "big") + one.gray.tobytes() + one.chroma.tobytes()
    return base64.b64encode(whole).decode("ascii")


def _unpacked(text: str) -> Fingerprint:
    whole = base64.b64decode(text)
    gray = np.frombuffer(whole, np.uint8, SIDE * SIDE, 16).reshape(SIDE, SIDE)
    chroma = np.frombuffer(whole, np.uint8, -1, 16 + SIDE * SIDE).reshape(4, 4, 2)
    return Fingerprint(int.from_bytes(whole[:8], "big"), int.from_bytes(whole[8:16], "big"), gray, chroma)


def _without(path: Path, error: Exception) -> str:
    return str(error).removeprefix(f"{path} ").split(";")[0]


class Cache:
    """Metadata by a file's path, size and times, in one SQLite file; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._db: sqlite3.Connection | None = None
        self._new = 0
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / f"facts-{VERSION}.sqlite", timeout=30)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS facts (path TEXT PRIMARY KEY, stamp TEXT, value TEXT)")
            self._db.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, value TEXT)")
            self._db.execute("CREATE TABLE IF NOT EXISTS reports (key TEXT PRIMARY KEY, value TEXT)")
            self._db.commit()
        except (OSError, sqlite3.Error):
            self._db = None  # a read-only home or a damaged cache costs time, not the work

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *error: object) -> None:
        self.keep()
        if self._db is not None:
            self._db.close()

    def get(self, table: str, path: Path) -> str | None:
        """What is kept of a file, if the file is still the one it was."""
        if self._db is None or (stamp := _stamp(path)) is None:
            return None
        row = self._try(f"SELECT value FROM {table} WHERE path = ? AND stamp = ?", (_key(path), stamp))
        return row[0] if row else None

    def put(self, table: str, path: Path, value: str) -> None:
        """Keep something about a file as it is now."""
        if self._db is not None and (stamp := _stamp(path)) is not None:
            self._try(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (_key(path), stamp, value))
            self._new += 1
            if self._new >= KEEP_EVERY:
                self.keep()

    def report(self, key: str) -> str | None:
        """A report kept under a key that stands for everything it depends on."""
        row = self._try("SELECT value FROM reports WHERE key = ?", (key,))
        return row[0] if row else None

    def put_report(self, key: str, value: str) -> None:
        """Keep a report."""
        self._try("INSERT OR REPLACE INTO reports VALUES (?, ?)", (key, value))
        self.keep()

    def keep(self) -> None:
        """Write to disk what was put."""
        self._new = 0
        try:
            if self._db is not None:
                self._db.commit()
        except sqlite3.Error:
            self._db = None

    def _try(self, statement: str, values: tuple[str, ...]) -> tuple[str, ...] | None:
        try:
            return None if self._db is None else self._db.execute(statement, values).fetchone()
        except sqlite3.Error:
            self._db = None
            return None


def _key(path: Path) -> str:
    """A path as SQLite can hold it, which takes no name that is no text."""
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()


def _stamp(path: Path) -> str | None:
    """Changes whenever the file's bytes do, as far as the file system tells."""
    try:
        s = os.stat(path)
    except OSError:
        return None
    return f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}"


def gather(
    items: Iterable[tuple[T, Path | None]], cache: Cache, *, threads: int = 2
) -> Iterator[tuple[T, ImageMetadata]]:
    """Each item with the metadata of its image, in order, read ahead by a few threads; no path gives empty metadata."""
    ahead: deque[tuple[T, Path | None, ImageMetadata | Future[ImageMetadata]]] = deque()

    def done() -> tuple[T, ImageMetadata]:
        item, path, meta = ahead.popleft()
        if isinstance(meta, Future):
            meta = meta.result()
            if path is not None and not meta.error_text.startswith(UNSETTLED):
                cache.put("facts", path, json.dumps(asdict(meta)))
        return item, meta

    with ThreadPoolExecutor(threads) as pool:
        for item, path in items:
            kept = None if path is None else cache.get("facts", path)
            if path is None:
                ahead.append((item, path, ImageMetadata("")))
            elif kept is not None:
                ahead.append((item, path, _from(kept)))
            else:
                ahead.append((item, path, pool.submit(read_metadata, path)))
            if len(ahead) > 8 * threads:
                yield done()
        while ahead:
            yield done()


def _from(text: str) -> ImageMetadata:
    row: dict[str, Any] = json.loads(text)
    for name in ("size_wh", "stored_wh", "notes"):
        row[name] = tuple(row[name])
    return ImageMetadata(**row)


def file_hash(path: Path, cache: Cache) -> str:
    """SHA-256 of any file, kept by its path, size and times; "" for one that cannot be read."""
    kept = cache.get("hashes", path)
    if kept is not None:
        return kept
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    cache.put("hashes", path, digest.hexdigest())
    return digest.hexdigest()
