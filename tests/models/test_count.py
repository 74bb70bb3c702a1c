"""Counting, held against sums done by hand, against PyTorch's own counter, and against published numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from handful.errors import DataError
from handful.models import backbone
from handful.models.count import count
from handful.models.show import make


def test_convolutions_by_hand() -> None:
    x = torch.zeros(1, 3, 10, 8)
    plain = count(nn.Conv2d(3, 5, 3, stride=2, padding=1), x)
    assert plain.parameters == 5 * 3 * 9 + 5
    assert plain.macs == (5 * 4) * 5 * 3 * 9
    depthwise = count(nn.Conv2d(4, 4, (1, 9), padding=(0, 4), groups=4, bias=False), torch.zeros(1, 4, 6, 7))
    assert (depthwise.parameters, depthwise.macs) == (36, 6 * 7 * 4 * 9)
    grouped = count(nn.Conv2d(4, 6, 3, groups=2, bias=False), torch.zeros(1, 4, 5, 5))
    assert (grouped.parameters, grouped.macs) == (6 * 2 * 9, 9 * 6 * 2 * 9)
    doubled = count(nn.ConvTranspose2d(4, 6, 2, 2, bias=False), torch.zeros(1, 4, 5, 5))
    assert (doubled.parameters, doubled.macs) == (4 * 6 * 4, 25 * 4 * 6 * 4)


def test_matrices_by_hand() -> None:
    assert count(nn.Linear(7, 5), torch.zeros(2, 7)).macs == 2 * 7 * 5
    assert count(nn.Linear(7, 5, bias=False), torch.zeros(2, 3, 7)).macs == 6 * 7 * 5

    class Attend(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    assert count(Attend(), torch.zeros(1, 2, 6, 8)).macs == 2 * (6 * 6 * 8 + 6 * 6 * 8)


class Fork(nn.Module):
    """conv -> kept to the end; a second conv beside it; joined."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.b = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        return torch.cat([a, self.b(a)], dim=1)


class Kept(nn.Module):
    """An activation beside what it was made of: nothing may be written over."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.relu(x)], dim=1)


def test_activation_peak_by_hand() -> None:
    x = torch.zeros(1, 1, 10, 10)
    one = 10 * 10 * 4
    # the frame is freed when the first convolution is done; norm and ReLU write over its output
    assert count(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()), x
    ).peak_activation_bytes == (5 * one)
    assert count(Fork(), x).peak_activation_bytes == (4 + 2 + 6) * one
    # a convolution cannot write over what it reads, be it of the same size
    twice = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    assert count(twice, x).peak_activation_bytes == 8 * one
    assert count(Kept(), x).peak_activation_bytes == (1 + 1 + 2) * one
    # zeros around a picture are the convolution's own work, and its picture lives as long as they do
    padded = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 4, 3))
    assert count(padded, x).peak_activation_bytes == 5 * one
    # the places of the maxima are not counted
    assert count(nn.MaxPool2d(2), x).peak_activation_bytes == one + one // 4


def test_each_layer_is_listed_in_order() -> None:
    counts = count(Fork(), torch.zeros(1, 1, 10, 10))
    rows = [(layer.name, layer.type, layer.shape, layer.parameters, layer.macs) for layer in counts.layers]
    assert rows == [
        ("a.0", "Conv2d", (1, 4, 10, 10), 40, 3600),
        ("a.1", "BatchNorm2d", (1, 4, 10, 10), 8, 0),
        ("a.2", "ReLU", (1, 4, 10, 10), 0, 0),
        ("b", "Conv2d", (1, 2, 10, 10), 10, 800),
        ("cat", "cat", (1, 6, 10, 10), 0, 0),
    ]
    assert counts.output_shapes == [(1, 6, 10, 10)] and counts.weight_bytes == 4 * 58


def test_what_only_training_needs_is_told_apart() -> None:
    network = make("exeggutor", 3, {"width": 0.25, "frame_hw": (64, 64)})
    counts = count(network, torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert counts.training_only == sum(p.numel() for p in network.core.auxiliary.parameters()) > 0
    assert counts.parameters == sum(p.numel() for p in network.parameters())


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, torch.zeros(1, 3, 8, 8))
    assert [part.training for part in network] == [True, True, False]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    network: nn.Module = backbone.imagenet_classifier("lite0", pretrained=False)
    return network


def test_published_numbers(lite0: nn.Module) -> None:
    x = torch.zeros(1, 3, 224, 224)
    counts = count(lite0, x)
    with torch.no_grad(), FlopCounterMode(display=False) as theirs:
        lite0(x)
    assert counts.macs == theirs.get_total_flops() // 2
    # 4.7 M and 407 M multiply-adds as its authors count; theirs are 6 % more than convolutions and matrices have
    assert counts.parameters == pytest.approx(4.7e6, rel=0.015)
    assert counts.macs == pytest.approx(407e6, rel=0.06) and counts.macs < 407e6


def test_published_numbers_of_torchvision() -> None:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    whole = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()

    class Out(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.whole(x)["out"]
            return out

    counts = count(Out(), torch.zeros(1, 3, 520, 520))
    assert counts.parameters == 3_221_538  # as torchvision's page has it
    assert counts.macs == pytest.approx(2.086e9, rel=0.001)


def test_a_frame_the_network_cannot_take() -> None:
    with pytest.raises(DataError, match="does not run on"):
        count(nn.Conv2d(3, 4, 3), torch.zeros(1, 4, 8, 8))
