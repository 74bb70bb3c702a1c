"""How the learning rate falls, and a running mean of the weights. Both are functions of the step and keep no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from handful.errors import DataError
from handful.pick import unknown

KINDS = ("poly", "cosine", "constant")


def factor(step: int, total: int, *, kind: str = "poly", warmup: int = 0, power: float = 0.9) -> float:
    """What the learning rate is multiplied by at a step, 0 to total - 1; 0..1.

    warmup: steps over which it rises in a line from near 0 (Goyal et al., 2017). Then poly: (1 - t)^power (Liu et al.,
    ParseNet, 2015); cosine: (1 + cos(pi t)) / 2 (Loshchilov & Hutter, SGDR, 2017), t the share of the rest that is
    done. Raises UnknownName for another kind, DataError for numbers that make no sense.
    """
    if kind not in KINDS:
        raise unknown("schedule", kind, KINDS)
    if total < 1 or step < 0 or not 0 <= warmup < total:
        raise DataError(f"step {step} of {total} with {warmup} of warm-up; wanted fewer steps of warm-up than steps")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    t = min(1.0, (step - warmup) / max(1, total - warmup))
    if kind == "constant":
        return 1.0
    return (1 - t) ** power if kind == "poly" else (1 + math.cos(math.pi * t)) / 2


class Ema:
    """A running mean of a network's tensors, batch norm's statistics too (Polyak & Juditsky, 1992).

    After update n it is d * mean + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)), so that the random start
    is soon forgotten. Whole numbers are copied.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise DataError(f"the decay of the mean of the weights is {decay}; wanted 0 or more and below 1")
        self.decay, self.updates = decay, 0
        self.tensors = {name: value.detach().clone() for name, value in state.items()}

    @torch.no_grad()
    def update(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take one more set of weights into the mean."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in state.items():
            if value.dtype.is_floating_point:
                self.tensors[name].lerp_(value.detach().to(self.tensors[name]), 1 - decay)
            else:
                self.tensors[name].copy_(value)
