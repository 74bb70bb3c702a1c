"""A torch network at its edges: what it is traced with, its ports, and a session around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from handful.bundle import Graph, Port, label_lines
from handful.errors import DataError
from handful.words import counted


def blank(network: Any) -> torch.Tensor:
    """A frame to trace a network with: zeros, uint8 (1, h, w, 3)."""
    return torch.zeros((1, *network.frame_hw, 3), dtype=torch.uint8)


def examples(network: Any) -> tuple[torch.Tensor, ...]:
    """What to trace a network with: its own examples(), a tensor for each input, or else a black frame."""
    return tuple(network.examples()) if hasattr(network, "examples") else (blank(network),)


def as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    """A network's outputs, whether it returns one tensor or several."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def graph_of(
    network: Any, name: str, folder: str = "", labels: Mapping[str, Sequence[str]] | None = None
) -> Graph:  # fmt: skip
    """A network's ports, by running it once on its examples. labels: of outputs, by name; the axis of classes is the
    second, and one with another length is refused."""
    given = examples(network)
    with torch.no_grad():
        outputs = as_tuple(network(*given))
    if len(network.output_names) != len(outputs) or len(network.input_names) != len(given):
        raise DataError(f"the graph {name}: wanted a name for each input and output; got {network.input_names} and "
                        f"{network.output_names}")  # fmt: skip
    ins = tuple(_port(n, one) for n, one in zip(network.input_names, given, strict=True))
    outs = []
    for n, one in zip(network.output_names, outputs, strict=True):
        own = tuple((labels or {}).get(n, ()))
        if own and (one.ndim < 2 or one.shape[1] != len(own)):
            raise DataError(f"{n} is {tuple(one.shape)} and has {counted(len(own), 'label')}; wanted one for each "
                            "along the second axis")  # fmt: skip
        label_lines(own)  # known before minutes of compiling
        outs.append(_port(n, one, own))
    return Graph(name, ins, tuple(outs), folder)


def _port(name: str, tensor: torch.Tensor, labels: tuple[str, ...] = ()) -> Port:
    return Port(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), labels=labels)


class InTorch:
    """A Session of a network that was never compiled: what PyTorch says."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run; the arrays are the caller's own."""
        given = (np.require(feed[name], requirements="W") for name in self.network.input_names)
        with torch.inference_mode():
            out = as_tuple(self.network(*map(torch.from_numpy, given)))
        return {name: value.numpy().copy() for name, value in zip(self.network.output_names, out, strict=True)}
