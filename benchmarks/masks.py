"""Masks in boxes, by the head that comes with handful, by GrabCut, and by nothing at all.

    python benchmarks/masks.py [--seeds 0 1 2] [--all] [--steps 400] [--tune] [--work DIR] [--detector DIR] [--shots 20]
                               [--quick] [--json] [--out FILE]

Boxes: of every thing with a mask in coco-mini's val photos (298 in 48), the mean IoU of its pixels and the mask made in
its true box, and in the box with each side off by a normal 6 % of the box (0.06, cut at 15 %), which is what the head
was trained with; by size of the thing (32 x 32 and 96 x 96 px). Beside: the whole box, and the ellipse in it. Heads are
trained here by tools/make_masks.py, one a seed, and the one that comes with handful is told apart (shipped). --all:
also a head from all train photos, which may not be shipped, to see what the others are worth. --tune: on the things of
the train photos that the shipped head has not seen, instead of val; that is where settings were chosen.

Time: of a box, one thread, ways in turn over the same boxes; the ratio is of each box's two times, its median and
quartiles. End to end: a detector taught --shots boxes a class of coco-mini's train with NanoDet's proposals, on val:
COCO's table of boxes and of masks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, data_folder, save

import handful.detection
from handful.data import formats
from handful.detection import evaluate, evaluate_masks, masks_head
from handful.detection.irene import Irene
from handful.detection.masking import box_patch, clipped, tight_patch
from handful.detection.teaching import teach
from handful.detection.train_mask_head import MaskSample, Plan, mask_quality, mask_samples
from handful.files import cache_home, to_json
from handful.pick import pick
from handful.results import Patch
from handful.training.source import image_of, split_of

sys.path.insert(0, str(ROOT / "tools"))
import make_masks

JITTER = 0.06
LEAST = 0.1  # with the answers below it GrabCut would take most of an hour; all ways get the same ones
SIZES = {"all": (0.0, np.inf), "small": (0.0, 1024.0), "medium": (1024.0, 9216.0), "large": (9216.0, np.inf)}
Cut = Callable[[np.ndarray, np.ndarray], list[Patch]]


def ellipse(rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
    """The largest ellipse in each box."""
    size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
    found = []
    for box in clipped(boxes, size_wh):
        whole = box_patch(box, size_wh)
        high, wide = whole.pixels.shape
        y, x = (np.arange(high) + 0.5) / high * 2 - 1, (np.arange(wide) + 0.5) / wide * 2 - 1
        found.append(tight_patch(y[:, None] ** 2 + x[None] ** 2 <= 1, whole.left_top) if min(high, wide) > 2 else whole)
    return found


def by_size(cut: Cut, things: list[MaskSample]) -> dict[str, Any]:
    """Mean IoU in true and in jittered boxes, in all and by size."""
    out: dict[str, Any] = {}
    for kind, jitter in (("true", 0.0), ("jittered", JITTER)):
        overlap, size = mask_quality(cut, things, jitter=jitter)
        out[kind] = {name: float(overlap[(size >= low) & (size < high)].mean()) if ((size >= low) & (size < high)).any()
                     else None for name, (low, high) in SIZES.items()}  # fmt: skip
    return out


def timed(ways: dict[str, Cut], things: list[MaskSample], count: int) -> dict[str, Any]:
    """Milliseconds a box: median and quartiles, and how many times the head's, box by box."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    chosen = np.random.default_rng(0).permutation(len(things))[: count + 3].tolist()
    for number, i in enumerate(chosen):
        for name, cut in ways.items():
            began = time.perf_counter()
            cut(things[i].rgb_u8, things[i].box[None])
            if number >= 3:
                taken[name].append(1000 * (time.perf_counter() - began))
    out: dict[str, Any] = {}
    for name, ms in taken.items():
        ratio = np.quantile(np.array(ms) / np.array(taken["head"]), [0.25, 0.5, 0.75])
        out[name] = {"median_ms": statistics.median(ms), "quartiles_ms": np.quantile(ms, [0.25, 0.75]).tolist(),
                     "times_head": float(ratio[1]), "times_head_quartiles": ratio[[0, 2]].tolist(),
                     "boxes": len(ms)}  # fmt: skip
    return out


