"""What the data loaders share: a split decoded once, and batches in a shuffled order, made ahead by threads.

Every random choice is a function of (seed, epoch, image): nothing depends on the number of workers or on what was drawn
before.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from handful.curate.seen import Mark, mark
from handful.errors import DataError
from handful.pick import need, unknown
from handful.progress import note, track, warn
from handful.training.source import usable
from handful.types import Dataset, Sample
from handful.words import counted

RAM_BYTES = 2 << 30
T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Images:
    """The labeled images of one split, decoded and of one size.

    classes: in order. names, samples: of the images. load: decodes one again. rgb: (n, h, w, 3) uint8 RGB; None where
    there is no room and each image is decoded when it is asked for. images: how many images show each class. skipped:
    {why: names} of images left out. sha256: of names, images and labels.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    load: Callable[[Sample], Any]
    rgb: np.ndarray | None
    images: tuple[int, ...]
    skipped: dict[str, list[str]]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def marks(self) -> Iterator[Mark]:
        """What is kept of each image, as the network gets it, to know it again."""
        for i, sample in enumerate(self.samples):
            held = self.load(sample) if self.rgb is None else self.rgb[i]
            yield mark(held[0] if isinstance(held, tuple) else held)

    @property
    def missing(self) -> list[str]:
        """Classes that no image shows."""
        return [name for name, n in zip(self.classes, self.images, strict=True) if not n]

    def summary(self) -> dict[str, Any]:
        """What the record of a training says of a split."""
        return {"images": len(self), "images_of": dict(zip(self.classes, self.images, strict=True)),
                "missing_classes": self.missing, "sha256": self.sha256,
                "skipped": {why: len(names) for why, names in self.skipped.items()}}  # fmt: skip


def chosen_classes(dataset: Dataset, wanted: Sequence[str] | None, otherwise: Sequence[str] | None = None) -> list[str]:
    """Names of classes in order: those wanted, or `otherwise`, or all. Raises UnknownName."""
    known = [c.name for c in dataset.categories]
    for name in wanted or ():
        if name not in known:
            raise unknown("class", name, known)
    return list(dict.fromkeys(wanted or (known if otherwise is None else otherwise)))


def decoded(
    samples: Sequence[Sample], split: str, decode: Callable[[Sample], T | str], *, leave_out: bool,
    skipped: dict[str, list[str]],
) -> Iterator[tuple[Sample, str, T]]:  # fmt: skip
    """The samples that can be used, each with its name and what `decode` makes of it.

    decode: may say in words why an image cannot be used; it is then left out, with a warning in the end. leave_out:
    so are those for which it raises DataError. skipped: {why: names}, filled.
    """
    for sample in track(samples, f"decoding {split}", len(samples)):
        name = sample.name or str(sample.path)
        try:
            found = decode(sample)
        except DataError as error:
            if not leave_out:
                raise usable(error) from error
            found = str(error)
        if isinstance(found, str):
            skipped.setdefault(found, []).append(name)
        else:
            yield sample, name, found
    for why, names in skipped.items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        warn(f"{split}: {len(names)} of {counted(len(samples), 'image')} left out, {why} ({few})")


def warn_of_missing(images: Images, split: str) -> None:
    """Say which classes no image of a split shows."""
    if images.missing:
        warn(f"{split} shows nothing of {counted(len(images.missing), 'class')}: {', '.join(images.missing)}")


def named(name: str) -> bytes:
    """The name of an image as a digest takes it."""
    return f"{name}\0".encode("utf-8", "surrogateescape")


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
    note(
        f"{split}: {wanted / 1e9:.1f} GB of pixels fit neither in memory nor on the disk, so images are decoded each "
        "time"
    )
    return None


def nearest(labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Class numbers at another size, each from the pixel whose center is nearest. (h, w) uint8 in and out."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(size_hw, labels.shape, strict=True)
    )
    return np.ascontiguousarray(labels[rows[:, None], columns[None]])


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) int64: the order of the images in an epoch."""
    return np.random.default_rng((seed, epoch, 0, 2)).permutation(count)


@dataclass(frozen=True)
class Loader(ABC, Generic[T]):
    """Batches T of an epoch; the last part of each is (n,) int64, which images it holds.

    batch: images in a batch, over all processes. augment: how images are changed. workers: threads that prepare
    batches. rank, world_size: this process takes every world_size-th image of a batch, from the rank-th on.
    """

    images: Images
    batch: int
    augment: Any
    seed: int = 0
    workers: int = 2
    rank: int = 0
    world_size: int = 1

    @abstractmethod
    def make(self, epoch: int, number: int, own: np.ndarray) -> T:
        """Batch `number` of an epoch, of the images own, (n,) int64."""

    @abstractmethod
    def arrays_of(self, batch: T) -> dict[str, np.ndarray]:
        """A batch as arrays by name, to be kept."""

    def names_of(self, batch: Any) -> list[str]:
        """The names of a batch's images."""
        return [self.images.names[i] for i in batch[-1]]

    def __len__(self) -> int:
        # a smaller last batch would count its images more and starve batch norm, so it is left for another epoch
        return max(1, len(self.images) // self.batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[T]:
        """Batches from number `start` on; a set smaller than a batch is used again."""
        mixed = order(len(self.images), self.seed, epoch)
        mixed = np.resize(mixed, self.batch) if len(mixed) < self.batch else mixed

        def make(number: int) -> T:
            whole = mixed[number * self.batch : (number + 1) * self.batch]
            return self.make(epoch, number, whole[self.rank :: self.world_size])

        return ahead(make, range(start, len(self)), self.workers)

    def key(self, epoch: int, at: int, image: int) -> tuple[int, int, int]:
        """What an image at place `at` of a batch is changed by: a small set may have it there twice, changed twice."""
        again = (at * self.world_size + self.rank) // len(self.images)
        return self.seed, epoch + (again << 32), image


def ahead(make: Callable[[int], T], numbers: Iterable[int], workers: int) -> Iterator[T]:
    """make(number) for each number, in order, by `workers` threads that are a few batches ahead; OpenCV does not start
    threads of its own meanwhile."""
    cv2 = need("cv2", "train")
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            waiting: deque[Future[T]] = deque()
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > max(2, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        cv2.setNumThreads(before)
