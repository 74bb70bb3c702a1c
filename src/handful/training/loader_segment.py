"""From any data set to batches: photos and class numbers, decoded once, changed by chance, in an order by chance.

Every chance is a function of (seed, epoch, photo): nothing depends on the number of workers or what was drawn before.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.data.shapes import painted
from handful.errors import DataError
from handful.image import fit, read_image
from handful.pick import unknown
from handful.progress import note, track, warn
from handful.training.augment_segment import Augment, augmented
from handful.training.batches import Shuffled
from handful.training.metrics import IGNORE
from handful.types import Dataset, Image, Mask, Sample

SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
RAM_BYTES = 2 << 30
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # see Batches


@dataclass(frozen=True, eq=False)
class Photos:
    """The labelled photos of one split, decoded and of one size.

    rgb: (n, h, w, 3) uint8, red first; labels: (n, h, w) uint8, class numbers, 255 ignored; both None when they fit
    neither in memory nor on the disk and each photo is decoded when it is asked for. names: of the photos.
    pixels, images, image_pixels: of each class, how many pixels and photos, and all pixels of those photos.
    skipped: {why: names} of photos left out. sha256: of names, photos and labels.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    load: Callable[[Sample], tuple[np.ndarray, np.ndarray]]
    rgb: np.ndarray | None
    labels: np.ndarray | None
    pixels: tuple[int, ...]
    images: tuple[int, ...]
    image_pixels: tuple[int, ...]
    skipped: dict[str, list[str]]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.rgb is None or self.labels is None:
            return self.load(self.samples[index])
        return self.rgb[index], self.labels[index]

    @property
    def missing(self) -> list[str]:
        """Classes without a single pixel."""
        return [name for name, n in zip(self.classes, self.pixels, strict=True) if not n]


