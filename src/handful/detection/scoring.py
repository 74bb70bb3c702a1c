"""Which of the taught classes a box is, or none, and which answers are told: the same rule wherever it is asked.

A box is told when its score reaches TOLD: sqrt(quality x chance of the class), so a doubtful box needs a surer class.
The one knob is vigilance: it moves the chance of "none of these". Figures on the rules that were tried are in
docs/regimen.md.

A box is named by two scores of NEMO's sums together, both in its whitened space, where z is the box's vector and m_k a
class's mean:

    nats of a class  = GAIN cos(z, m_k) + LINEAR (l_k - max l) / mean |m|^2,    l_k = z.m_k - |m_k|^2 / 2

The cosine alone says how like a class a box is, so it alone is measured against "none of these"; which class it is the
linear discriminant (Fisher 1936) knows better, and takes from the cosine of those that it thinks less of. With one
class there is nothing to take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.errors import DataError
from handful.fewshot.nemo import GAIN, Solution, none_below

VIGILANCE = 2.4  # the most careful of those as good as the best, on coco-mini's train (benchmarks/heatmap.py)
DEFAULT_SCORE_THRESHOLD = 0.5  # score from which an answer is told
MIN_SCORE = 0.02  # for measures of ranking
CLASSES_A_BOX = 5
LINEAR = 2.0  # of 0 to 16, the most that costs AP no more than seeds do; F1 rises on (benchmarks/naming.py)
RIVALS = ("null", "none")
SURE = 1e3  # nats, for a class that has no rival at all


def logits_of(solution: Solution, vectors: np.ndarray, linear: float = LINEAR) -> np.ndarray:
    """(n, dim) -> (n, k) float64: how much speaks for each class; see the module's text."""
    if not len(vectors):
        return np.zeros((0, len(solution.classes)))
    white = np.asarray(vectors, np.float64) @ solution.whiten.T
    length = np.linalg.norm(white, axis=1)
    cosine = white @ solution.prototypes.T / np.maximum(length, 1e-12)[:, None]
    return nats_from(solution, cosine, length, linear)


def nats_from(solution: Solution, cosine: np.ndarray, length: np.ndarray, linear: float = LINEAR) -> np.ndarray:
    """The same from what it is made of: cosine (n, k) to each class, length (n,) of the vectors, both whitened."""
    other = linear_nats(solution, linear) * solution.lengths * (length[:, None] * cosine - solution.lengths / 2)
    return np.asarray(GAIN * cosine + other - other.max(axis=1, keepdims=True))


def linear_nats(solution: Solution, linear: float = LINEAR) -> float:
    """Nats of one unit of the linear score."""
    return linear / max(float(np.mean(solution.lengths**2)), 1e-12)


def chances(
    solution: Solution, logits: np.ndarray, vigilance: float, *, below: np.ndarray | None = None, rival: str = "null"
) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) -> the chance of each class, "none of these" last, (n, k + 1), rows of sum 1; and by how many nats each
    class beats "none of these", (n, k).

    below: (n,) cosines, as Background.none gives them: "none of these" scores at least that. rival: "null" is that;
    with "none" there is no such column, the chance is a softmax over the taught classes alone, and a class's margin is
    its log odds against the others: with one class there are none, and all is accepted, as in the 2018 report.
    """
    if rival not in RIVALS:
        raise DataError(f"rival is {rival!r}; wanted null (there is a 'none of these') or none (there is not)")
    none = np.full((len(logits), 1), GAIN * none_below(solution.expected, vigilance))
    if below is not None:
        none = np.maximum(none, GAIN * below[:, None])
    if rival == "none":
        none = np.full_like(none, -np.inf)
    whole = np.concatenate([logits, none], axis=1)
    chance = np.exp(whole - whole.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    if rival == "null":
        return chance, logits - none
    own = chance[:, :-1]
    with np.errstate(divide="ignore"):
        return chance, np.clip(np.log(own) - np.log1p(-own), -SURE, SURE)


@dataclass(frozen=True, eq=False)
class Said:
    """Answers before boxes are made few: box (n,) int64, which; label (n,) int64, which class, k for none of these;
    score (n,) float64. margin: (boxes, k), as chances gives it."""

    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    margin: np.ndarray


def answered(
    solution: Solution, logits: np.ndarray, quality: np.ndarray, vigilance: float, *, below: np.ndarray | None = None,
    rival: str = "null", unknown: bool = False, careful: bool = True, score_threshold: float | None = None,
) -> Said:  # fmt: skip
    """All that is told of boxes; see Irene.tell. nats: (n, k); quality: (n,) 0 to 1."""
    score_threshold = (
        (DEFAULT_SCORE_THRESHOLD if careful else MIN_SCORE) if score_threshold is None else score_threshold
    )
    chance, margin = chances(solution, logits, vigilance, below=below, rival=rival)
    none = margin.shape[1]  # the column of "none of these"
    score = np.sqrt(quality[:, None] * chance)
    if score_threshold**2 * (CLASSES_A_BOX + 1) > 1:  # chances sum to 1, so no more classes than that can reach it
        box, label = np.nonzero(score[:, :none] >= score_threshold)
    else:
        count = min(CLASSES_A_BOX, none)
        label = np.argsort(-score[:, :none], axis=1, kind="stable")[:, :count].ravel()
        box = np.repeat(np.arange(len(logits)), count)
    stays = (margin[box, label] > 0) | (not careful)
    box, label = box[stays], label[stays]
    if unknown:
        strange = np.flatnonzero((margin <= 0).all(axis=1))
        box, label = np.append(box, strange), np.append(label, np.full(len(strange), none))
    stays = score[box, label] >= score_threshold
    box, label = box[stays], label[stays]
    return Said(box, label, score[box, label], margin)
