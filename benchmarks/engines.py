"""The two engines side by side: do they answer alike, is unlearning exact across them, and how fast is each.

    python benchmarks/engines.py [--photos 240] [--out bench-results/engines.json]

Photos: every n-th of grocery's test set, office-amazon and product-iconic, so many in all. Each is embedded by lite2 on
ONNX Runtime and on PyTorch. A model is taught grocery's training photos, five a class, on each engine, and each is
asked all the photos. Then each photo is learned on one engine and unlearned on the other. Time: one photo on one
thread, each engine in turn; ratios are of each pair, with their 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

from handful import engine
from handful.data import format_folder
from handful.fewshot.answer import answer
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.nemo import SCALE, Nemo
from handful.image import fit, images_below, read_image
from handful.progress import track
from handful.threads import over

ENGINES = ("onnxruntime", "torch")
ROUNDS = 40
EACH = 5


def model_on(name: str) -> FewShotClassifier:
    with engine.using(name):
        return FewShotClassifier.new("lite2")


def some_photos(count: int) -> list[Path]:
    data = data_folder()
    every = [p for part in ("grocery/test", "office-amazon", "product-iconic") for p in images_below(data / part)]
    return every[:: max(1, len(every) // count)][:count]


def quartiles(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p10": float(np.quantile(values, 0.1)),
            "p90": float(np.quantile(values, 0.9))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/engines.json"))
    parser.add_argument("--photos", type=int, default=240)
    args = parser.parse_args()
    models = {name: model_on(name) for name in ENGINES}
    paths = some_photos(args.photos)
    taught: dict[str, int] = {}
    samples = []
    for sample in format_folder.read(data_folder() / "grocery" / "train"):
        taught[str(sample.label)] = taught.get(str(sample.label), 0) + 1
        samples += [sample] * (taught[str(sample.label)] <= EACH)
    raw: dict[str, np.ndarray] = {}
    vectors: dict[str, np.ndarray] = {}
    scores: dict[str, np.ndarray] = {}
    for name, model in models.items():
        model.learn_samples(samples)
        images = [read_image(path) for path in paths]
        raw[name] = np.concatenate(
            list(track(over(lambda i: model.embedder.features(i, mirror=True), images), name, len(images)))  # noqa: B023
        )
        pairs = raw[name].reshape(len(images), 2, -1)
        z = model.embedder.front_end(pairs).mean(axis=1)
        vectors[name] = z / np.linalg.norm(z, axis=1, keepdims=True)
        scores[name] = model.net.scores(pairs[:, 0])
    one, other = (vectors[name] for name in ENGINES)
    cells = np.abs(np.rint(one * SCALE) - np.rint(other * SCALE))
    said = {name: [answer(row, models[name].classes).label for row in scores[name]] for name in ENGINES}
    exact = {
        f"learned on {a}, unlearned on {b}": unlearned(vectors[a], vectors[b]) for a, b in (ENGINES, ENGINES[::-1])
    }
    assert models["onnxruntime"].net.engine == "onnxruntime" and models["torch"].net.engine == "torch"
    parity = {
        "photos": len(paths),
        "largest difference of a feature": float(np.abs(raw["onnxruntime"] - raw["torch"]).max()),
        "largest difference of a score": float(np.abs(scores["onnxruntime"] - scores["torch"]).max()),
        "answers alike": sum(a == b for a, b in zip(*said.values(), strict=True)),
        "samples with a number in another cell": int((cells > 0).any(axis=1).sum()),
        "numbers in another cell, share": float((cells > 0).mean()),
        "cells apart at most": int(cells.max()),
        **exact,
    }
    times = timed(models, read_image(paths[0]).rgb_u8)
    ratio = [t / o for o, t in zip(times["onnxruntime"], times["torch"], strict=True)]
    rows = {name: quartiles(values) for name, values in times.items()}
    for name, value in parity.items():
        print(f"{name}: {value}")
    for name, row in rows.items():
        print(f"{name}: {row['median']:.1f} ms a photo (p10 {row['p10']:.1f}, p90 {row['p90']:.1f})")
    told = quartiles(ratio)
    print(f"PyTorch / ONNX Runtime: {told['median']:.2f} (p10 {told['p10']:.2f}, p90 {told['p90']:.2f})")
    save(args.out, {
        "parity": parity, "ms_a_photo": rows, "torch_over_onnxruntime": told, "seeds": [0],
        "spread": f"median, p10 and p90 of {ROUNDS} photos in turn",
        "figures": {
            **{k: v for k, v in parity.items()},
            **{f"{k}, ms a photo: median, p10, p90": [round(r[q], 1) for q in ("median", "p10", "p90")]
               for k, r in rows.items()},
            "PyTorch / ONNX Runtime: median, p10, p90": [round(told[q], 2) for q in ("median", "p10", "p90")],
        },
    })  # fmt: skip


def unlearned(learned: np.ndarray, given: np.ndarray) -> int:
    """How many samples that were learned as one vector are taken back by the other, with no trace left."""
    nemo = Nemo(learned.shape[1])
    nemo.learn_many(learned, ["kept"] * len(learned))
    before = nemo._gram.copy()
    nemo.learn_many(learned, ["gone"] * len(learned))
    back = 0
    for z in given:
        if nemo.knows(z, "gone"):
            nemo.unlearn(z, "gone")
            back += 1
    assert back < len(given) or np.array_equal(nemo._gram, before)
    return back


def timed(models: dict[str, FewShotClassifier], rgb: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of an answer from a decoded photo."""
    frames: Any = fit(rgb, next(iter(models.values())).net.frame_hw)[None]
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.perf_counter()
            model.net.scores(model.net.features(frames))
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    main()
