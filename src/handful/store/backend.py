"""What differs between databases: how each is opened, how only one writer writes at a time, and what a reader sees.

One class a kind, each with the same methods: SQLite, PostgreSQL and any other here, MariaDB and MySQL in mysql.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Engine, Insert, create_engine, event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from handful.errors import DataError, MissingPackage
from handful.store.tables import VERSION_TABLE

LOCK = 0x68616E64  # any number of our own: PostgreSQL's name for "one writer at a time" in this schema
ONLY_ADDED = "the history is only ever added to"
_SELF, _WRITES = "handful_backend", "handful_writes"
_json = partial(dumps, allow_nan=False, separators=(",", ":"))


class Backend:
    """An open database of some kind. place: how errors name it. wait_s: how long a writer waits for another.

    The methods that 0001_labels.py asks (tables, protect) must go on making what that file made: a change of them
    needs a migration of its own.
    """

    driver: ClassVar = ""  # for an address that names none; "": whatever SQLAlchemy takes
    wanted: ClassVar = "postgresql+pg8000://USER:PASSWORD@HOST/DATABASE"
    packages: ClassVar[Mapping[str, str]] = {}  # what to give pip for a driver, when that is not its name
    busy: ClassVar[tuple[str, ...]] = ()  # how the database says that a writer waited too long
    guarded: ClassVar = True  # whether `making` keeps a second process from making the tables at the same time
    ddl_commits: ClassVar = False  # whether each table is kept at once, so that a kill leaves some of them
    deferrable: ClassVar = False  # whether a reference may be broken until the commit

    def __init__(self, url: URL, place: str, wait_s: float) -> None:
        self.place, self.wait_s = place, wait_s
        self.engine = self._engine(url)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees the store as it is at its first question."""
        with self.engine.connect() as db:
            self._begin_reading(db)
            yield db
            db.commit()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that alone may write, and sees all that was written before; kept when the block ends."""
        with self.engine.connect() as db:
            self._begin_writing(db)
            yield db
            db.commit()

    @contextlib.contextmanager
    def making(self) -> Iterator[Connection]:
        """As `writing`, for making the tables themselves; see `guarded`."""
        with self.writing() as db:
            yield db

    def tables(self, db: Connection) -> dict[str, Any]:
        """What `create_table` must be told besides the columns."""
        return {}

    def protect(self, db: Connection, tables: Collection[str]) -> None:
        """Let the database itself refuse to change or remove rows of these tables."""

    def faults(self, db: Connection) -> Iterator[str]:
        """What the database finds wrong with itself, one line each."""
        yield from ()

    def many(self, statement: Insert) -> Insert:
        """The statement so put that many rows go in few messages."""
        return statement

    def why(self, error: SQLAlchemyError) -> str:
        """What went wrong, in one line."""
        said = self._said(error).split("\n")[0]
        return self._waited() if any(words in said for words in self.busy) else said

    def _said(self, error: SQLAlchemyError) -> str:
        return str(getattr(error, "orig", None) or error)

    def _waited(self) -> str:
        return f"another program has been writing to it for over {self.wait_s:g} s; try again"

    def _engine(self, url: URL, **more: Any) -> Engine:
        options = {"json_serializer": _json, "execution_options": {_SELF: self}, "pool_pre_ping": True, **more}
        try:
            return create_engine(url, **options)
        except NoSuchModuleError:
            raise DataError(
                f"{self.place} asks for a driver that does not exist or is not installed; wanted {self.wanted}"
            ) from None
        except ImportError:
            driver = url.get_driver_name()
            line = f"pip install {self.packages.get(driver, driver)}"
            raise MissingPackage(f"{self.place} needs {driver}, which cannot be imported; run: {line}") from None
        except (SQLAlchemyError, ValueError) as error:  # its words may hold a password
            raise DataError(
                f"{self.place} cannot be used as an address ({type(error).__name__}); look at what stands after its ?"
            ) from None

    def _begin_reading(self, db: Connection) -> None:
        raise NotImplementedError

    def _begin_writing(self, db: Connection) -> None:
        raise NotImplementedError


class Sqlite(Backend):
    """A file. One writer at a time is what SQLite itself does."""

    busy = ("locked",)
    deferrable = True

    def protect(self, db: Connection, tables: Collection[str]) -> None:
        """A trigger for each verb."""
        for table, verb in verbs(tables):
            db.exec_driver_sql(
                f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{ONLY_ADDED}'); END"
            )

    def faults(self, db: Connection) -> Iterator[str]:
        """Damage of the file, and references to rows that are not there."""
        for (said,) in db.exec_driver_sql("PRAGMA integrity_check"):
            if said != "ok":
                yield f"the file is damaged: {said}"
        for row in db.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"table {row[0]}, row {row[1]} refers to a row of {row[2]} that is not there"

    def _engine(self, url: URL, **more: Any) -> Engine:
        path = Path(url.database or "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise DataError(f"{path.parent} cannot be made ({why}); choose another folder") from error
        engine = super()._engine(url, pool_pre_ping=False, connect_args={"timeout": self.wait_s})
        event.listen(engine, "connect", self._connect)
        event.listen(engine, "begin", self._begin)
        return engine

    def _connect(self, connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # `_begin` says BEGIN; the driver would do so too late
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")  # a commit is on the disk before it returns
        until = time.monotonic() + self.wait_s
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:  # here SQLite does not wait for other processes by itself
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    @staticmethod
    def _begin(db: Connection) -> None:
        # a writer that began as a reader would fail at once, not wait, when another wrote in between
        db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get(_WRITES) else "BEGIN")

    def _begin_reading(self, db: Connection) -> None:
        db.begin()

    def _begin_writing(self, db: Connection) -> None:
        db.execution_options(**{_WRITES: True})
        db.begin()


class Postgres(Backend):
    """PostgreSQL. Writers queue for an advisory lock, which is there before any table is and ends with the commit."""

    driver = "pg8000"
    packages: ClassVar = {"pg8000": "'handful[postgres]'"}
    busy = ("lock timeout",)
    deferrable = True

    def protect(self, db: Connection, tables: Collection[str]) -> None:
        """One function, and a trigger a table that calls it."""
        db.exec_driver_sql(
            "CREATE FUNCTION handful_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{ONLY_ADDED}'; END $$"
        )
        for table in tables:
            db.exec_driver_sql(
                f"CREATE TRIGGER {table}_only_added_to BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION handful_only_added_to()"
            )

    def many(self, statement: Insert) -> Insert:
        """Asked to return something, many rows go in one statement; the driver sends one each otherwise."""
        return statement.returning(next(iter(statement.table.primary_key)))  # type: ignore[attr-defined]

    def _engine(self, url: URL, **more: Any) -> Engine:
        engine = super()._engine(url, **more)
        ask = engine.dialect.do_ping

        def ping(connection: Any) -> bool:
            try:
                return ask(connection)
            # pg8000 lets a reset connection through as it is, and a server's farewell is no lost connection to it
            except (OSError, engine.dialect.loaded_dbapi.Error):
                return False

        engine.dialect.do_ping = ping  # type: ignore[method-assign, assignment]
        return engine

    def _begin_reading(self, db: Connection) -> None:
        db.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

    def _begin_writing(self, db: Connection) -> None:
        db.execute(text("SELECT set_config('lock_timeout', :t, true)"), {"t": f"{self.wait_s * 1000:.0f}"})
        db.execute(text("SELECT pg_advisory_xact_lock(:a, hashtext(current_schema()))"), {"a": LOCK})


class Other(Backend):
    """Any other database that SQLAlchemy has a dialect for, by generic SQL alone. Not tried by us, except on MariaDB.

    How long a writer waits for another is up to the server, and no trigger keeps the history from being rewritten.
    """

    busy = ("locked", "lock timeout", "Lock wait timeout")
    guarded = False
    ddl_commits = True

    @contextlib.contextmanager
    def making(self) -> Iterator[Connection]:
        """Not alone: there is no row to lock yet."""
        with self.engine.connect() as db:
            self._level(db, "READ COMMITTED")
            yield db
            db.commit()

    def _waited(self) -> str:
        return "another program has been writing to it for longer than the server waits; try again"

    def _level(self, db: Connection, *wanted: str) -> None:
        try:
            known = db.dialect.get_isolation_level_values(db.connection.dbapi_connection)  # type: ignore[arg-type]
        except NotImplementedError:
            known = ()
        db.rollback()  # nothing was asked, yet a level can only be set before a transaction
        level = next((level for level in wanted if level in known), None)
        if level is not None:
            db.execution_options(isolation_level=level)

    def _begin_reading(self, db: Connection) -> None:
        self._level(db, "REPEATABLE READ", "SERIALIZABLE")

    def _begin_writing(self, db: Connection) -> None:
        self._level(db, "READ COMMITTED")
        # FOR UPDATE is silently left out for databases that do not know it; this locks the row in all of them
        db.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = version_num"))


def of(db: Connection) -> Backend:
    """The database that a connection belongs to."""
    backend: Backend = db.get_execution_options()[_SELF]
    return backend


def verbs(tables: Collection[str]) -> Iterator[tuple[str, str]]:
    """(table, what must be refused for it)."""
    return ((table, verb) for table in tables for verb in ("UPDATE", "DELETE"))
