"""Mask R-CNN: boxes around things and which pixels are theirs, on an ImageNet encoder with a feature pyramid."""

from __future__ import annotations

from pathlib import Path

from handful.models.detector import Detector, rcnn
from handful.models.preprocessing import NetCard

CARD = NetCard(
    task="instance",
    what="torchvision's Mask R-CNN heads on EfficientNet-Lite0 or any timm encoder, pyramid of strides 8 to 64; "
    "multiplications are counted for the most regions and masks a frame may have; runs in PyTorch only",
    paper="He 2017, Mask R-CNN, arXiv:1703.06870; Lin 2017, feature pyramids, arXiv:1612.03144",
    licence="Apache-2.0; torchvision's code BSD-3-Clause; weights as those of handful.models.backbone",
    frame_hw=(320, 320),
    presets={
        "lite1": {"backbone": "lite1"},
        "lite2": {"backbone": "lite2"},
        "small": {"channels": 64, "hidden": 256, "proposals": 100, "detections": 50},
        "fine": {"finest": 4},
    },
)


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (320, 320),
    backbone: str = "lite0",
    channels: int = 96,
    finest: int = 8,
    anchor: float = 3.0,
    hidden: int = 512,
    proposals: int = 200,
    detections: int = 100,
    least_score: float = 0.05,
    overlap: float = 0.5,
    pretrained: bool = True,
    weights: Path | None = None,
) -> Detector:
    """Mask R-CNN for 1 class or more (the background is none of them); see handful.models.detector.Detector.

    Arguments as handful.models.net_faster_rcnn.build. Raises DataError, UnknownName or MissingPackage.
    """
    return rcnn(
        classes, masks=True, frame_hw=frame_hw, backbone=backbone, pretrained=pretrained, weights=weights,
        channels=channels, finest=finest, anchor=anchor, hidden=hidden, proposals=proposals, detections=detections,
        least_score=least_score, overlap=overlap,
    )  # fmt: skip
