"""A proposer for tests: bright patches on a dark ground; what lies in a box is its mean color."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from handful.detection.contract import Proposals

DESCRIPTION = "bright patches"


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Blobs:
    dim = 6

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.network = Gain()
        if state is not None:
            self.network.load_state_dict(dict(state))
        self.about = {"name": "blobs", "license": "none", "trained_on": "nothing", "params": 1, "sha256": "0"}

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        groups, _ = ndimage.label(rgb_u8.max(axis=2) > 100)
        found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(groups)]
        boxes = np.array(found, np.float64).reshape(-1, 4)
        size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        quality = np.where(size >= 16, 0.9, 0.1)
        order = np.argsort(-quality, kind="stable")[:max_boxes]

        def features(wanted: np.ndarray) -> np.ndarray:
            rows = [rgb_u8[int(t) : int(np.ceil(b)), int(l) : int(np.ceil(r))].reshape(-1, 3).mean(axis=0) - 128
                    for l, t, r, b in wanted]  # noqa: E741  # fmt: skip
            mean = np.array(rows, np.float32).reshape(-1, 3)
            return np.concatenate([mean, mean**2 / 128 - 40], axis=1) * self.network.weight.item()

        return Proposals(boxes[order], quality[order], np.zeros(len(order), np.int64), features)


def available() -> bool:
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Blobs:
    return Blobs(state)
