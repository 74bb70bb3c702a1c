"""Irene: a detector whose classes are taught, from a few boxes each, in seconds and without gradients.

A proposer says where there are things of any kind (proposer_*.py), NEMO says which of the taught classes each is, or
none of them. As R-FCN-3000 (Singh 2018, arXiv:1712.01802) and the 2018 report have it:

    score of a class = sqrt(quality of the box x probability of the class)

with the probabilities a softmax over NEMO's scores, "none of these" among them (rules.py), which has examples of its
own (background.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import handful.detection
from handful.detection.background import Background, Bank, away
from handful.detection.contract import Proposals, Proposer, glance
from handful.detection.embedder import BoxEmbedder, CropSettings
from handful.detection.fusion import Fusion, apart, fuse, iou
from handful.detection.masking import Masker, Patch, best_way, kept
from handful.detection.multiscale import ManyScales, Scales
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, VIGILANCE, answered, chances, logits_of
from handful.errors import DataError
from handful.fewshot.embeddings import unit
from handful.fewshot.nemo import Nemo, Solution
from handful.files import read_tensors, write_tensors
from handful.models import folder as folders
from handful.pick import names, pick
from handful.progress import warn

KIND = "irene"
RIDGE = 2.0  # of 0.25, 1, 2 and 3 on COCO boxes: 0.25 is worse, the others are level
LOOKED_AT = 100  # boxes of a photo that NEMO is asked about
SAME = 0.99  # IoU above which two taught boxes are one
EXAMPLES = "examples.safetensors"
RULE = "sqrt(quality x softmax(NEMO's scores, none of these among them)); boxes of a class fused"


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a photo, best first.

    xyxy_px: (n, 4) float64 px of the photo. score: (n,) float64, 0 to 1. label: (n,) int64, which of `classes`. margin:
    (n,) float64, nats by which that class beats "none of these"; at 0 or below the box is unknown, and `label` only the
    nearest class. vectors: (n, dim) float64, what NEMO was asked about. masks: the pixels of each, and size_wh:
    (width, height) of the photo in px; both None where nobody asked for them.
    """

    classes: tuple[str, ...]
    xyxy_px: np.ndarray
    score: np.ndarray
    label: np.ndarray
    margin: np.ndarray
    vectors: np.ndarray
    masks: tuple[Patch, ...] | None = None
    size_wh: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.score)

    @property
    def unknown(self) -> np.ndarray:
        """(n,) bool: none of the taught classes."""
        return np.asarray(self.margin <= 0)

    def rows(self) -> list[dict[str, Any]]:
        """As JSON: class, score, box_px, unknown, margin; and mask, COCO's run lengths, where masks were asked for."""
        rows: list[dict[str, Any]] = [
            {"class": self.classes[k], "score": float(s), "box_px": [float(v) for v in box], "unknown": bool(u),
             "margin": float(m)}
            for box, s, k, u, m in zip(self.xyxy_px, self.score, self.label, self.unknown, self.margin, strict=True)
        ]  # fmt: skip
        if self.masks is not None and self.size_wh is not None:
            for row, mask in zip(rows, self.masks, strict=True):
                row["mask"] = mask.rle(self.size_wh)
        return rows


