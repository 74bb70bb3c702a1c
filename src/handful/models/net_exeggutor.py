"""Exeggutor: a U-Net of depthwise-separable blocks that sees the image again at every scale, deeply supervised."""

from __future__ import annotations

from functools import partial

from handful.models.preprocessing import NetCard
from handful.models.segmenter import TRAINING, TRAINING_PRETRAINED, image_refed_unet

CARD = NetCard(
    task="segment",
    what="U-Net of depthwise-separable blocks, the image fed again at every scale of the path down, deep supervision",
    paper="Ronneberger 2015, U-Net, arXiv:1505.04597; Zhu 2017, deep supervision in U-Net, arXiv:1703.07523; "
    "Lee 2015, DSN, arXiv:1409.5185; Howard 2017, depthwise-separable blocks, arXiv:1704.04861",
    license="Apache-2.0; with encoder='lite0' also EfficientNet-Lite0's weights, Apache-2.0",
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
# so chosen that model.safetensors stays under 5.5 MB for eleven classes, with most weights where the map is small
CHANNELS = (32, 64, 144, 320, 528)
LITE_CHANNELS = (32, 64, 192, 512)

# build(classes, *, frame_hw, encoder, width, ...): what each means is said there
build = partial(image_refed_unet, CHANNELS, LITE_CHANNELS)
