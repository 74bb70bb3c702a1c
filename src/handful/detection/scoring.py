"""Scores of boxes: which taught class each box is, or none of them, and which boxes go on to non-maximum suppression.

A box of a class is kept when its score, sqrt(quality x probability of the class), reaches the score threshold, so a
doubtful box needs a surer class. Vigilance moves the probability of "none of these", the rejection option of open-set
recognition. Figures on the rules that were tried are in docs/regimen.md.

The logit of a class joins two scores of NEMO's sums, both in its whitened space, where z is the box's vector and m_k
the class's mean:

    logit of a class = GAIN cos(z, m_k) + LINEAR (l_k - max l) / mean |m|^2,    l_k = z.m_k - |m_k|^2 / 2

The cosine says how like a class a box is, so it alone is measured against "none of these". The linear discriminant
(Fisher 1936) is better at which class it is, and lowers the classes that it thinks less of. With one class it lowers
nothing. Logits are calibrated in nats: their softmax is a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.fewshot.nemo import GAIN, Solution, none_below

# as a classifier's: within a point of the best for 80 classes and for 5, on coco-mini's train (benchmarks/heatmap.py)
VIGILANCE = 3.0
DEFAULT_SCORE_THRESHOLD = 0.5
MIN_SCORE = 0.02  # for ranking metrics (AP)
MAX_CLASSES_PER_BOX = 5
LINEAR = 2.0  # of 0 to 16, the most that costs AP no more than seeds do; F1 rises on (benchmarks/naming.py)
MAX_MARGIN = 1e3  # logits, for a class that has no rival at all


def logits_of(solution: Solution, vectors: np.ndarray, linear: float = LINEAR) -> np.ndarray:
    """(n, dim) -> (n, k) float64: the logit of each class; see the module's text."""
    if not len(vectors):
        return np.zeros((0, len(solution.classes)))
    white = np.asarray(vectors, np.float64) @ solution.whiten.T
    length = np.linalg.norm(white, axis=1)
    cosine = white @ solution.prototypes.T / np.maximum(length, 1e-12)[:, None]
    return logits_from_cosine(solution, cosine, length, linear)


def logits_from_cosine(
    solution: Solution, cosine: np.ndarray, length: np.ndarray, linear: float = LINEAR
) -> np.ndarray:
    """The same from the cosine to each class (n, k) and the length of the vectors (n,), both whitened."""
    other = linear_scale(solution, linear) * solution.lengths * (length[:, None] * cosine - solution.lengths / 2)
    return np.asarray(GAIN * cosine + other - other.max(axis=1, keepdims=True))


def linear_scale(solution: Solution, linear: float = LINEAR) -> float:
    """Logits of one unit of the linear score."""
    return linear / max(float(np.mean(solution.lengths**2)), 1e-12)


def class_probabilities(
    solution: Solution, logits: np.ndarray, vigilance: float, *, cosine_floor: np.ndarray | None = None,
    open_set: bool = True,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(n, k) -> the probability of each class, "none of these" last, (n, k + 1), rows of sum 1; and the margin of each
    class over "none of these" in logits, (n, k).

    cosine_floor: (n,), as Background.cosine_floor gives it: "none of these" scores at least that. open_set: False
    leaves "none of these" out: the probability is a softmax over the taught classes alone, and a class's margin its log
    odds against the others; with one class there are none, and every box is accepted, as in the 2018 report.
    """
    none = np.full((len(logits), 1), GAIN * none_below(solution.expected, vigilance))
    if cosine_floor is not None:
        none = np.maximum(none, GAIN * cosine_floor[:, None])
    if not open_set:
        none = np.full_like(none, -np.inf)
    whole = np.concatenate([logits, none], axis=1)
    probability = np.exp(whole - whole.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    if open_set:
        return probability, logits - none
    own = probability[:, :-1]
    with np.errstate(divide="ignore"):
        return probability, np.clip(np.log(own) - np.log1p(-own), -MAX_MARGIN, MAX_MARGIN)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scored (box, class) pairs before non-maximum suppression: box (n,) int64, which box; label (n,) int64, which
    class, k for none of these; score (n,) float64. margin: (boxes, k), as class_probabilities gives it."""

    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    margin: np.ndarray


def select_candidates(
    solution: Solution, logits: np.ndarray, quality: np.ndarray, vigilance: float, *,
    cosine_floor: np.ndarray | None = None, open_set: bool = True, unknown: bool = False, ranking: bool = False,
    score_threshold: float | None = None,
) -> Candidates:  # fmt: skip
    """The (box, class) pairs that reach the score threshold; see Irene.select. logits: (n, k); quality: (n,) 0 to 1."""
    if score_threshold is None:
        score_threshold = MIN_SCORE if ranking else DEFAULT_SCORE_THRESHOLD
    probability, margin = class_probabilities(solution, logits, vigilance, cosine_floor=cosine_floor, open_set=open_set)
    none = margin.shape[1]  # the column of "none of these"
    score = np.sqrt(quality[:, None] * probability)
    # probabilities sum to 1, so no more classes than that can reach it
    if score_threshold**2 * (MAX_CLASSES_PER_BOX + 1) > 1:
        box, label = np.nonzero(score[:, :none] >= score_threshold)
    else:
        count = min(MAX_CLASSES_PER_BOX, none)
        label = np.argsort(-score[:, :none], axis=1, kind="stable")[:, :count].ravel()
        box = np.repeat(np.arange(len(logits)), count)
    stays = (margin[box, label] > 0) | ranking
    box, label = box[stays], label[stays]
    if unknown:
        rejected = np.flatnonzero((margin <= 0).all(axis=1))
        box, label = np.append(box, rejected), np.append(label, np.full(len(rejected), none))
    stays = score[box, label] >= score_threshold
    box, label = box[stays], label[stays]
    return Candidates(box, label, score[box, label], margin)
