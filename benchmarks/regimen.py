"""Which boxes to teach next: ours, the 2018 report's rule and chance, at every size from 5 to 20 a class.

    python benchmarks/regimen.py [--seeds 10] [--work DIR] [--cache DIR] [--quick] [--json] [--out FILE]

coco-mini: train divided by photos into those to teach from (60 %) and those to tune by, val to report on; boxes of
NanoDet-g; the detector's own vigilance. All rules have as many boxes at a size, ours at most; each seed draws the boxes
of all three. Ours less another: mean over the seeds and 95 % of its paired bootstrap over them. Each rule's way with a
seed is kept in --work as soon as it is done, so that what was stopped goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

from handful.detection.scoring import VIGILANCE
from handful.files import cache_home, read_tensors, to_json, write_tensors
from handful.select.box_selection import STRATEGIES
from handful.select.data_pool import learnable_boxes, read_pool
from handful.select.feature_cache import default_cache
from handful.select.grid_evaluation import GridEvaluation
from handful.select.regimen import SAMPLES, Grown, Shared, grow, table


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, help="where ways are kept  [default: the cache folder]")
    parser.add_argument("--cache", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 2 sizes, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    samples, seeds = ((5, 6), range(2)) if options.quick else (SAMPLES, range(options.seeds))
    work = options.work or (cache_home() or Path("regimen.work")) / "regimen"
    work = work / f"{VIGILANCE:g}-{samples[0]}-{samples[-1]}"
    pool, _ = read_pool(data_folder() / "coco-mini", proposer="nanodet", format="coco",
                   cache=options.cache or default_cache())  # fmt: skip
    sets = [GridEvaluation(part) for part in (pool.teach, pool.tune, pool.report)]
    shared = Shared(pool.teach, learnable_boxes(pool.teach), *sets, VIGILANCE, samples)
    found: dict[tuple[str, int], Grown] = {}
    for seed in seeds:
        for rule in STRATEGIES:
            path = work / f"{rule}-{seed}.safetensors"
            if not path.exists():
                way = grow(shared, (rule, seed))
                write_tensors(path, {"counts": way.counts, "macro": way.macro, "tune": way.tune, "boxes": way.boxes})
            held = read_tensors(path)
            found[rule, seed] = Grown(held["counts"], held["macro"], held["tune"], held["boxes"], {})
            last = held["counts"].sum(axis=1)
            f1 = 100 * 2 * last[:, 0] / np.maximum(2 * last[:, 0] + last[:, 1] + last[:, 2], 1)
            print(f"seed {seed}, {rule}: F1 {f1[0]:.1f} to {f1[-1]:.1f} %, {held['boxes'][-1]} boxes", flush=True)
    result: dict[str, Any] = {
        **table(found, list(seeds), list(STRATEGIES), samples), "vigilance": VIGILANCE, "how": pool.how,
        "images": {"teach": len(pool.teach), "tune": len(pool.tune), "report": len(pool.report)},
    }  # fmt: skip
    for n in samples:
        measures = ("f1", "difference", f"{n} a class"), ("f1_macro", "difference_macro", "  each class alike")
        for measure, key, front in measures:
            told = [
                f"{rule} {100 * result['strategies'][rule]['by_samples'][str(n)][measure]:.1f}" for rule in STRATEGIES
            ]
            less = []
            for other, row in result[key].items():
                low, high = (100 * v for v in row[str(n)]["interval"])
                less.append(f"less {other} {100 * row[str(n)]['mean']:+.2f} ({low:+.2f} to {high:+.2f})")
            print(f"{front}: {', '.join(told)}; ours {'; '.join(less)}")
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
