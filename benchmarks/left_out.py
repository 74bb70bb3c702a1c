"""What `handful teach` says of left-out images, held against images that were not taught.

    python benchmarks/left_out.py [--backbone lite2] [--seeds 0 1 ... 9] [--out bench-results/left_out.json]

Ten seeds draw the taught classes and 3, 6 or 12 photographs of each: 10 of grocery's 41 products, asked about its test
photographs, which were taken in other shops, and 7 of office-amazon's 10 kinds of product on white, asked about the
rest of their photographs. Told by leaving out: the shares of taught photographs that would be right and refused. Held
against the same shares of photographs not taught, at the default vigilance; then at the one suggested, if there is one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

from handful.data import format_folder
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.left_out import leave_out
from handful.fewshot.nemo import GAIN, VIGILANCE, Nemo, labels_of, none_below
from handful.fewshot.teaching import cache_folder
from handful.progress import track

KEYS = ("told_right", "right", "told_refused", "refused", "unknown_accepted", "suggested", "then_right",
        "then_refused", "then_unknown_accepted")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, default=Path("bench-results/left_out.json"))
    args = parser.parse_args()
    model = FewShotClassifier.new(args.backbone, cache=cache_folder())

    def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        samples = list(format_folder.read(folder))
        rows = [model.embedder.of_file(sample.path)[0] for sample in track(samples, folder.name)]
        return np.stack(rows), np.array([sample.label for sample in samples])

    data = data_folder()
    sets = {"grocery": (load(data / "grocery/train"), load(data / "grocery/test"), 10),
            "office-amazon": (load(data / "office-amazon/images"), None, 7)}  # fmt: skip
    rows: dict[str, Any] = {}
    for name, (taught, asked, classes) in sets.items():
        for each in (3, 6, 12):
            runs = [one(taught, asked, classes, each, seed) for seed in args.seeds]
            row = {key: [run[key] for run in runs] for key in KEYS}
            told = {key: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))} for key, v in row.items()}
            rows[f"{name} {each}"] = told
            print(f"{name}, {each} a class: " + ", ".join(f"{k} {v['mean']:.3f} (sd {v['sd']:.3f})"
                  for k, v in told.items()), flush=True)  # fmt: skip
    save(args.out, {"backbone": args.backbone, "seeds": args.seeds, "spread": "mean and standard deviation over seeds",
                    "vigilance": VIGILANCE, "tables": {"left out": table(rows)}, "figures": rows})  # fmt: skip


def table(rows: dict[str, Any]) -> dict[str, Any]:
    """As docs/choices.md shows it."""

    def share(row: dict[str, Any], key: str) -> float:
        return float(100 * row[key]["mean"])

    body = []
    for name, row in rows.items():
        shares = [share(row, key) for key in ("told_refused", "refused", "then_refused", "then_right")]
        accepted = [share(row, "unknown_accepted"), share(row, "then_unknown_accepted")]
        title = ", ".join(name.replace("office-amazon", "on white").rsplit(" ", 1))
        body.append([title, *shares[:2], row["suggested"]["mean"], *shares[2:], accepted])
    columns = ["photos a class", "told: refused", "refused", "suggested", "then refused", "then right",
               "unknown accepted, before / then"]  # fmt: skip
    return {"columns": columns, "rows": body}


def one(taught: Any, asked: Any, classes: int, each: int, seed: int) -> dict[str, float]:
    """One model: what it says of itself, and what it does."""
    draw = np.random.default_rng(seed)
    z, y = taught
    names = draw.permutation(np.unique(y))[:classes]
    order = draw.permutation(len(z))
    mine = np.concatenate([order[y[order] == name][:each] for name in names])
    rest = np.setdiff1d(np.arange(len(z)), mine)
    z_test, y_test = (z[rest], y[rest]) if asked is None else asked
    nemo = Nemo(z.shape[1])
    nemo.learn_many(z[mine], y[mine].tolist())
    solution = nemo.solve()
    said = leave_out(solution, nemo.counts, z[mine], y[mine].tolist(), y[mine].tolist(), nemo.vigilance)
    scores = solution.scores(z_test)
    suggested = nemo.vigilance if said.suggested is None else said.suggested
    then = scores.copy()
    then[:, -1] = GAIN * none_below(solution.expected, suggested)
    now, later = (shares(s, y_test, solution.classes) for s in (scores, then))
    return {
        "told_right": said.right / said.images, "told_refused": said.refused / said.images, "suggested": suggested,
        **now, **{f"then_{key}": value for key, value in later.items()},
    }  # fmt: skip


def shares(scores: np.ndarray, truth: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Of known things the shares that are right and refused, of unknown ones the share that is accepted."""
    said = np.array(labels_of(scores, classes, none=""))
    known = np.isin(truth, classes)
    return {"right": float((said == truth)[known].mean()), "refused": float((said == "")[known].mean()),
            "unknown_accepted": float((said != "")[~known].mean())}  # fmt: skip


if __name__ == "__main__":
    main()
