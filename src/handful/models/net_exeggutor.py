"""Exeggutor: a U-Net of depthwise-separable blocks that sees the image again at every scale, deeply supervised."""

from __future__ import annotations

from pathlib import Path

from handful.models.preprocessing import NetCard
from handful.models.segmenter import TRAINING, TRAINING_PRETRAINED, Segmenter, image_refed_unet

CARD = NetCard(
    task="segment",
    what="U-Net of depthwise-separable blocks, the image fed again at every scale of the path down, deep supervision",
    paper="Ronneberger 2015, U-Net, arXiv:1505.04597; Zhu 2017, deep supervision in U-Net, arXiv:1703.07523; "
    "Lee 2015, DSN, arXiv:1409.5185; Howard 2017, depthwise-separable blocks, arXiv:1704.04861",
    licence="Apache-2.0; with encoder='lite0' also EfficientNet-Lite0's weights, Apache-2.0",
    frame_hw=(360, 480),
    presets={
        "lite0": {"encoder": "lite0"},
        "small": {"width": 0.5},
        "people": {
            "encoder": "lite0",
            "less": 4,
            "width": 0.25,
            "refeed": 4,
            "output_stride": 4,
            "frame_hw": [256, 256],
        },
    },
    training={
        "": TRAINING,
        "lite0": TRAINING_PRETRAINED,
        # benchmarks/people.py
        "people": {
            "lr": 0.003,
            "ema": 0.99,
            "balance": "enet",
            "loss": {"dice": 0.5},
            "lr_of": {"core.encoder": 0.3},
        },
    },
)
# channels at strides 2, 4, 8, 16, 32; under EfficientNet-Lite0 the decoder's at 2, 4, 8 and the bottom's at 16. So
# chosen that model.safetensors stays under 5.5 MB for eleven classes, with most weights where the map is small
CHANNELS = (32, 64, 144, 320, 528)
LITE_CHANNELS = (32, 64, 192, 512)


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (360, 480),
    encoder: str = "scratch",
    less: int = 0,
    width: float = 1.0,
    block: str = "plain",
    separable: bool = True,
    refeed: int = 8,
    first_stride: int = 2,
    output_stride: int = 2,
    deep_supervision: bool = True,
    init: str = "he",
    resize: bool = True,
    pretrained: bool = True,
    weights: Path | None = None,
) -> Segmenter:
    """Exeggutor, for 2 classes or more.

    frame_hw: height and width in pixels of the uint8 RGB frame. encoder: "scratch", "lite0" ("lite1", "lite2":
    ImageNet weights unless pretrained=False) or "timm:NAME", all but the first cut at stride 16; less: blocks left off
    an EfficientNet-Lite's end. width: times all channels but a pre-trained encoder's. block: plain, residual,
    squeeze_excite, dense, aggregation or factorised (1x9 + 9x1). separable: depthwise-separable convolutions, or
    plain ones. refeed: channels made of the image at each scale, 0 for none; under a pre-trained encoder, whose own
    path stays as it was trained, they join its features on the way to the decoder. first_stride: 1 or 2, where the
    path down starts. output_stride: of the logits. deep_supervision: auxiliary logits in training mode. init: he,
    xavier or default, for all that is not pre-trained.
    resize: False leaves off the last resize layer. weights: a safetensors file for encoder="timm:NAME".
    Raises DataError, UnknownName or MissingPackage.
    """
    return image_refed_unet(
        classes,
        frame_hw=frame_hw,
        encoder=encoder,
        channels=CHANNELS,
        lite_channels=LITE_CHANNELS,
        separable=separable,
        width=width,
        block=block,
        refeed=refeed,
        first_stride=first_stride,
        output_stride=output_stride,
        deep_supervision=deep_supervision,
        init=init,
        resize=resize,
        pretrained=pretrained,
        weights=weights,
        less=less,
    )
