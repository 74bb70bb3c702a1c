"""Data sets laid out as people lay them out, drawn by a seed: photographs, masks, boxes or classes, and what is around.

`drawn(seed, place)` makes one and says what is in it. The right outcome is the truth, or a refusal that names a file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PIL_Image
from PIL import ImageDraw, ImageFilter

SIZE = (96, 72)
CLASSES = ("mug", "plate", "spoon")
SPLITS = (("train", "val"), ("train", "valid", "test"), ("training", "validation"))


@dataclass
class Truth:
    """What a data set holds. images, splits: how many. objects: boxes of each class; pixels: of what is no background;
    classes: images of each class. readable: whether it is of a kind that has to be read, not only refused."""

    kind: str
    images: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    pixels: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    readable: bool = True
    what: list[str] = field(default_factory=list)


class Maker:
    """Draws one layout."""

    def __init__(self, seed: int, place: Path) -> None:
        self.rng = np.random.default_rng([19, seed])
        self.place, self.n = place, 0
        self.truth = Truth("")

    def pick(self, *options: Any, what: str = "") -> Any:
        """One of some options, remembered."""
        found = options[int(self.rng.integers(len(options)))]
        if what:
            self.truth.what.append(f"{what}={found}")
        return found

    def write(self, name: str, data: bytes | str) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def save(self, picture: PIL_Image.Image, name: str, **how: Any) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **how)

    def photo(self, name: str) -> None:
        """Noise made smooth, which no mask looks like."""
        small = self.rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        large = np.asarray(PIL_Image.fromarray(small).resize(SIZE, PIL_Image.Resampling.BICUBIC)).astype(np.int16)
        grain = self.rng.integers(-6, 7, large.shape)
        self.save(PIL_Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)), name)
        self.truth.images += 1

    def areas(self) -> np.ndarray:
        """(h, w) ids: 0, and one or two shapes of 1 and 2."""
        picture = PIL_Image.new("L", SIZE)
        draw = ImageDraw.Draw(picture)
        for value in (1, 2):
            x, y = int(self.rng.integers(2, 40)), int(self.rng.integers(2, 30))
            draw.ellipse((x, y, x + int(self.rng.integers(16, 50)), y + int(self.rng.integers(12, 38))), fill=value)
        return np.asarray(picture)


# --- masks -----------------------------------------------------------------------------------------------------------


def _binary255(ids: np.ndarray) -> PIL_Image.Image:
    return PIL_Image.fromarray(((ids > 0) * 255).astype(np.uint8))


def _binary_rgb(ids: np.ndarray) -> PIL_Image.Image:
    return _binary255(ids).convert("RGB")


def _one_bit(ids: np.ndarray) -> PIL_Image.Image:
    return _binary255(ids).convert("1")


def _ids(ids: np.ndarray) -> PIL_Image.Image:
    return PIL_Image.fromarray(ids)


def _palette(ids: np.ndarray) -> PIL_Image.Image:
    picture = PIL_Image.fromarray(ids, "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return picture


def _alpha(ids: np.ndarray) -> PIL_Image.Image:
    white = PIL_Image.new("RGBA", SIZE, "white")
    white.putalpha(_binary255(ids))
    return white


def _soft(ids: np.ndarray) -> PIL_Image.Image:
    return _binary255(ids).filter(ImageFilter.GaussianBlur(1.5))


def _sixteen(ids: np.ndarray) -> PIL_Image.Image:
    return PIL_Image.fromarray(ids.astype(np.uint16) * 300)


# how masks are stored, and whether they have to be read without being asked about
STORED: dict[str, tuple[Callable[[np.ndarray], PIL_Image.Image], bool]] = {
    "0/255": (_binary255, True), "0/255 as RGB": (_binary_rgb, True), "one bit": (_one_bit, True),
    "ids": (_ids, True), "palette": (_palette, True), "alpha": (_alpha, True), "soft": (_soft, False),
    "16 bits": (_sixteen, True), "jpg": (_binary255, False),
}  # fmt: skip
# (image, mask) of a split ("" without) and a name
PLACES: dict[str, tuple[str, str]] = {
    "sibling": ("{I}/{s}{n}", "{M}/{s}{n}"),
    "split over": ("{s}{I}/{n}", "{s}{M}/{n}"),
    "split_kind": ("{S}{I}/{n}", "{S}{M}/{n}"),
    "masks in a folder beside photos": ("{s}{n}", "{M}/{s}{n}"),
    "masks below photos": ("{s}{n}", "{s}{M}/{n}"),
    "kind_mask": ("{t}/{n}", "{t}_{m}/{n}"),
    "one folder": ("{s}{n}", "{s}{n}"),
    "below annotations": ("images/{s}{n}", "annotations/{M}/{s}{n}"),
    "a folder a photo": ("{s}{n}/image", "{s}{n}/{m}"),
}
IMAGE_DIRS = ("images", "imgs", "Images", "JPEGImages", "image", "img", "photos", "rgb", "input")
MASK_DIRS = ("masks", "mask", "labels", "gt", "GT", "annotations", "segmentation", "ground_truth", "label", "Masks",
             "SegmentationMasks", "seg", "targets")  # fmt: skip
SUFFIXES = ("", "_mask", "-mask", ".mask", "_seg", "_gt", "_label", "_segmentation", "_Segmentation", "_labels")


def masks(m: Maker) -> None:
    """Photographs and masks."""
    t = m.truth
    where = m.pick(*PLACES, what="place")
    stored = m.pick(*STORED, what="stored")
    image_dir, mask_dir = m.pick(*IMAGE_DIRS, what="I"), m.pick(*MASK_DIRS, what="M")
    word = m.pick("mask", "masks", "seg", "label", "gt", what="m")
    suffix = m.pick(*(SUFFIXES[1:] if where == "one folder" else SUFFIXES), what="suffix")
    suffix = "" if where in ("a folder a photo", "kind_mask") else suffix
    splits = m.pick((), *SPLITS, what="splits")
    if where in ("split over", "split_kind") and not splits:
        splits = SPLITS[0]
    if where == "kind_mask":
        splits = ()
    photo_suffix = m.pick(".jpg", ".png", ".jpeg", ".JPG", what="photos")
    draw, t.readable = STORED[stored]
    file = ".jpg" if stored == "jpg" else m.pick(".png", ".PNG", ".tif", ".bmp" if stored != "alpha" else ".png")
    file = ".png" if stored in ("16 bits", "one bit", "palette") and file == ".bmp" else file
    named = m.pick("numbers", "names", "spaces", what="named")
    image, mask = PLACES[where]
    for split in splits or ("",):
        for i in range(int(m.rng.integers(3, 6))):
            name = {"numbers": f"{i:04}", "names": f"shot_{i}a", "spaces": f"b ({i})"}[named]
            name += split if splits and named == "names" else ""
            fill = {"s": f"{split}/" if split else "", "S": f"{split}_" if split else "", "I": image_dir, "M": mask_dir,
                    "m": word, "t": "train", "n": name}  # fmt: skip
            m.photo(image.format(**fill) + photo_suffix)
            ids = m.areas()
            how = {"quality": 88} if file == ".jpg" else {}
            m.save(draw(ids), mask.format(**fill) + suffix + file, **how)
            t.pixels += int((ids > 0).sum())
            t.splits[split or ("train" if where == "kind_mask" else "")] += 1
    if stored in ("ids", "palette") and m.pick(True, False, what="list"):
        m.write(m.pick("classes.txt", "class_names.txt", "labels.txt", "codes.txt"), "background\nmug\nplate\n")
    t.kind = "masks"


# --- boxes -----------------------------------------------------------------------------------------------------------


def _box(m: Maker) -> tuple[int, int, int, int]:
    x, y = int(m.rng.integers(1, 40)), int(m.rng.integers(1, 30))
    return x, y, x + int(m.rng.integers(10, 50)), y + int(m.rng.integers(8, 38))


def boxes(m: Maker) -> None:
    """Photographs and boxes: COCO, VOC, YOLO, in the folders that tools and people use."""
    t = m.truth
    tool = m.pick("coco", "voc", "yolo", what="tool")
    splits = m.pick((), *SPLITS, what="splits")
    rows: dict[str, list[tuple[str, list[tuple[int, tuple[int, int, int, int]]]]]] = {}
    suffix = m.pick(".jpg", ".png", what="photos")
    for split in splits or ("",):
        rows[split] = []
        for i in range(int(m.rng.integers(3, 6))):
            found = [(int(m.rng.integers(len(CLASSES))), _box(m)) for _ in range(int(m.rng.integers(1, 4)))]
            rows[split].append((f"{split or 'p'}{i:03}{suffix}", found))
            t.splits[split] += 1
            t.objects.update(CLASSES[c] for c, _ in found)
    {"coco": _coco, "voc": _voc, "yolo": _yolo}[tool](m, rows)
    t.kind = "boxes"


def _coco(m: Maker, rows: Any) -> None:
    where = m.pick("annotations", "roboflow", "beside", "root", what="coco")
    for split, images in rows.items():
        folder = split or "images"
        if where in ("beside", "root") and split:
            folder = f"images/{split}" if where == "beside" else f"{split}/images"
        held: dict[str, Any] = {"images": [], "annotations": []}
        held["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        for i, (name, found) in enumerate(images):
            m.photo(f"{folder}/{name}")
            held["images"].append({"id": i + 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            for c, (x0, y0, x1, y1) in found:
                held["annotations"].append({"id": len(held["annotations"]) + 1, "image_id": i + 1, "category_id": c + 1,
                                            "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
                                            "iscrowd": 0})  # fmt: skip
        file = {"annotations": f"annotations/instances_{split or 'default'}.json",
                "roboflow": f"{split or 'images'}/_annotations.coco.json",
                "beside": f"annotations/instances_{split or 'default'}.json",
                "root": f"{split + '/' if split else ''}annotations.json"}[where]  # fmt: skip
        m.write(file, json.dumps(held))


def _voc(m: Maker, rows: Any) -> None:
    where = m.pick("voc", "beside", "xml folder", what="voc")
    for split, images in rows.items():
        for name, found in images:
            stem = name.rsplit(".", 1)[0]
            inner = "".join(
                f"<object><name>{CLASSES[c]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
                f"<ymax>{y1}</ymax></bndbox></object>" for c, (x0, y0, x1, y1) in found)  # fmt: skip
            xml = (f"<annotation><filename>{name}</filename><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height>"
                   f"<depth>3</depth></size>{inner}</annotation>")  # fmt: skip
            before = f"{split}/" if split else ""
            if where == "voc":
                m.photo(f"JPEGImages/{name}")
                m.write(f"Annotations/{stem}.xml", xml)
            elif where == "beside":
                m.photo(f"{before}{name}")
                m.write(f"{before}{stem}.xml", xml)
            else:
                m.photo(f"{before}images/{name}")
                m.write(f"{before}{'annotations' if not split else 'xml'}/{stem}.xml", xml)
        if where == "voc":
            stems = "\n".join(name.rsplit(".", 1)[0] for name, _ in images)
            m.write(f"ImageSets/Main/{split or 'default'}.txt", stems + "\n")


def _yolo(m: Maker, rows: Any) -> None:
    where = m.pick("ultralytics", "roboflow", "flat", what="yolo")
    named = m.pick("yaml", "classes.txt", what="names")
    lines = []
    for split, images in rows.items():
        before = f"{split}/" if split else ""
        at = {"ultralytics": (f"images/{before}", f"labels/{before}"), "flat": (before, before),
              "roboflow": (f"{before}images/", f"{before}labels/")}[where]  # fmt: skip
        for name, found in images:
            m.photo(at[0] + name)
            text = ""
            for c, (x0, y0, x1, y1) in found:
                middle = f"{(x0 + x1) / 2 / SIZE[0]} {(y0 + y1) / 2 / SIZE[1]}"
                text += f"{c} {middle} {(x1 - x0) / SIZE[0]} {(y1 - y0) / SIZE[1]}\n"
            m.write(at[1] + name.rsplit(".", 1)[0] + ".txt", text)
        key = {"": "train", "training": "train", "validation": "val", "valid": "val"}.get(split, split)
        lines.append(f"{key}: {at[0].rstrip('/') or '.'}\n")
    if where == "flat" or named == "classes.txt":
        m.write("classes.txt", "\n".join(CLASSES) + "\n")
    else:
        m.write("data.yaml", "".join(lines) + f"nc: 3\nnames: [{', '.join(CLASSES)}]\n")
        if not split and where != "flat" and named == "yaml":
            t = m.truth  # data.yaml says of which split they are
            t.splits["train"] += t.splits.pop("", 0)


# --- classes ---------------------------------------------------------------------------------------------------------


def classes(m: Maker) -> None:
    """A folder a class."""
    t = m.truth
    splits = m.pick((), *SPLITS, what="splits")
    names = m.pick(CLASSES, ("cat", "dog"), ("0", "1", "2"), ("label a", "label b"), ("good", "broken"), what="names")
    numbered = m.pick(True, False, what="numbered")
    for split in splits or ("",):
        for k, name in enumerate(names):
            for i in range(int(m.rng.integers(3, 6))):
                m.photo(f"{split + '/' if split else ''}{name}/{i if numbered else f'{k}_{i}'}.jpg")
                t.splits[split] += 1
                t.classes[name] += 1
    t.kind = "classes"


# --- around it -------------------------------------------------------------------------------------------------------


def around(m: Maker) -> None:
    """What lies in real folders beside the data."""
    for what in set(m.rng.choice(["readme", "store", "thumbs", "license", "notes", "requirements", "none", "none"], 2)):
        m.truth.what.append(f"+{what}")
        if what == "readme":
            m.write(m.pick("README.md", "README.txt", "readme.roboflow.txt"), "Images of mugs, taken in a kitchen.\n")
        elif what == "store":
            m.write(".DS_Store", b"\0\0\0\1Bud1")
        elif what == "thumbs":
            m.write("Thumbs.db", b"\xd0\xcf\x11\xe0")
        elif what == "license":
            m.write("LICENSE", "CC BY 4.0\n")
        elif what == "notes":
            m.write("notes.txt", "Taken on a rainy day.\nThe light was poor.\n")
        elif what == "requirements":
            m.write("requirements.txt", "numpy\npillow\n")


def foreign(m: Maker) -> None:
    """Labels in a form that is not read, beside photographs: only a refusal that names them is right."""
    t = m.truth
    which = m.pick("npy", "mat", "rle.csv", "per-photo json", "pickle", what="foreign")
    folder = m.pick("images", "mug", "data/photos", what="folder")
    for i in range(4):
        m.photo(f"{folder}/{i:03}.jpg")
        if which == "npy":
            m.write(f"{folder}/{i:03}.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f8'}")
        elif which == "per-photo json":
            m.write(f"json/{i:03}.json", json.dumps({"thing": {"at": [1, 2, 3, 4]}, "kind": "mug"}))
    if which == "mat":
        m.write("digitStruct.mat", b"MATLAB 5.0 MAT-file" + bytes(100))
    elif which == "rle.csv":
        m.write("train.csv", "ImageId,EncodedPixels,Kind\n" + "".join(f"{i:03}.jpg,1 3 10 5,x\n" for i in range(4)))
    elif which == "pickle":
        m.write("labels.pkl", b"\x80\x04.")
    t.kind, t.readable = "foreign", False


KINDS = (masks, masks, masks, boxes, boxes, classes, foreign)


def drawn(seed: int, place: Path) -> Truth:
    """Make the data set of a seed in an empty folder."""
    place.mkdir(parents=True, exist_ok=True)
    m = Maker(seed, place)
    nested = m.pick("", "", "", "my data", "dataset/v2", what="nested")
    m.place = place / nested
    KINDS[seed % len(KINDS)](m)
    around(m)
    return m.truth
