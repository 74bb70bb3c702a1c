"""Object proposals by handful's own network, whose weights come with it.

See handful.models.net_objectness for the network, weights/objectness.json for what it saw (tools/make_objectness.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from handful.detection.contract import Proposals, ProposerGraph
from handful.detection.graphs import RoiMeans
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, on_image, top_boxes
from handful.detection.roi import GRID, roi_means
from handful.errors import DataError
from handful.files import read_json, read_tensors, sha256
from handful.models import net_objectness
from handful.models.net_objectness import ALIKE, FIRST, ROI, moved, steps
from handful.threads import inference

DESCRIPTION = "handful's own, for objects of any kind: EfficientNet-Lite0, comes with handful"
NAME = "objectness"
WEIGHTS = Path(__file__).parent / "weights" / "objectness.safetensors"
ABOUT_KEYS = ("name", "what", "paper", "license", "trained_on", "sha256", "frame_hw", "params")


def available() -> bool:
    """As handful.detection.contract.ProposerModule."""
    return WEIGHTS.exists()


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Objectness:
    """As handful.detection.contract.ProposerModule."""
    if state is None or about is None:
        if not WEIGHTS.exists():
            raise DataError(f"{WEIGHTS} is absent; reinstall handful, or make it: python tools/make_objectness.py")
        card = read_json(WEIGHTS.with_suffix(".json"))
        if sha256(WEIGHTS) != card.get("sha256"):
            raise DataError(f"{WEIGHTS} is not the file that came with handful; reinstall it")
        state = {key: torch.from_numpy(value) for key, value in read_tensors(WEIGHTS).items()}
        own = net_objectness.CARD
        about = {**card, "name": NAME, "what": own.what, "paper": own.paper, "license": "Apache-2.0"}
    network = net_objectness.build(frame_hw=tuple(about["frame_hw"]), pretrained=False)
    # kept as float16: see tools/make_objectness.py
    whole = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict(whole)
    return Objectness(network.eval(), about)


class Objectness:
    """See handful.detection.contract.Proposer."""

    def __init__(self, network: net_objectness.Objectness, about: Mapping[str, Any]) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.core: Any = network.core
        neck = self.core.backbone
        # the encoder's two deeper maps know what an object is, the neck's how large it is
        self.dim = sum(neck.encoder.channels[-2:]) + 3 * neck.out_channels
        self.strides = (16, 32, *neck.strides[:3])
        self.side_px = network.frame_hw[0]
        self.about = {key: about.get(key) for key in ABOUT_KEYS}

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """As Proposer."""
        frame, factor, left_top = letterbox(rgb_u8, self.side_px)
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        with inference():
            x = self.network.normalize(torch.from_numpy(frame).permute(2, 0, 1)[None].float())
            encoded = self.core.backbone.encoder(x.contiguous(memory_format=torch.channels_last))[-3:]
            maps = self.core.backbone.joined(encoded)
            value, raw, focus = self.core.dense(maps)
        boxes = frame_to_image(raw[0].numpy(), factor, left_top)
        limit: dict[str, Any] = {"pre_nms_top_k": FIRST, "nms_iou": ALIKE}
        boxes, quality = top_boxes(boxes, value[0].sigmoid().numpy(), size_wh, max_boxes=self.core.proposals, **limit)
        with inference():
            given = torch.from_numpy(image_to_frame(boxes, factor, left_top).astype(np.float32))
            refined, better = self.core.second(maps, [given])
        boxes = frame_to_image(better.numpy(), factor, left_top)
        boxes, quality = top_boxes(boxes, refined.sigmoid().numpy(), size_wh, max_boxes=max_boxes, **limit)
        kept = [*encoded[-2:], *maps[:3]]

        def features(wanted: np.ndarray) -> np.ndarray:
            return roi_means(kept, image_to_frame(wanted, factor, left_top), self.strides)

        focus_map = on_image(focus[0].sigmoid().numpy().astype(np.float32), left_top, self.side_px)
        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features, focus_map)

    def graph(self) -> ProposerGraph:
        """As handful.detection.contract.Compilable."""
        means = Means([self.side_px // stride for stride in self.strides], self.strides, GRID)
        refine = Refine(self.core, self.side_px)
        network = Framed(self.network)
        return ProposerGraph(self.side_px, network, means, FIRST, ALIKE, refine, self.core.proposals, focus=True)


class Framed(nn.Module):
    """uint8 (1, s, s, 3) RGB -> quality (1, n), boxes (1, n, 4) px of the frame, the focus map, the two deeper maps of
    the encoder, and the four of the neck."""

    def __init__(self, network: net_objectness.Objectness) -> None:
        super().__init__()
        own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        self.normalize, self.core = own.normalize, own.core

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the class says."""
        neck: Any = self.core.backbone
        encoded = neck.encoder(self.normalize(image.permute(0, 3, 1, 2).float()))[-3:]
        maps = neck.joined(encoded)
        core: Any = self.core
        quality, boxes, focus = core.dense(maps)
        return (quality.sigmoid(), boxes, focus.sigmoid(), *encoded[-2:], *maps)


