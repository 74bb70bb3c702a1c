"""The same work here, in processes and on a Ray cluster: every result once, and what happens when one of them dies."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handful import parallel
from handful.errors import DataError, HandfulError, MissingPackage
from handful.parallel import each
from handful.pick import present
from tests.conftest import ROOT

needs_ray = pytest.mark.skipif(not present("ray"), reason="Ray is not installed: pip install 'handful[ray]'")
JOBS = [1, 2, 3, 4, 5]
WANTED = {(i, 100 + job * job) for i, job in enumerate(JOBS)}


def square(shared: int, job: int) -> int:
    return shared + job * job


def dies(shared: int, job: int) -> int:
    os._exit(3)


def refuses(shared: str, job: int) -> int:
    raise DataError(f"{shared} {job}")


def dies_sending(shared: None, job: int) -> bytes:
    """As one that is killed for its memory while a result is half sent."""

    def half(self: Any, data: Any) -> None:
        os.write(self.fileno(), bytes(data)[: len(data) // 2])
        os._exit(9)

    multiprocessing.connection.Connection._send = half  # type: ignore[attr-defined]
    return bytes(1 << 15)


def unsendable(shared: None, job: int) -> Any:
    """A result, or an error, that no pipe takes."""
    if job % 2:
        return lambda: job
    raise OddError(job, "odd")


class OddError(Exception):
    def __init__(self, number: int, text: str) -> None:  # pickle calls it with the text alone
        super().__init__(f"{text}: {number}")


def disk_is_full(shared: None, job: int) -> None:
    raise OSError(errno.ENOSPC, "no space left")


def threads(shared: None, job: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def waits(shared: str, job: int) -> None:
    """Until nobody wants it, or five minutes have gone by. Files tell that it began, and that it was told to end."""
    (Path(shared) / f"{job} began").touch()
    for _ in range(3000):
        if parallel.unwanted():
            (Path(shared) / f"{job} ended").touch()
            return
        time.sleep(0.1)


def interrupted(folder: Path) -> Iterator[int]:
    """Two jobs, and Ctrl-C when both are being worked on."""
    yield from (1, 2)
    while len(list(folder.glob("* began"))) < 2:
        time.sleep(0.05)
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2, None])
def test_every_job_is_done_once(workers: int | None) -> None:
    assert set(each(square, 100, JOBS, workers=workers)) == WANTED
    assert list(each(square, 100, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_taken_as_there_is_room(workers: int) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(50):
            taken.append(job)
            yield job

    results = each(square, 0, jobs(), workers=workers)
    next(results)
    assert len(taken) <= parallel.AHEAD * workers
    assert len(list(results)) == 49 and len(taken) == 50


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_comes_out(workers: int) -> None:
    with pytest.raises(DataError, match="no photo 7"):
        list(each(refuses, "no photo", [7], workers=workers))


def test_a_worker_that_dies_is_said() -> None:
    with pytest.raises(HandfulError, match=r"one of 2 processes died, .*; try fewer --workers"):
        list(each(dies, 0, JOBS, workers=2))
    with pytest.raises(HandfulError, match="go on with --resume and fewer --workers"):
        list(each(dies, 0, JOBS, workers=2, resumable=True))


@pytest.mark.timeout(120)
def test_a_worker_that_dies_while_it_sends_is_said() -> None:
    """Half a message is no message; concurrent.futures waits for its other half for ever."""
    with pytest.raises(HandfulError, match="one of 2 processes died"):
        list(each(dies_sending, None, JOBS, workers=2))
    assert multiprocessing.active_children() == []


def test_what_cannot_be_sent_is_said() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):  # as pickle has it
        list(each(unsendable, None, [1], workers=2))
    with pytest.raises(RuntimeError, match="OddError: odd: 2"):
        list(each(unsendable, None, [2], workers=2))


def test_an_error_of_the_work_is_no_death(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space left") as caught:
        list(each(disk_is_full, None, JOBS, workers=2))
    assert caught.value.errno == errno.ENOSPC and "in disk_is_full" in caught.value.__notes__[0]


def test_no_workers_are_refused() -> None:
    with pytest.raises(DataError, match="workers is 0; wanted at least one"):
        list(each(square, 0, JOBS, workers=0))


def test_each_worker_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [result for _, result in each(threads, None, [1], workers=2)] == [(1, "1")]
    assert "OMP_NUM_THREADS" not in os.environ


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(each(waits, str(tmp_path), interrupted(tmp_path), workers=2))
    assert sorted(p.name for p in tmp_path.glob("* ended")) == ["1 ended", "2 ended"]
    assert not parallel.unwanted()  # this process goes on working


ORPHANS = """
import sys, time
from tests.test_parallel import waits
from handful.parallel import each
def jobs():
    yield from (1, 2)
    print("working", flush=True)
    time.sleep(300)
