"""The same work over many jobs: here, in processes of this machine, or on a Ray cluster.

What all jobs share is sent once to each worker; results come as they are done, in any order.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from handful.errors import DataError, HandfulError
from handful.lucid.runners import one_thread_each
from handful.pick import need

J = TypeVar("J")
R = TypeVar("R")
Work = Callable[[Any, J], R]  # what all share, a job -> its result; a function of a module, so that it can be sent
INSTEAD = "; or work on this machine: --workers N"


def each(
    work: Work[J, R], shared: Any, jobs: Sequence[J], *, workers: int = 1, on: str | None = None
) -> Iterator[tuple[int, R]]:
    """(number of the job, its result), as they are done.

    workers: processes; 1 for none but this. on: instead on a Ray cluster: "ray" (started here), "auto" (the one running
    here) or HOST:PORT. Raises DataError for workers below 1, HandfulError when a process dies or no cluster answers.
    """
    if workers < 1:
        raise DataError(f"workers is {workers}; wanted at least one")
    if on is not None:
        yield from _on_ray(work, shared, jobs, "local" if on == "ray" else on)
    elif workers == 1:
        yield from ((i, work(shared, job)) for i, job in enumerate(jobs))
    else:
        yield from _in_processes(work, shared, jobs, workers)


_mine: Any = None


def _begin(work: Any, shared: Any) -> None:
    global _mine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends them
    _mine = work, shared


def _one(number: int, job: Any) -> tuple[int, Any]:
    work, shared = _mine
    return number, work(shared, job)


def _in_processes(work: Any, shared: Any, jobs: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    with one_thread_each(), ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work, shared)) as pool:
        waiting: set[Future[tuple[int, Any]]] = {pool.submit(_one, i, job) for i, job in enumerate(jobs)}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise HandfulError(
                f"one of {workers} processes died, perhaps because memory ran out; try fewer --workers"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def _on_ray(work: Any, shared: Any, jobs: Sequence[Any], address: str) -> Iterator[tuple[int, Any]]:
    from handful.lucid.ray_farm import connected

    ray = need("ray", "ray")
    with connected(ray, address, INSTEAD):
        task, held = ray.remote(num_cpus=1, max_retries=3)(work), ray.put(shared)
        waiting = {task.remote(held, job): i for i, job in enumerate(jobs)}
        try:
            while waiting:
                for ref in ray.wait(list(waiting), num_returns=1, timeout=1.0)[0]:
                    yield waiting.pop(ref), ray.get(ref)
        except ray.exceptions.RayError as error:
            text = str(error).strip().splitlines()[-1][:300]
            raise HandfulError(f"the Ray cluster could not go on ({text}){INSTEAD}") from error
        finally:
            for ref in waiting:
                ray.cancel(ref)
