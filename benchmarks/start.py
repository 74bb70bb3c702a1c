"""How long the command and the package take to start, beside an empty Python and click by itself, in one run.

python benchmarks/start.py [--out bench-results/start.json] [--runs 40]

Every command is run in turn, so that whatever else the machine does falls on all alike; ratios are of the two medians
of one run, and their spread is over bootstrap draws of the rounds. CPU time is the process's own, user and system.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import save

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "import handful": ["-c", "import handful"],
    "handful --help": ["-m", "handful", "--help"],
    "handful predict nowhere x.jpg": ["-m", "handful", "predict", "nowhere", "x.jpg"],
    "import numpy": ["-c", "import numpy"],
}
RATIOS = (("import handful", "python -c pass"), ("handful --help", "import click"),
          ("handful predict nowhere x.jpg", "import numpy"))  # fmt: skip


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds on the wall, and of CPU, of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *command], check=False, capture_output=True)
    wall, after = time.perf_counter() - start, os.times()
    own = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return wall, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/start.json"))
    parser.add_argument("--runs", type=int, default=40)
    args = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(args.runs + 1):
        for name, command in COMMANDS.items():
            times[name].append(timed(command))
    held = {name: np.array(rows[1:]) for name, rows in times.items()}  # the first round warms the disk's cache
    rows = {
        name: {"median_s": float(np.median(t[:, 0])), "p10_s": float(np.quantile(t[:, 0], 0.1)),
               "p90_s": float(np.quantile(t[:, 0], 0.9)), "cpu_median_s": float(np.median(t[:, 1]))}
        for name, t in held.items()
    }  # fmt: skip
    rng = np.random.default_rng(0)
    draws = rng.integers(0, args.runs, (2000, args.runs))
    ratios = {}
    for name, peer in RATIOS:
        one, other = held[name][:, 0], held[peer][:, 0]
        drawn = np.median(one[draws], axis=1) / np.median(other[draws], axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
        ratios[f"{name} / {peer}"] = {"ratio": float(np.median(one) / np.median(other)), "interval": [low, high]}
    for name, row in rows.items():
        print(f"{name:32s} {row['median_s']:.3f} s (p10 {row['p10_s']:.3f}, p90 {row['p90_s']:.3f}), "
              f"CPU {row['cpu_median_s']:.3f} s")  # fmt: skip
    for name, row in ratios.items():
        print(f"{name:48s} {row['ratio']:.2f} ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})")
    figures = {
        "handful --help, s: median, p90": [round(rows["handful --help"][k], 3) for k in ("median_s", "p90_s")],
        "import handful, s: median, p90": [round(rows["import handful"][k], 3) for k in ("median_s", "p90_s")],
        "an empty Python, s": round(rows["python -c pass"]["median_s"], 3),
        **{f"{name}: ratio, 95 % interval": [round(row["ratio"], 2), *(round(v, 2) for v in row["interval"])]
           for name, row in ratios.items()},
    }  # fmt: skip
    save(args.out, {"rows": rows, "ratios": ratios, "runs": args.runs, "seeds": [0],
                    "spread": "median, p10 and p90 of the runs; 95 % of bootstrap draws for ratios",
                    "figures": figures})  # fmt: skip


if __name__ == "__main__":
    main()
