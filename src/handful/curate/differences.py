"""What two data sets say differently, counted: how a conversion's losses are measured instead of promised.

Nothing is held in memory: the second set goes to a temporary SQLite file, one row an image, and the first is held
against it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful.data.masks import value_counts
from handful.data.shapes import decompress, painted, pixels_of
from handful.data.writing import image_of
from handful.files import sha256
from handful.progress import track
from handful.types import Dataset, Mask, Object, Rle, Sample
from handful.words import counted

SAME_PX = 1e-6  # coordinates closer than a millionth of a pixel are the same: what dividing by a width leaves over
LOST, CHANGED, ADDED = "lost", "changed", "added"


@dataclass
class Difference:
    """what: which part differs. how: "lost", "changed" or "added". count: in how many places; example: one."""

    what: str
    how: str
    count: int
    example: str
    largest: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The row of `handful data convert --json`."""
        row: dict[str, Any] = {"what": self.what, "how": self.how, "count": self.count, "example": self.example}
        return row if self.largest is None else {**row, "largest": self.largest}


class _Tally:
    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Difference] = {}

    def add(self, what: str, how: str, example: str, *, count: int = 1, largest: float | None = None) -> None:
        at = self.found.setdefault((what, how), Difference(what, how, 0, example))
        at.count += count
        if largest is not None:
            at.largest = max(at.largest or 0.0, largest)

    def keys(self, what: str, a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> None:
        for key in a.keys() | b.keys():
            if key not in b:
                self.add(f"{what} {key!r}", LOST, f"{where}: {str(a[key])[:60]}")
            elif key not in a:
                self.add(f"{what} {key!r}", ADDED, f"{where}: {str(b[key])[:60]}")
            elif a[key] != b[key]:
                self.add(f"{what} {key!r}", CHANGED, f"{where}: {str(a[key])[:40]} -> {str(b[key])[:40]}")


def differences(before: Dataset, after: Dataset, *, images: bool = True) -> list[Difference]:
    """Everything `after` says differently from `before`, losses first. images: compare the images' bytes too.

    Images are paired by split and name, suffix left out, or by name alone where the split was not kept; objects by
    their order. Masks are compared by the names of their classes, so that other ids for the same names are one
    difference, not millions.
    """
    tally = _Tally()
    by = _by(images, before, after)
    with tempfile.TemporaryDirectory(prefix="handful-") as folder:
        with sqlite3.connect(Path(folder) / "after.sqlite") as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("CREATE TABLE row (split TEXT, name TEXT, value TEXT, seen INT DEFAULT 0)")
            db.executemany("INSERT INTO row (split, name, value) VALUES (?, ?, ?)", _rows(after, by))
            db.execute("CREATE INDEX by_name ON row (name, split)")
            for sample in track(before, "comparing", len(before)):
                _against(db, sample, before, tally, by)
            extra = db.execute("SELECT count(*), min(name) FROM row WHERE seen = 0").fetchone()
            if extra[0]:
                tally.add("images", ADDED, extra[1], count=extra[0])
        db.close()
    _classes(before, after, tally)
    order = {LOST: 0, CHANGED: 1, ADDED: 2}
    return sorted(tally.found.values(), key=lambda d: (order[d.how], d.what))


def _rows(dataset: Dataset, images: str) -> Iterator[tuple[str, str, str]]:
    for sample in track(dataset, "reading back", len(dataset)):
        yield sample.split or "", _stem(sample), json.dumps(_plain(sample, dataset, images))


def _stem(sample: Sample) -> str:
    # SQLite takes no name whose bytes are no text
    return str(PurePosixPath(sample.name).with_suffix("")).encode("utf-8", "backslashreplace").decode()


def _image_hash(sample: Sample, by: str) -> str:
    if by == "pixels":
        return hashlib.sha256(image_of(sample).rgb_u8.tobytes()).hexdigest()
    return sha256(sample.path) if by == "bytes" else ""


def _by(images: bool, *datasets: Dataset) -> str:
    """How images are compared: by their bytes, or by their pixels where one set keeps no files."""
    if not images:
        return ""
    return "pixels" if any(s.pixels is not None for d in datasets for s in itertools.islice(d, 1)) else "bytes"


def _plain(sample: Sample, dataset: Dataset, images: str) -> dict[str, Any]:
    """A sample as plain data, without ids that only mean something inside its own set."""
    things = None
    if sample.objects is not None:
        things = [
            {
                "label": t.label,
                "box": t.box_px,
                "polygons": [p.ravel().tolist() for p in t.polygons_px],
                "rle": None if t.rle is None else [list(t.rle.size_hw), _runs(t.rle)],
                "crowd": t.crowd,
                "track": t.track,
                "attributes": dict(t.attributes),
            }
            for t in sample.objects
        ]
    return {
        "name": sample.name,
        "image": _image_hash(sample, images),
        "label": sample.label,
        "objects": things,
        "mask": None if sample.mask is None else _mask_hash(sample.mask(), dataset),
        "size": sample.size_wh,
        "license": sample.license,
        "attributes": dict(sample.attributes),
    }


def _runs(rle: Rle) -> list[int]:
    return decompress(rle.counts) if isinstance(rle.counts, bytes) else list(rle.counts)


def _mask_hash(mask: Mask, dataset: Dataset) -> str:
    """A hash of which class name each pixel has: the same for two id tables with the same names."""
    names = {c.id: c.name for c in dataset.categories}
    values = value_counts(mask.ids)[0].tolist()
    # a background without a name of its own and one called "background" are the same class
    labels = ["" if v == mask.ignore else names.get(v, str(v)) for v in values]
    order = {name: i for i, name in enumerate(sorted(set(labels)))}
    table = np.zeros(max(values, default=0) + 1, dtype=np.uint16)
    table[values] = [order[name] for name in labels]
    pixels = table[mask.ids]
    digest = hashlib.sha256("\0".join(sorted(set(labels))).encode("utf-8", "backslashreplace"))
    digest.update(str(mask.ids.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def _against(db: sqlite3.Connection, sample: Sample, before: Dataset, tally: _Tally, images: str) -> None:
    name, split = _stem(sample), sample.split or ""
    query = "SELECT rowid, split, value FROM row WHERE name = ? AND seen = 0 ORDER BY split != ? LIMIT 1"
    found = db.execute(query, (name, split)).fetchone()
    where = f"{split}/{sample.name}" if split else sample.name
    if found is None:
        tally.add("images", LOST, where)
        return
    db.execute("UPDATE row SET seen = 1 WHERE rowid = ?", found[:1])
    if found[1] != split:
        tally.add("split", LOST if not found[1] else CHANGED, f"{where}: now {found[1] or 'none'}")
    a, b = _plain(sample, before, images), json.loads(found[2])
    if a["image"] != b["image"]:
        tally.add("image's pixels or bytes", CHANGED, where)
    for what, key in (("image's class", "label"), ("license", "license"), ("pixel mask", "mask")):
        if a[key] != b[key]:
            how = LOST if b[key] is None else ADDED if a[key] is None else CHANGED
            tally.add(what, how, where)
    if a["size"] is not None and b["size"] is not None and list(a["size"]) != b["size"]:
        tally.add("size", CHANGED, f"{where}: {list(a['size'])} -> {b['size']}")
    tally.keys("image's attribute", a["attributes"], b["attributes"], where)
    _objects(sample, a["objects"], b["objects"], where, tally)


def _objects(sample: Sample, a: Any, b: Any, where: str, tally: _Tally) -> None:
    if a is None or b is None:
        if a is None and b is not None:
            tally.add("nobody looked", CHANGED, f"{where}: now {counted(len(b), 'object')}")
        elif b is None and a is not None:
            tally.add("objects" if a else "looked at and empty", LOST, where, count=max(1, len(a)))
        return
    pairs, left_a, left_b = _paired(a, b)
    for i in left_a:
        tally.add("crowds" if a[i]["crowd"] else "objects", LOST, f"{where}: {a[i]['label']} {a[i]['box']}")
    for i in left_b:
        tally.add("objects", ADDED, f"{where}: {b[i]['label']} {b[i]['box']}")
    for i, j in pairs:
        _object((sample.objects or ())[i], a[i], b[j], f"{where}, {a[i]['label']}", sample, tally)


def _paired(a: Sequence[Any], b: Sequence[Any]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs in order when both hold the same classes in the same order; otherwise the nearest boxes of a class."""
    if [t["label"] for t in a] == [t["label"] for t in b]:
        return [(i, i) for i in range(len(a))], [], []
    near = sorted(
        (_apart(x["box"], y["box"]), i, j) for i, x in enumerate(a) for j, y in enumerate(b) if x["label"] == y["label"]
    )
    of_a: dict[int, int] = {}
    of_b: set[int] = set()
    for _, i, j in near:
        if i not in of_a and j not in of_b:
            of_a[i] = j
            of_b.add(j)
    return sorted(of_a.items()), [i for i in range(len(a)) if i not in of_a], sorted(set(range(len(b))) - of_b)


def _apart(a: Any, b: Any) -> float:
    if a is None or b is None:
        return 0.0 if a is b else 1e9
    return float(max(abs(x - y) for x, y in zip(a, b, strict=True)))


def _object(thing: Object, a: Any, b: Any, where: str, sample: Sample, tally: _Tally) -> None:
    if a["box"] is None or b["box"] is None:
        if a["box"] is not b["box"]:
            tally.add("boxes", LOST if b["box"] is None else ADDED, where)
    elif (apart := _apart(a["box"], b["box"])) > SAME_PX:
        tally.add("boxes, px", CHANGED, f"{where}: {list(a['box'])} -> {b['box']}", largest=round(apart, 6))
    _shape(thing, a, b, where, sample, tally)
    for what, key in (("crowd", "crowd"), ("track", "track")):
        if a[key] != b[key]:
            tally.add(what, LOST if not b[key] else ADDED if not a[key] else CHANGED, where)
    tally.keys("object's attribute", a["attributes"], b["attributes"], where)


def _shape(thing: Object, a: Any, b: Any, where: str, sample: Sample, tally: _Tally) -> None:
    kinds = [("outlines" if t["polygons"] else "pixels" if t["rle"] else "") for t in (a, b)]
    if not any(kinds):
        return
    if kinds[0] == kinds[1]:
        if kinds[0] == "outlines" and not _same_outlines(a["polygons"], b["polygons"]):
            tally.add("outlines", CHANGED, f"{where}: {len(a['polygons'])} parts -> {len(b['polygons'])}")
        if kinds[0] == "pixels" and (list(a["rle"][0]), a["rle"][1]) != (b["rle"][0], b["rle"][1]):
            tally.add("objects' pixels", CHANGED, where)
    elif not kinds[0]:
        tally.add(f"objects' {kinds[1]}", ADDED, where)
    elif not kinds[1]:
        tally.add(f"objects' {kinds[0]}", LOST, where)
    else:
        same = _same_pixels(thing, b, sample)
        tally.add(f"{kinds[0]} became {kinds[1]}, {'the same' if same else 'other'} pixels", CHANGED, where)


def _same_outlines(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> bool:
    return [len(p) for p in a] == [len(p) for p in b] and all(
        np.allclose(p, q, rtol=0, atol=SAME_PX) for p, q in zip(a, b, strict=True)
    )


def _same_pixels(thing: Object, b: Any, sample: Sample) -> bool:
    if b["rle"] is not None:
        other = pixels_of(Rle((b["rle"][0][0], b["rle"][0][1]), tuple(b["rle"][1])))
        mine = painted(thing, (other.shape[1], other.shape[0]))
    else:
        mine = painted(thing, sample.size_wh or (1, 1))
        if mine is None:
            return False
        polygons = tuple(np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in b["polygons"])
        found = painted(Object("", None, polygons), (mine.shape[1], mine.shape[0]))
        other = np.zeros_like(mine) if found is None else found
    return mine is not None and mine.shape == other.shape and bool((mine == other).all())


def _classes(before: Dataset, after: Dataset, tally: _Tally) -> None:
    a, b = ({c.name: c for c in d.categories} for d in (before, after))
    for name, category in a.items():
        other = b.get(name)
        if other is None:
            tally.add("classes", LOST, name)
            continue
        if other.id != category.id:
            tally.add("classes' ids", CHANGED, f"{name}: {category.id} -> {other.id}")
        for what, x, y in (("parents", category.parent, other.parent), ("colors", category.rgb, other.rgb),
                           ("thing or stuff", category.thing, other.thing)):  # fmt: skip
            if x != y:
                how = LOST if y is None else ADDED if x is None else CHANGED
                tally.add(f"classes' {what}", how, f"{name}: {x} -> {y}")
        tally.keys("classes' attribute", category.attributes, other.attributes, name)
    for name in b.keys() - a.keys():
        tally.add("classes", ADDED, name)
    tally.keys("data set's", dict(before.info), dict(after.info), before.format)
