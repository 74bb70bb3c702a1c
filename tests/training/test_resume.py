"""Killed at any moment and resumed, a training ends in the same bytes as one that was never stopped."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.forked import Program
from tests.training.made import FAST, small

RUN = {**FAST, "epochs": 4, "save_every": 1, "accumulate": 2, "batch": 2, "freeze": ["auxiliary"]}


def tried(plans: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    program = "import runpy; runpy.run_module('tests.training.resumer', run_name='__main__')"
    code, out, err = Program(program, json.dumps(plans), env={"HANDFUL_CACHE": ""}).end(300)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def what_is_left(out: Path) -> tuple[bytes, list[Any], list[Any]]:
    """Weights, and all that was measured but time."""
    record = json.loads((out / "train.json").read_text())
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in record["history"]]
    return (out / "model.safetensors").read_bytes(), history, [record["best"], record["config"]]


def test_killed_and_resumed_is_the_same_to_the_bit(tmp_path: Path) -> None:
    data = str(small(tmp_path / "data"))
    # a checkpoint moves its three files, then its folder: in the midst of one, between two, after the best weights
    calls = [["call", 2, "after"], ["call", 4, "before"], ["call", 4, "after"], ["call", 11, "after"],
             ["call", 9, "before"], ["call", 6, "after"]]  # fmt: skip
    rng = random.Random(0)
    times = [["after", step, rng.uniform(0, 0.05)] for step in (1, 3, 5, 7, 9, 11)]
    plans: list[dict[str, Any]] = [
        {"data": data, "out": str(tmp_path / "whole"), "kills": [], "run": RUN},
        {"data": data, "out": str(tmp_path / "killed"), "kills": calls, "run": RUN},
        {"data": data, "out": str(tmp_path / "timed"), "kills": times, "run": RUN},
        {"data": data, "out": str(tmp_path / "other"), "kills": [], "run": {**RUN, "seed": 1}},
    ]
    (whole,), killed, timed, (other,) = tried(plans)
    assert whole["status"] == killed[-1]["status"] == timed[-1]["status"] == other["status"] == 0
    assert whole["steps"] == ["step-00000011", "step-00000012"]
    assert [t["status"] for t in killed] == [-9] * 6 + [0], killed
    assert len({t["steps"][-1] if t["steps"] else "" for t in killed}) >= 4, killed  # at different places
    assert [t["status"] for t in timed] == [-9] * 6 + [0], timed
    for how in ("killed", "timed"):
        assert what_is_left(tmp_path / how) == what_is_left(tmp_path / "whole"), how
    left = [p.name for p in (tmp_path / "killed.run").iterdir()]
    assert not [name for name in left if name.endswith((".part", ".old"))]
    # the comparison sees a difference
    assert what_is_left(tmp_path / "other")[0] != what_is_left(tmp_path / "whole")[0]
