"""ExecuTorch with the XNNPACK delegate: Android, iOS, small Linux boards.

fp16: the later stages of the backbone compute in half precision, where nearly all its weights are: from the fourth
stage of an EfficientNet to its last convolution, or the whole backbone of another kind. Resize, normalisation, the
first stages and the head stay fp32, because large values and sums of squares lose too much in half: with the first
stages in half, lite2 kept 62 dB, without them 69 dB. It is for phones with half-precision arithmetic: XNNPACK stores
the weights of convolutions as fp32 all the same, so the file is no smaller, and a PC, which has no such arithmetic,
runs it slower than fp32.

Threads are the process's own pool, set when a program is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph, Session
from handful.device.runtimes.contract import Checked, versions_of
from handful.errors import CompileError, DeviceError

MODULES: tuple[str, ...] = ("executorch", "torch")
EXTRA = "compile-executorch"
RUNS: tuple[str, ...] = ("executorch", "torch")  # its Python binding is built on torch
RUN_EXTRA = "executorch"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
HALF = "computed"
FILE = "model.pte"
TAKES = "a uint8 tensor (1, height, width, 3): rows of pixels, red first, 0 to 255, not normalized"
FP32_STAGES = 3


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    """Write model.pte; see handful.device.runtimes.contract.Runtime."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    from handful.device.network import examples

    if precision == "fp16":
        network = _half_backbone(network)
    program = torch.export.export(network, examples(network))
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    info = get_delegation_info(edge.exported_program().graph_module)
    per_kind = info.delegation_by_operator.values()
    with open(to / FILE, "wb") as file:
        edge.to_executorch().write_to_file(file)
    return {
        "delegated_segments": info.num_delegated_subgraphs,
        "operators_in_delegate": info.num_delegated_nodes,
        "operators_left_outside": {kind.op_type: kind.non_delegated for kind in per_kind if kind.non_delegated},
    }


def _half_backbone(network: Any) -> Any:
    network = copy.deepcopy(network)
    parts = dict(network.named_modules())
    backbone = parts.get("backbone.network", parts.get("network.backbone.network"))
    if backbone is None:
        raise CompileError("fp16 for executorch needs a network with a part named backbone; compile it as fp32")
    inner = dict(backbone.named_children())
    halved, last = [backbone], backbone
    if {"blocks", "conv_head", "bn2"} <= inner.keys() and len(inner["blocks"]) > FP32_STAGES:
        halved, last = [*inner["blocks"][FP32_STAGES:], inner["conv_head"], inner["bn2"]], inner["bn2"]
    for part in halved:
        part.half()
    halved[0].register_forward_pre_hook(lambda part, given: (given[0].half(),))
    last.register_forward_hook(lambda part, given, out: out.float())
    return network


def named(folder: Path, graph: Graph) -> Graph:
    """A program's inputs and outputs have no names: they are counted, in the graph's order."""
    return graph


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None) -> Session:
    """The program, with the process's thread pool set to `threads` threads."""
    import torch  # before the binding, which needs its libraries

    # the public executorch.runtime imports the whole converter: 6 s and 400 MB more
    from executorch.extension.pybindings import _C

    file = Path(folder) / FILE
    _C._unsafe_reset_threadpool(threads)
    found = _C._threadpool_get_thread_count()
    if found != threads:
        raise DeviceError(f"executorch runs on {found} threads, not on {threads}")
    try:
        program = _C._load_for_executorch(str(file))
    except RuntimeError as error:
        raise DeviceError(f"executorch cannot load {file} ({error}); compile again") from error

    def call(*given: np.ndarray) -> list[np.ndarray]:
        return [out.numpy() for out in program.forward(tuple(torch.from_numpy(one) for one in given))]

    return Checked(graph, call)


def versions() -> dict[str, str]:
    """Of executorch and torch, which exports."""
    return versions_of("executorch", "torch")
