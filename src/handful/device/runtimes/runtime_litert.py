"""LiteRT (TensorFlow Lite as it is now called) with XNNPACK: Android, iOS.

fp16: every weight is stored in half precision and widened to fp32 when the model is loaded; the arithmetic is
fp32, on a phone's CPU as here. A phone's GPU delegate may choose half-precision arithmetic on its own.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph, Session
from handful.device.runtimes.contract import Checked, versions_of, with_names
from handful.errors import CompileError, DeviceError

MODULES: tuple[str, ...] = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
EXTRA = "compile-litert"
RUNS: tuple[str, ...] = ("ai_edge_litert",)
RUN_EXTRA = "litert"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
FILE = "model.tflite"
TAKES = "a uint8 tensor (1, height, width, 3): rows of pixels, red first, 0 to 255, not normalized"


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    """Write model.tflite; see handful.device.runtimes.contract.Runtime. Takes half a minute."""
    file = to / FILE
    if precision == "fp16" and base is not None:
        shutil.copyfile(base / FILE, file)
    else:
        _convert(network, file)
    if precision == "fp16":
        _store_half(file)
    return _facts(file)


def _convert(network: Any, file: Path) -> None:
    import litert_torch

    from handful.device.network import examples

    given = dict(zip(network.input_names, examples(network), strict=True))
    litert_torch.convert(_by_name(network), sample_kwargs=given).export(str(file))


def _by_name(network: Any) -> Any:
    """The converter names inputs and outputs as a module's keywords and the keys of what it returns."""
    from torch import Tensor, nn

    from handful.device.network import as_tuple

    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, **given: Tensor) -> dict[str, Tensor]:
            out = as_tuple(self.network(*(given[name] for name in network.input_names)))
            return dict(zip(network.output_names, out, strict=True))

    return ByName().eval()


def _store_half(file: Path) -> None:
    from ai_edge_quantizer import qtyping, quantizer

    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    maker = quantizer.Quantizer(str(file))
    maker.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        algorithm_key="float_casting",
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT
        ),
    )
    maker.quantize().export_model(str(file), overwrite=True)


def _facts(file: Path) -> dict[str, Any]:
    # delegated operators stay in the list, so those left outside are those no delegate's outputs depend on
    steps = _interpreter(file, 1)._get_ops_details()
    delegates = [step for step in steps if step["op_name"] == "DELEGATE"]
    maker = {int(out): step for step in steps if step not in delegates for out in step["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        given, ahead = {int(i) for i in delegate["inputs"]}, [int(i) for i in delegate["outputs"]]
        while ahead:
            tensor = ahead.pop()
            step = maker.get(tensor)
            if tensor in given or step is None or step["index"] in inside:
                continue
            inside.add(step["index"])
            ahead += [int(i) for i in step["inputs"]]
    outside = Counter(str(s["op_name"]) for s in maker.values() if s["index"] not in inside)
    return {
        "delegated_segments": len(delegates),
        "operators_in_delegate": len(inside),
        "operators_left_outside": dict(outside),
    }


def _interpreter(file: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(file), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"LiteRT cannot load {file} ({error})") from error
    return interpreter


def named(folder: Path, graph: Graph) -> Graph:
    """See handful.device.runtimes.contract.Runtime. The names are those of the file's signature."""
    signature = _interpreter(Path(folder) / FILE, 1).get_signature_runner()
    ins, outs = set(signature.get_input_details()), set(signature.get_output_details())
    own = [port.name for port in graph.inputs], [port.name for port in graph.outputs]
    if ins != set(own[0]) or outs != set(own[1]):
        raise CompileError(f"{FILE} has the inputs {sorted(ins)} and outputs {sorted(outs)}; wanted {own[0]}, {own[1]}")
    return with_names(graph, *own)


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None) -> Session:
    """An interpreter with XNNPACK on `threads` threads."""
    interpreter = _interpreter(Path(folder) / FILE, threads)
    signature = interpreter.get_signature_runner()
    ins, outs = signature.get_input_details(), signature.get_output_details()
    starts = [ins[port.file_name]["index"] for port in graph.inputs]
    ends = [outs[port.file_name]["index"] for port in graph.outputs]

    def call(*given: np.ndarray) -> list[np.ndarray]:
        for start, one in zip(starts, given, strict=True):
            interpreter.set_tensor(start, one)
        interpreter.invoke()
        return [interpreter.get_tensor(end) for end in ends]

    return Checked(graph, call)


def versions() -> dict[str, str]:
    """Of litert-torch, ai-edge-litert, ai-edge-quantizer, and torch, which exports."""
    return versions_of("litert-torch", "ai-edge-litert", "ai-edge-quantizer", "torch")
