"""Shared by all tests: real photographs that come inside packages, and those beside the project when they are there.

Processes that tests start import this too: what brings PyTorch with it is imported where it is needed.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo
from handful.types import Image
from tests import forked, skips
from tests.bounds import SEED

ROOT = Path(__file__).parent.parent
os.environ.setdefault("HANDFUL_CACHE", "")  # no test reads what an earlier one kept
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # on small pictures two threads take up to twice the processor time of one
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of the processes that tests start, the first compiles handful for all


def pytest_configure(config: pytest.Config) -> None:
    forked.settle()
    config.pluginmanager.register(skips)  # in CI a test that is skipped is told


def pytest_collection_finish() -> None:
    """What collecting has imported stays: a collector that looks through all of it again takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def warm_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Jobs are forked from a process that has PyTorch in it, and nothing is compiled twice; see tests/warm.py."""
    if sys.platform != "linux":
        yield
        return
    from handful.device.targets import job
    from tests.warm import Kept, Warm, spawner

    warm = Warm(tmp_path_factory.mktemp("networks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_spawn", spawner(warm, Kept(tmp_path_factory.mktemp("compiled"))))
        yield
    warm.close()


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of shared photographs; what needs it is skipped without it."""
    folder = Path(os.environ.get("HANDFUL_DATA", ROOT.parent / "shared" / "data"))
    skips.need(folder.is_dir(), "data", f"no photographs at {folder}; set HANDFUL_DATA to the folder that has them")
    return folder


def save(image: Image | np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # a third of the time that PNG's own compression takes
    PIL_Image.fromarray(image.rgb_u8 if isinstance(image, Image) else image).save(path, compress_level=1)
    return path


def opened(path: Path) -> PIL_Image.Image:
    """An image file, read whole and closed."""
    with PIL_Image.open(path) as image:
        image.load()
        return image


@pytest.fixture
def photo_folder(tmp_path: Path) -> Callable[..., Path]:
    """make(classes, n) -> a folder a class with n views of a real photograph each."""

    def make(
        classes: tuple[str, ...] = ("cat", "coffee", "rocket"), n: int = 2, seed: int = 0, name: str = "photos"
    ) -> Path:
        from handful.demo import view

        rng = np.random.default_rng(seed)
        for label in classes:
            for i in range(n):
                save(view(sample_photo(label), rng), tmp_path / name / label / f"{i}.png")
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def taught_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder taught from three classes; copy it before changing it."""
    from handful.demo import view
    from handful.fewshot.teaching import teach

    place = tmp_path_factory.mktemp("taught")
    rng = np.random.default_rng(SEED)
    for label in ("cat", "coffee", "rocket"):
        for i in range(2):
            save(view(sample_photo(label), rng), place / "photos" / label / f"{i}.png")
    teach(place / "photos", place / "model", backbone="lite0", frame_hw=(256, 320))
    return place / "model"
