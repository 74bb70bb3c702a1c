"""Where the labelling store is tested: SQLite files, and a real PostgreSQL of our own on this machine's loopback."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_count = itertools.count()


def programs() -> Path | None:
    """The folder with PostgreSQL's own programs; None when it is not installed."""
    found = shutil.which("initdb")
    if found and shutil.which("pg_ctl"):
        return Path(found).parent
    places = [p for p in Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()]
    return max(places, key=lambda p: float(p.parent.name), default=None)


def install() -> str:
    """Try to install PostgreSQL; what was in the way, "" when nothing was."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return "there is no initdb and pg_ctl; install PostgreSQL (apt-get install postgresql)"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for command in (["apt-get", "install", "-y", "postgresql"], ["apt-get", "update"]) * 2:
        if programs():
            break
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        said = done.stderr.strip().splitlines()[-1] if done.returncode and done.stderr.strip() else said
    return "" if programs() else f"PostgreSQL could not be installed ({said})"


def missing(why: str) -> None:
    """Skip; fail when HANDFUL_REQUIRE lists postgres."""
    (pytest.fail if "postgres" in os.environ.get("HANDFUL_REQUIRE", "").split(",") else pytest.skip)(why)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL with nothing in it, stopped and removed at the end: its address without the database."""
    why = "" if programs() else install()
    place = programs()
    if place is None:
        missing(why)
        raise AssertionError(why)
    who: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="handful-pg-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = next((u for u in pwd.getpwall() if u.pw_name == "postgres"), None) or pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(name: str, *arguments: str, check: bool = True) -> None:
        command = [str(place / name), "-D", str(folder / "data"), *arguments]
        log = folder / "said"
        # a file, not a pipe: the server would keep the pipe open
        with open(log, "w") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd=folder, timeout=120, **who)
        if check and done.returncode:
            raise RuntimeError(f"{name} failed: {log.read_text()}")

    try:
        run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync", "--locale=C")
        # our tests kill clients, not the machine, so the disk need not be waited for
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off -c max_connections=60"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql+pg8000://postgres@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def execute(url: str, statement: str) -> None:
    """One statement on its own connection, outside a transaction."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a running PostgreSQL, without the database."""
    pytest.importorskip("pg8000")
    with server() as address:
        yield address


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """new_database() -> the address of an empty database."""

    def make() -> str:
        name = f"labels_{os.getpid()}_{next(_count)}"
        execute(f"{postgres}/postgres", f"CREATE DATABASE {name}")
        return f"{postgres}/{name}"

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """new_store() -> where a store that is not there yet can be made, for each kind of database in turn."""
    if request.param == "postgres":
        make: Callable[[], str] = request.getfixturevalue("new_database")
        return make
    return lambda: str(tmp_path / f"{next(_count)}.sqlite")


@pytest.fixture
def store_url(new_store: Callable[[], str]) -> str:
    """Where a store can be made, for each kind of database in turn."""
    return new_store()
