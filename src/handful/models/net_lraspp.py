"""LR-ASPP: MobileNetV3-Large with torchvision's lightweight head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from handful.errors import DataError
from handful.models.blocks import with_global_means
from handful.models.encoder import load_weights
from handful.models.frame import IMAGENET_MEAN, IMAGENET_STD, NetCard
from handful.models.segmenter import Segmenter
from handful.pick import need

CARD = NetCard(
    task="segment",
    what="lraspp_mobilenet_v3_large of torchvision: MobileNetV3-Large dilated to stride 16, LR-ASPP head at stride 8",
    paper="Howard 2019, MobileNetV3, arXiv:1905.02244",
    licence="Apache-2.0; torchvision's code BSD-3-Clause; weights as their own page says",
    frame_hw=(360, 480),
)


class Core(nn.Module):
    """torchvision's network without its last resize; see Segmenter.core. The paper has no auxiliary heads."""

    stride, output_stride = 16, 8

    def __init__(self, classes: int, weights: Path | None) -> None:
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise DataError(f"segmentation needs at least two classes (one may be the background), got {classes!r}")
        segmentation: Any = need("torchvision.models.segmentation", "teach")
        whole = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        if weights is not None:
            load_weights(whole, weights)
        with_global_means(whole)
        self.backbone, self.classifier = whole.backbone, whole.classifier

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Segmenter.core."""
        return [self.classifier(self.backbone(x))]


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (360, 480),
    resize: bool = True,
    pretrained: bool = False,
    weights: Path | None = None,
) -> Segmenter:
    """LR-ASPP for 2 classes or more, weights at random or from a safetensors file with torchvision's key names.

    resize=False leaves the logits at stride 8. pretrained: no package brings weights, so True raises DataError unless
    `weights` is given. Raises DataError or MissingPackage.
    """
    if pretrained and weights is None:
        raise DataError("no package brings LR-ASPP's weights; give weights=FILE.safetensors, or pretrained=False")
    core = Core(classes, weights)
    return Segmenter(core, frame_hw=frame_hw, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=resize).eval()
