"""Many boxes for one thing made one: within a scale of the photo, and across scales.

All functions take boxes (n, 4) float, left, top, right, bottom in px of the photo, and scores (n,) float, of ONE class,
and give new scores, 0 for what is to go, or new boxes. `fuse` puts them together for all classes of a photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from handful.errors import DataError
from handful.pick import need, unknown

FLOOR = 1e-3  # below it a box is dropped (Bodla 2017)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, 4), (m, 4) -> (n, m) float64: shared area over joint area, 0 where a box has none."""
    shared = _shared(a, b)
    joint = area(a)[:, None] + area(b)[None] - shared
    return np.asarray(np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0))


def inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, 4), (m, 4) -> (n, m) float64: the share of each a's area that lies in b."""
    shared, own = _shared(a, b), area(a)[:, None]
    return np.asarray(np.divide(shared, own, out=np.zeros_like(shared), where=own > 0))


def area(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) -> (n,) float64 px^2; 0 for a box turned inside out."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    found: np.ndarray = sides[:, 0] * sides[:, 1]
    return found


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2]).astype(np.float64)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    found: np.ndarray = sides[..., 0] * sides[..., 1]
    return found


def hard(boxes: np.ndarray, scores: np.ndarray, *, overlap: float = 0.6) -> np.ndarray:
    """Non-maximum suppression: a box that shares more than `overlap` IoU with a better one that stays is dropped."""
    return _one_by_one(boxes, scores, lambda o: np.where(o > overlap, 0.0, 1.0))


