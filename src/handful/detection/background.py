"""What is none of the taught classes, learned for nothing: proposed boxes of taught photos that lie on no taught thing.

Where every thing of the taught classes is marked, whatever else the proposer found there is not one of them. So "none
of these" gets examples of its own, and one taught class has something to be told apart from, as several have.
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
from handful.fewshot.embeddings import unit
from handful.fewshot.nemo import Solution
from handful.pick import need

AWAY = 0.3  # IoU with every taught or known box below which a proposed one shows none of them
OF_A_PHOTO = 20  # the best so many; the proposer itself doubts the others
MOST = 640  # vectors that the centres are found from
CENTRES = 32
BELOW = 0.05  # a class must come within so much cosine of the nearest centre


@dataclass(frozen=True, eq=False)
class Background:
    """Centres (c, dim) float64 of vectors of background."""

    centres: np.ndarray

    def none(self, solution: Solution, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) -> (n,) float64: the cosine, in NEMO's own space, below which the answer is "none of these", by the
        background alone."""
        near = unit(vectors @ solution.whiten.T) @ unit(self.centres @ solution.whiten.T).T
        return np.asarray(near.max(axis=1, initial=-1.0) - BELOW)


def of(vectors: np.ndarray) -> Background | None:
    """From (n, dim) vectors, at most CENTRES means by k-means, the same for the same rows in the same order; None from
    none."""
    rows = np.asarray(vectors, np.float64)
    if not len(rows):
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(np.int64))]
    if len(rows) <= CENTRES:
        return Background(rows)
    kmeans2 = need("scipy.cluster.vq", "teach").kmeans2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is left out
        centres, which = kmeans2(rows, CENTRES, iter=10, minit="++", seed=np.random.default_rng(0))
    return Background(centres[np.unique(which)])


def away(boxes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), best first, show background: their numbers, at most OF_A_PHOTO. known: (m, 4)."""
    return np.flatnonzero((iou(known, boxes) < AWAY).all(axis=0))[:OF_A_PHOTO]


@dataclass
class Bank:
    """Vectors of background by photo and box, as a detector keeps them: (photo, box) -> vector (dim,) float16."""

    held: dict[tuple[str, tuple[float, ...]], np.ndarray] = field(default_factory=dict)

    def add(self, photo: str, boxes: np.ndarray, vectors: np.ndarray) -> None:
        """Of one photo, (n, 4) px and (n, dim); what is there already is not there twice."""
        for box, vector in zip(boxes.tolist(), vectors.astype(np.float16), strict=True):
            self.held[photo, tuple(box)] = vector

    def background(self, taught: Mapping[str, list[list[float]]]) -> Background | None:
        """As of now. taught: {photo: its taught boxes}. A box that was taught after all, or of a photo of which nothing
        is taught any more, does not count; so neither order nor taking back leaves a trace."""
        rows = []
        for photo in sorted({name for name, _ in self.held} & set(taught)):
            boxes = sorted(box for name, box in self.held if name == photo)
            free = np.atleast_1d((iou(np.array(taught[photo]).reshape(-1, 4), np.array(boxes)) < AWAY).all(axis=0))
            rows += [self.held[photo, box] for box, ok in zip(boxes, free.tolist(), strict=True) if ok]
        return of(np.stack(rows)) if rows else None

    def state(self, dim: int) -> tuple[dict[str, np.ndarray], list[str]]:
        """Tensors and photos' names, to be kept."""
        keys = sorted(self.held)
        vectors = np.stack([self.held[key] for key in keys]) if keys else np.zeros((0, dim), np.float16)
        boxes = np.array([box for _, box in keys], np.float64).reshape(-1, 4)
        return {"background": vectors, "background_boxes": boxes}, [photo for photo, _ in keys]

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], photos: Any) -> Bank:
        """What `state` gave; empty from a detector of an older handful. Raises DataError when it does not fit."""
        if "background" not in tensors:
            return cls()
        vectors, boxes = tensors["background"], tensors["background_boxes"].tolist()
        if not len(vectors) == len(boxes) == len(photos):
            raise DataError("the background has other numbers of vectors, boxes and photos; teach the detector again")
        keys = [(str(photo), tuple(box)) for photo, box in zip(photos, boxes, strict=True)]
        return cls(dict(zip(keys, vectors, strict=True)))
