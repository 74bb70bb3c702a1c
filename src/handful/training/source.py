"""What every recipe does first: check the data, then read it once, and stop at the first fault that was not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handful.curate.check import ensure
from handful.data import formats
from handful.data.finding import Finding, stop
from handful.files import cache_home
from handful.progress import warn
from handful.types import Dataset

QUIET = ("one_photo", "no_label_map")  # warnings that do not matter to training


def checked(
    data: Path, *, format: str | None, allow: Sequence[str], main: bool, **options: Any
) -> tuple[Dataset, list[str]]:
    """The data set, read once (see held), and the warnings of `handful data check` about it.

    allow: codes of errors to go on with. main: whether this process checks and talks; of several one does. options:
    for the format. Raises DataError with the first errors and how to mend them.
    """
    warnings = ensure(data, format=format, allow=allow, quiet=QUIET, cache=cache_home(), **options) if main else []
    for text in warnings:
        warn(text)

    def on_finding(finding: Finding) -> None:
        if finding.code not in allow:
            stop(finding)

    return held(formats.read(data, format=format, on_finding=on_finding, **options)), warnings


def held(dataset: Dataset) -> Dataset:
    """The same data set, its samples read now and kept: to go through them again reads no file.

    A sample holds names, boxes, outlines, and calls that read its image and its mask; pixels stay on the disk.
    """
    samples = tuple(dataset)
    return replace(dataset, samples=lambda: iter(samples))
