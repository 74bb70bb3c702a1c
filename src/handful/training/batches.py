"""Which photos a batch holds, in an order by chance, and batches made ahead by threads: what all feeds share.

Every chance is a function of (seed, epoch): nothing depends on the number of workers or what was drawn before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from handful.pick import need

T = TypeVar("T")


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) int64: the order of the photos in an epoch."""
    return np.random.default_rng((seed, epoch, 0, 2)).permutation(count)


class Shuffled(ABC, Generic[T]):
    """Batches T of an epoch. batch: photos a batch. workers: threads that prepare them.

    rank, world: this process takes every world-th photo of a batch, from the rank-th on.
    """

    photos: Sized
    batch: int
    seed: int
    workers: int
    rank: int
    world: int

    @abstractmethod
    def made(self, epoch: int, number: int, own: np.ndarray) -> T:
        """Batch `number` of an epoch, of the photos own, (n,) int64."""

    def __len__(self) -> int:
        # a smaller last batch would count its photos more and starve batch norm, so it is left for another epoch
        return max(1, len(self.photos) // self.batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[T]:
        """Batches from number `start` on; a set smaller than a batch is used again."""
        mixed = order(len(self.photos), self.seed, epoch)
        mixed = np.resize(mixed, self.batch) if len(mixed) < self.batch else mixed

        def make(number: int) -> T:
            whole = mixed[number * self.batch : (number + 1) * self.batch]
            return self.made(epoch, number, whole[self.rank :: self.world])

        return ahead(make, range(start, len(self)), self.workers)

    def chance(self, epoch: int, at: int, photo: int) -> tuple[int, int, int]:
        """What a photo at place `at` of a batch is changed by: a small set may have it there twice, changed twice."""
        again = (at * self.world + self.rank) // len(self.photos)
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
