"""The released Lucid Data Dreaming generator, made again from its description with vectorised arithmetic: the peer.

    python benchmarks/dream_released.py [--rounds 5] [--out bench-results/dream_released.json]

Khoreva et al. 2017 (arXiv 1703.09554) released MATLAB code that makes pairs of images from one labelled image. This is
not that code; it follows what it does, step by step: `pair` says which. Where the description leaves a choice, the
faster one is taken (the seam is relaxed on the object's crop rather than on the whole image, flow is not made, and
thin-plate maps are computed on crops), so that nothing is won by a slow peer. The fill is made anew for every image, as
there: by default with OpenCV's Telea in place of the original patch fill, which a public port gives as about 60 s.
One core.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import data_folder, save
from PIL import Image

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]

ROUNDS, TOLERANCE = 500, 1e-3  # of Gauss-Seidel; the tolerance is of the largest change, with colors from 0 to 1
SEED = 0  # of the pairs and of the patch fill
SMALLEST_PX, MARGIN_PX = 100, 50  # an object's longer side is kept between these: at least, and short of the image's
REACH_PX = 25  # around the object, where its seam is relaxed
CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4


def telea(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return cv2.inpaint(rgb, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)


def patch_fill(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """handful's own, as a stand-in for the original."""
    from handful.lucid.fill import fill

    return fill(rgb, hole, "patchmatch", rng=np.random.default_rng(SEED))


