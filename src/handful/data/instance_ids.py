"""Masks that number the things of each image, 1, 2, 3, ..., where others number classes: told apart by measuring.

In such a set the values of nearly every mask run from 1 to as many things as it shows, how many differs from image to
image, and a value is one piece. Classes have gaps, and lie about in pieces.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.label_tree import segments, with_mask
from handful.data.paths import Shelf
from handful.errors import DataError
from handful.types import Category, Mask, Object, Rle, Sample

OBJECT = "foreground"
CATEGORIES = (Category(1, OBJECT),)
MOST, DIFFERENT = 5, 3  # of several masks one has that many things or more, and so many different numbers of them
NUMBERED, WHOLE = 0.9, 0.8  # share of masks whose values have no gap, and of values that are one piece
LOOKED_AT = 8  # masks whose pieces are counted


class Numbering:
    """What the masks of a set hold, one after another."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._without_gap = self._values = self._whole = self._looked_at = 0

    def add(self, values: np.ndarray, found: np.ndarray) -> None:
        """One mask, (h, w) of 8 or 16 bits, and the values in it, sorted."""
        top = 255 if values.dtype == np.uint8 else 65535
        found = found[(found > 0) & (found < top)]
        if not found.size:
            return
        self._counts.append(found.size)
        self._without_gap += int(found[-1]) == found.size
        if found.size > 1 and self._looked_at < LOOKED_AT:
            self._looked_at += 1
            for value, rle, box in segments(values):
                if 0 < value < top:
                    self._values += 1
                    self._whole += _is_one_piece(rle, box)

    def is_of_things(self) -> bool:
        """Whether the values number things, and not classes."""
        masks = len(self._counts)
        return (masks > 1 and max(self._counts) >= MOST and len(set(self._counts)) >= min(DIFFERENT, masks)
                and self._without_gap >= NUMBERED * masks and self._whole >= WHOLE * self._values)  # fmt: skip


def _is_one_piece(rle: Rle, box: tuple[float, float, float, float]) -> bool:
    """About so: it is in every column of its box, and in few of them twice."""
    height, (left, _, right, _) = rle.size_hw[0], box
    counts = np.asarray(rle.counts)
    columns = np.cumsum(counts)[: len(counts) // 2 * 2 : 2] // height  # where its runs of pixels begin
    return len(np.unique(columns)) >= 0.95 * (right - left) and len(columns) <= 1.3 * (right - left)


def told(tree: str) -> Finding:
    """What such a tree of masks is read as."""
    return Finding("no_label_map", tree, OBJECT, detail=f"numbers the things of each image, 1, 2, 3, ..., so that each "
                   f"value is one object, and has no name for them; all are called {OBJECT}; where the numbers are "
                   "classes, name them in classes.txt, a name a line, from that of 0 on")  # fmt: skip


def with_things(
    sample: Sample, masks: Shelf, name: str | None, on_finding: OnFinding, look: str, threshold: int | None
) -> Sample:  # fmt: skip
    """The sample with what a mask numbers as objects, beside those it has; as it was where it has no mask, or one that
    cannot be used, which is told. name, look, threshold: as label_tree.with_mask."""
    read = with_mask(sample, masks, name, _as_it_is, on_finding, look, threshold).mask
    if read is None:
        return sample
    try:
        mask = read()
    except DataError:  # told by the reader
        return sample
    found = [Object(OBJECT, box, rle=rle) for value, rle, box in segments(mask.ids) if value != mask.ignore]
    return replace(sample, objects=(*(sample.objects or ()), *found))


def _as_it_is(values: np.ndarray, path: Path, file: str) -> Mask | None:
    return Mask(values) if values.ndim == 2 else None
