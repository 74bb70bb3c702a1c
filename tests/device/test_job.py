"""Whatever a child process does, the parent goes on and says in one line what happened."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful.bundle import MANIFEST, Graph, Port
from handful.device.targets import job
from handful.device.targets.job import Job, run_job
from handful.device.targets.worker import called
from handful.errors import CompileError, DataError, DeviceError, UnknownName
from handful.files import sha256, write_json
from tests.warm import COLD

FRAMES = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
FEEDS = [{"image": frame[None]} for frame in FRAMES]
pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Job folders land here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(job, "_spawn", COLD)  # a process of its own, as for users
    return tmp_path


def job_of(tmp_path: Path, do: str = "run", runs: int = 0) -> Job:
    """Of a bundle of the planted runtime in tmp_path."""
    graph = Graph("model", (Port("image", (1, 8, 8, 3), "uint8"),), (Port("scores", (1, 3)), Port("none", (1, 1))))
    own = {"graphs": [{**graph.to_json(), "files": ["model.bin"]}]}
    (tmp_path / "model.bin").write_bytes(b"x")
    head = {"schema_version": 2, "kind": "x", "task": "classify", "runtime": "broken", "precision": "fp32"}
    write_json(
        tmp_path / MANIFEST, {**head, "classes": [], **own, "files": {"model.bin": sha256(tmp_path / "model.bin")}}
    )
    return Job(do, "broken", bundle=str(tmp_path), runs=runs)


def broken(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, do: str = "run", *, runs: int = 0) -> job.Done:
    monkeypatch.setenv("PLANTED", kind)
    timeout_s = 5.0 if kind == "hang" else 60.0
    return run_job(job_of(tmp_path, do, runs), FEEDS, timeout_s=timeout_s)


def kept(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("handful-job-*"))


def test_a_job_that_works_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = broken("none", monkeypatch, tmp_path)
    np.testing.assert_allclose(done.outputs["scores"], FRAMES.mean(axis=(1, 2)), rtol=1e-6)
    assert done.outputs["none"].shape == (2, 1)
    assert not kept(tmp_path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("SIGSEGV", "killed by SIGSEGV"),
        ("SIGKILL", "killed by SIGKILL (out of memory?)"),
        ("raise", "operator 'frobnicate' is not supported"),
        ("exit", "exit code 7"),
        ("hang", "did not end within 5 s"),
    ],
)
def test_a_death_is_one_clear_line(kind: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        broken(kind, monkeypatch, tmp_path)
    text = str(caught.value)
    assert says in text and text.startswith("broken: the run process") and "\n" not in text
    folder = kept(tmp_path)
    assert len(folder) == 1 and str(folder[0]) in text
    assert f"about to do {kind}" in (folder[0] / "log.txt").read_text()


def test_the_command_in_the_message_repeats_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        broken("SIGSEGV", monkeypatch, tmp_path)
    command = shlex.split(str(caught.value).split("to repeat it: ")[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == -signal.SIGSEGV


def test_our_own_errors_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"^no room for 12 layers; use fewer$"):
        broken("own", monkeypatch, tmp_path)
    assert not kept(tmp_path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a killed orphan may wait as a zombie for init
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def sleeper(place: Path) -> int:
    """The process that the child has started, once its number is written: the file is there a moment before that."""
    file = place / "sleeper"
    wait_for(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


def test_a_hang_takes_its_own_children_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        broken("hang", monkeypatch, tmp_path)
    wait_for(lambda: not alive(sleeper(tmp_path)))  # SIGKILL takes a moment on a busy machine


def test_ctrl_c_stops_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "sleeper").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setenv("PLANTED", "hang")
    # a shell that starts the tests in the background has Ctrl-C ignored in them
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run_job(job_of(tmp_path), FEEDS, timeout_s=60)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: not alive(sleeper(tmp_path)))  # SIGKILL takes a moment on a busy machine
    assert not kept(tmp_path)


def test_a_killed_parent_takes_the_child_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLANTED", "hang")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code = f"""
import numpy as np
from handful.device.targets import job
job.COMMAND = {job.COMMAND!r}
job.run_job(job.Job("run", "broken", bundle={str(tmp_path)!r}), [{{"image": np.zeros((1, 8, 8, 3), np.uint8)}}])
"""
    job_of(tmp_path)
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: (tmp_path / "sleeper").exists())
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(sleeper(tmp_path)))


def wait_for(what: Callable[[], bool], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_no_frames_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLANTED", "none")
    with pytest.raises(DataError, match="no frames"):
        run_job(job_of(tmp_path), [])


def test_peak_memory_is_the_childs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = np.ones(500_000_000, np.uint8)  # a child must not report its parent's size
    small, large = (broken(kind, monkeypatch, tmp_path).peak_rss_mb for kind in ("none", "memory"))
    assert ours[0] and small is not None and large is not None
    assert 10 < small < 300 and 300 < large < 600


def test_times_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = broken("none", monkeypatch, tmp_path, runs=5)
    assert len(done.facts["times_ms"]) == 5 and all(time_ms >= 1 for time_ms in done.facts["times_ms"])
    assert done.facts["load_ms"] >= 0 and len(done.outputs["scores"]) == 2  # of the first run of each feed
    assert len(broken("none", monkeypatch, tmp_path).facts["times_ms"]) == 2


def test_threads_are_told_to_the_child() -> None:
    assert {job._environment(3)[name] for name in job.THREAD_VARIABLES} == {"3"}


def test_bad_jobs_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'answers'"):
        Job("answer", "torch", "x")
    with pytest.raises(DataError, match="threads"):
        Job("run", "torch", "x", threads=0)


def test_a_function_that_is_none_is_named(tmp_path: Path) -> None:
    for name, says in (("handful.nowhere:f", "nowhere"), ("nothing", "nothing")):
        with pytest.raises(DataError, match=f"{says}.* wanted module:function"):
            called(name)
    with pytest.raises(DataError, match=r"exprot.* wanted module:function"):  # as a job says it
        run_job(Job("reference", model=str(tmp_path), exporter="handful.kinds.exports:exprot"), FEEDS)
