"""Make src/handful/detect/base/masks.safetensors and masks.json: the decoder that cuts things out of their boxes.

    python tools/make_masks.py ../shared/data [--seed 0] [--steps 400] [--photos free] [--run DIR] [--out DIR]

Trained on the things with masks in coco-mini's train photos whose license is 4, 5, 7 or 8; coco-mini's val is not
looked at. --photos all takes every train photo, to see what the others would be worth; weights made so must not be
shipped, and go nowhere but to --out. One thread; the same seed gives the same file; stopped, it goes on from --run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from handful.data import formats
from handful.detection.masks_head import BASE, LAST, MARGIN, OUT_PX, SIDE_PX
from handful.detection.train_mask_head import MaskSample, Plan, mask_samples, train, weights_of
from handful.files import sha256, write_json, write_tensors
from handful.models.backbone import LITE
from handful.training.source import split_of

FREE = (4, 5, 7, 8)  # COCO's numbers of the licenses without NC or ND


def licenses(data: Path) -> dict[str, int]:
    """COCO's number of the license of each train photo, by the photo's file name; 0 where none is recorded."""
    held = json.loads((data / "coco-mini/instances_train.json").read_text())
    return {image["file_name"]: int(image.get("license") or 0) for image in held["images"]}


def things(data: Path, photos: str) -> tuple[list[MaskSample], list[str]]:
    """What is learned from, and the names of its photos. photos: free, all, or other: those that are not free."""
    said = licenses(data)
    samples = split_of(formats.read(data / "coco-mini", format="coco"), "train")
    samples = [s for s in samples if photos == "all" or (said[s.path.name] in FREE) == (photos == "free")]
    samples = [s for s in samples if any(not o.crowd and (o.polygons_px or o.rle) for o in s.objects or ())]
    return mask_samples(samples), sorted(sample.path.name for sample in samples)


def card(learned: list[MaskSample], photos: list[str], data: Path, plan: Plan, seed: int) -> dict[str, Any]:
    """What is to be known of the weights."""
    from dataclasses import asdict

    said = licenses(data)
    counts: dict[str, int] = {}
    for photo in photos:
        counts[str(said[photo])] = counts.get(str(said[photo]), 0) + 1
    free = all(said[photo] in FREE for photo in photos)
    return {
        "name": "head", "made_by": "tools/make_masks.py",
        "what": "decoder of masks on EfficientNet-Lite0's first stages, whose ImageNet weights were not changed",
        "license": "Apache-2.0" if free else "not for shipping: made from photos with NC or ND licenses",
        "trained_on": f"{len(learned)} things with masks in {len(photos)} photos of COCO train2017 (coco-mini), of 80 "
                      "classes, which it was not told",
        "images_by_license": dict(sorted(counts.items())), "photos": photos, "plan": asdict(plan), "seed": seed,
        "encoder": {"name": "lite0", "last_stride": LAST, "sha256": LITE["lite0"].sha256},
        "look": {"side_px": SIDE_PX, "margin": MARGIN, "out_px": OUT_PX},
    }  # fmt: skip


def made(data: Path, out: Path, run: Path, *, photos: str, plan: Plan, seed: int) -> dict[str, Any]:
    """Train, and write both files to a folder."""
    torch.set_num_threads(1)
    learned, names = things(data, photos)
    network = train(learned, run, plan=plan, seed=seed)
    held = weights_of(network)
    write_tensors(out / "masks.safetensors", held)
    about = card(learned, names, data, plan, seed)
    about["params"] = sum(p.numel() for p in network.decoder.parameters())
    about["sha256"] = sha256(out / "masks.safetensors")
    write_json(out / "masks.json", about)
    return about


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--photos", choices=["free", "all"], default="free")
    parser.add_argument("--run", type=Path, default=Path("make_masks.run"), help="where its checkpoint is kept")
    parser.add_argument("--out", type=Path, default=BASE)
    args = parser.parse_args()
    if args.photos == "all" and args.out == BASE:
        parser.error("weights from all photos must not be shipped; give another --out")
    about = made(args.data, args.out, args.run, photos=args.photos, plan=Plan(steps=args.steps), seed=args.seed)
    print({key: about[key] for key in ("trained_on", "params", "sha256", "images_by_license")})


if __name__ == "__main__":
    main()
