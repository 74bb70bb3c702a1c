"""From how far a model folder knows an image again that was taught: the limits of handful.curate.seen.

    python benchmarks/seen.py [--tune] [--out bench-results/seen.json]

Found: each photo is worn (saved as JPEG of quality 50; half the size; cropped by 2 % of its width and height at a
random place; 10 % brighter; all at once) and should be known as a near copy of the original. Wrong: pairs of different
photos of one class, which should not; those that a person found to be one picture or one scene moments apart, and
grocery's photos of one product in a row, are neither (benchmarks/alike.py). `--tune` prints every pair of limits on the
photos of alike's TUNE: of those with less than one wrong pair in 5,000, the smallest are taken that find as many as
any, to 0.1 %. The figures are of REPORT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from alike import REPORT, SAME, SEED, TUNE, half, jpeg, lit, moments, pictures
from common import data_folder, save

from handful.curate import seen
from handful.progress import track

CROP = 0.02
WORN = ("quality 50", "half size", "cropped 2 %", "brighter 10 %", "all at once")
BITS, COLORS = range(2, 11), range(6, 21, 2)


def worn(rgb: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The photo after each of WORN."""
    h, w = rgb.shape[:2]
    dy, dx = max(1, round(CROP * h)), max(1, round(CROP * w))
    y, x = int(rng.integers(dy + 1)), int(rng.integers(dx + 1))
    cropped = rgb[y : h - dy + y, x : w - dx + x]
    yield jpeg(rgb)
    yield half(rgb)
    yield cropped
    yield lit(rgb, 1.1)
    yield jpeg(half(lit(cropped, 1.1)))


def class_of(name: str, part: str) -> str:
    """What photos of a part are of one class: those in one folder, or the whole part, where it has one subject."""
    return f"{part}/{name.rsplit('/', 1)[0]}"


class Part:
    """bits: (photos, 1 + WORN) how many bits of the hash differ; colors: how far the color is off."""

    def __init__(self, data: Path, name: str, places: list[str]) -> None:
        rng = np.random.default_rng(SEED)
        self.name, marks, names = name, [], []
        for photo, rgb in track(pictures(data, places), name):
            marks.append([seen.mark(v) for v in (rgb, *worn(rgb, rng))])
            names.append(photo)
        codes = np.array([[m[1] for m in row] for row in marks], np.uint64)
        tints = np.array([[np.frombuffer(m[2], np.uint8) for m in row] for row in marks]).astype(np.int16)
        self.bits = np.bitwise_count(codes[:, :1] ^ codes[:, 1:])
        self.colors = np.abs(tints[:, :1] - tints[:, 1:]).max(-1)
        i, j = np.triu_indices(len(names), 1)
        kinds = np.array([class_of(n, name) for n in names])
        some = kinds[i] == kinds[j]
        i, j = i[some], j[some]
        self.apart = np.bitwise_count(codes[i, 0] ^ codes[j, 0])
        self.off = np.abs(tints[i, 0] - tints[j, 0]).max(-1)
        near = np.flatnonzero((self.apart <= max(BITS)) & (self.off <= max(COLORS)))
        pairs = [(names[i[k]], names[j[k]]) for k in near]
        neither = [k for k, p in zip(near, pairs, strict=True) if frozenset(p) in SAME or moments(*p)]
        own = np.ones(len(i), bool)
        own[neither] = False
        self.apart, self.off = self.apart[own], self.off[own]

    def found(self, bits: int, color: int) -> np.ndarray:
        """(photos, WORN) bool."""
        return np.asarray((self.bits <= bits) & (self.colors <= color))

    def wrong(self, bits: int, color: int) -> int:
        return int(((self.apart <= bits) & (self.off <= color)).sum())


def rates(parts: list[Part], bits: int, color: int) -> dict[str, Any]:
    found = np.concatenate([p.found(bits, color) for p in parts])
    wrong, pairs = sum(p.wrong(bits, color) for p in parts), sum(len(p.apart) for p in parts)
    return {"bits": bits, "color": color, "found": float(found.mean()),
            "each": dict(zip(WORN, found.mean(0).tolist(), strict=True)), "wrong": wrong, "pairs": pairs,
            "precision": float(found.sum() / max(1, found.sum() + wrong)), "photos": len(found)}  # fmt: skip


def told(row: dict[str, Any]) -> str:
    each = "  ".join(f"{100 * v:5.1f}" for v in row["each"].values())
    return (f"{row['bits']:4d} bits, color {row['color']:2d}: found {100 * row['found']:6.2f} % ({each})   wrong "
            f"{row['wrong']:4d} of {row['pairs']} pairs of one class")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="print what the limits were chosen from, and end")
    parser.add_argument("--out", type=Path, default=Path("bench-results/seen.json"))
    args = parser.parse_args()
    data = data_folder()
    parts = [Part(data, name, places) for name, places in (TUNE if args.tune else REPORT).items()]
    table = [rates(parts, bits, color) for bits in BITS for color in COLORS]
    if args.tune:
        for row in table:
            print(told(row))
        return
    own = rates(parts, seen.BITS, seen.COLOR)
    print(f"found ({', '.join(WORN)})\n{told(own)}")
    each = {p.name: rates([p], seen.BITS, seen.COLOR) for p in parts}
    rule = {"found": "share of worn photos known as near copies of their original",
            "wrong": "pairs of different photos of one class taken for near copies, without those that a person found "
            "to be one picture or scene",
            "precision": "worn photos found of those and the wrong pairs"}  # fmt: skip
    figures = {"cropped by, %": 100 * CROP, "brighter by, %": 10, "photos": own["photos"],
               "pairs of one class": own["pairs"], "wrong pairs": own["wrong"], "found, %": 100 * own["found"],
               **{f"{how}, %": 100 * share for how, share in own["each"].items()},
               "cropped 2 %, with 4 bits, %": 100 * rates(parts, 4, seen.COLOR)["each"]["cropped 2 %"]}  # fmt: skip
    save(args.out, {"seeds": [SEED], "spread": "none: counts", "figures": figures, "rule": rule, "limits": own,
                    "parts": each, "table": table})  # fmt: skip


if __name__ == "__main__":
    main()
