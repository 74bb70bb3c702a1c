"""Who makes the films: this process, processes of this machine, or (ray_farm.py) the nodes of a Ray cluster.

A runner takes (number, seed) pairs as it has room for them and yields films as they are done, in any order.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection

import cv2

from handful.errors import HandfulError
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings
from handful.lucid.shards import Film, render

AHEAD = 2  # seeds in memory for each worker: one at work, one waiting
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
Seeds = Iterable[tuple[int, Seed]]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def here(seeds: Seeds, settings: Settings) -> Iterator[Film]:
    """One after the other, in this process."""
    before = cv2.getNumThreads()
    try:
        for number, seed in seeds:
            yield render(number, seed, settings)
    finally:
        cv2.setNumThreads(before)


def processes(seeds: Seeds, settings: Settings, jobs: int) -> Iterator[Film]:
    """In `jobs` processes. Raises HandfulError when one of them dies, as when memory runs out."""
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    ours, theirs = context.Pipe()
    with one_thread_each(), ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(theirs,)) as pool:
        waiting: set[Future[Film]] = set()
        try:
            for number, seed in seeds:
                waiting.add(pool.submit(_work, number, seed, settings))
                while len(waiting) >= AHEAD * jobs:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise HandfulError(
                f"one of {jobs} processes died, perhaps because memory ran out; go on with --resume and fewer --jobs"
            ) from None
        finally:
            # a worker that is killed while it sends would leave this process waiting, so they are asked to end
            ours.close()
            for future in waiting:
                future.cancel()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """What the workers find in their environment when they start: NumPy reads it once."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_unwanted = threading.Event()


def _begin(theirs: Connection) -> None:
    """Ctrl-C is for the parent, which then closes its end; and a worker whose parent was killed must not stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    threading.Thread(target=_hear, args=(theirs,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _hear(theirs: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        theirs.recv_bytes()
    _unwanted.set()


def _work(number: int, seed: Seed, settings: Settings) -> Film:
    return render(number, seed, settings, _unwanted.is_set)
