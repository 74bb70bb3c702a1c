"""MariaDB and MySQL as a place for the labeling store."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from handful.errors import DataError, MissingPackage
from handful.store.backend import ONLY_ADDED, Backend, verbs
from handful.store.tables import SHORT, VERSION_TABLE, WORD

TOO_LONG, TOO_MUCH = 1406, 1153  # the server's numbers for a text, and for all that was sent at once
YEAR_S = 365 * 24 * 3600  # no server waits longer


class Mysql(Backend):
    """MariaDB and MySQL. Writers queue for the row of the version table: that lock ends with the commit, whatever
    happens, which one by GET_LOCK does not. Only the making of the tables, where every table commits, needs GET_LOCK.
    """

    driver = "pymysql"
    wanted = "mysql+pymysql://USER:PASSWORD@HOST/DATABASE"
    packages: ClassVar = {
        "pymysql": "'handful[mysql]'",
        "mysqldb": "mysqlclient",
        "mysqlconnector": "mysql-connector-python",
        "mariadbconnector": "mariadb",
    }
    busy = ("Lock wait timeout",)
    ddl_commits = True
    # names that differ by case, accents or trailing blanks are different ones
    collations = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")
    _packet = 0

    @contextlib.contextmanager
    def making(self) -> Iterator[Connection]:
        """Under a lock of the server's, by the name of the database."""
        with self.engine.connect() as db:
            try:
                lock = text("SELECT GET_LOCK(SHA1(CONCAT('handful ', DATABASE())), :wait)")
                if not db.scalar(lock, {"wait": self._wait()}):
                    raise TimeoutError(self.busy[0])
                yield db
                db.commit()
            finally:
                db.invalidate()  # the lock goes with the connection, whatever happened

    def tables(self, db: Connection) -> dict[str, Any]:
        """The collation; raises DataError for a server that has none that fits."""
        there = set(db.scalars(text("SELECT COLLATION_NAME FROM information_schema.COLLATIONS")))
        found = next((name for name in self.collations if name in there), None)
        if found is None:
            raise DataError(
                f"the server of {self.place} takes names for the same that differ by a blank at their end; "
                "wanted MariaDB 10.2, MySQL 8.0.17 or a newer one"
            )
        name = db.dialect.name
        return {f"{name}_engine": "InnoDB", f"{name}_charset": "utf8mb4", f"{name}_collate": found}

    def protect(self, db: Connection, tables: Collection[str]) -> None:
        """A trigger for each verb."""
        for table, verb in verbs(tables):
            db.exec_driver_sql(
                f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} FOR EACH ROW "
                f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{ONLY_ADDED}'"
            )

    def _said(self, error: SQLAlchemyError) -> str:
        code, said = _parts(error)
        if code == TOO_LONG:
            return f"{said}; names can have {WORD} characters, splits {SHORT}, other texts 65535 bytes: shorten it"
        size = _largest(error) if code in (TOO_MUCH, 2006, 2013) else 0  # often a server just hangs up
        if code == TOO_MUCH or size > self._packet // 2 > 0:
            return (
                f"what is to be kept has {size} bytes with what it was before, and the server takes {self._packet} in "
                "one piece; set max_allowed_packet higher there"
            )
        return said

    def _engine(self, url: URL, **more: Any) -> Engine:
        if not url.database:
            raise DataError(f"{self.place} names no database; wanted {self.wanted}")
        if url.get_driver_name() in ("pymysql", "mysqldb"):
            url = url.update_query_dict({"charset": "utf8mb4"})
        engine = super()._engine(url, **more)
        event.listen(engine, "do_connect", self._log_in)
        event.listen(engine, "connect", self._connect)
        event.listen(engine, "handle_error", self._hung_up)
        return engine

    @staticmethod
    def _hung_up(context: Any) -> None:
        if context.sqlalchemy_exception is not None and _parts(context.sqlalchemy_exception)[0] == TOO_MUCH:
            context.is_disconnect = True  # the server says so and hangs up; a rollback would hide why
            context.invalidate_pool_on_disconnect = False

    def _log_in(self, dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except RuntimeError as error:  # how PyMySQL says that the server's way of logging in needs a package more
            if "cryptography" not in str(error):
                raise
            raise MissingPackage(
                f"{self.place} needs cryptography to log in without TLS; run: pip install cryptography"
            ) from None

    def _connect(self, connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SET NAMES utf8mb4")
        # strict: a text that is too long is refused, not cut
        cursor.execute(
            "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES'), "
            f"innodb_lock_wait_timeout = {self._wait()}, lock_wait_timeout = {self._wait()}, "
            "default_storage_engine = InnoDB, foreign_key_checks = 1"
        )
        cursor.execute("SELECT @@max_allowed_packet")
        self._packet = int(cursor.fetchone()[0])
        cursor.close()

    def _wait(self) -> int:
        return math.ceil(min(max(self.wait_s, 1), YEAR_S))  # the server counts whole seconds

    def _begin_reading(self, db: Connection) -> None:
        db.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def _begin_writing(self, db: Connection) -> None:
        db.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")  # so that each look sees the last commit
        db.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE} FOR UPDATE")


def _parts(error: SQLAlchemyError) -> tuple[int, str]:
    """The number and the words of an error of MariaDB or MySQL; 0 when it has none."""
    said = getattr(error, "orig", None) or error
    if len(said.args) == 2 and isinstance(said.args[0], int):
        return said.args[0], str(said.args[1])
    return 0, str(said)


def _largest(error: SQLAlchemyError) -> int:
    """About how many bytes the largest row has that was to be written."""
    given: Any = error.params if isinstance(error, DBAPIError) else None
    rows = given if isinstance(given, list) else [given or ()]
    values = ((row.values() if isinstance(row, Mapping) else row) for row in rows)
    return max((sum(len(v) for v in row if isinstance(v, (str, bytes))) for row in values), default=0)
