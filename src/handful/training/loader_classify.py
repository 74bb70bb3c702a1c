"""Photos of one class each, into batches for a classifier: decoded once, changed anew each epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.errors import DataError
from handful.image import fit
from handful.pick import unknown
from handful.progress import track, warn
from handful.training.augment_classify import Views, viewed
from handful.training.batches import Shuffled
from handful.training.loader_segment import RAM_BYTES, photo_of, room, say_skipped, split_of
from handful.types import Dataset, Sample

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # see LabelledBatches


@dataclass(frozen=True, eq=False)
class Labelled:
    """The photos of one split, of one size, with a class each.

    rgb: (n, h, w, 3) uint8, red first; None where there is no room and each is decoded when it is asked for. labels:
    (n,) int64. images: photos of each class. names, skipped, sha256: as handful.training.loader_segment.Photos.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    load: Callable[[Sample], np.ndarray]
    rgb: np.ndarray | None
    labels: np.ndarray
    images: tuple[int, ...]
    skipped: dict[str, list[str]]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def photos(self, which: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(which), h, w, 3) uint8: a copy of these photos."""
        if self.rgb is None:
            return np.stack([self.load(self.samples[i]) for i in which])
        return np.asarray(self.rgb[np.asarray(which)])

    @property
    def missing(self) -> list[str]:
        """Classes without a photo."""
        return [name for name, n in zip(self.classes, self.images, strict=True) if not n]


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all. Raises UnknownName or DataError (fewer than two)."""
    known = [c.name for c in dataset.categories]
    for name in wanted or ():
        if name not in known:
            raise unknown("class", name, known)
    chosen = tuple(dict.fromkeys(wanted or known))
    if len(chosen) < 2:
        raise DataError(f"{dataset.root} has {len(chosen)} classes to tell apart; wanted two or more")
    return chosen


def gather(
    dataset: Dataset, split: str, classes: Sequence[str], size_hw: tuple[int, int], *, scratch: Path | None = None,
    ram_bytes: int = RAM_BYTES, leave_out: bool = False,
) -> Labelled:  # fmt: skip
    """Decode a split, photos squashed to size_hw (bilinear, antialiased).

    scratch, leave_out: as handful.training.loader_segment.gather. Photos of no class or of one that is not to be
    learned are left
    out and said. Raises DataError when no photo is left, or one cannot be read.
    """
    number = {name: i for i, name in enumerate(classes)}
    samples = split_of(dataset, split)
    rgb = room([(len(samples), *size_hw, 3)], scratch, ram_bytes, split)
    kept: list[Sample] = []
    labels: list[int] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw))).encode())

    def load(sample: Sample) -> np.ndarray:
        return fit(photo_of(sample).rgb_u8, size_hw)

    for sample in track(samples, f"decoding {split}", len(samples)):
        name, why = sample.name or str(sample.path), None
        if sample.label is None:
            why = "nobody said their class"
        elif sample.label not in number:
            why = "of classes that are not to be learned"
        else:
            try:
                photo = load(sample)
            except DataError as error:
                if not leave_out:
                    raise
                why = str(error)
        if why is not None:
            skipped.setdefault(why, []).append(name)
            continue
        label = number[str(sample.label)]
        digest.update(f"{name}\0{label}\0".encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(photo).data)
        if rgb is not None:
            rgb[0][len(kept)] = photo
        kept.append(sample)
        labels.append(label)
    say_skipped(skipped, split, len(samples))
    if not kept:
        raise DataError(f"{dataset.root}: no photo of {split} is of {', '.join(classes[:8])}; check that these are its "
                        "classes")  # fmt: skip
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    found = Labelled(
        tuple(classes), tuple(s.name or str(s.path) for s in kept), tuple(kept), load,
        None if rgb is None else rgb[0][: len(kept)], np.array(labels, dtype=np.int64), tuple(counts), skipped,
        digest.hexdigest(),
    )  # fmt: skip
    if found.missing:
        warn(f"{split} shows nothing of {len(found.missing)} classes: {', '.join(found.missing)}")
    return found


@dataclass(frozen=True)
class LabelledBatches(Shuffled[Batch]):
    """(rgb (n, 3, h, w) uint8, labels (n,) int64, photos (n,) int64) each; see handful.training.batches.Shuffled."""

    photos: Labelled
    batch: int
    how: Views
    seed: int = 0
    workers: int = 2
    rank: int = 0
    world: int = 1

    def made(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Shuffled."""
        rgb = viewed(self.photos.photos(own), own, self.how, (self.seed, epoch, number), self.rank, self.world)
        return rgb.transpose(0, 3, 1, 2), self.photos.labels[own], own
