"""Non-maximum suppression and box fusion: several boxes of one object become one, within a scale and across scales.

All functions take boxes (n, 4) float, left, top, right, bottom in px of the image, and scores (n,) float, of ONE
class, and give new scores, 0 for a box that is dropped, or new boxes. `fuse` applies them to all classes of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from handful.boxes import MIN_NMS_SCORE as MIN_NMS_SCORE
from handful.boxes import area as area
from handful.boxes import inside as inside
from handful.boxes import iou as iou
from handful.boxes import nms as nms
from handful.errors import DataError
from handful.pick import unknown


def hard_nms(boxes: np.ndarray, scores: np.ndarray, *, nms_iou: float = 0.6) -> np.ndarray:
    """Non-maximum suppression: a box that shares more than `nms_iou` IoU with a better one that stays is dropped."""
    return _one_by_one(boxes, scores, lambda o: np.where(o > nms_iou, 0.0, 1.0))


def soft_nms_linear(boxes: np.ndarray, scores: np.ndarray, *, nms_iou: float = 0.3) -> np.ndarray:
    """Soft-NMS (Bodla 2017, arXiv:1704.04503), linear: times 1 - IoU for each better box above `nms_iou`."""
    return _one_by_one(boxes, scores, lambda o: np.where(o > nms_iou, 1.0 - o, 1.0))


def soft_nms_gaussian(boxes: np.ndarray, scores: np.ndarray, *, sigma: float = 0.5) -> np.ndarray:
    """Soft-NMS, Gaussian: times exp(-IoU^2 / sigma) for each better box, however small the overlap."""
    return _one_by_one(boxes, scores, lambda o: np.exp(-(o**2) / sigma))


def matrix_nms(boxes: np.ndarray, scores: np.ndarray, *, sigma: float = 0.5) -> np.ndarray:
    """As soft_nms_gaussian, but by the one better box that suppresses most, so that many neighbors do not multiply.

    Matrix NMS (Wang 2020, SOLOv2, arXiv:2003.10152): a suppressor that is itself suppressed counts less.
    """
    order = np.argsort(-scores, kind="stable")
    over = np.triu(iou(boxes[order], boxes[order]), 1)
    own = over.max(axis=0, initial=0.0)  # how far each is itself covered by a better one
    decay = np.exp(-(over**2 - own[:, None] ** 2) / sigma)
    decay[np.tril_indices(len(order))] = 1.0
    out = np.empty(len(scores))
    out[order] = scores[order] * np.minimum(decay.min(axis=0, initial=1.0), 1.0)
    return np.where(out < MIN_NMS_SCORE, 0.0, out)


def suppress_contained(boxes: np.ndarray, scores: np.ndarray, *, power: float = 0.5) -> np.ndarray:
    """Times (1 - share of the box that lies in a better box) ^ power: for a wheel found as a bicycle in the bicycle."""
    order = np.argsort(-scores, kind="stable")
    within = np.tril(inside(boxes[order], boxes[order]), -1).max(axis=1, initial=0.0)
    out = np.empty(len(scores))
    out[order] = scores[order] * (1.0 - np.minimum(within, 1.0)) ** power
    return np.where(out < MIN_NMS_SCORE, 0.0, out)


def _one_by_one(boxes: np.ndarray, scores: np.ndarray, factor: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The best box that is left lowers the others, again and again."""
    over = iou(boxes, boxes)
    left = np.array(scores, np.float64)
    out = np.zeros(len(left))
    while left.size and (best := int(left.argmax())) >= 0 and left[best] >= MIN_NMS_SCORE:
        out[best] = left[best]
        left *= factor(over[best])
        left[best] = -1.0
    return out


