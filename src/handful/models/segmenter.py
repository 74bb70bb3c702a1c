"""A segmentation network: uint8 RGB frame in, one score a class and pixel out, and the U-Net paths most are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models.blocks import block, convolution, initialize, width_of
from handful.models.encoder import Lite, Refeed, Scratch, Timm, pretrained_encoder
from handful.models.preprocessing import Normalize, check_frame, pad, padding, said_of_padded_frame

# what benchmarks/camvid.py found for batches of 8, all networks alike; a pre-trained path down learns a fifth as fast
TRAINING: dict[str, Any] = {"lr": 0.008, "ema": 0.99, "balance": "enet^0.5", "loss": {"dice": 0.5}, "crop": 0.72}
TRAINING_PRETRAINED: dict[str, Any] = {**TRAINING, "lr_of": {"core.encoder": 0.2}}


class Segmenter(nn.Module):
    """Normalize, pad, the bare network, resize, crop: everything a phone needs, with nothing to redo by hand.

    forward: image (1, h, w, 3) uint8, RGB, h and w fixed by `frame_hw` -> scores (1, classes, h, w) float32, logits;
    with resize=False (1, classes, ceil(h / s), ceil(w / s)), s the network's output stride: cell (i, j) is the square
    of s pixels a side whose upper left corner is pixel (i s, j s).

    core: the bare network; float32 normalized (n, 3, h, w), h and w multiples of `core.stride` -> list of logits:
    [main, *auxiliary] in training mode, each at its own stride, [main] in eval mode.
    padded_px: rows below and columns to the right that are added, so that `core.stride` divides the frame, and
    cropped again. Raises DataError for a frame that is not two whole numbers of at least 32, or fewer than 2 classes.
    """

    input_names = ("image",)
    output_names = ("scores",)
    task = "segment"

    def __init__(
        self,
        core: Any,
        *,
        frame_hw: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        resize: bool = True,
    ) -> None:
        super().__init__()
        self.frame_hw = check_frame(frame_hw)
        self.mean, self.std, self.resize = mean, std, resize
        self.padded_px = padding(self.frame_hw, core.stride)
        self.normalize = Normalize(mean, std)
        self.core = core

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        x = self.normalize(image.permute(0, 3, 1, 2).float())
        height, width = self.frame_hw
        y: torch.Tensor = self.core(pad(x, self.padded_px))[0]
        if self.resize:
            size = (height + self.padded_px[0], width + self.padded_px[1])
            if self.core.output_stride > 1:
                y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
            return y[:, :, :height, :width] if any(self.padded_px) else y
        stride = self.core.output_stride
        return y[:, :, : -(-height // stride), : -(-width // stride)] if any(self.padded_px) else y

    def dense(self, x: torch.Tensor) -> list[torch.Tensor]:
        """float32 normalized (n, 3, h, w), any h and w -> what a loss takes: the main logits at (h, w), those of deep
        supervision each at its own stride s, (ceil(h / s), ceil(w / s)), cells as above."""
        height, width = x.shape[2:]
        extra = padding((height, width), self.core.stride)
        size = (height + extra[0], width + extra[1])
        main, *auxiliary = self.core(pad(x, extra))
        main = F.interpolate(main, size=size, mode="bilinear", align_corners=False)[:, :, :height, :width]
        strides = [size[0] // y.shape[2] for y in auxiliary]
        return [main, *(y[:, :, : -(-height // s), : -(-width // s)] for y, s in zip(auxiliary, strides, strict=True))]

    def preprocessing(self) -> dict[str, Any]:
        """For handful.models.folder.save_folder."""
        return said_of_padded_frame(self)


class Decoder(nn.Module):
    """A U-Net's path up (Ronneberger 2015): fewer channels, double, join the features of that scale, one block.

    given: channels of the features it takes, finest first; out: channels it gives at each of those scales but the
    last. Doubling is bilinear, where no phone runtime cuts its graph; channels are reduced before it, not after, which
    is the same map at a quarter of the cost and half the memory.
    """

    def __init__(self, given: Sequence[int], out: Sequence[int], *, kind: str, separable: bool) -> None:
        super().__init__()
        below = [*out[1:], given[-1]]
        self.reduce = nn.ModuleList(convolution(deep, own, 1) for deep, own in zip(below, out, strict=True))
        self.stages = nn.ModuleList(
            block(kind, own + skip, own, separable=separable) for skip, own in zip(given[:-1], out, strict=True)
        )

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features, finest first -> the decoded ones, finest first, with the deepest feature itself last."""
        decoded = [features[-1]]
        for i in range(len(self.stages) - 1, -1, -1):
            up = F.interpolate(self.reduce[i](decoded[0]), scale_factor=2.0, mode="bilinear", align_corners=False)
            decoded.insert(0, self.stages[i](torch.cat([up, features[i]], dim=1)))
        return decoded


