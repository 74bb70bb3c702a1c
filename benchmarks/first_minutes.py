"""A new user's first minutes: teach from photos, teach again, ask; beside a plain PyTorch loop with scikit-learn.

    python benchmarks/first_minutes.py [--rounds 5] [--many-rounds 2] [--out bench-results/first_minutes.json]

Photos are grocery's. Each command is a process of its own, from its start to its end, in turn with the others:
`handful teach` of 36 photos (6 classes) with nothing cached, the same again, the same on PyTorch with nothing cached,
and a loop: the same network (lite2, 320 px) and photos, each and its mirror image, batches of 16, torch's own threads,
and scikit-learn's linear discriminant analysis on these features. Then 480 photos. Asking is warm, in one process: from
a photo's file to the answer, one photo after another, and all side by side. Learning alone is on the same 36 vectors.
Ratios are of each round, median and range; CPU is the time of all processors, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

BATCH = 16
ASKED = 40


def folders_of(source: Path, to: Path, classes: int, each: int) -> Path:
    """A folder a class, of so many photos."""
    for shelf in sorted(p for p in source.iterdir() if p.is_dir())[:classes]:
        (to / shelf.name).mkdir(parents=True)
        for photo in sorted(shelf.iterdir())[:each]:
            shutil.copyfile(photo, to / shelf.name / photo.name)
    return to


def pytorch_features(paths: list[Path], mirror: bool = True) -> Any:
    """(n, 1280): what a plain loop computes."""
    import torch
    from PIL import Image

    from handful.models import backbone

    network = backbone.build("lite2")
    card, rows = network.card, []
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (card.mean, card.std))
    for start in range(0, len(paths), BATCH):
        pixels = [
            np.array(Image.open(p).convert("RGB").resize((card.size_px,) * 2)) for p in paths[start : start + BATCH]
        ]
        x = torch.stack([(torch.from_numpy(p).permute(2, 0, 1).float() / 255 - mean) / std for p in pixels])
        with torch.inference_mode():
            features = network(x)
            rows.append((features + network(x.flip(3))) / 2 if mirror else features)
    return torch.cat(rows).numpy()


def pytorch_loop(folder: Path) -> None:
    """The peer's whole program."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    features = pytorch_features(paths)
    z = features / np.linalg.norm(features, axis=1, keepdims=True)
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(z, [p.parent.name for p in paths])


def command(words: list[str], cache: Path | None) -> dict[str, float]:
    """Seconds on the wall, and of CPU, of one process."""
    env = {**os.environ, "HANDFUL_CACHE": "" if cache is None else str(cache)}
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=env)
    wall, after = time.perf_counter() - start, os.times()
    own = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return {"wall_s": wall, "cpu_s": own}


def taught(photos: Path, place: Path, cache: Path, *more: str) -> dict[str, float]:
    shutil.rmtree(place, ignore_errors=True)
    return command(["-m", "handful", "teach", str(photos), "--out", str(place), *more], cache)


def rounds_of(photos: Path, home: Path, rounds: int, again: bool) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        cache, other = (home / f"{name} {number}" for name in ("cache", "other"))
        found.setdefault("handful teach", []).append(taught(photos, home / "model", cache))
        if again:
            found.setdefault("handful teach, again", []).append(taught(photos, home / "model", cache))
            found.setdefault("handful teach --engine torch", []).append(
                taught(photos, home / "on torch", other, "--engine", "torch")
            )
        found.setdefault("PyTorch loop and scikit-learn", []).append(command([__file__, "--loop", str(photos)], None))
        for place in (cache, other):
            shutil.rmtree(place, ignore_errors=True)
    return found


