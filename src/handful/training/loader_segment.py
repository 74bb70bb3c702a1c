"""Data loader for segmentation: any data set to batches of images and class numbers, decoded once, then augmented."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from handful.data.finding import SEE_ALL
from handful.data.masks import value_counts
from handful.data.shapes import painted
from handful.errors import DataError
from handful.image import fit
from handful.training import loader
from handful.training.augment_segment import augmented, pasted
from handful.training.loader import RAM_BYTES, chosen_classes, decoded, named, nearest, room, warn_of_missing
from handful.training.metrics import BACKGROUNDS, IGNORE, background_of
from handful.training.source import image_of, split_of
from handful.types import Dataset, Mask, Sample
from handful.words import counted

REST = "background"
REST_NAMES = (REST, "rest", "all the rest")  # what one class against all others calls these, where a name is taken
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # see Loader


@dataclass(frozen=True, eq=False, kw_only=True)
class Images(loader.Images):
    """The images of one split and the class of each pixel.

    labels: (n, h, w) uint8, class numbers, 255 ignored; None together with rgb. pixels: of each class; image_pixels:
    all pixels of the images that show a class.
    """

    labels: np.ndarray | None
    pixels: tuple[int, ...]
    image_pixels: tuple[int, ...]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.rgb is None or self.labels is None:
            rgb, labels = self.load(self.samples[index])
            return rgb, labels
        return self.rgb[index], self.labels[index]


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all; one of several against the rest as background.

    Raises UnknownName or DataError (fewer than two)."""
    chosen = chosen_classes(dataset, wanted)
    if not _has_masks(dataset):  # outlines say what is there, and so that all else is not
        chosen = list(dict.fromkeys([REST, *chosen]))
    elif len(chosen) == 1 and len(dataset.categories) > 1:  # one class against all the rest
        there = {c.name for c in dataset.categories}
        chosen = [next(name for name in REST_NAMES if name not in there), *chosen]
    if not 2 <= len(chosen) <= IGNORE:
        raise DataError(f"{dataset.root} has {counted(len(chosen), 'class')} to train; wanted 2 to {IGNORE}")
    return tuple(chosen)


def rest_of(dataset: Dataset, classes: Sequence[str]) -> int:
    """The number of what a class of the data set is read as that is not among `classes`: that of the class whose name
    says that it is all the rest, or ignored.

    Outlines leave it all that they do not enclose, so it is there whenever `classes` has it. Masks say what each pixel
    is: it is the first of two that the data set does not have, and so all that the other is not.
    """
    there = {c.name for c in dataset.categories}
    rest = next((i for i, name in enumerate(classes) if name.casefold() in (*BACKGROUNDS, *REST_NAMES)), IGNORE)
    if not _has_masks(dataset):
        return rest
    return 0 if rest == 0 and len(classes) == 2 and classes[0] not in there and classes[1] in there else IGNORE


def _has_masks(dataset: Dataset) -> bool:
    return any(sample.mask is not None for sample in dataset)


def labels_of(dataset: Dataset, classes: Sequence[str]) -> Callable[[Sample, tuple[int, int]], np.ndarray | None]:
    """A call (sample, (width, height)) -> (h, w) uint8, numbers of `classes` or 255; None when nobody labeled it.

    Classes of the data set that are not among `classes` are ignored, or the rest (see rest_of). Raises DataError,
    naming the file, for a mask of another size than its image or with a value that is no class.
    """
    number = {name: i for i, name in enumerate(classes)}
    table, rest = np.full(65536, IGNORE, dtype=np.uint8), rest_of(dataset, classes)
    for c in dataset.categories:
        table[c.id] = number.get(c.name, rest)
    known = np.zeros(65536, dtype=bool)
    known[[c.id for c in dataset.categories]] = True
    whole = _has_masks(dataset)

    def read(sample: Sample, size_wh: tuple[int, int]) -> np.ndarray | None:
        where = sample.mask_path or sample.path
        if sample.mask is not None:
            mask = sample.mask()
            height, width = mask.ids.shape
            if (width, height) != size_wh:
                raise DataError(f"{where} is {width}x{height} px, its image {sample.path} {size_wh[0]}x{size_wh[1]}; "
                                f"make both one size; {SEE_ALL}")  # fmt: skip
            return _checked(mask, table, known, where, dataset)
        if whole or sample.objects is None:
            return None
        return _drawn(sample, size_wh, number, rest)

    return read


def _checked(mask: Mask, table: np.ndarray, known: np.ndarray, where: Path, dataset: Dataset) -> np.ndarray:
    values = value_counts(mask.ids)[0]
    wrong = values[~known[values] & (values != mask.ignore)]
    if wrong.size:
        ids = sorted(c.id for c in dataset.categories)
        count = int((mask.ids == wrong[0]).sum())
        raise DataError(f"{where} holds the value {wrong[0]} in {count} pixels; the classes are "
                        f"{ids[0]} to {ids[-1]} ({len(ids)}); repair it; {SEE_ALL}")  # fmt: skip
    return np.asarray(table[mask.ids])


