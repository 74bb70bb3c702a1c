"""NanoDet-g without PyTorch: the network as ONNX, written from its weights.

It is proposer_nanodet.Framed and graphs.RoiMeans, step for step, for ONNX Runtime on this machine: twice as fast there
as PyTorch on one core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from handful.models.onnx_bytes import OnnxGraph

CLASSES, BINS = 80, 11
SIDE_PX = 416
STRIDES = (8, 16, 32)
CHANNELS = (128, 256, 512)  # of the backbone at STRIDES
NECK = 128
PAIRS = (1, 2, 2, 3)  # of convolutions in each stage
LEAK = 0.1
# of BGR, 0..255, as the network was trained on
MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


def network(state: Mapping[str, np.ndarray], maps: Sequence[int]) -> bytes:
    """image: uint8 (n, 416, 416, 3) RGB -> quality float32 (n, 3549) 0 to 1, boxes float32 (n, 3549, 4) px of the
    frame, and map_0, map_1, ...: those of the backbone's and the neck's maps that are asked for.

    state: {parameter: array} of nanodet.NanoDet.
    """
    graph = OnnxGraph()

    def conv(x: str, name: str, *, stride: int = 1, leaky: bool = True) -> str:
        weight = state[f"{name}.weight"].astype(np.float32)
        if name == "stem":  # it was trained on BGR: its first kernels are turned instead of every image
            weight = np.ascontiguousarray(weight[:, ::-1])
        kernel = weight.shape[2]
        x = graph.node("Conv", [x, graph.constant(weight), graph.constant(state[f"{name}.bias"].astype(np.float32))],
                       kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)  # fmt: skip
        return graph.node("LeakyRelu", [x], alpha=LEAK) if leaky else x

    def add(a: str, b: str) -> str:
        return graph.node("Add", [a, b])

    def down(x: str) -> str:
        return graph.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])

    twice = graph.constant(np.array([1, 1, 2, 2], np.float32))

    def up(x: str) -> str:
        return graph.node("Resize", [x, "", twice], mode="linear", coordinate_transformation_mode="half_pixel")

    x = graph.node("Transpose", [graph.node("Cast", ["image"], to=1)], perm=[0, 3, 1, 2])
    mean, std = (np.array(v[::-1], np.float32).reshape(1, 3, 1, 1) for v in (MEAN_BGR, STD_BGR))
    x = graph.node("Mul", [graph.node("Sub", [x, graph.constant(mean)]), graph.constant(1 / std)])
    x = graph.node("MaxPool", [conv(x, "stem", stride=2)], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    held = []
    for i, inner in enumerate(PAIRS):
        y = first = conv(x, f"stages.{i}.enter", stride=1 if i == 0 else 2)
        for k in range(inner):
            one = conv(y, f"stages.{i}.pairs.{k}.0")
            y = graph.node("Concat", [conv(one, f"stages.{i}.pairs.{k}.1"), one], axis=1)
        x = graph.node("Concat", [conv(y, f"stages.{i}.leave"), first], axis=1)
        if i:
            held.append(x)
    c3, c4, c5 = (conv(y, f"lateral.{i}", leaky=False) for i, y in enumerate(held))
    p4 = add(c4, up(c5))
    p3 = add(c3, up(p4))
    n4 = add(p4, down(p3))
    n5 = add(c5, down(n4))
    found = [_head(graph, conv(conv(level, f"heads.{i}.0"), f"heads.{i}.1", leaky=False), stride)
             for i, (level, stride) in enumerate(zip((p3, n4, n5), STRIDES, strict=True))]  # fmt: skip
    graph.node("Concat", [quality for quality, _ in found], axis=1, out="quality")
    graph.node("Concat", [boxes for _, boxes in found], axis=1, out="boxes")
    every = [*held, p3, n4, n5]
    cells = sum((SIDE_PX // stride) ** 2 for stride in STRIDES)
    outputs: dict[str, tuple[str, list[int | str]]] = {
        "quality": ("float32", ["n", cells]), "boxes": ("float32", ["n", cells, 4])}  # fmt: skip
    for k, which in enumerate(maps):
        side = SIDE_PX // (*STRIDES, *STRIDES)[which]
        graph.node("Identity", [every[which]], out=f"map_{k}")
        outputs[f"map_{k}"] = ("float32", ["n", (*CHANNELS, NECK, NECK, NECK)[which], side, side])
    return graph.model({"image": ("uint8", ["n", SIDE_PX, SIDE_PX, 3])}, outputs)


def _head(graph: OnnxGraph, out: str, stride: int) -> tuple[str, str]:
    """Of a level: quality (n, cells), and boxes (n, cells, 4) px of the frame, whose sides are distributions."""
    side = SIDE_PX // stride

    def shaped(x: str, shape: Sequence[int]) -> str:
        return graph.node("Reshape", [x, graph.constant(np.array(shape, np.int64))])

    def channels(start: int, end: int) -> str:
        limits = [graph.constant(np.array([v], np.int64)) for v in (start, end, 1)]
        return graph.node("Slice", [out, *limits])

    best = graph.node("ReduceMax", [channels(0, CLASSES), graph.constant(np.array([1], np.int64))], keepdims=0)
    quality = graph.node("Sigmoid", [shaped(best, [0, -1])])
    sides = shaped(channels(CLASSES, CLASSES + 4 * BINS), [0, 4, BINS, -1])
    sides = graph.node("Softmax", [graph.node("Transpose", [sides], perm=[0, 3, 1, 2])], axis=3)
    bins = np.arange(BINS, dtype=np.float32).reshape(BINS, 1) * np.float32(stride)
    sides = shaped(graph.node("MatMul", [sides, graph.constant(bins)]), [0, -1, 4])
    down, across = np.divmod(np.arange(side * side), side)
    middle = (np.stack([across, down, across, down], 1).astype(np.float32) + np.float32(0.5)) * np.float32(stride)
    signed = graph.node("Mul", [sides, graph.constant(np.array([-1, -1, 1, 1], np.float32))])
    return quality, graph.node("Add", [signed, graph.constant(middle)])


def box_means(channels: Sequence[int], sides: Sequence[int], strides: Sequence[int], points: int) -> bytes:
    """map_0, map_1, ...: float32 (1, c, side, side); boxes: float32 (k, 4) px of the frame -> features: float32
    (k, sum of c), the mean of each map in each box, as roi.roi_means."""
    graph = OnnxGraph()
    steps = graph.constant(((np.arange(points, dtype=np.float32) + 0.5) / points).reshape(1, points))
    axis = {name: graph.constant(np.array([v], np.int64)) for name, v in (("one", 1), ("two", 2))}
    half, one = (graph.constant(np.array(v, np.float32)) for v in (0.5, 1.0))
    columns = []
    for i in range(4):
        limits = [graph.constant(np.array([v], np.int64)) for v in (i, i + 1)]
        columns.append(graph.node("Slice", ["boxes", *limits, axis["one"]]))

    def shares(low: str, high: str, side: int, stride: int) -> str:
        """How much of each cell of a line is in the mean from low to high: (k, side), rows of 1."""
        scale = graph.constant(np.array(1 / stride, np.float32))
        low, high = (graph.node("Sub", [graph.node("Mul", [end, scale]), half]) for end in (low, high))
        at = graph.node("Add", [low, graph.node("Mul", [graph.node("Sub", [high, low]), steps])])
        limits = [graph.constant(np.array(v, np.float32)) for v in (0, side - 1)]
        at = graph.node("Unsqueeze", [graph.node("Clip", [at, *limits]), axis["two"]])
        cells = graph.constant(np.arange(side, dtype=np.float32))
        apart = graph.node("Abs", [graph.node("Sub", [at, cells])])
        return graph.node(
            "ReduceMean", [graph.node("Relu", [graph.node("Sub", [one, apart])]), axis["one"]], keepdims=0
        )

    found, ports = [], {}
    for i, (width, side, stride) in enumerate(zip(channels, sides, strides, strict=True)):
        down = graph.node("Unsqueeze", [shares(columns[1], columns[3], side, stride), axis["two"]])
        across = graph.node("Unsqueeze", [shares(columns[0], columns[2], side, stride), axis["one"]])
        flat = graph.constant(np.array([-1, side * side], np.int64))
        weights = graph.node("Reshape", [graph.node("Mul", [down, across]), flat])
        cells = graph.node("Transpose", [graph.node("Reshape", [f"map_{i}", flat])], perm=[1, 0])
        found.append(graph.node("MatMul", [weights, cells]))
        ports[f"map_{i}"] = ("float32", [1, width, side, side])
    graph.node("Concat", found, axis=1, out="features")
    return graph.model({**ports, "boxes": ("float32", ["k", 4])}, {"features": ("float32", ["k", sum(channels)])})
