"""The regimen (active learning): strategies for what to teach next, compared on the same images, and a page of the
worst.

Three sets of images: the strategies choose from the first, ours checks its choices on the second, and all are reported
on the third. The 2018 report, whose regimen is one of them, chose, tuned and reported on the same hundred images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.detection.embedder import CropSettings
from handful.detection.scoring import VIGILANCE
from handful.errors import DataError
from handful.files import write_json
from handful.parallel import each
from handful.pick import unknown
from handful.progress import track
from handful.select.box_selection import START, STRATEGIES, Run, Selection, error_counts, error_types, worst_images
from handful.select.data_pool import BoxRef, LearnedModel, learn_boxes, learnable_boxes, read_pool, warn_few_boxes
from handful.select.feature_cache import CachedImage
from handful.select.grid_evaluation import FN, TP, GridEvaluation, f1
from handful.select.heatmap import summary
from handful.words import counted

SAMPLES = tuple(range(START, 21))
DRAWS = 2000
RULE = {
    "f1": "as `handful evaluate` has it, on the images to report on; mean over the seeds",
    "f1_macro": "F1 of each class with an object on those images, and then the mean, so that rare classes count as "
    "much",
    "ours": "typical boxes first (TypiClust); then boxes of the classes with most errors: of missed objects from the "
    "densest region that no taught box covers, of confused ones from the decision boundary; what lowers F1 on the "
    "images to tune by is not kept, so it may teach fewer",
    "original": "the 2018 report's regimen: 5 of each class at random, then one more of each, from the images with the "
    "lowest F1 that have one",
    "random": "of each class at random",
    "difference": "F1 of ours less that of the other, mean over seeds, and its 95 % interval over bootstrap draws "
    "of seeds",
}


@dataclass(frozen=True, eq=False)
class Shared:
    """What every job needs."""

    images: tuple[CachedImage, ...]
    there: dict[str, list[BoxRef]]
    teach: GridEvaluation
    tune: GridEvaluation
    report: GridEvaluation
    vigilance: float
    samples: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Grown:
    """One strategy with one seed: counts (sizes, images, 3) on the images to report on, macro (sizes,) mean F1 there
    of the classes with an object, tune (sizes,) F1 on those to tune by, boxes (sizes,) taught, what was picked."""

    counts: np.ndarray
    macro: np.ndarray
    tune: np.ndarray
    boxes: np.ndarray
    picked: Selection


def grow(shared: Shared, job: tuple[str, int]) -> Grown:
    """One strategy, one seed, from the first size to the last."""
    strategy, seed = job

    def score(known: LearnedModel) -> float:
        return float(f1(shared.tune.counts(known, (shared.vigilance,))[0].sum(axis=0)))

    run = Run(shared.images, shared.there, shared.teach, shared.vigilance, seed, score)
    picked: Selection = {}
    counts, macro, tune, boxes = [], [], [], []
    for most in shared.samples:
        picked = STRATEGIES[strategy](run, picked, most)
        known = learn_boxes(shared.images, picked)
        counts.append(shared.report.counts(known, (shared.vigilance,))[0])
        each_class = shared.report.by_class(known, shared.vigilance, tuple(shared.there))
        macro.append(float(f1(each_class[each_class[:, [TP, FN]].sum(axis=1) > 0]).mean()))
        tune.append(score(known))
        boxes.append(sum(map(len, picked.values())))
    return Grown(np.stack(counts), np.array(macro), np.array(tune), np.array(boxes), picked)


def difference(ours: np.ndarray, other: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """Ours less other, (seeds,) F1 each, of the same seeds: mean, 95 % interval, whether ours is surely better, or
    worse."""
    less = np.asarray(ours, np.float64) - np.asarray(other, np.float64)
    rng = np.random.default_rng(19)
    again = less[rng.integers(0, len(less), (draws, len(less)))].mean(axis=1)
    low, high = (float(v) for v in np.percentile(again, [2.5, 97.5]))
    return {"mean": float(less.mean()), "interval": [low, high], "better": low > 0, "worse": high < 0}


def compared(
    shared: Shared, seeds: Sequence[int], strategies: Sequence[str] = tuple(STRATEGIES), *, workers: int = 1,
    ray: str | None = None,
) -> tuple[dict[str, Any], dict[tuple[str, int], Grown]]:  # fmt: skip
    """All strategies with all seeds: what the page and the JSON say, and each one's course."""
    for name in strategies:
        if name not in STRATEGIES:
            raise unknown("strategy", name, list(STRATEGIES))
    jobs = [(strategy, seed) for seed in seeds for strategy in strategies]
    found: dict[tuple[str, int], Grown] = {}
    for number, one in track(each(grow, shared, jobs, workers=workers, ray=ray), "growing", len(jobs)):
        found[jobs[number]] = one
    return table(found, seeds, strategies, shared.samples), found


