"""A photo and its labels changed together, by numbers that follow from (seed, epoch, photo) and nothing else.

So it makes no difference how many workers there are, in which order they finish, or whether training was stopped and
resumed between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.errors import DataError
from handful.pick import need
from handful.training.metrics import IGNORE

# RGB to YIQ: saturation and hue are a scaling and a turn of the last two
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_RGB = np.linalg.inv(_YIQ)

COLOURS = ("brightness", "contrast", "saturation", "hue_deg")


@dataclass(frozen=True)
class Augment:
    """How far a photo may be changed.

    flip: chance of a mirror image. scale: (least, most) enlargement, log-uniform, before the crop is cut. rotate_deg:
    most turn to either side. brightness, contrast, saturation: most change as a factor, 0.3 for 0.7..1.3. hue_deg:
    most turn of the colours. draws: how often a crop without any label is drawn anew.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    rotate_deg: float = 10.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue_deg: float = 10.0
    draws: int = 5

    def __post_init__(self) -> None:
        least, most = self.scale
        if not 0 <= self.flip <= 1:
            raise DataError(f"flip is {self.flip}; wanted a chance, 0 to 1")
        if not 0.05 <= least <= most <= 20:
            raise DataError(f"scale is {least} to {most}; wanted 0.05 <= least <= most <= 20")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 or more and below 1")
        for name in ("rotate_deg", "hue_deg"):
            if not 0 <= getattr(self, name) <= 180:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 to 180 degrees")


NOTHING = Augment(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def augmented(
    rgb: np.ndarray, labels: np.ndarray, crop_hw: tuple[int, int], how: Augment, key: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A crop of a changed photo and its labels.

    rgb: (h, w, 3) uint8, red first. labels: (h, w) uint8, 255 ignored. key: (seed, epoch, number of the photo), from
    which all chances follow. Returns uint8 crops (crop_h, crop_w, 3) and (crop_h, crop_w); what lies outside the photo
    is mid-grey and ignored. Labels are taken from the nearest pixel, so no new value comes up.
    """
    cv2 = need("cv2", "train")
    rng = np.random.default_rng((*key, 1))
    size, inside = labels.shape, (crop_hw[1], crop_hw[0])
    for _ in range(max(1, how.draws)):
        way = _way(size, crop_hw, how, rng)
        cut = cv2.warpAffine(labels, way, inside, flags=cv2.INTER_NEAREST, borderValue=IGNORE)
        if (cut != IGNORE).any():
            break
    # bilinear reads 2x2 pixels, so what gets smaller than half would flicker without smoothing first
    shrink = 1 / float(np.sqrt(abs(np.linalg.det(way[:, :2]))))
    source = cv2.GaussianBlur(rgb, (0, 0), 0.35 * shrink) if shrink > 1.5 else rgb
    warped = cv2.warpAffine(source, way, inside, flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114))
    colours = {k: getattr(how, k) for k in COLOURS}
    return coloured(warped, rng, **colours), cut


def _way(size: tuple[int, int], crop_hw: tuple[int, int], how: Augment, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) float64: from pixels of the photo to pixels of the crop."""
    flip = rng.random() < how.flip
    scale = float(np.exp(rng.uniform(np.log(how.scale[0]), np.log(how.scale[1]))))
    angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if flip:
        turn = turn @ np.array([[-1.0, 0.0], [0.0, 1.0]])
    height, width = size
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    centre = np.array([(crop_hw[1] - 1) / 2, (crop_hw[0] - 1) / 2])
    # where the photo is larger than the crop any part of it may be cut; where it is smaller it may lie anywhere in it
    room = np.abs(np.array([width * scale - crop_hw[1], height * scale - crop_hw[0]])) / 2
    shift = centre - turn @ middle + rng.uniform(-1, 1, 2) * room
    return np.concatenate([turn, shift[:, None]], axis=1)


def coloured(
    rgb: np.ndarray, rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue_deg: float
) -> np.ndarray:
    """Changes of at most so much, as one matrix; see Augment. (h, w, 3) uint8 in and out."""
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
