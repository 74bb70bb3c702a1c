"""Teaching a detector from any data set with boxes: which boxes are learned, calibration, the folder."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import formats
from handful.data.finding import known_codes
from handful.data.folder_names import usual
from handful.data.near_names import learned_as_named
from handful.data.shapes import box_of
from handful.detection import score_threshold
from handful.detection.contract import Proposals, encode
from handful.detection.embedder import CropSettings
from handful.detection.evaluate import GroundTruth, ground_truth_of
from handful.detection.fusion import Fusion
from handful.detection.irene import Embedded, Irene
from handful.detection.multiscale import Scales, fit_scales
from handful.detection.scoring import VIGILANCE
from handful.errors import DataError
from handful.locks import one_writer
from handful.models.folder import may_teach_into
from handful.pick import unknown
from handful.progress import note, track, warn
from handful.threads import over
from handful.training.source import checked, image_of, split_of, without_unreadable
from handful.types import Dataset, Sample
from handful.words import counted

MAX_SAMPLES = 20  # a class
MIN_SIDE_PX = 4.0  # a box with a shorter side shows nothing that could be learned


@dataclass(frozen=True, eq=False)
class TaughtImage:
    """Boxes of one image to learn: (n, 4) float64 px, and a class name each. known: (m, 4), all boxes there are of any
    class that is learned, crowds included."""

    sample: Sample
    boxes: np.ndarray
    labels: tuple[str, ...]
    known: np.ndarray


def sample_boxes(
    samples: Iterable[Sample], *, max_samples: int = MAX_SAMPLES, seed: int = 0, classes: Sequence[str] | None = None
) -> list[TaughtImage]:
    """At most `max_samples` boxes of each class, drawn by `seed`, image by image.

    A class's draw depends on its name and the seed alone, so fewer are always among more, and other classes do not
    matter. Crowds, and boxes with a side below MIN_SIDE_PX, are not learned. Raises DataError when nothing is left.
    """
    if max_samples < 1:
        raise DataError(f"max_samples is {max_samples}; wanted at least one box a class")
    images = list(samples)
    found: dict[str, list[tuple[int, tuple[float, float, float, float]]]] = {}
    for i, sample in enumerate(images):
        for thing in sample.objects or ():
            box = box_of(thing)
            if thing.crowd or box is None or min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE_PX:
                continue
            found.setdefault(thing.label, []).append((i, box))
    known = sorted(found)
    for name in classes or ():
        if name not in found:
            raise unknown("class with a box", name, known)
    taken: dict[int, list[tuple[str, tuple[float, float, float, float]]]] = {}
    for name in classes or known:
        order = np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(len(found[name]))
        for at in order[:max_samples].tolist():
            image, box = found[name][at]
            taken.setdefault(image, []).append((name, box))
    if not taken:
        raise DataError("no image has a box to learn from; wanted a data set with boxes (COCO, VOC, YOLO)")
    return [
        TaughtImage(images[i], np.array([box for _, box in rows], np.float64), tuple(name for name, _ in rows),
               _known(images[i], set(classes or known)))
        for i, rows in sorted(taken.items())
    ]  # fmt: skip


def _known(sample: Sample, names: set[str]) -> np.ndarray:
    boxes = [box for thing in sample.objects or () if thing.label in names and (box := box_of(thing)) is not None]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _truth(sample: Sample, rgb_u8: np.ndarray, names: set[str]) -> GroundTruth:
    whole = ground_truth_of(sample, (rgb_u8.shape[1], rgb_u8.shape[0]))
    return whole.only([name in names for name in whole.names])


def _may_write(out: Path, add: bool, overwrite: bool, settings: dict[str, Any]) -> None:
    if add and overwrite:
        raise DataError("--add and --overwrite exclude each other: add to the detector, or replace it?")
    if add:
        given = [name for name, value in settings.items() if value is not None]
        if given:
            raise DataError(f"{out} keeps the {', '.join(given)} that it was made with; leave that out with --add")
        return
    may_teach_into(out, overwrite=overwrite)


def _taught_more(
    out: Path, picked: list[TaughtImage], dataset: Dataset, exhaustive: bool, vigilance: float | None,
    told: Mapping[str, Any], began: float, allow: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    detector = Irene.load(out)
    learned_as_named(told["data"], sorted({name for one in picked for name in one.labels}), detector.classes, allow)
    unmarked = sorted(set(detector.classes) - {category.name for category in dataset.categories})
    if unmarked and exhaustive:
        exhaustive = False
        note(
            f"{dataset.root} does not label {', '.join(unmarked[:8])}, so what is unlabeled in its images is not "
            "learned as background"
        )
    held = detector.examples
    before = set(zip(held.images, held.labels, map(tuple, held.boxes), strict=True))
    learned = known = 0
    for one in track(picked, "learning", len(picked)):
        name = one.sample.name or one.sample.path.name
        new = [
            (name, label, tuple(box)) not in before for label, box in zip(one.labels, one.boxes.tolist(), strict=True)
        ]
        known += new.count(False)
        if any(new):
            labels = [label for label, ok in zip(one.labels, new, strict=True) if ok]
            detector.learn(image_of(one.sample).rgb_u8, one.boxes[np.array(new)], labels, name, known=one.known,
                           exhaustive=exhaustive)  # fmt: skip
            learned += len(labels)
    if not learned:
        raise DataError(
            f"{dataset.root} holds nothing new: {out} has learned its {counted(known, 'box')} already; give "
            "other images"
        )
    if vigilance is not None:
        detector.nemo.vigilance = vigilance
    meta = detector.save(out)
    return {
        "schema_version": 1, "model": str(out), **told, "classes": list(detector.classes),
        "samples": detector.nemo.counts, "images": len(picked), "learned": learned, "already_learned": known,
        "vigilance": detector.nemo.vigilance,
        "score_threshold": detector.score_threshold, "proposer": detector.proposer.about.get("name"),
        "proposer_card": detector.proposer.about, "crop": meta["crop"], "scales": meta["scales"],
        "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip


def unlearn(
    detector: Irene, data: Path, *, classes: Sequence[str] | None = None, split: str | None = None,
    format: str | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Take back the boxes of a data set that a detector was taught, or those of some classes; image by image.

    Returns {"unlearned", "never_learned"}: how many of its boxes. Raises DataError where none was learned, or where an
    image's pixels are not those that were.
    """
    dataset = formats.read(data, format=format or formats.with_boxes(data), **options)
    found = {"unlearned": 0, "never_learned": 0}
    for sample in split_of(dataset, split) if split else dataset:
        name, held = sample.name or sample.path.name, detector.examples
        which = []
        for thing in sample.objects or ():
            box = box_of(thing)
            if box is None or (classes and thing.label not in classes):
                continue
            row = (name, thing.label, [float(v) for v in box])
            rows = zip(held.images, held.labels, held.boxes, strict=True)
            which += [i for i, one in enumerate(rows) if one == row and i not in which][:1] or [-1]
        learned = [i for i in which if i >= 0]
        if learned:
            detector.unlearn_taught(image_of(sample).rgb_u8, name, learned)
        found["unlearned"] += len(learned)
        found["never_learned"] += len(which) - len(learned)
    if not found["unlearned"]:
        raise DataError(f"{data} has {counted(found['never_learned'], 'box')}, and this detector has learned none; "
                        "boxes are found by the name of their image, their class and their place")  # fmt: skip
    return found


