"""A bundle by itself: its README's own code, and handful without torch, beside the models it was compiled from.

    python benchmarks/bundle_readme.py [--photos 50] [--classes 20] [--backbone lite2] [--work DIR] [--quick]
                                       [--runtimes onnxruntime litert ncnn] [--out FILE]

Classifier: taught from 5 photographs of each of the first 20 classes of grocery/train by name, compiled for each
runtime. The Python code in the bundle's README is saved beside it, as it stands, and run on 50 photographs of
grocery/test, drawn by seed 0, of taught and other classes, by an interpreter that has the runtime, NumPy and Pillow,
and neither handful nor torch; then `handful.load(bundle)` in the same, with handful on its path. What each names is
held against `handful.load(model)`.

Detector: taught from coco-mini's train photographs, at most 5 boxes a class, default settings, so at two scales, on
NanoDet's proposals where they have been fetched (else handful's own); compiled for ONNX Runtime and LiteRT; asked about
coco-mini's first 20 val photographs by name in the same interpreter, and held against the taught detector's boxes as
`handful device compare` does.

The interpreter is made in the work folder, `python -m venv`, with pip's `numpy pillow click rich RUNTIMES`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, data_folder, save

import handful
from handful.data import format_folder
from handful.detection import teaching
from handful.detection.scoring import MIN_SCORE
from handful.device.lab.agreement import agreement
from handful.fewshot.teaching import cache_folder, teach
from handful.image import images_below
from handful.kinds.compiling import compile_model
from handful.results import NONE_OF_THESE, Detections

PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "ncnn": "ncnn"}
ASK = """
import json, sys
import handful
model = handful.load(sys.argv[1])
options = json.loads(sys.argv[2])
print(json.dumps([one.to_json() for one in model.predict(sys.argv[3:], **options)]))
assert not {"torch", "scipy", "cv2", "torchvision"} & set(sys.modules)
"""


def interpreter(work: Path, runtimes: list[str]) -> Path:
    """A Python with the runtimes, and neither handful nor torch."""
    home = work / "lean"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        wanted = ["numpy", "pillow", "click", "rich", *(PACKAGES[name] for name in runtimes)]
        pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, *wanted], check=True, stderr=subprocess.DEVNULL)
    for package in ("handful", "torch", "scipy", "cv2"):
        found = subprocess.run([str(python), "-c", f"import {package}"], capture_output=True, check=False, cwd=work)
        if not found.returncode:
            sys.exit(f"{python} has {package}; remove {home}")
    return python


def run(python: Path, *args: object, source: bool = False) -> str:
    """What it prints. source: with handful on its path."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | (
        {"PYTHONPATH": str(ROOT / "src")} if source else {}
    )
    return subprocess.run([str(python), *map(str, args)], env=env, capture_output=True, text=True, check=True).stdout


def code_of(folder: Path) -> str:
    """The Python in a bundle's README that needs the runtime alone."""
    sections = re.split(r"^## ", (folder / "README.md").read_text(encoding="utf-8"), flags=re.M)
    (own,) = [part for part in sections if part.startswith("Python\n")]
    return re.findall(r"```python\n(.*?)```", own, re.S)[0]


def classifier(
    work: Path, python: Path, runtimes: list[str], photos: int, classes: int, backbone: str
) -> dict[str, Any]:
    """A row a runtime."""
    data, model = data_folder() / "grocery", work / f"grocery-{backbone}-{classes}"
    names = sorted(p.name for p in (data / "train").iterdir())[:classes]
    if not model.exists():
        taught = work / "taught"
        shutil.rmtree(taught, ignore_errors=True)
        for name in names:
            (taught / name).mkdir(parents=True)
            for path in sorted((data / "train" / name).iterdir())[:5]:
                shutil.copyfile(path, taught / name / path.name)
        teach(taught, model, backbone=backbone, cache=cache_folder())
    samples = list(format_folder.read(data / "test"))
    chosen = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))[:photos]]
    files = [str(sample.path) for sample in chosen]
    want = [one.label or NONE_OF_THESE for one in handful.load(model, "classifier").predict(files)]
    rows = {}
    for runtime in runtimes:
        bundle = compile_model(model, runtime)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / bundle.folder.name
            shutil.copytree(bundle.folder, folder)
            (folder / "run.py").write_text(code_of(folder), encoding="utf-8")
            printed = [line for line in run(python, folder / "run.py", *files).splitlines() if ": " in line]
            readme = dict(line.rpartition(": ")[::2] for line in printed)
            loaded = json.loads(run(python, "-c", ASK, folder, "{}", *files, source=True).splitlines()[-1])
        alone = [one["label"] or NONE_OF_THESE for one in loaded]
        rows[runtime] = {
            "readme_same": sum(readme.get(file) == name for file, name in zip(files, want, strict=True)),
            "handful_without_torch_same": sum(a == b for a, b in zip(alone, want, strict=True)),
            "mb": bundle.bytes / 1e6, "versions": bundle.meta["versions"],
        }  # fmt: skip
        print(f"{runtime}: README {rows[runtime]['readme_same']} of {len(files)} the same, handful without torch "
              f"{rows[runtime]['handful_without_torch_same']}", flush=True)  # fmt: skip
    there = [sample.label in names for sample in chosen]
    said = {"said_none_of_these": want.count(NONE_OF_THESE), "names_said": len(set(want))}
    about = {"of_taught_classes": sum(there), "taught_classes": len(names), "backbone": backbone}
    return {"photos": len(files), **about, **said, "runtimes": rows}


