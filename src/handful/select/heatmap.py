"""F1 over vigilance and samples a class: where a detector works, how flat the top is, and how many classes it takes.

Images are looked at once (kept.py); a cell is then NEMO taught from kept vectors, and a threshold. Three sets of images
are used: one to teach from, one on which the map is drawn and the vigilance chosen, one to report on, touched once.
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
from handful.select.data_pool import Place, Pool, drawn, learned, places, read, tell_short
from handful.select.feature_cache import Kept
from handful.select.grid_evaluation import Exam, f1

VIGILANCES = tuple(round(1.2 + 0.1 * i, 1) for i in range(30))
SAMPLES = tuple(range(5, 21))
CLASSES = (1, 2, 5, 20, 80)
STUDIED = 10  # samples a class when the number of classes is studied
DRAWS = 1000
RULE = {
    "f1": "2 TP / (2 TP + FP + FN) of the answers that are told, over all images, as `handful evaluate-detect` has it; "
    "mean over the seeds, each of which draws the boxes that are learned",
    "interval": "2.5 % and 97.5 % of that mean over bootstrap draws of the images, the same draws for every cell",
    "plateau": "cells whose F1 is not below the best cell's, by the 95 % interval of the difference over these draws",
    "classes": "all classes divided by chance into groups of K, one detector a group, asked about every image, so each "
    "class counts once whatever K is: F1 of all their answers together; one division a seed",
}


@dataclass(frozen=True, eq=False)
class Shared:
    """What every job needs: images to teach from, their objects, images to ask about."""

    photos: tuple[Kept, ...]
    there: dict[str, list[Place]]
    exam: Exam
    vigilances: tuple[float, ...]


def cells(shared: Shared, job: tuple[int, int]) -> np.ndarray:
    """(vigilances, images, 3): one seed's detector with so many samples a class, at every vigilance."""
    seed, most = job
    return shared.exam.counts(learned(shared.photos, drawn(shared.there, most, seed)), shared.vigilances)


def groups(shared: Shared, job: tuple[int, int, int]) -> np.ndarray:
    """(images, 3): all classes in groups of K, the answers of all groups together."""
    seed, k, most = job
    picked = drawn(shared.there, most, seed)
    names = np.random.default_rng((seed, 5)).permutation(sorted(picked)).tolist()
    whole = np.zeros((len(shared.exam), 3), np.int64)
    for start in range(0, len(names), k):
        known = learned(shared.photos, {name: picked[name] for name in names[start : start + k]})
        whole += shared.exam.counts(known, shared.vigilances)[0]
    return whole


def swept(
    shared: Shared, seeds: Sequence[int], samples: Sequence[int], *, workers: int = 1, on: str | None = None
) -> np.ndarray:
    """(seeds, samples, vigilances, images, 3) int64."""
    jobs = [(seed, most) for seed in seeds for most in samples]
    found: list[Any] = [None] * len(jobs)
    for number, counts in track(each(cells, shared, jobs, workers=workers, on=on), "cells", len(jobs)):
        found[number] = counts
    return np.stack(found).reshape(len(seeds), len(samples), *found[0].shape)


def weights(photos: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, images) float64: how often each image is in each bootstrap draw."""
    return np.random.default_rng((seed, 7)).multinomial(photos, np.full(photos, 1 / photos), draws).astype(np.float64)


def resampled(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """F1, mean over seeds, of each bootstrap draw: counts (seeds, ..., images, 3), weight (draws, images) -> (draws,
    ...)."""
    total = np.tensordot(weight, counts.astype(np.float64), axes=(1, counts.ndim - 2))  # (draws, seeds, ..., 3)
    return np.asarray(f1(total).mean(axis=1))


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of (draws,)."""
    return [float(v) for v in np.percentile(values, [2.5, 97.5])]


@dataclass(frozen=True, eq=False)
class Map:
    """F1 of every cell. mean: (samples, vigilances), over seeds; sd: the same, standard deviation over seeds; best: its
    place; plateau: (samples, vigilances) bool; interval: of the best cell's F1."""

    mean: np.ndarray
    sd: np.ndarray
    best: tuple[int, int]
    plateau: np.ndarray
    interval: list[float]


def mapped(counts: np.ndarray, draws: int = DRAWS) -> Map:
    """From (seeds, samples, vigilances, images, 3); see RULE."""
    each_seed = f1(counts.sum(axis=3))
    mean = each_seed.mean(axis=0)
    best = tuple(int(i) for i in np.unravel_index(int(mean.argmax()), mean.shape))
    again = resampled(counts, weights(counts.shape[3], draws))
    behind = again[:, best[0], best[1]][:, None, None] - again
    spread = each_seed.std(axis=0, ddof=1) if len(counts) > 1 else np.zeros_like(mean)
    return Map(mean, spread, (best[0], best[1]), np.percentile(behind, 2.5, axis=0) <= 0,
               interval(again[:, best[0], best[1]]))  # fmt: skip


