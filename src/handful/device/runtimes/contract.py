"""What a phone runtime is: the contract of every runtime_*.py, and the few helpers they share.

A file `runtime_x.py` makes the runtime "x" exist. It holds what `Runtime` below lists and nothing else is needed:
no base class, no list to extend. tests/device/test_conformance.py runs over every file it finds.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handful.bundle import Graph, Session
from handful.errors import DataError, DeviceError
from handful.pick import need, present


class Runtime(Protocol):
    """A module runtime_*.py.

    MODULES: the packages that compiling imports. EXTRA: pip's name for them, `pip install 'handful[EXTRA]'`.
    RUNS, RUN_EXTRA: the same for loading and running, which must not need torch where the runtime does not.
    PRECISIONS: of "fp32" and "fp16", those it has; the file's docstring says what its fp16 means. TAKES: what the
    runtime's own file takes for an image, in words, for an app's programmer. FOLDS, where it is False: what `compile`
    is given is the network as it is; else its batch normalizations are folded (handful.device.fold_norms).
    """

    MODULES: tuple[str, ...]
    EXTRA: str
    RUNS: tuple[str, ...]
    RUN_EXTRA: str
    PRECISIONS: tuple[str, ...]
    TAKES: str

    def compile(self, network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
        """Write the compiled network into the folder `to`; return facts for the report, as plain JSON values.

        network: nn.Module in eval mode with input_names, output_names and frame_hw, taking uint8 (1, h, w, 3) RGB; or,
        instead of frame_hw, with examples(), a tensor for each of several inputs (network.examples gives either).
        base: where fp32 of the same network lies, for a runtime that makes its fp16 of that; the result is the same.
        Raises CompileError, also for inputs that the runtime does not take, or lets the converter's own error out.
        """
        ...

    def named(self, folder: Path, graph: Graph) -> Graph:
        """The graph with each port's file_name, read from what `compile` wrote into the folder."""
        ...

    def load(
        self, folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None
    ) -> Session:  # fmt: skip
        """What `compile` wrote, ready to run on `threads` threads. rebuild: gives the network anew, for a runtime whose
        files hold only its weights. Raises DeviceError when it cannot be loaded, DataError without a `rebuild` that it
        needs."""
        ...

    def versions(self) -> dict[str, str]:
        """Version of each package the runtime uses, by its name on PyPI."""
        ...


class Checked:
    """A Session around a function: the feed and the outputs are checked against the graph at every run.

    call: the inputs, in the graph's order -> the outputs in the graph's order; their shapes may lack the batch of one.
    It is called by one thread at a time, unless it is shared: most runtimes keep what they work on in the loaded
    network itself.
    """

    def __init__(self, graph: Graph, call: Callable[..., Sequence[np.ndarray]], *, shared: bool = False) -> None:
        self.graph, self._call = graph, call
        self._turn: AbstractContextManager[Any] = nullcontext() if shared else threading.Lock()

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run. Raises DataError for another feed, DeviceError for outputs of other number or shape."""
        graph = self.graph
        if set(feed) != {port.name for port in graph.inputs}:
            wanted = ", ".join(repr(port.name) for port in graph.inputs)
            many = f"{len(graph.inputs)} inputs" if len(graph.inputs) > 1 else "one input"
            raise DataError(f"the network takes {many}, {wanted}; got {sorted(feed)}")
        given = []
        for port in graph.inputs:
            value = feed[port.name]
            if np.shape(value) != port.shape or str(value.dtype) != port.dtype:
                found = f"{getattr(value, 'dtype', type(value).__name__)} {np.shape(value)}"
                order = ", RGB" if port.dtype == "uint8" else ""
                raise DataError(f"{port.name} must be {port.dtype} {port.shape}{order}; got {found}")
            given.append(np.ascontiguousarray(value))
        names = [port.name for port in graph.outputs]
        named = {}
        with self._turn:
            outputs = self._call(*given)
            if len(outputs) != len(names):
                raise DeviceError(f"the runtime gave {len(outputs)} outputs; wanted {len(names)}: {', '.join(names)}")
            for port, out in zip(graph.outputs, outputs, strict=True):
                # runtimes reuse their buffers, so what leaves here is a copy
                array = np.array(out, dtype=np.float32)
                if array.shape not in (port.shape, port.shape[1:]):
                    raise DeviceError(f"the runtime gave {port.name} as {array.shape}; wanted {port.shape}")
                named[port.name] = array.reshape(port.shape)
        return named


def ready(runtime: Any, *, to_compile: bool) -> None:
    """Raises MissingPackage, with pip's line, where a package is absent that a runtime compiles or runs with."""
    for package in runtime.MODULES if to_compile else runtime.RUNS:
        # found, not imported: a converter's memory is not the runtime's
        if not present(package):
            need(package, runtime.EXTRA if to_compile else runtime.RUN_EXTRA)


def with_names(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """A graph whose ports have these names in the runtime's own file, in their order."""
    pairs = (graph.inputs, inputs), (graph.outputs, outputs)
    ins, outs = (tuple(replace(p, file_name=n) for p, n in zip(ports, own, strict=True)) for ports, own in pairs)
    return replace(graph, inputs=ins, outputs=outs)


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions, by name on PyPI; "absent" for those that are not there. Imports nothing."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def machine() -> dict[str, Any]:
    """What a number was measured on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
