"""Features of images on disk, by content: what was computed once is not computed again by a later command.

One SQLite file in the cache folder, for any number of processes at once. It holds at most LIMIT bytes; beyond, what was
kept first goes first. An entry carries a checksum: one that is damaged is dropped and made again, and so is the whole
file. A full disk or a read-only home costs time, not the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
import threading
from pathlib import Path

VERSION = 2  # of what is kept and of how images are read: another one starts an empty cache
LIMIT = 512 << 20  # bytes: some 45,000 photos
LOOK_EVERY = 256  # entries between two looks at the size
SUM = 8  # bytes of the checksum


class FeatureCache:
    """Bytes by key, from a folder. Fit for threads."""

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self.file, self.limit = Path(folder) / f"features-{VERSION}.sqlite", limit
        self._lock, self._new = threading.Lock(), 0
        self._db = self._opened()

    def get(self, key: str) -> bytes | None:
        """What is kept under a key; None where nothing is, or what is there is damaged."""
        row = self._do("SELECT value FROM features WHERE key = ?", (key,))
        if row is None:
            return None
        value = bytes(row[0])
        if value[:SUM] != _sum(value[SUM:]):
            self._do("DELETE FROM features WHERE key = ?", (key,))
            return None
        return value[SUM:]

    def put(self, key: str, value: bytes) -> None:
        """Keep something."""
        self._do("INSERT OR REPLACE INTO features (key, value) VALUES (?, ?)", (key, _sum(value) + value))
        self._new += 1
        if self._new % LOOK_EVERY == 0:
            self._trim()

    def close(self) -> None:
        """Nothing is read or kept any more."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection | None:
        for again in (False, True):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                if again:  # it is no database, or a damaged one
                    for name in (self.file.name, f"{self.file.name}-wal", f"{self.file.name}-shm"):
                        self.file.with_name(name).unlink(missing_ok=True)
                db = sqlite3.connect(self.file, timeout=30, isolation_level=None, check_same_thread=False)
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("CREATE TABLE IF NOT EXISTS features (at INTEGER PRIMARY KEY, key TEXT UNIQUE, value BLOB)")
                db.execute("SELECT key FROM features ORDER BY at LIMIT 1").fetchone()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, read-only, no space
                    return None
            except OSError:
                return None
            else:
                self._without_old()
                return db
        return None

    def _without_old(self) -> None:
        """Up to 0.3 an image was a file, in folders with no bound."""
        with contextlib.suppress(OSError):
            for place in self.file.parent.iterdir():
                if re.fullmatch("[0-9a-f]{16}", place.name) and place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place, ignore_errors=True)

    def _do(self, statement: str, values: tuple[object, ...] = ()) -> tuple[bytes, ...] | None:
        with self._lock:
            try:
                return None if self._db is None else self._db.execute(statement, values).fetchone()
            except sqlite3.Error:
                self._db = None
                return None

    def _trim(self) -> None:
        """Keep to the limit; what goes leaves room in the file for what comes."""
        while self._used() > self.limit:
            self._do("DELETE FROM features WHERE at IN (SELECT at FROM features ORDER BY at LIMIT "
                     "(SELECT COUNT(*) / 8 + 1 FROM features))")  # fmt: skip

    def _used(self) -> int:
        """Bytes in use in the file."""
        found = [self._do(f"PRAGMA {what}") for what in ("page_count", "freelist_count", "page_size")]
        pages, free, size = (0 if row is None else int(row[0]) for row in found)
        return (pages - free) * size


def _sum(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=SUM).digest()
