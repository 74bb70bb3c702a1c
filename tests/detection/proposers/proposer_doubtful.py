"""A proposer for tests that finds what proposals_blobs finds, and is sure of nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from handful.detection.contract import Proposals
from tests.detection.proposers.proposer_blobs import Blobs

DESCRIPTION = "bright patches, doubted"


class Doubtful(Blobs):
    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(state)
        self.about = {**self.about, "name": "doubtful"}

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        seen = super().propose(rgb_u8, max_boxes)
        return replace(seen, quality=seen.quality * 0.12)


def available() -> bool:
    return True


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Doubtful:
    return Doubtful(state)
