"""Every way to masks keeps the contract; where a mask lies in the image, to the pixel; the head and its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import handful.detection
from handful import plotting
from handful.data import formats
from handful.data.shapes import pixels_of
from handful.detection import masks_head
from handful.detection.irene import Irene
from handful.detection.masking import (
    Masker,
    best_method,
    box_patch,
    mask_iou,
    resample,
    threshold_patch,
    tight_patch,
    windows,
)
from handful.detection.masks_head import OUT_PX, Head, MaskNet, box_map, from_file
from handful.detection.train_mask_head import mask_quality, mask_samples
from handful.errors import DataError, UnknownName
from handful.files import read_tensors, sha256, write_json, write_tensors
from handful.pick import names, pick
from handful.results import Detections, Patch
from handful.types import Rle
from tests.bounds import SEED, bound
from tests.detection.test_irene import BARE, PROPOSERS, scene, taught

METHODS = names(handful.detection, "masks")
HERE = pytest.mark.skipif(not masks_head.available(), reason="the head's weights or EfficientNet-Lite0's are not here")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def maskers() -> dict[str, Masker]:
    there = {name: pick(handful.detection, "masks", name) for name in METHODS}
    return {name: module.load() for name, module in there.items() if module.available()}


def disc(size_wh: tuple[int, int], centre: tuple[float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark ground, and its pixels."""
    y, x = np.mgrid[: size_wh[1], : size_wh[0]] + 0.5
    there = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    rng = np.random.default_rng(SEED)
    rgb = np.where(there[..., None], [220, 190, 40], [30, 60, 90]) + rng.normal(0, 6, (*there.shape, 3))
    return rgb.clip(0, 255).astype(np.uint8), there


def state_of(seed: int = 0) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    decoder = MaskNet(pretrained=False).decoder
    return {k: v.numpy().astype(np.float16) for k, v in decoder.state_dict().items() if v.dtype.is_floating_point}


# -- the contract ---------------------------------------------------------------------------------------------------


def test_the_ways_are_these() -> None:
    assert {"head", "grabcut", "none"} <= set(METHODS)
    assert best_method() == ("head" if masks_head.available() else "none")


@pytest.mark.parametrize("way", METHODS)
@pytest.mark.parametrize(
    ("size_wh", "boxes"),
    [
        ((90, 60), [[20, 10, 60, 50], [0, 0, 90, 60], [0, 0, 12, 9], [70.4, 40.7, 90, 60]]),
        ((90, 60), [[20, 10, 22, 12], [89.2, 59.1, 90, 60], [3.6, 3.6, 3.9, 3.9], [0, 30, 90, 31]]),
        ((8, 8), [[0, 0, 8, 8], [2, 2, 4, 4], [6, 0, 8, 8]]),
        ((1, 1), [[0, 0, 1, 1], [0.2, 0.2, 0.4, 0.9]]),
        ((300, 2), [[0, 0, 300, 2], [10, 0, 14, 1.5]]),
        ((50, 40), []),
    ],
)
def test_masks_lie_in_their_boxes(
    maskers: dict[str, Masker], way: str, size_wh: tuple[int, int], boxes: list[list[float]]
) -> None:
    if way not in maskers:
        pytest.skip(f"what {way} needs is not here")
    rgb, _ = disc(size_wh, (size_wh[0] / 2, size_wh[1] / 2), min(size_wh) / 3)
    given = np.array(boxes, np.float64).reshape(-1, 4)
    found = maskers[way].segment(rgb, given)
    assert len(found) == len(given)
    for one, box in zip(found, given, strict=True):
        left, top, right, bottom = one.box_px
        assert np.floor(box[0]) <= left < right <= np.ceil(box[2])
        assert np.floor(box[1]) <= top < bottom <= np.ceil(box[3])
        assert one.pixels[0].any() and one.pixels[-1].any() and one.pixels[:, 0].any() and one.pixels[:, -1].any()
        whole = one.whole(size_wh)
        assert whole.shape == size_wh[::-1] and whole.sum() == one.pixels.sum() > 0


@pytest.mark.parametrize("way", METHODS)
def test_the_same_again_whatever_else_is_asked(maskers: dict[str, Masker], way: str) -> None:
    if way not in maskers:
        pytest.skip(f"what {way} needs is not here")
    rgb, _ = disc((120, 90), (60, 45), 30)
    boxes = np.array([[28, 12, 92, 78], [5, 5, 70, 60], [40, 30, 119, 89.0]])
    one, again = maskers[way].segment(rgb, boxes), maskers[way].segment(rgb, boxes)
    alone = maskers[way].segment(rgb, boxes[1:2])[0]
    assert all(a.left_top == b.left_top and (a.pixels == b.pixels).all() for a, b in zip(one, again, strict=True))
    assert mask_iou(alone, one[1].whole((120, 90))) > 0.999
    assert {"name", "license", "trained_on", "params"} <= maskers[way].about.keys()


