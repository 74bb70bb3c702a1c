"""Object proposals of a torchvision detector trained on COCO, without its classes.

Faster R-CNN (Ren 2015, arXiv:1506.01497) or SSDLite (Sandler 2018, arXiv:1801.04381) on MobileNetV3-Large (Howard 2019,
arXiv:1905.02244). `handful weights get torchvision` fetches the first, `torchvision-ssdlite` the second.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from handful.detection.contract import Proposals, clip_to_image
from handful.detection.fusion import nms
from handful.detection.roi import roi_means
from handful.models import fetch
from handful.pick import need
from handful.threads import inference

DESCRIPTION = "torchvision's COCO detectors, classes thrown away (handful weights get torchvision)"
NAME = "torchvision"
NETS = {"torchvision": "fasterrcnn_mobilenet_v3_large_320_fpn", "torchvision-ssdlite": "ssdlite320_mobilenet_v3_large"}
COCO_IDS = 91  # torchvision's networks answer with COCO's own numbers, 0 is the background
MIN_SCORE, OWN_NMS_IOU, MAX_BOXES = 0.01, 0.6, 300
NMS_IOU = 0.8  # above it two boxes of any class are one object; objects in a row share less
# below this Faster R-CNN's anchors and SSD's fixed frame see nothing but blur, and an image of a few px breaks them
SIDE_PX = 16


def available() -> bool:
    """As handful.detection.contract.ProposerModule."""
    return any(fetch.available(name) for name in NETS)


def build(name: str) -> Any:
    """An untrained network of torchvision's, in eval mode, by its name in NETS."""
    make = getattr(need("torchvision.models", "detect").detection, NETS[name])
    thin = {"score_thresh": MIN_SCORE, "nms_thresh": OWN_NMS_IOU, "detections_per_img": MAX_BOXES}
    how = thin if "ssd" in name else {f"box_{key}": value for key, value in thin.items()}
    return make(weights=None, weights_backbone=None, num_classes=COCO_IDS, **how).eval()


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Torchvision:
    """As handful.detection.contract.ProposerModule. Without state, the first of NETS whose weights are here."""
    if state is None or about is None:
        name = next((name for name in NETS if fetch.available(name)), NAME)
        held, found = fetch.load(name)
        state, about = {key: torch.from_numpy(value) for key, value in held.items()}, {**found, "weights_of": name}
    network = build(str(about["weights_of"]))
    network.load_state_dict(dict(state))
    return Torchvision(network, about)


class Torchvision:
    """See handful.detection.contract.Proposer."""

    def __init__(self, network: Any, about: Mapping[str, Any]) -> None:
        self.network = network
        keys = ("weights_of", "what", "paper", "license", "trained_on", "sha256")
        self.about = {"name": NAME, **{key: about.get(key) for key in keys},
                      "params": sum(p.numel() for p in network.parameters())}  # fmt: skip
        self._held = threading.local()  # an image's own, when several are looked at side by side
        network.transform.register_forward_hook(lambda *given: setattr(self._held, "frame", given[2][0]))
        network.backbone.register_forward_hook(lambda *given: setattr(self._held, "maps", given[2]))
        self.dim = self.propose(np.zeros((64, 64, 3), np.uint8)).features(np.array([[0, 0, 64, 64.0]])).shape[1]

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """As Proposer."""
        height, width = rgb_u8.shape[:2]
        added = (max(0, SIDE_PX - height), max(0, SIDE_PX - width))
        padded = np.pad(rgb_u8, ((0, added[0]), (0, added[1]), (0, 0)), mode="edge") if any(added) else rgb_u8
        with inference():
            given = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1).float() / 255
            (found,) = self.network([given])
        frame, maps = self._held.frame, list(self._held.maps.values())
        whole, there = clip_to_image(found["boxes"].numpy(), (width, height))
        quality, whole = found["scores"].numpy().astype(np.float64)[there], whole[there]
        stays = nms(whole, quality, NMS_IOU)[:max_boxes]
        high, wide = frame.image_sizes[0]
        ratio = np.array([wide / padded.shape[1], high / padded.shape[0]] * 2)
        strides = [frame.tensors.shape[-1] / one.shape[-1] for one in maps]

        def features(wanted: np.ndarray) -> np.ndarray:
            return roi_means(maps, np.asarray(wanted, np.float64).reshape(-1, 4) * ratio, strides)

        return Proposals(whole[stays], quality[stays], np.zeros(len(stays), np.int64), features)
