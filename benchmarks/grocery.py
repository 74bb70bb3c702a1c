"""How well NEMO learns 41 grocery products: from 12 shelf photos, from one studio image, and among strangers.

    python benchmarks/grocery.py [--backbone lite2] [--base FILE] [--out bench-results/grocery.json]

Ten seeds. Closed set: with 12 of 12 photographs a class there is nothing to draw, so each seed is a bootstrap of the
test photographs; with fewer, each seed draws them. Open set: each seed shuffles the 41 classes and cuts them into
groups of K; each group is taught alone on 12 photographs a class and asked about all 328 test photographs at the
default vigilance, and the F1 values of all groups are averaged. With one or all 41 taught nothing is drawn: one value,
and no spread ("sd": null). Beside NEMO: plain class means with the cosine, on the same features without square root,
centre and projection (for the open set at its best threshold, chosen afterwards: optimistic).

The front end's centre that ships was made with grocery/train among others (without labels). `--base` takes one made
without it: python tools/make_base.py ../shared/data --only lite2 --without grocery --out bench-results/base
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import data_folder, save

from handful.data import format_folder
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.evaluate import measure
from handful.fewshot.front_end import FrontEnd, unit
from handful.fewshot.nemo import Nemo
from handful.fewshot.teaching import cache_folder
from handful.files import read_tensors
from handful.image import read_image
from handful.progress import track

SEEDS = range(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench-results/grocery.json"))
    args = parser.parse_args()
    data = data_folder()
    front = None
    if args.base:
        held = read_tensors(args.base)
        front = FrontEnd(held["centre"].astype(np.float32), held["projection"].astype(np.float32))
    model = FewShotClassifier.new(args.backbone, cache=cache_folder(), front_end=front)

    def load(folder: Path, *, mirror: bool, flat: bool = False) -> tuple[np.ndarray, np.ndarray]:
        samples = format_folder.read(folder, flat=flat)
        raw = [model.embedder.features(read_image(s.path), mirror=mirror) for s in track(samples, folder.name)]
        return np.stack(raw), np.array([s.label for s in samples])

    train, y_train = load(data / "grocery/train", mirror=True)
    test, y_test = load(data / "grocery/test", mirror=False)
    icon, y_icon = load(data / "product-iconic/images", mirror=True, flat=True)
    front = model.embedder.front_end

    def vectors(raw: np.ndarray) -> np.ndarray:
        return unit(front(raw).mean(axis=1))

    z_train, z_test, z_icon = vectors(train), vectors(test), vectors(icon)
    p_train, p_test, p_icon = (unit(raw[:, 0].astype(float)) for raw in (train, test, icon))
    classes = np.unique(y_train)
    shelf_icons = np.isin(y_icon, classes)

    def nemo_scores(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        nemo = Nemo(z.shape[1])
        nemo.learn_many(z, y.tolist())
        solution = nemo.solve()
        return solution.scores(z_test), solution.classes

    def plain_scores(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        names = np.unique(y)
        cosine = p_test @ unit(np.stack([z[y == name].mean(axis=0) for name in names])).T
        return np.concatenate([cosine, np.zeros((len(cosine), 1))], axis=1), tuple(names)

    result: dict[str, dict[str, object]] = {}

    def tell(name: str, values: list[float], plain: list[float], note: str = "") -> None:
        # one value, where nothing is drawn, has no spread: None, and not the 0 of two that are the same
        mean, p = float(np.mean(values)), float(np.mean(plain))
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result[name] = {
            "mean": mean,
            "sd": spread,
            "values": values,
            "plain_mean": p,
            "plain_values": plain,
            "note": note,
        }
        told = "once    " if spread is None else f"+- {spread:.3f}"
        print(f"{name:34s} {mean:.3f} {told}   plain class means {p:.3f}   {note}", flush=True)

    def closed(scores: np.ndarray, names: tuple[str, ...], which: np.ndarray) -> float:
        return float(measure(scores[which], y_test[which].tolist(), names)["accuracy"])

    everything = np.arange(len(y_test))
    resamples = [np.random.default_rng(seed).integers(0, len(y_test), len(y_test)) for seed in SEEDS]
    for name, rows in (
        ("train, 12 a class", None),
        ("studio image, 41 classes", shelf_icons),
        ("studio image, 81 classes", shelf_icons | True),
    ):
        ours = nemo_scores(z_train, y_train) if rows is None else nemo_scores(z_icon[rows], y_icon[rows])
        base = plain_scores(p_train, y_train) if rows is None else plain_scores(p_icon[rows], y_icon[rows])
        tell(
            f"accuracy, {name}",
            [closed(*ours, r) for r in resamples],
            [closed(*base, r) for r in resamples],
            f"all photos: {closed(*ours, everything):.3f}, plain class means {closed(*base, everything):.3f}",
        )
    for shots in (1, 5):
        ours, base = [], []
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            ix = np.concatenate([rng.choice(np.where(y_train == name)[0], shots, replace=False) for name in classes])
            ours.append(closed(*nemo_scores(z_train[ix], y_train[ix]), everything))
            base.append(closed(*plain_scores(p_train[ix], y_train[ix]), everything))
        tell(f"accuracy, train, {shots} a class", ours, base)

    thresholds = np.linspace(0.3, 1.0, 141)
    for k in (1, 2, 5, 10, 20, 41):
        ours, plain_curves, aurocs = [], [], []
        for seed in SEEDS if 1 < k < 41 else [0]:
            order = np.random.default_rng(seed).permutation(classes)
            f1, curves, roc = [], [], []
            for start in range(0, len(order) - k + 1, k):
                ix = np.isin(y_train, order[start : start + k])
                got = measure(*_with_truth(nemo_scores(z_train[ix], y_train[ix]), y_test))
                f1.append(got["open_f1"])
                if got["unknown_auroc"] is not None:
                    roc.append(got["unknown_auroc"])
                scores, names = plain_scores(p_train[ix], y_train[ix])
                curve = []
                for threshold in thresholds:
                    scores[:, -1] = threshold
                    curve.append(measure(scores, y_test.tolist(), names)["open_f1"])
                curves.append(curve)
            ours.append(float(np.mean(f1)))
            plain_curves.append(np.mean(curves, axis=0))
            aurocs.append(float(np.mean(roc)) if roc else float("nan"))
        best = int(np.mean(plain_curves, axis=0).argmax())
        note = f"AUROC {np.mean(aurocs):.3f}" if k < 41 else ""
        tell(f"open-set F1, {k} of 41 taught", ours, [float(c[best]) for c in plain_curves], note)
    one, two = (float(result[f"open-set F1, {k} of 41 taught"]["mean"]) for k in (1, 2))  # type: ignore[arg-type]
    print(f"K = 1 and K = 2 differ by {100 * abs(one - two) / max(one, two):.1f} %")
    mine = "mean made without grocery" if args.base else "mean as shipped"
    rows = [[k, {"mean": v["mean"], "sd": v["sd"]}, v["plain_mean"]] for k, v in result.items()]
    about = {"backbone": args.backbone, "base": str(args.base or "shipped"), "vigilance": 3.0, "seeds": list(SEEDS)}
    spread = "mean and standard deviation over the seeds; sd null where nothing is drawn"
    tables = {"grocery": {"columns": ["", mine, "plain class means"], "rows": rows}}
    apart = {"K = 1 and K = 2 apart, %": 100 * abs(one - two) / max(one, two)}
    save(args.out, {**about, "spread": spread, "tables": tables, "figures": {**apart, "values": result}})


def _with_truth(
    given: tuple[np.ndarray, tuple[str, ...]], truth: np.ndarray
) -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    return given[0], truth.tolist(), given[1]


if __name__ == "__main__":
    main()
