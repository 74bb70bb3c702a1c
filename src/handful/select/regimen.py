"""What to teach next: three rules held against each other on the same images, and a page of the images answered worst.

Three sets of images: the rules choose from the first, ours tries its choices on the second, and all are reported on the
third. The 2018 report chose, tuned and reported on the same hundred images.
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
from handful.select.box_selection import RULES, START, Picked, Run, faults, poorest, shares
from handful.select.data_pool import Learned, Place, learned, places, read, tell_short
from handful.select.feature_cache import Kept
from handful.select.grid_evaluation import FN, TP, Exam, f1
from handful.select.heatmap import told

SAMPLES = tuple(range(START, 21))
DRAWS = 2000
RULE = {
    "f1": "as `handful evaluate-detect` has it, on the images to report on; mean over the seeds",
    "f1_macro": "F1 of each class with an object on those images, and then the mean, so that rare classes count as "
    "much",
    "ours": "typical boxes first (TypiClust); then boxes of the classes with most faults: of missed objects from the "
    "densest spot no taught box covers, of confused ones from the boundary; what lowers F1 on the images to tune by is "
    "not kept, so it may teach fewer",
    "original": "5 of each class by chance, then one more of each, from the images answered worst that have one",
    "random": "of each class by chance",
    "ahead": "F1 of ours less that of the other, mean over seeds, and its 95 % interval over bootstrap draws of seeds",
}


@dataclass(frozen=True, eq=False)
class Shared:
    """What every job needs."""

    photos: tuple[Kept, ...]
    there: dict[str, list[Place]]
    teach: Exam
    tune: Exam
    report: Exam
    vigilance: float
    samples: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Grown:
    """One rule's way with one seed: counts (sizes, images, 3) on the images to report on, macro (sizes,) mean F1 there
    of the classes with an object, tune (sizes,) F1 on those to tune by, boxes (sizes,) taught, what was picked."""

    counts: np.ndarray
    macro: np.ndarray
    tune: np.ndarray
    boxes: np.ndarray
    picked: Picked


def grow(shared: Shared, job: tuple[str, int]) -> Grown:
    """One rule, one seed, from the first size to the last."""
    rule, seed = job

    def score(known: Learned) -> float:
        return float(f1(shared.tune.counts(known, (shared.vigilance,))[0].sum(axis=0)))

    run = Run(shared.photos, shared.there, shared.teach, shared.vigilance, seed, score)
    picked: Picked = {}
    counts, macro, tune, boxes = [], [], [], []
    for most in shared.samples:
        picked = RULES[rule](run, picked, most)
        known = learned(shared.photos, picked)
        counts.append(shared.report.counts(known, (shared.vigilance,))[0])
        each_class = shared.report.by_class(known, shared.vigilance, tuple(shared.there))
        macro.append(float(f1(each_class[each_class[:, [TP, FN]].sum(axis=1) > 0]).mean()))
        tune.append(score(known))
        boxes.append(sum(map(len, picked.values())))
    return Grown(np.stack(counts), np.array(macro), np.array(tune), np.array(boxes), picked)


def ahead(ours: np.ndarray, other: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """Ours less other, (seeds,) F1 each, of the same seeds: mean, interval, whether ours is surely in front, or
    behind."""
    less = np.asarray(ours, np.float64) - np.asarray(other, np.float64)
    rng = np.random.default_rng(19)
    again = less[rng.integers(0, len(less), (draws, len(less)))].mean(axis=1)
    low, high = (float(v) for v in np.percentile(again, [2.5, 97.5]))
    return {"mean": float(less.mean()), "interval": [low, high], "surely": low > 0, "behind": high < 0}


def compared(
    shared: Shared, seeds: Sequence[int], rules: Sequence[str] = tuple(RULES), *, workers: int = 1,
    on: str | None = None,
) -> tuple[dict[str, Any], dict[tuple[str, int], Grown]]:  # fmt: skip
    """All rules with all seeds: what the page and the JSON say, and each one's way."""
    for name in rules:
        if name not in RULES:
            raise unknown("rule", name, list(RULES))
    jobs = [(rule, seed) for seed in seeds for rule in rules]
    found: dict[tuple[str, int], Grown] = {}
    for number, one in track(each(grow, shared, jobs, workers=workers, on=on), "growing", len(jobs)):
        found[jobs[number]] = one
    return table(found, seeds, rules, shared.samples), found


