"""The modes of a taught detector: how good, and how long a photo of 640 px takes.

    python benchmarks/modes.py [--samples 20] [--seeds 0 1 ... 9] [--timed 20] [--work DIR] [--figures FILE] [--quick]
                               [--out FILE]

Taught from coco-mini's train boxes, at most so many of each of 80 classes, drawn by seed; measured on its 75 val photos
at one scale: COCO's figures and F1, as benchmarks/irene.py has them. Modes: every_box, a crop for each of 100 boxes, as
version 0.3 had it; accurate, 30 crops that the boxes share; fast, 50 boxes and 4 crops. Beside them the proposer's
features alone, without a crop.

Time: from the JPEG to the detections, one thread; photos of val enlarged to 640 px; each asked of all in turn, after
one that is not counted; median, 10th and 90th percentile over photos, and ratios to every_box on PyTorch, of the same
photo. --figures takes the figures from the result of an earlier run, so that the times alone are taken on an idle
machine.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save
from common_detect import asked, cache_of, spread, table, taught
from PIL import Image as PIL_Image

from handful import engine
from handful.data import formats
from handful.detection import teaching
from handful.detection.embedder import CropSettings
from handful.detection.irene import Irene
from handful.progress import track
from handful.select.feature_cache import CachedImage, cached_images
from handful.training.coco_table import STATS
from handful.training.source import image_of, split_of

MODES = ("every_box", "accurate", "fast")
SIDE_PX = 640
Asked = Callable[[np.ndarray], Any]


def enlarged(rgb_u8: np.ndarray) -> bytes:
    """A JPEG of SIDE_PX."""
    photo = PIL_Image.fromarray(rgb_u8)
    factor = SIDE_PX / max(photo.size)
    photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), PIL_Image.Resampling.BICUBIC)
    held = io.BytesIO()
    photo.save(held, "JPEG", quality=90)
    return held.getvalue()


def detectors(model: Path) -> dict[str, Asked]:
    """The same detector in each mode, and in PyTorch with a crop a box."""
    found: dict[str, Asked] = {}
    for name, mode, on in [("every_box, PyTorch", "every_box", "torch"), *((m, m, "onnxruntime") for m in MODES)]:
        with engine.using(on):
            one = Irene.load(model)
        one.embedder.settings = one.embedder.settings.at(mode)
        found[name] = one.detect
    return found


def timed(model: Path, photos: list[bytes]) -> list[dict[str, Any]]:
    """A row for each of `detectors`: ms, and times of the first's."""
    ms: dict[str, list[float]] = {}
    asked = detectors(model)
    for held in track([photos[0], *photos], "asking", len(photos) + 1):
        for name, ask in asked.items():
            began = time.perf_counter()
            ask(np.asarray(PIL_Image.open(io.BytesIO(held)).convert("RGB")))
            ms.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    first = np.array(next(iter(ms.values()))[1:])
    rows = []
    for name, values in ms.items():
        own = np.array(values[1:])
        low, middle, high = np.percentile(own, (10, 50, 90)).tolist()
        ratio = np.percentile(own / first, (10, 50, 90)).tolist()
        rows.append({"name": name, "ms": middle, "p10": low, "p90": high, "best": float(own.min()), "ratio": ratio})
        print(f"{name}: {middle:.0f} ms ({low:.0f} to {high:.0f}, best {own.min():.0f}), "
              f"{ratio[1]:.2f} times PyTorch's ({ratio[0]:.2f} to {ratio[2]:.2f})", flush=True)  # fmt: skip
    return rows


def measured(train: Sequence[CachedImage], val: Sequence[CachedImage], most: int, seed: int) -> dict[str, Any]:
    """One teaching, asked about val."""
    learned = taught(train, most, seed)
    found = table(val, *asked(learned, val), learned.solution.classes)
    return {**found, "score_threshold": learned.score_threshold}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--timed", type=int, default=20)
    parser.add_argument("--work", type=Path, help="where features are cached  [default: the cache folder]")
    parser.add_argument("--figures", type=Path, help="a result whose figures are taken")
    parser.add_argument("--quick", action="store_true", help="20 photos of each split and 2 seeds")
    parser.add_argument("--out", type=Path, default=Path("bench-results/modes.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = options.seeds[:2] if options.quick else options.seeds
    folder, cache = data_folder() / "coco-mini", cache_of(options.work)
    dataset = formats.read(folder, format="coco")
    parts = {split: split_of(dataset, split)[: 20 if options.quick else None] for split in ("train", "val")}
    settings = {"no crop": CropSettings(backbone=None, share=1)} | {m: CropSettings().at(m) for m in MODES}
    figures: dict[str, Any] = json.loads(options.figures.read_text())["figures"] if options.figures else {}
    for name, crop in settings.items():
        if name in figures:
            continue
        irene = Irene.new("nanodet", crop=crop)
        train, val = (cached_images(parts[s], irene.proposer, irene.embedder, cache, what=f"{name}, {s}")
                      for s in ("train", "val"))  # fmt: skip
        runs = [measured(train, val, options.samples, seed) for seed in seeds]
        figures[name] = spread(runs, [*STATS, "f1", "score_threshold"])
        print(f"{name}: " + ", ".join(f"{k} {100 * v['mean']:.1f} +- {100 * (v['sd'] or 0):.1f}"
              for k, v in figures[name].items() if v is not None and k in ("AP", "AP50", "AR100", "f1")),
              flush=True)  # fmt: skip
    model = cache / f"modes-{options.samples}"
    if not model.exists():
        teaching.teach(folder / "instances_train.json", model, max_samples=options.samples, proposer="nanodet",
                       scales=1, images=str(folder / "images" / "train"))  # fmt: skip
    rows = timed(model, [enlarged(image_of(s).rgb_u8) for s in parts["val"][: options.timed]])
    by_name = {row["name"]: row for row in rows}
    body = []
    for name in ("every_box, PyTorch", *MODES, "no crop"):
        own, clock = figures[name.split(",")[0]], by_name.get(name)
        body.append([name, *([100 * own[k]["mean"] for k in ("AP", "AP50", "APs", "APm", "APl", "AR100", "f1")]),
                      None if clock is None else round(clock["ms"]),
                      None if clock is None else clock["ratio"][1]])  # fmt: skip
    columns = ["mode", "AP", "AP50", "small", "medium", "large", "AR100", "F1", "ms a photo", "times PyTorch's"]
    result = {"samples": options.samples, "seeds": seeds, "side_px": SIDE_PX, "figures": figures, "times": rows}
    save(options.out, {**result, "spread": "mean over seeds; median over photos", "tables":
                       {"modes": {"columns": columns, "rows": body}}})  # fmt: skip


if __name__ == "__main__":
    main()
