"""Batch normalization folded into the convolution before it, before a network is converted.

Every runtime folds it at the end; done first, the converters have a third less to look at and take half as long. What
is compared with the device is the network as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from handful.device.network import as_tuple, examples

TOLERANCE = 1e-4  # of an output's largest value; lite0 is off by 2e-6


class Rest(nn.Module):
    """What a normalization does besides normalizing: timm's drop and activate, PyTorch's do nothing."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same shape."""
        out: torch.Tensor = self.act(image)
        return out


def fold_norms(network: Any, keep: Collection[str] = ()) -> Any:
    """A copy of a network in eval mode without the batch normalizations that come right after a convolution: what else
    they do is left at their paths. The network itself where there are none, or where the copy would answer otherwise.

    keep: paths of convolutions whose own outputs somebody looks at.
    """
    found = copy.deepcopy(network)
    pairs = _pairs(found, keep)
    for conv, path, norm in pairs:
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        found.set_submodule(path, Rest(norm).eval())
    return found if pairs and _same(network, found) else network


def _pairs(network: Any, keep: Collection[str]) -> list[tuple[Any, str, Any]]:
    """(convolution, path of the normalization, normalization) where each ran once, the one on the other's output."""
    made: dict[int, tuple[str, nn.Module, torch.Tensor]] = {}
    ran: dict[nn.Module, int] = {}
    pairs: list[tuple[Any, str, Any]] = []
    hooks = []

    def after(path: str) -> Any:
        def hook(part: nn.Module, given: Any, out: torch.Tensor) -> None:
            ran[part] = ran.get(part, 0) + 1
            made[id(out)] = path, part, out  # the tensor is held, so that no other gets its id

        return hook

    def before(path: str) -> Any:
        def hook(part: nn.Module, given: Any) -> None:
            ran[part] = ran.get(part, 0) + 1
            if (one := made.get(id(given[0]))) is not None and one[0] not in keep:
                pairs.append((one[1], path, part))

        return hook

    for path, part in network.named_modules(remove_duplicate=False):
        if isinstance(part, nn.Conv2d):  # timm pads in some of its own: what comes after is the same
            hooks.append(part.register_forward_hook(after(path)))
        elif isinstance(part, nn.BatchNorm2d) and _folds(part):
            hooks.append(part.register_forward_pre_hook(before(path)))
    try:
        with torch.no_grad():
            network(*examples(network))
    finally:
        for one in hooks:
            one.remove()
    return [pair for pair in pairs if ran[pair[0]] == ran[pair[2]] == 1]


def _folds(norm: nn.BatchNorm2d) -> bool:
    """Whether it has numbers of its own, and is PyTorch's or timm's, of which is known what else they do."""
    known = type(norm) is nn.BatchNorm2d or (type(norm).__name__ == "BatchNormAct2d" and hasattr(norm, "act"))
    return known and norm.running_mean is not None and norm.affine and not norm.training


def _same(network: Any, other: Any) -> bool:
    """Whether two networks answer the same to noise."""
    given = tuple(_noise(one) for one in examples(network))
    with torch.no_grad():
        ours, theirs = as_tuple(network(*given)), as_tuple(other(*given))
    return len(ours) == len(theirs) and all(_close(a, b) for a, b in zip(ours, theirs, strict=True))


def _noise(like: torch.Tensor) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    if like.dtype == torch.uint8:
        return torch.randint(0, 256, like.shape, dtype=torch.uint8, generator=draw)
    return torch.randn(like.shape, generator=draw) if like.is_floating_point() else like


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or not a.is_floating_point():
        return a.shape == b.shape and bool(torch.equal(a, b))
    return bool(((a - b).abs() <= TOLERANCE * a.abs().amax()).all()) if a.numel() else True
