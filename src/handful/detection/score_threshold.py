"""From which score on an answer is told, found by leaving out each of the taught photos in turn.

How sure a source of boxes is differs from one kind of photo to another: what it never saw it doubts, and a threshold
that suits COCO then tells next to nothing. The taught photos know better. In turn some are left out, the rest is
taught, and the left-out ones are asked about; the threshold with the best F1 over all of them is the detector's. Few
things say little, so the further a threshold is from the usual one, the more F1 it must bring.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from handful.detection.background import Background
from handful.detection.evaluate import MATCH, Truth, taken
from handful.detection.fusion import Fusion, iou
from handful.detection.irene import Detections, Irene, ScoredProposals, told
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, VIGILANCE, logits_of
from handful.fewshot.nemo import Nemo, Solution

GRID = np.round(np.arange(0.2, 0.81, 0.05), 2)
FOLDS = 8
PHOTOS = 60  # that are left out; all others stay taught
ALWAYS, OF_ONE = 0.1, 1.0  # F1 that a whole unit of threshold must bring, and times 1 / sqrt(things) more

Known = tuple[Solution, Background | None]


@dataclass(frozen=True, eq=False)
class Trial:
    """A taught photo to be left out. photo: its name or number, as `without` takes it; boxes (m, 4) px, quality (m,),
    scale (m,): as Seen; vectors (m, dim); truth: all things of taught classes in it."""

    photo: Hashable
    boxes: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    truth: Truth


def calibrate(
    trials: Sequence[Trial], without: Callable[[frozenset[Hashable]], Known | None], *, fusion: Fusion | None = None,
    vigilance: float = VIGILANCE,
) -> float:  # fmt: skip
    """The score from which answers are told, one of GRID; rules.TOLD where too little was taught to say.

    trials: as `chosen` orders them; every so many of them are left out together. without: what the detector would know
    if it had not been taught these photos; None for nothing. Things of classes that are then not known, and answers
    about them, do not count.
    """
    folds = min(FOLDS, len(trials))
    scores, hits, things = [np.zeros(0)], [np.zeros(0, np.int64)], 0
    for fold in range(folds):
        out = trials[fold::folds]
        known = without(frozenset(one.photo for one in out))
        if known is None:
            continue
        for one in out:
            score, hit, there = _marked(one, known, fusion or Fusion(), vigilance)
            scores.append(score)
            hits.append(hit)
            things += there
    return _best(np.concatenate(scores), np.concatenate(hits), things)


def chosen(count: int, seed: int) -> list[int]:
    """Which of so many taught photos are left out, in which order: at most PHOTOS, drawn by seed."""
    order: list[int] = np.random.default_rng((seed, 9)).permutation(count)[:PHOTOS].tolist()
    return order


def without(irene: Irene, photos: frozenset[Hashable]) -> Known | None:
    """What a detector would know if it had not been taught these photos; None for nothing."""
    held = irene.examples
    rows = [i for i, photo in enumerate(held.photos) if photo not in photos]
    if not rows:
        return None
    nemo = Nemo(irene.nemo.dim, ridge=irene.nemo.ridge)
    nemo.learn_many(np.stack([held.vectors[i] for i in rows]).astype(np.float64), [held.labels[i] for i in rows])
    there: dict[str, list[list[float]]] = {}
    for i in rows:
        there.setdefault(held.photos[i], []).append(held.boxes[i])
    return nemo.solve(), irene.bank.background(there)


def _best(score: np.ndarray, hit: np.ndarray, things: int) -> float:
    """hit: 1 right, 0 wrong, -1 counts neither way."""
    if not things:
        return DEFAULT_SCORE_THRESHOLD
    f1 = np.array([2 * (hit[score >= t] == 1).sum() / (things + (hit[score >= t] >= 0).sum()) for t in GRID])
    worth = f1 - (ALWAYS + OF_ONE / np.sqrt(things)) * np.abs(GRID - DEFAULT_SCORE_THRESHOLD)
    return float(GRID[worth.argmax()])


def _marked(one: Trial, known: Known, fusion: Fusion, vigilance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of the answers about a photo, whether each is right, and how many things there are.

    Fusion and F1 both take the best answer first, so what a threshold leaves out changes nothing above it: one telling
    serves them all.
    """
    solution, background = known
    below = background.none(solution, one.vectors) if background is not None else None
    about = ScoredProposals(one.boxes, one.quality, one.scale, one.vectors, logits_of(solution, one.vectors), below)
    found: Detections = told(about, solution, fusion, vigilance, score_threshold=float(GRID[0]))
    names, hit, things = np.array(one.truth.names, object), np.zeros(len(found), np.int64), 0
    gone = ~np.isin(names, list(solution.classes))
    for k, name in enumerate(solution.classes):
        own, mine = names == name, np.flatnonzero(found.label == k)
        real, passed = own & ~one.truth.crowd, (own & one.truth.crowd) | gone
        things += int(real.sum())
        on = taken(iou(one.truth.boxes[real], found.xyxy_px[mine]), MATCH)
        aside = (iou(one.truth.boxes[passed], found.xyxy_px[mine]) >= MATCH).any(axis=0)
        hit[mine] = np.where(on >= 0, 1, np.where(aside, -1, 0))
    return found.score, hit, things
