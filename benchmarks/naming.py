"""How much NEMO's linear score should count beside its cosine when a detector names a box.

    python benchmarks/naming.py [--linear 0 1 2 4 8 16] [--samples 5 20] [--seeds 0 1 2] [--work DIR] [--quick] [--json]
                                [--out FILE]

COCO's photos of train only, divided by photos into those taught from and those asked about, with NanoDet's boxes: AP
and F1 of what is found, and the share of true boxes that get their class. rules.LINEAR is set by it; val is not
touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common import data_folder, save
from common_detect import cache_of, named, percents, right, spread, table, told

from handful.files import to_json
from handful.progress import track
from handful.select import data_pool

KEYS = ("AP", "AP50", "f1", "right")


def measured(seen: data_pool.DataPool, samples: int, seed: int, linear: float) -> dict[str, Any]:
    """One detector, asked one way."""
    learned = data_pool.learn_boxes(
        seen.teach, data_pool.draw_boxes(data_pool.learnable_boxes(seen.teach), samples, seed)
    )
    ranked, careful, names = [], [], []
    for one in seen.tune:
        ranked.append(told(learned, one, ranking=True, linear=linear))
        careful.append(told(learned, one, linear=linear))
        names.append(named(learned, one, linear=linear))
    found = table(seen.tune, ranked, careful, learned.solution.classes)
    return {"linear": linear, "samples": samples, "seed": seed, "right": right(seen.tune, names),
            **{key: found[key] for key in KEYS if key in found}}  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--linear", type=float, nargs="+", default=[0, 0.5, 1, 2, 4, 8, 16])
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--proposer", default="nanodet")
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="one seed, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds, samples = (options.seeds[:1], options.samples[:1]) if options.quick else (options.seeds, options.samples)
    data = data_folder() / "coco-mini"
    seen, _ = data_pool.read_pool(data, proposer=options.proposer, cache=cache_of(options.work))
    todo = [(count, weight, seed) for count in samples for weight in options.linear for seed in seeds]
    rows = [measured(seen, count, seed, weight) for count, weight, seed in track(todo, "asking", len(todo))]
    table_ = []
    for count in samples:
        for weight in options.linear:
            own = [r for r in rows if (r["samples"], r["linear"]) == (count, weight)]
            line = {"samples": count, "linear": weight, **spread(own, KEYS)}
            table_.append(line)
            cells = ", ".join(f"{key} {percents(line[key], 2)}" for key in KEYS)
            print(f"{count} a class, linear {weight:g}: {cells} %", flush=True)
    result = {"photos": [len(seen.teach), len(seen.tune)], "how": seen.how, "seeds": list(seeds), "table": table_}
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
