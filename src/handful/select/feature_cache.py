"""The feature cache: proposals and box embeddings of the images of a data set, computed once and kept on disk.

They cost a second an image; teaching NEMO from them and detecting at another vigilance costs a fraction of a
millisecond. So whatever evaluates the same images many times (heatmap.py, regimen.py) works on cached images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.detection.contract import Proposer
from handful.detection.embedder import BoxEmbedder
from handful.detection.evaluate import GroundTruth, ground_truth_of
from handful.detection.teaching import MIN_SIDE_PX
from handful.errors import DataError
from handful.files import cache_home, read_tensors, write_tensors
from handful.progress import track
from handful.threads import over
from handful.training.source import image_of
from handful.types import Sample

VERSION = 2
# of a cached file, in the order of CachedImage: "things" are the boxes, "taught" the vectors of the labeled objects
KEYS = ("boxes", "quality", "scale", "vectors", "things", "taught")


@dataclass(frozen=True, eq=False)
class CachedImage:
    """One image with all that is needed to teach from it and to evaluate on it.

    name: of the image; sample: where it is; size_wh: px; truth: its n labeled objects. boxes (m, 4) float64 px,
    quality (m,), scale (m,): as Proposals; vectors: (m, dim) float32, the embedding of each. truth_vectors: (n, dim)
    float64, the flip-averaged embedding of each object's own box, as Irene.learn and Irene.classify_boxes use it.
    """

    sample: Sample
    size_wh: tuple[int, int]
    truth: GroundTruth
    boxes: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    truth_vectors: np.ndarray

    @property
    def name(self) -> str:
        """Of the image."""
        return self.sample.name or self.sample.path.name

    @property
    def learnable(self) -> np.ndarray:
        """(n,) bool: objects that can be learned from: no crowds, no side below 4 px."""
        sides = self.truth.boxes[:, 2:] - self.truth.boxes[:, :2]
        return np.asarray(~self.truth.crowd & (sides >= MIN_SIDE_PX).all(axis=1))


def cached_image(sample: Sample, proposer: Proposer, embedder: BoxEmbedder, folder: Path | None) -> CachedImage:
    """One image from the cache folder, else computed and written there.

    The key is a hash of the pixels, so an image may be renamed or moved; a file that is damaged, or whose boxes are not
    those of today's labels, is made again. Raises DataError naming the image when it cannot be read.
    """
    rgb = image_of(sample).rgb_u8
    size = (rgb.shape[1], rgb.shape[0])
    truth = ground_truth_of(sample, size)
    path = None
    if folder is not None:
        known = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).hexdigest()
        path = folder / f"{known}.safetensors"
        held = _read(path, truth, embedder.dim)
        if held is not None:
            return CachedImage(sample, size, truth, *(held[key] for key in KEYS if key != "things"))
    proposals = proposer.propose(rgb, embedder.settings.max_boxes)
    vectors = embedder.embed_proposals(rgb, proposals)
    boxes = proposals.xyxy_px[: len(vectors)]
    made = {
        "boxes": boxes, "quality": proposals.quality[: len(boxes)], "scale": proposals.scale[: len(boxes)],
        "vectors": vectors.astype(np.float32), "things": truth.boxes,
        "taught": embedder.embed_flip_averaged(rgb, truth.boxes, proposals),
    }  # fmt: skip
    if path is not None:
        write_tensors(path, made)
    return CachedImage(sample, size, truth, *(made[key] for key in KEYS if key != "things"))


def _read(path: Path, truth: GroundTruth, dim: int) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        held = read_tensors(path)
    except DataError:
        return None  # damaged: made again
    fits = set(KEYS) <= set(held) and held["vectors"].shape[1:] == held["taught"].shape[1:] == (dim,)
    return held if fits and np.array_equal(held["things"], truth.boxes) else None


def cached_images(
    samples: Sequence[Sample],
    proposer: Proposer,
    embedder: BoxEmbedder,
    cache: Path | None = None,
    *,
    what: str = "embedding",
) -> list[CachedImage]:
    """All images, in order. cache: a folder; each image is written there as soon as it was computed, so that a stopped
    run resumes. None for no cache."""
    return list(_each(samples, proposer, embedder, cache, what))


def _each(
    samples: Sequence[Sample], proposer: Proposer, embedder: BoxEmbedder, cache: Path | None, what: str
) -> Iterator[CachedImage]:
    folder = cache / folder_of(embedder) if cache is not None else None
    done = over(lambda sample: cached_image(sample, proposer, embedder, folder), samples)
    yield from track(done, what, len(samples))


def folder_of(embedder: BoxEmbedder) -> str:
    """The name of the folder for one proposer and embedder with their settings."""
    how = embedder.settings
    return hashlib.sha256(f"{embedder.name} {how.max_boxes} {how.max_crops} {VERSION}".encode()).hexdigest()[:16]


def default_cache() -> Path | None:
    """Where cached images are unless another folder is given; see files.cache_home."""
    home = cache_home()
    return home / "box_features" if home is not None else None
