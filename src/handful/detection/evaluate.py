"""How good a taught detector is: COCO's table, recall without classes, F1 at its vigilance, what it does not know."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import formats
from handful.data.shapes import box_of
from handful.detection import evaluate_masks
from handful.detection.contract import inside_photo
from handful.detection.fusion import iou
from handful.detection.irene import Detections, Irene
from handful.detection.multiscale import ManyScales
from handful.errors import DataError
from handful.fewshot.evaluate import auroc
from handful.pick import unknown
from handful.progress import track, warn
from handful.training.coco_table import IOUS, area_px, coco_table, predicted_row, rule_of, xywh
from handful.training.loader_segment import photo_of, split_of
from handful.types import Sample

COUNTS = (10, 30, 100, 300)
MATCH = 0.5
RULE = {
    "score": "predictions of every class that scores at all count for AP and AR, whatever the vigilance",
    "ar_agnostic": "share of all things, their classes set aside, that one of the first 10, 30, 100, 300 proposed "
    "boxes lies on, each box on one thing, mean over IoU .50 to .95",
    "f1": "2 TP / (2 TP + FP + FN) of the answers at the detector's vigilance, from the score it tells from; TP, an "
    "answer of the right class that shares IoU .50 with a thing no better answer took; crowds neither",
    "f1_macro": "the same for each class with a thing or an answer, and then the mean",
    "accuracy": "share of things given their class when their true boxes are asked about, 'none of these' set aside",
    "unknown": "things of untaught classes against things of taught ones, by how far the best class beats none: chance "
    "that a taught one has the larger margin (auroc), share of untaught ones above the margin that 95 % of the taught "
    "ones have (fpr95)",
}


@dataclass(frozen=True, eq=False)
class Truth:
    """The things in one photo: boxes (n, 4) float64 px, names, which are crowds, their areas in px^2."""

    boxes: np.ndarray
    names: tuple[str, ...]
    crowd: np.ndarray
    area: np.ndarray

    def only(self, wanted: Sequence[bool] | np.ndarray) -> Truth:
        """Some of them."""
        own = np.asarray(wanted, bool)
        names = tuple(name for name, ok in zip(self.names, own, strict=True) if ok)
        return Truth(self.boxes[own], names, self.crowd[own], self.area[own])


def truth_of(sample: Sample, size_wh: tuple[int, int]) -> Truth:
    """What the labels say of a photo; boxes are cut at its edges, those without an area left out."""
    rows = [(thing, box) for thing in sample.objects or () if (box := box_of(thing)) is not None]
    boxes, there = inside_photo(np.array([box for _, box in rows], np.float64).reshape(-1, 4), size_wh)
    kept = [(thing, box) for (thing, _), box, ok in zip(rows, boxes, there, strict=True) if ok]
    boxes = np.array([box for _, box in kept], np.float64).reshape(-1, 4)
    areas = np.array([area_px(thing, box, size_wh) for thing, box in kept])
    return Truth(boxes, tuple(t.label for t, _ in kept), np.array([t.crowd for t, _ in kept], bool), areas)


def box_table(
    truth: Sequence[Truth], found: Sequence[Detections], sizes_wh: Sequence[tuple[int, int]], classes: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """coco_table of boxes; things of classes that are not among `classes` do not count."""
    number = {name: i for i, name in enumerate(classes)}
    labeled = [
        [{"category_id": number[name], "bbox": xywh(box), "area": float(size), "iscrowd": int(crowd)}
         for box, name, crowd, size in zip(own.boxes, own.names, own.crowd, own.area, strict=True) if name in number]
        for own in truth
    ]  # fmt: skip
    predicted = [
        [predicted_row(number[one.classes[label]], score, box)
         for box, score, label in zip(one.xyxy_px, one.score, one.label, strict=True)]
        for one in found
    ]  # fmt: skip
    return coco_table(labeled, predicted, sizes_wh, classes)


def taken(over: np.ndarray, least: float) -> np.ndarray:
    """Which thing each box lies on, one each: (things, boxes) IoU, boxes best first -> (boxes,) int64, -1 for none."""
    free = np.ones(over.shape[0], bool)
    found = np.full(over.shape[1], -1, np.int64)
    for i in range(over.shape[1]):
        own = np.where(free, over[:, i], -1.0)
        if own.size and own.max() >= least:
            found[i] = int(own.argmax())
            free[found[i]] = False
    return found


class Recall:
    """Recall without classes: see RULE["ar_agnostic"]."""

    def __init__(self) -> None:
        self.things, self.hits = 0, {n: np.zeros(len(IOUS)) for n in COUNTS}

    def add(self, truth: Truth, boxes: np.ndarray) -> None:
        """One photo; boxes (n, 4) best first."""
        over = iou(truth.boxes[~truth.crowd], boxes[: COUNTS[-1]])
        self.things += over.shape[0]
        for j, least in enumerate(IOUS):
            hit = taken(over, least - 1e-9) >= 0
            for n in COUNTS:
                self.hits[n][j] += hit[:n].sum()

    def told(self) -> dict[str, float | None]:
        """{"10": recall, ...}; None without a thing."""
        return {str(n): float((hit / self.things).mean()) if self.things else None for n, hit in self.hits.items()}


class Answers:
    """Right and wrong answers of each class: see RULE["f1"]."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.tp, self.fp, self.fn = (np.zeros(len(classes), np.int64) for _ in range(3))

    def add(self, truth: Truth, found: Detections) -> None:
        """One photo; only known things and answers count."""
        said = [found.classes[k] if not u else "" for k, u in zip(found.label, found.unknown, strict=True)]
        for k, name in enumerate(self.classes):
            own = np.array([n == name for n in truth.names], bool)
            mine = np.array([s == name for s in said], bool)
            crowd = iou(truth.boxes[own & truth.crowd], found.xyxy_px[mine])
            on = taken(iou(truth.boxes[own & ~truth.crowd], found.xyxy_px[mine]), MATCH)
            wrong = (on < 0) & ~(crowd >= MATCH).any(axis=0)
            right = int((on >= 0).sum())
            self.tp[k] += right
            self.fp[k] += int(wrong.sum())
            self.fn[k] += int((own & ~truth.crowd).sum()) - right

    def told(self) -> dict[str, Any]:
        """f1, f1_macro, precision, recall; None where there is nothing to measure by."""
        tp, fp, fn = (int(v.sum()) for v in (self.tp, self.fp, self.fn))
        seen = (self.tp + self.fp + self.fn) > 0
        each = 2 * self.tp[seen] / (2 * self.tp + self.fp + self.fn)[seen]
        return {
            "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
            "f1_macro": float(each.mean()) if each.size else None,
            "precision": tp / (tp + fp) if tp + fp else None,
            "recall": tp / (tp + fn) if tp + fn else None,
        }


