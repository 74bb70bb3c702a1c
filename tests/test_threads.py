"""How many threads work, and how they wait."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from handful import threads
from handful.threads import ONE, SLEEP, asked, cores, inference, one_thread_each, over, settle, settle_process
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def child(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if k not in (*threads.WAITING, *ONE)}
    own |= {"PYTHONPATH": str(ROOT / "src"), **env}
    return subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_threads_are_asked_to_sleep() -> None:
    environ: dict[str, str] = {"HOME": "/"}
    settle(environ)
    assert environ == {"HOME": "/", **SLEEP}


@pytest.mark.parametrize("name", threads.WAITING)
def test_what_the_user_set_about_waiting_stays(name: str) -> None:
    environ = {name: "mine"}
    settle(environ)
    assert environ == {name: "mine"}


@pytest.mark.parametrize(("given", "passive"), [({}, True), ({"OMP_WAIT_POLICY": "ACTIVE"}, False)])
def test_torchs_openmp_hears_of_it(given: dict[str, str], passive: bool) -> None:
    """libgomp and libomp tell what they read when they are loaded."""
    pytest.importorskip("torch")
    told = child("import handful, torch", OMP_DISPLAY_ENV="TRUE", **given).stderr.replace('"', "'")
    assert "OMP_WAIT_POLICY" in told
    assert ("OMP_WAIT_POLICY = 'PASSIVE'" in told) == passive, told


def test_the_command_has_one_thread_for_numpy() -> None:
    environ: dict[str, str] = {}
    settle_process(environ)
    assert environ == {**SLEEP, "OPENBLAS_NUM_THREADS": "1"}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environ = {name: "3"}
        settle_process(environ)
        assert environ == {**SLEEP, name: "3"}


def test_the_command_settles_before_numpy_is_imported() -> None:
    code = (
        "import os, sys\nfrom handful.cli import main\nassert 'numpy' not in sys.modules\n"
        "try: main(['--version'])\nexcept SystemExit: pass\nprint(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    assert child(code).stdout.split()[-1] == "1"


# --- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"), [("3", 3), ("4,2", 4), ("0", None), ("-1", None), ("x", None), ("", None)]
)
def test_what_the_user_asks_for(value: str, wanted: int | None) -> None:
    assert asked({"OMP_NUM_THREADS": value}) == wanted
    assert asked({}) is None


@pytest.mark.parametrize(
    ("quota", "wanted"), [("max 100000", 6), ("250000 100000", 2), ("10000 100000", 1), ("9900000 100000", 6), ("", 6)]
)
def test_a_container_is_given_so_much(quota: str, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path / "cpu.max") == wanted and cores(tmp_path / "absent") == 6


def test_one_thread_a_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with inference():
            assert torch.get_num_threads() == 1 and torch.is_inference_mode_enabled()
            with inference():
                assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3 and not torch.is_inference_mode_enabled()
        with pytest.raises(ZeroDivisionError), inference():
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with inference():
            assert torch.get_num_threads() == 3 and torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(before)


def test_answers_do_not_depend_on_the_number_of_processors() -> None:
    """A photo divided among threads has other last bits: with the user's OMP_NUM_THREADS they may differ."""
    torch = pytest.importorskip("torch")
    from handful.fewshot.classifier import FewShotClassifier
    from handful.image import Image

    model = FewShotClassifier.new("lite0", frame_hw=(224, 224))
    photos = [Image(np.random.default_rng(i).integers(0, 256, (224, 224, 3), np.uint8)) for i in range(4)]
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(np.stack([model.embedder.vector(photo) for photo in photos]))
            found.append(np.stack(list(over(model.embedder.vector, photos, workers=count))))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_batches_have_the_processors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    assert threads.for_batches() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert threads.for_batches() == 16


def test_processes_find_one_thread_in_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with one_thread_each():
        assert {name: os.environ[name] for name in ONE} == ONE
    assert os.environ["MKL_NUM_THREADS"] == "7" and "OMP_NUM_THREADS" not in os.environ


# --- photos side by side ---------------------------------------------------------------------------------------------


def in_this_thread(item: int) -> bool:
    return threading.current_thread() is threading.main_thread()


def test_results_come_in_order_and_work_runs_side_by_side() -> None:
    meet = threading.Barrier(3, timeout=60)

    def work(item: int) -> int:
        if item < 3:
            meet.wait()  # only if three are at it at once
        return item * item

    assert list(over(work, range(10), workers=3)) == [i * i for i in range(10)]
    assert list(over(work, range(3, 10), workers=1)) == [i * i for i in range(3, 10)]
    assert list(over(work, [], workers=3)) == []


def test_one_item_needs_no_thread() -> None:
    assert list(over(lambda item: threading.current_thread() is threading.main_thread(), [1], workers=4)) == [True]
    assert (
        list(over(lambda item: threading.current_thread() is threading.main_thread(), "ab", workers=4)) == [False] * 2
    )


def test_with_omp_num_threads_one_photo_follows_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert all(over(in_this_thread, range(5)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_in_its_place(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise KeyError("photo 4")

    results = over(lambda i: 1 / i, items(), workers=workers)
    assert [next(results), next(results), next(results)] == [1.0, 0.5, 1 / 3]
    with pytest.raises(KeyError, match="photo 4"):
        next(results)
    results = over(lambda i: 1 / i, [2, 1, 0, 1], workers=workers)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_takes_no_more_items_and_leaves_no_thread() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = over(abs, items(), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 4
    assert not [one for one in threading.enumerate() if one.name.startswith("handful")]
