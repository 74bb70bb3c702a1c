"""The same work over many jobs: here, in processes of this machine, or on a Ray cluster (Moritz et al. 2018, arXiv
1712.05889).

Jobs are taken as there is room for them, so a list of photos need not fit in memory; results come as they are done, in
any order. What all jobs share is sent once to each worker. Every worker has one thread. A Ray node needs no disk that
others see, nor handful itself: it is sent along, and what a node was at when it died is done again on another.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import handful
from handful.errors import DataError, HandfulError
from handful.pick import need
from handful.threads import ONE, cores, one_thread, one_thread_each

J = TypeVar("J")
R = TypeVar("R")
Work = Callable[[Any, J], R]  # what all share, a job -> its result; a function of a module, so that it can be sent
Lost = Callable[[J, str], R]  # a job whose workers died again and again, and why -> what stands for its result

AHEAD = 2  # jobs in memory for each worker: one at work, one waiting
RETRIES = 10  # of one job, when its worker or node dies
REACH_S = 20.0  # for an address to answer
NOBODY_S = 60.0  # with no processor in the whole cluster
INSTEAD = "or work on this machine: --workers N"
RESUME = "go on with --resume"


def each(
    work: Work[J, R],
    shared: Any,
    jobs: Iterable[J],
    *,
    workers: int | None = 1,
    ray: str | None = None,
    lost: Lost[J, R] | None = None,
    resumable: bool = False,
) -> Iterator[tuple[int, R]]:
    """(number of the job, its result), as they are done. Closing the iterator stops the workers.

    workers: processes; 1 for none but this one, None for one a processor. ray: a Ray cluster instead, whatever workers
    says: "local" (started here), "auto" (the one running here) or HOST:PORT. lost: stands in for a job whose workers
    on the cluster died RETRIES times and more; None: that is an error. resumable: errors tell the user to go on with
    --resume.

    Raises DataError for workers below 1; MissingPackage without Ray; HandfulError when a process dies, no cluster
    answers within REACH_S, or all its nodes are gone. What `work` raises comes out here.
    """
    if workers is not None and workers < 1:
        raise DataError(f"workers is {workers}; wanted at least one")
    if ray is not None:
        yield from _on_ray(work, shared, jobs, ray, lost, RESUME if resumable else INSTEAD)
        return
    count = cores() if workers is None else workers
    if count == 1:
        yield from ((i, work(shared, job)) for i, job in enumerate(jobs))
    else:
        hint = f"{RESUME} and fewer --workers" if resumable else "try fewer --workers"
        yield from _in_processes(work, shared, jobs, count, hint)


def unwanted() -> bool:
    """Whether nobody waits for this worker's result any more. Long work asks it now and then, and ends if so."""
    return _unwanted.is_set()


# --- processes -------------------------------------------------------------------------------------------------------

_unwanted = threading.Event()
GONE = (EOFError, OSError)  # what reading from, or writing to, a process that died gives