def unknowns(known: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """See RULE["unknown"]. known, other: margins of things of taught and of untaught classes."""
    if not len(known) or not len(other):
        return {"auroc": None, "fpr95": None, "known": len(known), "unknown": len(other)}
    limit = np.quantile(known, 0.05)
    return {"auroc": auroc(known, other), "fpr95": float((other >= limit).mean()), "known": len(known),
            "unknown": len(other)}  # fmt: skip


def measured(
    detector: Irene,
    samples: Sequence[Sample],
    *,
    given: bool = False,
    vigilance: float | None = None,
    masks: bool | str = False,
) -> dict[str, Any]:
    """All the figures over photos. given: the true boxes are asked about instead of proposed ones, so that what is
    wrong is NEMO's alone. masks: also those of masks, by a way by name or, True, the detector's own. Raises DataError
    when no photo shows a taught class."""
    classes = detector.classes
    truth: list[Truth] = []
    told: list[Detections] = []
    sizes: list[tuple[int, int]] = []
    recall, answers, seconds = Recall(), Answers(classes), 0.0
    pixels = evaluate_masks.MaskTable(detector, masks) if masks else None
    right, margins = [], {True: [np.zeros(0)], False: [np.zeros(0)]}
    for sample in track(samples, "asking", len(samples)):
        rgb = photo_of(sample).rgb_u8
        sizes.append((rgb.shape[1], rgb.shape[0]))
        own = truth_of(sample, sizes[-1])
        began = time.perf_counter()
        seen = detector.proposer.look(rgb, COUNTS[-1])
        if not given:
            about = detector.ask(rgb, seen)
            careful = detector.tell(about, vigilance=vigilance)
            seconds += time.perf_counter() - began
            every = detector.tell(about, vigilance=vigilance, careful=False, score_threshold=1e-3)
            recall.add(own, seen.xyxy_px)
        asked = detector.recognize(rgb, own.boxes[~own.crowd], vigilance=vigilance, seen=seen)
        if given:
            every = careful = asked
            seconds += time.perf_counter() - began
        told.append(every)
        if pixels is not None:
            pixels.add(sample, rgb, every)
        answers.add(own, careful)
        names = [name for name, crowd in zip(own.names, own.crowd, strict=True) if not crowd]
        knows = np.array([name in classes for name in names], bool)
        right += [asked.classes[k] == n for k, n, ok in zip(asked.label, names, knows, strict=True) if ok]
        for kind in (True, False):
            margins[kind].append(asked.margin[knows == kind])
        truth.append(own)
    if not right:
        raise DataError(f"no photo shows a class the detector was taught ({', '.join(classes[:8])})")
    stats, ap = box_table(truth, told, sizes, classes)
    objects = Counter(n for t in truth for n, crowd in zip(t.names, t.crowd, strict=True) if not crowd)
    per_class: dict[str, dict[str, Any]] = {name: {"AP": ap[name], "objects": objects[name]} for name in classes}
    of_masks = pixels.result() if pixels is not None else {}
    for name, value in of_masks.pop("mask_per_class", {}).items():
        per_class[name]["mask_AP"] = value
    return {
        **stats,
        **of_masks,
        "ar_agnostic": recall.told(),
        **answers.told(),
        "accuracy": float(np.mean(right)),
        "unknown": unknowns(np.concatenate(margins[True]), np.concatenate(margins[False])),
        "per_class": per_class,
        "images": len(samples),
        "objects": sum(objects[name] for name in classes),
        "seconds_per_image": seconds / len(samples),
    }


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, proposer: str | None = None,
    vigilance: float | None = None, masks: bool | str = False, look: str | None = None, detector: Irene | None = None,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a taught detector on any data set with boxes; classes it was not taught count as unknown.

    proposals: "boxes" to be asked about the true ones; None for the detector's own. masks: as in measured; look: as
    Irene.load. Returns the JSON object that `handful evaluate-detect --json` prints. Raises DataError or UnknownName.
    """
    detector = detector or Irene.load(model, look)
    own = str(detector.proposer.about.get("name"))
    if proposer not in (None, "boxes", own):
        raise unknown("proposer", str(proposer), [own, "boxes"])
    dataset = formats.read(data, format=format or formats.with_boxes(data), **options)
    samples = list(dataset) if split is None else split_of(dataset, split)
    samples = [s for s in samples if s.objects is not None]
    if not samples:
        raise DataError(f"{data} has no photo whose things have boxes; wanted COCO, VOC or YOLO")
    other = sorted({c.name for c in dataset.categories} - set(detector.classes))
    if other:
        warn(f"{len(other)} classes of {data} were not taught, and count as unknown: {', '.join(other[:8])}")
    found = measured(detector, samples, given=proposer == "boxes", vigilance=vigilance, masks=masks)
    about: Mapping[str, Any] = detector.about
    return {
        "schema_version": 1, "task": "detect", "model": str(model), **found, "proposer": proposer or own,
        "look": asdict(detector.proposer.scales) if isinstance(detector.proposer, ManyScales) else None,
        "vigilance": detector.nemo.vigilance if vigilance is None else vigilance,
        "score_threshold": detector.score_threshold, "seed": about.get("seed"),
        "samples": detector.nemo.counts, "split": split, "subset": len(samples) < 5000,
        "rule": {**rule_of(bool(masks)), **RULE, **({"masks": evaluate_masks.RULE} if masks else {})},
    }  # fmt: skip
