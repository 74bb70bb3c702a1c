"""Cutting out, light, encoding, the spoiled mask, seeds from data sets, scenes, gates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data.masks import voc_palette
from handful.errors import DataError
from handful.lucid import gates, light
from handful.lucid.clip import Dream
from handful.lucid.corrupt import corrupted
from handful.lucid.cut import PAD_PX, cut, matte, uncontaminated
from handful.lucid.encode import jpeg, png
from handful.lucid.scenes import items_of, scene
from handful.lucid.seed import Seed, first_frames, seeds_of
from handful.lucid.settings import PRESETS, Settings
from handful.types import Mask, Object, Sample
from tests.conftest import save
from tests.lucid.made import ids, photo, seed

RED, BLUE = np.array([230, 30, 30]), np.array([30, 60, 220])


def mixed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red disk on blue with a lens's soft border: image, mask, true alpha."""
    mask = ids((120, 80, 40, 40)) > 0
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.rint(alpha * RED + (1 - alpha) * BLUE).astype(np.uint8), mask, alpha[..., 0]


def test_the_color_from_behind_is_taken_out() -> None:
    rgb, mask, _ = mixed()
    behind = np.broadcast_to(BLUE, rgb.shape).astype(np.uint8)
    found = cut(rgb, mask.astype(np.uint8), mask, behind)
    alpha = found.rgba_u8[..., 3].astype(int)
    seen = alpha > 25
    color = found.rgba_u8[..., :3][seen].astype(int) * 255 / alpha[seen, None]
    assert np.abs(color - RED).max() < 40
    # the same border with the image's own colors is far bluer
    top, left = found.xy[::-1]
    plain = rgb[top : top + alpha.shape[0], left : left + alpha.shape[1]][seen]
    assert np.abs(plain.astype(int) - RED).max() > 100


def test_the_matte_is_soft_only_at_the_border() -> None:
    rgb, mask, alpha = mixed()
    found = matte(rgb, mask.astype(np.uint8) * 255)
    deep = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    far = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
    assert (found[deep] == 255).all() and (found[far] == 0).all()
    assert 0 < ((found > 0) & (found < 255)).sum() < 1500
    assert np.abs(found / 255 - alpha).mean() < 0.01
    # as an area it is the mask's
    assert abs(found.sum() / 255 - mask.sum()) < 0.02 * mask.sum()


