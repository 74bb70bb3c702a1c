"""Many boxes made one: each rule against hand-worked cases and a slow second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from handful.detection.fusion import (
    NMS_METHODS,
    Fused,
    Fusion,
    area,
    fuse,
    hard_nms,
    inside,
    iou,
    matrix_nms,
    soft_nms_gaussian,
    soft_nms_linear,
    suppress_contained,
    weighted_box_fusion,
)
from handful.errors import DataError, UnknownName

# two boxes that share a half, and one far away
PAIR = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [100, 100, 120, 110]], np.float64)


def some(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 50, (n, 2))], axis=1), rng.uniform(0.01, 1, n)


def share(a: np.ndarray, b: np.ndarray) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def slow(boxes: np.ndarray, scores: np.ndarray, way: str, number: float) -> list[float]:
    """Bodla's algorithm 1, as it is written there."""
    left, out = {i: float(s) for i, s in enumerate(scores)}, [0.0] * len(scores)
    while left:
        m = max(left, key=lambda i: left[i])
        if left[m] < 1e-3:
            break
        out[m] = left.pop(m)
        for i in left:
            o = share(boxes[m], boxes[i])
            if way == "gaussian":
                left[i] *= math.exp(-o * o / number)
            elif o > number:
                left[i] *= (1 - o) if way == "linear" else 0
    return out


def test_overlaps() -> None:
    assert iou(PAIR, PAIR)[0].tolist() == [1, 0.5, 0]
    assert inside(PAIR, PAIR)[0].tolist() == [1, 1, 0] and inside(PAIR, PAIR)[1].tolist() == [0.5, 1, 0]
    assert area(PAIR).tolist() == [100, 200, 200] and area(np.array([[5, 5, 1, 9.0]])).tolist() == [0]
    nothing = np.array([[3, 3, 3, 3.0]])
    assert iou(nothing, nothing).tolist() == [[0]] and inside(nothing, PAIR).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_against_the_slow_way(seed: int) -> None:
    boxes, scores = some(seed)
    assert np.allclose(hard_nms(boxes, scores, nms_iou=0.4), slow(boxes, scores, "hard", 0.4))
    assert np.allclose(soft_nms_linear(boxes, scores, nms_iou=0.3), slow(boxes, scores, "linear", 0.3))
    assert np.allclose(soft_nms_gaussian(boxes, scores, sigma=0.5), slow(boxes, scores, "gaussian", 0.5))


def test_strongest_is_by_one_and_never_by_many() -> None:
    scores = np.array([0.9, 0.8, 0.7])
    found = matrix_nms(PAIR, scores, sigma=0.5)
    assert np.allclose(found, [0.9, 0.8 * math.exp(-0.5), 0.7])
    # a large box with three parts side by side: each takes a little, together they take much
    boxes = np.array([[0, 0, 100, 33], [0, 33, 100, 66], [0, 66, 100, 99], [0, 0, 100, 100.0]])
    scores = np.array([0.95, 0.94, 0.93, 0.85])
    once = math.exp(-(0.33**2) / 0.55)
    assert np.allclose(matrix_nms(boxes, scores, sigma=0.55)[-1], 0.85 * once)
    assert np.allclose(soft_nms_gaussian(boxes, scores, sigma=0.55)[-1], 0.85 * once**3)


def test_strongest_on_its_own_order() -> None:
    boxes, scores = some(7)
    order = np.random.default_rng(1).permutation(len(scores))
    assert np.allclose(matrix_nms(boxes[order], scores[order]), matrix_nms(boxes, scores)[order])
    assert (matrix_nms(boxes, scores) <= scores + 1e-12).all()


def test_a_part_is_penalised_in_a_better_whole_only() -> None:
    assert np.allclose(suppress_contained(PAIR, np.array([0.5, 0.9, 0.3]), power=0.5), [0, 0.9, 0.3])
    assert np.allclose(suppress_contained(PAIR, np.array([0.9, 0.5, 0.3]), power=0.5), [0.9, 0.5 * math.sqrt(0.5), 0.3])


