"""Splits by whatever name: nothing is taught on val, or measured on train, because a folder is called otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from handful.data.folder_names import usual
from handful.errors import DataError
from handful.select.data_pool import split_pool
from handful.training.source import split_of, split_to_measure
from handful.types import Dataset, Sample


def named(*splits: str | None) -> Dataset:
    samples = [Sample(Path(f"{i}.jpg"), objects=(), split=split) for i, split in enumerate(splits)]
    return Dataset("folder", Path(), (), lambda: iter(samples), len(samples))


@pytest.mark.parametrize(
    ("split", "name"),
    [("Training", "train"), ("TRAIN", "train"), ("train2017", "train"), ("val2017", "val"), ("Valid", "val"),
     ("dev", "val"), ("test-2014", "test"), ("fold1", "fold1"), ("Fold1", "Fold1"), (None, ""), ("", ""),
     ("retraining", "retraining"), ("test-dev", "test-dev")],
)  # fmt: skip
def test_the_usual_name_of_a_split(split: str | None, name: str) -> None:
    assert usual(split) == name


@pytest.mark.parametrize("splits", [("Training", "Validation"), ("train2017", "val2017"), ("TRAIN", "VAL")])
def test_a_split_is_measured_on_whatever_it_is_called(splits: tuple[str, str]) -> None:
    data = named(splits[0], splits[1], splits[0])
    assert split_to_measure(data, None) == "val"
    for name, found in ((splits[1], [1]), ("val", [1]), ("train", [0, 2]), (splits[0], [0, 2])):
        assert [int(s.path.stem) for s in split_of(data, name)] == found
    with pytest.raises(DataError, match="no split 'test', it has train, val"):
        split_of(data, "test")


def test_a_name_that_is_there_means_that_split_alone() -> None:
    data = named("train2014", "train2017", "val")
    assert [len(split_of(data, name)) for name in ("train2014", "train", "val")] == [1, 2, 1]


def test_a_pool_is_divided_by_its_splits_whatever_they_are_called() -> None:
    data = named(*["Train2017"] * 9, *["Val2017"] * 3)
    assert [s.split for s in split_pool(data)[2]] == ["Val2017"] * 3
