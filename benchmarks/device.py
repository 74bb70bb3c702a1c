"""Every runtime and precision against PyTorch on 100 real photographs: PSNR, answers, size, time.

    python benchmarks/device.py [--photos 100] [--backbone lite2] [--out bench-results/device.json]

The model is taught from grocery/train (12 photographs a class, 41 classes); the photographs are 100 of grocery/test,
chosen by seed 0. Times are single pictures, one thread, each runtime in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import data_folder, save

from handful.data import format_folder
from handful.fewshot.teaching import cache_folder, teach
from handful.image import read_image
from handful.kinds.compiling import compare_model, measure_model

SEED = 0  # of which photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--runtime", action="append")
    parser.add_argument("--out", type=Path, default=Path("bench-results/device.json"))
    args = parser.parse_args()
    data = data_folder()
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        teach(data / "grocery/train", model, backbone=args.backbone, cache=cache_folder())
        samples = format_folder.read(data / "grocery/test")
        chosen = np.random.default_rng(SEED).permutation(len(samples))[: args.photos]
        photos = [read_image(samples[i].path) for i in chosen]
        rows, kept = [], {}
        for runtime in args.runtime or ("onnxruntime", "litert", "executorch", "ncnn"):
            for precision in ("fp32", "fp16"):
                got = compare_model(model, runtime, precision, photos, layers=precision == "fp32", known=kept)
                timing = measure_model(model, runtime, precision, runs=50, images=photos[:20])
                rows.append({**got, "timing": timing.to_json()})
                print(
                    f"{runtime:12s} {precision}  {got['verdict']}  {got['psnr_db']:6.1f} dB  max {got['max_abs']:.1e}  "
                    f"same answer {got['top1_agreement']:.3f}  {got['bytes'] / 1e6:5.1f} MB  "
                    f"{timing.median_ms:6.1f} ms (p90 {timing.p90_ms:.1f})  compiled in {got['compile_seconds']:.0f} s",
                    flush=True,
                )
    save(args.out, {"rows": rows, "photos": len(photos), "backbone": args.backbone, "seed": SEED})


if __name__ == "__main__":
    main()
