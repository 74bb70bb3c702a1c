"""F1 of a taught detector over vigilance and samples a class, and over the number of classes taught.

    python benchmarks/heatmap.py [--seeds 10] [--draws 3] [--workers 1] [--cache DIR] [--no-rules] [--quick] [--json]
                                 [--out FILE]

coco-mini: train divided by photos into those to teach from (60 %) and those to tune by, val to report on; boxes of
NanoDet-g. 30 vigilances (1.2 to 4.1) x 16 sizes (5 to 20 a class) on the photos to tune by, mean of the seeds, each of
which draws the boxes; paired bootstrap over photos. The vigilance of the best cell and the detector's own are then
asked about val, once. `--draws` divisions of all classes into groups of 1, 2, 5, 20, 80 are taught 10 boxes a class,
at the detector's own vigilance, and asked about val. On the photos to tune by only: which answers are told (by "none of
these" alone; by the score, too; with a background of its own, too), each at its own best vigilance, and whether a
vigilance set by leaving out a quarter of the taught photos at a time is any better than the constant.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, MIN_SCORE, VIGILANCE
from handful.files import to_json
from handful.select import heatmap
from handful.select.data_pool import BoxRef, DataPool, draw_boxes, learn_boxes, learnable_boxes, read_pool
from handful.select.feature_cache import default_cache
from handful.select.grid_evaluation import GridEvaluation, f1

WIDE = tuple(round(0.6 + 0.3 * i, 1) for i in range(18))
RULES = {
    "none of these alone": (MIN_SCORE, False),
    "and the score": (DEFAULT_SCORE_THRESHOLD, False),
    "and background": (DEFAULT_SCORE_THRESHOLD, True),
}
CASES = ((80, 20, 1), (80, 5, 3), (20, 10, 1), (5, 10, 1), (2, 10, 1), (1, 10, 1))  # classes, a class, draws
FOLDS = 4


def cases(there: dict[str, list[BoxRef]], quick: bool) -> list[tuple[int, int, list[dict[str, list[BoxRef]]]]]:
    """Classes, a class, and what each detector is taught: for few classes, groups of some of the classes."""
    found = []
    for k, most, draws in CASES:
        picks = []
        for seed in range(draws):
            picked = draw_boxes(there, most, seed)
            names = (
                np.random.default_rng((seed, 23)).permutation([n for n, r in picked.items() if len(r) >= 5]).tolist()
            )
            groups = [names[i : i + k] for i in range(0, max(1, min(len(names), 24 if k < 20 else 999) - k + 1), k)]
            picks += [picked] if k >= len(there) else [{n: picked[n] for n in group} for group in groups]
        found.append((k, most, picks[:2] if quick else picks))
    return found


def of_rules(pool: DataPool, quick: bool) -> list[dict[str, Any]]:
    """F1 on the photos to tune by, all detectors of a case together: at the rule's own best vigilance, and at ours."""
    there, rows = learnable_boxes(pool.teach), []
    for name, (score_threshold, exhaustive) in RULES.items():
        exam, own = (
            GridEvaluation(pool.tune, score_threshold=score_threshold),
            int(np.argmin(np.abs(np.array(WIDE) - VIGILANCE))),
        )
        for k, most, picks in cases(there, quick):
            if score_threshold < DEFAULT_SCORE_THRESHOLD and k < 20:
                picks = picks[:8]  # so many answers take their time
            counts = sum(
                exam.counts(learn_boxes(pool.teach, p, exhaustive=exhaustive), WIDE).sum(axis=1) for p in picks
            )
            values = f1(np.asarray(counts))
            best = int(values.argmax())
            rows.append({"rule": name, "classes": k, "samples": most, "detectors": len(picks), "f1": values[best],
                         "vigilance": WIDE[best], "f1_at_default": values[own]})  # fmt: skip
            print(f"{name}: {k} classes, {most} a class: F1 {100 * values[best]:.1f} % at {WIDE[best]:g}, "
                  f"{100 * values[own]:.1f} % at {WIDE[own]:g}", flush=True)  # fmt: skip
    return rows


