"""Sample selection (active learning): which samples to learn next, by rules on vectors alone, whatever they are of.

With a handful of samples the typical ones teach most, the hard ones later (Hacohen 2022, TypiClust, arXiv:2202.02794).
All vectors are (n, d) float64 of length 1, so that near means a large cosine. Nothing is drawn but by `seed`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from handful.errors import DataError
from handful.pick import need

NEIGHBORS = 20
CAP = 3  # more than so many of a class in one step would let the worst class take all


def typicality(z: np.ndarray, neighbors: int = NEIGHBORS) -> np.ndarray:
    """(n,) float64: one over the mean distance to the nearest `neighbors` others; 0 for one that is alone."""
    if len(z) < 2:
        return np.zeros(len(z))
    apart = np.sqrt(np.maximum(2 - 2 * np.clip(z @ z.T, -1, 1), 0))
    np.fill_diagonal(apart, np.inf)
    near = np.sort(apart, axis=1)[:, : min(neighbors, len(z) - 1)]
    return np.asarray(1 / np.maximum(near.mean(axis=1), 1e-9))


def typical(z: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """TypiClust: as many clusters (k-means) as samples are wanted, the most typical of each, the largest cluster first.

    Returns at most `count` row numbers; all rows, the most typical first, when there are no more than that.
    """
    if count < 0:
        raise DataError(f"count is {count}; wanted 0 or more")
    if len(z) <= count:
        return [int(i) for i in np.argsort(-typicality(z), kind="stable")]
    if not count:
        return []
    kmeans2 = need("scipy.cluster.vq", "teach").kmeans2
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is seen to below
        cluster = kmeans2(z, count, minit="++", seed=np.random.default_rng((seed, 11)))[1]
    found = []
    for one in np.argsort(-np.bincount(cluster, minlength=count), kind="stable"):
        own = np.flatnonzero(cluster == one)
        if len(own):
            found.append(int(own[typicality(z[own]).argmax()]))
    rest = [i for i in np.argsort(-typicality(z), kind="stable").tolist() if i not in set(found)]
    return (found + rest)[:count]  # k-means may leave a cluster empty


def densest_uncovered(z: np.ndarray, known: np.ndarray, reach: float) -> int:
    """The most typical row that no known sample covers; the one furthest from all of them when all are covered.

    known: (m, d) what was taught. reach: the cosine from which a known sample covers a row. As ProbCover (Yehuda 2022,
    arXiv:2205.11320), one at a time. Raises DataError when there is no row.
    """
    if not len(z):
        raise DataError("no sample to choose from")
    near = (z @ known.T).max(axis=1) if len(known) else np.full(len(z), -1.0)
    bare = np.flatnonzero(near < reach)
    return int(bare[typicality(z[bare]).argmax()]) if len(bare) else int(near.argmin())


def nearest_boundary(own: np.ndarray, rival: np.ndarray) -> int:
    """The row whose score for its own class, (n,), is nearest to that for the class it is taken for, (n,)."""
    if not len(own):
        raise DataError("no sample to choose from")
    return int(np.abs(own - rival).argmin())


def quotas(mass: Mapping[str, float], budget: int, cap: Mapping[str, int] | int = CAP) -> dict[str, int]:
    """How many of each class, by the mass of its errors: largest remainder, none over its cap, at most `budget`.

    What a capped class cannot take goes to the others with errors. A class without errors gets none.
    """
    limit = {name: cap if isinstance(cap, int) else cap.get(name, 0) for name in mass}
    found = dict.fromkeys(mass, 0)
    left = budget
    while left > 0:
        open_ = {name: m for name, m in mass.items() if m > 0 and found[name] < limit[name]}
        if not open_:
            break
        total = sum(open_.values())
        share = {name: left * m / total for name, m in open_.items()}
        given = {name: min(int(share[name]), limit[name] - found[name]) for name in open_}
        if not any(given.values()):  # less than one each: the largest remainders
            for name in sorted(open_, key=lambda n: (-share[n], n))[:left]:
                given[name] = 1
        for name, n in given.items():
            found[name] += n
        left = budget - sum(found.values())
    return found


def worst_first(scores: Sequence[float], seed: int = 0) -> list[int]:
    """Numbers of images, the lowest score first; of equals in an order by chance."""
    order = np.random.default_rng((seed, 13)).permutation(len(scores))
    return [int(i) for i in order[np.argsort(np.asarray(scores, np.float64)[order], kind="stable")]]
