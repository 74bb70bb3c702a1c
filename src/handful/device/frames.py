"""Photographs as what a compiled model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handful.bundle import Bundle
from handful.device.targets.job import Feed
from handful.errors import DataError
from handful.image import Image, fit


def photos_of(images: Sequence[Image | np.ndarray] | None) -> list[np.ndarray]:
    """Each (h, w, 3) uint8 RGB. images: Image or such an array; None: the photographs that come along.

    Raises DataError for no images, or something that is not an image.
    """
    if images is None:
        from handful.data.sample_images import sample_photos

        images = sample_photos()
    if not len(images):
        raise DataError("no photographs were given; give at least one")
    return [(one if isinstance(one, Image) else Image(one)).rgb_u8 for one in images]


def frames_of(bundle: Bundle, photos: Sequence[np.ndarray]) -> list[Feed]:
    """Photographs squashed to the frame of a bundle's one graph, as feeds for it."""
    (port,) = bundle.graphs[0].inputs
    height, width = port.shape[1:3]
    return [{port.name: np.ascontiguousarray(fit(photo, (height, width))[None])} for photo in photos]
