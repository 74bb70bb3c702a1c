"""Masks of a taught detector judged, and the head trained, on discs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

import handful.detection
from handful.data.shapes import rle_of
from handful.detection import masks_head, train_mask_head
from handful.detection.evaluate import evaluate
from handful.detection.evaluate_masks import MaskTable, ground_truth_of, text_of
from handful.detection.masking import tight_patch
from handful.detection.teaching import teach
from handful.detection.train_mask_head import (
    MaskSample,
    Plan,
    batch,
    color_jitter,
    mask_quality,
    mask_samples,
    target_of,
    train,
    weights_of,
)
from handful.errors import DataError
from handful.results import Detections, Patch
from handful.types import Object, Sample
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import BARE, PROPOSERS, taught
from tests.detection.test_masks import disc
from tests.training.made import write
from tests.training.test_verbs import typed


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of color whose masks are their boxes; of the three val images one has an object without a mask."""
    root = data_set(tmp_path_factory.mktemp("masks"), ["apple", "leaf"])
    path = root / "instances_val.json"
    held = json.loads(path.read_text())
    for i, note in enumerate(held["annotations"]):
        left, top, wide, high = note["bbox"]
        outline = [left, top, left + wide, top, left + wide, top + high, left, top + high]
        note["segmentation"] = [outline] if i else []
    path.write_text(json.dumps(held))
    return root


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "d"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])
        teach(data, folder, proposer="blobs", crop=BARE, max_samples=4)
    return folder


def test_the_table_of_masks(data: Path, model: Path) -> None:
    assert not {"mask_AP", "masks"} & evaluate(model, data, split="val").keys()
    found = evaluate(model, data, split="val", masks="none")
    assert found["mask_AP"] == found["mask_AP50"] == pytest.approx(1.0)
    seconds = found["masks"].pop("seconds_per_mask")
    assert seconds > 0 and found["masks"] == {"method": "none", "images": 2, "left_out": 1, "objects": 4}
    for name in ("apple", "leaf"):
        assert found["per_class"][name] == {"AP": pytest.approx(1.0), "mask_AP": pytest.approx(1.0), "objects": 3}
    assert {"masks", "mask_..."} <= found["rule"].keys() and json.loads(json.dumps(found)) == found
    found["masks"]["seconds_per_mask"] = seconds
    assert "AP 100.0" in text_of(found) and "1 left out, whose objects have no masks" in text_of(found)
    none = evaluate(model, data, split="train", masks="none")
    assert none["mask_AP"] is None and none["masks"]["images"] == 0 and none["masks"]["left_out"] == 6
    assert "AP -" in text_of(none) and none["masks"]["seconds_per_mask"] is None


def test_masks_count_by_their_pixels_not_by_their_boxes() -> None:
    irene = taught(["apple"], masks="none")  # type: ignore[arg-type]
    rgb, there = disc((80, 60), (40, 30), 20)
    box = (20.0, 10.0, 60.0, 50.0)
    found = Detections(("apple",), np.array([box]), np.ones(1), np.zeros(1, np.int64), np.ones(1), np.zeros((1, 6)))

    def judged(thing: Object) -> Any:
        table = MaskTable(irene)
        table.add(Sample(Path("x.png"), objects=(thing,)), rgb, found)
        return table.result()

    # the whole box against a disc in it: IoU pi / 4, which counts at .50 to .75, six of ten
    told = judged(Object("apple", box_px=box, rle=rle_of(there)))
    assert told["mask_AP"] == pytest.approx(0.6) and told["mask_AP75"] == pytest.approx(1.0)
    assert told["masks"]["seconds_per_mask"] > 0
    assert judged(Object("pear", box_px=box, rle=rle_of(there)))["mask_AP"] is None
    assert judged(Object("apple", box_px=box))["masks"]["left_out"] == 1