class UNetCore(nn.Module):
    """Encoder, decoder, a 1x1 head, and in training one more head a coarser scale (deep supervision, Lee 2015, DSN).

    refeed: a Refeed whose maps join the features on their way to the decoder, for an encoder that does not do it
    itself; bottom: a block on the deepest features. See Segmenter.core for what goes in and comes out.
    """

    def __init__(
        self,
        encoder: Scratch | Lite | Timm,
        classes: int,
        *,
        out: Sequence[int],
        output_stride: int,
        kind: str,
        separable: bool,
        deep_supervision: bool,
        refeed: int = 0,
        bottom: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise DataError(f"segmentation needs at least two classes (one may be the background), got {classes!r}")
        if output_stride not in encoder.strides[:-1]:
            raise DataError(f"output_stride must be one of {encoder.strides[:-1]}, got {output_stride!r}")
        self.stride, self.output_stride = encoder.strides[-1], output_stride
        self.encoder = encoder
        self.skip = encoder.strides.index(output_stride)
        given = [channels + refeed for channels in encoder.channels[self.skip :]]
        self.refeed = Refeed(encoder.strides[self.skip :], refeed) if refeed else None
        self.bottom = block(kind, given[-1], bottom, separable=separable) if bottom else None
        given[-1] = bottom or given[-1]
        out = list(out)[self.skip :]
        self.decoder = Decoder(given, out, kind=kind, separable=separable)
        scales = [*out, given[-1]]
        self.head = nn.Conv2d(scales[0], classes, 1)
        self.auxiliary_strides = encoder.strides[self.skip + 1 :] if deep_supervision else ()
        self.auxiliary = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in (scales[1:] if deep_supervision else []))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Segmenter.core."""
        features = self.encoder(x)[self.skip :]
        if self.refeed is not None:
            features = [torch.cat(pair, dim=1) for pair in zip(features, self.refeed(x), strict=True)]
        if self.bottom is not None:
            features[-1] = self.bottom(features[-1])
        decoded = self.decoder(features)
        logits = [self.head(decoded[0])]
        if self.training:
            logits += [head(y) for head, y in zip(self.auxiliary, decoded[1:], strict=False)]
        return logits


def image_refed_unet(
    channels: Sequence[int],
    lite_channels: Sequence[int],
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
    """Exeggute or Exeggutor, for 2 classes or more: a U-Net that is fed the image again at every scale.

    channels: at strides 2, 4, 8, 16, 32; lite_channels: under EfficientNet-Lite, the decoder's at 2, 4, 8 and the
    bottom's at 16. frame_hw: height and width in pixels of the uint8 RGB frame. encoder: "scratch", "lite0" ("lite1",
    "lite2": ImageNet weights unless pretrained=False) or "timm:NAME", all but the first cut at stride 16; less: blocks
    left off an EfficientNet-Lite's end. width: times all channels but a pre-trained encoder's. block: plain, residual,
    squeeze_excite, dense, aggregation or factorised (1x9 + 9x1). separable: depthwise-separable convolutions, or plain
    ones. refeed: channels made of the image at each scale, 0 for none; under a pre-trained encoder, whose own path
    stays as it was trained, they join its features on the way to the decoder. first_stride: 1 or 2, where the path down
    starts. output_stride: of the logits. deep_supervision: auxiliary logits in training mode. init: he, xavier or
    default, for all that is not pre-trained. resize: False leaves off the last resize layer. weights: a safetensors
    file for encoder="timm:NAME". Raises DataError, UnknownName or MissingPackage.
    """
    if isinstance(refeed, bool) or not isinstance(refeed, int) or not 0 <= refeed <= 64:
        raise DataError(f"refeed must be a number of channels from 0 (off) to 64, got {refeed!r}")
    own: dict[str, Any] = {
        "kind": block, "separable": separable, "output_stride": output_stride, "deep_supervision": deep_supervision
    }  # fmt: skip
    if encoder == "scratch":
        if weights is not None:
            raise DataError("encoder='scratch' takes no weights; give encoder='timm:NAME' or leave weights out")
        wide = [width_of(c, width) for c in channels]
        down = Scratch(wide, first_stride=first_stride, kind=block, separable=separable, refeed=refeed)
        core = UNetCore(down, classes, out=wide[:-1], **own)
        initialize(core, init)
        return Segmenter(core, frame_hw=frame_hw, mean=down.mean, std=down.std, resize=resize).eval()
    if first_stride != 2:
        raise DataError(f"first_stride belongs to encoder='scratch'; {encoder} starts at 2, got {first_stride!r}")
    taken: Any = pretrained_encoder(encoder, pretrained=pretrained, weights=weights, less=less)
    *out, bottom = [width_of(c, width) for c in lite_channels]
    core = UNetCore(taken, classes, out=out, refeed=refeed, bottom=bottom, **own)
    for name, part in core.named_children():
        if name != "encoder":
            initialize(part, init)
    return Segmenter(core, frame_hw=frame_hw, mean=taken.mean, std=taken.std, resize=resize).eval()
