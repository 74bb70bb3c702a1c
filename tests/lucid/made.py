"""Seeds for the tests: a photograph from an installed package, and masks drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from handful.data import formats
from handful.lucid.seed import Seed
from handful.types import Category, Dataset, Object, Sample
from tests.conftest import save


def photo(width: int = 240, height: int = 160) -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA))


def smooth(width: int = 240, height: int = 160) -> np.ndarray:
    """An image without fine detail, so that resampling it costs next to nothing."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [100 + 60 * np.sin(x / 31 + k) + 50 * np.cos(y / 23 + 2 * k) for k in range(3)]
    return np.ascontiguousarray(np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8))


def ids(*ellipses: Sequence[int], width: int = 240, height: int = 160, dtype: type = np.uint8) -> np.ndarray:
    """Ids 1, 2, ... as ellipses (x, y, half width, half height)."""
    made = np.zeros((height, width), np.uint16)
    for number, (x, y, a, b) in enumerate(ellipses, start=1):
        yy, xx = np.mgrid[0:height, 0:width]
        made[((xx - x) / a) ** 2 + ((yy - y) / b) ** 2 <= 1] = number
    return made.astype(dtype)


def seed(*ellipses: Sequence[int], rgb: np.ndarray | None = None, name: str = "a.jpg", whole: bool = True) -> Seed:
    return Seed(name, photo() if rgb is None else rgb, ids(*(ellipses or [(110, 80, 40, 30)])), whole)


def labelled(folder: Path, photos: int = 3) -> Path:
    """A COCO folder of photos with two outlined objects each."""
    samples = []
    for k in range(photos):
        path = save(np.roll(photo(), 40 * k, 1), folder.parent / "photos" / f"{k}.jpg")
        corners = (((30, 30), (90, 35), (80, 110), (35, 100)), ((150, 50), (210, 60), (190, 120)))
        things = tuple(Object("thing", polygons_px=(np.array(c, float),)) for c in corners)
        samples.append(Sample(path, name=f"{k}.jpg", split="train", objects=things, size_wh=(240, 160)))
    dataset = Dataset("made", folder.parent, (Category(1, "thing"),), lambda: iter(samples), len(samples))
    formats.write(dataset, folder, "coco")
    return folder
