from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.lucid import blend
from handful.lucid.blend import feather, poisson, ring
from handful.lucid.membrane import membrane, screened
from tests.skips import need

CLIPS = ("camel", "horsejump-high", "paragliding-launch", "scooter-black")


def layer_of(rgb: np.ndarray, mask: np.ndarray, soft: bool = True) -> np.ndarray:
    alpha = cv2.GaussianBlur(mask, (5, 5), 0) if soft else mask
    return np.dstack([cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255), alpha])


def blob(h: int, w: int, border: int = 8) -> np.ndarray:
    """An irregular outline, 0 or 255, with a hole."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(h, w)), (0, 0), min(h, w) / 12)
    y, x = np.mgrid[:h, :w]
    far = np.hypot((y - h / 2) / (h / 2), (x - w / 2) / (w / 2))
    mask = (far + noise * min(h, w) / 12 * 0.4 < 0.75).astype(np.uint8) * 255
    mask[h // 2 : h // 2 + 5, w // 2 : w // 2 + 9] = 0
    mask[:border] = mask[-border:] = 0
    mask[:, :border] = mask[:, -border:] = 0
    return mask


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame, an image of the size of a crop, and a mask on it."""
    frame = cv2.resize(sample_photo("coffee").rgb_u8, (427, 240), interpolation=cv2.INTER_AREA)
    photo = cv2.resize(sample_photo("cat").rgb_u8, (160, 130), interpolation=cv2.INTER_AREA)
    return frame, photo, blob(130, 160)


def crop_of(data: Path, clip: str) -> tuple[np.ndarray, np.ndarray]:
    """The first frame of a DAVIS film around its object, at most 300 px a side, and the mask."""
    folder = data / "davis2016"
    need(folder.is_dir(), "data", f"no photographs at {folder}; set HANDFUL_DATA")
    rgb = np.asarray(PIL_Image.open(folder / "JPEGImages/480p" / clip / "00000.jpg"))
    mask = np.asarray(PIL_Image.open(folder / "Annotations/480p" / clip / "00000.png").convert("L"))
    ys, xs = np.nonzero(mask)
    at = np.s_[max(ys.min() - 6, 0) : ys.max() + 7, max(xs.min() - 6, 0) : xs.max() + 7]
    scale = min(1.0, 300 / max(mask[at].shape))
    size = tuple(round(n * scale) for n in mask[at].shape[::-1])
    photo = cv2.resize(rgb[at], size, interpolation=cv2.INTER_AREA)
    return photo, cv2.resize(mask[at], size, interpolation=cv2.INTER_NEAREST)


def apply(kind: str, frame: np.ndarray, layer: np.ndarray, mask: np.ndarray, source: np.ndarray,
          xy: tuple[int, int]) -> np.ndarray:  # fmt: skip
    frame = frame.copy()
    if kind == "feather":
        feather(frame, layer, xy)
    elif kind == "ring":
        ring(frame, layer, mask, source, xy)
    else:
        poisson(frame, layer, mask, xy, source if kind == "poisson with source" else None)
    return frame


KINDS = (*blend.BLENDS, "poisson with source")
every = pytest.mark.parametrize("kind", KINDS)


def exact(rhs: np.ndarray, free: np.ndarray, screen: float = 0.0) -> np.ndarray:
    """The solution of e - mean4(e) + screen e = rhs at the free pixels, by sparse LU."""
    sparse = pytest.importorskip("scipy.sparse")
    spsolve = pytest.importorskip("scipy.sparse.linalg").spsolve
    h, w, channels = rhs.shape
    index, degree = np.arange(h * w).reshape(h, w), np.zeros(h * w)
    pairs = [(index[:, :-1].ravel(), index[:, 1:].ravel()), (index[:-1].ravel(), index[1:].ravel())]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    np.add.at(degree, np.concatenate([a, b]), 0.25)
    side = sparse.coo_matrix((np.full(len(a), 0.25), (a, b)), (h * w, h * w))
    matrix = (sparse.diags(degree + screen) - side - side.T).tocsr()
    on = np.flatnonzero(free)
    result = np.zeros((h * w, channels))
    result[on] = spsolve(matrix[on][:, on].tocsc(), rhs.reshape(h * w, -1)[on].astype(float))
    return result.reshape(rhs.shape)


