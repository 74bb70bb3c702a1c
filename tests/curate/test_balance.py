"""Counts by hand, weights by hand, and subsets that are more even than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.curate import balance as balance_
from handful.curate.balance import area_of, balance, counts, key_of, select, table, uneven, weights
from handful.data import format_coco
from handful.data.shapes import painted, rle_of
from handful.errors import DataError, UnknownName
from handful.types import Category, Dataset, Mask, Object, Sample

NAMES = ("cat", "dog", "bird", "fox")
CATEGORIES = tuple(Category(i + 1, name) for i, name in enumerate(NAMES))


def dataset(samples: list[Sample], categories: tuple[Category, ...] = CATEGORIES) -> Dataset:
    return Dataset("coco", Path("made"), categories, lambda: iter(samples), len(samples))


def boxed(name: str, labels: list[str], split: str | None = "train") -> Sample:
    things = tuple(Object(label, (0, 0, 10, 10 + i)) for i, label in enumerate(labels))
    return Sample(Path(name), objects=things, name=name, split=split, size_wh=(100, 80))


def masked(name: str, ids: list[list[int]]) -> Sample:
    return Sample(Path(name), mask=lambda: Mask(np.array(ids, dtype=np.uint8)), name=name)


many_labels = st.lists(st.lists(st.sampled_from(NAMES), max_size=4), min_size=1, max_size=40)


def test_counts_by_hand() -> None:
    square = np.array([[10.0, 10], [20, 10], [20, 20], [10, 20]])
    pixels = np.zeros((80, 100), dtype=bool)
    pixels[:3, :4] = True
    things = (
        Object("cat", (0, 0, 5, 4)),
        Object("cat", polygons_px=(square,)),
        Object("dog", (0, 0, 50, 50), rle=rle_of(pixels)),
        Object("fox", rle=rle_of(pixels), crowd=True),
    )
    samples = [
        Sample(Path("a"), objects=things, name="a", size_wh=(100, 80)),
        masked("b", [[1, 1, 255], [1, 4, 9]]),
        Sample(Path("c"), objects=(), name="c"),
        Sample(Path("d"), name="d"),
        Sample(Path("e"), label="bird", name="e"),
    ]
    got = counts(dataset(samples))
    rows = got.pop("classes")
    assert got == {"images": 5, "labeled": 4, "empty": 1, "unlabeled": 1, "boxes_as_pixels": 1}
    assert rows == {
        "cat": {"images": 2, "objects": 2, "pixels": 20 + 100 + 3, "image_pixels": 8000 + 4},
        "dog": {"images": 1, "objects": 1, "pixels": 12, "image_pixels": 8000},
        "bird": {"images": 1, "objects": 0, "pixels": 0, "image_pixels": 0},
        "fox": {"images": 2, "objects": 0, "pixels": 12 + 1, "image_pixels": 8000 + 4},
    }


def test_ignored_pixels_are_of_no_class() -> None:
    odd = (Category(1, "cat"), Category(255, "dog"))
    assert counts(dataset([masked("a", [[1, 255, 255]])], odd))["classes"]["dog"]["images"] == 0


def test_a_mask_overrules_the_outlines_for_pixels_only() -> None:
    both = replace(masked("a", [[1, 1], [2, 255]]), objects=(Object("cat", (0, 0, 2, 2)), Object("fox", (0, 0, 1, 1))))
    rows = counts(dataset([both]))["classes"]
    assert [rows[n]["pixels"] for n in NAMES] == [2, 1, 0, 0]
    assert [rows[n]["objects"] for n in NAMES] == [1, 0, 0, 1]
    assert [rows[n]["images"] for n in NAMES] == [1, 1, 0, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixels_are_those_that_would_be_painted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outlines = tuple(rng.uniform(0, 40, (int(rng.integers(3, 7)), 2)) for _ in range(int(rng.integers(1, 3))))
    spots = rng.random((40, 50)) < rng.random()
    for thing in (Object("cat", polygons_px=outlines), Object("cat", rle=rle_of(spots))):
        pixels = painted(thing, (50, 40))
        assert pixels is not None
        assert area_of(thing, (50, 40)) == (int(pixels.sum()), False)


def test_enet_weights_by_hand() -> None:
    held = {"classes": {"cat": {"pixels": 98}, "dog": {"pixels": 2}, "bird": {"pixels": 0}}}
    got = weights(held)
    assert got == {
        "cat": pytest.approx(1 / math.log(2.00)),
        "dog": pytest.approx(1 / math.log(1.04)),
        "bird": 0.0,
    }
    assert got["cat"] == pytest.approx(1.4427, abs=1e-4)  # the least the rule gives for two classes and more
    assert got["dog"] == pytest.approx(25.4967, abs=1e-4)


def test_effective_weights_by_hand() -> None:
    held = {"classes": {"cat": {"images": 1}, "dog": {"images": 2}}}
    # (1 - b) / (1 - b^n) with b = 0.5: 1 and 0.5 / 0.75 = 2 / 3; their mean 5 / 6
    assert weights(held, rule="effective", beta=0.5) == {"cat": pytest.approx(6 / 5), "dog": pytest.approx(4 / 5)}
    assert weights(held, rule="effective", beta=0) == {"cat": 1.0, "dog": 1.0}
    near = weights(held, rule="effective", beta=1 - 1e-9)  # nearly inverse frequency
    assert near["cat"] / near["dog"] == pytest.approx(2, abs=1e-6)


def test_inverse_weights_by_hand() -> None:
    held = {"classes": {"cat": {"images": 1, "objects": 6}, "dog": {"images": 3, "objects": 2}}}
    assert weights(held, rule="inverse") == {"cat": 2.0, "dog": pytest.approx(2 / 3)}
    assert weights(held, rule="inverse", per="objects") == {"cat": pytest.approx(2 / 3), "dog": 2.0}


def test_median_weights_by_hand() -> None:
    held = {"classes": {"cat": {"pixels": 50, "image_pixels": 100}, "dog": {"pixels": 10, "image_pixels": 100},
                        "fox": {"pixels": 5, "image_pixels": 10}}}  # fmt: skip
    assert weights(held, rule="median") == {"cat": 1.0, "dog": 5.0, "fox": 1.0}


def test_weights_refuse_what_makes_no_sense() -> None:
    held = {"classes": {"cat": {"images": 1, "objects": 1, "pixels": 0, "image_pixels": 0}}}
    with pytest.raises(UnknownName, match="did you mean 'median'"):
        weights(held, rule="medain")
    with pytest.raises(DataError, match="no class has any pixels"):
        weights(held)
    with pytest.raises(DataError, match="counts pixels, not images"):
        weights(held, rule="median", per="images")
    with pytest.raises(DataError, match="beta is 1"):
        weights(held, rule="effective", beta=1)


def test_one_class_a_photo_gives_as_many_of_each_as_of_the_rarest() -> None:
    of = {"cat": 7, "dog": 30, "bird": 12, "fox": 90}
    samples = [Sample(Path(f"{n}{i}"), label=n, name=f"{n}{i}") for n, k in of.items() for i in range(k)]
    got = balance(dataset(samples))
    assert got.after == {"cat": 7, "dog": 7, "bird": 7, "fox": 7}
    assert got.before == of
    assert got.as_json()["uneven_after"] == 0
    assert balance(dataset(samples), size=20).after == {"cat": 5, "dog": 5, "bird": 5, "fox": 5}
    assert balance(dataset(samples), classes=["dog", "fox"]).after == {"dog": 30, "fox": 30}


def test_more_is_taken_where_it_is_about_as_even() -> None:
    """1 of each is exactly even; 101 and 103 are nearly so, and worth more."""
    sizes = {"a": ("cat", 1), "b": ("dog", 1), "c": ("cat", 50), "d": ("cat", 50), "e": ("dog", 51), "f": ("dog", 51)}
    got = balance(dataset([boxed(name, [label] * n) for name, (label, n) in sizes.items()]), per="objects")
    assert got.after == {"cat": 101, "dog": 103, "bird": 0, "fox": 0}


def test_exchanging_single_photos_helps() -> None:
    rng = np.random.default_rng(3)
    samples = [boxed(f"{i}", rng.choice(NAMES, int(rng.integers(1, 9))).tolist()) for i in range(30)]
    rows = table(dataset(samples), "objects")

    def evenness(picker: balance_.Picker) -> float:
        assert picker.free.sum() == 30 - len(set(picker.chosen)) == 30 - len(picker.chosen)
        assert (picker.have == rows.sums(picker.chosen)).all()
        return float(picker.have.std() / picker.have.mean())

    picker = balance_.Picker(rows, np.random.default_rng(0))
    picker.fill(8)
    before = evenness(picker)
    picker.repair()
    assert evenness(picker) < before
    assert uneven(balance(dataset(samples), per="objects", size=8).after) == pytest.approx(evenness(picker))
    picker = balance_.Picker(rows, np.random.default_rng(0))
    picker.fill(None)
    evenness(picker)


def test_photos_come_by_lot() -> None:
    samples = [Sample(Path(f"{i}"), label="cat" if i < 3 else "dog", name=f"{i:03d}") for i in range(100)]
    drawn = [balance(dataset(samples), seed=seed).names for seed in range(5)]
    assert drawn == [balance(dataset(samples), seed=seed).names for seed in range(5)]
    assert len(set(drawn)) == 5


def badness(amounts: Mapping[str, int], of: Mapping[str, int]) -> float:
    """Classes left out first, then how uneven."""
    return sum(n > 0 and not amounts[name] for name, n in of.items()) + uneven(amounts, of=of)


@settings(max_examples=60, deadline=None)
@given(many_labels, st.sampled_from(["images", "objects", "pixels"]), st.integers(1, 40))
def test_never_worse_than_chance(labels: list[list[str]], per: Any, size: int) -> None:
    samples = [boxed(f"{i}", row) for i, row in enumerate(labels)]
    rows = table(dataset(samples), per)
    full = [i for i in range(len(rows.keys)) if rows.start[i + 1] > rows.start[i]]
    if not full:
        with pytest.raises(DataError, match="to balance"):
            balance(dataset(samples), per=per)
        return
    got = balance(dataset(samples), per=per, size=size)
    assert len(got.names) == min(size, len(full))
    rng = np.random.default_rng(size)
    drawn = (rng.choice(full, len(got.names), replace=False) for _ in range(20))
    chance = [badness(dict(zip(rows.classes, rows.sums(d), strict=True)), got.before) for d in drawn]
    assert badness(got.after, got.before) <= np.mean(chance) + 1e-9


@pytest.mark.parametrize("per", ["images", "objects", "pixels"])
@pytest.mark.parametrize("size", [5, 20, 80, 200])
def test_better_than_the_luckiest_draw(per: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    share = [0.7, 0.2, 0.07, 0.03]  # a long tail, and common classes come with the rare ones
    samples = [boxed(f"{i}", rng.choice(NAMES, int(rng.integers(1, 5)), p=share).tolist()) for i in range(300)]
    rows, got = table(dataset(samples), per), balance(dataset(samples), per=per, size=size)
    drawn = (rng.choice(300, size, replace=False) for _ in range(200))
    chance = [badness(dict(zip(rows.classes, rows.sums(d), strict=True)), got.before) for d in drawn]
    assert badness(got.after, got.before) < min(chance)


@settings(max_examples=40, deadline=None)
@given(many_labels, st.randoms(use_true_random=False), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 10)))
def test_the_order_of_the_samples_does_not_matter(labels, random, seed, size) -> None:  # type: ignore[no-untyped-def]
    samples = [boxed(f"{i}", row) for i, row in enumerate([*labels, ["cat"]])]
    shuffled = samples.copy()
    random.shuffle(shuffled)
    assert balance(dataset(samples), seed=seed, size=size) == balance(dataset(shuffled), seed=seed, size=size)


@settings(max_examples=40, deadline=None)
@given(many_labels)
def test_every_class_is_there_and_counts_add_up(labels: list[list[str]]) -> None:
    samples = [boxed(f"{i}", row) for i, row in enumerate([*labels, ["cat"]])]
    got = balance(dataset(samples))
    chosen = list(select(dataset(samples), got.names))
    for name in NAMES:
        assert got.before[name] == sum(any(o.label == name for o in s.objects or ()) for s in samples)
        assert got.after[name] == sum(any(o.label == name for o in s.objects or ()) for s in chosen)
        assert bool(got.after[name]) == bool(got.before[name])
    assert uneven(got.after, of=got.before) <= uneven(got.before) + 1e-9


def test_photos_without_labels_are_not_chosen() -> None:
    samples = [boxed("a", ["cat"]), boxed("b", ["dog"]), boxed("empty", []), Sample(Path("n"), name="nobody looked")]
    assert balance(dataset(samples), size=10).names == ("train/a", "train/b")


def test_many_photos_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    samples = [boxed(f"{i}", rng.choice(NAMES, 2, p=[0.7, 0.2, 0.07, 0.03]).tolist()) for i in range(400)]
    whole = balance(dataset(samples), size=60)
    monkeypatch.setattr(balance_.Picker, "LOOKS", 16)
    few = balance(dataset(samples), size=60)
    assert len(few.names) == 60 and len(set(few.names)) == 60
    assert uneven(whole.after) <= uneven(few.after) < 0.3 * uneven(few.before)
    assert len(balance(dataset(samples), size=400).names) == 400


def test_select_is_a_lazy_view() -> None:
    reads = []

    def samples():  # type: ignore[no-untyped-def]
        reads.append(1)
        yield from (boxed(n, ["cat"], split) for n in ("a", "b") for split in ("train", "val", None))

    whole = Dataset("coco", Path("made"), CATEGORIES, samples, 6)
    view = select(whole, ["val/a", "b"])
    assert reads == [] and len(view) == 2
    assert [key_of(s) for s in view] == ["val/a", "b"] == [key_of(s) for s in view]
    with pytest.raises(DataError, match="lacks 1 of the samples asked for: nowhere"):
        list(select(whole, ["val/a", "nowhere"]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: balance(d, size=0), "size is 0"),
        (lambda d: balance(d, classes=["dgo"]), "did you mean 'dog'"),
        (lambda d: balance(d, per="pixels", classes=["fox"]), "no pixels of any class"),
        (lambda d: balance(dataset([*d, boxed("a", ["dog"])])), "two samples named train/a"),
    ],
)
def test_what_cannot_be_balanced_is_said(call: Callable[[Dataset], object], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        call(dataset([boxed("a", ["cat"]), boxed("b", ["dog"])]))


def test_real_photos(data: Path) -> None:
    whole = format_coco.read(data / "coco-mini")
    for per, most in (("images", 0.5), ("objects", 0.5), ("pixels", 0.5)):
        got = balance(whole, per=per)  # type: ignore[arg-type]
        row = got.as_json()
        assert row["uneven_after"] < most * row["uneven_before"], per
        assert all(got.after[name] for name, n in got.before.items() if n)
    assert sum(1 for _ in select(whole, got.names)) == len(got.names)
