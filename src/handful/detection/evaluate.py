"""Evaluation of a taught detector: COCO's table, class-agnostic recall, F1 at its vigilance, unknown objects (OOD)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.seen import leak, mark
from handful.data import formats
from handful.data.finding import leaves_unreadable
from handful.data.near_names import warn_of_strangers
from handful.data.shapes import box_of
from handful.detection import evaluate_masks
from handful.detection.contract import clip_to_image
from handful.detection.fusion import iou
from handful.detection.irene import Irene
from handful.detection.multiscale import MultiScaleProposer
from handful.errors import DataError
from handful.fewshot.evaluate import auroc
from handful.pick import unknown
from handful.plotting import Drawn, boxed, palette
from handful.progress import track, warn
from handful.results import Detections
from handful.training.coco_table import IOUS, area_px, coco_table, predicted_row, rule_of, xywh
from handful.training.report_page import Worst, write
from handful.training.source import image_of, split_of, split_to_measure, to_measure, usable
from handful.types import Sample
from handful.words import counted

PROPOSAL_COUNTS = (10, 30, 100, 300)
MATCH_IOU = 0.5
RULE = {
    "score": "predictions of every class that scores at all count for AP and AR, whatever the vigilance",
    "ar_agnostic": "recall of the proposals: share of all objects, of any class, that one of the first 10, 30, 100 or "
    "300 proposed boxes matches, each box one object, mean over IoU .50 to .95",
    "f1": "2 TP / (2 TP + FP + FN) of the detections at the detector's vigilance and score threshold; TP: a detection "
    "of the right class with an IoU of .50 or more with an object that no better detection matches; crowds count "
    "neither way",
    "f1_macro": "the same for each class with an object or a detection, and then the mean",
    "accuracy": "share of objects whose true box is given their class, 'none of these' left out",
    "unknown_auroc": "out-of-distribution: objects of untaught classes against those of taught ones, by the margin of "
    "the best class over none of these: probability that a taught one has the larger margin",
    "unknown_fpr95": "share of objects of untaught classes above the margin that 95 % of the taught ones have",
    "worst": "the images with the lowest F1 of their detections, see f1",
}


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The labeled objects of one image: boxes (n, 4) float64 px, names, which are crowds, their areas in px^2."""

    boxes: np.ndarray
    names: tuple[str, ...]
    crowd: np.ndarray
    area: np.ndarray

    def only(self, wanted: Sequence[bool] | np.ndarray) -> GroundTruth:
        """Some of them."""
        own = np.asarray(wanted, bool)
        names = tuple(name for name, ok in zip(self.names, own, strict=True) if ok)
        return GroundTruth(self.boxes[own], names, self.crowd[own], self.area[own])


def ground_truth_of(sample: Sample, size_wh: tuple[int, int]) -> GroundTruth:
    """From the labels of an image; boxes are clipped to it, those without an area left out."""
    rows = [(thing, box) for thing in sample.objects or () if (box := box_of(thing)) is not None]
    boxes, there = clip_to_image(np.array([box for _, box in rows], np.float64).reshape(-1, 4), size_wh)
    kept = [(thing, box) for (thing, _), box, ok in zip(rows, boxes, there, strict=True) if ok]
    boxes = np.array([box for _, box in kept], np.float64).reshape(-1, 4)
    areas = np.array([area_px(thing, box, size_wh) for thing, box in kept])
    return GroundTruth(boxes, tuple(t.label for t, _ in kept), np.array([t.crowd for t, _ in kept], bool), areas)


