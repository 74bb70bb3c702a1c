"""PyTorch itself: the reference the phone runtimes are held against.

fp32: the network's weights as they are. fp16: kernels and matrices rounded to half precision and stored so, then
computed in fp32: what rounding the weights costs, before any runtime adds to it.

The file is safetensors: nothing in it is executed. The network is rebuilt from the model folder around it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handful.device.runtimes.contract import Checked, Graph, Session, versions_of
from handful.errors import DataError
from handful.files import read_tensors, write_tensors

MODULES: tuple[str, ...] = ("torch", "timm", "safetensors")
EXTRA = "teach"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
WEIGHTS = "network.safetensors"


def compile(network: Any, to: Path, precision: str) -> dict[str, Any]:
    """Write network.safetensors and graph.json; see handful.device.runtimes.contract.Runtime."""
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


def load(folder: Path, *, threads: int) -> Session:
    """The network of the surrounding model folder, with the weights that were compiled."""
    import torch

    from handful.device.network import is_detector, network_of
    from handful.device.taps import Tapped, as_tuple
    from handful.models.folder import META

    torch.set_num_threads(threads)
    folder, graph = Path(folder), Graph.read(folder)
    home = next((parent for parent in folder.resolve().parents if (parent / META).exists()), None)
    if home is None:
        raise DataError(
            f"{folder} lies in no model folder, which the torch runtime needs; compile it in MODEL/compiled"
        )
    network = network_of(home, folder.name if is_detector(home) else "")
    own = network.state_dict()
    state = {name: torch.from_numpy(value) for name, value in read_tensors(folder / WEIGHTS).items()}
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()}, strict=True)
    layers = graph.outputs[len(network.output_names) :]
    whole = Tapped(network, layers) if layers else network

    def call(*given: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [out.numpy() for out in as_tuple(whole(*(torch.from_numpy(one) for one in given)))]

    return Checked(graph, call)


def versions() -> dict[str, str]:
    """Of torch and timm."""
    return versions_of("torch", "timm")