def told(counts: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """Of (seeds, images, 3): f1, mean over seeds; sd over seeds; interval over images; precision and recall."""
    own = f1(counts.sum(axis=1))
    tp, fp, fn = counts.sum(axis=(0, 1)).tolist()
    return {
        "f1": float(own.mean()), "sd": float(own.std(ddof=1)) if len(own) > 1 else None,
        "interval": interval(resampled(counts, weights(counts.shape[1], draws))),
        "precision": tp / (tp + fp) if tp + fp else None, "recall": tp / (tp + fn) if tp + fn else None,
    }  # fmt: skip


def class_study(
    pool: Pool, seeds: Sequence[int], *, vigilance: float, classes: Sequence[int] = CLASSES, most: int = STUDIED,
    workers: int = 1, on: str | None = None, exam: Exam | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How F1 hangs on the number of classes taught, at one vigilance; see RULE["classes"]."""
    there = places(pool.teach)
    sizes = sorted({min(k, len(there)) for k in classes})
    shared = Shared(pool.teach, there, exam or Exam(pool.report), (vigilance,))
    jobs = [(seed, k, most) for k in sizes for seed in seeds]
    found: list[Any] = [None] * len(jobs)
    for number, counts in track(each(groups, shared, jobs, workers=workers, on=on), "numbers of classes", len(jobs)):
        found[number] = counts
    held = np.stack(found).reshape(len(sizes), len(seeds), *found[0].shape)
    rows = {str(k): told(own) for k, own in zip(sizes, held, strict=True)}
    result: dict[str, Any] = {"vigilance": vigilance, "samples": most, "seeds": list(seeds), "by_classes": rows}
    if 1 in sizes and 2 in sizes:
        again = resampled(np.moveaxis(held[:2], 0, 1), weights(held.shape[2]))
        result["one_over_two"] = {"ratio": rows["1"]["f1"] / max(rows["2"]["f1"], 1e-12),
                                  "interval": interval(again[:, 0] / np.maximum(again[:, 1], 1e-12))}  # fmt: skip
    return result


def run(
    data: Path, out: Path, *, proposer: str | None = None, crop: CropSettings | None = None, seeds: Sequence[int] =
    range(10),
    vigilances: Sequence[float] = VIGILANCES, samples: Sequence[int] = SAMPLES, classes: Sequence[int] = CLASSES,
    split_seed: int = 0, workers: int = 1, on: str | None = None, format: str | None = None,
    allow: Sequence[str] = (), cache: Path | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Draw the map of a data set, choose the vigilance, report; write heatmap.json and heatmap.png into `out`.

    classes: numbers of classes to study, none for no study. on, workers: as workers.each. All else as teaching.teach.
    Returns what heatmap.json holds. Raises DataError or UnknownName.
    """
    seeds, samples, vigilances = tuple(seeds), tuple(samples), tuple(vigilances)
    if not seeds or not samples or not vigilances or min(samples) < 1:
        raise DataError("a map needs a seed, a vigilance and a number of samples of 1 or more at least")
    pool, _ = read(data, proposer=proposer, crop=crop, seed=split_seed, format=format, allow=allow, cache=cache,
                   **options)  # fmt: skip
    there = places(pool.teach)
    tell_short(there, max(samples))
    counts = swept(Shared(pool.teach, there, Exam(pool.tune), vigilances), seeds, samples, workers=workers, on=on)
    drawn_map = mapped(counts)
    at, column = drawn_map.best
    chosen = vigilances[column]
    exam = Exam(pool.report)
    asked = tuple(dict.fromkeys((chosen, VIGILANCE)))
    last = swept(Shared(pool.teach, there, exam, asked), seeds, samples, workers=workers, on=on)
    result: dict[str, Any] = {
        "schema_version": 1, "task": "detect", "data": str(data), "rule": RULE, "seeds": list(seeds),
        "photos": {"teach": len(pool.teach), "tune": len(pool.tune), "report": len(pool.report), "how": pool.how},
        "classes": {name: len(rows) for name, rows in there.items()}, **pool.about,
        "vigilances": list(vigilances), "samples": list(samples),
        "tune": {
            "f1": drawn_map.mean.tolist(), "sd": drawn_map.sd.tolist(), "plateau": drawn_map.plateau.tolist(),
            "best": {"vigilance": chosen, "samples": samples[at], "f1": float(drawn_map.mean.max()),
                     "interval": drawn_map.interval},
        },
        "report": [{"vigilance": v, "by_samples": {str(n): told(last[:, i, j]) for i, n in enumerate(samples)}}
                   for j, v in enumerate(asked)],
    }  # fmt: skip
    if classes:
        result["study"] = class_study(pool, seeds, vigilance=VIGILANCE, classes=classes, workers=workers, on=on,
                                      exam=exam)  # fmt: skip
    from handful.select.heatmap_picture import draw

    write_json(Path(out) / "heatmap.json", result)
    draw(Path(out) / "heatmap.png", result)
    return result
