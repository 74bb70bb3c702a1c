"""Detectors from data to model folder: they learn, resume to the bit, change photos and labels alike, and stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.data import formats
from handful.data.shapes import bounds
from handful.errors import DataError, UnknownName
from handful.files import read_tensors
from handful.image import read_image
from handful.models.folder import from_folder, read_meta
from handful.training import checkpoint, loader_detect, recipe_detect, recipe_instance
from handful.training.augment_detect import NOTHING, Augment, augmented
from handful.training.evaluate_detect import counted, evaluate, measured, predict
from handful.training.loader_detect import Loader, gather
from tests.bounds import SEED, bound
from tests.training.made import write

SIZE_HW = (96, 128)  # of the photos
FRAME_HW = (64, 96)  # narrower by another factor than lower
NAMES = ("box", "disc")
TINY = {
    "pretrained": False,
    "channels": 32,
    "hidden": 64,
    "finest": 8,
    "anchor": 2.0,
    "proposals": 50,
    "detections": 20,
}
FAST: dict[str, Any] = {"size_hw": FRAME_HW, "args": TINY, "epochs": 2, "batch": 4, "lr": 5e-3, "threads": 1}


def things_of(seed: int, n: int = 2) -> list[tuple[int, tuple[int, int, int, int], np.ndarray]]:
    """[(class, (left, top, right, bottom), pixels)]: a red box and a blue disc, each in a half of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        wide, high = rng.integers(24, 48), rng.integers(28, 60)
        left, top = i * 64 + rng.integers(2, 62 - wide), rng.integers(2, 94 - high)
        y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
        across, down = (x - left - wide / 2) / wide * 2, (y - top - high / 2) / high * 2
        inside = (np.maximum(abs(across), abs(down)) <= 1) if i == 0 else (across**2 + down**2 <= 1)
        box = bounds(inside)
        assert box is not None
        found.append((i, tuple(map(int, box)), inside))
    return found  # type: ignore[return-value]


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.ravel(order="F").astype(int)
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def small(
    root: Path,
    splits: dict[str, int] | None = None,
    names: tuple[str, ...] = NAMES,
    masks: bool = True,
    seed: int = 1000 * SEED,
) -> Path:
    """A COCO data set; photo i of a split is SPLIT/i.png, the last one of each shows nothing."""
    for split, n in (splits or {"train": 8, "val": 4}).items():
        images: list[dict[str, Any]] = []
        labels: list[dict[str, Any]] = []
        for i in range(n):
            seed += 1
            rng = np.random.default_rng(seed)
            photo = np.full((*SIZE_HW, 3), (110, 130, 110)) + rng.normal(0, 12, (*SIZE_HW, 3))
            images.append({"id": i + 1, "file_name": f"{i}.png", "width": SIZE_HW[1], "height": SIZE_HW[0]})
            for label, (left, top, right, bottom), inside in things_of(seed, 2 if i < n - 1 else 0):
                photo[inside] = ((220, 40, 30), (40, 60, 230))[label]
                row = {"id": len(labels) + 1, "image_id": i + 1, "category_id": label + 1, "iscrowd": 0,
                       "bbox": [left, top, right - left, bottom - top], "area": int(inside.sum())}  # fmt: skip
                labels.append({**row, "segmentation": runs_of(inside)} if masks else row)
            write(root / "images" / split / f"{i}.png", photo.clip(0, 255).astype(np.uint8))
        held = {"images": images, "annotations": labels,
                "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)]}  # fmt: skip
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(held))
    return root