def mean4(e: np.ndarray) -> np.ndarray:
    around = np.pad(e, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4


def test_feather_is_the_float_formula_and_exact_at_both_ends() -> None:
    frame, over = (np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8) for i in (0, 1))
    alpha = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, 1)
    frame[:, :, 0] = np.arange(256)[None]  # every gray level under every alpha
    layer = np.dstack([(over * (alpha[..., None] / 255)).round().astype(np.uint8), alpha])
    got = frame.copy()
    feather(got, layer, (0, 0))
    wanted = layer[..., :3] + frame * (255.0 - alpha[..., None]) / 255
    assert np.abs(got - np.minimum(wanted, 255)).max() <= 0.5 + 1e-6
    assert (got[255] == layer[255, :, :3]).all()
    assert (got[0] == frame[0]).all()


def test_feather_saturates() -> None:
    frame = np.full((4, 4, 3), 250, np.uint8)
    feather(frame, np.full((4, 4, 4), 128, np.uint8), (0, 0))  # 128 + 250 * 127 / 255 = 252.5
    assert (np.abs(frame - 252.5) < 1).all()
    feather(frame, np.dstack([np.full((4, 4, 3), 200, np.uint8), np.full((4, 4), 128, np.uint8)]), (0, 0))
    assert (frame == 255).all()


@pytest.mark.parametrize("kind", ["ring", "poisson", "poisson with source"])
@pytest.mark.parametrize(("ground", "own"), [(255, 250), (0, 5)])
def test_corrections_saturate(kind: str, ground: int, own: int) -> None:
    """An object that its new ground pushes past white, or below black: never round to the other end."""
    mask = blob(60, 80)
    frame, photo = np.full((100, 120, 3), ground, np.uint8), np.full((60, 80, 3), 125, np.uint8)
    photo[mask > 0] = own
    photo[28:30, 38:44] = ground  # past the end by any correction
    got = apply(kind, frame, layer_of(photo, mask, soft=False), mask, photo, (20, 20))[20:80, 20:100]
    inside = got[mask > 0].astype(int)
    assert (np.abs(inside - ground) <= np.abs(own - ground)).all()
    assert (got[28:30, 38:44] == ground).all()


@every
def test_a_layer_of_alpha_0_changes_nothing(kind: str, pictures: tuple[np.ndarray, ...]) -> None:
    frame, photo, mask = pictures
    layer = np.zeros((*mask.shape, 4), np.uint8)
    for m in (mask, np.zeros_like(mask)):
        assert (apply(kind, frame, layer, m, photo, (40, 50)) == frame).all()


@every
@pytest.mark.parametrize("xy", [(-80, 60), (100, -65), (347, 60), (100, 175), (-80, -65), (426, 239), (-159, -129)])
def test_a_crop_half_outside(kind: str, xy: tuple[int, int], pictures: tuple[np.ndarray, ...]) -> None:
    frame, photo, mask = pictures
    layer = layer_of(photo, mask)
    got = apply(kind, frame, layer, mask, photo, xy)
    wide = cv2.copyMakeBorder(frame, 200, 200, 200, 200, cv2.BORDER_REPLICATE)
    over = apply("feather", wide, layer, mask, photo, (xy[0] + 200, xy[1] + 200))[200:-200, 200:-200]
    inside = np.zeros(frame.shape[:2], bool)
    inside[max(xy[1], 0) : xy[1] + 130, max(xy[0], 0) : xy[0] + 160] = True
    assert (got[~inside] == frame[~inside]).all()
    if kind == "feather":
        assert (got == over).all()
    elif kind == "ring":
        assert np.abs(got.astype(int) - over).max() <= 2 * blend.JUMP_LIMIT
    if 0 < xy[0] + 80 < 427 and 0 < xy[1] + 65 < 240:
        assert (got != frame).any()


