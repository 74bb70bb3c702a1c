"""Candidate rules for NEMO, on the same vectors: grocery products and COCO boxes, closed set and open set.

    python benchmarks/nemo_rules.py [--backbone lite2] [--out bench-results/nemo_rules.json]

Five seeds draw the samples. COCO boxes: coco-mini train (samples) against coco-mini val, padded 10 %, sides of 16 px or
more, the first 24 of each of 80 classes. Open set: K classes are taught, all other photographs are strangers; F1 at
the best threshold of the rule over all draws of that K (so a rule is not punished for its scale), and in brackets at
the one threshold that is best for K = 1, 2 and 10 together, which is what a user with one setting gets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save
from scipy.linalg import cho_factor, cho_solve

from handful.data import format_folder
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import GAIN, Nemo
from handful.fewshot.teaching import cache_folder
from handful.image import read_image
from handful.progress import track
from handful.types import Image

SEEDS = range(5)
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def means(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(y)
    return names, np.stack([z[y == name].mean(axis=0) for name in names])


def scatter(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, int]:
    rest = np.concatenate([z[y == name] - z[y == name].mean(axis=0) for name in np.unique(y)])
    return rest.T @ rest, max(1, len(z) - len(np.unique(y)))


def class_means(z: np.ndarray, y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names, m = means(z, y)
    return q @ unit(m).T, names


def nearest_sample(z: np.ndarray, y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(y)
    cosine = q @ z.T
    return np.stack([cosine[:, y == name].max(axis=1) for name in names], axis=1), names


def _linear(z: np.ndarray, y: np.ndarray, q: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names, m = means(z, y)
    a = cho_solve(cho_factor(w), m.T).T
    return q @ a.T - 0.5 * np.sum(a * m, axis=1), names


def lda_shrinkage(z: np.ndarray, y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r, dof = scatter(z, y)
    w, d = r / dof, z.shape[1]
    t = np.trace(w) / d or 1.0
    return _linear(z, y, q, 0.7 * w + 0.3 * t * np.eye(d))


def lda_ridge(z: np.ndarray, y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r, dof = scatter(z, y)
    return _linear(z, y, q, (r + 0.25 * np.eye(z.shape[1])) / dof)


def nemo(z: np.ndarray, y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    learner = Nemo(z.shape[1])
    learner.learn_many(z, y.tolist())
    solution = learner.solve()
    scores = solution.scores(q)
    return (scores[:, :-1] - scores[:, -1:]) / GAIN, np.array(solution.classes)


RULES: dict[str, Rule] = {
    "class means, cosine": class_means,
    "nearest sample, cosine": nearest_sample,
    "LDA, shrinkage 0.3": lda_shrinkage,
    "LDA, ridge": lda_ridge,
    "NEMO: whitened cosine, ridge": nemo,
}


def open_f1(score: np.ndarray, right: np.ndarray, known: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    order = np.argsort(-score)
    tp = np.concatenate([[0], np.cumsum(right[order])])
    said = np.searchsorted(-score[order], -thresholds, "right")
    return 2 * tp[said] / (said + known.sum())


def coco_boxes(
    folder: Path, split: str, embed: Callable[[Image], np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray]:
    held = json.loads((folder / f"instances_{split}.json").read_text())
    files = {image["id"]: image["file_name"] for image in held["images"]}
    rows, labels = [], []
    open_file, rgb = "", np.zeros((1, 1, 3), np.uint8)
    for note in track(sorted(held["annotations"], key=lambda a: a["image_id"]), f"COCO {split}"):
        x, y, w, h = note["bbox"]
        if note.get("iscrowd") or min(w, h) < 16 or labels.count(f"{note['category_id']:02d}") >= most:
            continue
        if files[note["image_id"]] != open_file:
            open_file = files[note["image_id"]]
            rgb = read_image(folder / "images" / split / open_file).rgb_u8
        top, left = max(0, int(y - 0.1 * h)), max(0, int(x - 0.1 * w))
        rows.append(embed(Image(rgb[top : int(y + 1.1 * h) + 1, left : int(x + 1.1 * w) + 1])))
        labels.append(f"{note['category_id']:02d}")
    return np.stack(rows), np.array(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--out", type=Path, default=Path("bench-results/nemo_rules.json"))
    args = parser.parse_args()
    data = data_folder()
    embedder = FewShotClassifier.new(args.backbone, cache=cache_folder()).embedder

    def grocery(part: str, embed: Callable[[Image], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        samples = format_folder.read(data / "grocery" / part)
        rows = [embed(read_image(s.path)) for s in track(samples, part)]
        return np.stack(rows), np.array([s.label for s in samples])

    sets = {
        "grocery": (grocery("train", embedder.teach_vector), grocery("test", embedder.vector), (1, 5, 12)),
        "COCO boxes": (coco_boxes(data / "coco-mini", "train", embedder.vector, 24),
                       coco_boxes(data / "coco-mini", "val", embedder.vector, 24), (1, 5, 20)),
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for where, ((z, y), (q, truth), shots) in sets.items():
        classes = np.intersect1d(np.unique(y), np.unique(truth))
        for name, rule in RULES.items():
            row: dict[str, Any] = {"data": where, "rule": name}
            for k in shots:
                got = []
                for seed in SEEDS:
                    ix = draw(y, np.unique(y), k, seed)
                    scores, names = rule(z[ix], y[ix], q)
                    got.append(float((names[scores.argmax(axis=1)] == truth).mean()))
                row[f"accuracy_{k}"] = [float(np.mean(got)), float(np.std(got, ddof=1))]
            curves = {}
            held = {k: list(open_runs(rule, z, y, q, truth, classes, k, max(shots))) for k in (1, 2, 10)}
            every = np.concatenate([score for runs in held.values() for score, _, _ in runs])
            thresholds = np.quantile(every, np.linspace(0.01, 0.9995, 400))
            for k, runs in held.items():
                curves[k] = np.mean([open_f1(*run, thresholds) for run in runs], axis=0)
            one = int(np.mean(list(curves.values()), axis=0).argmax())
            row["open_f1"] = {k: [float(c.max()), float(c[one])] for k, c in curves.items()}
            rows.append(row)
            closed = "  ".join(f"{k}: {row[f'accuracy_{k}'][0]:.3f}+-{row[f'accuracy_{k}'][1]:.3f}" for k in shots)
            opened = "  ".join(f"K={k} {best:.3f} ({fixed:.3f})" for k, (best, fixed) in row["open_f1"].items())
            print(f"{where:11s} {name:30s} {closed}   {opened}", flush=True)
    save(args.out, {"rows": rows, "backbone": args.backbone, "seeds": len(SEEDS)})


def draw(y: np.ndarray, classes: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """At most `shots` samples of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.where(y == name)[0])[:shots] for name in classes])


def open_runs(rule, z, y, q, truth, classes, k, shots):  # type: ignore[no-untyped-def]
    """(score, right, known) for groups of K classes."""
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(classes)[: max(k, 20)]
        for start in range(0, len(order) - k + 1, k):
            chosen = order[start : start + k]
            ix = draw(y, chosen, shots, seed)
            scores, names = rule(z[ix], y[ix], q)
            yield scores.max(axis=1), names[scores.argmax(axis=1)] == truth, np.isin(truth, chosen)


if __name__ == "__main__":
    main()