def classes_of(dataset: Dataset, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the classes in order: those wanted, or all. Raises UnknownName or DataError (fewer than two)."""
    known = [c.name for c in dataset.categories]
    for name in wanted or ():
        if name not in known:
            raise unknown("class", name, known)
    chosen = tuple(dict.fromkeys(wanted or known))
    if not _has_masks(dataset):  # outlines say what is there, and so that all else is not
        chosen = tuple(dict.fromkeys(["background", *chosen]))
    if not 2 <= len(chosen) <= IGNORE:
        raise DataError(f"{dataset.root} has {len(chosen)} classes to train; wanted 2 to {IGNORE}")
    return chosen


def _has_masks(dataset: Dataset) -> bool:
    return any(sample.mask is not None for sample in dataset)


def labels_of(dataset: Dataset, classes: Sequence[str]) -> Callable[[Sample, tuple[int, int]], np.ndarray | None]:
    """A call (sample, (width, height)) -> (h, w) uint8, numbers of `classes` or 255; None when nobody labelled it.

    Classes of the data set that are not among `classes` are ignored. Raises DataError, naming the file, for a mask of
    another size than its photo or with a value that is no class.
    """
    number = {name: i for i, name in enumerate(classes)}
    table = np.full(65536, IGNORE, dtype=np.uint8)
    for c in dataset.categories:
        table[c.id] = number.get(c.name, IGNORE)
    known = np.zeros(65536, dtype=bool)
    known[[c.id for c in dataset.categories]] = True
    whole = _has_masks(dataset)

    def read(sample: Sample, size_wh: tuple[int, int]) -> np.ndarray | None:
        where = sample.mask_path or sample.path
        if sample.mask is not None:
            mask = sample.mask()
            height, width = mask.ids.shape
            if (width, height) != size_wh:
                raise DataError(f"{where} is {width}x{height} px, its photo {sample.path} {size_wh[0]}x{size_wh[1]}; "
                                "make both one size, or see `handful data check`")  # fmt: skip
            return _checked(mask, table, known, where, dataset)
        if whole or sample.objects is None:
            return None
        return _drawn(sample, size_wh, number)

    return read


def _checked(mask: Mask, table: np.ndarray, known: np.ndarray, where: Path, dataset: Dataset) -> np.ndarray:
    present = np.unique(mask.ids)
    wrong = present[~known[present] & (present != mask.ignore)]
    if wrong.size:
        ids = sorted(c.id for c in dataset.categories)
        count = int((mask.ids == wrong[0]).sum())
        raise DataError(f"{where} holds the value {wrong[0]} in {count} pixels; the classes are "
                        f"{ids[0]} to {ids[-1]} ({len(ids)}); repair it; see `handful data check`")  # fmt: skip
    return np.asarray(table[mask.ids])


def _drawn(sample: Sample, size_wh: tuple[int, int], number: dict[str, int]) -> np.ndarray | None:
    """Objects painted over the background, smaller ones over larger ones; a crowd is ignored."""
    assert sample.objects is not None
    ids = np.full(size_wh[::-1], number.get("background", IGNORE), dtype=np.uint8)
    parts = [(thing, painted(thing, size_wh)) for thing in sample.objects]
    if any(pixels is None for _, pixels in parts):
        return None  # a box alone does not say which pixels
    for thing, pixels in sorted(parts, key=lambda part: -int(part[1].sum())):  # type: ignore[union-attr]
        ids[pixels] = IGNORE if thing.crowd else number.get(thing.label, IGNORE)
    return ids


def photo_of(sample: Sample) -> Image:
    """The photo, upright; Image.rgb_u8 is (h, w, 3) uint8. Raises DataError naming the file."""
    return sample.pixels() if sample.pixels is not None else read_image(sample.path)


def split_of(dataset: Dataset, split: str) -> list[Sample]:
    """The samples of a split, "training" and the like under their usual names. Raises DataError, naming those there."""
    found: dict[str, list[Sample]] = {}
    for sample in dataset:
        own = sample.split or ""
        found.setdefault(SPLITS.get(own, own), []).append(sample)
    wanted = SPLITS.get(split, split)
    if wanted not in found:
        there = ", ".join(sorted(name or "photos in no split" for name in found)) or "no photos"
        raise DataError(f"{dataset.root} has no split {split!r}, it has {there}; name another split, or make the usual "
                        "three with `handful data split`")  # fmt: skip
    return found[wanted]


def gather(
    dataset: Dataset,
    split: str,
    classes: Sequence[str],
    size_hw: tuple[int, int],
    *,
    scratch: Path | None = None,
    ram_bytes: int = RAM_BYTES,
    must_have_all: bool = False,
    leave_out: bool = False,
) -> Photos:
    """Decode a split: photos squashed to size_hw (bilinear, antialiased), labels likewise (nearest).

    scratch: a folder for a memory-mapped file when the pixels need more than ram_bytes (removed with the object); where
    there is no room either, photos are decoded each time. must_have_all: say which classes have no pixel. leave_out: a
    photo or mask that cannot be used is left out instead of raising. Photos that nobody labelled, or without one
    labelled pixel, are left out and said. Raises DataError (see labels_of), also when no photo is left.
    """
    read = labels_of(dataset, classes)
    samples = split_of(dataset, split)

    def load(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image = photo_of(sample)
        labels = read(sample, image.size_wh)
        if labels is None:
            return image.rgb_u8, np.zeros((0, 0), dtype=np.uint8)
        return fit(image.rgb_u8, size_hw), nearest(labels, size_hw)

    pair = room([(len(samples), *size_hw, 3), (len(samples), *size_hw)], scratch, ram_bytes, split)
    rgb, labels = pair if pair is not None else (None, None)
    kept: list[Sample] = []
    skipped: dict[str, list[str]] = {}
    k = len(classes)
    pixels, images, image_pixels = np.zeros(k, int), np.zeros(k, int), np.zeros(k, int)
    digest = hashlib.sha256(repr((tuple(classes), tuple(size_hw))).encode())
    for sample in track(samples, f"decoding {split}", len(samples)):
        try:
            photo, own = load(sample)
        except DataError as error:
            if not leave_out:
                raise
            skipped.setdefault(str(error), []).append(sample.name or str(sample.path))
            continue
        counts = np.bincount(own.ravel(), minlength=256)[:k]
        if not counts.sum():
            why = "nobody labelled its pixels" if not own.size else "no pixel of a class to train"
            skipped.setdefault(why, []).append(sample.name or str(sample.path))
            continue
        for part in (f"{sample.name}\0".encode("utf-8", "surrogateescape"), photo, own):
            digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
        if rgb is not None and labels is not None:
            rgb[len(kept)], labels[len(kept)] = photo, own
        kept.append(sample)
        pixels += counts
        images += counts > 0
        image_pixels += (counts > 0) * int(counts.sum())
    say_skipped(skipped, split, len(samples))
    if not kept:
        raise DataError(f"{dataset.root}: no photo of {split} has labels of {', '.join(classes[:8])}; check that these "
                        "are its masks and classes")  # fmt: skip
    n = len(kept)
    photos = Photos(
        tuple(classes), tuple(s.name or str(s.path) for s in kept), tuple(kept), load,
        None if rgb is None else rgb[:n], None if labels is None else labels[:n],
        tuple(pixels.tolist()), tuple(images.tolist()), tuple(image_pixels.tolist()), skipped, digest.hexdigest(),
    )  # fmt: skip
    if must_have_all and photos.missing:
        lacking = ", ".join(photos.missing)
        warn(f"{split} shows nothing of {len(photos.missing)} classes, which cannot be learned: {lacking}")
    return photos


def say_skipped(skipped: Mapping[str, Sequence[str]], split: str, total: int) -> None:
    """Warn of photos left out, {why: names}."""
    for why, names in skipped.items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        warn(f"{split}: {len(names)} of {total} photos left out, {why} ({few})")


def room(
    shapes: Sequence[tuple[int, ...]], scratch: Path | None, ram_bytes: int, split: str
) -> list[np.ndarray] | None:
    """uint8 arrays of these shapes: in memory, in a file under scratch that goes when they do, or None."""
    wanted = sum(math.prod(shape) for shape in shapes)
    if wanted <= ram_bytes:
        return [np.zeros(shape, np.uint8) for shape in shapes]
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(scratch).free > wanted * 1.1 + (1 << 28):
            folder = Path(tempfile.mkdtemp(prefix=".pixels.", dir=scratch))
            maps = [np.memmap(folder / f"{i}.u8", np.uint8, "w+", shape=s) for i, s in enumerate(shapes)]
            # without a name the files are gone when they are closed, after a kill too
            shutil.rmtree(folder, ignore_errors=True)
            note(f"{split}: {wanted / 1e9:.1f} GB of pixels kept in a file beside the run")
            return list(maps)
    note(f"{split}: {wanted / 1e9:.1f} GB of pixels fit nowhere, so each photo is decoded whenever it is used")
    return None


def nearest(labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Class numbers at another size, each from the pixel whose centre is nearest. (h, w) uint8 in and out."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(size_hw, labels.shape, strict=True)
    )
    return np.ascontiguousarray(labels[rows[:, None], columns[None]])


@dataclass(frozen=True)
class Batches(Shuffled[Batch]):
    """(rgb (n, 3, h, w) uint8, labels (n, h, w) uint8, photos (n,) int64) each; see handful.training.batches.Shuffled.

    crop_hw: what is cut of each photo.
    """

    photos: Photos
    batch: int
    crop_hw: tuple[int, int]
    how: Augment
    seed: int = 0
    workers: int = 2
    rank: int = 0
    world: int = 1

    def made(self, epoch: int, number: int, own: np.ndarray) -> Batch:
        """As Shuffled."""
        pairs = [
            augmented(*self.photos[i], self.crop_hw, self.how, self.chance(epoch, at, i))
            for at, i in enumerate(own.tolist())
        ]
        rgb = np.stack([p[0] for p in pairs]).transpose(0, 3, 1, 2)  # a view: channels last in memory, as Dense wants
        return rgb, np.stack([p[1] for p in pairs]), own


def said(photos: Photos) -> dict[str, object]:
    """What a record of the training says of a split."""
    return {"photos": len(photos), "photos_of": dict(zip(photos.classes, photos.images, strict=True)),
            "missing_classes": photos.missing, "sha256": photos.sha256,
            "skipped": Counter({why: len(names) for why, names in photos.skipped.items()})}  # fmt: skip
