"""One small taught model for all the tests here, and each compilation of it made once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import handful.device.runtimes
from handful.bundle import Bundle
from handful.data.sample_images import sample_photo
from handful.device.targets import job
from handful.image import list_images, read_image
from handful.kinds.compiling import compile_model
from handful.types import Image
from tests.skips import need, need_runtime

HERE = Path(__file__).parent
FRAME_HW = (256, 256)
TAUGHT = ("building", "cat", "coffee", "flower", "rocket")  # in the order of the scores: by name
OTHERS = ("astronaut", "officer", "motorcycle")
# conversions of ten seconds: their layers are tapped of a smaller network, in tests/kinds/test_precisions.py
SLOW = ("executorch", "litert")


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Real photographs, uint8 (h, w, 3) RGB: the five taught, then others."""
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    return [sample_photo(name).rgb_u8 for name in (*TAUGHT, *OTHERS)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A model folder as `handful teach` makes it: one photograph a class."""
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    from handful.fewshot.classifier import FewShotClassifier

    taught = FewShotClassifier.new(backbone="lite0", frame_hw=FRAME_HW)
    for name, photo in zip(TAUGHT, photos, strict=False):
        taught.learn(Image(photo), name)
    folder = tmp_path_factory.mktemp("model") / "five"
    taught.save(folder)
    return folder


@pytest.fixture(scope="session")
def compiled(model: Path) -> Callable[[str, str], Bundle]:
    """compiled(runtime, precision) -> the bundle, made once a session."""
    made: dict[tuple[str, str], Bundle] = {}

    def get(runtime: str, precision: str) -> Bundle:
        need_runtime(runtime)
        key = runtime, precision
        if key not in made:
            made[key] = compile_model(model, *key, taps=runtime not in SLOW)
        return made[key]

    return get


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the runtimes of tests/device/planted exist, here and in the processes started from here."""
    monkeypatch.setattr(handful.device.runtimes, "__path__", [*handful.device.runtimes.__path__, str(HERE / "planted")])
    monkeypatch.setattr(job, "COMMAND", [sys.executable, str(HERE / "child.py")])


@pytest.fixture(scope="session")
def real_photos(data: Path) -> list[np.ndarray]:
    """Photographs of products on shelves, from the data folder; skips without it, and in CI."""
    found = [path for part in sorted(data.glob("grocery/**/")) for path in list_images(part)[0]][:24]
    need(bool(found), "data", f"no photographs at {data}/grocery; set HANDFUL_DATA")
    return [read_image(path).rgb_u8 for path in found]
