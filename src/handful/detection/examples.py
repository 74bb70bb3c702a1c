"""The boxes that a detector was taught, kept to explain its answers by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Examples:
    """What was taught, to explain detections by: vectors (n, dim) float16, labels, names of images, boxes (n, 4) px."""

    vectors: list[np.ndarray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def add(self, vectors: np.ndarray, labels: Sequence[str], image: str, boxes: np.ndarray) -> None:
        """Of one image."""
        self.vectors += list(vectors.astype(np.float16))
        self.labels += list(labels)
        self.images += [image] * len(labels)
        self.boxes += np.asarray(boxes, np.float64).tolist()

    def drop(self, index: int) -> None:
        """Leave one out."""
        for held in (self.vectors, self.labels, self.images, self.boxes):
            del held[index]  # type: ignore[attr-defined]

    def by_image(self) -> dict[str, list[list[float]]]:
        """{image: its taught boxes}."""
        found: dict[str, list[list[float]]] = {}
        for image, box in zip(self.images, self.boxes, strict=True):
            found.setdefault(image, []).append(box)
        return found