def pair(
    rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator, fill: Fill = telea
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One pair: (image, mask, previous, second image, second mask), images (h, w, 3) uint8 RGB, masks (h, w) of ids.

    rgb: (h, w, 3) uint8 RGB. mask: (h, w) uint8 ids, 0 background. fill(rgb, hole): called once for each image.
    """
    # 1. a random subset moves; the hole of all objects is filled; the others come back, or do not
    ids = np.unique(mask[mask > 0])
    moved = ids[rng.random(len(ids)) < 0.5]
    moved = moved if len(moved) else rng.choice(ids, 1)
    ground, labels = fill(rgb, dilated(mask > 0, 7)), np.zeros_like(mask)
    stay = np.isin(mask, np.setdiff1d(ids, moved))
    if stay.any() and rng.random() < 0.5:
        wide = dilated(stay, 2)
        ground[wide] = rgb[wide]
        labels[stay] = mask[stay]
    # 2. the ground alone
    if rng.random() < 0.5:
        ground, labels = np.ascontiguousarray(ground[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])
    if rng.random() < 0.5:
        ground = relit(ground, rng)
    # 3. and 4. the objects, anywhere
    for label in rng.permutation(moved):
        ground = placed(ground, labels, rgb, mask == label, label, rng)
    # 5. all of it
    image, labels = whole(ground, labels, rng)
    # 6. and 7.
    return image, labels, previous(labels, rng), *second(image, labels, rng, fill)


def placed(
    ground: np.ndarray, labels: np.ndarray, rgb: np.ndarray, own: np.ndarray, label: int, rng: np.random.Generator
) -> np.ndarray:
    """The ground with one object: bent, scaled, put anywhere, blended in. `labels` is changed."""
    height, width = own.shape
    (y0, x0, y1, x1), pad = box_of(own), 8
    photo, part = (cv2.copyMakeBorder(a[y0:y1, x0:x1], *(pad,) * 4, kind) for a, kind in (
        (rgb, cv2.BORDER_REPLICATE), (own.astype(np.uint8), cv2.BORDER_CONSTANT)))  # fmt: skip
    around = rgb[max(y0 - pad, 0) : y1 + pad, max(x0 - pad, 0) : x1 + pad]
    top, left = pad - min(y0, pad), pad - min(x0, pad)
    photo[top : top + around.shape[0], left : left + around.shape[1]] = around
    if rng.random() < 0.5:
        maps = bend(part > 0, 0.05, rng)
        photo = cv2.remap(photo, maps, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        part = cv2.erode(cv2.remap(part, maps, None, cv2.INTER_NEAREST), np.ones((3, 3), np.uint8))
    longer = max(y1 - y0, x1 - x0)
    most = min((height - MARGIN_PX) / (y1 - y0), (width - MARGIN_PX) / (x1 - x0))
    scale = min(max(rng.uniform(0.85, 1.15), SMALLEST_PX / longer), most)
    size = tuple(max(round(n * scale), 1) for n in part.shape[::-1])
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
    part = cv2.resize(part, size, interpolation=cv2.INTER_NEAREST)
    at = round(rng.uniform(0, width) - size[0] / 2), round(rng.uniform(0, height) - size[1] / 2)
    result = pasted(ground, photo, part > 0, at)
    view, inside = overlap(labels, part > 0, at)
    view[inside] = label
    return result


def pasted(ground: np.ndarray, photo: np.ndarray, inside: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """The object on the ground, its seam smoothed: the photo's gradients over the 1-px ring, the rest by Gauss-Seidel.

    What is solved for is the change of the hard composite; its Poisson equation and its iterates are the same.
    """
    x, y = at[0] - REACH_PX, at[1] - REACH_PX
    reach = (REACH_PX,) * 4
    photo = cv2.copyMakeBorder(photo, *reach, cv2.BORDER_REPLICATE)
    mask = cv2.copyMakeBorder(inside.astype(np.uint8), *reach, cv2.BORDER_CONSTANT)
    result = ground.copy()
    view, mask = overlap(result, mask, (x, y))
    if not mask.any():
        return result
    _, photo = overlap(result, photo, (x, y))
    ring = cv2.dilate(mask, (CROSS > 0).astype(np.uint8)) > mask
    jump = (view.astype(np.float32) - photo) / 255 * ring[..., None]
    wide = cv2.merge([mask.astype(np.float32)] * 3)
    beside = cv2.filter2D(wide, -1, CROSS, borderType=cv2.BORDER_CONSTANT)
    bends = wide * cv2.filter2D(jump, -1, CROSS, borderType=cv2.BORDER_CONSTANT) - jump * beside
    composite = np.where(mask[..., None] > 0, photo, view)
    view[:] = np.clip(np.rint(composite + 255 * relaxed(bends)), 0, 255)
    return result


def relaxed(rhs: np.ndarray) -> np.ndarray:
    """e - mean of 4 neighbours = rhs, e = 0 outside, by Gauss-Seidel: all red pixels at once, then all black ones."""
    y, x = np.indices(rhs.shape[:2])
    colors = [cv2.merge([((y + x) % 2 == i).astype(np.float32)] * 3) for i in (0, 1)]
    e, step = np.zeros_like(rhs), np.empty_like(rhs)
    for _ in range(ROUNDS):
        largest = 0.0
        for color in colors:
            cv2.filter2D(e, -1, CROSS, dst=step, borderType=cv2.BORDER_CONSTANT)
            cv2.add(step, rhs, dst=step)
            cv2.subtract(step, e, dst=step)
            cv2.multiply(step, color, dst=step)
            cv2.add(e, step, dst=e)
            largest = max(largest, cv2.norm(step.reshape(len(step), -1), cv2.NORM_INF))
        if largest < TOLERANCE:
            break
    return e


def whole(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rotation, with the largest rectangle inside it brought back to full size; flip; light; each with p = 0.5."""
    height, width = labels.shape
    if rng.random() < 0.5:
        angle = float(rng.choice(np.arange(-30, 31, 2)))
        a = np.deg2rad(abs(angle))
        # of the same shape as the image, in the middle: as large as its turned corners allow
        inner = 1 / max(np.cos(a) + np.sin(a) * height / width, np.cos(a) + np.sin(a) * width / height)
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1 / inner)
        image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        labels = cv2.warpAffine(labels, matrix, (width, height), flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        image, labels = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])
    if rng.random() < 0.5:
        image = relit(image, rng)
    return image, labels