@every
@pytest.mark.parametrize("xy", [(-160, 10), (427, 10), (10, -130), (10, 240), (5000, 5000)])
def test_a_crop_wholly_outside(kind: str, xy: tuple[int, int], pictures: tuple[np.ndarray, ...]) -> None:
    frame, photo, mask = pictures
    assert (apply(kind, frame, layer_of(photo, mask), mask, photo, xy) == frame).all()


@every
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (5, 7), (1, 1)])
def test_an_object_of_3_px(kind: str, shape: tuple[int, int], pictures: tuple[np.ndarray, ...]) -> None:
    frame, photo, _ = pictures
    h, w = shape
    mask = np.full(shape, 255, np.uint8)
    if h > 3:
        mask[:] = 0
        mask[2, 2:5] = 255
    source = np.ascontiguousarray(photo[:h, :w])
    for xy in ((30, 30), (0, 0), (426, 239), (-1, 0)):
        got = apply(kind, frame, layer_of(source, mask, soft=False), mask, source, xy)
        outside = np.ones(frame.shape[:2], bool)
        outside[max(xy[1], 0) : xy[1] + h, max(xy[0], 0) : xy[0] + w] = False
        assert (got[outside] == frame[outside]).all()


@pytest.mark.parametrize("kind", ["ring", "poisson", "poisson with source"])
def test_a_mask_that_fills_the_frame_keeps_its_colors(kind: str, pictures: tuple[np.ndarray, ...]) -> None:
    _, photo, mask = pictures
    frame = np.ascontiguousarray(255 - photo)
    full = np.full_like(mask, 255)
    assert (apply(kind, frame, layer_of(photo, full), full, photo, (0, 0)) == photo).all()
    larger = [cv2.resize(a, (300, 300)) for a in (photo, full)]
    got = apply(kind, frame, layer_of(*larger), larger[1], larger[0], (-60, -80))
    assert (got == larger[0][80:210, 60:220]).all()


@every
def test_the_same_again_whatever_was_done_between(kind: str, pictures: tuple[np.ndarray, ...]) -> None:
    frame, photo, mask = pictures
    layer = layer_of(photo, mask)
    first = apply(kind, frame, layer, mask, photo, (33, 44))
    for other in ("ring", "poisson"):  # other sizes in the buffers that are kept
        apply(other, frame, layer[::2, ::2].copy(), mask[::2, ::2].copy(), photo[::2, ::2].copy(), (7, 8))
        apply(other, frame, *(cv2.resize(a, (211, 190)) for a in (layer, mask, photo)), (7, 8))
    assert (apply(kind, frame, layer, mask, photo, (33, 44)) == first).all()


def test_ring_changes_only_the_band() -> None:
    photo = cv2.resize(sample_photo("cat").rgb_u8, (420, 400))
    frame = cv2.resize(sample_photo("coffee").rgb_u8, (700, 600))
    mask = np.zeros((400, 420), np.uint8)
    mask[70:330, 80:340] = 255
    layer = layer_of(photo, mask)
    xy = (100, 90)
    change = apply("ring", frame, layer, mask, photo, xy).astype(int) - apply("feather", frame, layer, mask, photo, xy)
    view = change[90:490, 100:520]
    far = cv2.distanceTransform(mask, cv2.DIST_C, 3) + cv2.distanceTransform(255 - mask, cv2.DIST_C, 3)
    assert not view[far > blend.BAND_PX + 1].any()
    assert np.abs(view).max() > blend.JUMP_LIMIT / 3
    view[:] = 0
    assert not change.any()


