"""SigNet: a compact classifier of small images that trains fast on a CPU, with early exits: a cascade in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models import backbone
from handful.models.blocks import INITS, GlobalMean, initialize, width_of
from handful.models.preprocessing import LITE_MEAN, LITE_STD, Classifier, NetCard
from handful.pick import unknown

# for pictures of 32 px two pixels of shift are what works (Jordan, 2024)
AUGMENT = {
    "shift": 2 / 32, "scale": [1.0, 1.0], "rotate_deg": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0,
    "hue_deg": 0.0, "cutout": 0.25,
}  # fmt: skip
# ImageNet's edges and colors serve here too, and nothing has to be carried back through what does not learn
FROZEN = ["core.first", "core.act", "core.groups.0.0", "core.groups.0.1"]
CARD = NetCard(
    task="classify",
    what="whitening 2x2 convolution, three groups of two convolutions, max pooling, scaled linear head, early exits; "
    "or EfficientNet-Lite's stages as the groups",
    paper="Jordan 2024, 94% on CIFAR-10 in 3.29 seconds (airbench), arXiv:2404.00498; "
    "Teerapittayanon 2016, BranchyNet, arXiv:1709.01686",
    license="Apache-2.0",
    frame_hw=(32, 32),
    presets={"cascade": {"exits": 2}, "wide": {"width": 2.0}, "lite0": {"encoder": "lite0"}},
    # benchmarks/signet.py
    training={
        "": {
            "batch": 256,
            "lr": 0.4,
            "lr_bias": 32.0,
            "optimizer": "sgd",
            "momentum": 0.85,
            "weight_decay": 0.00133,
            "schedule": "cosine",
            "warmup": 0.2,
            "clip": None,
            "ema": 0.99,
            "loss": {"smoothing": 0.2},
            "augment": AUGMENT,
        },
        "lite0": {
            "batch": 128,
            "lr": 1e-3,
            "weight_decay": 0.02,
            "schedule": "cosine",
            "warmup": 0.1,
            "clip": None,
            "ema": 0.99,
            "loss": {"smoothing": 0.1},
            "augment": AUGMENT,
            "freeze": FROZEN,
        },
    },
)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CHANNELS = (32, 96, 160)
GROUPS = len(CHANNELS)
WHITE = 24  # both signs of the twelve values in a 2x2 patch of three colors
SCALE = 1 / 9
ACTS = {"gelu": nn.GELU, "relu": nn.ReLU}


class Group(nn.Sequential):
    """Convolution, halving, convolution: the first at the size that comes in, the second at half of it."""

    def __init__(self, inp: int, out: int, act: str) -> None:
        super().__init__(
            nn.Conv2d(inp, out, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            _norm(out),
            ACTS[act](),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            _norm(out),
            ACTS[act](),
        )


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm as Jordan has it: quick to follow the batches, its scale is not trained, its bias is."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Head(nn.Module):
    """Each channel's largest value or its mean, then a matrix, scaled: logits (n, classes)."""

    def __init__(self, pool: nn.Module, classify: nn.Linear, scale: float = 1.0) -> None:
        super().__init__()
        self.pool, self.classify, self.scale = pool, classify, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, classes)."""
        logits: torch.Tensor = self.classify(self.pool(x).flatten(1))
        return logits * self.scale if self.scale != 1 else logits


class Core(nn.Module):
    """See Classifier.core; auxiliary logits are the early exits', first to last.

    heads: by the number of the group they follow, so that a cut network finds its weights in the whole one's.
    """

    def __init__(
        self, classes: int, first: nn.Module, act: nn.Module, groups: Sequence[nn.Module], heads: Mapping[int, Head],
        *, whitens: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first: Any = first
        self.act = act
        self.whitens, self.classes = whitens, classes
        self.groups = nn.ModuleList(groups)
        self.heads = nn.ModuleDict({str(i): head for i, head in heads.items()})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Classifier.core."""
        y = self.act(self.first(x))
        early = []
        last = len(self.groups) - 1
        for i, group in enumerate(self.groups):
            y = group(y)
            if self.training and i < last and str(i) in self.heads:
                early.append(self.heads[str(i)](y))
        return [self.heads[str(last)](y), *early]

    def cascade(self, x: torch.Tensor, confidence: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Each image only as far as it needs: it leaves at the first exit whose softmax reaches `confidence` (0 to 1).

        x: as the core's -> logits (n, classes) float32, and the exit each image took, (n,) int64 from 0. Not for
        export: what runs depends on the image. A phone gets two files, built with cut=1 and cut=3.
        """
        logits = x.new_zeros((len(x), self.classes))
        took = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        rows = torch.arange(len(x), device=x.device)
        y = self.act(self.first(x))
        exits = list(self.heads)
        for i, group in enumerate(self.groups):
            y = group(y)
            if str(i) not in self.heads:
                continue
            found = self.heads[str(i)](y)
            logits[rows], took[rows] = found, exits.index(str(i))
            stay = F.softmax(found, dim=1).amax(dim=1) < confidence
            y, rows = y[stay], rows[stay]
            if not len(rows):
                break
        return logits, took

    @torch.no_grad()
    def whiten(self, images: torch.Tensor, epsilon: float = 5e-4) -> None:
        """Set the first layer to whiten 2x2 patches, and keep it so: its weights are no longer trained, its bias is.

        images: float32 (n, 3, h, w), normalized; a few thousand are enough. Raises DataError when the network was
        built with whiten=False, or when there are fewer than two images.
        """
        if not self.whitens:
            raise DataError("this network has no layer that whitens; build it with encoder='scratch', whiten=True")
        if images.ndim != 4 or images.shape[1] != 3 or len(images) < 2:
            raise DataError(f"whitening needs two images or more, (n, 3, h, w); got {tuple(images.shape)}")
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, WHITE // 2).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        scaled = vectors.T.reshape(-1, 3, 2, 2) / (values + epsilon).sqrt().reshape(-1, 1, 1, 1)
        self.first.weight.copy_(torch.cat([scaled, -scaled]).to(self.first.weight.dtype))
        self.first.weight.requires_grad_(False)


def build(
    classes: int,
    *,
    frame_hw: tuple[int, int] = (32, 32),
    encoder: str = "scratch",
    width: float = 1.0,
    exits: int = 0,
    cut: int = GROUPS,
    whiten: bool = True,
    act: str = "gelu",
    init: str = "dirac",
    size_px: int | None = None,
    pretrained: bool = True,
) -> Classifier:
    """SigNet for 2 classes or more.

    encoder: "scratch", Jordan's three groups, or "lite0" ("lite1", "lite2"): EfficientNet-Lite with ImageNet weights
    unless pretrained=False, its stages down to strides 8, 16 and 32 as the three groups. size_px: side of the square
    the frame is resized to, 32, and for a pre-trained encoder 96, since it knows nothing so small as a frame of 32.
    exits: 0 to 2 early heads, before the last group and before the last two; their logits are the auxiliary ones in
    training mode. cut: keep only the first 1 to 3 groups, with a head behind the last kept: the cascade's small
    network, which takes the larger one's weights by name.
    Of encoder="scratch" alone: width: times the channels of all groups. whiten: a 2x2 first layer, which `core.whiten`
    sets from images; else 3x3. act: gelu or relu. init: dirac (each convolution starts by handing its input on), he,
    xavier or default; size_px is 32. Raises DataError, UnknownName or MissingPackage.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise DataError(f"classification needs at least two classes, got {classes!r}")
    for name, value, least, most in (("exits", exits, 0, 2), ("cut", cut, 1, GROUPS)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise DataError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
    fixed: dict[str, tuple[Any, Any]] = (
        {"size_px": (size_px or 32, 32)}
        if encoder == "scratch"
        else {"width": (width, 1.0), "whiten": (whiten, True), "act": (act, "gelu"), "init": (init, "dirac")}
    )
    for name, (value, wanted) in fixed.items():
        if value != wanted:
            raise DataError(f"{name}={value!r} is not for encoder={encoder!r}; leave it out")
    if encoder in backbone.LITE:
        core = _lite(encoder, classes, exits, cut, pretrained)
        return Classifier(core, frame_hw=frame_hw, size_px=size_px or 96, mean=LITE_MEAN, std=LITE_STD).eval()
    if encoder != "scratch":
        raise unknown("encoder", encoder, ("scratch", *backbone.LITE))
    core = _scratch(classes, [width_of(c, width) for c in CHANNELS], exits, cut, whiten, act, init)
    return Classifier(core, frame_hw=frame_hw, size_px=32, mean=CIFAR_MEAN, std=CIFAR_STD).eval()


def _exits(exits: int, cut: int) -> list[int]:
    """The groups that a head follows."""
    return [i for i in range(cut) if i == cut - 1 or i >= GROUPS - 1 - exits]


def _scratch(classes: int, channels: Sequence[int], exits: int, cut: int, whiten: bool, act: str, init: str) -> Core:
    if act not in ACTS:
        raise unknown("act", act, ACTS)
    if init not in ("dirac", *INITS):
        raise unknown("init", init, ("dirac", *INITS))
    inp = WHITE if whiten else channels[0]
    # without padding 32 becomes 31, and the halvings end at 15, 7 and 3
    first = nn.Conv2d(3, inp, 2 if whiten else 3, padding=0 if whiten else 1, bias=True)
    given = [inp, *channels[:-1]]
    groups = [Group(i, o, act) for i, o in zip(given[:cut], channels[:cut], strict=True)]
    heads = {
        i: Head(
            nn.MaxPool2d((31 if whiten else 32) // 2 ** (i + 1)), nn.Linear(channels[i], classes, bias=False), SCALE
        )
        for i in _exits(exits, cut)
    }
    core = Core(classes, first, ACTS[act](), groups, heads, whitens=whiten)
    if init != "dirac":
        initialize(core.groups, init)
    else:
        for layer in core.groups.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight[: layer.in_channels].data)
    return core


def _lite(name: str, classes: int, exits: int, cut: int, pretrained: bool) -> Core:
    whole: Any = backbone.imagenet_classifier(name, pretrained=pretrained)
    blocks = list(whole.blocks)
    groups = [
        nn.Sequential(*blocks[:3]), nn.Sequential(*blocks[3:5]), nn.Sequential(*blocks[5:], whole.conv_head, whole.bn2)
    ]  # fmt: skip
    channels = [blocks[2][-1].conv_pwl.out_channels, blocks[4][-1].conv_pwl.out_channels, whole.num_features]
    heads = {i: Head(GlobalMean(), nn.Linear(channels[i], classes)) for i in _exits(exits, cut)}
    return Core(classes, whole.conv_stem, whole.bn1, groups[:cut], heads)
