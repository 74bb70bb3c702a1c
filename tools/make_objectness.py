"""Make src/handful/detection/weights/objectness.safetensors: train the shipped proposer and write down what it saw.

    python tools/make_objectness.py ../shared/data --work DIR [--seed 0] [--epochs 12] [--scenes 500] [--frame 320]
                                    [--background 1.0] [--photos free] [--threads 1] [--out DIR]

One data set of one class, "thing", is made once in --work, labels of classes thrown away:

    coco-mini train, coco-more
                        their boxes
    scenes              things cut out of those that have masks, pasted into their photos (handful.lucid.scenes)
    grocery, product-iconic, fewshot-det/raccoon
                        boxes that NanoDet-g, trained on COCO, is surest of (handful weights get nanodet)

With --photos free, of COCO only photos whose license allows commercial use and changes (4, 5, 7, 8). With --photos all
every photo of COCO, and NanoDet's boxes also in msrc-seg train and every third photo of camvid train.
Then `handful train detect --net objectness` runs on it, judged on coco-mini val. Stopped, the same command
goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import handful.detection
from handful.data import formats
from handful.data.shapes import box_of
from handful.detection.fusion import hard_nms
from handful.detection.proposer_objectness import WEIGHTS as SHIPPED
from handful.files import read_json, read_tensors, replacing_folder, sha256, write_json, write_tensors
from handful.image import images_below, read_image
from handful.lucid import scenes
from handful.lucid.seed import SeedRef, seeds_of
from handful.models.folder import META, WEIGHTS
from handful.pick import pick
from handful.progress import track
from handful.training.recipe_detect import run

FREE = (4, 5, 7, 8)  # COCO's numbers of the licenses without NC or ND
SURE, ALIKE = 0.35, 0.6  # of NanoDet: quality of a box that is taken for a thing, and IoU above which two are one
# folders whose photos get NanoDet's boxes, and which of them: every so many
SHOPS = (("grocery", 6), ("product-iconic", 2), ("fewshot-det/raccoon", 2))
OTHERS = (("msrc-seg/images/train", 1), ("camvid/images/train", 3))
Rows = list[list[float]]


class Things:
    """A COCO data set of one class, in the making."""

    def __init__(self, root: Path) -> None:
        self.root, self.held = root, dict[str, Any]()

    def put(self, split: str, name: str, rgb: np.ndarray | Path, boxes: Rows, crowds: Rows | None = None) -> None:
        """A photo, as it is or as an array, and the boxes (left, top, right, bottom) px of its things."""
        place = self.root / "images" / split / f"{name}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rgb, Path):
            shutil.copyfile(rgb, place)
            rgb = read_image(place).rgb_u8
        else:
            Image.fromarray(rgb).save(place, quality=92)
        held = self.held.setdefault(split, {"images": [], "annotations": []})
        number = len(held["images"]) + 1
        held["images"].append({"id": number, "file_name": place.name, "width": rgb.shape[1], "height": rgb.shape[0]})
        for rows, crowd in ((boxes, 0), (crowds or [], 1)):
            for left, top, right, bottom in rows:
                right, bottom = min(right, rgb.shape[1]), min(bottom, rgb.shape[0])
                if right - left < 1 or bottom - top < 1:
                    continue
                wide, high = right - left, bottom - top
                held["annotations"].append({"id": len(held["annotations"]) + 1, "image_id": number, "category_id": 1,
                                            "bbox": [left, top, wide, high], "area": wide * high,
                                            "iscrowd": crowd, "segmentation": []})  # fmt: skip

    def close(self) -> None:
        """Write the labels."""
        for split, held in self.held.items():
            held["categories"] = [{"id": 1, "name": "thing"}]
            write_json(self.root / f"instances_{split}.json", held)


def make(root: Path, data: Path, count: int, seed: int, photos: str = "free") -> dict[str, int]:
    """The data set; returns how many photos of each kind train has. photos: all or free."""
    rng = np.random.default_rng(seed)
    things, counts = Things(root), dict[str, int]()
    whole: list[SeedRef] = []
    for folder, labels in (("coco-mini", "instances_train.json"), ("coco-more", "instances.json")):
        said = {Path(i["file_name"]).name: i.get("license") for i in read_json(data / folder / labels)["images"]}
        for sample in formats.read(data / folder, format="coco"):
            own, crowds = ([[float(v) for v in box] for o in sample.objects or () if o.crowd == crowd
                            and (box := box_of(o)) is not None] for crowd in (False, True))  # fmt: skip
            split = str(sample.split) if folder == "coco-mini" else "train"
            if split == "train" and photos == "free" and said[sample.path.name] not in FREE:
                continue
            things.put(split, f"{folder}-{sample.path.stem}", sample.path, own, crowds)
            counts[split] = counts.get(split, 0) + 1
            outlined = all(o.polygons_px or o.rle is not None for o in sample.objects or ())
            if split == "train" and sample.objects and outlined and not crowds:
                whole += seeds_of([sample])
    bases, items = [], []
    for ref in track(whole, "cutting out", len(whole)):
        held = ref.load()
        if held.foreground.mean() > 0.9:  # nothing is left to fill what is behind from
            continue
        bases.append(held)
        items += scenes.items_of(held, min_px=600, rng=rng)
    for number in track(range(count), "dreaming", count):
        base = bases[int(rng.integers(len(bases)))]
        made = scenes.scene(base, items, rng=rng, count=(2, 8), scale=(0.2, 2.0))
        things.put("train", f"scene-{number}", made.rgb_u8, made.boxes.xyxy_px.tolist())
    counts["scenes"] = count
    proposer: Any = pick(handful.detection, "proposer", "nanodet").load()
    for name, step in (*SHOPS, *(OTHERS if photos == "all" else ())):
        every = images_below(data / name)[::step]
        for photo in track(every, f"boxes of {name}", len(every)):
            rgb = read_image(photo).rgb_u8
            seen = proposer.propose(rgb, 100)
            sure = seen.quality >= SURE
            boxes = seen.xyxy_px[sure]
            kept = hard_nms(boxes, seen.quality[sure], nms_iou=ALIKE) > 0
            if kept.any():
                things.put("train", f"{name.replace('/', '-')}-{counts.get(name, 0)}", rgb, boxes[kept].tolist())
                counts[name] = counts.get(name, 0) + 1
    things.close()
    return counts


def main() -> None:
    """Make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--frame", type=int, default=320)
    parser.add_argument("--background", type=float, default=1.0)
    parser.add_argument("--photos", choices=["free", "all"], default="free")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=SHIPPED.parent)
    o = parser.parse_args()
    which = f"{o.scenes}" if o.photos == "all" else f"{o.scenes}-free"
    root, counted = o.work / f"things-{which}", o.work / f"things-{which}.json"
    if not root.exists():
        with replacing_folder(root) as part:
            counts = make(part, o.data, o.scenes, 0, o.photos)
        write_json(counted, counts)
    name = f"objectness-{o.frame}-{o.background:g}-{o.epochs}-{o.seed}" + ("-free" if o.photos == "free" else "")
    model = o.work / name
    if not (model / META).exists():
        run(root, model, net="objectness", args={"background": o.background}, size_hw=(o.frame, o.frame),
            epochs=o.epochs, batch=8, lr=o.lr, every=3, seed=o.seed, threads=o.threads, workers=1,
            keep="last", resume=True, format="coco",
            allow=["near_duplicate", "tiny_object", "duplicate_object"])  # fmt: skip
    held = {key: value.astype(np.float16) if value.dtype == np.float32 else value
            for key, value in read_tensors(model / WEIGHTS).items()}  # fmt: skip
    path = o.out / "objectness.safetensors"
    write_tensors(path, held)
    meta = read_json(model / META)
    of = read_json(counted)
    write_json(o.out / "objectness.json", {
        "made_by": "tools/make_objectness.py", "sha256": sha256(path), "seed": o.seed, "epochs": o.epochs,
        "minutes": meta["minutes"], "frame_hw": [o.frame, o.frame], "background": o.background,
        "params": meta["params"], "photos": of,
        "trained_on": f"ImageNet-1k (EfficientNet-Lite0); boxes of {of['train']} photos of COCO 2017, classes thrown "
        f"away; {of['scenes']} scenes dreamed from them; boxes that NanoDet-g, trained on COCO train2017, gave a "
        f"quality of {SURE} or more in {sum(of.get(name, 0) for name, _ in (*SHOPS, *OTHERS))} photos of "
        + ("products and raccoons; of all photos but ImageNet's the license allows commercial use and changes"
           if o.photos == "free" else
           "products, raccoons, MSRC and CamVid. Most of the COCO photos are licensed for non-commercial use only"),
    })  # fmt: skip
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {meta['params']:,} parameters")


if __name__ == "__main__":
    main()
