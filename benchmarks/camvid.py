"""CamVid, 11 classes at 480x360: Exeggutor and Exeggute beside LR-ASPP and a U-Net, trained by one recipe.

    python benchmarks/camvid.py [--nets exeggutor:lite0 ...] [--seeds 0 1 2] [--epochs 20] [--threads 1] [--work DIR]
                                [--quick] [--json] [--out FILE]

Trained on the 367 photos of train as `handful train segment` does where nothing else is said (`handful models show NET`
tells the settings), measured on the 101 of val with `handful evaluate` at the size of the labels (rule mmseg: IoU over
all pixels; CamVid's 11 classes have no background). The weights kept are those of the last epoch, so val chooses
nothing but the recipe, which was set with Exeggutor, seed 0. Networks with ":lite0" begin with
EfficientNet-Lite0's ImageNet weights, the others from nothing, with --scratch-epochs. Stopped, the same command goes on
where it was; runs of one --work folder are kept and told together.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from common import data_folder, save

from handful.files import cache_home, read_json, to_json
from handful.training.evaluate_segment import evaluate
from handful.training.recipe_segment import run

NETS = ("exeggutor:lite0", "exeggute:lite0", "lraspp:lite0", "unet:lite0", "exeggutor:small")
WANTED = {"exeggutor:lite0": 0.68, "exeggute:lite0": 0.66, "exeggutor:small": 0.50}
SIZE_HW = (360, 480)


def trained(net: str, seed: int, epochs: int, threads: int, work: Path, quick: bool) -> dict[str, Any]:
    """One run, or what is left of it, and its measures on val."""
    out = work / f"{net.replace(':', '-')}-{epochs}-{seed}"
    data = data_folder() / "camvid"
    if not (out / "handful.json").exists():
        run(data, out, net=net, epochs=epochs, every=max(1, epochs // 4), seed=seed, threads=threads, workers=1,
            size_hw=(96, 128) if quick else SIZE_HW, keep="last", resume=True)  # fmt: skip
    found, record = evaluate(out, data, split="val"), read_json(out / "train.json")
    keys = ("miou_with_background", "pixel_accuracy", "mean_accuracy", "boundary_f", "params", "macs", "minutes")
    return {"net": net, "seed": seed, "epochs": epochs, "miou": found["miou_with_background"],
            **{k: found[k] for k in keys}, "mb_fp32": (out / "model.safetensors").stat().st_size / 1e6,
            "iou": {name: row["iou"] for name, row in found["per_class"].items()},
            "history": [r for r in record["history"] if "miou_with_background" in r]}  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--scratch-epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where runs are kept  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="small photos and 1 epoch, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("camvid.work")) / ("camvid-quick" if options.quick else "camvid")
    work.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {}
    for net in options.nets:
        epochs = 1 if options.quick else options.epochs if net.endswith("lite0") else options.scratch_epochs
        runs = [trained(net, seed, epochs, options.threads, work, options.quick) for seed in options.seeds]
        miou = [r["miou"] for r in runs]
        table[net] = {
            "miou": statistics.fmean(miou), "least": min(miou), "most": max(miou), "wanted": WANTED.get(net),
            "params": runs[0]["params"], "mb_fp32": runs[0]["mb_fp32"], "macs": runs[0]["macs"],
            "minutes": statistics.fmean(r["minutes"] for r in runs), "epochs": epochs, "runs": runs,
        }  # fmt: skip
        t = table[net]
        print(f"{net}: mIoU {100 * t['miou']:.2f} % ({100 * t['least']:.2f} to {100 * t['most']:.2f}, {len(runs)} "
              f"seeds), {t['params']:,} parameters, {t['mb_fp32']:.2f} MB, {t['macs'] / 1e6:,.0f} M MACs, "
              f"{epochs} epochs, {t['minutes']:.0f} min on {options.threads} thread(s)", flush=True)  # fmt: skip
    result = {"split": "val", "size_hw": list(SIZE_HW), "threads": options.threads, "networks": table}
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