def teach(
    data: Path,
    out: Path,
    *,
    max_samples: int = MAX_SAMPLES,
    classes: Sequence[str] | None = None,
    proposer: str | None = None,
    crop: CropSettings | None = None,
    fusion: Fusion | None = None,
    vigilance: float | None = None,
    scales: Scales | int | None = None,
    seed: int = 0,
    exhaustive: bool = True,
    split: str | None = None,
    format: str | None = None,
    allow: Sequence[str] = (),
    overwrite: bool = False,
    add: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Teach a detector from any data set with boxes, and write its folder, whole or not at all.

    scales: the image pyramid, or its number of scales; None for what fits the sizes of the taught boxes. exhaustive:
    whether every object of these classes is labeled in the images; False, and the rest of an image is no background.
    split: of the data; None for train where there is one, else all images. options: for the format (images: the folder
    of COCO's images). All else as in sample_boxes and Irene.new.

    add: teach the detector in `out` more. It keeps its proposer, crops, scales and score threshold, and its vigilance
    unless another is given; what it knows already is not learned twice; and where the data do not mark all of its
    classes, the rest of an image is no background, whatever `exhaustive` says. Returns a JSON object. Raises DataError
    or UnknownName; an existing detector is then as it was.
    """
    out = Path(out)
    _may_write(out, add, overwrite, {"proposer": proposer, "crop": crop, "scales": scales, "fusion": fusion})
    began = time.monotonic()
    format = format or formats.with_boxes(data)
    dataset, warnings = checked(data, format=format, allow=allow, main=True, **options)
    dataset = without_unreadable(dataset, allow)
    if split is None and any(usual(s.split) == "train" for s in dataset):
        split = "train"
    rows = split_of(dataset, split) if split else dataset
    picked = sample_boxes(rows, max_samples=max_samples, seed=seed, classes=classes)
    wanted = {name for one in picked for name in one.labels}
    if add:
        with one_writer(out):
            return _taught_more(out, picked, dataset, exhaustive, vigilance,
                                {"data": str(data), "split": split, "seed": seed, "warnings": warnings},
                                began, known_codes(allow))  # fmt: skip
    vigilance = VIGILANCE if vigilance is None else vigilance
    if scales is None:
        scales = fit_scales([(one.sample.size_wh or image_of(one.sample).size_wh, one.boxes) for one in picked])
    elif isinstance(scales, int):
        scales = Scales(scales, "focus" if scales > 1 else "whole")
    detector = Irene.new(proposer, crop=crop, fusion=fusion, vigilance=vigilance, scales=scales)
    # where labels are partial, a detection of nothing labeled need not be wrong
    order = score_threshold.held_out_order(len(picked), seed) if exhaustive else []
    held_out: dict[int, score_threshold.HeldOut] = {}

    def seen(one: TaughtImage) -> tuple[np.ndarray, Proposals, Embedded | None, np.ndarray]:
        """All that takes time of an image: fit for threads."""
        rgb = image_of(one.sample).rgb_u8
        proposals = detector.propose(rgb) if exhaustive else encode(detector.proposer, rgb)
        embedded = detector.embed_proposals(rgb, proposals) if exhaustive else None
        try:
            return rgb, proposals, embedded, detector.embedder.embed_flip_averaged(rgb, one.boxes, proposals)
        except DataError as error:
            raise DataError(f"{one.sample.path}: {error}") from error

    for i, (one, made) in enumerate(zip(picked, track(over(seen, picked), "learning", len(picked)), strict=True)):
        rgb, proposals, embedded, vectors = made
        name = one.sample.name or one.sample.path.name
        detector.learn(
            rgb, one.boxes, one.labels, name, known=one.known, exhaustive=exhaustive, proposals=proposals,
            embedded=None if embedded is None else embedded[3], vectors=vectors,
        )  # fmt: skip
        if embedded is not None and i in order:
            held_out[i] = score_threshold.HeldOut(name, *embedded, _truth(one.sample, rgb, wanted))
    detector.score_threshold = score_threshold.calibrate(
        [held_out[i] for i in order],
        partial(score_threshold.leave_out, detector),
        fusion=detector.fusion,
        vigilance=vigilance,
    )
    few = [name for name, n in detector.nemo.counts.items() if n < 2]
    if few:
        message = (
            f"{counted(len(few), 'class was', 'classes were')} learned from one box, which says little of how a class "
            f"varies: {', '.join(few[:8])}"
        )
        warnings = [*warnings, message]
        warn(message)
    seconds = round(time.monotonic() - began, 2)
    record = {"seed": seed, "max_samples": max_samples, "images": len(picked), "split": split, "seconds": seconds,
              "exhaustive": exhaustive}  # fmt: skip
    with one_writer(out):
        may_teach_into(out, overwrite=overwrite, begun=True)
        meta = detector.save(out, data=record)
    return {
        "schema_version": 1, "model": str(out), "data": str(data), "classes": list(detector.classes),
        "samples": detector.nemo.counts, "images": len(picked), "learned": sum(len(one.labels) for one in picked),
        "already_learned": 0, "split": split, "seed": seed, "vigilance": vigilance,
        "score_threshold": detector.score_threshold, "proposer": detector.proposer.about.get("name"),
        "proposer_card": detector.proposer.about, "crop": meta["crop"], "scales": meta["scales"],
        "seconds": seconds, "warnings": warnings,
    }  # fmt: skip
