"""What lies in a box, as one vector that NEMO learns from: what the proposer's maps hold there, and the crop itself.

The maps cost nothing more (they were made to find the box); the crop, enlarged and run through an ImageNet network,
sees details the maps have lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.detection.contract import Proposals, Proposer, glance, inside_photo
from handful.errors import DataError
from handful.fewshot.embeddings import FrontEnd, standard_front_end, unit
from handful.files import read_tensors
from handful.image import fit

BASE = Path(__file__).parent / "base"
SIDE_PX = 160
MARGIN = 0.1
LEAST_PX = 2
AT_ONCE = 16


@dataclass(frozen=True)
class CropSettings:
    """How a box becomes a vector. backbone: of the crops, None for none. side_px: of the square a crop is squashed to;
    margin: how much of the box's width and height is added on each side. share: of the proposer's features in the
    vector's squared length, 0 to 1; the crop has the rest."""

    backbone: str | None = "lite0"
    side_px: int = SIDE_PX
    margin: float = MARGIN
    share: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise DataError(f"share is {self.share}; wanted 0 (crops alone) to 1 (the proposer's features alone)")
        if self.backbone is None and self.share < 1:
            raise DataError(f"without a backbone there are no crops to look at; wanted share=1, got {self.share}")
        if self.side_px < 32 or not 0 <= self.margin <= 2:
            raise DataError(f"side_px is {self.side_px} and margin {self.margin}; wanted 32 px or more, and 0 to 2")


def eye_front_end(name: str, dim: int) -> FrontEnd:
    """The constants for a proposer's features: measured ones where handful has them, neutral ones for any other."""
    path = BASE / f"{name}.safetensors"
    if path.exists():
        held = read_tensors(path)
        return FrontEnd(held["centre"].astype(np.float32), held["projection"].astype(np.float32))
    return FrontEnd(np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32))


class BoxEmbedder:
    """Boxes of a photo to vectors of length 1.

    dim: their length in numbers. name: of all that shapes them, so that what was learned from one kind of vector is
    never asked about another.
    """

    def __init__(
        self, proposer: Proposer, how: CropSettings | None = None, state: Mapping[str, Any] | None = None
    ) -> None:
        """state: {parameter: tensor} of the backbone, instead of its own weights."""
        from handful.models import backbone as backbones

        self.how, self.proposer = how or CropSettings(), proposer
        share = self.how.share
        if share and not proposer.dim:
            raise DataError(f"{proposer.about.get('name')} has no features of its own; wanted share=0, got {share}")
        self.backbone: Any = None
        if self.how.backbone and share < 1:
            self.backbone = backbones.build(self.how.backbone, pretrained=state is None)
            if state is not None:
                self.backbone.load_state_dict(dict(state))
        self.of_crop = standard_front_end(self.backbone.card) if self.backbone is not None else None
        self.of_eye = eye_front_end(str(proposer.about.get("name")), proposer.dim) if share else None
        self.dim = sum(front.rank for front in (self.of_eye, self.of_crop) if front is not None)
        # the class was called Look when the first detectors were taught, and their features bear this digest
        crop = str(self.how).replace(type(self.how).__name__, "Look", 1)
        told = [crop, proposer.about.get("name"), proposer.about.get("sha256")]
        told += (
            [f"{proposer.about['scales']} scales"] if proposer.about.get("scales") else []
        )  # other scales, other features
        told += [front.digest for front in (self.of_eye, self.of_crop) if front is not None]
        digest = hashlib.sha256(repr(told).encode()).hexdigest()[:12]
        self.name = f"{proposer.about.get('name')} and {self.how.backbone} {digest}"

    def vectors(self, rgb_u8: np.ndarray, boxes: np.ndarray, seen: Proposals) -> np.ndarray:
        """(n, dim) float64 rows of length 1. rgb_u8: (h, w, 3) uint8; boxes: (n, 4) px of the photo; seen: what the
        proposer saw in it. Raises DataError for a box that lies outside the photo."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        cut, there = inside_photo(boxes, (rgb_u8.shape[1], rgb_u8.shape[0]))
        if not there.all():
            raise DataError(f"the box {boxes[int(np.argmin(there))].tolist()} lies outside the photo of "
                            f"{rgb_u8.shape[1]}x{rgb_u8.shape[0]} px, or has no area")  # fmt: skip
        parts, share = [], self.how.share
        if self.of_eye is not None:
            parts.append(np.sqrt(share) * self.of_eye(seen.features(cut)))
        if self.of_crop is not None:
            parts.append(np.sqrt(1 - share) * self.of_crop(self._crop_features(rgb_u8, cut)))
        return unit(np.concatenate(parts, 1)) if len(cut) else np.zeros((0, self.dim))

    def both_ways(self, rgb_u8: np.ndarray, boxes: np.ndarray, seen: Proposals | None = None) -> np.ndarray:
        """The same of each box and of its mirror image, in the mirrored photo, averaged: for the boxes somebody gives,
        to learn from as ONE sample or to be told what they are. It costs two looks."""
        width = rgb_u8.shape[1]
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        turned = np.ascontiguousarray(rgb_u8[:, ::-1])
        other = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        plain = self.vectors(rgb_u8, boxes, seen or glance(self.proposer, rgb_u8))
        return unit((plain + self.vectors(turned, other, glance(self.proposer, turned))) / 2)

    def _crop_features(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        import torch

        frames = crops(rgb_u8, boxes, self.how.side_px, self.how.margin)
        card, rows = self.backbone.card, []
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (card.mean, card.std))
        with torch.inference_mode():
            for start in range(0, len(frames), AT_ONCE):
                x = torch.from_numpy(frames[start : start + AT_ONCE]).permute(0, 3, 1, 2).float()
                x = ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
                rows.append(self.backbone(x).numpy())
        return np.concatenate(rows) if rows else np.zeros((0, card.dim), np.float32)


def crops(rgb_u8: np.ndarray, boxes: np.ndarray, side_px: int, margin: float) -> np.ndarray:
    """(n, side_px, side_px, 3) uint8: what lies in each box and around it, cut at the photo's edges, squashed to a
    square (bilinear, antialiased)."""
    height, width = rgb_u8.shape[:2]
    out = np.empty((len(boxes), side_px, side_px, 3), np.uint8)
    more = (boxes[:, 2:] - boxes[:, :2]) * margin
    low = np.floor(np.maximum(boxes[:, :2] - more, 0)).astype(np.int64)
    high = np.ceil(np.minimum(boxes[:, 2:] + more, [width, height])).astype(np.int64)
    for i in range(len(boxes)):
        left, right = _at_least(int(low[i, 0]), int(high[i, 0]), width)
        top, bottom = _at_least(int(low[i, 1]), int(high[i, 1]), height)
        out[i] = fit(rgb_u8[top:bottom, left:right], (side_px, side_px))
    return out


def _at_least(low: int, high: int, size: int) -> tuple[int, int]:
    wanted = min(LEAST_PX, size)
    low = min(low, size - wanted)
    return low, max(high, low + wanted)
