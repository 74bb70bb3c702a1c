"""Checkpoints: whole or absent, what they hold comes back to the bit, what is wrong is said."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import handful.files
from handful.errors import DataError
from handful.training import checkpoint


def parts(seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1 / 3)
    for _ in range(2):
        network(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return network, optimizer


def at(step: int, **more: Any) -> checkpoint.State:
    config = {"lr": 0.1 / 3, "net": "stub", "size_hw": [32, 48]}
    return checkpoint.State(config, "abc", {"torch": "1", "threads": 1}, epochs=9, step=step, **more)


def saved(run: Path, step: int, **more: Any) -> Path:
    network, optimizer = parts()
    weights = network.state_dict()
    return checkpoint.save(
        run, at(step, **more), weights, {k: v + 1 for k, v in weights.items()}, optimizer.state_dict()
    )


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    network, optimizer = parts()
    random.seed(3)
    np.random.seed(4)
    sums, history = {"loss": 1 / 3}, [{"loss": 0.1 + 0.2}]
    checkpoint.save(tmp_path, at(7, sums=sums, history=history), network.state_dict(), None, optimizer.state_dict())
    want = torch.randn(5), np.random.random(5), random.random()
    back = checkpoint.load(tmp_path)
    assert back.state == at(7, sums=sums, history=history) and back.ema is None
    other, theirs = parts(1)
    other.load_state_dict(back.weights)
    theirs.load_state_dict(back.optimizer)
    for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    one, two = optimizer.state_dict(), theirs.state_dict()
    assert one["param_groups"] == two["param_groups"] and one["state"].keys() == two["state"].keys()
    for i, values in one["state"].items():
        assert values.keys() == two["state"][i].keys()
        assert all(torch.equal(v, two["state"][i][k]) for k, v in values.items())
    checkpoint.set_random_state(back.random)
    assert torch.equal(torch.randn(5), want[0]) and (np.random.random(5) == want[1]).all()
    assert random.random() == want[2]
    assert not list(tmp_path.rglob("*.pt")) and json.loads((back.folder / "state.json").read_text())


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    network, _ = parts()
    for step in (1, 2, 3, 4):
        checkpoint.save_best(tmp_path, step, network.state_dict()) if step in (1, 2) else None
        saved(tmp_path, step, best={"step": min(step, 2), "score": 0.5, "epoch": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-00000002", "step-00000003", "step-00000004"]
    best = checkpoint.load_best(tmp_path, checkpoint.load(tmp_path).state)
    assert all(torch.equal(v, best[k]) for k, v in network.state_dict().items())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(
    tmp_path: Path, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, 1)
    last = saved(tmp_path, 2)
    harm(last / name)
    assert checkpoint.load(tmp_path).state.step == 1
    assert name in capsys.readouterr().err
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(DataError, match="no whole checkpoint to resume from"):
        checkpoint.load(tmp_path)


def test_a_pickle_in_disguise_is_not_opened(tmp_path: Path) -> None:
    last = saved(tmp_path, 1)
    record = json.loads((last / "state.json").read_text())
    (last / "weights.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    record["files"]["weights.safetensors"] = handful.files.sha256(last / "weights.safetensors")
    (last / "state.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="no whole checkpoint"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_full_disk_keeps_the_last_good_one(tmp_path: Path, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.numpy

    saved(tmp_path, 1)
    before = {p: p.read_bytes() for p in (tmp_path / "step-00000001").iterdir()}
    real, calls = safetensors.numpy.save_file, []

    def full(tensors: Any, path: str) -> None:
        calls.append(path)
        if len(calls) > allowed:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(DataError, match=r"No space left on device.*the last good checkpoint is .*step-00000001; make "
                                        r"room and go on with --resume"):  # fmt: skip
        saved(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert {p: p.read_bytes() for p in (tmp_path / "step-00000001").iterdir()} == before
    assert checkpoint.load(tmp_path).state.step == 1


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no checkpoint to resume from"):
        checkpoint.load(tmp_path / "none")


def test_another_configuration_or_other_data(capsys: pytest.CaptureFixture[str]) -> None:
    began = at(1)
    checkpoint.same_config(began, dict(reversed(began.config.items())), "abc", began.made_with)
    assert capsys.readouterr().err == ""
    with pytest.raises(DataError, match=r"lr is 0\.5, was 0\.0333.*; size_hw is \[32, 32\], was \[32, 48\]"):
        checkpoint.same_config(began, {**began.config, "lr": 0.5, "size_hw": [32, 32]}, "abc", began.made_with)
    with pytest.raises(DataError, match="crop is 3, was None"):
        checkpoint.same_config(began, {**began.config, "crop": 3}, "abc", began.made_with)
    with pytest.raises(DataError, match="the data have changed since the run was started"):
        checkpoint.same_config(began, began.config, "abd", began.made_with)
    checkpoint.same_config(began, began.config, "abc", {"torch": "1", "threads": 8})
    assert "threads is 8, was 1" in capsys.readouterr().err
    assert checkpoint.config_hash(began.config) == checkpoint.config_hash(dict(reversed(began.config.items())))
    assert checkpoint.config_hash(began.config) != checkpoint.config_hash({**began.config, "lr": 0.5})


def test_a_later_version_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = saved(tmp_path, 1)
    record = json.loads((last / "state.json").read_text())
    (last / "state.json").write_text(json.dumps({**record, "schema_version": 2}))
    with pytest.raises(DataError, match="no whole checkpoint"):
        checkpoint.load(tmp_path)
    assert "schema_version 2; wanted 1" in capsys.readouterr().err


def test_what_differs_on_a_resume_is_told_with_the_way_on() -> None:
    """Which images changed, and what to do for more epochs."""
    at = checkpoint.State({"epochs": 1}, "a" * 64 + "b" * 64, {}, 1)
    checkpoint.same_config(at, {"epochs": 1}, at.data_sha256, {})
    with pytest.raises(DataError, match=r"epochs is 3, was 1; .*--from MODEL --out OTHER"):
        checkpoint.same_config(at, {"epochs": 3}, at.data_sha256, {})
    with pytest.raises(DataError, match=r"the data have changed .*: the images of val \(sha256 c{12}.*, was b{12}"):
        checkpoint.same_config(at, {"epochs": 1}, "a" * 64 + "c" * 64, {})
    with pytest.raises(DataError, match=r"the images to train on .*sha256 c{12}"):
        checkpoint.same_config(at, {"epochs": 1}, "c" * 64 + "b" * 64, {})
