"""Mutated label files through every reader: each is read, or refused by name; nothing crashes, hangs or fills memory.

    python benchmarks/fuzz.py [--files 10000] [--seed 0] [--formats coco,voc] [--only N] [--out bench-results/fuzz.json]

Small valid data sets are written by each format's own write() from real photographs; with the shared photographs, COCO
files cut to a few images are added. One to three files of a set are then mutated (bytes, numbers, keys, types, nesting,
encodings, PNG chunks and pixels, XML entities, names, whole files) and the set is read twice: as training would, where
an error must be a DataError that names the file or its folder, and as `handful data check` would, where everything is
told and nothing may be raised but that the folder as a whole, or one mask or photo, cannot be used. Every object is
painted, every finding must go into JSON. Every tenth set is also written again, as a repair would. Case N of a seed is
the same on every machine: --only N runs it alone and shows what it did. A crash makes the exit status 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from common import ROOT, save
from PIL import Image as PIL_Image

sys.path.insert(0, str(ROOT))

import handful.data
from handful.data.finding import Finding
from handful.data.formats import module
from handful.data.masks import png_of
from handful.data.sample_images import SAMPLES, sample_photo
from handful.data.shapes import box_of, painted
from handful.data.writing import Writer
from handful.errors import DataError
from handful.image import SUFFIXES
from handful.pick import names
from handful.types import Category, Dataset, Mask, Object, Rle, Sample
from tests.data.listed_sets import SETS, as_bytes

LIMIT_S = 20.0  # a case that takes longer hangs
LIMIT_MB = 4000  # of address space
PAINT_PX = 1 << 22
MOST_BYTES = 1 << 25  # of a file that lines were added to
REWRITE_EVERY = 10
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "-0.0", "1e-320", "0.5", str(2**31), str(2**63),
           str(2**64), "1" * 400, "1" * 5000, "99999999", "1048575", "0x10", "1_000", "١٢", "true", "null",
           '"7"', "1e5", "65536", "255", "256"]  # fmt: skip
NAMES = ["../../etc/passwd", "/etc/passwd", "C:\\x.jpg", "a\0b.jpg", "", ".", "..", "x" * 5000, "\ud800.jpg",
         "a\nb.jpg", "\u202e.jpg", "images", "http://x/y.jpg", "~", "con", "A.JPG", "\x1b[31m", "é.jpg"]  # fmt: skip
OTHERS = [None, True, 0, -1, 1.5, "", "x", [], {}, [[]], [None], {"a": 1}, [1, 2], "9" * 50, 1e300, float("inf")]


# --- seeds -----------------------------------------------------------------------------------------------------------


@dataclass
class Seed:
    """A valid data set as files: relative name -> bytes."""

    format: str
    files: dict[str, bytes]
    labels: list[str] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        masks = ("mask", "annot", "segmentation", "gtfine", "labels", "panoptic")
        for name in sorted(self.files):
            photo = Path(name).suffix.lower() in SUFFIXES and not any(m in name.lower() for m in masks)
            (self.photos if photo else self.labels).append(name)
        self.labels = self.labels or self.photos


def _sample(folder: Path, i: int, size: tuple[int, int], name: str, **more: Any) -> Sample:
    photo = list(SAMPLES)[i % len(SAMPLES)]
    path = folder / f"{size[0]}" / f"{i}{Path(name).suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        PIL_Image.fromarray(sample_photo(photo).rgb_u8).resize(size).save(path)
    return Sample(path, name=name, **more)


def _things(labels: list[str], i: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[Object, ...]:
    w, h = size
    found = []
    for k in range(i % 4):
        left, top = round(float(rng.uniform(0, w / 2)), 2), round(float(rng.uniform(0, h / 2)), 2)
        right, bottom = left + round(w / 3, 2), top + round(h / 3, 2)
        pixels = np.zeros((h, w), dtype=bool)
        pixels[int(top) + 1 : int(bottom), int(left) + 1 : int(right)] = True
        runs = np.diff(np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=False)), prepend=0).tolist()
        rle = Rle((h, w), (*runs, h * w - sum(runs)))
        outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        shape: dict[str, Any] = [{"polygons_px": (outline,)}, {"rle": rle}, {"polygons_px": (outline,)}][k % 3]
        about = {"id": 10 * i + k + 1, "area": 12.5, "color": "red"}
        found.append(Object(labels[k % len(labels)], (left, top, right, bottom), attributes=about,
                            crowd=k == 2, **shape))  # fmt: skip
    return tuple(found)


def _made(folder: Path, categories: tuple[Category, ...], size: tuple[int, int], name: str, *, masks: bool,
          objects: bool, label: bool, split: bool) -> Dataset:  # fmt: skip
    rng = np.random.default_rng(0)
    ids = [c.id for c in categories]
    samples = []
    for i in range(5):
        more: dict[str, Any] = {"split": ("train", "test" if size == (32, 32) else "val")[i % 2]} if split else {}
        if label:
            more["label"] = categories[i % len(categories)].name
        if objects and i:
            labels = [c.name for c in categories if c.thing is not False][:3]
            more |= {"objects": _things(labels, i, size, rng), "size_wh": size}
        if masks and i != 2:
            values = np.repeat(rng.choice(ids[:5], (size[1] // 3, 1)), size[0], 1).repeat(3, 0).astype(np.uint8)
            values = np.pad(values, ((0, size[1] - len(values)), (0, 0)), mode="edge")
            for thing in more.get("objects", ()):
                pixels = painted(thing, size)
                if pixels is not None:
                    values[pixels] = next(c.id for c in categories if c.name == thing.label)
            more["mask"] = lambda values=values: Mask(values)
        samples.append(_sample(folder, i, size, name.format(i), **more))
    return Dataset("made", folder, categories, lambda: iter(samples), len(samples))


def seeds(folder: Path, formats: list[str], data: Path | None) -> list[Seed]:
    """Valid sets: of every format that can be written, from every kind of source that it accepts, and exports."""
    few = (Category(1, "cat"), Category(2, "Ä dog", thing=True), Category(3, "sky", "far", False, (70, 130, 180)))
    voc = (Category(0, "background"), Category(8, "cat"), Category(12, "dog"))
    ten = tuple(Category(i, f"class {i}") for i in range(10))
    hundred = tuple(Category(i, f"class {i}", f"group {i % 5}") for i in range(100))
    found = [Seed(made.format, {name: as_bytes(held, name, i) for i, (name, held) in enumerate(made.files.items())})
             for made in SETS.values() if made.format in formats]  # fmt: skip
    for format in formats:
        mod = module(format)
        if not hasattr(mod, "write"):
            continue
        own = [getattr(mod, what) for what in ("CATEGORIES", "ELEVEN", "BINARY") if hasattr(mod, what)]
        own += [mod.standard()] if hasattr(mod, "standard") else []
        own = [table for table in own if isinstance(table, tuple) and isinstance(table[0], Category)]
        kinds = [
            (c, (40, 30), n) for c in (few, voc, *own) for n in ("film/{:05d}.jpg", "a b/aachen_000000_{:06d}.png")
        ]
        batch = "data_batch_1/{:05d}.png"
        more = ((ten, (32, 32), batch), (hundred, (32, 32), "train/{:05d}.png"), (few, (40, 30), "{}.jpg"))
        for categories, size, name in (*kinds, *more):
            for masks, objects, label, split in ((1, 1, 0, 1), (0, 1, 0, 1), (1, 0, 0, 0), (0, 0, 1, 1), (0, 1, 0, 0)):
                source = _made(folder / "photos", categories, size, name, masks=bool(masks), objects=bool(objects),
                               label=bool(label), split=bool(split))  # fmt: skip
                out = folder / "set"
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                try:
                    mod.write(source, Writer(out))
                    said = [(s.label, s.objects, s.mask) for s in mod.read(out)] if mod.detect(out) else []
                except DataError:
                    continue  # not what this format holds
                if any(value is not None for row in said for value in row):
                    found.append(Seed(format, _files(out)))
    if "pairs" in formats:  # masks beside images of another name, with the names in a list or in none
        for one in [
            s for s in (found if "masks" in formats else seeds(folder, ["masks"], None)) if s.format == "masks"
        ][::4]:
            files = {name.replace("images/", "shots/", 1): held for name, held in one.files.items()}
            names = files.pop("labels.json", b"")
            found += [Seed("pairs", files), Seed("pairs", {**files, "labels.json": names}),
                      Seed("pairs", {**files, "class_dict.csv": b"name,r,g,b\na,0,0,0\nb,128,0,0\n"})]  # fmt: skip
    if data is not None and "coco" in formats:
        found += [
            _cut(file, folder)
            for file in sorted(data.glob("*/instances_*.json")) + sorted(data.glob("*/*/annotations.json"))
        ]
    found += [seed for seed in _as_people_keep_them(folder) if seed.format in formats]
    unique = {json.dumps([s.format, sorted(s.files), hash(tuple(s.files.values()))]): s for s in found}
    return list(unique.values())


def _as_people_keep_them(folder: Path) -> list[Seed]:
    """Sets as nothing here writes them: names of other machines, files a folder deeper, lists of classes, keypoints."""
    photo = _sample(folder / "photos", 0, (40, 30), "x.jpg").path.read_bytes()
    mask = png_bytes(np.eye(30, 40, dtype=np.uint8) * 2)
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 10]}
    rows = {"images": [{"id": 1, "file_name": "C:\\set\\a%20b.jpg", "width": "40", "height": 30.0}],
            "annotations": [box | {"segmentation": [1, 2, 20, 2, 20, 10], "keypoints": [1, 2, 2]}],
            "categories": [{"id": 1, "name": "cat", "keypoints": ["nose"], "skeleton": []}], "videos": []}  # fmt: skip
    xml = b"""<annotation><path>/x/a.jpg</path><filename>a.jpg</filename><object><name>mug</name>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox><part><name>lid</name></part></object>
