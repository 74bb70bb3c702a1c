"""J and F against cases worked by hand, a second writing in plain loops, DAVIS's own code and its published table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as PIL_Image

from handful.errors import DataError
from handful.video.score import boundary, f_of, j_of, mean_over, score_clip, score_of
from tests.skips import need

# Per film: what STM scored (J, F) as published by the makers of DAVIS (github.com/davisvideochallenge/
# davisvideochallenge.github.io, json_data/raw_eval/2016, mean over frames), and what the functions of
# github.com/davisvideochallenge/davis2017-evaluation give for repeating the first mask: J mean, recall, decay; F same.
PUBLISHED = {
    "camel": ((0.9632, 0.9853), (0.454521, 0.409091, 0.307791, 0.285281, 0.034091, 0.212776)),
    "car-shadow": ((0.9677, 0.9973), (0.407701, 0.210526, 0.331415, 0.252334, 0.052632, 0.121778)),
    "drift-chicane": ((0.9053, 0.9833), (0.017484, 0.000000, 0.067248, 0.027239, 0.020000, 0.104765)),
    "drift-straight": ((0.9442, 0.9517), (0.059798, 0.020833, 0.137125, 0.097075, 0.020833, 0.191655)),
    "horsejump-high": ((0.8968, 0.9595), (0.141302, 0.020833, 0.319383, 0.146456, 0.020833, 0.247631)),
    "libby": ((0.8988, 0.9777), (0.303969, 0.021277, 0.191684, 0.357669, 0.042553, 0.008077)),
    "motocross-jump": ((0.8938, 0.7337), (0.153714, 0.026316, 0.154212, 0.100515, 0.026316, 0.037878)),
    "paragliding-launch": ((0.6451, 0.394), (0.278290, 0.025641, 0.247920, 0.476468, 0.256410, 0.146895)),
    "scooter-black": ((0.8651, 0.821), (0.092165, 0.048780, 0.294915, 0.129410, 0.024390, 0.246945)),
}


def mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def slow_boundary(m: np.ndarray) -> list[tuple[int, int]]:
    h, w = m.shape
    found = []
    for y in range(h):
        for x in range(w):
            right = x + 1 < w and m[y, x] != m[y, x + 1]
            below = y + 1 < h and m[y, x] != m[y + 1, x]
            slant = y + 1 < h and x + 1 < w and m[y, x] != m[y + 1, x + 1]
            if right or below or slant:
                found.append((y, x))
    return found


def slow_f(pred: np.ndarray, truth: np.ndarray, void: np.ndarray, tolerance: float) -> float:
    h, w = truth.shape
    radius = int(tolerance) if tolerance >= 1 else math.ceil(tolerance * math.sqrt(h * h + w * w))
    a, b = slow_boundary(pred & ~void), slow_boundary(truth & ~void)
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0

    def share(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> float:
        near = sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in theirs) for y, x in ours)
        return near / len(ours)

    p, r = share(a, b), share(b, a)
    return 2 * p * r / (p + r) if p + r else 0.0


def blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A few rectangles, some over the border, sometimes none."""
    m = np.zeros(shape, bool)
    for _ in range(int(rng.integers(0, 4))):
        y, x = rng.integers(-3, shape[0]), rng.integers(-3, shape[1])
        m[max(y, 0) : y + rng.integers(1, 12), max(x, 0) : x + rng.integers(1, 12)] ^= True
    return m


def test_j_by_hand() -> None:
    a, b = mask("##..", "##.."), mask(".##.", ".##.")
    assert j_of(a, b) == 2 / 6
    assert j_of(a, a) == 1.0
    assert j_of(a, ~a) == 0.0
    assert j_of(a, np.zeros_like(a)) == 0.0
    assert j_of(np.zeros_like(a), np.zeros_like(a)) == 1.0
    assert j_of(a, b, void=mask("..#.", "..#.")) == 2 / 4
    assert j_of(a, b, void=np.ones_like(a)) == 1.0


def test_boundary_by_hand() -> None:
    assert (boundary(mask("....", ".##.", ".##.", "....")) == mask("###.", "#.#.", "###.", "....")).all()
    # at the lower and right edge of the frame there is nothing beyond to differ from
    assert (boundary(mask("...", ".##", ".##")) == mask("###", "#..", "#..")).all()
    assert not boundary(np.ones((3, 5), bool)).any()


def test_f_by_hand() -> None:
    a = np.zeros((40, 60), bool)
    a[10:20, 10:20] = True
    near, far = np.roll(a, 2, axis=1), np.roll(a, 30, axis=1)
    empty = np.zeros_like(a)
    assert f_of(a, a) == 1.0
    assert f_of(a, near, tolerance=2) == 1.0
    # 1 px apart is forgiven, 2 are not: of 40 pixels the vertical sides differ but where they meet the others
    assert 0.5 < f_of(a, near, tolerance=1) < 1.0
    assert f_of(a, far) == 0.0
    assert f_of(a, empty) == 0.0 and f_of(empty, a) == 0.0
    assert f_of(empty, empty) == 1.0
    assert f_of(np.ones_like(a), empty) == 1.0  # neither has a contour; J says 0
    assert f_of(far, empty, void=far) == 1.0


