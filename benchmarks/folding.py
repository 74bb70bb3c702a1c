"""What folding batch normalization first saves of a compilation, a runtime: processor time with it to without it.

python benchmarks/folding.py [--runs 3] [--backbone lite0] [--runtimes onnxruntime,litert,executorch,ncnn]
                             [--out bench-results/folding.json]

A taught classifier is compiled to fp32 with its layers, as `handful device compare` does it, in a process of its own
for every compilation, by turns with and without folding. Counted: user and system time of that process, imports
included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import save

WORKER = """
import json, os, resource, sys
from pathlib import Path
from handful.device import fold_norms
from handful.device.targets import worker
from handful.device.targets.job import Job
from handful.kinds.compiling import EXPORTER
if sys.argv[1] == "without":
    fold_norms.fold_norms = lambda network, keep=(): network
_, _, runtime, model, to, taps = sys.argv
worker._compile(Job("compile", runtime, model, EXPORTER, to=to, precision="fp32", taps=taps), [], [])
used = resource.getrusage(resource.RUSAGE_SELF)
below = resource.getrusage(resource.RUSAGE_CHILDREN)
size = sum(file.stat().st_size for file in Path(to).iterdir())
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime + below.ru_utime + below.ru_stime, "bytes": size}))
"""


def one(way: str, runtime: str, model: Path) -> dict[str, Any]:
    """One compilation in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        to, taps = Path(place) / "bundle", Path(place) / "taps"
        to.mkdir()
        taps.mkdir()
        command = [sys.executable, "-c", WORKER, way, runtime, str(model), str(to), str(taps)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    from handful.data.sample_images import sample_photo
    from handful.fewshot.classifier import FewShotClassifier

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--runtimes", default="onnxruntime,litert,executorch,ncnn")
    parser.add_argument("--out", type=Path, default=Path("bench-results/folding.json"))
    args = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        taught = FewShotClassifier.new(backbone=args.backbone, frame_hw=(256, 256))
        for name in ("cat", "coffee", "rocket"):
            taught.learn(sample_photo(name), name)
        taught.save(model)
        for runtime in args.runtimes.split(","):
            pairs = [(one("with", runtime, model), one("without", runtime, model)) for _ in range(args.runs)]
            ratios = [a["cpu_s"] / b["cpu_s"] for a, b in pairs]
            rows[runtime] = {
                "with_s": float(np.median([a["cpu_s"] for a, _ in pairs])),
                "without_s": float(np.median([b["cpu_s"] for _, b in pairs])),
                "ratio": {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)},
                "bytes": {"with": pairs[0][0]["bytes"], "without": pairs[0][1]["bytes"]},
            }
            told = rows[runtime]
            print(f"{runtime}: {told['with_s']:.1f} s with, {told['without_s']:.1f} s without; ratio "
                  f"{told['ratio']['median']:.2f} ({told['ratio']['min']:.2f} to {told['ratio']['max']:.2f}); file "
                  f"{told['bytes']['with']:,} and {told['bytes']['without']:,} bytes", flush=True)  # fmt: skip
    save(args.out, {"backbone": args.backbone, "runs": args.runs, "seeds": [0],
                    "spread": f"median (least to most) of {args.runs} pairs", "figures": rows})  # fmt: skip


if __name__ == "__main__":
    main()
