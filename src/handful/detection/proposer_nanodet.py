"""Object proposals of NanoDet-g, trained on COCO, without its 80 classes: the default where its weights were fetched.

What it knows of classes is left out of the boxes' quality (the largest of the 80 scores, whichever it is), but not of
its features, which have seen COCO's classes, as those of the 2018 report's detector had.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from handful import engine
from handful.detection.contract import Proposals, ProposerGraph
from handful.detection.graphs import RoiMeans
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, top_boxes
from handful.detection.roi import GRID, roi_means
from handful.models import fetch, nanodet_onnx
from handful.models.nanodet import NanoDet
from handful.models.nanodet_onnx import CHANNELS, MEAN_BGR, NECK, SIDE_PX, STD_BGR, STRIDES
from handful.models.preprocessing import Normalize
from handful.threads import asked, inference

DESCRIPTION = "NanoDet-g trained on COCO, classes thrown away (handful weights get nanodet)"
NAME = "nanodet"
NMS_IOU = 0.8  # above it two boxes are one object; objects in a row share less
PRE_NMS_TOP_K = 1000

Means = Callable[[np.ndarray], np.ndarray]  # boxes (k, 4) px of the frame -> the mean of the maps in each
# the frame -> quality (n,), boxes (n, 4) px of the frame, and the means of the maps
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, Means]]


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
        self.widths = [(*CHANNELS, NECK, NECK, NECK)[i] for i in self.maps]
        self.dim = sum(self.widths)
        self.strides = [(*STRIDES, *STRIDES)[i] for i in self.maps]
        keys = ("name", "what", "paper", "license", "trained_on", "sha256")
        self.about = {**{key: about.get(key) for key in keys}, "params": sum(p.numel() for p in network.parameters())}
        self._wanted, self._lock = engine.wanted(), threading.Lock()
        self._run: Run | None = None

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """As Proposer."""
        run = self._run
        if run is None:
            with self._lock:
                run = self._run = self._run or engine.choose(
                    self._wanted, self._on_onnxruntime, lambda: self._on_torch, NAME
                )
        frame, factor, left_top = letterbox(rgb_u8, SIDE_PX)
        quality, raw, means = run(frame)
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        boxes, quality = top_boxes(
            frame_to_image(raw, factor, left_top), quality, size_wh,
            pre_nms_top_k=PRE_NMS_TOP_K, nms_iou=NMS_IOU, max_boxes=max_boxes,
        )  # fmt: skip

        def features(wanted: np.ndarray) -> np.ndarray:
            return means(image_to_frame(wanted, factor, left_top))

        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features)

    def _on_onnxruntime(self) -> Run:
        state = {name: value.numpy() for name, value in self.network.state_dict().items()}
        network = engine.onnx_session(nanodet_onnx.network(state, self.maps), asked() or 1)
        sides = [SIDE_PX // stride for stride in self.strides]
        means = engine.onnx_session(nanodet_onnx.box_means(self.widths, sides, self.strides, GRID), asked() or 1)

        def run(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, Means]:
            quality, raw, *maps = network.run(None, {"image": frame[None]})
            held = {f"map_{i}": one for i, one in enumerate(maps)}

            def features(on_frame: np.ndarray) -> np.ndarray:
                if not len(on_frame):
                    return np.zeros((0, self.dim), np.float32)
                return np.asarray(means.run(None, {**held, "boxes": on_frame.astype(np.float32)})[0])

            return quality[0], raw[0], features

        return run

    def _on_torch(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, Means]:
        x = (frame[:, :, ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)) / np.array(STD_BGR, np.float32)
        with inference():
            given = torch.from_numpy(x.transpose(2, 0, 1)[None]).contiguous(memory_format=torch.channels_last)
            scores, raw, maps = self.network(given)
        kept = [maps[i] for i in self.maps]
        return scores[0].amax(1).numpy(), raw[0].numpy(), lambda on_frame: roi_means(kept, on_frame, self.strides)

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
