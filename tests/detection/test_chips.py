"""SNIPER's chips, focus chips and how they are packed, against hand-worked cases and what must always hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from handful.detection.chips import (
    Scale,
    focus_rectangles,
    greedy_cover,
    negative_chips,
    packed,
    positive_chips,
    pyramid,
    split,
    uncut,
    valid,
    windows,
)
from handful.detection.fusion import iou
from handful.errors import DataError

ANY = Scale(1.0, (0, math.inf), (0, math.inf))


def boxes_in(size_wh: tuple[int, int], n: int, seed: int, largest: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = rng.uniform(4, largest, (n, 2))
    corner = rng.uniform(0, 1, (n, 2)) * (np.array(size_wh) - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def test_windows_reach_every_edge() -> None:
    found = windows((100, 60), 40, 25)
    assert sorted(set(found[:, 0])) == [0, 25, 50, 60] and sorted(set(found[:, 1])) == [0, 20]
    assert (found[:, 2:] - found[:, :2] == 40).all() and len(found) == 8
    assert windows((100, 60), 100, 10).tolist() == [[0, 0, 100, 100]]
    assert windows((80, 40), 40, 40)[:, 0].tolist() == [0, 40]
    with pytest.raises(DataError, match="above 0 px"):
        windows((10, 10), 0, 5)


def test_the_greedy_cover_takes_the_fullest_first_and_holds_all() -> None:
    holds = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    for seed in range(5):
        found = greedy_cover(holds, np.random.default_rng(seed))
        assert found[0] == 1 and found[1] in (0, 3) and len(found) == 2
    assert greedy_cover(holds, np.random.default_rng(0), max_windows=1) == [1]
    assert (
        greedy_cover(holds[:, :0], np.random.default_rng(0)) == []
        and greedy_cover(holds[:0], np.random.default_rng(0)) == []
    )
    nobody = np.zeros((3, 2), bool)
    assert greedy_cover(nobody, np.random.default_rng(0)) == []


@pytest.mark.parametrize("seed", range(3))
def test_positive_chips_hold_every_valid_box_whole(seed: int) -> None:
    size_wh, side = (640, 480), 320
    boxes = boxes_in(size_wh, 30, seed, 120)
    scale = Scale(1.25, (10, 100), (8, 120))
    chips = positive_chips(boxes, size_wh, scale, side, np.random.default_rng(seed))
    assert np.allclose(chips[:, 2:] - chips[:, :2], side / 1.25)
    for box in boxes[valid(boxes, scale.train_range)]:
        whole = (chips[:, :2] <= box[:2] + 1e-6).all(axis=1) & (chips[:, 2:] >= box[2:] - 1e-6).all(axis=1)
        assert whole.any()
    again = positive_chips(boxes, size_wh, scale, side, np.random.default_rng(seed))
    assert (again == chips).all()
    assert len(positive_chips(np.zeros((0, 4)), size_wh, scale, side, np.random.default_rng(0))) == 0


def test_negative_chips_lie_where_only_false_boxes_are() -> None:
    size_wh = (900, 300)
    rng = np.random.default_rng(0)
    positive = np.array([[0, 0, 300, 300.0]])
    crowd = np.concatenate(
        [boxes_in((280, 280), 30, 1, 40), boxes_in((280, 280), 30, 2, 40) + np.array([610, 0, 610, 0])]
    )
    found = negative_chips(crowd, positive, size_wh, ANY, 300, rng)
    assert 1 <= len(found) <= 2 and (found[:, 0] > 300).all()
    assert len(negative_chips(crowd, positive, size_wh, ANY, 300, rng, min_proposals=31)) == 0
    assert len(negative_chips(np.zeros((0, 4)), positive, size_wh, ANY, 300, rng)) == 0


def test_a_pyramid_fits_what_is_in_the_data() -> None:
    large = pyramid(np.full(50, 200.0), np.full(50, 640.0), 320)
    assert [s.factor for s in large] == [None] and large[0].train_range == (0, math.inf)
    small = pyramid(np.full(50, 12.0), np.full(50, 640.0), 320)
    assert [s.factor for s in small] == [None, 1.0, 2.0]
    assert small[0].of((640, 480), 320) == 0.5 and small[0].of((1000, 480), 320) == 0.32
    assert small[-1].train_range[0] == 0 and small[0].train_range[1] == math.inf
    for coarse, fine in itertools.pairwise(small):
        assert coarse.train_range[0] < fine.train_range[1], "nothing falls between two scales"
    for one in small:
        assert one.valid_range[0] <= one.train_range[0] and one.valid_range[1] >= one.train_range[1]
    with pytest.raises(DataError, match="0 px or less"):
        pyramid(np.array([0.0]), np.array([10.0]), 320)
    with pytest.raises(DataError, match="got 0 sizes"):
        pyramid(np.zeros(0), np.zeros(0), 320)


def test_focus_rectangles_do_not_touch_and_hold_every_hot_cell() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        chance = rng.random((30, 40)) ** 8
        found = focus_rectangles(chance, threshold=0.7, min_cells=6)
        for y, x in np.argwhere(chance >= 0.7):
            assert ((found[:, 0] <= x) & (found[:, 2] > x) & (found[:, 1] <= y) & (found[:, 3] > y)).any()
        assert (found[:, 2] - found[:, 0] >= 6).all() and (found[:, 3] - found[:, 1] >= 6).all()
        assert (found >= 0).all() and (found[:, 2] <= 40).all() and (found[:, 3] <= 30).all()
        assert (np.triu(iou(found, found), 1) == 0).all()
    spot = np.zeros((30, 40))
    spot[10, 20] = 1
    assert focus_rectangles(spot, threshold=0.5, min_cells=4, stride_px=16).tolist() == [[304, 144, 368, 208]]
    assert focus_rectangles(np.zeros((3, 3)), threshold=0.5, min_cells=2).shape == (0, 4)
    assert focus_rectangles(np.ones((3, 3)), threshold=0.5, min_cells=8).tolist() == [[0, 0, 3, 3]]


def test_what_a_window_cuts_is_not_believed() -> None:
    boxes = np.array([[0, 0, 50, 50], [95, 20, 140, 60], [150, 20, 199, 60], [195, 20, 240, 60]], np.float64)
    # a window inside the image: the right side of the second window is the image's own
    assert uncut(boxes, (90, 0, 200, 100), (400, 100), 10).tolist() == [False, False, False, False]
    assert uncut(boxes, (90, 0, 200, 100), (200, 100), 10).tolist() == [False, False, True, True]
    assert uncut(boxes, (0, 0, 145, 100), (400, 100), 10).tolist() == [True, False, False, False]
    assert uncut(boxes[:1], (0, 0, 58, 60), (400, 400), 10).tolist() == [False]


def test_pieces_cover_and_overlap() -> None:
    assert split((10, 10, 50, 40), 50).tolist() == [[10, 10, 50, 40]]
    found = split((0, 0, 100, 30), 40, overlap=0.25)
    assert found[0, 0] == 0 and found[-1, 2] == 100 and (found[:, 2] - found[:, 0] == 40).all()
    assert (found[:-1, 2] - found[1:, 0] >= 10 - 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_packed_lies_apart_and_inside(seed: int) -> None:
    rectangles = boxes_in((1500, 1000), 12, seed, 500)
    placed, canvases = packed(rectangles, 0.8, 320, gap_px=4)
    assert {p.canvas for p in placed} == set(range(canvases))
    on = np.array([[*p.at_xy, p.at_xy[0] + p.size_wh[0], p.at_xy[1] + p.size_wh[1]] for p in placed], np.float64)
    assert (on >= 0).all() and (on <= 320 + 1).all()
    grown = on + np.array([-2, -2, 2, 2])
    for canvas in range(canvases):
        own = grown[[p.canvas == canvas for p in placed]]
        assert (np.triu(iou(own, own), 1) == 0).all(), "nothing lies over another, gap included"
    # every rectangle is there, whole or in pieces
    for left, top, right, bottom in rectangles:
        xs, ys = np.linspace(left, right, 9)[1:-1], np.linspace(top, bottom, 9)[1:-1]
        for x, y in zip(xs, ys, strict=True):
            assert any(w[0] <= x <= w[2] and w[1] <= y <= w[3] for w in (p.window for p in placed))
    few, one = packed(np.array([[0, 0, 100, 100], [200, 0, 300, 100.0]]), 1.0, 320)
    assert one == 1 and len(few) == 2
    assert packed(np.zeros((0, 4)), 1.0, 320) == ([], 0)
