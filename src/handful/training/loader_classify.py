"""Data loader for classification: images of one class each, decoded once, then augmented anew each epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.errors import DataError
from handful.image import fit
from handful.training import loader
from handful.training.augment_classify import augmented
from handful.training.loader import RAM_BYTES, chosen_classes, decoded, named, room, warn_of_missing
from handful.training.source import image_of, split_of
from handful.types import Dataset, Sample
from handful.words import counted, shell

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # see Loader


@dataclass(frozen=True, eq=False, kw_only=True)
class Images(loader.Images):
    """The images of one split, with a class each. labels: (n,) int64."""

    labels: np.ndarray

    def pixels(self, which: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(which), h, w, 3) uint8 RGB: a copy of these images."""
        if self.rgb is None:
            return np.stack([self.load(self.samples[i]) for i in which])
        return np.asarray(self.rgb[np.asarray(which)])


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all. Raises UnknownName or DataError (fewer than two)."""
    chosen = chosen_classes(dataset, wanted)
    if len(chosen) < 2:
        raise DataError(f"{dataset.root} has {counted(len(chosen), 'class')} to tell apart; wanted two or more: "
                        "put images of anything else into a class of their own; or teach the one, and all else is none "
                        f"of these: handful teach {shell(dataset.root)} --out MODEL")  # fmt: skip
    return tuple(chosen)


def gather(
    dataset: Dataset, split: str, classes: Sequence[str], size_hw: tuple[int, int], *, scratch: Path | None = None,
    ram_bytes: int = RAM_BYTES, leave_out: bool = False,
) -> Images:  # fmt: skip
    """Decode a split, images squashed to size_hw (bilinear, antialiased).

    scratch, leave_out: as handful.training.loader_segment.gather. Images of no class or of one that is not to be
    learned are left out, with a warning. Raises DataError when no image is left, or one cannot be read.
    """
    number = {name: i for i, name in enumerate(classes)}
    samples = split_of(dataset, split)
    rgb = room([(len(samples), *size_hw, 3)], scratch, ram_bytes, split)

    def load(sample: Sample) -> np.ndarray:
        return fit(image_of(sample).rgb_u8, size_hw)

    def decode(sample: Sample) -> tuple[np.ndarray, int] | str:
        if sample.label is None:
            return "they have no class"
        if sample.label not in number:
            return "of classes that are not to be learned"
        return load(sample), number[sample.label]

    kept: list[Sample] = []
    labels: list[int] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw))).encode())
    for sample, name, (pixels, label) in decoded(samples, split, decode, leave_out=leave_out, skipped=skipped):
        for part in (named(name), named(str(label)), np.ascontiguousarray(pixels).data):
            digest.update(part)
        if rgb is not None:
            rgb[0][len(kept)] = pixels
        kept.append(sample)
        labels.append(label)
    if not kept:
        raise DataError(f"{dataset.root}: no image of {split} is of {', '.join(classes[:8])}; check that these are its "
                        "classes")  # fmt: skip
    images = Images(
        classes=tuple(classes), names=tuple(s.name or str(s.path) for s in kept), samples=tuple(kept), load=load,
        rgb=None if rgb is None else rgb[0][: len(kept)], labels=np.array(labels, dtype=np.int64),
        images=tuple(np.bincount(labels, minlength=len(classes)).tolist()), skipped=skipped, sha256=digest.hexdigest(),
    )  # fmt: skip
    warn_of_missing(images, split)
    return images


@dataclass(frozen=True)
class Loader(loader.Loader[Batch]):
    """(rgb (n, 3, h, w) uint8, labels (n,) int64, images (n,) int64) each; see handful.training.loader.Loader."""

    images: Images

    def make(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Loader."""
        key = self.seed, epoch, number
        rgb = augmented(self.images.pixels(own), own, self.augment, key, self.rank, self.world_size)
        return rgb.transpose(0, 3, 1, 2), self.images.labels[own], own

    def arrays_of(self, batch: Batch) -> dict[str, np.ndarray]:
        """As Loader."""
        return {"rgb": np.ascontiguousarray(batch[0]), "labels": batch[1]}
