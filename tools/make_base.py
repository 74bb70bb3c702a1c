"""Make src/handful/teach/base/*.safetensors: the centre and projection of NEMO's front end.

    python tools/make_base.py ../shared/data [--without grocery]

Photos used, all of licences that allow it: coco-mini train boxes whose photo has licence 4, 5, 7 or 8 (padded 10 %,
sides of at least 16 px), grocery train, product-iconic. Each of the three weighs the same in the centre. No labels are
used. The projection comes from the backbone's own ImageNet classifier and has seen none of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from handful.data.photos import fit, read_photo
from handful.files import sha256, write_json, write_tensors
from handful.models import net_taught
from handful.models.backbone import LITE, imagenet_classifier
from handful.teach.embed import BASE, RANK
from handful.teach.taught import FRAME_HW


def coco(data: Path) -> Iterator[np.ndarray]:
    """Boxes of freely licensed COCO training photos."""
    held = json.loads((data / "coco-mini/instances_train.json").read_text())
    free = {i["id"]: i for i in held["images"] if i.get("license") in (4, 5, 7, 8)}
    for note in held["annotations"]:
        x, y, w, h = note["bbox"]
        if note.get("iscrowd") or note["image_id"] not in free or min(w, h) < 16:
            continue
        rgb = read_photo(data / "coco-mini/images/train" / free[note["image_id"]]["file_name"]).rgb_u8
        top, left = max(0, int(y - 0.1 * h)), max(0, int(x - 0.1 * w))
        yield rgb[top : int(y + 1.1 * h) + 1, left : int(x + 1.1 * w) + 1]


def photos(folder: Path) -> Iterator[np.ndarray]:
    """Every JPEG below a folder."""
    for path in sorted(folder.rglob("*.jpg")):
        yield read_photo(path).rgb_u8


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=["coco", "grocery", "product-iconic"])
    parser.add_argument("--only", action="append", default=[], choices=list(LITE))
    parser.add_argument("--out", type=Path, default=BASE)
    args = parser.parse_args()
    about = {}
    for name in args.only or LITE:
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
    write_json(args.out / "base.json", {"made_by": "tools/make_base.py", "frame_hw": FRAME_HW, "bases": about})


if __name__ == "__main__":
    main()
