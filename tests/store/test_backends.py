"""What is said of MariaDB, MySQL and any other database: one writer, tables made whole or made again, nothing cut."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text

from handful.errors import DataError, MissingPackage
from handful.store import backends
from handful.store.store import Annotation, Store
from handful.store.tables import VERSION_TABLE, Base
from handful.types import Object

pytest_plugins = ["tests.store.fixture"]
BOX = Object("cat", box_px=(10.1, 20.2, 30.3, 40.4))


def ask(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as db:
        for statement in statements:
            db.execute(text(statement))
    engine.dispose()


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def works(url: str) -> None:
    with Store.open(url) as store:
        store.add_category("cat")
        store.add(store.add_image("s3://1", name="1"), BOX, author="ann")
        assert len(store.as_of(1)) == 1 and store.undo() == 1 and store.check() == ()
        with store._database.reading() as db:
            assert len(list(db.execute(text("SHOW TRIGGERS")))) == 4
            assert inspect(db).get_unique_constraints("images")


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mariadb+pymysql"])
def test_addresses_of_mariadb(new_mariadb: Callable[[], str], scheme: str) -> None:
    address = new_mariadb().replace("mysql+pymysql", scheme)
    with Store.open(address) as store:
        collations = (
            "SELECT DISTINCT COLLATION_NAME, ENGINE FROM information_schema.TABLES t "
            "JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME) "
            f"WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME <> '{VERSION_TABLE}' AND COLLATION_NAME IS NOT NULL"
        )
        with store._database.reading() as db:
            assert db.execute(text(collations)).all() == [("utf8mb4_nopad_bin", "InnoDB")]
        assert store.place.startswith(scheme)
        label = store.add_image("s3://1", name="1"), store.add_category("cat")
        made = store.add(label[0], BOX, author="ann")
        assert store.labels(1) == (made,) and store.check() == ()


class Killed(BaseException):
    """Ends a process at once, as far as the database can tell."""


def kill_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """End the opening before its `count`-th change of the tables. Returns the changes that came before."""
    said: list[str] = []

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(("CREATE", "INSERT", "UPDATE", "DROP")):
            if len(said) == count:
                raise Killed
            said.append(statement)

    make = backends.Mysql._engine

    def engine(self: backends.Mysql, *arguments: Any, **more: Any) -> Engine:
        made = make(self, *arguments, **more)
        event.listen(made, "before_cursor_execute", look)
        return made

    monkeypatch.setattr(backends.Mysql, "_engine", engine)
    return said


def test_killed_anywhere_while_the_tables_are_made(
    new_mariadb: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL keeps each table at once. Whatever is left, the next opening makes a whole store of it."""
    with monkeypatch.context() as patch:
        said = kill_after(patch, 1000)
        Store.open(new_mariadb()).close()
    assert len(said) == 23  # the version's table, 7 tables, 10 indexes, 4 triggers, the version
    for count in (0, 1, 2, 7, 8, 13, 18, 21, 22):
        url = new_mariadb()
        with monkeypatch.context() as patch:
            kill_after(patch, count)
            with pytest.raises(Killed):
                Store.open(url)
        if count in (1, 13):  # killed a second time, while it clears away
            with monkeypatch.context() as patch:
                kill_after(patch, 2)
                with pytest.raises(Killed):
                    Store.open(url)
        assert (VERSION_TABLE in tables(url)) == (count > 0)
        works(url)