@pytest.mark.parametrize("way", METHODS)
@pytest.mark.parametrize("box", [[200, 10, 260, 50], [20, 20, 20, 40], [np.nan, 0, 10, 10], [0, 0, np.inf, 10]])
def test_a_box_that_is_none(maskers: dict[str, Masker], way: str, box: list[float]) -> None:
    if way not in maskers:
        pytest.skip(f"what {way} needs is not here")
    with pytest.raises(DataError, match="lies outside the image of 90x60 px, or has no area"):
        maskers[way].segment(np.zeros((60, 90, 3), np.uint8), np.array([[1, 1, 5, 5], box], np.float64))


@pytest.mark.parametrize(("way", "least"), [("head", 0.9), ("grabcut", 0.95)])
def test_a_disc_is_cut_out(maskers: dict[str, Masker], way: str, least: float) -> None:
    if way not in maskers:
        pytest.skip(f"what {way} needs is not here")
    rgb, there = disc((160, 120), (70, 60), 36)
    box = np.array([[34, 24, 106, 96.0]])
    assert least > mask_iou(maskers["none"].segment(rgb, box)[0], there)
    larger, there_too = (np.repeat(np.repeat(one, 5, 0), 5, 1) for one in (rgb, there))
    found = (
        mask_iou(maskers[way].segment(rgb, box)[0], there),
        mask_iou(maskers[way].segment(larger, box * 5)[0], there_too),
    )
    if way == "head":
        bound("masks: IoU of a disc, by the head", min(found), at_least=0.9)
    else:
        assert min(found) >= 0.95, found  # nothing is learned here


# -- where it lies --------------------------------------------------------------------------------------------------


def test_what_is_placed_is_exact_to_the_pixel() -> None:
    size = (50, 40)
    # a map of cells of just one pixel: what it says of a cell is what the pixel gets
    rng = np.random.default_rng(0)
    chance = rng.random((16, 16)).astype(np.float32)
    window = np.array([20, 10, 36, 26.0])
    found = threshold_patch(chance, window, window, size).whole(size)
    assert (found[10:26, 20:36] == (chance >= 0.5)).all() and found.sum() == (chance >= 0.5).sum()
    # cells of four pixels, left half an object: the border lies in the middle of the window
    half = np.repeat([[1.0, 1, 0, 0]], 4, axis=0).astype(np.float32)
    assert threshold_patch(half, window, window, size).box_px == (20, 10, 28, 26)
    assert threshold_patch(half, window + 0.4, window, size).box_px == (20, 10, 28, 26)
    assert threshold_patch(half, window + 0.6, window, size).box_px == (20, 10, 29, 26)
    # over each edge of the image, and only as far as the box
    over = np.array([-8, -8, 8, 8.0])
    assert threshold_patch(np.ones((4, 4), np.float32), over, np.array([0, 0, 6.2, 8]), size).box_px == (0, 0, 7, 8)
    assert threshold_patch(half, over, np.array([0, 0, 8, 8.0]), size).box_px == (0, 0, 1, 8)  # all of it lay outside
    right = np.array([42, 32, 58, 48.0])
    assert threshold_patch(half, right, np.array([42, 32, 50, 40.0]), size).box_px == (42, 32, 50, 40)


def test_a_mask_is_never_nothing() -> None:
    low = np.full((4, 4), 0.1, np.float32)
    low[2, 1] = 0.4
    box = np.array([10, 10, 14, 14.0])
    assert threshold_patch(low, box, box, (30, 30)).box_px == (11, 12, 12, 13)
    assert box_patch(np.array([3.6, 3.6, 3.9, 3.9]), (5, 5)).box_px == (3, 3, 4, 4)
    assert box_patch(np.array([4.8, 0, 5, 5]), (5, 5)).box_px == (4, 0, 5, 5)
    for wrong in (np.zeros((3, 3), bool), np.ones((3, 3), np.uint8), np.ones(3, bool)):
        with pytest.raises(DataError, match="a mask must be bool"):
            Patch((0, 0), wrong)


