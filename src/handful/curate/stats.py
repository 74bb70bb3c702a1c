"""What is in a data set, as JSON for programs and as one page with pictures for people."""

from __future__ import annotations

import hashlib
import heapq
import json
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import handful
from handful.curate.balance import Held, area_of, held_by, key_of
from handful.data.shapes import box_of, painted
from handful.data.writing import image_of
from handful.errors import DataError
from handful.files import write_json, write_page
from handful.image import data_uri
from handful.pick import need
from handful.progress import track
from handful.types import Dataset, Object, Sample

TEMPLATE = Path(__file__).parent / "stats.html.j2"
PICTURES, SMALLEST, EACH, THUMB_PX = 80, 8, 12, 160  # in all, of small objects, of a class; longest side
SMALL_PX, LARGE_PX = 32, 96  # sides of the squares that part small, medium and large objects (Lin et al., COCO, 2014)
SIDES_PX = (0, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048)
SHARES = tuple(round(0.05 * i, 2) for i in range(21))
RATIOS = (0, 0.25, 0.33, 0.5, 0.67, 0.8, 1.25, 1.5, 2, 3, 4)
HEAT = 30  # classes in the heat map
SPLITS = "train val test"  # in the order people expect
FEW = 10  # images of a class
COLOR = (255, 92, 0)  # of what is marked in the pictures
RULES = {
    "images": "images that hold the class, by a label of the whole image, an object or a pixel of the mask",
    "objects": "boxes, outlines and run lengths, crowds left out",
    "pixels": "of the mask where there is one, else of outlines and run lengths, else of boxes; overlaps count twice",
    "unlabeled": "nobody looked: no label, no list of objects, no mask",
    "empty": "somebody looked and nothing is there",
    "size": "square root of an object's pixels; small below 32, large from 96, as COCO has it; crowds left out",
    "relative_size": "square root of the share of the image's pixels that an object has",
    "aspect_ratio": "width over height",
    "cooccurrence": "images that hold both classes, pairs of numbers in the list of classes and how many",
    "sha256": "SHA-256 over names, splits, labels and the sizes of the images' files, whatever their order",
}


