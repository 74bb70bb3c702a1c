"""Opening a labeling store: made, brought up to date, or refused with the reason; never a password in an error."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from handful.errors import DataError, HandfulError, MissingPackage
from handful.store import database
from handful.store.store import Store
from handful.store.tables import HEAD, VERSION_TABLE, Base
from handful.types import Object
from tests.conftest import ROOT

pytest_plugins = ["tests.store.fixture"]
BOX = Object("cat", box_px=(10.1, 20.2, 30.3, 40.4))


def fill(place: str) -> None:
    with Store.open(place) as store:
        store.add_category("cat")
        store.add(store.add_image("s3://1", name="1"), BOX, author="ann")


def execute(place: str, *statements: str) -> None:
    with Store.open(place) as store, store._database.writing() as db:
        for statement in statements:
            db.execute(text(statement))


def test_the_migrations_make_the_tables(store_url: str, kind: str) -> None:
    with Store.open(store_url) as store, store._database.reading() as db:
        context = MigrationContext.configure(db, opts={"version_table": VERSION_TABLE, "compare_type": True})
        found = compare_metadata(context, Base.metadata)
        if kind == "mysql":  # no reference there can wait for the commit
            assert [(what, key.name) for what, key in found] == [("add_fk", "fk_labels_version")]
        else:
            assert found == []
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


LATER = '''"""A test's."""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"

def upgrade() -> None:
    op.add_column("labels", sa.Column("later", sa.Text(), server_default="new"))
    {more}
