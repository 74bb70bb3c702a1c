"""What the augmentations of all tasks share: settings whose ranges are checked, and other colors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.pick import need

GRAY = 114  # what lies outside an image
COLORS = ("brightness", "contrast", "saturation", "hue_deg")
WEAR = ("gray", "blur", "jpeg")
CHANCES = ("flip", "visible", "paste", *WEAR)
SHARES = ("brightness", "contrast", "saturation", "shift", "cutout", "aspect")
DEGREES = ("rotate_deg", "hue_deg")

# RGB to YIQ: saturation and hue are a scaling and a turn of the last two
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_RGB = np.linalg.inv(_YIQ)


class Settings:
    """How far an image may be changed: the base of each task's dataclass `Augment`, whose fields it checks by name.

    Raises DataError for a value out of its range.
    """

    def __post_init__(self) -> None:
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):  # type: ignore[arg-type]
            if name == "scale":
                least, most = value
                if not 0.05 <= least <= most <= 20:
                    raise DataError(f"scale is {least} to {most}; wanted 0.05 <= least <= most <= 20")
            if name in CHANCES and not 0 <= value <= 1:
                raise DataError(f"{name} is {value}; wanted 0 to 1")
            if name in SHARES and not 0 <= value < 1:
                raise DataError(f"{name} is {value}; wanted 0 or more and below 1")
            if name in DEGREES and not 0 <= value <= 180:
                raise DataError(f"{name} is {value}; wanted 0 to 180 degrees")

    @property
    def color(self) -> dict[str, Any]:
        """What `recolored` takes."""
        return {name: getattr(self, name) for name in COLORS}

    @property
    def wear(self) -> dict[str, float]:
        """What `worn` takes."""
        return {name: getattr(self, name) for name in WEAR}


def worn(rgb: np.ndarray, rng: np.random.Generator, *, gray: float, blur: float, jpeg: float) -> np.ndarray:
    """An image as worse cameras and apps hand it over. (h, w, 3) uint8 RGB in and out.

    gray: chance that it has no colors; blur: that it is out of focus, Gaussian, sigma up to 1.5 px; jpeg: that it was
    saved with a quality of 25 to 85.
    """
    cv2 = need("cv2", "train")
    if gray and rng.random() < gray:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if blur and rng.random() < blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.5))
    if jpeg and rng.random() < jpeg:
        # the order of the colors makes no difference: what goes in as RGB comes out as RGB
        rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 86))])[1], 1)
    return np.asarray(rgb)


def recolored(
    rgb: np.ndarray, rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue_deg: float
) -> np.ndarray:
    """Other colors, as one matrix. (h, w, 3) uint8 RGB in and out.

    brightness, contrast, saturation: most change as a factor, 0.3 for 0.7 to 1.3. hue_deg: most turn of the colors.
    """
    cv2 = need("cv2", "train")
    brightness, contrast, saturation = (1 + rng.uniform(-1, 1) * most for most in (brightness, contrast, saturation))
    hue = np.deg2rad(rng.uniform(-hue_deg, hue_deg))
    if (brightness, contrast, saturation, float(hue)) == (1, 1, 1, 0):
        return rgb
    cos, sin = saturation * np.cos(hue), saturation * np.sin(hue)
    turn = _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ
    matrix = brightness * contrast * turn
    offset = brightness * (1 - contrast) * float(rgb.mean())
    both = np.concatenate([matrix, np.full((3, 1), offset)], axis=1)
    return np.asarray(cv2.transform(rgb, both))