def detected(folder: Path, shots: int) -> dict[str, Any]:
    """COCO's tables of boxes and masks, end to end, on val photos all of whose things have masks: the same answers, of
    a score of LEAST or more, for every way."""
    data = data_folder() / "coco-mini"
    if not (folder / "handful.json").exists():
        teach(data, folder, max_samples=shots, proposer="nanodet", seed=0)
    kept = Irene.load(folder)
    detector = Irene(kept.proposer, kept.embedder, kept.nemo, kept.fusion)  # with the head of now
    tables = {way: evaluate_masks.MaskTable(detector, way) for way in ("head", "grabcut", "none")}
    truth, answers, sizes, cut = [], [], [], 0
    for sample in split_of(formats.read(data, format="coco"), "val"):
        rgb = image_of(sample).rgb_u8
        size_wh = (rgb.shape[1], rgb.shape[0])
        if evaluate_masks.ground_truth_of(sample, size_wh, {}) is None:
            cut += 1
            continue
        found = detector.select(detector.score(rgb), ranking=True, score_threshold=LEAST)
        for one in tables.values():
            one.add(sample, rgb, found)
        truth.append(evaluate.ground_truth_of(sample, size_wh))
        answers.append(found)
        sizes.append(size_wh)
    boxes = evaluate.box_table(truth, answers, sizes, detector.classes)[0]
    out: dict[str, Any] = {"shots": shots, "photos": len(sizes), "left_out": cut, "answers": sum(map(len, answers)),
                           "box": boxes}  # fmt: skip
    print(f"boxes of {len(sizes)} photos ({cut} left out): AP {100 * (boxes['AP'] or 0):.1f}", flush=True)
    for way, one in tables.items():
        told = one.result()
        out[way] = {key: value for key, value in told.items() if key != "mask_per_class"}
        print(evaluate_masks.text_of(told), flush=True)
    return out


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--all", action="store_true", help="also a head from all train photos")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--tune", action="store_true", help="on train photos that the shipped head has not seen")
    parser.add_argument("--work", type=Path, help="where heads are kept  [default: the cache folder]")
    parser.add_argument("--detector", type=Path, help="one taught before  [default: taught into --work]")
    parser.add_argument("--shots", type=int, default=20, help="boxes a class of the detector; 0 to leave it out")
    parser.add_argument("--quick", action="store_true", help="few things, 3 steps, no detector, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or (cache_home() or Path("masks.work")) / "masks"
    steps = 3 if options.quick else options.steps
    data = data_folder()
    if options.tune:
        things = make_masks.things(data, "other")[0]
    else:
        things = mask_samples(split_of(formats.read(data / "coco-mini", format="coco"), "val"))
    things = things[:12] if options.quick else things
    result: dict[str, Any] = {"things": len(things), "split": "train, not seen" if options.tune else "val", "ways": {}}

    def told(name: str, found: dict[str, Any]) -> None:
        result["ways"][name] = found
        text = "; ".join(f"{kind} boxes " + ", ".join(f"{k} {100 * v:.1f}" for k, v in found[kind].items()
                         if v is not None) for kind in ("true", "jittered"))  # fmt: skip
        print(f"{name}: mean IoU in {text}", flush=True)

    shipped = {name: pick(handful.detection, "masks", name).load() for name in ("head", "grabcut", "none")}
    ways: dict[str, Cut] = {"head": shipped["head"].segment, "grabcut": shipped["grabcut"].segment,
                            "ellipse": ellipse, "box": shipped["none"].segment}  # fmt: skip
    result["ms"] = timed(ways, things, 8 if options.quick else 60)
    for name, row in result["ms"].items():
        low, high = row["times_head_quartiles"]
        print(f"{name}: {row['median_ms']:.1f} ms a box, {row['times_head']:.2f} times the head's ({low:.2f} to "
              f"{high:.2f})", flush=True)  # fmt: skip
    for name, cut in ways.items():
        told(name, by_size(cut, things))
    runs: dict[str, list[float]] = {"true": [], "jittered": []}
    for seed, photos in [*((s, "free") for s in options.seeds), *([(0, "all")] if options.all else [])]:
        out = work / f"{photos}-{steps}-{seed}"
        if not (out / "masks.json").exists():
            run = work / f"run-{photos}-{steps}-{seed}"
            make_masks.made(data, out, run, photos=photos, plan=Plan(steps=steps), seed=seed)
        found = by_size(masks_head.from_file(out / "masks.safetensors", out / "masks.json").segment, things)
        told(f"{photos} {seed}", found)
        for kind in runs if photos == "free" else ():
            runs[kind].append(found[kind]["all"])
    if len(runs["true"]) > 1:
        result["seeds"] = {kind: {"mean": statistics.fmean(v), "least": min(v), "most": max(v), "seeds": options.seeds}
                           for kind, v in runs.items()}  # fmt: skip
        for kind, row in result["seeds"].items():
            print(f"{kind} boxes: {100 * row['mean']:.1f} ({100 * row['least']:.1f} to {100 * row['most']:.1f}, "
                  f"{len(options.seeds)} seeds)", flush=True)  # fmt: skip
    if options.shots and not options.tune and not options.quick:
        result["detected"] = detected(options.detector or work / f"detector-{options.shots}", options.shots)
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
