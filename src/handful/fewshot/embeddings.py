"""Image embeddings that NEMO learns from: an image's backbone features, kept on disk, through the front end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from handful.curate.seen import Mark, mark
from handful.fewshot.feature_cache import FeatureCache
from handful.fewshot.front_end import FrontEnd, standard_front_end, unit
from handful.fewshot.network import TaughtNetwork
from handful.files import cache_home
from handful.image import decode, fit, optional_kinds, read_image
from handful.types import Image

MARK = 16 + 8 + 32  # bytes of a mark


class Embedder:
    """Images in, vectors out, with a cache on disk keyed by content and by everything that shaped the features.

    network: its frame, resize, normalization and backbone are used, so teaching sees what the phone will see. cache: a
    folder, or None for none.
    """

    def __init__(
        self, network: TaughtNetwork, *, cache: Path | None = None, front_end: FrontEnd | None = None
    ) -> None:  # fmt: skip
        card = network.card
        self.network = network
        self.front_end = front_end or standard_front_end(card)
        height, width = network.frame_hw
        # raw features depend on all but the front end
        self.raw_name = f"{card.name} {network.digest[:12]} {card.size_px}px from {height}x{width}"
        self.name = f"{self.raw_name}, front end {self.front_end.digest[:12]}"
        self.cache = None if cache is None else FeatureCache(cache)

    def teach_vector(self, image: Image) -> np.ndarray:
        """(r,) float64 of length 1: the image and its mirror image averaged, as ONE sample."""
        return self._as_one(self.features(image, mirror=True))

    def vector(self, image: Image) -> np.ndarray:
        """(r,) float64 of length 1: the image as it is, as the phone will see it."""
        z: np.ndarray = self.front_end(self.features(image, mirror=False))[0]
        return z

    def of_file(self, path: Path) -> tuple[np.ndarray, Mark]:
        """`teach_vector` and curate.seen.mark of an image file. A file whose content is known is not even decoded.

        Raises DataError, naming the file, for one that cannot be read.
        """
        try:
            data = Path(path).read_bytes() if self.cache is not None else None
        except OSError:
            data = None  # what is wrong with it is said where it is read as an image
        key = None if data is None else f"file {hashlib.sha256(data).hexdigest()} {optional_kinds()}"
        held = self._kept(key, 2)
        if held is not None and len(held[1]) == MARK:
            return self._as_one(held[0]), (held[1][:16], int.from_bytes(held[1][16:24], "big"), held[1][24:])
        image = read_image(path) if data is None else decode(path, data=data).image
        features, one = self._run(image, mirror=True), mark(image.rgb_u8)
        self._keep(key, features, one[0] + one[1].to_bytes(8, "big") + one[2])
        return self._as_one(features), one

    def features(self, image: Image, *, mirror: bool) -> np.ndarray:
        """Raw backbone features, float32: (1, d), or (2, d) with the mirror image second."""
        if self.cache is None:
            return self._run(image, mirror=mirror)
        rgb = np.ascontiguousarray(image.rgb_u8)
        key = f"pixels {hashlib.sha256(rgb.data).hexdigest()} {rgb.shape} {mirror}"
        held = self._kept(key, 1 + mirror)
        if held is not None:
            return held[0]
        made = self._run(image, mirror=mirror)
        self._keep(key, made, b"")
        return made

    def _as_one(self, features: np.ndarray) -> np.ndarray:
        return unit(self.front_end(features).mean(axis=0))

    def _run(self, image: Image, *, mirror: bool) -> np.ndarray:
        frame = fit(image.rgb_u8, self.network.frame_hw)
        return self.network.features(np.stack([frame, frame[:, ::-1]]) if mirror else frame[None])

    def _kept(self, key: str | None, rows: int) -> tuple[np.ndarray, bytes] | None:
        """Features (rows, d) that are kept under a key, and what was kept with them."""
        if self.cache is None or key is None:
            return None
        held, size = self.cache.get(self._name(key)), 4 * self.network.card.dim
        if held is None or len(held) < rows * size:
            return None
        features = np.frombuffer(held, "<f4", rows * self.network.card.dim).reshape(rows, -1)
        return features.astype(np.float32), held[rows * size :]

    def _keep(self, key: str | None, features: np.ndarray, more: bytes) -> None:
        if self.cache is not None and key is not None:
            self.cache.put(self._name(key), features.astype("<f4").tobytes() + more)

    def _name(self, key: str) -> str:
        # the last digits are the engine's own, and with a cache they are to be the same as without
        return f"{self.raw_name} on {self.network.likely_engine} {key}"


def default_cache() -> Path | None:
    """The features' cache folder, or None; see files.cache_home."""
    home = cache_home()
    return home / "features" if home is not None else None
