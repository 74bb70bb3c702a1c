"""Holes filled: outside nothing changes, texture goes on, and what may not be copied is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from handful.data.sample_images import sample_photo
from handful.errors import DataError, UnknownName
from handful.lucid.fill import METHODS, fill, hole_of, thickness

H, W = 120, 160


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo() -> np.ndarray:
    return cv2.resize(sample_photo("cat").rgb_u8, (W, H), interpolation=cv2.INTER_AREA)


def blob(h: int = H, w: int = W, radius: int = 24) -> np.ndarray:
    y, x = np.ogrid[:h, :w]
    return (y - h // 2) ** 2 + (x - w // 2) ** 2 <= radius**2


def stripes() -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    light = 127 + 100 * np.sign(np.sin((x + 0.5 * y) * 2 * np.pi / 13))
    return np.dstack([light, light * 0.7, 255 - light]).astype(np.uint8)


def checker() -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    light = np.where((y // 9 + x // 9) % 2, 210, 40)
    return np.dstack([light, light, 250 - light]).astype(np.uint8)


def error(filled: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> float:
    return float(np.abs(filled.astype(float) - truth)[hole].mean())


@pytest.mark.parametrize("method", METHODS)
def test_outside_no_bit_changes_and_inside_the_object_is_gone(method: str) -> None:
    before, hole = photo(), blob()
    before[hole] = (255, 0, 255)
    given, given_hole = before.copy(), hole.copy()
    after = fill(before, hole, method, rng=rng())
    assert after.dtype == np.uint8 and after.shape == before.shape
    assert (after[~hole] == before[~hole]).all()
    magenta = (after[hole].astype(int) - (255, 0, 255)).__abs__().sum(1) < 60
    assert not magenta.any()
    assert (before == given).all() and (hole == given_hole).all()  # the arguments are left alone


@pytest.mark.parametrize("texture", [stripes, checker])
def test_patchmatch_goes_on_with_a_texture_where_telea_smears(texture: Callable[[], np.ndarray]) -> None:
    truth, hole = texture(), blob()
    spoilt = truth.copy()
    spoilt[hole] = (255, 0, 255)
    smeared = error(fill(spoilt, hole, "telea", rng=rng()), truth, hole)
    continued = error(fill(spoilt, hole, "patchmatch", rng=rng()), truth, hole)
    assert continued < smeared / 4, (continued, smeared)


def test_no_step_at_the_border_in_a_smooth_sky() -> None:
    y, x = np.mgrid[:H, :W]
    sky = np.dstack([60 + x * 0.5, 100 + y * 0.5, 200 - x * 0.3]).astype(np.uint8)
    hole = blob()
    spoilt = np.where(hole[..., None], np.uint8(0), sky)
    after = fill(spoilt, hole, "patchmatch", rng=rng())
    rim = hole & ~cv2.erode(hole.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert error(after, sky, rim) < 2.5
    assert error(after, sky, hole) < 8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    before, hole = photo(), blob()
    first, again = (fill(before, hole, "patchmatch", rng=rng(4)) for _ in range(2))
    assert (first == again).all()
    assert (fill(before, hole, "patchmatch", rng=rng(5)) != first).any()


def test_the_number_of_threads_changes_no_bit() -> None:
    before, hole = photo(), blob()
    was = cv2.getNumThreads()
    try:
        results = []
        for n in (1, 2):
            cv2.setNumThreads(n)
            results.append(fill(before, hole, "patchmatch", rng=rng()))
    finally:
        cv2.setNumThreads(was)
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_to_be_avoided_is_copied_from_nowhere(method: str) -> None:
    before, hole = photo(), blob()
    before[..., 0] = 40  # red is in the avoided object alone
    avoid = np.zeros((H, W), bool)
    avoid[:, W // 2 + 20 : W // 2 + 45] = True  # it touches the hole
    before[avoid & ~hole] = (250, 0, 0)
    before[hole] = (40, 40, 40)
    free = fill(before, hole, method, rng=rng())
    kept = fill(before, hole, method, rng=rng(), avoid=avoid)
    assert free[hole][:, 0].max() > 100  # without it the red does come in
    assert kept[hole][:, 0].max() <= 60
    assert (kept[~hole] == before[~hole]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_hole_amid_what_is_to_be_avoided(method: str) -> None:
    before = np.full((H, W, 3), 200, np.uint8)
    hole, avoid = blob(radius=5), blob(radius=40)
    before[avoid] = (250, 0, 0)
    after = fill(before, hole, method, rng=rng(), avoid=avoid)
    assert np.abs(after[hole].astype(int) - 200).max() < 12


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_what_lay_in_the_hole_is_left(method: str) -> None:
    before = photo()
    hole = np.zeros((H, W), bool)
    hole[:40] = hole[70:90, 50:70] = True
    black, white = (np.where(hole[..., None], np.uint8(color), before) for color in (0, 255))
    assert (fill(black, hole, method, rng=rng()) == fill(white, hole, method, rng=rng())).all()


def test_two_holes_do_not_fill_each_other() -> None:
    before = photo()
    before[..., 2] = 30
    hole = np.zeros((H, W), bool)
    hole[40:80, 10:40] = hole[40:80, 110:150] = True
    before[hole] = (0, 0, 255)
    for method in METHODS:
        assert fill(before, hole, method, rng=rng())[hole][:, 2].max() <= 50, method


def test_auto_smears_cracks_and_copies_into_thick_holes() -> None:
    before = photo()
    crack = np.zeros((H, W), bool)
    crack[20, 10:150] = True
    both = crack.copy()
    both[70:110, 60:110] = True
    assert thickness(crack) < 0.01 < thickness(blob())
    assert (fill(before, crack, rng=rng()) == fill(before, crack, "telea", rng=rng())).all()
    after, smeared, copied = (fill(before, both, method, rng=rng()) for method in ("auto", "telea", "patchmatch"))
    assert (after[crack] == smeared[crack]).all()  # each part by itself
    thick = both & ~crack
    assert (after[thick] != smeared[thick]).any()
    assert (copied[crack] != smeared[crack]).any()


def mean_color(rgb_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    rgb_u8[hole] = rgb_u8[~hole].mean(0).astype(np.uint8)
    hole[:] = False  # whatever it does to what it was given
    return rgb_u8


def test_any_inpainter_can_be_handed_in() -> None:
    before, hole = photo(), blob()
    after = fill(before, hole, mean_color, rng=rng())
    assert (after[hole] == before[~hole].mean(0).astype(np.uint8)).all()
    assert (after[~hole] == before[~hole]).all()
    assert hole.any()


def test_what_an_inpainter_changes_a_little_outside_is_put_back() -> None:
    before, hole = photo(), blob()
    after = fill(before, hole, lambda rgb, _: cv2.add(rgb, (3, 3, 3, 0)), rng=rng())
    assert (after[~hole] == before[~hole]).all()
    assert (after[hole] != before[hole]).any()


def test_an_inpainter_is_told_to_fill_what_is_to_be_avoided_too() -> None:
    before, hole, avoid = photo(), blob(), np.zeros((H, W), bool)
    avoid[:20] = True
    seen = []

    def look(rgb_u8: np.ndarray, gap: np.ndarray) -> np.ndarray:
        seen.append(gap.copy())
        return np.where(gap[..., None], np.uint8(7), rgb_u8)

    after = fill(before, hole, look, rng=rng(), avoid=avoid)
    assert (seen[0] == (hole | avoid)).all()
    assert (after[hole] == 7).all() and (after[~hole] == before[~hole]).all()


def wiped(rgb_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    rgb_u8[:] = 0
    return rgb_u8


@pytest.mark.parametrize(
    ("inpainter", "said"),
    [
        (lambda rgb, _: None, "a NoneType"),
        (lambda rgb, _: rgb.tolist(), "a list"),
        (lambda rgb, _: rgb / 255, r"float64 \(120, 160, 3\)"),
        (lambda rgb, _: rgb[::2, ::2], r"uint8 \(60, 80, 3\)"),
        (lambda rgb, _: rgb[..., 0], r"uint8 \(120, 160\);"),
        (lambda rgb, _: np.dstack([rgb, rgb[..., :1]]), r"uint8 \(120, 160, 4\)"),
        (lambda rgb, _: rgb // 255, "differs outside the hole, by"),
        (wiped, "differs outside the hole, by"),
        (lambda rgb, _: rgb[:, ::-1], "differs outside the hole, by"),
    ],
)
def test_what_an_inpainter_returns_is_checked(inpainter: Callable[..., np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        fill(photo(), blob(), inpainter, rng=rng())


@pytest.mark.parametrize("method", METHODS)
def test_a_hole_that_touches_every_border(method: str) -> None:
    before = photo()
    hole = np.zeros((H, W), bool)
    hole[50:70] = hole[:, 70:90] = True
    hole[0, 0] = hole[-1, -1] = hole[0, -1] = hole[-1, 0] = True
    before[hole] = (255, 0, 255)
    after = fill(before, hole, method, rng=rng())
    assert (after[~hole] == before[~hole]).all()
    assert (np.abs(after[hole].astype(int) - (255, 0, 255)).sum(1) > 60).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", [(60, 80), (0, 0), (H - 1, W - 1)])
def test_one_pixel(method: str, at: tuple[int, int]) -> None:
    before = cv2.GaussianBlur(photo(), (0, 0), 3)
    hole = np.zeros((H, W), bool)
    hole[at] = True
    spoilt = before.copy()
    spoilt[at] = (255, 0, 255)
    after = fill(spoilt, hole, method, rng=rng())
    assert (after[~hole] == before[~hole]).all()
    assert error(after, before, hole) < 20


@pytest.mark.parametrize("method", [*METHODS, mean_color])
def test_no_hole_is_a_copy_and_all_hole_an_error(method: str | Callable[..., np.ndarray]) -> None:
    before, none = photo(), np.zeros((H, W), bool)
    after = fill(before, none, method, rng=rng())
    assert (after == before).all() and not np.shares_memory(after, before)
    with pytest.raises(DataError, match="the hole covers the whole image"):
        fill(before, ~none, method, rng=rng())
    with pytest.raises(DataError, match="the hole and what is to be avoided cover the whole image"):
        fill(before, blob(), method, rng=rng(), avoid=~blob())


@pytest.mark.parametrize("method", METHODS)
def test_grey_stays_grey(method: str) -> None:
    grey = np.repeat(cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    after = fill(grey, blob(), method, rng=rng())
    assert (after == after[..., :1]).all()


@pytest.mark.parametrize("method", [*METHODS, mean_color])
def test_arrays_that_are_not_contiguous(method: str | Callable[..., np.ndarray]) -> None:
    big, hole = photo(), blob()
    loose = np.repeat(np.repeat(big, 2, 0), 2, 1)[::2, ::2]
    turned = np.asfortranarray(hole)
    frozen = big.copy()
    frozen.flags.writeable = False
    wanted = fill(big, hole, method, rng=rng())
    assert not loose.flags.c_contiguous and not turned.flags.c_contiguous
    assert (fill(loose, turned, method, rng=rng()) == wanted).all()
    assert (fill(frozen, hole, method, rng=rng()) == wanted).all()
    assert (fill(big[..., ::-1], hole[:, ::-1], method, rng=rng()).shape) == big.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("h", "w"), [(5, 5), (1, 9), (9, 1), (8, 40), (2, 2), (17, 23)])
def test_tiny_photos(method: str, h: int, w: int) -> None:
    before = rng().integers(0, 255, (h, w, 3), np.uint8)
    hole = np.zeros((h, w), bool)
    hole[h // 2, w // 2] = True
    after = fill(before, hole, method, rng=rng())
    assert (after[~hole] == before[~hole]).all()
    hole[:] = True
    hole[0, 0] = False
    before[0, 0] = 90
    assert np.abs(fill(before, hole, method, rng=rng()).astype(int) - 90).max() <= 10  # Telea overshoots


@pytest.mark.parametrize(
    ("rgb", "hole", "said"),
    [
        (photo().astype(np.float32), blob(), r"the image to fill is float32 \(120, 160, 3\)"),
        (photo().astype(np.uint16), blob(), "uint16"),
        (photo()[..., 0], blob(), r"uint8 \(120, 160\)"),
        (np.dstack([photo(), photo()[..., :1]]), blob(), r"uint8 \(120, 160, 4\)"),
        (photo().tolist(), blob(), "a list"),
        (photo(), blob().astype(np.uint8), r"hole is uint8 \(120, 160\); wanted bool \(120, 160\)"),
        (photo(), blob()[:-1], r"hole is bool \(119, 160\)"),
        (photo(), None, "hole is a NoneType"),
    ],
)
def test_other_arrays_are_refused(rgb: np.ndarray, hole: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fill(rgb, hole, rng=rng())


def test_avoid_is_checked_too() -> None:
    with pytest.raises(DataError, match=r"avoid is int64 \(120, 160\)"):
        fill(photo(), blob(), rng=rng(), avoid=blob().astype(np.int64))


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UnknownName, match=r"no way to fill named 'patchmach'.*did you mean 'patchmatch'"):
        fill(photo(), blob(), "patchmach", rng=rng())


def test_hole_of_grows_by_a_disk() -> None:
    mask = np.zeros((31, 31), bool)
    mask[15, 15] = True
    y, x = np.ogrid[-15:16, -15:16]
    assert (hole_of(mask) == (y * y + x * x <= 49)).all()
    assert (hole_of(mask, 0) == mask).all()
    assert (hole_of(mask.T[::-1], 3) == (y * y + x * x <= 9)).all()
    assert hole_of(mask).dtype == bool


def test_a_large_photo_is_filled_sharply_from_a_search_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from handful.lucid import patchmatch

    monkeypatch.setattr(patchmatch, "SHARPEN_PX", H * W // 2)
    truth, hole = checker(), blob()
    spoilt = truth.copy()
    spoilt[hole] = (255, 0, 255)
    after = fill(spoilt, hole, "patchmatch", rng=rng())
    smeared = fill(spoilt, hole, "telea", rng=rng())
    assert error(after, truth, hole) < error(smeared, truth, hole) / 2


def test_grass_stays_as_rough_as_grass(data: Path) -> None:
    clip = "480p/paragliding-launch/00000"
    rgb = cv2.cvtColor(cv2.imread(str(data / f"davis2016/JPEGImages/{clip}.jpg")), cv2.COLOR_BGR2RGB)
    hole = hole_of(cv2.imread(str(data / f"davis2016/Annotations/{clip}.png"), 0) > 127)

    def roughness(rgb_u8: np.ndarray, where: np.ndarray) -> float:
        return float(np.abs(cv2.Laplacian(cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2GRAY), cv2.CV_32F))[where].mean())

    around = roughness(rgb, hole_of(hole, 20) & ~hole)
    inside = cv2.erode(hole.astype(np.uint8), np.ones((3, 3))) > 0
    assert roughness(fill(rgb, hole, rng=rng()), inside) > 0.6 * around
    assert roughness(fill(rgb, hole, "telea", rng=rng()), inside) < 0.3 * around
