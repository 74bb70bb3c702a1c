"""What dreams are worth: a small segmentation head taught from real photos alone, and from dreams made of them.

    python benchmarks/dream_worth.py [--quick] [--part clips|people] [--threads 2] [--json] [--out FILE]

The encoder is EfficientNet-Lite0 with its ImageNet weights, frozen; only a head of few layers on its maps at strides
4, 8 and 16 is taught. The arms have the same head, first weights, steps and optimiser; three seeds. "Real" has what
everybody does to a photo: mirrored, scaled (0.75 to 1.3), shifted, turned, other colors; "wide" scales by 0.5 to 2.
"Dreams" has as many dreams instead. Of each batch of "half", half is real and half dreams.

Clips: nine films of DAVIS 2016, the head taught from frame 0 of each; J and F as DAVIS counts them (without the first
and the last frame). Steps, rate, ranges and number of dreamed films were chosen on TUNING only, where the preset
"strong" and few films did harm; the other six are told by themselves. "Wide" was added after they had been seen,
because it is the stronger rival there: the gain over it is the one to quote.

People: coco-mini, all photos with person masks; a head for "person" taught from the train photos, or with half of each
batch dreamed from them. IoU of persons over all pixels of val, and its mean over photos.

Intervals: 95 %, paired bootstrap over films or photos, and over seeds within each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import data_folder, save
from PIL import Image as PIL_Image
from torch import nn
from torch.nn import functional as F

from handful.files import replacing
from handful.image import read_image
from handful.lucid.clip import Dream
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings
from handful.models.backbone import build
from handful.video.score import score_clip

TUNING = ("camel", "car-shadow", "libby")
UNTOUCHED = (
    "drift-chicane", "drift-straight", "horsejump-high", "motocross-jump", "paragliding-launch", "scooter-black",
)  # fmt: skip
CHANNELS = (24, 40, 112)  # of EfficientNet-Lite0 at strides 4, 8 and 16
Maps = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Recipe:
    """How a head is taught. images: different ones, encoded once; films: they come from so many dreamed films."""

    size_hw: tuple[int, int]
    images: int
    steps: int
    batch: int
    rate: float
    ranges: str
    films: int = 1
    fill: str = "auto"
    real_share: float = 0.0


CLIPS = Recipe(
    size_hw=(320, 568), images=48, steps=300, batch=6, rate=3e-3, ranges="paper", films=12, fill="telea-half"
)
PEOPLE = Recipe(
    size_hw=(320, 320), images=6, steps=600, batch=8, rate=2e-3, ranges="paper", fill="telea-half", real_share=0.5
)


@dataclass(frozen=True)
class Lesson:
    """Encoded images: maps float16, and per cell of stride 4 the share of the object and of what is labelled."""

    maps: Maps
    share: torch.Tensor
    known: torch.Tensor


class Encoder:
    """RGB uint8 (n, h, w, 3) -> float16 maps at strides 4, 8 and 16."""

    def __init__(self) -> None:
        backbone = build("lite0")
        self.net: Any = backbone.network.to(memory_format=torch.channels_last)
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.card.mean, backbone.card.std))

    @torch.inference_mode()
    def __call__(self, images: Iterable[Any], batch: int = 4) -> Maps:
        held, kept = list(images), []
        for start in range(0, len(held), batch):
            x = torch.from_numpy(np.stack(held[start : start + batch])).permute(0, 3, 1, 2).float() / 255
            x = self.net.bn1(
                self.net.conv_stem(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
            )
            found = []
            for level, stage in enumerate(self.net.blocks[:5]):
                x = stage(x)
                if level in (1, 2, 4):
                    found.append(x.half().contiguous())
            kept.append(found)
        return tuple(torch.cat([k[i] for k in kept]) for i in range(3))


class Head(nn.Module):
    """Maps -> (n, h / 4, w / 4) logits; 20,265 weights. like: whose mean and spread of each channel are taken out."""

    def __init__(self, like: Maps, width: int = 24, middle: int = 32) -> None:
        super().__init__()
        self.scale = [(m.float().mean((0, 2, 3), keepdim=True), m.float().std((0, 2, 3), keepdim=True)) for m in like]
        self.narrow = nn.ModuleList(nn.Conv2d(c, width, 1) for c in CHANNELS)
        self.deep = nn.Conv2d(2 * width, middle, 3, padding=1)
        self.mix = nn.Conv2d(middle + width, middle, 1)
        self.last = nn.Conv2d(middle, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Maps) -> torch.Tensor:
        fine, middle, coarse = (
            F.relu(conv((m.float().contiguous(memory_format=torch.channels_last) - mean) / (std + 1e-3)))
            for conv, m, (mean, std) in zip(self.narrow, maps, self.scale, strict=True)
        )
        coarse = F.interpolate(coarse, middle.shape[-2:], mode="bilinear")
        deep = F.interpolate(F.relu(self.deep(torch.cat([middle, coarse], 1))), fine.shape[-2:], mode="bilinear")
        out: torch.Tensor = self.last(F.relu(self.mix(torch.cat([deep, fine], 1))))[:, 0]
        return out


def lesson(encoder: Encoder, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Lesson:
    """pairs: (rgb uint8, ids with 0, 255 ignore, other: object), all of one size whose sides 4 divides."""
    ids = torch.from_numpy(np.stack([ids for _, ids in pairs]))
    known = F.avg_pool2d((ids != 255).float(), 4)
    share = F.avg_pool2d(((ids != 255) & (ids > 0)).float(), 4) / known.clamp(min=1 / 16)
    return Lesson(encoder(rgb for rgb, _ in pairs), share, known)


def window(one: Lesson, row: int, draw: torch.Generator) -> tuple[Maps, torch.Tensor, torch.Tensor]:
    """A quarter of one image, anywhere on the grid of stride 16: as many steps in a third of the time."""
    high, wide = (side // 4 for side in one.maps[0].shape[-2:])  # whole cells of stride 16
    tall, broad = high // 2, wide // 2
    top = int(torch.randint(high - tall + 1, (), generator=draw))
    left = int(torch.randint(wide - broad + 1, (), generator=draw))

    def cut(plane: torch.Tensor, times: int) -> torch.Tensor:
        return plane[row, ..., top * times : (top + tall) * times, left * times : (left + broad) * times]

    return tuple(map(cut, one.maps, (4, 2, 1))), cut(one.share, 4), cut(one.known, 4)


def taught(recipe: Recipe, seed: int, lessons: Sequence[tuple[Lesson, float]], like: Maps) -> Head:
    """A head after the recipe's steps. lessons: each with its share of every batch."""
    torch.manual_seed(seed)
    head = Head(like)
    optimiser = torch.optim.Adam(head.parameters(), lr=recipe.rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(recipe.steps):
        views = [
            window(one, int(row), draw)
            for one, part in lessons
            for row in torch.randint(len(one.share), (round(part * recipe.batch),), generator=draw)
        ]
        y, w = torch.stack([v[1] for v in views]), torch.stack([v[2] for v in views])
        logits = head(tuple(torch.stack(level) for level in zip(*(v[0] for v in views), strict=True)))
        p = torch.sigmoid(logits) * w
        dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + (y * w).sum() + 1)
        loss = (F.binary_cross_entropy_with_logits(logits, y, reduction="none") * w).sum() / w.sum() + dice
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def ordinary(
    rgb: np.ndarray, ids: np.ndarray, size_hw: tuple[int, int], rng: np.random.Generator, zoom: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """What everybody does: mirror, scale (zoom), shift by up to a tenth, turn by up to 15 degrees, other colors."""
    (h, w), (th, tw) = rgb.shape[:2], size_hw
    fit = max(th / h, tw / w) * np.exp(rng.uniform(*np.log(zoom)))
    turn = np.deg2rad(rng.uniform(-15, 15))
    cos, sin = fit * np.cos(turn), fit * np.sin(turn)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]])
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    middle = matrix[:, :2] @ [w / 2, h / 2]
    # a photo larger than the frame is looked at anywhere in it, as a random crop does
    loose = np.maximum(np.array([fit * w - tw, fit * h - th]) / 2, np.array([tw, th]) * 0.1)
    matrix[:, 2] = np.array([tw, th]) / 2 - middle + rng.uniform(-1, 1, 2) * loose
    if fit < 0.7:  # a plain warp would skip pixels
        rgb = cv2.blur(rgb, (round(1 / fit), round(1 / fit)))
    seen = cv2.warpAffine(rgb, matrix, (tw, th), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.warpAffine(ids, matrix, (tw, th), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return colored(seen, rng), mask


def colored(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation by up to 30 %, hue by up to 5 %."""
    bright, contrast, saturate = rng.uniform(0.7, 1.3, 3)
    x = rgb.astype(np.float32) * bright
    x = (x - x.mean()) * contrast + x.mean()
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = np.clip(grey[..., None] + (x - grey[..., None]) * saturate, 0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(rng.uniform(-9, 9))) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def dreamed(seed: Seed, recipe: Recipe, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Dreams of a photo, from recipe.films films of equal length; all of its images, or those that are not real."""
    pairs, n = [], round(recipe.images * (1 - recipe.real_share))
    for film in range(recipe.films):
        frames = n // recipe.films + (film < n % recipe.films)
        dream = Dream(seed, Settings(max(frames, 1), recipe.ranges, recipe.fill, seed=1000 * number + film))
        for t in range(frames):
            frame = dream.frame(t)
            pairs.append((frame.rgb_u8, frame.ids))
    return pairs


def gain(values: np.ndarray, draws: int = 10_000) -> dict[str, float]:
    """Of paired differences (units, seeds): the mean and its 95 % interval, units drawn first, then seeds in each."""
    rng = np.random.default_rng(0)
    units = rng.integers(len(values), size=(draws, len(values)))
    seeds = rng.integers(values.shape[1], size=(draws, *values.shape))
    means = values[units[..., None], seeds].mean((1, 2))
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return {"mean": float(values.mean()), "low": low, "high": high}


def small(rgb: Any, ids: Any, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    ids = cv2.resize(ids, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(rgb, size_hw[::-1], interpolation=cv2.INTER_AREA), ids


def grey(file: Path) -> np.ndarray:
    with PIL_Image.open(file) as opened:
        return np.asarray(opened.convert("L"))


def film_maps(encoder: Encoder, photos: Sequence[Path], size_hw: tuple[int, int], file: Path) -> Maps:
    """The maps of every frame, kept in a file."""
    if not file.exists():
        maps = encoder(cv2.resize(read_image(p).rgb_u8, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photos)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part, part.open("wb") as out:
            np.savez(out, *(m.numpy() for m in maps))
    with np.load(file) as held:
        return tuple(torch.from_numpy(held[f"arr_{i}"]) for i in range(3))


@torch.inference_mode()
def followed(head: Head, maps: Maps, size_hw: tuple[int, int]) -> list[np.ndarray]:
    """(h, w) bool for every frame."""
    masks = []
    for t in range(len(maps[0])):
        logits = head(tuple(m[t : t + 1] for m in maps))
        masks.append((F.interpolate(logits[None], size_hw, mode="bilinear")[0, 0] > 0).numpy())
    return masks


def on_clips(encoder: Encoder, data: Path, cache: Path, films: Sequence[str], seeds: int) -> dict[str, Any]:
    recipe = CLIPS
    arms = {"real": (1.0, 0.0, 0.0), "wide": (0.0, 1.0, 0.0), "dreams": (0.0, 0.0, 1.0), "half": (0.5, 0.0, 0.5)}
    scores: dict[str, dict[str, list[list[float]]]] = {}
    for film in films:
        began = time.monotonic()
        photos = sorted((data / "davis2016/JPEGImages/480p" / film).glob("*.jpg"))
        files = sorted((data / "davis2016/Annotations/480p" / film).glob("*.png"))
        truth = [grey(f) for f in files]
        rgb, ids = read_image(photos[0]).rgb_u8, (truth[0] > 0).astype(np.uint8)
        maps = film_maps(encoder, photos, recipe.size_hw, cache / f"{film}-{recipe.size_hw[0]}.npz")
        found: dict[str, list[list[float]]] = {arm: [] for arm in arms}
        for seed in range(seeds):
            lessons = []
            for zoom in ((0.75, 1.3), (0.5, 2.0)):
                rng = np.random.default_rng([seed, 1])
                again = range(recipe.images)
                lessons.append(lesson(encoder, [ordinary(rgb, ids, recipe.size_hw, rng, zoom) for _ in again]))
            pairs = dreamed(Seed(f"{film}/0", rgb, ids), recipe, seed)
            lessons.append(lesson(encoder, [small(*pair, recipe.size_hw) for pair in pairs]))
            for arm, parts in arms.items():
                mixed = [p for p in zip(lessons, parts, strict=True) if p[1]]
                head = taught(recipe, seed, mixed, tuple(m[:1] for m in maps))
                score = score_clip(followed(head, maps, truth[0].shape), truth, merge=True, ignore=None, name=film)
                found[arm].append([score.j.mean, score.f.mean])
        scores[film] = found
        line = "   ".join("{} J {:.3f} F {:.3f}".format(arm, *np.mean(found[arm], axis=0)) for arm in arms)
        print(f"{film:20s} {line}   {time.monotonic() - began:.0f} s", flush=True)
    result: dict[str, Any] = {"recipe": asdict(recipe), "tuned_on": TUNING, "scores": scores, "gain": {}}
    for name, chosen in (("all films", films), ("the untouched", [f for f in films if f in UNTOUCHED])):
        table = {arm: np.array([scores[f][arm] for f in chosen]) for arm in arms}  # (films, seeds, J and F)
        for arm in arms:
            j, f = table[arm].mean((0, 1))
            print(f"{name} ({len(chosen)}), {arm}: J {j:.3f}, F {f:.3f}, J&F {(j + f) / 2:.3f}", flush=True)
        for arm, than in itertools.product(("dreams", "half"), ("real", "wide")):
            more = table[arm] - table[than]
            for measure, values in (("J", more[..., 0]), ("F", more[..., 1]), ("J&F", more.mean(-1))):
                result["gain"][f"{arm} over {than}, {name}, {measure}"] = gain(values)
    return result


def on_people(encoder: Encoder, data: Path, recipe: Recipe, seeds: int, limit: int | None) -> dict[str, Any]:
    arms = ("real", "dreams")

    def pictures(split: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
        found = []
        for file in sorted((data / "coco-mini/person_masks" / split).glob("*.png"))[:limit]:
            ids = np.select([(mask := grey(file)) == 255, mask == 128], [1, 255]).astype(np.uint8)
            found.append((file.stem, read_image(data / "coco-mini/images" / split / f"{file.stem}.jpg").rgb_u8, ids))
        return found

    train, val, tests, zoom = pictures("train"), pictures("val"), [], (0.6, 2.0)
    for _, rgb, ids in val:
        size = tuple(max(16, round(side * 384 / max(ids.shape) / 16) * 16) for side in ids.shape)
        tests.append((encoder([cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)]), ids))
    rng = np.random.default_rng(0)
    plain = lesson(encoder, [ordinary(rgb, ids, recipe.size_hw, rng, (1, 1)) for _, rgb, ids in train])
    both: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            began = time.monotonic()
            rng = np.random.default_rng([seed, 2])
            real = recipe.images if arm == "real" else round(recipe.images * recipe.real_share)
            shown = [ordinary(rgb, ids, recipe.size_hw, rng, zoom) for _, rgb, ids in train for _ in range(real)]
            lessons = [(lesson(encoder, shown), 1.0 if arm == "real" else recipe.real_share)]
            if arm == "dreams":
                seeds_of_train = [Seed(f"people/{name}", rgb, ids, whole=False) for name, rgb, ids in train]
                pairs = [p for one in seeds_of_train for p in dreamed(one, recipe, seed)]
                shown = [ordinary(*pair, recipe.size_hw, rng, zoom) for pair in pairs]
                lessons.append((lesson(encoder, shown), 1 - recipe.real_share))
            head = taught(recipe, seed, lessons, plain.maps)
            counts = []
            for maps, ids in tests:
                ours, theirs = followed(head, maps, ids.shape)[0] & (ids != 255), ids == 1
                counts.append([(ours & theirs).sum(), (ours | theirs).sum()])
            both[arm].append(np.array(counts))
            line = "IoU {:.3f}, mean of photos {:.3f}".format(*iou(both[arm][-1]))
            print(f"people, seed {seed}, {arm:8s} {line}   {time.monotonic() - began:.0f} s", flush=True)
    table = {arm: np.stack(both[arm], axis=1) for arm in arms}  # (photos, seeds, intersection and union)
    means = {arm: np.mean([iou(c) for c in both[arm]], axis=0).tolist() for arm in arms}
    result: dict[str, Any] = {"recipe": asdict(recipe), "photos": [len(train), len(val)], "iou": means, "gain": {}}
    ratios = {arm: table[arm][..., 0] / np.maximum(table[arm][..., 1], 1) for arm in arms}
    rng, pooled_draws = np.random.default_rng(0), []
    for _ in range(10_000):
        units = rng.integers(len(val), size=len(val))
        picked = rng.integers(seeds, size=seeds)
        sums = {arm: table[arm][units][:, picked].sum(0) for arm in arms}
        share = {arm: sums[arm][:, 0] / sums[arm][:, 1] for arm in arms}
        pooled_draws.append(float((share["dreams"] - share["real"]).mean()))
    low, high = np.percentile(pooled_draws, [2.5, 97.5])
    result["gain"]["pooled"] = {"mean": means["dreams"][0] - means["real"][0], "low": float(low), "high": float(high)}
    result["gain"]["mean of photos"] = gain(ratios["dreams"] - ratios["real"])
    return result


def iou(counts: np.ndarray) -> tuple[float, float]:
    """(photos, 2) intersections and unions -> over all pixels, mean over photos."""
    return float(counts[:, 0].sum() / counts[:, 1].sum()), float((counts[:, 0] / np.maximum(counts[:, 1], 1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two films, 30 photos, one seed")
    parser.add_argument("--part", choices=("clips", "people"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "handful-dream-worth")
    parser.add_argument("--json", action="store_true", help="print the result as JSON too")
    parser.add_argument("--out", type=Path, default=Path("bench-results/dream_worth.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    began, data, encoder, seeds = time.monotonic(), data_folder(), Encoder(), 1 if args.quick else 3
    result: dict[str, Any] = {"threads": args.threads, "seeds": seeds}
    films = ("car-shadow", "drift-straight") if args.quick else TUNING + UNTOUCHED
    if args.part != "people":
        result["clips"] = on_clips(encoder, data, args.cache, films, seeds)
    if args.part != "clips":
        result["people"] = on_people(encoder, data, PEOPLE, seeds, 30 if args.quick else None)
    for part in ("clips", "people"):
        for name, got in result.get(part, {}).get("gain", {}).items():
            print(
                f"gain by dreams, {f'{part}, {name}':30s} {got['mean']:+.3f}   [{got['low']:+.3f}, {got['high']:+.3f}]"
            )
    print(f"{(minutes := (time.monotonic() - began) / 60):.1f} minutes")
    save(args.out, {"minutes": minutes, **result})
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
