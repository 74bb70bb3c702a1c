"""Ten classes (person, sky, plants, pet, ...): with and without pre-training, depthwise-separable against plain.

    python benchmarks/ten_classes.py [--arms ...] [--seeds 0 1 2] [--epochs 24] [--threads 1] [--work DIR] [--quick]
                                     [--json] [--out FILE]

Trained on coco-mini's and MSRC's train photos together (about 500), measured on the val photos of each by itself, with
`handful evaluate` (rule mmseg). The arms have one recipe and Exeggutor's size halved, so that they train on a CPU:

    none        depthwise-separable, from nothing
    people      the same, begun with the weights of the same network trained on coco-mini's person masks
    plain       plain convolutions instead, from nothing, with channels cut until it has about as many parameters
    imagenet    depthwise-separable on EfficientNet-Lite0 with ImageNet weights

as the 2018 report compares its own (no pre-training 70.05, people 71.26, plain convolutions 71.09 % mIoU with
background, one run each on private photos). Weights are those of the last epoch. Beside each class stands how many
photos show it. MSRC's val shows no food, mountain or beach; by rule mmseg each of them counts 0 once it is predicted
anywhere, so the mean over the classes in its photos (rule detectron2) is told as well. Stopped, the same command goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from common import data_folder, save

from handful.files import cache_home, read_json, replacing_folder, to_json
from handful.training.evaluate_segment import evaluate
from handful.training.loss import Loss
from handful.training.recipe_segment import run

SOURCES = ("coco-mini", "msrc-seg")
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("exeggutor:small", {}),
    "people": ("exeggutor:small", {}),
    "plain": ("exeggutor:small", {"separable": False, "width": 0.18}),
    "imagenet": ("exeggutor:lite0", {"width": 0.5}),
}
MEANS = {
    "miou_with_background": "with background", "miou_without_background": "without background",
    "miou_of_classes_there": "with background, of the classes in its photos",
}  # fmt: skip
SIZE_HW, CROP_HW = (240, 320), (192, 256)
PLAN: dict[str, Any] = {
    "batch": 8, "lr": 0.003, "ema": 0.99, "balance": "enet^0.5", "keep": "last", "workers": 1, "allow": ["empty_mask"],
}  # fmt: skip


def together(work: Path) -> Path:
    """The train photos of both sets as one data set, copied once."""
    root = work / "train"
    if not root.exists():
        with replacing_folder(root) as part:
            labels: dict[str, Any] = {}
            for source in SOURCES:
                folder = data_folder() / source
                labels = {**json.loads((folder / "labels.json").read_text())["seg10"], **labels}
                for mask in sorted((folder / "seg10" / "train").glob("*.png")):
                    photo = folder / "images" / "train" / f"{mask.stem}.jpg"
                    for file, kind in ((photo, "images"), (mask, "masks")):
                        place = part / kind / "train" / f"{source}-{file.name}"
                        place.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, place)
            (part / "labels.json").write_text(json.dumps({"labels": labels, "ignore": 255}))
    return root


def people(seed: int, epochs: int, threads: int, work: Path, quick: bool) -> Path:
    """Exeggutor of the same size, trained to tell persons from all else."""
    out = work / f"people-of-coco-{epochs}-{seed}"
    if not (out / "handful.json").exists():
        run(data_folder() / "coco-mini", out, net="exeggutor:small", format="masks", masks="person_masks",
            epochs=epochs, seed=seed, threads=threads, val_split=None, resume=True, loss=Loss(dice=0.5),
            **sizes(quick), **PLAN)  # fmt: skip
    return out


def sizes(quick: bool) -> dict[str, Any]:
    """Frame and crop."""
    return {"size_hw": (64, 96), "crop": (64, 64)} if quick else {"size_hw": SIZE_HW, "crop": CROP_HW}


def trained(arm: str, seed: int, epochs: int, threads: int, work: Path, quick: bool) -> dict[str, Any]:
    """One run of an arm, or what is left of it, and its measures on both val splits."""
    net, args = ARMS[arm]
    out = work / f"{arm}-{epochs}-{seed}"
    if not (out / "handful.json").exists():
        begin = people(seed, epochs, threads, work, quick) if arm == "people" else None
        part = {"core.encoder": 0.3} if arm == "imagenet" else {}
        run(together(work), out, net=net, args=args, epochs=epochs, seed=seed, threads=threads, val_split=None,
            from_=begin, lr_of=part, resume=True, loss=Loss(dice=0.5), **sizes(quick), **PLAN)  # fmt: skip
    row: dict[str, Any] = {"arm": arm, "seed": seed, "minutes": read_json(out / "handful.json")["minutes"],
                           "images_of": read_json(out / "train.json")["data"]["train"]["images_of"]}  # fmt: skip
    for source in SOURCES:
        found = evaluate(out, data_folder() / source, split="val", format="masks", masks="seg10")
        row[source] = {k: found[k] for k in ("miou_with_background", "miou_without_background", "pixel_accuracy",
                                             "mean_accuracy", "images")}  # fmt: skip
        row[source]["iou"] = {name: v["iou"] for name, v in found["per_class"].items()}
        there = [v["iou"] for v in found["per_class"].values() if v["images"]]
        row[source]["miou_of_classes_there"] = statistics.fmean(there)
        row[source]["images_of"] = {name: v["images"] for name, v in found["per_class"].items()}
        row["params"], row["macs"] = found["params"], found["macs"]
    return row


def class_table(table: dict[str, Any], source: str) -> str:
    """IoU of each class by arm, mean over the seeds, beside how many photos show it."""
    first = next(iter(table.values()))["runs"][0]
    lines = [f"{source + ', IoU %':<18}{'train':>6}{'val':>5}" + "".join(f"{arm:>10}" for arm in table)]
    for name, photos in first[source]["images_of"].items():
        cells = []
        for arm in table.values():
            values = [run_[source]["iou"][name] for run_ in arm["runs"] if run_[source]["iou"][name] is not None]
            cells.append(f"{100 * statistics.fmean(values):10.1f}" if values else f"{'-':>10}")
        lines.append(f"{name:<18}{first['images_of'][name]:>6}{photos:>5}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where photos and runs are kept  [default: the cache folder]")
    parser.add_argument("--quick", action="store_true", help="small photos and 1 epoch, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("ten.work")) / ("ten-quick" if options.quick else "ten")
    work.mkdir(parents=True, exist_ok=True)
    epochs = 1 if options.quick else options.epochs
    table: dict[str, Any] = {}
    for arm in options.arms:
        runs = [trained(arm, seed, epochs, options.threads, work, options.quick) for seed in options.seeds]
        table[arm] = {"runs": runs, "params": runs[0]["params"], "macs": runs[0]["macs"]}
        table[arm]["minutes"] = statistics.fmean(r["minutes"] for r in runs)
        print(f"{arm}: {table[arm]['params']:,} parameters, {table[arm]['minutes']:.0f} min on {options.threads} "
              "thread(s); mIoU, %", flush=True)  # fmt: skip
        for source in SOURCES:
            table[arm][source] = {}
            for key, name in MEANS.items():
                values = [r[source][key] for r in runs]
                spread = {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}
                table[arm][source][key] = spread
                least, most = 100 * spread["least"], 100 * spread["most"]
                print(f"  {source}, {name}: {100 * spread['mean']:.2f} ({least:.2f} to {most:.2f})", flush=True)
    for source in SOURCES:
        print(class_table(table, source), flush=True)
    result = {"epochs": epochs, "threads": options.threads, "arms": table}
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