'''


def later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str = "") -> None:
    """Make this handful one that knows a second migration."""
    place = tmp_path / "50% later" / "migrations"
    shutil.copytree(database.MIGRATIONS, place)
    (place / "versions" / "0002_later.py").write_text(LATER.format(more=more))
    monkeypatch.setattr(database, "MIGRATIONS", place)
    monkeypatch.setattr(database, "HEAD", "0002")


def test_an_older_store_is_brought_up_to_date(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_url)
    later(monkeypatch, tmp_path)
    with Store.open(store_url) as store:
        with store._database.reading() as db:
            assert db.scalar(text("SELECT later FROM labels")) == "new"
        assert [label.annotation.box_px for label in store.labels(1)] == [BOX.box_px]
        assert store.check() == ()
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(DataError, match=r"newer handful \(tables of version 0002, .* up to 0001\); run: pip inst"):
            Store.open(store_url)


def test_half_a_migration_is_none(store_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_url)
    with monkeypatch.context() as patch:
        later(patch, tmp_path, "op.execute('SELECT * FROM nowhere')")
        with pytest.raises(DataError, match="nowhere"):
            Store.open(store_url)
    with Store.open(store_url) as store:
        with store._database.reading() as db:
            # MySQL keeps each change of a table at once: a migration that failed there is repeated by hand
            half = kind == "mysql"
            assert ("later" in list(db.execute(text("SELECT * FROM labels")).keys())) == half
        assert len(store.labels(1)) == 1


def test_tables_of_another_program(store_url: str) -> None:
    fill(store_url)
    execute(store_url, f"DROP TABLE {VERSION_TABLE}")
    with pytest.raises(DataError, match="holds tables of another program"):
        Store.open(store_url)


def test_a_version_nobody_wrote(store_url: str) -> None:
    fill(store_url)
    execute(store_url, f"UPDATE {VERSION_TABLE} SET version_num = '0000x'")
    with pytest.raises(DataError, match="version 0000x, which no handful wrote"):
        Store.open(store_url)


def test_where_the_file_is(tmp_path: Path) -> None:
    for place, file in (
        ("folder", "folder/labels.sqlite"),
        ("deep/own.sqlite", "deep/own.sqlite"),
        ("own.db", "own.db"),
    ):
        with Store.open(tmp_path / place) as store:
            assert store.place == str(tmp_path / file)
        assert (tmp_path / file).is_file()
    with Store.open(f"sqlite:///{tmp_path}/url.file") as store:
        assert store.place == str(tmp_path / "url.file")
    (tmp_path / "file.txt").write_text("no database" * 100)
    with pytest.raises(DataError, match=r"file\.txt could not be read .*not a database"):
        Store.open(tmp_path / "file.txt")
    with pytest.raises(DataError, match="cannot be made"):
        Store.open(tmp_path / "file.txt" / "below")


def test_what_is_kept_survives_a_power_cut(tmp_path: Path) -> None:
    """As far as the settings go: the log and each commit are synced, on every connection."""
    with Store.open(tmp_path, wait_s=7) as store, store._database.reading() as a, store._database.reading() as b:
        for db in (a, b):
            said = [
                db.scalar(text(f"PRAGMA {k}")) for k in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
            assert said == ["wal", 2, 1, 7000]


def test_a_reader_sees_one_moment(store_url: str) -> None:
    fill(store_url)
    count = text("SELECT count(*) FROM labels")
    with Store.open(store_url) as store:
        with store._database.reading() as db:
            assert db.scalar(count) == 1
            store.add(1, BOX, author="bob")
            assert db.scalar(count) == 1
        with store._database.reading() as db:
            assert db.scalar(count) == 2


SECRET = "s3cretpw"  # nothing in it that an address would write as %21
WRONG = [
    (f"postgresql+pg8000://me:{SECRET}@127.0.0.1:1/labels", "could not be read or written"),
    (f"postgresql+pg8000://me:x@127.0.0.1:1/labels?password={SECRET}", "could not|needs|argument"),
    (f"mysql+pymysql://me:{SECRET}@127.0.0.1:1/labels", r"could not be read or written \(Can't connect .*refused"),
    (f"mariadb://me:{SECRET}@127.0.0.1:1/labels", r"could not be read or written \(Can't connect .*refused"),
    (f"mysql://me:{SECRET}@127.0.0.1:1", r"names no database; wanted mysql\+pymysql://USER"),
    (f"mysql+nothing://me:{SECRET}@127.0.0.1/labels", r"driver that does not exist.*wanted mysql\+pymysql://"),
    (f"mysql://me:x@127.0.0.1/labels?read_timeout={SECRET}", "cannot be used as an address"),
    (f"nothing://me:{SECRET}@127.0.0.1/labels", "driver that does not exist or is not installed"),
    (f"postgresql+nothing://me:{SECRET}@127.0.0.1/labels", "driver that does not exist"),
    (f"postgresql+pg8000://me:{SECRET}@127.0.0.1:port/labels", "address cannot be read"),
    ("sqlite://", "in memory would be lost"),
    ("sqlite:///:memory:", "in memory would be lost"),
    ("sqlite:///file:x?mode=memory&uri=true", "in memory would be lost"),
]


@pytest.mark.parametrize(("address", "why"), WRONG)
def test_a_wrong_address_without_its_password(address: str, why: str) -> None:
    import traceback

    with pytest.raises(HandfulError, match=why) as caught:
        Store.open(address)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_a_refused_password_is_not_told(server: str, request: pytest.FixtureRequest) -> None:
    address = re.sub("//.*@", f"//nobody:{SECRET}@", request.getfixturevalue(server))
    with pytest.raises(DataError, match=r"nobody:\*\*\*@127\.0\.0\.1") as caught:
        Store.open(f"{address}/postgres")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("postgresql+pg8000", "pg8000", "pip install 'handful[postgres]'"),
        ("postgresql+psycopg", "psycopg", "pip install psycopg"),
        ("postgresql", "pg8000", "pip install 'handful[postgres]'"),
        ("mysql", "pymysql", "pip install 'handful[mysql]'"),
        ("mariadb", "pymysql", "pip install 'handful[mysql]'"),
        ("mysql+mysqldb", "MySQLdb", "pip install mysqlclient"),
        ("oracle+oracledb", "oracledb", "pip install oracledb"),
    ],
)
def test_a_missing_driver(name: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage) as caught:
        Store.open(f"{name}://me:{SECRET}@127.0.0.1/labels")
    assert str(caught.value).endswith(f"run: {line}") and SECRET not in str(caught.value)


def test_a_server_restarted_in_between(store_url: str, kind: str) -> None:
    """Connections that died while nobody used them are made anew."""
    fill(store_url)
    others = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }
    with Store.open(store_url) as store:
        store.labels(1)
        if kind in others:
            with Store.open(store_url) as other:
                while True:  # a server ends them in its own time
                    with other._database.reading() as db:
                        there = list(db.scalars(text(others[kind])))
                        for id in there if kind == "mysql" else ():
                            with contextlib.suppress(OperationalError):  # gone meanwhile
                                db.execute(text(f"KILL {id}"))
                    if not there:
                        break
        assert len(store.labels(1)) == 1


def test_nothing_else_loads_the_database_library() -> None:
    found = []
    for path in (ROOT / "src" / "handful").rglob("*.py"):
        mine = "store" in path.parts
        for node in [] if mine else ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            heavy = ("sqlalchemy", "alembic", "handful.store")
            found += [f"{path} imports {name}" for name in names if name.startswith(heavy)]
    assert found == []


def test_opening_again_needs_no_alembic(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    code = "import sys; from handful.store.store import Store; Store.open(sys.argv[1]); print('alembic' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["POSTGRES", "MARIADB"])
def test_a_server_that_is_required_is_not_skipped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.store import fixture

    kind = getattr(fixture, name)
    monkeypatch.setenv("HANDFUL_REQUIRE", "torch")
    with pytest.raises(pytest.skip.Exception, match="not there"):
        kind.missing("not there")
    monkeypatch.setenv("HANDFUL_REQUIRE", f"torch,{kind.name}")
    with pytest.raises(pytest.fail.Exception, match="not there"):
        kind.missing("not there")


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    fill(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["labels.sqlite"]
    raw: Any = sqlite3.connect(tmp_path / "labels.sqlite")
    assert raw.execute("SELECT count(*) FROM labels").fetchone() == (1,)
    raw.close()
