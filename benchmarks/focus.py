"""Looking closer only where it is worth it: one scale, the whole pyramid and focus, on coco-mini's val photos.

    python benchmarks/focus.py [--counts 2] [--seeds 0 1 2] [--samples 20] [--backbone lite0] [--tune] [--part all]
                               [--work DIR] [--quick] [--json] [--out FILE]

Each arm is a detector taught at most --samples boxes a class of the train photos, drawn by each seed, and asked about
the 75 val photos; AP counts every class that scores at all. Pixels are those of the network's input, canvases counted
whole, filled or not; "once" is the pyramid's photos alone, each shown once at every scale, without its overlaps. Images
a second: the same photos by all arms in turn, proposals alone and the whole of `detect`, one thread; the ratio to the
pyramid's is that of each photo, median and 10th to 90th percentile. Wanted: focus looks at a third of the whole
pyramid's px or less, with at most 3 % less AP. --tune asks every fourth train photo, taught from every second of the
others, at several thresholds; it is how multiscale.Scales's own were chosen. --backbone none leaves out the crops. What
was seen is kept in --work and not looked at again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save

from handful.data import formats
from handful.detection import teaching
from handful.detection.embedder import MODES, CropSettings
from handful.detection.evaluate import AgnosticRecall, GroundTruth, box_table, ground_truth_of
from handful.detection.fusion import Fusion
from handful.detection.irene import Irene
from handful.detection.multiscale import Scales
from handful.detection.scored import ScoredProposals
from handful.detection.scoring import logits_of
from handful.fewshot.nemo import Nemo
from handful.files import cache_home, read_tensors, to_json, write_tensors
from handful.progress import track
from handful.training.source import image_of, split_of
from handful.types import Sample

WANTED = {"pixels": 3.0, "relative_loss": 0.03}
SHOWN = ("AP", "AP50", "APs", "APm", "APl", "AR100", "ar_agnostic_100")
TUNED = (0.15, 0.2, 0.25, 0.3)
CHOSEN = (Scales().focus_threshold, 0.3)  # of those, on train: for AP, and for a third of the px


class Bench:
    """Photos, what was seen in them, and detectors taught from what was seen."""

    def __init__(self, work: Path, backbone: str, *, tune: bool, quick: bool) -> None:
        self.work, self.name = work, f"{backbone}{'-tune' if tune else ''}{'-quick' if quick else ''}"
        self.how = CropSettings(backbone=None, share=1) if backbone == "none" else CropSettings(backbone=backbone)
        dataset = formats.read(data_folder() / "coco-mini", format="coco")
        self.train, self.val = split_of(dataset, "train"), split_of(dataset, "val")
        if tune:
            self.train, self.val = self.train[1::2], self.train[::4]
        if quick:
            self.train, self.val = self.train[:24], self.val[:6]
        self._crops: dict[tuple[int, bytes], np.ndarray] = {}
        self._truth: list[tuple[GroundTruth, tuple[int, int]]] = []

    def detector(self, scales: Scales) -> Irene:
        """Untaught; a crop that was described once is not described again for another arm."""
        irene = Irene.new("nanodet", crop=self.how, scales=scales)
        plain = irene.embedder._crop_features

        def remembered(rgb_u8: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            keys = [(hash(rgb_u8.tobytes()), box.tobytes()) for box in boxes]
            new = [i for i, key in enumerate(keys) if key not in self._crops]
            if new:
                self._crops.update(zip([keys[i] for i in new], plain(rgb_u8, boxes[new]), strict=True))
            return np.stack([self._crops[key] for key in keys])

        irene.embedder._crop_features = remembered  # type: ignore[method-assign]
        return irene

    def truth(self) -> list[tuple[GroundTruth, tuple[int, int]]]:
        """Of the photos that are asked about, with their sizes."""
        if not self._truth:
            for sample in self.val:
                size_wh = image_of(sample).size_wh
                self._truth.append((ground_truth_of(sample, size_wh), size_wh))
        return self._truth

    def taught(self, count: int) -> dict[str, np.ndarray]:
        """The vectors of all boxes that may be learned, features of `count` scales."""
        path = self.work / f"{self.name}-taught-{count}.safetensors"
        if not path.exists():
            irene, rows = self.detector(Scales(count)), []
            picked = teaching.sample_boxes(self.train, max_samples=1 << 20)
            for one in track(picked, f"train photos, features of {count} scales", len(picked)):
                vectors = irene.embedder.embed_flip_averaged(image_of(one.sample).rgb_u8, one.boxes)
                rows += [(one.sample.name, label, box, v)
                         for label, box, v in zip(one.labels, one.boxes, vectors, strict=True)]  # fmt: skip
            write_tensors(path, {"vectors": np.stack([r[3] for r in rows]), "boxes": np.stack([r[2] for r in rows]),
                                 **{k: np.frombuffer("\n".join(r[i] for r in rows).encode(), np.uint8)
                                    for i, k in enumerate(("photos", "labels"))}})  # fmt: skip
        return read_tensors(path)

    def seen(self, arm: str, scales: Scales, most: int = MODES["accurate"][0]) -> tuple[list[ScoredProposals], float]:
        """What an arm sees in each photo, without NEMO's scores, and the px of input it looked at, a photo."""
        told = f"{scales.count}-{scales.mode}"
        if arm == "focus":
            told += f"-{scales.focus_threshold}-{scales.min_cells}"
        path = self.work / f"{self.name}-{told}-{most}.safetensors"
        if not path.exists():
            irene, rows = self.detector(scales), []
            for sample in track(self.val, f"{arm}, {scales.count} scales", len(self.val)):
                rgb = image_of(sample).rgb_u8
                seen = irene.proposer.propose(rgb, most)
                rows.append((seen, irene.embedder.embed(rgb, seen.xyxy_px, seen)))
            write_tensors(path, {
                "boxes": np.concatenate([s.xyxy_px for s, _ in rows]), "vectors": np.concatenate([v for _, v in rows]),
                "quality": np.concatenate([s.quality for s, _ in rows]),
                "scale": np.concatenate([s.scale for s, _ in rows]), "count": np.array([len(s) for s, _ in rows]),
                "px": np.array([irene.proposer.px / irene.proposer.images]),
            })  # fmt: skip
        held = read_tensors(path)
        ends = np.cumsum(held["count"])
        parts = [slice(int(end - n), int(end)) for n, end in zip(held["count"], ends, strict=True)]
        none = np.zeros((0, 0))
        return [ScoredProposals(held["boxes"][p], held["quality"][p], held["scale"][p], held["vectors"][p], none)
                for p in parts], float(held["px"][0])  # fmt: skip

    def asked(
        self, count: int, seen: Sequence[ScoredProposals], seed: int, samples: int
    ) -> tuple[Irene, list[ScoredProposals]]:
        """A detector taught by a seed, and the same with NEMO's scores."""
        held = self.taught(count)
        photos, labels = (held[k].tobytes().decode().split("\n") for k in ("photos", "labels"))
        named = zip(photos, labels, map(tuple, held["boxes"].tolist()), strict=True)
        at = {key: i for i, key in enumerate(named)}
        picked = teaching.sample_boxes(self.train, max_samples=samples, seed=seed)
        rows = [at[one.sample.name, label, tuple(box)]
                for one in picked for label, box in zip(one.labels, one.boxes.tolist(), strict=True)]  # fmt: skip
        irene = self.detector(Scales(count))
        irene.nemo = Nemo(held["vectors"].shape[1], features=irene.embedder.name, ridge=irene.nemo.ridge)
        irene.nemo.learn_many(held["vectors"][rows], [labels[i] for i in rows])
        solution = irene.solution()
        return irene, [
            ScoredProposals(s.xyxy_px, s.quality, s.scale, s.vectors, logits_of(solution, s.vectors)) for s in seen
        ]

    def table(
        self, irene: Irene, asked: Sequence[ScoredProposals], fusion: Fusion | None = None
    ) -> dict[str, float | None]:
        """COCO's figures, and recall without classes."""
        irene.fusion = fusion or irene.fusion
        told = [irene.select(one, ranking=True, score_threshold=1e-3) for one in asked]
        recall, truth = AgnosticRecall(), self.truth()
        for (own, _), one in zip(truth, asked, strict=True):
            recall.add(own, one.xyxy_px)
        found, _ = box_table([own for own, _ in truth], told, [size for _, size in truth], irene.classes)
        return {**found, "ar_agnostic_100": recall.summary()["100"]}


