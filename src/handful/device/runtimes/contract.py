"""What a phone runtime is: the contract of every runtime_*.py, and the few helpers they share.

A file `runtime_x.py` makes the runtime "x" exist. It holds what `Runtime` below lists and nothing else is needed:
no base class, no list to extend. tests/device/test_conformance.py runs over every file it finds.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handful.errors import DataError, DeviceError
from handful.files import read_json, write_json

GRAPH = "graph.json"
PLAN = "detector.json"  # of a compiled detector: how its graphs go together


class Session(Protocol):
    """A compiled network, loaded."""

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{"image": uint8 (1, h, w, 3) RGB}, or what else the graph names -> {output name: float32, in the network's
        own torch layout}."""
        ...


class Runtime(Protocol):
    """A module runtime_*.py.

    MODULES: the packages it imports. EXTRA: pip's name for them, `pip install 'handful[EXTRA]'`.
    PRECISIONS: of "fp32" and "fp16", those it has; the file's docstring says what its fp16 means.
    """

    MODULES: tuple[str, ...]
    EXTRA: str
    PRECISIONS: tuple[str, ...]

    def compile(self, network: Any, to: Path, precision: str) -> dict[str, Any]:
        """Write the compiled network into the folder `to`; return facts for the report, as plain JSON values.

        network: nn.Module in eval mode with input_names, output_names and frame_hw, taking uint8 (1, h, w, 3) RGB; or,
        instead of frame_hw, with examples(), a tensor for each of several inputs (taps.examples gives either).
        Raises CompileError, also for inputs that the runtime does not take, or lets the converter's own error out.
        """
        ...

    def load(self, folder: Path, *, threads: int) -> Session:
        """What `compile` wrote, ready to run on `threads` threads. Raises DeviceError when it cannot be loaded."""
        ...

    def versions(self) -> dict[str, str]:
        """Version of each package the runtime uses, by its name on PyPI."""
        ...


@dataclass(frozen=True)
class Port:
    """An input of a compiled network. shape: in torch's layout, fixed; uint8 (1, h, w, 3) is a frame, RGB."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def to_json(self) -> dict[str, Any]:
        """As artefact.json tells it."""
        told = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        return {**told, "order": "RGB"} if self.dtype == "uint8" else told


@dataclass(frozen=True)
class Graph:
    """Names and shapes at the edge of a compiled network, in order: what a runtime's own file forgets.

    shapes: of the outputs, in torch's layout.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.outputs or len(set(self.outputs)) != len(self.outputs) or len(self.shapes) != len(self.outputs):
            raise DataError(f"outputs must be distinct names, one shape each; got {self.outputs} and {self.shapes}")
        if not self.inputs or len({port.name for port in self.inputs}) != len(self.inputs):
            raise DataError(f"inputs must be distinct names, at least one; got {self.inputs}")

    @classmethod
    def of(cls, network: Any) -> Graph:
        """By running the network once, on a black frame or on its own examples."""
        import torch

        from handful.device.taps import as_tuple, examples

        given = examples(network)
        with torch.no_grad():
            outputs = as_tuple(network(*given))
        names, shapes = tuple(network.output_names), tuple(tuple(out.shape) for out in outputs)
        if len(names) != len(shapes) or len(network.input_names) != len(given):
            raise DataError(f"wanted a name for each input and output; got {network.input_names} and {names}")
        ports = (
            Port(name, tuple(one.shape), str(one.dtype).removeprefix("torch."))
            for name, one in zip(network.input_names, given, strict=True)
        )
        return cls(tuple(ports), names, shapes)

    def write(self, folder: Path) -> None:
        """Into graph.json."""
        write_json(folder / GRAPH, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Graph:
        """From graph.json. Raises DataError, naming the file."""
        value = read_json(folder / GRAPH)
        try:
            ports = [Port(str(p["name"]), tuple(map(int, p["shape"])), str(p["dtype"])) for p in value["inputs"]]
            shapes = tuple(tuple(int(side) for side in shape) for shape in value["shapes"])
            return cls(tuple(ports), tuple(map(str, value["outputs"])), shapes)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder / GRAPH} is not what was written there ({error!r}); compile again") from error


class Checked:
    """A Session around a function: the feed and the outputs are checked against the graph at every run.

    call: the inputs, in the graph's order -> the outputs in the graph's order; their shapes may lack the batch of one.
    """

    def __init__(self, graph: Graph, call: Callable[..., Sequence[np.ndarray]]) -> None:
        self.graph, self._call = graph, call

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
        outputs = self._call(*given)
        if len(outputs) != len(graph.outputs):
            raise DeviceError(f"the runtime gave {len(outputs)} outputs; wanted {len(graph.outputs)}: {graph.outputs}")
        named = {}
        for name, shape, out in zip(graph.outputs, graph.shapes, outputs, strict=True):
            # runtimes reuse their buffers, so what leaves here is a copy
            array = np.array(out, dtype=np.float32)
            if array.shape not in (shape, shape[1:]):
                raise DeviceError(f"the runtime gave {name} as {array.shape}; wanted {shape}")
            named[name] = array.reshape(shape)
        return named


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
