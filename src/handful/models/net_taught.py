"""A taught model as one ordinary network: uint8 RGB frame in, class scores and a "none of these" score out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models import backbone as backbones
from handful.models.preprocessing import NetCard, Normalize, Resize

CARD = NetCard(
    task="classify",
    what="a backbone and NEMO's head: taught from a handful of images, without gradients",
    paper="see the backbone's own card and handful.fewshot.nemo",
    license="Apache-2.0 (code); weights as the backbone's own card says",
)


class TaughtNet(nn.Module):
    """Resize, normalize, backbone, NEMO head: everything a phone needs, with nothing to redo by hand.

    forward: image (1, h, w, 3) uint8, RGB, h and w fixed by `frame_hw` -> scores (1, k + 1) float32, in nats:
    one a class, in order of name, and the last for "none of these". The answer is the largest; softmax turns
    them into probabilities.
    """

    input_names = ("image",)
    output_names = ("scores",)

    def __init__(self, backbone: backbones.Backbone, classes: int, frame_hw: tuple[int, int], rank: int) -> None:
        super().__init__()
        if classes < 1:
            raise DataError(f"a taught model needs at least one class, got {classes}")
        if min(frame_hw) < 32:
            raise DataError(f"the frame must be at least 32 px a side, got {frame_hw[0]}x{frame_hw[1]}")
        self.frame_hw = (int(frame_hw[0]), int(frame_hw[1]))
        self.resize = Resize(self.frame_hw, backbone.card.size_px)
        self.normalize = Normalize(backbone.card.mean, backbone.card.std)
        self.backbone = backbone
        self.head = Head(backbone.card.dim, rank, classes, signed=backbone.card.signed)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        scores: torch.Tensor = self.head(self.features(image))
        return scores

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """(n, h, w, 3) uint8 -> (n, d) float32: the backbone's features, which NEMO learns from."""
        x = self.normalize(self.resize(image.permute(0, 3, 1, 2).float()))
        features: torch.Tensor = self.backbone(x)
        return features


class Head(nn.Module):
    """NEMO's constants as layers: square root, whitening, length 1, cosine to each class.

    The front end of handful.fewshot.embeddings (centre, projection) and the whitening are one linear map, so they are
    one layer here. signed: the backbone's features go below zero, so the root keeps the sign.
    """

    def __init__(self, dim: int, rank: int, classes: int, *, signed: bool) -> None:
        super().__init__()
        self.signed = signed
        self.whiten = nn.Linear(dim, rank)
        self.classify = nn.Linear(rank, classes + 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        root = torch.sqrt(F.relu(features))
        if self.signed:  # written so that no runtime needs a sign() of its own
            root = root - torch.sqrt(F.relu(-features))
        white = self.whiten(root)
        length = torch.sqrt(torch.sum(white * white, dim=1, keepdim=True) + 1e-12)
        scores: torch.Tensor = self.classify(white / length)
        return scores


def build(classes: int, *, backbone: str, frame_hw: tuple[int, int], rank: int, pretrained: bool = True) -> TaughtNet:
    """A taught network with an untaught head; pretrained=False when its weights are loaded next."""
    return TaughtNet(backbones.build(backbone, pretrained=pretrained), classes, frame_hw, rank).eval()
