"""Data loader for detection: images whose objects have boxes, or boxes and pixels, decoded once, then augmented."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data.finding import SEE_ALL
from handful.data.shapes import box_of
from handful.errors import DataError
from handful.image import fit
from handful.pick import need
from handful.progress import note
from handful.training import loader
from handful.training.augment_detect import augmented
from handful.training.coco_table import mask_of, run_lengths, truth_row
from handful.training.loader import RAM_BYTES, chosen_classes, decoded, named, nearest, room, warn_of_missing
from handful.training.source import image_of, split_of
from handful.types import Boxes, Dataset, Sample
from handful.words import counted

Target = dict[str, torch.Tensor]
Batch = tuple[np.ndarray, list[Target], np.ndarray]  # see Loader
IGNORED = -1  # the label of a region in which the network may find anything


@dataclass(frozen=True, eq=False, kw_only=True)
class Images(loader.Images):
    """The images of one split, with the objects in them.

    with_masks: whether masks are learned. boxes: of each image (k, 4) float32 px of the frame; labels: (k,) int64,
    IGNORED for a crowd where no masks are learned; masks: k run lengths as pycocotools has them, of the frame, where
    masks are learned. truth: the labels of each image as rows of COCO (handful.training.coco_table) at its own size
    sizes_wh, crowds and objects too small to learn among them. objects: how many of each class, crowds not among them.
    dropped: {why: how many} objects that are not learned.
    """

    with_masks: bool
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    masks: tuple[list[dict[str, Any]], ...]
    truth: tuple[list[dict[str, Any]], ...]
    sizes_wh: tuple[tuple[int, int], ...]
    objects: tuple[int, ...]
    dropped: dict[str, int]

    def pixels(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB, of the frame's size."""
        return np.asarray(self.load(self.samples[index]) if self.rgb is None else self.rgb[index])

    def masks_of(self, index: int, size_hw: tuple[int, int]) -> np.ndarray | None:
        """(k, h, w) uint8 of 0 and 1; None where no masks are learned."""
        if not self.with_masks:
            return None
        if not self.masks[index]:
            return np.zeros((0, *size_hw), np.uint8)
        stacked = need("pycocotools.mask", "data").decode(self.masks[index])
        return np.ascontiguousarray(stacked.transpose(2, 0, 1))

    def summary(self) -> dict[str, Any]:
        """As loader.Images, with the objects."""
        objects = dict(zip(self.classes, self.objects, strict=True))
        return {**super().summary(), "objects": objects, "not_learned": self.dropped}


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all that can be counted. Raises UnknownName or DataError."""
    chosen = chosen_classes(dataset, wanted, [c.name for c in dataset.categories if c.thing is not False])
    if not chosen:
        raise DataError(f"{dataset.root} has no class of objects to find; wanted one or more")
    return tuple(chosen)


def gather(
    dataset: Dataset, split: str, classes: Sequence[str], size_hw: tuple[int, int], *, masks: bool = False,
    scratch: Path | None = None, ram_bytes: int = RAM_BYTES, leave_out: bool = False,
) -> Images:  # fmt: skip
    """Decode a split, images squashed to size_hw (bilinear, antialiased), boxes with them, masks likewise (nearest).

    masks: also the pixels of each object. scratch, leave_out: as handful.training.loader_segment.gather. Images that
    nobody looked at are left out, with a warning, and so are those with an object that has no box, or no pixels where
    masks are wanted; images in which nothing is are kept. Crowds, and objects that would be less than a pixel, are not
    learned, with a note; a crowd is a region to ignore where no masks are learned, for networks that know of such.
    Raises DataError, naming the image, for one that cannot be read, is of another size than its labels say, or has a
    box with NaN or no area in the image; and when no image is left or shows anything of the classes.
    """
    samples = split_of(dataset, split)
    rgb = room([(len(samples), *size_hw, 3)], scratch, ram_bytes, split)
    number = {name: i for i, name in enumerate(classes)}

    def load(sample: Sample) -> np.ndarray:
        return fit(image_of(sample).rgb_u8, size_hw)

    def decode(sample: Sample) -> tuple[np.ndarray, _Objects] | str:
        if sample.objects is None:
            return "nobody marked what is in them"
        image = image_of(sample)
        objects = _objects(sample, image.size_wh, number, size_hw, masks)
        return objects if isinstance(objects, str) else (fit(image.rgb_u8, size_hw), objects)

    kept: list[Sample] = []
    found: list[_Objects] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw), masks)).encode())
    for sample, name, (pixels, objects) in decoded(samples, split, decode, leave_out=leave_out, skipped=skipped):
        for part in (named(name), named(repr(objects.truth)), np.ascontiguousarray(pixels).data):
            digest.update(part)
        if rgb is not None:
            rgb[0][len(kept)] = pixels
        kept.append(sample)
        found.append(objects)
    dropped = {why: n for why in _DROPPED if (n := sum(one.dropped[why] for one in found))}
    for why, n in dropped.items():
        note(f"{split}: {counted(n, 'object is', 'objects are')} not learned: {why}")
    counts = [np.bincount(one.labels[one.labels != IGNORED], minlength=len(classes)) for one in found]
    table = np.stack([np.zeros(len(classes), int), *counts])
    if not table.sum():
        raise DataError(f"{dataset.root}: no image of {split} shows a {' or '.join(classes[:8])}; check that these are "
                        f"its classes, and that objects are marked by {'outlines' if masks else 'boxes'}")  # fmt: skip
    images = Images(
        classes=tuple(classes), names=tuple(s.name or str(s.path) for s in kept), samples=tuple(kept), load=load,
        rgb=None if rgb is None else rgb[0][: len(kept)], images=tuple((table > 0).sum(0).tolist()), skipped=skipped,
        sha256=digest.hexdigest(), with_masks=masks, boxes=tuple(t.boxes for t in found),
        labels=tuple(t.labels for t in found), masks=tuple(t.masks for t in found), truth=tuple(t.truth for t in found),
        sizes_wh=tuple(t.size_wh for t in found), objects=tuple(table.sum(0).tolist()), dropped=dropped,
    )  # fmt: skip
    warn_of_missing(images, split)
    return images


_DROPPED = ("a crowd", "smaller than a pixel of the frame")


@dataclass(frozen=True, eq=False)
class _Objects:
    """As the fields of Images, for one image."""

    boxes: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]]
    truth: list[dict[str, Any]]
    size_wh: tuple[int, int]
    dropped: dict[str, int]


def _objects(
    sample: Sample, size_wh: tuple[int, int], number: dict[str, int], size_hw: tuple[int, int], masks: bool
) -> _Objects | str:
    """What is marked in an image, at the size of the frame and at its own; or why the image cannot be used."""
    if sample.size_wh is not None and sample.size_wh != size_wh:
        raise DataError(f"{sample.path} is {size_wh[0]}x{size_wh[1]} px, its labels are for {sample.size_wh[0]}x"
                        f"{sample.size_wh[1]}; {SEE_ALL}")  # fmt: skip
    ratio = np.array([size_hw[1] / size_wh[0], size_hw[0] / size_wh[1]] * 2)
    found = _Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [], [], size_wh, dict.fromkeys(_DROPPED, 0))
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for thing in sample.objects or ():
        if thing.label not in number:
            continue
        box = box_of(thing)
        if box is None:
            return "an object in them has no box"
        inside = np.clip(np.array(box, dtype=np.float64), 0, [*size_wh, *size_wh])
        try:
            Boxes(np.array([inside]), np.array([number[thing.label]]))
        except DataError as error:
            raise DataError(f"{sample.path}: a {thing.label} has the box {list(box)}: {error}") from error
        pixels = mask_of(thing, inside.tolist(), size_wh) if masks else None
        if masks and pixels is None:
            return "an object in them has neither outline nor pixels"
        if pixels is not None and pixels.shape != size_wh[::-1]:
            raise DataError(f"{sample.path} is {size_wh[0]}x{size_wh[1]} px, the pixels of a {thing.label} in it are "
                            f"for {pixels.shape[1]}x{pixels.shape[0]}; {SEE_ALL}")  # fmt: skip
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
    return _Objects(np.stack(boxes), np.array(labels, np.int64), found.masks, found.truth, size_wh, found.dropped)


@dataclass(frozen=True)
class Loader(loader.Loader[Batch]):
    """(rgb (n, 3, h, w) uint8, a target an image, images (n,) int64) each; see handful.training.loader.Loader.

    Targets as handful.models.detector.Detector.losses takes them.
    """

    images: Images

    def make(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Loader."""
        images, targets = [], []
        for at, index in enumerate(own.tolist()):
            rgb = self.images.pixels(index)
            masks = self.images.masks_of(index, (rgb.shape[0], rgb.shape[1]))
            key = self.key(epoch, at, index)
            rgb, boxes, masks, which = augmented(rgb, self.images.boxes[index], masks, self.augment, key)
            target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(self.images.labels[index][which])}
            targets.append(target if masks is None else {**target, "masks": torch.from_numpy(masks)})
            images.append(rgb)
        return np.stack(images).transpose(0, 3, 1, 2), targets, own

    def arrays_of(self, batch: Batch) -> dict[str, np.ndarray]:
        """As Loader: boxes, labels and masks of all images one after another; objects: how many each image has."""
        rgb, targets, _ = batch
        joined = {key: torch.cat([one[key] for one in targets]).numpy() for key in targets[0]}
        return {"rgb": np.ascontiguousarray(rgb), "objects": np.array([len(t["labels"]) for t in targets]), **joined}
