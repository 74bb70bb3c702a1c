"""Read a COCO file of 100,000 labels and go through its 1,000 photos: handful, pycocotools with Pillow, Datumaro.

python benchmarks/data.py [--runs 5] [--out bench-results/data.json]
python benchmarks/data.py --large

Each run is a process of its own, so that its peak memory is its own; the three take turns. Every tool must come to the
same sums over all boxes and pixels, or the script ends. Datumaro is installed into an environment of its own
(bench-results/datumaro-venv), since it is not one of handful's dependencies.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, data_folder, save

LABELS, PHOTOS = 100_000, 1_000
DATUMARO = "datumaro==1.13.12"
WORKER = """
import json, resource, sys, time
tool, folder, half = sys.argv[1:4]
start = time.perf_counter()
boxes = pixels = photos = labels = 0
if tool == "handful":
    from pathlib import Path
    from handful.data import format_coco
    from handful.data.writing import image_of
    imported = time.perf_counter()
    data = format_coco.read(Path(folder))
    read = time.perf_counter()
    for sample in data if half == "all" else ():
        pixels += int(image_of(sample).rgb_u8[::16, ::16].sum()); photos += 1
        for thing in sample.objects:
            l, t, r, b = thing.box_px
            boxes += (r - l) + (b - t); labels += 1
elif tool == "pycocotools":
    import os
    import numpy as np
    from PIL import Image
    from pycocotools.coco import COCO
    imported = time.perf_counter()
    sys.stdout, out = open(os.devnull, "w"), sys.stdout
    data = COCO(folder + "/instances_train.json")
    sys.stdout = out
    read = time.perf_counter()
    for key in data.getImgIds() if half == "all" else ():
        with Image.open(folder + "/images/train/" + data.imgs[key]["file_name"]) as photo:
            pixels += int(np.asarray(photo.convert("RGB"))[::16, ::16].sum()); photos += 1
        for row in data.loadAnns(data.getAnnIds(imgIds=[key])):
            x, y, w, h = row["bbox"]
            boxes += w + h; labels += 1
else:
    from datumaro.components.dataset import Dataset
    from datumaro.components.annotation import AnnotationType
    imported = time.perf_counter()
    data = Dataset.import_from(folder + "/datumaro", "coco_instances")
    n = len(data)
    read = time.perf_counter()
    for item in data if half == "all" else ():
        pixels += int(item.media.data[..., ::-1][::16, ::16].sum()); photos += 1
        ids = {}
        for a in item.annotations:
            if a.type in (AnnotationType.bbox, AnnotationType.polygon, AnnotationType.mask):
                ids.setdefault(a.group or id(a), a.get_bbox())
        for x, y, w, h in ids.values():
            boxes += w + h; labels += 1
end = time.perf_counter()
print(json.dumps({"import_s": imported - start, "read_s": read - imported, "all_s": end - imported, "photos": photos,
    "labels": labels, "boxes": round(boxes, 1), "pixels": pixels,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)}))
"""


def build(data: Path, folder: Path) -> None:
    """1,000 photos (those of coco-mini, again and again) and 100,000 of their real boxes, outlines and run lengths."""
    shutil.rmtree(folder, ignore_errors=True)
    source = json.loads((data / "coco-mini/instances_train.json").read_text())
    rows: dict[int, list[dict]] = {}  # type: ignore[type-arg]
    for row in source["annotations"]:
        rows.setdefault(row["image_id"], []).append(row)
    photos = [row for row in source["images"] if row["id"] in rows]
    images, labels = [], []
    (folder / "images/train").mkdir(parents=True)
    (folder / "datumaro/annotations").mkdir(parents=True)
    for i in range(PHOTOS):
        photo = photos[i % len(photos)]
        name = f"{i:06d}.jpg"
        shutil.copyfile(data / "coco-mini/images/train" / photo["file_name"], folder / "images/train" / name)
        images.append({**photo, "id": i + 1, "file_name": name})
        for k in range(LABELS // PHOTOS):
            of = rows[photo["id"]]
            labels.append({**copy.copy(of[k % len(of)]), "id": len(labels) + 1, "image_id": i + 1})
    text = json.dumps({**source, "images": images, "annotations": labels})
    (folder / "instances_train.json").write_text(text)
    (folder / "datumaro/annotations/instances_train.json").write_text(text)
    (folder / "datumaro/images").mkdir()
    (folder / "datumaro/images/train").symlink_to((folder / "images/train").resolve())


LARGE = """
import resource, sys, time
from pathlib import Path
from handful.data import format_coco
from handful.errors import DataError
start = time.perf_counter()
try:
    said = f"{len(format_coco.read(Path(sys.argv[1])))} photos, read"
