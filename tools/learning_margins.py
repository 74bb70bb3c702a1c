"""How far what the tests learn is from what they ask of it, over seeds and instruction sets.

    python tools/learning_margins.py [--seeds 0 1 2] [--tests WORD] [--out tests/learning_margins.json]

Runs every test that calls `bound` (tests/bounds.py) with each seed as each of three processors: PyTorch, oneDNN and
OpenBLAS are told which instructions there are (where a processor lacks some, the file says what it is). Eight minutes
of processor time. Exit 1 when a bound is thin, or a test fails. --tests: only those with this word in their names; what
the file says of others stays.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from handful.device.runtimes.contract import machine, versions_of  # noqa: E402
from handful.files import read_json, write_json  # noqa: E402
from tests.bounds import LEAST_MARGIN, SHARE_OF_SPREAD, margin_of  # noqa: E402

SETS = {
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OPENBLAS_CORETYPE": "SkylakeX"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
    "sse4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"},
}
OUT = ROOT / "tests" / "learning_margins.json"


def tests_with_bounds() -> list[str]:
    """ "tests/x.py::test_y" of every test that calls bound()."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "bound"
                for call in ast.walk(node)
            ):
                found.append(f"{path.relative_to(ROOT)}::{node.name}")
    return [test for test in found if not test.startswith("tests/test_bounds.py")]


def run(tests: list[str], given: dict[str, str], seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """(what the tests told, those that failed)."""
    with tempfile.TemporaryDirectory() as place:
        record = Path(place) / "bounds"
        record.touch()
        env = {**os.environ, **given, "HANDFUL_TEST_SEED": str(seed), "HANDFUL_BOUNDS": str(record),
               "OMP_NUM_THREADS": "1"}  # fmt: skip
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), env.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "--durations=0", *tests]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            sys.exit(done.stdout + done.stderr)
        failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines()
                  if line.startswith(("FAILED ", "ERROR "))]  # fmt: skip
        return [json.loads(line) for line in record.read_text().splitlines()], failed


def kept(work: Path | None, tests: list[str], name: str, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """What run() gives, of the folder where it was kept."""
    file = work / f"{name}-{seed}.json" if work else None
    if file is None or not file.exists():
        told, failed = run(tests, SETS[name], seed)
        if file is None:
            return told, failed
        write_json(file, {"tests": tests, "told": told, "failed": failed})
    held = read_json(file)
    if held["tests"] != tests:
        sys.exit(f"{file} is of other tests; remove it")
    return held["told"], held["failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder where each run is kept, and not done again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tests", default="")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    tests = [test for test in tests_with_bounds() if options.tests in test]
    rows: dict[str, dict[str, Any]] = {}
    broken: dict[str, list[str]] = {}
    for name in SETS:
        for seed in options.seeds:
            told, failed = kept(options.work, tests, name, seed)
            for one in told:
                row = rows.setdefault(one["name"], {k: one[k] for k in ("name", "test", "at_least", "at_most")})
                row.setdefault("values", {}).setdefault(name, {}).setdefault(str(seed), []).append(one["value"])
            if failed:
                broken[f"{name}, seed {seed}"] = failed
            print(f"{name}, seed {seed}: {len(told)} values; failed: {', '.join(failed) or 'none'}", flush=True)
    thin = []
    for row in rows.values():
        values = [v for seeds in row["values"].values() for many in seeds.values() for v in many]
        row["margin"], row["wanted"] = margin_of(values, at_least=row["at_least"], at_most=row["at_most"])
        row["worst"] = (min if row["at_least"] is not None else max)(values)
        row["best"] = (max if row["at_least"] is not None else min)(values)
        said = f"at least {row['at_least']:.3g}" if row["at_least"] is not None else f"at most {row['at_most']:.3g}"
        is_thin = row["margin"] < row["wanted"]
        thin += [row["name"]] * is_thin
        print(f"{row['name']:<64} {said:>14}: worst {row['worst']:.3f}, best {row['best']:.3f}{'  THIN' * is_thin}")
    if options.tests and options.out.exists():
        still = set(tests_with_bounds()) - set(tests)
        before = [row for row in read_json(options.out)["bounds"] if row["test"].partition("[")[0] in still]
        rows = {row["name"]: row for row in before} | rows
    write_json(options.out, {
        "schema_version": 1, "command": " ".join(["python", *sys.argv]), "machine": machine(),
        "versions": versions_of("torch", "numpy"), "seeds": options.seeds, "instruction_sets": SETS,
        "rule": f"the worst value over seeds and instruction sets is at least {LEAST_MARGIN} from its bound, and at "
        f"least {SHARE_OF_SPREAD} of what lies between the worst and the best",
        "failed": broken, "bounds": sorted(rows.values(), key=lambda row: str(row["name"])),
    })  # fmt: skip
    print(f"written to {options.out}")
    sys.exit(1 if thin or broken else 0)


if __name__ == "__main__":
    main()
