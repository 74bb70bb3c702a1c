"""Box embeddings: each box of an image as one vector that NEMO learns from.

A vector joins the proposer's feature maps in the box with features of the crop. The maps cost nothing more, for they
were made to find the box. The crop, enlarged and run through an ImageNet network, has details that the maps have lost.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from handful import engine
from handful.detection.contract import Proposals, Proposer, clip_to_image, encode
from handful.detection.crops import LEAST_IOU, crop_boxes, share_crops
from handful.errors import DataError
from handful.fewshot.front_end import FrontEnd, standard_front_end, unit
from handful.files import read_tensors
from handful.models import lite
from handful.pick import unknown
from handful.threads import asked, inference

BASE = Path(__file__).parent / "base"
SIDE_PX = 160
MARGIN = 0.1
BATCH = 16
# boxes of an image that are scored, and crops of it; benchmarks/modes.py
MODES: dict[str, tuple[int, int | None]] = {"accurate": (100, 30), "fast": (50, 4), "every_box": (100, None)}


@dataclass(frozen=True)
class CropSettings:
    """How a box becomes a vector. backbone: of the crops, None for no crops. side_px: of the square a crop is resized
    to; margin: the share of the box's width and height that is added on each side. share: of the proposer's features in
    the vector's squared length, 0 to 1; the crop has the rest. max_boxes: of an image that are scored. max_crops: of
    its proposals, which share them (crops.share_crops); None for one a box. Boxes to learn always have their own."""

    backbone: str | None = "lite0"
    side_px: int = SIDE_PX
    margin: float = MARGIN
    share: float = 0.4
    # not in repr: features of a taught box are the same in every mode, and so is their name
    max_boxes: int = field(default=MODES["accurate"][0], repr=False)
    max_crops: int | None = field(default=MODES["accurate"][1], repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise DataError(f"share is {self.share}; wanted 0 (crops alone) to 1 (the proposer's features alone)")
        if self.backbone is None and self.share < 1:
            raise DataError(f"without a backbone there are no crops; wanted share=1, got {self.share}")
        if self.side_px < 32 or not 0 <= self.margin <= 2:
            raise DataError(f"side_px is {self.side_px} and margin {self.margin}; wanted 32 px or more, and 0 to 2")
        if self.max_boxes < 1 or (self.max_crops is not None and self.max_crops < 1):
            raise DataError(f"max_boxes is {self.max_boxes} and max_crops {self.max_crops}; wanted 1 or more of each, "
                            "or None for a crop a box")  # fmt: skip

    @property
    def mode(self) -> str:
        """The name in MODES, "" for other numbers."""
        own = (self.max_boxes, self.max_crops)
        return next((name for name, numbers in MODES.items() if numbers == own), "")

    def at(self, mode: str) -> CropSettings:
        """The same in a mode. Raises UnknownName."""
        if mode not in MODES:
            raise unknown("mode", mode, list(MODES))
        max_boxes, max_crops = MODES[mode]
        return replace(self, max_boxes=max_boxes, max_crops=max_crops)


def crop_settings(backbone: str | None, mode: str | None) -> CropSettings | None:
    """What somebody asked for, by the name of a backbone and of a mode; None for nothing. Raises UnknownName."""
    if backbone is None and mode is None:
        return None
    own = CropSettings() if backbone is None else CropSettings(backbone=backbone)
    return own if mode is None else own.at(mode)


def proposer_front_end(name: str, dim: int) -> FrontEnd:
    """The constants for a proposer's features: measured ones where handful ships them, neutral ones for any other."""
    path = BASE / f"{name}.safetensors"
    if path.exists():
        held = read_tensors(path)
        return FrontEnd(held["centre"].astype(np.float32), held["projection"].astype(np.float32))
    return FrontEnd(np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32))


