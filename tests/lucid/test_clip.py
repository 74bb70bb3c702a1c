"""Films: exact masks and flow, any frame by itself, nothing that the seed does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from handful.errors import DataError, HandfulError
from handful.lucid.clip import Dream, frame_of
from handful.lucid.seed import Seed
from handful.lucid.settings import PRESETS, Ranges, Settings
from tests.conftest import ROOT
from tests.lucid.made import ids, photo, seed, smooth

DARK = {"gain": 0.0, "power": 0.0, "lift": 0.0, "noise": 0.0, "jpeg": 100, "shutter": 0.0, "object_light": 0.0}
FAST = Settings(fill="telea-half", frames=8)


def border(ids: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8))


def still_light(name: str, **more: object) -> Ranges:
    return Ranges(**{**PRESETS[name].__dict__, **DARK, **more})  # type: ignore[arg-type]


def test_without_motion_the_film_is_the_photo() -> None:
    quiet = Ranges(**{**dict.fromkeys(Ranges.__dataclass_fields__, 0.0), "cover": True, "jpeg": 100})
    dream = Dream(seed(), Settings(ranges=quiet, frames=3, fill="telea-half"))
    for t in range(3):
        frame = dream.frame(t)
        assert np.array_equal(frame.ids, dream.seed.ids)
        off = np.abs(frame.rgb_u8.astype(int) - dream.seed.rgb_u8)
        border = cv2.morphologyEx((frame.ids > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8)) > 0
        hole = cv2.dilate((frame.ids > 0).astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
        assert off[~hole].max() <= 3  # hue has 256 steps in the light's lookup table
        assert off[(frame.ids > 0) & ~border].max() <= 3


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_same_seed_gives_the_same_film(name: str) -> None:
    settings = Settings(ranges=name, frames=6, fill="telea-half", previous=True)
    one, other = Dream(seed(), settings), Dream(seed(), settings)
    backwards = {t: other.frame(t) for t in reversed(range(6))}
    for t in range(6):
        frame = one.frame(t)
        assert np.array_equal(frame.rgb_u8, backwards[t].rgb_u8) and np.array_equal(frame.ids, backwards[t].ids)
        assert np.array_equal(frame.previous, backwards[t].previous)  # type: ignore[arg-type]
    assert not np.array_equal(one.frame(1).rgb_u8, Dream(seed(), Settings(ranges=name, seed=1)).frame(1).rgb_u8)
    assert not np.array_equal(one.frame(1).rgb_u8, Dream(seed(name="b.jpg"), settings).frame(1).rgb_u8)


def test_a_recipe_makes_the_frame_again_in_another_process(tmp_path: Path) -> None:
    made = seed((70, 80, 30, 30), (160, 80, 30, 40))
    settings = Settings(
        ranges=still_light("strong", noise=4.0), frames=9, blend="feather", fill="patchmatch", previous=True
    )
    recipe = Dream(made, settings).recipe(5)
    text = json.dumps(recipe)
    assert len(text) < 1000
    np.savez(tmp_path / "seed.npz", rgb=made.rgb_u8, ids=made.ids)
    code = (
        "import sys, json, hashlib, numpy as np\n"
        "from handful.lucid.seed import Seed\nfrom handful.lucid.clip import frame_of\n"
        "a = np.load(sys.argv[1]); f = frame_of(json.loads(sys.argv[2]), Seed('a.jpg', a['rgb'], a['ids']))\n"
        "print(hashlib.sha256(f.rgb_u8.tobytes() + f.ids.tobytes() + f.previous.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "seed.npz"), text]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    import hashlib

    frame = Dream(made, settings).frame(5)
    assert frame.previous is not None
    assert said == hashlib.sha256(frame.rgb_u8.tobytes() + frame.ids.tobytes() + frame.previous.tobytes()).hexdigest()


def test_recipes_of_presets_are_small_and_refuse_other_photos() -> None:
    recipe = Dream(seed(), FAST).recipe(3)
    assert len(json.dumps(recipe)) < 500
    with pytest.raises(DataError, match="another image or mask"):
        frame_of(recipe, seed(rgb=smooth()))
    with pytest.raises(DataError, match="another image or mask"):
        frame_of(recipe, seed((100, 80, 40, 30)))
    with pytest.raises(DataError, match="version 0"):
        frame_of({**recipe, "dream": 0}, seed())
    with pytest.raises(DataError, match="does not know"):
        frame_of({**recipe, "settings": {"wings": 2}}, seed())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_flow_takes_one_frame_to_the_next(name: str) -> None:
    """Pixels and ids at p + flow in the next frame are those at p, wherever that can be seen."""
    made = seed((80, 80, 30, 30), (170, 70, 25, 40), rgb=smooth())
    settings = Settings(ranges=still_light(name, occluder=0.0), frames=8, fill="telea-half")
    dream = Dream(made, settings)
    y, x = np.mgrid[0:160, 0:240].astype(np.float32)
    here = np.stack([x, y], -1)
    moved = 0.0
    for t in (0, 3, 6):
        frame = dream.frame(t, motion=True)
        for to, flow, seen in (
            (t + 1, frame.flow_forward, frame.visible_forward),
            (t - 1, frame.flow_backward, frame.visible_backward),
        ):
            if to < 0:
                continue
            other = dream.frame(to)
            assert flow is not None and seen is not None and flow.dtype == np.float32
            at = here + flow
            warped = cv2.remap(other.rgb_u8, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(int)  # type: ignore[call-overload]
            their = cv2.remap(other.ids, at, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
            assert (their[seen] == frame.ids[seen]).mean() > 0.999
            # away from borders in both frames, where the colors of two layers are mixed
            near = cv2.remap(border(other.ids), at, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
            inner = seen & (border(frame.ids) == 0) & (near == 0)
            off = np.abs(warped - frame.rgb_u8).max(-1)
            assert np.quantile(off[inner], 0.999) <= 3
            assert 0.5 < seen.mean() < 1.0
            moved = max(moved, float(np.abs(flow).max()))
    assert moved > 3


def test_flow_is_wrong_when_the_wrong_way_round() -> None:
    """The check above can tell: the same with flow and frame exchanged fails."""
    dream = Dream(seed(rgb=smooth()), Settings(ranges=still_light("strong"), frames=8, fill="telea-half"))
    frame, other = dream.frame(3, motion=True), dream.frame(4)
    y, x = np.mgrid[0:160, 0:240].astype(np.float32)
    assert frame.flow_backward is not None and frame.visible_forward is not None
    warped = cv2.remap(other.rgb_u8, np.stack([x, y], -1) + frame.flow_backward, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    off = np.abs(warped.astype(int) - frame.rgb_u8).max(-1)
    assert np.quantile(off[frame.visible_forward], 0.98) > 6


def test_flow_is_exact_between_positions_of_the_photo() -> None:
    """What is at p came from the same place of the image as what is at p + flow in the next frame."""
    dream = Dream(seed(), Settings(ranges=still_light("paper"), frames=6, fill="telea-half"))
    part = dream.parts[0]
    frame = dream.frame(2, motion=True)
    assert frame.flow_forward is not None
    rows, columns = np.nonzero(frame.ids)
    p = np.stack([columns, rows], -1).astype(float)
    photo_here = part.at(2).back(p)
    photo_there = part.at(3).back(p + frame.flow_forward[rows, columns])
    error = np.linalg.norm(photo_here - photo_there, axis=-1)
    assert error.max() < 0.3 and error.mean() < 0.02


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_ids_of_the_seed(name: str, dtype: type) -> None:
    many = ids((40, 40, 20, 20), (110, 40, 25, 20), (190, 60, 30, 40), (60, 120, 30, 20), dtype=dtype)
    many[:10, 200:] = np.iinfo(dtype).max
    many[many == 2] = 77
    made = Seed("a.jpg", photo(), many)
    dream = Dream(made, Settings(ranges=name, frames=8, fill="telea-half", previous=True))
    for t in range(8):
        frame = dream.frame(t)
        assert frame.ids.dtype == dtype and set(np.unique(frame.ids)) <= {0, 1, 3, 4, 77, np.iinfo(dtype).max}
        assert frame.previous is not None and set(np.unique(frame.previous)) <= {0, 1, 3, 4, 77}


def test_the_mask_fits_the_pixels() -> None:
    """A bright object on a dark image: what is bright in a frame is what the mask says."""
    mask = ids((120, 80, 40, 30))
    rgb = np.full((160, 240, 3), 30, np.uint8)
    rgb[mask > 0] = 220
    for name in ("paper", "released"):
        dream = Dream(Seed("a", rgb, mask), Settings(ranges=still_light(name), frames=10, fill="telea"))
        for t in range(10):
            frame = dream.frame(t)
            wrong = (frame.rgb_u8[..., 0] > 125) != (frame.ids > 0)
            border = cv2.morphologyEx(frame.ids, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
            assert not (wrong & ~border).any() and wrong.sum() <= 0.15 * border.sum()


def test_no_ghost_where_the_object_was() -> None:
    """Nothing of the object stays behind: neither in the hole nor around the cut-out."""
    mask = ids((70, 80, 30, 30))
    rgb = np.full((160, 240, 3), 60, np.uint8)
    rgb[mask > 0] = (250, 40, 40)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 1.2)  # as any lens mixes the two at the border
    ranges = still_light("released", anywhere=1.0, flip=0.0, flip_background=0.0)
    for number in range(6):
        dream = Dream(Seed("a", rgb, mask), Settings(ranges=ranges, frames=2, fill="telea", seed=number))
        frame = dream.frame(1)
        near = cv2.dilate(frame.ids, np.ones((5, 5), np.uint8)) > 0
        red = frame.rgb_u8[..., 0].astype(int) - frame.rgb_u8[..., 1]
        assert np.abs(red[~near]).max() <= 12


@pytest.mark.parametrize(
    ("ellipse", "side"),
    [
        ((120, 150, 40, 40), "bottom"),
        ((5, 80, 40, 40), "left"),
        ((235, 80, 30, 50), "right"),
        ((120, 5, 50, 30), "top"),
    ],
)
def test_a_cut_off_object_stays_at_its_side(ellipse: tuple[int, ...], side: str) -> None:
    """Where the image cuts an object off, its cut edge would hang in the air if it moved away from the border."""
    made = seed(ellipse)
    ranges = still_light("strong", leave=0.0, occluder=0.0, flip=0.0)
    for number in range(4):
        dream = Dream(made, Settings(ranges=ranges, frames=10, fill="telea-half", seed=number))
        for t in range(10):
            found = dream.frame(t).ids
            edge = {"bottom": found[-1], "left": found[:, 0], "right": found[:, -1], "top": found[0]}[side]
            assert edge.any() or not found.any()
            # the cut runs along the whole border: a straight edge inside the frame would be a row that ends at once
            part = dream.parts[0]
            line = {"bottom": 159, "left": 0, "right": 239, "top": 0}[side]
            axis = 0 if side in ("left", "right") else 1
            cut = np.argwhere(made.ids[:, line] if axis == 0 else made.ids[line])[:, 0]
            points = np.stack([np.full(len(cut), line), cut] if axis == 0 else [cut, np.full(len(cut), line)], -1)
            places = part.at(t).forth(points.astype(float))[:, axis]
            assert (places <= 0.1).all() if side in ("left", "top") else (places >= line - 0.1).all()


def test_touching_objects_move_together() -> None:
    both = ids((100, 80, 30, 30))
    both[:, 100:][both[:, 100:] > 0] = 2
    apart = ids((60, 80, 30, 30), (180, 80, 30, 30))
    assert len(Dream(Seed("a", photo(), both), FAST).parts) == 1
    assert len(Dream(Seed("a", photo(), apart), FAST).parts) == 2
    same = (apart > 0).astype(np.uint8)
    assert len(Dream(Seed("a", photo(), same, whole=True), FAST).parts) == 1
    assert len(Dream(Seed("a", photo(), same, whole=False), FAST).parts) == 2


def test_near_objects_cover_far_ones() -> None:
    made = ids((120, 60, 50, 40), (60, 130, 30, 20))
    dream = Dream(Seed("a", photo(), made), FAST)
    assert [part.depth for part in dream.parts] == sorted(part.depth for part in dream.parts)
    assert dream.parts[-1].cutout.xy[1] > dream.parts[0].cutout.xy[1]


def test_objects_leave_and_come_back() -> None:
    ranges = still_light("paper", leave=1.0, flip=0.0)
    sizes = np.array([(f.ids > 0).sum() for d in [Dream(seed(), Settings(ranges=ranges, frames=20, fill="telea-half"))]
                      for f in map(d.frame, range(20))])  # fmt: skip
    assert sizes[0] > 1000 and sizes[-1] > 1000 and (sizes == 0).any()


def test_something_passes_in_front() -> None:
    ranges = still_light("paper", occluder=1.0, flip=0.0)
    dream = Dream(seed(), Settings(ranges=ranges, frames=21, fill="telea-half"))
    without = Dream(seed(), Settings(ranges=still_light("paper", flip=0.0), frames=21, fill="telea-half"))
    hidden = np.array([((without.frame(t).ids > 0) & (dream.frame(t).ids == 0)).sum() for t in range(21)])
    assert dream.parts[-1].label == 0 and hidden.max() > 300 and hidden[[0, -1]].max() < hidden.max() / 2


def test_objects_that_stay_keep_their_ids_and_pixels() -> None:
    made = seed((60, 80, 30, 30), (180, 80, 30, 30))
    ranges = Ranges(**{**still_light("paper").__dict__, "still": 0.999, "flip": 0.0, "camera_step_shift": 0.0,
                       "camera_step_turn": 0.0, "camera_step_scale": 0.0})  # fmt: skip
    dream = Dream(made, Settings(ranges=ranges, frames=4, fill="telea-half"))
    assert len(dream.parts) == 1
    stays = 3 - dream.parts[0].cutout.ids.max()
    frame = dream.frame(3)
    at = (made.ids == stays) & (frame.ids == stays)
    assert at.sum() > 0.9 * (made.ids == stays).sum()
    assert np.abs(frame.rgb_u8.astype(int) - made.rgb_u8)[at].max() <= 3


def test_forty_objects() -> None:
    places = [(15 + 29 * (i % 8), 16 + 30 * (i // 8), 9, 9) for i in range(40)]
    dream = Dream(seed(*places), Settings(frames=4, fill="telea-half"))
    assert len(dream.parts) == 40 and len(np.unique(dream.frame(3).ids)) > 25


def test_grey_stays_grey() -> None:
    grey = np.repeat(photo()[..., :1], 3, axis=2)
    frame = Dream(seed(rgb=grey), Settings(ranges="released", fill="telea", frames=3)).frame(2)
    assert np.ptp(frame.rgb_u8.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("blend", ["feather", "ring", "poisson"])
@pytest.mark.parametrize("fill", ["auto", "telea", "telea-half", "patchmatch"])
def test_every_way_to_fill_and_blend(blend: str, fill: str) -> None:
    frame = Dream(seed((110, 150, 50, 60)), Settings(blend=blend, fill=fill, frames=2)).frame(1)
    assert frame.rgb_u8.shape == (160, 240, 3) and frame.rgb_u8.dtype == np.uint8 and (frame.ids > 0).any()


BAD = [
    (lambda: Seed("x.jpg", photo(), np.zeros((160, 240), np.uint8)), "x.jpg: the mask is empty"),
    (lambda: Seed("x.jpg", photo(), np.full((160, 240), 255, np.uint8)), "x.jpg: the mask is empty"),
    (lambda: Seed("x.jpg", photo(), np.ones((160, 240), np.uint8)), "covers the whole image"),
    (lambda: Seed("x.jpg", photo(), np.ones((80, 240), np.uint8)), "the mask is 240x80 px and the image 240x160"),
    (lambda: Seed("x.jpg", photo()[..., 0], ids((50, 50, 9, 9))), "must be uint8"),
    (lambda: Seed("x.jpg", photo(), ids((50, 50, 9, 9)).astype(np.int64)), "must be uint8 or uint16"),
    (lambda: Seed("x.jpg", photo(6, 6), ids((3, 3, 1, 1), width=6, height=6)), "wanted sides of 8"),
    (lambda: Dream(seed((50, 50, 2, 1))), "largest object has 7 px; wanted at least 64"),
    (lambda: Dream(seed(), Settings(max_px=10_000)), r"240x160 px would take about .* GiB .* --max-side 100"),
    (lambda: Settings(ranges="papers"), "did you mean 'paper'"),
    (lambda: Settings(blend="fether"), "did you mean 'feather'"),
    (lambda: Settings(fill="tela"), "did you mean 'telea'"),
    (lambda: Settings(frames=0), "1 to 100,000 frames"),
    (lambda: Ranges(bend=float("nan")), "bend must be a number from 0"),
    (lambda: Ranges(step_turn=-1), "step_turn must be a number from 0"),
    (lambda: Ranges(far_scale=0.99), "must stay below"),
]


@pytest.mark.parametrize(("make", "why"), BAD)
def test_bad_input(make, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HandfulError, match=why):
        make()


def test_a_mask_that_touches_every_border() -> None:
    cross = np.zeros((160, 240), np.uint8)
    cross[70:90], cross[:, 100:140] = 1, 1
    frame = Dream(Seed("a", photo(), cross), FAST).frame(5)
    assert (
        (frame.ids > 0).any() and frame.ids[80, 0] and frame.ids[80, -1] and frame.ids[0].any() and frame.ids[-1].any()
    )


def test_large_photos_are_shrunk_when_asked() -> None:
    dream = Dream(seed(), Settings(max_side_px=120, max_px=10_000, frames=2, fill="telea"))
    assert dream.frame(0).rgb_u8.shape == (80, 120, 3) and set(np.unique(dream.frame(0).ids)) == {0, 1}


def test_settings_there_and_back() -> None:
    for settings in (Settings(), Settings(ranges=still_light("strong"), frames=7, seed=3, previous=True)):
        assert Settings.of(json.loads(json.dumps(settings.as_dict()))) == settings


def test_frames_outside_the_film() -> None:
    with pytest.raises(IndexError, match="frame 8 of a clip of 8"):
        Dream(seed(), FAST).frame(8)


def paint_black(rgb_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return np.where(hole[..., None], np.uint8(0), rgb_u8)


def test_an_inpainter_of_ones_own() -> None:
    dream = Dream(seed(), FAST, inpaint=paint_black)
    assert not dream.background_u8[80, 110 if not dream.flipped[0] else 129].any()
    recipe = json.loads(json.dumps(dream.recipe(2)))
    again = frame_of(recipe, seed(), inpaint=paint_black)
    assert np.array_equal(again.rgb_u8, dream.frame(2).rgb_u8)
    with pytest.raises(DataError, match="filled by paint_black; none was given"):
        frame_of(recipe, seed())
    with pytest.raises(DataError, match="written without one"):
        frame_of(Dream(seed(), FAST).recipe(2), seed(), inpaint=paint_black)
    with pytest.raises(DataError, match="inpainter"):
        Dream(seed(), FAST, inpaint=lambda rgb, hole: rgb[:10])


def test_a_place_anywhere_is_inside_the_frame() -> None:
    places = []
    for number in range(30):
        made = Settings(ranges=still_light("released", start_scale=0.0), frames=1, fill="telea-half", seed=number)
        found = Dream(seed(), made).ids_at(0)
        places.append(np.argwhere(found).mean(0))
        assert (found > 0).sum() > 0.8 * (seed().ids > 0).sum()
    assert (np.ptp(places, axis=0) > (50, 90)).all()
