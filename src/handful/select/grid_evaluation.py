"""Grid evaluation: true and false detections over many cached images, for many vigilances at once.

The detections are those of Irene.select and the counts those of evaluate.DetectionCounts (a test holds them together);
here no image is embedded again, and all images are evaluated in one batch, where a vigilance is a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handful.detection.background import FLOOR_MARGIN
from handful.detection.evaluate import MATCH_IOU
from handful.detection.fusion import MIN_NMS_SCORE, Fusion, fuse, iou, nms
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, logits_from_cosine, select_candidates
from handful.errors import DataError
from handful.fewshot.front_end import unit
from handful.select.data_pool import LearnedModel
from handful.select.feature_cache import CachedImage

TP, FP, FN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Detections in all images. box: which of the boxes of all images, one image's after the other's; label: (n,)
    int64, which class; score: (n,) float64; on: (n,) int64, the object of its image that it matches, -1 for none, -2
    for a crowd, which counts neither way."""

    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    on: np.ndarray


class GridEvaluation:
    """Cached images, prepared for many evaluations. fusion: of each image's boxes; score_threshold: a box whose
    sqrt(quality) is below it can reach it with no class, so it is left out."""

    def __init__(
        self,
        images: Sequence[CachedImage],
        fusion: Fusion | None = None,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    ) -> None:
        if not images:
            raise DataError("an evaluation needs images, got none; wanted at least one")
        self.images, self.fusion, self.score_threshold = tuple(images), fusion or Fusion(), score_threshold
        able = [p.quality >= score_threshold**2 for p in images]
        self.boxes = [p.boxes[ok] for p, ok in zip(images, able, strict=True)]
        self.scale = [p.scale[ok] for p, ok in zip(images, able, strict=True)]
        self.vectors = np.concatenate([p.vectors[ok] for p, ok in zip(images, able, strict=True)])
        self.quality = np.concatenate([p.quality[ok] for p, ok in zip(images, able, strict=True)])
        counts = [len(boxes) for boxes in self.boxes]
        self.start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.image = np.repeat(np.arange(len(images)), counts)
        self.place = np.arange(len(self.image)) - self.start[self.image]
        most, objects = max(counts, default=0), max(len(p.truth.names) for p in images)
        self.overlap = np.zeros((len(images), most, most), bool)
        self.same = np.zeros((len(images), most, most), bool)  # boxes that are one object, which has one class
        self.shared = np.full((len(images), most, objects), -1.0)
        for i, one in enumerate(images):
            m, n = counts[i], len(one.truth.names)
            over = iou(self.boxes[i], self.boxes[i])
            self.overlap[i, :m, :m], self.same[i, :m, :m] = (
                over > self.fusion.nms_iou,
                over > self.fusion.cross_class_iou,
            )
            self.shared[i, :m, :n] = iou(one.truth.boxes, self.boxes[i]).T
        self.crowd = np.zeros((len(images), objects), bool)
        for i, one in enumerate(images):
            self.crowd[i, : len(one.truth.crowd)] = one.truth.crowd
        # boxes of one scale under plain NMS need no loop over the images
        plain = self.fusion.within == "hard" and self.fusion.across == "wbf" and not self.fusion.containment_power
        self.batched = plain and all((scale == scale[:1]).all() for scale in self.scale)

    def __len__(self) -> int:
        return len(self.images)

    def labels_as(self, classes: Sequence[str]) -> np.ndarray:
        """(images, objects) int64: which of `classes` each object is, -1 for none of them."""
        number = {name: k for k, name in enumerate(classes)}
        found = np.full(self.crowd.shape, -1, np.int64)
        for i, one in enumerate(self.images):
            found[i, : len(one.truth.names)] = [number.get(name, -1) for name in one.truth.names]
        return found

    def counts(self, learned: LearnedModel, vigilances: Sequence[float], *, open_set: bool = True) -> np.ndarray:
        """(vigilances, images, 3) int64: true positives, false positives, false negatives. open_set: as in
        Irene.select."""
        logits, floor = self.logits(learned)
        objects = self.labels_as(learned.solution.classes)
        wanted = ((objects >= 0) & ~self.crowd).sum(axis=1)
        found = np.zeros((len(vigilances), len(self), 3), np.int64)
        for row, vigilance in zip(found, vigilances, strict=True):
            matched = self._detections(learned, logits, floor, vigilance, objects, open_set)
            where = self.image[matched.box]
            row[:, TP] = np.bincount(where[matched.on >= 0], minlength=len(self))
            row[:, FP] = np.bincount(where[matched.on == -1], minlength=len(self))
            row[:, FN] = wanted - row[:, TP]
        return found

    def by_class(
        self, learned: LearnedModel, vigilance: float, classes: Sequence[str], *, open_set: bool = True
    ) -> np.ndarray:
        """(classes, 3) int64: the same of each of `classes`, all images together; of one that was not taught all
        objects are missed."""
        matched, names = self.detections(learned, vigilance, open_set=open_set), learned.solution.classes
        number = {name: k for k, name in enumerate(classes)}
        mine = np.array([number.get(name, len(classes)) for name in names], np.int64)[matched.label]
        found = np.zeros((len(classes) + 1, 3), np.int64)
        np.add.at(found[:, TP], mine[matched.on >= 0], 1)
        np.add.at(found[:, FP], mine[matched.on == -1], 1)
        objects = self.labels_as(classes)
        found[:-1, FN] = np.bincount(objects[(objects >= 0) & ~self.crowd], minlength=len(classes)) - found[:-1, TP]
        return found[:-1]

    def logits(self, learned: LearnedModel) -> tuple[np.ndarray, np.ndarray | None]:
        """What no vigilance changes: logits (boxes, k) and the background's cosine floor (boxes,), if there is one."""
        solution, background = learned.solution, learned.background
        # classes and centers in one pass, and in float32: the same but for the last digits, in a quarter of the time
        ends = [solution.prototypes]
        if background is not None:
            ends.append(unit(background.centers @ solution.whiten.T))
        white = self.vectors @ solution.whiten.T.astype(np.float32)
        length = np.maximum(np.linalg.norm(white, axis=1), np.float32(1e-12))
        cosine = (white / length[:, None] @ np.concatenate(ends).T.astype(np.float32)).astype(np.float64)
        count = len(solution.classes)
        floor = cosine[:, count:].max(axis=1, initial=-1.0) - FLOOR_MARGIN if background is not None else None
        return logits_from_cosine(solution, cosine[:, :count], length.astype(np.float64)), floor

    def detections(self, learned: LearnedModel, vigilance: float, *, open_set: bool = True) -> MatchedDetections:
        """The detections at one vigilance, matched with the labels."""
        return self._detections(
            learned, *self.logits(learned), vigilance, self.labels_as(learned.solution.classes), open_set
        )

    def _detections(
        self, learned: LearnedModel, logits: np.ndarray, floor: np.ndarray | None, vigilance: float,
        objects: np.ndarray, open_set: bool,
    ) -> MatchedDetections:  # fmt: skip
        candidates = select_candidates(
            learned.solution,
            logits,
            self.quality,
            vigilance,
            cosine_floor=floor,
            open_set=open_set,
            score_threshold=self.score_threshold,
        )
        if self.batched:
            box, label, score = self._batched(candidates.box, candidates.label, candidates.score)
            share = self.shared[self.image[box], self.place[box]]
        else:
            box, label, score, share = self._one_by_one(candidates.box, candidates.label, candidates.score)
        return MatchedDetections(box, label, score, self._match(box, label, score, share, objects))

    def _batched(self, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
        """Non-maximum suppression in every image and class at once: the best that is left of each, again and again."""
        group = self.image[box] * (int(label.max(initial=0)) + 1) + label
        kept = self._best(box, group, np.where(score >= MIN_NMS_SCORE, score, 0.0), self.overlap)
        kept = kept[np.lexsort((kept, -score[kept], self.image[box[kept]]))]
        where = self.image[box[kept]]
        rank = np.arange(len(kept)) - np.searchsorted(where, where)
        kept = kept[rank < self.fusion.max_boxes]
        kept = kept[np.sort(self._best(box[kept], self.image[box[kept]], score[kept], self.same))]
        return box[kept], label[kept], score[kept]

    def _best(self, box: np.ndarray, group: np.ndarray, score: np.ndarray, covers: np.ndarray) -> np.ndarray:
        """Of each group the best, and what no better one that stays `covers`: places in box; none scoring 0."""
        order = np.lexsort((np.arange(len(box)), -score, group))
        order = order[score[order] > 0]
        stays = [np.zeros(0, np.int64)]
        while len(order):
            first = np.ones(len(order), bool)
            first[1:] = group[order[1:]] != group[order[:-1]]
            lead = order[np.flatnonzero(first)[np.cumsum(first) - 1]]  # the best of each one's group
            stays.append(order[first])
            covered = covers[self.image[box[order]], self.place[box[order]], self.place[box[lead]]]
            order = order[~covered & ~first]
        return np.concatenate(stays)

    def _one_by_one(self, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
        """As Irene.select, image by image; and, since fusion may move boxes, their IoU with the image's objects."""
        rows = []
        for i in np.unique(self.image[box]).tolist():
            own = np.flatnonzero(self.image[box] == i)
            place, truth = self.place[box[own]], self.images[i].truth.boxes
            made = fuse(self.boxes[i][place], score[own], label[own], self.scale[i][place], self.fusion)
            stays = np.sort(nms(made.xyxy_px, made.score, self.fusion.cross_class_iou))
            share = np.full((len(stays), self.crowd.shape[1]), -1.0)
            share[:, : len(truth)] = iou(truth, made.xyxy_px[stays]).T
            rows.append((box[own[made.source[stays]]], made.label[stays], made.score[stays], share))
        if not rows:
            return box[:0], label[:0], score[:0], np.zeros((0, self.crowd.shape[1]))
        return tuple(np.concatenate(part) for part in zip(*rows, strict=True))

    def _match(
        self, box: np.ndarray, label: np.ndarray, score: np.ndarray, share: np.ndarray, objects: np.ndarray
    ) -> np.ndarray:
        """(n,) int64, see MatchedDetections.on: each detection, the best first, matches the free object of its class
        with the largest IoU. share: (n, objects of its image) IoU."""
        on = np.full(len(box), -1, np.int64)
        if not len(box) or not objects.size:
            return on
        group = self.image[box] * (int(label.max()) + 1) + label
        order = np.lexsort((np.arange(len(box)), -score, group))
        rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        free = (objects >= 0) & ~self.crowd
        for r in range(int(rank.max()) + 1):
            now = order[rank == r]
            where = self.image[box[now]]
            mine = objects[where] == label[now][:, None]
            own = np.where(mine & free[where], share[now], -1.0)
            best = own.argmax(axis=1)
            right = own[np.arange(len(now)), best] >= MATCH_IOU
            on[now[right]] = best[right]
            free[where[right], best[right]] = False
            crowd = (mine & self.crowd[where] & (share[now] >= MATCH_IOU)).any(axis=1)
            on[now[~right & crowd]] = -2
        return on


def f1(counts: np.ndarray) -> np.ndarray:
    """(..., 3) true positives, false positives, false negatives -> (...) F1; 0 where there is nothing of any."""
    tp, fp, fn = (counts[..., i].astype(np.float64) for i in (TP, FP, FN))
    return np.asarray(2 * tp / np.maximum(2 * tp + fp + fn, 1e-12))
