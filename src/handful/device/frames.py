"""Photographs as the frames a compiled model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handful.device.compile import Artefact
from handful.errors import DataError
from handful.image import fit
from handful.types import Image


def frames_of(artefact: Artefact, images: Sequence[Image | np.ndarray] | None) -> np.ndarray:
    """(n, h, w, 3) uint8 RGB at the model's frame size. images: Image or uint8 (h, w, 3) RGB; None: the samples.

    Raises DataError for no images, or something that is not an image.
    """
    if images is None:
        from handful.data.sample_images import sample_photos

        images = sample_photos()
    if not len(images):
        raise DataError("no photographs were given; give at least one")
    _, height, width, _ = artefact.meta["inputs"][0]["shape"]
    stills = [one if isinstance(one, Image) else Image(one) for one in images]
    return np.stack([fit(still.rgb_u8, (height, width)) for still in stills])
