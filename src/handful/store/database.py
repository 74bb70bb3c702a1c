"""Opening the labeling store: which database, tables made or brought up to date, errors without a password."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, inspect, select, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handful.errors import DataError
from handful.store.backend import Backend
from handful.store.backends import kind_of
from handful.store.tables import HEAD, VERSION_TABLE, Base

FILE = "labels.sqlite"
SUFFIXES = (".sqlite", ".sqlite3", ".db")
MIGRATIONS = Path(__file__).parent / "migrations"
_URL = re.compile(r"^[a-z][a-z0-9_+]*://", re.IGNORECASE)


class _Unfinished(DataError):
    """Some of the tables are there: another process is making them, or was killed while it did."""


class Database:
    """An open database: `reading()` and `writing()` give a connection in a transaction of its own.

    place: how errors name it, without password. folder: where the SQLite file lies; None for a server.
    """

    def __init__(self, place: str | Path, *, wait_s: float) -> None:
        url, self.folder = _where(place)
        self.place = url.database or "" if self.folder else _shown(url)
        self._wait_s = wait_s
        self._secret = url.password
        self._backend: Backend = kind_of(url)(url, self.place, wait_s)
        self.engine = self._backend.engine
        try:
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees the store as it is at its first question. Raises DataError, naming the store."""
        with self._told(), self._backend.reading() as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that alone may write; all of it is kept when the block ends, nothing when the block fails.

        Writers wait for one another, so that revisions are numbered in the order they are kept. Raises DataError.
        """
        with self._told(), self._backend.writing() as db:
            yield db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the library's errors into ours, without the password and without pages of SQL."""
        try:
            yield
        except SQLAlchemyError as error:
            why = self._backend.why(error)
            if self._secret:
                why = why.replace(str(self._secret), "***")
            raise DataError(f"{self.place} could not be read or written ({why}); nothing was changed") from None

    def _migrate(self) -> None:
        until = time.monotonic() + self._wait_s
        with self._told():
            while True:
                with self._backend.reading() as db:
                    if self._revision(db) == HEAD:
                        return
                try:
                    with self._backend.making() as db:
                        return self._make(db)
                except (SQLAlchemyError, _Unfinished):
                    # where nothing keeps two processes from making the tables, the slower one fails and waits
                    if self._backend.guarded or time.monotonic() > until:
                        raise
                    time.sleep(0.05)

    def _make(self, db: Connection) -> None:
        found = self._revision(db)  # again: another process may have been quicker
        there = inspect(db).get_table_names() if found is None else ()
        if there:
            self._clear_away(db, set(there))
        if found != HEAD:
            self._upgrade(db, found)

    def _clear_away(self, db: Connection, there: set[str]) -> None:
        """Remove the empty tables that a killed process left; its first one was that of the version."""
        ours = [table for table in Base.metadata.sorted_tables if table.name in there]
        if not self._backend.ddl_commits or there != {VERSION_TABLE, *(table.name for table in ours)}:
            raise DataError(
                f"{self.place} holds tables of another program; wanted a labeling store or an empty database"
            )
        if not self._backend.guarded:
            raise _Unfinished(
                f"{self.place} holds tables that are not finished: another program is making them, or was killed "
                "while it did; try again, or remove them all"
            )
        full = [table.name for table in ours if db.scalar(select(func.count()).select_from(table))]
        if full:
            raise DataError(
                f"{self.place} does not tell the version of its tables, and {', '.join(full)} have rows; wanted a "
                "labeling store or an empty database: bring back the database from a copy"
            )
        Base.metadata.drop_all(db, tables=ours)

    def _revision(self, db: Connection) -> str | None:
        """Which migration the tables are at; None for an empty database. Raises DataError for a newer one."""
        if not inspect(db).has_table(VERSION_TABLE):
            return None
        found = db.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        if found is not None and str(found) > HEAD:
            raise DataError(
                f"{self.place} was written by a newer handful (tables of version {found}, this version knows up to "
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
    if url.drivername == "postgres":
        url = url.set(drivername="postgresql")
    driver = kind_of(url).driver
    if driver and "+" not in url.drivername:
        url = url.set(drivername=f"{url.drivername}+{driver}")
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:" or "mode" in url.query:
            raise DataError("a store in memory would be lost; wanted sqlite:///PATH or a folder")
        path = Path(url.database).absolute()
        return URL.create("sqlite", database=str(path)), path.parent
    return url, None


def _shown(url: URL) -> str:
    # what stands after "?" can hold a password too
    return url.set(query={}).render_as_string(hide_password=True)