def test_tolerance_is_8_px_at_480p() -> None:
    truth, eight, nine = (np.zeros((480, 854), bool) for _ in range(3))
    truth[100:200, 100:200], eight[100:200, 108:208], nine[100:200, 109:209] = True, True, True
    assert f_of(eight, truth) == 1.0
    assert f_of(nine, truth) < 1.0
    assert f_of(eight, truth, tolerance=7) < 1.0


def test_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(3)
    middling = 0
    for _ in range(150):
        shape = (int(rng.integers(1, 24)), int(rng.integers(1, 30)))
        pred, truth, void = blobs(rng, shape), blobs(rng, shape), blobs(rng, shape) & (rng.random() < 0.3)
        tolerance = float(rng.choice([0.008, 0.05, 1, 2, 3]))
        assert [tuple(p) for p in np.argwhere(boundary(truth)).tolist()] == slow_boundary(truth)
        f = f_of(pred, truth, void, tolerance=tolerance)
        assert f == pytest.approx(slow_f(pred, truth, void, tolerance), abs=1e-12)
        a, b = pred & ~void, truth & ~void
        union = sum(bool(p or q) for p, q in zip(a.flat, b.flat, strict=True))
        both = sum(bool(p and q) for p, q in zip(a.flat, b.flat, strict=True))
        assert j_of(pred, truth, void) == (both / union if union else 1.0)
        middling += 0 < f < 1
    assert middling > 30


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_crop_changes_nothing(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    boxes = st.tuples(*(st.integers(-2, 41) for _ in range(4)))
    masks = []
    for _ in range(2):
        m = np.zeros(shape, bool)
        for y, x, v, u in data.draw(st.lists(boxes, max_size=3)):
            m[max(y, 0) : max(v, 0), max(x, 0) : max(u, 0)] = True
        masks.append(m ^ (data.draw(arrays(bool, shape)) & data.draw(st.booleans()) & m))
    tolerance = data.draw(st.sampled_from([0.008, 0.1, 1.0, 5.0]))
    assert f_of(*masks, tolerance=tolerance) == f_of(*masks, tolerance=tolerance, crop=False)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_symmetric_and_bounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = blobs(rng, (20, 25)), blobs(rng, (20, 25))
    for measure in (j_of, f_of):
        assert 0 <= measure(a, b) <= 1
        assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-15)
        assert measure(a, a) == 1.0


def test_recall_and_decay_by_hand() -> None:
    score = score_of([1.0, 0.8, 0.5, 0.51, 0.2])
    # five frames: the quarters' edges are frames 0, 1, 2, 3, 4, both ends in
    assert (score.mean, score.recall) == (pytest.approx(0.602), 0.6)
    assert score.decay == pytest.approx((1.0 + 0.8) / 2 - (0.51 + 0.2) / 2)
    assert score_of([0.7]).decay == 0.0
    # of 10 frames the edges are at 1, 3.25, 5.5, 7.75, 10, counted from 1: halves are rounded up as in Matlab
    assert score_of(np.arange(10.0)).decay == np.mean([0, 1, 2]) - np.mean([7, 8, 9])


def test_decay_of_a_long_film() -> None:
    values = np.linspace(1, 0, 1000)
    assert score_of(values).decay == pytest.approx(0.75, abs=0.002)


def test_only_frames_between_first_and_last_count() -> None:
    a, b = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    a[2:6, 2:6], b[6:9, 6:9] = 1, 1
    score = score_clip([b, a, a, b], [a, a, a, a])
    assert score.j.mean == score.f.mean == score.j_and_f == 1.0
    assert len(score.j.per_frame) == 2
    assert score_clip([b, a, a, b], [a, a, a, a], ends=True).j.mean == 0.5


def test_objects_are_scored_one_by_one_and_films_by_object() -> None:
    truth = np.zeros((12, 12), np.uint8)
    truth[1:5, 1:5], truth[7:11, 7:11] = 1, 4
    pred = np.where(truth == 4, 0, truth)
    score = score_clip([pred] * 4, [truth] * 4)
    assert {i: o.j.mean for i, o in score.objects.items()} == {1: 1.0, 4: 0.0}  # ids 2 and 3 are nobody
    assert score.j.mean == 0.5 and score.j.recall == 0.5
    swapped = np.where(truth == 1, 4, np.where(truth == 4, 1, 0))
    assert score_clip([swapped] * 4, [truth] * 4).j.mean == 0.0
    assert score_clip([swapped] * 4, [truth] * 4, merge=True).j.mean == 1.0
    other = score_clip([truth == 1] * 4, [truth == 1] * 4)
    everything = [o.j for clip in (score, other) for o in clip.objects.values()]
    assert mean_over(everything).mean == pytest.approx(2 / 3)


