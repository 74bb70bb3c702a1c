"""Faster R-CNN: boxes around things, on an ImageNet encoder with a feature pyramid."""

from __future__ import annotations

from functools import partial

from handful.models.detector import FRAME_HW, LICENSE, PRESETS, rcnn
from handful.models.preprocessing import NetCard

CARD = NetCard(
    task="detect",
    what="torchvision's Faster R-CNN heads on EfficientNet-Lite0 or any timm encoder, pyramid of strides 8 to 64; "
    "multiplications are counted for the most regions a frame may have; runs in PyTorch only",
    paper="Ren 2015, Faster R-CNN, arXiv:1506.01497; Lin 2017, feature pyramids, arXiv:1612.03144",
    license=LICENSE,
    frame_hw=FRAME_HW,
    presets=PRESETS,
)

# build(classes, *, frame_hw, backbone, channels, ...): what each means is said there
build = partial(rcnn, False)
