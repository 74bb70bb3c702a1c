"""How surely the same photo is found again, and different ones are left apart: beside plain pHash and dHash.

    python benchmarks/alike.py [--tune] [--out bench-results/alike.json]

Found: each photo is edited (JPEG quality 50; half the size; trimmed by 3 % of its width and height at a random place,
and by 3 % at every edge; 10 % brighter and darker; all at once) and should be called the same as the original. The
mirror image should not. Left apart: all pairs of different photos of a part. Pairs that a person looked at and found to
be one picture (SAME) or one scene moments apart (MOMENTS, and one product of grocery) are neither. Smooth skies are cut
from photos by their masks. `--tune` prints what the limits were chosen from, on the photos of TUNE; the figures are of
REPORT.

Films: of frames that follow one another, how many are called the same; those are the same scene, and should be.
Time: 100,000 fingerprints of real pictures (CIFAR-10, and windows cut from the others), one thread.
"""

from __future__ import annotations

import argparse
import io
import resource
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save
from PIL import Image as PIL_Image

from handful.curate import near_duplicates
from handful.image import images_below, read_image
from handful.progress import track
from handful.types import Image

SEED = 0  # of the edits and of the crops
OFFICE = ("backpack", "bike", "calculator", "headphones", "keyboard")  # the half of the classes that was tuned on
OTHERS = ("laptop", "monitor", "mouse", "mug", "projector")
TUNE = {
    "coco train": ["coco-mini/images/train"],
    "msrc train": ["msrc-seg/images/train"],
    "grocery train": ["grocery/train"],
    "office-amazon, 5 classes": [f"office-amazon/images/{c}" for c in OFFICE],
    "skies of msrc and coco train": ["msrc-seg/labels23/train", "coco-mini/semantic133/train"],
}
REPORT = {
    "coco val": ["coco-mini/images/val"],
    "msrc val": ["msrc-seg/images/val"],
    "grocery test": ["grocery/test"],
    "product-iconic": ["product-iconic/images"],
    "office-amazon, the other 5": [f"office-amazon/images/{c}" for c in OTHERS],
    "raccoon": ["fewshot-det/raccoon/images"],
    "blood smears": ["fewshot-det/bccd/images"],
    "skies of msrc and coco val": ["msrc-seg/labels23/val", "coco-mini/semantic133/val"],
}  # fmt: skip
SKY = {"labels23": 7, "semantic133": 187}
EDITS = ("quality 50", "half size", "trim 3 %", "trim 3 % each edge", "brighter 10 %", "darker 10 %", "all at once")
_LAPTOP, _MONITOR, _RACCOON = (
    "office-amazon/images/laptop/frame_{}.jpg", "office-amazon/images/monitor/frame_{}.jpg",
    "fewshot-det/raccoon/images/raccoon-{}.jpg",
)  # fmt: skip
SAME = {
    *(frozenset(map(_LAPTOP.format, pair)) for pair in (("0012", "0036"), ("0006", "0060"))),
    *(frozenset(map(_MONITOR.format, p)) for p in (("0004", "0006"), ("0004", "0018"), ("0006", "0018"))),
    frozenset(map(_MONITOR.format, ("0020", "0022"))),
    *(frozenset(map(_RACCOON.format, p)) for p in ((120, 83), (50, 52), (50, 74), (52, 74), (65, 98))),
    frozenset(f"office-amazon/images/mouse/frame_{i}.jpg" for i in ("0004", "0086")),
    frozenset(f"office-amazon/images/projector/frame_{i}.jpg" for i in ("0010", "0016")),
}  # fmt: skip
MOMENTS = {frozenset(f"msrc-seg/images/train/{i}.jpg" for i in ("4_2_s", "4_3_s"))}


def moments(a: str, b: str) -> bool:
    """Whether two photos may show one scene moments apart: grocery has each product several times in a row."""
    one_product = a.startswith("grocery") and a.rsplit("/", 1)[0] == b.rsplit("/", 1)[0]
    return one_product or frozenset((a, b)) in MOMENTS


