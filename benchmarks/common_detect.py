"""What the benchmarks of detection share: COCO's photos, kept; a detector taught from what is kept; its answers."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.detection.evaluate import DetectionCounts, box_table
from handful.detection.fusion import Fusion, fuse
from handful.detection.irene import Irene
from handful.detection.letterbox import letterbox
from handful.detection.scored import ScoredProposals, select_detections
from handful.detection.scoring import LINEAR, VIGILANCE, class_probabilities, logits_of
from handful.files import cache_home
from handful.models.nanodet_onnx import MEAN_BGR, SIDE_PX, STD_BGR
from handful.results import Detections
from handful.select import data_pool
from handful.select.data_pool import LearnedModel
from handful.select.feature_cache import CachedImage
from handful.training.source import image_of


def cache_of(work: Path | None) -> Path:
    """Where features are cached."""
    return (work or cache_home() or Path("features.work")) / "features"


def taught(train: Sequence[CachedImage], most: int, seed: int, classes: Collection[str] | None = None) -> LearnedModel:
    """A detector as teaching makes it, of at most so many boxes of each class, drawn by seed. classes: None for all."""
    there = data_pool.learnable_boxes(train)
    wanted = there if classes is None else {name: there[name] for name in there if name in classes}
    picked = data_pool.draw_boxes(wanted, most, seed)
    threshold = data_pool.calibrate(train, picked, seed=seed)
    return replace(data_pool.learn_boxes(train, picked), score_threshold=threshold)


def asked(learned: LearnedModel, photos: Sequence[CachedImage]) -> tuple[list[Detections], list[Detections]]:
    """(all classes of all boxes, ranked, as AP counts them; what is told, as F1 counts it) of each image."""
    return [told(learned, one, ranking=True) for one in photos], [told(learned, one) for one in photos]


def told(
    learned: LearnedModel, one: CachedImage, *, vigilance: float = VIGILANCE, ranking: bool = False,
    linear: float = LINEAR,
) -> Detections:  # fmt: skip
    """Irene's detections in an image."""
    logits = logits_of(learned.solution, one.vectors, linear)
    floor = learned.background.cosine_floor(learned.solution, one.vectors) if learned.background is not None else None
    scored = ScoredProposals(one.boxes, one.quality, one.scale, one.vectors, logits, floor)
    threshold = 1e-3 if ranking else learned.score_threshold
    return select_detections(scored, learned.solution, Fusion(), vigilance, ranking=ranking, score_threshold=threshold)


def named(
    learned: LearnedModel, one: CachedImage, *, vigilance: float = VIGILANCE, linear: float = LINEAR
) -> Detections:
    """The class of each of an image's true boxes, as Irene.classify_boxes gives it."""
    own = ~one.truth.crowd
    vectors = one.truth_vectors[own]
    logits = logits_of(learned.solution, vectors, linear)
    floor = learned.background.cosine_floor(learned.solution, vectors) if learned.background is not None else None
    chance, margin = class_probabilities(learned.solution, logits, vigilance, cosine_floor=floor)
    label, row = margin.argmax(axis=1), np.arange(len(vectors))
    return Detections(learned.solution.classes, one.truth.boxes[own], chance[row, label], label, margin[row, label],
                      vectors)  # fmt: skip


def table(
    photos: Sequence[CachedImage], ranked: Sequence[Detections], careful: Sequence[Detections], classes: Sequence[str]
) -> dict[str, Any]:
    """COCO's twelve figures, and F1 of what is told."""
    answers = DetectionCounts(classes)
    for one, found in zip(photos, careful, strict=True):
        answers.add(one.truth, found)
    stats, _ = box_table([p.truth for p in photos], ranked, [p.size_wh for p in photos], classes)
    return {**stats, **answers.summary()}


def right(photos: Sequence[CachedImage], found: Sequence[Detections]) -> float:
    """Share of true boxes of taught classes that are given their class, 'none of these' set aside."""
    hits = [
        told_.classes[k] == name
        for one, told_ in zip(photos, found, strict=True)
        for name, k in zip([n for n, c in zip(one.truth.names, one.truth.crowd, strict=True) if not c], told_.label,
                           strict=True)
        if name in told_.classes
    ]  # fmt: skip
    return float(np.mean(hits))


def supervised(photos: Sequence[CachedImage], irene: Irene, classes: Sequence[str]) -> dict[str, float | None]:
    """NanoDet with the classes it was trained on, as its makers use it: NMS .6 a class, 100 boxes a photo.

    classes: COCO's 80 names in the order of their numbers.
    """
    found = []
    network: Any = irene.proposer.network
    for one in photos:
        frame, factor, at = letterbox(image_of(one.sample).rgb_u8, SIDE_PX)
        x = (frame[:, :, ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)) / np.array(STD_BGR, np.float32)
        with torch.inference_mode():
            scores, boxes, _ = network(torch.from_numpy(x.transpose(2, 0, 1)[None].copy()))
        box, label = np.nonzero(scores[0].numpy() > 0.05)
        whole = (boxes[0].numpy().astype(np.float64)[box] - np.array([*at, *at])) / factor
        whole = np.clip(whole, 0, [*one.size_wh, *one.size_wh])
        kept_ = fuse(whole, scores[0].numpy()[box, label], label)
        zero = np.zeros((len(kept_), 0))
        found.append(Detections(tuple(classes), kept_.xyxy_px, kept_.score, kept_.label, np.ones(len(kept_)), zero))
    return box_table([p.truth for p in photos], found, [p.size_wh for p in photos], classes)[0]


def spread(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """{key: mean, sd (None of one value), least, most} over seeds; None where no row has it."""
    found: dict[str, dict[str, Any] | None] = {}
    for key in keys:
        values = [row[key] for row in rows if row.get(key) is not None]
        found[key] = None if not values else {
            "mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None,
            "least": min(values), "most": max(values),
        }  # fmt: skip
    return found


def percents(found: dict[str, Any], digits: int = 1) -> str:
    """ "62.1 +- 0.4", or "62.1 (once)", of one of `spread`."""
    sd = found["sd"]
    return f"{100 * found['mean']:.{digits}f} " + ("(once)" if sd is None else f"+- {100 * sd:.{digits}f}")
