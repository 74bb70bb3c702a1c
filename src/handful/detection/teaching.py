"""A detector taught from any data set with boxes: which boxes, in what order, and what came of it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import formats
from handful.data.shapes import box_of
from handful.detection import score_threshold
from handful.detection.embedder import CropSettings
from handful.detection.evaluate import Truth, truth_of
from handful.detection.fusion import Fusion
from handful.detection.irene import LOOKED_AT, Irene
from handful.detection.multiscale import Scales, fitting
from handful.detection.scoring import VIGILANCE
from handful.errors import DataError
from handful.models.folder import META
from handful.pick import unknown
from handful.progress import track, warn
from handful.training.loader_segment import photo_of, split_of
from handful.training.source import checked
from handful.types import Sample

MOST = 20
SIDE_PX = 4.0  # a box with a shorter side shows nothing that could be learned


@dataclass(frozen=True, eq=False)
class Chosen:
    """Boxes of one photo to learn: (n, 4) float64 px, and a class name each. known: (m, 4), all boxes there are of any
    class that is learned, crowds included."""

    sample: Sample
    boxes: np.ndarray
    labels: tuple[str, ...]
    known: np.ndarray


def chosen(
    samples: Iterable[Sample], *, most: int = MOST, seed: int = 0, classes: Sequence[str] | None = None
) -> list[Chosen]:
    """At most `most` boxes of each class, drawn by `seed`, photo by photo.

    A class's draw hangs on its name and the seed alone, so fewer are always among more, and other classes do not
    matter. Crowds, and boxes with a side below SIDE_PX, are not learned. Raises DataError when nothing is left.
    """
    if most < 1:
        raise DataError(f"most is {most}; wanted at least one box a class")
    photos = list(samples)
    found: dict[str, list[tuple[int, tuple[float, float, float, float]]]] = {}
    for i, sample in enumerate(photos):
        for thing in sample.objects or ():
            box = box_of(thing)
            if thing.crowd or box is None or min(box[2] - box[0], box[3] - box[1]) < SIDE_PX:
                continue
            found.setdefault(thing.label, []).append((i, box))
    known = sorted(found)
    for name in classes or ():
        if name not in found:
            raise unknown("class with a box", name, known)
    taken: dict[int, list[tuple[str, tuple[float, float, float, float]]]] = {}
    for name in classes or known:
        order = np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(len(found[name]))
        for at in order[:most].tolist():
            photo, box = found[name][at]
            taken.setdefault(photo, []).append((name, box))
    if not taken:
        raise DataError("no photo has a box to learn from; wanted a data set with boxes (COCO, VOC, YOLO)")
    return [
        Chosen(photos[i], np.array([box for _, box in rows], np.float64), tuple(name for name, _ in rows),
               _known(photos[i], set(classes or known)))
        for i, rows in sorted(taken.items())
    ]  # fmt: skip


def _known(sample: Sample, names: set[str]) -> np.ndarray:
    boxes = [box for thing in sample.objects or () if thing.label in names and (box := box_of(thing)) is not None]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _truth(sample: Sample, rgb_u8: np.ndarray, names: set[str]) -> Truth:
    whole = truth_of(sample, (rgb_u8.shape[1], rgb_u8.shape[0]))
    return whole.only([name in names for name in whole.names])


def teach(
    data: Path,
    out: Path,
    *,
    most: int = MOST,
    classes: Sequence[str] | None = None,
    proposer: str | None = None,
    look: CropSettings | None = None,
    fusion: Fusion | None = None,
    vigilance: float = VIGILANCE,
    scales: Scales | int | None = None,
    seed: int = 0,
    exhaustive: bool = True,
    split: str | None = None,
    format: str | None = None,
    allow: Sequence[str] = (),
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Teach a detector from any data set with boxes, and write its folder, whole or not at all.

    scales: how a photo is looked at, or at how many scales; None for as many as the taught boxes' sizes ask for.
    exhaustive: whether every thing of these classes is marked in the photos; False, and the rest of a photo teaches
    nothing. split: of the data; None for train where there is one, else all photos. options: for the format (images:
    the folder of COCO's photos). All else as in chosen and Irene.new. Returns a JSON object. Raises DataError or
    UnknownName; an existing detector is then as it was.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists; use --overwrite to replace it, or another --out")
    if out.exists() and not (out / META).exists():
        raise DataError(f"{out} exists and is not a model folder, so it is not overwritten; choose another --out")
    began = time.monotonic()
    format = format or formats.with_boxes(data)
    dataset, warnings = checked(data, format=format, allow=allow, main=True, **options)
    if split is None and any(s.split == "train" for s in dataset):
        split = "train"
    picked = chosen(split_of(dataset, split) if split else dataset, most=most, seed=seed, classes=classes)
    wanted = {name for one in picked for name in one.labels}
    if scales is None:
        scales = fitting([(one.sample.size_wh or photo_of(one.sample).size_wh, one.boxes) for one in picked])
    elif isinstance(scales, int):
        scales = Scales(scales, "focus" if scales > 1 else "whole")
    detector = Irene.new(proposer, look=look, fusion=fusion, vigilance=vigilance, scales=scales)
    # where labels are partial, an answer about nothing that is marked need not be wrong
    order = score_threshold.chosen(len(picked), seed) if exhaustive else []
    trials: dict[int, score_threshold.Trial] = {}
    for i, one in enumerate(track(picked, "learning", len(picked))):
        rgb, name = photo_of(one.sample).rgb_u8, one.sample.name or one.sample.path.name
        seen = detector.proposer.look(rgb, LOOKED_AT) if exhaustive else None
        try:
            detector.learn(rgb, one.boxes, one.labels, name, known=one.known, exhaustive=exhaustive, seen=seen)
        except DataError as error:
            raise DataError(f"{one.sample.path}: {error}") from error
        if seen is not None and i in order:
            trials[i] = score_threshold.Trial(name, *detector.looked_at(rgb, seen), _truth(one.sample, rgb, wanted))
    detector.score_threshold = score_threshold.calibrate(
        [trials[i] for i in order],
        partial(score_threshold.without, detector),
        fusion=detector.fusion,
        vigilance=vigilance,
    )
    few = [name for name, n in detector.nemo.counts.items() if n < 2]
    if few:
        told = f"{len(few)} classes were learned from one box, which says little of how they vary: {', '.join(few[:8])}"
        warnings = [*warnings, told]
        warn(told)
    seconds = round(time.monotonic() - began, 2)
    record = {"seed": seed, "most": most, "photos": len(picked), "split": split, "seconds": seconds,
              "exhaustive": exhaustive}  # fmt: skip
    meta = detector.save(out, data=record)
    return {
        "schema_version": 1, "model": str(out), "classes": list(detector.classes), "samples": detector.nemo.counts,
        "photos": len(picked), "split": split, "seed": seed, "vigilance": vigilance,
        "score_threshold": detector.score_threshold, "proposer": detector.proposer.about.get("name"), "proposer_card":
        detector.proposer.about,
        "look": meta["look"], "scales": meta["scales"],
        "seconds": seconds, "warnings": warnings,
    }  # fmt: skip