def box_table(
    truth: Sequence[GroundTruth],
    found: Sequence[Detections],
    sizes_wh: Sequence[tuple[int, int]],
    classes: Sequence[str],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """coco_table of boxes; objects of classes that are not among `classes` do not count."""
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


def match_boxes(overlap: np.ndarray, min_iou: float) -> np.ndarray:
    """The object that each box matches, one each: (objects, boxes) IoU, boxes best first -> (boxes,) int64, -1 for
    none."""
    free = np.ones(overlap.shape[0], bool)
    found = np.full(overlap.shape[1], -1, np.int64)
    for i in range(overlap.shape[1]):
        own = np.where(free, overlap[:, i], -1.0)
        if own.size and own.max() >= min_iou:
            found[i] = int(own.argmax())
            free[found[i]] = False
    return found


class AgnosticRecall:
    """Class-agnostic recall: see RULE["ar_agnostic"]."""

    def __init__(self) -> None:
        self.things, self.hits = 0, {n: np.zeros(len(IOUS)) for n in PROPOSAL_COUNTS}

    def add(self, truth: GroundTruth, boxes: np.ndarray) -> None:
        """One image; boxes (n, 4) best first."""
        over = iou(truth.boxes[~truth.crowd], boxes[: PROPOSAL_COUNTS[-1]])
        self.things += over.shape[0]
        for j, least in enumerate(IOUS):
            hit = match_boxes(over, least - 1e-9) >= 0
            for n in PROPOSAL_COUNTS:
                self.hits[n][j] += hit[:n].sum()

    def summary(self) -> dict[str, float | None]:
        """{"10": recall, ...}; None without an object."""
        return {str(n): float((hit / self.things).mean()) if self.things else None for n, hit in self.hits.items()}


class DetectionCounts:
    """True and false positives and false negatives of each class: see RULE["f1"]."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.tp, self.fp, self.fn = (np.zeros(len(classes), np.int64) for _ in range(3))

    def add(self, truth: GroundTruth, found: Detections) -> None:
        """One image; only objects and detections of known classes count."""
        predicted = [found.classes[k] if not u else "" for k, u in zip(found.label, found.unknown, strict=True)]
        for k, name in enumerate(self.classes):
            own = np.array([n == name for n in truth.names], bool)
            mine = np.array([p == name for p in predicted], bool)
            crowd = iou(truth.boxes[own & truth.crowd], found.xyxy_px[mine])
            on = match_boxes(iou(truth.boxes[own & ~truth.crowd], found.xyxy_px[mine]), MATCH_IOU)
            wrong = (on < 0) & ~(crowd >= MATCH_IOU).any(axis=0)
            right = int((on >= 0).sum())
            self.tp[k] += right
            self.fp[k] += int(wrong.sum())
            self.fn[k] += int((own & ~truth.crowd).sum()) - right

    def summary(self) -> dict[str, Any]:
        """f1, f1_macro, precision, recall; None where there is nothing to measure by."""
        tp, fp, fn = (int(v.sum()) for v in (self.tp, self.fp, self.fn))
        counted = (self.tp + self.fp + self.fn) > 0
        each = 2 * self.tp[counted] / (2 * self.tp + self.fp + self.fn)[counted]
        return {
            "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
            "f1_macro": float(each.mean()) if each.size else None,
            "precision": tp / (tp + fp) if tp + fp else None,
            "recall": tp / (tp + fn) if tp + fn else None,
        }


def unknowns(known: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """See RULE["unknown_auroc"]. known, other: margins of objects of taught and of untaught classes."""
    if not len(known) or not len(other):
        return {"auroc": None, "fpr95": None, "known": len(known), "unknown": len(other)}
    limit = np.quantile(known, 0.05)
    return {"auroc": auroc(known, other), "fpr95": float((other >= limit).mean()), "known": len(known),
            "unknown": len(other)}  # fmt: skip


def evaluate_images(
    detector: Irene,
    samples: Sequence[Sample],
    *,
    true_boxes: bool = False,
    vigilance: float | None = None,
    masks: bool | str = False,
    worst: Worst | None = None,
    leave_out: bool = False,
) -> dict[str, Any]:
    """All the figures over images. true_boxes: classify the true boxes instead of proposals, so that every error is
    NEMO's. masks: also the figures of masks, by a mask method by name or, True, the detector's own. worst: where images
    with errors are handed to. leave_out: images that cannot be read are left out, with a warning. Raises DataError when
    no image shows a taught class."""
    classes = detector.classes
    truth: list[GroundTruth] = []
    ranked: list[Detections] = []
    sizes: list[tuple[int, int]] = []
    recall, counts, seconds = AgnosticRecall(), DetectionCounts(classes), 0.0
    pixels = evaluate_masks.MaskTable(detector, masks) if masks else None
    marks = []
    unused = 0
    right, margins = [], {True: [np.zeros(0)], False: [np.zeros(0)]}
    for sample in track(samples, "detecting", len(samples)):
        try:
            rgb = image_of(sample).rgb_u8
        except DataError as error:
            if not leave_out:
                raise usable(error) from error
            unused += 1
            continue
        sizes.append((rgb.shape[1], rgb.shape[0]))
        marks.append(mark(rgb))
        own = ground_truth_of(sample, sizes[-1])
        began = time.perf_counter()
        proposals = detector.proposer.propose(rgb, PROPOSAL_COUNTS[-1])
        if not true_boxes:
            scored = detector.score(rgb, proposals)
            found = detector.select(scored, vigilance=vigilance)
            seconds += time.perf_counter() - began
            ranking = detector.select(scored, vigilance=vigilance, ranking=True, score_threshold=1e-3)
            recall.add(own, proposals.xyxy_px)
        classified = detector.classify_boxes(rgb, own.boxes[~own.crowd], vigilance=vigilance, proposals=proposals)
        if true_boxes:
            ranking = found = classified
            seconds += time.perf_counter() - began
        ranked.append(ranking)
        if pixels is not None:
            pixels.add(sample, rgb, ranking)
        counts.add(own, found)
        if worst is not None:
            _add(worst, sample, rgb, own, found)
        names = [name for name, crowd in zip(own.names, own.crowd, strict=True) if not crowd]
        knows = np.array([name in classes for name in names], bool)
        right += [classified.classes[k] == n for k, n, ok in zip(classified.label, names, knows, strict=True) if ok]
        for kind in (True, False):
            margins[kind].append(classified.margin[knows == kind])
        truth.append(own)
    if unused:
        warn(f"left out: {counted(unused, 'image')} that cannot be read")
    if not right:
        raise DataError(f"no image shows a class the detector was taught ({', '.join(classes[:8])})")
    stats, ap = box_table(truth, ranked, sizes, classes)
    objects = Counter(n for t in truth for n, crowd in zip(t.names, t.crowd, strict=True) if not crowd)
    per_class: dict[str, dict[str, Any]] = {name: {"AP": ap[name], "objects": objects[name]} for name in classes}
    of_masks = pixels.result() if pixels is not None else {}
    for name, value in of_masks.pop("mask_per_class", {}).items():
        per_class[name]["mask_AP"] = value
    unknown = unknowns(np.concatenate(margins[True]), np.concatenate(margins[False]))
    return {
        **stats,
        **of_masks,
        "ar_agnostic": recall.summary(),
        **counts.summary(),
        "accuracy": float(np.mean(right)),
        "unknown_auroc": unknown["auroc"],
        "unknown_fpr95": unknown["fpr95"],
        "known_objects": unknown["known"],
        "unknown_objects": unknown["unknown"],
        "per_class": per_class,
        "images": len(truth),
        "seen": leak(detector.seen, marks),
        "objects": sum(objects[name] for name in classes),
        "seconds_per_image": seconds / len(truth),
    }


def _add(worst: Worst, sample: Sample, rgb_u8: np.ndarray, own: GroundTruth, found: Detections) -> None:
    """Hand one image on, labels and detections drawn; objects of untaught classes are not drawn."""
    counts = DetectionCounts(found.classes)
    counts.add(own, found)
    right, wrong, missed = (int(v.sum()) for v in (counts.tp, counts.fp, counts.fn))
    if not right + wrong + missed:
        return
    colors = dict(zip(found.classes, palette(found.classes), strict=True))

    def pictures() -> dict[str, np.ndarray]:
        labels = [Drawn((box[0], box[1], box[2], box[3]), name, colors[name])
                  for box, name in zip(own.boxes.tolist(), own.names, strict=True) if name in colors]  # fmt: skip
        return {"labeled": boxed(rgb_u8, labels), "predicted": boxed(rgb_u8, found.drawn())}

    f1 = 2 * right / (2 * right + wrong + missed)
    worst.add(f1, {"image": sample.name or str(sample.path), "f1": f1, "right": right, "wrong": wrong,
                   "missed": missed}, pictures)  # fmt: skip


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, proposer: str | None = None,
    vigilance: float | None = None, masks: bool | str = False, scale_mode: str | None = None,
    detector: Irene | None = None, report: Path | None = None, allow: Sequence[str] = (), **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a taught detector on a split of any data set with boxes: test unless named, or val, or all of it; classes
    it was not taught count as unknown.

    proposer: "boxes" to classify the true boxes; None for the detector's own. masks: as in evaluate_images; scale_mode:
    as in Irene.load; report: an HTML page to write. allow: codes of errors to go on with; with one of
    finding.UNREADABLE, images that cannot be read are left out, with a warning. Returns the JSON object that `handful
    evaluate --json` prints. Raises DataError or UnknownName.
    """
    detector = detector or Irene.load(model, scale_mode)
    own = str(detector.proposer.about.get("name"))
    if proposer not in (None, "boxes", own):
        raise unknown("proposer", str(proposer), [own, "boxes"])
    dataset = to_measure(data, format=format or formats.with_boxes(data), allow=allow, **options)
    split = split_to_measure(dataset, split) or None
    samples = list(dataset) if split is None else split_of(dataset, split)
    samples = [s for s in samples if s.objects is not None]
    if not samples:
        raise DataError(f"{data} has no image with labeled boxes; wanted COCO, VOC or YOLO")
    other = sorted({c.name for c in dataset.categories} - set(detector.classes))
    if other:
        warn(f"{counted(len(other), 'class')} of {data} counted as unknown, since not taught: {', '.join(other[:8])}")
        warn_of_strangers(data, other, detector.classes)
    worst = Worst(shown=report is not None)
    given = proposer == "boxes"
    found = evaluate_images(detector, samples, true_boxes=given, vigilance=vigilance, masks=masks, worst=worst,
                            leave_out=leaves_unreadable(allow))  # fmt: skip
    about: Mapping[str, Any] = detector.about
    result = {
        "schema_version": 1, "task": "detect", "model": str(model), **found, "proposer": proposer or own,
        "scales": asdict(detector.proposer.scales) if isinstance(detector.proposer, MultiScaleProposer) else None,
        "vigilance": detector.nemo.vigilance if vigilance is None else vigilance,
        "score_threshold": detector.score_threshold, "seed": about.get("seed"),
        "samples": detector.nemo.counts, "split": split, "subset": found["images"] < 5000,
        "rule": {**rule_of(bool(masks)), **RULE, **({"masks": evaluate_masks.RULE} if masks else {})},
        "data": str(data), "report": None if report is None else str(report), "worst": worst.rows(),
    }  # fmt: skip
    if report is not None:
        write(Path(report), result, worst)
    return result
