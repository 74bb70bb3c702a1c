"""A proposer for tests that can be compiled: a cell of 16 px is an object as far as it is brighter than its ground;
what lies in a box is the mean of a few random maps. `faults` plants in its graph what a comparison must see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from handful.detection.contract import Proposals, ProposerGraph
from handful.detection.graphs import RoiMeans
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, top_boxes

DESCRIPTION = "bright cells"
SIDE_PX, STRIDES, PRE_NMS_TOP_K, NMS_IOU = 64, (4, 8), 64, 0.5


class Dots(nn.Module):
    """As ProposerGraph.propose."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.one, self.two = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 8, 2, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = image.permute(0, 3, 1, 2).float() / 255
        small = F.leaky_relu(self.one(x))
        deep = F.leaky_relu(self.two(small))
        # red counts most, so that another order of colors is seen
        grey = x[:, :1] * 0.7 + x[:, 1:2] * 0.25 + x[:, 2:] * 0.05
        bright = F.avg_pool2d(grey, 16)
        cells = SIDE_PX // 16
        down = (torch.arange(cells) * 16.0).view(-1, 1).expand(cells, cells).reshape(-1)
        across = (torch.arange(cells) * 16.0).view(1, -1).expand(cells, cells).reshape(-1)
        grown = 8 * bright.flatten(1)[0]
        boxes = torch.stack([across - grown, down - grown, across + 16 + grown, down + 16 + grown], 1)
        return bright.flatten(1).sigmoid() * 1.0, boxes.unsqueeze(0), small, deep


class Smaller(nn.Module):
    """As ProposerGraph.again: every box a pixel smaller, as good as the mean of the first map in it says."""

    def __init__(self) -> None:
        super().__init__()
        self.means = RoiMeans([SIDE_PX // 4], [4], 2)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small, _, boxes = given
        inner = torch.cat([boxes[:, :2] + 0.5, boxes[:, 2:] - 0.5], 1)
        return self.means(small, boxes).mean(1).sigmoid(), inner


class Proposer:
    dim = 14
    refined = False

    def __init__(self, state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> None:
        self.network = Dots().eval()
        if state is not None:
            self.network.load_state_dict(dict(state))
        self.refined = bool((about or {}).get("refined", self.refined))
        self.about = {"name": "dots", "license": "none", "trained_on": "nothing", "params": 1, "sha256": "0",
                      "refined": self.refined}  # fmt: skip

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        frame, factor, left_top = letterbox(rgb_u8, SIDE_PX)
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        means = RoiMeans([SIDE_PX // s for s in STRIDES], STRIDES, 6)
        with torch.inference_mode():
            quality, raw, *maps = self.network(torch.from_numpy(frame[None]))
        boxes, best = frame_to_image(raw[0].numpy(), factor, left_top), quality[0].numpy()
        boxes, best = top_boxes(
            boxes,
            best,
            size_wh,
            pre_nms_top_k=PRE_NMS_TOP_K,
            nms_iou=NMS_IOU,
            max_boxes=10 if self.refined else max_boxes,
        )
        if self.refined:
            with torch.inference_mode():
                given = torch.from_numpy(image_to_frame(boxes, factor, left_top)).float()
                again, better = Smaller()(*maps, given)
            boxes = frame_to_image(better.numpy(), factor, left_top)
            boxes, best = top_boxes(
                boxes, again.numpy(), size_wh, pre_nms_top_k=PRE_NMS_TOP_K, nms_iou=NMS_IOU, max_boxes=max_boxes
            )

        def features(wanted: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                given = torch.from_numpy(image_to_frame(wanted, factor, left_top)).float()
                return np.asarray(means(*maps, given).numpy())

        return Proposals(boxes, best, np.zeros(len(boxes), np.int64), features)

    def graph(self) -> ProposerGraph:
        means = RoiMeans([SIDE_PX // s for s in STRIDES], STRIDES, 6)
        if self.refined:
            return ProposerGraph(
                SIDE_PX, self.network, means, PRE_NMS_TOP_K, NMS_IOU, refine=Smaller(), refine_top_k=10
            )
        return ProposerGraph(SIDE_PX, self.network, means, PRE_NMS_TOP_K, NMS_IOU)


def available() -> bool:
    return False  # best_here() looks for others


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Proposer:
    return Proposer(state, about)
