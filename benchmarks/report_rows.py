"""The rows of the 2018 report again: its COCO table previous against new, one class or many, few samples, worn photos.

    python benchmarks/report_rows.py [--modes accurate fast] [--samples 5 10 20] [--seeds 0 1 ... 9] [--work DIR]
                                     [--quick] [--out FILE]

coco-mini: taught from train, at most so many boxes of each of 80 classes, drawn by seed; asked about its 75 val photos
at one scale. "Previous": NanoDet with its own 80 classes, which 118,000 photos have taught it. "New": the same
network's boxes, classes by NEMO. 75 photos are a part of COCO's 5,000: compare the columns, not papers.

Classes: of 20 classes with something in val, drawn by seed, each is taught alone, then in twos, fives, tens, all 20,
and among all 80; always measured on those 20, from the same boxes, at the same vigilance. In the default mode.

Worn copies of the val photos, which are asked about and never taught:
gray: Pillow's "L" (.299 R + .587 G + .114 B) in all three channels;
dimmed: every value (sRGB) times 0.4; blurred: Pillow's GaussianBlur, radius (sigma) 2 px, photos are 640 px wide or
high but for a few; JPEG-worn: saved at Pillow's quality 10 with 4:2:0 and read again.
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save
from common_detect import asked, cache_of, spread, supervised, table, taught
from PIL import Image as PIL_Image
from PIL import ImageFilter

from handful.data import formats
from handful.detection.embedder import MODES, CropSettings
from handful.detection.evaluate import DetectionCounts, box_table
from handful.detection.irene import Irene
from handful.progress import track
from handful.select import data_pool
from handful.select.feature_cache import CachedImage, cached_images
from handful.training.coco_table import STATS
from handful.training.source import image_of, split_of
from handful.types import Image, Sample

TOGETHER = (1, 2, 5, 10, 20)  # classes that are taught together
DRAWN = 20  # classes that are measured
DIM, SIGMA_PX, QUALITY = 0.4, 2.0, 10
KEYS = (*STATS, "f1", "score_threshold")
# the report's table: measure, IoU, area, most detections
FORM = [
    ("AP", ".50:.95", "all", 100), ("AP", ".50", "all", 100), ("AP", ".75", "all", 100),
    ("AP", ".50:.95", "small", 100), ("AP", ".50:.95", "medium", 100), ("AP", ".50:.95", "large", 100),
    ("AR", ".50:.95", "all", 1), ("AR", ".50:.95", "all", 10), ("AR", ".50:.95", "all", 100),
    ("AR", ".50:.95", "small", 100), ("AR", ".50:.95", "medium", 100), ("AR", ".50:.95", "large", 100),
]  # fmt: skip


def as_jpeg(photo: PIL_Image.Image) -> PIL_Image.Image:
    """Saved at QUALITY and read again."""
    held = io.BytesIO()
    photo.save(held, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return PIL_Image.open(held).convert("RGB")


WORN: dict[str, Callable[[PIL_Image.Image], PIL_Image.Image]] = {
    "gray": lambda photo: photo.convert("L").convert("RGB"),
    "dimmed": lambda photo: PIL_Image.fromarray(np.round(np.asarray(photo) * DIM).astype(np.uint8)),
    "blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(SIGMA_PX)),
    "JPEG-worn": as_jpeg,
}


def worn(sample: Sample, how: str) -> Sample:
    """The same photo with the same boxes, worn."""

    def pixels() -> Image:
        return Image(np.array(WORN[how](PIL_Image.fromarray(image_of(sample).rgb_u8))), sample.path)

    return replace(sample, pixels=pixels)


def together(train: Sequence[CachedImage], val: Sequence[CachedImage], most: int, seed: int) -> dict[str, Any]:
    """{so many classes: AP and F1 on the drawn classes, taught so many at a time}."""
    shown = {n for one in val for n, crowd in zip(one.truth.names, one.truth.crowd, strict=True) if not crowd}
    there = [name for name in data_pool.learnable_boxes(train) if name in shown]
    drawn = [there[i] for i in np.random.default_rng((seed, 8)).permutation(len(there))[:DRAWN].tolist()]
    found = {}
    for many in (*TOGETHER, None):
        parts = [None] if many is None else [drawn[i : i + many] for i in range(0, len(drawn), many)]
        each: dict[str, float | None] = {}
        hits, alarms, missed = 0, 0, 0
        by_class: dict[str, float] = {}
        for part in parts:
            learned = taught(train, most, seed, part)
            ranked, careful = asked(learned, val)
            classes = learned.solution.classes
            each |= box_table([p.truth for p in val], ranked, [p.size_wh for p in val], classes)[1]
            counts = DetectionCounts(classes)
            for one, answer in zip(val, careful, strict=True):
                counts.add(one.truth, answer)
            for name in set(drawn) & set(classes):
                tp, fp, fn = (int(v[classes.index(name)]) for v in (counts.tp, counts.fp, counts.fn))
                hits, alarms, missed = hits + tp, alarms + fp, missed + fn
                by_class[name] = 2 * tp / (2 * tp + fp + fn)
        own = [each[name] for name in drawn]
        found["all" if many is None else str(many)] = {
            "AP": statistics.fmean(v for v in own if v is not None),
            "f1": 2 * hits / (2 * hits + alarms + missed),
            "f1_macro": statistics.fmean(by_class.values()),
        }
    return found


def points(found: dict[str, Any] | None) -> dict[str, float | None] | None:
    """Percents of one of `spread`, as the documents show them."""
    if found is None:
        return None
    return {"mean": 100 * found["mean"], **({} if found["sd"] is None else {"sd": 100 * found["sd"]})}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=["accurate", "fast"], choices=list(MODES))
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="20 photos of each split and 2 seeds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("bench-results/report_rows.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = options.seeds[:2] if options.quick else options.seeds
    most = max(options.samples)
    dataset = formats.read(data_folder() / "coco-mini", format="coco")
    parts = {split: split_of(dataset, split)[: 20 if options.quick else None] for split in ("train", "val")}
    names = [c.name for c in sorted(dataset.categories, key=lambda c: c.id)]
    copies = {"the photos themselves": parts["val"]}
    copies |= {how: [worn(sample, how) for sample in parts["val"]] for how in WORN}
    previous: dict[str, dict[str, float | None]] = {}
    figures: dict[str, Any] = {"previous": previous, "new": {}, "worn": {}, "classes": {}}
    for mode in options.modes:
        irene = Irene.new("nanodet", crop=CropSettings().at(mode))
        work = cache_of(options.work)
        train = cached_images(parts["train"], irene.proposer, irene.embedder, work, what=f"{mode}, train")
        asked_of = {how: cached_images(own, irene.proposer, irene.embedder, work, what=f"{mode}, {how}")
                    for how, own in copies.items()}  # fmt: skip
        val = asked_of["the photos themselves"]
        for how, photos in asked_of.items():
            if how not in previous:
                previous[how] = supervised(photos, irene, names)
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in track(seeds, f"{mode}, seeds", len(seeds)):
            for samples in options.samples:
                learned = taught(train, samples, seed)
                classes = learned.solution.classes
                found = {**table(val, *asked(learned, val), classes), "score_threshold": learned.score_threshold}
                runs.setdefault(f"samples {samples}", []).append(found)
                if samples != most:
                    continue
                for how, photos in asked_of.items():
                    one = found if photos is val else table(photos, *asked(learned, photos), classes)
                    lost = {f"{k}_lost": found[k] - one[k] for k in ("AP", "f1")}
                    lost["AP_lost_share"] = 1 - one["AP"] / found["AP"]
                    runs.setdefault(f"worn {how}", []).append({**one, **lost})
            if mode == options.modes[0]:
                own = together(train, val, most, seed)
                for many, one in own.items():
                    off = {f"{k}_off": one[k] - own["all"][k] for k in ("AP", "f1", "f1_macro")}
                    runs.setdefault(f"classes {many}", []).append({**one, **off})
        figures["new"][mode] = {n: spread(runs[f"samples {n}"], KEYS) for n in options.samples}
        lost_keys = ("AP_lost", "f1_lost", "AP_lost_share")
        figures["worn"][mode] = {how: spread(runs[f"worn {how}"], (*KEYS[:-1], *lost_keys)) for how in copies}
        if mode == options.modes[0]:
            measured = ("AP", "f1", "f1_macro", "AP_off", "f1_off", "f1_macro_off")
            figures["classes"] = {
                many: spread(runs[f"classes {many}"], measured) for many in (*map(str, TOGETHER), "all")
            }
    shown = tables(figures, options.modes, options.samples)
    for name, one in shown.items():
        print(name, *(" | ".join(map(cell, row)) for row in [one["columns"], *one["rows"]]), sep="\n", flush=True)
    save(options.out, {
        "samples": options.samples, "seeds": seeds, "photos": {s: len(own) for s, own in parts.items()},
        "worn": {"gray": "L of Pillow, three times", "dimmed": f"values times {DIM}",
                 "blurred": f"GaussianBlur of Pillow, {SIGMA_PX:g} px", "JPEG-worn": f"quality {QUALITY}, 4:2:0"},
        "spread": "mean and standard deviation over seeds", "figures": figures, "tables": shown,
    })  # fmt: skip


def cell(value: Any) -> str:
    """Of a table, to read."""
    if isinstance(value, dict):
        return " +- ".join(f"{one:.1f}" for one in value.values())
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def tables(figures: dict[str, Any], modes: Sequence[str], samples: Sequence[int]) -> dict[str, Any]:
    """As the documents show them, in percent."""
    previous, most = figures["previous"], max(samples)
    own = previous["the photos themselves"]

    def percent(value: float | None) -> float | None:
        return None if value is None else 100 * value

    def share(found: dict[str, Any]) -> float:
        return float(100 * found["AP"]["mean"] / own["AP"])

    report = [[*form, percent(own[key]), *(points(figures["new"][mode][most][key]) for mode in modes)]
              for form, key in zip(FORM, STATS, strict=True)]  # fmt: skip
    few = [[f"{mode}, {n}", *(points(found[key]) for key in ("AP", "AP50", "AR100", "f1")), share(found)]
           for mode in modes for n, found in figures["new"][mode].items()]  # fmt: skip
    wear = [[how, percent(before["AP"]), 100 * (1 - before["AP"] / own["AP"]),
             *(points(figures["worn"][mode][how][key]) for mode in modes for key in ("AP", "AP_lost_share", "f1"))]
            for how, before in previous.items()]  # fmt: skip
    many = [["80" if n == "all" else n, *(points(found[key]) for key in ("AP", "AP_off", "f1", "f1_off", "f1_macro"))]
            for n, found in figures["classes"].items()]  # fmt: skip
    return {
        "report": {"columns": ["", "IoU", "area", "most detections", "previous", *(f"new, {m}" for m in modes)],
                   "rows": report},
        "samples": {"columns": ["mode, boxes of a class", "AP", "AP50", "AR100", "F1", "% of previous AP"],
                    "rows": few},
        "classes": {"columns": ["classes taught", "AP", "AP less that of 80", "F1", "F1 less that of 80", "F1 macro"],
                    "rows": many},
        "worn": {"columns": ["copies", "previous: AP", "previous: lost %",
                             *(f"{m}: {what}" for m in modes for what in ("AP", "lost %", "F1"))], "rows": wear},
    }  # fmt: skip


if __name__ == "__main__":
    main()