def calibrated(pool: DataPool, quick: bool) -> list[dict[str, Any]]:
    """The vigilance with the best F1 on taught photos left out in turn, held against the constant on the photos to tune
    by: mean F1 of the detectors."""
    there, rows = learnable_boxes(pool.teach), []
    own, exam = int(np.argmin(np.abs(np.array(WIDE) - VIGILANCE))), GridEvaluation(pool.tune)
    for k, most, picks in cases(there, quick):
        summary = []
        for picked in picks[:6]:
            photos = sorted({i for r in picked.values() for i, _ in r})
            if len(photos) < FOLDS:
                continue
            total = np.zeros((len(WIDE), 3))
            for fold in range(FOLDS):
                out = set(photos[fold::FOLDS])
                rest = {n: [p for p in r if p[0] not in out] for n, r in picked.items()}
                rest = {n: r for n, r in rest.items() if r}
                if rest:
                    left = GridEvaluation([pool.teach[i] for i in sorted(out)])
                    total += left.counts(learn_boxes(pool.teach, rest), WIDE).sum(axis=1)
            values = f1(exam.counts(learn_boxes(pool.teach, picked), WIDE).sum(axis=1))
            at = int(f1(total).argmax())
            summary.append((WIDE[at], values[at], values[own], values.max()))
        if summary:
            vigilance, by_folds, constant, best = np.mean(summary, axis=0).tolist()
            rows.append({"classes": k, "samples": most, "detectors": len(summary), "vigilance": vigilance,
                         "f1": by_folds, "f1_at_default": constant, "f1_at_best": best})  # fmt: skip
            print(
                f"vigilance from left-out photos, {k} classes, {most} a class, {len(summary)} detectors: F1 "
                f"{100 * by_folds:.1f} %, constant {100 * constant:.1f} %, best {100 * best:.1f} %",
                flush=True,
            )
    return rows


SAID = {"none of these alone": 'it beats "none of these"',
        "and the score": "and its score, sqrt(quality x probability), is 0.5 or more",
        "and background": 'and "none of these" has learned the background'}  # fmt: skip