def weighted_box_fusion(
    boxes: np.ndarray, scores: np.ndarray, scale: np.ndarray, *, merge_iou: float = 0.6, sides: float = 2.0,
    vote: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Weighted box fusion (Solovyev 2021, arXiv:1910.13302) of what several scales found.

    A box joins the group whose best box it shares `merge_iou` IoU with, from another scale, when neither side is more
    than `sides` times the other's; the group's box is the mean of its boxes by score, its score the largest. vote:
    instead the mean, times the share of the scales in which there is one. scale: (n,) int, which scale found it.
    Returns boxes (m, 4) float64, scores (m,) and, for each group, the number of its best box, best first.
    """
    order = np.argsort(-scores, kind="stable")
    over = iou(boxes, boxes)
    wide = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).astype(np.float64)
    groups: list[list[int]] = []
    for i in order.tolist():
        fit, most = None, merge_iou
        for group in groups:
            lead = group[0]
            ratio = wide[i] / wide[lead]
            similar = (ratio <= sides).all() and (ratio >= 1 / sides).all()
            if over[i, lead] >= most and similar and scale[i] not in scale[group]:
                fit, most = group, over[i, lead]
        if fit is None:
            groups.append([i])
        else:
            fit.append(i)
    count = max(1, len(np.unique(scale)))
    fused = np.empty((len(groups), 4))
    worth = np.empty(len(groups))
    for at, group in enumerate(groups):
        fused[at] = np.average(boxes[group].astype(np.float64), axis=0, weights=np.maximum(scores[group], 1e-12))
        worth[at] = scores[group].mean() * len(group) / count if vote else scores[group[0]]
    again = np.argsort(-worth, kind="stable")
    return fused[again], worth[again], np.array([groups[i][0] for i in again], np.int64)


NMS_METHODS: dict[str, Callable[..., np.ndarray]] = {
    "hard": hard_nms, "soft_linear": soft_nms_linear, "soft_gaussian": soft_nms_gaussian, "matrix": matrix_nms,
}  # fmt: skip


@dataclass(frozen=True)
class Fusion:
    """How the boxes of an image are reduced to one an object.

    within: one of NMS_METHODS, or "none", for the boxes that one scale found. across: one of NMS_METHODS, "wbf" or
    "wbf_vote" (weighted box fusion) or "none", for those of all scales together. nms_iou (hard, soft_linear), sigma
    (soft_gaussian, matrix), merge_iou (wbf): see there. containment_power: of suppress_contained, 0 for none.
    cross_class_iou: IoU above which two boxes of different classes are one object, of which the better class alone is
    kept, 1 for never; ranking metrics are given all (Irene.select). max_boxes: kept of an image.
    SNIPER's own is within="none", across="soft_gaussian", sigma=0.55 (Singh 2018, arXiv:1805.09300).
    """

    within: str = "hard"
    across: str = "wbf"
    nms_iou: float = 0.6
    sigma: float = 0.5
    merge_iou: float = 0.6
    containment_power: float = 0.0
    cross_class_iou: float = 0.7
    max_boxes: int = 100

    def __post_init__(self) -> None:
        for name, more in (("within", ()), ("across", ("wbf", "wbf_vote"))):
            known = ("none", *NMS_METHODS, *more)
            if getattr(self, name) not in known:
                raise unknown(f"fusion {name} a scale" if name == "within" else "fusion across scales",
                              getattr(self, name), known)  # fmt: skip
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("nms_iou", "merge_iou", "cross_class_iou") and not 0 < value <= 1:
                raise DataError(f"{field.name} is {value}; wanted an IoU above 0, at most 1")
            if (field.name == "sigma" and not value > 0) or (field.name == "containment_power" and not value >= 0):
                raise DataError(f"{field.name} is {value}; wanted a number above 0")
        if self.max_boxes < 1:
            raise DataError(f"max_boxes is {self.max_boxes}; wanted at least one box an image")

    def method(self, name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """One of NMS_METHODS with these settings."""
        more = {"nms_iou": self.nms_iou} if name in ("hard", "soft_linear") else {"sigma": self.sigma}
        return lambda boxes, scores: NMS_METHODS[name](boxes, scores, **more)


@dataclass(frozen=True, eq=False)
class Fused:
    """Fused boxes of one image: xyxy_px (n, 4) float64; score (n,) float64; label (n,) int64; source (n,) int64, which
    of the given boxes each one is (the best, of several)."""

    xyxy_px: np.ndarray
    score: np.ndarray
    label: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.score)


def fuse(
    xyxy_px: np.ndarray, score: np.ndarray, label: np.ndarray, scale: np.ndarray | None = None,
    how: Fusion | None = None,
) -> Fused:  # fmt: skip
    """The boxes of one image reduced as `how` says, best first.

    xyxy_px: (n, 4) px of the image; score: (n,) 0..1; label: (n,) int64; scale: (n,) int, which scale found each.
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
    order = np.lexsort((source, -scores))[: how.max_boxes]
    order = order[scores[order] > 0]
    return Fused(boxes[order], scores[order], label[source[order]], source[order])


def _of_one_class(
    boxes: np.ndarray, scores: np.ndarray, scale: np.ndarray, number: np.ndarray, how: Fusion
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = scores.copy()
    if how.within != "none":
        for one in np.unique(scale):
            there = scale == one
            scores[there] = how.method(how.within)(boxes[there], scores[there])
    stays = scores >= MIN_NMS_SCORE
    boxes, scores, scale, number = boxes[stays], scores[stays], scale[stays], number[stays]
    if how.across in ("wbf", "wbf_vote"):
        boxes, scores, best = weighted_box_fusion(
            boxes, scores, scale, merge_iou=how.merge_iou, vote=how.across == "wbf_vote"
        )
        number = number[best]
    elif how.across != "none":
        scores = how.method(how.across)(boxes, scores)
    if how.containment_power:
        scores = suppress_contained(boxes, scores, power=how.containment_power)
    return boxes, scores, number