def edit(root: Path, split: str, change: Callable[[dict[str, Any]], None]) -> Path:
    file = root / "annotations" / f"instances_{split}.json"
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("data"), {"train": 16, "val": 5, "test": 2})


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model folder with boxes and masks, and what run() said of it; copy it before changing it."""
    out = tmp_path_factory.mktemp("trained") / "model"
    # from ImageNet's weights: from scratch it learned as much in twice the time, on some processors
    plan = {**FAST, "args": {**TINY, "pretrained": True}, "epochs": 9, "lr": 1.5e-3}
    return out, recipe_instance.run(data, out, **plan, augment=NOTHING, every=3, seed=SEED)


def test_it_learns_boxes_and_masks(model: tuple[Path, dict[str, Any]], data: Path) -> None:
    out, said = model
    bound("detect: AP50 of boxes", said["AP50"], at_least=0.5)
    bound("detect: AP50 of masks", said["mask_AP50"], at_least=0.5)
    assert said["task"] == "instance"
    assert said["APl"] is None and said["images"] == 5 and said["objects"] == 8
    loaded = from_folder(out)
    torch.manual_seed(0)
    photos = gather(formats.read(data), "val", NAMES, FRAME_HW, masks=True)
    new = recipe_detect.weights.built(  # type: ignore[attr-defined]
        recipe_detect.weights.network_card("mask_rcnn", "instance")[1], 2, {**TINY, "frame_hw": FRAME_HW}
    )
    untrained = measured(new, photos)
    bound("detect: AP50 untrained", max(untrained["AP50"] or 0, untrained["mask_AP50"] or 0), at_most=0.1)
    meta = read_meta(out)
    assert meta["task"] == "instance" and meta["classes"] == list(NAMES) and list(meta["outputs"])[-1] == "masks"
    assert meta["metrics"]["mask_AP"] == said["mask_AP"] and "IoU" in meta["rule"]["AP"] and meta["macs"] > 1e6
    rgb = read_image(data / "images" / "val" / "0.png").rgb_u8
    boxes, scores, labels, masks = predict(loaded.network, photos.pixels(0), SIZE_HW[::-1])
    assert (np.diff(scores) <= 0).all() and len(masks) == len(boxes)
    truth = {label: (box, pixels) for label, box, pixels in things_of(1000 * SEED + 17)}
    from pycocotools import mask as mask_api

    inside = []
    for label, (box, pixels) in truth.items():
        best = int(np.flatnonzero(labels == label)[0])
        found = mask_api.decode(masks[best]).astype(bool)
        assert found.shape == rgb.shape[:2]
        bound("detect: IoU of one thing's pixels", (found & pixels).sum() / (found | pixels).sum(), at_least=0.4)
        both = np.minimum(boxes[best][2:], box[2:]) - np.maximum(boxes[best][:2], box[:2])
        inside.append(both.clip(min=0).prod() / np.prod(np.subtract(box[2:], box[:2])))
    bound("detect: share of things in their boxes", float(np.mean(inside)), at_least=0.5)
    record = json.loads((out / "train.json").read_text())
    assert record["data"]["train"]["objects"] == {"box": 15, "disc": 15} and record["config"]["augment"]["flip"] == 0
    scores_of = {row["epoch"]: row["mask_AP"] for row in record["history"] if "mask_AP" in row}
    assert list(scores_of) == [3, 6, 9] and said["best"]["score"] == max(scores_of.values()) == said["mask_AP"]


def test_evaluate_finds_what_the_recipe_found(
    model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = model
    found = evaluate(out, data, split="val")
    for key in ("AP", "AP50", "APs", "AR100", "mask_AP", "mask_AP75", "per_class", "rule", "images", "objects",
                "params", "macs", "seed", "minutes"):  # fmt: skip
        assert found[key] == said[key], key
    assert found["schema_version"] == 1 and found["rule"]["name"] == "coco" and found["unlabeled"] == 0
    json.dumps(found)
    assert evaluate(out, data)["split"] == "test"
    other = small(tmp_path / "other", names=("box", "ball"))
    capsys.readouterr()
    part = evaluate(out, other)
    assert part["not_counted"] == ["ball"] and part["per_class"]["disc"] == {"AP": None, "mask_AP": None, "objects": 0}
    assert "not counted: ball" in capsys.readouterr().err
    with pytest.raises(DataError, match="is one of the model's"):
        evaluate(out, small(tmp_path / "alien", names=("a", "b")))
    with pytest.raises(DataError, match=r"marked by outlines"):
        evaluate(out, small(tmp_path / "boxes", masks=False))


def test_resume_and_any_number_of_workers_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small(tmp_path / "data")
    plan = {**FAST, "save_every": 1}
    whole = recipe_detect.run(data, tmp_path / "whole", **plan, workers=1)
    assert whole["task"] == "detect" and "mask_AP" not in whole and whole["APl"] is None
    real = checkpoint.save

    class Stopped(Exception):
        pass

    def once(*args: Any) -> Path:
        path = real(*args)
        if path.name == "step-00000003":  # in the middle of an epoch
            raise Stopped
        return path

    monkeypatch.setattr(checkpoint, "save", once)
    with pytest.raises(Stopped):
        recipe_detect.run(data, tmp_path / "m", **plan)
    monkeypatch.undo()
    with pytest.raises(DataError, match="augment"):
        recipe_detect.run(data, tmp_path / "m", **plan, augment=NOTHING, resume=True)
    said = recipe_detect.run(data, tmp_path / "m", **plan, workers=3, resume=True)
    assert said["resumed"] and said["steps"] == whole["steps"] == 4
    assert said["model_sha256"] == whole["model_sha256"]
    # boxes that were moved are other data
    monkeypatch.setattr(checkpoint, "save", once)
    with pytest.raises(Stopped):
        recipe_detect.run(data, tmp_path / "m", **plan, overwrite=True)
    monkeypatch.undo()
    edit(data, "train", lambda held: held["annotations"][0].update(bbox=[1, 1, 20, 20]))
    with pytest.raises(DataError, match="the data have changed"):
        recipe_detect.run(data, tmp_path / "m", **plan, resume=True)


def test_weights_go_to_a_model_of_other_classes(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, _ = model
    plan = {**FAST, "epochs": 1, "ema": None, "lr": 1e-9, "classes": ["disc"], "freeze": ["backbone.encoder"]}
    said = recipe_instance.run(data, tmp_path / "m", **plan, from_=out, val_split=None)
    # score and four deltas of the box head, score of the masks, each with weights and biases
    assert said["transfer"]["reshaped"] == 12 and said["transfer"]["new"] == said["transfer"]["dropped"] == 0
    old, new = (read_tensors(f / "model.safetensors") for f in (out, tmp_path / "m"))
    for part in ("box_predictor.score", "box_predictor.delta.2", "mask_predictor.score"):
        name = f"core.roi_heads.{part}.weight"
        assert len(old[name]) == 2 and np.allclose(old[name][1:], new[name], atol=1e-6), name
    name = "core.roi_heads.box_predictor.background.weight"
    assert np.allclose(old[name], new[name], atol=1e-6)
    encoder = [name for name in new if name.startswith("core.backbone.encoder")]
    assert encoder and all((old[name] == new[name]).all() for name in encoder)


def test_nan_stops_and_names_the_photos(tmp_path: Path) -> None:
    data = small(tmp_path / "data")
    with pytest.raises(DataError, match=r"(loss became|norm became) (nan|inf).*the images were .*\d\.png.*--lr"):
        recipe_instance.run(data, tmp_path / "m", **{**FAST, "lr": 1e30}, clip=None, warmup=0.0)
    (kept,) = (tmp_path / "m.run").glob("nan-*.safetensors")
    batch = read_tensors(kept)
    things = int(batch["objects"].sum())
    assert batch["rgb"].shape == (4, 3, *FRAME_HW) and batch["boxes"].shape == (things, 4)
    assert batch["masks"].shape == (things, *FRAME_HW) and batch["labels"].shape == (things,)
    assert not (tmp_path / "m").exists()


# -- what goes in ---------------------------------------------------------------------------------------------------


def painted_photo(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo whose things are drawn in colors of their own, their exact boxes and masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, *FRAME_HW), np.uint8)
    for i, mask in enumerate(masks):
        left, top = 4 + 30 * i + rng.integers(0, 6), rng.integers(3, 20)
        mask[top : top + rng.integers(14, 36), left : left + rng.integers(10, 22)] = 1
    rgb = np.zeros((*FRAME_HW, 3), np.uint8)
    for i, mask in enumerate(masks):
        rgb[..., i][mask > 0] = 255
    boxes = np.array([bounds(mask > 0) for mask in masks], np.float32)
    return rgb, boxes, masks


PLAIN = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue_deg": 0.0}


@pytest.mark.parametrize(
    "how",
    [Augment(1.0, (1.0, 1.0), **PLAIN), Augment(0.5, (1.3, 2.5), **PLAIN), Augment(0.5, (0.4, 0.8), **PLAIN),
     Augment(0.5, (0.5, 2.0), visible=0.0, **PLAIN)],
)  # fmt: skip
def test_photo_boxes_and_masks_move_together(how: Augment) -> None:
    seen = 0
    for seed in range(60):
        rgb, boxes, masks = painted_photo(seed)
        alone, own, none, kept = augmented(rgb, boxes, None, how, (seed, 1, 2))
        assert none is None and own.dtype == np.float32 and alone.shape == rgb.shape
        photo, exact, layers, which = augmented(rgb, boxes, masks, how, (seed, 1, 2))
        assert layers is not None and len(layers) == len(exact) == len(which)
        assert (photo == alone).all() and set(which) <= set(kept)  # masks change no chance
        for box, layer, i in zip(exact, layers, which, strict=True):
            tight = bounds(layer > 0)
            assert tight is not None and np.abs(box - tight).max() <= 1, (seed, box, tight)
            # the same thing in the photo: its own color, wherever the mask says and nowhere else but at its border
            shown = photo[..., i] > 127
            assert (shown != (layer > 0)).sum() <= 2 * (layer.any(0).sum() + layer.any(1).sum()) + 4
            drawn = bounds(shown)
            assert drawn is not None and np.abs(box - drawn).max() <= 2
            (of_boxes,) = own[kept == i]
            assert np.abs(of_boxes - box).max() <= 1  # these things are their boxes, cut or whole
            seen += 1
        if how.scale[1] < 1:
            # grey is put around, and nothing leaves or is cut
            ratio = (exact[:, 2:] - exact[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
            assert which.tolist() == [0, 1, 2] and np.ptp(ratio) < 0.02
        if how.flip == 1:
            assert (photo == rgb[:, ::-1]).all() and (layers == masks[:, :, ::-1]).all()
            assert (exact == np.stack([96 - boxes[:, 2], boxes[:, 1], 96 - boxes[:, 0], boxes[:, 3]], 1)).all()
        assert ((exact >= 0) & (exact <= [96, 64, 96, 64])).all()
    assert seen > 60


def test_the_box_of_a_thing_that_was_cut_is_drawn_around_what_is_left() -> None:
    diagonal = (np.abs(np.arange(64)[:, None] * 1.5 - np.arange(96)[None]) < 6).astype(np.uint8)[None]
    whole = np.array([bounds(diagonal[0] > 0)], np.float32)
    rgb, smaller = np.zeros((*FRAME_HW, 3), np.uint8), 0
    for seed in range(20):
        how = Augment(0.5, (2.0, 2.0), visible=0.0, **PLAIN)
        _, boxes, masks, which = augmented(rgb, whole, diagonal, how, (seed, 0, 0))
        assert masks is not None
        if len(which):
            assert boxes[0].tolist() == list(bounds(masks[0] > 0) or ())
            smaller += bool((augmented(rgb, whole, None, how, (seed, 0, 0))[1][0] != boxes[0]).any())
    assert smaller > 5


def test_too_little_of_a_thing_is_not_looked_for() -> None:
    gone = 0
    for seed in range(40):
        rgb, boxes, _ = painted_photo(seed)
        every = augmented(rgb, boxes, None, Augment(0.0, (2.0, 2.0), visible=0.0, draws=1, **PLAIN), (seed, 0, 0))
        most = augmented(rgb, boxes, None, Augment(0.0, (2.0, 2.0), visible=0.9, draws=1, **PLAIN), (seed, 0, 0))
        whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) * 4
        left = {i: float(np.prod(box[2:] - box[:2])) for i, box in zip(every[3].tolist(), every[1], strict=True)}
        assert set(most[3].tolist()) == {i for i, area in left.items() if area >= 0.9 * whole[i]}
        gone += len(every[3]) - len(most[3])
        again = augmented(rgb, boxes, None, Augment(0.0, (4.0, 4.0), draws=30, **PLAIN), (seed, 0, 0))
        assert len(again[3])  # a part without anything is drawn anew
    assert gone > 10
    none = augmented(rgb, np.zeros((0, 4), np.float32), np.zeros((0, *FRAME_HW), np.uint8), Augment(), (0, 0, 0))
    assert none[1].shape == (0, 4) and none[2] is not None and none[2].shape == (0, *FRAME_HW)


def test_a_batch_is_what_was_labelled(data: Path) -> None:
    photos = gather(formats.read(data), "train", NAMES, FRAME_HW, masks=True)
    assert len(photos) == 16 and photos.objects == (15, 15) and photos.images == (15, 15)
    seen = []
    for rgb, targets, which in Loader(photos, 4, NOTHING).epoch(0):
        assert rgb.shape == (4, 3, *FRAME_HW) and rgb.dtype == np.uint8
        for i, target in zip(which.tolist(), targets, strict=True):
            seen.append(i)
            truth = things_of(int(photos.names[i].removesuffix(".png")) + 1, 2 if photos.names[i] != "15.png" else 0)
            assert target["labels"].tolist() == [label for label, _, _ in truth]
            for (_, box, _), own, mask in zip(truth, target["boxes"].numpy(), target["masks"].numpy(), strict=True):
                assert np.allclose(own, np.array(box) * [0.75, 2 / 3, 0.75, 2 / 3], atol=1e-4)
                tight = bounds(mask > 0)
                assert tight is not None and np.abs(own - tight).max() <= 1
    assert sorted(seen) == list(range(16))
    few = gather(formats.read(data), "test", NAMES, FRAME_HW)
    ((rgb, targets, which),) = Loader(few, 4, Augment()).epoch(3)
    assert sorted(which.tolist()) == [0, 0, 1, 1] and "masks" not in targets[0]
    twice = [rgb[i] for i in range(4) if which[i] == 0]
    assert not (twice[0] == twice[1]).all()


def test_what_cannot_be_learned_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small(tmp_path / "d")

    def change(held: dict[str, Any]) -> None:
        held["annotations"][0]["iscrowd"] = 1
        held["annotations"][3]["bbox"] = [70, 10, 1.0, 20]
        held["images"].pop(3)
        held["annotations"] = [row for row in held["annotations"] if row["image_id"] != 4]

    edit(root, "train", change)
    photos = gather(formats.read(root), "train", NAMES, FRAME_HW, masks=True)
    told = capsys.readouterr().err
    assert "1 object is not learned" in told and "smaller than a pixel" in told
    assert "1 of 8 images left out, nobody marked what is in them (3.png)" in " ".join(told.split())
    assert [len(one) for one in photos.boxes] == [1, 1, 2, 2, 2, 2, 0]  # nothing in the last one, which is kept
    assert photos.truth[0][0]["iscrowd"] == 1 and len(photos.truth[1]) == 2
    assert photos.summary()["not_learned"] == photos.dropped and sum(photos.dropped.values()) == 2
    only = gather(formats.read(root), "train", ["disc"], FRAME_HW)
    assert set(np.concatenate(only.labels).tolist()) == {0} and only.objects == (5,)


class Told(torch.nn.Module):
    """A network that gives what it is told of each photo, in whatever order, as they are asked side by side."""

    frame_hw = FRAME_HW

    def __init__(self, told: list[tuple[torch.Tensor, ...]], photos: loader_detect.Images) -> None:
        super().__init__()
        self.told = {photos.pixels(i).tobytes(): one for i, one in enumerate(told)}
        assert len(self.told) == len(told)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert image.shape == (1, *FRAME_HW, 3) and image.dtype == torch.uint8
        return self.told[image.numpy().tobytes()]


def truth_as_told(photos: loader_detect.Images) -> list[tuple[torch.Tensor, ...]]:
    found = []
    for i in range(len(photos)):
        masks = photos.masks_of(i, FRAME_HW)
        assert masks is not None
        n = len(photos.boxes[i])
        found.append((torch.from_numpy(photos.boxes[i]), torch.linspace(0.9, 0.5, n),
                      torch.from_numpy(photos.labels[i]), torch.from_numpy(masks).float()))  # fmt: skip
    return found


def test_the_truth_gets_full_marks_and_less_gets_less(data: Path, tmp_path: Path) -> None:
    photos = gather(formats.read(data), "val", NAMES, FRAME_HW, masks=True)
    told = truth_as_told(photos)
    found = measured(Told(told, photos), photos)
    assert found["AP"] == found["AR100"] == found["AP75"] == pytest.approx(1.0)
    assert found["mask_AP50"] == pytest.approx(1.0) and found["mask_AP"] > 0.8  # enlarged, so not to the pixel
    assert found["per_class"]["box"] == {"AP": pytest.approx(1.0), "mask_AP": pytest.approx(1.0, abs=0.2), "objects": 4}
    # at the size of the photo: in the frame these would be small
    assert found["APm"] == pytest.approx(1.0)
    # half as wide overlaps by .5, and no more
    half = [(boxes * torch.tensor([1.0, 1, 0, 1]) + (boxes[:, :1] + boxes[:, 2:3]) / 2 * torch.tensor([0.0, 0, 1, 0]),
             *rest) for boxes, *rest in told]  # fmt: skip
    less = measured(Told(half, photos), photos)
    assert less["AP75"] == 0 and less["AP"] <= 0.1 and less["mask_AP50"] == pytest.approx(1.0)
    wrong = [(boxes, scores, 1 - labels, masks) for boxes, scores, labels, masks in told]
    assert measured(Told(wrong, photos), photos)["AP50"] == 0
    nothing = [tuple(one[:0] for one in row) for row in told]
    none = measured(Told(nothing, photos), photos)  # type: ignore[arg-type]
    assert none["AP"] == none["mask_AR100"] == 0
    assert measured(Told(told, photos), photos, 2)["per_class"]["box"]["objects"] == 2
    # answers inside a crowd are not wrong
    crowds = edit(small(tmp_path / "d", {"val": 5}), "val", lambda held: held["annotations"][0].update(iscrowd=1))
    own = gather(formats.read(crowds), "val", NAMES, FRAME_HW, masks=True)
    every = truth_as_told(own)
    left, top, wide, high = own.truth[0][0]["bbox"]
    inside = torch.tensor([[left * 0.75 + 1, top / 1.5 + 1, (left + wide) * 0.75 - 1, (top + high) / 1.5 - 1]])
    at = inside[0].round().int().tolist()
    crowd = torch.zeros(1, *FRAME_HW)
    crowd[:, at[1] : at[3], at[0] : at[2]] = 1
    boxes, scores, labels, masks = every[0]
    every[0] = (torch.cat([inside, boxes]), torch.cat([torch.tensor([0.99]), scores]),
                torch.cat([torch.tensor([0]), labels]), torch.cat([crowd, masks]))  # fmt: skip
    found = measured(Told(every, own), own)
    assert found["per_class"]["box"]["AP"] == pytest.approx(1.0) and found["per_class"]["box"]["objects"] == 3
    assert found["mask_AP50"] == pytest.approx(1.0)
    every[0] = (torch.cat([inside * 0 + torch.tensor([60.0, 2, 70, 9]), boxes]), *every[0][1:])
    assert measured(Told(every, own), own)["per_class"]["box"]["AP"] < 0.9


def rows(*boxes: tuple[int, tuple[float, ...]], crowd: bool = False) -> list[dict[str, Any]]:
    return [{"category_id": label, "bbox": list(box), "iscrowd": int(crowd)} for label, box in boxes]


def test_right_wrong_and_missed_by_hand() -> None:
    left, right, off = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 4.9)
    assert counted(rows((0, left), (1, right)), rows((0, left), (1, right))) == (2, 0, 0)
    assert counted(rows((0, left), (1, right)), rows((1, left))) == (0, 1, 2)  # of another class
    assert counted(rows((0, left)), rows((0, left), (0, left))) == (1, 1, 0)  # one object counts once
    assert counted(rows((0, left)), rows((0, off))) == (0, 1, 1)
    assert counted(rows((0, left), (0, right)), []) == (0, 0, 2) and counted([], rows((0, left))) == (0, 1, 0)
    in_crowd = [*rows((0, (0.0, 0.0, 100.0, 100.0)), crowd=True), *rows((0, left))]
    assert counted(in_crowd, rows((0, left), (0, right))) == (1, 0, 0)


def test_the_page_shows_the_worst_images_first(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, said = model
    root = tmp_path / "d"
    shutil.copytree(data, root)
    name = root / "images" / "val" / "1.png"
    write(name, np.full_like(read_image(name).rgb_u8, 128))  # nothing is to be seen in it, so all is missed
    found = evaluate(out, root, split="val", report=tmp_path / "page.html")
    worst = found["worst"][0]
    assert worst == {"image": "1.png", "f1": 0.0, "right": 0, "wrong": worst["wrong"], "missed": 2}
    values = [row["f1"] for row in found["worst"]]
    assert values == sorted(values) and "2 TP" in found["rule"]["worst"] and "pictures" not in worst
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * len(values) and "http" not in page
    for words in ("mask AP", "AR100", "1.png", "2 missed", found["rule"]["AP"][:40], "disc"):
        assert words in page, words
    own = Path(said["report"]).read_text()
    assert "How it was learned" in own and "data:image/png;base64," in own


def box(*xywh: float) -> Callable[[dict[str, Any]], None]:
    return lambda held: held["annotations"][2].update(bbox=list(xywh))


@pytest.mark.parametrize(
    ("harm", "said"),
    [(box(5, 5, float("nan"), 9), r"label 3 \(box\) has the box \[5, 5, 'nan'"), (box(5, 5, 0, 9), "is 0 x 9 px"),
     (box(300, 5, 20, 20), "outside the 128x96 image"),
     (lambda held: held["images"][1].update(width=64), r"1\.png.*(64|128)")],
)  # fmt: skip
def test_bad_data_stop_it_before_it_begins(tmp_path: Path, harm: Callable[[dict[str, Any]], None], said: str) -> None:
    root = edit(small(tmp_path / "d"), "train", harm)
    with pytest.raises(DataError, match=said):
        recipe_detect.run(root, tmp_path / "m", **FAST)
    assert not (tmp_path / "m").exists()


def test_gather_itself_names_the_photo(data: Path) -> None:
    from dataclasses import replace

    from handful.types import Dataset, Object

    whole = formats.read(data)
    first = next(s for s in whole if s.split == "train")

    def of(**change: Any) -> Dataset:
        return Dataset("made", whole.root, whole.categories, lambda: iter([replace(first, **change)]), 1)

    nan, line = Object("box", (1.0, 2.0, float("nan"), 9.0)), Object("box", (1.0, 2.0, 1.0, 9.0))
    with pytest.raises(DataError, match=r"0\.png: a box has the box .*NaN or infinity"):
        gather(of(objects=(nan,)), "train", NAMES, FRAME_HW)
    with pytest.raises(DataError, match=r"0\.png: a box has the box .*no area"):
        gather(of(objects=(line,)), "train", NAMES, FRAME_HW)
    with pytest.raises(DataError, match=r"0\.png is 128x96 px, its labels are for 96x128"):
        gather(of(size_wh=(96, 128)), "train", NAMES, FRAME_HW)
    with pytest.raises(DataError, match="no image of train shows a box or disc"):
        gather(of(objects=()), "train", NAMES, FRAME_HW)
    with pytest.raises(DataError, match="no image of train"):
        gather(of(objects=(nan,)), "train", NAMES, FRAME_HW, leave_out=True)
    with pytest.raises(DataError, match="marked by outlines"):
        gather(of(objects=(Object("box", (1.0, 2.0, 5.0, 9.0)),)), "train", NAMES, FRAME_HW, masks=True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"net": "exeggutor"}, "is for segment, not to detect; there is faster_rcnn"),
        ({"net": "mask_rcnn"}, "is for instance, not to detect"),
        ({"net": "faster_rcn"}, "did you mean 'faster_rcnn'"),
        ({"classes": ["bxo"]}, "did you mean 'box'"),
        ({"args": {"chanels": 3}}, "did you mean 'channels'"),
        ({"freeze": ["bacbone"]}, "did you mean 'backbone'"),
        ({"val_split": "vla"}, "no split 'vla'"),
        ({"epochs": None}, "either --epochs or --minutes"),
        ({"from_": Path("nowhere")}, "nowhere is not a folder"),
    ],
)
def test_every_wrong_wish_is_answered(data: Path, tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        recipe_detect.run(data, tmp_path / "m", **{**FAST, **more})
    assert not (tmp_path / "m").exists() and not checkpoint.checkpoints(tmp_path / "m.run")


@pytest.mark.parametrize("wrong", [{"scale": (2.0, 1.0)}, {"flip": 2.0}, {"visible": -0.1}, {"hue_deg": 181.0},
                                   {"contrast": 1.0}])  # fmt: skip
def test_wrong_settings_of_a_zoom(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Augment(**wrong)