def apart(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Which boxes `hard` leaves, best first, (m,) int64: the same, but quick for thousands."""
    nms, torch = need("torchvision.ops", "detect").nms, need("torch", "detect")
    there = np.flatnonzero(scores >= FLOOR)
    given = [torch.from_numpy(np.asarray(one, np.float64)[there]) for one in (boxes, scores)]
    return np.asarray(there[nms(*given, overlap).numpy()])


def soft_linear(boxes: np.ndarray, scores: np.ndarray, *, overlap: float = 0.3) -> np.ndarray:
    """Soft-NMS (Bodla 2017, arXiv:1704.04503), linear: times 1 - IoU for each better box above `overlap`."""
    return _one_by_one(boxes, scores, lambda o: np.where(o > overlap, 1.0 - o, 1.0))


def soft_gaussian(boxes: np.ndarray, scores: np.ndarray, *, sigma: float = 0.5) -> np.ndarray:
    """Soft-NMS, Gaussian: times exp(-IoU^2 / sigma) for each better box; there is no overlap too small to count."""
    return _one_by_one(boxes, scores, lambda o: np.exp(-(o**2) / sigma))


def strongest(boxes: np.ndarray, scores: np.ndarray, *, sigma: float = 0.5) -> np.ndarray:
    """As soft_gaussian, but by the one better box that suppresses most, so that many neighbours do not multiply.

    Matrix NMS (Wang 2020, SOLOv2, arXiv:2003.10152): a suppressor that is itself suppressed counts less.
    """
    order = np.argsort(-scores, kind="stable")
    over = np.triu(iou(boxes[order], boxes[order]), 1)
    own = over.max(axis=0, initial=0.0)  # how far each is itself covered by a better one
    decay = np.exp(-(over**2 - own[:, None] ** 2) / sigma)
    decay[np.tril_indices(len(order))] = 1.0
    out = np.empty(len(scores))
    out[order] = scores[order] * np.minimum(decay.min(axis=0, initial=1.0), 1.0)
    return np.where(out < FLOOR, 0.0, out)


def part_in_whole(boxes: np.ndarray, scores: np.ndarray, *, power: float = 0.5) -> np.ndarray:
    """Times (1 - share of the box that lies in a better box) ^ power: a wheel found as a bicycle, in the bicycle."""
    order = np.argsort(-scores, kind="stable")
    within = np.tril(inside(boxes[order], boxes[order]), -1).max(axis=1, initial=0.0)
    out = np.empty(len(scores))
    out[order] = scores[order] * (1.0 - np.minimum(within, 1.0)) ** power
    return np.where(out < FLOOR, 0.0, out)


def _one_by_one(boxes: np.ndarray, scores: np.ndarray, factor: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The best box that is left lowers the others, again and again."""
    over = iou(boxes, boxes)
    left = np.array(scores, np.float64)
    out = np.zeros(len(left))
    while left.size and (best := int(left.argmax())) >= 0 and left[best] >= FLOOR:
        out[best] = left[best]
        left *= factor(over[best])
        left[best] = -1.0
    return out


def merged(
    boxes: np.ndarray, scores: np.ndarray, scale: np.ndarray, *, overlap: float = 0.6, sides: float = 2.0,
    vote: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Weighted box fusion (Solovyev 2021, arXiv:1910.13302) of what several scales found.

    A box joins the group whose best box it shares `overlap` IoU with, from another scale, when neither side is more
    than `sides` times the other's; the group's box is the mean of its boxes by score, its score the largest. vote:
    instead the mean, times the share of the scales in which there is one. scale: (n,) int, which scale found it.
    Returns boxes (m, 4) float64, scores (m,) and, for each group, the number of its best box, best first.
    """
    order = np.argsort(-scores, kind="stable")
    over = iou(boxes, boxes)
    wide = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).astype(np.float64)
    groups: list[list[int]] = []
    for i in order.tolist():
        fit, most = None, overlap
        for group in groups:
            lead = group[0]
            ratio = wide[i] / wide[lead]
            alike = (ratio <= sides).all() and (ratio >= 1 / sides).all()
            if over[i, lead] >= most and alike and scale[i] not in scale[group]:
                fit, most = group, over[i, lead]
        if fit is None:
            groups.append([i])
        else:
            fit.append(i)
    count = max(1, len(np.unique(scale)))
    told = np.empty((len(groups), 4))
    worth = np.empty(len(groups))
    for at, group in enumerate(groups):
        told[at] = np.average(boxes[group].astype(np.float64), axis=0, weights=np.maximum(scores[group], 1e-12))
        worth[at] = scores[group].mean() * len(group) / count if vote else scores[group[0]]
    again = np.argsort(-worth, kind="stable")
    return told[again], worth[again], np.array([groups[i][0] for i in again], np.int64)


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "hard": hard, "soft_linear": soft_linear, "soft_gaussian": soft_gaussian, "strongest": strongest,
}  # fmt: skip


@dataclass(frozen=True)
class Fusion:
    """How a photo's boxes are made few.

    within: one of WAYS, or "none", for the boxes that one scale found. across: one of WAYS, "merged", "merged_vote" or
    "none", for those of all scales together. overlap (hard, soft_linear), sigma (soft_gaussian, strongest), merge (the
    IoU of merged): see there; part: power of part_in_whole, 0 for none. one_name: IoU above which two answers are one
    thing, whose better name alone is told, 1 for never; measures of ranking are given all (Irene.tell). most: boxes
    kept of a photo.
    SNIPER's own is within="none", across="soft_gaussian", sigma=0.55 (Singh 2018, arXiv:1805.09300).
    """

    within: str = "hard"
    across: str = "merged"
    overlap: float = 0.6
    sigma: float = 0.5
    merge: float = 0.6
    part: float = 0.0
    one_name: float = 0.7
    most: int = 100

    def __post_init__(self) -> None:
        for name, more in (("within", ()), ("across", ("merged", "merged_vote"))):
            known = ("none", *WAYS, *more)
            if getattr(self, name) not in known:
                raise unknown(f"fusion {name} a scale" if name == "within" else "fusion across scales",
                              getattr(self, name), known)  # fmt: skip
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("overlap", "merge", "one_name") and not 0 < value <= 1:
                raise DataError(f"{field.name} is {value}; wanted an IoU above 0, at most 1")
            if (field.name == "sigma" and not value > 0) or (field.name == "part" and not value >= 0):
                raise DataError(f"{field.name} is {value}; wanted a number above 0")
        if self.most < 1:
            raise DataError(f"most is {self.most}; wanted at least one box a photo")

    def way(self, name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """One of WAYS with these settings."""
        more = {"overlap": self.overlap} if name in ("hard", "soft_linear") else {"sigma": self.sigma}
        return lambda boxes, scores: WAYS[name](boxes, scores, **more)


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes of one photo: xyxy_px (n, 4) float64; score (n,) float64; label (n,) int64; source (n,) int64, which of the
    boxes that went in each one is (the best, of several)."""

    xyxy_px: np.ndarray
    score: np.ndarray
    label: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.score)


def fuse(
    xyxy_px: np.ndarray, score: np.ndarray, label: np.ndarray, scale: np.ndarray | None = None,
    how: Fusion | None = None,
) -> Found:  # fmt: skip
    """All boxes of one photo made few, best first.

    xyxy_px: (n, 4) px of the photo; score: (n,) 0..1; label: (n,) int64; scale: (n,) int, which scale found each.
    Raises DataError for NaN or shapes that do not fit.
    """
    how = how or Fusion()
    xyxy_px, score, label = np.asarray(xyxy_px, np.float64), np.asarray(score, np.float64), np.asarray(label, np.int64)
    scale = np.zeros(len(score), np.int64) if scale is None else np.asarray(scale, np.int64)
    if xyxy_px.shape != (len(score), 4) or score.ndim != 1 or label.shape != score.shape or scale.shape != score.shape:
        raise DataError(f"boxes {xyxy_px.shape}, scores {score.shape}, labels {label.shape}, scales {scale.shape} do "
                        "not fit; wanted (n, 4) and three times (n,)")  # fmt: skip
    if not (np.isfinite(xyxy_px).all() and np.isfinite(score).all()):
        raise DataError("a box or a score is NaN or infinite")
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for one in np.unique(label):
        own = np.flatnonzero(label == one)
        parts.append(_of_one_class(xyxy_px[own], score[own], scale[own], own, how))
    boxes, scores, source = (np.concatenate(p) if p else np.zeros((0, 4) if not i else 0)
                             for i, p in enumerate(zip(*parts, strict=True) if parts else ((), (), ())))  # fmt: skip
    source = source.astype(np.int64)
    order = np.lexsort((source, -scores))[: how.most]
    order = order[scores[order] > 0]
    return Found(boxes[order], scores[order], label[source[order]], source[order])


def _of_one_class(
    boxes: np.ndarray, scores: np.ndarray, scale: np.ndarray, number: np.ndarray, how: Fusion
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = scores.copy()
    if how.within != "none":
        for one in np.unique(scale):
            there = scale == one
            scores[there] = how.way(how.within)(boxes[there], scores[there])
    stays = scores >= FLOOR
    boxes, scores, scale, number = boxes[stays], scores[stays], scale[stays], number[stays]
    if how.across in ("merged", "merged_vote"):
        boxes, scores, best = merged(boxes, scores, scale, overlap=how.merge, vote=how.across == "merged_vote")
        number = number[best]
    elif how.across != "none":
        scores = how.way(how.across)(boxes, scores)
    if how.part:
        scores = part_in_whole(boxes, scores, power=how.part)
    return boxes, scores, number
