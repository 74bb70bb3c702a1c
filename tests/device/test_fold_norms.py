"""Batch normalization folded before a network is converted: the same answers, the same layers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from handful.device.fold_norms import Rest, fold_norms  # noqa: E402


class Net(nn.Module):
    """A network of one convolution and one normalization that have learned something; `way` is how they are joined."""

    input_names, output_names, frame_hw = ("image",), ("out",), (8, 8)

    def __init__(self, way: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.way, self.conv, self.norm = way, nn.Conv2d(3, 3, 3, padding=1, bias=way == "bias"), nn.BatchNorm2d(3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float()
        y = self.conv(x)
        if self.way == "between":
            y = y.relu()
        out = self.norm(y)
        if self.way == "beside":
            return out + y
        if self.way == "twice":
            return self.norm(self.conv(out))
        return out


def norms(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


@pytest.mark.parametrize("way", ["plain", "bias"])
def test_it_answers_the_same_without_the_normalization(way: str) -> None:
    network = Net(way)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = fold_norms(network)
    assert norms(found) == 0 and isinstance(found.norm, Rest) and norms(network) == 1
    image = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(found(image), network(image), rtol=1e-4, atol=1e-3)
        assert not torch.equal(found.conv.weight, network.conv.weight)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("way", ["between", "beside", "twice"])
def test_what_is_joined_otherwise_stays_as_it_is(way: str) -> None:
    """beside is folded and does not answer the same, which is seen; the others are no pairs."""
    network = Net(way)
    assert fold_norms(network) is network


def test_a_layer_that_is_looked_at_is_kept() -> None:
    network = Net()
    assert fold_norms(network, keep=["conv"]) is network


def test_a_real_network_loses_its_normalizations_and_keeps_its_layers() -> None:
    from handful.device.taps import Tapped, tap_names
    from tests.models.test_on_device import trained

    network = trained((64, 96))
    layers = tap_names(network)
    found = fold_norms(network, layers)
    assert norms(network) > 40 and norms(found) == 0
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = Tapped(network, layers)(image), Tapped(found, layers)(image)
    assert len(ours) == len(theirs) > 5
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