def documented(result: dict[str, Any]) -> dict[str, Any]:
    """Tables and figures as docs/regimen.md shows them, in %."""

    def value(found: dict[str, Any]) -> dict[str, float]:
        low, high = found["interval"]
        return {"mean": 100 * found["f1"], "sd": 100 * (found["sd"] or 0), "low": 100 * low, "high": 100 * high}

    best, own = (next(r["by_samples"] for r in result["report"] if r["vigilance"] == at)
                 for at in (result["tune"]["best"]["vigilance"], VIGILANCE))  # fmt: skip
    first = [[n, value(own[n]), [100 * own[n][key] for key in ("precision", "recall")], 100 * best[n]["f1"]]
             for n in ("5", "10", "15", "20") if n in own]  # fmt: skip
    columns = ["boxes of a class, at most", f"vigilance {VIGILANCE:g}: F1, % ± s.d. over seeds (95 % over images)",
               "precision, recall", f"vigilance {result['tune']['best']['vigilance']:g}: F1, %"]  # fmt: skip
    tables = {"samples": {"columns": columns, "rows": first}}
    classes = {k: value(one) for k, one in result["study"]["by_classes"].items()}
    rows = [["F1, % ± s.d. over divisions", *({"mean": v["mean"], "sd": v["sd"]} for v in classes.values())],
            ["95 % over images", *([v["low"], v["high"]] for v in classes.values())]]  # fmt: skip
    tables["classes"] = {"columns": ["classes together", *classes], "rows": rows}
    if "told" in result:
        by_rule: dict[str, list[list[float]]] = {said: [] for said in SAID.values()}
        for row in result["told"]:
            by_rule[SAID[row["rule"]]].append([100 * row["f1"], 100 * row["f1_at_default"]])
        cases = [f"{'all 76 classes' if k == 80 else k}, {most}{' a class' if k == 80 and most == 20 else ''}"
                 for k, most, _ in CASES]  # fmt: skip
        cases = [case.replace("all 76 classes, 5", "76, 5") for case in cases]
        tables["told"] = {"columns": ["a detection is given when", *cases],
                          "rows": [[said, *values] for said, values in by_rule.items()]}  # fmt: skip
    plateau, vigilances = np.array(result["tune"]["plateau"]), np.array(result["vigilances"])
    at = int(np.argmin(np.abs(vigilances - VIGILANCE)))
    figures = {
        "best on tune": {"f1": 100 * result["tune"]["best"]["f1"], "vigilance": result["tune"]["best"]["vigilance"],
                         "interval": [100 * v for v in result["tune"]["best"]["interval"]]},
        "plateau": {"cells": [int(plateau.sum()), plateau.size],
                    "vigilance": [float(v) for v in vigilances[plateau.any(axis=0)][[0, -1]]]},
        "F1 over vigilance at most samples": [100 * float(v) for v in result["tune"]["f1"][-1]],
        "F1 at the default": 100 * float(result["tune"]["f1"][-1][at]),
        "one class of two": result["study"].get("one_over_two"),
        "calibrated vigilance, constant": [[100 * row["f1"], 100 * row["f1_at_default"]]
                                           for row in result.get("calibrated", [])],
    }  # fmt: skip
    spread = "standard deviation over seeds, 95 % over images"
    return {"tables": tables, "figures": figures, "spread": spread, "unit": "%"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draws", type=int, default=3, help="divisions of the classes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--picture", type=Path, default=Path("bench-results/heatmap"), help="folder of the picture")
    parser.add_argument("--no-rules", action="store_true", help="only the map and the numbers of classes")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 x 3 cells, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    coco, cache = data_folder() / "coco-mini", options.cache or default_cache()
    few: dict[str, Any] = {"seeds": range(2), "vigilances": (1.5, 2.7, 3.9), "samples": (5, 12, 20), "classes": ()}
    how: dict[str, Any] = few if options.quick else {"seeds": range(options.seeds), "classes": ()}
    result = heatmap.run(coco, options.picture, proposer="nanodet", format="coco", cache=cache,
                         workers=options.workers, **how)  # fmt: skip
    best = result["tune"]["best"]
    print(f"best: F1 {100 * best['f1']:.1f} % at vigilance {best['vigilance']:g}, {best['samples']} a class; "
          f"{sum(map(sum, result['tune']['plateau']))} cells are as good", flush=True)  # fmt: skip
    for row in result["report"]:
        for n, summary in row["by_samples"].items():
            low, high = (100 * v for v in summary["interval"])
            print(f"val, vigilance {row['vigilance']:g}, {n} a class: F1 {100 * summary['f1']:.1f} % (sd "
                  f"{100 * (summary['sd'] or 0):.1f}; {low:.1f} to {high:.1f}), precision "
                  f"{100 * (summary['precision'] or 0):.1f}, recall {100 * (summary['recall'] or 0):.1f}",
                  flush=True)  # fmt: skip
    pool, _ = read_pool(coco, proposer="nanodet", format="coco", cache=cache)
    sizes = (20, 80) if options.quick else heatmap.CLASSES
    result["study"] = heatmap.class_study(pool, range(1 if options.quick else options.draws), vigilance=VIGILANCE,
                                          classes=sizes, workers=options.workers)  # fmt: skip
    for k, summary in result["study"]["by_classes"].items():
        print(f"val, {k} classes at a time: F1 {100 * summary['f1']:.1f} % (sd {100 * (summary['sd'] or 0):.1f}; "
              f"{100 * summary['interval'][0]:.1f} to {100 * summary['interval'][1]:.1f})", flush=True)  # fmt: skip
    if "one_over_two" in result["study"]:
        ratio = result["study"]["one_over_two"]
        print(f"1 class / 2 classes: {ratio['ratio']:.3f} ({ratio['interval'][0]:.3f} to {ratio['interval'][1]:.3f})")
    from handful.select.heatmap_picture import draw

    draw(options.picture / "heatmap.png", result)
    if not options.no_rules:
        result["told"] = of_rules(pool, options.quick)
        result["calibrated"] = calibrated(pool, options.quick)
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, {**result, **documented(result)})


if __name__ == "__main__":
    main()
