"""How fast NEMO learns, beside scikit-learn's linear discriminant analysis and nearest centroid, in one run.

    python benchmarks/teach.py [--out bench-results/teach.json]

Time: 80 classes x 20 samples of 512 numbers, from cached features to ready to answer, and one more sample after its
embedding; 21 rounds, each rival once a round in turn, after one that is not counted. Time does not depend on the
values, so these are normal deviates of seed 0. Accuracy: grocery, 41 classes x 12 photographs (lite2), the same vectors
for all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from handful.data import format_folder
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import Nemo
from handful.fewshot.teaching import cache_folder
from handful.image import read_image
from handful.progress import track

ROUNDS = 21
REST_S = 0.2  # threads of the rival before may spin for a while; they must not be timed as part of the next


def nemo(z: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    learner = Nemo(z.shape[1])
    learner.learn_many(z, y.tolist())
    solution = learner.solve()
    return lambda q: np.array(solution.classes)[solution.scores(q)[:, :-1].argmax(axis=1)]


def lda(z: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(z, y).predict  # type: ignore[no-any-return]


def centroid(z: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return NearestCentroid().fit(z, y).predict  # type: ignore[no-any-return]


RIVALS = {"NEMO": nemo, "LDA (lsqr, shrinkage 0.3)": lda, "nearest centroid": centroid}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/teach.json"))
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    z = unit(rng.normal(size=(1600, 512)))
    y = np.array([f"class {k:02d}" for k in np.arange(1600) % 80])
    times: dict[str, list[float]] = {name: [] for name in RIVALS}
    one: list[float] = []
    learner = Nemo(512)
    learner.learn_many(z, y.tolist())
    for round_ in range(ROUNDS + 1):
        for name, fit in RIVALS.items():
            time.sleep(REST_S)
            start = time.perf_counter()
            fit(z, y)
            times[name].append((time.perf_counter() - start) * 1e3)
        extra = unit(rng.normal(size=512))
        time.sleep(REST_S)
        start = time.perf_counter()
        learner.learn(extra, "class 00")
        one.append((time.perf_counter() - start) * 1e3)
        if round_ == 0:
            one.clear()
            for kept in times.values():
                kept.clear()
    accuracy = on_grocery()
    rows: dict[str, Any] = {}
    for name, kept in times.items():
        ratio = np.array(kept) / np.array(times["NEMO"])
        rows[name] = {"median_ms": float(np.median(kept)), "p10_ms": float(np.quantile(kept, 0.1)),
                      "p90_ms": float(np.quantile(kept, 0.9)),
                      "times_nemo": float(np.median(ratio)),
                      "times_nemo_p10_p90": np.quantile(ratio, [0.1, 0.9]).tolist(),
                      "accuracy": accuracy[name]}  # fmt: skip
        print(
            f"{name:26s} 80 x 20: {np.median(kept):6.1f} ms (p10 {np.quantile(kept, 0.1):.1f}, p90 "
            f"{np.quantile(kept, 0.9):.1f}), {np.median(ratio):.2f} x NEMO   grocery accuracy {accuracy[name]:.3f}"
        )
    print(f"one sample after its embedding: {np.median(one):.2f} ms (p90 {np.quantile(one, 0.9):.2f})")
    save(
        args.out,
        {"rows": rows, "one_sample_ms": {"median": float(np.median(one)), "p90": float(np.quantile(one, 0.9))}},
    )


def on_grocery() -> dict[str, float]:
    """Closed-set accuracy of each rival on the same vectors."""
    data = data_folder()
    embedder = FewShotClassifier.new("lite2", cache=cache_folder()).embedder
    train, test = (format_folder.read(data / "grocery" / part) for part in ("train", "test"))
    z = np.stack([embedder.teach_vector(read_image(s.path)) for s in track(train, "train")])
    q = np.stack([embedder.vector(read_image(s.path)) for s in track(test, "test")])
    y, truth = np.array([s.label for s in train]), np.array([s.label for s in test])
    return {name: float((fit(z, y)(q) == truth).mean()) for name, fit in RIVALS.items()}


if __name__ == "__main__":
    main()