def test_tables_that_are_not_left_over(new_mariadb: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed that holds a row, or that may be another program's."""
    half = [new_mariadb() for _ in range(3)]
    for url in half:
        with monkeypatch.context() as patch:
            kill_after(patch, 12)
            with pytest.raises(Killed):
                Store.open(url)
    ask(half[0], "INSERT INTO categories (id, name) VALUES (1, 'cat')")
    ask(half[1], "CREATE TABLE recipes (id INTEGER)")
    ask(half[2], f"DROP TABLE {VERSION_TABLE}")
    for url, why in zip(half, ("categories have rows", "another program", "another program"), strict=True):
        before = tables(url)
        with pytest.raises(DataError, match=why):
            Store.open(url)
        assert tables(url) == before


def test_a_lax_server_cuts_nothing(mariadb: str, new_mariadb: Callable[[], str]) -> None:
    url = new_mariadb()
    ask(f"{mariadb}/mysql", "SET GLOBAL sql_mode = ''", "SET GLOBAL default_storage_engine = MyISAM")
    try:
        works(url)
        with Store.open(url) as store:
            with pytest.raises(DataError, match=r"Data too long for column 'name'.*shorten it"):
                store.add_category("n" * 641)
            with store._database.reading() as db:
                engines = f"SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_NAME = '{VERSION_TABLE}' "
                assert db.scalar(text(f"{engines} AND TABLE_SCHEMA = DATABASE()")) == "InnoDB"
    finally:
        ask(f"{mariadb}/mysql", "SET GLOBAL sql_mode = DEFAULT", "SET GLOBAL default_storage_engine = DEFAULT")


def test_a_reader_cannot_write(new_mariadb: Callable[[], str]) -> None:
    with Store.open(new_mariadb()) as store:
        with pytest.raises(DataError, match="READ ONLY"), store._database.reading() as db:
            db.execute(text("DELETE FROM labels"))
        store.add_category("cat")


def test_a_server_that_takes_blanks_for_nothing(
    new_mariadb: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.Mysql, "collations", ("utf8mb4_from_elsewhere",))
    with pytest.raises(DataError, match=r"differ by a blank at their end; wanted MariaDB 10\.2"):
        Store.open(new_mariadb())


def test_making_the_tables_waits_for_who_makes_them(new_mariadb: Callable[[], str]) -> None:
    url = new_mariadb()
    engine = create_engine(url)
    with engine.connect() as db:
        assert db.scalar(text("SELECT GET_LOCK(SHA1(CONCAT('handful ', DATABASE())), 1)")) == 1
        with pytest.raises(DataError, match=r"another program has been writing to it for over 0\.2 s"):
            Store.open(url, wait_s=0.2)
    engine.dispose()
    works(url)


def test_logging_in_that_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pymysql = pytest.importorskip("pymysql")

    def connect(**_: Any) -> Any:
        raise RuntimeError("'cryptography' package is required for sha256_password or caching_sha2_password auth")

    monkeypatch.setattr(pymysql, "connect", connect)
    with pytest.raises(MissingPackage, match="run: pip install cryptography"):
        Store.open("mysql://me:pw@127.0.0.1/labels")


# any other database, with MariaDB in its place


@pytest.fixture
def other(new_mariadb: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty MariaDB that is treated as one nobody knows."""
    monkeypatch.delitem(backends.KINDS, "mysql")
    return new_mariadb()


def test_any_other_database(other: str) -> None:
    with Store.open(other) as store:
        assert type(store._database._backend) is backends.Other
        cat = store.add_category("cat")
        image = store.add_image("s3://1", name="1", size_wh=(640, 480), attributes={"big": 2**70})
        label = store.add(image, BOX, author="ann")
        with store.revision("bob") as step:
            step.change(label.id, Annotation("tag", "cat", attributes={"é": [None]}), version=label.version)
        with store._database.reading() as db:
            count = text("SELECT count(*) FROM labels")
            assert db.scalar(count) == 1
            store.add(image, BOX, author="bob")
            assert db.scalar(count) == 1  # one moment
        assert store.undo() == 3 and store.undo() == 2 and store.labels(image)[0].annotation == label.annotation
        assert store.categories() == (cat,) and store.check() == ()
    with Store.open(other) as store:
        assert len(store.as_of(3)) == 2 and store.image(image).attributes == {"big": 2**70}


def test_another_database_has_one_writer_at_a_time(other: str) -> None:
    """A second writer begins when the first has ended, and sees what that one kept."""
    with Store.open(other) as one, Store.open(other) as two:
        one.add_category("cat")
        image = one.add_image("s3://1", name="1")
        seen: list[int] = []

        def write() -> None:
            with two.revision("bob") as step:
                seen.append(step.number)
                step.add(image, BOX)

        thread = threading.Thread(target=write)
        with one.revision("ann") as step:
            step.add(image, BOX)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive() and seen == []
        thread.join(30)
        assert seen == [2] and one.last_revision() == 2 and one.check() == ()


def test_without_the_lock_writers_of_another_database_collide(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above sees the lock, and that even then nothing is kept by halves."""
    monkeypatch.setattr(backends.Other, "_begin_writing", lambda self, db: self._level(db, "READ COMMITTED"))
    with Store.open(f"{other}?init_command=SET innodb_lock_wait_timeout=1") as one:
        one.add_category("cat")
        image = one.add_image("s3://1", name="1")
        failed: list[Exception] = []

        def write() -> None:
            try:
                one.add(image, BOX, author="bob")
            except DataError as error:
                failed.append(error)

        thread = threading.Thread(target=write)
        with one.revision("ann") as step:
            step.add(image, BOX)
            thread.start()
            thread.join(30)
        assert len(failed) == 1 and "longer than the server waits" in str(failed[0])
        assert one.last_revision() == 1 and one.check() == ()


OTHER_WRITER = """
import sys
from handful.store import backends
from handful.store.store import Annotation, Store
del backends.KINDS["mysql"]
with Store.open(sys.argv[1]) as store:
    store.add_category("cat")
    try:
        image = store.add_image("s3://1", name="1")
    except Exception:
        image = store.find("1")
    for i in range(50):
        store.add(image, Annotation("tag", "cat", attributes={"i": i}), author=sys.argv[2])
"""


def test_processes_share_another_database(other: str) -> None:
    """They make its tables at the same time, too, with nothing that keeps them apart."""
    writers = [
        subprocess.Popen([sys.executable, "-c", OTHER_WRITER, other, f"w{i}"], stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    said = [writer.communicate(timeout=300)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 3, said
    with Store.open(other) as store:
        found = {(label.author, label.annotation.attributes["i"]) for label in store.labels(store.find("1"))}
        assert found == {(f"w{i}", k) for i in range(3) for k in range(50)}
        assert store.last_revision() == 150 == len(store.history()) and store.check() == ()


def test_two_make_another_database_at_once(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds tables without a version, or loses a race for one, and waits for the version."""
    make, begun, go = backends.Other.protect, threading.Event(), threading.Event()

    def slowly(self: backends.Other, *arguments: Any) -> None:
        begun.set()
        assert go.wait(30)
        make(self, *arguments)

    monkeypatch.setattr(backends.Other, "protect", slowly)
    quick = threading.Thread(target=lambda: Store.open(other).close())
    quick.start()
    assert begun.wait(30)
    with pytest.raises(DataError, match=r"holds tables that are not finished.*try again, or remove them all"):
        Store.open(other, wait_s=0.2)
    threading.Timer(0.3, go.set).start()
    with Store.open(other) as store:
        assert store.last_revision() == 0
    quick.join()
    assert tables(other) == {VERSION_TABLE, *Base.metadata.tables}


def test_levels_of_another_database(tmp_path: Path) -> None:
    """One without levels of its own: SQLite, as a database nobody knows, is used as it is."""
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")

    def none(connection: Any) -> Any:
        raise NotImplementedError

    engine.dialect.get_isolation_level_values = none  # type: ignore[method-assign]
    backend = object.__new__(backends.Other)
    with engine.connect() as db:
        backend._level(db, "READ COMMITTED")
        assert db.scalar(text("SELECT 1")) == 1
    engine.dispose()
