"""Object proposals of NanoDet-g, trained on COCO, without its 80 classes: the default where its weights were fetched.

What it knows of classes is left out of the boxes' quality (the largest of the 80 scores, whichever it is), but not of
its features, which have seen COCO's classes, as those of the 2018 report's detector had.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from handful.detection.contract import Proposals, ProposerGraph
from handful.detection.graphs import RoiMeans
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, top_boxes
from handful.detection.roi import GRID, roi_means
from handful.models import fetch
from handful.models.nanodet import CHANNELS, MEAN_BGR, NECK, SIDE_PX, STD_BGR, STRIDES, NanoDet
from handful.models.preprocessing import Normalize
from handful.threads import inference

DESCRIPTION = "NanoDet-g trained on COCO, classes thrown away (handful weights get nanodet)"
NAME = "nanodet"
NMS_IOU = 0.8  # above it two boxes are one object; objects in a row share less
PRE_NMS_TOP_K = 1000


def available() -> bool:
    """As handful.detection.contract.ProposerModule."""
    return fetch.available(NAME)


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Nanodet:
    """As handful.detection.contract.ProposerModule."""
    if state is None or about is None:
        held, about = fetch.load(NAME)
        state = {key: torch.from_numpy(value) for key, value in held.items()}
    network = NanoDet()
    network.load_state_dict(dict(state))
    return Nanodet(network.eval(), about)


class Nanodet:
    """See handful.detection.contract.Proposer."""

    side_px = SIDE_PX
    # the two deeper maps of the backbone know what an object is, the neck's three also how large it is
    maps = (1, 2, 3, 4, 5)

    def __init__(self, network: NanoDet, about: Mapping[str, Any]) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.dim = sum((*CHANNELS, NECK, NECK, NECK)[i] for i in self.maps)
        self.strides = [(*STRIDES, *STRIDES)[i] for i in self.maps]
        keys = ("name", "what", "paper", "license", "trained_on", "sha256")
        self.about = {**{key: about.get(key) for key in keys}, "params": sum(p.numel() for p in network.parameters())}
        self._mean, self._std = np.array(MEAN_BGR, np.float32), np.array(STD_BGR, np.float32)

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """As Proposer."""
        frame, factor, left_top = letterbox(rgb_u8, SIDE_PX)
        x = (frame[:, :, ::-1].astype(np.float32) - self._mean) / self._std
        with inference():
            given = torch.from_numpy(x.transpose(2, 0, 1)[None]).contiguous(memory_format=torch.channels_last)
            scores, raw, maps = self.network(given)
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        boxes = frame_to_image(raw[0].numpy(), factor, left_top)
        boxes, quality = top_boxes(
            boxes, scores[0].amax(1).numpy(), size_wh, pre_nms_top_k=PRE_NMS_TOP_K, nms_iou=NMS_IOU, max_boxes=max_boxes
        )
        kept = [maps[i] for i in self.maps]

        def features(wanted: np.ndarray) -> np.ndarray:
            return roi_means(kept, image_to_frame(wanted, factor, left_top), self.strides)

        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features)

    def graph(self) -> ProposerGraph:
        """As handful.detection.contract.Compilable."""
        means = RoiMeans([SIDE_PX // stride for stride in self.strides], self.strides, GRID)
        return ProposerGraph(SIDE_PX, Framed(self.network, self.maps), means, PRE_NMS_TOP_K, NMS_IOU)


class Framed(nn.Module):
    """uint8 (1, 416, 416, 3) RGB -> quality (1, 3549), boxes (1, 3549, 4) px of the frame, and the maps asked for."""

    def __init__(self, network: NanoDet, maps: Sequence[int]) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        # it was trained on BGR: its first kernels are turned instead of every image
        stem = self.network.stem.weight
        stem.data = stem.data.flip(1).contiguous()
        mean, std = (tuple(v / 255 for v in reversed(values)) for values in (MEAN_BGR, STD_BGR))
        self.normalize = Normalize((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
        self.maps = tuple(maps)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the class says."""
        scores, boxes, maps = self.network(self.normalize(image.permute(0, 3, 1, 2).float()))
        return (scores.amax(2), boxes, *(maps[i] for i in self.maps))
