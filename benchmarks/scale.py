"""What teaching costs as work grows: classes, photos, and asking.

    python benchmarks/scale.py [--photos 10000] [--out bench-results/scale.json]

Classes: 10 to 5,000 of 20 vectors of 512 numbers, learned at once; beside them the rule that NEMO had before, a product
with one row a class, and scikit-learn's nearest centroid and linear discriminant analysis (svd). Least of three runs,
the rivals in turn. Asking: a photo's frame to its scores, models of 10 and of 200 classes in turn.
Photos: `handful.teach` of 10,000 views of grocery's photographs (lite0), killed after half of them and begun again;
processor time and memory of the process are told every thousand.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save
from PIL import Image as PIL_Image

import handful
from handful.demo import view
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.nemo import SCALE, Nemo
from handful.image import read_image
from handful.progress import Advanced, Event, listening

CLASSES = (10, 100, 1000, 5000)
EACH, DIM = 20, 512
ASKED = 60
STEP = 1000


def nemo(z: np.ndarray, y: Sequence[str]) -> None:
    Nemo(DIM).learn_many(z, y)


def one_row_a_class(z: np.ndarray, y: Sequence[str]) -> None:
    """The sums as they were made before."""
    names, which = np.unique(np.asarray(y), return_inverse=True)
    np.eye(len(names))[which].T @ np.rint(z * SCALE)


def centroid(z: np.ndarray, y: Sequence[str]) -> None:
    from sklearn.neighbors import NearestCentroid

    NearestCentroid().fit(z, np.asarray(y))


def lda(z: np.ndarray, y: Sequence[str]) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    LinearDiscriminantAnalysis(solver="svd").fit(z, np.asarray(y))


RIVALS: dict[str, Callable[[np.ndarray, Sequence[str]], None]] = {
    "NEMO": nemo, "one row a class, as before": one_row_a_class, "nearest centroid": centroid, "LDA (svd)": lda,
}  # fmt: skip


def by_classes() -> dict[str, dict[str, float]]:
    """Seconds to learn, by rule and number of classes."""
    rows: dict[str, dict[str, float]] = {name: {} for name in RIVALS}
    for classes in CLASSES:
        rng = np.random.default_rng(0)
        z = rng.normal(size=(classes * EACH, DIM))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        y = [f"class {k:05d}" for k in np.arange(len(z)) % classes]
        for round_ in range(3):
            for name, learn in RIVALS.items():
                if round_ and name == "LDA (svd)" and classes == CLASSES[-1]:
                    continue  # a minute and a half
                start = time.perf_counter()
                learn(z, y)
                took = time.perf_counter() - start
                rows[name][str(classes)] = min(took, rows[name].get(str(classes), took))
        told = ", ".join(f"{name} {row[str(classes)]:.3f} s" for name, row in rows.items())
        print(f"{classes} classes x {EACH}: {told}", flush=True)
    return rows


def asking() -> dict[str, Any]:
    """Milliseconds of an answer by the number of classes."""
    times: dict[int, list[float]] = {10: [], 200: []}
    models = {}
    for classes in times:
        model = FewShotClassifier.new("lite2")
        z = np.random.default_rng(1).normal(size=(classes * EACH, model.nemo.dim))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        model.nemo.learn_many(z, [f"class {k:03d}" for k in np.arange(len(z)) % classes])
        model.refresh()
        models[classes] = model
    photo = read_image(sorted((data_folder() / "grocery" / "test").rglob("*.jpg"))[0])
    for round_ in range(ASKED + 3):
        for classes, model in models.items():
            start = time.perf_counter()
            model.scores(photo)
            if round_ >= 3:
                times[classes].append((time.perf_counter() - start) * 1e3)
    ratio = np.array(times[200]) / np.array(times[10])
    medians = {f"{classes} classes": float(np.median(kept)) for classes, kept in times.items()}
    told = {"median": float(np.median(ratio)), "of_medians": medians["200 classes"] / medians["10 classes"],
            "p10": float(np.quantile(ratio, 0.1)), "p90": float(np.quantile(ratio, 0.9))}  # fmt: skip
    print(f"asking: {medians}, 200 over 10 classes {told}", flush=True)
    return {"ms": medians, "ratio": told}


def photos_of(count: int, to: Path) -> Path:
    """So many views of grocery's photographs, a folder a class."""
    rng = np.random.default_rng(0)
    source = sorted((data_folder() / "grocery").rglob("*.jpg"))
    for i in range(count):
        path = source[i % len(source)]
        place = to / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        PIL_Image.fromarray(view(read_image(path), rng).rgb_u8).save(place / f"{i}.jpg", quality=92)
    return to


