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


class Session(Protocol):
    """A compiled network, loaded."""

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{"image": uint8 (1, h, w, 3) RGB} -> {output name: float32, in the network's own torch layout}."""
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

        network: nn.Module in eval mode with input_names, output_names and frame_hw, taking uint8 (1, h, w, 3) RGB.
        Raises CompileError, or lets the converter's own error out.
        """
        ...

    def load(self, folder: Path, *, threads: int) -> Session:
        """What `compile` wrote, ready to run on `threads` threads. Raises DeviceError when it cannot be loaded."""
        ...

    def versions(self) -> dict[str, str]:
        """Version of each package the runtime uses, by its name on PyPI."""
        ...


@dataclass(frozen=True)
class Graph:
    """Names and shapes at the edge of a compiled network, in order: what a runtime's own file forgets.

    input_hw: height and width in pixels of the uint8 RGB frame. shapes: of the outputs, in torch's layout.
    """

    input_name: str
    input_hw: tuple[int, int]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.outputs or len(set(self.outputs)) != len(self.outputs) or len(self.shapes) != len(self.outputs):
            raise DataError(f"outputs must be distinct names, one shape each; got {self.outputs} and {self.shapes}")

    @classmethod
    def of(cls, network: Any) -> Graph:
        """By running the network once on a black frame."""
        import torch

        from handful.device.taps import as_tuple, blank

        with torch.no_grad():
            outputs = as_tuple(network(blank(network)))
        names, shapes = tuple(network.output_names), tuple(tuple(out.shape) for out in outputs)
        if len(names) != len(shapes) or len(network.input_names) != 1:
            raise DataError(f"wanted one input, and a name for each output; got {network.input_names} and {names}")
        return cls(network.input_names[0], (network.frame_hw[0], network.frame_hw[1]), names, shapes)

    def write(self, folder: Path) -> None:
        """Into graph.json."""
        write_json(folder / GRAPH, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Graph:
        """From graph.json. Raises DataError, naming the file."""
        value = read_json(folder / GRAPH)
        try:
            height, width = value["input_hw"]
            shapes = tuple(tuple(int(side) for side in shape) for shape in value["shapes"])
            return cls(str(value["input_name"]), (int(height), int(width)), tuple(map(str, value["outputs"])), shapes)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder / GRAPH} is not what was written there ({error!r}); compile again") from error


class Checked:
    """A Session around a function: the feed and the outputs are checked against the graph at every run.

    call: uint8 (1, h, w, 3) -> the outputs in the graph's order; their shapes may lack the batch of one.
    """

    def __init__(self, graph: Graph, call: Callable[[np.ndarray], Sequence[np.ndarray]]) -> None:
        self.graph, self._call = graph, call

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run. Raises DataError for another feed, DeviceError for outputs of other number or shape."""
        graph = self.graph
        if set(feed) != {graph.input_name}:
            raise DataError(f"the network takes one input, {graph.input_name!r}; got {sorted(feed)}")
        image, wanted = feed[graph.input_name], (1, *graph.input_hw, 3)
        if np.shape(image) != wanted or image.dtype != np.uint8:
            found = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
            raise DataError(f"{graph.input_name} must be uint8 {wanted}, RGB; got {found}")
        outputs = self._call(np.ascontiguousarray(image))
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