class _Worker:
    """A process and the pipe to it, which nobody else writes to: one that is killed while it sends leaves an end of
    file, not half a message and a lock that others wait for (as in concurrent.futures, which then waits for ever)."""

    def __init__(self, context: Any, work: Any, shared: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self.asked = 0  # jobs it has not answered
        # a daemon: where the iterator was never closed, the interpreter can still end
        self.process = context.Process(target=_serve, args=(theirs, work, shared), daemon=True)
        with one_thread_each():
            self.process.start()
        theirs.close()

    def ask(self, number: int, job: Any) -> None:
        """Never waits long: a thread of the process reads, whatever it is at."""
        self.pipe.send((number, job))
        self.asked += 1

    def answer(self) -> tuple[int, Any, Exception | None]:
        """(number of a job, its result, what it raised). Raises what GONE lists when the process died."""
        answer: tuple[int, Any, Exception | None] = self.pipe.recv()
        self.asked -= 1
        return answer


def _in_processes(work: Work[J, R], shared: Any, jobs: Iterable[J], workers: int, hint: str) -> Iterator[tuple[int, R]]:
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    crew: list[_Worker] = []
    try:
        for number, job in enumerate(jobs):
            if len(crew) < workers and all(one.asked for one in crew):  # started when there is work for it
                crew.append(_Worker(context, work, shared))
            try:
                min(crew, key=lambda one: one.asked).ask(number, job)
            except OSError as error:
                raise _Died from error
            while len(crew) == workers and all(one.asked >= AHEAD for one in crew):
                yield from _answers(crew)
        while any(one.asked for one in crew):
            yield from _answers(crew)
    except _Died:
        for one in crew:
            one.process.terminate()
        text = f"one of {workers} processes died, perhaps because memory ran out; {hint}"
        raise HandfulError(text) from None
    finally:
        for one in crew:
            one.pipe.close()  # nobody waits for it any more: it ends with what it is at
        for one in crew:
            one.process.join()


class _Died(Exception):
    """A worker did."""


def _answers(crew: list[_Worker]) -> Iterator[tuple[int, Any]]:
    """What is answered by now; waits for one. Raises what the work raised."""
    ready = wait([one.pipe for one in crew if one.asked])
    for one in crew:
        if one.pipe in ready:
            try:
                number, result, error = one.answer()
            except GONE as gone:
                raise _Died from gone
            if error is not None:
                raise error
            yield number, result


def _serve(pipe: Connection, work: Any, shared: Any) -> None:
    """A worker's life. Ctrl-C is for the parent, which then closes its end; and a worker whose parent was killed must
    not stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    todo: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
    threading.Thread(target=_hear, args=(pipe, todo), daemon=True).start()
    while (asked := todo.get()) is not None and not unwanted():
        number, job = asked
        try:
            answer: tuple[int, Any, Exception | None] = number, work(shared, job), None
        except Exception as error:
            answer = number, None, _sendable(error)
        try:
            pipe.send(answer)
        except OSError:  # nobody waits for it
            return
        except Exception as error:  # it cannot be sent
            pipe.send((number, None, _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """An error as it is sent, with where it was raised as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        copy.copy(error)  # is made as the receiver makes it
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _hear(pipe: Connection, todo: SimpleQueue[tuple[int, Any] | None]) -> None:
    try:
        while True:
            todo.put(pipe.recv())
    except GONE:
        _unwanted.set()
    finally:
        todo.put(None)


# --- Ray -------------------------------------------------------------------------------------------------------------


def _on_ray(
    work: Work[J, R], shared: Any, jobs: Iterable[J], address: str, lost: Lost[J, R] | None, hint: str
) -> Iterator[tuple[int, R]]:
    ray = need("ray", "ray")
    with connected(ray, address):
        task, held = ray.remote(num_cpus=1, max_retries=RETRIES)(work), ray.put(shared)
        cluster = _Cluster(ray, hint)
        waiting: dict[Any, tuple[int, J]] = {}
        try:
            for number, job in enumerate(jobs):
                waiting[task.remote(held, job)] = number, job
                while len(waiting) >= AHEAD * cluster.size():
                    yield from _done(cluster, waiting, lost)
            while waiting:
                yield from _done(cluster, waiting, lost)
        finally:
            for ref in waiting:
                ray.cancel(ref)


class _Cluster:
    """How many processors the cluster has just now. hint: what to do when it cannot go on."""

    def __init__(self, ray: Any, hint: str = INSTEAD) -> None:
        self.ray, self.hint = ray, hint
        self._at, self._size, self._seen = 0.0, 1, time.monotonic()

    def size(self) -> int:
        """Raises HandfulError when there has been none for NOBODY_S."""
        now = time.monotonic()
        if now - self._at > 2:
            self._at, self._size = now, int(self.ray.cluster_resources().get("CPU", 0))
            if self._size:
                self._seen = now
            elif now - self._seen > NOBODY_S:
                raise HandfulError(f"no node of the Ray cluster has answered for {NOBODY_S:.0f} s; {self.hint}")
        return max(1, self._size)


def _done(cluster: _Cluster, waiting: dict[Any, tuple[int, J]], lost: Lost[J, R] | None) -> Iterator[tuple[int, R]]:
    """The results that are ready; none after a second, so that Ctrl-C and a cluster without nodes are seen."""
    cluster.size()
    ray, died = cluster.ray, cluster.ray.exceptions
    ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
    for ref in ready:
        number, job = waiting[ref]
        try:
            result: R = ray.get(ref)
        except died.RayTaskError as error:  # what the work itself raised, as in processes
            raise error.cause from None
        except (died.WorkerCrashedError, died.OutOfMemoryError, died.ObjectLostError, died.NodeDiedError) as error:
            why = f"its worker died {RETRIES} times and more ({type(error).__name__})"
            if lost is None:
                raise HandfulError(f"a job could not be done on the Ray cluster: {why}; {cluster.hint}") from error
            result = lost(job, why)
        except died.RayError as error:
            text = str(error).strip().splitlines()[-1][:300]
            raise HandfulError(f"the Ray cluster could not go on ({text}); {cluster.hint}") from error
        del waiting[ref]
        yield number, result


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Connected to a cluster: "local", "auto" or HOST:PORT; one that this program is already connected to is used, and
    left as it is. Raises HandfulError when none answers."""
    if ray.is_initialized():
        yield
        return
    # without these, Ray tells its usage to its makers over the network, and turns hidden GPUs into warnings
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if address == "local":
        runtime: dict[str, Any] = {"env_vars": ONE}
        ray.init(address="local", num_cpus=cores(), include_dashboard=False, runtime_env=runtime, **quiet)
    else:
        reach(address)
        sent = [str(Path(handful.__file__).parent)]
        try:
            ray.init(address=address, runtime_env={"env_vars": ONE, "py_modules": sent}, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            text = str(error).strip().splitlines()[0][:300]
            raise HandfulError(f"no Ray cluster at {address!r} ({text}); {INSTEAD}") from error
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Raises HandfulError, soon, when no cluster answers: Ray itself would try for a minute and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto":
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise HandfulError(
                f"{address!r} is no address of a Ray cluster; wanted local, auto or HOST:PORT; {INSTEAD}"
            )
        try:
            socket.create_connection((host, int(port)), timeout=REACH_S / 4).close()
        except OSError as error:
            raise HandfulError(f"no Ray cluster answers at {address} ({error.strerror or error}); {INSTEAD}") from error
        if address.startswith("ray://"):
            return
    # something else may listen there, and waits for ever for what Ray never says
    asked = ["-m", "ray.scripts.scripts", "health-check", *(["--address", address] if address != "auto" else [])]
    try:
        done = subprocess.run([sys.executable, *asked], capture_output=True, timeout=REACH_S).returncode
    except subprocess.TimeoutExpired:
        done = 1
    if done:
        raise HandfulError(f"no Ray cluster answers at {address}; {INSTEAD}")