def test_an_object_that_comes_later_is_background() -> None:
    first = np.zeros((8, 8), np.uint8)
    first[1:4, 1:4] = 1
    later = first.copy()
    later[5:7, 5:7] = 2
    assert list(score_clip([first] * 3, [first, later, later]).objects) == [1]


def test_ignored_pixels_do_not_count() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[1:5, 1:5], truth[5:7, 1:5] = 1, 255
    pred = np.where(truth == 255, 1, truth).astype(np.uint8)
    assert score_clip([pred] * 3, [truth] * 3).j.mean == 1.0
    assert score_clip([pred] * 3, [np.where(truth == 255, 0, truth)] * 3).j.mean == 16 / 24
    wide = truth.astype(np.uint16)
    wide[truth == 255] = 65535
    assert score_clip([pred] * 3, [wide] * 3, ignore=65535).f.mean == 1.0


def test_davis_2016_files_are_read_as_they_are() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[1:5, 1:5] = 255
    assert score_clip([truth // 255] * 3, [truth] * 3, merge=True, ignore=None).j.mean == 1.0
    with pytest.raises(DataError, match="merge=True, ignore=None"):
        score_clip([truth] * 3, [truth] * 3)


def test_what_would_be_perfect_for_no_reason_is_refused() -> None:
    empty, some = np.zeros((10, 10), np.uint8), np.eye(10, dtype=np.uint8)
    with pytest.raises(DataError, match="first frame of the truth of bear has no object"):
        score_clip([empty] * 4, [empty] * 4, name="bear")
    with pytest.raises(DataError, match="no frame of bear that counts has an object"):
        score_clip([empty] * 4, [some, empty, empty, some], name="bear")
    with pytest.raises(DataError, match="3 of them were predicted"):
        score_clip([some] * 3, [some] * 4)
    with pytest.raises(DataError, match="frame 2 of the prediction of bear is missing"):
        score_clip([some, some, None, some], [some] * 4, name="bear")
    with pytest.raises(DataError, match="frame 1 of the truth of bear is missing"):
        score_clip([some] * 4, [some, None, some, some], name="bear")
    with pytest.raises(DataError, match=r"frame 1 of the prediction of bear is 10 x 8 px .* 10 x 10"):
        score_clip([some, some[:8], some, some], [some] * 4, name="bear")
    with pytest.raises(DataError, match=r"has the ids \[2\]; wanted 0 and \[1\]"):
        score_clip([some, some * 2, some, some], [some] * 4)
    with pytest.raises(DataError, match="at least 3"):
        score_clip([some] * 2, [some] * 2)


def test_wrong_arrays_are_named() -> None:
    m = np.zeros((4, 5), bool)
    for measure in (j_of, f_of):
        with pytest.raises(DataError, match=r"the prediction must be bool .* uint8"):
            measure(m.astype(np.uint8), m)
        with pytest.raises(DataError, match=r"void is \(5, 4\)"):
            measure(m, m, m.T.copy())
    with pytest.raises(DataError, match="tolerance"):
        f_of(m, m, tolerance=0)
    with pytest.raises(DataError, match=r"float64"):
        score_clip([np.ones((4, 4))] * 3, [np.eye(4, dtype=np.uint8)] * 3)
    with pytest.raises(DataError, match="a number for each frame"):
        score_of([])
    with pytest.raises(DataError, match="at least one object"):
        mean_over([])


def _film(folder: Path) -> list[np.ndarray]:
    need(folder.is_dir(), "data", f"no photographs at {folder}; set HANDFUL_DATA")
    return [np.asarray(PIL_Image.open(path)) for path in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize("film", PUBLISHED)
def test_repeating_the_first_mask_scores_as_with_davis_code(data: Path, film: str) -> None:
    truth = _film(data / "davis2016/Annotations/480p" / film)
    score = score_clip([truth[0]] * len(truth), truth, merge=True, ignore=None, name=film)
    got = [*score.j.as_dict().values(), *score.f.as_dict().values()]
    assert got == pytest.approx(PUBLISHED[film][1], abs=1e-6)


def test_stm_scores_as_published(data: Path) -> None:
    """To 0.0025 in J and 0.0045 in F: the masks at hand are of another run of STM than the one on the site.

    No other reading of the measure is nearer: J has none, and F with 7 or 9 px is off by up to 0.020 and 0.013.
    """
    off, scores = [], []
    for film, ((j, f), _) in PUBLISHED.items():
        truth = _film(data / "davis2016/Annotations/480p" / film)
        score = score_clip(_film(data / "davis2016/STM_predictions" / film), truth, merge=True, ignore=None, name=film)
        assert (score.j.mean, score.f.mean) == (pytest.approx(j, abs=0.0025), pytest.approx(f, abs=0.0045))
        off.append((score.j.mean - j, score.f.mean - f))
        scores.append(score)
    assert np.abs(np.mean(off, axis=0)).max() < 0.0005
    assert mean_over(s.j for s in scores).mean == pytest.approx(0.887, abs=0.001)
