"""What the account of every file, and looking for pairs of photographs and masks, cost of a check of 100,000 files.

python benchmarks/account.py [--files 100000] [--runs 3] [--kinds yolo,pairs,folder] [--out bench-results/account.json]

Small sets: half photographs of 64 px, each with bytes of its own, half their labels (of classes: photographs alone).
Each run is a process of its own and checks the set as `handful data check` does, without a cache and without looking
for near-duplicates, which would only make the check longer. Timed inside it: recognizing the set, and the account.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, save
from PIL import Image as PIL_Image

WORKER = """
import json, sys, time
from pathlib import Path
from handful.curate import check as checking
spent = {"account": 0.0, "recognizing": 0.0}

def timed(name, call):
    def run(*args, **kwargs):
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - start
    return run

checking.account_of = timed("account", checking.account_of)
checking.sources = timed("recognizing", checking.sources)
start = time.perf_counter()
report = checking.check(Path(sys.argv[1]), near=False, threads=1)
print(json.dumps({"check_s": time.perf_counter() - start, **{f"{k}_s": v for k, v in spent.items()},
                  "files": report["account"]["files"], "format": report["sets"][0]["format"], "ok": report["ok"]}))
"""


def build(folder: Path, kind: str, files: int) -> None:
    """A set of so many files, in folders of a thousand."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    photos = files if kind == "folder" else files // 2
    mask = BytesIO()
    PIL_Image.fromarray(np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((32, 32), np.uint8))).save(mask, "PNG")
    for i in range(photos):
        part, held = f"{i // 1000:03d}", BytesIO()
        small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        PIL_Image.fromarray(small).resize((64, 64), PIL_Image.Resampling.BICUBIC).save(held, "JPEG")
        places = {"yolo": (f"images/{part}/{i:06d}.jpg", f"labels/{part}/{i:06d}.txt", b"0 0.5 0.5 0.25 0.25\n"),
                  "pairs": (f"imgs/{part}/{i:06d}.jpg", f"masks/{part}/{i:06d}_mask.png", mask.getvalue()),
                  "folder": (f"class_{i % 100:02d}/{i:06d}.jpg", "", b"")}  # fmt: skip
        image, label, said = places[kind]
        for name, data in ((image, held.getvalue()), (label, said)):
            if name:
                path = folder / name
                if i % 1000 == 0 or kind == "folder":
                    path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    if kind == "yolo":
        (folder / "data.yaml").write_text("train: images\nval: images\nnames: [thing]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", default="yolo,pairs,folder")
    parser.add_argument("--out", type=Path, default=Path("bench-results/account.json"))
    args = parser.parse_args()
    rows: dict[str, Any] = {}
    for kind in args.kinds.split(","):
        folder = ROOT / "bench-results" / "account"
        build(folder, kind, args.files)
        runs = []
        for _ in range(args.runs + 1):  # the first warms the disk's cache and is not counted
            done = subprocess.run([sys.executable, "-c", WORKER, str(folder)], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
        shutil.rmtree(folder)
        if not all(run["ok"] and run["files"] >= args.files for run in runs):
            sys.exit(f"the set of {kind} is not sound: {runs[0]}")
        held = runs[1:]
        parts = ("account", "recognizing")
        shares = {what: [100 * run[f"{what}_s"] / run["check_s"] for run in held] for what in parts}
        rows[kind] = {"check_s": _spread([run["check_s"] for run in held]),
                      **{f"{what}_percent": _spread(values) for what, values in shares.items()}}  # fmt: skip
        told = ", ".join(f"{what} {_of(rows[kind][f'{what}_percent'])} %" for what in shares)
        print(f"{kind}: {args.files} files, check {_of(rows[kind]['check_s'])} s, of it {told}", flush=True)
    save(args.out, {"files": args.files, "runs": args.runs, "seeds": 0,
                    "spread": f"median (least to most) of {args.runs} runs", "figures": rows})  # fmt: skip


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def _of(row: dict[str, float]) -> str:
    return f"{row['median']:.1f} ({row['min']:.1f} to {row['max']:.1f})"


if __name__ == "__main__":
    main()
