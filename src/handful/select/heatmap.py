"""The heat map: F1 over vigilance and samples a class; how flat its top is, and how F1 depends on the number of
classes.

Images are embedded once (feature_cache.py); a cell is then NEMO taught from cached vectors, and a threshold. Three sets
of images are used: one to teach from, one for the map and the choice of the vigilance, one to report on, used once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.detection.embedder import CropSettings
from handful.detection.scoring import VIGILANCE
from handful.errors import DataError
from handful.files import write_json
from handful.parallel import each
from handful.progress import track
from handful.select.data_pool import (
    BoxRef,
    DataPool,
    draw_boxes,
    learn_boxes,
    learnable_boxes,
    read_pool,
    warn_few_boxes,
)
from handful.select.feature_cache import CachedImage
from handful.select.grid_evaluation import GridEvaluation, f1

VIGILANCES = tuple(round(1.2 + 0.1 * i, 1) for i in range(30))
SAMPLES = tuple(range(5, 21))
CLASSES = (1, 2, 5, 20, 80)
STUDIED = 10  # samples a class when the number of classes is studied
DRAWS = 1000
RULE = {
    "f1": "2 TP / (2 TP + FP + FN) of the detections, over all images, as `handful evaluate` has it; "
    "mean over the seeds, each of which draws the boxes that are learned",
    "interval": "2.5 % and 97.5 % of that mean over bootstrap draws of the images, the same draws for every cell",
    "plateau": "cells whose F1 is not below the best cell's, by the 95 % interval of the difference over these draws",
    "classes": "all classes divided by chance into groups of K, one detector a group, evaluated on every image, so "
    "each class counts once whatever K is: F1 of all their detections together; one division a seed",
}


@dataclass(frozen=True, eq=False)
class Shared:
    """What every job needs: images to teach from, their objects, images to evaluate on."""

    images: tuple[CachedImage, ...]
    there: dict[str, list[BoxRef]]
    evaluation: GridEvaluation
    vigilances: tuple[float, ...]


def cells(shared: Shared, job: tuple[int, int]) -> np.ndarray:
    """(vigilances, images, 3): one seed's detector with so many samples a class, at every vigilance."""
    seed, most = job
    return shared.evaluation.counts(learn_boxes(shared.images, draw_boxes(shared.there, most, seed)), shared.vigilances)


def groups(shared: Shared, job: tuple[int, int, int]) -> np.ndarray:
    """(images, 3): all classes in groups of K, the detections of all groups together."""
    seed, k, most = job
    picked = draw_boxes(shared.there, most, seed)
    names = np.random.default_rng((seed, 5)).permutation(sorted(picked)).tolist()
    whole = np.zeros((len(shared.evaluation), 3), np.int64)
    for start in range(0, len(names), k):
        known = learn_boxes(shared.images, {name: picked[name] for name in names[start : start + k]})
        whole += shared.evaluation.counts(known, shared.vigilances)[0]
    return whole


def sweep(
    shared: Shared, seeds: Sequence[int], samples: Sequence[int], *, workers: int = 1, ray: str | None = None
) -> np.ndarray:
    """(seeds, samples, vigilances, images, 3) int64."""
    jobs = [(seed, most) for seed in seeds for most in samples]
    found: list[Any] = [None] * len(jobs)
    for number, counts in track(each(cells, shared, jobs, workers=workers, ray=ray), "cells", len(jobs)):
        found[number] = counts
    return np.stack(found).reshape(len(seeds), len(samples), *found[0].shape)


def bootstrap_weights(images: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, images) float64: how often each image is in each bootstrap draw."""
    return np.random.default_rng((seed, 7)).multinomial(images, np.full(images, 1 / images), draws).astype(np.float64)


def bootstrap_f1(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """F1, mean over seeds, of each bootstrap draw: counts (seeds, ..., images, 3), weight (draws, images) -> (draws,
    ...)."""
    total = np.tensordot(weight, counts.astype(np.float64), axes=(1, counts.ndim - 2))  # (draws, seeds, ..., 3)
    return np.asarray(f1(total).mean(axis=1))


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of (draws,)."""
    return [float(v) for v in np.percentile(values, [2.5, 97.5])]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """F1 of every cell. mean: (samples, vigilances), over seeds; sd: the same, standard deviation over seeds; best: its
    place; plateau: (samples, vigilances) bool; interval: of the best cell's F1."""

    mean: np.ndarray
    sd: np.ndarray
    best: tuple[int, int]
    plateau: np.ndarray
    interval: list[float]


def heat_map(counts: np.ndarray, draws: int = DRAWS) -> HeatMap:
    """From (seeds, samples, vigilances, images, 3); see RULE."""
    each_seed = f1(counts.sum(axis=3))
    mean = each_seed.mean(axis=0)
    # of equal cells the most careful
    sample, back = np.unravel_index(int(mean[:, ::-1].argmax()), mean.shape)
    best = int(sample), mean.shape[1] - 1 - int(back)
    again = bootstrap_f1(counts, bootstrap_weights(counts.shape[3], draws))
    behind = again[:, best[0], best[1]][:, None, None] - again
    spread = each_seed.std(axis=0, ddof=1) if len(counts) > 1 else np.zeros_like(mean)
    return HeatMap(mean, spread, best, np.percentile(behind, 2.5, axis=0) <= 0,
               interval(again[:, best[0], best[1]]))  # fmt: skip


