"""Tiny data sets of boxes under a sky, and a network that learns them in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PIL_Image

import handful.models

NETS = str(Path(__file__).parent / "nets")


def known() -> None:
    """Make the stub one of the networks."""
    if NETS not in handful.models.__path__:
        handful.models.__path__.append(NETS)


NAMES = {0: "background", 1: "box", 2: "sky"}
SIZE_HW = (32, 48)


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL_Image.fromarray(array).save(path)
    return path


def ids_of(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = np.zeros(size_hw, np.uint8)
    y, x = rng.integers(8, 16), rng.integers(2, 24)
    ids[y : y + 12, x : x + 14] = 1
    ids[: rng.integers(3, 7)] = 2
    return ids


def photo_of(ids: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    colors = np.zeros((256, 3))
    colors[:3] = (90, 140, 90), (200, 60, 40), (40, 60, 200)
    return (colors[ids] + rng.normal(0, 20, (*ids.shape, 3))).clip(0, 255).astype(np.uint8)


def small(root: Path, splits: dict[str, int] | None = None, names: dict[int, str] | None = None, seed: int = 0) -> Path:
    """images/ and masks/ with splits; photo i of a split is SPLIT/i.png, the first of all made with seed + 1."""
    for split, n in (splits or {"train": 10, "val": 3}).items():
        for i in range(n):
            seed += 1
            ids = ids_of(seed)
            write(root / "images" / split / f"{i}.png", photo_of(ids, seed))
            write(root / "masks" / split / f"{i}.png", ids)
    labels = {str(k): v for k, v in (names or NAMES).items()}
    (root / "labels.json").write_text(json.dumps({"labels": labels, "ignore": 255}))
    return root


FAST: dict[str, Any] = {"net": "stub", "epochs": 3, "batch": 4, "lr": 0.02, "threads": 1}
