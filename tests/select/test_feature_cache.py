"""What was seen is kept, image by image, and asked many times: the same answers as the detector's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.detection
from handful.data import formats
from handful.detection.evaluate import DetectionCounts
from handful.detection.fusion import Fusion
from handful.detection.irene import Irene
from handful.errors import DataError
from handful.select import feature_cache
from handful.select.data_pool import draw_boxes, learn_boxes, learnable_boxes, split_pool, teach_nemo
from handful.select.feature_cache import CachedImage, cached_images
from handful.select.grid_evaluation import GridEvaluation, f1
from handful.types import Object, Sample
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import BARE, PROPOSERS

NAMES = ["apple", "leaf", "sky", "lemon"]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), NAMES, {"train": 10, "val": 4})


def samples(data: Path, split: str = "train") -> list[Sample]:
    return [s for s in formats.read(data) if s.split == split]


def counted(irene: Irene) -> list[int]:
    """How often it looks, from now on."""
    plain, seen = irene.proposer.propose, []

    def look(rgb: np.ndarray, most: int = 100) -> Any:
        seen.append(most)
        return plain(rgb, most)

    irene.proposer.propose = look  # type: ignore[method-assign]
    return seen


def test_photos_are_looked_at_once(data: Path, tmp_path: Path) -> None:
    irene, there = Irene.new("blobs", crop=BARE), samples(data)
    seen = counted(irene)
    stopped = [*there[:4], replace(there[4], pixels=_stop)]
    with pytest.raises(KeyboardInterrupt):
        cached_images(stopped, irene.proposer, irene.embedder, tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    before = len(seen)
    first = cached_images(there, irene.proposer, irene.embedder, tmp_path)
    assert len(seen) - before == 6 * (before // 4)  # the four kept ones are not looked at again
    after = len(seen)
    again = cached_images(there, irene.proposer, irene.embedder, tmp_path)
    assert len(seen) == after
    for one, other in zip(first, again, strict=True):
        for name in ("boxes", "quality", "scale", "vectors", "truth_vectors"):
            assert (getattr(one, name) == getattr(other, name)).all() and getattr(one, name).dtype == getattr(
                other, name
            ).dtype
    assert len(cached_images(there, irene.proposer, irene.embedder, None)) == 10 and len(seen) > after


def _stop() -> Any:
    raise KeyboardInterrupt


def test_what_does_not_fit_is_made_again(data: Path, tmp_path: Path) -> None:
    irene, one = Irene.new("blobs", crop=BARE), samples(data)[0]
    folder = tmp_path / "k"
    held = feature_cache.cached_image(one, irene.proposer, irene.embedder, folder)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert (
        feature_cache.cached_image(one, irene.proposer, irene.embedder, folder).truth_vectors == held.truth_vectors
    ).all()
    seen = counted(irene)
    less = replace(one, objects=(one.objects or ())[:2])  # the labels were changed since
    assert len(feature_cache.cached_image(less, irene.proposer, irene.embedder, folder).truth_vectors) == 2 and seen
    other = Irene.new("blobs", crop=replace(BARE, margin=0.3))
    assert feature_cache.folder_of(other.embedder) != feature_cache.folder_of(irene.embedder)


def test_what_is_kept_is_what_the_detector_learns_and_asks(data: Path) -> None:
    irene = Irene.new("blobs", crop=BARE)
    for one in cached_images(samples(data), irene.proposer, irene.embedder):
        rgb = one.sample.pixels().rgb_u8 if one.sample.pixels else feature_cache.image_of(one.sample).rgb_u8
        irene.learn(rgb, one.truth.boxes, one.truth.names, one.name)
        asked = irene.score(rgb)
        assert (asked.xyxy_px == one.boxes).all() and np.abs(asked.vectors - one.vectors).max() < 1e-6
    photos = cached_images(samples(data), irene.proposer, irene.embedder)
    nemo = teach_nemo(photos, learnable_boxes(photos))
    assert (nemo.solve().prototypes == irene.solution().prototypes).all()
    crowd = Object("sky", box_px=(1, 1, 40, 40), crowd=True)
    thin = Object("sky", box_px=(1, 1, 4, 40))
    with_both = replace(samples(data)[0], objects=(crowd, thin))
    assert feature_cache.cached_image(with_both, irene.proposer, irene.embedder, None).learnable.tolist() == [
        False,
        False,
    ]


def crowded(photos: list[CachedImage], seed: int) -> list[CachedImage]:
    """The same images with many more boxes and vectors, so that much is told, suppressed and mistaken."""
    rng = np.random.default_rng(seed)
    found = []
    for one in photos:
        corner = rng.uniform(0, 60, (40, 2))
        near = one.truth.boxes[rng.integers(0, len(one.truth.boxes), 30)] + rng.normal(0, 3, (30, 4))
        boxes = np.concatenate([one.boxes, np.concatenate([corner, corner + rng.uniform(5, 50, (40, 2))], 1), near])
        vectors = one.truth_vectors[rng.integers(0, len(one.truth_vectors), 70)] + rng.normal(
            0, 0.12, (70, one.truth_vectors.shape[1])
        )
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        crowd = one.truth.crowd.copy()
        crowd[0] = rng.random() < 0.5
        found.append(replace(one, boxes=boxes, quality=np.concatenate([one.quality, rng.uniform(0, 1, 70)]),
                             scale=np.zeros(len(boxes), np.int64), truth=replace(one.truth, crowd=crowd),
                             vectors=np.concatenate([one.vectors, vectors])))  # fmt: skip
    return found


@pytest.mark.parametrize("fusion", [Fusion(), Fusion(max_boxes=6), Fusion(within="soft_gaussian", across="none")])
@pytest.mark.parametrize("open_set", [True, False])
def test_an_exam_counts_as_the_detector_answers(data: Path, fusion: Fusion, open_set: bool) -> None:
    from handful.detection.scored import ScoredProposals
    from handful.detection.scoring import logits_of

    irene = Irene.new("blobs", crop=BARE, fusion=fusion)
    photos = cached_images(samples(data), irene.proposer, irene.embedder)
    names = ("apple", "leaf", "sky")
    for one in photos[:6]:
        rgb = feature_cache.image_of(one.sample).rgb_u8
        some = [n in names for n in one.truth.names]
        irene.learn(rgb, one.truth.boxes[some], [n for n in one.truth.names if n in names], one.name)
    known = learn_boxes(photos[:6], {n: r for n, r in learnable_boxes(photos[:6]).items() if n in names})
    assert (known.background is None) == (irene.cosine_floor(photos[0].vectors) is None)
    asked = crowded(photos[6:], 3)
    evaluation, vigilances = GridEvaluation(asked, fusion), (-3.0, 1.0, 2.7, 4.5)
    assert evaluation.batched == (fusion.within == "hard") and len(evaluation.quality) < sum(
        len(p.quality) for p in asked
    )
    logits, below = evaluation.logits(known)
    np.testing.assert_allclose(logits, logits_of(known.solution, evaluation.vectors), atol=1e-3)
    assert below is not None and known.background is not None
    np.testing.assert_allclose(below, known.background.cosine_floor(known.solution, evaluation.vectors), atol=1e-4)
    counts = evaluation.counts(known, vigilances, open_set=open_set)
    assert counts.shape == (4, 4, 3) and (counts[:, :, 0] > 0).any() and (counts[:, :, 1] > 0).any()
    each = evaluation.by_class(known, 1.0, ("sky", "apple", "lemon", "leaf"), open_set=open_set)
    assert each[[0, 1, 3]].sum(axis=0).tolist() == counts[1].sum(axis=0).tolist()
    whole = DetectionCounts(irene.classes)
    for row, vigilance in zip(counts, vigilances, strict=True):
        for own, one in zip(row, asked, strict=True):
            told = logits_of(irene.solution(), one.vectors), irene.cosine_floor(one.vectors)
            about = ScoredProposals(one.boxes, one.quality, one.scale, one.vectors, *told)
            found, answers = irene.select(about, vigilance=vigilance, open_set=open_set), DetectionCounts(irene.classes)
            answers.add(one.truth, found)
            if vigilance == 1.0:
                whole.add(one.truth, found)
            assert own.tolist() == [answers.tp.sum(), answers.fp.sum(), answers.fn.sum()]

    assert each[[1, 3, 0]].tolist() == np.stack([whole.tp, whole.fp, whole.fn], axis=1).tolist()
    assert each[2, :2].tolist() == [0, 0] and each[2, 2] > 0  # never taught, so always missed


def test_an_empty_exam() -> None:
    with pytest.raises(DataError, match="needs images"):
        GridEvaluation([])
    assert f1(np.zeros((2, 3))).tolist() == [0, 0] and f1(np.array([2, 1, 1])) == pytest.approx(2 / 3)


def test_three_sets_share_no_photo(data: Path, tmp_path: Path) -> None:
    every = list(formats.read(data))
    teach, tune, report, how = split_pool(every, seed=3)
    assert (len(teach), len(tune), len(report)) == (6, 4, 4) and "train divided by images, seed 3; val" in how
    assert {s.split for s in report} == {"val"}
    assert not {s.path for s in teach} & {s.path for s in tune} and len({s.path for s in teach + tune}) == 10
    assert any([s.path for s in split_pool(every, seed)[0]] != [s.path for s in teach] for seed in range(4))
    whole = split_pool([replace(s, split=None) for s in every])
    assert [len(part) for part in whole[:3]] == [8, 3, 3]
    with pytest.raises(DataError, match="images with boxes to teach, tune and report"):
        split_pool(every[:3])


def test_fewer_are_among_more_and_other_classes_do_not_matter() -> None:
    there = {"a": [(i, 0) for i in range(9)], "b": [(i, 1) for i in range(2)]}
    two, five = draw_boxes(there, 2, 7), draw_boxes(there, 5, 7)
    assert set(two["a"]) < set(five["a"]) and sorted(five["b"]) == there["b"]
    assert draw_boxes({"a": there["a"]}, 5, 7)["a"] == five["a"] and any(
        draw_boxes(there, 2, s) != two for s in range(5)
    )