class BoxEmbedder:
    """Boxes of an image to vectors of length 1.

    dim: their length in numbers. name: of all that shapes them, so that NEMO is never given vectors of another kind
    than it has learned from.
    """

    def __init__(
        self, proposer: Proposer, settings: CropSettings | None = None, state: Mapping[str, Any] | None = None
    ) -> None:
        """state: {parameter: tensor} of the backbone, instead of its own weights."""
        from handful.models import backbone as backbones

        self.settings, self.proposer = settings or CropSettings(), proposer
        self._wanted, self._lock = engine.wanted(), threading.Lock()
        self._run: Callable[[np.ndarray], np.ndarray] | None = None
        share = self.settings.share
        if share and not proposer.dim:
            raise DataError(f"{proposer.about.get('name')} has no features of its own; wanted share=0, got {share}")
        self.backbone: Any = None
        if self.settings.backbone and share < 1:
            self.backbone = backbones.build(self.settings.backbone, pretrained=state is None)
            if state is not None:
                self.backbone.load_state_dict(dict(state))
        self.crop_front_end = standard_front_end(self.backbone.card) if self.backbone is not None else None
        self.proposer_front_end = proposer_front_end(str(proposer.about.get("name")), proposer.dim) if share else None
        self.dim = sum(front.rank for front in (self.proposer_front_end, self.crop_front_end) if front is not None)
        # the class was called Look when the first detectors were taught; this digest in their names must stay the same
        crop = str(self.settings).replace(type(self.settings).__name__, "Look", 1)
        parts = [crop, proposer.about.get("name"), proposer.about.get("sha256")]
        if proposer.about.get("scales"):  # features of other scales are other features
            parts.append(f"{proposer.about['scales']} scales")
        parts += [front.digest for front in (self.proposer_front_end, self.crop_front_end) if front is not None]
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
        self.name = f"{proposer.about.get('name')} and {self.settings.backbone} {digest}"

    def embed(self, rgb_u8: np.ndarray, boxes: np.ndarray, proposals: Proposals) -> np.ndarray:
        """(n, dim) float64 rows of length 1. rgb_u8: (h, w, 3) uint8 RGB; boxes: (n, 4) px of the image; proposals: of
        this image. Raises DataError for a box that lies outside the image."""
        return self._embed(rgb_u8, boxes, proposals, None)

    def embed_proposals(self, rgb_u8: np.ndarray, proposals: Proposals) -> np.ndarray:
        """As `embed`, the max_boxes best proposals of an image, with max_crops crops at most. A box too far from all of
        them has the proposer's features alone."""
        boxes = proposals.xyxy_px[: self.settings.max_boxes]
        return self._embed(rgb_u8, boxes, proposals, self.settings.max_crops)

    def _embed(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, proposals: Proposals, max_crops: int | None
    ) -> np.ndarray:  # fmt: skip
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        cut, there = clip_to_image(boxes, (rgb_u8.shape[1], rgb_u8.shape[0]))
        if not there.all():
            raise DataError(f"the box {boxes[int(np.argmin(there))].tolist()} lies outside the image of "
                            f"{rgb_u8.shape[1]}x{rgb_u8.shape[0]} px, or has no area")  # fmt: skip
        parts, share = [], self.settings.share
        if self.proposer_front_end is not None:
            parts.append(np.sqrt(share) * self.proposer_front_end(proposals.features(cut)))
        if self.crop_front_end is not None:
            if max_crops is None:
                seen = self.crop_front_end(self._crop_features(rgb_u8, cut))
            else:  # without the proposer's features a box needs some crop
                own, taken = share_crops(cut, max_crops, LEAST_IOU if share else 0.0)
                seen = self.crop_front_end(self._crop_features(rgb_u8, cut[own]))
                seen = np.where(taken[:, None] < 0, 0.0, seen[taken])
            parts.append(np.sqrt(1 - share) * seen)
        return unit(np.concatenate(parts, 1)) if len(cut) else np.zeros((0, self.dim))

    def embed_flip_averaged(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, proposals: Proposals | None = None
    ) -> np.ndarray:
        """As `embed`, averaged over each box and its mirror image in the mirrored image: for boxes that somebody gives,
        to be learned as ONE sample or to be classified. The proposer runs twice."""
        width = rgb_u8.shape[1]
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        flipped = np.ascontiguousarray(rgb_u8[:, ::-1])
        mirrored = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        if proposals is None:
            proposals = encode(self.proposer, rgb_u8)
        plain = self.embed(rgb_u8, boxes, proposals)
        return unit((plain + self.embed(flipped, mirrored, encode(self.proposer, flipped))) / 2)

    def on_torch(self) -> BoxEmbedder:
        """The same with its crops on PyTorch, whichever engine this one uses."""
        other = copy.copy(self)
        other._run = other._on_torch
        return other

    def _crop_features(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        frames = crop_boxes(rgb_u8, boxes, self.settings.side_px, self.settings.margin)
        if not len(frames):
            return np.zeros((0, self.backbone.card.dim), np.float32)
        run = self._run
        if run is None:
            with self._lock:
                run = self._run = self._run or engine.choose(
                    self._wanted, self._on_onnxruntime if self.settings.backbone in lite.LITE else None,
                    lambda: self._on_torch, str(self.settings.backbone),
                )  # fmt: skip
        return np.concatenate([run(frames[start : start + BATCH]) for start in range(0, len(frames), BATCH)])

    def _on_onnxruntime(self) -> Callable[[np.ndarray], np.ndarray]:
        state = {name: value.cpu().numpy() for name, value in self.backbone.state_dict().items()}
        side = self.settings.side_px
        model = lite.onnx(state, replace(self.backbone.card, size_px=side), (side, side))
        session = engine.onnx_session(model, asked() or 1)
        return lambda frames: np.asarray(session.run(None, {"image": np.ascontiguousarray(frames)})[0])

    def _on_torch(self, frames: np.ndarray) -> np.ndarray:
        import torch

        card = self.backbone.card
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (card.mean, card.std))
        with inference():
            x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
            x = ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            return np.asarray(self.backbone(x).numpy())
