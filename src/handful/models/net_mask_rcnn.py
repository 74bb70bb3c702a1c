"""Mask R-CNN: boxes around things and which pixels are theirs, on an ImageNet encoder with a feature pyramid."""

from __future__ import annotations

from functools import partial

from handful.models.detector import FRAME_HW, LICENSE, PRESETS, rcnn
from handful.models.preprocessing import NetCard

CARD = NetCard(
    task="instance",
    what="torchvision's Mask R-CNN heads on EfficientNet-Lite0 or any timm encoder, pyramid of strides 8 to 64; "
    "multiplications are counted for the most regions and masks a frame may have; runs in PyTorch only",
    paper="He 2017, Mask R-CNN, arXiv:1703.06870; Lin 2017, feature pyramids, arXiv:1612.03144",
    license=LICENSE,
    frame_hw=FRAME_HW,
    presets={**PRESETS, "small": {**PRESETS["small"], "detections": 50}},
)

# build(classes, *, frame_hw, backbone, channels, ...): what each means is said there
build = partial(rcnn, True)
