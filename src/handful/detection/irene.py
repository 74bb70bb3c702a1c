"""Irene: a detector whose classes are taught from a few boxes each, in seconds and without gradients.

It is a few-shot, open-set detector. A proposer finds objects of any kind (proposer_*.py), and NEMO says which of the
taught classes each is, or none of them. As in R-FCN-3000 (Singh 2018, arXiv:1712.01802) and the 2018 report:

    score of a class = sqrt(quality of the box x probability of the class)

The probabilities are a softmax over NEMO's scores, "none of these" among them (scoring.py), which has examples of its
own (background.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import handful.detection
from handful.curate.seen import Seen, mark
from handful.detection import folder as folders
from handful.detection.background import Background, BackgroundBank, background_boxes
from handful.detection.contract import Proposals, Proposer, encode
from handful.detection.embedder import BoxEmbedder, CropSettings
from handful.detection.examples import Examples
from handful.detection.fusion import Fusion, iou
from handful.detection.masking import Masker, best_method
from handful.detection.multiscale import MultiScaleProposer, Scales
from handful.detection.scored import ScoredProposals, select_detections
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, VIGILANCE, class_probabilities, logits_of
from handful.errors import DataError
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import Nemo, Solution
from handful.pick import names, pick
from handful.progress import warn
from handful.results import Detections
from handful.words import counted

RIDGE = 2.0  # of 0.25, 1, 2 and 3 on COCO boxes: 0.25 is worse, the others are level
SAME_BOX_IOU = 0.99  # above it two taught boxes are one
Embedded = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, quality, scale and vectors of proposals
SAME_PIXELS = 0.99  # cosine above which a box embedding is that of the same pixels


class Irene:
    """A taught detector. proposer: where objects are; embedder: a box as a vector; nemo: which class that is; masks:
    name of the mask method; score_threshold: below it a detection is left out."""

    def __init__(
        self,
        proposer: Proposer,
        embedder: BoxEmbedder,
        nemo: Nemo,
        fusion: Fusion | None = None,
        masks: str | None = None,
    ) -> None:
        self.proposer, self.embedder, self.nemo = proposer, embedder, nemo
        self.fusion, self.examples, self.about = fusion or Fusion(), Examples(), dict[str, Any]()
        self.bank, self.score_threshold = BackgroundBank(), DEFAULT_SCORE_THRESHOLD
        self._solution: Solution | None = None
        self._background: Background | None = None
        self._whitened: np.ndarray | None = None  # the examples in NEMO's whitened space, of length 1
        self.seen: Seen | None = Seen()  # images that were learned; None for a folder that does not say
        self.masks = masks or best_method()
        self.maskers: dict[str, Masker] = {}

    @classmethod
    def new(
        cls, proposer: str | None = None, *, crop: CropSettings | None = None, vigilance: float = VIGILANCE,
        fusion: Fusion | None = None, masks: str | None = None, scales: Scales | None = None,
    ) -> Irene:  # fmt: skip
        """Untaught. proposer: by name; masks: a mask method by name; None for the best on this machine."""
        source = MultiScaleProposer(pick(handful.detection, "proposer", proposer or best_proposer()).load(), scales)
        embedder = BoxEmbedder(source, crop)
        nemo = Nemo(embedder.dim, features=embedder.name, vigilance=vigilance, ridge=RIDGE)
        if masks is not None:
            pick(handful.detection, "masks", masks)
        return cls(source, embedder, nemo, fusion, masks)

    @classmethod
    def load(cls, folder: Path, scale_mode: str | None = None, *, whole: bool = True) -> Irene:
        """From its folder, of this version or an older one. scale_mode: whole, pyramid or focus, instead of the mode it
        was taught with (Scales.mode). whole: as handful.models.folder.read_meta.

        Raises DataError, naming the file, if anything in it is missing or not as saved; UnknownName for another mode.
        """
        saved = folders.load(folder, scale_mode, whole=whole)
        irene = cls(saved.proposer, saved.embedder, saved.nemo, saved.fusion, saved.masks)
        irene.examples, irene.bank, irene.about = saved.examples, saved.bank, saved.about
        irene.score_threshold, irene.seen = saved.score_threshold, saved.seen
        if saved.masker is not None and saved.masks is not None:
            irene.maskers[saved.masks] = saved.masker
        return irene

    def save(self, folder: Path, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the detector's folder, whole or not at all; it needs nothing else. data: what it was taught from.
        Returns what handful.json holds."""
        saved = folders.Saved(
            self.proposer, self.embedder, self.nemo, self.fusion, self.examples, self.bank, self.about,
            self.score_threshold, self.masks, self.masker(), self.seen,
        )  # fmt: skip
        return folders.save(saved, folder, data)

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name."""
        return self.nemo.classes

    def learn(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, labels: Sequence[str], image: str = "", *,
        known: np.ndarray | None = None, exhaustive: bool = True, proposals: Proposals | None = None,
        embedded: np.ndarray | None = None, vectors: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Learn the boxes of one image, all or none of them, and from the rest of it what is none of these.

        rgb_u8: (h, w, 3) uint8 RGB; boxes: (n, 4) px; labels: a class name each; image: its name, to explain by. known:
        (m, 4) px, other objects of taught classes that are there and not to be learned. exhaustive: whether these are
        all there are; False, where labels are partial, learns no background. proposals: as in score. embedded, vectors:
        those of the proposals, as embed_proposals gives them, and of the boxes, flip-averaged, where they are there.
        The same box with two classes is learned as both, with a warning. Raises DataError for a box outside the image.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if len(boxes) != len(labels):
            raise DataError(f"{counted(len(boxes), 'box')} and "
                            f"{counted(len(labels), 'label')}{' of ' + image if image else ''}; wanted one "
                            "label a box")  # fmt: skip
        if not len(boxes):
            return
        for i, j in np.argwhere(np.triu(iou(boxes, boxes), 1) > SAME_BOX_IOU).tolist():
            if labels[i] != labels[j]:
                warn(f"{image or 'an image'}: the box {boxes[i].round(1).tolist()} is called {labels[i]!r} and "
                     f"{labels[j]!r}; it is learned as both")  # fmt: skip
        if proposals is None:
            proposals = self.propose(rgb_u8) if exhaustive else encode(self.proposer, rgb_u8)
        if vectors is None:
            vectors = self.embedder.embed_flip_averaged(rgb_u8, boxes, proposals)
        every = boxes if known is None else np.concatenate([boxes, np.asarray(known, np.float64).reshape(-1, 4)])
        rest, background = np.zeros((0, 4)), np.zeros((0, self.nemo.dim))
        if exhaustive:
            if embedded is None:
                embedded = self.embedder.embed_proposals(rgb_u8, proposals)
            found = proposals.xyxy_px[: len(embedded)]
            where = background_boxes(found, every)
            rest, background = found[where], embedded[where]
        self.nemo.learn_many(vectors, list(labels))
        if self.seen is not None:
            one = mark(rgb_u8)
            for label in set(labels):
                self.seen.add(one, label)
        self.examples.add(vectors, labels, image, boxes)
        self.bank.add(image, rest, background)
        self._solution = self._whitened = None

    def unlearn(self, rgb_u8: np.ndarray, box: Sequence[float], label: str, image: str = "") -> None:
        """Take one box back, as if it had never been learned. Raises DataError if it never was."""
        for embedder in self._embedders(label):
            vector = embedder.embed_flip_averaged(rgb_u8, np.array([box], np.float64))[0]
            if self.nemo.knows(vector, label):
                break
        self.nemo.unlearn(vector, label)
        held = zip(self.examples.labels, self.examples.images, self.examples.boxes, strict=True)
        at = next((i for i, one in enumerate(held) if one == (label, image, [float(v) for v in box])), None)
        if at is not None:
            self.examples.drop(at)
            self._unsee(rgb_u8, image, [label])
        self._solution = self._whitened = None

    def unlearn_taught(self, rgb_u8: np.ndarray, image: str, which: Sequence[int]) -> None:
        """Take back some of the boxes of an image that were learned together, by their places in `examples`.

        rgb_u8: the image; image: the name it was learned under. All or nothing. Raises DataError where its pixels are
        not those that were learned.
        """
        done: list[tuple[np.ndarray, str]] = []
        try:
            for i in which:
                vector, label = self._as_learned(rgb_u8, image, i), self.examples.labels[i]
                done.append((self.nemo.unlearn(vector, label), label))
        except DataError as error:
            for vector, label in done:
                self.nemo.learn(vector, label)
            raise DataError(f"{image}: {error}; are these the pixels that were learned?") from error
        for i in sorted(which, reverse=True):
            self.examples.drop(i)
        self._unsee(rgb_u8, image, [label for _, label in done])
        self._solution = self._whitened = None

    def _unsee(self, rgb_u8: np.ndarray, image: str, labels: Sequence[str]) -> None:
        """An image of which some boxes were taken back is no longer known as theirs, where it has no other of a class;
        "" is how older detectors remembered an image, of whatever classes."""
        if self.seen is None:
            return
        one, held = mark(rgb_u8), self.examples
        rows = list(zip(held.labels, held.boxes, held.vectors, strict=True))
        others = [row for row, name in zip(rows, held.images, strict=True) if name == image]
        for label in set(labels):
            if not any(self._shows(rgb_u8, box, vector) for name, box, vector in others if name == label):
                self.seen.drop(one, label)
        if not others:
            self.seen.drop(one)

    def _shows(self, rgb_u8: np.ndarray, box: Sequence[float], vector: np.ndarray) -> bool:
        """Whether a taught box is of these pixels, and not of another image of the same name."""
        if box[2] > rgb_u8.shape[1] or box[3] > rgb_u8.shape[0]:
            return False
        own = self.embedder.embed_flip_averaged(rgb_u8, np.array([box], np.float64))[0]
        return float(unit(own) @ unit(vector.astype(np.float64))) > SAME_PIXELS

    def _as_learned(self, rgb_u8: np.ndarray, image: str, which: int) -> np.ndarray:
        """The very vector of a taught box. How many boxes run at once decides its last bits, so it is made with all of
        its image, as when a data set is taught, and by itself."""
        own = [i for i, name in enumerate(self.examples.images) if name == image]
        boxes = np.array([self.examples.boxes[i] for i in own], np.float64).reshape(-1, 4)
        at = own.index(which)
        vector, label = np.zeros(self.nemo.dim), self.examples.labels[which]
        for embedder in self._embedders(label):
            for proposals in (self.propose(rgb_u8), encode(self.proposer, rgb_u8)):
                for some, place in ((boxes, at), (boxes[at : at + 1], 0)):
                    vector = np.asarray(embedder.embed_flip_averaged(rgb_u8, some, proposals)[place])
                    if self.nemo.knows(vector, label):
                        return vector
        return vector

    def _embedders(self, label: str) -> list[BoxEmbedder]:
        """What may have made the vectors of a class: a folder of 0.3 was taught on PyTorch, and does not say more of a
        sample than its hash."""
        return [self.embedder, *([self.embedder.on_torch()] if self.nemo.only_exact(label) else [])]

    def forget(self, label: str) -> None:
        """Take a whole class back, without its images at hand; see Nemo.forget."""
        self.nemo.forget(label)
        for at in reversed([i for i, held in enumerate(self.examples.labels) if held == label]):
            self.examples.drop(at)
        if self.seen is not None:
            self.seen.forget(label)
        self._solution = self._whitened = None

    def solution(self) -> Solution:
        """NEMO's constants as of now."""
        if self._solution is None:
            self._solution = self.nemo.solve()
            self._background = self.bank.background(self.examples.by_image())
        return self._solution

    def background(self) -> Background | None:
        """The background as of now; None when nothing is known of it."""
        self.solution()
        return self._background

    def cosine_floor(self, vectors: np.ndarray) -> np.ndarray | None:
        """(n,) cosines that a class must beat, see Background.cosine_floor; None without a background."""
        background = self.background()
        return background.cosine_floor(self.solution(), vectors) if background is not None else None

    def propose(self, rgb_u8: np.ndarray) -> Proposals:
        """As many proposals of an image as are scored."""
        return self.proposer.propose(rgb_u8, self.embedder.settings.max_boxes)

    def score(self, rgb_u8: np.ndarray, proposals: Proposals | None = None) -> ScoredProposals:
        """The proposals of an image (h, w, 3) uint8 RGB of any size with their logits, whatever the vigilance.

        proposals: of this image, if there are any yet. Raises DataError when nothing was taught.
        """
        solution = self.solution()
        if proposals is None:
            proposals = self.propose(rgb_u8)
        boxes, quality, scale, vectors = self.embed_proposals(rgb_u8, proposals)
        logits = logits_of(solution, vectors)
        return ScoredProposals(boxes, quality, scale, vectors, logits, self.cosine_floor(vectors))

    def embed_proposals(self, rgb_u8: np.ndarray, proposals: Proposals) -> Embedded:
        """The best proposals of an image, max_boxes of its settings at most: boxes, quality, scale, vectors, as in
        ScoredProposals."""
        vectors = self.embedder.embed_proposals(rgb_u8, proposals)
        n = len(vectors)
        return proposals.xyxy_px[:n], proposals.quality[:n], proposals.scale[:n], vectors

    def select(
        self, scored: ScoredProposals, *, vigilance: float | None = None, unknown: bool = False, ranking: bool = False,
        score_threshold: float | None = None, open_set: bool = True,
    ) -> Detections:  # fmt: skip
        """Detections from scored proposals.

        vigilance: instead of the detector's own. unknown: also give boxes that are none of the taught classes, with the
        score sqrt(quality x probability of none) and the nearest class. ranking: for ranking metrics such as AP: every
        class of a box that scores at all, whatever the vigilance. score_threshold: instead of the detector's own
        (score_threshold.py); with `ranking` next to nothing. open_set: as in scoring.class_probabilities. Of several
        detections of one object (Fusion.cross_class_iou) the best is kept, except with `ranking`.
        """
        if score_threshold is None and not ranking:
            score_threshold = self.score_threshold
        return select_detections(
            scored, self.solution(), self.fusion, self.nemo.vigilance if vigilance is None else vigilance,
            unknown=unknown, ranking=ranking, score_threshold=score_threshold, open_set=open_set,
        )  # fmt: skip

    def detect(self, rgb_u8: np.ndarray, *, masks: bool | str = False, **options: Any) -> Detections:
        """Detections in an image (h, w, 3) uint8 RGB of any size; masks as in add_masks, `options` as in select."""
        found = self.select(self.score(rgb_u8), **options)
        return self.add_masks(rgb_u8, found, masks) if masks else found

    def add_masks(self, rgb_u8: np.ndarray, found: Detections, method: bool | str = True) -> Detections:
        """Detections with the pixels of each. method: a mask method by name; True for the detector's own."""
        # a box of several classes is segmented once
        boxes, place = np.unique(found.xyxy_px, axis=0, return_inverse=True)
        patches = self.masker(None if method is True else str(method)).segment(rgb_u8, boxes)
        masks = tuple(patches[i] for i in place.ravel().tolist())
        return replace(found, masks=masks, size_wh=(rgb_u8.shape[1], rgb_u8.shape[0]))

    def masker(self, method: str | None = None) -> Masker:
        """A mask method, ready; None for the detector's own, which its folder keeps. Raises UnknownName."""
        method = method or self.masks
        if method not in self.maskers:
            self.maskers[method] = pick(handful.detection, "masks", method).load()
        return self.maskers[method]

    def classify_boxes(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, *, vigilance: float | None = None,
        proposals: Proposals | None = None,
    ) -> Detections:  # fmt: skip
        """The class of each of boxes (n, 4) px of an image, in their order; the score is the probability alone. Each is
        embedded with its mirror image, as when it is learned."""
        solution, boxes = self.solution(), np.asarray(boxes, np.float64).reshape(-1, 4)
        vectors = self.embedder.embed_flip_averaged(rgb_u8, boxes, proposals)
        vigilance = self.nemo.vigilance if vigilance is None else vigilance
        logits, floor = logits_of(solution, vectors), self.cosine_floor(vectors)
        probability, margin = class_probabilities(solution, logits, vigilance, cosine_floor=floor)
        label, row = margin.argmax(axis=1), np.arange(len(boxes))
        return Detections(solution.classes, boxes, probability[row, label], label, margin[row, label], vectors)

    def explain(self, found: Detections, index: int, max_examples: int = 5) -> list[dict[str, Any]]:
        """The taught boxes most like a detection, nearest first: class, image, box_px, cosine in NEMO's own space."""
        if not self.examples.labels:
            return []
        solution = self.solution()
        if self._whitened is None:
            self._whitened = unit(np.stack(self.examples.vectors).astype(np.float64) @ solution.whiten.T)
        cosine = self._whitened @ unit(found.vectors[index] @ solution.whiten.T)
        return [
            {"class": self.examples.labels[i], "image": self.examples.images[i], "box_px": self.examples.boxes[i],
             "cosine": float(cosine[i])}
            for i in np.argsort(-cosine, kind="stable")[:max_examples].tolist()
        ]  # fmt: skip


def best_proposer() -> str:
    """The name of the best proposer on this machine. Raises DataError when there is none."""
    there = [
        name for name in names(handful.detection, "proposer") if pick(handful.detection, "proposer", name).available()
    ]
    if not there:
        raise DataError("no proposer is installed; run: handful weights get nanodet")
    return "nanodet" if "nanodet" in there else there[0]
