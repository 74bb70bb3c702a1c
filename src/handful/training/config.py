"""How to train, whatever is trained: what every recipe takes by name beside its own arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from handful.errors import DataError
from handful.pick import unknown
from handful.training.distributed import dtype_of
from handful.training.schedule import factor

OPTIMIZERS = ("adamw", "sgd")
KEEP = ("best", "last")


@dataclass(frozen=True)
class Plan:
    """The settings of a training. Raises DataError or UnknownName, naming the one that makes no sense.

    epochs, or minutes from which the epochs are reckoned. batch: images in a batch, over all devices; accumulate:
    batches a step. lr: the largest learning rate; schedule: how it falls, poly, cosine or constant; warmup: share of
    all steps in which it rises. lr_bias: what the rate of biases is multiplied by (Jordan, 2024, has 64 with sgd).
    optimizer: adamw (Loshchilov & Hutter, 2019) or sgd with Nesterov's momentum. momentum: of sgd, and adamw's first
    beta. clip: largest norm of the gradient, None for any. ema: decay of the
    running mean of the weights, which is what is measured and kept; None for none. seed: of everything random.
    device: cpu, cuda, cuda:1, mps. precision: fp32 or bf16. threads: of torch, None for as many as it has. workers:
    threads that prepare images. every: epochs from one measurement on val to the next. keep: the weights that were
    "best" on val, or the "last". save_every: steps between checkpoints beside those at each epoch's end. tensorboard:
    also write the curves as TensorBoard's events.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int = 8
    lr: float = 1e-3
    lr_bias: float = 1.0
    accumulate: int = 1
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-2
    schedule: str = "poly"
    warmup: float = 0.02
    clip: float | None = 5.0
    ema: float | None = 0.999
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = None
    workers: int = 2
    every: int = 1
    keep: str = "best"
    save_every: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise DataError("say how long to train: either --epochs or --minutes")
        for what in ("epochs", "batch", "accumulate", "every", "save_every", "threads", "workers"):
            value = getattr(self, what)
            if value is not None and value < 1:
                raise DataError(f"{what} is {value}; wanted 1 or more")
        for what in ("minutes", "lr", "lr_bias", "clip"):
            number = getattr(self, what)
            if number is not None and not 0 < number < math.inf:
                raise DataError(f"{what} is {number}; wanted more than 0")
        if self.seed < 0:
            raise DataError(f"seed is {self.seed}; wanted 0 or more")
        for what in ("warmup", "momentum", "ema"):
            share = getattr(self, what)
            if share is not None and not 0 <= share < 1:
                raise DataError(f"{what} is {share}; wanted 0 or more and below 1")
        if not 0 <= self.weight_decay < math.inf:
            raise DataError(f"weight_decay is {self.weight_decay}; wanted 0 or more")
        for what, value, known in (("optimizer", self.optimizer, OPTIMIZERS), ("keep", self.keep, KEEP)):
            if value not in known:
                raise unknown(what, value, known)
        factor(0, 1, kind=self.schedule)
        dtype_of(self.precision)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Plan:
        """From settings by name. Raises UnknownName for one that there is not."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise unknown("setting of a training", name, known)
        return cls(**settings)

    def config(self) -> dict[str, Any]:
        """What a resumed run must have the same: all but what changes no bit."""
        left_out = ("threads", "workers", "save_every", "tensorboard")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}

    def made(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of these groups of parameters."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.lr, betas=(self.momentum, 0.999))
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)