def test_merging_takes_one_from_each_scale() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 11], [50, 50, 60, 60]], np.float64)
    scores, scale = np.array([0.6, 0.3, 0.5, 0.2]), np.array([0, 1, 0, 1])
    found, worth, best = weighted_box_fusion(boxes, scores, scale, merge_iou=0.6)
    # 0 and 2 are of one scale, so two objects; 1 joins the one it is more alike
    assert best.tolist() == [0, 2, 3] and worth.tolist() == [0.6, 0.5, 0.2]
    assert found[0].tolist() == [0, 0, 10, 10] and np.allclose(found[1], [0, 0, 10, (11 * 0.5 + 12 * 0.3) / 0.8])
    _, worth, _ = weighted_box_fusion(boxes, scores, scale, merge_iou=0.6, vote=True)
    assert np.allclose(worth, [0.4, 0.3, 0.1])
    tall = np.array([[0, 0, 10, 10], [0, 0, 3.9, 26]], np.float64)
    assert len(weighted_box_fusion(tall, scores[:2], scale[:2], merge_iou=0.01, sides=2.0)[1]) == 2
    assert len(weighted_box_fusion(tall, scores[:2], scale[:2], merge_iou=0.01, sides=3.0)[1]) == 1


def test_fuse_keeps_classes_apart_and_says_which() -> None:
    boxes, scores = np.concatenate([PAIR, PAIR]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.95])
    label = np.array([4, 4, 4, 7, 7, 7])
    found = fuse(boxes, scores, label, how=Fusion(nms_iou=0.4, across="none"))
    assert found.source.tolist() == [5, 0, 2, 3] and found.label.tolist() == [7, 4, 4, 7]
    assert found.score.tolist() == [0.95, 0.9, 0.7, 0.6] and (found.xyxy_px == boxes[found.source]).all()
    assert fuse(boxes, scores, label, how=Fusion(nms_iou=0.4, across="none", max_boxes=2)).source.tolist() == [5, 0]


def test_scales_do_not_suppress_within() -> None:
    boxes, scores, label = PAIR[:2], np.array([0.9, 0.8]), np.zeros(2, np.int64)
    of_two = np.array([0, 1])
    assert len(fuse(boxes, scores, label, of_two, Fusion(nms_iou=0.4, across="none"))) == 2
    assert len(fuse(boxes, scores, label, of_two, Fusion(nms_iou=0.4, across="hard"))) == 1
    assert len(fuse(boxes, scores, label, of_two, Fusion(merge_iou=0.5))) == 1


@pytest.mark.parametrize("within", ["none", *NMS_METHODS])
@pytest.mark.parametrize("across", ["none", "wbf", "wbf_vote", *NMS_METHODS])
def test_every_way_on_nothing_and_on_one(within: str, across: str) -> None:
    how = Fusion(within=within, across=across, containment_power=0.5)
    none = fuse(np.zeros((0, 4)), np.zeros(0), np.zeros(0), how=how)
    assert len(none) == 0 and none.xyxy_px.shape == (0, 4) and isinstance(none, Fused)
    one = fuse(PAIR[:1], np.array([0.5]), np.array([3]), how=how)
    assert one.label.tolist() == [3] and np.allclose(one.xyxy_px, PAIR[:1]) and 0 < one.score[0] <= 0.5
    boxes, scores = some(3, 60)
    found = fuse(boxes, scores, np.arange(60) % 3, np.arange(60) % 2, how)
    assert (np.diff(found.score) <= 0).all() and len(set(found.source.tolist())) == len(found)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"within": "sfot"}, UnknownName, "soft"),
        ({"within": "wbf"}, UnknownName, "no fusion within a scale named 'wbf'"),
        ({"across": "wbf_vot"}, UnknownName, "did you mean 'wbf_vote'"),
        ({"nms_iou": 0.0}, DataError, "nms_iou is 0.0"),
        ({"merge_iou": 1.5}, DataError, "merge_iou is 1.5"),
        ({"sigma": 0.0}, DataError, "sigma is 0.0"),
        ({"containment_power": -1.0}, DataError, "containment_power is -1.0"),
        ({"max_boxes": 0}, DataError, "max_boxes is 0"),
    ],
)
def test_wrong_settings(settings: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Fusion(**settings)  # type: ignore[arg-type]


def test_wrong_boxes() -> None:
    with pytest.raises(DataError, match="do not fit"):
        fuse(PAIR, np.ones(2), np.zeros(3))
    with pytest.raises(DataError, match="NaN or infinite"):
        fuse(PAIR * np.nan, np.ones(3), np.zeros(3))
