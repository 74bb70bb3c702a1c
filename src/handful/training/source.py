"""The data: checked, read once, by split. Every recipe and every evaluation begins here.

An image is read with `image_of`, whatever format it lies in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handful.curate.check import ensure
from handful.data import formats
from handful.data.finding import Finding, known_codes, leaves_unreadable, stop
from handful.data.folder_names import usual
from handful.data.near_names import warn_of_strangers
from handful.errors import DataError
from handful.files import cache_home
from handful.image import read_image
from handful.progress import note, warn
from handful.types import Dataset, Image, Sample
from handful.words import counted, shell

QUIET = ("one_image", "no_label_map")  # warnings that do not matter to training


def checked(
    data: Path, *, format: str | None, allow: Sequence[str], main: bool, **options: Any
) -> tuple[Dataset, list[str]]:
    """The data set, read once (see held), and the warnings of `handful data check` about it.

    allow: codes of errors to go on with. main: whether this process checks and talks; of several one does. options:
    for the format. Raises DataError with the first errors and how to repair them.
    """
    allow = known_codes(allow)
    warnings = ensure(data, format=format, allow=allow, quiet=QUIET, cache=cache_home(), **options) if main else []
    for text in warnings:
        warn(text)

    def on_finding(finding: Finding) -> None:
        if finding.code not in allow:
            stop(finding)

    return held(formats.read(data, format=format, on_finding=on_finding, **options)), warnings


def to_measure(data: Path, *, format: str | None, allow: Sequence[str] = (), **options: Any) -> Dataset:
    """A data set to measure on, read once (see held); only what its reader finds is checked.

    allow: codes of errors to go on with, which are counted in a warning. options: for the format. Raises DataError with
    the first other error, or UnknownName for a code that there is not.
    """
    allow, passed = known_codes(allow), Counter[str]()

    def on_finding(finding: Finding) -> None:
        if finding.severity != "error":
            return
        if finding.code in allow:
            passed[finding.code] += 1
            return
        try:
            stop(finding)
        except DataError as error:
            raise DataError(f"{error}; go on all the same: --allow {finding.code}") from error

    found = held(formats.read(data, format=format, on_finding=on_finding, **options))
    for code, count in passed.items():
        warn(f"{data}: {counted(count, 'error')} passed over, of {code}")
    return found


def usable(error: DataError) -> DataError:
    """The same error about one image, with the way to go on without it."""
    return DataError(f"{error}; leave out images that cannot be used: --allow unreadable_image")


def without_unreadable(dataset: Dataset, allow: Sequence[str]) -> Dataset:
    """The data set without images that cannot be read, where their codes are allowed, with a warning; else as it is."""
    if not leaves_unreadable(allow):
        return dataset
    whole, lost = [], []
    for sample in dataset:
        try:
            image_of(sample)
            whole.append(sample)
        except DataError:
            lost.append(sample.name or str(sample.path))
    if lost:
        few = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        warn(f"{counted(len(lost), 'image')} left out, which cannot be read ({few})")
    return replace(dataset, samples=lambda: iter(whole), count=len(whole))


def held(dataset: Dataset) -> Dataset:
    """The same data set, its samples read now and kept: to go through them again reads no file.

    A sample holds names, boxes, outlines, and calls that read its image and its mask; pixels stay on the disk.
    """
    samples = tuple(dataset)
    return replace(dataset, samples=lambda: iter(samples))


def image_of(sample: Sample) -> Image:
    """The image, upright; Image.rgb_u8 is (h, w, 3) uint8. Raises DataError naming the file."""
    return sample.pixels() if sample.pixels is not None else read_image(sample.path)


def split_of(dataset: Dataset, split: str) -> list[Sample]:
    """The samples of a split of this name, or else of those whose usual name it is: "train" of Training and train2017.
    Raises DataError, naming those there."""
    found: dict[str, list[Sample]] = {}
    samples = list(dataset)
    by_name = any(sample.split == split for sample in samples)
    for sample in samples:
        found.setdefault((sample.split or "") if by_name else usual(sample.split), []).append(sample)
    wanted = split if by_name else usual(split)
    if wanted not in found:
        there = ", ".join(sorted(name or "images in no split" for name in found)) or "no images"
        raise DataError(f"{dataset.root} has no split {split!r}, it has {there}; name another split, or divide it: "
                        f"handful data split {shell(dataset.root)} --out COPY --part train=0.7 --part val=0.15 "
                        "--part test=0.15")  # fmt: skip
    return found[wanted]


def split_to_measure(samples: Iterable[Sample], named: str | None) -> str:
    """The split that is named, or else test, or val where there is none, or the images in no split."""
    there = {usual(sample.split) for sample in samples}
    return named if named is not None else next((s for s in ("test", "val") if s in there), "")


def not_counted(dataset: Dataset, data: Path, classes: Sequence[str], rest: str | None = None) -> list[str]:
    """The classes of the data that a model does not have, with a warning. Raises DataError when it has none of them.

    rest: the class that they are counted as, if there is one."""
    known = {c.name for c in dataset.categories}
    other = sorted(known - set(classes))
    warn_of_strangers(data, other, classes, "not counted")
    if not known & set(classes):
        raise DataError(f"no class of {data} ({', '.join(sorted(known)[:8])}) is one of the model's "
                        f"({', '.join(classes[:8])}); give other data, or rename them: handful data convert "
                        f"{shell(data)} COPY --to {formats.copied_as(dataset)} --labels NAMES.csv")  # fmt: skip
    if other and rest is not None:
        note(f"{counted(len(other), 'class')} of {data} counted as {rest}: {', '.join(other[:8])}")
        return []
    if other:
        warn(f"{counted(len(other), 'class')} of {data} not known to the model, so not counted: {', '.join(other[:8])}")
    return other
