"""Sums over pixels against the same written plainly, and their gradient against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from handful.training.loss import Loss
from handful.training.pixel_sums import log_of_right, pixel_sums


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    target = torch.randint(0, 4, (2, 3, 5), generator=g)
    target[0, :2], target[1, 0, 0] = 255, 255
    share = torch.rand(2, 3, 5, generator=g, dtype=dtype) * (target != 255)
    return 3 * torch.randn(2, 4, 3, 5, generator=g, dtype=dtype), target, share


def plainly(
    logits: torch.Tensor, target: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    there = (target != 255)[:, None]
    truth = F.one_hot(torch.where(target == 255, 0, target), logits.shape[1]).movedim(-1, 1) * there
    p = logits.softmax(1) * there
    entropy = -(logits.log_softmax(1) * truth * share[:, None]).sum()
    both, said, size = (x.sum((0, 2, 3)) for x in (p * truth, p, truth))
    return entropy, both, said, size


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_sums_and_gradients_are_those_written_plainly(layout: torch.memory_format) -> None:
    logits, target, share = batch()
    mine = logits.clone(memory_format=layout).requires_grad_()
    theirs = logits.clone().requires_grad_()
    weigh = [torch.tensor(0.7), *torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).double()]
    found, wanted = pixel_sums(mine, target, share), plainly(theirs, target, share)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b.to(a.dtype), atol=1e-12)
    for values in (found, wanted):
        sum((w * v).sum() for w, v in zip(weigh, values, strict=False)).backward()
    assert mine.grad is not None and theirs.grad is not None and theirs.grad.abs().max() > 0.1
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: pixel_sums(x, target, share)[:3], (mine,))
    right = log_of_right(logits, target)
    assert torch.allclose(right[target != 255], -F.cross_entropy(logits, target, reduction="none", ignore_index=255)[
        target != 255]) and not right[target == 255].any()  # fmt: skip


def test_logits_far_apart_stay_numbers() -> None:
    logits, target, share = batch(torch.float32)
    far = (1e4 * logits).requires_grad_()
    entropy, both, said, _ = pixel_sums(far, target, share)
    (entropy + both.sum() + said.sum()).backward()
    assert torch.allclose(entropy, plainly(1e4 * logits, target, share)[0], rtol=1e-5)
    assert far.grad is not None and torch.isfinite(far.grad).all() and far.grad.abs().max() > 0.1


def test_a_large_batch_loses_no_digits() -> None:
    g = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 11, 300, 400, generator=g), torch.randint(0, 11, (2, 300, 400), generator=g)
    share = torch.ones(target.shape)
    for a, b in zip(pixel_sums(logits, target, share), plainly(logits.double(), target, share.double()), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=2e-6)


def test_half_precision_around_it_does_not_reach_it() -> None:
    logits, target, _ = batch(torch.float32)
    whole = Loss(dice=0.5)([logits], target)
    with torch.autocast("cpu", torch.bfloat16):
        assert Loss(dice=0.5)([logits], target) == whole