if __name__ == "__main__":
    list(each(waits, sys.argv[1], jobs(), workers=2))
"""


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    """A mark in their environment finds them again, whoever their parent is by then."""
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    mark = f"HANDFUL_TEST_MARK={tmp_path}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))), **dict([mark.split("=")])}
    run = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=env, stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline() == b"working\n"
    deadline = time.monotonic() + 60
    while len(marked(mark)) < 4 and time.monotonic() < deadline:  # the parent, two workers, the server that forks them
        time.sleep(0.1)
    assert len(marked(mark)) >= 4
    run.send_signal(signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + 60
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == []


def marked(mark: str) -> list[str]:
    """Processes with the mark in the environment they were started with (Linux)."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(place.name)
    return found


# --- Ray -------------------------------------------------------------------------------------------------------------


@needs_ray
@pytest.mark.slow
def test_on_a_cluster_started_here() -> None:
    assert set(each(square, 100, JOBS, ray="local")) == WANTED
    with pytest.raises(DataError, match="no photo 7"):
        list(each(refuses, "no photo", [7], ray="local"))


@needs_ray
def test_no_cluster_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address, said in ((f"127.0.0.1:{port}", "no Ray cluster answers"), ("nonsense", "no address of a Ray cluster")):
        with pytest.raises(HandfulError, match=rf"{said}.*; or work on this machine: --workers N"):
            list(each(square, 0, JOBS, ray=address))


@needs_ray
def test_something_else_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "REACH_S", 4.0)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(HandfulError, match="no Ray cluster answers"):
            parallel.reach(f"127.0.0.1:{mute.getsockname()[1]}")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"handful\[ray\]"):
        list(each(square, 0, JOBS, ray="auto"))


class Answers:
    """What `parallel` asks of Ray, for answers that a real cluster gives too seldom."""

    def __init__(self, answer: Any, processors: int = 1) -> None:
        self.exceptions = pytest.importorskip("ray.exceptions")
        self.answer, self.processors = answer, processors

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.processors} if self.processors else {}

    def wait(self, refs: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return (refs[:1], refs[1:]) if self.processors else ([], refs)

    def get(self, ref: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@needs_ray
def test_what_a_cluster_may_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("ray.exceptions")

    def asked(answer: Any, lost: Any = None) -> list[tuple[int, Any]]:
        cluster = parallel._Cluster(Answers(answer), parallel.RESUME)
        return list(parallel._done(cluster, {"ref": (3, "a")}, lost))

    assert asked("result") == [(3, "result")]
    ((number, stand_in),) = asked(exceptions.WorkerCrashedError(), lambda job, why: f"{job}: {why}")
    assert number == 3 and stand_in.startswith("a: its worker died 10 times")
    with pytest.raises(HandfulError, match=r"its worker died .*; go on with --resume"):
        asked(exceptions.WorkerCrashedError())
    with pytest.raises(HandfulError, match=r"could not go on .*; go on with --resume"):
        asked(exceptions.RaySystemError("x"))
    monkeypatch.setattr(parallel, "NOBODY_S", -1.0)
    with pytest.raises(HandfulError, match="no node of the Ray cluster"):
        parallel._Cluster(Answers(None, processors=0)).size()
