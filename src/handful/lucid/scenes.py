"""Scenes of many objects with exact boxes and masks, for detectors: cut out of some images, pasted into others.

Ghiasi et al. 2021 (arXiv 2012.07177): large-scale jitter, no blending needed; and Dwibedi et al. 2017
(arXiv 1708.01642) on borders. Objects that an image cuts off are only put where the new frame cuts them off too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from handful.errors import DataError
from handful.lucid import blend, light
from handful.lucid.cut import PAD_PX, Cutout, box_of, cut, premultiplied
from handful.lucid.fill import fill, hole_of
from handful.lucid.move import Warp, pose, remapped
from handful.lucid.seed import Seed
from handful.lucid.settings import PRESETS, Ranges
from handful.types import Boxes

TRIES = 12  # places looked at before an object is left out


@dataclass(frozen=True, eq=False)
class Item:
    """Something to paste. label: its class id, 0 for "an object". flip: whether it may be mirrored (text may not)."""

    cutout: Cutout
    label: int = 0
    flip: bool = True


@dataclass(frozen=True, eq=False)
class Scene:
    """rgb_u8: (h, w, 3) uint8. ids: (h, w) uint16, the pixels of object i are i + 1. boxes: around what can be seen of
    each object, with its label. visible: (n,) float32, which share of the object inside the frame can be seen.
    """

    rgb_u8: np.ndarray
    ids: np.ndarray
    boxes: Boxes
    visible: np.ndarray


def items_of(seed: Seed, labels: dict[int, int] | None = None, *, fill_with: str = "telea-half",
             min_px: int = 400, rng: np.random.Generator) -> list[Item]:  # fmt: skip
    """Every object of a seed (ids are taken as objects) that has min_px pixels and is not cut off on opposite sides.

    labels: class of each id; all 0 without. Objects that touch another are left out: a part of them is likely hidden,
    and a scene would show the cut.
    """
    background = fill(seed.rgb_u8, hole_of(seed.foreground), fill_with, rng=rng)
    items = []
    for number in np.unique(seed.ids[seed.foreground]).tolist():
        part = seed.ids == number
        around = cv2.dilate(part.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if part.sum() < min_px or (seed.foreground & around & ~part).any():
            continue
        item = Item(cut(seed.rgb_u8, seed.ids, part, background), (labels or {}).get(number, 0))
        left, top, right, bottom = item.cutout.touches
        if not (left and right) and not (top and bottom):
            items.append(item)
    return items


def scene(
    base: Seed | np.ndarray, items: Sequence[Item], *, rng: np.random.Generator, count: tuple[int, int] = (3, 12),
    scale: tuple[float, float] = (0.1, 2.0), min_side_px: int = 12, min_visible: float = 0.35,
    blur_px: float = 1.2, base_labels: dict[int, int] | None = None, ranges: Ranges | None = None,
) -> Scene:  # fmt: skip
    """Paste `count` (least, most) random items into an image.

    base: an image (h, w, 3) uint8 RGB without objects, or a seed, whose own objects stay and are labeled by
    base_labels. scale: smallest and largest factor, drawn evenly in its logarithm; nothing becomes larger than the
    frame nor narrower than min_side_px. min_visible: nothing is put where it would hide an earlier object more than
    that. blur_px: largest defocus (sigma) of an object. ranges: illumination of each object ("strong" without).
    Raises DataError without items.
    """
    if not items:
        raise DataError("a scene needs at least one object to paste; every seed's objects were too small or cut off")
    ranges = ranges or PRESETS["strong"]
    frame, ids, labels, whole = _begun(base, base_labels or {})
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        item = items[int(rng.integers(len(items)))]
        for _ in range(TRIES):
            placed = _placed(item, rng, ids.shape[::-1], scale, min_side_px)
            if placed is None:
                continue
            warp, box = placed
            maps = warp.maps(box, item.cutout.xy)
            mask = remapped(item.cutout.mask_u8, maps) >= 128
            if mask.sum() < min_side_px**2 / 2 or not _leaves_enough(ids, mask, box, whole, min_visible):
                continue
            _paste(frame, item, maps, box, rng, ranges, blur_px)
            whole.append(int(mask.sum()))
            labels.append(item.label)
            np.copyto(ids[box[1] : box[3], box[0] : box[2]], np.uint16(len(labels)), where=mask)
            break
    return _scene(frame, ids, labels, whole)


def _begun(base: Seed | np.ndarray, labels: dict[int, int]) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    if not isinstance(base, Seed):
        return base.copy(), np.zeros(base.shape[:2], np.uint16), [], []
    ids = np.zeros(base.ids.shape, np.uint16)
    ids[base.ids == base.ignore] = 65535
    found, sizes = np.unique(base.ids[base.foreground], return_counts=True)
    for index, number in enumerate(found.tolist(), start=1):
        ids[base.ids == number] = index
    return base.rgb_u8.copy(), ids, [labels.get(number, 0) for number in found.tolist()], sizes.tolist()


def _placed(
    item: Item, rng: np.random.Generator, size_wh: tuple[int, ...], scale: tuple[float, float], min_side_px: int
) -> tuple[Warp, tuple[int, int, int, int]] | None:
    height, width = item.cutout.mask_u8.shape
    inner = np.array([width, height]) - 2 * PAD_PX
    frame = np.array(size_wh)
    low = max(scale[0], min_side_px / inner.min())
    high = min(scale[1], float((frame / inner).min()))
    if low > high:
        return None
    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    flip = item.flip and bool(rng.uniform() < 0.5)
    left, top, right, bottom = item.cutout.touches
    if flip:
        left, right = right, left
    turn = 0.0 if any(item.cutout.touches) else float(rng.normal() * 5)
    about = np.array(item.cutout.xy) + np.array([width - 1, height - 1]) / 2
    half = factor * inner / 2
    # at least half of it in the frame, along each side
    goal = rng.uniform(0, 1, 2) * frame
    goal = np.where([left, top], half - 1, np.where([right, bottom], frame - half, goal))
    warp = Warp(pose(about, goal - about, turn, factor, flip))
    corners = np.array(item.cutout.xy) + np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    places = warp.forth(corners)
    box = (*np.maximum(0, np.floor(places.min(0))), *np.minimum(frame, np.ceil(places.max(0)) + 1))
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        return None
    return warp, (int(box[0]), int(box[1]), int(box[2]), int(box[3]))


def _leaves_enough(
    ids: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int], whole: Sequence[int], least: float
) -> bool:
    window = ids[box[1] : box[3], box[0] : box[2]]
    for number in np.unique(window[mask]).tolist():
        if 0 < number < 65535:
            left = int((ids == number).sum()) - int((mask & (window == number)).sum())
            if left < least * whole[number - 1]:
                return False
    return True


def _paste(
    frame: np.ndarray, item: Item, maps: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator,
    ranges: Ranges, blur_px: float,
) -> None:  # fmt: skip
    layer = remapped(item.cutout.rgba_u8, maps)
    alpha = layer[..., 3]
    curve = light.curves(rng, 1, ranges)[0]
    # premultiplied colors are darker at the border, where their light would be changed as a shadow's
    solid = np.maximum(alpha, 1)[..., None].astype(np.float32) / 255
    plain = np.clip(layer[..., :3] / solid, 0, 255).astype(np.uint8)
    color = light.relit(plain, curve)
    layer = premultiplied(color, alpha)
    sigma = float(rng.uniform(0, blur_px)) if rng.uniform() < 0.5 else 0.0
    if sigma > 0.3:
        layer = cv2.GaussianBlur(layer, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    blend.feather(frame, layer, box[:2])


def _scene(frame: np.ndarray, ids: np.ndarray, labels: Sequence[int], whole: Sequence[int]) -> Scene:
    boxes, kept, visible = [], [], []
    numbers = np.zeros(65536, np.uint16)
    numbers[65535] = 65535
    for number, (label, size) in enumerate(zip(labels, whole, strict=True), start=1):
        mask = ids == number
        if not mask.any():
            continue
        boxes.append(box_of(mask))
        kept.append(label)
        visible.append(mask.sum() / size)
        numbers[number] = len(kept)
    found = Boxes(np.array(boxes, np.float32).reshape(-1, 4), np.array(kept, np.int64))
    return Scene(frame, numbers[ids], found, np.array(visible, np.float32))
