"""Boxes of things of any kind, by handful's own network, whose weights come with it.

See handful.models.net_objectness for the network, weights/objectness.json for what it saw (tools/make_objectness.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data.photos import fit
from handful.detect.contract import Seen, inside_photo
from handful.detect.roi import pooled
from handful.errors import DataError
from handful.files import read_json, read_tensors, sha256
from handful.models import net_objectness

WHAT = "handful's own, for things of any kind: EfficientNet-Lite0, comes with handful"
NAME = "objectness"
WEIGHTS = Path(__file__).parent / "weights" / "objectness.safetensors"
KEPT = ("name", "what", "paper", "licence", "trained_on", "sha256", "frame_hw", "params")


def here() -> bool:
    """As handful.detect.contract.Proposals."""
    return WEIGHTS.exists()


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Objectness:
    """As handful.detect.contract.Proposals."""
    if state is None or about is None:
        if not WEIGHTS.exists():
            raise DataError(f"{WEIGHTS} is absent; reinstall handful, or make it: python tools/make_objectness.py")
        card = read_json(WEIGHTS.with_suffix(".json"))
        if sha256(WEIGHTS) != card.get("sha256"):
            raise DataError(f"{WEIGHTS} is not the file that came with handful; reinstall it")
        state = {key: torch.from_numpy(value) for key, value in read_tensors(WEIGHTS).items()}
        about = {
            **card, "name": NAME, "what": net_objectness.CARD.what, "paper": net_objectness.CARD.paper,
            "licence": "Apache-2.0",
        }  # fmt: skip
    network = net_objectness.build(frame_hw=tuple(about["frame_hw"]), pretrained=False)
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return Objectness(network.eval(), about)


class Objectness:
    """See handful.detect.contract.Eye. Photos are squashed to the network's square."""

    def __init__(self, network: net_objectness.Objectness, about: Mapping[str, Any]) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        neck: Any = network.core.backbone
        # the encoder's two deeper maps know what a thing is, the neck's how large it is
        self.dim = sum(neck.encoder.channels[-2:]) + 3 * neck.out_channels
        self.strides = (16, 32, *neck.strides[:3])
        self.about = {key: about.get(key) for key in KEPT}

    def look(self, rgb_u8: np.ndarray, most: int = 100) -> Seen:
        """As Eye."""
        core: Any = self.network.core
        height, width = rgb_u8.shape[:2]
        high, wide = self.network.frame_hw
        frame = torch.from_numpy(np.ascontiguousarray(fit(rgb_u8, (high, wide))))
        with torch.inference_mode():
            x = self.network.normalise(frame.permute(2, 0, 1)[None].float())
            encoded = core.backbone.encoder(x.contiguous(memory_format=torch.channels_last))[-3:]
            maps = core.backbone.joined(encoded)
            found, focus = core.seen(maps, x.new_tensor([wide, high] * 2))
        ratio = np.array([width / wide, height / high] * 2)
        boxes, there = inside_photo(found["boxes"].numpy().astype(np.float64) * ratio, (width, height))
        quality = np.clip(found["scores"].numpy().astype(np.float64), 0.0, 1.0)
        boxes, quality = boxes[there][:most], quality[there][:most]
        kept = [*encoded[-2:], *maps[:3]]

        def features(wanted: np.ndarray) -> np.ndarray:
            on_frame = np.asarray(wanted, np.float64).reshape(-1, 4) / ratio
            return pooled(kept, on_frame, self.strides)

        chance = focus[0].sigmoid().numpy().astype(np.float32)
        return Seen(boxes, quality, np.zeros(len(boxes), np.int64), features, chance)
