"""Make src/handful/pretrained/people: train the network for people that comes with handful, and write down what it saw.

    python tools/make_people.py ../shared/data --work DIR [--photos free] [--seed 0] [--epochs 60] [--scenes 300]
                                [--threads 1] [--out DIR]

One data set of two classes is made once in --work, a photo and its label mask each:

    coco-mini train, coco-more   photos with person masks, or that show nobody
    product-iconic               24, in which nobody is
    scenes                       people cut out along their masks, pasted into any of these (handful.lucid.scenes)

With --photos free only photos whose license allows commercial use and changes (COCO's 4, 5, 7, 8; product-iconic).
With --photos all also the other photos of COCO, msrc-seg and people-more, all but the held-out ones (`held_out`), which
benchmarks/people.py measures on. Then `handful train segment --net exeggutor:people` runs on it, weights of the last
epoch, which are kept in 16 bits. Stopped, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from handful import shipped
from handful.curate.seen import FILE as SEEN
from handful.files import read_json, read_tensors, replacing_folder, sha256, to_json, write_json, write_tensors
from handful.image import images_below, list_images, read_image
from handful.lucid import scenes
from handful.lucid.seed import Seed
from handful.models.folder import META, WEIGHTS
from handful.training.recipe_segment import run

CLASSES = ("background", "person")
FREE = (4, 5, 7, 8)  # COCO's numbers of the licenses without NC or ND
HELD = {"coco-more": 150, "people-more": 60}  # photos kept for measuring, none of them free
NOBODY = {"product-iconic": 24}  # grocery has hands, and raccoons have owners
SHORT_PX = 320
AUGMENT = {
    "scale": [0.6, 2.5], "rotate_deg": 15, "aspect": 0.4, "brightness": 0.4, "contrast": 0.4, "saturation": 0.5,
    "gray": 0.1, "blur": 0.15, "jpeg": 0.2, "paste": 0.4,
}  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A photo and the mask of its people: a person 255 and a crowd 128, or of MSRC's classes; None for nobody."""

    name: str
    path: Path
    mask: Path | None
    free: bool
    people: int  # boxes


def coco(data: Path, folder: str, labels: str, masks: Path) -> Iterator[Photo]:
    """Photos of COCO whose people all have masks, or that show nobody."""
    said = read_json(data / folder / labels)
    person = next(c["id"] for c in said["categories"] if c["name"] == "person")
    shown: dict[int, int] = {}
    for one in said["annotations"]:
        if one["category_id"] == person:
            shown[one["image_id"]] = shown.get(one["image_id"], 0) + 1
    where = {path.name: path for path in (data / folder / "images").rglob("*.jpg")}
    for image in said["images"]:
        path = where[Path(image["file_name"]).name]
        mask = masks / f"{path.stem}.png"
        if mask.exists() or image["id"] not in shown:
            yield Photo(f"{folder}-{path.stem}", path, mask if mask.exists() else None, image.get("license") in FREE,
                        shown.get(image["id"], 0))  # fmt: skip


def held_out(data: Path) -> list[Photo]:
    """Photos that nothing is trained on, by a seed: of coco-more all with several people, and others with one; of
    people-more. None has a license that lets it into the weights that are shipped."""
    rng = np.random.default_rng(2018)
    more = [p for p in coco(data, "coco-more", "instances.json", data / "coco-more" / "person_masks")
            if p.mask is not None and not p.free]  # fmt: skip
    several, one = [p for p in more if p.people > 1], [p for p in more if p.people == 1]
    chosen = [one[i] for i in sorted(rng.permutation(len(one))[: HELD["coco-more"] - len(several)])]
    fashion = list(people_more(data))
    return [*several, *chosen, *(fashion[i] for i in sorted(rng.permutation(len(fashion))[: HELD["people-more"]]))]


def people_more(data: Path) -> Iterator[Photo]:
    """One standing person each; whose photos they are is not known."""
    for path in list_images(data / "people-more" / "images")[0]:
        mask = data / "people-more" / "masks" / f"{path.stem}.png"
        yield Photo(f"people-more-{path.stem}", path, mask, False, 1)


def labels_of(photo: Photo, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w) uint8: 1 a person, 255 a crowd or nobody's guess, 0 all else."""
    if photo.mask is None:
        return np.zeros(size_hw, dtype=np.uint8)
    value = np.array(Image.open(photo.mask))
    if "msrc" in photo.name:
        return np.where(value == 255, 255, value == 1).astype(np.uint8)
    return np.where(value == 128, 255, value == 255).astype(np.uint8)


def train_photos(data: Path, which: str) -> list[Photo]:
    """What is trained on, before any dream. which: free or all."""
    found = [
        *coco(data, "coco-mini", "instances_train.json", data / "coco-mini" / "person_masks" / "train"),
        *coco(data, "coco-more", "instances.json", data / "coco-more" / "person_masks"),
    ]
    rng = np.random.default_rng(0)
    for folder, count in NOBODY.items():
        paths = images_below(data / folder)
        chosen = sorted(rng.permutation(len(paths))[:count])
        found += [Photo(f"{folder.replace('/', '-')}-{i}", paths[i], None, True, 0) for i in chosen]
    if which == "free":
        return [p for p in found if p.free]
    held = {p.name for p in held_out(data)}
    for mask in sorted((data / "msrc-seg" / "seg10" / "train").iterdir()):
        path = data / "msrc-seg" / "images" / "train" / f"{mask.stem}.jpg"
        found.append(Photo(f"msrc-{mask.stem}", path, mask, False, 0))
    return [p for p in (*found, *people_more(data)) if p.name not in held]


