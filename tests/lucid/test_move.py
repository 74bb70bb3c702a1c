"""Walks stay in bounds, bends do not fold, maps have inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.lucid.move import (
    Bend,
    Warp,
    apply,
    covering,
    folded,
    gentle,
    inverse,
    outline_points,
    pose,
    then,
    upsampled,
    walk,
)

BOX = np.array([20.0, 30.0, 120.0, 110.0])


@given(st.integers(0, 10_000), st.floats(0, 5), st.floats(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_walk_stays_in_bounds(number: int, step: float, far: float) -> None:
    way = walk(np.random.default_rng(number), 80, step, far)
    assert way[0] == 0 and np.abs(way).max() <= far + 1e-9
    assert np.abs(np.diff(way)).max() <= step + 1e-9


def test_a_walk_goes_somewhere_and_is_smooth() -> None:
    ways = walk(np.random.default_rng(0), 60, np.full(400, 1.0), np.full(400, 1e9))
    velocity = np.diff(ways, axis=0)
    assert ways[-1].std() > 8
    together = np.corrcoef(velocity[20:-1].ravel(), velocity[21:].ravel())[0, 1]
    assert 0.7 < together < 0.9  # steps that knew nothing of one another would jitter


def test_folding_keeps_steps() -> None:
    x = np.linspace(-30, 30, 601)
    y = folded(x, np.asarray(4.0))
    assert np.abs(y).max() <= 4 and np.abs(np.diff(y)).max() <= 0.1 + 1e-9
    assert np.allclose(y[np.abs(x) <= 4], x[np.abs(x) <= 4])


def test_a_spline_goes_through_its_points() -> None:
    rng = np.random.default_rng(1)
    at, by = rng.uniform(0, 100, (5, 2)), rng.uniform(-8, 8, (5, 2))
    assert np.allclose(Bend.through(at, by)(at), by, atol=1e-6)
    plane = np.array([[1.0, 2.0], [0.03, 0.01], [-0.02, 0.04]])
    bent = Bend.through(at, plane[0] + at @ plane[1:])
    far = rng.uniform(-200, 300, (7, 2))
    assert np.allclose(bent(far), plane[0] + far @ plane[1:], atol=1e-6)  # an affine map needs no bending


def test_points_on_a_line_are_survived() -> None:
    at = np.array([[0.0, 0.0], [10, 10], [20, 20], [30, 30], [40, 40]])
    assert np.isfinite(Bend.through(at, np.ones((5, 2)))(np.array([[5.0, 9.0]]))).all()


@given(st.integers(0, 10_000), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_a_gentle_bend_can_be_undone(number: int, bend: float) -> None:
    rng = np.random.default_rng(number)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 5))
    points = np.stack([70 + 50 * np.cos(angle), 70 + 40 * np.sin(angle)], -1)
    spline = gentle(points, rng.uniform(-bend, bend, (5, 2)) * 100, BOX)
    assert spline.steepest(BOX) <= 0.6 + 1e-6
    q = rng.uniform(BOX[:2], BOX[2:], (50, 2))
    p = spline.undone(q)
    assert np.abs(p + spline(p) - q).max() < 0.05


def test_a_steep_bend_is_made_gentle() -> None:
    points = np.array([[60.0, 60], [62, 60], [60, 90], [100, 60], [100, 90]])
    offsets = np.array([[15.0, 0], [-15, 0], [0, 0], [0, 0], [0, 0]])
    assert Bend.through(points + offsets, -offsets).steepest(BOX) > 1
    assert gentle(points, offsets, BOX).steepest(BOX) <= 0.6 + 1e-6


def test_a_warp_there_and_back() -> None:
    rng = np.random.default_rng(3)
    points = np.array([[20.0, 30], [120, 30], [120, 110], [20, 110], [70, 20]])
    warp = Warp(
        pose(np.array([70.0, 70]), np.array([13.0, -7]), 20, 1.2), gentle(points, rng.uniform(-6, 6, (5, 2)), BOX)
    )
    frame = rng.uniform(30, 120, (100, 2))
    assert np.abs(warp.forth(warp.back(frame)) - frame).max() < 0.02


def test_dense_maps_follow_the_exact_ones() -> None:
    rng = np.random.default_rng(4)
    points = np.array([[20.0, 30], [120, 30], [120, 110], [20, 110], [70, 20]])
    warp = Warp(
        pose(np.array([70.0, 70]), np.array([3.0, 2]), 10, 0.9), gentle(points, rng.uniform(-8, 8, (5, 2)), BOX)
    )
    box = (17, 23, 131, 118)
    y, x = np.mgrid[box[1] : box[3], box[0] : box[2]]
    exact = warp.back(np.stack([x, y], -1).astype(float)) - (5, 6)
    error = np.linalg.norm(warp.maps(box, (5, 6)) - exact, axis=-1)
    assert error.shape == (95, 114) and error.max() < 0.25 and error.mean() < 0.01


def test_dense_maps_of_an_affine_are_exact() -> None:
    affine = pose(np.array([10.0, 20]), np.array([3.0, 2]), 33, 0.7)
    for box in ((0, 0, 1, 1), (3, 5, 8, 9), (0, 0, 33, 17)):
        y, x = np.mgrid[box[1] : box[3], box[0] : box[2]]
        exact = apply(affine, np.stack([x, y], -1).astype(float))
        assert np.abs(upsampled(lambda p: apply(affine, p), box) - exact).max() < 1e-3


def test_affine_maps_compose() -> None:
    a, b = (
        pose(np.array([5.0, 5]), np.array([1.0, 2]), 30, 1.1),
        pose(np.array([0.0, 9]), np.array([4.0, 0]), -10, 0.8, True),
    )
    p = np.random.default_rng(0).uniform(0, 50, (9, 2))
    assert np.allclose(apply(then(a, b), p), apply(b, apply(a, p)))
    assert np.allclose(apply(inverse(a), apply(a, p)), p)
    assert np.linalg.det(b[:, :2]) < 0 < np.linalg.det(a[:, :2])


@given(st.floats(-25, 25), st.floats(0.8, 1.2), st.floats(-15, 15), st.floats(-15, 15))
@settings(max_examples=60, deadline=None)
def test_a_covering_camera_never_looks_past_the_photo(turn: float, scale: float, x: float, y: float) -> None:
    size = 200, 120
    camera = covering(pose(np.array([99.5, 59.5]), np.array([x, y]), turn, scale), size)
    seen = apply(inverse(camera), np.array([[0.0, 0], [199, 0], [0, 119], [199, 119]]))
    assert (seen >= -1e-6).all() and (seen <= np.array([199, 119]) + 1e-6).all()


def test_a_camera_that_sees_too_little_is_left_alone() -> None:
    near = pose(np.array([99.5, 59.5]), np.zeros(2), 0, 1.5)
    assert np.allclose(covering(near, (200, 120)), near)


def test_a_camera_quite_past_the_photo() -> None:
    with pytest.raises(ValueError, match="past the image"):
        covering(pose(np.zeros(2), np.array([500.0, 0]), 0, 1), (200, 120))


def test_points_spread_over_the_border() -> None:
    y, x = np.mgrid[0:80, 0:80]
    mask = (x - 40) ** 2 + (y - 40) ** 2 <= 30**2
    points = outline_points(mask, 5, np.random.default_rng(0))
    assert np.abs(np.hypot(*(points - 40).T) - 30).max() < 1.5
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(5)
    assert apart.min() > 20
