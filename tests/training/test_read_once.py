"""How often a data set is read before the first batch: once to be checked and once to be decoded, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from handful.data import formats
from handful.data.finding import stop
from handful.training import (
    coco_table,
    evaluate_classify,
    evaluate_detect,
    evaluate_segment,
    loader_segment,
    loop,
    recipe_classify,
    recipe_detect,
    recipe_instance,
    recipe_segment,
    source,
)
from handful.training.source import held
from handful.types import Dataset, Mask, Sample
from tests.training.made import FAST, small
from tests.training.test_classify import folders
from tests.training.test_detect import FAST as BOXES
from tests.training.test_detect import small as boxed


class Reached(Exception):
    """The first batch is there."""


class Counted:
    """Wraps every data set that is read, and counts what is asked of it.

    passes: over the samples. masks: how often each mask file is read; images: how often each image is decoded by a
    data loader; painted: how often each outline is turned into pixels.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clear()
        read = formats.Source.read

        def counted(one: formats.Source, on_finding: Any = stop) -> Dataset:
            dataset = read(one, on_finding)
            return replace(dataset, samples=lambda: self._samples(dataset))

        monkeypatch.setattr(formats.Source, "read", counted)
        monkeypatch.setattr(loop, "train", self._first)
        monkeypatch.setattr(source, "read_image", self._noted(source.read_image, "images"))
        for module in (loader_segment, coco_table):
            monkeypatch.setattr(module, "painted", self._noted(module.painted, "painted"))  # type: ignore[attr-defined]

    def clear(self) -> None:
        self.passes = 0
        self.used: set[str] = set()  # images that are trained or measured on
        self.masks: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.painted: Counter[str] = Counter()

    def _noted(self, real: Callable[..., Any], kept: str) -> Callable[..., Any]:
        def call(what: Any, *more: Any) -> Any:
            getattr(self, kept)[str(what) if isinstance(what, Path) else id(what)] += 1
            return real(what, *more)

        return call

    def _samples(self, dataset: Dataset) -> Iterator[Sample]:
        self.passes += 1
        for sample in dataset:
            if sample.split in ("train", "val"):
                self.used.add(str(sample.path))
            yield replace(sample, mask=partial(self._mask, sample)) if sample.mask is not None else sample

    def _mask(self, sample: Sample) -> Mask:
        assert sample.mask is not None
        self.masks[str(sample.path)] += 1
        return sample.mask()

    @staticmethod
    def _first(task: loop.Task, *args: Any, **named: Any) -> Any:
        next(task.loader.epoch(0))
        raise Reached


SIGNET: dict[str, Any] = {"net": "signet", "args": {"width": 0.25}, "size_hw": (32, 32), "epochs": 1, "threads": 1}
JOBS: dict[str, tuple[Callable[[Path], Path], Callable[..., Any], dict[str, Any]]] = {
    "segment, masks": (small, recipe_segment.run, FAST),
    "segment, outlines": (boxed, recipe_segment.run, {**FAST, "size_hw": (32, 48)}),
    "classify": (folders, recipe_classify.run, SIGNET),
    "detect": (boxed, recipe_detect.run, BOXES),
    "instance": (boxed, recipe_instance.run, BOXES),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_data_set_is_read_to_be_checked_and_to_be_decoded_and_no_more(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, run, plan = JOBS[job]
    data = make(tmp_path / "data")
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    counted = Counted(monkeypatch)
    with pytest.raises(Reached):
        run(data, tmp_path / "m", **plan)
    # the check reads every label once, of all splits; then the samples are read once more and kept, and from then on
    # only masks and images are read, once each, as they are decoded
    assert counted.passes == 2
    assert set(counted.masks.values()) == ({2} if job == "segment, masks" else set())
    assert set(counted.painted.values()) == ({1} if job in ("segment, outlines", "instance") else set())
    assert set(counted.images.values()) == {1} and len(counted.images) == len(counted.used)
    # what was checked and is as it was is not checked again
    counted.clear()
    with pytest.raises(Reached):
        run(data, tmp_path / "n", **plan)
    assert counted.passes == 1 and set(counted.masks.values()) <= {1}


@pytest.mark.parametrize("job", JOBS)
def test_to_measure_reads_it_once(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, run, plan = JOBS[job]
    data = make(tmp_path / "data")
    said = run(data, tmp_path / "m", **{**plan, "epochs": 1})
    counted = Counted(monkeypatch)
    module = {"segment": evaluate_segment, "classify": evaluate_classify}.get(said["task"], evaluate_detect)
    module.evaluate(tmp_path / "m", data, split="val")
    assert counted.passes == 1 and set(counted.masks.values()) <= {1} and set(counted.painted.values()) <= {1}


def test_a_second_reading_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    dataset = formats.read(small(tmp_path / "data"))
    for _ in range(2):
        for sample in dataset:
            assert sample.mask is not None
            sample.mask()
    assert counted.passes == 2 and set(counted.masks.values()) == {2}
    kept = held(dataset)
    assert [s.name for s in kept] == [s.name for s in kept] == [s.name for s in dataset] and counted.passes == 4