def table(
    found: Mapping[tuple[str, int], Grown], seeds: Sequence[int], rules: Sequence[str], samples: Sequence[int]
) -> dict[str, Any]:
    """What the page and the JSON say of all ways."""
    f1_of = {rule: np.stack([f1(found[rule, s].counts.sum(axis=1)) for s in seeds]) for rule in rules}
    told_of: dict[str, Any] = {}
    for rule in rules:
        own = np.stack([found[rule, s].counts for s in seeds])
        told_of[rule] = {"by_samples": {
            str(n): {**told(own[:, i]), "f1_macro": float(np.mean([found[rule, s].macro[i] for s in seeds])),
                     "tune_f1": float(np.mean([found[rule, s].tune[i] for s in seeds])),
                     "boxes": float(np.mean([found[rule, s].boxes[i] for s in seeds]))}
            for i, n in enumerate(samples)
        }}  # fmt: skip
    result: dict[str, Any] = {"rules": told_of, "samples": list(samples), "seeds": list(seeds)}
    if rules[0] == "ours":
        result["ahead"] = {
            other: {str(n): ahead(f1_of["ours"][:, i], f1_of[other][:, i]) for i, n in enumerate(samples)}
            for other in rules[1:]
        }
        result["ahead_macro"] = {
            other: {str(n): ahead(np.array([found["ours", s].macro[i] for s in seeds]),
                                  np.array([found[other, s].macro[i] for s in seeds])) for i, n in enumerate(samples)}
            for other in rules[1:]
        }  # fmt: skip
    return result


def run(
    data: Path, out: Path, *, proposer: str | None = None, crop: CropSettings | None = None, seeds: Sequence[int] =
    range(10),
    samples: Sequence[int] = SAMPLES, vigilance: float | None = None, split_seed: int = 0, workers: int = 1,
    on: str | None = None, format: str | None = None, allow: Sequence[str] = (), cache: Path | None = None,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Compare the rules on a data set; write regimen.json and regimen.html into `out`.

    samples: sizes, a class, growing. regimen.json also lists which boxes ours picked with the first seed, in order to
    teach them. All else as in heatmap.run. Raises DataError or UnknownName.
    """
    seeds, samples = tuple(seeds), tuple(samples)
    if not seeds or not samples or list(samples) != sorted(set(samples)) or samples[0] < 1:
        raise DataError(f"sizes must grow from 1 or more, and there must be a seed; got sizes {list(samples)}, "
                        f"{len(seeds)} seeds")  # fmt: skip
    pool, _ = read(data, proposer=proposer, crop=crop, seed=split_seed, format=format, allow=allow, cache=cache,
                   **options)  # fmt: skip
    there = places(pool.teach)
    tell_short(there, samples[-1])
    careful = VIGILANCE if vigilance is None else vigilance
    shared = Shared(pool.teach, there, Exam(pool.teach), Exam(pool.tune), Exam(pool.report), careful, samples)
    table, found = compared(shared, seeds, workers=workers, on=on)
    last = found["ours", seeds[0]].picked
    known = learned(pool.teach, last)
    given = shared.tune.given(known, careful)
    wrong = faults(shared.tune, given, known.solution.classes)
    worst = poorest(shared.tune, known, careful)
    counts = shared.tune.counts(known, (careful,))[0]
    result: dict[str, Any] = {
        "schema_version": 1, "task": "detect", "data": str(data), "rule": RULE, "vigilance": careful, **pool.about,
        "photos": {"teach": len(pool.teach), "tune": len(pool.tune), "report": len(pool.report), "how": pool.how},
        "classes": {name: len(rows) for name, rows in there.items()}, **table,
        "faults": dict(shares(wrong, counts)),
        "poorest": [{"photo": pool.tune[i].name, "f1": value, "right": int(row[0]), "wrong": int(row[1]),
                     "missed": int(row[2])} for i, value, row in worst],
        "picked": [{"class": name, "photo": pool.teach[i].name, "box_px": pool.teach[i].truth.boxes[j].tolist()}
                   for name, rows in sorted(last.items()) for i, j in rows],
    }  # fmt: skip
    from handful.select.regimen_page import write

    write_json(Path(out) / "regimen.json", result)
    write(Path(out) / "regimen.html", result, shared.tune, given, known.solution.classes)
    return result
