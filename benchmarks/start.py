"""How long `handful --help` takes, beside an empty Python, in one run.

python benchmarks/start.py [--out bench-results/start.json]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import save

COMMANDS = {"handful --help": ["-m", "handful", "--help"], "python -c pass": ["-c", "pass"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/start.json"))
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(21):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    rows = {
        name: {"median_s": float(np.median(t[1:])), "p90_s": float(np.quantile(t[1:], 0.9))}
        for name, t in times.items()
    }
    for name, row in rows.items():
        print(f"{name:16s} {row['median_s']:.3f} s (p90 {row['p90_s']:.3f})")
    save(args.out, {"rows": rows, "runs": 20})


if __name__ == "__main__":
    main()
