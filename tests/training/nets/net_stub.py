"""A tiny segmentation network with everything that training must keep: batch norm, dropout, auxiliary logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from handful.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, NetCard
from handful.models.segmenter import Segmenter

CARD = NetCard(task="segment", what="a stub", paper="none", license="Apache-2.0", frame_hw=(32, 48),
               presets={"wide": {"width": 8}})  # fmt: skip


class Core(nn.Module):
    stride = output_stride = 2

    def __init__(self, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(dropout)
        )
        self.middle = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.head, self.auxiliary = nn.Conv2d(width, classes, 1), nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        deep = self.middle(below := self.encoder(x))
        return [self.head(deep), self.auxiliary(below)] if self.training else [self.head(deep)]


def build(
    classes: int, *, frame_hw: Any = (32, 48), width: int = 4, dropout: float = 0.1, pretrained: bool = True
) -> Segmenter:
    core = Core(classes, width, dropout)
    return Segmenter(core, frame_hw=tuple(frame_hw), mean=IMAGENET_MEAN, std=IMAGENET_STD).eval()