def stats(dataset: Dataset, out: Path | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Count and measure everything in one pass, and write OUT/stats.json and OUT/stats.html when a folder is given.

    seed: which images are shown. Each number's rule is in the result, in words. An image that cannot be read is
    counted by its labels and not shown.
    """
    tally = Tally(dataset, seed)
    for sample in track(dataset, "measuring", len(dataset)):
        tally.add(sample)
    result = tally.result()
    if out is not None:
        page = render(result, *_pictures(tally))
        write_json(Path(out) / "stats.json", result)
        write_page(Path(out) / "stats.html", page)
    return result


class Tally:
    """What has been seen so far, in memory that grows with the classes and with a few numbers an image."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.names = {c.id: c.name for c in dataset.categories}
        self.number = {c.name: i for i, c in enumerate(dataset.categories)}
        self.classes = [self._class(c.name, c.id, c.parent, c.thing) for c in dataset.categories]
        self.splits: dict[str, Counter[str]] = {}
        self.widths, self.heights = array("i"), array("i")
        self.sides, self.shares, self.ratios = array("d"), array("d"), array("d")
        self.per_image: Counter[int] = Counter()
        self.together: Counter[tuple[int, int]] = Counter()
        self.licenses: Counter[str] = Counter()
        self.extra: Counter[str] = Counter()
        self.digests: list[bytes] = []
        self.shown: list[list[tuple[bytes, str, Sample]]] = [[] for _ in self.classes]
        self.smallest: list[tuple[float, str, int, int, Sample]] = []

    @staticmethod
    def _class(name: str, id: int | None, parent: str | None, thing: bool | None) -> dict[str, Any]:
        size = {"small": 0, "medium": 0, "large": 0}
        return {"name": name, "id": id, "parent": parent, "thing": thing, "images": 0, "objects": 0, "pixels": 0,
                "splits": {}, "size": size}  # fmt: skip

    def add(self, sample: Sample) -> None:
        """Count one image."""
        key = key_of(sample)
        areas = [area_of(thing, sample.size_wh) for thing in sample.objects or ()]
        held = held_by(sample, self.names, areas=areas)
        split = self.splits.setdefault(sample.split or "", Counter())
        split["images"] += 1
        split["labeled" if held is not None else "unlabeled"] += 1
        split["empty"] += held == {}
        width, height = sample.size_wh or _size(sample)
        if width:
            self.widths.append(width)
            self.heights.append(height)
        self.licenses[sample.license or ""] += 1
        if sample.objects is not None:
            self.per_image[sum(not thing.crowd for thing in sample.objects)] += 1
        for i, (area, boxed) in enumerate(areas):
            self._object(sample, key, i, area, boxed, width * height)
        self._held(sample, key, held or {})
        self.digests.append(_digest(sample, key, held))

    def _object(self, sample: Sample, key: str, at: int, area: int, boxed: bool, whole: int) -> None:
        thing = (sample.objects or ())[at]
        kind = "crowds" if thing.crowd else "boxes_as_pixels" if boxed else "outlined" if area else "without_shape"
        self.extra[kind] += 1
        if thing.crowd or not area:
            return
        side = area**0.5
        self.sides.append(side)
        if whole:
            self.shares.append(min(1.0, (area / whole) ** 0.5))
        box = box_of(thing)
        if box is not None:
            self.ratios.append((box[2] - box[0]) / max(box[3] - box[1], 1e-9))
        size = self._row(thing.label)["size"]
        size["small" if side < SMALL_PX else "medium" if side < LARGE_PX else "large"] += 1
        heapq.heappush(self.smallest, (-side, key, at, len(self.digests), sample))  # the count, so that none are equal
        if len(self.smallest) > SMALLEST:
            heapq.heappop(self.smallest)

    def _held(self, sample: Sample, key: str, held: dict[str, Held]) -> None:
        split = sample.split or ""
        for name, h in held.items():
            row = self._row(name)
            part = row["splits"].setdefault(split, {"images": 0, "objects": 0, "pixels": 0})
            for counted in (row, part):
                counted["images"] += 1
                counted["objects"] += h.objects
                counted["pixels"] += h.pixels
            # of all images of a class those whose hash is lowest: a fair draw in one pass, in any order
            text = f"{self.seed} {name} {key}".encode("utf-8", "surrogateescape")
            rank = hashlib.blake2b(text, digest_size=8).digest()
            best = self.shown[self.number[name]]
            best.append((rank, key, sample))
            if len(best) > 2 * EACH:
                best.sort(key=lambda row: row[:2])
                del best[EACH:]
        present = sorted(self.number[name] for name in held)
        self.together.update((a, b) for i, a in enumerate(present) for b in present[i + 1 :])

    def _row(self, name: str) -> dict[str, Any]:
        if name not in self.number:
            self.number[name] = len(self.classes)
            self.classes.append(self._class(name, None, None, None))
            self.shown.append([])
        return self.classes[self.number[name]]

    def result(self) -> dict[str, Any]:
        """The numbers, JSON values only."""
        sides = np.array(self.sides)
        small, large = int((sides < SMALL_PX).sum()), int((sides >= LARGE_PX).sum())
        sizes = Counter(f"{w} × {h}" for w, h in zip(self.widths, self.heights, strict=True))
        keys = ("images", "labeled", "empty", "unlabeled")
        splits = sorted(self.splits, key=lambda name: (name not in SPLITS, SPLITS.find(name), name))
        w, h = np.array(self.widths), np.array(self.heights)
        return {
            "schema_version": 1,
            "handful": handful.__version__,
            "name": self.dataset.root.resolve().name,
            "format": self.dataset.format,
            "seed": self.seed,
            **{key: sum(split[key] for split in self.splits.values()) for key in keys},
            "splits": {name: {key: self.splits[name][key] for key in keys} for name in splits},
            "classes": self.classes,
            "objects": {
                "count": len(sides),
                **{key: self.extra[key] for key in ("crowds", "outlined", "boxes_as_pixels", "without_shape")},
                "size": {"small": small, "medium": len(sides) - small - large, "large": large},
                "side_px": _histogram(sides, SIDES_PX),
                "relative_size": _histogram(np.array(self.shares), SHARES),
                "aspect_ratio": _histogram(np.array(self.ratios), RATIOS),
                "per_image": {str(n): many for n, many in sorted(self.per_image.items())},
            },
            "image_sizes": {
                "sizes": dict(sizes.most_common(50)),
                "other_sizes": len(sizes) - len(sizes.most_common(50)),
                "width_px": _spread(w),
                "height_px": _spread(h),
                "aspect_ratio": _histogram(w / np.maximum(h, 1), RATIOS),
                "unknown_size": len(self.digests) - len(w),
            },
            "cooccurrence": [[a, b, n] for (a, b), n in sorted(self.together.items())],
            "licenses": {name or "none given": n for name, n in self.licenses.most_common()},
            "sha256": hashlib.sha256(b"".join(sorted(self.digests))).hexdigest(),
            "rule": RULES,
        }


def _size(sample: Sample) -> tuple[int, int]:
    """(width, height) px from the image itself, upright, without decoding it; (0, 0) when it cannot be read."""
    try:
        if sample.pixels is not None:
            return sample.pixels().size_wh
        with need("PIL.Image", "data").open(sample.path) as opened:
            width, height = opened.size
            return (height, width) if opened.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)
    except Exception:  # a broken image is for the check to tell; here it only has no size
        return 0, 0


