"""PyTorch itself: the reference the phone runtimes are held against.

fp32: the network's weights as they are. fp16: kernels and matrices rounded to half precision and stored so, then
computed in fp32: what rounding the weights costs, before any runtime adds to it.

The file is safetensors: nothing in it is executed. The network is rebuilt from the model folder around it, by whoever
loads it: this one is for comparing, and goes nowhere without its model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph, Session
from handful.device.runtimes.contract import Checked, versions_of
from handful.errors import DataError
from handful.files import read_tensors, write_tensors

MODULES: tuple[str, ...] = ("torch", "timm", "safetensors")
EXTRA = "teach"
RUNS: tuple[str, ...] = ("torch", "safetensors")
RUN_EXTRA = "teach"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
FOLDS = False  # the weights go back into a network that is built anew
WEIGHTS = "network.safetensors"
TAKES = "a uint8 tensor (1, height, width, 3): rows of pixels, red first, 0 to 255, not normalized"


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    """Write network.safetensors; see handful.device.runtimes.contract.Runtime."""
    from handful.device.taps import Tapped

    if isinstance(network, Tapped):
        network = network.network
    state = {}
    for name, value in network.state_dict().items():
        array = value.detach().cpu().numpy()
        half = precision == "fp16" and array.dtype == np.float32 and array.ndim > 1
        state[name] = array.astype(np.float16) if half else array
    write_tensors(to / WEIGHTS, state)
    return {"parameters": int(sum(array.size for array in state.values()))}


def named(folder: Path, graph: Graph) -> Graph:
    """The file holds weights alone: nothing in it has a port's name."""
    return graph


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None) -> Session:
    """The network that `rebuild` gives, with the weights that were compiled."""
    import torch

    from handful.device.network import InTorch
    from handful.device.taps import Tapped

    folder = Path(folder)
    if rebuild is None:
        raise DataError(f"{folder} holds weights alone, for the runtime torch: they run only in the model folder that "
                        "they were compiled from, MODEL/compiled; compile for another runtime")  # fmt: skip
    torch.set_num_threads(threads)
    network = rebuild()
    own = network.state_dict()
    state = {name: torch.from_numpy(value) for name, value in read_tensors(folder / WEIGHTS).items()}
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()}, strict=True)
    layers = [port.name for port in graph.outputs[len(network.output_names) :]]
    session = InTorch(Tapped(network, layers) if layers else network)

    def call(*given: np.ndarray) -> list[np.ndarray]:
        feed = {port.name: one for port, one in zip(graph.inputs, given, strict=True)}
        return list(session.run(feed).values())

    return Checked(graph, call)


def versions() -> dict[str, str]:
    """Of torch and timm."""
    return versions_of("torch", "timm")
