"""ncnn by way of pnnx: Android, iOS, small Linux boards.

ncnn has no uint8 tensors: its network starts from a float planar Mat (3, h, w) with values 0..255, red first, and
`load` makes it from the uint8 frame as ncnn::Mat::from_pixels(..., PIXEL_RGB, ...) does on a phone. All else, resize
and normalisation included, is inside the network.

fp16: weights are stored in half precision and widened to fp32 when loaded; the arithmetic is fp32. ncnn by default
switches to half-precision arithmetic on phones that have it, which moves results by several percent there and
not at all on a PC, so an app that wants these numbers must switch the three options off as `load` does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph, Session
from handful.device.runtimes.contract import Checked, versions_of, with_names
from handful.errors import CompileError, DeviceError

MODULES: tuple[str, ...] = ("ncnn", "pnnx")
EXTRA = "compile-ncnn"
RUNS: tuple[str, ...] = ("ncnn",)
RUN_EXTRA = "ncnn"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
PARAM, BIN = "model.ncnn.param", "model.ncnn.bin"
TAKES = (
    "a float32 Mat of width, height and 3 channels: planes, red first, 0 to 255, not normalized, as "
    "ncnn::Mat::from_pixels with PIXEL_RGB makes it"
)


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    """Write model.ncnn.param and model.ncnn.bin; see handful.device.runtimes.contract.Runtime."""
    import pnnx
    import torch

    if not hasattr(network, "frame_hw"):
        raise CompileError("ncnn here takes one frame and no other input; use onnxruntime or litert for this network")
    with tempfile.TemporaryDirectory() as work:
        planar = torch.zeros((1, 3, *network.frame_hw))
        # beside ncnn's files, which are all that is wanted, it writes and reads Python code with its path in it: in a
        # folder with an apostrophe in its name that is no Python
        with contextlib.suppress(SyntaxError):
            pnnx.export(_from_planar(network), str(Path(work) / "model.pt"), (planar,), fp16=precision == "fp16")
        for name in (PARAM, BIN):
            made = Path(work) / name
            if not made.exists():
                raise CompileError(f"pnnx wrote no {name}; its output is in the log")
            (to / name).write_bytes(made.read_bytes())
    lines = (to / PARAM).read_text(encoding="utf-8").splitlines()
    own = {"in0": network.input_names[0], **{f"out{i}": name for i, name in enumerate(network.output_names)}}
    lines[2:] = [_renamed(line, own) for line in lines[2:]]
    (to / PARAM).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"layers": dict(Counter(line.split()[0] for line in lines[2:] if line.strip()))}


def _renamed(line: str, own: dict[str, str]) -> str:
    """A line of a .param, "type name inputs outputs blob ... key=value ...", with blobs named as the network does."""
    words = line.split()
    if len(words) < 4:
        return line
    blobs = int(words[2]) + int(words[3])
    return " ".join([*words[:4], *(own.get(w, w) for w in words[4 : 4 + blobs]), *words[4 + blobs :]])


def _from_planar(network: Any) -> Any:
    from torch import Tensor, nn

    class FromPlanar(nn.Module):
        """The network, from float (1, 3, h, w)."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, planar: Tensor) -> Any:
            return self.network(planar.permute(0, 2, 3, 1))

    return FromPlanar().eval()


def named(folder: Path, graph: Graph) -> Graph:
    """See handful.device.runtimes.contract.Runtime. The names are those of blobs."""
    lines = [line.split() for line in (Path(folder) / PARAM).read_text(encoding="utf-8").splitlines()[2:]]
    blobs = {blob for words in lines for blob in words[4 : 4 + int(words[2]) + int(words[3])]}
    own = [port.name for port in graph.inputs], [port.name for port in graph.outputs]
    absent = [name for name in (*own[0], *own[1]) if name not in blobs]
    if absent:
        raise CompileError(f"{PARAM} has no blob {absent[0]!r}")
    return with_names(graph, *own)


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Callable[[], Any] | None = None) -> Session:
    """A net on the CPU with `threads` threads and every half-precision option off."""
    import ncnn

    folder = Path(folder)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(folder / PARAM)) != 0 or net.load_model(str(folder / BIN)) != 0:
        raise DeviceError(f"ncnn cannot load {folder / PARAM} with {BIN}; compile again")
    start = graph.inputs[0].file_name

    def call(image: np.ndarray) -> list[np.ndarray]:
        planar = np.ascontiguousarray(image[0].transpose(2, 0, 1), dtype=np.float32)
        extractor = net.create_extractor()
        extractor.input(start, ncnn.Mat(planar).clone())  # a Mat does not keep its array alive
        outputs = []
        for port in graph.outputs:
            code, mat = extractor.extract(port.file_name)
            if code != 0:
                raise DeviceError(f"ncnn gave no {port.name} (code {code})")
            outputs.append(np.array(mat))
        return outputs

    return Checked(graph, call)


def versions() -> dict[str, str]:
    """Of ncnn, pnnx, and torch, which traces."""
    return versions_of("ncnn", "pnnx", "torch")
