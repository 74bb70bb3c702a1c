"""Is Datumaro lossless and strict enough to read and write our data? Round trips and planted faults, case by case.

python benchmarks/datumaro_cases.py [--out bench-results/datumaro_cases.json]

Datumaro runs in an environment of its own (bench-results/datumaro-venv). A fault counts as seen when it raises or
logs anything; "taken as it is" means that its samples hold the faulty value, "dropped" that fewer labels or photos
came out and nothing was said.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from common import ROOT, data_folder, save
from data import datumaro_python

sys.path.insert(0, str(ROOT))

from handful.curate.differences import differences
from handful.data import formats
from tests.data.planted import FAULTS, Planted

IMPORT = """
import io, json, logging, sys, warnings
said = io.StringIO()
logging.basicConfig(stream=said, level=logging.WARNING)
logging.captureWarnings(True)
from datumaro.components.dataset import Dataset
out = {}
try:
    data = Dataset.import_from(sys.argv[1], "coco_instances")
    out = {"photos": 0, "labels": 0, "unreadable": 0}
    for item in data:
        out["photos"] += 1
        out["labels"] += len({a.group or a.id for a in item.annotations})
        try:
            item.media and item.media.data
        except Exception as error:
            out["unreadable"] += 1
            out["error"] = f"{type(error).__name__}: {error}"[:200]
    if len(sys.argv) > 2:
        data.export(sys.argv[2], sys.argv[3], save_media=True)
except Exception as error:
    out["error"] = f"{type(error).__name__}: {error}"[:300]
out["said"] = said.getvalue()[-300:]
print(json.dumps(out))
"""


def datumaro(python: str, *args: object) -> dict:  # type: ignore[type-arg]
    done = subprocess.run([python, "-c", IMPORT, *map(str, args)], capture_output=True, text=True, timeout=600)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {"error": done.stderr[-300:]}  # type: ignore[no-any-return]


def as_datumaro(source: Path, to: Path) -> Path:
    """COCO in the layout Datumaro reads: annotations/instances_SPLIT.json, images/SPLIT."""
    (to / "annotations").mkdir(parents=True)
    for file in source.glob("instances_*.json"):
        shutil.copy(file, to / "annotations")
    shutil.copytree(source / "images", to / "images", symlinks=True)
    return to


def round_trips(python: str, data: Path, place: Path) -> dict[str, list[dict]]:  # type: ignore[type-arg]
    """What is lost when Datumaro reads coco-mini and writes it again, measured by handful's own reader."""
    source = as_datumaro(data / "coco-mini", place / "source")
    before = formats.read(source, format="coco")
    found = {}
    for name, ours in (("coco_instances", "coco"), ("voc", "voc"), ("yolo", "yolo")):
        out = place / name
        said = datumaro(python, source, out, name)
        if "error" in said:
            found[name] = [{"what": "export", "how": "failed", "count": 1, "example": said["error"]}]
            continue
        try:
            after = formats.module(ours).read(out, on_finding=lambda finding: None)
            found[name] = [row.as_json() for row in differences(before, after)]
        except Exception as error:
            found[name] = [{"what": "reading back", "how": "failed", "count": 1, "example": str(error)[:200]}]
    return found


def planted_faults(python: str, place: Path) -> dict[str, str]:
    sound = Planted(place / "sound")
    base = datumaro(python, as_datumaro(sound.root, place / "d-sound"))
    verdicts = {}
    for code, (plant, _) in FAULTS.items():
        here = Planted(place / code)
        plant(here)
        here.save()
        got = datumaro(python, as_datumaro(here.root, place / f"d-{code}"))
        if "error" in got and "photos" not in got:
            verdict = "raises"
        elif got.get("unreadable"):
            verdict = "raises when the photo is opened"
        elif got["said"]:
            verdict = "logs"
        elif got["photos"] < base["photos"] or got["labels"] < base["labels"] - 1:
            verdict = "dropped in silence"
        else:
            verdict = "taken as it is"
        verdicts[code] = verdict
        shutil.rmtree(place / code)
        shutil.rmtree(place / f"d-{code}")
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/datumaro_cases.json"))
    args = parser.parse_args()
    python = datumaro_python(ROOT / "bench-results")
    with tempfile.TemporaryDirectory() as folder:
        trips = round_trips(python, data_folder(), Path(folder))
        for name, rows in trips.items():
            print(f"coco-mini -> Datumaro -> {name}:")
            for row in rows:
                print(f"  {row['how']:8} {row['count']:>6} {row['what']}   ({row['example']})"[:170])
        verdicts = planted_faults(python, Path(folder))
    print("planted faults:", dict(Counter(verdicts.values())))
    for code, verdict in verdicts.items():
        print(f"  {code:32} {verdict}")
    save(args.out, {"round_trips": trips, "faults": verdicts})


if __name__ == "__main__":
    main()
