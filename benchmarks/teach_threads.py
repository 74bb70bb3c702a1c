"""How fast `handful teach` is as it comes, beside other numbers of threads, on a busy machine and on an idle one.

    python benchmarks/teach_threads.py [--rounds 5] [--before] [--out benchmarks/results/teach_threads.json]

36 photographs (grocery, three classes of twelve), no cache, one process from start to end as a user has it. Each round
runs every setting once, in an order that turns from round to round, so that what else the machine does meets all of
them; "busy" is with one more process that needs a core all the time, started here. A setting's ratio is its time over
the time of the fastest setting (by median) in the same round. What the machine does besides is in "load".
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, data_folder, save

from handful.threads import ONE, WAITING, cores

CLASSES, PHOTOS = 3, 12
BEFORE = "OMP_NUM_THREADS=2, threads spin"  # OpenMP's own default, as it was before; minutes on a busy machine
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
    "OMP_NUM_THREADS=2": {"OMP_NUM_THREADS": "2"},
}
BUSY = "while True: pass"


def photographs(folder: Path) -> None:
    """Three classes of twelve."""
    places = sorted((data_folder() / "grocery" / "train").iterdir())[:CLASSES]
    for place in places:
        (folder / place.name).mkdir(parents=True)
        for photo in sorted(place.glob("*.jpg"))[:PHOTOS]:
            shutil.copy(photo, folder / place.name)
    count = len(list(folder.rglob("*.jpg")))
    if count != CLASSES * PHOTOS:
        sys.exit(f"{data_folder()}/grocery gave {count} photographs; wanted {CLASSES * PHOTOS}")


def timed(photos: Path, setting: dict[str, str]) -> dict[str, float]:
    """Wall and processor seconds of one `handful teach`."""
    own = {k: v for k, v in os.environ.items() if k not in (*ONE, *WAITING)}
    env = {**own, "HANDFUL_CACHE": "", "PYTHONPATH": str(ROOT / "src"), **setting}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "handful", "teach", str(photos), "--out", f"{out}/model", "--quiet"]
        began = time.perf_counter()
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as run:
            _, code, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(code)
        wall = time.perf_counter() - began
    if run.returncode:
        sys.exit(f"{' '.join(command)} ended with {run.returncode}")
    return {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime}


def measured(photos: Path, rounds: int, busy: bool) -> dict[str, Any]:
    """Every setting `rounds` times, in turn."""
    names, load = list(SETTINGS), []
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        for at in range(rounds):
            for k in range(len(names)):
                name = names[(at + k) % len(names)]
                rows[name].append(timed(photos, SETTINGS[name]))
                load.append(os.getloadavg()[0])
                print(
                    f"{'busy' if busy else 'idle'} {at + 1}/{rounds} {name}: {rows[name][-1]['wall_s']:.1f} s",
                    flush=True,
                )
    finally:
        if other is not None:
            other.kill()
            other.wait()
    walls = {name: [row["wall_s"] for row in rows[name]] for name in names}
    best = min(names, key=lambda name: statistics.median(walls[name]))
    result: dict[str, Any] = {"fastest": best, "load_1_min": [round(min(load), 1), round(max(load), 1)], "settings": {}}
    for name in names:
        ratios = sorted(mine / theirs for mine, theirs in zip(walls[name], walls[best], strict=True))
        result["settings"][name] = {
            "wall_s": spread(walls[name]),
            "cpu_s": spread([row["cpu_s"] for row in rows[name]]),
            "ratio_to_fastest": spread(ratios),
            "environment": SETTINGS[name],
        }
    return result


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "teach_threads.json")
    parser.add_argument("--before", action="store_true", help="also with threads that spin, OpenMP's own default")
    args = parser.parse_args()
    if args.before:
        SETTINGS[BEFORE] = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photographs(photos)
        found = {kind: measured(photos, args.rounds, kind == "busy") for kind in ("busy", "idle")}
    for kind, result in found.items():
        for name, row in result["settings"].items():
            wall, ratio = row["wall_s"], row["ratio_to_fastest"]
            print(f"{kind}  {name:34s} {wall['median']:6.1f} s ({wall['min']:.1f} to {wall['max']:.1f}), "
                  f"{ratio['median']:.2f} of the fastest ({ratio['min']:.2f} to {ratio['max']:.2f})")  # fmt: skip
    save(args.out, told(found, args.rounds))


def told(found: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The result file's content: what was measured, and the table as the page has it."""
    rows = []
    for name in found["busy"]["settings"]:
        row: list[Any] = [name]
        for kind in ("busy", "idle"):
            one = found[kind]["settings"][name]
            row += [[one["wall_s"][k] for k in ("median", "min", "max")],
                    [one["ratio_to_fastest"][k] for k in ("median", "min", "max")]]  # fmt: skip
        rows.append(row)
    columns = ["", "busy, s", "of the fastest", "idle, s", "of the fastest, idle"]
    return {
            "what": f"handful teach, {CLASSES * PHOTOS} photographs, no cache, whole process",
            "rounds": rounds, "processors": cores(),
            "rule": "ratio_to_fastest: a setting's wall time over that of the setting with the smallest median, in the "
            "same round; busy: with one more process that needs a core all the time. Other work went on on the machine "
            "(load_1_min, the least and the most seen); settings were interleaved, so it met all of them",
            "seeds": [], "spread": "median, least and most of the rounds",
            "tables": {"settings": {"columns": columns, "rows": rows}},
            **found,
        }  # fmt: skip


if __name__ == "__main__":
    main()
