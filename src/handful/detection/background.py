"""Background: examples of "none of these", taken from the proposals of the taught images that lie on no taught object.

Where every object of the taught classes is labeled, whatever else the proposer found is none of them. So "none of
these" has examples of its own, and even one taught class has something to be compared with.
As the negatives of DE-ViT (Zhang 2023, arXiv:2309.12969), refreshed for each detector.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handful.detection.fusion import iou
from handful.errors import DataError
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import Solution
from handful.pick import need

BACKGROUND_IOU = 0.3  # IoU with every taught or known box below which a proposed one is background
MAX_PER_IMAGE = 20  # the best so many; the proposer itself doubts the others
MAX_VECTORS = 640  # that the centers are found from
CENTERS = 32
FLOOR_MARGIN = 0.05  # a class must come within so much cosine of the nearest center


@dataclass(frozen=True, eq=False)
class Background:
    """Centers (c, dim) float64 of vectors of background."""

    centers: np.ndarray

    def cosine_floor(self, solution: Solution, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) -> (n,) float64: the cosine, in NEMO's whitened space, below which a class is rejected, as far as
        the background is concerned."""
        near = unit(vectors @ solution.whiten.T) @ unit(self.centers @ solution.whiten.T).T
        return np.asarray(near.max(axis=1, initial=-1.0) - FLOOR_MARGIN)


def cluster(vectors: np.ndarray) -> Background | None:
    """From (n, dim) vectors, at most CENTERS means by k-means, the same for the same rows in the same order; None from
    none."""
    rows = np.asarray(vectors, np.float64)
    if not len(rows):
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MAX_VECTORS, len(rows))).astype(np.int64))]
    if len(rows) <= CENTERS:
        return Background(rows)
    kmeans2 = need("scipy.cluster.vq", "teach").kmeans2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is left out
        centers, which = kmeans2(rows, CENTERS, iter=10, minit="++", seed=np.random.default_rng(0))
    return Background(centers[np.unique(which)])


def background_boxes(boxes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), best first, are background: their indices, at most MAX_PER_IMAGE. known: (m, 4)."""
    return np.flatnonzero((iou(known, boxes) < BACKGROUND_IOU).all(axis=0))[:MAX_PER_IMAGE]


@dataclass
class BackgroundBank:
    """Vectors of background by image and box, as a detector keeps them: (image, box) -> vector (dim,) float16."""

    held: dict[tuple[str, tuple[float, ...]], np.ndarray] = field(default_factory=dict)

    def add(self, image: str, boxes: np.ndarray, vectors: np.ndarray) -> None:
        """Of one image, (n, 4) px and (n, dim); what is there already is not there twice."""
        for box, vector in zip(boxes.tolist(), vectors.astype(np.float16), strict=True):
            self.held[image, tuple(box)] = vector

    def background(self, taught: Mapping[str, list[list[float]]]) -> Background | None:
        """As of now. taught: {image: its taught boxes}. A box that was taught after all, or of an image of which
        nothing is taught any more, does not count; so neither order nor unlearning leaves a trace."""
        rows = []
        for image in sorted({name for name, _ in self.held} & set(taught)):
            boxes = sorted(box for name, box in self.held if name == image)
            overlap = iou(np.array(taught[image]).reshape(-1, 4), np.array(boxes))
            free = np.atleast_1d((overlap < BACKGROUND_IOU).all(axis=0))
            rows += [self.held[image, box] for box, ok in zip(boxes, free.tolist(), strict=True) if ok]
        return cluster(np.stack(rows)) if rows else None

    def state(self, dim: int) -> tuple[dict[str, np.ndarray], list[str]]:
        """Tensors and the images' names, to be saved."""
        keys = sorted(self.held)
        vectors = np.stack([self.held[key] for key in keys]) if keys else np.zeros((0, dim), np.float16)
        boxes = np.array([box for _, box in keys], np.float64).reshape(-1, 4)
        return {"background": vectors, "background_boxes": boxes}, [image for image, _ in keys]

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], images: Any) -> BackgroundBank:
        """What `state` gave; empty from a detector of an older handful. Raises DataError when it does not fit."""
        if "background" not in tensors:
            return cls()
        vectors, boxes = tensors["background"], tensors["background_boxes"].tolist()
        if not len(vectors) == len(boxes) == len(images):
            raise DataError("the background has different numbers of vectors, boxes and images; teach the detector "
                            "again")  # fmt: skip
        keys = [(str(image), tuple(box)) for image, box in zip(images, boxes, strict=True)]
        return cls(dict(zip(keys, vectors, strict=True)))
