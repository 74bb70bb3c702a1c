"""Boxes of NanoDet-g, trained on COCO, its 80 classes thrown away: the default where its weights have been fetched.

What it knows of classes is left out of the boxes' quality (the largest of the 80 scores, whichever it is), but not of
its features, which have seen COCO's classes, as those of the 2018 report's detector had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from handful.data.photos import fit
from handful.detect.contract import Seen, inside_photo
from handful.detect.fusion import apart
from handful.detect.roi import pooled
from handful.models import fetch
from handful.models.nanodet import CHANNELS, MEAN_BGR, NECK, SIDE_PX, STD_BGR, STRIDES, NanoDet

WHAT = "NanoDet-g trained on COCO, classes thrown away (handful weights get nanodet)"
NAME = "nanodet"
OVERLAP = 0.8  # boxes that share more are one thing; things in a row share less
FIRST = 1000


def here() -> bool:
    """As handful.detect.contract.Proposals."""
    return fetch.here(NAME)


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Nanodet:
    """As handful.detect.contract.Proposals."""
    if state is None or about is None:
        held, about = fetch.load(NAME)
        state = {key: torch.from_numpy(value) for key, value in held.items()}
    network = NanoDet()
    network.load_state_dict(dict(state))
    return Nanodet(network.eval(), about)


class Nanodet:
    """See handful.detect.contract.Eye."""

    side_px = SIDE_PX
    # the two deeper maps of the backbone know what a thing is, the neck's three also how large it is
    maps = (1, 2, 3, 4, 5)

    def __init__(self, network: NanoDet, about: Mapping[str, Any]) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.dim = sum((*CHANNELS, NECK, NECK, NECK)[i] for i in self.maps)
        keys = ("name", "what", "paper", "licence", "trained_on", "sha256")
        self.about = {**{key: about.get(key) for key in keys}, "params": sum(p.numel() for p in network.parameters())}
        self._mean, self._std = np.array(MEAN_BGR, np.float32), np.array(STD_BGR, np.float32)

    def look(self, rgb_u8: np.ndarray, most: int = 100) -> Seen:
        """As Eye."""
        frame, factor, left_top = letterbox(rgb_u8, SIDE_PX)
        x = (frame[:, :, ::-1].astype(np.float32) - self._mean) / self._std
        with torch.inference_mode():
            given = torch.from_numpy(x.transpose(2, 0, 1)[None]).contiguous(memory_format=torch.channels_last)
            scores, boxes, maps = self.network(given)
        quality, raw = scores[0].amax(1).numpy().astype(np.float64), boxes[0].numpy().astype(np.float64)
        first = np.argsort(-quality, kind="stable")[:FIRST]
        offset = np.array([*left_top, *left_top])
        height, width = rgb_u8.shape[:2]
        whole, there = inside_photo((raw[first] - offset) / factor, (width, height))
        whole, first = whole[there], first[there]
        stays = apart(whole, quality[first], OVERLAP)[:most]
        kept = [maps[i] for i in self.maps]

        def features(wanted: np.ndarray) -> np.ndarray:
            on_frame = np.asarray(wanted, np.float64).reshape(-1, 4) * factor + offset
            return pooled(kept, on_frame, [(*STRIDES, *STRIDES)[i] for i in self.maps])

        return Seen(whole[stays], quality[first][stays], np.zeros(len(stays), np.int64), features)


def letterbox(rgb_u8: np.ndarray, side_px: int) -> tuple[np.ndarray, float, tuple[float, float]]:
    """A photo shrunk or enlarged until it fits into a black square, in its middle.

    Returns the square (side_px, side_px, 3) uint8, px of the square for one px of the photo, and (left, top) of the
    photo in it.
    """
    height, width = rgb_u8.shape[:2]
    factor = side_px / max(height, width)
    high, wide = max(1, min(side_px, round(height * factor))), max(1, min(side_px, round(width * factor)))
    left, top = (side_px - wide) // 2, (side_px - high) // 2
    frame = np.zeros((side_px, side_px, 3), np.uint8)
    frame[top : top + high, left : left + wide] = fit(rgb_u8, (high, wide))
    return frame, factor, (float(left), float(top))
