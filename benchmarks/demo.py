"""How long `handful demo` takes, from a set-up machine with nothing compiled, by phases: all four runtimes.

    python benchmarks/demo.py [--rounds 3] [--work DIR] [--out FILE]

Each round is the command in a process of its own, with a new report folder; the time is the whole process's, imports
and start included. Phases and what each bundle took to compile and to compare are those of its report.json. The load of
the machine before a round is recorded, since the demo uses two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import save
from common_detect import spread

PHASES = ("teach", "ask", "compile", "compare", "time")


def once(out: Path, backbone: str) -> dict[str, Any]:
    """One demo: seconds of the process and of its phases."""
    load, before, began = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "handful", "demo", "--out", str(out), "--backbone", backbone], check=True)
    whole, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads((out / "report.json").read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    bundles = {name: {"compile": row["compile_seconds"], "compare": row["seconds"]}
               for name, row in report["runtimes"].items() if row["verdict"] != "not installed"}  # fmt: skip
    return {"whole": whole, "processor": cpu, "load_before": load, **report["phases"], "bundles": bundles}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--work", type=Path, help="where reports are made and removed  [default: a temporary folder]")
    parser.add_argument("--out", type=Path, default=Path("bench-results/demo.json"))
    options = parser.parse_args()
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=options.work))
    runs = []
    for i in range(options.rounds):
        runs.append(once(work / str(i), options.backbone))
        shutil.rmtree(work / str(i))
        print(json.dumps(runs[-1]), flush=True)
    shutil.rmtree(work)
    found = spread(runs, ["whole", *PHASES, "processor", "load_before"])
    means = {key: None if one is None else one["mean"] for key, one in found.items()}
    rows = [["seconds", *(means[key] for key in ("whole", *PHASES, "processor"))]]
    save(options.out, {
        "seeds": [0], "spread": f"mean over {options.rounds} rounds", "figures": found, "runs": runs,
        "tables": {"demo": {"columns": ["", "whole", *PHASES, "processor time"], "rows": rows}},
    })  # fmt: skip


if __name__ == "__main__":
    main()
