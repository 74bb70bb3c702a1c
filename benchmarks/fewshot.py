"""One class and three: raccoons and blood cells taught from 1, 3, 5 and 10 boxes a class.

    python benchmarks/fewshot.py [--sources nanodet objectness] [--shots 1 3 5 10] [--seeds 0 1 ... 9] [--work DIR]
                                 [--quick] [--json] [--out FILE]

fewshot-det's raccoon (1 class, 150 photos) and bccd (3 classes, 100 photos). The boxes are drawn by seed, and all
photos that none of them is in are asked about: AP50, and F1 at the default vigilance, one vigilance for both, told from
the score that the taught photos ask for (detection/score_threshold.py), and beside it from the usual 0.5 (f1_usual).
No class of
bccd is in COCO or ImageNet, and its photos are of another world. What a photo shows is computed once and kept in
--work.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import data_folder, save
from common_detect import cache_of, percents, spread, table, told

from handful.data import formats
from handful.detection.irene import Irene
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD
from handful.errors import HandfulError
from handful.files import to_json
from handful.select import data_pool
from handful.select.feature_cache import cached_images

KEYS = ("AP", "AP50", "f1", "precision", "recall", "score_threshold", "f1_usual")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", default=["nanodet", "objectness"])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="20 photos and 2 seeds, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = options.seeds[:2] if options.quick else options.seeds
    result: dict[str, Any] = {"seeds": seeds, "rows": {}}
    for source in options.sources:
        try:
            irene = Irene.new(source)
        except HandfulError as error:
            print(f"{source} is left out: {error}", flush=True)
            continue
        for name in ("raccoon", "bccd"):
            dataset = formats.read(data_folder() / "fewshot-det" / name, format="coco")
            samples = [s for s in dataset if s.objects][: 20 if options.quick else None]
            photos = cached_images(
                samples, irene.proposer, irene.embedder, cache_of(options.work), what=f"{source}, {name}"
            )
            for shots in options.shots:
                rows = []
                for seed in seeds:
                    picked = data_pool.draw_boxes(data_pool.learnable_boxes(photos), shots, seed)
                    score_threshold = data_pool.calibrate(photos, picked, seed=seed)
                    learned = replace(data_pool.learn_boxes(photos, picked), score_threshold=score_threshold)
                    seen = {i for own in picked.values() for i, _ in own}
                    rest = [one for i, one in enumerate(photos) if i not in seen]
                    ranked = [told(learned, one, ranking=True) for one in rest]
                    careful = [told(learned, one) for one in rest]
                    usual = [told(replace(learned, score_threshold=DEFAULT_SCORE_THRESHOLD), one) for one in rest]
                    plain = table(rest, ranked, usual, learned.solution.classes)["f1"]
                    row = table(rest, ranked, careful, learned.solution.classes)
                    rows.append({**row, "score_threshold": score_threshold, "f1_usual": plain})
                found = spread(rows, KEYS)
                result["rows"][f"{source}, {name}, {shots}"] = found
                said = " ".join(f"{k} {percents(v)}" for k, v in found.items() if v)
                print(f"{source + ', ' + name:<22} {shots:>2} shots: {said}", flush=True)
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
