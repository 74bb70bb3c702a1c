"""Make src/handful/teach/base/*.safetensors and detect/base/*.safetensors: centre and projection of the front ends.

    python tools/make_base.py ../shared/data [--without grocery] [--only lite0 nanodet]

Photos used, all of licenses that allow it: coco-mini train boxes whose photo has license 4, 5, 7 or 8 (padded 10 %,
sides of at least 16 px), grocery train, product-iconic. Each of the three weighs the same in the centre. No labels are
used. The projection comes from the backbone's own ImageNet classifier and has seen none of them.

For a proposer (nanodet) the photos are the boxes it proposes in the same COCO photos, whole; their mean is the centre,
their 256 leading principal directions the projection.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import handful.detection
from handful.detection.embedder import BASE as PROPOSER_BASE
from handful.fewshot.classifier import FRAME_HW
from handful.fewshot.front_end import BASE, RANK
from handful.files import read_json, sha256, write_json, write_tensors
from handful.image import fit, read_image
from handful.models import net_taught
from handful.models.backbone import LITE, imagenet_classifier
from handful.pick import pick

FREE = (4, 5, 7, 8)  # COCO's numbers of the licenses without NC or ND
PROPOSERS = ("nanodet", "objectness")
EYE_RANK, BOXES = 256, 30


def coco(data: Path) -> Iterator[np.ndarray]:
    """Boxes of freely licensed COCO training photos."""
    held = json.loads((data / "coco-mini/instances_train.json").read_text())
    free = {i["id"]: i for i in held["images"] if i.get("license") in FREE}
    for note in held["annotations"]:
        x, y, w, h = note["bbox"]
        if note.get("iscrowd") or note["image_id"] not in free or min(w, h) < 16:
            continue
        rgb = read_image(data / "coco-mini/images/train" / free[note["image_id"]]["file_name"]).rgb_u8
        top, left = max(0, int(y - 0.1 * h)), max(0, int(x - 0.1 * w))
        yield rgb[top : int(y + 1.1 * h) + 1, left : int(x + 1.1 * w) + 1]


def photos(folder: Path) -> Iterator[np.ndarray]:
    """Every JPEG below a folder."""
    for path in sorted(folder.rglob("*.jpg")):
        yield read_image(path).rgb_u8


def proposer(name: str, data: Path, out: Path) -> dict[str, object]:
    """The file of one proposer, and what is to be known of it."""
    seer = pick(handful.detection, "proposer", name).load()
    held = json.loads((data / "coco-mini/instances_train.json").read_text())
    free = [i["file_name"] for i in held["images"] if i.get("license") in FREE]
    rows = []
    for file in sorted(free):
        rgb = read_image(data / "coco-mini/images/train" / file).rgb_u8
        seen = seer.propose(rgb, BOXES)
        rows.append(seen.features(seen.xyxy_px))
    features = np.concatenate(rows).astype(np.float64)
    root = np.sign(features) * np.sqrt(np.abs(features))
    centre = root.mean(axis=0)
    directions = np.linalg.svd(root - centre, full_matrices=False)[2][:EYE_RANK].T
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    path = out / f"{name}.safetensors"
    projection = (directions * signs).astype(
        np.float16
    )  # a direction and its opposite are one; take the same each time
    write_tensors(path, {"centre": centre.astype(np.float32), "projection": projection})
    return {
        "sha256": sha256(path),
        "photos": {"coco": len(free)},
        "boxes": len(features),
        "weights": seer.about["sha256"],
    }


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=["coco", "grocery", "product-iconic"])
    parser.add_argument("--only", action="append", default=[], choices=[*LITE, *PROPOSERS])
    parser.add_argument("--out", type=Path, default=BASE)
    parser.add_argument("--proposers-out", type=Path, default=PROPOSER_BASE)
    args = parser.parse_args()
    eyes = {}
    for name in [one for one in args.only or PROPOSERS if one in PROPOSERS]:
        eyes[name] = proposer(name, args.data, args.proposers_out)
        print(name, eyes[name], flush=True)
    if eyes:
        path = args.proposers_out / "base.json"
        others = read_json(path)["bases"] if path.exists() else {}
        write_json(path, {"made_by": "tools/make_base.py", "bases": {**others, **eyes}})
    about = {}
    for name in [one for one in args.only or LITE if one in LITE]:
        network = net_taught.build(1, backbone=name, frame_hw=FRAME_HW, rank=RANK)
        sources = {"coco": coco(args.data), "grocery": photos(args.data / "grocery/train"),
                   "product-iconic": photos(args.data / "product-iconic")}  # fmt: skip
        means, counts = [], {}
        for source, pictures in sources.items():
            if source in args.without:
                continue
            with torch.inference_mode():
                rows = [network.features(torch.from_numpy(fit(p, FRAME_HW).copy())[None]).numpy()[0] for p in pictures]
            means.append(np.sqrt(np.stack(rows)).mean(axis=0))
            counts[source] = len(rows)
        weight = imagenet_classifier(name).classifier.weight.detach().numpy().astype(np.float64)
        directions = np.linalg.svd(weight - weight.mean(axis=0), full_matrices=False)[2][:RANK].T
        path = args.out / f"{name}.safetensors"
        centre = np.mean(means, axis=0).astype(np.float32)
        write_tensors(path, {"centre": centre, "projection": directions.astype(np.float16)})
        about[name] = {"sha256": sha256(path), "photos": counts}
        print(name, counts, flush=True)
    if about:
        write_json(args.out / "base.json", {"made_by": "tools/make_base.py", "frame_hw": FRAME_HW, "bases": about})


if __name__ == "__main__":
    main()