def test_what_is_sampled_is_where_the_window_is() -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[5:9, 10:14] = 200
    assert (resample(rgb, np.array([10, 5, 14, 9.0]), 4) == 200).all()
    assert (resample(rgb, np.array([6, 1, 14, 9.0]), 8)[4:, 4:] == 200).all()
    assert resample(rgb, np.array([6, 1, 14, 9.0]), 8).sum() == 200 * 16 * 3
    half = resample(rgb, np.array([9.5, 5, 13.5, 9.0]), 4)
    assert half[:, 0].tolist() == [[100] * 3] * 4 and (half[:, 1:] == 200).all()
    # beyond each corner of the image
    over = resample(rgb, np.array([-4, -4, 4, 4.0]), 8)
    assert (over[:4] == 127).all() and (over[:, :4] == 127).all() and not over[4:, 4:].any()
    over = resample(rgb, np.array([26, 16, 34, 24.0]), 8, outside=9)
    assert (over[4:] == 9).all() and (over[:, 4:] == 9).all() and not over[:4, :4].any()
    assert resample(rgb[..., 0], np.array([-90, -90, 120, 110.0]), 16).shape == (16, 16)
    assert windows(np.array([[10, 10, 20, 30.0]]), 0.1).tolist() == [[9, 8, 21, 32]]
    there = box_map(np.array([0, 0, OUT_PX, OUT_PX]), np.array([2, 3, 10, 5.0]))
    assert there[3:5, 2:10].all() and there.sum() == 16


def test_run_lengths_come_back() -> None:
    _, there = disc((37, 29), (30, 12), 11)
    one = tight_patch(there, (0, 0))
    told = one.rle((37, 29))
    assert json.loads(json.dumps(told)) == told and told["size"] == [29, 37]
    assert (pixels_of(Rle((29, 37), told["counts"].encode())) == there).all() and mask_iou(one, there) == 1.0
    assert mask_iou(tight_patch(there[:, :30], (0, 0)), there) == pytest.approx(there[:, :30].sum() / there.sum())


# -- the head's weights ---------------------------------------------------------------------------------------------


@HERE
def test_the_card_says_what_the_weights_are() -> None:
    about = masks_head.load().about
    assert about["sha256"] == sha256(masks_head.WEIGHTS) and about["params"] <= 1_000_000
    assert set(about["images_by_license"]) <= {"4", "5", "7", "8"}, "made from images whose license does not allow it"
    assert sum(about["images_by_license"].values()) == len(about["photos"])
    assert masks_head.WEIGHTS.stat().st_size < 500_000


def broken(state: dict[str, np.ndarray], how: str) -> dict[str, np.ndarray]:
    name = "out.weight"
    if how == "nan":
        state[name] = state[name] * np.float16(np.nan)
    elif how == "infinite":
        state[name] = state[name] + np.float16(np.inf)
    elif how == "shape":
        state[name] = state[name][:1]
    elif how == "missing":
        del state[name]
    elif how == "more":
        state["other"] = state[name]
    return state


@pytest.mark.parametrize(
    ("how", "said"),
    [("nan", "NaN or infinity, such as 'out.weight'"), ("infinite", "NaN or infinity"),
     ("shape", "have another shape, such as 'out.weight'"), ("missing", "'out.weight'"), ("more", "'other'")],
)  # fmt: skip
def test_weights_that_are_wrong_are_named(tmp_path: Path, how: str, said: str) -> None:
    write_json(tmp_path / "masks.json", {"name": "head"})
    path = tmp_path / "masks.safetensors"
    write_tensors(path, broken(state_of(), how))
    with pytest.raises(DataError, match=said) as error:
        from_file(path, tmp_path / "masks.json")
    assert str(error.value).startswith(str(path))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "masks.json", {"name": "head"})
    path = tmp_path / "masks.safetensors"
    write_tensors(path, state_of())
    assert isinstance(from_file(path, tmp_path / "masks.json"), Head)
    path.write_bytes(b"\x80pickle...")
    with pytest.raises(DataError, match="pickle"):
        from_file(path, tmp_path / "masks.json")
    path.unlink()
    with pytest.raises(DataError, match=r"masks\.safetensors is missing"):
        from_file(path, tmp_path / "masks.json")


@HERE
def test_the_head_that_comes_with_handful_beats_the_box_and_grabcut(data: Path, maskers: dict[str, Masker]) -> None:
    photos = [s for s in formats.read(data / "coco-mini", format="coco") if s.split == "val"]
    things = mask_samples([s for s in photos if s.objects and all(o.rle for o in s.objects)][:6])
    found = {way: mask_quality(maskers[way].segment, things)[0].mean() for way in ("head", "grabcut", "none")}
    assert len(things) > 10 and found["head"] > max(found["none"], found["grabcut"]) + 0.02, found


# -- in a detector --------------------------------------------------------------------------------------------------