def _digest(sample: Sample, key: str, held: dict[str, Held] | None) -> bytes:
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        digest.update(json.dumps(value, default=str).encode())

    try:
        size = sample.path.stat().st_size
    except OSError:
        size = -1
    feed([key, sample.split, sample.label, sample.size_wh, size, sorted((held or {}).items()), held is None])
    for thing in sample.objects or ():
        feed([thing.label, thing.box_px, thing.crowd, thing.rle and (thing.rle.size_hw, thing.rle.counts)])
        for polygon in thing.polygons_px:
            digest.update(np.ascontiguousarray(polygon, dtype="<f8").tobytes())
    return digest.digest()


def _histogram(values: np.ndarray, edges: Sequence[float]) -> dict[str, list[Any]]:
    """{"from": lower edges, "count": how many}; a value belongs to the last edge not above it."""
    bins = np.searchsorted(np.array(edges), values, side="right") - 1
    return {"from": list(edges), "count": np.bincount(np.maximum(bins, 0), minlength=len(edges)).tolist()}


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not values.size:
        return None
    return {"least": int(values.min()), "median": float(np.median(values)), "most": int(values.max())}


Picture = dict[str, Any]  # src (data URI), alt, caption


def _pictures(tally: Tally) -> tuple[dict[int, list[Picture]], list[Picture]]:
    """(number of class -> pictures of images with it, pictures of the smallest objects)."""
    small = []
    for side, _, at, _, sample in sorted(tally.smallest, reverse=True):
        thing = (sample.objects or ())[at]
        picture = _picture(sample, [thing], None, near=thing)
        if picture is not None:
            left, top, right, bottom = box_of(thing) or (0, 0, 0, 0)
            px = f"{right - left:.0f} × {bottom - top:.0f} px" if right > left else f"{side**2:.0f} px"
            small.append({**picture, "caption": thing.label, "detail": px})
    with_images = sorted((i for i, shown in enumerate(tally.shown) if shown),
                         key=lambda i: -tally.classes[i]["images"])[: PICTURES - SMALLEST]  # fmt: skip
    each = max(1, min(EACH, (PICTURES - SMALLEST) // max(1, len(with_images))))
    ids = {name: id for id, name in tally.names.items()}
    shown: dict[int, list[Picture]] = {}
    for i in track(with_images, "drawing", len(with_images)):
        name = tally.classes[i]["name"]
        photos = [s for _, _, s in sorted(tally.shown[i], key=lambda row: row[:2])[:each]]
        found = (_picture(s, [o for o in s.objects or () if o.label == name], ids.get(name)) for s in photos)
        shown[i] = [p for p in found if p is not None]
    return shown, small


def _picture(
    sample: Sample, things: Sequence[Object], mask_id: int | None, near: Object | None = None
) -> Picture | None:
    """The image with these objects, or the pixels of this id, in color; near: only what is around this object."""
    pil, draw = need("PIL.Image", "data"), need("PIL.ImageDraw", "data")
    try:
        rgb = image_of(sample).rgb_u8.copy()
        height, width = rgb.shape[:2]
        marked = np.zeros((height, width), dtype=bool)
        for thing in things:
            pixels = painted(thing, (width, height))
            if pixels is not None and pixels.shape == marked.shape:
                marked |= pixels
        if mask_id is not None and sample.mask is not None:
            ids = sample.mask().ids
            if ids.shape == marked.shape:
                marked |= ids == mask_id
    except (DataError, ValueError):
        return None  # what is wrong with it is for the check to tell
    rgb[marked] = (0.45 * rgb[marked] + 0.55 * np.array(COLOR)).astype(np.uint8)
    left, top, right, bottom = 0, 0, width, height
    around = box_of(near) if near is not None else None
    if around is not None:
        side = min(max(48.0, 3 * max(around[2] - around[0], around[3] - around[1])), width, height)
        left = int(np.clip((around[0] + around[2] - side) / 2, 0, width - side))
        top = int(np.clip((around[1] + around[3] - side) / 2, 0, height - side))
        right, bottom = left + int(side), top + int(side)
    scale = min(4.0, THUMB_PX / max(right - left, bottom - top))  # more would show nothing new
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    thumb = pil.fromarray(rgb[top:bottom, left:right]).resize(size, pil.Resampling.LANCZOS)
    pen = draw.Draw(thumb)
    for box in (b for t in things if (b := box_of(t)) is not None):
        x0, y0 = (box[0] - left) * scale, (box[1] - top) * scale
        x1, y1 = max(x0 + 2, (box[2] - left) * scale), max(y0 + 2, (box[3] - top) * scale)
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(255, 255, 255))
        pen.rectangle((x0, y0, x1, y1), outline=COLOR)
    return {"src": data_uri(thumb, 80), "alt": sample.name or sample.path.name, "width": size[0], "height": size[1]}


def render(result: dict[str, Any], shown: dict[int, list[Picture]], smallest: list[Picture]) -> str:
    """HTML of `stats` and its pictures. Everything is escaped and inlined."""
    jinja2 = need("jinja2", "data")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=result, shown=shown, smallest=smallest, charts=_charts(result), heat=_heat(result), remarks=_remarks(result)
    )
    return html


