"""The process that forks jobs for the tests."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from handful.device.targets import job
from handful.files import write_json
from tests.forked import Program
from tests.warm import Kept, Remembered, Warm, spawner


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_it_outlives_the_thread_that_started_it_and_is_started_again(tmp_path: Path) -> None:
    warm, codes = Warm(imported=()), []

    def ask() -> None:  # a job without a file is an error of the job
        request = {"folder": str(tmp_path), "env": job._environment(1), "planted": False, "threads": 1}
        codes.append(warm.ask(request, 60.0))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    ask()
    assert codes == [1, 1] and "job.json" in (tmp_path / job.LOG).read_text()
    assert warm.server is not None
    warm.server.kill()
    warm.server.wait()
    ask()
    assert codes == [1, 1, 1]
    warm.close()


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")
def test_what_was_compiled_is_kept_by_all_that_goes_in(tmp_path: Path) -> None:
    """The same files twice are compiled once; one other byte, precision or wish for layers is another compile."""
    asked: list[str] = []

    class Counted(Warm):
        def ask(self, request: dict[str, object], timeout_s: float) -> int | None:
            folder = Path(str(request["folder"]))
            to = Path(json.loads((folder / job.JOB).read_text())["to"])
            to.mkdir()
            (to / "made").write_text(str(len(asked)))
            (folder / job.LOG).write_text("log")
            (folder / job.RESULT).write_text("{}")
            asked.append(folder.name)
            return code

    spawn = spawner(Counted(), Kept(tmp_path / "kept"))

    def compile_(name: str, model: Path, **fields: str) -> str:
        (tmp_path / name).mkdir()
        told = job.Job("compile", "onnxruntime", str(model), "a:b", to=str(tmp_path / name / "to"), **fields)
        write_json(tmp_path / name / job.JOB, asdict(told))
        assert spawn(tmp_path / name, 1, 60.0) == code
        return (tmp_path / name / "to" / "made").read_text()

    code = 1
    model = tmp_path / "model"
    model.mkdir()
    (model / "net.safetensors").write_text("weights")
    (model / "handful.json").write_text('{\n    "seconds": 1,\n    "seed": 0\n}')
    assert compile_("failed", model) == "0"  # what failed is done again
    code = 0
    assert compile_("first", model) == "1" == compile_("again", model)
    copy = shutil.copytree(model, tmp_path / "other")
    (copy / "handful.json").write_text('{\n    "seconds": 2,\n    "seed": 0\n}')
    (copy / "compiled").mkdir()
    (copy / "compiled" / "old").write_text("x")
    assert compile_("copy", copy) == "1"
    assert compile_("fp16", model, precision="fp16") == "2"
    (copy / "notes.txt").write_text("x")
    assert compile_("changed", copy) == "3"
    (copy / "notes.txt").unlink()
    (copy / "handful.json").write_text('{\n    "seconds": 2,\n    "seed": 1\n}')
    assert compile_("seed", copy) == "4"
    assert asked == ["failed", "first", "fp16", "changed", "seed"]


def test_no_network_is_compiled_twice(tmp_path: Path) -> None:
    """The same network is not; another weight, setting, precision or file to make it of is another compile."""
    torch = pytest.importorskip("torch")
    made: list[str] = []

    class Runtime:
        __name__ = "runtime_x"
        TAKES = "images"

        def compile(self, network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, int]:
            made.append(precision)
            (to / "made").write_text(str(len(made)))
            return {"steps": len(made)}

    remembered = Remembered(Runtime(), tmp_path / "kept")

    def compiled(*args: Any) -> tuple[str, dict[str, int]]:
        to = tmp_path / f"to{len(list(tmp_path.iterdir()))}"
        to.mkdir()
        facts = remembered.compile(args[0], to, *args[1:])
        return (to / "made").read_text(), facts

    network = torch.nn.Linear(2, 2)
    assert compiled(network, "fp32") == ("1", {"steps": 1}) == compiled(copy.deepcopy(network), "fp32")
    assert compiled(network, "fp16")[0] == "2"
    base = tmp_path / "base"
    base.mkdir()
    for text, count in (("a", "3"), ("b", "4"), ("a", "3")):
        (base / "model").write_text(text)
        assert compiled(network, "fp16", base)[0] == count
    network.width = 3
    assert compiled(network, "fp32")[0] == "5"
    network.weight.data[0, 0] += 1
    assert compiled(network, "fp32")[0] == "6" and remembered.TAKES == "images"
    assert {f.name for to in tmp_path.glob("to*") for f in to.iterdir()} == {"made"}  # and nothing of ours


def test_a_program_says_how_it_ended() -> None:
    said = "import os, sys; print(*sys.argv[1:], os.environ['SAID'], 'torch' in sys.modules); sys.exit(3)"
    assert Program(said, "a", "b", env={"SAID": "yes"}).end(60) == (3, "a b yes True\n", "")
    code, _, err = Program("1 / 0", env={}).end(60)
    assert code == 1 and "ZeroDivisionError" in err
    assert Program("import time; print('here', flush=True); time.sleep(60)", env={}).end(1.0) == (None, "here\n", "")
