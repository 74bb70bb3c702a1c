"""MobileNet-U-Net: MobileNetV2's features on the way down, depthwise-separable blocks on the way up."""

from __future__ import annotations

from pathlib import Path

from handful.models.blocks import initialize, width_of
from handful.models.encoder import pretrained_encoder
from handful.models.preprocessing import NetCard
from handful.models.segmenter import TRAINING, Segmenter, UNetCore

CARD = NetCard(
    task="segment",
    what="MobileNetV2 as the path down of a U-Net, depthwise-separable blocks as the path up",
    paper="Sandler 2018, MobileNetV2, arXiv:1801.04381; Ronneberger 2015, U-Net, arXiv:1505.04597",
    license="Apache-2.0; the encoder's code is timm's, Apache-2.0; its weights as their own page says",
    frame_hw=(360, 480),
    presets={"half": {"encoder": "timm:mobilenetv2_050", "width": 0.5}},
    training={"": TRAINING},
)
CHANNELS = (32, 48, 64, 96)  # at strides 2, 4, 8, 16


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (360, 480),
    encoder: str = "timm:mobilenetv2_100",
    width: float = 1.0,
    block: str = "plain",
    output_stride: int = 2,
    deep_supervision: bool = True,
    init: str = "he",
    resize: bool = True,
    pretrained: bool = False,
    weights: Path | None = None,
) -> Segmenter:
    """MobileNet-U-Net for 2 classes or more.

    encoder: "timm:NAME" of any network with features at strides 2 to 32, or lite0, lite1, lite2. weights: a safetensors
    file with timm's key names for it; pretrained=True fetches timm's. width: times the decoder's channels. block,
    output_stride, deep_supervision, init, resize: as for exeggutor. Raises DataError, UnknownName or MissingPackage.
    """
    down = pretrained_encoder(encoder, pretrained=pretrained, last_stride=32, weights=weights)
    core = UNetCore(
        down,
        classes,
        out=[width_of(c, width) for c in CHANNELS],
        output_stride=output_stride,
        kind=block,
        separable=True,
        deep_supervision=deep_supervision,
    )
    for name, part in core.named_children():
        if name != "encoder":
            initialize(part, init)
    return Segmenter(core, frame_hw=frame_hw, mean=down.mean, std=down.std, resize=resize).eval()
