"""SigNet's whitening and cascade; classifiers of timm and torchvision by name, their weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from handful.errors import DataError
from handful.files import write_tensors
from handful.models.net_lraspp import build as lraspp
from handful.models.show import card_of, make


def images(n: int = 64, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)  # neighbours alike, as in photographs
    return smooth * torch.tensor([1.0, 2.0, 0.5]).reshape(1, 3, 1, 1)


def test_whitening_whitens_and_stays() -> None:
    torch.manual_seed(0)
    net = make("signet", 10)
    before = net.core.first.weight.clone()
    net.core.whiten(images(), epsilon=1e-9)
    first = net.core.first
    assert not torch.equal(before, first.weight) and not first.weight.requires_grad and first.bias.requires_grad
    with torch.no_grad():
        y = torch.nn.functional.conv2d(images(), first.weight)[:, :12].permute(1, 0, 2, 3).flatten(1)
    covariance = y @ y.T / y.shape[1]
    assert torch.allclose(covariance, torch.eye(12), atol=1e-3)
    assert torch.equal(first.weight[12:], -first.weight[:12])


@pytest.mark.parametrize(
    ("args", "given"), [({"whiten": False}, images(4)), ({}, images(1)), ({}, torch.zeros(4, 1, 32, 32))]
)
def test_whitening_refuses(args: dict[str, Any], given: torch.Tensor) -> None:
    with pytest.raises(DataError, match="whiten"):
        make("signet", 10, args).core.whiten(given)


@pytest.mark.parametrize("args", [{}, {"encoder": "lite0", "pretrained": False}])
def test_cascade_takes_the_exits_answers(args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    core = make("signet:cascade", 10, args).core
    with torch.no_grad():
        x = images(16) * torch.linspace(0.1, 40, 16).reshape(-1, 1, 1, 1)
        core.train()
        for part in core.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eval()
        main, first, second = core(x)
        core.eval()
        never, took = core.cascade(x, 1.01)
        assert torch.allclose(never, main, atol=1e-5) and took.tolist() == [2] * 16
        always, took = core.cascade(x, 0.0)
        assert torch.allclose(always, first, atol=1e-5) and took.tolist() == [0] * 16
        sure = first.softmax(1).amax(1)
        limit = float(sure.median()) + 1e-6
        some, took = core.cascade(x, limit)
        early = sure >= limit
        assert 0 < int(early.sum()) < 16
        assert torch.equal(took == 0, early) and torch.allclose(some[early], first[early], atol=1e-5)
        at_two = took == 1
        assert torch.allclose(some[at_two], second[at_two], atol=1e-5)


def test_an_encoder_gives_what_the_whole_network_gives() -> None:
    from handful.models import backbone

    net, whole = make("signet:lite0", 1000), backbone.imagenet_classifier("lite0").eval()
    assert net.size_px == 96 and make("signet:lite0", 10, {"size_px": 64}).size_px == 64
    net.core.heads["2"].classify.load_state_dict(whole.classifier.state_dict())
    x = images(2)
    with torch.no_grad():
        assert torch.allclose(net.core(x)[0], whole(x), atol=1e-4)


@pytest.mark.parametrize("args", [{}, {"encoder": "lite0", "pretrained": False}])
def test_a_cut_network_takes_the_whole_ones_weights(args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    whole, cut = make("signet:cascade", 10, args), make("signet", 10, {**args, "cut": 1})
    state = whole.state_dict()
    cut.load_state_dict({key: state[key] for key in cut.state_dict()})
    x = images(4)
    with torch.no_grad():
        assert torch.allclose(cut.core(x)[0], whole.core.cascade(x, 0.0)[0], atol=1e-6)
    assert sum(p.numel() for p in cut.parameters()) < 0.1 * sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("family", ["alexnet", "darknet", "densenet", "inception", "mobilenet", "resnet", "senet",
                                    "squeezenet", "vgg"])  # fmt: skip
def test_families(family: str) -> None:
    presets = card_of("classifier").presets or {}
    with torch.device("meta"):  # shapes without 130 million random numbers
        net = make(f"classifier:{family}", 7)
    assert net.args["name"] == presets[family]["name"]
    x = torch.zeros(2, 3, net.size_px, net.size_px, device="meta")
    assert [tuple(y.shape) for y in net.core(x)] == [(2, 7)]
    trained = [tuple(y.shape) for y in net.train().core(x)]
    assert trained == [(2, 7)] * (2 if family == "inception" else 1)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(3)
    theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    path = tmp_path / "w.safetensors"
    write_tensors(path, {key: value.numpy() for key, value in theirs.state_dict().items()})
    net = lraspp(4, frame_hw=(64, 96), weights=path)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(net.dense(x)[0], theirs(x)["out"], atol=1e-5)
    with pytest.raises(DataError, match=r"w\.safetensors lacks .* in another shape"):
        lraspp(5, weights=path)
    net = make("classifier", 5, {"name": "timm:mobilenetv3_small_050"})
    write_tensors(path, {key: value.numpy() for key, value in net.core.network.state_dict().items()})
    again = make("classifier", 5, {"name": "timm:mobilenetv3_small_050", "weights": path, "frame_hw": (64, 64)})
    assert torch.equal(again.core.network.conv_stem.weight, net.core.network.conv_stem.weight)
    assert "weights" not in again.args


def test_mobilenet_encoder_takes_timms_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    args = {"encoder": "timm:mobilenetv2_050", "width": 0.5, "frame_hw": (64, 64)}
    net = make("mobilenet_unet", 3, args)
    own = {key: value.numpy() for key, value in net.core.encoder.network.state_dict().items()}
    write_tensors(tmp_path / "w.safetensors", own)
    again = make("mobilenet_unet", 3, {**args, "weights": tmp_path / "w.safetensors"})
    assert torch.equal(again.core.encoder.network.conv_stem.weight, net.core.encoder.network.conv_stem.weight)
    assert not torch.equal(again.core.head.weight, net.core.head.weight)