def previous(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask as a tracker would have left it: each object bent by 5 %, then widened by a disk of 5."""
    result = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        own, at = crop_of(labels == label, 60)
        bent = cv2.remap(own.astype(np.uint8), bend(own, 0.05, rng), None, cv2.INTER_NEAREST)
        view, inside = overlap(result, dilated(bent > 0, 5), at)
        view[inside] = label
    return result


def second(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator, fill: Fill
) -> tuple[np.ndarray, np.ndarray]:
    """The frame after: filled again, then the camera moves, the objects move, or both."""
    height, width = labels.shape
    ids = np.unique(labels[labels > 0])
    ground = fill(image, dilated(labels > 0, 7)) if len(ids) else image
    camera, objects = ((True, True), (False, True), (True, False))[rng.integers(3)]
    matrix = np.array([[1, 0, 0], [0, 1, 0]], float)
    if camera:
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        angle = np.deg2rad(rng.uniform(-3, 3))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix[:, :2] = turn * rng.uniform(0.95, 1.05, 2)
        matrix[:, 2] = middle - matrix[:, :2] @ middle + rng.uniform(-0.05, 0.05, 2) * (width, height)
        ground = cv2.warpAffine(ground, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    result, moved = ground, np.zeros_like(labels)
    for label in ids:
        own, (x, y) = crop_of(labels == label, 60)
        view, _ = overlap(image, own, (x, y))
        photo, part = view, own.astype(np.uint8)
        if objects:
            kind = rng.integers(3)  # shifted, bent, or both
            y0, x0, y1, x1 = box_of(own)
            if kind != 1:
                dx, dy = rng.uniform(-0.05, 0.05, 2) * (x1 - x0, y1 - y0)
                x, y = x + round(dx), y + round(dy)
            if kind != 0:
                maps = bend(own, 0.05, rng)
                photo = cv2.remap(photo, maps, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                part = cv2.remap(part, maps, None, cv2.INTER_NEAREST)
        result = pasted(result, photo, part > 0, (x, y))
        view, inside = overlap(moved, part > 0, (x, y))
        view[inside] = label
    return result, moved


def relit(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """S and V of HSV: x -> a x^b + c."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    x = np.arange(256) / 255
    tables = [np.arange(256)]
    for _ in "SV":
        a, b, c = rng.uniform(0.97, 1.03), rng.uniform(0.8, 1.2), rng.uniform(-0.05, 0.05)
        tables.append(np.clip(np.rint(255 * (a * x**b + c)), 0, 255))
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, -1)[None].astype(np.uint8)), cv2.COLOR_HSV2RGB)