def test_one_pixel_thick_things_keep_a_color() -> None:
    rgb = np.full((40, 40, 3), 20, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    cv2.line(mask, (5, 5), (30, 34), 255, 1)
    rgb[mask > 0] = 200
    color = uncontaminated(rgb, np.full_like(rgb, 20), mask, matte(rgb, mask))
    assert (color[mask > 0] > 150).all()


def test_a_cutout_goes_on_past_the_photo_and_nowhere_else() -> None:
    made = ids((5, 80, 40, 40))
    found = cut(photo(), made, made > 0, photo())
    assert found.touches == (True, False, False, False) and found.xy == (-PAD_PX, 80 - 40 - PAD_PX)
    assert (found.mask_u8[:, 0] == found.mask_u8[:, PAD_PX]).all() and found.mask_u8[:, 0].any()
    assert not found.mask_u8[0].any() and not found.mask_u8[-1].any() and not found.mask_u8[:, -1].any()
    assert found.mask_u8[PAD_PX:-PAD_PX, PAD_PX:-PAD_PX].astype(bool).sum() == (made > 0).sum()


def test_ids_go_on_past_the_border() -> None:
    made = ids((100, 80, 30, 30))
    made[:, 100:][made[:, 100:] > 0] = 9
    found = cut(photo(), made, made > 0, photo())
    assert set(np.unique(found.ids)) == {1, 9}
    assert found.ids[found.ids.shape[0] // 2, 0] == 1 and found.ids[found.ids.shape[0] // 2, -1] == 9


def test_light_keeps_grey_grey_and_hue_hue() -> None:
    curve = np.array([1.03, 0.8, 0.05, 0.97, 1.2, -0.05])
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    assert np.ptp(light.relit(grey, curve).astype(int), axis=2).max() <= 1
    rgb = photo()
    before, after = (cv2.cvtColor(a, cv2.COLOR_RGB2HSV_FULL).astype(int) for a in (rgb, light.relit(rgb, curve)))
    vivid = (before[..., 1] > 60) & (before[..., 2] > 60)
    turned = np.abs((after[..., 0] - before[..., 0] + 128) % 256 - 128)
    assert np.median(turned[vivid]) <= 1 and np.quantile(turned[vivid], 0.99) <= 6
    x = np.linspace(0.2, 1, 50)
    table = light.table(curve)[0] / 255
    at = np.rint(x * 255).astype(int)
    assert np.allclose(table[at, 1], np.clip(1.03 * x**0.8 + 0.05, 0, 1), atol=0.006)
    assert np.allclose(table[at, 2], np.clip(0.97 * x**1.2 - 0.05, 0, 1), atol=0.006)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_light_stays_in_its_range_and_drifts_slowly(name: str) -> None:
    ranges = PRESETS[name]
    bound = np.array([ranges.gain, ranges.power, ranges.lift] * 2)
    made = np.stack([light.curves(np.random.default_rng(k), 40, ranges) - light.UNCHANGED for k in range(50)])
    assert (np.abs(made) <= bound + 1e-9).all() and (np.abs(made).max((0, 1)) > 0.7 * bound).all()
    assert (np.abs(np.diff(made, axis=1)) <= light.TURN * bound + 1e-9).all()
    assert (np.ptp(made, axis=1) > 0).all()


def test_a_streak_is_a_line_of_the_right_length() -> None:
    assert light.streak(1.0, 0.3) is None
    for length, angle in ((9.0, 0.0), (20.0, 0.7), (500.0, 2.0)):
        kernel = light.streak(length, angle)
        assert kernel is not None and abs(kernel.sum() - 1) < 1e-5
        y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        assert abs((kernel * along**2).sum() ** 0.5 - min(length, 63) / 12**0.5) < 0.6
        assert (kernel * across**2).sum() < 0.5


def test_noise_has_the_strength_it_should() -> None:
    tile = light.noise_tile(np.random.default_rng(0), (240, 160), 5.0)
    grey = np.full((160, 240, 3), 128, np.uint8)
    assert abs(light.noisy(grey, tile, (3, 9)).astype(float).std() - 5) < 0.1
    assert light.noisy(np.full_like(grey, 254), tile, (0, 0)).max() == 255  # not wrapped round


def test_files_say_what_was_put_in(tmp_path: Path) -> None:
    made = ids((60, 80, 30, 30), (160, 80, 30, 30))
    made[:5] = 255
    (tmp_path / "a.png").write_bytes(png(made))
    with PIL_Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P" and np.array_equal(np.asarray(picture), made)
        assert bytes(picture.getpalette() or [])[: 3 * 256] == voc_palette()
    assert png(made) == png(made.copy())
    (tmp_path / "b.png").write_bytes(png(made.astype(np.uint16) * 200))
    with PIL_Image.open(tmp_path / "b.png") as picture:
        assert np.array_equal(np.asarray(picture), made.astype(np.uint16) * 200)
    (tmp_path / "c.jpg").write_bytes(jpeg(photo(), 95))
    with PIL_Image.open(tmp_path / "c.jpg") as picture:
        assert np.abs(np.asarray(picture).astype(int) - photo()).mean() < 3  # RGB, not BGR


def test_the_spoiled_mask_is_near_the_true_one() -> None:
    made = ids((60, 80, 30, 30), (170, 80, 40, 30))
    found = [corrupted(made, np.random.default_rng(k)) for k in range(40)]
    assert all(set(np.unique(f)) == {0, 1, 2} for f in found)
    overlap = np.array([((f == 2) & (made == 2)).sum() / ((f == 2) | (made == 2)).sum() for f in found])
    assert overlap.min() > 0.45 and 0.6 < overlap.mean() < 0.85 and overlap.std() > 0.01
    assert np.mean([(f == 2).sum() for f in found]) > 1.15 * (made == 2).sum()  # thickened
    shift = np.array([np.argwhere(f == 2).mean(0) - np.argwhere(made == 2).mean(0) for f in found])
    assert np.abs(shift).max() < 0.15 * 80 and np.abs(shift).mean() > 0.5
    assert np.array_equal(corrupted(np.zeros_like(made), np.random.default_rng(0)), np.zeros_like(made))


def outline(*points: tuple[float, float]) -> tuple[np.ndarray, ...]:
    return (np.array(points, float),)


def test_seeds_of_objects_masks_and_films(tmp_path: Path) -> None:
    path = save(photo(), tmp_path / "a.jpg")
    box = outline((20, 20), (80, 20), (80, 90), (20, 90))
    crowd = outline((0, 0), (40, 0), (40, 40), (0, 40))
    both = (Object("cat", polygons_px=box), Object("cat", polygons_px=crowd, crowd=True), Object("dog", (1, 1, 5, 5)))
    mask = Mask(ids((60, 80, 30, 30)))
    samples = [
        Sample(path, name="a.jpg", split="train", objects=both),
        Sample(path, name="b.jpg", mask=lambda: mask),
        Sample(path, name="c.jpg", objects=()),
        Sample(path, name="f/0.jpg", mask=lambda: mask, clip="f", frame=0),
        Sample(path, name="f/1.jpg", mask=lambda: mask, clip="f", frame=1),
    ]
    found = {ref.id: ref.load() for ref in seeds_of(first_frames(samples))}
    assert list(found) == ["train/a.jpg", "b.jpg", "f/0.jpg"]
    a = found["train/a.jpg"]
    assert a.whole and set(np.unique(a.ids)) == {0, 1, 255}
    assert a.ids[50, 50] == 1 and a.ids[30, 30] == 1 and a.ids[5, 5] == 255  # objects lie over crowds
    assert not found["b.jpg"].whole and found["f/0.jpg"].whole


def test_three_hundred_objects_need_larger_ids(tmp_path: Path) -> None:
    path = save(photo(), tmp_path / "a.jpg")
    things = tuple(
        Object("x", polygons_px=outline((x, y), (x + 8, y), (x + 8, y + 5), (x, y + 5)))
        for y in range(0, 150, 8) for x in range(0, 200, 12)
    )  # fmt: skip
    (ref,) = seeds_of([Sample(path, name="a.jpg", objects=things[:300])])
    assert ref.load().ids.dtype == np.uint16 and ref.load().ids.max() == 300


def test_scenes_have_exact_boxes() -> None:
    rng = np.random.default_rng(0)
    items = items_of(seed((60, 80, 30, 30), (170, 70, 40, 30)), {1: 7, 2: 8}, rng=rng)
    assert [item.label for item in items] == [7, 8]
    base = seed((120, 80, 20, 20), rgb=np.full((160, 240, 3), 90, np.uint8))
    counts = []
    for _ in range(20):
        made = scene(base, items, rng=rng, base_labels={1: 3}, count=(2, 6))
        counts.append(len(made.boxes.label))
        for i, (left, top, right, bottom) in enumerate(made.boxes.xyxy_px.astype(int)):
            rows, columns = np.nonzero(made.ids == i + 1)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
        assert set(np.unique(made.ids)) <= set(range(len(made.boxes.label) + 1))
        assert (made.visible > 0.3).all() and (made.visible <= 1).all()
        assert set(made.boxes.label.tolist()) <= {3, 7, 8}
        assert np.abs(made.rgb_u8[made.ids == 0].astype(int) - 90).mean() < 12
    assert max(counts) >= 4 and min(counts) < max(counts)
    assert (made.boxes.label != 3).any() and np.ptp(made.boxes.xyxy_px[:, 2] - made.boxes.xyxy_px[:, 0]) > 3


def test_scenes_put_cut_off_objects_where_the_frame_cuts_them() -> None:
    rng = np.random.default_rng(1)
    items = items_of(seed((120, 150, 40, 50)), rng=rng)
    for _ in range(10):
        made = scene(photo(), items, rng=rng, count=(1, 1))
        assert (made.boxes.xyxy_px[:, 3] == 160).all()


def test_scenes_of_nothing() -> None:
    with pytest.raises(DataError, match="at least one object"):
        scene(photo(), [], rng=np.random.default_rng(0))
    touching = ids((100, 80, 30, 30))
    touching[:, 100:][touching[:, 100:] > 0] = 2
    assert items_of(Seed("a", photo(), touching), rng=np.random.default_rng(0)) == []


def gated(dream: Dream, change=None) -> dict[str, dict[str, object]]:  # type: ignore[no-untyped-def]
    rows = []
    for t in range(len(dream)):
        frame = dream.frame(t)
        rows.append(gates.measured(dream, t, frame if change is None else change(frame, dream, t)))
    return {g["gate"]: g for g in gates.summary(rows)["gates"]}


def test_good_dreams_pass_every_gate() -> None:
    result = gated(Dream(seed(), Settings(frames=6, fill="telea")))
    assert [name for name, gate in result.items() if not gate["ok"]] == []
    assert all(gate["value"] is not None for gate in result.values())


def _replaced(frame, **what):  # type: ignore[no-untyped-def]
    import dataclasses

    return dataclasses.replace(frame, **what)


def halo(frame, dream, t):  # type: ignore[no-untyped-def]
    line = cv2.morphologyEx((frame.ids > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    rgb = frame.rgb_u8.copy()
    rgb[line] = 255
    return _replaced(frame, rgb_u8=rgb)


def shifted(frame, dream, t):  # type: ignore[no-untyped-def]
    return _replaced(frame, ids=np.roll(frame.ids, 8, 1))


def gone(frame, dream, t):  # type: ignore[no-untyped-def]
    return _replaced(frame, ids=np.zeros_like(frame.ids))


def stray(frame, dream, t):  # type: ignore[no-untyped-def]
    found = frame.ids.copy()
    found[3, 3] = 9
    return _replaced(frame, ids=found)


def small(frame, dream, t):  # type: ignore[no-untyped-def]
    return _replaced(
        frame, ids=frame.ids * (np.arange(frame.ids.shape[1]) < np.nonzero(frame.ids)[1].mean() - 15).astype(np.uint8)
    )


def bright(frame, dream, t):  # type: ignore[no-untyped-def]
    rgb = np.where((frame.ids > 0)[..., None], 255, frame.rgb_u8 // 4).astype(np.uint8)
    return _replaced(frame, rgb_u8=rgb)


@pytest.mark.parametrize(
    ("change", "gate"),
    [(halo, "halo"), (shifted, "warped_j"), (gone, "empty"), (stray, "stray_ids"), (small, "area_ratio"),
     (bright, "border_step")],
)  # fmt: skip
def test_every_gate_can_close(change, gate: str) -> None:  # type: ignore[no-untyped-def]
    assert not gated(Dream(seed(), Settings(frames=6, fill="telea")), change)[gate]["ok"]


def test_a_film_that_stands_still_is_found() -> None:
    from tests.lucid.test_clip import still_light

    names = [n for n in PRESETS["paper"].__dict__ if n.startswith(("step_", "camera_step_", "bend"))]
    ranges = still_light("paper", **dict.fromkeys(names, 0.0))
    assert not gated(Dream(seed(), Settings(ranges=ranges, frames=4, fill="telea")))["near_duplicates"]["ok"]


def test_a_preview_shows_sheet_and_film(tmp_path: Path) -> None:
    import av

    from handful.lucid.preview import preview

    result = preview(Dream(seed(), Settings(frames=7, fill="telea")), tmp_path / "look")
    assert sorted(p.name for p in (tmp_path / "look").iterdir()) == ["gates.json", "preview.mp4", "sheet.jpg"]
    with PIL_Image.open(result["sheet"]) as sheet:
        assert sheet.size[0] > 700 and np.asarray(sheet).std() > 30
    with av.open(result["video"]) as film:
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    assert len(frames) == 7 and frames[0].shape == (160, 240, 3)
    assert np.abs(frames[0].astype(int) - Dream(seed(), Settings(frames=7, fill="telea")).frame(0).rgb_u8).mean() < 8
    assert result["gates"]["measured_frames"] == 6