class Means(RoiMeans):
    """RoiMeans on the first five maps of Framed, which is all that features are made of."""

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """As RoiMeans."""
        return super().forward(*given[:5], given[-1])


class Refine(nn.Module):
    """The second stage, as ProposerGraph.refine. RoIAlign is written as two matrix products a pyramid level, which
    every runtime has; boxes of other levels go through them too, and count for nothing."""

    def __init__(self, core: Any, side_px: int) -> None:
        super().__init__()
        self.head, self.strides = copy.deepcopy(core.look), core.backbone.strides[1:]
        self.steps = steps(self.strides)
        for i, stride in enumerate(self.strides):
            self.register_buffer(f"cells_{i}", torch.arange(side_px // stride, dtype=torch.float32), persistent=False)
        points = (torch.arange(2 * ROI, dtype=torch.float32) + 0.5) / (2 * ROI)
        self.register_buffer("points", points, persistent=False)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(*maps of Framed, boxes (k, 4) px of the frame) -> quality (k,), boxes (k, 4)."""
        maps, boxes = given[3:-1], given[-1]  # the finest of the neck's is not refined
        wide, high = boxes[:, 2:3] - boxes[:, 0:1], boxes[:, 3:4] - boxes[:, 1:2]
        size = torch.sqrt(torch.clamp(wide * high, min=1.0))
        found = torch.zeros((boxes.shape[0], maps[0].shape[1], ROI, ROI))
        for i, (one, stride) in enumerate(zip(maps, self.strides, strict=True)):
            over = (size >= self.steps[i - 1]).float() if i else torch.ones_like(size)
            under = (size < self.steps[i]).float() if i < len(self.steps) else torch.ones_like(size)
            found = found + self.parts(one, boxes, i, float(stride)) * (over * under).view(-1, 1, 1, 1)
        out = self.head(found.flatten(1))
        return out[:, 0].sigmoid(), moved(boxes, out[:, 1:])

    def parts(self, one: torch.Tensor, boxes: torch.Tensor, i: int, stride: float) -> torch.Tensor:
        """(k, c, ROI, ROI): a map (1, c, h, w) at ROI x ROI places of each box."""
        cells = getattr(self, f"cells_{i}")
        across = self.shares(boxes[:, 0:1], boxes[:, 2:3], cells, stride)
        down = self.shares(boxes[:, 1:2], boxes[:, 3:4], cells, stride)
        k, c, side = boxes.shape[0], one.shape[1], one.shape[3]
        rows = down.reshape(k * ROI, side) @ one[0].permute(1, 0, 2).reshape(side, c * side)
        places = rows.view(k, ROI * c, side) @ across.transpose(1, 2)
        return places.view(k, ROI, c, ROI).permute(0, 2, 1, 3)

    def shares(self, low: torch.Tensor, high: torch.Tensor, cells: torch.Tensor, stride: float) -> torch.Tensor:
        """(k, 1) px each -> (k, ROI, cells): how much of each cell of a line is in each of ROI places between them."""
        low, high = low / stride - 0.5, high / stride - 0.5
        points: Any = self.points
        at = (low + (high - low) * points).clamp(0.0, float(len(cells) - 1))
        near: torch.Tensor = torch.relu(1.0 - (at.unsqueeze(2) - cells).abs())
        return near.view(-1, ROI, 2, len(cells)).mean(2)
