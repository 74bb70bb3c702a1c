"""Photos whose things have boxes, or boxes and pixels, into batches for a detector: decoded once, changed by chance.

Every chance is a function of (seed, epoch, photo), as in handful.training.loader_segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data.shapes import bounds, box_of
from handful.errors import DataError
from handful.image import fit
from handful.pick import need, unknown
from handful.progress import note, track, warn
from handful.training.augment_segment import COLOURS, coloured
from handful.training.batches import Shuffled
from handful.training.coco_table import mask_of, run_lengths, truth_row
from handful.training.loader_segment import RAM_BYTES, nearest, photo_of, room, say_skipped, split_of
from handful.types import Boxes, Dataset, Sample

Target = dict[str, torch.Tensor]
Batch = tuple[np.ndarray, list[Target], np.ndarray]  # see BoxedBatches
GREY = 114
IGNORED = -1  # the label of a region in which nothing is asked of the network


@dataclass(frozen=True)
class Zoom:
    """How far a photo and its boxes may be changed.

    flip: chance of a mirror image. scale: (least, most) enlargement, log-uniform; above 1 a part is cut out, below 1
    grey is put around. visible: share of a thing that must be left of it in such a part, or it is no longer looked for.
    brightness, contrast, saturation: most change as a factor. hue_deg: most turn of the colours. draws: how often a
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

    def __post_init__(self) -> None:
        least, most = self.scale
        if not 0.05 <= least <= most <= 20:
            raise DataError(f"scale is {least} to {most}; wanted 0.05 <= least <= most <= 20")
        for name in ("flip", "visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}; wanted 0 or more and below 1")
        if not 0 <= self.hue_deg <= 180:
            raise DataError(f"hue_deg is {self.hue_deg}; wanted 0 to 180 degrees")


NOTHING = Zoom(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Boxed:
    """The photos of one split, of one size, with the things in them.

    rgb: (n, h, w, 3) uint8, red first; None where there is no room and each is decoded when it is asked for. boxes: of
    each photo (k, 4) float32 px of that size; labels: (k,) int64, IGNORED for a crowd where no masks are learned;
    masks: k run lengths as pycocotools has them, of that size, where masks are learned. truth: what was said of each
    photo, as rows of COCO at the photo's own size sizes_wh, crowds and things too small to learn among them. images,
    things: photos and things of each class, crowds not among
    them. dropped: {why: how many} things that are not learned. names, skipped, sha256: as
    handful.training.loader_segment.Photos.
    """

    classes: tuple[str, ...]
    with_masks: bool
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    load: Callable[[Sample], np.ndarray]
    rgb: np.ndarray | None
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    masks: tuple[list[dict[str, Any]], ...]
    truth: tuple[list[dict[str, Any]], ...]
    sizes_wh: tuple[tuple[int, int], ...]
    images: tuple[int, ...]
    things: tuple[int, ...]
    dropped: dict[str, int]
    skipped: dict[str, list[str]]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def photo(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8."""
        return self.load(self.samples[index]) if self.rgb is None else self.rgb[index]

    def masks_of(self, index: int, size_hw: tuple[int, int]) -> np.ndarray | None:
        """(k, h, w) uint8 of 0 and 1; None where no masks are learned."""
        if not self.with_masks:
            return None
        if not self.masks[index]:
            return np.zeros((0, *size_hw), np.uint8)
        stacked = need("pycocotools.mask", "data").decode(self.masks[index])
        return np.ascontiguousarray(stacked.transpose(2, 0, 1))

    @property
    def missing(self) -> list[str]:
        """Classes without a single thing."""
        return [name for name, n in zip(self.classes, self.things, strict=True) if not n]


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all that can be counted. Raises UnknownName or DataError."""
    known = [c.name for c in dataset.categories]
    for name in wanted or ():
        if name not in known:
            raise unknown("class", name, known)
    chosen = tuple(dict.fromkeys(wanted or [c.name for c in dataset.categories if c.thing is not False]))
    if not chosen:
        raise DataError(f"{dataset.root} has no class of things to find; wanted one or more")
    return chosen


def gather(
    dataset: Dataset, split: str, classes: Sequence[str], size_hw: tuple[int, int], *, masks: bool = False,
    scratch: Path | None = None, ram_bytes: int = RAM_BYTES, leave_out: bool = False,
) -> Boxed:  # fmt: skip
    """Decode a split, photos squashed to size_hw (bilinear, antialiased), boxes with them, masks likewise (nearest).

    masks: also the pixels of each thing. scratch, leave_out: as handful.training.loader_segment.gather. Photos that
    nobody looked at
    are left out and said, and so are those with a thing that has no box, or no pixels where masks are wanted; photos
    in which nothing is are kept. Crowds, and things that would be less than a pixel, are not learned, and said; a crowd
    is a region to ignore where no masks are learned, for networks that know of such.
    Raises DataError, naming the photo, for one that cannot be read, is of another size than its labels say, or has a
    box with NaN or no area in the photo; and when no photo is left or shows anything of the classes.
    """
    samples = split_of(dataset, split)
    pair = room([(len(samples), *size_hw, 3)], scratch, ram_bytes, split)
    rgb = pair[0] if pair is not None else None
    number = {name: i for i, name in enumerate(classes)}
    kept: list[Sample] = []
    found: list[_Things] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw), masks)).encode())

    def load(sample: Sample) -> np.ndarray:
        return fit(photo_of(sample).rgb_u8, size_hw)

    for sample in track(samples, f"decoding {split}", len(samples)):
        name = sample.name or str(sample.path)
        try:
            things: _Things | str = "nobody marked what is in them"
            if sample.objects is not None:
                image = photo_of(sample)
                things = _things(sample, image.size_wh, number, size_hw, masks)
        except DataError as error:
            if not leave_out:
                raise
            things = str(error)
        if isinstance(things, str):
            skipped.setdefault(things, []).append(name)
            continue
        photo = fit(image.rgb_u8, size_hw)
        digest.update(f"{name}\0{things.truth!r}\0".encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(photo).data)
        if rgb is not None:
            rgb[len(kept)] = photo
        kept.append(sample)
        found.append(things)
    say_skipped(skipped, split, len(samples))
    dropped = {why: n for why in _DROPPED if (n := sum(one.dropped[why] for one in found))}
    for why, n in dropped.items():
        note(f"{split}: {n} things are not learned, {why}")
    k = len(classes)
    counts = [np.bincount(one.labels[one.labels != IGNORED], minlength=k) for one in found]
    total = np.sum(counts, axis=0) if counts else np.zeros(k, int)
    if not total.sum():
        raise DataError(f"{dataset.root}: no photo of {split} shows a {' or '.join(classes[:8])}; check that these are "
                        f"its classes, and that things are marked by {'outlines' if masks else 'boxes'}")  # fmt: skip
    boxed = Boxed(
        tuple(classes), masks, tuple(s.name or str(s.path) for s in kept), tuple(kept), load,
        None if rgb is None else rgb[: len(kept)], tuple(t.boxes for t in found), tuple(t.labels for t in found),
        tuple(t.masks for t in found), tuple(t.truth for t in found), tuple(t.size_wh for t in found),
        tuple(int(n) for n in np.sum([c > 0 for c in counts], axis=0)), tuple(total.tolist()), dropped, skipped,
        digest.hexdigest(),
    )  # fmt: skip
    if boxed.missing:
        warn(f"{split} shows nothing of {len(boxed.missing)} classes: {', '.join(boxed.missing)}")
    return boxed


