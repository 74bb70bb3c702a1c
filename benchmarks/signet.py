"""SigNet on CIFAR-10: accuracy on the 10,000 test photos, minutes, parameters, and the way there.

    python benchmarks/signet.py [--seeds 0 1 2] [--epochs 30] [--threads 2] [--work DIR] [--quick] [--json] [--out FILE]

Trained by `handful train classify` on all 50,000 train photos, once a seed; the settings were chosen on 45,000 of them
against the other 5,000. The weights are those of the last epoch: the test photos choose nothing, they are only measured
after every epoch to draw the way. `accuracy_mirrored` also asks about each photo's mirror image. The line at 80.5 % is
what the 2018 report gives for its own compact network. Stopped, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import data_folder, save

from handful.data.archive import opened
from handful.files import cache_home, read_json, replacing, replacing_folder, to_json
from handful.train.judge import evaluate
from handful.train.loss import Loss
from handful.train.recipe_classify import run
from handful.train.views import TINY

REPORT_2018 = 0.805
WANTED = 0.92
PLAN: dict[str, Any] = {
    "batch": 256, "lr": 0.4, "lr_bias": 32.0, "optimizer": "sgd", "momentum": 0.85, "weight_decay": 0.00133,
    "schedule": "cosine", "warmup": 0.2, "clip": None, "ema": 0.99,
}  # fmt: skip
VIEWS = replace(TINY, cutout=0.25)


def photos(work: Path) -> Path:
    """A folder with train/CLASS/PHOTO and test/CLASS/PHOTO, unpacked once."""
    home = work / "cifar10"
    if not home.exists():
        with replacing_folder(home) as part:
            for split in ("train", "test"):
                found = opened(data_folder() / "cifar10" / f"{split}.tar.xz", cache=work)
                shutil.copytree(found / split, part / split)
    return home


def draw(path: Path, runs: list[dict[str, Any]]) -> None:
    """Accuracy after every epoch against minutes, a line a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for run_, colour in zip(runs, ("#4878a8", "#6aa66a", "#d9a441", "#a86a6a", "#7a6aa8"), strict=False):
        rows = run_["history"]
        minutes, accuracy = [r["seconds"] / 60 for r in rows], [100 * r["accuracy"] for r in rows]
        axes.plot(minutes, accuracy, marker=".", color=colour, label=f"seed {run_['seed']}: {accuracy[-1]:.2f} %")
    axes.axhline(100 * REPORT_2018, color="#888888", ls="--", lw=1)
    axes.text(
        0.2, 100 * REPORT_2018 + 0.3, "80.5 %: the compact network of the 2018 report", fontsize=8, color="#666666"
    )
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("CIFAR-10 test accuracy, %")
    axes.set_title(f"SigNet, {runs[0]['params']:,} parameters", fontsize=10)
    axes.set_ylim(55, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--net", default="signet")
    parser.add_argument("--width", type=float, default=1.5, help="times SigNet's channels")
    parser.add_argument("--work", type=Path, help="where photos and runs are kept  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="1,000 photos and 3 epochs, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="also draw the way there, a PNG")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("signet.work")) / "signet"
    work.mkdir(parents=True, exist_ok=True)
    data = data_folder() / "cifar10" / "mini" if options.quick else photos(work)
    epochs = 3 if options.quick else options.epochs
    runs = []
    for seed in options.seeds:
        out = work / f"{options.net.replace(':', '-')}-{options.width}-{'quick' if options.quick else epochs}-{seed}"
        if not (out / "handful.json").exists():
            run(data, out, net=options.net, epochs=epochs, seed=seed, threads=options.threads, workers=1, keep="last",
                args={"width": options.width}, loss=Loss(smoothing=0.2), views=VIEWS, val_split="test",
                format="folder", resume=True, **PLAN)  # fmt: skip
        found, record = evaluate(out, data, split="test", format="folder", batch=256), read_json(out / "train.json")
        runs.append({k: found[k] for k in ("accuracy", "accuracy_mirrored", "mean_accuracy", "params", "macs", "seed",
                                           "minutes")} | {"history": record["history"]})  # fmt: skip
        print(f"seed {seed}: {100 * found['accuracy']:.2f} %, mirrored {100 * found['accuracy_mirrored']:.2f} %, "
              f"{found['minutes']:.1f} min", flush=True)  # fmt: skip
    accuracy = [r["accuracy"] for r in runs]
    result = {
        "net": options.net, "width": options.width, "params": runs[0]["params"], "macs": runs[0]["macs"],
        "epochs": epochs, "threads": options.threads,
        "accuracy": {"mean": statistics.fmean(accuracy), "least": min(accuracy), "most": max(accuracy)},
        "accuracy_mirrored": statistics.fmean(r["accuracy_mirrored"] for r in runs),
        "minutes": {"mean": statistics.fmean(r["minutes"] for r in runs), "most": max(r["minutes"] for r in runs)},
        "wanted": WANTED, "report_2018": REPORT_2018, "runs": runs,
    }  # fmt: skip
    print(to_json(result) if options.json else
          f"{options.net}: {100 * result['accuracy']['mean']:.2f} % ({100 * min(accuracy):.2f} to "
          f"{100 * max(accuracy):.2f}, {len(runs)} seeds), {result['params']:,} parameters, "
          f"{result['minutes']['mean']:.1f} min on {options.threads} thread(s)")  # fmt: skip
    if options.picture:
        draw(options.picture, runs)
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