def bend(inside: np.ndarray, by: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w, 2) float32 positions to read from: a thin-plate spline through 5 border points, each moved by up to +-by
    of the object's height and width in steps of a tenth of that.
    """
    border = np.argwhere(cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > inside)[:, ::-1]
    if len(border) < 5:
        border = np.argwhere(np.ones_like(inside))[:, ::-1]
    points = border[rng.choice(len(border), min(5, len(border)), replace=False)].astype(float)
    y0, x0, y1, x1 = box_of(inside)
    n, moves = len(points), rng.integers(-10, 11, (len(points), 2)) * (by / 10) * (x1 - x0, y1 - y0)
    centres = points + moves
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = kernel(((centres[:, None] - centres[None]) ** 2).sum(-1))
    system[:n, n:] = np.column_stack([np.ones(n), centres])
    system[n:, :n] = system[:n, n:].T
    weights = np.linalg.lstsq(system, np.concatenate([-moves, np.zeros((3, 2))]), rcond=None)[0].astype(np.float32)
    y, x = np.indices(inside.shape, dtype=np.float32)
    maps = np.stack([x, y], -1)
    for centre, weight in zip(centres.astype(np.float32), weights[:n], strict=True):
        maps += kernel((x - centre[0]) ** 2 + (y - centre[1]) ** 2)[..., None] * weight
    maps += weights[n] + x[..., None] * weights[n + 1] + y[..., None] * weights[n + 2]
    return maps


def kernel(squared: np.ndarray) -> np.ndarray:
    """U(r) = r^2 log r."""
    return squared * (0.5 * np.log(np.maximum(squared, 1e-12)))


def dilated(inside: np.ndarray, radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return cv2.dilate(inside.astype(np.uint8), (y * y + x * x <= radius * radius).astype(np.uint8)) > 0


def box_of(inside: np.ndarray) -> tuple[int, int, int, int]:
    """top, left, bottom, right; all of the array if there is nothing inside."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return 0, 0, *inside.shape
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def crop_of(inside: np.ndarray, pad: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of a mask around what is inside, and its (left, top)."""
    y0, x0, y1, x1 = box_of(inside)
    x, y = max(x0 - pad, 0), max(y0 - pad, 0)
    return inside[y : y1 + pad, x : x1 + pad], (x, y)


def overlap(frame: np.ndarray, crop: np.ndarray, at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The parts of both that lie over one another, perhaps empty."""
    (x, y), (height, width), (ch, cw) = at, frame.shape[:2], crop.shape[:2]
    left, top = min(max(x, 0), width), min(max(y, 0), height)
    right, bottom = max(min(x + cw, width), left), max(min(y + ch, height), top)
    return frame[top:bottom, left:right], crop[top - y : bottom - y, left - x : right - x]


def spread(seconds: list[float]) -> dict[str, float]:
    p10, median, p90 = (float(q) for q in np.quantile(seconds, (0.1, 0.5, 0.9)))
    return {"median_s": median, "p10_s": p10, "p90_s": p90, "mean_s": float(np.mean(seconds)), "count": len(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each photo")
    parser.add_argument("--out", type=Path, default=Path("bench-results/dream_released.json"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    root = data_folder() / "davis2016"
    has_patch_fill = importlib.util.find_spec("handful.lucid.patchmatch") is not None
    pairs: dict[str, list[float]] = {}
    fills: dict[str, list[float]] = {"telea": []} | ({"patchmatch": []} if has_patch_fill else {})
    ways: dict[str, Fill] = {"telea": telea, "patchmatch": patch_fill}
    for clip in sorted((root / "JPEGImages/480p").iterdir()):
        rgb = np.array(Image.open(clip / "00000.jpg").convert("RGB"))
        mask = (np.array(Image.open(root / "Annotations/480p" / clip.name / "00000.png")) > 127).astype(np.uint8)
        rng = np.random.default_rng(SEED)
        pair(rgb, mask, rng)  # warm
        pairs[clip.name] = [timed(lambda rgb=rgb, mask=mask, rng=rng: pair(rgb, mask, rng)) for _ in range(args.rounds)]
        hole = dilated(mask > 0, 7)
        for kind, seconds in fills.items():
            seconds.append(timed(lambda rgb=rgb, hole=hole, kind=kind: ways[kind](rgb, hole)))
        row = spread(pairs[clip.name])
        each = "  ".join(f"{kind} fill {seconds[-1]:.3f} s" for kind, seconds in fills.items())
        print(f"{clip.name:20s} {row['median_s']:.3f} s a pair ({row['p10_s']:.3f} to {row['p90_s']:.3f})  {each}")
    overall = spread([s for seconds in pairs.values() for s in seconds])
    print(
        f"all: {overall['median_s']:.3f} s a pair with Telea ({overall['p10_s']:.3f} to {overall['p90_s']:.3f}, mean "
        f"{overall['mean_s']:.3f}), {overall['mean_s'] / 2:.3f} s an image"
    )
    result = {"pairs": overall, "fills": {k: spread(v) for k, v in fills.items()}, "seed": SEED}
    if has_patch_fill:
        # two fills a pair
        slower = overall["mean_s"] + 2 * (np.mean(fills["patchmatch"]) - np.mean(fills["telea"]))
        print(f"with a patch fill of {np.mean(fills['patchmatch']):.2f} s in its place: {slower:.2f} s a pair")
        result["pair_with_patchmatch_s"] = float(slower)
    else:
        print("no patch fill here to measure (handful.lucid.patchmatch): skipped")
    save(args.out, {**result, "each": {clip: spread(seconds) for clip, seconds in pairs.items()}})


def timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
