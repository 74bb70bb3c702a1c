"""Right and wrong answers of a taught detector over many kept images, for many vigilances at once.

The answers are those of Irene.select and the counts those of evaluate.DetectionCounts (a test holds them together);
what is gained is that nothing is looked at again, and that all images are gone through together: a vigilance is a
threshold.
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
from handful.fewshot.embeddings import unit
from handful.select.data_pool import Learned
from handful.select.feature_cache import Kept

TP, FP, FN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Given:
    """DetectionCounts of all images. box: which of the boxes of all images, one image's after the other's; label: (n,)
    int64, which class; score: (n,) float64; on: (n,) int64, which object of its image it is right about, -1 for none,
    -2 for a crowd, which counts neither way."""

    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    on: np.ndarray


class Exam:
    """Kept images, ready to be asked again and again. fusion: how an image's boxes are made few; least: score from
    which an answer is told, and so sqrt(quality) below which a box need not be asked about."""

    def __init__(
        self, photos: Sequence[Kept], fusion: Fusion | None = None, score_threshold: float = DEFAULT_SCORE_THRESHOLD
    ) -> None:
        if not photos:
            raise DataError("an exam without an image says nothing; wanted at least one")
        self.photos, self.fusion, self.score_threshold = tuple(photos), fusion or Fusion(), score_threshold
        able = [p.quality >= score_threshold**2 for p in photos]
        self.boxes = [p.boxes[ok] for p, ok in zip(photos, able, strict=True)]
        self.scale = [p.scale[ok] for p, ok in zip(photos, able, strict=True)]
        self.vectors = np.concatenate([p.vectors[ok] for p, ok in zip(photos, able, strict=True)])
        self.quality = np.concatenate([p.quality[ok] for p, ok in zip(photos, able, strict=True)])
        counts = [len(boxes) for boxes in self.boxes]
        self.start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.photo = np.repeat(np.arange(len(photos)), counts)
        self.place = np.arange(len(self.photo)) - self.start[self.photo]
        most, things = max(counts, default=0), max(len(p.truth.names) for p in photos)
        self.overlap = np.zeros((len(photos), most, most), bool)
        self.one = np.zeros((len(photos), most, most), bool)  # boxes that are one object, which has one name
        self.shared = np.full((len(photos), most, things), -1.0)
        for i, one in enumerate(photos):
            m, n = counts[i], len(one.truth.names)
            over = iou(self.boxes[i], self.boxes[i])
            self.overlap[i, :m, :m], self.one[i, :m, :m] = (
                over > self.fusion.nms_iou,
                over > self.fusion.cross_class_iou,
            )
            self.shared[i, :m, :n] = iou(one.truth.boxes, self.boxes[i]).T
        self.crowd = np.zeros((len(photos), things), bool)
        for i, one in enumerate(photos):
            self.crowd[i, : len(one.truth.crowd)] = one.truth.crowd
        # boxes of one scale, made few by plain NMS, need no loop over the images
        plain = self.fusion.within == "hard" and self.fusion.across == "wbf" and not self.fusion.containment_power
        self.together = plain and all((scale == scale[:1]).all() for scale in self.scale)

    def __len__(self) -> int:
        return len(self.photos)

    def names_as(self, classes: Sequence[str]) -> np.ndarray:
        """(images, objects) int64: which of `classes` each object is, -1 for none of them."""
        number = {name: k for k, name in enumerate(classes)}
        found = np.full(self.crowd.shape, -1, np.int64)
        for i, one in enumerate(self.photos):
            found[i, : len(one.truth.names)] = [number.get(name, -1) for name in one.truth.names]
        return found

    def counts(self, learned: Learned, vigilances: Sequence[float], *, open_set: bool = True) -> np.ndarray:
        """(vigilances, images, 3) int64: right answers, wrong ones, objects missed. open_set: as in Irene.select."""
        logits, floor = self.asked(learned)
        things = self.names_as(learned.solution.classes)
        wanted = ((things >= 0) & ~self.crowd).sum(axis=1)
        found = np.zeros((len(vigilances), len(self), 3), np.int64)
        for row, vigilance in zip(found, vigilances, strict=True):
            given = self._given(learned, logits, floor, vigilance, things, open_set)
            where = self.photo[given.box]
            row[:, TP] = np.bincount(where[given.on >= 0], minlength=len(self))
            row[:, FP] = np.bincount(where[given.on == -1], minlength=len(self))
            row[:, FN] = wanted - row[:, TP]
        return found

    def by_class(
        self, learned: Learned, vigilance: float, classes: Sequence[str], *, open_set: bool = True
    ) -> np.ndarray:
        """(classes, 3) int64: the same of each of `classes`, all images together; of one that was not taught, all is
        missed."""
        given, names = self.given(learned, vigilance, open_set=open_set), learned.solution.classes
        number = {name: k for k, name in enumerate(classes)}
        mine = np.array([number.get(name, len(classes)) for name in names], np.int64)[given.label]
        found = np.zeros((len(classes) + 1, 3), np.int64)
        np.add.at(found[:, TP], mine[given.on >= 0], 1)
        np.add.at(found[:, FP], mine[given.on == -1], 1)
        things = self.names_as(classes)
        found[:-1, FN] = np.bincount(things[(things >= 0) & ~self.crowd], minlength=len(classes)) - found[:-1, TP]
        return found[:-1]

    def asked(self, learned: Learned) -> tuple[np.ndarray, np.ndarray | None]:
        """What no vigilance changes: nats (boxes, k) and the background's cosine (boxes,), if there is one."""
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

    def given(self, learned: Learned, vigilance: float, *, open_set: bool = True) -> Given:
        """The answers at one vigilance, each held against the labels."""
        return self._given(learned, *self.asked(learned), vigilance, self.names_as(learned.solution.classes), open_set)

    def _given(
        self, learned: Learned, logits: np.ndarray, floor: np.ndarray | None, vigilance: float, things: np.ndarray,
        open_set: bool,
    ) -> Given:  # fmt: skip
        said = select_candidates(
            learned.solution,
            logits,
            self.quality,
            vigilance,
            cosine_floor=floor,
            open_set=open_set,
            score_threshold=self.score_threshold,
        )
        if self.together:
            box, label, score = self._together(said.box, said.label, said.score)
            share = self.shared[self.photo[box], self.place[box]]
        else:
            box, label, score, share = self._one_by_one(said.box, said.label, said.score)
        return Given(box, label, score, self._held_against(box, label, score, share, things))

    def _together(self, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
        """Non-maximum suppression in every image and class at once: the best that is left of each, again and again."""
        group = self.photo[box] * (int(label.max(initial=0)) + 1) + label
        kept = self._best(box, group, np.where(score >= MIN_NMS_SCORE, score, 0.0), self.overlap)
        kept = kept[np.lexsort((kept, -score[kept], self.photo[box[kept]]))]
        where = self.photo[box[kept]]
        rank = np.arange(len(kept)) - np.searchsorted(where, where)
        kept = kept[rank < self.fusion.max_boxes]
        kept = kept[np.sort(self._best(box[kept], self.photo[box[kept]], score[kept], self.one))]
        return box[kept], label[kept], score[kept]

    def _best(self, box: np.ndarray, group: np.ndarray, score: np.ndarray, alike: np.ndarray) -> np.ndarray:
        """Of each group the best, and what is not `alike` to a better one that stays: places in box; none scoring 0."""
        order = np.lexsort((np.arange(len(box)), -score, group))
        order = order[score[order] > 0]
        stays = [np.zeros(0, np.int64)]
        while len(order):
            first = np.ones(len(order), bool)
            first[1:] = group[order[1:]] != group[order[:-1]]
            lead = order[np.flatnonzero(first)[np.cumsum(first) - 1]]  # the best of each one's group
            stays.append(order[first])
            covered = alike[self.photo[box[order]], self.place[box[order]], self.place[box[lead]]]
            order = order[~covered & ~first]
        return np.concatenate(stays)

    def _one_by_one(self, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
        """As Irene.select does it; and, since boxes may be moved by that, what they share with the image's objects."""
        rows = []
        for i in np.unique(self.photo[box]).tolist():
            own = np.flatnonzero(self.photo[box] == i)
            place, truth = self.place[box[own]], self.photos[i].truth.boxes
            made = fuse(self.boxes[i][place], score[own], label[own], self.scale[i][place], self.fusion)
            stays = np.sort(nms(made.xyxy_px, made.score, self.fusion.cross_class_iou))
            share = np.full((len(stays), self.crowd.shape[1]), -1.0)
            share[:, : len(truth)] = iou(truth, made.xyxy_px[stays]).T
            rows.append((box[own[made.source[stays]]], made.label[stays], made.score[stays], share))
        if not rows:
            return box[:0], label[:0], score[:0], np.zeros((0, self.crowd.shape[1]))
        return tuple(np.concatenate(part) for part in zip(*rows, strict=True))

    def _held_against(
        self, box: np.ndarray, label: np.ndarray, score: np.ndarray, share: np.ndarray, things: np.ndarray
    ) -> np.ndarray:
        """(n,) int64, see Given.on: each answer, the best first, takes the object of its class that it shares most of.
        share: (n, objects of its image) IoU."""
        on = np.full(len(box), -1, np.int64)
        if not len(box) or not things.size:
            return on
        group = self.photo[box] * (int(label.max()) + 1) + label
        order = np.lexsort((np.arange(len(box)), -score, group))
        rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        free = (things >= 0) & ~self.crowd
        for r in range(int(rank.max()) + 1):
            now = order[rank == r]
            where = self.photo[box[now]]
            mine = things[where] == label[now][:, None]
            own = np.where(mine & free[where], share[now], -1.0)
            best = own.argmax(axis=1)
            right = own[np.arange(len(now)), best] >= MATCH_IOU
            on[now[right]] = best[right]
            free[where[right], best[right]] = False
            crowd = (mine & self.crowd[where] & (share[now] >= MATCH_IOU)).any(axis=1)
            on[now[~right & crowd]] = -2
        return on


def f1(counts: np.ndarray) -> np.ndarray:
    """(..., 3) right, wrong, missed -> (...) F1; 0 where there is nothing of any."""
    tp, fp, fn = (counts[..., i].astype(np.float64) for i in (TP, FP, FN))
    return np.asarray(2 * tp / np.maximum(2 * tp + fp + fn, 1e-12))