_DROPPED = ("they are crowds", "they are smaller than a pixel of the frame")


@dataclass(frozen=True, eq=False)
class _Things:
    boxes: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]]
    truth: list[dict[str, Any]]
    size_wh: tuple[int, int]
    dropped: dict[str, int]


def _things(
    sample: Sample, size_wh: tuple[int, int], number: dict[str, int], size_hw: tuple[int, int], masks: bool
) -> _Things | str:
    """What is marked in a photo, at the size of the frame and at its own; or why the photo cannot be used."""
    if sample.size_wh is not None and sample.size_wh != size_wh:
        raise DataError(f"{sample.path} is {size_wh[0]}x{size_wh[1]} px, its labels are for {sample.size_wh[0]}x"
                        f"{sample.size_wh[1]}; see `handful data check`")  # fmt: skip
    ratio = np.array([size_hw[1] / size_wh[0], size_hw[0] / size_wh[1]] * 2)
    found = _Things(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [], [], size_wh, dict.fromkeys(_DROPPED, 0))
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for thing in sample.objects or ():
        if thing.label not in number:
            continue
        box = box_of(thing)
        if box is None:
            return "a thing in them has no box"
        inside = np.clip(np.array(box, dtype=np.float64), 0, [*size_wh, *size_wh])
        try:
            Boxes(np.array([inside]), np.array([number[thing.label]]))
        except DataError as error:
            raise DataError(f"{sample.path}: a {thing.label} has the box {list(box)}: {error}") from error
        pixels = mask_of(thing, inside.tolist(), size_wh) if masks else None
        if masks and pixels is None:
            return "a thing in them has neither outline nor pixels"
        if pixels is not None and pixels.shape != size_wh[::-1]:
            raise DataError(f"{sample.path} is {size_wh[0]}x{size_wh[1]} px, the pixels of a {thing.label} in it are "
                            f"for {pixels.shape[1]}x{pixels.shape[0]}; see `handful data check`")  # fmt: skip
        found.truth.append(truth_row(thing, number[thing.label], inside.tolist(), size_wh, pixels))
        scaled = inside * ratio
        small = nearest(pixels.astype(np.uint8), size_hw) if pixels is not None else None
        if thing.crowd:
            found.dropped[_DROPPED[0]] += 1
            if not masks:
                boxes.append(scaled.astype(np.float32))
                labels.append(IGNORED)
        elif (scaled[2:] - scaled[:2] < 1).any() or (small is not None and not small.any()):
            found.dropped[_DROPPED[1]] += 1
        else:
            boxes.append(scaled.astype(np.float32))
            labels.append(number[thing.label])
            if small is not None:
                found.masks.append(run_lengths(small))
    if not boxes:
        return found
    return _Things(np.stack(boxes), np.array(labels, np.int64), found.masks, found.truth, size_wh, found.dropped)


