"""The edges every network shares: the uint8 frame it takes, and the card that says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError

LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NetCard:
    """What a net_*.py says of itself. Parameters, MACs and activation peak are counted (models/count.py), not written.

    task: "segment", "classify", "detect" or "instance". paper, license: of the design and of this code; pre-trained
    weights have their own.
    frame_hw: height and width in pixels of the frame it is shown with unless told otherwise.
    presets: name -> arguments of `build`, asked for as "NET:PRESET". classes: the only number of them it can have, None
    for any. training: preset, or "" for every other -> settings of its recipe that it was tuned with, by name, as JSON
    (see handful.training.tuned); they hold unless others are given.
    """

    task: str
    what: str
    paper: str
    license: str
    frame_hw: tuple[int, int] = (224, 224)
    presets: dict[str, dict[str, Any]] | None = None
    classes: int | None = None
    training: dict[str, dict[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain object, for a model folder's `about` and for `handful models list`."""
        own = {"presets": self.presets or {}, "training": self.training or {}}
        return {**asdict(self), "frame_hw": list(self.frame_hw), **own}

    def trained_with(self, net: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of `training` for the network NAME or NAME:PRESET, built with `args`, the preset's among them.

        Without a preset it is the one whose arguments these are, if there is one. What is said of parts that begin with
        weights of their own (freeze, lr_of) is left out where pretrained=False has them begin with nothing.
        """
        tuned, presets, preset = self.training or {}, self.presets or {}, net.partition(":")[2]
        if preset not in tuned or not preset:
            same = [name for name in tuned if name and presets[name].items() <= dict(args).items()]
            preset = max(same, key=lambda name: len(presets[name]), default="")
        found = tuned.get(preset, {})
        bare = args.get("pretrained") is False
        return {key: value for key, value in found.items() if not (bare and key in ("freeze", "lr_of"))}


def check_frame(frame_hw: tuple[int, int], least: int = 32) -> tuple[int, int]:
    """(height, width) as two whole numbers of at least `least` pixels, from a tuple or a JSON list; else DataError."""
    sides = tuple(frame_hw) if isinstance(frame_hw, (tuple, list)) else ()
    if len(sides) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < least for s in sides):
        raise DataError(f"frame_hw must be (height, width), whole pixels of at least {least}; got {frame_hw!r}")
    return sides[0], sides[1]


class Resize(nn.Module):
    """A frame to a square: average whole pixels, then bilinear (half-pixel centers, align_corners=False).

    The averaging keeps frames of over twice the size from aliasing; phone runtimes have no antialiased resize.
    """

    def __init__(self, frame_hw: tuple[int, int], size_px: int) -> None:
        super().__init__()
        self.size_px = size_px
        self.pool = (max(1, frame_hw[0] // size_px), max(1, frame_hw[1] // size_px))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        if self.pool != (1, 1):
            x = F.avg_pool2d(x, self.pool)
        if x.shape[2] != self.size_px or x.shape[3] != self.size_px:
            x = F.interpolate(x, size=(self.size_px, self.size_px), mode="bilinear", align_corners=False)
        return x


class Normalize(nn.Module):
    """(x / 255 - mean) / std for each channel, as one multiplication and one addition."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        mean_255, std_255 = torch.tensor(mean) * 255, torch.tensor(std) * 255
        self.register_buffer("scale", (1 / std_255).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean_255 / std_255).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        return x * self.scale + self.shift


def padding(frame_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows below and columns to the right that make `stride` divide a frame."""
    return -frame_hw[0] % stride, -frame_hw[1] % stride


def pad(x: torch.Tensor, below_right: tuple[int, int]) -> torch.Tensor:
    """(n, c, h, w) with so many rows and columns more: zeros after normalization, as every convolution pads with."""
    return F.pad(x, (0, below_right[1], 0, below_right[0])) if any(below_right) else x


def said_of_frame(network: Any, in_the_graph: str, **more: Any) -> dict[str, Any]:
    """What a network with frame_hw, mean and std says of the frame it takes, for handful.models.folder.save_folder."""
    return {
        "frame_hw": list(network.frame_hw),
        "color_order": "RGB",
        "dtype": "uint8",
        "layout": "NHWC",
        "before_the_graph": "squash the photo to frame_hw: bilinear, antialiased, aspect not kept",
        "in_the_graph": in_the_graph,
        **more,
        "mean": list(network.mean),
        "std": list(network.std),
    }


def said_of_padded_frame(network: Any) -> dict[str, Any]:
    """The same of one that pads its frame by padded_px."""
    how = "(x / 255 - mean) / std, zeros below and to the right by padded_px"
    return said_of_frame(network, how, padded_px=list(network.padded_px))


class Classifier(nn.Module):
    """Resize to a square, normalize, the bare network: a classifier as a phone takes it.

    forward: image (1, h, w, 3) uint8, RGB, h and w fixed by `frame_hw` -> scores (1, classes) float32, logits.
    core: the bare network; float32 normalized (n, 3, size_px, size_px) -> list of logits (n, classes): [main,
    *auxiliary] in training mode, [main] in eval mode. Raises DataError for a frame under 32 px.
    """

    input_names = ("image",)
    output_names = ("scores",)
    task = "classify"

    def __init__(
        self,
        core: nn.Module,
        *,
        frame_hw: tuple[int, int],
        size_px: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.frame_hw = check_frame(frame_hw)
        self.size_px, self.mean, self.std = size_px, mean, std
        self.resize = Resize(self.frame_hw, size_px)
        self.normalize = Normalize(mean, std)
        self.core = core

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        scores: torch.Tensor = self.core(self.normalize(self.resize(image.permute(0, 3, 1, 2).float())))[0]
        return scores

    def preprocessing(self) -> dict[str, Any]:
        """For handful.models.folder.save_folder."""
        how = f"average pooling by {self.resize.pool}, bilinear to {self.size_px}x{self.size_px} (half-pixel centers), "
        return said_of_frame(self, how + "then (x / 255 - mean) / std")
