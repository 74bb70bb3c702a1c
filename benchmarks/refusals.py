""" "None of these": how often known things are refused at the default vigilance, and which score tells unknown things.

    python benchmarks/refusals.py [--backbone lite2] [--seeds 0 1 ... 9] [--out bench-results/refusals.json]

Four kinds of photographs: 10 of grocery's 41 products (taught in some shops, asked in others), 7 of office-amazon's 10
kinds of things on white, 20 of product-iconic's 81 packages (one studio image each, of which random views are taught
and asked), 10 of COCO's 80 classes (boxes of coco-mini's train, asked about those of val). All other classes are the
unknown things. Ten seeds draw the classes and 3, 6 and 12 samples of each.

At the default vigilance: known things that are refused, known ones that are right, unknown ones that are refused, and
the balanced accuracy, the mean of the last two; once with the expected score as it is, once as version 0.3 had it.
Then scores of "known", without any threshold: AUROC and FPR95 (unknown things above what 95 % of the known have) of
NEMO's whitened cosine and of ten rules from papers, all from what NEMO keeps or could keep.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save
from nemo_rules import coco_boxes

from handful.data import format_folder
from handful.demo import view
from handful.detection.evaluate import unknowns
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.expected import before_0_4
from handful.fewshot.front_end import unit
from handful.fewshot.nemo import GAIN, VIGILANCE, Nemo, Solution, labels_of, none_below
from handful.fewshot.teaching import cache_folder
from handful.image import read_image
from handful.progress import track

EACH = (3, 6, 12)
VIEWS = 24  # of a studio image
REFUSED = 0.1
Vectors = tuple[np.ndarray, np.ndarray]  # (n, d) and the class of each
Score = Callable[["Taught", np.ndarray], np.ndarray]


class Taught:
    """A model and what it was taught, which rules from papers may use."""

    def __init__(self, z: np.ndarray, y: np.ndarray) -> None:
        self.z, self.y = z, y
        self.nemo = Nemo(z.shape[1])
        self.nemo.learn_many(z, y.tolist())
        self.solution: Solution = self.nemo.solve()
        self.means = np.stack([z[y == name].mean(axis=0) for name in self.solution.classes])
        spread = z - z.mean(axis=0)
        self.inverse = self.solution.whiten.T @ self.solution.whiten
        self.total_inverse = np.linalg.inv(spread.T @ spread + self.nemo.ridge * np.eye(z.shape[1]))
        self.basis = np.linalg.svd(z, full_matrices=False)[2]

    def cosine(self, q: np.ndarray) -> np.ndarray:
        return self.solution.scores(q)[:, :-1] / GAIN

    def distance2(self, q: np.ndarray) -> np.ndarray:
        apart = q[:, None] - self.means
        return np.asarray(np.einsum("nkd,de,nke->nk", apart, self.inverse, apart, optimize=True))

    def before(self) -> float:
        """The expected score of version 0.3."""
        one = self.solution
        n = np.array(list(self.nemo.counts.values()), float)
        return before_0_4(n, one.prototypes * one.lengths[:, None], one.whiten, self.nemo.ridge)


def nearest(k: int, *, white: bool = False) -> Score:
    def score(taught: Taught, q: np.ndarray) -> np.ndarray:
        turn = taught.solution.whiten.T if white else np.eye(q.shape[1])
        return np.asarray(np.sort(unit(q @ turn) @ unit(taught.z @ turn).T, axis=1)[:, -k:].mean(axis=1))

    return score


def relative(taught: Taught, q: np.ndarray) -> np.ndarray:
    middle = q - taught.z.mean(axis=0)
    return np.asarray(np.einsum("nd,de,ne->n", middle, taught.total_inverse, middle) - taught.distance2(q).min(axis=1))


def residual(taught: Taught, q: np.ndarray) -> np.ndarray:
    return np.linalg.norm(q - q @ taught.basis.T @ taught.basis, axis=1)


def clipped(taught: Taught, q: np.ndarray) -> np.ndarray:
    """Every number of z held between what 95 % of the taught have, then the cosine."""
    low, high = np.quantile(taught.z, (0.025, 0.975), axis=0)
    return np.asarray(taught.cosine(unit(np.clip(q, low, high))).max(axis=1))


SCORES: dict[str, Score] = {
    "whitened cosine (NEMO)": lambda t, q: t.cosine(q).max(axis=1),
    "margin to the second class": lambda t, q: np.diff(np.sort(t.cosine(q), axis=1)[:, -2:], axis=1)[:, 0],
    "energy (Liu 2020)": lambda t, q: np.log(np.exp(GAIN * t.cosine(q)).sum(axis=1)),
    "Mahalanobis (Lee 2018)": lambda t, q: -t.distance2(q).min(axis=1),
    "relative Mahalanobis (Ren 2021)": relative,
    "nearest sample (Sun 2022)": nearest(1),
    "3 nearest samples": nearest(3),
    "nearest sample, whitened": nearest(1, white=True),
    "residual (ViM, Wang 2022)": lambda t, q: -residual(t, q),
    "cosine and residual (ViM)": lambda t, q: t.cosine(q).max(axis=1) - residual(t, q) / 2,
    "clipped features (ReAct, Sun 2021)": clipped,
    "cosine to the mean, not whitened": lambda t, q: (unit(q) @ unit(t.means).T).max(axis=1),
}


def at(taught: Taught, q: np.ndarray, truth: np.ndarray, none: float) -> dict[str, float]:
    """Shares at a threshold."""
    scores = taught.solution.scores(q)
    scores[:, -1] = GAIN * none
    said = np.array(labels_of(scores, taught.solution.classes, none=""))
    known = np.isin(truth, taught.solution.classes)
    right, refused = float((said == truth)[known].mean()), float((said == "")[~known].mean())
    return {"known_refused": float((said == "")[known].mean()), "known_right": right, "unknown_refused": refused,
            "balanced": (right + refused) / 2}  # fmt: skip


def one(sets: tuple[Vectors, Vectors | None, int], each: int, seed: int) -> dict[str, Any]:
    """One model, asked."""
    (z, y), asked, classes = sets
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(y))[:classes]
    order = rng.permutation(len(z))
    mine = np.concatenate([order[y[order] == name][:each] for name in names])
    rest = np.setdiff1d(np.arange(len(z)), mine)
    q, truth = (z[rest], y[rest]) if asked is None else asked
    taught = Taught(z[mine], y[mine])
    known = np.isin(truth, names)
    own = taught.solution.expected
    found: dict[str, Any] = {
        "now": at(taught, q, truth, none_below(own, VIGILANCE)),
        "before": at(taught, q, truth, none_below(taught.before(), VIGILANCE)),
        "useful": [at(taught, q, truth, none_below(own, v))["known_refused"] for v in (1.2, 4.1)],
    }
    for name, score in SCORES.items():
        value = score(taught, q)
        told = unknowns(value[known], value[~known])
        found[name] = (told["auroc"], told["fpr95"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, default=Path("bench-results/refusals.json"))
    args = parser.parse_args()
    model, data = FewShotClassifier.new(args.backbone, cache=cache_folder()), data_folder()
    embedder = model.embedder

    def folder(place: Path) -> Vectors:
        samples = list(format_folder.read(place))
        rows = [embedder.of_file(sample.path)[0] for sample in track(samples, place.name)]
        return np.stack(rows), np.array([sample.label for sample in samples])

    def studio() -> Vectors:
        rng, rows, labels = np.random.default_rng(0), [], []
        for photo in track(sorted((data / "product-iconic").rglob("*.jpg")), "product-iconic"):
            image = read_image(photo)
            rows += [embedder.vector(view(image, rng)) for _ in range(VIEWS)]
            labels += [photo.stem] * VIEWS
        return np.stack(rows), np.array(labels)

    sets: dict[str, tuple[Vectors, Vectors | None, int]] = {
        "grocery": (folder(data / "grocery/train"), folder(data / "grocery/test"), 10),
        "on white": (folder(data / "office-amazon/images"), None, 7),
        "studio": (studio(), None, 20),
        "COCO boxes": (coco_boxes(data / "coco-mini", "train", embedder.vector, 24),
                       coco_boxes(data / "coco-mini", "val", embedder.vector, 24), 10),
    }  # fmt: skip
    figures: dict[str, Any] = {}
    shares, rules = [], {name: [name] for name in SCORES}
    for name, what in sets.items():
        for each in EACH:
            runs = [one(what, each, seed) for seed in args.seeds]
            row: dict[str, Any] = {"useful": np.mean([run["useful"] for run in runs], axis=0).tolist()}
            for when in ("now", "before"):
                for key in runs[0][when]:
                    values = [run[when][key] for run in runs]
                    row[f"{key}_{when}"] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
            for rule in SCORES:
                row[rule] = dict(zip(("auroc", "fpr95"), np.mean([run[rule] for run in runs], axis=0), strict=True))
                rules[rule].append([100 * float(v) for v in row[rule].values()])
            figures[f"{name} {each}"] = row
            pairs = [[100 * row[f"{key}_{when}"]["mean"] for when in ("now", "before")]
                     for key in ("known_refused", "known_right", "unknown_refused", "balanced")]  # fmt: skip
            shares.append([f"{name}, {each}", *pairs, [100 * v for v in row["useful"]]])
            print(f"{name}, {each} a class: now, before: refused, right, unknown refused, balanced "
                  + ", ".join(f"{a:.1f} {b:.1f}" for a, b in pairs) + "; refused at 1.2 and 4.1: "
                  + " ".join(f"{100 * v:.0f}" for v in row["useful"]), flush=True)  # fmt: skip
            print("   " + ", ".join(f"{k} {100 * row[k]['auroc']:.1f} / {100 * row[k]['fpr95']:.0f}" for k in SCORES),
                  flush=True)  # fmt: skip
    columns = ["", "known refused, now / 0.3", "known right", "unknown refused", "balanced accuracy",
               "known refused at 1.2 / 4.1"]  # fmt: skip
    tables = {
        "default": {"columns": columns, "rows": shares},
        "scores": {"columns": ["AUROC / FPR95", *figures], "rows": list(rules.values())},
    }
    result = {"backbone": args.backbone, "seeds": args.seeds, "vigilance": VIGILANCE, "tables": tables}
    save(args.out, {**result, "spread": "mean and standard deviation over seeds", "figures": figures})


if __name__ == "__main__":
    main()