def changed(
    rgb: np.ndarray, boxes: np.ndarray, masks: np.ndarray | None, how: Zoom, key: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """A changed photo of the same size and what is left in it.

    rgb: (h, w, 3) uint8, red first. boxes: (k, 4) float32 px. masks: (k, h, w) uint8 of 0 and 1. key: (seed, epoch,
    number of the photo), from which all chances follow. Returns rgb, boxes and masks of the m things left, and (m,)
    int64 which they were. Where masks tell, the box of a thing that was cut is drawn anew around what is left of it.
    """
    rng = np.random.default_rng((*key, 5))
    tv = need("torchvision.tv_tensors", "train")
    height, width = rgb.shape[:2]
    image = tv.Image(torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))))
    marks = tv.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width), clamping_mode=None)
    layers = [image, marks, *([tv.Mask(torch.from_numpy(masks))] if masks is not None else [])]
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
    colours = {k: getattr(how, k) for k in COLOURS}
    photo = np.ascontiguousarray(moved[0].as_subclass(torch.Tensor).permute(1, 2, 0).numpy())
    return coloured(photo, rng, **colours), kept, own, which


def _moved(layers: list[Any], how: Zoom, rng: np.random.Generator) -> list[Any]:
    """Photo, boxes and masks mirrored and zoomed alike, by torchvision.transforms.v2; boxes may leave the photo."""
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
    padded = [v2.pad(one, around, fill=GREY if i == 0 else 0) for i, one in enumerate(layers)]
    return [v2.resize(one, list(size), antialias=True) for one in padded]


def _left(marks: Any, visible: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes cut at the photo's edge: the (m, 4) of which enough is left, (m,) which those are, (m,) whether cut."""
    v2 = need("torchvision.transforms.v2.functional", "train")
    whole = marks.as_subclass(torch.Tensor).numpy()
    inside = v2.clamp_bounding_boxes(marks, clamping_mode="hard").as_subclass(torch.Tensor).numpy()
    sides, before = inside[:, 2:] - inside[:, :2], whole[:, 2:] - whole[:, :2]
    fine = (sides >= 1).all(1) & (sides.prod(1) >= visible * before.prod(1))
    which = np.flatnonzero(fine)
    return inside[which], which, (inside != whole).any(1)[which]


@dataclass(frozen=True)
class BoxedBatches(Shuffled[Batch]):
    """(rgb (n, 3, h, w) uint8, a target a photo, photos (n,) int64) each; see handful.training.batches.Shuffled.

    Targets as handful.models.detector.Detector.losses takes them.
    """

    photos: Boxed
    batch: int
    how: Zoom
    seed: int = 0
    workers: int = 2
    rank: int = 0
    world: int = 1

    def made(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Shuffled."""
        photos, targets = [], []
        for at, index in enumerate(own.tolist()):
            rgb = self.photos.photo(index)
            key = self.chance(epoch, at, index)
            masks = self.photos.masks_of(index, (rgb.shape[0], rgb.shape[1]))
            rgb, boxes, masks, which = changed(rgb, self.photos.boxes[index], masks, self.how, key)
            target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(self.photos.labels[index][which])}
            targets.append(target if masks is None else {**target, "masks": torch.from_numpy(masks)})
            photos.append(rgb)
        return np.stack(photos).transpose(0, 3, 1, 2), targets, own


def said(photos: Boxed) -> dict[str, object]:
    """What a record of the training says of a split."""
    return {"photos": len(photos), "things": dict(zip(photos.classes, photos.things, strict=True)),
            "missing_classes": photos.missing, "not_learned": photos.dropped, "sha256": photos.sha256,
            "skipped": {why: len(names) for why, names in photos.skipped.items()}}  # fmt: skip
