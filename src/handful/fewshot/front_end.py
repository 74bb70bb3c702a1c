"""What turns backbone features into the vectors that NEMO learns: square root, centered, projected, of length 1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from handful.files import read_tensors
from handful.models.card import Card

RANK = 512
FEW = 4  # rows
BASE = Path(__file__).parent / "base"


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """What turns backbone features f into NEMO's vector z = unit(projection' (root(f) - center)).

    center: (d,) float32, the mean of root(f) over everyday images, so that what every image shares does not make
    all of them alike (CL2N, Wang 2019, SimpleShot). projection: (d, r) float32, orthonormal columns, r <= 512: for
    EfficientNet-Lite the leading directions of its own ImageNet classifier, so NEMO's sums stay small.
    root: signed square root (Tukey 1977; FeCAM, Goswami 2023), which tames large activations.
    """

    center: np.ndarray
    projection: np.ndarray

    @property
    def rank(self) -> int:
        """Length of z."""
        return int(self.projection.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of the constants."""
        return hashlib.sha256(self.center.tobytes() + self.projection.tobytes()).hexdigest()

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(..., d) float32 -> (..., r) float64 of length 1."""
        root = np.sign(features) * np.sqrt(np.abs(features.astype(np.float64)))
        return unit(product(root - self.center, self._projection64))

    @cached_property
    def _projection64(self) -> np.ndarray:
        return self.projection.astype(np.float64)


def product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows (..., d) @ matrix (d, r). A few rows are multiplied without BLAS: where photos are worked on side by side,
    its threads take a hundred times as long to meet as the work takes."""
    few = rows.size <= FEW * rows.shape[-1]
    made: np.ndarray = np.einsum("...j,jk->...k", rows, matrix) if few else rows @ matrix
    return made


def unit(z: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    scaled: np.ndarray = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    return scaled


def standard_front_end(card: Card) -> FrontEnd:
    """The constants for a backbone: measured ones for lite0, lite1 and lite2, neutral ones for any other."""
    path = BASE / f"{card.name}.safetensors"
    if path.exists():
        held = read_tensors(path)
        return FrontEnd(held["centre"].astype(np.float32), held["projection"].astype(np.float32))
    rank = min(RANK, card.dim)
    projection = np.eye(card.dim, rank)
    if rank < card.dim:  # any orthonormal directions do, as long as they are always the same
        projection = np.linalg.qr(np.random.default_rng(0).normal(size=(card.dim, rank)))[0]
    return FrontEnd(np.zeros(card.dim, np.float32), projection.astype(np.float32))
