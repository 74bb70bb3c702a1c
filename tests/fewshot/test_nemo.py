"""NEMO is exact: the same samples in any order, any batches, merged or taken back, give the same bits.

Each property is a function of the class under test, so that the same check is run on NEMO, where it must hold, and on
a NEMO with a fault planted in it, where it must fail.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.errors import DataError, UnknownName
from handful.fewshot import ledger
from handful.fewshot import nemo as module
from handful.fewshot.nemo import SCALE, Nemo, labels_of
from handful.files import read_json, read_tensors, write_json, write_tensors
from tests.bounds import SEED, bound

DIM = 24


def samples(
    n: int = 40, classes: int = 4, seed: int = 0, spread: float = 0.6, dim: int = DIM
) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim))
    which = np.arange(n) % classes
    z = centres[which] + spread * rng.normal(size=(n, dim))
    return z / np.linalg.norm(z, axis=1, keepdims=True), [f"class {k}" for k in which]


def bits(nemo: Nemo) -> str:
    """All it knows and answers with, as a hash: of two long strings of bytes pytest would look for a difference."""
    solution = nemo.solve()
    sums = b"".join(nemo._sum[name].tobytes() for name in nemo.classes)
    known = sums + nemo._gram.tobytes() + solution.whiten.tobytes() + solution.prototypes.tobytes()
    return hashlib.sha256(known + str(solution.none).encode()).hexdigest()


def order_does_not_matter(cls: type[Nemo]) -> None:
    z, y = samples()
    forward, backward = cls(DIM), cls(DIM)
    for i in range(len(y)):
        forward.learn(z[i], y[i])
    for i in np.random.default_rng(1).permutation(len(y)):
        backward.learn(z[i], y[i])
    assert bits(forward) == bits(backward)


def batch_is_the_same_as_one_by_one(cls: type[Nemo]) -> None:
    z, y = samples()
    one, many = cls(DIM), cls(DIM)
    for i in range(len(y)):
        one.learn(z[i], y[i])
    many.learn_many(z, y)
    assert bits(one) == bits(many)


def merging_is_the_same_as_learning_all(cls: type[Nemo]) -> None:
    z, y = samples()
    whole, left, right = cls(DIM), cls(DIM), cls(DIM)
    whole.learn_many(z, y)
    left.learn_many(z[:13], y[:13])
    right.learn_many(z[13:], y[13:])
    assert bits(left.merge(right)) == bits(whole) == bits(right.merge(left))


def unlearning_leaves_no_trace(cls: type[Nemo]) -> None:
    z, y = samples()
    never, once = cls(DIM), cls(DIM)
    never.learn_many(z[1:], y[1:])
    once.learn_many(z, y)
    once.unlearn(z[0], y[0])
    assert bits(never) == bits(once)


def saving_keeps_every_bit(cls: type[Nemo], folder: Path) -> None:
    z, y = samples()
    before = cls(DIM, features="f", vigilance=2.5)
    before.learn_many(z, y)
    before.save(folder)
    after = cls.load(folder, features="f")
    assert bits(after) == bits(before)
    assert after.vigilance == 2.5
    after.unlearn(z[0], y[0])  # what it has seen came along


def covariance_is_the_textbook_one(cls: type[Nemo]) -> None:
    """The pooled within-class scatter, against a plain loop over the samples."""
    z, y = samples()
    nemo = cls(DIM)
    nemo.learn_many(z, y)
    want = np.zeros((DIM, DIM))
    for name in set(y):
        mine = z[np.array(y) == name]
        want += (mine - mine.mean(0)).T @ (mine - mine.mean(0))
    want += nemo.ridge * np.eye(DIM)
    whiten = nemo.solve().whiten
    np.testing.assert_allclose(whiten @ want @ whiten.T, np.eye(DIM), atol=2e-3)


def learning_grows_with_the_samples_alone(cls: type[Nemo]) -> None:
    """By the memory that it takes, which no busy machine changes: once there was one number a sample and class."""
    z, _ = samples(1500)
    nemo = cls(DIM)
    tracemalloc.start()
    try:
        nemo.learn_many(z, [f"class {i}" for i in range(1500)])
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert len(nemo) == len(nemo.classes) == 1500


class FloatSums(Nemo):
    """Fault: no fixed point, so the order of additions shows in the last bits."""

    def _fixed(self, z, labels):  # type: ignore[no-untyped-def]
        super()._fixed(z, labels)
        return np.asarray(z, np.float64) * SCALE


class AveragesTheBatch(Nemo):
    """Fault: a batch goes in as the mean of each class, so its spread is lost. (FloatSums is no fault here on every
    processor: a matrix product may well add in the order of single samples.)
    """

    def _add(self, q, labels, sign):  # type: ignore[no-untyped-def]
        mean = {name: np.rint(q[[label == name for label in labels]].mean(0)) for name in labels}
        super()._add(np.stack([mean[name] for name in labels]), labels, sign)


class GlobalCount(Nemo):
    """Fault: the running-mean update with the count of all samples in place of the class's (a public SLDA bug)."""

    def _add(self, q, labels, sign):  # type: ignore[no-untyped-def]
        for row, label in zip(q, labels, strict=True):
            n = len(self) + 1
            super()._add(np.rint(row[None] * (n / (n + 1))), [label], sign)


