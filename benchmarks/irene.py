"""Irene end to end on coco-mini: where the loss is, with each source of boxes, at 5, 10 and 20 samples a class.

    python benchmarks/irene.py [--sources nanodet objectness ...] [--samples 5 10 20] [--seeds 0 1 ... 9] [--work DIR]
                               [--quick] [--json] [--out FILE]

Taught from coco-mini's train boxes, 80 classes, at most so many of each, drawn by seed; measured on its 75 val photos:
COCO's twelve figures (a subset of COCO's 5,000: compare rows of this table, not papers), F1 at the default vigilance
and the score from which the detector tells (detection/score_threshold.py), and, with the true boxes given ("boxes"),
the share
that gets its class. Beside it, on the same photos: NanoDet's own supervised classes, which 118,000 photos have taught
it, and plain class means (cosine to the mean of a class, no whitening). What a photo shows is computed once and kept in
--work. Sources whose weights are absent are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import data_folder, save
from common_detect import cache_of, named, right, spread, supervised, table, told

from handful.data import formats
from handful.detection.irene import Irene
from handful.errors import HandfulError
from handful.files import to_json
from handful.select import data_pool
from handful.select.feature_cache import CachedImage, cached_images
from handful.training.coco_table import STATS
from handful.training.source import split_of

SOURCES = ("nanodet", "objectness", "torchvision")
WANTED = {"accuracy": 0.50, "share_of_supervised": 0.75}
MEANS = 1e4  # a ridge that drowns every direction's own spread: what is left is the plain mean of each class
KEYS = (*STATS, "f1", "f1_macro", "accuracy", "score_threshold")


def rows_of(
    train: Sequence[CachedImage], val: Sequence[CachedImage], most: int, seed: int
) -> dict[str, dict[str, Any]]:
    """One teaching: {"boxes": ..., "proposed": ..., "boxes, class means": ..., "proposed, class means": ...}."""
    picked = data_pool.draw_boxes(data_pool.learnable_boxes(train), most, seed)
    score_threshold = data_pool.calibrate(train, picked, seed=seed)
    found: dict[str, dict[str, Any]] = {}
    for what in ("", ", class means"):
        learned = (
            data_pool.LearnedModel(data_pool.teach_nemo(train, picked, ridge=MEANS).solve())
            if what
            else data_pool.learn_boxes(train, picked)
        )
        classes = learned.solution.classes
        answers = [named(learned, one) for one in val]
        found[f"boxes{what}"] = {**table(val, answers, answers, classes), "accuracy": right(val, answers)}
        ranked = [told(learned, one, ranking=True) for one in val]
        careful = [told(replace(learned, score_threshold=score_threshold), one) for one in val]
        found[f"proposed{what}"] = {**table(val, ranked, careful, classes), "score_threshold": score_threshold}
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="20 photos of each split and 2 seeds, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = options.seeds[:2] if options.quick else options.seeds
    dataset = formats.read(data_folder() / "coco-mini", format="coco")
    parts = {split: split_of(dataset, split)[: 20 if options.quick else None] for split in ("train", "val")}
    names = [c.name for c in sorted(dataset.categories, key=lambda c: c.id)]
    result: dict[str, Any] = {"seeds": seeds, "wanted": WANTED, "subset": True, "rows": {}}
    for source in options.sources:
        try:
            irene = Irene.new(source)
        except HandfulError as error:
            print(f"{source} is left out: {error}", flush=True)
            continue
        train, val = (cached_images(parts[s], irene.proposer, irene.embedder, cache_of(options.work),
                                    what=f"{source}, {s}")
                      for s in ("train", "val"))  # fmt: skip
        result.update(photos={"train": len(train), "val": len(val)})
        if source == "nanodet":
            own = supervised(val, irene, names)
            result["supervised"] = own
            print(f"{'nanodet, its own classes':<44}" + line(own), flush=True)
        for most in options.samples:
            runs = [rows_of(train, val, most, seed) for seed in seeds]
            for kind in runs[0]:
                name = f"{kind.replace('proposed', source).replace('boxes', f'true boxes ({source} sees)')}, {most}"
                found = spread([run[kind] for run in runs], KEYS)
                result["rows"][name] = found
                print(f"{name:<44}" + line({k: v and v["mean"] for k, v in found.items()}), flush=True)
    own = result.get("supervised")
    for most in options.samples:
        row = result["rows"].get(f"nanodet, {most}")
        if own and row:
            print(f"nanodet's boxes keep {100 * row['AP']['mean'] / own['AP']:.0f} % of its own AP at {most} samples")
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


def line(row: dict[str, float | None]) -> str:
    """Percents: COCO's twelve, F1 and accuracy."""
    return " ".join(f"{k} {100 * v:.1f}" for k in KEYS if (v := row.get(k)) is not None)


if __name__ == "__main__":
    main()
