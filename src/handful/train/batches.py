"""Which photos a batch holds, in an order by chance, and batches made ahead by threads: what all feeds share.

Every chance is a function of (seed, epoch): nothing depends on the number of workers or what was drawn before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from handful.pick import need

T = TypeVar("T")


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) int64: the order of the photos in an epoch."""
    return np.random.default_rng((seed, epoch, 0, 2)).permutation(count)


@dataclass(frozen=True)
class Share:
    """What of `photos` photos belongs to which batch. rank, world: this process takes every world-th photo of a batch,
    from the rank-th on.
    """

    photos: int
    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        # a smaller last batch would count its photos more and starve batch norm, so it is left for another epoch
        return max(1, self.photos // self.batch)

    def of(self, epoch: int, number: int) -> np.ndarray:
        """(n,) int64: the photos of batch `number` of an epoch; a set smaller than a batch is used again."""
        mixed = order(self.photos, self.seed, epoch)
        mixed = np.resize(mixed, self.batch) if len(mixed) < self.batch else mixed
        return np.asarray(mixed[number * self.batch : (number + 1) * self.batch][self.rank :: self.world])

    def chance(self, epoch: int, at: int, photo: int) -> tuple[int, int, int]:
        """What a photo at place `at` of a batch is changed by: a small set may have it there twice, changed twice."""
        again = (at * self.world + self.rank) // self.photos
        return self.seed, epoch + (again << 32), photo


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
