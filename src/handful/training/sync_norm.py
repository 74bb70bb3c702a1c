"""What is taken over the whole batch where several processes share it, on a CPU as on GPUs: batch norm, and sums.

torch's SyncBatchNorm wants a GPU and replaces layers, with them an activation that timm has inside its own. Here the
layers stay what they are, and the one function that all of them call is replaced while they train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor) -> torch.Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def average(x: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over the processes, with a gradient."""
    mean: torch.Tensor = _Sum.apply(x) / dist.get_world_size()
    return mean


def batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """torch.nn.functional.batch_norm of the images of all processes, (n, c, ...) float of each."""
    dims = [0, *range(2, x.ndim)]
    wide = [1, -1, *[1] * (x.ndim - 2)]
    full = x.float()
    sums: torch.Tensor = _Sum.apply(torch.cat([full.sum(dims), full.new_tensor([x.numel() / x.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centered = full - mean.view(wide)
    # around the mean of all, in a second round: a difference of two large sums would lose the small variances
    var: torch.Tensor = _Sum.apply(centered.square().sum(dims)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1).clamp(min=1)).to(running_var.dtype), momentum)
    out = centered * (var + eps).rsqrt().view(wide)
    if weight is not None:
        out = out * weight.view(wide)
    if bias is not None:
        out = out + bias.view(wide)
    return out.to(x.dtype)


class WholeBatch(TorchFunctionMode):
    """Inside, batch norm in training mode is over the images of all processes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Of torch."""
        kwargs = kwargs or {}
        if func is F.batch_norm and (kwargs.get("training") or (len(args) > 5 and args[5])):
            return batch_norm(*args, **kwargs)
        return func(*args, **kwargs)
