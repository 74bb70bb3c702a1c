"""ONNX Runtime on the CPU: Android, iOS, and anything else.

fp16: kernels and matrices are stored in half precision and widened to fp32 when the file is loaded (the session
folds the casts away), so the arithmetic is fp32 on every CPU and a phone answers as a PC does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph, Session
from handful.device.runtimes.contract import Checked, versions_of, with_names
from handful.engine import onnx_session
from handful.errors import CompileError

MODULES: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
EXTRA = "compile-onnxruntime"
RUNS: tuple[str, ...] = ("onnxruntime",)
RUN_EXTRA = "onnxruntime"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
FILE = "model.onnx"
TAKES = "a uint8 tensor (1, height, width, 3): rows of pixels, red first, 0 to 255, not normalized"
SMALL = 64  # elements


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    """Write model.onnx, one file with its weights inside; see handful.device.runtimes.contract.Runtime."""
    import onnx

    model = _export(network) if precision == "fp32" or base is None else onnx.load(str(base / FILE))
    halved = _store_half(model.graph) if precision == "fp16" else 0
    onnx.save(model, str(to / FILE))
    steps = Counter(node.op_type for node in model.graph.node)
    return {"operators": dict(steps), "weights_stored_fp16": halved, "opset": model.opset_import[0].version}


def _export(network: Any) -> Any:
    import torch

    from handful.device.network import examples

    program = torch.onnx.export(
        network,
        examples(network),
        input_names=list(network.input_names),
        output_names=list(network.output_names),
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: Any) -> None:
    """Take out what the exporter tells of each step: stack traces with the paths of this machine, a third of the bytes
    of a compact network. Shapes between the steps follow from the input's, which stays."""
    for part in (model.graph, *model.functions):
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del part.metadata_props[:]
        del part.value_info[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def _store_half(graph: Any) -> int:
    """Round kernels and matrices to half precision, and widen each where it is used; returns how many."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.initializer:
        name, array = weight.name, numpy_helper.to_array(weight)
        # not the mean and scale of the normalisation, nor biases: they weigh nothing, and their error counts
        if array.dtype == np.float32 and array.ndim > 1 and array.size >= SMALL:
            weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + "_fp16"))
            casts.append(helper.make_node("Cast", [name + "_fp16"], [name], name=name + "_widen", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    return len(casts)


def named(folder: Path, graph: Graph) -> Graph:
    """See handful.device.runtimes.contract.Runtime."""
    session = onnx_session(Path(folder) / FILE, 1)
    ins, outs = ({port.name for port in ports} for ports in (session.get_inputs(), session.get_outputs()))
    own = [port.name for port in graph.inputs], [port.name for port in graph.outputs]
    if ins != set(own[0]) or outs != set(own[1]):
        raise CompileError(f"{FILE} has the inputs {sorted(ins)} and outputs {sorted(outs)}; wanted {own[0]}, {own[1]}")
    return with_names(graph, *own)


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None) -> Session:
    """A session on the CPU with exactly `threads` threads, which sleep when idle."""
    session = onnx_session(Path(folder) / FILE, threads)
    ins, outs = ([port.file_name for port in ports] for ports in (graph.inputs, graph.outputs))

    def call(*given: np.ndarray) -> list[np.ndarray]:
        return list(session.run(outs, dict(zip(ins, given, strict=True))))

    return Checked(graph, call, shared=True)


def versions() -> dict[str, str]:
    """Of onnx, onnxscript, onnxruntime, and torch, which exports."""
    return versions_of("onnx", "onnxscript", "onnxruntime", "torch")