<object><name>mug</name><polygon><x1>2</x1><y1>3</y1><x2>20</x2><y2>3</y2><x3>9</x3><y3>15</y3></polygon></object>
<object><name>mug</name><robndbox><cx>20</cx><cy>15</cy><w>9</w><h>4</h><angle>1.5</angle></robndbox></object>
</annotation>"""
    pose = b"train: images\nval: images\ntest: ../test\nkpt_shape: [1, 3]\nkpt_names: {0: [nose]}\nnames: [cat]\n"
    both = {f"{split}2017/a b.jpg": photo for split in ("train", "val")}
    labels = {f"annotations/my_{split}.json": json.dumps(rows).encode() for split in ("train", "val")}
    return [
        Seed("coco", both | labels),
        Seed("coco", {"data/a b.jpg": photo, "labels.json": json.dumps(rows | {"categories": None}).encode()}),
        Seed("voc", {"images/a.jpg": photo, "annotations/xmls/a.xml": xml}),
        Seed("voc", {"pictures/a.jpg": photo, "boxes/a.xml": xml}),
        Seed("voc", {"JPEGImages/a.jpg": photo, "SegmentationClass/a.png": mask, "class_names.txt": b"bg\nmug\ncup\n"}),
        Seed("yolo", {"images/a.jpg": photo, "labels/a.txt": b"0 0.5 0.5 0.2 0.4 0.5 0.5 2\n", "data.yaml": pose}),
        Seed("camvid", {"images/0016E5_00001.png": photo, "labels/0016E5_00001_P.png": mask, "codes.txt": b"a\nb\nc\n",
                        "valid.txt": b"0016E5_00001.png\n"}),
    ]  # fmt: skip


def png_bytes(ids: np.ndarray) -> bytes:
    """A mask as the bytes of a PNG file."""
    held = BytesIO()
    png_of(ids).save(held, format="PNG")
    return held.getvalue()


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _cut(file: Path, folder: Path) -> Seed:
    """The first images of a real COCO file, with small photographs under their names."""
    held = json.loads(file.read_text())
    labels: dict[Any, list[Any]] = {}
    for row in held["annotations"]:
        labels.setdefault(row["image_id"], []).append(row)
    images = sorted(held["images"], key=lambda i: sum(len(str(a)) for a in labels.get(i["id"], [])))[20:24]
    held |= {"images": images, "annotations": [a for i in images for a in labels.get(i["id"], [])]}
    held["categories"] = held["categories"][:90]
    files = {"instances_train.json": json.dumps(held).encode()}
    for i, image in enumerate(images):
        sample = _sample(folder / "photos", i, (40, 30), "x.jpg")
        files[f"images/train/{image['file_name']}"] = sample.path.read_bytes()
    return Seed("coco", files)


# --- mutations -------------------------------------------------------------------------------------------------------

Mutate = Callable[[bytes, np.random.Generator, Seed], bytes]


def _at(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return a, min(b, a + int(rng.choice([1, 8, 100, 10_000])))


def flip(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    held = bytearray(data)
    for at in rng.integers(0, len(held), int(rng.choice([1, 3, 30]))).tolist() if held else ():
        held[at] = int(rng.integers(0, 256))
    return bytes(held)


def truncate(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))]


def repeat(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    a, b = _at(data, rng)
    return data[:b] + data[a:b] * int(rng.choice([1, 2, 50])) + data[b:]


def remove(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    a, b = _at(data, rng)
    return data[:a] + data[b:]


def noise(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    a = int(rng.integers(0, len(data) + 1))
    return data[:a] + rng.bytes(int(rng.choice([1, 20, 1000]))) + data[a:]


def random_file(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    return rng.bytes(int(rng.choice([0, 1, 7, 300, 20_000])))


def swap(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    return seed.files[str(rng.choice(sorted(seed.files)))]


def numbers(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """Some of the numbers become impossible ones."""
    places = list(re.finditer(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?", data))
    chosen = rng.permutation(len(places))[: int(rng.choice([1, 4, 40]))].tolist()
    for i in sorted(chosen, reverse=True):
        value = str(rng.choice(NUMBERS)).encode()
        data = data[: places[i].start()] + value + data[places[i].end() :]
    return data


def words(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """A text between quotes or tags, or a line, becomes a name that leads astray."""
    places = list(re.finditer(rb'"[^"\n]*"|>[^<\n]*<|^[^\n]+$', data, re.MULTILINE))
    if not places:
        return data
    place = places[int(rng.integers(0, len(places)))]
    old, new = place[0], NAMES[int(rng.integers(0, len(NAMES)))]
    if old[:1] == b'"':
        value = json.dumps(new).encode()
    else:
        value = old[:1] * (old[:1] == b">") + new.encode("utf-8", "surrogatepass") + old[-1:] * (old[-1:] == b"<")
    return data[: place.start()] + value + data[place.end() :]


def lines(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """Lines deleted, doubled, shuffled, or thousands of one."""
    rows = data.split(b"\n")
    i = int(rng.integers(0, len(rows)))
    kind = int(rng.integers(0, 4))
    if kind == 0:
        rows = rows[:i] + rows[i + 1 :]
    elif kind == 1:
        times = min(int(rng.choice([2, 3000])), 2 + MOST_BYTES // (len(rows[i]) + 1))
        rows = rows[:i] + [rows[i]] * times + rows[i:]
    elif kind == 2:
        rows = [rows[k] for k in rng.permutation(len(rows)).tolist()]
    else:
        rows[i] = rows[i][: len(rows[i]) // 2]
    return b"\n".join(rows)


def encoding(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """Another encoding, a mark at the start, bytes that are no UTF-8, zeros."""
    text = data.decode("utf-8", "replace")
    kind = int(rng.integers(0, 7))
    if kind < 4:
        return text.encode(("utf-8-sig", "utf-16", "utf-32", "utf-16-le")[kind])
    a = int(rng.integers(0, len(data) + 1))
    return data[:a] + (b"\xff\xfe", b"\xed\xa0\x80", b"\0" * 1000)[kind - 4] + data[a:]


def nesting(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """Something a thousand levels deep in the middle."""
    deep = int(rng.choice([5, 100, 3000, 200_000]))
    kinds = (b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"<a>" * deep + b"</a>" * deep,
             b"[" * deep, b"- " * deep, b"<object>" * deep)  # fmt: skip
    value = kinds[int(rng.integers(0, len(kinds)))]
    places = [m.span() for m in re.finditer(rb"-?\d+(\.\d+)?|\"[^\"]*\"|>[^<]*<", data)] or [(0, 0)]
    a, b = places[int(rng.integers(0, len(places)))]
    tag = data[a : a + 1] == b">"
    return data[: a + tag] + value + data[b - tag :]


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: the holder and the key."""
    stack = [value]
    while stack:
        at = stack.pop()
        rows = list(at.items()) if isinstance(at, dict) else list(enumerate(at)) if isinstance(at, list) else []
        for key, inner in rows:
            yield at, key
            stack.append(inner)


