"""F1 over vigilance and samples a class: the map, its plateau, how many classes; and which boxes to teach next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.detection.irene import Irene
from handful.errors import DataError, UnknownName
from handful.select import heatmap, regimen
from handful.select.box_selection import STRATEGIES, Run, by_error_type, error_types, report_regimen, worst_images
from handful.select.data_pool import LearnedModel, draw_boxes, learn_boxes, learnable_boxes, read_pool
from handful.select.grid_evaluation import GridEvaluation, f1
from handful.select.heatmap import bootstrap_f1, bootstrap_weights, class_study, heat_map, summary
from handful.select.heatmap_picture import outline
from tests.bounds import bound
from tests.conftest import opened
from tests.detection.test_evaluate import bare, data_set  # noqa: F401
from tests.detection.test_irene import BARE, PROPOSERS
from tests.select.test_feature_cache import NAMES, crowded
from tests.training.test_verbs import typed


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), NAMES, {"train": 12, "val": 4})


def made(seeds: int, photos: int, rng: np.random.Generator, hits: np.ndarray) -> np.ndarray:
    """(seeds, 2, 3, images, 3): a cell hits a share of 10 objects of each image, and errs as often as it misses."""
    right = rng.binomial(10, np.broadcast_to(hits[None, :, :, None], (seeds, 2, 3, photos)))
    return np.stack([right, 10 - right, 10 - right], axis=-1)


def test_the_best_cell_and_those_as_good() -> None:
    hits = np.array([[0.2, 0.8, 0.8], [0.3, 0.8, 0.4]])
    found = heat_map(made(4, 40, np.random.default_rng(0), hits), draws=300)
    assert found.mean == pytest.approx(hits, abs=0.04) and hits[found.best] == 0.8
    assert found.plateau.tolist() == (hits == 0.8).tolist()
    low, high = found.interval
    assert low < found.mean.max() < high and high - low < 0.1 and found.sd.shape == (2, 3) and (found.sd > 0).all()
    assert (heat_map(made(1, 5, np.random.default_rng(0), hits), draws=10).sd == 0).all()
    level = np.zeros((1, 2, 3, 4, 3))
    level[0, 1, :2, :, 0] = 5
    assert heat_map(level, draws=10).best == (1, 1)  # of two that are the same the higher vigilance


def test_the_bootstrap_draws_photos() -> None:
    weight = bootstrap_weights(6, 50)
    assert weight.shape == (50, 6) and (weight.sum(axis=1) == 6).all() and weight.std() > 0.5
    counts = np.array([[[4, 1, 1], [0, 5, 5]]])  # one seed, two images
    again = bootstrap_f1(counts, np.array([[2.0, 0], [0, 2], [1, 1]]))
    assert again.tolist() == pytest.approx([0.8, 0.0, 8 / 20])
    row = summary(np.concatenate([counts, counts]))
    assert row["f1"] == pytest.approx(0.4) and row["sd"] == 0 and row["precision"] == pytest.approx(0.4)
    assert summary(counts)["sd"] is None and row["interval"][0] < 0.4 < row["interval"][1]


def test_the_outline_goes_round() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    edges = outline(mask)
    assert len(edges) == 6 and ([0.5, 0.5], [0.5, 1.5]) in edges and ([2.5, 2.5], [0.5, 1.5]) in edges
    assert len(outline(np.ones((2, 2), bool))) == 8 and outline(np.zeros((2, 2), bool)) == []


def test_a_map_of_a_data_set(data: Path, tmp_path: Path) -> None:
    asked = {"proposer": "blobs", "crop": BARE, "seeds": range(2), "samples": (1, 3), "cache": tmp_path / "seen"}
    result = heatmap.run(data, tmp_path / "map", vigilances=(1.0, 3.0, 30.0), classes=(1, 2, 80), **asked)  # type: ignore[arg-type]
    values = np.array(result["tune"]["f1"])
    assert values.shape == (2, 3) and (values[:, 2] == 0).all()
    bound("detector: best F1 of a heat map", values.max(), at_least=0.9)
    assert result["tune"]["best"]["vigilance"] < 30 and result["images"]["report"] == 4
    assert json.loads((tmp_path / "map" / "heatmap.json").read_text()) == json.loads(json.dumps(result))
    assert opened(tmp_path / "map" / "heatmap.png").width > 800
    assert list(result["study"]["by_classes"]) == ["1", "2", "4"] and "one_over_two" in result["study"]
    bound("detector: F1 of one class over that of two", result["study"]["one_over_two"]["ratio"], at_least=0.8)
    two = heatmap.run(data, tmp_path / "two", vigilances=(1.0, 3.0, 30.0), classes=(), workers=2, **asked)  # type: ignore[arg-type]
    assert two["tune"] == result["tune"] and two["report"] == result["report"] and "study" not in two
    with pytest.raises(DataError, match="needs a seed"):
        heatmap.run(data, tmp_path / "x", seeds=())


def test_every_class_counts_once_whatever_the_number_taught_together(data: Path) -> None:
    pool, _ = read_pool(data, proposer="blobs", crop=BARE)
    things = sum(len(one.truth.names) for one in pool.report)
    evaluation = GridEvaluation(pool.report)
    shared = heatmap.Shared(pool.teach, learnable_boxes(pool.teach), evaluation, (2.7,))
    for k in (1, 2, 3, 4):
        counts = heatmap.groups(shared, (0, k, 4))
        assert counts[:, 0].sum() + counts[:, 2].sum() == things
    study = class_study(pool, (0, 1), vigilance=2.7, classes=(2, 4), evaluation=evaluation)
    assert "one_over_two" not in study and study["by_classes"].keys() == {"2", "4"}
    bound("detector: F1 of four classes at a time", study["by_classes"]["4"]["f1"], at_least=0.8)


def run_of(pool: object, seed: int = 0, hard: bool = False) -> Run:
    photos = pool.teach  # type: ignore[attr-defined]
    evaluation = GridEvaluation(crowded(list(photos), 1) if hard else photos)
    tune = GridEvaluation(pool.tune)  # type: ignore[attr-defined]

    def score(known: LearnedModel) -> float:
        return float(f1(tune.counts(known, (2.7,))[0].sum(axis=0)))

    return Run(photos, learnable_boxes(photos), evaluation, 2.7, seed, score)


@pytest.mark.parametrize("rule", list(STRATEGIES))
def test_a_rule_grows_and_keeps_to_its_budget(data: Path, rule: str) -> None:
    pool, _ = read_pool(data, proposer="blobs", crop=BARE)
    run, picked, before = run_of(pool, hard=True), {}, set()
    for most in (2, 3, 4):
        picked = STRATEGIES[rule](run, picked, most)
        now = {(name, place) for name, rows in picked.items() for place in rows}
        assert before <= now and len(now) == sum(map(len, picked.values())) <= run.budget(most)
        assert all(run.images[i].truth.names[j] == name for name, (i, j) in now)
        if rule != "ours" or most == 2:
            assert all(len(rows) == most for rows in picked.values())
        before = now
    assert STRATEGIES[rule](run_of(pool, hard=True), {}, 2) == STRATEGIES[rule](run_of(pool, hard=True), {}, 2)


def test_the_original_takes_from_the_worst_photos(data: Path) -> None:
    pool, _ = read_pool(data, proposer="blobs", crop=BARE)
    blind = replace(pool.teach[3], boxes=np.zeros((0, 4)), quality=np.zeros(0), scale=np.zeros(0, np.int64),
                    vectors=pool.teach[3].vectors[:0])  # nothing is found there  # fmt: skip
    photos = (*pool.teach[:3], blind, *pool.teach[4:])
    run = replace(run_of(pool), images=photos, evaluation=GridEvaluation(photos))
    first = {name: [place for place in rows if place[0] != 3][:2] for name, rows in run.there.items()}
    grown = report_regimen(run, first, 3)
    assert all(rows[2][0] == 3 for rows in grown.values())


def test_ours_keeps_nothing_that_does_harm(data: Path) -> None:
    pool, _ = read_pool(data, proposer="blobs", crop=BARE)
    first = draw_boxes(learnable_boxes(pool.teach), 2, 0)
    asked: list[int] = []

    def worse(known: LearnedModel) -> float:
        asked.append(1)
        return -float(len(asked))

    run = replace(run_of(pool), score=worse, vigilance=30.0)  # so careful that all is missed
    assert by_error_type(run, first, 3) == first and 0 < len(run.refused) <= 4
    tried = set(run.refused)
    assert by_error_type(run, first, 3) == first and len(run.refused) == 2 * len(tried)  # not offered again
    glad = replace(run_of(pool), score=lambda known: 1.0, vigilance=30.0, refused=set())
    grown = by_error_type(glad, first, 3)
    assert sum(map(len, grown.values())) > sum(map(len, first.values())) and not glad.refused


def test_faults_by_kind(data: Path) -> None:
    pool, _ = read_pool(data, proposer="blobs", crop=BARE)
    there = learnable_boxes(pool.teach)
    known = learn_boxes(pool.teach, there)
    one = pool.teach[0]
    two = one.truth.boxes[:2]
    turned = replace(one, truth=replace(one.truth, names=("leaf", "apple", *one.truth.names[2:])))
    nowhere = replace(one, boxes=np.array([[0, 0, 3, 3.0]]), quality=np.array([0.9]), scale=np.zeros(1, np.int64),
                      vectors=one.vectors[:1])  # fmt: skip
    shy = replace(one, quality=np.full(len(one.quality), 0.01))
    evaluation = GridEvaluation([turned, nowhere, shy])
    found = error_types(evaluation, evaluation.detections(known, 1.0), known.solution.classes)
    assert sorted(found.confused) == ["apple", "leaf"] and found.confused["leaf"][0] == ((0, 0), "apple")
    assert found.not_proposed == 4 and found.background == 1 and len(two) == 2
    assert {place for rows in found.missed.values() for place in rows} == {(2, j) for j in range(4)}
    assert found.counts() == {"missed": 4, "confused": 2, "not_proposed": 4, "background": 1, "mislocated": 0}
    ranked = worst_images(evaluation, known, 1.0)
    assert [i for i, *_ in ranked][-1] == 0 and ranked[0][1] == 0.0


def test_ahead_says_how_sure_it_is() -> None:
    sure = regimen.difference(np.array([0.5, 0.52, 0.51, 0.53]), np.array([0.4, 0.41, 0.42, 0.4]))
    assert sure["better"] and not sure["worse"] and sure["mean"] == pytest.approx(0.1075)
    other = regimen.difference(np.array([0.5, 0.3]), np.array([0.4, 0.4]))
    assert not other["better"] and not other["worse"]


@pytest.mark.usefixtures("bare")
def test_the_verbs(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmap.run, "__kwdefaults__", {**heatmap.run.__kwdefaults__, "samples": (2, 4),
                                                        "vigilances": (2.0, 3.0), "classes": (1, 2)})  # fmt: skip
    monkeypatch.setattr(regimen.run, "__kwdefaults__", {**regimen.run.__kwdefaults__, "samples": (1, 2, 3)})
    code, said, _ = typed(capsys, "heatmap", data, "--out", tmp_path / "m", "--seeds", 2, "--no-cache")
    assert code == 0 and "best on tune: F1" in said and "2 classes at a time" in said
    assert (tmp_path / "m" / "heatmap.png").exists()
    code, said, _ = typed(capsys, "select", data, "--out", tmp_path / "r", "--seeds", 2, "--json", "--no-cache")
    result = json.loads(said)
    assert code == 0 and list(result["strategies"]) == ["ours", "original", "random"] and result["samples"] == [1, 2, 3]
    assert result["strategies"]["random"]["by_samples"]["3"]["boxes"] == 12 and set(result["difference"]) == {
        "original",
        "random",
    }
    assert {row["class"] for row in result["selection"]} == set(NAMES) and len(result["worst_images"]) == 5
    page = (tmp_path / "r" / "regimen.html").read_text()
    assert "Images with the lowest F1" in page and page.count("<figure>") == 5 and "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    for name, partial in (("whole", ()), ("part", ("--partial",))):
        given = ("--class", "apple", "--max-samples", 3, "--proposer", "blobs")
        assert typed(capsys, "teach", data, "--out", tmp_path / name, *given, *partial)[0] == 0
        assert bool(Irene.load(tmp_path / name).bank.held) == (name == "whole")
    code, _, err = typed(capsys, "heatmap", data, "--proposer", "blob")
    assert code == 2 and "blobs" in err
    with pytest.raises(UnknownName, match="strategy"):
        regimen.compared(None, (0,), ("our",))  # type: ignore[arg-type]
