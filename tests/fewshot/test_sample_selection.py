"""Which samples to learn next: the rules on vectors."""

from __future__ import annotations

import numpy as np
import pytest

from handful.errors import DataError
from handful.fewshot.front_end import unit
from handful.fewshot.sample_selection import (
    densest_uncovered,
    nearest_boundary,
    quotas,
    typical,
    typicality,
    worst_first,
)


def heaps(sizes: list[int], seed: int = 0, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Rows in heaps about random directions, and which heap each is in."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return unit(np.eye(dim)[which] + rng.normal(0, 0.08, (len(which), dim))), which


def test_typical_takes_one_of_each_heap_and_no_outlier() -> None:
    z, which = heaps([12, 9, 6, 1])
    found = typical(z, 3, seed=4)
    assert [which[i] for i in found] == [0, 1, 2] and typical(z, 3, seed=4) == found
    assert typicality(z).argmin() == 27 and 27 not in found
    assert all(typicality(z[which == which[i]]).max() == typicality(z[which == which[i]])[
        np.flatnonzero(which == which[i]).tolist().index(i)] for i in found)  # fmt: skip
    assert sorted(typical(z, 99)) == list(range(28)) and typical(z, 99)[-1] == 27
    assert typical(z, 0) == [] and len(set(typical(np.repeat(z[:1], 6, 0), 4))) == 4  # empty clusters are filled up
    with pytest.raises(DataError, match="count is -1"):
        typical(z, -1)


def test_the_densest_that_nothing_covers() -> None:
    z, which = heaps([12, 9, 1])
    assert which[densest_uncovered(z, np.zeros((0, 12)), 0.6)] == 0
    assert which[densest_uncovered(z, z[:1], 0.6)] == 1
    assert which[densest_uncovered(z, z[[0, 12]], 0.6)] == 2
    near = densest_uncovered(z, z[[0, 12, 21]], 0.6)  # all covered: the one furthest from all
    assert (z @ z[[0, 12, 21]].T).max(axis=1).argmin() == near
    with pytest.raises(DataError, match="no sample"):
        densest_uncovered(z[:0], z, 0.5)


def test_the_one_nearest_the_boundary() -> None:
    assert nearest_boundary(np.array([3.0, 1.0, 0.0]), np.array([0.0, 1.4, 5.0])) == 1
    with pytest.raises(DataError, match="no sample"):
        nearest_boundary(np.zeros(0), np.zeros(0))


def test_quotas_follow_the_errors_and_waste_nothing() -> None:
    assert quotas({"a": 6, "b": 3, "c": 0}, 3) == {"a": 2, "b": 1, "c": 0}
    assert quotas({"a": 100, "b": 1}, 5) == {"a": 3, "b": 2}  # over the cap of 3 goes to the other
    assert quotas({"a": 5, "b": 5}, 99, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert quotas({"a": 2, "b": 2, "c": 2}, 2) == {"a": 1, "b": 1, "c": 0}
    assert sum(quotas({chr(97 + i): 0.1 + i for i in range(20)}, 17).values()) == 17
    assert quotas({"a": 0.0}, 4) == {"a": 0} and quotas({}, 3) == {}


def test_poor_photos_come_first() -> None:
    assert worst_first([0.5, 0.1, 1.0]) == [1, 0, 2]
    orders = {tuple(worst_first([0.0] * 5, seed)) for seed in range(6)}
    assert len(orders) > 1 and all(sorted(o) == [0, 1, 2, 3, 4] for o in orders)
