"""Boxes whose numbers mean something else than their format says: fractions of the image where pixels are wanted, all
of them less than a pixel wide; corners where sides are wanted, by the areas that stand beside them; a box and keypoints
that were read as one outline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.shapes import box_of
from handful.types import Dataset, Object, Sample
from handful.words import counted

LARGEST = 1.001
FEWEST = 3  # fewer may be marks in the corner


def _watched(
    dataset: Dataset, judged: Callable[[Object], bool | None], tell: Callable[[int, str], None]
) -> Dataset:  # fmt: skip
    """The same set, which at its end calls tell(how many objects are judged True, the first image with an object) where
    none is judged False, and enough are True; None counts neither way."""

    def samples() -> Iterator[Sample]:
        count, first = 0, ""
        for sample in dataset:
            for thing in sample.objects or () if count >= 0 else ():
                verdict = judged(thing)
                if verdict is False:
                    count = -1
                    break
                count += verdict is True
                first = first or sample.name or str(sample.path)
            yield sample
        if count >= FEWEST:
            tell(count, first)

    return replace(dataset, samples=samples)


def watched(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set, which tells at its end that no box of it reaches further than the first pixel."""

    def judged(thing: Object) -> bool | None:
        box = box_of(thing)
        return None if box is None else max(box[2], box[3]) <= LARGEST

    def tell(count: int, first: str) -> None:
        detail = (
            f"all {counted(count, 'box', 'boxes')} end within the first pixel of their images ({first}, ...), so "
            f"they are fractions, where {dataset.format} has pixels; multiply them by the images' sizes"
        )
        on_finding(Finding("box_in_fractions", ".", first, count, detail))

    return _watched(dataset, judged, tell)


def watched_areas(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set of boxes with areas, which tells at its end that all areas are those of boxes from corner to corner:
    [10, 10, 30, 40] with the area 600 is 20 x 30 px, not 30 x 40.
    """

    def tell(count: int, first: str) -> None:
        detail = (
            f"the areas of all {counted(count, 'box', 'boxes')} are those of left, top, right, bottom ({first}, "
            f"...), where {dataset.format} has left, top, width, height; write them so"
        )
        on_finding(Finding("box_in_corners", ".", first, count, detail))

    return _watched(dataset, _is_corners, tell)


def _is_corners(thing: Object) -> bool:
    """Whether a box's area is that of its numbers as corners, and not that of its sides."""
    area = thing.attributes.get("area")
    if thing.box_px is None or thing.polygons_px or thing.rle is not None or not isinstance(area, int | float):
        return False
    left, top, right, bottom = thing.box_px
    width, height = right - left, bottom - top
    inner = (width - left) * (height - top)
    near = 0.02 * area + 1
    return width > left and height > top and abs(inner - area) <= near < abs(width * height - area)


def watched_outlines(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set of outlines, which tells at its end that all have as many points, and that all but the first two of
    them lie in the box whose middle and size these two would be: YOLO's lines with keypoints, of which nothing says how
    many there are.
    """
    counts: set[int] = set()  # of points

    def judged(thing: Object) -> bool:
        points = thing.polygons_px[0] if len(thing.polygons_px) == 1 else None
        if points is None or not _is_box_and_points(points):
            return False
        counts.add(len(points))
        return len(counts) == 1

    def tell(count: int, first: str) -> None:
        (many,) = counts
        detail = (
            f"all {counted(count, 'outline')} have {many} points, {many - 2} of them in the box that the first two "
            f"would be ({first}, ...): boxes with keypoints; say so in data.yaml: kpt_shape: [{many - 2}, 2]"
        )
        on_finding(Finding("unsaid_keypoints", ".", first, count, detail))

    return _watched(dataset, judged, tell)


def _is_box_and_points(points: np.ndarray) -> bool:
    """points: (n, 2) px."""
    middle, size, rest = points[0], points[1], points[2:]
    return len(rest) >= FEWEST and bool((np.abs(rest - middle) <= size / 2 + 1).all())
