"""Boxes of things of any kind: handful's objectness beside NanoDet, torchvision's detectors and selective search.

    python benchmarks/proposals.py [--sources objectness nanodet ...] [--photos 75] [--rounds 3] [--work DIR] [--json]
                                   [--out FILE]

On coco-mini's val photos: recall without classes (AR@10, 30, 100, 300: the share of things a proposed box lies on, mean
over IoU .50 to .95), AR@100 for small, medium and large things, and milliseconds a photo from RGB pixels to boxes, one
thread each, every photo by each source in turn. NanoDet and torchvision's detectors have learned the 80 classes that
are asked for here from 118,000 photos, objectness from 257 and NanoDet's boxes in 455 others, selective search
(Uijlings 2013, OpenCV's "fast", photo shrunk to a long side of 300 px) from none. "on onnxruntime" is the same network
as `handful device compile` makes it for phones, at most 100 boxes. It is in opencv-contrib, which is
installed into --work for it alone. Sources whose weights are absent are left out, and said.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save

import handful.detection
from handful.data import formats
from handful.data.sample_images import sample_photo
from handful.detection.embedder import CropSettings
from handful.detection.evaluate import PROPOSAL_COUNTS, AgnosticRecall, GroundTruth, ground_truth_of
from handful.detection.irene import Irene
from handful.errors import HandfulError
from handful.files import cache_home, to_json
from handful.kinds import loading
from handful.kinds.compiling import compile_model
from handful.pick import names, pick
from handful.training.source import image_of, split_of

ON = " on onnxruntime"
SELECTIVE, CONTRIB = "selective search", "opencv-contrib-python-headless==5.0.0.93"
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
WANTED = {"ar_100": 0.25, "ms": 30.0}
WORKER = """
import json, sys, time
import cv2
import numpy as np
cv2.setNumThreads(1)
search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
for line in sys.stdin:
    photo = np.load(line.strip())
    began = time.perf_counter()
    factor = min(1.0, 300 / max(photo.shape[:2]))
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)[:, :, ::-1].copy()
    search.setBaseImage(small)
    search.switchToSelectiveSearchFast()
    boxes = search.process()[:300].astype(float)
    boxes[:, 2:] += boxes[:, :2]
    ms = 1000 * (time.perf_counter() - began)
    print(json.dumps({"boxes": (boxes / factor).tolist(), "ms": ms}), flush=True)
"""


class Selective:
    """OpenCV's selective search, in a process that sees opencv-contrib and nothing else does."""

    def __init__(self, work: Path) -> None:
        place = work / "contrib"
        if not (place / "cv2").is_dir():
            words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place), CONTRIB]
            subprocess.run(words, check=True)
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(place)!r})\n{WORKER}"]
        self.file = work / "photo.npy"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def boxes(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """Boxes (n, 4) best first, and the milliseconds they took."""
        np.save(self.file, rgb)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{self.file}\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        return np.array(told["boxes"]).reshape(-1, 4), float(told["ms"])


class Own:
    """A source of boxes of handful."""

    def __init__(self, name: str) -> None:
        self.proposer = pick(handful.detection, "proposer", name).load()

    def boxes(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """As Selective."""
        began = time.perf_counter()
        seen = self.proposer.propose(rgb, PROPOSAL_COUNTS[-1])
        return seen.xyxy_px, 1000 * (time.perf_counter() - began)


class Compiled:
    """A source of boxes of handful on ONNX Runtime, one thread: a detector is taught one box, and compiled."""

    def __init__(self, name: str, work: Path) -> None:
        folder = work / f"detector-{name}"
        irene = Irene.new(name, crop=CropSettings(backbone=None, share=1))
        irene.learn(sample_photo("astronaut").rgb_u8, np.array([[20.0, 20, 200, 200]]), ["thing"], exhaustive=False)
        if folder.exists():
            shutil.rmtree(folder)
        irene.save(folder)
        detector: Any = loading.load_bundle(compile_model(folder, "onnxruntime").folder)
        self.proposer = detector.inner.proposer

    def boxes(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """As Selective."""
        began = time.perf_counter()
        seen = self.proposer.propose(rgb, PROPOSAL_COUNTS[-1])
        return seen.xyxy_px, 1000 * (time.perf_counter() - began)


def part(truth: GroundTruth, least: float, most: float) -> GroundTruth:
    """Only the things of a size."""
    return truth.only((truth.area >= least) & (truth.area < most))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", default=[*names(handful.detection, "proposer"), SELECTIVE])
    parser.add_argument("--photos", type=int, default=75)
    parser.add_argument("--rounds", type=int, default=3, help="times each photo is looked at; the least counts")
    parser.add_argument("--work", type=Path, help="where opencv-contrib is put  [default: the cache folder]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or (cache_home() or Path("proposals.work")) / "proposals"
    work.mkdir(parents=True, exist_ok=True)
    sources: dict[str, Any] = {}
    for name in options.sources:
        try:
            sources[name] = Selective(work) if name == SELECTIVE else Own(name)
            if hasattr(getattr(sources[name], "proposer", None), "graph"):
                sources[f"{name}{ON}"] = Compiled(name, work)
        except HandfulError as error:
            print(f"{name} is left out: {error}", flush=True)
    samples = split_of(formats.read(data_folder() / "coco-mini", format="coco"), "val")[: options.photos]
    whole = {name: AgnosticRecall() for name in sources}
    sized = {name: {size: AgnosticRecall() for size in SIZES} for name in sources}
    took: dict[str, list[float]] = {name: [] for name in sources}
    for sample in samples:
        rgb = image_of(sample).rgb_u8
        truth = ground_truth_of(sample, (rgb.shape[1], rgb.shape[0]))
        ms: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(options.rounds):
            for name, source in sources.items():
                boxes, spent = source.boxes(rgb)
                ms[name].append(spent)
                if len(ms[name]) == 1:
                    whole[name].add(truth, boxes)
                    for size, (least, most) in SIZES.items():
                        sized[name][size].add(part(truth, least, most), boxes)
        for name, spent in ms.items():
            took[name].append(min(spent))
    table: dict[str, Any] = {}
    print(
        f"{'':<26}"
        + "".join(f"{f'AR@{n}':>8}" for n in PROPOSAL_COUNTS)
        + f"{'small':>8}{'medium':>8}{'large':>8}{'ms':>8}"
    )
    for name in sources:
        told = whole[name].summary()
        of = {size: recall.summary()["100"] for size, recall in sized[name].items()}
        quarters = statistics.quantiles(took[name], n=4)
        table[name] = {"ar": told, "ar_100_of": of, "ms": quarters[1], "ms_quartiles": [quarters[0], quarters[2]],
                       "about": getattr(getattr(sources[name], "proposer", None), "about", None)}  # fmt: skip
        print(f"{name:<26}" + "".join(f"{v or 0:8.3f}" for v in (*told.values(), *of.values())) + f"{quarters[1]:8.1f}")
    result = {"photos": len(samples), "things": whole[next(iter(sources))].things, "rounds": options.rounds,
              "threads": 1, "wanted": WANTED, "sources": table}  # fmt: skip
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