def table(
    found: Mapping[tuple[str, int], Grown], seeds: Sequence[int], strategies: Sequence[str], samples: Sequence[int]
) -> dict[str, Any]:
    """What the page and the JSON say of all strategies."""
    f1_of = {strategy: np.stack([f1(found[strategy, s].counts.sum(axis=1)) for s in seeds]) for strategy in strategies}
    summaries: dict[str, Any] = {}
    for strategy in strategies:
        own = np.stack([found[strategy, s].counts for s in seeds])
        summaries[strategy] = {"by_samples": {
            str(n): {**summary(own[:, i]), "f1_macro": float(np.mean([found[strategy, s].macro[i] for s in seeds])),
                     "tune_f1": float(np.mean([found[strategy, s].tune[i] for s in seeds])),
                     "boxes": float(np.mean([found[strategy, s].boxes[i] for s in seeds]))}
            for i, n in enumerate(samples)
        }}  # fmt: skip
    result: dict[str, Any] = {"strategies": summaries, "samples": list(samples), "seeds": list(seeds)}
    if strategies[0] == "ours":
        result["difference"] = {
            other: {str(n): difference(f1_of["ours"][:, i], f1_of[other][:, i]) for i, n in enumerate(samples)}
            for other in strategies[1:]
        }
        result["difference_macro"] = {
            other: {str(n): difference(np.array([found["ours", s].macro[i] for s in seeds]),
                                  np.array([found[other, s].macro[i] for s in seeds])) for i, n in enumerate(samples)}
            for other in strategies[1:]
        }  # fmt: skip
    return result


def run(
    data: Path, out: Path, *, proposer: str | None = None, crop: CropSettings | None = None,
    seeds: Sequence[int] = range(10), samples: Sequence[int] = SAMPLES, vigilance: float | None = None,
    split_seed: int = 0, workers: int = 1, ray: str | None = None, format: str | None = None, allow: Sequence[str] = (),
    cache: Path | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Compare the strategies on a data set; write regimen.json and regimen.html into `out`.

    samples: sizes, a class, growing. regimen.json also lists which boxes ours picked with the first seed, in order to
    teach them. All else as in heatmap.run. Raises DataError or UnknownName.
    """
    seeds, samples = tuple(seeds), tuple(samples)
    if not seeds or not samples or list(samples) != sorted(set(samples)) or samples[0] < 1:
        raise DataError(f"sizes must grow from 1 or more, and there must be a seed; got sizes {list(samples)}, "
                        f"{counted(len(seeds), 'seed')}")  # fmt: skip
    pool, _ = read_pool(data, proposer=proposer, crop=crop, seed=split_seed, format=format, allow=allow, cache=cache,
                   **options)  # fmt: skip
    there = learnable_boxes(pool.teach)
    warn_few_boxes(there, samples[-1])
    vigilance = VIGILANCE if vigilance is None else vigilance
    teach, tune, report = (GridEvaluation(part) for part in (pool.teach, pool.tune, pool.report))
    shared = Shared(pool.teach, there, teach, tune, report, vigilance, samples)
    table, found = compared(shared, seeds, workers=workers, ray=ray)
    last = found["ours", seeds[0]].picked
    known = learn_boxes(pool.teach, last)
    detections = tune.detections(known, vigilance)
    wrong = error_types(tune, detections, known.solution.classes)
    worst = worst_images(tune, known, vigilance)
    counts = tune.counts(known, (vigilance,))[0]
    result: dict[str, Any] = {
        "schema_version": 1, "task": "detect", "data": str(data), "rule": RULE, "vigilance": vigilance, **pool.about,
        "images": {"teach": len(pool.teach), "tune": len(pool.tune), "report": len(pool.report), "how": pool.how},
        "classes": {name: len(rows) for name, rows in there.items()}, **table,
        "errors": dict(error_counts(wrong, counts)),
        "worst_images": [{"image": pool.tune[i].name, "f1": value, "true_positives": int(row[0]),
                          "false_positives": int(row[1]), "false_negatives": int(row[2])} for i, value, row in worst],
        "selection": [{"class": name, "image": pool.teach[i].name, "box_px": pool.teach[i].truth.boxes[j].tolist()}
                   for name, rows in sorted(last.items()) for i, j in rows],
    }  # fmt: skip
    from handful.select.regimen_page import write

    write_json(Path(out) / "regimen.json", result)
    write(Path(out) / "regimen.html", result, tune, detections, known.solution.classes)
    return result
