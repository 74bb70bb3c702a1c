"""The photographs that come inside scikit-image, scikit-learn and matplotlib: real pictures on any machine."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

from handful.errors import DataError, MissingPackage
from handful.image import read_image
from handful.types import Image

# name -> (package that carries it, file inside it); what is in the picture is its name
SAMPLES = {
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "building": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "officer": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
}


def sample_photo(name: str) -> Image:
    """One of SAMPLES by name. Raises MissingPackage when the package that carries it is not installed."""
    package, file = SAMPLES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackage(
            f"{package}, which carries the image {name!r}, is absent; run: pip install 'handful[demo]'"
        )
    path = Path(spec.origin).parent / file
    if not path.exists():
        raise DataError(f"{path} is missing from {package}; reinstall it, or give images of your own")
    image = _read(path)
    return replace(image, rgb_u8=image.rgb_u8.copy())


_read = cache(read_image)  # each is asked for many times, and takes up to 20 ms to decode


def sample_photos() -> list[Image]:
    """All of SAMPLES, in that order."""
    return [sample_photo(name) for name in SAMPLES]
