"""Augmentation for detection: an image, its boxes and its masks changed together.

Every random choice is a function of (seed, epoch, image).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from handful.data.shapes import bounds
from handful.pick import need
from handful.training.augment import GRAY, Settings, recolored


@dataclass(frozen=True)
class Augment(Settings):
    """How far an image and its boxes may be changed.

    flip: chance of a mirror image. scale: (least, most) enlargement, log-uniform; above 1 a part is cut out, below 1
    gray is put around. visible: share of an object that must be left in such a part, or it is no longer looked for.
    brightness, contrast, saturation: most change as a factor. hue_deg: most turn of the colors. draws: how often a
    part without anything is drawn anew.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.6, 1.8)
    visible: float = 0.3
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue_deg: float = 5.0
    draws: int = 5


NOTHING = Augment(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def augmented(
    rgb: np.ndarray, boxes: np.ndarray, masks: np.ndarray | None, how: Augment, key: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """A changed image of the same size and what is left in it.

    rgb: (h, w, 3) uint8 RGB. boxes: (k, 4) float32 px. masks: (k, h, w) uint8 of 0 and 1. key: (seed, epoch, number of
    the image), from which every random choice follows. Returns rgb, boxes and masks of the m objects left, and (m,)
    int64 which they were. With masks, the box of an object that was cut is drawn anew around what is left of it.
    """
    rng = np.random.default_rng((*key, 5))
    tv = need("torchvision.tv_tensors", "train")
    height, width = rgb.shape[:2]
    pixels = tv.Image(torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))))
    marks = tv.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width), clamping_mode=None)
    layers = [pixels, marks, *([tv.Mask(torch.from_numpy(masks))] if masks is not None else [])]
    for _ in range(max(1, how.draws)):
        moved = _moved(layers, how, rng)
        kept, which, cut = _left(moved[1], how.visible)
        if len(which) or not len(boxes):
            break
    own = moved[2].as_subclass(torch.Tensor)[which].numpy() if masks is not None else None
    if own is not None:
        there = [i for i in range(len(which)) if own[i].any()]
        own, kept, which, cut = own[there], kept[there], which[there], cut[there]
        for i in np.flatnonzero(cut):
            kept[i] = bounds(own[i])
    image = np.ascontiguousarray(moved[0].as_subclass(torch.Tensor).permute(1, 2, 0).numpy())
    return recolored(image, rng, **how.color), kept, own, which


def _moved(layers: list[Any], how: Augment, rng: np.random.Generator) -> list[Any]:
    """Image, boxes and masks mirrored and zoomed alike, by torchvision.transforms.v2; boxes may leave the image."""
    v2 = need("torchvision.transforms.v2.functional", "train")
    size = height, width = layers[0].shape[1:]
    flip = rng.random() < how.flip
    scale = float(np.exp(rng.uniform(np.log(how.scale[0]), np.log(how.scale[1]))))
    part = max(1, round(height / scale)), max(1, round(width / scale))
    share = rng.random(2)
    if flip:
        layers = [v2.horizontal_flip(one) for one in layers]
    if part == size:
        return layers
    top, left = (int(s * (abs(whole - own) + 1)) for s, whole, own in zip(share, size, part, strict=True))
    if part[0] <= height and part[1] <= width:
        return [v2.resized_crop(one, top, left, *part, list(size), antialias=True) for one in layers]
    around = [left, top, part[1] - width - left, part[0] - height - top]
    padded = [v2.pad(one, around, fill=GRAY if i == 0 else 0) for i, one in enumerate(layers)]
    return [v2.resize(one, list(size), antialias=True) for one in padded]


def _left(marks: Any, visible: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes cut at the image's edge: the (m, 4) of which enough is left, (m,) which those are, (m,) whether cut."""
    v2 = need("torchvision.transforms.v2.functional", "train")
    whole = marks.as_subclass(torch.Tensor).numpy()
    inside = v2.clamp_bounding_boxes(marks, clamping_mode="hard").as_subclass(torch.Tensor).numpy()
    sides, before = inside[:, 2:] - inside[:, :2], whole[:, 2:] - whole[:, :2]
    fine = (sides >= 1).all(1) & (sides.prod(1) >= visible * before.prod(1))
    which = np.flatnonzero(fine)
    return inside[which], which, (inside != whole).any(1)[which]
