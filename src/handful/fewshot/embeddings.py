"""Image embeddings that NEMO learns from: backbone features, square root, centered, projected, of length 1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.files import cache_home, read_tensors, replacing
from handful.image import fit
from handful.models.card import Card
from handful.threads import inference
from handful.types import Image

RANK = 512
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
        return unit((root - self.center) @ self.projection)


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


class Embedder:
    """Images in, vectors out, with a cache on disk keyed by the pixels and by everything that shaped the features.

    network: a TaughtNet (its frame, resize, normalization and backbone are used, so teaching sees what the phone
    will see). cache: a folder, or None for none.
    """

    def __init__(self, network: Any, *, cache: Path | None = None, front_end: FrontEnd | None = None) -> None:
        card: Card = network.backbone.card
        self.network = network
        self.front_end = front_end or standard_front_end(card)
        weights = _weights_digest(network)[:12]
        height, width = network.frame_hw
        # raw features depend on all but the front end
        self.raw_name = f"{card.name} {weights} {card.size_px}px from {height}x{width}"
        self.name = f"{self.raw_name}, front end {self.front_end.digest[:12]}"
        self.cache = cache / hashlib.sha256(self.raw_name.encode()).hexdigest()[:16] if cache else None

    def teach_vector(self, image: Image) -> np.ndarray:
        """(r,) float64 of length 1: the image and its mirror image averaged, as ONE sample."""
        return unit(self.front_end(self.features(image, mirror=True)).mean(axis=0))

    def vector(self, image: Image) -> np.ndarray:
        """(r,) float64 of length 1: the image as it is, as the phone will see it."""
        z: np.ndarray = self.front_end(self.features(image, mirror=False))[0]
        return z

    def features(self, image: Image, *, mirror: bool) -> np.ndarray:
        """Raw backbone features, float32: (1, d), or (2, d) with the mirror image second."""
        frame = fit(image.rgb_u8, self.network.frame_hw)
        frames = np.stack([frame, frame[:, ::-1]]) if mirror else frame[None]
        if self.cache is None:
            return self._run(frames)
        path = self.cache / f"{hashlib.sha256(frames.tobytes()).hexdigest()}.npy"
        try:
            held = np.load(path, allow_pickle=False)
            if held.dtype == np.float32 and held.shape == (len(frames), self.network.backbone.card.dim):
                return np.asarray(held)
        except (OSError, ValueError, EOFError):
            pass  # absent or damaged: made again below
        made = self._run(frames)
        try:
            with replacing(path, own=True) as part, open(part, "wb") as file:
                np.save(file, made)
        except DataError:
            self.cache = None  # a full disk or a read-only home costs speed, not the work
        return made

    def _run(self, frames: np.ndarray) -> np.ndarray:
        import torch

        with inference():
            # one image at a time: a batch's size may change the last bits, and then the answers with it
            rows = [self.network.features(torch.from_numpy(np.ascontiguousarray(f[None]))).numpy() for f in frames]
        made = np.concatenate(rows)
        if not np.isfinite(made).all():
            raise DataError("the backbone gave NaN or infinity; its weights are damaged")
        return made


def default_cache() -> Path | None:
    """The features' cache folder, or None; see files.cache_home."""
    home = cache_home()
    return home / "features" if home is not None else None


def _weights_digest(network: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.backbone.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
