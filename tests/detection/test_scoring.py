"""None of these: with a rival of its own, with examples of its own, and without either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.data import formats
from handful.detection.background import CENTERS, MAX_PER_IMAGE, MAX_VECTORS, BackgroundBank, background_boxes, cluster
from handful.detection.irene import Irene
from handful.detection.scoring import (
    DEFAULT_SCORE_THRESHOLD,
    LINEAR,
    MAX_MARGIN,
    class_probabilities,
    logits_of,
    select_candidates,
)
from handful.detection.teaching import teach
from handful.errors import DataError
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import Nemo
from tests.bounds import bound
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import BARE, PROPOSERS, scene, taught


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def f1_of_apples(irene: Irene, open_set: bool) -> float:
    """On images with one apple and three strangers each."""
    right = wrong = 0
    for seed in range(200, 206):
        rgb, boxes = scene(["apple", "leaf", "sky", "lemon"], seed, (200, 90))
        for box in irene.select(irene.score(rgb), open_set=open_set).xyxy_px:
            hit = np.abs(box - boxes[0]).max() < 3
            right, wrong = right + hit, wrong + (not hit)
    return 2 * right / (2 * right + wrong + 6 - right)


def test_one_class_without_a_rival_takes_everything_and_with_one_it_does_not() -> None:
    irene = taught(["apple"])
    # everything is accepted: one answer in four is right, which is the prior
    assert f1_of_apples(irene, open_set=False) == pytest.approx(2 * 6 / (2 * 6 + 18))
    bound("detector: F1 of apples among strangers", f1_of_apples(irene, open_set=True), at_least=0.9)
    chance, margin = class_probabilities(irene.solution(), np.array([[-40.0], [3.0]]), 9.0, open_set=False)
    assert chance.tolist() == [[1, 0], [1, 0]] and (margin == MAX_MARGIN).all()  # whatever the vigilance
    two = class_probabilities(taught(["apple", "leaf"]).solution(), np.array([[1.0, 3.0]]), 9.0, open_set=False)
    assert two[1] == pytest.approx(np.array([[-2.0, 2.0]])) and two[0].sum() == pytest.approx(1)


def test_the_linear_score_takes_from_classes_it_thinks_less_of() -> None:
    rng = np.random.default_rng(0)
    nemo, z = Nemo(6, ridge=0.5), unit(rng.normal(size=(30, 6)))
    labels = [f"{'abc'[i % 3]}" for i in range(30)]
    nemo.learn_many(z, labels)
    solution, asked = nemo.solve(), unit(rng.normal(size=(8, 6)))
    cosine = solution.scores(asked)[:, :-1]
    np.testing.assert_allclose(logits_of(solution, asked, 0.0), cosine, atol=1e-12)
    # written plainly: means in the whitened space, and the discriminant of Fisher with equal priors
    means = np.stack([z[np.array(labels) == k].mean(0) for k in "abc"]) @ solution.whiten.T
    white = asked @ solution.whiten.T
    far = -((white[:, None] - means[None]) ** 2).sum(2) / 2 + (white**2).sum(1, keepdims=True) / 2
    want = cosine + LINEAR / (means**2).sum(1).mean() * (far - far.max(1, keepdims=True))
    np.testing.assert_allclose(logits_of(solution, asked), want, atol=1e-3)  # vectors are learned in steps of 2^-15
    best = far.argmax(1)
    np.testing.assert_allclose(logits_of(solution, asked)[range(8), best], cosine[range(8), best], atol=1e-9)
    assert (logits_of(solution, asked) < cosine - 1e-3).any()
    one = Nemo(6)
    one.learn_many(z[:4], ["a"] * 4)
    np.testing.assert_allclose(logits_of(one.solve(), asked), one.solve().scores(asked)[:, :-1], atol=1e-12)
    assert logits_of(solution, np.zeros((0, 6))).shape == (0, 3)
    assert np.isfinite(logits_of(solution, np.zeros((1, 6)))).all()


def test_a_doubtful_box_needs_a_surer_class() -> None:
    solution = taught(["apple", "leaf"]).solution()
    logits = np.array([[19.0, 0.0]] * 3)
    said = select_candidates(
        solution, logits, np.array([0.9, DEFAULT_SCORE_THRESHOLD**2 + 0.01, DEFAULT_SCORE_THRESHOLD**2 - 0.01]), 1.0
    )
    assert said.box.tolist() == [0, 1] and (said.score >= DEFAULT_SCORE_THRESHOLD).all()
    nearly = logits + np.array([0.0, 17.0])  # the second class is at hand, too
    assert len(select_candidates(solution, nearly, np.array([0.9, 0.2, 0.1]), 1.0, ranking=True).box) == 6
    assert len(select_candidates(solution, logits, np.array([0.9, 0.2, 0.1]), 1.0, score_threshold=0.0).box) == 3
    cosine_floor = np.array([-1.0, 1.5, -1.0])  # the background is nearer than any class
    assert select_candidates(solution, logits, np.full(3, 0.9), 1.0, cosine_floor=cosine_floor).box.tolist() == [0, 2]


def test_what_is_not_marked_is_background_unless_labels_are_partial() -> None:
    both, partial = Irene.new("blobs", crop=BARE), Irene.new("blobs", crop=BARE)
    for seed in range(4):
        rgb, boxes = scene(["apple", "sky"], seed)
        both.learn(rgb, boxes[:1], ["apple"], f"{seed}.jpg")
        partial.learn(rgb, boxes[:1], ["apple"], f"{seed}.jpg", exhaustive=False)
    assert len(both.bank.held) == 4 and not partial.bank.held
    rgb, boxes = scene(["sky"], 60)
    low = -20.0  # as if nothing were careful
    assert len(partial.detect(rgb, vigilance=low)) == 1 and len(both.detect(rgb, vigilance=low)) == 0
    assert (both.classify_boxes(rgb, boxes, vigilance=low).unknown).all()
    told = Irene.new("blobs", crop=BARE)
    for seed in range(4):
        rgb, boxes = scene(["apple", "sky"], seed)
        told.learn(rgb, boxes[:1], ["apple"], f"{seed}.jpg", known=boxes[1:])
    assert not told.bank.held  # known objects are no background


def test_neither_order_nor_taking_back_leaves_a_trace(tmp_path: Path) -> None:
    rgb, boxes = scene(["apple", "sky"], 1)
    irene = Irene.new("blobs", crop=BARE)
    irene.learn(rgb, boxes[:1], ["apple"], "1.jpg")
    before = irene.cosine_floor(np.eye(6))
    assert before is not None
    irene.learn(rgb, boxes[1:], ["sky"], "1.jpg")  # what was background is an object after all
    assert irene.cosine_floor(np.eye(6)) is None
    irene.unlearn(rgb, boxes[1].tolist(), "sky", "1.jpg")
    assert (irene.cosine_floor(np.eye(6)) == before).all()
    irene.save(tmp_path / "d")
    again = Irene.load(tmp_path / "d")
    assert np.allclose(again.cosine_floor(np.eye(6)), before) and again.bank.held.keys() == irene.bank.held.keys()
    other = Irene.new("blobs", crop=BARE)
    other.learn(*scene(["leaf"], 5), ["leaf"], "5.jpg")
    irene.learn(*scene(["leaf"], 5), ["leaf"], "5.jpg")
    irene.unlearn(rgb, boxes[0].tolist(), "apple", "1.jpg")
    assert (
        irene.cosine_floor(np.eye(6)) is None and other.cosine_floor(np.eye(6)) is None
    )  # no apple, so not its image's background


def test_the_bank_stays_small_and_the_same() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(MAX_VECTORS + 500, 8))
    one, two = cluster(rows), cluster(rows)
    assert one is not None and two is not None and (one.centers == two.centers).all()
    assert len(one.centers) <= CENTERS and cluster(rows[:0]) is None and len(cluster(rows[:5]).centers) == 5  # type: ignore[union-attr]
    boxes = np.array([[i, 0, i + 10, 10.0] for i in range(0, 600, 10)])
    found = background_boxes(boxes, np.array([[0, 0, 10, 10.0], [23, 0, 33, 10.0]]))
    assert len(found) == MAX_PER_IMAGE and 0 not in found and found[0] == 1 and 2 not in found
    with pytest.raises(DataError, match="different numbers of vectors"):
        BackgroundBank.from_state({"background": np.zeros((2, 3)), "background_boxes": np.zeros((1, 4))}, ["a"])
    assert not BackgroundBank.from_state({}, []).held


def test_a_taught_detector_has_a_background_unless_labels_are_partial(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", ["apple", "leaf", "sky"], {"train": 5})
    # one box of each class is learned; the other apples and leaves are known to be some, the skies are background
    teach(data, tmp_path / "d", proposer="blobs", crop=BARE, max_samples=1, classes=["apple", "leaf"])
    held = Irene.load(tmp_path / "d").bank.held
    skies = {(s.name, o.box_px) for s in formats.read(data) for o in s.objects or () if o.label == "sky"}
    assert held and {(photo, box) for photo, box in held} <= skies
    teach(data, tmp_path / "e", proposer="blobs", crop=BARE, max_samples=1, classes=["apple", "leaf"], exhaustive=False)
    assert not Irene.load(tmp_path / "e").bank.held
