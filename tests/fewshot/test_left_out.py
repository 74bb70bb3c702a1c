"""Leaving taught samples out: as if each had not been learned; what is said of it; what is suggested."""

from __future__ import annotations

import numpy as np
import pytest

from handful.curate.seen import Seen, mark
from handful.errors import DataError
from handful.fewshot.left_out import LeftOut, Sampled, Suspect, leave_out, left_out_scores
from handful.fewshot.nemo import Nemo

DIM, CLASSES = 24, ("a", "b", "c")


def taught(each: int = 5, spread: float = 0.5, seed: int = 0) -> tuple[Nemo, np.ndarray, list[str]]:
    """A model of three classes around three directions."""
    draw = np.random.default_rng(seed)
    labels = [name for name in CLASSES for _ in range(each)]
    centers = np.repeat(np.eye(DIM)[:3], each, axis=0)
    z = centers + spread * draw.normal(size=(len(labels), DIM)) / np.sqrt(DIM)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    nemo = Nemo(DIM)
    nemo.learn_many(z, labels)
    return nemo, z, labels


@pytest.mark.parametrize("each", [2, 3, 9])
def test_it_is_what_unlearning_and_solving_anew_gives(each: int) -> None:
    nemo, z, labels = taught(each, spread=1.0)
    got = left_out_scores(nemo.solve(), nemo.counts, z, labels)
    whole = nemo.solve().scores(z)
    for i, label in enumerate(labels):
        nemo.unlearn(z[i], label)
        want = nemo.solve().scores(z[i])[0, :-1]
        nemo.learn(z[i], label)
        np.testing.assert_allclose(got[i, :-1], want, atol=5e-3)  # samples are rounded to 1 / 32768 when learned
        assert abs(whole[i, :-1] - want).max() > 0.1  # what it would be had nothing been left out
    assert np.allclose(got[:, -1], whole[:, -1])


def test_one_of_a_class_of_one_is_not_among_them() -> None:
    nemo, z, labels = taught(4)
    nemo.learn(np.eye(DIM)[5], "d")
    z, labels = np.concatenate([z, np.eye(DIM)[5:6]]), [*labels, "d"]
    scores = left_out_scores(nemo.solve(), nemo.counts, z, labels)
    assert scores[-1, 3] == -np.inf and np.isfinite(scores[:-1]).all()
    found = leave_out(nemo.solve(), nemo.counts, z, labels, labels, nemo.vigilance)
    assert found.images == 12 == found.right + found.wrong + found.refused
    alone = leave_out(nemo.solve(), nemo.counts, z[-1:], ["d"], ["d.jpg"], nemo.vigilance)
    assert alone.images == 0 and alone.told("m") == ["no image could be left out: one of each class is all there is"]
    with pytest.raises(DataError, match="'x' was never learned"):
        left_out_scores(nemo.solve(), nemo.counts, z[:1], ["x"])


def test_a_wrong_label_is_named() -> None:
    nemo, z, labels = taught(6, spread=0.3)
    wrong = np.eye(DIM)[1] * 0.9 + 0.1 * np.eye(DIM)[7]
    wrong /= np.linalg.norm(wrong)
    nemo.learn(wrong, "a")  # it looks like a b
    names = [f"{i}.jpg" for i in range(len(labels))]
    z, labels, names = np.concatenate([z, wrong[None]]), [*labels, "a"], [*names, "odd.jpg"]
    found = leave_out(nemo.solve(), nemo.counts, z, labels, names, 1.5)
    assert [(one.image, one.label, one.looks_like) for one in found.suspects] == [("odd.jpg", "a", "b")]
    assert found.wrong == 1 and "odd.jpg (a) like b" in found.told("m")[-1]


