"""What networks, their weights and the engines propose in plain words: each is done, and then it works."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from handful import engine
from handful.detection import masks_head, proposer_objectness, train_mask_head
from handful.device.lab.beside import Beside
from handful.files import write_tensors
from handful.models import fetch, net_classifier, show, tfjs
from handful.models.count import count
from handful.models.encoder import Timm, pretrained_encoder
from handful.models.flow import flow
from tests.cures.desk import Desk, cures
from tests.models.test_fetch import kept
from tests.models.test_flow import PHOTO, Hides, Two

SMALL = "test_efficientnet"


@cures("models.count:count give", "models.flow:_answer give", "models.flow:_run choose", "models.show:RULES leave",
       "models.show:make give")  # fmt: skip
def test_networks_that_are_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.raises(count, nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 2, 2))
    assert count(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).macs

    class Deep(Two):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(super().forward(image), 32)

    desk.raises(flow, Deep(), PHOTO[:8, :8])  # too small for it
    assert flow(Deep(), PHOTO)["edges"]
    desk.raises(flow, Hides(), PHOTO)
    assert flow(Two(), PHOTO)["edges"]

    def told(dim: int | None) -> list[dict[str, Any]]:
        parts = [nn.Conv2d(3, 4, 1)] + ([] if dim is None else [nn.Softmax(dim)])
        return show.unsupported(list(count(nn.Sequential(*parts), torch.zeros(1, 3, 8, 8)).operations))

    (row,) = told(1)
    desk.told(row["advice"])
    assert told(-1) == [] and told(None) == []

    plain = SimpleNamespace(build=lambda classes, *, width: nn.Conv2d(3, width, 1), CARD=None, __doc__="A test's.")
    monkeypatch.setattr(show, "pick", lambda *a: plain)
    said = desk.raises(show.make, "thin", 2)
    (name,) = [part.split("=")[0] for part in said.split() if "=..." in part]
    assert show.make("thin", 2, {name: 4}).args == {"width": 4}


@cures("models.encoder:__init__ go", "models.encoder:pretrained_encoder leave", "models.net_classifier:_timm go")
def test_weights_of_timm_without_a_network(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    own = timm.create_model

    def offline(name: str, *, pretrained: bool, **more: Any) -> Any:
        if pretrained:
            raise OSError("no network")
        return own(name, pretrained=False, **more)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = own(SMALL, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        whole = own(SMALL, pretrained=False, num_classes=2)
    for network, name in ((encoder, "encoder"), (whole, "whole")):
        values = {key: value.numpy() for key, value in network.state_dict().items()}
        write_tensors(desk.at(f"{name}.safetensors"), values)
    monkeypatch.setattr(timm, "create_model", offline)
    taken = {"last_stride": 16, "weights": None}
    said = desk.raises(Timm, SMALL, pretrained=True, **taken)
    assert Timm(SMALL, pretrained=False, **taken).strides == (2, 4, 8, 16)
    other = str(said).partition("such as timm:")[2]
    assert Timm(other, pretrained=False, **taken).strides == (2, 4, 8, 16)
    desk.raises(net_classifier.build, 2, name=f"timm:{SMALL}", pretrained=True)
    assert net_classifier.build(2, name=f"timm:{SMALL}", pretrained=False)
    assert net_classifier.build(2, name=f"timm:{SMALL}", weights=desk.at("whole.safetensors"), pretrained=True)
    with monkeypatch.context() as online:
        online.setattr(timm, "create_model", lambda name, *, pretrained, **more: own(name, pretrained=False, **more))
        assert net_classifier.build(2, name=f"timm:{SMALL}", pretrained=True)
        assert Timm(SMALL, pretrained=True, **taken)
    file = desk.at("encoder.safetensors")
    desk.raises(pretrained_encoder, "lite0", pretrained=False, weights=file)
    assert pretrained_encoder("lite0", pretrained=False)
    assert pretrained_encoder(f"timm:{SMALL}", pretrained=True, weights=file)


@cures("models.fetch:_state_dict get", "models.fetch:_taken get", "models.tfjs:read_weights get",
       "models.tfjs:read_weights get #2")  # fmt: skip
def test_files_of_weights_that_are_not_whole(desk: Desk) -> None:
    path = desk.at("net.pth")
    held = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, held)
    path.write_bytes(held.getvalue()[:100])
    desk.raises(fetch._state_dict, path)
    path.write_bytes(held.getvalue())
    assert fetch._state_dict(path)["a"].shape == (3,)

    packed = desk.at("net.tgz")
    with tarfile.open(packed, "w:gz") as out:
        about = tarfile.TarInfo("package/model.json")
        about.size = 2
        out.addfile(about, io.BytesIO(b"{}"))
    whole, digest = packed.read_bytes(), "44136fa3"  # of {}
    packed.write_bytes(whole[:40])
    desk.raises(fetch._taken, packed, "package/model.json", digest, desk.place)
    packed.write_bytes(whole)
    assert fetch._taken(packed, "package/model.json", digest, desk.place).read_bytes() == b"{}"

    js = kept(desk.at("js"), {"a": (np.zeros(4, np.float32), {})})
    binary = js.parent / "w.bin"
    good = binary.read_bytes()
    for bad in (good[:-4], good + b"more"):
        binary.write_bytes(bad)
        desk.raises(tfjs.read_weights, js)
        binary.write_bytes(good)
        assert tfjs.read_weights(js)["a"].shape == (4,)


@cures("engine:choose use", "device.lab.beside:told give")
def test_engines_and_graphs(desk: Desk) -> None:
    said = desk.raises(engine.choose, "onnxruntime", None, lambda: "torch", "timm:x")
    for name in said.partition("use the engine ")[2].split(" or "):
        assert engine.choose(name, None, lambda: "torch", "timm:x") == "torch"

    class Answers:
        def run(self, feed: Any) -> dict[str, np.ndarray]:
            return {"out": feed["image"] * 2.0}

    graph: Any = Beside("crop", Answers(), Answers())  # type: ignore[arg-type]
    desk.raises(graph.told)  # no photo had anything to crop
    graph.run({"image": np.ones((1, 4))})
    assert graph.told()["name"] == "crop"


@cures("detection.masks_head:fill restore", "detection.masks_head:fill restore #2",
       "detection.proposer_objectness:load reinstall", "detection.proposer_objectness:load reinstall #2",
       "detection.train_mask_head:_resume choose")  # fmt: skip
def test_networks_that_come_with_handful(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    small = masks_head.MaskNet(pretrained=False)
    monkeypatch.setattr(masks_head, "MaskNet", lambda pretrained: small)
    own, file = masks_head.WEIGHTS, desk.at("mask_head.safetensors")
    values = masks_head.read_tensors(own)
    name = sorted(key for key, value in values.items() if value.dtype.kind == "f")[0]
    for bad in ({k: v for k, v in values.items() if k != name}, {**values, name: values[name] * np.nan}):
        write_tensors(file, bad)
        desk.raises(masks_head.from_file, file, masks_head.CARD)
        file.write_bytes(own.read_bytes())
        assert masks_head.from_file(file, masks_head.CARD)

    there = proposer_objectness.WEIGHTS
    put = desk.at("weights", there.name)
    put.parent.mkdir()
    put.with_suffix(".json").write_bytes(there.with_suffix(".json").read_bytes())
    monkeypatch.setattr(proposer_objectness, "WEIGHTS", put)
    for spoil in (lambda: put.unlink(missing_ok=True), lambda: put.write_bytes(there.read_bytes()[:-1])):
        spoil()
        desk.raises(proposer_objectness.load)
        put.write_bytes(there.read_bytes())  # as installing it again would
        assert proposer_objectness.load()

    optimizer = torch.optim.AdamW(small.decoder.parameters())
    state = desk.at("first", train_mask_head.STATE)
    state.parent.mkdir()
    train_mask_head._save_checkpoint(state, "one", 3, small, optimizer)
    desk.raises(train_mask_head._resume, state, "two", small, optimizer)
    assert train_mask_head._resume(desk.at("second", Path(train_mask_head.STATE).name), "two", small, optimizer) == 0
    assert train_mask_head._resume(state, "one", small, optimizer) == 3