except DataError as error:
    said = f"refused: {error}"[:120]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "linux" else 1e9)
print(f"{time.perf_counter() - start:.1f} s, peak {peak:.1f} GB: {said}")
"""


def large(folder: Path) -> None:
    """JSON of 2.1 GB on one line: many labels, one endless string, and a file cut short."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    image = '{"id": 1, "file_name": "a.png", "width": 640, "height": 480}'
    head = '{"images": [' + image + '], "categories": [{"id": 1, "name": "x"}], '
    shape = ",".join(["100.25,200.5"] * 60)
    row = '{"id": %d, "image_id": 1, "category_id": 1, "bbox": [1.5, 2.5, 3.5, 4.5], "segmentation": [[' + shape + "]]}"
    kinds = {"labels": (head + '"annotations": [', (row + "," for _ in range(2_450_000)), row % 0 + "]}"),
             "a string": (head + '"annotations": [], "x": "', ("y" * 1_000_000 for _ in range(2_100)), '"}'),
             "cut short": (head + '"annotations": [', ("[1, 2, 3]," * 100_000 for _ in range(2_100)), "")}  # fmt: skip
    for kind, (start, parts, end) in kinds.items():
        with open(folder / "annotations.json", "w") as file:
            file.write(start)
            for i, part in enumerate(parts):
                file.write(part.replace("%d", str(i + 1), 1) if kind == "labels" else part)
            file.write(end)
        done = subprocess.run([sys.executable, "-c", LARGE, str(folder)], capture_output=True, text=True)
        size = (folder / "annotations.json").stat().st_size / 1e9
        print(f"one line of {size:.1f} GB, {kind}: {done.stdout.strip() or done.stderr[-500:]}")
    shutil.rmtree(folder)


def datumaro_python(results: Path) -> str:
    """The Python of an environment that has Datumaro, made if need be."""
    venv = results / "datumaro-venv"
    if not (venv / "bin/datum").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "-q", DATUMARO], check=True)
    return str(venv / "bin/python")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench-results/data.json"))
    parser.add_argument("--large", action="store_true", help="JSON of 2 GB on one line instead")
    args = parser.parse_args()
    if args.large:
        return large(ROOT / "bench-results" / "large-json")
    folder = ROOT / "bench-results" / "coco-100k"
    build(data_folder(), folder)
    pythons = {"handful": sys.executable, "pycocotools": sys.executable,
               "datumaro": datumaro_python(ROOT / "bench-results")}  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    runs: dict[str, list[dict[str, float]]] = {tool: [] for tool in pythons}
    for _ in range(args.runs + 1):  # the first round warms the disk's cache and is not counted
        for tool, python in pythons.items():
            command = [python, "-c", WORKER, tool, str(folder), "all"]
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                sys.exit(f"{tool} failed:\n{done.stderr[-3000:]}")
            runs[tool].append(json.loads(done.stdout.strip().splitlines()[-1]))
    rows: dict[str, dict[str, Any]] = {}
    for tool, found in runs.items():
        counted = found[1:]
        rows[tool] = {key: _spread([r[key] for r in counted]) for key in ("import_s", "read_s", "all_s", "peak_mb")}
        rows[tool]["sums"] = {key: counted[0][key] for key in ("photos", "labels", "boxes", "pixels")}
    size = (folder / "instances_train.json").stat().st_size / 1e6
    print(f"{LABELS:,} labels, {PHOTOS:,} photos, JSON of {size:.0f} MB; median (least to most) of {args.runs} runs")
    for tool, row in rows.items():
        times = f"read JSON {_of(row['read_s'])} s   all {_of(row['all_s'])} s   peak {_of(row['peak_mb'], 0)} MB"
        print(f"{tool:12s} {times}   {row['sums']}")
    mine = rows["handful"]
    for tool in ("pycocotools", "datumaro"):
        ratio = {key: rows[tool][key]["median"] / mine[key]["median"] for key in ("read_s", "all_s", "peak_mb")}
        rows[tool]["ratio_to_handful"] = ratio
        print(f"{tool} / handful: read {ratio['read_s']:.2f}, all {ratio['all_s']:.2f}, memory {ratio['peak_mb']:.2f}")
    if len({(r["sums"]["photos"], r["sums"]["labels"]) for r in rows.values()}) > 1:
        print("NOTE: the tools did not count the same photos and labels; see sums")
    save(args.out, {"labels": LABELS, "photos": PHOTOS, "json_mb": size, "runs": args.runs, "tools": rows})


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def _of(row: dict[str, float], digits: int = 2) -> str:
    return f"{row['median']:.{digits}f} ({row['min']:.{digits}f} to {row['max']:.{digits}f})"


if __name__ == "__main__":
    main()
