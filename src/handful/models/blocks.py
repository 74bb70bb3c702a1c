"""Blocks that U-Net paths are made of: each takes (n, inp, h, w) float32 and gives (n, out, h, w), h and w unchanged.

Every block exists with plain convolutions and with depthwise-separable ones (`separable=True`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from handful.errors import DataError
from handful.pick import unknown

Kernel = int | tuple[int, int]
INITS = ("he", "xavier", "default")


def convolution(inp: int, out: int, kernel: Kernel = 3, *, stride: int = 1, separable: bool = False) -> nn.Sequential:
    """Convolution, batch norm, ReLU; separable: a depthwise one first, then 1x1 (Howard 2017, MobileNet)."""
    k = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = k[0] // 2, k[1] // 2
    if not separable or k == (1, 1):
        return nn.Sequential(
            nn.Conv2d(inp, out, k, stride, pad, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )
    return nn.Sequential(
        nn.Conv2d(inp, inp, k, stride, pad, groups=inp, bias=False),
        nn.BatchNorm2d(inp),
        nn.ReLU(inplace=True),
        nn.Conv2d(inp, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class GlobalMean(nn.Module):
    """The mean of each channel: (n, c, h, w) -> (n, c, 1, 1).

    AdaptiveAvgPool2d(1) is the same sum, but of a channels-last map, which a uint8 frame becomes, it leaves a step
    (as_strided) that cuts ExecuTorch's delegate.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        return x.mean(dim=(2, 3), keepdim=True)


def with_global_means(network: nn.Module) -> nn.Module:
    """The network itself, each AdaptiveAvgPool2d(1) in it replaced by GlobalMean."""
    for part in network.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(part, name, GlobalMean())
    return network


class Plain(nn.Sequential):
    """Two 3x3 convolutions (Ronneberger 2015, U-Net)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__(convolution(inp, out, separable=separable), convolution(out, out, separable=separable))


class Residual(nn.Module):
    """Two convolutions and a shortcut, 1x1 where the channels differ (He 2016, ResNet)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__()
        self.first = convolution(inp, out, separable=separable)
        self.second = nn.Sequential(*list(convolution(out, out, separable=separable))[:-1])
        self.shortcut: nn.Module = (
            nn.Identity() if inp == out else nn.Sequential(nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out))
        )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the module says."""
        y: torch.Tensor = self.act(self.second(self.first(x)) + self.shortcut(x))
        return y


class SqueezeExcite(nn.Module):
    """Two convolutions, and a weight a channel from the mean of all (Hu 2018, Squeeze-and-Excitation; ratio 4)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__()
        self.body = Plain(inp, out, separable=separable)
        hidden = max(8, out // 4)  # of four, all may start behind a ReLU that never opens
        self.gate = nn.Sequential(
            GlobalMean(),
            nn.Conv2d(out, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the module says."""
        y = self.body(x)
        gated: torch.Tensor = y * self.gate(y)
        return gated


class Dense(nn.Module):
    """Three convolutions that each see all before them, then 1x1 (Huang 2017, DenseNet; growth a quarter of out)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__()
        growth = max(4, out // 4)
        self.layers = nn.ModuleList(convolution(inp + i * growth, growth, separable=separable) for i in range(3))
        self.join = convolution(inp + 3 * growth, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the module says."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        y: torch.Tensor = self.join(x)
        return y


class Aggregation(nn.Module):
    """Two convolutions and a root over both: a tree of depth one (Yu 2018, Deep Layer Aggregation)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__()
        self.left = convolution(inp, out, separable=separable)
        self.right = convolution(out, out, separable=separable)
        self.root = convolution(2 * out, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the module says."""
        left = self.left(x)
        y: torch.Tensor = self.root(torch.cat([left, self.right(left)], dim=1))
        return y


class Factorised(nn.Sequential):
    """1x9, then 9x1: a tall and wide view for a few weights (Szegedy 2016, factorised convolutions)."""

    def __init__(self, inp: int, out: int, *, separable: bool) -> None:
        super().__init__(
            convolution(inp, out, (1, 9), separable=separable), convolution(out, out, (9, 1), separable=separable)
        )


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "plain": Plain,
    "residual": Residual,
    "squeeze_excite": SqueezeExcite,
    "dense": Dense,
    "aggregation": Aggregation,
    "factorised": Factorised,
}


def block(name: str, inp: int, out: int, *, separable: bool) -> nn.Module:
    """A block by name. Raises UnknownName with the nearest one."""
    if name not in BLOCKS:
        raise unknown("block", name, BLOCKS)
    return BLOCKS[name](inp, out, separable=separable)


def width_of(channels: float, width: float) -> int:
    """Channels times the width multiplier, to the nearest multiple of 8, at least 8."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0.05 <= width <= 8:
        raise DataError(f"width must be a number from 0.05 to 8, got {width!r}")
    return max(8, 8 * math.floor(channels * width / 8 + 0.5))


def initialize(part: nn.Module, how: str) -> None:
    """Draw the convolutions and matrices of `part` anew, from torch's global generator.

    how: "he" (He 2015, also called MSRA: variance 2 / fan-out, a group counted by itself; where a bias stands in for
    batch norm, as in heads, 2 / fan-in), "xavier" (Glorot 2010), or "default" (PyTorch's own, nothing is drawn).
    Raises UnknownName.
    """
    if how not in INITS:
        raise unknown("init", how, INITS)
    if how == "default":
        return
    for layer in part.modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        if how == "xavier":
            nn.init.xavier_normal_(layer.weight)
        elif isinstance(layer, nn.Conv2d) and layer.bias is None:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1] // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        else:  # nothing rescales what comes out, and logits of two classes would start in the tens
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
