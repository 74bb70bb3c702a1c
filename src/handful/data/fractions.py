"""Boxes in fractions of the image in a format that counts pixels: all of them would be less than a pixel wide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from handful.data.finding import Finding, OnFinding
from handful.data.shapes import box_of
from handful.types import Dataset, Sample
from handful.words import counted

LARGEST = 1.001
FEWEST = 3  # fewer may be marks in the corner


def watched(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set, which tells at its end that no box of it reaches further than the first pixel."""

    def samples() -> Iterator[Sample]:
        count, first = 0, ""
        for sample in dataset:
            for thing in sample.objects or () if count >= 0 else ():
                box = box_of(thing)
                if box is not None and max(box[2], box[3]) > LARGEST:
                    count = -1
                    break
                count += box is not None
                first = first or sample.name or str(sample.path)
            yield sample
        if count >= FEWEST:
            detail = (
                f"all {counted(count, 'box', 'boxes')} end within the first pixel of their images ({first}, ...), so "
                f"they are fractions, where {dataset.format} has pixels; multiply them by the images' sizes"
            )
            on_finding(Finding("box_in_fractions", ".", first, count, detail))

    return replace(dataset, samples=samples)
