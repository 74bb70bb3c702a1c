"""What every benchmark shares: where the photographs are, and how a result is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import handful
from handful.device.runtimes.contract import machine, versions_of
from handful.files import write_json

ROOT = Path(__file__).parent.parent


def data_folder() -> Path:
    """The shared photographs: $HANDFUL_DATA, else ../shared/data beside the project; the script ends without them."""
    folder = Path(os.environ.get("HANDFUL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no photographs at {folder}; set HANDFUL_DATA to the folder that has grocery, product-iconic, ...")
    return folder


def commit() -> str | None:
    """The commit of the code that runs, None outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def settings(arguments: list[str]) -> list[str]:
    """Arguments without those that say where things lie on one machine, which make no figure another."""
    places = ("--out", "--work", "--cache", "--peers", "--pictures", "--models", "--json")
    kept, left_out = [], False
    for one in arguments:
        left_out = one.partition("=")[0] in places if one.startswith("--") else left_out
        kept += [] if left_out else [one]
    return kept


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result with what made it. What the documents show of it is kept in benchmarks/results/, see
    tests/test_documented_figures.py; for that it also needs "seeds", "spread", and "tables" or "figures".
    """
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    about = {
        "schema_version": 1, "benchmark": script, "command": " ".join(["python", script, *settings(sys.argv[1:])]),
        "commit": commit(), "recorded": "by the benchmark", "handful": handful.__version__, "machine": machine(),
    }  # fmt: skip
    write_json(path, {**about, "versions": versions_of("torch", "numpy", "timm"), **result})
    print(f"written to {path}")
