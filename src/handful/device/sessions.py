"""The graphs of a bundle, loaded by its runtime: all that handful.load needs of this room, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import handful.device.runtimes
from handful.bundle import Bundle, Graph, Session
from handful.device.runtimes.contract import ready
from handful.pick import pick


def runtime_of(name: str, *, to_compile: bool) -> Any:
    """A runtime's module. Raises UnknownName, or MissingPackage where what it needs for that is absent."""
    runtime = pick(handful.device.runtimes, "runtime", name)
    ready(runtime, to_compile=to_compile)
    return runtime


def sessions_of(bundle: Bundle, threads: int, rebuild: Callable[[str], Any] | None = None) -> dict[str, Session]:
    """The graphs of a bundle by name, in order. rebuild: gives a graph's network, for a runtime that keeps weights
    alone.

    Raises MissingPackage without the runtime, DeviceError from it, DataError for files that do not fit.
    """
    runtime = runtime_of(bundle.runtime, to_compile=False)

    def load(graph: Graph) -> Session:
        again = None if rebuild is None else lambda: rebuild(graph.name)
        session: Session = runtime.load(bundle.folder / graph.folder, graph, threads=threads, rebuild=again)
        return session

    return {graph.name: load(graph) for graph in bundle.graphs}
