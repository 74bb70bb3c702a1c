"""Data pools: a data set as three disjoint sets of images, to teach from, to tune by and to report on."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import formats
from handful.data.folder_names import usual
from handful.detection import score_threshold
from handful.detection.background import Background, background_boxes, cluster
from handful.detection.embedder import CropSettings
from handful.detection.irene import RIDGE, Irene
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD
from handful.errors import DataError
from handful.fewshot.nemo import Nemo, Solution
from handful.progress import warn
from handful.select.feature_cache import CachedImage, cached_images
from handful.training.source import checked, without_unreadable
from handful.types import Sample
from handful.words import counted

TEACH, TUNE = 0.6, 0.2  # of all images, where the data has no split; with a val split TEACH of train, the rest to tune
MIN_IMAGES = 2  # of each set


def split_pool(samples: Iterable[Sample], seed: int = 0) -> tuple[list[Sample], list[Sample], list[Sample], str]:
    """(teach, tune, report, how in words).

    With a train split and a val (else test) split: train is divided by images, and the other is to report on. Without:
    all images are divided. Unlabeled images are left out. Raises DataError for fewer images than that needs.
    """
    of: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.objects is not None:
            of.setdefault(usual(sample.split), []).append(sample)
    other = next((name for name in ("val", "test") if name in of), None)
    if "train" in of and other:
        first, last = _cut(of["train"], (TEACH,), seed)
        found, how = (first, last, of[other]), f"train divided by images, seed {seed}; {other}"
    else:
        every = [s for rows in of.values() for s in rows]
        one, two, three_ = _cut(every, (TEACH, TUNE), seed)
        found, how = (one, two, three_), f"all images divided, seed {seed}"
    if min(len(part) for part in found) < MIN_IMAGES:
        raise DataError(f"{' + '.join(str(len(p)) for p in found)} images with boxes to teach, tune and report; wanted "
                        f"{MIN_IMAGES} of each at least")  # fmt: skip
    return (*found, how)


def _cut(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> list[list[Sample]]:
    order = np.random.default_rng((seed, 3)).permutation(len(samples))
    ends = [round(sum(shares[: i + 1]) * len(samples)) for i in range(len(shares))]
    return [[samples[i] for i in sorted(part.tolist())] for part in np.split(order, ends)]


@dataclass(frozen=True, eq=False)
class DataPool:
    """Three sets of cached images, and what is needed to teach from them. how: the division in words; dim, features: as
    Nemo's; about: JSON, the proposer and the crop settings."""

    teach: tuple[CachedImage, ...]
    tune: tuple[CachedImage, ...]
    report: tuple[CachedImage, ...]
    how: str
    dim: int
    features: str
    about: dict[str, Any]


def read_pool(
    data: Path, *, proposer: str | None = None, crop: CropSettings | None = None, seed: int = 0,
    format: str | None = None, allow: Sequence[str] = (), cache: Path | None = None, **options: Any,
) -> tuple[DataPool, Irene]:  # fmt: skip
    """The pool of a data set, computed or from the cache, and the untaught detector that embedded it. All as in
    teaching.teach; cache: as in cached_images."""
    dataset, _ = checked(data, format=format or formats.with_boxes(data), allow=allow, main=True, **options)
    dataset = without_unreadable(dataset, allow)
    *parts, how = split_pool(dataset, seed)
    irene = Irene.new(proposer, crop=crop)
    names = ("the teach pool", "images to tune by", "images to report on")
    teach, tune, report = (tuple(cached_images(part, irene.proposer, irene.embedder, cache, what=f"embedding {name}"))
                           for part, name in zip(parts, names, strict=True))  # fmt: skip
    about = {"proposer": irene.proposer.about, "crop": str(irene.embedder.settings), "features": irene.embedder.name}
    return DataPool(teach, tune, report, how, irene.embedder.dim, irene.embedder.name, about), irene


BoxRef = tuple[int, int]  # index of an image in a set, index of an object in it


def learnable_boxes(images: Sequence[CachedImage]) -> dict[str, list[BoxRef]]:
    """{class: its objects that can be learned}, in order of name."""
    found: dict[str, list[BoxRef]] = {}
    for i, one in enumerate(images):
        for j in np.flatnonzero(one.learnable).tolist():
            found.setdefault(one.truth.names[j], []).append((i, j))
    return {name: found[name] for name in sorted(found)}


def draw_boxes(there: Mapping[str, Sequence[BoxRef]], most: int, seed: int) -> dict[str, list[BoxRef]]:
    """At most `most` of each class, by seed; fewer are always among more, and other classes do not matter."""
    found = {}
    for name, rows in there.items():
        order = np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(len(rows))
        found[name] = [rows[i] for i in order[:most].tolist()]
    return found


def teach_nemo(images: Sequence[CachedImage], picked: Mapping[str, Sequence[BoxRef]], ridge: float = RIDGE) -> Nemo:
    """A NEMO taught these objects. Raises DataError for none."""
    rows = [(name, place) for name, own in picked.items() for place in own]
    if not rows:
        raise DataError("no box to learn from")
    nemo = Nemo(images[0].truth_vectors.shape[1], ridge=ridge)
    nemo.learn_many(np.stack([images[i].truth_vectors[j] for _, (i, j) in rows]), [name for name, _ in rows])
    return nemo


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """What a detector has learned: NEMO's constants, the background, if it has learned one, and the score threshold."""

    solution: Solution
    background: Background | None = None
    score_threshold: float = DEFAULT_SCORE_THRESHOLD


def learn_boxes(
    images: Sequence[CachedImage], picked: Mapping[str, Sequence[BoxRef]], *, exhaustive: bool = True
) -> LearnedModel:
    """What Irene would have learned from these objects. exhaustive: as in Irene.learn."""
    solution = teach_nemo(images, picked).solve()
    if not exhaustive:
        return LearnedModel(solution)
    names, rows = set(picked), []
    for i in sorted({i for own in picked.values() for i, _ in own}):
        one = images[i]
        known = one.truth.boxes[[name in names for name in one.truth.names]]
        rows.append(one.vectors[background_boxes(one.boxes, known)])
    return LearnedModel(solution, cluster(np.concatenate(rows)))


def calibrate(
    images: Sequence[CachedImage], picked: Mapping[str, Sequence[BoxRef]], *, seed: int = 0, exhaustive: bool = True
) -> float:  # fmt: skip
    """The score threshold of a detector taught these objects, as teaching.teach calibrates it."""
    if not exhaustive:
        return DEFAULT_SCORE_THRESHOLD
    there, held_out = sorted({i for own in picked.values() for i, _ in own}), []
    for at in score_threshold.held_out_order(len(there), seed):
        one = images[there[at]]
        truth = one.truth.only([name in picked for name in one.truth.names])
        held_out.append(score_threshold.HeldOut(there[at], one.boxes, one.quality, one.scale, one.vectors, truth))

    def leave_out(out: frozenset[Hashable]) -> score_threshold.Known | None:
        rest = {name: left for name, own in picked.items() if (left := [p for p in own if p[0] not in out])}
        if not rest:
            return None
        known = learn_boxes(images, rest)
        return known.solution, known.background

    return score_threshold.calibrate(held_out, leave_out)


def warn_few_boxes(there: Mapping[str, Sequence[BoxRef]], most: int) -> None:
    """Warn of classes that have fewer boxes than are to be taught."""
    few = [name for name, rows in there.items() if len(rows) < most]
    if few:
        warn(f"{counted(len(few), 'class has', 'classes have')} fewer than {counted(most, 'box')} in the teach pool, "
             f"and no more are taught: {', '.join(few[:8])}")  # fmt: skip
