"""Calibration of the score threshold on the taught images, each of them left out in turn.

How sure a proposer is differs from one kind of image to another: it doubts what it was never trained on, and a
threshold that suits COCO then lets next to nothing through. So some of the taught images are left out, NEMO is taught
the rest, and the left-out ones are detected on, until each had its turn; the threshold with the best F1 over all of
them is the detector's. A few objects say little, so the further a threshold is from the default, the more F1 it must
gain.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from handful.detection.background import Background
from handful.detection.evaluate import MATCH_IOU, GroundTruth, match_boxes
from handful.detection.fusion import Fusion, iou
from handful.detection.irene import Irene
from handful.detection.scored import ScoredProposals, select_detections
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, VIGILANCE, logits_of
from handful.fewshot.nemo import Nemo, Solution

GRID = np.round(np.arange(0.2, 0.81, 0.05), 2)
FOLDS = 8
MAX_IMAGES = 60  # that are left out in turn; all others stay taught
# F1 that a threshold must gain for each unit of distance from the default: this, and so much / sqrt(objects) more
GAIN_ALWAYS, GAIN_OF_ONE = 0.1, 1.0

Known = tuple[Solution, Background | None]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A taught image to be left out. image: its name or number, as `leave_out` takes it; boxes (m, 4) px, quality (m,),
    scale (m,): as Proposals; vectors (m, dim); truth: all objects of taught classes in it."""

    image: Hashable
    boxes: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    truth: GroundTruth


def calibrate(
    held_out: Sequence[HeldOut], leave_out: Callable[[frozenset[Hashable]], Known | None], *,
    fusion: Fusion | None = None, vigilance: float = VIGILANCE,
) -> float:  # fmt: skip
    """The score threshold, one of GRID; scoring.DEFAULT_SCORE_THRESHOLD where too little was taught to say.

    held_out: in the order of `held_out_order`; every so many of them are left out together. leave_out: what the
    detector would know if it had not been taught these images; None for nothing. Objects of classes that are then not
    known, and detections of them, do not count.
    """
    folds = min(FOLDS, len(held_out))
    scores, hits, objects = [np.zeros(0)], [np.zeros(0, np.int64)], 0
    for fold in range(folds):
        out = held_out[fold::folds]
        known = leave_out(frozenset(one.image for one in out))
        if known is None:
            continue
        for one in out:
            score, hit, there = _matched(one, known, fusion or Fusion(), vigilance)
            scores.append(score)
            hits.append(hit)
            objects += there
    return _best(np.concatenate(scores), np.concatenate(hits), objects)


def held_out_order(count: int, seed: int) -> list[int]:
    """Which of so many taught images are left out, in which order: at most MAX_IMAGES, drawn by seed."""
    order: list[int] = np.random.default_rng((seed, 9)).permutation(count)[:MAX_IMAGES].tolist()
    return order


def leave_out(irene: Irene, images: frozenset[Hashable]) -> Known | None:
    """What a detector would know if it had not been taught these images; None for nothing."""
    held = irene.examples
    rows = [i for i, image in enumerate(held.images) if image not in images]
    if not rows:
        return None
    nemo = Nemo(irene.nemo.dim, ridge=irene.nemo.ridge)
    nemo.learn_many(np.stack([held.vectors[i] for i in rows]).astype(np.float64), [held.labels[i] for i in rows])
    there: dict[str, list[list[float]]] = {}
    for i in rows:
        there.setdefault(held.images[i], []).append(held.boxes[i])
    return nemo.solve(), irene.bank.background(there)


def _best(score: np.ndarray, hit: np.ndarray, objects: int) -> float:
    """hit: 1 right, 0 wrong, -1 counts neither way."""
    if not objects:
        return DEFAULT_SCORE_THRESHOLD
    f1 = np.array([2 * (hit[score >= t] == 1).sum() / (objects + (hit[score >= t] >= 0).sum()) for t in GRID])
    wanted = (GAIN_ALWAYS + GAIN_OF_ONE / np.sqrt(objects)) * np.abs(GRID - DEFAULT_SCORE_THRESHOLD)
    return float(GRID[(f1 - wanted).argmax()])


def _matched(one: HeldOut, known: Known, fusion: Fusion, vigilance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of the detections in an image, whether each is right, and how many objects there are.

    Fusion and F1 both take the best detection first, so what a threshold leaves out changes nothing above it: detecting
    once, at the lowest, serves them all.
    """
    solution, background = known
    floor = background.cosine_floor(solution, one.vectors) if background is not None else None
    logits = logits_of(solution, one.vectors)
    scored = ScoredProposals(one.boxes, one.quality, one.scale, one.vectors, logits, floor)
    found = select_detections(scored, solution, fusion, vigilance, score_threshold=float(GRID[0]))
    names, hit, objects = np.array(one.truth.names, object), np.zeros(len(found), np.int64), 0
    gone = ~np.isin(names, list(solution.classes))
    for k, name in enumerate(solution.classes):
        own, mine = names == name, np.flatnonzero(found.label == k)
        real, passed = own & ~one.truth.crowd, (own & one.truth.crowd) | gone
        objects += int(real.sum())
        on = match_boxes(iou(one.truth.boxes[real], found.xyxy_px[mine]), MATCH_IOU)
        aside = (iou(one.truth.boxes[passed], found.xyxy_px[mine]) >= MATCH_IOU).any(axis=0)
        hit[mine] = np.where(on >= 0, 1, np.where(aside, -1, 0))
    return found.score, hit, objects
