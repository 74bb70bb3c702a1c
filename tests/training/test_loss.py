"""Losses against their formulas, schedules at their corners, the mean of weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from handful.curate.balance import weights
from handful.errors import DataError, UnknownName
from handful.training.loss import Loss, class_weights, cross_entropy, dice_loss, distillation
from handful.training.schedule import Ema, factor


def batch(seed: int = 0, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, k, (2, 6, 7), generator=g)
    target[0, :2] = 255
    return torch.randn(2, k, 6, 7, generator=g), target


def test_cross_entropy_is_torchs() -> None:
    logits, target = batch()
    w = torch.tensor([1.0, 2.0, 0.0, 0.5])
    for weight in (None, w):
        for smooth in (0.0, 0.1):
            theirs = F.cross_entropy(logits, target, weight, ignore_index=255, label_smoothing=smooth)
            assert torch.allclose(cross_entropy(logits, target, weight, smoothing=smooth), theirs)


def test_nothing_labelled_is_zero_not_nan() -> None:
    logits, target = batch()
    logits.requires_grad_()
    value = Loss(dice=1.0, ohem=0.5)([logits, logits], torch.full_like(target, 255), teacher=logits.detach())
    value.backward()
    assert value.item() == 0 and torch.isfinite(logits.grad).all()


def test_hard_pixels_are_the_hardest() -> None:
    logits, target = batch()
    each = F.cross_entropy(logits, target, ignore_index=255, reduction="none")[target != 255]
    kept = each.sort(descending=True).values[: round(0.25 * each.numel())]
    assert torch.allclose(cross_entropy(logits, target, ohem=0.25), kept.mean())
    assert torch.allclose(cross_entropy(logits, target, ohem=1.0), each.mean())


def test_dice_of_a_perfect_answer_is_zero() -> None:
    _, target = batch()
    right = 50.0 * F.one_hot(torch.where(target == 255, 0, target), 5).movedim(-1, 1).float()
    assert dice_loss(right, target).item() == pytest.approx(0, abs=1e-6)  # class 4 is not there and does not count
    assert dice_loss(-right, target).item() > 0.8


def test_deep_supervision_and_teacher_add_up() -> None:
    logits, target = batch()
    small = torch.randn(2, 4, 2, 3)  # stride 3: ceil(6 / 3) by ceil(7 / 3) cells, the last column's middle lies outside
    middles = torch.full((2, 2, 3), 255)
    middles[:, :, :2] = target[:, [1, 4]][:, :, [1, 4]]
    own = Loss(auxiliary=0.4, teach=0.5, temperature=3.0)
    want = cross_entropy(logits, target) + 0.2 * cross_entropy(small, middles) + 0.2 * cross_entropy(logits, target)
    teacher = torch.randn_like(logits)
    p, q = (teacher / 3).softmax(1), (logits / 3).log_softmax(1)
    kl = (p * (p.log() - q)).sum(1)[target != 255].mean() * 9
    assert torch.allclose(own([logits, small, logits], target, teacher=teacher), want + 0.5 * kl, atol=1e-5)
    assert distillation(logits, logits, target, 2.0).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    "wrong", [{"auxiliary": -1}, {"ohem": 0.0}, {"ohem": 1.5}, {"smoothing": 1.0}, {"temperature": 0.0}]
)
def test_numbers_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Loss(**wrong)


def test_class_weights_are_those_of_balance() -> None:
    rows = {n: {"pixels": p, "images": 1, "objects": 0, "image_pixels": 9} for n, p in (("a", 6), ("b", 3), ("c", 0))}
    want = list(weights({"classes": rows}, rule="enet").values())
    got = class_weights([6, 3, 0], [1, 1, 0], [9, 9, 0], "enet")
    assert got == want and got[0] == pytest.approx(1 / math.log(1.02 + 2 / 3)) and got[2] == 0
    assert class_weights([6, 3], [1, 1], [9, 9], "none") == [1, 1]
    softer = class_weights([6, 3, 0], [1, 1, 0], [9, 9, 0], "enet^0.5")
    assert softer == pytest.approx([v**0.5 for v in want]) and softer[2] == 0
    for wrong in ("enet^", "enet^x", "enet^0", "enet^9"):
        with pytest.raises(DataError, match=r"wanted RULE or RULE\^POWER"):
            class_weights([1], [1], [1], wrong)
    with pytest.raises(UnknownName, match="did you mean 'enet'"):
        class_weights([1], [1], [1], "ennet")


def test_schedules() -> None:
    for kind in ("poly", "cosine", "constant"):
        values = [factor(i, 100, kind=kind, warmup=10) for i in range(100)]
        assert values[0] == pytest.approx(1 / 11) and np.all(np.diff(values[:11]) > 0) and values[10] == 1
        assert np.all(np.diff(values[10:]) <= 0) and all(0 < v <= 1 for v in values)
    assert factor(50, 100, kind="poly") == pytest.approx(0.5**0.9)
    assert factor(50, 100, kind="cosine") == pytest.approx(0.5)
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        factor(0, 10, kind="cosin")
    with pytest.raises(DataError):
        factor(0, 10, warmup=10)


def test_the_mean_of_weights() -> None:
    state = {"w": torch.zeros(2), "n": torch.tensor(0)}
    mean = Ema(state, 0.9)
    want = 0.0
    for i in range(1, 200):
        state["w"], state["n"] = torch.full((2,), float(i)), torch.tensor(i)
        mean.update(state)
        d = min(0.9, (1 + i) / (10 + i))
        want = d * want + (1 - d) * i
    assert mean.tensors["w"].tolist() == pytest.approx([want, want], rel=1e-5) and mean.tensors["n"] == 199
    assert state["w"][0] == 199  # what is averaged is left alone
    with pytest.raises(DataError, match="decay"):
        Ema(state, 1.0)
