"""Exeggute: a U-Net of plain convolutions that sees the image again at every scale, deeply supervised."""

from __future__ import annotations

from functools import partial

from handful.models.preprocessing import NetCard
from handful.models.segmenter import TRAINING, TRAINING_PRETRAINED, image_refed_unet

CARD = NetCard(
    task="segment",
    what="U-Net of plain convolutions, the image fed again at every scale of the path down, deep supervision",
    paper="Ronneberger 2015, U-Net, arXiv:1505.04597; Zhu 2017, deep supervision in U-Net, arXiv:1703.07523; "
    "Lee 2015, DSN, arXiv:1409.5185",
    license="Apache-2.0; with encoder='lite0' also EfficientNet-Lite0's weights, Apache-2.0",
    frame_hw=(360, 480),
    presets={"lite0": {"encoder": "lite0"}},
    training={"": TRAINING, "lite0": TRAINING_PRETRAINED},
)
# so chosen that model.safetensors stays under 3.3 MB for eleven classes, with most weights where the map is small
CHANNELS = (16, 32, 56, 88, 128)
# the bottom must carry what each pixel is: with all of Lite0's blocks only 24 channels were left for it, too few
LITE_CHANNELS = (16, 32, 48, 80)
LESS = 1

# build(classes, *, frame_hw, encoder, width, ...): what each means is said there
build = partial(image_refed_unet, CHANNELS, LITE_CHANNELS, separable=False, less=LESS)
