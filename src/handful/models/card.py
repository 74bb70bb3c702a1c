"""What must travel beside a network's weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Card:
    """Where a network comes from and what its input must look like.

    mean, std: per channel, red first, of pixel values scaled to 0..1. size_px: side of the square input.
    dim: length of the feature vector; signed: whether it goes below zero. license, weights, paper: of the
    pre-trained weights.
    """

    name: str
    network: str
    size_px: int
    dim: int
    signed: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    license: str
    weights: str
    weights_sha256: str | None
    paper: str

    def to_json(self) -> dict[str, Any]:
        """A plain object; `from_json` takes it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Card:
        """Rebuild from `to_json`."""
        return cls(**{**value, "mean": tuple(value["mean"]), "std": tuple(value["std"])})