def structure(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """JSON: keys and rows deleted, doubled, put elsewhere, of another type; others: some lines."""
    try:
        value = json.loads(data)
        deepcopy(value)
    except (ValueError, RecursionError):
        return lines(data, rng, seed)
    for _ in range(int(rng.choice([1, 2, 10]))):
        places = list(_nodes(value))
        if not places:
            break
        # the few keys at the top are as likely as the thousand numbers below
        near = [p for p in places if isinstance(p[1], str)] if rng.random() < 0.7 else places
        holder, key = (near or places)[int(rng.integers(0, len(near or places)))]
        kind = int(rng.integers(0, 4))
        if kind == 0:
            holder.pop(key)
        elif kind == 1:
            holder[key] = deepcopy(OTHERS[int(rng.integers(0, len(OTHERS)))])
        elif kind == 2 and isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            other, place = places[int(rng.integers(0, len(places)))]
            holder[key] = deepcopy(other[place])
    return json.dumps(value).encode()


def xml(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """Entities that expand without end, that read files, that ask a server; tags that are odd."""
    many = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    heads = (f'<!DOCTYPE x [<!ENTITY l0 "lol">{many}]>', '<!DOCTYPE x [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>',
             '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', f'<!DOCTYPE x [<!ENTITY l11 "{"a" * 50_000}">]>',
             '<?xml version="1.0" encoding="made-up"?>', '<?xml version="1.1" encoding="utf-16"?>',
             "<![CDATA[", "<!-- ", "<?x ?>", '<annotation xmlns="http://x">')  # fmt: skip
    head = heads[int(rng.integers(0, len(heads)))].encode()
    places = [m.end() for m in re.finditer(rb">", data)] or [0]
    at = places[int(rng.integers(0, len(places)))]
    return head + data[:at] + b"&l11;" * int(rng.choice([1, 10_000])) + data[at:]


def png(data: bytes, rng: np.random.Generator, seed: Seed) -> bytes:
    """A PNG of other values, mode or size, with chunks changed under right checksums, or of far too many pixels."""
    kind = int(rng.integers(0, 4))
    chunks = list(_chunks(data))
    if kind == 0 or not data.startswith(b"\x89PNG") or not chunks:
        size = [(40, 30), (30, 40), (1, 1), (41, 30), (32, 32)][int(rng.integers(0, 5))]
        mode = ["L", "P", "RGB", "RGBA", "1", "LA", "I;16", "PA", "I"][int(rng.integers(0, 9))]
        held = BytesIO()
        if mode in ("I;16", "I"):
            values = rng.integers(0, 65536, size[::-1]).astype(np.uint16 if mode == "I;16" else np.int32)
            picture = PIL_Image.fromarray(values)
        else:
            values = rng.integers(0, int(rng.choice([2, 5, 256])), (*size[::-1], 3)).astype(np.uint8)
            picture = PIL_Image.fromarray(values).convert("P" if mode == "PA" else mode)
        kinds = ("PNG", "PNG", "TIFF", "GIF", "BMP")
        try:
            picture.save(held, format=kinds[int(rng.integers(0, len(kinds)))])
        except OSError:  # not every kind has every mode
            held = BytesIO()
            picture.convert("L").save(held, format="PNG")
        return held.getvalue()
    if kind == 1:
        width, height = [(40_000, 40_000), (0, 5), (2**31 - 1, 1), (9_000, 9_000), (5, 5)][int(rng.integers(0, 5))]
        chunks = [(n, struct.pack(">II", width, height) + c[8:] if n == b"IHDR" else c) for n, c in chunks]
    elif kind == 2:
        i = int(rng.integers(0, len(chunks)))
        name, held_chunk = chunks[i]
        if name == b"IDAT":
            try:
                inner = flip(zlib.decompress(held_chunk), rng, seed)
                held_chunk = zlib.compress(inner * int(rng.choice([1, 1, 500])))
            except zlib.error:
                pass
        else:
            held_chunk = flip(held_chunk, rng, seed)
        chunks[i] = name, held_chunk
    else:
        chunks = [chunks[k] for k in rng.integers(0, len(chunks), len(chunks) + 1).tolist()]
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return data[:8] + b"".join(packed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


ANY: tuple[Mutate, ...] = (flip, truncate, repeat, remove, noise, random_file, swap)
TEXT: tuple[Mutate, ...] = (numbers, numbers, words, words, lines, encoding, nesting)
OF_KIND: dict[str, tuple[Mutate, ...]] = {
    ".json": (*TEXT, *(structure,) * 9, *ANY),
    ".xml": (*TEXT, xml, xml, xml, *ANY),
    ".png": (*(png,) * 9, *ANY),
}
FILES = ("gone", "folder", "capitals", "empty")  # what may happen to a file as a whole


def mutated(seed: Seed, rng: np.random.Generator) -> dict[str, bytes | str]:
    """Name -> new bytes, or one of FILES, for one to three files of a set; photos seldom."""
    found: dict[str, bytes | str] = {}
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        names = seed.photos if seed.photos and rng.random() < 0.1 else seed.labels
        kinds = sorted({Path(n).suffix for n in names})
        kind = kinds[int(rng.integers(0, len(kinds)))]  # one data.yaml is as likely as all label files together
        names = [n for n in names if Path(n).suffix == kind]
        name = names[int(rng.integers(0, len(names)))]
        if rng.random() < 0.04:
            found[name] = FILES[int(rng.integers(0, len(FILES)))]
            continue
        data = seed.files[name]
        for _ in range(int(rng.choice([1, 1, 2]))):
            choices = OF_KIND.get(Path(name).suffix.lower(), (*TEXT, *ANY) if name in seed.labels else (*ANY, png))
            data = choices[int(rng.integers(0, len(choices)))](data, rng, seed)
        found[name] = data
    return found


# --- what must hold --------------------------------------------------------------------------------------------------


class Crash(Exception):
    """A reader did what it must not."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Crash in whatever takes longer, where the system has alarms to give."""

    def late(*_: Any) -> None:
        raise Crash(f"took more than {seconds:g} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def look(sample: Sample, *, told: bool) -> None:
    """Everything that a sample offers; when everything is told, a mask or photo may still be refused by name."""
    for call in (sample.mask, sample.pixels):
        if call is not None:
            try:
                call()
            except DataError:
                if not told:
                    raise
    for thing in sample.objects or ():
        box_of(thing)
        size = sample.size_wh or (thing.rle and thing.rle.size_hw[::-1]) or (40, 30)
        if size[0] * size[1] <= PAINT_PX:
            painted(thing, size)


def names_it(message: str, root: Path, seed: Seed) -> bool:
    """Whether a message names the set's folder or one of its files (in any case), or begins with a folder in it."""
    text = message.casefold()
    inside = {part.casefold() for name in seed.files for part in (name, Path(name).name)}
    folders = {part for name in seed.files for part in Path(name).parts}
    begins = message.split(":")[0] in folders or message.startswith(tuple(f"{folder}/" for folder in folders))
    return str(root) in message or any(name in text for name in inside) or begins


def strict(mod: ModuleType, root: Path, seed: Seed) -> bool:
    """Read as training would. True: read; False: refused by name. Raises Crash otherwise."""
    try:
        for sample in mod.read(root):
            look(sample, told=False)
    except DataError as error:
        if not names_it(str(error), root, seed):
            raise Crash(f"refused without a name: {error}") from error
        return False
    return True


def lenient(mod: ModuleType, root: Path) -> Dataset | None:
    """Read as the check would: everything is told, and goes into JSON. None: the folder as a whole is refused."""
    found: list[Finding] = []
    try:
        dataset: Dataset = mod.read(root, on_finding=found.append)
    except DataError:
        return None
    try:
        for sample in dataset:
            look(sample, told=True)
    except DataError as error:
        raise Crash(f"raised though everything is told: {error}") from error
    for finding in found:
        json.dumps(finding.as_json(), allow_nan=False, ensure_ascii=False).encode()
        finding.text.encode()
    return dataset


def rewrite(mod: ModuleType, dataset: Dataset, out: Path) -> None:
    """Write what was read, as a repair would, and read it again; a mask that cannot be read is left out."""

    def samples() -> Iterator[Sample]:
        for sample in dataset:
            try:
                if sample.mask is not None:
                    sample.mask()
            except DataError:
                sample = Sample(**{**sample.__dict__, "mask": None})
            yield sample

    try:
        mod.write(Dataset(dataset.format, dataset.root, dataset.categories, samples, dataset.count, dataset.info),
                  Writer(out))  # fmt: skip
    except DataError:
        return
    if mod.detect(out):
        lenient(mod, out)


@dataclass
class Tally:
    """What came of the cases: by format, and each crash with its case."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0
    crashes: list[dict[str, Any]] = field(default_factory=list)
    slowest_ms: float = 0.0
    slowest: str = ""


class Bench:
    """The seeds on disk; each case changes some files of one and puts them back."""

    def __init__(self, folder: Path, formats: list[str], data: Path | None) -> None:
        self.folder, self.formats = folder, formats
        made = seeds(folder / "make", formats, data)
        self.seeds = {format: [seed for seed in made if seed.format == format] for format in formats}
        for format, held in self.seeds.items():
            for i, seed in enumerate(held):
                for name, data_ in seed.files.items():
                    path = folder / format / str(i) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data_)

    def case(self, number: int, seed: int, tally: Tally, *, show: bool = False) -> None:
        """Run one case; `number` and `seed` alone decide what it is."""
        rng = np.random.default_rng([seed, number])
        format = self.formats[number % len(self.formats)]
        which = int(rng.integers(0, len(self.seeds[format])))
        held, root = self.seeds[format][which], self.folder / format / str(which)
        changes = mutated(held, rng)
        mod = module(format)
        start = time.perf_counter()
        stage = ""
        try:
            for name, change in changes.items():
                _change(root / name, change)
            if show:
                print(format, root, {n: c if isinstance(c, str) else f"{len(c)} bytes" for n, c in changes.items()})
            with limited(LIMIT_S):
                stage = "detect"
                mod.detect(root)
                stage = "strict"
                whole = strict(mod, root, held)
                stage = "told"
                dataset = lenient(mod, root)
                again = dataset is not None and number // len(self.formats) % REWRITE_EVERY == 0
                if dataset is not None and again and hasattr(mod, "write"):
                    stage = "rewrite"
                    out = self.folder / "again"
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                    rewrite(mod, dataset, out)
                    tally.rewritten += 1
            (tally.read if whole else tally.refused)[format] += 1
        except Exception as error:  # whatever it is, it is what this looks for
            where = traceback.extract_tb(error.__traceback__)[-1]
            row = {"case": number, "format": format, "stage": stage, "files": list(changes),
                   "error": f"{type(error).__name__}: {str(error)[:300]}",
                   "where": f"{Path(where.filename).name}:{where.lineno}"}  # fmt: skip
            tally.crashes.append(row)
            if show:
                traceback.print_exc()
        finally:
            for name in changes:
                _change(root / name, "gone")
                (root / name).write_bytes(held.files[name])
        took = (time.perf_counter() - start) * 1000
        if took > tally.slowest_ms:
            tally.slowest_ms, tally.slowest = took, f"{number} ({format}: {', '.join(changes)})"


def _change(path: Path, change: bytes | str) -> None:
    upper = path.with_name(path.name.upper())
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    for old in (path, upper):
        old.unlink(missing_ok=True)
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif change == "folder":
        path.mkdir()
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "capitals":
        upper.write_bytes(b"")


def readers() -> list[str]:
    """Every format that can be read."""
    return [n for n in names(handful.data, "format") if all(hasattr(module(n), w) for w in ("detect", "read"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000, help="how many cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(readers()))
    parser.add_argument("--only", type=int, help="run this case alone and show it")
    parser.add_argument("--out", type=Path, default=Path("bench-results/fuzz.json"))
    args = parser.parse_args()
    faulthandler.enable()
    resource.setrlimit(
        resource.RLIMIT_AS, (LIMIT_MB << 20, resource.RLIM_INFINITY)
    )  # a MemoryError, not a dead machine
    data = Path(os.environ.get("HANDFUL_DATA", ROOT.parent / "shared" / "data"))
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="handful-fuzz-") as name:
        bench = Bench(Path(name), args.formats.split(","), data if data.is_dir() else None)
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        for number in range(args.files) if args.only is None else [args.only]:
            bench.case(number, args.seed, tally, show=args.only is not None)
        took = time.perf_counter() - start
    more_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    rows = {f: {"seeds": len(bench.seeds[f]), "read": tally.read[f], "refused": tally.refused[f],
                "crashes": sum(c["format"] == f for c in tally.crashes)} for f in bench.formats}  # fmt: skip
    for format, row in rows.items():
        print(f"{format:12s}" + "".join(f"{what} {count:6d}   " for what, count in row.items()))
    for crash in tally.crashes[:30]:
        print(crash)
    print(f"{args.files if args.only is None else 1} sets in {took:.0f} s: {tally.read.total()} read, "
          f"{tally.refused.total()} refused, {len(tally.crashes)} crashes; {tally.rewritten} written again; slowest "
          f"{tally.slowest_ms:.0f} ms, case {tally.slowest}; {more_mb:.0f} MB more than before")  # fmt: skip
    if args.only is None:
        result = {"files": args.files, "seed": args.seed, "seconds": took, "formats": rows, "crashes": tally.crashes,
                  "rewritten": tally.rewritten, "slowest_ms": tally.slowest_ms, "slowest": tally.slowest,
                  "more_memory_mb": more_mb}  # fmt: skip
        save(args.out, result)
    sys.exit(1 if tally.crashes else 0)


if __name__ == "__main__":
    main()
