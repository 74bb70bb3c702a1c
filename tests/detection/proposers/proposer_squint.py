"""A proposer for tests that fits what it is shown into 128 px and sees bright patches of 4 px or more there; what lies
in a box is its mean color, and how large the box was shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from handful.detection.contract import Proposals
from handful.detection.proposer_nanodet import letterbox
from tests.detection.proposers.proposer_blobs import Gain

DESCRIPTION = "bright patches that are large enough"
SIDE_PX, LEAST_PX = 128, 4


class Squint:
    dim = 4
    side_px = SIDE_PX

    def __init__(self, focus: bool = False) -> None:
        self.network, self.focus = Gain(), focus
        self.about = {"name": "squint", "license": "none", "trained_on": "nothing", "params": 1, "sha256": "0"}
        self.shown: list[np.ndarray] = []

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        self.shown.append(rgb_u8)
        frame, factor, (left, top) = letterbox(rgb_u8, SIDE_PX)
        groups, _ = ndimage.label(frame.max(axis=2) > 60)
        raw = np.array([(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(groups)], np.float64)
        raw = raw.reshape(-1, 4)
        side = (raw[:, 2:] - raw[:, :2]).min(axis=1)
        clear = side >= LEAST_PX
        quality = np.minimum(0.9, 0.5 + side[clear] / 100)
        order = np.argsort(-quality, kind="stable")[:max_boxes]
        boxes = (raw[clear][order] - [left, top, left, top]) / factor
        boxes = np.clip(boxes, 0, [*rgb_u8.shape[1::-1], *rgb_u8.shape[1::-1]])
        chance = None
        if self.focus:  # it also says where something is that is too small for it
            high, wide = (max(1, round(side * factor / 4)) for side in rgb_u8.shape[:2])  # of the image alone
            chance = np.zeros((high, wide), np.float32)
            for x0, y0, x1, y1 in (raw[~clear] - [left, top, left, top]).clip(0).astype(int) // 4:
                chance[y0 : y1 + 1, x0 : x1 + 1] = 0.8

        def features(wanted: np.ndarray) -> np.ndarray:
            rows = []
            for box in np.asarray(wanted, np.float64).reshape(-1, 4) * factor + [left, top, left, top]:
                x0, y0, x1, y1 = (round(v) for v in box)
                part = frame[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)].reshape(-1, 3)
                rows.append([*part.mean(axis=0), np.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))])
            return np.array(rows, np.float32).reshape(-1, 4)

        return Proposals(boxes, quality[order], np.zeros(len(order), np.int64), features, chance)


def available() -> bool:
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Squint:
    return Squint()
