"""Irene: a detector whose classes are taught, from a few boxes each, in seconds and without gradients.

A proposer says where there are things of any kind (proposals_*.py), NEMO says which of the taught classes each is, or
none of them. As R-FCN-3000 (Singh 2018, arXiv:1712.01802) and the 2018 report have it:

    score of a class = sqrt(quality of the box x probability of the class)

with the probabilities a softmax over NEMO's scores, "none of these" among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import handful.detect
from handful.detect.contract import Eye, Seen, glance
from handful.detect.describe import Describer, Look
from handful.detect.fusion import Fusion, apart, fuse, iou
from handful.detect.multiscale import ManyScales, Scales
from handful.errors import DataError
from handful.files import read_tensors, write_tensors
from handful.models import folder as folders
from handful.pick import names, pick
from handful.progress import warn
from handful.teach.embed import unit
from handful.teach.nemo import GAIN, VIGILANCE, Nemo, Solution, none_below

KIND = "irene"
RIDGE = 2.0  # of 0.25, 1, 2 and 3 on COCO boxes: 0.25 is worse, the others are level
LOOKED_AT = 100  # boxes of a photo that NEMO is asked about
CLASSES_A_BOX = 5
LEAST_SCORE = 0.02
SAME = 0.99  # IoU above which two taught boxes are one
EXAMPLES = "examples.safetensors"
RULE = "sqrt(quality x softmax(NEMO's scores, none of these among them)); boxes of a class fused"


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a photo, best first.

    xyxy_px: (n, 4) float64 px of the photo. score: (n,) float64, 0 to 1. label: (n,) int64, which of `classes`. margin:
    (n,) float64, nats by which that class beats "none of these"; at 0 or below the box is unknown, and `label` only the
    nearest class. vectors: (n, dim) float64, what NEMO was asked about.
    """

    classes: tuple[str, ...]
    xyxy_px: np.ndarray
    score: np.ndarray
    label: np.ndarray
    margin: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    @property
    def unknown(self) -> np.ndarray:
        """(n,) bool: none of the taught classes."""
        return np.asarray(self.margin <= 0)

    def rows(self) -> list[dict[str, Any]]:
        """As JSON: class, score, box_px, unknown, margin."""
        return [
            {"class": self.classes[k], "score": float(s), "box_px": [float(v) for v in box], "unknown": bool(u),
             "margin": float(m)}
            for box, s, k, u, m in zip(self.xyxy_px, self.score, self.label, self.unknown, self.margin, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Asked:
    """The boxes of a photo and what NEMO scores for each, whatever the vigilance: kept, the same can be told again at
    another vigilance for next to nothing.

    xyxy_px (n, 4), quality (n,), scale (n,): as Seen. vectors: (n, dim) float64; nats: (n, k) float64, a class each.
    """

    xyxy_px: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    nats: np.ndarray

    def __len__(self) -> int:
        return len(self.quality)


@dataclass
class Examples:
    """What was taught, to explain answers by: vectors (n, dim) float16, labels, photos' names, boxes (n, 4) px."""

    vectors: list[np.ndarray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def add(self, vectors: np.ndarray, labels: Sequence[str], photo: str, boxes: np.ndarray) -> None:
        """Of one photo."""
        self.vectors += list(vectors.astype(np.float16))
        self.labels += list(labels)
        self.photos += [photo] * len(labels)
        self.boxes += np.asarray(boxes, np.float64).tolist()

    def drop(self, at: int) -> None:
        """The one at a place."""
        for held in (self.vectors, self.labels, self.photos, self.boxes):
            del held[at]  # type: ignore[attr-defined]


class Irene:
    """A taught detector. eye: where things are; describer: what lies in a box; nemo: which class that is."""

    def __init__(self, eye: Eye, describer: Describer, nemo: Nemo, fusion: Fusion | None = None) -> None:
        self.eye, self.describer, self.nemo = eye, describer, nemo
        self.fusion, self.examples, self.about = fusion or Fusion(), Examples(), dict[str, Any]()
        self._solved: Solution | None = None
        self._held: np.ndarray | None = None  # the examples in NEMO's whitened space, of length 1

    @classmethod
    def new(
        cls, proposals: str | None = None, *, look: Look | None = None, vigilance: float = VIGILANCE,
        fusion: Fusion | None = None, scales: Scales | None = None,
    ) -> Irene:  # fmt: skip
        """Untaught. proposals: name of a source of boxes; None for the best that is here."""
        eye = ManyScales(pick(handful.detect, "proposals", proposals or best_here()).load(), scales)
        describer = Describer(eye, look)
        nemo = Nemo(describer.dim, features=describer.name, vigilance=vigilance, ridge=RIDGE)
        return cls(eye, describer, nemo, fusion)

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name."""
        return self.nemo.classes

    def learn(self, rgb_u8: np.ndarray, boxes: np.ndarray, labels: Sequence[str], photo: str = "") -> None:
        """Learn the boxes of one photo, all or none of them.

        rgb_u8: (h, w, 3) uint8 RGB; boxes: (n, 4) px; labels: a class name each; photo: its name, to explain by.
        The same box with two classes is learned as both, with a warning. Raises DataError for a box outside the photo.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if len(boxes) != len(labels):
            raise DataError(f"{len(boxes)} boxes and {len(labels)} labels{' of ' + photo if photo else ''}; wanted one "
                            "label a box")  # fmt: skip
        if not len(boxes):
            return
        for i, j in np.argwhere(np.triu(iou(boxes, boxes), 1) > SAME).tolist():
            if labels[i] != labels[j]:
                warn(f"{photo or 'a photo'}: the box {boxes[i].round(1).tolist()} is called {labels[i]!r} and "
                     f"{labels[j]!r}; it is learned as both")  # fmt: skip
        vectors = self.describer.teach_vectors(rgb_u8, boxes)
        self.nemo.learn_many(vectors, list(labels))
        self.examples.add(vectors, labels, photo, boxes)
        self._solved = self._held = None

    def unlearn(self, rgb_u8: np.ndarray, box: Sequence[float], label: str, photo: str = "") -> None:
        """Take one box back, as if it had never been learned. Raises DataError if it never was."""
        vector = self.describer.teach_vectors(rgb_u8, np.array([box], np.float64))[0]
        self.nemo.unlearn(vector, label)
        there = zip(self.examples.labels, self.examples.photos, self.examples.boxes, strict=True)
        at = next((i for i, held in enumerate(there) if held == (label, photo, [float(v) for v in box])), None)
        if at is not None:
            self.examples.drop(at)
        self._solved = self._held = None

    def solution(self) -> Solution:
        """NEMO's constants as of now."""
        if self._solved is None:
            self._solved = self.nemo.solve()
        return self._solved

    def ask(self, rgb_u8: np.ndarray, seen: Seen | None = None) -> Asked:
        """All that is asked about a photo (h, w, 3) uint8 RGB of any size, before anybody says how careful to be.

        seen: what the proposer saw, if it has looked already. Raises DataError when nothing was taught.
        """
        solution, seen = self.solution(), seen or self.eye.look(rgb_u8, LOOKED_AT)
        boxes = seen.xyxy_px[:LOOKED_AT]
        vectors = self.describer.vectors(rgb_u8, boxes, seen)
        return Asked(boxes, seen.quality[:LOOKED_AT], seen.scale[:LOOKED_AT], vectors, nats_of(solution, vectors))

    def tell(
        self, about: Asked, *, vigilance: float | None = None, unknown: bool = False, careful: bool = True,
        least: float = LEAST_SCORE,
    ) -> Detections:  # fmt: skip
        """What is in a photo.

        vigilance: instead of the detector's own. unknown: also tell of boxes that are none of the taught classes, with
        the score sqrt(quality x chance of none) and the nearest class. careful: False tells of every class that scores
        at all, whatever NEMO's vigilance says, as measures of ranking (AP) want it. least: score below which nothing is
        told. Of several answers about one thing (Fusion.one_name) the best is told, except with careful=False.
        """
        solution = self.solution()
        chance, margin = chances(solution, about.nats, self.nemo.vigilance if vigilance is None else vigilance)
        none = margin.shape[1]  # the column of "none of these"
        score = np.sqrt(about.quality[:, None] * chance)
        count = min(CLASSES_A_BOX, none)
        label = np.argsort(-score[:, :none], axis=1, kind="stable")[:, :count].ravel()
        box = np.repeat(np.arange(len(about)), count)
        stays = (margin[box, label] > 0) | (not careful)
        box, label = box[stays], label[stays]
        if unknown:
            strange = np.flatnonzero((margin <= 0).all(axis=1))
            box, label = np.append(box, strange), np.append(label, np.full(len(strange), none))
        stays = score[box, label] >= least
        box, label = box[stays], label[stays]
        found = fuse(about.xyxy_px[box], score[box, label], label, about.scale[box], self.fusion)
        told = np.arange(len(found))
        if careful:  # an answer is one name a thing, the known one where there is one; a ranking is of all of them
            told = np.sort(apart(found.xyxy_px, (found.score + (found.label != none)) / 2, self.fusion.one_name))
        box = box[found.source[told]]
        nearest = margin.argmax(axis=1)
        label = np.where(found.label[told] == none, nearest[box], found.label[told])
        return Detections(
            solution.classes, found.xyxy_px[told], found.score[told], label, margin[box, label], about.vectors[box]
        )

    def detect(self, rgb_u8: np.ndarray, **how: Any) -> Detections:
        """What is in a photo (h, w, 3) uint8 RGB of any size; `how` as in tell."""
        return self.tell(self.ask(rgb_u8), **how)

    def recognise(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, *, vigilance: float | None = None, seen: Seen | None = None
    ) -> Detections:
        """What lies in boxes (n, 4) px of a photo: one answer each, in their order; the score is the chance alone."""
        solution, boxes = self.solution(), np.asarray(boxes, np.float64).reshape(-1, 4)
        vectors = self.describer.vectors(rgb_u8, boxes, seen or glance(self.eye, rgb_u8))
        careful = self.nemo.vigilance if vigilance is None else vigilance
        chance, margin = chances(solution, nats_of(solution, vectors), careful)
        label, row = margin.argmax(axis=1), np.arange(len(boxes))
        return Detections(solution.classes, boxes, chance[row, label], label, margin[row, label], vectors)

    def explain(self, found: Detections, at: int, most: int = 5) -> list[dict[str, Any]]:
        """The taught boxes most like a detection, nearest first: class, photo, box_px, cosine in NEMO's own space."""
        if not self.examples.labels:
            return []
        solution = self.solution()
        if self._held is None:
            self._held = unit(np.stack(self.examples.vectors).astype(np.float64) @ solution.whiten.T)
        cosine = self._held @ unit(found.vectors[at] @ solution.whiten.T)
        return [
            {"class": self.examples.labels[i], "photo": self.examples.photos[i], "box_px": self.examples.boxes[i],
             "cosine": float(cosine[i])}
            for i in np.argsort(-cosine, kind="stable")[:most].tolist()
        ]  # fmt: skip

    def save(self, folder: Path, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the detector's folder, whole or not at all; it needs nothing else. data: what it was taught from."""
        from torch import nn

        parts = nn.ModuleDict()
        for name, module in (("eye", self.eye.network), ("crop", self.describer.backbone)):
            if module is not None:
                parts[name] = module

        def beside(place: Path) -> None:
            self.nemo.save(place)
            held = (
                np.stack(self.examples.vectors) if self.examples.vectors else np.zeros((0, self.nemo.dim), np.float16)
            )
            boxes = np.array(self.examples.boxes, np.float64).reshape(-1, 4)
            write_tensors(place / EXAMPLES, {"vectors": held, "boxes": boxes})

        about = {
            "rule": RULE, "eye": self.eye.about, "look": asdict(self.describer.how), "fusion": asdict(self.fusion),
            "scales": asdict(getattr(self.eye, "scales", Scales())),
            "examples": {"labels": self.examples.labels, "photos": self.examples.photos},
            "about": {**self.about, "vigilance": self.nemo.vigilance, "samples": self.nemo.counts, **(data or {})},
        }  # fmt: skip
        frame = {"before_the_graph": "see rule, eye and look", "colour_order": "RGB", "dtype": "uint8"}
        return folders.save_folder(folder, parts, kind=KIND, args={}, classes=list(self.classes), preprocessing=frame,
                                   about=about, beside=beside)  # fmt: skip

    @classmethod
    def load(cls, folder: Path, look: str | None = None) -> Irene:
        """From its folder. look: how at a photo, instead of how it was taught: whole, pyramid or focus.

        Raises DataError, naming the file, if anything in it is missing or not as saved; UnknownName for another look.
        """
        import torch

        folder = Path(folder)
        meta = folders.read_meta(folder)
        if meta["network"].get("kind") != KIND:
            raise DataError(f"{folder} holds a {meta['network'].get('kind')!r} network; wanted a taught detector, as "
                            "`handful teach COCO.json --out DETECTOR` makes")  # fmt: skip
        held = {key: torch.from_numpy(value) for key, value in read_tensors(folder / folders.WEIGHTS).items()}
        of = {part: {key.removeprefix(f"{part}."): value for key, value in held.items() if key.startswith(f"{part}.")}
              for part in ("eye", "crop")}  # fmt: skip
        try:
            own = pick(handful.detect, "proposals", str(meta["eye"]["name"])).load(of["eye"], meta["eye"])
            scales = Scales(**meta.get("scales", {}))
            eye = ManyScales(own, replace(scales, look=look) if look else scales)
            describer = Describer(eye, Look(**meta["look"]), of["crop"])
            fusion = Fusion(**meta["fusion"])
        except (RuntimeError, TypeError, KeyError) as error:
            raise DataError(f"{folder / folders.WEIGHTS} does not fit what {folders.META} says of it ({error}); "
                            "restore it or teach the detector again") from error  # fmt: skip
        nemo = Nemo.load(folder, features=describer.name)
        found = cls(eye, describer, nemo, fusion)
        examples = read_tensors(folder / EXAMPLES)
        labels, photos = meta["examples"]["labels"], meta["examples"]["photos"]
        if not len(labels) == len(photos) == len(examples["vectors"]) == len(examples["boxes"]):
            raise DataError(f"{folder / EXAMPLES} and {folders.META} name different examples; teach the detector again")
        found.examples = Examples(list(examples["vectors"]), labels, photos, examples["boxes"].tolist())
        found.about = meta["about"]
        return found


def best_here() -> str:
    """The name of the best source of boxes that is on this machine. Raises DataError when there is none."""
    there = [name for name in names(handful.detect, "proposals") if pick(handful.detect, "proposals", name).here()]
    if not there:
        raise DataError("no source of boxes is on this machine; run: handful weights get nanodet")
    return "nanodet" if "nanodet" in there else there[0]


def nats_of(solution: Solution, vectors: np.ndarray) -> np.ndarray:
    """(n, dim) -> (n, k): NEMO's score of each class."""
    return solution.scores(vectors)[:, :-1] if len(vectors) else np.zeros((0, len(solution.classes)))


def chances(solution: Solution, nats: np.ndarray, vigilance: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) -> the chance of each class, "none of these" last, (n, k + 1), rows of sum 1; and by how many nats each
    class beats "none of these", (n, k)."""
    none = np.full((len(nats), 1), GAIN * none_below(solution.expected, vigilance))
    whole = np.concatenate([nats, none], axis=1)
    chance = np.exp(whole - whole.max(axis=1, keepdims=True))
    return chance / chance.sum(axis=1, keepdims=True), nats - none