class RoundsTheGram(Nemo):
    """Fault: merging is off by one unit of the fixed point in one place."""

    def merge(self, other):  # type: ignore[no-untyped-def]
        both = super().merge(other)
        both._gram[0, 0] += 1
        return both


class HalfUnlearns(Nemo):
    """Fault: unlearning takes back the sum but not the outer product."""

    def unlearn(self, z, label):  # type: ignore[no-untyped-def]
        gram = self._gram.copy()
        super().unlearn(z, label)
        self._gram = gram


class SavesFloat32(Nemo):
    """Fault: the sums are written with too few bits."""

    def save(self, folder):  # type: ignore[no-untyped-def]
        gram, self._gram = self._gram, self._gram.astype(np.float32).astype(np.float64)
        super().save(folder)
        self._gram = gram


class OneRowAClass(Nemo):
    """Fault: a batch is multiplied by one row a class, as it was once."""

    def _add(self, q, labels, sign):  # type: ignore[no-untyped-def]
        names, which = np.unique(np.asarray(labels), return_inverse=True)
        assert (np.eye(len(names))[which].T @ q).shape == (len(names), DIM)
        super()._add(q, labels, sign)


class NoMeans(Nemo):
    """Fault: the scatter is taken about zero, not about each class's mean."""

    def solve(self):  # type: ignore[no-untyped-def]
        real, self._sum = self._sum, {name: value * 0 for name, value in self._sum.items()}
        try:
            return super().solve()
        finally:
            self._sum = real


PROPERTIES: list[tuple[Callable[..., None], type[Nemo]]] = [
    (order_does_not_matter, FloatSums),
    (order_does_not_matter, GlobalCount),
    (batch_is_the_same_as_one_by_one, AveragesTheBatch),
    (merging_is_the_same_as_learning_all, RoundsTheGram),
    (merging_is_the_same_as_learning_all, GlobalCount),
    (unlearning_leaves_no_trace, HalfUnlearns),
    (unlearning_leaves_no_trace, FloatSums),
    (learning_grows_with_the_samples_alone, OneRowAClass),
    (covariance_is_the_textbook_one, NoMeans),
    (covariance_is_the_textbook_one, GlobalCount),
]


@pytest.mark.parametrize("check", sorted({check for check, _ in PROPERTIES}, key=lambda f: f.__name__))
def test_nemo_is_exact(check: Callable[..., None]) -> None:
    check(Nemo)


@pytest.mark.parametrize(("check", "faulty"), PROPERTIES)
def test_the_check_fails_on_a_planted_fault(check: Callable[..., None], faulty: type[Nemo]) -> None:
    with pytest.raises(AssertionError):
        check(faulty)