def pictures(data: Path, places: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, RGB uint8) of every photo of a part; of a folder of masks, the sky cut from the photo beside it."""
    for place in places:
        if place.split("/")[1] not in SKY:
            for path in images_below(data / place):
                yield str(path.relative_to(data)), read_image(path).rgb_u8
            continue
        of, kind, split = place.split("/")
        for path in sorted((data / place).glob("*.png")):
            mask = np.asarray(PIL_Image.open(path)) == SKY[kind]
            left, top, right, bottom = largest_window(mask)
            if min(right - left, bottom - top) >= 48:
                rgb = read_image(data / of / "images" / split / f"{path.stem}.jpg").rgb_u8
                yield f"sky of {of}/{split}/{path.stem}", rgb[top:bottom, left:right]


def largest_window(mask: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the largest rectangle of True pixels."""
    best, window = 0, (0, 0, 0, 0)
    heights = np.zeros(mask.shape[1] + 1, dtype=int)
    for y, row in enumerate(mask):
        heights[:-1] = np.where(row, heights[:-1] + 1, 0)
        open_: list[tuple[int, int]] = []
        for x, height in enumerate(heights.tolist()):
            start = x
            while open_ and open_[-1][1] >= height:
                start, tall = open_.pop()
                if tall * (x - start) > best:
                    best, window = tall * (x - start), (start, y - tall + 1, x, y + 1)
            open_.append((start, height))
    return window