def test_ring_takes_away_the_step_that_the_ground_does_not_explain() -> None:
    """A gray object from a gray ground onto one that is 20 levels lighter: half the step on either side."""
    photo = np.full((120, 140, 3), 100, np.uint8)
    mask = np.zeros((120, 140), np.uint8)
    mask[:, :70] = 255
    frame = np.full((120, 140, 3), 120, np.uint8)
    got = apply("ring", frame, layer_of(photo, mask, soft=False), mask, photo, (0, 0))[60, :, 0].astype(int)
    assert abs(got[69] - 110) <= 1 and abs(got[70] - 110) <= 1
    assert abs(got[69 - 12] - 100 - 10 / np.e) <= 1 and abs(got[70 + 12] - 120 + 10 / np.e) <= 1
    assert got[0] == 100 and got[139] == 120
    # limited: grounds 120 apart move the colors no more than those 24 apart, and all channels alike
    frame[:] = (220, 160, 100)
    got = apply("ring", frame, layer_of(photo, mask, soft=False), mask, photo, (0, 0))[60, 69].astype(float) - 100
    half = blend.JUMP_LIMIT / 2
    assert np.abs(got - [half, half / 2, 0]).max() <= 1


@pytest.mark.parametrize("kind", ["ring", "poisson with source"])
def test_an_object_put_back_does_not_change(kind: str, pictures: tuple[np.ndarray, ...]) -> None:
    frame, _, mask = pictures
    source = np.ascontiguousarray(frame[50:180, 40:200])
    got = apply(kind, frame, layer_of(source, mask), mask, source, (40, 50))
    plain = apply("feather", frame, layer_of(source, mask), mask, source, (40, 50))
    assert (got == plain).all()
    assert np.abs(got.astype(int) - frame).max() <= 1


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("with_source", [False, True])
def test_poisson_is_the_exact_solution(clip: str, with_source: bool, data: Path) -> None:
    photo, mask = crop_of(data, clip)
    h, w = mask.shape
    frame = cv2.resize(sample_photo("coffee").rgb_u8, (w + 60, h + 50))
    for x, y in ((30, 20), (-w // 3, 20), (30, 50 + h // 4)):  # inside, and cut off by the frame's border
        got = apply("poisson with source" if with_source else "poisson", frame, layer_of(photo, mask, soft=False), mask,
                    photo, (x, y))  # fmt: skip
        rows, columns = slice(max(-y, 0), min(h, h + 50 - y)), slice(max(-x, 0), min(w, w + 60 - x))
        under = frame[y + rows.start : y + rows.stop, x + columns.start : x + columns.stop].astype(float)
        photo_, inside = photo[rows, columns], mask[rows, columns] > 0
        plus = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        if with_source:
            free = inside
            fixed = (cv2.dilate(inside.astype(np.uint8), plus) > 0) & ~inside
        else:
            # outside the crop is outside the mask, outside the frame is nowhere
            whole = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            canvas = np.full((h + 52, w + 62), 255, np.uint8)
            canvas[1:-1, 1:-1] = 0
            view = np.full_like(whole, 255)
            for i in range(h + 2):
                for j in range(w + 2):
                    if 0 <= y + i - 1 < h + 50 and 0 <= x + j - 1 < w + 60:
                        view[i, j] = whole[i, j]
            free = (cv2.erode(view, plus)[1:-1, 1:-1] > 0)[rows, columns] & inside
            fixed = inside & ~free
        known = np.where(fixed[..., None], under - photo_, 0)
        wanted = known + exact(np.where(free[..., None], mean4(known), 0), free)
        composite = np.clip(np.where(inside[..., None], photo_ + wanted, under), 0, 255)
        view_ = got[y + rows.start : y + rows.stop, x + columns.start : x + columns.stop]
        error = np.abs(view_ - composite)[inside]
        print(clip, with_source, (x, y), error.mean(), error.max())
        assert error.mean() < 0.5 and error.max() < 6


def test_poisson_of_a_mask_that_fills_its_crop(pictures: tuple[np.ndarray, ...]) -> None:
    """An object that the image cut off, put in the middle of a frame: the crop's edge is its border."""
    frame, photo, mask = pictures
    full = np.full_like(mask, 255)
    got = apply("poisson", frame, layer_of(photo, full), full, photo, (40, 50))[50:180, 40:200].astype(int)
    under = frame[50:180, 40:200]
    rim = np.ones(mask.shape, bool)
    rim[1:-1, 1:-1] = False
    assert np.abs(got - under)[rim].max() <= 1
    assert np.abs(got - photo)[rim].mean() > 10


@pytest.mark.parametrize("kind", ["poisson", "poisson with source"])
def test_poisson_moves_the_soft_border_like_the_object(kind: str) -> None:
    mask = blob(80, 90)
    photo, frame = np.full((80, 90, 3), 60, np.uint8), np.full((120, 130, 3), 100, np.uint8)
    layer = layer_of(photo, mask)
    assert (layer[..., 3][mask == 0] > 60).any()
    # 60 on a ground of 60, now on one of 100: all of it becomes 100
    assert np.abs(apply(kind, frame, layer, mask, photo, (20, 20)).astype(int) - 100).max() <= 3


def test_membrane_is_the_exact_solution_on_thin_and_broken_shapes() -> None:
    rng = np.random.default_rng(0)
    free = np.zeros((90, 131), np.uint8)
    free[5:80, 5:9] = free[5:9, 5:120] = free[40:85, 60:125] = 1
    free[50:60, 70:90] = 0
    fixed = cv2.dilate(free, np.ones((3, 3), np.uint8)) - free
    values = (rng.normal(size=(90, 131, 3)) * 40 * fixed[..., None]).astype(np.float32)
    wanted = values + exact(mean4(values) * free[..., None], free)
    error = np.abs(membrane(values.copy(), fixed, free) - wanted)
    assert error.mean() < 0.1 and error.max() < 1


def test_screened_is_near_the_exact_solution(pictures: tuple[np.ndarray, ...]) -> None:
    """The right-hand side of a seam: a jump across every border pixel."""
    _, _, mask = pictures
    border = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
    jump = np.random.default_rng(0).normal(20, 4, (*mask.shape, 3)) * border[..., None]
    rhs = mean4(jump) * (mask > 0)[..., None] - jump * mean4((mask > 0)[..., None].astype(float))
    free = np.zeros_like(mask)
    free[1:-1, 1:-1] = 1
    wanted = exact(rhs, free, 0.25 / 12**2)
    error = np.abs(screened(rhs.astype(np.float32), 12.0, (True,) * 4) - wanted)
    print(error.mean(), error.max(), np.abs(wanted).max())
    assert error.mean() < 0.01 * np.abs(wanted).max() * 2 and error.max() < 0.2 * np.abs(wanted).max()


def test_poisson_is_faster_than_opencv(pictures: tuple[np.ndarray, ...]) -> None:
    photo = cv2.resize(sample_photo("cat").rgb_u8, (300, 250))
    frame = cv2.resize(sample_photo("coffee").rgb_u8, (854, 480))
    mask = blob(250, 300)
    layer = layer_of(photo, mask)
    ours, theirs = [], []
    for _ in range(5):
        start = time.process_time()
        poisson(frame.copy(), layer, mask, (200, 100))
        middle = time.process_time()
        cv2.seamlessClone(photo, frame, mask, (350, 225), cv2.NORMAL_CLONE)
        ours, theirs = [*ours, middle - start], [*theirs, time.process_time() - middle]
    assert np.median(ours) < np.median(theirs)


def test_arrays_of_another_shape_are_refused() -> None:
    frame, layer = np.zeros((20, 20, 3), np.uint8), np.zeros((8, 8, 4), np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    with pytest.raises(DataError, match="RGBA"):
        feather(frame, layer[..., :3], (0, 0))
    with pytest.raises(DataError, match="uint8"):
        feather(frame.astype(np.float32), layer, (0, 0))
    with pytest.raises(DataError, match="source"):
        poisson(frame, layer, mask[:7], (0, 0))
    with pytest.raises(DataError, match="source"):
        ring(frame, layer, mask, np.zeros((8, 7, 3), np.uint8), (0, 0))
