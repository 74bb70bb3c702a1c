"""The farm on a Ray cluster (Moritz et al. 2018, arXiv 1712.05889): a seed's pixels go out, encoded frames come back.

No node needs a disk that others see, nor handful itself: it is sent along. What a node was at when it died is made
again on another; the frames are the same, since each is decided by its seed and the settings.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import handful
from handful.errors import HandfulError
from handful.lucid.runners import AHEAD, THREADS, Seeds, cores
from handful.lucid.settings import Settings
from handful.lucid.shards import Film, made_with, render
from handful.pick import need

RETRIES = 10  # of one seed, when its worker or node dies
REACH_S = 20.0  # for an address to answer
NOBODY_S = 60.0  # with no processor in the whole cluster
ELSE = "; or dream on this machine: --jobs N"


def on_ray(seeds: Seeds, settings: Settings, address: str) -> Iterator[Film]:
    """On the nodes of a cluster: "local" (started here), "auto" (the one running here) or HOST:PORT.

    Raises MissingPackage without Ray; HandfulError when there is no cluster at the address, within REACH_S, when all
    its nodes are gone, or when a node has other versions of what decides a frame's bytes.
    """
    ray = need("ray", "ray")
    with connected(ray, address):
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(render)
        crowd = _Crowd(ray)
        waiting: dict[Any, tuple[int, str]] = {}
        try:
            for number, seed in seeds:
                waiting[task.remote(number, seed, settings)] = number, seed.id
                while len(waiting) >= AHEAD * crowd.size():
                    yield from _done(ray, waiting, crowd)
            while waiting:
                yield from _done(ray, waiting, crowd)
        finally:
            for ref in waiting:
                ray.cancel(ref)


class _Crowd:
    """How many processors the cluster has just now."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._at, self._size, self._seen = ray, 0.0, 1, time.monotonic()

    def size(self) -> int:
        """Raises HandfulError when there has been none for NOBODY_S."""
        now = time.monotonic()
        if now - self._at > 2:
            self._at, self._size = now, int(self._ray.cluster_resources().get("CPU", 0))
            if self._size:
                self._seen = now
            elif now - self._seen > NOBODY_S:
                raise HandfulError(
                    f"no node of the Ray cluster has been there for {NOBODY_S:.0f} s; go on with --resume"
                )
        return max(1, self._size)


def _done(ray: Any, waiting: dict[Any, tuple[int, str]], crowd: _Crowd) -> Iterator[Film]:
    """The films that are ready; none after a second, so that Ctrl-C and a cluster without nodes are seen."""
    crowd.size()
    ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
    for ref in ready:
        number, name = waiting[ref]
        try:
            film: Film = ray.get(ref)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.ObjectLostError,
                ray.exceptions.NodeDiedError) as error:  # fmt: skip
            kind = type(error).__name__
            film = Film(number, name, refused=f"its worker died {RETRIES} times and more ({kind}); shrink the photo")
        except ray.exceptions.RayError as error:
            text = str(error).strip().splitlines()[-1][:300]
            raise HandfulError(f"the Ray cluster could not go on ({text}); go on with --resume") from error
        del waiting[ref]
        if film.made_with != made_with():
            mine, other = made_with(), film.made_with
            said = ", ".join(f"{k} {other[k]} (here {mine[k]})" for k in mine if other[k] != mine[k])
            raise HandfulError(f"a node of the Ray cluster has {said}, so its frames could differ; install the same")
        yield film


@contextmanager
def connected(ray: Any, address: str, instead: str = ELSE) -> Iterator[None]:
    """Connected to a cluster: "local", "auto" or HOST:PORT; one that this program is already connected to is used, and
    left as it is. instead: what else to do, for errors. Raises HandfulError when none answers."""
    if ray.is_initialized():
        yield
        return
    # without these, Ray tells its usage to its makers over the network, and turns hidden GPUs into warnings
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if address == "local":
        runtime: dict[str, Any] = {"env_vars": THREADS}
        ray.init(address="local", num_cpus=cores(), include_dashboard=False, runtime_env=runtime, **quiet)
    else:
        _reach(address, instead)
        sent = [str(Path(handful.__file__).parent)]
        try:
            ray.init(address=address, runtime_env={"env_vars": THREADS, "py_modules": sent}, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            text = str(error).strip().splitlines()[0][:300]
            raise HandfulError(f"no Ray cluster at {address!r} ({text}){instead}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str, instead: str = ELSE) -> None:
    """Raises HandfulError, soon, when no cluster answers: Ray itself would try for a minute and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto":
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise HandfulError(f"{address!r} is no address of a Ray cluster; wanted local, auto or HOST:PORT{instead}")
        try:
            socket.create_connection((host, int(port)), timeout=REACH_S / 4).close()
        except OSError as error:
            raise HandfulError(f"no Ray cluster answers at {address} ({error.strerror or error}){instead}") from error
        if address.startswith("ray://"):
            return
    # something else may listen there, and waits for ever for what Ray never says
    asked = ["-m", "ray.scripts.scripts", "health-check", *(["--address", address] if address != "auto" else [])]
    try:
        done = subprocess.run([sys.executable, *asked], capture_output=True, timeout=REACH_S).returncode
    except subprocess.TimeoutExpired:
        done = 1
    if done:
        raise HandfulError(f"no Ray cluster answers at {address}{instead}")