def spread(rows: Sequence[dict[str, float | None]]) -> dict[str, dict[str, float]]:
    """Mean, least and most of each figure over the seeds."""
    told = {}
    for key in rows[0]:
        values = [v for row in rows if (v := row[key]) is not None]
        if values:
            told[key] = {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}
    return told


def timed(bench: Bench, arms: dict[str, Scales], samples: list[Sample]) -> dict[str, Any]:
    """Seconds a photo of each arm, all arms in turn on each photo; ratios to the first arm."""
    irenes = {name: bench.detector(scales) for name, scales in arms.items()}
    held = bench.taught(2)
    taken: dict[str, dict[str, list[float]]] = {name: {"proposals": [], "all": []} for name in arms}
    labels = held["labels"].tobytes().decode().split("\n")
    for irene in irenes.values():  # what it was taught does not change how long it takes
        irene.nemo.learn_many(held["vectors"][:500], labels[:500])
        irene.solution()
    for number, sample in enumerate([samples[0], *samples]):  # the first only warms up
        rgb = image_of(sample).rgb_u8
        for name, irene in irenes.items():
            bench._crops.clear()
            began = time.perf_counter()
            seen = irene.proposer.propose(rgb, MODES["accurate"][0])
            looked = time.perf_counter()
            irene.select(irene.score(rgb, seen))
            if number:
                taken[name]["proposals"].append(looked - began)
                taken[name]["all"].append(time.perf_counter() - began)
    base = next(iter(arms))
    told: dict[str, Any] = {}
    for name, each in taken.items():
        for what, seconds in each.items():
            ratio = np.array(taken[base][what]) / np.array(seconds)
            told.setdefault(name, {})[what] = {
                "images_per_second": 1 / statistics.median(seconds), "times_the_pyramid": float(np.median(ratio)),
                "p10": float(np.percentile(ratio, 10)), "p90": float(np.percentile(ratio, 90)), "photos": len(samples),
            }  # fmt: skip
    return told


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2], help="of scales")
    parser.add_argument("--thresholds", type=float, nargs="+", help="of the focus map")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--backbone", default="lite0", help="of the crops, or none")
    parser.add_argument("--tune", action="store_true", help="on train photos alone")
    parser.add_argument("--part", choices=("all", "ap", "time"), default="all")
    parser.add_argument("--photos", type=int, default=15, help="that are timed")
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="a few photos, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or (cache_home() or Path("focus.work")) / "focus"
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work, options.backbone, tune=options.tune, quick=options.quick)
    arms: dict[str, Scales] = {"whole": Scales()}
    for count in options.counts:
        arms[f"pyramid of {count}"] = Scales(count, "pyramid")
        for threshold in options.thresholds or (TUNED if options.tune else CHOSEN):
            arms[f"focus of {count}, threshold {threshold:g}"] = Scales(count, "focus", threshold)
    result: dict[str, Any] = {"arms": {}, "seeds": options.seeds, "samples": options.samples, "wanted": WANTED,
                              "backbone": options.backbone, "tune": options.tune}  # fmt: skip
    if options.part != "time":
        for name, scales in arms.items():
            seen, px = bench.seen(scales.mode, scales)
            rows = [bench.table(*bench.asked(scales.count, seen, seed, options.samples)) for seed in options.seeds]
            row: dict[str, Any] = {**spread(rows), "px": px, "megapixels": px / 1e6}
            if scales.mode == "focus":
                whole = result["arms"][f"pyramid of {scales.count}"]
                row["pixels_of_pyramid"] = whole["px"] / px
                once = sum(0.75 * 4**i for i in range(scales.count)) * 416**2
                row["pixels_of_pyramid_once"] = once / px
                row["ap_lost"] = 1 - row["AP"]["mean"] / whole["AP"]["mean"]
            result["arms"][name] = row
            keys = [k for k in SHOWN if k in row]
            said = [f"{k} {100 * row[k]['mean']:.1f} ({100 * row[k]['least']:.1f} to {100 * row[k]['most']:.1f})"
                    for k in keys]  # fmt: skip
            print(f"{name}: {', '.join(said)}, {row['megapixels']:.2f} Mpx a photo", flush=True)
            if "ap_lost" in row:
                print(f"  {row['pixels_of_pyramid']:.2f} x fewer px than the pyramid (without its overlaps "
                      f"{row['pixels_of_pyramid_once']:.2f} x), AP {-100 * row['ap_lost']:+.1f} % of its",
                      flush=True)  # fmt: skip
    if options.part != "ap" and not options.tune:
        order = sorted(arms, key=lambda name: not name.startswith("pyramid"))
        result["time"] = timed(bench, {name: arms[name] for name in order}, bench.val[: options.photos])
        for name, each in result["time"].items():
            for what, r in each.items():
                print(f"{name}, {what}: {r['images_per_second']:.2f} images/s, {r['times_the_pyramid']:.2f} x "
                      f"{order[0]} ({r['p10']:.2f} to {r['p90']:.2f})", flush=True)  # fmt: skip
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