def summary(counts: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """Of (seeds, images, 3): f1, mean over seeds; sd over seeds; interval over images; precision and recall."""
    own = f1(counts.sum(axis=1))
    tp, fp, fn = counts.sum(axis=(0, 1)).tolist()
    return {
        "f1": float(own.mean()), "sd": float(own.std(ddof=1)) if len(own) > 1 else None,
        "interval": interval(bootstrap_f1(counts, bootstrap_weights(counts.shape[1], draws))),
        "precision": tp / (tp + fp) if tp + fp else None, "recall": tp / (tp + fn) if tp + fn else None,
    }  # fmt: skip


def class_study(
    pool: DataPool, seeds: Sequence[int], *, vigilance: float, classes: Sequence[int] = CLASSES, most: int = STUDIED,
    workers: int = 1, ray: str | None = None, evaluation: GridEvaluation | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How F1 depends on the number of classes taught, at one vigilance; see RULE["classes"]."""
    there = learnable_boxes(pool.teach)
    sizes = sorted({min(k, len(there)) for k in classes})
    shared = Shared(pool.teach, there, evaluation or GridEvaluation(pool.report), (vigilance,))
    jobs = [(seed, k, most) for k in sizes for seed in seeds]
    found: list[Any] = [None] * len(jobs)
    for number, counts in track(each(groups, shared, jobs, workers=workers, ray=ray), "numbers of classes", len(jobs)):
        found[number] = counts
    held = np.stack(found).reshape(len(sizes), len(seeds), *found[0].shape)
    rows = {str(k): summary(own) for k, own in zip(sizes, held, strict=True)}
    result: dict[str, Any] = {"vigilance": vigilance, "samples": most, "seeds": list(seeds), "by_classes": rows}
    if 1 in sizes and 2 in sizes:
        again = bootstrap_f1(np.moveaxis(held[:2], 0, 1), bootstrap_weights(held.shape[2]))
        result["one_over_two"] = {"ratio": rows["1"]["f1"] / max(rows["2"]["f1"], 1e-12),
                                  "interval": interval(again[:, 0] / np.maximum(again[:, 1], 1e-12))}  # fmt: skip
    return result


def run(
    data: Path, out: Path, *, proposer: str | None = None, crop: CropSettings | None = None,
    seeds: Sequence[int] = range(10), vigilances: Sequence[float] = VIGILANCES, samples: Sequence[int] = SAMPLES,
    classes: Sequence[int] = CLASSES, split_seed: int = 0, workers: int = 1, ray: str | None = None,
    format: str | None = None, allow: Sequence[str] = (), cache: Path | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Draw the map of a data set, choose the vigilance, report; write heatmap.json and heatmap.png into `out`.

    classes: numbers of classes to study, none for no study. workers, ray: as parallel.each. All else as teaching.teach.
    Returns what heatmap.json holds. Raises DataError or UnknownName.
    """
    seeds, samples, vigilances = tuple(seeds), tuple(samples), tuple(vigilances)
    if not seeds or not samples or not vigilances or min(samples) < 1:
        raise DataError("a map needs a seed, a vigilance and a number of samples of 1 or more at least")
    pool, _ = read_pool(data, proposer=proposer, crop=crop, seed=split_seed, format=format, allow=allow, cache=cache,
                   **options)  # fmt: skip
    there = learnable_boxes(pool.teach)
    warn_few_boxes(there, max(samples))
    counts = sweep(
        Shared(pool.teach, there, GridEvaluation(pool.tune), vigilances), seeds, samples, workers=workers, ray=ray
    )
    best_map = heat_map(counts)
    at, column = best_map.best
    chosen = vigilances[column]
    evaluation = GridEvaluation(pool.report)
    reported = tuple(dict.fromkeys((chosen, VIGILANCE)))
    last = sweep(Shared(pool.teach, there, evaluation, reported), seeds, samples, workers=workers, ray=ray)
    result: dict[str, Any] = {
        "schema_version": 1, "task": "detect", "data": str(data), "rule": RULE, "seeds": list(seeds),
        "images": {"teach": len(pool.teach), "tune": len(pool.tune), "report": len(pool.report), "how": pool.how},
        "classes": {name: len(rows) for name, rows in there.items()}, **pool.about,
        "vigilances": list(vigilances), "samples": list(samples),
        "tune": {
            "f1": best_map.mean.tolist(), "sd": best_map.sd.tolist(), "plateau": best_map.plateau.tolist(),
            "best": {"vigilance": chosen, "samples": samples[at], "f1": float(best_map.mean.max()),
                     "interval": best_map.interval},
        },
        "report": [{"vigilance": v, "by_samples": {str(n): summary(last[:, i, j]) for i, n in enumerate(samples)}}
                   for j, v in enumerate(reported)],
    }  # fmt: skip
    if classes:
        result["study"] = class_study(pool, seeds, vigilance=VIGILANCE, classes=classes, workers=workers, ray=ray,
                                      evaluation=evaluation)  # fmt: skip
    from handful.select.heatmap_picture import draw

    write_json(Path(out) / "heatmap.json", result)
    draw(Path(out) / "heatmap.png", result)
    return result