def test_which_photos_have_masks() -> None:
    _, there = disc((80, 60), (40, 30), 20)
    thing = Object("a", box_px=(20, 10, 60, 50), rle=rle_of(there))
    bare, crowd = Object("b", box_px=(0, 0, 5, 5)), Object("b", box_px=(0, 0, 5, 5), crowd=True)

    def rows(*things: Object) -> Any:
        return ground_truth_of(Sample(Path("x"), objects=things), (80, 60), {"a": 0, "b": 1})

    assert rows(thing, bare) is None and rows() == []
    told = rows(thing, crowd)
    assert told[0]["area"] == there.sum() and told[0]["bbox"] == [20, 10, 40, 40]
    # a crowd that is only a box is all of its box
    assert told[1]["iscrowd"] == 1 and mask_api.decode(told[1]["segmentation"])[:5, :5].sum() == 25 == told[1]["area"]
    assert rows(Object("a", rle=rle_of(there), crowd=True))[0]["iscrowd"] == 1
    assert rows(thing, Object("c", box_px=(0, 0, 5, 5), rle=rle_of(there))) == told[:1]  # a class that is not measured


def test_typed(data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = data / "images" / "val" / "0.png"
    code, out, _ = typed(capsys, "predict", model, photo, "--masks-by", "grabcut", "--out", tmp_path / "seen", "--json")
    rows = json.loads(out)["results"][0]["found"]
    assert code == 0 and json.loads((tmp_path / "seen" / "results.json").read_text())["results"][0]["found"] == rows
    assert len(rows) == 2 and all(row["mask"]["size"] == [90, 120] for row in rows)
    assert (tmp_path / "seen" / "0.jpg").exists()
    code, out, _ = typed(capsys, "evaluate", model, data, "--split", "val", "--masks-by", "none")
    assert code == 0 and "masks by none: AP 100.0, AP50 100.0, AP75 100.0 on 2 images; 1 left out" in out
    code, _, err = typed(capsys, "predict", model, photo, "--masks-by", "heads")
    assert code == 2 and "did you mean 'head'" in err


# -- training -------------------------------------------------------------------------------------------------------


def discs(count: int) -> list[MaskSample]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        radius = float(rng.uniform(8, 25))
        x, y = rng.uniform(radius, 90 - radius), rng.uniform(radius, 70 - radius)
        rgb, there = disc((90, 70), (float(x), float(y)), radius)
        mask = tight_patch(there, (0, 0))
        found.append(MaskSample(rgb, np.array(mask.box_px, np.float64), mask))
    return found


def test_a_batch_follows_from_the_seed_and_the_step() -> None:
    things, plan = discs(5), Plan(batch=8)
    one, again, other, later = (batch(things, plan, *at) for at in ((0, 3), (0, 3), (1, 3), (0, 4)))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert not (one[0] == other[0]).all() and not (one[0] == later[0]).all()
    crops, given, target = one
    assert crops.shape == (8, 128, 128, 3) and crops.dtype == np.uint8
    assert given.shape == (8, 1, 64, 64) and target.shape == (8, 64, 64) and target.dtype == np.int64
    assert set(np.unique(target)) <= {0, 1, 255} and 0.2 < (target == 1).mean() < 0.7
    single = [batch(things[:1], plan, seed, 0)[0] for seed in (0, 1)]
    assert not (single[0] == single[1]).all()
    plain = Plan(batch=8, jitter=0.0, color=0.0)
    # turned or not, the labels are where the bright half of a disc is
    rgb, there = disc((90, 70), (45, 35), 25)
    half = there & (np.arange(90) + np.arange(70)[:, None] < 80)
    mask = tight_patch(half, (0, 0))
    slanted = MaskSample(np.where(half[..., None], rgb, 0).astype(np.uint8), np.array(mask.box_px, np.float64), mask)
    crops, _, target = batch([slanted], plain, 0, 0)
    assert ((crops[:, ::2, ::2, 0] > 110) == (target == 1)).mean() > 0.97
    assert len({crop.tobytes() for crop in crops}) == 2
    # the box of a disc that is not jittered is where the disc is
    assert ((target == 1) <= (given[:, 0] == 1)).mean() > 0.999


def test_the_head_looks_as_it_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = discs(1)[0]
    head = masks_head.Head(masks_head.MaskNet(pretrained=False), {})
    told: dict[str, np.ndarray] = {}

    def seen(crops: np.ndarray) -> Any:
        told["crops"] = crops
        return torch.zeros(1), []

    def decode(x: torch.Tensor, maps: list[torch.Tensor], box: torch.Tensor) -> torch.Tensor:
        told["given"] = box.numpy()
        return torch.zeros(1, 2, masks_head.OUT_PX, masks_head.OUT_PX)

    monkeypatch.setattr(head.network, "encode", seen)
    monkeypatch.setattr(head.network, "decode", decode)
    head.segment(thing.rgb_u8, thing.box[None])
    plain = Plan(batch=1, jitter=0.0, color=0.0)
    pairs = [batch([thing], plain, 0, step) for step in range(8)]  # some are turned
    assert any((crops == told["crops"]).all() and (given == told["given"]).all() for crops, given, _ in pairs)


def test_what_lies_outside_the_photo_is_not_learned() -> None:
    rgb, there = disc((40, 40), (0, 20), 15)
    thing = MaskSample(rgb, np.array([0, 5, 15, 35.0]), tight_patch(there, (0, 0)))
    target = target_of(thing, np.array([-16, -12, 48, 52.0]))
    assert (target[:, :16] == 255).all() and (target[:12] == 255).all() and (target[52:] == 255).all()
    own = target[12:52, 16:56]
    assert (own == there).all()
    changed = color_jitter(rgb, np.random.default_rng(0))
    assert changed.dtype == np.uint8 and changed.shape == rgb.shape and not (changed == rgb).all()


def test_things_with_masks_are_gathered(tmp_path: Path) -> None:
    rgb, there = disc((80, 60), (40, 30), 20)
    path = write(tmp_path / "x.png", rgb)
    own = Object("a", box_px=(20, 10, 60, 50), rle=rle_of(there))
    others = Object("b", box_px=(0, 0, 5, 5)), Object("c", rle=rle_of(there), crowd=True)
    found = mask_samples([Sample(path, objects=(own, *others)), Sample(path, objects=None)])
    assert len(found) == 1 and found[0].box.tolist() == [20, 10, 60, 50]
    assert (found[0].mask.whole((80, 60)) == there).all()


def test_quality_by_hand() -> None:
    things = discs(3)

    def whole(rgb: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        return [Patch((0, 0), np.ones(rgb.shape[:2], bool))]

    overlap, size = mask_quality(whole, things)
    assert np.allclose(overlap, size / (90 * 70)) and [t.mask.pixels.sum() for t in things] == size.tolist()
    told: list[np.ndarray] = []

    def noted(rgb: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        told.append(boxes[0])
        return whole(rgb, boxes)

    mask_quality(noted, things, jitter=0.06)
    mask_quality(noted, things, jitter=0.06)
    first, second = told[:3], told[3:]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    for box, thing in zip(first, things, strict=True):
        assert (box != thing.box).any() and (box >= 0).all() and (box <= [90, 70, 90, 70]).all()


def test_training_is_learned_from_repeated_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        monkeypatch.setattr(train_mask_head, "CHECKPOINT_EVERY", 2)
        things, plan = discs(6), Plan(steps=4, batch=4)
        whole = weights_of(train(things, tmp_path / "a", plan=plan, seed=1))
        stopped: list[int] = []

        def stop(*args: Any) -> Any:
            stopped.append(args[3])
            if args[3] == 3:
                raise KeyboardInterrupt
            return batch(*args)

        monkeypatch.setattr(train_mask_head, "batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(things, tmp_path / "b", plan=plan, seed=1)
        monkeypatch.setattr(train_mask_head, "batch", batch)
        resumed = weights_of(train(things, tmp_path / "b", plan=plan, seed=1))
        assert stopped == [0, 1, 2, 3] and whole.keys() == resumed.keys()
        assert all((whole[key] == resumed[key]).all() for key in whole)
        other = weights_of(train(things, tmp_path / "c", plan=plan, seed=2))
        assert any((whole[key] != other[key]).any() for key in whole)
        with pytest.raises(DataError, match=r"state\.safetensors is of another training"):
            train(things, tmp_path / "b", plan=plan, seed=5)
        with pytest.raises(DataError, match="none of 0 objects has a mask"):
            train([], tmp_path / "d", plan=plan)
        # the encoder was not touched, and none of it is shipped
        fresh = masks_head.MaskNet(pretrained=True)
        trained = train(things, tmp_path / "b", plan=plan, seed=1)
        for key, value in fresh.encoder.state_dict().items():
            assert (value == trained.encoder.state_dict()[key]).all(), key
        assert not any(key.startswith("encoder") for key in whole)
    finally:
        torch.set_num_threads(threads)