@dataclass(frozen=True, eq=False)
class ScoredProposals:
    """The boxes of a photo and what NEMO scores for each, whatever the vigilance: kept, the same can be told again at
    another vigilance for next to nothing.

    xyxy_px (n, 4), quality (n,), scale (n,): as Seen. vectors: (n, dim) float64; nats: (n, k) float64, a class each.
    below: (n,) float64, see Background.none; None for a detector without a background.
    """

    xyxy_px: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    logits: np.ndarray
    below: np.ndarray | None = None

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
    """A taught detector. eye: where things are; describer: what lies in a box; nemo: which class that is; masks: name
    of the way to its pixels."""

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
        self.bank, self.score_threshold = Bank(), DEFAULT_SCORE_THRESHOLD
        self._solved: Solution | None = None
        self._background: Background | None = None
        self._held: np.ndarray | None = None  # the examples in NEMO's whitened space, of length 1
        self.masks = masks or best_way()
        self._maskers: dict[str, Masker] = {}

    @classmethod
    def new(
        cls, proposer: str | None = None, *, look: CropSettings | None = None, vigilance: float = VIGILANCE,
        fusion: Fusion | None = None, masks: str | None = None, scales: Scales | None = None,
    ) -> Irene:  # fmt: skip
        """Untaught. proposer: name of a source of boxes; masks: of a way to masks; None for the best that is here."""
        source = ManyScales(pick(handful.detection, "proposer", proposer or best_here()).load(), scales)
        embedder = BoxEmbedder(source, look)
        nemo = Nemo(embedder.dim, features=embedder.name, vigilance=vigilance, ridge=RIDGE)
        if masks is not None:
            pick(handful.detection, "masks", masks)
        return cls(source, embedder, nemo, fusion, masks)

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name."""
        return self.nemo.classes

    def learn(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, labels: Sequence[str], photo: str = "", *,
        known: np.ndarray | None = None, exhaustive: bool = True, seen: Proposals | None = None,
    ) -> None:  # fmt: skip
        """Learn the boxes of one photo, all or none of them, and from the rest of it what is none of these.

        rgb_u8: (h, w, 3) uint8 RGB; boxes: (n, 4) px; labels: a class name each; photo: its name, to explain by. known:
        (m, 4) px, other things of taught classes that are there and not to be learned. exhaustive: whether these are
        all there are; False, where labels are partial, learns nothing from the rest. seen: as ask.
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
        seen = seen or (self.proposer.look(rgb_u8, LOOKED_AT) if exhaustive else glance(self.proposer, rgb_u8))
        vectors = self.embedder.both_ways(rgb_u8, boxes, seen)
        marked = boxes if known is None else np.concatenate([boxes, np.asarray(known, np.float64).reshape(-1, 4)])
        rest = seen.xyxy_px[away(seen.xyxy_px, marked)] if exhaustive else np.zeros((0, 4))
        strange = self.embedder.vectors(rgb_u8, rest, seen)
        self.nemo.learn_many(vectors, list(labels))
        self.examples.add(vectors, labels, photo, boxes)
        self.bank.add(photo, rest, strange)
        self._solved = self._held = None

    def unlearn(self, rgb_u8: np.ndarray, box: Sequence[float], label: str, photo: str = "") -> None:
        """Take one box back, as if it had never been learned. Raises DataError if it never was."""
        vector = self.embedder.both_ways(rgb_u8, np.array([box], np.float64))[0]
        self.nemo.unlearn(vector, label)
        there = zip(self.examples.labels, self.examples.photos, self.examples.boxes, strict=True)
        at = next((i for i, held in enumerate(there) if held == (label, photo, [float(v) for v in box])), None)
        if at is not None:
            self.examples.drop(at)
        self._solved = self._held = None

    def forget(self, label: str) -> None:
        """Take a whole class back, without its images at hand; see Nemo.forget."""
        self.nemo.forget(label)
        for at in reversed([i for i, held in enumerate(self.examples.labels) if held == label]):
            self.examples.drop(at)
        self._solved = self._held = None

    def solution(self) -> Solution:
        """NEMO's constants as of now."""
        if self._solved is None:
            self._solved = self.nemo.solve()
            there: dict[str, list[list[float]]] = {}
            for photo, box in zip(self.examples.photos, self.examples.boxes, strict=True):
                there.setdefault(photo, []).append(box)
            self._background = self.bank.background(there)
        return self._solved

    def background(self) -> Background | None:
        """What none of the taught classes looks like, as of now; None when nothing is known of it."""
        self.solution()
        return self._background

    def below(self, vectors: np.ndarray) -> np.ndarray | None:
        """(n,) cosines that a class must beat, as far as the background is concerned; None without one."""
        background = self.background()
        return background.none(self.solution(), vectors) if background is not None else None

    def ask(self, rgb_u8: np.ndarray, seen: Proposals | None = None) -> ScoredProposals:
        """All that is asked about a photo (h, w, 3) uint8 RGB of any size, before anybody says how careful to be.

        seen: what the proposer saw, if it has looked already. Raises DataError when nothing was taught.
        """
        solution = self.solution()
        boxes, quality, scale, vectors = self.looked_at(rgb_u8, seen or self.proposer.look(rgb_u8, LOOKED_AT))
        return ScoredProposals(boxes, quality, scale, vectors, logits_of(solution, vectors), self.below(vectors))

    def looked_at(self, rgb_u8: np.ndarray, seen: Proposals) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The LOOKED_AT best of the boxes the proposer saw in a photo: boxes, quality, scale, vectors, as in Asked."""
        boxes = seen.xyxy_px[:LOOKED_AT]
        vectors = self.embedder.vectors(rgb_u8, boxes, seen)
        return boxes, seen.quality[:LOOKED_AT], seen.scale[:LOOKED_AT], vectors

    def tell(
        self, about: ScoredProposals, *, vigilance: float | None = None, unknown: bool = False, careful: bool = True,
        score_threshold: float | None = None, rival: str = "null",
    ) -> Detections:  # fmt: skip
        """What is in a photo.

        vigilance: instead of the detector's own. unknown: also tell of boxes that are none of the taught classes, with
        the score sqrt(quality x chance of none) and the nearest class. careful: False tells of every class that scores
        at all, whatever NEMO's vigilance says, as measures of ranking (AP) want it. least: score below which nothing is
        told; None for the detector's own, score_threshold (telling.py), or next to nothing when not careful. rival: as
        rules.chances. Of several answers about one thing (Fusion.one_name) the best is told, except with careful=False.
        """
        careful_at = self.nemo.vigilance if vigilance is None else vigilance
        score_threshold = self.score_threshold if score_threshold is None and careful else score_threshold
        return told(about, self.solution(), self.fusion, careful_at, unknown=unknown, careful=careful,
        score_threshold=score_threshold,
                    rival=rival)  # fmt: skip

    def detect(self, rgb_u8: np.ndarray, *, masks: bool | str = False, **how: Any) -> Detections:
        """What is in a photo (h, w, 3) uint8 RGB of any size; masks as in masked, `how` as in tell."""
        found = self.tell(self.ask(rgb_u8), **how)
        return self.masked(rgb_u8, found, masks) if masks else found

    def masked(self, rgb_u8: np.ndarray, found: Detections, way: bool | str = True) -> Detections:
        """What was found in a photo, with the pixels of each. way: to masks, by name; True for the detector's own."""
        boxes, place = np.unique(found.xyxy_px, axis=0, return_inverse=True)  # of several classes a box is cut once
        cut = self.masker(None if way is True else str(way)).cut(rgb_u8, boxes)
        masks = tuple(cut[i] for i in place.ravel().tolist())
        return replace(found, masks=masks, size_wh=(rgb_u8.shape[1], rgb_u8.shape[0]))

    def masker(self, way: str | None = None) -> Masker:
        """A way to masks, ready; None for the detector's own, which its folder keeps. Raises UnknownName."""
        way = way or self.masks
        if way not in self._maskers:
            self._maskers[way] = pick(handful.detection, "masks", way).load()
        return self._maskers[way]

    def recognize(
        self, rgb_u8: np.ndarray, boxes: np.ndarray, *, vigilance: float | None = None, seen: Proposals | None = None
    ) -> Detections:
        """What lies in boxes (n, 4) px of a photo: one answer each, in their order; the score is the chance alone. Each
        is looked at both ways, as when it is learned."""
        solution, boxes = self.solution(), np.asarray(boxes, np.float64).reshape(-1, 4)
        vectors = self.embedder.both_ways(rgb_u8, boxes, seen)
        careful = self.nemo.vigilance if vigilance is None else vigilance
        chance, margin = chances(solution, logits_of(solution, vectors), careful, below=self.below(vectors))
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
        own = self.masker()
        for name, module in (("eye", self.proposer.network), ("crop", self.embedder.backbone), ("masks", own.network)):
            if module is not None:
                parts[name] = module

        strange, where = self.bank.state(self.nemo.dim)

        def beside(place: Path) -> None:
            self.nemo.save(place)
            held = (
                np.stack(self.examples.vectors) if self.examples.vectors else np.zeros((0, self.nemo.dim), np.float16)
            )
            boxes = np.array(self.examples.boxes, np.float64).reshape(-1, 4)
            write_tensors(place / EXAMPLES, {"vectors": held, "boxes": boxes, **strange})

        about = {
            "rule": RULE, "eye": self.proposer.about, "look": asdict(self.embedder.how), "fusion": asdict(self.fusion),
            "masks": {**own.about, "name": self.masks}, "scales": asdict(getattr(self.proposer, "scales", Scales())),
            "examples": {"labels": self.examples.labels, "photos": self.examples.photos, "background": where},
            "about": {**self.about, "vigilance": self.nemo.vigilance, "score_threshold": self.score_threshold,
                      "samples": self.nemo.counts, **(data or {})},
        }  # fmt: skip
        frame = {"before_the_graph": "see rule, eye and look", "color_order": "RGB", "dtype": "uint8"}
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
              for part in ("eye", "crop", "masks")}  # fmt: skip
        try:
            own = pick(handful.detection, "proposer", str(meta["eye"]["name"])).load(of["eye"], meta["eye"])
            scales = Scales(**meta.get("scales", {}))
            proposer = ManyScales(own, replace(scales, look=look) if look else scales)
            embedder = BoxEmbedder(proposer, CropSettings(**meta["look"]), of["crop"])
            fusion = Fusion(**meta["fusion"])
        except (RuntimeError, TypeError, KeyError) as error:
            raise DataError(f"{folder / folders.WEIGHTS} does not fit what {folders.META} says of it ({error}); "
                            "restore it or teach the detector again") from error  # fmt: skip
        nemo = Nemo.load(folder, features=embedder.name)
        found = cls(proposer, embedder, nemo, fusion)
        if "masks" in meta:  # detectors of before there were masks have none of their own
            found.masks = str(meta["masks"].get("name"))
            found._maskers[found.masks] = kept(of["masks"], meta["masks"], folder / folders.WEIGHTS)
        examples = read_tensors(folder / EXAMPLES)
        labels, photos = meta["examples"]["labels"], meta["examples"]["photos"]
        if not len(labels) == len(photos) == len(examples["vectors"]) == len(examples["boxes"]):
            raise DataError(f"{folder / EXAMPLES} and {folders.META} name different examples; teach the detector again")
        found.examples = Examples(list(examples["vectors"]), labels, photos, examples["boxes"].tolist())
        found.bank = Bank.from_state(examples, meta["examples"].get("background", []))
        found.about, found.score_threshold = (
            meta["about"],
            float(meta["about"].get("score_threshold", DEFAULT_SCORE_THRESHOLD)),
        )
        return found


