"""Weights from another model: what is kept, by name, shape and class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PIL_Image

from handful.errors import DataError, UnknownName
from handful.models.folder import save_folder
from handful.training import transfer, weights


def net(classes: int = 3, seed: int = 0, **args: Any) -> Any:
    _, module, _ = weights.network_card("stub", "segment")
    torch.manual_seed(seed)
    return weights.built(module, classes, args)


def folder(path: Path, names: list[str], seed: int = 1, **args: Any) -> Path:
    network = net(len(names), seed, **args)
    save_folder(path, network, kind="stub", args=args, classes=names, preprocessing=network.preprocessing(),
                about={"task": "segment"})  # fmt: skip
    return path


def test_the_same_classes_keep_everything(tmp_path: Path) -> None:
    network, old = net(), net(seed=1).state_dict()
    rows = transfer.transfer(network, folder(tmp_path / "m", ["a", "b", "c"]), ["a", "b", "c"])
    assert {row.what for row in rows} == {"kept"} and len(rows) == len(old)
    assert all(torch.equal(v, old[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("new", [["c", "x", "a"], ["a", "c"], ["x", "c", "a", "b", "y"]])
def test_heads_are_mapped_by_class(tmp_path: Path, new: list[str]) -> None:
    names, old, fresh = ["a", "b", "c"], net(seed=1).state_dict(), net(len(new)).state_dict()
    network = net(len(new))
    rows = {row.name: row for row in transfer.transfer(network, folder(tmp_path / "m", names), new)}
    assert {n for n, row in rows.items() if row.what == "reshaped"} == {
        "core.head.weight", "core.head.bias", "core.auxiliary.weight", "core.auxiliary.bias"
    }  # fmt: skip
    got = network.state_dict()
    for i, name in enumerate(new):
        want = old["core.head.weight"][names.index(name)] if name in names else fresh["core.head.weight"][i]
        assert torch.equal(got["core.head.weight"][i], want)
    assert torch.equal(got["core.encoder.0.weight"], old["core.encoder.0.weight"])
    assert rows["core.head.weight"].old == (3, 4, 1, 1) and rows["core.head.weight"].new == (len(new), 4, 1, 1)


def test_a_class_spelled_otherwise_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transfer.transfer(net(), folder(tmp_path / "m", ["a", "b", "c"]), ["A", "b", "c"])
    assert "so they are begun anew: 'A' (known as 'a')" in capsys.readouterr().err


def test_no_class_in_common_and_layers_as_wide_as_there_are_classes(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]  # as many as the stub is wide, so that only names tell a head from a layer
    network, fresh = net(4), net(4).state_dict()
    rows = {row.name: row for row in transfer.transfer(network, folder(tmp_path / "m", names), ["e", "f", "g", "h"])}
    assert rows["core.middle.0.weight"].what == "kept" and rows["core.encoder.1.bias"].what == "kept"
    found = {(row.what, row.old, row.new) for row in rows.values() if row.name == "core.head.bias"}
    assert found == {("dropped", (4,), None)} or found == {("new", None, (4,))}
    assert torch.equal(network.state_dict()["core.head.bias"], fresh["core.head.bias"])


def test_other_shapes_are_dropped_and_new(tmp_path: Path) -> None:
    rows = transfer.transfer(net(width=8), folder(tmp_path / "m", ["a", "b", "c"]), ["a", "b", "c"])
    what = transfer.counts(rows)
    assert what["kept"] == 4 and what["new"] == what["dropped"] > 5  # biases of heads, counters of batch norm
    assert all((row.old is None) == (row.what == "new") and (row.new is None) == (row.what == "dropped")
               for row in rows)  # fmt: skip
    text = transfer.table(rows)
    assert "core.encoder.0" in text and "4x3x3x3" in text and "8x3x3x3" in text and f"{what['new']} new" in text


def test_renamed_and_nothing_fits(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", ["a", "b", "c"])
    rows = transfer.transfer(net(), model, ["a", "b", "c"], rename={"core.head.": "core.auxiliary.",
                                                                    "core.auxiliary.": "core.head."})  # fmt: skip
    assert {row.what for row in rows} == {"kept"}
    with pytest.raises(DataError, match=r"nothing in .* fits the network"):
        transfer.transfer(net(), model, ["a", "b", "c"], rename={"core.": "other."})
    with pytest.raises(DataError, match="is not a folder"):
        transfer.transfer(net(), tmp_path / "none", ["a", "b", "c"])


def test_rates_and_what_is_frozen(tmp_path: Path) -> None:
    network = net()
    speed = weights.rates(network, {"encoder": 0.1, "encoder.1": 0.5, "core.head": 3}, ["middle"])
    assert speed["core.encoder.0.weight"] == 0.1 and speed["core.encoder.1.weight"] == 0.5
    assert speed["core.head.bias"] == 3 and speed["core.middle.0.weight"] == 0 and speed["core.auxiliary.bias"] == 1
    groups = weights.groups(network, speed, 0.2, 0.01)
    of = {id(p): g for g in groups for p in g["params"]}
    named = dict(network.named_parameters())
    assert of[id(named["core.head.bias"])]["base"] == pytest.approx(0.6)
    assert of[id(named["core.head.bias"])]["weight_decay"] == 0
    assert of[id(named["core.encoder.0.weight"])]["weight_decay"] == 0.01
    assert id(named["core.middle.0.weight"]) not in of and not named["core.middle.0.weight"].requires_grad
    weights.train_mode(network, ["middle"])
    assert network.core.encoder[1].training and not network.core.middle[1].training
    rows = transfer.transfer(net(), folder(tmp_path / "m", ["a", "b", "c"]), ["a", "b", "c"])
    rated = {row.name: row.lr for row in transfer.with_rates(rows, speed)}
    assert rated["core.middle.0.weight"] == 0 and rated["core.encoder.1.running_mean"] is None
    with pytest.raises(UnknownName, match="did you mean 'encoder'"):
        weights.rates(network, {}, ["encodr"])
    with pytest.raises(DataError, match="wanted 0 or more"):
        weights.rates(network, {"head": -1}, [])
    with pytest.raises(DataError, match="nothing to train"):
        weights.rates(network, {}, ["core"])


def test_networks_by_name() -> None:
    assert weights.network_card("stub:wide", "segment")[2] == {"width": 8}
    with pytest.raises(UnknownName, match="did you mean 'stub'"):
        weights.network_card("stbu", "segment")
    with pytest.raises(UnknownName, match="did you mean 'wide'"):
        weights.network_card("stub:wied", "segment")
    with pytest.raises(DataError, match="taught is for classify, not to segment"):
        weights.network_card("taught", "segment")
    with pytest.raises(UnknownName, match="did you mean 'width'"):
        net(widht=3)


def test_the_picture_shows_every_kind(tmp_path: Path) -> None:
    rows = transfer.transfer(net(2), folder(tmp_path / "m", ["a", "b", "c"]), ["a", "x"])
    rows += [transfer.Row(f"core.deep.{i}.{j}.weight", "new", None, (9, 9)) for i in range(20) for j in range(9)]
    transfer.draw(rows, tmp_path / "flow.png")
    pixels = np.asarray(PIL_Image.open(tmp_path / "flow.png").convert("RGB")).reshape(-1, 3).astype(int)
    for what in ("kept", "reshaped", "new"):
        rgb = [int(transfer.COLORS[what][i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - rgb).max(axis=1) < 3).sum() > 100, what
    assert len(transfer._joined(transfer.layers(rows))) <= 80


def test_a_taught_detector_has_no_weights_to_begin_with(tmp_path: Path) -> None:
    parts = torch.nn.Linear(2, 2)
    save_folder(tmp_path / "irene", parts, kind="irene", args={}, classes=["a"], preprocessing={}, about={})
    with pytest.raises(DataError, match=r"irene is no single network.*wanted a model that `handful train` made"):
        transfer.transfer(torch.nn.Linear(2, 2), tmp_path / "irene", ["a"])
