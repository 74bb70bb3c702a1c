"""Augmentation for segmentation: an image and its labels changed together, by numbers that follow from (seed, epoch,
image) and nothing else.

So it makes no difference how many workers there are, in which order they finish, or whether training was stopped and
resumed between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.pick import need
from handful.training.augment import GRAY, Settings, recolored, worn
from handful.training.metrics import IGNORE


@dataclass(frozen=True)
class Augment(Settings):
    """How far an image may be changed.

    flip: chance of a mirror image. scale: (least, most) enlargement, log-uniform, before the crop is cut. rotate_deg:
    most turn to either side. aspect: most change of width to height, as a factor. brightness, contrast, saturation:
    most change as a factor, 0.3 for 0.7..1.3. hue_deg: most turn of the colors. gray, blur, jpeg: chances that it is
    worn (handful.training.augment.worn). paste: chance that what another image shows, but for its background, is put
    into this one (Ghiasi 2021, Simple Copy-Paste, arXiv:2012.07177). draws: how often a crop without any label is drawn
    anew.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    rotate_deg: float = 10.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue_deg: float = 10.0
    draws: int = 5
    aspect: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    paste: float = 0.0


NOTHING = Augment(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def augmented(
    rgb: np.ndarray, labels: np.ndarray, crop_hw: tuple[int, int], how: Augment, key: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A crop of a changed image and its labels.

    rgb: (h, w, 3) uint8 RGB. labels: (h, w) uint8, 255 ignored. key: (seed, epoch, number of the image), from which
    every random choice follows. Returns uint8 crops (crop_h, crop_w, 3) and (crop_h, crop_w); what lies outside the
    image is mid-gray and ignored. Labels are taken from the nearest pixel, so no new value comes up.
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
    warped = cv2.warpAffine(source, way, inside, flags=cv2.INTER_LINEAR, borderValue=(GRAY, GRAY, GRAY))
    return worn(recolored(warped, rng, **how.color), rng, **how.wear), cut


def pasted(
    rgb: np.ndarray, labels: np.ndarray, other: tuple[np.ndarray, np.ndarray], rng: np.random.Generator,
    background: int | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """A crop with what another shows put in: each class of it by an even chance, one at least, never the background.

    other: a crop of the same size, with its labels. background: the number of the class that is everything else, None
    where no class is. Returns new arrays as `augmented` does; the edges are smooth over a pixel or two.
    """
    cv2 = need("cv2", "train")
    there = [int(v) for v in np.unique(other[1]) if v not in (IGNORE, background)]
    if not there:
        return rgb, labels
    taken = [v for v in there if rng.random() < 0.5] or [there[int(rng.integers(len(there)))]]
    put = np.isin(other[1], taken)
    share = cv2.GaussianBlur(put.astype(np.float32), (0, 0), 0.7)[..., None]
    both = rgb + share * (other[0].astype(np.float32) - rgb)
    return np.asarray(both.round(), dtype=np.uint8), np.where(put, other[1], labels)


def _way(size: tuple[int, int], crop_hw: tuple[int, int], how: Augment, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) float64: from pixels of the image to pixels of the crop."""
    flip = rng.random() < how.flip
    scale = float(np.exp(rng.uniform(np.log(how.scale[0]), np.log(how.scale[1]))))
    angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if how.aspect:
        wider = float(np.exp(rng.uniform(-1, 1) * np.log1p(how.aspect) / 2))
        turn = turn @ np.diag([wider, 1 / wider])
    if flip:
        turn = turn @ np.array([[-1.0, 0.0], [0.0, 1.0]])
    height, width = size
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    center = np.array([(crop_hw[1] - 1) / 2, (crop_hw[0] - 1) / 2])
    # where the image is larger than the crop any part of it may be cut; where it is smaller it may lie anywhere in it
    room = np.abs(np.array([width * scale - crop_hw[1], height * scale - crop_hw[0]])) / 2
    shift = center - turn @ middle + rng.uniform(-1, 1, 2) * room
    return np.concatenate([turn, shift[:, None]], axis=1)
