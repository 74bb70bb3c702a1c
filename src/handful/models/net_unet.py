"""U-Net: the whole path down from full resolution and up again, plain convolutions."""

from __future__ import annotations

from handful.errors import DataError
from handful.models.blocks import initialize
from handful.models.encoder import Scratch
from handful.models.net_exeggute import LESS, LITE_CHANNELS
from handful.models.preprocessing import NetCard
from handful.models.segmenter import TRAINING, TRAINING_PRETRAINED, Segmenter, UNetCore, image_refed_unet

CARD = NetCard(
    task="segment",
    what="U-Net from full resolution down to a sixteenth; with padding, batch norm and bilinear doubling",
    paper="Ronneberger 2015, U-Net, arXiv:1505.04597",
    license="Apache-2.0",
    frame_hw=(360, 480),
    presets={"paper": {"base": 64}, "lite0": {"encoder": "lite0"}},
    training={"": TRAINING, "lite0": TRAINING_PRETRAINED},
)


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (360, 480),
    encoder: str = "scratch",
    base: int = 16,
    scales: int = 5,
    deep_supervision: bool = False,
    init: str = "he",
    resize: bool = True,
    pretrained: bool = True,
) -> Segmenter:
    """U-Net for 2 classes or more, its logits at full resolution (so resize=False changes nothing).

    encoder: "scratch", or "lite0" and the like, cut at stride 16 (see handful.models.encoder), with a path up as
    Exeggute's, to be held beside it: logits at stride 2 then, and base and scales have no meaning.
    base: channels at full resolution, doubled at each of the scales - 1 halvings; the paper has 64 and 5.
    deep_supervision: auxiliary logits at every coarser scale in training mode. init: he, xavier or default.
    pretrained: the encoder, unless it is "scratch". Raises DataError, UnknownName or MissingPackage.
    """
    if encoder != "scratch":
        return image_refed_unet(
            (), LITE_CHANNELS, classes, frame_hw=frame_hw, encoder=encoder, less=LESS, separable=False, refeed=0,
            deep_supervision=deep_supervision, init=init, resize=resize, pretrained=pretrained,
        )  # fmt: skip
    for name, value, most in (("base", base, 128), ("scales", scales, 7)):
        if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= most:
            raise DataError(f"{name} must be a whole number from 2 to {most}, got {value!r}")
    channels = [base * 2**i for i in range(scales)]
    down = Scratch(channels, first_stride=1, kind="plain", separable=False, refeed=0)
    core = UNetCore(
        down,
        classes,
        out=channels[:-1],
        output_stride=1,
        kind="plain",
        separable=False,
        deep_supervision=deep_supervision,
    )
    initialize(core, init)
    return Segmenter(core, frame_hw=frame_hw, mean=down.mean, std=down.std, resize=resize).eval()