def told(
    about: ScoredProposals, solution: Solution, fusion: Fusion, vigilance: float, *, unknown: bool = False, careful:
    bool = True,
    score_threshold: float | None = None, rival: str = "null",
) -> Detections:  # fmt: skip
    """As Irene.tell, from NEMO's constants alone; of `solution` the classes and the expected score are read."""
    said = answered(solution, about.logits, about.quality, vigilance, below=about.below, rival=rival, unknown=unknown,
                    careful=careful, score_threshold=score_threshold)  # fmt: skip
    box, margin, none = said.box, said.margin, said.margin.shape[1]
    found = fuse(about.xyxy_px[box], said.score, said.label, about.scale[box], fusion)
    stays = np.arange(len(found))
    if careful:  # an answer is one name a thing, the known one where there is one; a ranking is of all of them
        stays = np.sort(apart(found.xyxy_px, (found.score + (found.label != none)) / 2, fusion.one_name))
    box = box[found.source[stays]]
    nearest = margin.argmax(axis=1)
    label = np.where(found.label[stays] == none, nearest[box], found.label[stays])
    return Detections(solution.classes, found.xyxy_px[stays], found.score[stays], label, margin[box, label],
                      about.vectors[box])  # fmt: skip


def best_here() -> str:
    """The name of the best source of boxes that is on this machine. Raises DataError when there is none."""
    there = [
        name for name in names(handful.detection, "proposer") if pick(handful.detection, "proposer", name).available()
    ]
    if not there:
        raise DataError("no source of boxes is on this machine; run: handful weights get nanodet")
    return "nanodet" if "nanodet" in there else there[0]
