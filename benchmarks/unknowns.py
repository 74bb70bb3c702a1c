"""Unknown objects (open set, OOD): groceries and shop photos classified by a detector that was taught COCO's classes.

    python benchmarks/unknowns.py [--source nanodet] [--samples 20] [--seeds 0 1 ... 9] [--work DIR] [--quick] [--json]
                                   [--out FILE]

Taught from coco-mini's train boxes. Known: the true boxes of its val photos. Unknown: grocery's test photos of kinds
that COCO has no class for (apples, banana, orange and carrots are left out), and office-amazon's calculators,
headphones and projectors on white, each photo whole as one box, whatever the proposer sees. By how far the best class
beats "none of these": AUROC (chance that a known thing beats an unknown one), FPR95 (share of unknown ones above the
margin that 95 % of the known ones have), and the share that is called by some class at the default vigilance. Beside
it the share of
office-amazon's seven kinds that are COCO's (backpack, bike, keyboard, laptop, monitor, mouse, mug) that gets its class.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save
from common_detect import cache_of, named, right, spread

from handful.data import formats
from handful.detection.evaluate import unknowns
from handful.detection.irene import Irene
from handful.files import to_json
from handful.select import data_pool
from handful.select.feature_cache import cached_images
from handful.training.source import image_of, split_of
from handful.types import Object, Sample

IN_COCO = {"Golden-Delicious", "Granny-Smith", "Pink-Lady", "Red-Delicious", "Royal-Gala", "Banana", "Orange",
           "Carrots"}  # fmt: skip
AS_COCO = {"backpack": "backpack", "bike": "bicycle", "keyboard": "keyboard", "laptop": "laptop", "monitor": "tv",
           "mouse": "mouse", "mug": "cup"}  # fmt: skip
KEYS = ("auroc", "fpr95", "called", "auroc_grocery", "fpr95_grocery", "called_grocery", "auroc_office", "fpr95_office",
        "called_office", "known_called", "office_right")  # fmt: skip


def whole(folder: Path, most: int | None) -> Iterator[Sample]:
    """Every photo below a folder of classes, as one box around all of it."""
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        for photo in sorted(place.glob("*.jpg"))[:most]:
            sample = Sample(photo, name=f"{place.name}/{photo.name}")
            high, wide = image_of(sample).rgb_u8.shape[:2]
            yield replace(sample, objects=(Object(place.name, (0.0, 0.0, float(wide), float(high))),))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="nanodet")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="two photos a class, 30 of COCO, 2 seeds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick = options.quick
    seeds = options.seeds[:2] if quick else options.seeds
    irene, cache = Irene.new(options.source), cache_of(options.work)
    coco = formats.read(data_folder() / "coco-mini", format="coco")
    how: dict[str, Any] = {"proposer": irene.proposer, "embedder": irene.embedder, "cache": cache}
    train, val = (cached_images(split_of(coco, s)[: 30 if quick else None], what=f"coco-mini {s}", **how)
                  for s in ("train", "val"))  # fmt: skip
    grocery = [s for s in whole(data_folder() / "grocery" / "test", 2 if quick else 8)
               if s.name.split("/")[0] not in IN_COCO]  # fmt: skip
    office = list(whole(data_folder() / "office-amazon" / "images", 2 if quick else 20))
    other = cached_images(grocery, what="grocery", **how)
    shop = cached_images(office, what="office-amazon", **how)
    unknown_ = [one for one in shop if one.truth.names[0] not in AS_COCO]
    known = [replace(one, truth=replace(one.truth, names=(AS_COCO[one.truth.names[0]],))) for one in shop
             if one.truth.names[0] in AS_COCO]  # fmt: skip
    rows = []
    for seed in seeds:
        learned = data_pool.learn_boxes(
            train, data_pool.draw_boxes(data_pool.learnable_boxes(train), options.samples, seed)
        )
        classes = set(learned.solution.classes)
        own = np.concatenate([
            found.margin[[n in classes for n, crowd in zip(one.truth.names, one.truth.crowd, strict=True) if not crowd]]
            for one in val for found in [named(learned, one)]
        ])  # fmt: skip
        row: dict[str, Any] = {"known_called": float((own > 0).mean())}
        sets = {"grocery": other, "office": unknown_, "": [*other, *unknown_]}
        for name, photos in sets.items():
            margin = np.concatenate([named(learned, one).margin for one in photos])
            told, end = unknowns(own, margin), f"_{name}" if name else ""
            row |= {f"auroc{end}": told["auroc"], f"fpr95{end}": told["fpr95"],
                    f"called{end}": float((margin > 0).mean())}  # fmt: skip
        row["office_right"] = right(known, [named(learned, one) for one in known])
        rows.append(row)
    found = spread(rows, KEYS)
    print(f"{options.source}, {options.samples} samples a class, {len(seeds)} seeds: {len(own)} known boxes, "
          f"{len(other)} groceries, {len(unknown_)} and {len(known)} shop photos")  # fmt: skip
    for key, value in found.items():
        if value is not None:
            print(f"{key:<16} {100 * value['mean']:.1f} % ({100 * value['least']:.1f} to {100 * value['most']:.1f})")
    result = {
        "source": options.source,
        "samples": options.samples,
        "seeds": seeds,
        "figures": found,
        "counts": {"known": len(own), "grocery": len(other), "office": len(unknown_), "shop_known": len(known)},
    }
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
