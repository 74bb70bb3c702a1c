"""From which score on an answer is told: found by leaving out taught images, kept with the detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.data import formats
from handful.detection import graphs, score_threshold
from handful.detection.compiled import CompiledDetector
from handful.detection.evaluate import GroundTruth, evaluate
from handful.detection.fusion import Fusion
from handful.detection.irene import Irene
from handful.detection.score_threshold import GRID, MAX_IMAGES, HeldOut, _best, _matched, calibrate
from handful.detection.scored import ScoredProposals
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD
from handful.detection.teaching import sample_boxes, teach
from handful.files import read_json, write_json
from handful.select import data_pool
from handful.select.feature_cache import cached_images
from tests.bounds import bound
from tests.detection.test_evaluate import data_set
from tests.detection.test_graphs import taught
from tests.detection.test_irene import BARE, PROPOSERS, scene

NAMES = ["apple", "leaf", "sky"]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), NAMES, {"train": 8, "val": 4})


def test_a_source_that_doubts_is_told_from_a_lower_score(data: Path, tmp_path: Path) -> None:
    made = teach(data, tmp_path / "d", proposer="doubtful", crop=BARE)
    assert 0.2 <= made["score_threshold"] <= 0.3
    bound("detector: F1 of a source that doubts", evaluate(tmp_path / "d", data, split="val")["f1"], at_least=0.9)
    irene = Irene.load(tmp_path / "d")
    assert irene.score_threshold == made["score_threshold"]
    irene.score_threshold = DEFAULT_SCORE_THRESHOLD  # what it was before: nothing is ever told
    rgb, _ = scene(NAMES, 300)
    assert len(irene.detect(rgb)) == 0 < len(irene.detect(rgb, score_threshold=made["score_threshold"]))
    sure = teach(data, tmp_path / "s", proposer="blobs", crop=BARE)
    assert sure["score_threshold"] == pytest.approx(DEFAULT_SCORE_THRESHOLD)  # nothing is gained elsewhere


def test_it_is_the_one_of_what_is_kept(data: Path, tmp_path: Path) -> None:
    for name in ("doubtful", "blobs"):
        made = teach(data, tmp_path / name, proposer=name, crop=BARE, max_samples=5, seed=2)
        irene = Irene.new(name, crop=BARE)
        samples = [s for s in formats.read(data) if s.split == "train"]
        photos = cached_images(samples, irene.proposer, irene.embedder)
        where = {s.name: i for i, s in enumerate(samples)}
        picked: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        for one in sample_boxes(samples, max_samples=5, seed=2):
            at = where[one.sample.name]
            for label in one.labels:
                picked[label].append((at, photos[at].truth.names.index(label)))
        assert data_pool.calibrate(photos, picked, seed=2) == made["score_threshold"]
        assert data_pool.calibrate(photos, picked, exhaustive=False) == DEFAULT_SCORE_THRESHOLD
        one = {n: rows[:1] for n, rows in picked.items()}
        assert (
            data_pool.calibrate(photos[:1], {n: [(0, 0)] for n in list(one)[:1]}) == DEFAULT_SCORE_THRESHOLD
        )  # nothing is left to learn from


def test_partial_labels_leave_it_where_it_is(data: Path, tmp_path: Path) -> None:
    assert (
        teach(data, tmp_path / "p", proposer="doubtful", crop=BARE, exhaustive=False)["score_threshold"]
        == DEFAULT_SCORE_THRESHOLD
    )


def test_a_detector_of_before_tells_from_the_usual_score(data: Path, tmp_path: Path) -> None:
    teach(data, tmp_path / "d", proposer="doubtful", crop=BARE)
    path = tmp_path / "d" / "handful.json"
    meta = read_json(path)
    del meta["about"]["score_threshold"]
    write_json(path, meta)
    assert Irene.load(tmp_path / "d").score_threshold == DEFAULT_SCORE_THRESHOLD


def test_a_compiled_detector_has_it() -> None:
    irene = taught()
    irene.score_threshold = 0.35
    assert json.loads(json.dumps(graphs.plan(irene)))["answer"]["score_threshold"] == 0.35
    nothing = CompiledDetector(json.loads(json.dumps(graphs.plan(irene))), {})
    box = np.array([[0.0, 0, 9, 9]])
    sure = ScoredProposals(box, np.array([0.2]), np.zeros(1, np.int64), np.zeros((1, 4)), np.array([[20.0, -20, -20]]))
    assert len(nothing.select(sure, score_threshold=DEFAULT_SCORE_THRESHOLD)) == 0 < len(nothing.select(sure))


def test_the_best_threshold_must_be_worth_its_distance() -> None:
    score = np.array([0.45] * 40 + [0.3] * 40)
    right = np.ones(80, np.int64)
    assert _best(score, right, 80) == 0.3  # all are right, and nothing is told at 0.5
    assert _best(score, np.where(score > 0.4, 1, 0), 80) == pytest.approx(0.45)
    # of two objects a threshold far off must bring a lot
    assert _best(np.array([0.55, 0.3]), np.array([1, 1]), 2) == 0.3
    assert _best(np.array([0.55, 0.45, 0.45, 0.3, 0.3, 0.3]), np.array([1, 0, 0, 1, 0, 0]), 2) == 0.5
    assert _best(np.array([0.3] * 3), np.array([-1] * 3), 5) == DEFAULT_SCORE_THRESHOLD  # crowds count neither way
    assert _best(np.zeros(0), np.zeros(0, np.int64), 0) == DEFAULT_SCORE_THRESHOLD
    assert DEFAULT_SCORE_THRESHOLD in GRID


def test_things_of_classes_that_are_left_out_do_not_count(data: Path) -> None:
    irene = Irene.new("doubtful", crop=BARE)
    samples = [s for s in formats.read(data) if s.split == "train"][:4]
    photos = cached_images(samples, irene.proposer, irene.embedder)
    # each class is taught from one image alone: without that image it is not known
    picked = {name: [(i, photos[i].truth.names.index(name))] for i, name in enumerate(NAMES)}
    asked: list[frozenset[object]] = []

    def leave_out(out: frozenset[object]) -> score_threshold.Known | None:
        asked.append(out)
        rest = {n: rows for n, rows in picked.items() if rows[0][0] not in out}
        known = data_pool.learn_boxes(photos, rest)
        return known.solution, known.background

    def trials(only: bool) -> list[HeldOut]:
        return [HeldOut(i, p.boxes, p.quality, p.scale, p.vectors, p.truth if not only else GroundTruth(
                np.zeros((0, 4)), (), np.zeros(0, bool), np.zeros(0))) for i, p in enumerate(photos[:3])]  # fmt: skip

    assert (
        calibrate(trials(False), leave_out) < DEFAULT_SCORE_THRESHOLD
    )  # the two others are found, and the third is no mistake
    assert sorted(i for out in asked for i in out) == [0, 1, 2]
    known = leave_out(frozenset({2}))
    assert known is not None and known[0].classes == ("apple", "leaf")
    score, hit, things = _matched(trials(False)[2], (known[0], None), Fusion(), -20.0)
    assert sorted(hit.tolist()) == [-1, 1, 1] and things == 2 and len(score) == 3  # the sky is called something
    assert (
        calibrate(trials(True), leave_out) == DEFAULT_SCORE_THRESHOLD
    )  # without an object there is nothing to be right about
    assert calibrate([], leave_out) == DEFAULT_SCORE_THRESHOLD


def test_a_detector_without_some_of_its_photos() -> None:
    whole, less = Irene.new("blobs", crop=BARE), Irene.new("blobs", crop=BARE)
    for seed in range(4):
        rgb, boxes = scene(["apple", "leaf", "sky"], seed)
        out = seed in (1, 3)  # these say the wrong names
        for irene in (whole,) if out else (whole, less):
            irene.learn(rgb, boxes[:2], ["leaf", "apple"] if out else ["apple", "leaf"], f"{seed}.jpg")
    found, background = score_threshold.leave_out(whole, frozenset({"1.jpg", "3.jpg"})) or (None, None)
    assert found is not None and background is not None and less.background() is not None
    # examples are kept as float16
    np.testing.assert_allclose(found.prototypes, less.solution().prototypes, atol=0.01)
    assert np.abs(found.prototypes - whole.solution().prototypes).max() > 0.05
    np.testing.assert_array_equal(background.centers, less.background().centers)  # type: ignore[union-attr]
    assert score_threshold.leave_out(whole, frozenset(f"{i}.jpg" for i in range(4))) is None


def test_no_more_photos_are_left_out_than_need_be() -> None:
    assert len(score_threshold.held_out_order(500, 0)) == len(set(score_threshold.held_out_order(500, 0))) == MAX_IMAGES
    assert (
        score_threshold.held_out_order(500, 0)
        == score_threshold.held_out_order(500, 0)
        != score_threshold.held_out_order(500, 1)
    )
    assert sorted(score_threshold.held_out_order(5, 3)) == [0, 1, 2, 3, 4]