def detector(work: Path, python: Path, runtimes: list[str], photos: int) -> dict[str, Any]:
    """A row a runtime."""
    coco, model = data_folder() / "coco-mini", work / "detector-auto"
    if not model.exists():
        teaching.teach(coco / "instances_train.json", model, max_samples=5, images=str(coco / "images" / "train"))
    files = [str(path) for path in sorted(images_below(coco / "images" / "val"))[:photos]]
    own: Any = handful.load(model, "detector")
    want = own.predict(files, unknown=True, score_threshold=MIN_SCORE)
    rows = {}
    for runtime in runtimes:
        bundle = compile_model(model, runtime)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / bundle.folder.name
            shutil.copytree(bundle.folder, folder)
            options = json.dumps({"unknown": True, "score_threshold": MIN_SCORE})
            told = json.loads(run(python, "-c", ASK, folder, options, *files, source=True).splitlines()[-1])
        got = [found_of(one["found"], own.classes) for one in told]
        rows[runtime] = {**agreement(got, want), "mb": bundle.bytes / 1e6, "versions": bundle.meta["versions"]}
        print(f"{runtime}: {rows[runtime]['matched_of_want']:.2%} of {rows[runtime]['boxes_want']} boxes found again, "
              f"{rows[runtime]['matched_of_got']:.2%} right", flush=True)  # fmt: skip
    scales: Any = compile_model(model, runtimes[0]).meta["plan"]
    return {
        "photos": len(files),
        "proposer": own.card["proposer"]["name"],
        "scales": scales["scales"],
        "runtimes": rows,
    }


def found_of(rows: list[dict[str, Any]], classes: tuple[str, ...]) -> Detections:
    """What a detector's JSON told."""
    boxes = np.array([row["box_px"] for row in rows], np.float64).reshape(-1, 4)
    score, margin = (np.array([row[key] for row in rows], np.float64) for key in ("score", "margin"))
    label = np.array([classes.index(row["class"]) for row in rows], np.int64)
    return Detections(classes, boxes, score, label, margin, np.zeros((len(rows), 0)))


TITLES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT", "ncnn": "ncnn"}


def tables(named: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """As docs/bundle.md shows them."""
    said = ["", "the README's code", "handful.load without torch", "MB"]
    boxes = ["", "boxes found again, %", "boxes right, %", "scores apart at most", "MB"]
    return {
        "classifier": {"columns": said, "rows": [
            [TITLES[name], row["readme_same"], row["handful_without_torch_same"], row["mb"]]
            for name, row in named["runtimes"].items()
        ]},
        "detector": {"columns": boxes, "rows": [
            [TITLES[name], 100 * row["matched_of_want"], 100 * row["matched_of_got"], row["largest_score_difference"],
             row["mb"]]
            for name, row in found["runtimes"].items()
        ]},
    }  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--runtimes", nargs="+", default=list(PACKAGES))
    parser.add_argument(
        "--work", type=Path, default=Path("bundle.work"), help="where models and the interpreter are kept"
    )
    parser.add_argument("--quick", action="store_true", help="lite0, onnxruntime alone, 6 photographs, to see it run")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "bundle_readme.json")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    runtimes, photos, backbone, some = options.runtimes, options.photos, options.backbone, 20
    if options.quick:
        runtimes, photos, backbone, some = ["onnxruntime"], 6, "lite0", 2
    python = interpreter(work, runtimes)
    named = classifier(work, python, runtimes, photos, options.classes, backbone)
    found = detector(work, python, [name for name in runtimes if name != "ncnn"], some)
    about = {"seeds": [0], "spread": "none: each image is asked about once", "tables": tables(named, found)}
    save(options.out, {**about, "classifier": named, "detector": found})


if __name__ == "__main__":
    main()