def summary(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, kept in found.items():
        rows[name] = {}
        for what in ("wall_s", "cpu_s"):
            values = [row[what] for row in kept]
            ratio = [row[what] / own[what] for row, own in zip(kept, found["handful teach"], strict=True)]
            rows[name][what] = {"median": float(np.median(values)), "least": min(values), "most": max(values),
                                "times_handful": float(np.median(ratio)), "times_least": min(ratio),
                                "times_most": max(ratio)}  # fmt: skip
        wall, cpu = rows[name]["wall_s"], rows[name]["cpu_s"]
        print(f"{name:32s} {wall['median']:6.2f} s ({wall['least']:.2f} to {wall['most']:.2f}), "
              f"CPU {cpu['median']:.2f} s; "
              f"{wall['times_handful']:.2f} x handful teach ({wall['times_least']:.2f} to {wall['times_most']:.2f}), "
              f"CPU {cpu['times_handful']:.2f} x")  # fmt: skip
    return rows


def asking(model: Path, paths: list[Path]) -> dict[str, Any]:
    """Milliseconds a photo, warm."""
    import torch

    import handful
    from handful.models import backbone

    ours = handful.load(model, "classifier")
    network = backbone.build("lite2")
    ours.predict(paths[:2])
    times: dict[str, list[float]] = {"handful": [], "handful, side by side": [], "PyTorch": []}

    def clocked(name: str, count: int, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        times[name].append((time.perf_counter() - start) * 1e3 / count)

    def loop(path: Path) -> None:
        from PIL import Image

        card = network.card
        pixels = np.array(Image.open(path).convert("RGB").resize((card.size_px,) * 2))
        x = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 - 127 / 255) / (128 / 255)
        with torch.inference_mode():
            network(x)

    loop(paths[0])
    for path in paths:
        clocked("handful", 1, lambda path=path: ours.predict(path))  # type: ignore[misc]
        clocked("PyTorch", 1, lambda path=path: loop(path))  # type: ignore[misc]
    for start in range(0, len(paths), 10):
        some = paths[start : start + 10]
        clocked("handful, side by side", len(some), lambda some=some: ours.predict(some))  # type: ignore[misc]
    ratio = np.array(times["PyTorch"]) / np.array(times["handful"])
    rows = {name: {"median": float(np.median(v)), "p10": float(np.quantile(v, 0.1)), "p90": float(np.quantile(v, 0.9))}
            for name, v in times.items()}  # fmt: skip
    told = {"median": float(np.median(ratio)), "p10": float(np.quantile(ratio, 0.1)),
            "p90": float(np.quantile(ratio, 0.9))}  # fmt: skip
    for name, row in rows.items():
        print(f"asking, {name:24s} {row['median']:.1f} ms a photo (p10 {row['p10']:.1f}, p90 {row['p90']:.1f})")
    print(f"PyTorch / handful: {told['median']:.2f} (p10 {told['p10']:.2f}, p90 {told['p90']:.2f})")
    return {"ms_a_photo": rows, "pytorch_over_handful": told}


def learning(photos: Path) -> dict[str, Any]:
    """Milliseconds from 36 vectors to ready to answer, beside scikit-learn on the same."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression

    from handful.fewshot.classifier import FewShotClassifier
    from handful.fewshot.nemo import Nemo

    embedder = FewShotClassifier.new("lite2").embedder
    paths = sorted(p for p in photos.rglob("*") if p.is_file())
    z, y = np.stack([embedder.of_file(p)[0] for p in paths]), [p.parent.name for p in paths]

    def ours() -> object:
        learner = Nemo(z.shape[1])
        learner.learn_many(z, y)
        return learner.solve()

    rivals: dict[str, Callable[[], object]] = {
        "NEMO": ours,
        "LDA (lsqr, shrinkage 0.3)": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(z, y),
        "logistic regression": lambda: LogisticRegression(C=10.0, max_iter=500).fit(z, y),
    }
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(12):
        for name, fit in rivals.items():
            time.sleep(0.1)  # threads of the one before may spin for a while
            start = time.perf_counter()
            fit()
            times[name].append((time.perf_counter() - start) * 1e3)
    rows = {}
    for name, kept in times.items():
        ratio = np.array(kept[1:]) / np.array(times["NEMO"][1:])
        rows[name] = {"median_ms": float(np.median(kept[1:])), "times_nemo": float(np.median(ratio)),
                      "times_p10_p90": np.quantile(ratio, [0.1, 0.9]).tolist()}  # fmt: skip
        print(
            f"learning 36 vectors, {name:26s} {rows[name]['median_ms']:.1f} ms, {rows[name]['times_nemo']:.2f} x NEMO"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results/first_minutes.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many-rounds", type=int, default=2)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop is not None:
        pytorch_loop(args.loop)
        return
    source = data_folder() / "grocery" / "train"
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        few = folders_of(source, home / "few", 6, 6)
        many = folders_of(source, home / "many", 40, 12)
        counts = [sum(p.is_file() for p in folder.rglob("*")) for folder in (few, many)]
        print(f"{counts[0]} photos")
        first = summary(rounds_of(few, home, args.rounds, True))
        asked = [p for p in sorted((data_folder() / "grocery" / "test").rglob("*")) if p.is_file()][::7][:ASKED]
        ask = asking(home / "model", asked)
        learn = learning(few)
        print(f"{counts[1]} photos")
        second = summary(rounds_of(many, home, args.many_rounds, False))
    figures: dict[str, Any] = {}
    for count, rows in zip(counts, (first, second), strict=True):
        for name, row in rows.items():
            wall, cpu = row["wall_s"], row["cpu_s"]
            figures[f"{count} photos, {name}, s: median, least, most"] = [
                round(wall[k], 1) for k in ("median", "least", "most")
            ]
            figures[f"{count} photos, {name}, CPU s"] = round(cpu["median"], 1)
            figures[f"{count} photos, {name} / handful teach: median, least, most; CPU"] = [
                *(round(wall[k], 2) for k in ("times_handful", "times_least", "times_most")),
                round(cpu["times_handful"], 2),
            ]
    for name, row in ask["ms_a_photo"].items():
        figures[f"asking, {name}, ms a photo: median, p10, p90"] = [round(row[k], 1) for k in ("median", "p10", "p90")]
    told = ask["pytorch_over_handful"]
    figures["asking, PyTorch / handful: median, p10, p90"] = [round(told[k], 2) for k in ("median", "p10", "p90")]
    for name, row in learn.items():
        figures[f"learning, {name}: ms, times NEMO"] = [round(row["median_ms"], 1), round(row["times_nemo"], 2)]
    figures["load average"] = round(os.getloadavg()[0], 1)
    save(args.out, {
        "photos": counts, "commands": {"few": first, "many": second}, "asking": ask, "learning": learn,
        "load_average": os.getloadavg(), "seeds": [0],
        "spread": f"median, least and most of {args.rounds} and {args.many_rounds} rounds; p10 and p90 of {ASKED} "
                  "photos",
        "figures": figures,
    })  # fmt: skip


if __name__ == "__main__":
    main()
