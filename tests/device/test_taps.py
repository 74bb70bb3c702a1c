"""Taps sit where no runtime fuses, in order of execution, in any network; and the layers are the network's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.errors import DataError

pytest.importorskip("torch")
import torch
from torch import nn

from handful.device.network import blank
from handful.device.taps import Tapped, tap_names
from handful.image import fit


@pytest.fixture(scope="module")
def network(model: Path) -> Any:
    from handful.models.folder import from_folder

    return from_folder(model).network


def test_lite0(network: Any) -> None:
    names = tap_names(network)
    assert names[:3] == ["resize", "normalize", "backbone.network.bn1"] and names[-1] == "backbone"
    assert len(names) == len(set(names)) == 52
    blocks = [f"backbone.network.blocks.{s}.{i}" for s, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for i in range(n)]
    assert [name for name in names if name in blocks] == blocks
    parts = dict(network.named_modules())
    # a convolution without its activation is what runtimes fuse
    assert not [name for name in names if isinstance(parts.get(name), nn.Conv2d)]
    assert "backbone.network.blocks.1.0.bn3" not in names, "its activation is Identity"


def test_layers_are_what_the_modules_gave(network: Any, photos: list[np.ndarray]) -> None:
    import copy

    frame = torch.from_numpy(fit(photos[0], (256, 256))[None].copy())
    names = tap_names(network)
    tapped = Tapped(copy.deepcopy(network), names)
    with torch.no_grad():
        own, all_of = network(frame), dict(zip(tapped.output_names, tapped(frame), strict=True))
        resized = network.resize(frame.permute(0, 3, 1, 2).float())
        again = copy.deepcopy(tapped)(frame)
    assert tapped.output_names == ("scores", *names)
    assert torch.equal(all_of["scores"], own)
    assert torch.equal(all_of["resize"], resized)
    assert torch.equal(all_of["normalize"], network.normalize(resized))
    # layers hold values of this frame, not of another or of nothing
    assert all(layer.std() > 0 for layer in all_of.values() if layer.numel() > 1)
    assert all(torch.equal(a, b) for a, b in zip(again, all_of.values(), strict=True))
    exported = torch.export.export(tapped, (blank(tapped),)).module()(frame)
    assert all(torch.allclose(a, b) for a, b in zip(exported, all_of.values(), strict=True))


class Small(nn.Module):
    """Each thing the rule must pass over, in one network."""

    input_names, output_names, frame_hw = ("image",), ("out",), (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.twice = nn.ReLU()
        self.overwritten = nn.Conv2d(4, 4, 1)
        self.inplace = nn.ReLU(inplace=True)
        self.same = nn.Identity()
        self.never = nn.ReLU()
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(self.first(image.permute(0, 3, 1, 2).float())))
        x = self.same(self.inplace(self.overwritten(x))) * 2
        out: torch.Tensor = self.last(x)
        return out


def test_what_cannot_be_compared_is_passed_over() -> None:
    # twice: ran twice. overwritten: its tensor is changed by inplace. same: the very tensor. last: an output
    assert tap_names(Small().eval()) == ["first", "last.input"]


def test_no_hook_is_left_behind() -> None:
    network = Small().eval()
    tap_names(network)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_other_networks(name: str) -> None:
    timm = pytest.importorskip("timm")

    class Whole(nn.Module):
        input_names, output_names, frame_hw = ("image",), ("out",), (224, 224)

        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model(name, pretrained=False, num_classes=0)

        def forward(self, image: torch.Tensor) -> Any:
            return self.backbone(image.permute(0, 3, 1, 2).float() / 255) * 2

    network = Whole().eval()
    names = tap_names(network)
    assert len(names) >= 8 and names[-1] == "backbone"
    with torch.no_grad():
        before = network(blank(network))
        after = Tapped(network, names)(blank(network))
    assert torch.equal(before, after[0]) and all(torch.isfinite(layer).all() for layer in after)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(DataError, match="no layer 'lost'"):
        Tapped(Small(), ["lost"])


def test_half_precision_keeps_names_and_values(network: Any, photos: list[np.ndarray]) -> None:
    import copy

    from handful.device.lab.compare import compare_outputs
    from handful.device.runtimes.runtime_executorch import _half_backbone

    frame = torch.from_numpy(fit(photos[0], (256, 256))[None].copy())
    tapped = Tapped(copy.deepcopy(network), tap_names(network))
    with torch.no_grad():
        want, got = tapped(frame), _half_backbone(tapped)(frame)
        assert all(torch.equal(a, b) for a, b in zip(want, tapped(frame), strict=True)), "the original was changed"
    assert all(layer.dtype == torch.float32 for layer in got)
    rows = [{n: a.numpy() for n, a in zip(tapped.output_names, side, strict=True)} for side in (got, want)]
    report = compare_outputs(*rows)
    # the first stages stay as they were, the answers show that the later ones did not
    assert report["outputs"]["normalize"]["exact"]
    assert 40 < report["outputs"]["scores"]["psnr_db"] < 100