def _remarks(r: dict[str, Any]) -> list[str]:
    """What a person should see first, a sentence each."""

    def many(n: int, one: str, more: str) -> str:
        return f"{n:,} {one if n == 1 else more}"

    sentences = []
    there = [c for c in r["classes"] if c["images"]]
    few, none = sum(c["images"] < FEW for c in there), len(r["classes"]) - len(there)
    if len(there) > 1:
        most, least = max(there, key=lambda c: c["images"]), min(there, key=lambda c: c["images"])
        photos = many(most["images"], "image", "images")
        uneven = f"{most['name']} is in {photos}, {least['name']} in {least['images']:,}."
        sentences.append(uneven if most["images"] > least["images"] else f"Every class is in {photos}.")
    if few:
        sentences.append(f"{many(few, 'class has', 'classes have')} fewer than {FEW} images.")
    if none:
        sentences.append(f"{many(none, 'class has', 'classes have')} no image at all.")
    share = 100 * r["objects"]["size"]["small"] / max(1, r["objects"]["count"])
    if share >= 1:
        sentences.append(f"{share:.0f} % of the objects are small: under {SMALL_PX} × {SMALL_PX} px.")
    if r["unlabeled"]:
        sentences.append(
            f"Nobody has looked at {many(r['unlabeled'], 'image', 'images')}: that is not the same as empty."
        )
    return sentences


def _charts(r: dict[str, Any]) -> list[dict[str, Any]]:
    """Histograms to be drawn: title, note, and bars of label, count, height (0 to 1) and tone; none without values."""
    o, p = r["objects"], r["image_sizes"]
    sides = [f"{a}" for a in SIDES_PX]
    tones = ["small" if a < SMALL_PX else "medium" if a < LARGE_PX else "large" for a in SIDES_PX]
    many = Counter[str]()
    for n, photos in o["per_image"].items():
        many[next((name for name, top in _MANY if int(n) <= top), _MORE)] += photos
    per_image = [many[name] for name in (*(name for name, _ in _MANY), _MORE)]
    drawn = [
        ("Object size", "side of a square as large, px, from", sides, o["side_px"]["count"], tones),
        ("Object size in its image", "side as a share of the image's, %, from",
         [f"{100 * s:.0f}" for s in SHARES], o["relative_size"]["count"], None),
        ("Object shape", "width over height, from", [f"{a:g}" for a in RATIOS], o["aspect_ratio"]["count"], None),
        ("Objects per image", "of the images somebody looked at", [*(n for n, _ in _MANY), _MORE], per_image, None),
        ("Image shape", "width over height, from", [f"{a:g}" for a in RATIOS], p["aspect_ratio"]["count"], None),
    ]  # fmt: skip
    charts = []
    for title, note, labels, counts, tone in drawn:
        some = [i for i, n in enumerate(counts) if n]
        if some:
            first, last = (0, len(counts) - 1) if len(counts) <= len(_MANY) + 1 else (some[0], some[-1])
            top = max(counts)
            bars = [
                {"label": labels[i], "n": counts[i], "height": counts[i] / top, "tone": tone[i] if tone else "plain"}
                for i in range(first, last + 1)
            ]
            charts.append({"title": title, "note": note, "bars": bars, "every": -(-len(bars) // 12)})
    return charts


_MANY = (("0", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5-9", 9), ("10-19", 19), ("20-49", 49))
_MORE = "50+"


def _heat(r: dict[str, Any]) -> dict[str, Any] | None:
    """The classes with most images, and for each pair the share of the row's images that hold the column's class."""
    order = sorted((i for i, c in enumerate(r["classes"]) if c["images"]), key=lambda i: -r["classes"][i]["images"])
    order = order[:HEAT]
    at = {c: i for i, c in enumerate(order)}
    cells = []
    for a, b, n in r["cooccurrence"]:
        for row, column in ((a, b), (b, a)):
            if row in at and column in at:
                share = n / r["classes"][row]["images"]
                cells.append({"x": at[column], "y": at[row], "share": share, "n": n})
    return {"names": [r["classes"][i]["name"] for i in order], "cells": cells} if cells else None
