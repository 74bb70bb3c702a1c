"""LR-ASPP: MobileNetV3-Large, or another encoder, with torchvision's lightweight head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from handful.errors import DataError
from handful.models.blocks import with_global_means
from handful.models.encoder import load_weights, pretrained_encoder
from handful.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, NetCard
from handful.models.segmenter import TRAINING, Segmenter
from handful.pick import need

CARD = NetCard(
    task="segment",
    what="lraspp_mobilenet_v3_large of torchvision: MobileNetV3-Large dilated to stride 16, LR-ASPP head at stride 8",
    paper="Howard 2019, MobileNetV3, arXiv:1905.02244",
    license="Apache-2.0; torchvision's code BSD-3-Clause; weights as their own page says",
    frame_hw=(360, 480),
    presets={"lite0": {"encoder": "lite0", "pretrained": True}},
    training={"": TRAINING, "lite0": {**TRAINING, "lr_of": {"core.backbone": 0.2}}},
)


class Core(nn.Module):
    """torchvision's network without its last resize; see Segmenter.core. The paper has no auxiliary heads."""

    stride, output_stride = 16, 8

    def __init__(self, classes: int, weights: Path | None) -> None:
        super().__init__()
        segmentation: Any = need("torchvision.models.segmentation", "teach")
        whole = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        if weights is not None:
            load_weights(whole, weights)
        with_global_means(whole)
        self.backbone, self.classifier = whole.backbone, whole.classifier

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Segmenter.core."""
        return [self.classifier(self.backbone(x))]


class Encoded(nn.Module):
    """The same head on the features of another encoder at strides 8 and 32; see Segmenter.core."""

    stride, output_stride = 32, 8

    def __init__(self, classes: int, encoder: Any) -> None:
        super().__init__()
        lraspp: Any = need("torchvision.models.segmentation.lraspp", "teach")
        self.backbone = encoder
        low, high = encoder.channels[encoder.strides.index(8)], encoder.channels[-1]
        self.classifier = lraspp.LRASPPHead(low, high, classes, 128)
        with_global_means(self.classifier)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Segmenter.core."""
        features = self.backbone(x)
        return [self.classifier({"low": features[self.backbone.strides.index(8)], "high": features[-1]})]


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (360, 480),
    encoder: str = "mobilenetv3",
    resize: bool = True,
    pretrained: bool = False,
    weights: Path | None = None,
) -> Segmenter:
    """LR-ASPP for 2 classes or more.

    encoder: "mobilenetv3", weights at random or from a safetensors file with torchvision's key names for the whole
    network (no package brings them, so pretrained=True raises DataError unless `weights` is given); or "lite0" and the
    like, see handful.models.encoder, with ImageNet weights unless pretrained=False. resize=False leaves the logits at
    stride 8. Raises DataError, UnknownName or MissingPackage.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise DataError(f"segmentation needs at least two classes (one may be the background), got {classes!r}")
    if encoder != "mobilenetv3":
        taken = pretrained_encoder(encoder, pretrained=pretrained, last_stride=32, weights=weights)
        other = Encoded(classes, taken)
        return Segmenter(other, frame_hw=frame_hw, mean=taken.mean, std=taken.std, resize=resize).eval()
    if pretrained and weights is None:
        raise DataError("no package brings LR-ASPP's weights; give weights=FILE.safetensors, or pretrained=False")
    core = Core(classes, weights)
    return Segmenter(core, frame_hw=frame_hw, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=resize).eval()