def teach(photos: Path, model: Path, log: Path) -> None:
    """The process that is measured: a line every so many photos."""

    def told(event: Event) -> None:
        if isinstance(event, Advanced) and event.what == "learning" and event.done % STEP == 0:
            now = {"done": event.done, "cpu_s": time.process_time(), "wall_s": time.perf_counter(),
                   "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps(now) + "\n")

    with listening(told):
        handful.teach(photos, model, backbone="lite0", allow=["duplicate_image"])


def many(count: int) -> dict[str, Any]:
    """10,000 photos: killed after half of them, and begun again."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        photos = photos_of(count, home / "photos")
        env = {**os.environ, "HANDFUL_CACHE": str(home / "cache")}
        runs = []
        for number in (1, 2):
            log = home / f"log {number}"
            log.touch()
            words = [sys.executable, __file__, "--teach", str(photos), str(home / "model"), str(log)]
            process = subprocess.Popen(words, env=env)
            start = time.perf_counter()
            while process.poll() is None:
                time.sleep(0.2)
                if number == 1 and len(log.read_text().splitlines()) >= count // STEP // 2:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            runs.append({"rows": lines, "wall_s": time.perf_counter() - start, "code": process.returncode})
            print(f"run {number}: {runs[-1]}", flush=True)
        kept = sum(path.stat().st_size for path in (home / "cache").rglob("*") if path.is_file())
    rates = [
        [(b["cpu_s"] - a["cpu_s"]) / STEP * 1e3 for a, b in zip(r["rows"], r["rows"][1:], strict=False)] for r in runs
    ]
    return {"photos": count, "runs": runs, "cpu_ms_a_photo": rates, "cache_mb": kept / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/scale.json"))
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--teach", type=Path, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.teach is not None:
        teach(*args.teach)
        return
    found = many(args.photos)
    ask, rows = asking(), by_classes()
    stopped, resumed = found["cpu_ms_a_photo"]
    half = len(found["runs"][0]["rows"])
    fresh, again = resumed[half:], resumed[: half - 1]
    mb = [row["mb"] for row in found["runs"][1]["rows"]]
    figures = {
        **{
            f"{classes} classes x {EACH}, {name}, s": round(rows[name][str(classes)], 3)
            for classes in CLASSES
            for name in rows
        },
        **{
            f"{classes} classes, NEMO, microseconds a sample": round(
                rows["NEMO"][str(classes)] / classes / EACH * 1e6, 1
            )
            for classes in CLASSES
        },
        "asking 200 classes / 10: of the medians; median, p10, p90": [
            round(ask["ratio"][k], 2) for k in ("of_medians", "median", "p10", "p90")
        ],
        f"{args.photos} photos, CPU ms a photo, each thousand: first run": [round(v, 1) for v in stopped],
        "resumed, of what was known": [round(v, 1) for v in again],
        "resumed, of the rest": [round(v, 1) for v in fresh],
        "memory, MB: after the first thousand, after the last": [round(mb[0]), round(mb[-1])],
        "cache, MB": round(found["cache_mb"]),
        "photos, killed after": [args.photos, half * STEP],
        "resumed, photos and MB, half way and at the end": [
            (half + 1) * STEP,
            round(mb[half], 1),
            args.photos,
            round(mb[-1], 1),
        ],
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    save(args.out, {
        "by_classes_s": rows, "asking": ask, "many": found, "load_average": os.getloadavg(), "seeds": [0, 1],
        "tables": {"learning": {
            "columns": ["20 samples a class, s", *(f"{classes:,} classes" for classes in CLASSES)],
            "rows": [[name, *(round(row[str(classes)], 3) for classes in CLASSES)] for name, row in rows.items()],
        }},
        "spread": f"least of three; median, p10 and p90 of {ASKED} pairs", "figures": figures,
    })  # fmt: skip


if __name__ == "__main__":
    main()