def _drawn(sample: Sample, size_wh: tuple[int, int], number: dict[str, int], rest: int) -> np.ndarray | None:
    """Objects painted over all the rest, smaller ones over larger ones, those of other classes as the rest; a crowd is
    ignored."""
    assert sample.objects is not None
    ids = np.full(size_wh[::-1], rest, dtype=np.uint8)
    parts = [(thing, painted(thing, size_wh)) for thing in sample.objects]
    if any(pixels is None for _, pixels in parts):
        return None  # a box alone does not say which pixels
    for thing, pixels in sorted(parts, key=lambda part: -int(part[1].sum())):  # type: ignore[union-attr]
        ids[pixels] = IGNORE if thing.crowd and thing.label in number else number.get(thing.label, rest)
    return ids


def gather(
    dataset: Dataset, split: str, classes: Sequence[str], size_hw: tuple[int, int], *, scratch: Path | None = None,
    ram_bytes: int = RAM_BYTES, leave_out: bool = False,
) -> Images:  # fmt: skip
    """Decode a split: images squashed to size_hw (bilinear, antialiased), labels likewise (nearest).

    scratch: a folder for a memory-mapped file when the pixels need more than ram_bytes (removed with the object); where
    there is no room either, images are decoded each time. leave_out: an image or mask that cannot be used is left out
    instead of raising. Images that nobody labeled, or without one labeled pixel, are left out, with a warning. Raises
    DataError (see labels_of), also when no image is left.
    """
    read = labels_of(dataset, classes)
    samples = split_of(dataset, split)

    def load(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image = image_of(sample)
        labels = read(sample, image.size_wh)
        if labels is None:
            return image.rgb_u8, np.zeros((0, 0), dtype=np.uint8)
        return fit(image.rgb_u8, size_hw), nearest(labels, size_hw)

    def decode(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
        rgb, labels = load(sample)
        counts = np.bincount(labels.ravel(), minlength=256)[: len(classes)]
        if not counts.sum():
            return "nobody labeled its pixels" if not labels.size else "no pixel of a class to train"
        return rgb, labels, counts

    pair = room([(len(samples), *size_hw, 3), (len(samples), *size_hw)], scratch, ram_bytes, split)
    kept: list[Sample] = []
    counted: list[np.ndarray] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw))).encode())
    for sample, name, (rgb, labels, counts) in decoded(samples, split, decode, leave_out=leave_out, skipped=skipped):
        for part in (named(name), np.ascontiguousarray(rgb).data, np.ascontiguousarray(labels).data):
            digest.update(part)
        if pair is not None:
            pair[0][len(kept)], pair[1][len(kept)] = rgb, labels
        kept.append(sample)
        counted.append(counts)
    if not kept:
        raise DataError(f"{dataset.root}: no image of {split} has labels of {', '.join(classes[:8])}; check that these "
                        "are its masks and classes")  # fmt: skip
    table, n = np.stack(counted), len(kept)
    images = Images(
        classes=tuple(classes), names=tuple(s.name or str(s.path) for s in kept), samples=tuple(kept), load=load,
        rgb=None if pair is None else pair[0][:n], labels=None if pair is None else pair[1][:n],
        pixels=tuple(table.sum(0).tolist()), images=tuple((table > 0).sum(0).tolist()),
        image_pixels=tuple(((table > 0) * table.sum(1, keepdims=True)).sum(0).tolist()), skipped=skipped,
        sha256=digest.hexdigest(),
    )  # fmt: skip
    warn_of_missing(images, split)
    return images


@dataclass(frozen=True)
class Loader(loader.Loader[Batch]):
    """(rgb (n, 3, h, w) uint8, labels (n, h, w) uint8, images (n,) int64) each; see handful.training.loader.Loader.

    crop_hw: what is cut of each image.
    """

    images: Images
    crop_hw: tuple[int, int] = field(kw_only=True)

    def make(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Loader."""
        pairs = [self._changed(i, self.key(epoch, at, i)) for at, i in enumerate(own.tolist())]
        rgb = np.stack([p[0] for p in pairs]).transpose(0, 3, 1, 2)  # a view: channels last in memory, as Dense wants
        return rgb, np.stack([p[1] for p in pairs]), own

    def _changed(self, number: int, key: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        rgb, labels = augmented(*self.images[number], self.crop_hw, self.augment, key)
        if self.augment.paste:
            rng = np.random.default_rng((*key, 2))
            if rng.random() < self.augment.paste:
                another = self.images[int(rng.integers(len(self.images)))]
                crop = augmented(*another, self.crop_hw, self.augment, (*key, 3))
                return pasted(rgb, labels, crop, rng, background_of(self.images.classes, None))
        return rgb, labels

    def arrays_of(self, batch: Batch) -> dict[str, np.ndarray]:
        """As Loader."""
        return {"rgb": np.ascontiguousarray(batch[0]), "labels": batch[1]}