def edits(rgb: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The photo after each of EDITS, then its mirror image."""
    h, w = rgb.shape[:2]
    dy, dx = max(1, round(0.03 * h)), max(1, round(0.03 * w))
    y, x = int(rng.integers(dy + 1)), int(rng.integers(dx + 1))
    trimmed = rgb[y : h - dy + y, x : w - dx + x]
    yield jpeg(rgb)
    yield half(rgb)
    yield trimmed
    yield rgb[dy : h - dy, dx : w - dx]
    yield lit(rgb, 1.1)
    yield lit(rgb, 0.9)
    yield jpeg(half(lit(trimmed, float(rng.choice([0.9, 1.1])))))
    yield rgb[:, ::-1]


def jpeg(rgb: np.ndarray, quality: int = 50) -> np.ndarray:
    held = io.BytesIO()
    PIL_Image.fromarray(rgb).save(held, "JPEG", quality=quality)
    return np.asarray(PIL_Image.open(held))


def half(rgb: np.ndarray) -> np.ndarray:
    size = max(8, rgb.shape[1] // 2), max(8, rgb.shape[0] // 2)
    return np.asarray(PIL_Image.fromarray(rgb).resize(size, PIL_Image.Resampling.BICUBIC))


def lit(rgb: np.ndarray, by: float) -> np.ndarray:
    return np.clip(rgb.astype(np.float32) * by + 0.5, 0, 255).astype(np.uint8)


def plain_phash(rgb: np.ndarray) -> int:
    """As imagehash.phash: grey, Lanczos to 32 x 32, DCT, 8 x 8, above the median."""
    small = PIL_Image.fromarray(rgb).convert("L").resize((32, 32), PIL_Image.Resampling.LANCZOS)
    return near_duplicates._phash(np.asarray(small, dtype=np.float32))


def plain_dhash(rgb: np.ndarray) -> int:
    """As imagehash.dhash: grey, Lanczos to 9 x 8, brighter than its left neighbour."""
    small = PIL_Image.fromarray(rgb).convert("L").resize((9, 8), PIL_Image.Resampling.LANCZOS)
    gray = np.asarray(small)
    return int.from_bytes(np.packbits(gray[:, 1:] > gray[:, :-1]).tobytes(), "big")


class Part:
    """One part's photos: fingerprints and plain hashes of each original, its edits and its mirror image."""

    def __init__(self, data: Path, name: str, places: list[str]) -> None:
        rng = np.random.default_rng(SEED)
        self.name, self.names = name, []
        self.prints: list[list[near_duplicates.Fingerprint]] = []
        self.plain: dict[str, list[list[int]]] = {"phash": [], "dhash": []}
        for photo, rgb in track(pictures(data, places), name):
            versions = [rgb, *edits(rgb, rng)]
            self.names.append(photo)
            self.prints.append([near_duplicates.fingerprint(Image(np.ascontiguousarray(v))) for v in versions])
            self.plain["phash"].append([plain_phash(v) for v in versions])
            self.plain["dhash"].append([plain_dhash(v) for v in versions])
        codes = np.array([[p.bits for p in one] for one in self.prints], dtype=np.uint64)
        self.apart = np.bitwise_count(codes[:, :1] ^ codes[:, 1:])
        gray, chroma = (np.array([[getattr(p, of) for p in one] for one in self.prints]) for of in ("gray", "chroma"))
        columns = range(1, codes.shape[1])
        pairs = ((gray[:, 0], chroma[:, 0], gray[:, i], chroma[:, i]) for i in columns)
        self.left = np.stack([near_duplicates._difference(*pair) for pair in pairs], axis=1)

    def differ(self, pairs: list[tuple[int, int]]) -> list[tuple[str, str]]:
        """Those of the pairs that are different photos, by name."""
        named = ((self.names[i], self.names[j]) for i, j in pairs)
        return [p for p in named if frozenset(p) not in SAME and not moments(*p)]

    def found(self, bits: int = near_duplicates.BITS, rough: float = near_duplicates.ROUGH) -> np.ndarray:
        """(photos, edits and mirror) bool: called the same as the original."""
        return (self.apart <= bits) & (self.left <= rough)

    def wrong(self, **limits: Any) -> list[tuple[str, str]]:
        return self.differ(near_duplicates.near_pairs([one[0] for one in self.prints], **limits))

    def plain_apart(self, kind: str) -> np.ndarray:
        codes = np.array(self.plain[kind], dtype=np.uint64)
        return np.asarray(np.bitwise_count(codes[:, :1] ^ codes[:, 1:]))

    def plain_wrong(self, kind: str, bits: int) -> list[tuple[str, str]]:
        codes = np.array([one[0] for one in self.plain[kind]], dtype=np.uint64)
        apart = np.bitwise_count(codes[:, None] ^ codes[None])
        i, j = np.where(np.triu(apart <= bits, 1))
        return self.differ(list(zip(i.tolist(), j.tolist(), strict=True)))


def tune(parts: list[Part]) -> None:
    print(f"bits  rough  found ({', '.join(EDITS)})   wrong")
    for bits in (10, 12, 14, 16):
        for rough in (0.10, 0.12, 0.13, 0.145, 0.16, 0.18, 0.2):
            found = [p.found(bits=bits, rough=rough)[:, :-1] for p in parts]
            wrong = [pair for p in parts for pair in p.wrong(bits=bits, rough=rough)]
            every = np.concatenate(found)
            each = "  ".join(f"{100 * v:5.1f}" for v in every.mean(0))
            print(f"{bits:4d} {rough:5.3f}   {100 * every.mean():5.2f} ({each})   {len(wrong)}", flush=True)


def films(data: Path) -> dict[str, Any]:
    """Per film: the share of neighbouring frames called the same, and into how many groups its frames fall."""
    out = {}
    for place in sorted((data / "davis2016/JPEGImages/480p").iterdir()):
        prints = [near_duplicates.fingerprint(read_image(p)) for p in images_below(place)]
        n, pairs = len(prints), set(near_duplicates.near_pairs(prints))
        held = float(np.mean([(i, i + 1) in pairs for i in range(n - 1)]))
        out[place.name] = {"frames": n, "next_frame": held, "groups": len(near_duplicates.groups(n, pairs))}
        print(
            f"{place.name:20s} {n:3d} frames, next frame the same {100 * held:5.1f} %, "
            f"{out[place.name]['groups']} groups"
        )
    return out


def hundred_thousand(data: Path) -> tuple[list[near_duplicates.Fingerprint], str]:
    """Fingerprints of CIFAR-10's 60,000 pictures and of 40,000 windows cut from the other photos, all different."""
    prints = []
    for name in ("train", "test"):
        with tarfile.open(data / f"cifar10/{name}.tar.xz") as packed:
            for member in packed:
                if member.isfile() and member.name.endswith(".jpg"):
                    rgb = np.asarray(PIL_Image.open(packed.extractfile(member)).convert("RGB"))
                    prints.append(near_duplicates.fingerprint(Image(rgb)))
    small = len(prints)
    rng = np.random.default_rng(SEED)
    places = ["coco-mini/images", "msrc-seg/images", "camvid/images", "grocery", "fewshot-det/raccoon/images"]
    paths = [p for place in places for p in images_below(data / place)]
    each = -(-(100_000 - small) // len(paths))
    for path in paths:
        rgb = read_image(path).rgb_u8
        for _ in range(each):
            h, w = (int(rng.integers(48, max(49, side // 2))) for side in rgb.shape[:2])
            y, x = int(rng.integers(rgb.shape[0] - h + 1)), int(rng.integers(rgb.shape[1] - w + 1))
            prints.append(near_duplicates.fingerprint(Image(np.ascontiguousarray(rgb[y : y + h, x : x + w]))))
    return prints[:100_000], f"{small} of CIFAR-10, the rest windows cut from {len(paths)} photos"


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def rates(found: np.ndarray, wrong: int) -> dict[str, Any]:
    """found: (photos, EDITS) bool."""
    return {
        "found": float(found.mean()),
        "each": dict(zip(EDITS, found.mean(0).tolist(), strict=True)),
        "wrong": wrong,
    }


def plain(kind: str, bits: int, parts: list[Part]) -> dict[str, Any]:
    """A hash alone, with a limit of so many bits."""
    found = np.concatenate([p.plain_apart(kind) for p in parts])[:, :-1] <= bits
    return {"bits": bits, **rates(found, sum(len(p.plain_wrong(kind, bits)) for p in parts))}


def one_part(part: Part, used_for: str) -> dict[str, Any]:
    found, wrong, n = part.found(), part.wrong(), len(part.names)
    rivals = {kind: len(part.plain_wrong(kind, 10)) for kind in ("phash", "dhash")}
    row = {"used_for": used_for, "photos": n, "pairs": n * (n - 1) // 2, **rates(found[:, :-1], len(wrong))}
    print(
        f"{part.name:30s} {n:4d} photos   found {100 * row['found']:6.2f} %   "
        f"wrong {len(wrong):3d} of {row['pairs']:6d} (pHash {rivals['phash']:3d}, dHash {rivals['dhash']:3d})   "
        f"mirror {100 * found[:, -1].mean():.1f} %",
        flush=True,
    )
    return {**row, "mirror": float(found[:, -1].mean()), "wrong_pairs": wrong, "wrong_at_10_bits": rivals}


def large(data: Path) -> dict[str, Any]:
    prints, what = hundred_thousand(data)
    photo = read_image(images_below(data / "coco-mini/images/val")[0])
    each_ms = float(np.median([timed(lambda: near_duplicates.fingerprint(photo))[0] for _ in range(50)])) * 1e3
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds, pairs = timed(lambda: near_duplicates.near_pairs(prints))
    grouping, held = timed(lambda: near_duplicates.clusters(prints))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    assert held == near_duplicates.groups(len(prints), pairs)
    print(
        f"{len(prints)} prints: near {seconds:.1f} s, {len(pairs)} pairs; clusters {grouping:.1f} s; peak memory "
        f"{before:.2f} GB before, {after:.2f} GB after; a fingerprint of {photo.size_wh} px takes {each_ms:.2f} ms"
    )
    return {
        "prints": len(prints), "what": what, "near_seconds": seconds, "clusters_seconds": grouping,
        "pairs": len(pairs), "peak_gb_before": before, "peak_gb_after": after, "fingerprint_ms": each_ms,
        "photo_wh": photo.size_wh,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="print what the limits were chosen from, and end")
    parser.add_argument("--out", type=Path, default=Path("bench-results/alike.json"))
    args = parser.parse_args()
    data = data_folder()
    tuned = [Part(data, name, places) for name, places in TUNE.items()]
    if args.tune:
        tune(tuned)
        return
    parts = [Part(data, name, places) for name, places in REPORT.items()]
    each = {p.name: one_part(p, "tuning") for p in tuned} | {p.name: one_part(p, "report") for p in parts}
    found = np.concatenate([p.found() for p in parts])[:, :-1]
    rows = {"handful": rates(found, sum(each[p.name]["wrong"] for p in parts))}
    # each rival at 10 bits, which many tools take, and at the least that finds as many of the tuning photos as handful
    wanted = np.concatenate([p.found() for p in tuned])[:, :-1].mean()
    for kind in ("phash", "dhash"):
        level = next((b for b in range(31) if plain(kind, b, tuned)["found"] >= wanted), 30)
        for bits in sorted({10, level}):
            rows[f"{kind}, {bits} bits"] = plain(kind, bits, parts)
    pairs = sum(each[p.name]["pairs"] for p in parts)
    print(f"report: {len(found)} photos, {pairs} pairs of different photos; found ({', '.join(EDITS)})")
    for name, row in rows.items():
        figures = "  ".join(f"{100 * v:5.1f}" for v in row["each"].values())
        print(f"{name:16s} found {100 * row['found']:6.2f} %   wrong {row['wrong']:4d}   ({figures})")
    rule = {
        "found": "share of edited photos called the same as their original",
        "wrong": "pairs of different photos called the same, without those a person found to be one picture or scene",
    }
    limits = {
        "bits": near_duplicates.BITS,
        "rough": near_duplicates.ROUGH,
        "color": near_duplicates.COLOR,
        "light": near_duplicates.LIGHT,
    }
    rest = {"films": films(data), "hundred_thousand": large(data), "seed": SEED, "same": sorted(map(sorted, SAME))}
    save(args.out, {"rule": rule, "limits": limits, "pairs": pairs, "report": rows, "parts": each, **rest})


if __name__ == "__main__":
    main()
