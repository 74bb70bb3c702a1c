"""One small model of every kind, with images it can be asked about and a data set it can be measured on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.device.targets import job
from handful.kinds import registry
from tests.conftest import ROOT
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import BARE, PROPOSERS
from tests.training import made, test_classify, test_detect

SMALL = "timm:test_efficientnet"


@dataclass(frozen=True)
class World:
    """kind: of the model in `model`. images: a folder of images to ask about. data, split: what it is measured on."""

    kind: str
    model: Path
    images: Path
    data: Path
    split: str | None


@contextmanager
def planted() -> Iterator[None]:
    """The tests' own networks and proposers are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])
        patch.setattr(job, "COMMAND", [sys.executable, str(ROOT / "tests" / "device" / "child.py")])
        made.known()
        yield


def _taught_classifier(root: Path) -> World:
    """On timm's EfficientNet for tests, with weights at random: colors are told apart, and it compiles in seconds."""
    import timm
    import torch

    from handful.fewshot.teaching import teach
    from handful.files import write_tensors

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(SMALL.removeprefix("timm:"), pretrained=False)
    weights = root / "small.safetensors"
    root.mkdir(parents=True, exist_ok=True)
    write_tensors(weights, {key: value.numpy() for key, value in network.state_dict().items()})
    data = test_classify.folders(root / "photos", {"": 6})
    teach(data, root / "model", backbone=SMALL, weights=weights, frame_hw=(64, 64))
    return World("taught_classifier", root / "model", data / "red", data, None)


def _classifier(root: Path) -> World:
    from handful.training.recipe_classify import run

    data = test_classify.folders(root / "photos")
    run(data, root / "model", **test_classify.FAST)
    return World("classifier", root / "model", data / "test" / "red", data, "test")


def _segmenter(root: Path) -> World:
    from handful.training.recipe_segment import run

    data = made.small(root / "scenes")
    run(data, root / "model", **made.FAST)
    return World("segmenter", root / "model", data / "images" / "val", data, "val")


def _detector(root: Path) -> World:
    from handful.training.recipe_instance import run

    data = test_detect.small(root / "things", {"train": 8, "val": 4})
    run(data, root / "model", **test_detect.FAST)
    return World("detector", root / "model", data / "images" / "val", data, "val")


def _taught_detector(root: Path) -> World:
    from handful.detection.teaching import teach

    data = data_set(root / "things", ["apple", "leaf", "sky"])
    teach(data, root / "model", proposer="dots", crop=BARE, max_samples=4, scales=1)
    return World("taught_detector", root / "model", data / "images" / "val", data, "val")


MAKERS: dict[str, Callable[[Path], World]] = {
    "taught_classifier": _taught_classifier,
    "taught_detector": _taught_detector,
    "classifier": _classifier,
    "segmenter": _segmenter,
    "detector": _detector,
}


HELD: dict[str, World] = {}  # those made in this run, by kind


def test_every_kind_has_a_world() -> None:
    assert sorted(MAKERS) == registry.kinds()


def untouched(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and its bytes."""
    found = {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
    assert found, f"{folder} is empty"
    return found


def rgb(seed: int, size_hw: tuple[int, int] = (40, 50)) -> np.ndarray:
    """An image of noise."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
