"""How many threads work, and how they wait: the one place, for every verb and for the Python API.

1. Threads without work sleep. OpenMP's and OpenBLAS's own default is to spin, so that a thread that lost its core to
   another program keeps the others burning theirs: `handful teach` took nine times as long on a busy machine.
2. A photo is one thread's work, and photos are worked on side by side (`over`). A photo divided among threads waits at
   every layer for the slowest of them, and its last bits depend on how many there are; one thread gives the same bits
   on every machine.
3. A batch that is trained on is divided among all processors this process may use (`cores`).
4. What the user sets holds: with OMP_NUM_THREADS, so many threads share each photo, one photo after another.

Measured in benchmarks/teach_threads.py.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

# read by libgomp, by LLVM's and Intel's OpenMP, and by OpenBLAS, each once, when it is loaded
SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
WAITING = (*SLEEP, "GOMP_SPINCOUNT", "KMP_LIBRARY")  # if one of these is set, somebody has thought about it
ONE = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
MOST = 8  # photos at once: beyond, they wait for Python's own lock, and take memory
CGROUP = Path("/sys/fs/cgroup/cpu.max")


def settle(environ: dict[str, str] | Any = os.environ) -> None:
    """Ask every thread pool to sleep while it has nothing to do; `import handful` does this. What the user has set
    about waiting is left alone. Libraries that were loaded before keep their way: import handful before torch."""
    if not any(environ.get(name) for name in WAITING):
        environ.update(SLEEP)


def settle_process(environ: dict[str, str] | Any = os.environ) -> None:
    """In a process that is handful's own, as the command is, NumPy's BLAS has one thread: its matrices are small here.
    What the user has set is left alone. Before NumPy is imported."""
    settle(environ)
    if not asked(environ):
        environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def asked(environ: dict[str, str] | Any = os.environ) -> int | None:
    """The number of threads the user asks for with OMP_NUM_THREADS; None when there is none, or it makes no sense."""
    first = environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def cores(quota: Path = CGROUP) -> int:
    """How many processors this process may use: what it is bound to, and no more than its container is given."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        given, period = quota.read_text().split()[:2]  # "150000 100000" microseconds, or "max 100000"
        return min(bound, max(1, round(int(given) / int(period))))
    except (OSError, ValueError):
        return bound


def for_batches() -> int:
    """How many threads of torch work on a batch: as many as torch has taken, but no more than this process may use."""
    import torch

    return torch.get_num_threads() if asked() else min(torch.get_num_threads(), cores())


@contextmanager
def inference() -> Iterator[None]:
    """torch without gradients, for the network's work on one photo: on one thread, unless OMP_NUM_THREADS is set."""
    import torch

    before = torch.get_num_threads()
    wanted = before if asked() else 1
    with torch.inference_mode():
        if before != wanted:
            torch.set_num_threads(wanted)
        try:
            yield
        finally:
            if before != wanted:
                torch.set_num_threads(before)


def side_by_side(network: Any) -> int | None:
    """`workers` of `over` for a network of torch's: one where it lies on a GPU, which takes one photo after another."""
    device = next((parameter.device.type for parameter in network.parameters()), "cpu")
    return None if device == "cpu" else 1


def over(work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None) -> Iterator[R]:
    """work(item) for each item, in their order, several at a time, each on one thread.

    Items are taken a few ahead of what is yielded. workers: how many at once; None for as many as there are
    processors, up to MOST, or 1 if OMP_NUM_THREADS is set. What `work` or `items` raise comes out in its place, after
    the results before it; then, and when the iterator is closed, no more items are taken. The work must be fit for
    threads.
    """
    count = workers or (1 if asked() else min(MOST, cores()))
    if count == 1:
        yield from map(work, items)
        return
    from concurrent.futures import ThreadPoolExecutor  # `import handful` stays light

    failed: list[Exception] = []

    def sound() -> Iterator[T]:
        try:
            yield from items
        except Exception as error:
            failed.append(error)

    rest = sound()
    first = list(itertools.islice(rest, 2))
    if len(first) < 2:  # no threads for one photo
        yield from map(work, first)
    else:
        waiting: deque[Future[R]] = deque()
        with ThreadPoolExecutor(count, thread_name_prefix="handful") as pool:
            for item in itertools.chain(first, rest):
                # each with the progress sink of who asked
                waiting.append(pool.submit(copy_context().run, work, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    if failed:
        raise failed[0]


def one_thread() -> None:
    """This process has one thread for numbers from now on: in the libraries it has loaded and in those to come."""
    os.environ.update(ONE)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """What processes that are started inside find in their environment: they have one thread each."""
    before = {name: os.environ.get(name) for name in ONE}
    os.environ.update(ONE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
