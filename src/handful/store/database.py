"""Opening the labelling store: SQLite or PostgreSQL, set so that what is kept stays kept, and brought up to date."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from handful.errors import DataError, MissingPackage
from handful.store.tables import HEAD, VERSION_TABLE

FILE = "labels.sqlite"
SUFFIXES = (".sqlite", ".sqlite3", ".db")
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x68616E64  # any number of our own: PostgreSQL's name for "one writer at a time" in this schema
_URL = re.compile(r"^[a-z][a-z0-9_+]*://", re.IGNORECASE)
_WRITES = "handful_writes"


class Database:
    """An open database: `reading()` and `writing()` give a connection in a transaction of its own.

    place: how errors name it, without password. folder: where the SQLite file lies; None for PostgreSQL.
    """

    def __init__(self, place: str | Path, *, wait_s: float) -> None:
        url, self.folder = _where(place)
        self.place = url.database or "" if self.folder else _shown(url)
        self._wait_s = wait_s
        self._secret = url.password
        with self._told():
            self.engine = _sqlite(url, wait_s) if self.folder else _postgres(url, self.place)
            try:
                self._migrate()
            except BaseException:
                self.engine.dispose()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees the store as it is at its first question. Raises DataError, naming the store."""
        with self._told(), self.engine.connect() as db, db.begin():
            if not self.folder:
                db.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that alone may write; all of it is kept when the block ends, nothing when the block fails.

        Writers wait for one another, so that steps are numbered in the order they are kept. Raises DataError.
        """
        with self._told(), self.engine.connect() as db:
            db = db.execution_options(**{_WRITES: True})
            with db.begin():
                if not self.folder:
                    db.execute(text("SELECT set_config('lock_timeout', :t, true)"), {"t": f"{self._wait_s * 1000:.0f}"})
                    db.execute(text("SELECT pg_advisory_xact_lock(:a, hashtext(current_schema()))"), {"a": LOCK})
                yield db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the library's errors into ours, without the password and without pages of SQL."""
        try:
            yield
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or error).split("\n")[0]
            if self._secret:
                why = why.replace(str(self._secret), "***")
            if "locked" in why or "lock timeout" in why:
                why = f"another program has been writing to it for over {self._wait_s:g} s; try again"
            raise DataError(f"{self.place} could not be read or written ({why}); nothing was changed") from None

    def _migrate(self) -> None:
        with self.reading() as db:
            if self._revision(db) == HEAD:
                return
        with self.writing() as db:
            found = self._revision(db)  # again: another process may have been quicker
            if found is None and inspect(db).get_table_names():
                raise DataError(
                    f"{self.place} holds tables of another program; wanted a labelling store or an empty database"
                )
            if found != HEAD:
                self._upgrade(db, found)

    def _revision(self, db: Connection) -> str | None:
        """Which migration the tables are at; None for an empty database. Raises DataError for a newer one."""
        if not inspect(db).has_table(VERSION_TABLE):
            return None
        found = db.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        if found is not None and str(found) > HEAD:
            raise DataError(
                f"{self.place} was written by a newer handful (tables of version {found}, this handful knows up to "
                f"{HEAD}); run: pip install --upgrade handful"
            )
        return None if found is None else str(found)

    def _upgrade(self, db: Connection, found: str | None) -> None:
        from alembic import command  # a third of a second, and only the first time
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config(attributes={"connection": db})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            command.upgrade(config, HEAD)
        except CommandError as error:
            raise DataError(f"{self.place} has tables of version {found}, which no handful wrote ({error})") from error


def _where(place: str | Path) -> tuple[URL, Path | None]:
    """The address, and for SQLite the folder of its file. Never shows a password."""
    if not (isinstance(place, str) and _URL.match(place)):
        path = Path(place).expanduser().absolute()
        if path.suffix.lower() not in SUFFIXES and not path.is_file():
            path /= FILE
        return URL.create("sqlite", database=str(path)), path.parent
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):
        raise DataError(
            "the store's address cannot be read; wanted a folder, or postgresql+pg8000://USER:PASSWORD@HOST/DATABASE "
            "(write @ : / in a password as %40 %3A %2F)"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+pg8000")
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or "mode" in url.query:
            raise DataError("a store in memory would be lost; wanted sqlite:///PATH or a folder")
        path = Path(url.database).absolute()
        return URL.create("sqlite", database=str(path)), path.parent
    if backend != "postgresql":
        raise DataError(f"{_shown(url)} is a {backend} database; wanted a folder (SQLite) or postgresql+pg8000://...")
    return url, None


def _shown(url: URL) -> str:
    # what stands after "?" can hold a password too
    return url.set(query={}).render_as_string(hide_password=True)


_json = partial(dumps, allow_nan=False, separators=(",", ":"))


def _sqlite(url: URL, wait_s: float) -> Engine:
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made ({error.strerror or error}); choose another folder") from error
    engine = create_engine(url, json_serializer=_json, connect_args={"timeout": wait_s})

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # "begin" below says BEGIN; the driver would do so too late
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")  # a commit is on the disk before it returns
        until = time.monotonic() + wait_s
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:  # here SQLite does not wait for other processes by itself
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    @event.listens_for(engine, "begin")
    def begin(db: Connection) -> None:
        # a writer that began as a reader would fail at once, not wait, when another wrote in between
        db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get(_WRITES) else "BEGIN")

    return engine


def _postgres(url: URL, place: str) -> Engine:
    try:
        return create_engine(url, json_serializer=_json, pool_pre_ping=True)
    except NoSuchModuleError:
        raise DataError(f"{place} asks for a driver that does not exist; wanted postgresql+pg8000://...") from None
    except ImportError:
        driver = url.get_driver_name()
        line = "pip install 'handful[postgres]'" if driver == "pg8000" else f"pip install {driver}"
        raise MissingPackage(f"{place} needs {driver}, which cannot be imported; run: {line}") from None
