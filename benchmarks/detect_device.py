"""A compiled detector beside the one that was taught: the same answers, how long each step takes, how large it is.

    python benchmarks/detect_device.py [--detector DIR] [--photos 75] [--timed 20] [--shots 5] [--seeds 0] [--work DIR]
                                       [--runtimes onnxruntime litert] [--quick] [--json] [--out FILE]

The detector is taught from coco-mini's train photos, NanoDet's proposals and `--shots` boxes of each of COCO's 80
classes, drawn by the seed; --detector takes another one instead. The photos are the first so many of coco-mini's val by
name. Agreement: as `handful device compare` (every box, those told as unknown too; same class, IoU 0.9), all in one
process and thread. Time: the last `--timed` photos, each asked of PyTorch and of every runtime in turn, after one photo
that is not counted, one thread; median, 10th and 90th percentile over photos; ratios to PyTorch are of the same photo.
PyTorch is the detector as `handful detect` runs it: "propose" is letterbox, network and boxes, "score" crops, features
and head, "select" the threshold and the fusion of boxes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save

from handful.bundle import read_bundle
from handful.detection import teaching
from handful.detection.compiled import CompiledDetector, Stopwatch
from handful.detection.irene import Irene
from handful.detection.scoring import MIN_SCORE
from handful.device.lab.agreement import agreement
from handful.device.sessions import sessions_of
from handful.files import cache_home, to_json
from handful.image import images_below, read_image
from handful.kinds.compiling import compile_model
from handful.progress import track
from handful.results import Detections

STAGES = ("propose", "score", "select")


def detector_of(work: Path, shots: int, seed: int) -> Path:
    """Taught once and kept."""
    folder = work / f"detector-{shots}-{seed}"
    if not folder.exists():
        coco = data_folder() / "coco-mini"
        teaching.teach(coco / "instances_train.json", folder, max_samples=shots, seed=seed, proposer="nanodet",
                       scales=1, images=str(coco / "images" / "train"))  # fmt: skip
    return folder


def asked(detector: Any, rgb: np.ndarray) -> tuple[Detections, dict[str, float]]:
    """What is in a photo, and milliseconds of each of STAGES."""
    marks = [time.perf_counter()]
    seen = detector.propose(rgb) if isinstance(detector, CompiledDetector) else detector.proposer.propose(rgb)
    marks.append(time.perf_counter())
    about = detector.score(rgb, seen)
    marks.append(time.perf_counter())
    found: Detections = detector.select(about, unknown=True, score_threshold=MIN_SCORE)
    marks.append(time.perf_counter())
    return found, dict(zip(STAGES, (1000 * np.diff(marks)).tolist(), strict=True))


def compiled(folder: Path) -> CompiledDetector:
    """With a watch on its steps."""
    bundle = read_bundle(folder)
    plan: Any = bundle.meta["plan"]
    return CompiledDetector(plan, sessions_of(bundle, 1), Stopwatch())


def spread(values: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    low, middle, high = np.percentile(values, (10, 50, 90)).tolist()
    return {"median": middle, "p10": low, "p90": high, "n": len(values)}


def measured(model: Path, names: list[tuple[str, str]], photos: list[Path], timed: int) -> list[dict[str, Any]]:
    """A row for PyTorch, and one for each runtime and precision."""
    made = {pair: compile_model(model, *pair) for pair in names}
    sides: dict[str, Any] = {"torch": Irene.load(model)}
    sides |= {"-".join(pair): compiled(artefact.folder) for pair, artefact in made.items()}
    told: dict[str, list[Detections]] = {name: [] for name in sides}
    ms: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for path in track([photos[0], *photos], "asking", len(photos) + 1):
        rgb = read_image(path).rgb_u8
        for name, side in sides.items():
            inner = {}
            if isinstance(side, CompiledDetector):
                side.watch.ms.clear()
            found, steps = asked(side, rgb)
            told[name].append(found)
            if isinstance(side, CompiledDetector):
                inner = {f"of {k}": v for k, v in side.watch.ms.items()}
            ms[name].append({**steps, **inner, "whole": sum(steps.values())})
    rows = []
    for name in sides:
        late = ms[name][-timed:]
        ratio = [a["whole"] / b["whole"] for a, b in zip(late, ms["torch"][-timed:], strict=True)]
        row: dict[str, Any] = {"name": name, "ms": {k: spread([one[k] for one in late]) for k in late[0]},
                               "times_torch": spread(ratio)}  # fmt: skip
        if name != "torch":
            pair = name.split("-")
            artefact = made[pair[0], pair[1]]
            row |= {**agreement(told[name][1:], told["torch"][1:]), "mb": artefact.bytes / 1e6,
                    "versions": artefact.meta["versions"]}  # fmt: skip
        else:
            row["mb"] = artefact_mb(model)
        rows.append(row)
        print(line(row), flush=True)
    return rows


def artefact_mb(model: Path) -> float:
    """Of the detector's own files, without what was compiled from it."""
    return sum(file.stat().st_size for file in model.iterdir() if file.is_file()) / 1e6


def line(row: dict[str, Any]) -> str:
    """For people."""
    whole, ratio = row["ms"]["whole"], row["times_torch"]
    steps = ", ".join(f"{k.removeprefix('of ')} {v['median']:.0f}" for k, v in row["ms"].items() if k != "whole")
    same = ""
    if "matched" in row:
        same = (f"; {row['matched_of_want']:.2%} of {row['boxes_want']} boxes found again, {row['matched_of_got']:.2%} "
                f"of {row['boxes_got']} right, scores {row['largest_score_difference']:.1e} apart at most")  # fmt: skip
    return (f"{row['name']}: {row['mb']:.1f} MB, {whole['median']:.0f} ms ({whole['p10']:.0f} to {whole['p90']:.0f}, "
            f"{whole['n']} photos), {ratio['median']:.2f} times torch's ({ratio['p10']:.2f} to {ratio['p90']:.2f}); "
            f"{steps}{same}")  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", type=Path, help="a taught one, instead of teaching one a seed")
    parser.add_argument("--photos", type=int, default=75)
    parser.add_argument("--timed", type=int, default=20)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "litert"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16"])
    parser.add_argument("--work", type=Path, help="where detectors are kept  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="3 photos, onnxruntime in fp32, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [(name, precision) for name in options.runtimes for precision in options.precisions]
    count, timed = options.photos, options.timed
    if options.quick:
        pairs, count, timed = [("onnxruntime", "fp32")], 3, 3
    work = options.work or (cache_home() or Path(".")) / "detect-device"
    photos = sorted(images_below(data_folder() / "coco-mini" / "images" / "val"))[:count]
    runs = []
    for seed in options.seeds[:1] if options.detector else options.seeds:
        model = options.detector or detector_of(work, options.shots, seed)
        runs.append({"seed": seed, "rows": measured(model, pairs, photos, min(timed, len(photos)))})
    result = {"photos": len(photos), "timed": timed, "shots": options.shots, "threads": 1, "runs": runs}
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