def test_a_detector_gives_masks() -> None:
    irene = taught(["apple", "leaf", "sky"])
    rgb, _ = scene(["sky", "apple", "leaf"], 12)
    assert irene.detect(rgb).masks is None and "mask" not in irene.detect(rgb).rows()[0]
    found = irene.detect(rgb, masks="none")
    assert found.masks is not None and len(found.masks) == len(found) == 3 and found.size_wh == (120, 90)
    for mask, box in zip(found.masks, found.xyxy_px, strict=True):
        assert mask.box_px == pytest.approx(tuple(box))
    row = found.rows()[0]
    assert json.loads(json.dumps(row)) == row and row["mask"]["size"] == [90, 120]
    own = irene.detect(rgb, masks=True)
    assert own.masks is not None and (own.xyxy_px == found.xyxy_px).all()
    nothing = irene.detect(np.zeros((50, 60, 3), np.uint8), masks=True)
    assert nothing.masks == () and nothing.rows() == []
    with pytest.raises(UnknownName, match="did you mean 'grabcut'"):
        irene.detect(rgb, masks="grabcat")
    with pytest.raises(UnknownName, match="did you mean 'head'"):
        Irene.new("blobs", crop=BARE, masks="haed")


@HERE
def test_its_folder_keeps_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    irene = taught(["apple", "leaf"], masks="head")  # type: ignore[arg-type]
    rgb, _ = scene(["leaf", "apple"], 12)
    with torch.no_grad():  # what the folder has counts, not what comes with handful
        irene.masker().network.decoder["out"].bias[1] += 3
    meta = irene.save(tmp_path / "d")
    monkeypatch.setattr(masks_head, "WEIGHTS", tmp_path / "gone.safetensors")
    again = Irene.load(tmp_path / "d")
    one, two = irene.detect(rgb, masks=True), again.detect(rgb, masks=True)
    assert one.masks and two.masks and meta["masks"]["name"] == again.masks == "head"
    assert all(
        (a.pixels == b.pixels).all() and a.left_top == b.left_top for a, b in zip(one.masks, two.masks, strict=True)
    )
    with pytest.raises(DataError, match=r"gone\.safetensors is missing"):
        taught(["apple"], masks="head").detect(rgb, masks=True)  # type: ignore[arg-type]


@HERE
@pytest.mark.parametrize("how", ["nan", "shape", "missing"])
def test_a_folder_with_a_broken_head_names_the_file(tmp_path: Path, how: str) -> None:
    irene = taught(["apple"], masks="head")  # type: ignore[arg-type]
    irene.save(tmp_path / "d")
    path = tmp_path / "d" / "model.safetensors"
    held = read_tensors(path)
    part = {k.removeprefix("masks.decoder."): v for k, v in held.items() if k.startswith("masks.decoder.")}
    rest = {k: v for k, v in held.items() if not k.startswith("masks.decoder.")}
    write_tensors(path, {**rest, **{f"masks.decoder.{k}": v for k, v in broken(part, how).items()}})
    meta: dict[str, Any] = json.loads((tmp_path / "d" / "handful.json").read_text())
    meta["files"]["model.safetensors"] = sha256(path)
    (tmp_path / "d" / "handful.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"model\.safetensors: .*decoder\.out\.weight"):
        Irene.load(tmp_path / "d")


def test_a_detector_of_before_there_were_masks(tmp_path: Path) -> None:
    irene = taught(["apple"], masks="none")  # type: ignore[arg-type]
    irene.save(tmp_path / "d")
    path = tmp_path / "d" / "handful.json"
    meta: dict[str, Any] = json.loads(path.read_text())
    assert meta.pop("masks")["name"] == "none"
    path.write_text(json.dumps(meta))
    again = Irene.load(tmp_path / "d")
    assert again.masks == best_method() and again.detect(scene(["apple"], 3)[0], masks=True).masks


def test_masks_are_drawn_in_the_color_of_the_class() -> None:
    rgb, there = disc((80, 60), (40, 30), 20)
    box = np.array([[20, 10, 60, 50.0]])
    told = [np.array([0.9]), np.array([0]), np.array([1.0]), np.zeros((1, 3))]
    bare = Detections(("a",), box, *told)
    assert (plotting.shaded(rgb, bare.drawn()) == rgb).all()
    found = Detections(("a",), box, *told, masks=(tight_patch(there, (0, 0)),), size_wh=(80, 60))
    out = plotting.shaded(rgb, found.drawn())
    changed = (out != rgb).any(axis=2)
    assert not changed[~there].any() and changed[there].mean() > 0.95
    strange = Detections(("a",), box, *told[:2], np.array([-1.0]), told[3], masks=found.masks, size_wh=(80, 60))
    inner = plotting.shaded(rgb, strange.drawn())[30, 40].astype(int)
    assert np.abs(inner - (0.55 * rgb[30, 40] + 0.45 * 140)).max() <= 1
    drawn = found.plot(rgb)
    assert drawn.shape == rgb.shape and (drawn[10, 20:60] != rgb[10, 20:60]).any()  # the box
