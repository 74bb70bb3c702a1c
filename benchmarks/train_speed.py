"""Photos trained a second, against torchvision's reference loop: same network, batch, crop, threads, machine and run.

    python benchmarks/train_speed.py [--nets lraspp exeggutor:small] [--photos 96] [--rounds 5] [--threads 1] [--json]
                                     [--out FILE]

Ours is `handful train segment` as it comes (its auxiliary outputs, its clipping, a checkpoint each epoch), but without
Dice and a running mean of the weights, since theirs has neither. Theirs follows references/segmentation of torchvision
step by step: a data set that opens photo and mask with Pillow, transforms v2 (RandomResize 0.5 to 2, flip, RandomCrop,
Normalize) in a DataLoader of as many worker processes as ours has threads, cross entropy with 0.5 of the auxiliary
outputs enlarged to the labels, SGD, a learning rate for each step, memory left as torch lays it out. Rounds alternate;
a round is two epochs of which the second counts, CamVid's photos at 480x360, crops of 352x256, batch 8. The ratio is
that of the medians, the spread that of the ratios of single rounds.

Beside it, the same change of photo and labels (turned, enlarged, mirrored, cropped, recolored) made by
handful.training.augment_segment and by transforms v2, milliseconds a photo on one thread.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, save
from PIL import Image as PIL_Image
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from handful.files import read_json, to_json
from handful.models.show import make
from handful.training.augment_segment import Augment, augmented
from handful.training.recipe_segment import run

CROP, BATCH, CLASSES = (256, 352), 8, 11
WANTED = 1.2


def some(root: Path, count: int) -> Path:
    """The first photos of CamVid's train split, as a data set of its own."""
    source = data_folder() / "camvid"
    for photo in sorted((source / "images" / "train").iterdir())[:count]:
        mask = next((source / "labels" / "train").glob(f"{photo.stem}.*"))
        for file, kind in ((photo, "images"), (mask, "labels")):
            place = root / kind / "train" / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return root


class Scenes(torch.utils.data.Dataset[Any]):
    """As VOCSegmentation: opened with Pillow each time."""

    def __init__(self, root: Path) -> None:
        self.photos = sorted((root / "images" / "train").iterdir())
        self.masks = sorted((root / "labels" / "train").iterdir())
        self.change = v2.Compose([
            v2.RandomResize(min_size=180, max_size=720), v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255, "others": 0}),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), v2.ToPureTensor(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo = tv_tensors.Image(v2.functional.pil_to_tensor(PIL_Image.open(self.photos[index]).convert("RGB")))
        mask = tv_tensors.Mask(v2.functional.pil_to_tensor(PIL_Image.open(self.masks[index]))[0])
        x, y = self.change(photo, mask)
        return x, y


def theirs(net: str, root: Path, threads: int, workers: int, epochs: int) -> float:
    """Seconds of the last epoch of the reference loop."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network: Any = make(net, CLASSES, {})
    network.train()
    loader = torch.utils.data.DataLoader(
        Scenes(root), batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total_iters=steps, power=0.9)
    seconds = 0.0
    for _ in range(epochs):
        began = time.perf_counter()
        for x, y in loader:
            found = network.core(x)
            losses = [
                nn.functional.cross_entropy(
                    nn.functional.interpolate(one, size=y.shape[1:], mode="bilinear", align_corners=False), y,
                    ignore_index=255,
                )
                for one in found
            ]  # fmt: skip
            loss = losses[0] + 0.5 * sum(losses[1:])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            float(loss)  # as the reference logs it
        seconds = time.perf_counter() - began
    return seconds


def ours(net: str, root: Path, threads: int, workers: int, epochs: int) -> float:
    """Seconds of the last epoch of the recipe."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "model"
        run(root, out, net=net, epochs=epochs, batch=BATCH, crop=CROP, size_hw=(360, 480), ema=None, val_split=None,
            loss={"dice": 0.0}, balance="enet", threads=threads, workers=workers, clock=time.perf_counter)  # fmt: skip
        history = read_json(out / "train.json")["history"]
    return float(history[-1]["seconds"] - history[-2]["seconds"])


def changes(root: Path, rounds: int) -> dict[str, float]:
    """Milliseconds to change one photo and its labels, median: ours, and the same by transforms v2."""
    torch.set_num_threads(1)
    photo = np.array(PIL_Image.open(min((root / "images" / "train").iterdir())).convert("RGB"))
    mask = np.array(PIL_Image.open(min((root / "labels" / "train").iterdir())))
    how = Augment()
    lost = {tv_tensors.Image: 0, tv_tensors.Mask: 255}
    theirs_ = v2.Compose([
        v2.RandomAffine(how.rotate_deg, scale=how.scale, interpolation=v2.InterpolationMode.BILINEAR, fill=lost),
        v2.RandomHorizontalFlip(how.flip), v2.RandomCrop(CROP),
        v2.ColorJitter(how.brightness, how.contrast, how.saturation, how.hue_deg / 360),
    ])  # fmt: skip
    pair = tv_tensors.Image(torch.from_numpy(photo).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(mask))
    calls: dict[str, Callable[[int], Any]] = {
        "ours": lambda number: augmented(photo, mask, CROP, how, (0, 0, number)), "v2": lambda number: theirs_(*pair)
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call(number)
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(ms) for name, ms in taken.items()}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["lraspp", "exeggutor:small"])
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = some(Path(scratch), options.photos)
        photos = options.photos // BATCH * BATCH
        augment_ms = changes(root, 50)
        print(f"one photo changed: ours {augment_ms['ours']:.1f} ms, transforms v2 {augment_ms['v2']:.1f} ms")
        for net in options.nets:
            rates: dict[str, list[float]] = {"ours": [], "theirs": []}
            for number in range(options.rounds):
                order = (("ours", ours), ("theirs", theirs))
                for name, loop in order if number % 2 == 0 else order[::-1]:
                    rates[name].append(photos / loop(net, root, options.threads, options.workers, 2))
            each = [a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True)]
            found[net] = {
                "photos_a_second": {name: statistics.median(values) for name, values in rates.items()},
                "ratio": statistics.median(rates["ours"]) / statistics.median(rates["theirs"]),
                "ratio_least": min(each), "ratio_most": max(each), "rounds": rates,
            }  # fmt: skip
            f = found[net]
            print(f"{net}: ours {f['photos_a_second']['ours']:.2f}, torchvision's loop "
                  f"{f['photos_a_second']['theirs']:.2f} photos/s: {f['ratio']:.2f} x ({f['ratio_least']:.2f} to "
                  f"{f['ratio_most']:.2f}, {options.rounds} rounds)", flush=True)  # fmt: skip
    result = {"threads": options.threads, "workers": options.workers, "batch": BATCH, "crop_hw": list(CROP),
              "wanted": WANTED, "augment_ms": augment_ms, "networks": found}  # fmt: skip
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
