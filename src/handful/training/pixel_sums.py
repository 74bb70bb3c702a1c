"""Sums over labeled pixels that losses are made of: cross entropy's and Dice's, from one softmax and in few passes.

At the size of an image the loss is a third of a small network's step when each of its parts goes through all logits by
itself (a softmax for each, labels as eleven planes); here both share one, and the gradient is written down, not traced.
"""

from __future__ import annotations

from typing import Any

import torch

from handful.training.metrics import IGNORE

Sums = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def pixel_sums(logits: torch.Tensor, target: torch.Tensor, share: torch.Tensor) -> Sums:
    """(cross entropy, both, predicted, size) of a batch; the first three have a gradient.

    logits: (n, k, h, w) float32 or float64, quickest with channels last in memory; target: (n, h, w) int64, 255
    ignored; share: (n, h, w), what each pixel weighs, 0 where it is ignored. cross entropy: scalar, the sum of share *
    -log p of the right class. both: (k,), the sum of p of the right class over its pixels; predicted: (k,), of p over
    all labeled pixels; size: (k,), how many pixels there are of each class: |A B|, |A| and |B| of Dice.
    """
    sums: Sums = _Sums.apply(logits, target, share)
    return sums


def log_of_right(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(n, h, w): log p of the right class, 0 where ignored; without a gradient."""
    with torch.no_grad():
        _, _, _, own, there, _ = _softmax(logits, target)
        return (own * there).view(target.shape)


def _softmax(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Pixels as rows: e, s, right label, log p of it, whether labeled, p of it; softmax is e / s."""
    # of rows as short as these, log_softmax is five times as slow as its parts
    rows = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1])
    flat = target.reshape(-1)
    there = flat != IGNORE
    right, there = torch.where(there, flat, 0)[:, None], there.to(rows.dtype)
    top = rows.amax(1, keepdim=True)
    e = (rows - top).exp_()
    s = e @ e.new_ones(e.shape[1])
    own = rows.gather(1, right)[:, 0] - top[:, 0] - s.log()
    return e, s, right, own, there, own.exp()


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor, share: torch.Tensor) -> Sums:  # type: ignore[override]
        with torch.autocast(logits.device.type, enabled=False):
            e, s, right, own, there, p = _softmax(logits, target)
            share = share.reshape(-1).to(e.dtype)
            k, label = e.shape[1], right[:, 0]
            # a row of an image at a time, then those: hundreds of thousands of terms in one float32 lose digits
            width = logits.shape[3]
            predicted = torch.bmm((there / s).view(-1, 1, width), e.view(-1, width, k)).sum((0, 1))
            entropy = -torch.bmm(share.view(-1, 1, width), own.view(-1, width, 1)).sum()
            zeros = torch.zeros(k, dtype=torch.float64, device=e.device)
            both = zeros.index_add(0, label, (p * there).double()).to(e.dtype)
            size = zeros.index_add(0, label, there.double()).to(e.dtype)
        ctx.save_for_backward(e, s, right, there, p, share)
        ctx.shape = logits.shape
        ctx.mark_non_differentiable(size)
        return entropy, both, predicted, size

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None, None]:
        of_entropy, of_both, of_predicted, _ = gradients
        e, s, right, there, p, share = ctx.saved_tensors
        n, k, h, w = ctx.shape
        with torch.autocast(e.device.type, enabled=False):
            # with p the softmax, u = there * p . of_predicted and a = there * of_both[right] * p[right]:
            # p * (there * of_predicted + of_entropy * share - u - a), and a - of_entropy * share more where right
            a, c = there * of_both[right[:, 0]] * p, of_entropy * share
            u = there * (e @ of_predicted) / s
            grad = torch.addcmul(((c - u - a) / s)[:, None], (there / s)[:, None], of_predicted)
            grad.mul_(e).scatter_add_(1, right, (a - c)[:, None])
        return grad.view(n, h, w, k).movedim(-1, 1), None, None
