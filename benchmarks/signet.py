"""SigNet on CIFAR-10: accuracy on the 10,000 test photos, minutes, parameters, and the way there.

    python benchmarks/signet.py [--nets signet:lite0 signet] [--seeds 0 1 2] [--epochs N] [--threads 2] [--work DIR]
                                [--picture PNG] [--quick] [--json] [--out FILE]

Trained as `handful train classify` does where nothing else is said, on all 50,000 train photos, once a seed; the
settings were chosen on 45,000 of them against the other 5,000. `signet:lite0` begins with EfficientNet-Lite0's ImageNet
weights, its first stages stay as they are; `signet` begins with nothing but a first layer that whitens. The weights are
those of the last epoch: the test photos choose nothing, they are only measured after every epoch to draw the way.
`accuracy_mirrored` also asks about each photo's mirror image, as the published airbench figures do. The photos are
JPEGs (quality 75, colors at half the size), from which any network knows less than from the original pixels. The line
at 80.5 % is what the 2018 report gives for its own compact network. Stopped, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

from common import data_folder, save

from handful.data.archive import opened
from handful.files import cache_home, read_json, replacing, replacing_folder, to_json
from handful.training.evaluate_classify import evaluate
from handful.training.recipe_classify import run

REPORT_2018 = 0.805
WANTED = 0.92
PLANS: dict[str, dict[str, Any]] = {"signet:lite0": {"epochs": 7}, "signet": {"epochs": 30, "args": {"width": 1.5}}}


def photos(work: Path) -> Path:
    """A folder with train/CLASS/PHOTO and test/CLASS/PHOTO, unpacked once."""
    home = work / "cifar10"
    if not home.exists():
        with replacing_folder(home) as part:
            for split in ("train", "test"):
                found = opened(data_folder() / "cifar10" / f"{split}.tar.xz", cache=work)
                shutil.copytree(found / split, part / split)
    return home


def draw(path: Path, nets: dict[str, dict[str, Any]]) -> None:
    """Accuracy after every epoch against minutes, a color a network, a line a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for (net, row), color in zip(nets.items(), ("#4878a8", "#d9843b", "#6aa66a"), strict=False):
        name = f"{net}, {row['params'] / 1e6:.2f} M parameters: {100 * row['accuracy']['mean']:.2f} %"
        for i, one in enumerate(row["runs"]):
            x, y = [r["seconds"] / 60 for r in one["history"]], [100 * r["accuracy"] for r in one["history"]]
            axes.plot(x, y, marker=".", color=color, lw=1.2, label=name if not i else None)
            axes.annotate(f"seed {one['seed']}", (x[-1], y[-1]), (5, -3), textcoords="offset points", fontsize=8,
                          color=color)  # fmt: skip
    for line, text, style in ((REPORT_2018, "80.5 %: the compact network of the 2018 report", "--"),
                              (WANTED, "92 %: wanted within 45 minutes", ":")):  # fmt: skip
        axes.axhline(100 * line, color="#888888", ls=style, lw=1)
        axes.text(0.4, 100 * line + 0.2, text, fontsize=8, color="#666666")
    axes.set_xlabel("minutes of training, two CPU cores")
    axes.set_ylabel("CIFAR-10 test accuracy, %")
    axes.set_ylim(78, 95)
    axes.set_xlim(0, max(46, axes.get_xlim()[1]))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def trained(net: str, seed: int, options: Any, work: Path, data: Path) -> dict[str, Any]:
    """One run, or what is left of it, and its measures on the test photos."""
    plan = dict(PLANS.get(net, {"epochs": 30}))
    plan["epochs"] = 2 if options.quick else options.epochs or plan["epochs"]
    out = work / f"{net.replace(':', '-')}-{'quick' if options.quick else plan['epochs']}-{seed}"
    if not (out / "handful.json").exists():
        run(data, out, net=net, seed=seed, threads=options.threads, workers=1, keep="last", size_hw=(32, 32),
            val_split="test", format="folder", resume=True, **plan)  # fmt: skip
    found, record = evaluate(out, data, split="test", format="folder"), read_json(out / "train.json")
    print(f"{net}, seed {seed}: {100 * found['accuracy']:.2f} %, mirrored {100 * found['accuracy_mirrored']:.2f} %, "
          f"{found['minutes']:.1f} min", flush=True)  # fmt: skip
    keys = ("accuracy", "accuracy_mirrored", "mean_accuracy", "params", "macs", "seed", "minutes")
    return {k: found[k] for k in keys} | {"epochs": plan["epochs"], "history": record["history"]}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(PLANS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of each network's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where photos and runs are kept  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="1,000 photos and 2 epochs, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="also draw the way there, a PNG")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("signet.work")) / "signet"
    work.mkdir(parents=True, exist_ok=True)
    data = data_folder() / "cifar10" / "mini" if options.quick else photos(work)
    nets: dict[str, dict[str, Any]] = {}
    for net in options.nets:
        runs = [trained(net, seed, options, work, data) for seed in options.seeds]
        row: dict[str, Any] = {key: runs[0][key] for key in ("params", "macs", "epochs")}
        for key in ("accuracy", "accuracy_mirrored", "minutes"):
            values = [r[key] for r in runs]
            row[key] = {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}
        nets[net] = {**row, "runs": runs}
    result = {"threads": options.threads, "wanted": WANTED, "report_2018": REPORT_2018, "networks": nets}
    if options.json:
        print(to_json(result))
    else:
        for net, row in nets.items():
            both = [f"{100 * row[k]['mean']:.2f} % ({100 * row[k]['least']:.2f} to {100 * row[k]['most']:.2f})"
                    for k in ("accuracy", "accuracy_mirrored")]  # fmt: skip
            print(f"{net}: {both[0]}, mirrored too {both[1]}, {len(row['runs'])} seeds, {row['params']:,} parameters, "
                  f"{row['minutes']['mean']:.1f} min on {options.threads} thread(s)")  # fmt: skip
    if options.picture:
        draw(options.picture, nets)
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
