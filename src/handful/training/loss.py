"""The loss: cross entropy over pixels, with deep supervision, hard pixels, Dice and a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from handful.errors import DataError
from handful.training.metrics import IGNORE
from handful.training.pixel_sums import log_of_right, pixel_sums

Average = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """Cross entropy of the main output, plus what is asked for.

    auxiliary: weight of each auxiliary output's cross entropy (deep supervision; Lee et al., "Deeply-supervised nets",
    2015), shared out evenly. ohem: only the hardest share of the pixels counts (online hard example mining; Shrivastava
    et al., 2016), None for all. dice: weight of 1 - Dice, mean over the classes in the batch (Milletari et al.,
    V-Net, 2016). smoothing: label smoothing, 0 to below 1. teach: weight of the teacher's part; temperature: what both
    logits are divided by there (Hinton et al., 2015). Raises DataError for a number out of its range.
    """

    auxiliary: float = 0.4
    ohem: float | None = None
    dice: float = 0.0
    smoothing: float = 0.0
    teach: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        for name in ("auxiliary", "dice", "teach"):
            if not getattr(self, name) >= 0:
                raise DataError(f"the loss weight {name} is {getattr(self, name)}; wanted 0 or more")
        if self.ohem is not None and not 0 < self.ohem <= 1:
            raise DataError(f"ohem is {self.ohem}; wanted the share of pixels that counts, above 0 and at most 1")
        if not 0 <= self.smoothing < 1:
            raise DataError(f"smoothing is {self.smoothing}; wanted 0 or more and below 1")
        if not self.temperature > 0:
            raise DataError(f"the temperature is {self.temperature}; wanted above 0")

    def __call__(
        self,
        logits: Sequence[torch.Tensor],
        target: torch.Tensor,
        weights: torch.Tensor | None = None,
        teacher: torch.Tensor | None = None,
        average: Average | None = None,
    ) -> torch.Tensor:
        """The loss of a batch, a float32 scalar; 0 where nothing is labeled.

        logits: [main, *auxiliary]; main (n, k, h', w') of any size, enlarged to that of target; an auxiliary one at a
        stride s, (n, k, ceil(h / s), ceil(w / s)), where each cell takes the label of the pixel in its middle. target:
        (n, h, w) int64, 255 ignored. weights: (k,) float32, one a class. teacher: (n, k, h'', w'') logits of the same
        classes. average: of a tensor over the processes that share the batch; the mean of their losses is then that of
        the whole batch (but for ohem, which chooses among each one's own pixels).
        """
        average = average or _alone
        main, others = _at(logits[0].float(), target), logits[1:]
        how: dict[str, Any] = {"ohem": self.ohem, "smoothing": self.smoothing, "average": average}
        total = entropy_and_dice(main, target, weights, dice=self.dice, **how)
        for y in others:
            if self.auxiliary:
                own = cross_entropy(y.float(), _middles(target, y.shape[2:]), weights, **how)
                total = total + self.auxiliary / len(others) * own
        if teacher is not None and self.teach:
            total = total + self.teach * distillation(
                main, _at(teacher.float(), target), target, self.temperature, average
            )
        return total


def _alone(x: torch.Tensor) -> torch.Tensor:
    return x


def _at(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if logits.shape[2:] == target.shape[1:]:
        return logits
    return F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=False)


def _middles(target: torch.Tensor, cells_hw: Sequence[int]) -> torch.Tensor:
    """(n, h, w) -> (n, *cells_hw): the label in the middle of each cell, 255 where that lies outside."""
    stride = [-(-size // cells) for size, cells in zip(target.shape[1:], cells_hw, strict=True)]
    below, right = (s * cells - size for s, cells, size in zip(stride, cells_hw, target.shape[1:], strict=True))
    padded = F.pad(target, (0, right, 0, below), value=IGNORE) if below > 0 or right > 0 else target
    return padded[:, stride[0] // 2 :: stride[0], stride[1] // 2 :: stride[1]]


def entropy_and_dice(
    logits: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    dice: float = 0.0,
    ohem: float | None = None,
    smoothing: float = 0.0,
    average: Average = _alone,
) -> torch.Tensor:
    """`cross_entropy` plus `dice` times `dice_loss`, in one go through the logits."""
    there = target != IGNORE
    share = there.float() if weights is None else weights[torch.where(there, target, 0)] * there
    chosen = there
    if ohem is not None and (count := int(there.sum())):
        # what a pixel weighs must not make it hard
        hardness = torch.where(there, -log_of_right(logits, target), -1.0).flatten()
        hardest = torch.zeros_like(hardness)
        hardest[hardness.topk(max(1, round(ohem * count))).indices] = 1.0
        chosen = hardest.view_as(share)
        share = share * chosen
    entropy, both, predicted, size = pixel_sums(logits, target, share)
    if smoothing:
        each = F.cross_entropy(
            logits, target, weight=weights, ignore_index=IGNORE, reduction="none", label_smoothing=smoothing
        )
        entropy = (each * chosen).sum()
    value = entropy / average(share.sum()).clamp_min(1e-12)
    if not dice:
        return value
    both, predicted, size = average(torch.stack([both, predicted, size])).unbind()
    overlap = 2 * both / (predicted + size).clamp_min(1e-12)
    present = (size > 0).float()
    return value + dice * ((1 - overlap) * present).sum() / present.sum().clamp_min(1)


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    ohem: float | None = None,
    smoothing: float = 0.0,
    average: Average = _alone,
) -> torch.Tensor:
    """Mean over labeled pixels, each weighing what its class does (the sum is divided by the sum of the weights).

    logits: (n, k, h, w) float32; target: (n, h, w) int64, 255 ignored; see Loss for ohem and smoothing.
    """
    return entropy_and_dice(logits, target, weights, ohem=ohem, smoothing=smoothing, average=average)


def dice_loss(logits: torch.Tensor, target: torch.Tensor, average: Average = _alone) -> torch.Tensor:
    """1 - 2 |A B| / (|A| + |B|) of softmax and labels over the batch, mean over the classes that are in it."""
    nothing = torch.zeros(logits.shape[1], device=logits.device)
    return entropy_and_dice(logits, target, nothing, dice=1.0, average=average)


def distillation(
    student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, temperature: float, average: Average = _alone
) -> torch.Tensor:
    """T^2 KL(teacher || student) of softened class probabilities, mean over labeled pixels. All (n, k, h, w)."""
    there = target != IGNORE
    ours = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    each = (theirs.exp() * (theirs - ours)).sum(dim=1) * there
    return temperature**2 * each.sum() / average(there.sum().float()).clamp_min(1e-12)


def class_weights(pixels: Sequence[int], images: Sequence[int], image_pixels: Sequence[int], rule: str) -> list[float]:
    """A weight a class by a rule of handful.curate.balance ("enet", ...) or all 1 for "none".

    "enet^0.5" is a rule's weights to a power: below 1 they come nearer to each other. pixels, images: how many of each
    class; image_pixels: all pixels of the images that hold it. A class that is not there weighs 0. Raises UnknownName
    or DataError.
    """
    from handful.curate.balance import RULES, weights
    from handful.pick import unknown

    if rule == "none":
        return [1.0] * len(pixels)
    name, softened, power = rule.partition("^")
    if name not in RULES:
        raise unknown("rule to balance by", name, ["none", *RULES])
    try:
        exponent = float(power) if softened else 1.0
    except ValueError:
        exponent = math.nan
    if not 0 < exponent <= 2:
        raise DataError(f"the weights of classes are to be {rule!r}; wanted RULE or RULE^POWER, above 0 and at most 2")
    rows: dict[str, dict[str, Any]] = {
        str(i): {"pixels": p, "images": n, "objects": 0, "image_pixels": a}
        for i, (p, n, a) in enumerate(zip(pixels, images, image_pixels, strict=True))
    }
    return [value**exponent if value else 0.0 for value in weights({"classes": rows}, rule=name).values()]
