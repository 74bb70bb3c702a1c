"""A data set cut into chips: what is in each, what is neither right nor wrong there, and a proposer trained on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as PIL_Image

import handful.detection
from handful.cli import cli
from handful.data import formats
from handful.detection.chip_set import chip_set
from handful.errors import DataError, UnknownName
from handful.image import read_image
from handful.models import net_objectness
from handful.training.loader_detect import IGNORED, gather
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import PROPOSERS


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def large_and_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image of 400 x 300 px: a large red square, a small green one, and twelve gray spots that nobody marked."""
    root = tmp_path_factory.mktemp("data")
    rgb = np.zeros((300, 400, 3), np.uint8)
    rgb[40:240, 20:220] = (220, 40, 40)
    rgb[250:262, 300:312] = (40, 220, 40)
    for i in range(12):
        top, left = 30 + 20 * (i // 4), 310 + 20 * (i % 4)
        rgb[top : top + 8, left : left + 8] = 150
    (root / "images" / "train").mkdir(parents=True)
    PIL_Image.fromarray(rgb).save(root / "images" / "train" / "one.png")
    boxes = [("large", [20, 40, 200, 200]), ("small", [300, 250, 12, 12])]
    held = {
        "images": [{"id": 1, "file_name": "one.png", "width": 400, "height": 300}],
        "categories": [{"id": 1, "name": "large"}, {"id": 2, "name": "small"}],
        "annotations": [{"id": i + 1, "image_id": 1, "category_id": i + 1, "bbox": box, "area": box[2] * box[3],
                         "iscrowd": 0} for i, (_, box) in enumerate(boxes)],
    }  # fmt: skip
    (root / "instances_train.json").write_text(json.dumps(held))
    return root


def test_each_thing_is_learned_at_the_scale_that_fits_it(large_and_small: Path, tmp_path: Path) -> None:
    made = chip_set(large_and_small, tmp_path / "c", side_px=100, proposer="blobs", seed=1)
    assert made["by_scale"][0] >= 1 and len(made["by_scale"]) == 2 and made["negative"] >= 1
    assert made["objects"] == 2 == made["objects_in_images"]
    learned: dict[str, list[tuple[int, float]]] = {}
    for sample in formats.read(tmp_path / "c"):
        rgb = read_image(sample.path).rgb_u8
        assert rgb.shape == (100, 100, 3) and sample.size_wh == (100, 100)
        for thing in sample.objects or ():
            left, top, right, bottom = thing.box_px or (0, 0, 0, 0)
            assert 0 <= left < right <= 100 and 0 <= top < bottom <= 100
            inner = rgb[round(top + 1) : round(bottom - 1), round(left + 1) : round(right - 1)]
            channel = {"large": 0, "small": 1}[thing.label]
            if inner.size:  # the box lies on its object, at this scale too
                assert inner[..., channel].min() > 120 and inner[..., 1 - channel].max() < 120
            if not thing.crowd:
                learned.setdefault(thing.label, []).append((int(sample.attributes["scale"]), right - left))
        if sample.attributes["negative"]:
            assert all(thing.crowd for thing in sample.objects or ())
    (coarse,), (fine,) = learned["large"], learned["small"]
    assert coarse == (0, pytest.approx(50, abs=1)) and fine == (1, pytest.approx(6, abs=0.5))


def test_the_same_seed_the_same_chips_and_splits_are_kept(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", ["apple", "leaf", "sky"], {"train": 3, "val": 2})
    names = []
    for out, seed, draws in (("a", 0, 1), ("b", 0, 1), ("c", 0, 2)):
        made = chip_set(data, tmp_path / out, side_px=64, proposer="none", seed=seed, draws=draws, one="thing")
        assert made["copied"] == 2 and made["negative"] == 0 and made["objects"] >= 9 * draws
        found = formats.read(tmp_path / out)
        assert [c.name for c in found.categories] == ["thing"]
        assert {o.label for s in found for o in s.objects or ()} == {"thing"}
        names.append(sorted((s.name, str(s.attributes.get("window_px"))) for s in found))
        assert sum(s.split == "val" for s in found) == 2
    assert names[0] == names[1] and len(names[2]) > len(names[0])


def test_bad_wishes_write_nothing(large_and_small: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="exists; choose another place"):
        chip_set(large_and_small, tmp_path / "there")
    with pytest.raises(DataError, match="wanted 32 px or more"):
        chip_set(large_and_small, tmp_path / "c", side_px=8)
    with pytest.raises(UnknownName, match="blobs"):
        chip_set(large_and_small, tmp_path / "c", proposer="blob")
    assert not (tmp_path / "c").exists()


def test_a_region_to_ignore_is_neither_thing_nor_background() -> None:
    torch.manual_seed(0)
    model = net_objectness.build(frame_hw=(64, 64), pretrained=False, channels=16, hidden=16, proposals=8).train()
    rgb = (torch.rand(1, 3, 64, 64) * 255).repeat(2, 1, 1, 1)
    box = torch.tensor([[4.0, 4, 30, 30], [0, 0, 64, 64]])
    lost = {}
    for name, labels in (("thing", [0]), ("ignored", [0, IGNORED]), ("two", [0, 0])):
        torch.manual_seed(1)
        target = {"boxes": box[: len(labels)], "labels": torch.tensor(labels)}
        lost[name] = {k: v.item() for k, v in model.losses(rgb, [target, target]).items()}
    # what lies around the object no longer counts as background, and is not sought either
    assert lost["ignored"]["quality"] < lost["thing"]["quality"] - 1e-3
    assert lost["ignored"]["sides"] == pytest.approx(lost["thing"]["sides"], rel=1e-5)
    assert lost["two"]["sides"] != pytest.approx(lost["thing"]["sides"], rel=1e-3)
    found = net_objectness.mostly_in(torch.tensor([[0.0, 0, 10, 10], [8, 0, 18, 10]]), torch.tensor([[0.0, 0, 10, 99]]))
    assert found.tolist() == [True, False]
    label = net_objectness.focus_target(torch.tensor([[0.0, 0, 16, 16]]), (4, 4), torch.tensor([[0.0, 0, 64, 32]]))
    assert label[0, 0] == 1 and (label[:2, 1:] == -1).all() and (label[2:] == 0).all()


def test_crowds_are_fed_as_regions_to_ignore(large_and_small: Path, tmp_path: Path) -> None:
    made = chip_set(large_and_small, tmp_path / "c", side_px=100, proposer="blobs", one="thing")
    feed = gather(formats.read(tmp_path / "c"), "train", ["thing"], (96, 96))
    labels = np.concatenate(feed.labels)
    assert (labels == 0).sum() == made["objects"] == sum(feed.objects) == 2 and (labels == IGNORED).sum() >= 1
    assert feed.images == (2,)


def test_a_proposer_is_trained_on_chips(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", ["apple", "leaf", "sky"], {"train": 4, "val": 2})
    words = ["data", "chips", str(data), "--out", str(tmp_path / "chips"), "--side", "64", "--proposer", "blobs",
             "--one", "thing", "--json"]  # fmt: skip
    made = CliRunner().invoke(cli, words)
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["chips"] > 0 and CliRunner().invoke(cli, words).exit_code != 0  # never written over
    train_range = CliRunner().invoke(cli, [
        "train", "detect", str(tmp_path / "chips"), "--net", "objectness", "--out", str(tmp_path / "eye"), "--epochs",
        "1", "--frame", "64x64", "--batch", "2", "--arg", "pretrained=false", "--arg", "channels=16", "--threads", "1",
        "--allow", "near_duplicate", "--allow", "tiny_object", "--json"])  # fmt: skip
    assert train_range.exit_code == 0, train_range.output
    assert (tmp_path / "eye" / "model.safetensors").exists()