def test_the_vigilance_suggested_refuses_a_tenth_at_most() -> None:
    for seed in range(5):
        nemo, z, labels = taught(10, spread=0.7, seed=seed)
        nemo.vigilance = 5.0
        found = leave_out(nemo.solve(), nemo.counts, z, labels, labels, nemo.vigilance)
        assert found.refused > 3 and found.suggested is not None
        nemo.vigilance = found.suggested
        again = leave_out(nemo.solve(), nemo.counts, z, labels, labels, nemo.vigilance)
        assert again.refused <= 3 and again.suggested is None
        nemo.vigilance = found.suggested + 0.3  # not more careless than needed
        assert leave_out(nemo.solve(), nemo.counts, z, labels, labels, nemo.vigilance).refused >= 3


def test_what_is_told() -> None:
    suspects = tuple(Suspect(f"{i}.jpg", "a", "b", 0.5) for i in range(5))
    found = LeftOut(36, 20, 11, 3.0, suspects, copies=2, suggested=2.2, then_right=28, then_refused=3)
    lines = found.told("my model")
    assert lines[0] == "2 images are near copies of another of the same class, which says nothing of new images"
    assert lines[1] == 'each of 36 images left out once: 20 right, 5 wrong, 11 "none of these"'
    assert lines[2].startswith('at a vigilance of 2.2: 28 right, 5 wrong, 3 "none of these"; to keep that: ')
    assert lines[2].endswith("handful set 'my model' --vigilance 2.2")
    assert lines[3].endswith("2.jpg (a) like b; and 2 more")
    assert len(LeftOut(1, 1, 0, 3.0).told("m")) == 1 and LeftOut(0, 0, 0, 3.0).told("m") == []


def test_a_near_copy_is_not_left_out() -> None:
    """With its copy still taught every image would be right, which says nothing."""
    nemo, z, labels = taught(4)
    draw = np.random.default_rng(0)
    photos = draw.integers(0, 255, (len(z), 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    seen, sampled = Seen(), Sampled()
    for i, (rgb, label) in enumerate(zip(photos, labels, strict=True)):
        seen.add(mark(rgb), label)
        sampled.add(z[i], label, f"{i}.jpg", mark(rgb))
    told = sampled.leave_out(nemo.solve(), nemo.counts, nemo.vigilance, seen)
    assert (told.images, told.copies) == (12, 0)
    worn = np.clip(photos[0].astype(int) + 2, 0, 255).astype(np.uint8)
    seen.add(mark(worn), "b")  # of another class: that is no copy, but a wrong label
    assert sampled.leave_out(nemo.solve(), nemo.counts, nemo.vigilance, seen).copies == 0
    seen.add(mark(worn), "a")
    told = sampled.leave_out(nemo.solve(), nemo.counts, nemo.vigilance, seen)
    assert (told.images, told.copies) == (11, 1) and told.to_json()["near_copies"] == 1


def test_no_vigilance_below_the_useful_range_is_suggested() -> None:
    nemo, z, labels = taught(4, spread=0.1)
    # a fifth of all is of a class whose photos have nothing in common
    odd = np.eye(DIM)[DIM - 3 :] - 0.2 * np.eye(DIM)[:3].sum(axis=0)
    odd /= np.linalg.norm(odd, axis=1, keepdims=True)
    nemo.learn_many(odd, ["odd"] * 3)
    z, labels = np.concatenate([z, odd]), [*labels, *["odd"] * 3]
    found = leave_out(nemo.solve(), nemo.counts, z, labels, labels, nemo.vigilance)
    assert found.refused == 3 and found.suggested == 1.2 and found.then_refused > 1


def test_of_many_a_fair_draw_is_left_out() -> None:
    draws = [Sampled(50, seed) for seed in range(40)]
    for sampled in draws:
        for i in range(500):
            sampled.add(np.array([i / 500]), "a", f"{i}", (b"", 0, b""))
    assert all(len(one.rows) == 50 and one.came == 500 for one in draws)
    mean = np.mean([[float(z[0]) for z, *_ in one.rows] for one in draws])
    assert abs(mean - 0.5) < 0.05  # of 2,000 draws; the first 50 alone would have 0.05
    assert [row[2] for row in Sampled(50, 1).rows] == []