def test_many_samples_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = samples()
    whole, parts = Nemo(DIM), Nemo(DIM)
    whole.learn_many(z, y)
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(ledger, "BLOCK", 7)
    parts.learn_many(z, y)
    assert [len(labels) for _, labels in parts._ledger._unread] == [40 % 7]  # the others are written down
    assert bits(parts) == bits(whole)
    for row, label in zip(z, y, strict=True):
        parts.unlearn(row, label)
    assert not len(parts) and not parts._gram.any()
    with pytest.raises(DataError, match="NaN"):  # in the last part
        parts.learn_many(np.concatenate([z, z[:1] * np.nan]), [*y, y[0]])
    assert not len(parts)


def test_saving_keeps_every_bit(tmp_path: Path) -> None:
    saving_keeps_every_bit(Nemo, tmp_path)
    with pytest.raises(AssertionError):
        saving_keeps_every_bit(SavesFloat32, tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_any_split_and_order_gives_the_same_bits(n: int, classes: int, seed: int, random) -> None:  # type: ignore[no-untyped-def]
    z, y = samples(n, classes, seed)
    order = list(range(n))
    random.shuffle(order)
    cut = random.randint(0, n)
    whole, left, right = Nemo(DIM), Nemo(DIM), Nemo(DIM)
    whole.learn_many(z, y)
    for part, ix in ((left, order[:cut]), (right, order[cut:])):
        for i in ix:
            part.learn(z[i], y[i])
    assert bits(left.merge(right)) == bits(whole)


def test_it_learns_and_says_none_of_these() -> None:
    z, y = samples(80, 4, seed=SEED, spread=0.3)
    nemo = Nemo(DIM)
    nemo.learn_many(z[:40], y[:40])
    solution = nemo.solve()
    assert labels_of(solution.scores(z[40:]), solution.classes) == y[40:]
    scores = solution.scores(z[40:])
    truth = [solution.classes.index(name) for name in y[40:]]
    leads = [row[k] - np.delete(row, k).max() for row, k in zip(scores, truth, strict=True)]
    bound("NEMO: lead of the right class", min(leads), at_least=0.5)
    unknowns, _ = samples(40, 4, seed=SEED + 99)
    said = labels_of(solution.scores(unknowns), solution.classes)
    bound("NEMO: share of unknowns that are none of these", said.count(None) / 40, at_least=0.75)


def test_one_class_and_one_sample_work() -> None:
    z, _ = samples(8, 1, spread=0.2)
    nemo = Nemo(DIM)
    nemo.learn(z[0], "only")
    assert labels_of(nemo.solve().scores(z[1:]), ["only"]) == ["only"] * 7
    assert labels_of(nemo.solve().scores(-z[1:]), ["only"]) == [None] * 7


def test_higher_vigilance_answers_less() -> None:
    z, y = samples(120, 4, spread=0.8)
    nemo = Nemo(DIM)
    nemo.learn_many(z[:40], y[:40])
    answered = []
    for vigilance in (1.2, 2.0, 3.0, 4.1):
        nemo.vigilance = vigilance
        solution = nemo.solve()
        answered.append(sum(said is not None for said in labels_of(solution.scores(z[40:]), solution.classes)))
    assert answered == sorted(answered, reverse=True)
    assert answered[0] > answered[-1]


def left_out(z: np.ndarray, y: list[str], ridge: float) -> float:
    """The mean cosine to their own class of samples that were not taught, each in turn."""
    cosines = []
    for i, label in enumerate(y):
        nemo = Nemo(z.shape[1], ridge=ridge)
        nemo.learn_many(np.delete(z, i, axis=0), y[:i] + y[i + 1 :])
        solution = nemo.solve()
        white = solution.whiten @ z[i]
        cosines.append(white @ solution.prototypes[solution.classes.index(label)] / np.linalg.norm(white))
    return float(np.mean(cosines))


@pytest.mark.parametrize(("each", "spread", "ridge"), [(2, 0.5, 0.25), (3, 0.9, 0.25), (12, 0.5, 0.25), (6, 0.7, 2.0)])
def test_the_expected_score_is_that_of_samples_left_out(each: int, spread: float, ridge: float) -> None:
    """The closed form against leaving each sample out of everything for real."""
    z, y = samples(5 * each, 5, spread=spread, dim=160)  # the mean leverage stands for each sample's: many dimensions
    nemo = Nemo(160, ridge=ridge)
    nemo.learn_many(z, y)
    solution = nemo.solve()
    wanted = left_out(z, y, ridge)
    assert solution.expected == pytest.approx(wanted, abs=0.02)
    white = z @ solution.whiten.T
    own = [row @ solution.prototypes[solution.classes.index(label)] / np.linalg.norm(row)
           for row, label in zip(white, y, strict=True)]  # fmt: skip
    assert np.mean(own) > wanted + 0.04  # what it would be without leaving out


def test_a_saved_model_of_schema_1_answers_as_it_did(tmp_path: Path) -> None:
    z, y = samples(30, 5, spread=0.8)
    nemo = Nemo(DIM, vigilance=3.0)
    nemo.learn_many(z, y)
    nemo.save(tmp_path)
    about = read_json(tmp_path / "nemo.json")
    write_json(tmp_path / "nemo.json", {**about, "schema_version": 1})
    old = Nemo.load(tmp_path)
    # as 0.3 had it: left out of the mean in the whitened space of all samples
    white, own = z @ nemo.solve().whiten.T, np.array(y)
    means = []
    for i, row in enumerate(white):
        rest = white[own == y[i]].sum(axis=0) - row
        means.append(row @ rest / np.linalg.norm(row) / np.linalg.norm(rest))
    assert old.solve().none == pytest.approx(np.mean(means) - 0.21, abs=0.02)
    assert old.solve().none > nemo.solve().none + 0.05
    old.save(tmp_path)
    assert Nemo.load(tmp_path).solve().none == old.solve().none  # once is enough
    Nemo(DIM).save(tmp_path)
    write_json(tmp_path / "nemo.json", {**read_json(tmp_path / "nemo.json"), "schema_version": 1})
    assert Nemo.load(tmp_path).vigilance == 3.0


def test_without_the_class_a_sample_is_gone() -> None:
    z, y = samples(8, 2)
    nemo = Nemo(DIM)
    nemo.learn_many(z, y)
    for row, label in zip(z, y, strict=True):
        if label == "class 1":
            nemo.unlearn(row, label)
    assert nemo.classes == ("class 0",)


@pytest.mark.parametrize(
    ("z", "labels", "words"),
    [
        (np.full((1, DIM), np.nan), ["a"], "NaN"),
        (np.zeros((1, DIM + 1)), ["a"], r"\(1, 24\)"),
        (np.zeros((2, DIM)), ["a"], "one label a row"),
        (np.full((1, DIM), 3.0), ["a"], "length 1 or less"),
        (np.zeros((1, DIM)), [""], "name"),
    ],
)
def test_bad_samples_change_nothing(z: np.ndarray, labels: list[str], words: str) -> None:
    nemo = Nemo(DIM)
    nemo.learn_many(*samples())
    before = bits(nemo)
    with pytest.raises(DataError, match=words):
        nemo.learn_many(z, labels)
    assert bits(nemo) == before


def seen_otherwise(z: np.ndarray, cells: int, seed: int) -> np.ndarray:
    """The same samples as another engine may see them: each number up to so many cells of the grid away."""
    off = np.random.default_rng(seed).integers(-cells, cells + 1, z.shape)
    return z + off / SCALE


def unlearning_takes_what_was_added(cls: type[Nemo]) -> None:
    z, y = samples()
    z = 0.9 * z
    for cells in (1, 7):
        never, once = cls(DIM), cls(DIM)
        never.learn_many(z[10:], y[10:])
        once.learn_many(z, y)
        for row, label in zip(seen_otherwise(z[:10], cells, 3), y[:10], strict=True):
            assert once.knows(row, label)
            once.unlearn(row, label)
            assert not once.knows(row, label)
        assert bits(never) == bits(once)


class SubtractsWhatIsGiven(Nemo):
    """Fault: what is subtracted is the vector at hand, not the one that was added."""

    def unlearn(self, z, label):  # type: ignore[no-untyped-def]
        q = self._ledger.find(self._fixed(z[None], [label])[0], label)
        super().unlearn(z, label)
        self._sum[label] = self._sum[label] + q - self._fixed(z[None], [label])[0]


def test_unlearning_takes_what_was_added_on_another_engine(tmp_path: Path) -> None:
    unlearning_takes_what_was_added(Nemo)
    with pytest.raises(AssertionError):
        unlearning_takes_what_was_added(SubtractsWhatIsGiven)
    z, y = samples(dim=DIM - 1)  # an odd number of them
    nemo = Nemo(DIM - 1)
    nemo.learn_many(0.9 * z, y)
    nemo.save(tmp_path)
    after = Nemo.load(tmp_path)
    after.unlearn(seen_otherwise(0.9 * z[:1], 7, 1)[0], y[0])
    with pytest.raises(DataError, match="never learned"):  # another sample of the class
        after.unlearn(seen_otherwise(0.9 * z[:1], 7, 1)[0], y[0])
    with pytest.raises(DataError, match="never learned"):  # farther away than the low bits tell
        after.unlearn(0.9 * z[1] + 9 / SCALE, y[1])
    assert len(after) == len(y) - 1


def test_a_folder_without_low_bits_unlearns_the_very_vector_alone(tmp_path: Path) -> None:
    z, y = samples()
    nemo = Nemo(DIM)
    nemo.learn_many(0.9 * z, y)
    nemo.save(tmp_path)
    held = read_tensors(tmp_path / module.STATE)
    del held["seen_low"]
    write_tensors(tmp_path / module.STATE, held)
    old = Nemo.load(tmp_path, whole=False)
    assert old.knows(0.9 * z[0], y[0]) and not old.knows(seen_otherwise(0.9 * z[:1], 1, 0)[0], y[0])
    old.save(tmp_path / "again")  # what is not known is not made up
    again = Nemo.load(tmp_path / "again")
    assert again.knows(0.9 * z[0], y[0]) and not again.knows(seen_otherwise(0.9 * z[:1], 1, 0)[0], y[0])


def test_what_was_never_learned_cannot_be_unlearned() -> None:
    z, y = samples()
    nemo = Nemo(DIM)
    nemo.learn_many(z, y)
    before = bits(nemo)
    with pytest.raises(DataError, match="never learned"):
        nemo.unlearn(-z[0], y[0])
    with pytest.raises(UnknownName, match="did you mean 'class 0'"):
        nemo.unlearn(z[0], "class0")
    assert bits(nemo) == before


def test_merging_tells_shared_samples_and_refuses_other_features() -> None:
    z, y = samples()
    one, two = Nemo(DIM, features="a"), Nemo(DIM, features="a")
    one.learn_many(z[:10], y[:10])
    two.learn_many(z[5:15], y[5:15])
    assert one.shared_samples(two) == 5
    with pytest.raises(DataError, match="different features"):
        one.merge(Nemo(DIM, features="b"))


def test_an_empty_batch_changes_nothing() -> None:
    nemo = Nemo(DIM)
    nemo.learn_many(*samples())
    before = bits(nemo)
    nemo.learn_many(np.zeros((0, DIM)), [])
    assert bits(nemo) == before


def test_nothing_learned_cannot_answer() -> None:
    with pytest.raises(DataError, match="nothing has been learned"):
        Nemo(DIM).solve()


def test_loading_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    nemo = Nemo(DIM, features="lite0")
    nemo.learn_many(*samples())
    nemo.save(tmp_path)
    with pytest.raises(DataError, match=r"'lite0'.*'lite2'"):
        Nemo.load(tmp_path, features="lite2")
    about = tmp_path / module.ABOUT
    text = about.read_text()
    about.write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.raises(DataError, match="upgrade"):
        Nemo.load(tmp_path)
    about.write_text(text)
    state = tmp_path / module.STATE
    state.write_bytes(state.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"nemo\.safetensors"):
        Nemo.load(tmp_path)


@pytest.mark.parametrize("label", ["none of these", " None of These"])
def test_no_class_is_called_as_the_answer_for_none(label: str) -> None:
    nemo = Nemo(DIM)
    with pytest.raises(DataError, match="no class can be called"):
        nemo.learn_many(np.zeros((2, DIM)), ["a", label])
    assert len(nemo) == 0