def make(root: Path, data: Path, which: str, count: int) -> dict[str, int]:
    """The data set; returns how many photos of each kind train has."""
    rng = np.random.default_rng(0)
    bases: list[tuple[np.ndarray, np.ndarray]] = []
    items: list[scenes.Item] = []
    counts = {"with_people": 0, "without": 0, "scenes": count}

    def put(split: str, name: str, photo: Path | np.ndarray, ids: np.ndarray) -> None:
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        to = root / "images" / split / f"{name}.jpg"
        if isinstance(photo, Path) and photo.suffix == ".jpg":
            shutil.copyfile(photo, to)
        else:
            rgb = read_image(photo).rgb_u8 if isinstance(photo, Path) else photo
            Image.fromarray(rgb).save(to, quality=92)
        Image.fromarray(ids).save(root / "masks" / split / f"{name}.png")

    for photo in train_photos(data, which):
        rgb = read_image(photo.path).rgb_u8
        ids = labels_of(photo, rgb.shape[:2])
        shrink = SHORT_PX / min(rgb.shape[:2])
        if shrink < 1:
            size_wh = (round(rgb.shape[1] * shrink), round(rgb.shape[0] * shrink))
            rgb = cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA)
            ids = cv2.resize(ids, size_wh, interpolation=cv2.INTER_NEAREST)
        put("train", photo.name, photo.path if shrink >= 1 else rgb, ids)
        counts["with_people" if (ids == 1).any() else "without"] += 1
        bases.append((rgb, ids))
        if (ids == 1).any() and (ids != 1).any():
            parts = cv2.connectedComponents((ids == 1).astype(np.uint8))[1].astype(np.uint16)
            parts[ids == 255] = 65535
            items += scenes.items_of(Seed(photo.name, rgb, parts), min_px=1500, rng=rng)
    for number in range(count):
        rgb, ids = bases[int(rng.integers(len(bases)))]
        made = scenes.scene(rgb, items, rng=rng, count=(1, 4), scale=(0.5, 3.0))
        put("train", f"scene-{number}", made.rgb_u8, np.where(made.ids > 0, 1, ids).astype(np.uint8))
    for mask in sorted((data / "coco-mini" / "person_masks" / "val").iterdir()):
        photo = Photo(mask.stem, data / "coco-mini" / "images" / "val" / f"{mask.stem}.jpg", mask, False, 1)
        put("val", photo.name, photo.path, labels_of(photo, (0, 0)))
    write_json(root / "labels.json", {"labels": {str(i): name for i, name in enumerate(CLASSES)}, "ignore": 255})
    return counts


def ship(model: Path, out: Path, about: dict[str, Any]) -> None:
    """A trained model folder, with weights of 16 bits a card that says what it saw, and marks of its images;
    no picture, and no name of one."""
    with replacing_folder(out) as part:
        write_tensors(part / WEIGHTS, {key: value.astype(np.float16) if value.dtype == np.float32 else value
                                       for key, value in read_tensors(model / WEIGHTS).items()})  # fmt: skip
        shutil.copyfile(model / SEEN, part / SEEN)  # so that evaluate can say which photos it has seen
        meta = read_json(model / META)
        meta["card"] = {**meta["card"], **about}
        meta["files"] = {name: sha256(part / name) for name in (SEEN, WEIGHTS)}
        (part / META).write_text(to_json(meta) + "\n", encoding="utf-8")


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos", choices=["free", "all"], default="free")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: the model that is shipped; with --photos all none is")
    o = parser.parse_args()
    root = o.work / f"people-{o.photos}-{o.scenes}"
    counted = root.with_suffix(".json")
    if not root.exists():
        with replacing_folder(root) as part:
            counts = make(part, o.data, o.photos, o.scenes)
        write_json(counted, counts)
    counts = read_json(counted)
    model = o.work / f"{root.name}-{o.epochs}-{o.seed}"
    if not (model / META).exists():
        run(root, model, net="exeggutor:people", epochs=o.epochs, batch=16, ema=0.998, seed=o.seed, threads=o.threads,
            augment=AUGMENT, every=max(1, o.epochs // 8), keep="last", workers=1, resume=True,
            allow=["empty_image", "near_duplicate"])  # fmt: skip
    free = "; of all photos but ImageNet's the license allows commercial use and changes"
    about = {
        "made_by": "tools/make_people.py", "photos": counts,
        "trained_on": f"ImageNet-1k (the first blocks of EfficientNet-Lite0); {counts['with_people']} photos with the "
        f"masks of people and {counts['without']} without anybody, of COCO 2017 and of products; "
        f"{counts['scenes']} scenes dreamed from them" + (free if o.photos == "free" else
        "; also of MSRC and Clothing Co-Parsing. Most of the photos are licensed for non-commercial use only, or "
        "nobody knows how"),
    }  # fmt: skip
    out = o.out or (shipped.HOME / "people" if o.photos == "free" else None)
    if out is not None:
        ship(model, out, about)
        print(f"{out}: {(out / WEIGHTS).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
