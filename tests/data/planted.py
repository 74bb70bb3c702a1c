"""A sound data set, and one fault of every kind to plant in it."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PIL_Image

from handful.data.masks import write_ids
from handful.data.sample_images import SAMPLES, sample_photo

SIZE = 160, 120
CLASSES = {1: "cat", 2: "cup", 3: "rocket"}
TRAIN, VAL = 42, 12


def photographs(n: int) -> list[PIL_Image.Image]:
    """n different pictures cut from real photographs."""
    found = []
    for part in range(-(-n // len(SAMPLES))):
        for name in SAMPLES:
            photo = PIL_Image.fromarray(sample_photo(name).rgb_u8)
            w, h = photo.size
            x, y = [(0, 0), (1, 1), (1, 0), (0, 1), (0.5, 0.5), (0.5, 0.1)][part]
            side = 0.42 if part < 4 else 0.3
            box = (x * w * (1 - side), y * h * (1 - side), x * w * (1 - side) + side * w, y * h * (1 - side) + side * h)
            found.append(photo.crop(tuple(map(int, box))).resize(SIZE, PIL_Image.Resampling.LANCZOS))  # type: ignore[arg-type]
    return found[:n]


class Planted:
    """A COCO set of two splits with masks beside it. plant() changes it; save() writes the JSON."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        pictures = photographs(TRAIN + VAL)
        self.json: dict[str, dict[str, Any]] = {}
        self.number = 0
        for split, count in (("train", TRAIN), ("val", VAL)):
            images, labels = [], []
            for i in range(count):
                key, name = 1000 * (split == "val") + i + 1, f"{split}{i:03d}.jpg"
                path = root / "images" / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                pictures.pop(0).save(path, quality=92)
                images.append({"id": key, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 1})
                for _ in range(2):
                    self.number += 1
                    x, y = rng.uniform(0, 60, 2).round(2).tolist()
                    w, h = rng.uniform(20, 50, 2).round(2).tolist()
                    labels.append({"id": self.number, "image_id": key, "category_id": 1 + self.number % 3,
                                   "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                                   "segmentation": [[x, y, x + w, y, x + w, y + h]]})  # fmt: skip
                ids = np.zeros(SIZE[::-1], np.uint8)
                ids[10:60, 20:90] = 1 + i % 3
                write_ids(root / "masks" / split / name.replace(".jpg", ".png"), ids)
            categories = [{"id": k, "name": v, "supercategory": "thing"} for k, v in CLASSES.items()]
            self.json[split] = {"info": {"description": "planted"}, "licenses": [{"id": 1, "name": "CC BY 4.0"}],
                                "images": images, "annotations": labels, "categories": categories}  # fmt: skip
        names = {"0": "other", **{str(k): v for k, v in CLASSES.items()}}
        (root / "labels.json").write_text(json.dumps({"labels": names, "ignore": 255}))
        self.save()

    def save(self) -> Path:
        for split, value in self.json.items():
            (self.root / f"instances_{split}.json").write_text(json.dumps(value))
        return self.root

    def path(self, i: int, split: str = "train") -> Path:
        return self.root / "images" / split / f"{split}{i:03d}.jpg"

    def mask(self, i: int, split: str = "train") -> Path:
        return self.root / "masks" / split / f"{split}{i:03d}.png"

    def image(self, i: int, split: str = "train") -> dict[str, Any]:
        found = next(row for row in self.json[split]["images"] if row["file_name"] == self.path(i, split).name)
        return dict(found) if False else found

    def label(self, i: int, split: str = "train") -> dict[str, Any]:
        key = self.image(i, split)["id"]
        return next(row for row in self.json[split]["annotations"] if row["image_id"] == key)

    def forget(self, i: int, split: str = "train", *, listed: bool = False) -> None:
        """Take an image's labels away, and, unless listed, its entry too."""
        rows = self.json[split]
        key = self.image(i, split)["id"]
        rows["annotations"] = [row for row in rows["annotations"] if row["image_id"] != key]
        if not listed:
            rows["images"] = [row for row in rows["images"] if row["id"] != key]

    def add(self, name: str, split: str = "train", **more: Any) -> None:
        """List one more image, with a label."""
        self.number += 1
        key = 5000 + self.number
        row = {"id": key, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 1, **more}
        self.json[split]["images"].append(row)
        self.json[split]["annotations"].append(
            {"id": self.number, "image_id": row["id"], "category_id": 1, "bbox": [5, 6, 40, 30], "area": 1200.0,
             "iscrowd": 0, "segmentation": []})  # fmt: skip


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has 40,000 x 40,000 pixels."""
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))


def turned(path: Path, *, size_first: bool) -> None:
    """Give an image the EXIF tag that turns it by a quarter. size_first: turn its pixels first."""
    photo = PIL_Image.open(path).convert("RGB")
    if size_first:
        photo = photo.transpose(PIL_Image.Transpose.ROTATE_90)
    exif = PIL_Image.Exif()
    exif[0x0112] = 6
    photo.save(path, quality=92, exif=exif)


def _cmyk(p: Planted) -> None:
    PIL_Image.open(p.path(40)).convert("CMYK").save(p.path(40), quality=92)


def _mixed(p: Planted) -> None:
    p.path(8).rename(p.path(8).with_suffix(".JPG"))
    p.image(8)["file_name"] = "train008.JPG"


def _wrong_suffix(p: Planted) -> None:
    PIL_Image.open(p.path(9)).save(p.path(9), format="PNG")


def _clash(p: Planted) -> None:
    shutil.move(p.path(10), p.path(10).with_name("Train011.jpg"))
    p.image(10)["file_name"] = "Train011.jpg"
    shutil.move(p.mask(10), p.mask(10).with_name("Train011x.png"))
    p.mask(10).with_name("Train011x.png").unlink()


def _near(p: Planted, i: int, split: str, name: str) -> None:
    photo = PIL_Image.open(p.path(i)).convert("RGB").resize((SIZE[0] // 4 * 3, SIZE[1] // 4 * 3))
    photo.resize(SIZE).save(p.root / "images" / split / name, quality=60)
    p.add(name, split)


def _mask_pixels(p: Planted, i: int, value: int) -> None:
    ids = np.array(PIL_Image.open(p.mask(i)))
    ids[:5, :5] = value
    write_ids(p.mask(i), ids)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def _colors(p: Planted) -> None:
    PIL_Image.open(p.path(15)).save(p.mask(15))


def _link(p: Planted) -> None:
    outside = p.root.parent / "elsewhere.jpg"
    shutil.move(p.path(6), outside)
    p.path(6).symlink_to(outside)


def _copy(p: Planted, i: int, split: str, name: str) -> None:
    shutil.copy(p.path(i), p.root / "images" / split / name)
    p.add(name, split)


# code -> (what plants it, the file or text the finding must name)
FAULTS: dict[str, tuple[Callable[[Planted], Any], str]] = {
    "unreadable_image": (lambda p: _truncate(p.path(0)), "train000.jpg"),
    "empty_file": (lambda p: p.path(1).write_bytes(b""), "train001.jpg"),
    "image_bomb": (lambda p: bomb(p.path(2)), "train002.jpg"),
    "missing_image": (lambda p: p.add("gone.jpg"), "gone.jpg"),
    "wrong_case_name": (lambda p: p.image(4).update(file_name="TRAIN004.jpg"), "TRAIN004.jpg"),
    "unsafe_path": (lambda p: p.add("../../../etc/hostname"), "../../../etc/hostname"),
    "symlink_outside": (_link, "train006.jpg"),
    "leftover_file": (lambda p: (p.root / "images/train/x.jpg.crdownload").write_bytes(b"x"), "x.jpg.crdownload"),
    "mixed_case_suffix": (_mixed, "train008.JPG"),
    "wrong_suffix": (_wrong_suffix, "train009.jpg"),
    "no_end_marker": (lambda p: _cut(p.path(3), 2), "train003.jpg"),
    "name_clash": (_clash, "train011.jpg"),
    "size_mismatch": (lambda p: p.image(12).update(width=170), "train012.jpg"),
    "mask_size_mismatch": (lambda p: write_ids(p.mask(13), np.zeros((60, 80), np.uint8)), "train013.png"),
    "label_outside_map": (lambda p: _mask_pixels(p, 14, 77), "train014.png"),
    "mask_not_ids": (_colors, "train015.png"),
    "unreadable_mask": (lambda p: _truncate(p.mask(16)), "train016.png"),
    "unlabeled_image": (lambda p: p.forget(17), "train017.jpg"),
    "empty_image": (lambda p: p.forget(18, listed=True), "train018.jpg"),
    "box_outside": (lambda p: p.label(19).update(bbox=[140.0, 10.0, 40.0, 20.0], segmentation=[]), "train"),
    "box_no_area": (lambda p: p.label(20).update(bbox=[10.0, 10.0, 0.0, 20.0], segmentation=[]), "train"),
    "box_negative": (lambda p: p.label(21).update(bbox=[50.0, 10.0, -10.0, 20.0], segmentation=[]), "train"),
    "not_finite": (lambda p: p.label(22).update(bbox=[float("nan"), 10.0, 10.0, 20.0]), "train"),
    "broken_label": (lambda p: p.label(23).update(bbox="12,13,14,15", segmentation=[]), "train"),
    "broken_polygon": (lambda p: p.label(24).update(segmentation=[[1, 2, 3, 4]]), "train"),
    "broken_rle": (lambda p: p.label(25).update(segmentation={"size": [120, 160], "counts": [1, 2, 3]}), "train"),
    "wrong_area": (lambda p: p.label(26).update(area=0), "train"),
    "duplicate_object": (
        lambda p: p.json["train"]["annotations"].append({**p.label(27), "id": 90_001}), "train027.jpg"),
    "tiny_object": (lambda p: p.label(28).update(bbox=[5.0, 6.0, 3.0, 2.0], segmentation=[]), "train028.jpg"),
    "duplicate_image_id": (lambda p: p.image(29).update(id=p.image(30)["id"]), "train"),
    "duplicate_image": (lambda p: p.add("train031.jpg"), "train031.jpg"),
    "duplicate_label_id": (lambda p: p.label(32).update(id=p.label(33)["id"]), "train"),
    "duplicate_category": (lambda p: p.json["train"]["categories"].append({"id": 3, "name": "rocket"}), "train"),
    "category_twins": (lambda p: p.json["val"]["categories"].append({"id": 8, "name": "Cat"}), "val"),
    "unknown_category": (lambda p: p.label(34).update(category_id=99), "99"),
    "orphan_label": (lambda p: p.label(35).update(image_id=777_777), "777777"),
    "class_without_samples": (lambda p: p.json["train"]["categories"].append({"id": 9, "name": "zebra"}), "zebra"),
    "same_image_twice": (lambda p: _copy(p, 36, "train", "again.jpg"), "again.jpg"),
    "same_image_across_splits": (lambda p: _copy(p, 37, "val", "leak.jpg"), "leak.jpg"),
    "near_duplicate": (lambda p: _near(p, 38, "train", "smaller.jpg"), "smaller.jpg"),
    "near_duplicate_across_splits": (lambda p: _near(p, 39, "val", "smaller-leak.jpg"), "smaller-leak.jpg"),
    "color_space": (_cmyk, "train040.jpg"),
    "exif_rotated": (lambda p: turned(p.path(41), size_first=True), "train041.jpg"),
    "exif_against_labels": (lambda p: turned(p.path(0, "val"), size_first=False), "val000.jpg"),
    "unknown_license": (lambda p: p.image(1, "val").update(license=12), "12"),
    "no_license": (lambda p: p.image(2, "val").pop("license"), "val002.jpg"),
    "missing_mask": (lambda p: p.mask(3, "val").unlink(), "val003.jpg"),
}  # fmt: skip
