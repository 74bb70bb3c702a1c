"""Where the labeling store is tested: SQLite files, and a real PostgreSQL and MariaDB of our own on the loopback."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.skips import need

_count = itertools.count()


@dataclass(frozen=True)
class Kind:
    """A database server. name: as in HANDFUL_REQUIRE. package: Debian's. tool: a program of its own, beside the rest.
    folders: where it may be when it is not on the path. user: who runs it when we are root.
    """

    name: str
    title: str
    package: str
    tool: str
    folders: str
    user: str

    def programs(self) -> Path | None:
        """The folder with the server's own programs; None when it is not installed."""
        found = [p for p in Path("/").glob(self.folders) if (p / self.tool).exists()]
        on_path = shutil.which(self.tool)
        newest = max(found, key=lambda p: [float(x) for x in p.parts if x.replace(".", "").isdigit()], default=None)
        return Path(on_path).parent if on_path else newest

    def install(self) -> str:
        """Try to install it; what was in the way, "" when nothing was."""
        if not shutil.which("apt-get") or os.geteuid() != 0:
            return f"there is no {self.tool}; install {self.title} (apt-get install {self.package})"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        said = ""
        for command in (["apt-get", "install", "-y", self.package], ["apt-get", "update"]) * 2:
            if self.programs():
                break
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
            said = done.stderr.strip().splitlines()[-1] if done.returncode and done.stderr.strip() else said
        return "" if self.programs() else f"{self.title} could not be installed ({said})"

    def missing(self, why: str) -> None:
        """Skip; fail when HANDFUL_REQUIRE lists it."""
        need(False, self.name, why)


POSTGRES = Kind("postgres", "PostgreSQL", "postgresql", "initdb", "usr/lib/postgresql/*/bin", "postgres")
MARIADB = Kind("mariadb", "MariaDB", "mariadb-server", "mariadbd", "usr/sbin", "mysql")


class Home:
    """Where a server of ours lives: a folder and a port, and the user that runs it."""

    def __init__(self, kind: Kind) -> None:
        why = "" if kind.programs() else kind.install()
        place = kind.programs()
        if place is None:
            kind.missing(why)
            raise AssertionError(why)
        self.place = place
        self.folder = Path(tempfile.mkdtemp(prefix=f"handful-{kind.name}-"))
        self.who: dict[str, Any] = {}
        if os.geteuid() == 0:  # they refuse to run as root
            user = next((u for u in pwd.getpwall() if u.pw_name == kind.user), None) or pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def run(self, program: str | Path, *arguments: str, check: bool = True) -> None:
        log = self.folder / "said"
        # a file, not a pipe: the server would keep the pipe open
        with open(log, "w") as out:
            command = [str(self.place / program), *arguments]
            done = subprocess.run(command, stdout=out, stderr=out, cwd=self.folder, timeout=120, **self.who)
        if check and done.returncode:
            raise RuntimeError(f"{program} failed: {log.read_text()}")


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL with nothing in it, stopped and removed at the end: its address without the database."""
    home = Home(POSTGRES)
    data = ("-D", str(home.folder / "data"))
    try:
        home.run("initdb", *data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync", "--locale=C")
        # our tests kill clients, not the machine, so the disk need not be waited for
        options = f"-p {home.port} -c listen_addresses=127.0.0.1 -k {home.folder} -c fsync=off -c max_connections=60"
        home.run("pg_ctl", *data, "-w", "-l", str(home.folder / "log"), "-o", options, "start")
        yield f"postgresql+pg8000://postgres@127.0.0.1:{home.port}"
    finally:
        home.run("pg_ctl", *data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(home.folder, ignore_errors=True)


@contextlib.contextmanager
def mariadb_server() -> Iterator[str]:
    """The same for MariaDB."""
    home = Home(MARIADB)
    data, log = home.folder / "data", home.folder / "log"
    server = None
    try:
        install = shutil.which("mariadb-install-db") or "mariadb-install-db"
        home.run(install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
                 "--skip-test-db", "--skip-name-resolve")  # fmt: skip
        command = [home.place / "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={home.folder}/socket",
                   f"--pid-file={home.folder}/pid", "--bind-address=127.0.0.1", f"--port={home.port}",
                   "--skip-name-resolve", "--innodb-flush-method=nosync", "--max-connections=100"]  # fmt: skip
        with open(log, "w") as out:
            server = subprocess.Popen(command, stdout=out, stderr=out, cwd=home.folder, **home.who)
        until = time.monotonic() + 120
        while "ready for connections" not in log.read_text():
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"mariadbd failed: {log.read_text()}")
            time.sleep(0.05)
        yield f"mysql+pymysql://root@127.0.0.1:{home.port}"
    finally:
        if server is not None:
            server.kill()
            server.wait()
        shutil.rmtree(home.folder, ignore_errors=True)


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
    with postgres_server() as address:
        yield address


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """The address of a running MariaDB, without the database."""
    pytest.importorskip("pymysql")
    with mariadb_server() as address:
        yield address


def new_database(server: str) -> str:
    """The address of an empty database."""
    name = f"labels_{os.getpid()}_{next(_count)}"
    execute(f"{server}/{'postgres' if server.startswith('postgres') else 'mysql'}", f"CREATE DATABASE {name}")
    return f"{server}/{name}"


@pytest.fixture
def new_mariadb(mariadb: str) -> Callable[[], str]:
    """new_mariadb() -> the address of an empty database."""
    return lambda: new_database(mariadb)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """new_store() -> where a store that is not there yet can be made, for each kind of database in turn."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"{next(_count)}.sqlite")
    server: str = request.getfixturevalue(request.param)
    return lambda: new_database(server)


@pytest.fixture
def store_url(new_store: Callable[[], str]) -> str:
    """Where a store can be made, for each kind of database in turn."""
    return new_store()


@pytest.fixture
def kind(store_url: str) -> str:
    """ "sqlite", "postgresql" or "mysql" (MariaDB too): what `store_url` stands for."""
    return store_url.split("+")[0] if "://" in store_url else "sqlite"
