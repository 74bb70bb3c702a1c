"""Small seeds for the tests of the farm: pieces of real photographs with a mask each, as one-frame films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PIL_Image

from handful.data.sample_images import SAMPLES, sample_photo
from handful.lucid.seed import SeedRef, seeds_of

SIZE_WH = 128, 96


def mask(i: int) -> np.ndarray:
    """(96, 128) uint8: one ellipse, for every third seed two."""
    y, x = np.mgrid[:96, :128]
    ids = (((x - 45 - i % 20) / 22.0) ** 2 + ((y - 50) / 20.0) ** 2 < 1).astype(np.uint8)
    if i % 3 == 0:
        ids[((x - 100) / 12.0) ** 2 + ((y - 30) / 14.0) ** 2 < 1] = 2
    return ids


def clips(root: Path, names: Sequence[str], *, bad: dict[str, str] | None = None) -> Path:
    """A DAVIS folder with a film of one frame a name. bad: {name: "photo", "empty", "full" or "size"}."""
    photos = [sample_photo(name).rgb_u8 for name in list(SAMPLES)[:4]]
    for i, name in enumerate(names):
        fault = (bad or {}).get(name, "")
        photo = root / "JPEGImages" / "480p" / name / "00000.jpg"
        photo.parent.mkdir(parents=True)
        PIL_Image.fromarray(photos[i % len(photos)]).resize(SIZE_WH).save(photo, quality=90)
        if fault == "photo":
            photo.write_bytes(photo.read_bytes()[:700])
        ids = {"empty": mask(i) * 0, "full": mask(i) * 0 + 1, "size": mask(i)[:-5]}.get(fault, mask(i))
        at = root / "Annotations" / "480p" / name / "00000.png"
        at.parent.mkdir(parents=True)
        picture = PIL_Image.fromarray(ids)
        picture.putpalette([v for k in range(256) for v in (k, 0, 0)])
        picture.save(at)
    return root


def refs(root: Path) -> list[SeedRef]:
    """The seeds of such a folder."""
    from handful.data import formats

    return list(seeds_of(formats.read(root)))
