"""Predict from Python, from the command line and from a compiled bundle: the same answers, for every kind of model.

    python benchmarks/everywhere.py [--images 20] [--work DIR] [--out FILE]

A small model of each kind is taught or trained from real photographs (minutes, to be asked, not to be good): a taught
classifier (grocery, 10 classes, 5 images each), a taught detector (raccoon, 5 boxes), a classifier (office-amazon), a
segmenter (CamVid) and a detector (blood cells). Each is asked about images it has not seen, three ways: `predict` of
`handful.load(model)`, `handful predict MODEL IMAGES --json --out DIR` in a process of its own, and `predict` of the
bundle for ONNX Runtime, where the kind can be compiled. Held against Python: the command line's JSON, equal; the
bundle's classes, equal; its pixels, the share with the same class; its boxes, the share with a box of IoU 0.9 or more
and the same class. The pictures that the command line draws are in --work, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

import handful
from handful.boxes import iou
from handful.errors import UsageError
from handful.image import images_below


def linked(files: list[Path], to: Path) -> Path:
    """A folder with copies of some images."""
    to.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(files):
        shutil.copy(file, to / f"{i:02d}-{file.name}")
    return to


def spread(files: list[Path], count: int) -> list[Path]:
    """So many of them, evenly over their order."""
    return [files[i] for i in np.unique(np.linspace(0, len(files) - 1, count).astype(int)).tolist()]


def taught_classifier(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    classes = sorted(p.name for p in (data / "grocery" / "train").iterdir() if p.is_dir())[:10]
    for name in classes:
        linked(images_below(data / "grocery" / "train" / name)[:5], work / "photos" / name)
    handful.teach(work / "photos", work / "model", backbone="lite0", overwrite=True)
    asked = [f for f in images_below(data / "grocery" / "test") if f.parent.name in classes[:8]]
    others = [f for f in images_below(data / "grocery" / "test") if f.parent.name not in classes]
    return work / "model", linked([*spread(asked, count - 5), *spread(others, 5)], work / "asked")


def taught_detector(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    folder = data / "fewshot-det" / "raccoon"
    handful.teach(folder, work / "model", max_samples=5, overwrite=True)
    return work / "model", linked(spread(images_below(folder), count), work / "asked")


def classifier(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    root = data / "office-amazon" / "images"
    names = sorted(p.name for p in root.iterdir() if p.is_dir())[:6]
    for name in names:
        files = images_below(root / name)
        for split, part in (("train", files[:12]), ("val", files[12:15])):
            linked(part, work / "photos" / split / name)
    handful.train("classify", work / "photos", work / "model", net="classifier:lite0", epochs=2, batch=8,
                  frame_hw=(160, 160), overwrite=True)  # fmt: skip
    asked = [f for name in names for f in images_below(root / name)[15:]]
    return work / "model", linked(spread(asked, count), work / "asked")


def segmenter(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    handful.train("segment", data / "camvid", work / "model", net="lraspp:lite0", minutes=2.0, frame_hw=(180, 240),
                  overwrite=True)  # fmt: skip
    images = [f for f in images_below(data / "camvid") if "val" in f.parts and "labels" not in f.parts]
    return work / "model", linked(spread(images, count), work / "asked")


def detector(data: Path, work: Path, count: int) -> tuple[Path, Path]:
    folder, divided = data / "fewshot-det" / "bccd", work / "data"
    shutil.rmtree(divided, ignore_errors=True)
    command = [sys.executable, "-m", "handful", "data", "split", str(folder), "--out", str(divided), "--quiet"]
    subprocess.run(command, check=True)
    handful.train("detect", divided, work / "model", net="faster_rcnn", minutes=2.0, frame_hw=(224, 320),
                  overwrite=True, settings={"val_split": None})  # fmt: skip
    return work / "model", linked(spread(images_below(folder), count), work / "asked")


KINDS = {
    "taught_classifier": taught_classifier, "taught_detector": taught_detector, "classifier": classifier,
    "segmenter": segmenter, "detector": detector,
}  # fmt: skip


def agreement(one: Any, other: Any) -> float:
    """1 for the same class; the share of pixels with the same class; the share of boxes that have a like one."""
    if isinstance(one, handful.Classification):
        return float(one.label == other.label)
    if isinstance(one, handful.Segmentation):
        return float(np.mean(one.ids == other.ids))
    if not len(one):
        return float(len(other) == 0)
    same = (iou(one.xyxy_px, other.xyxy_px) >= 0.9) & (one.label[:, None] == other.label[None])
    return float(same.any(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--work", type=Path, help="where models and pictures go; without it a new folder")
    parser.add_argument("--out", type=Path, default=Path("bench-results/everywhere.json"))
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="everywhere-"))
    rows: dict[str, dict[str, Any]] = {}
    for kind in options.kinds:
        place, asked = KINDS[kind](data_folder(), work / kind, options.images)
        model = handful.load(place)
        want = model.predict(asked)
        drawn = work / kind / "drawn"
        told = subprocess.run(
            [sys.executable, "-m", "handful", "predict", str(place), str(asked), "--json", "--out", str(drawn)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        said = json.loads(told.stdout)["results"]
        plain = [json.loads(json.dumps(one.to_json())) for one in want]
        equal = [all(s.get(key) == p[key] for key in p if key != "mask") for s, p in zip(said, plain, strict=True)]
        row: dict[str, Any] = {"images": len(want), "task": model.task, "command_line_equal": sum(equal)}
        try:
            bundle = handful.load(model.compile("onnxruntime").folder)
            same = [agreement(a, b) for a, b in zip(want, bundle.predict(asked), strict=True)]
            row |= {"bundle_agreement": float(np.mean(same)), "bundle_least": min(same)}
        except UsageError as error:
            row["bundle"] = str(error).removeprefix(f"{place} ")
        rows[kind] = {**row, "pictures": len(list(drawn.glob("*.jpg")))}
        print(f"{kind}: {rows[kind]}", flush=True)
    save(options.out, {"kinds": rows})
    print(f"look at the pictures in {work}/*/drawn")


if __name__ == "__main__":
    main()
