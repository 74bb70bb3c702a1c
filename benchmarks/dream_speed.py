"""How fast films are dreamed: finished 854x480 image-and-mask pairs a second on one core, against the released way.

A pair is what lands on a disk: the frame as JPEG (quality 95) and its mask as PNG. In a frame: the background under a
moving camera, the object moved, scaled, turned and bent by a thin-plate spline, its soft border, and the light. The
hole is filled once a seed and given apart. The peer, in the same run and on the same photographs, is our vectorised
re-make of the released Lucid Data Dreaming code, which fills the hole anew for every image (dream_released.py).

python benchmarks/dream_speed.py [--frames 20] [--rounds 3] [--seeds 9] [--out bench-results/dream_speed.json]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import ROOT, data_folder, save
from dream_released import pair
from PIL import Image
from threadpoolctl import threadpool_limits

from handful.lucid.clip import Dream
from handful.lucid.encode import jpeg, png
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings

WANTED = {"feather": 42, "ring": 35, "poisson": 15}
SEEDS, FRAMES = 9834, 20  # the original's: 196,680 frames


def one_thread() -> None:
    """One core means one, here and in the processes started from here."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def seeds(count: int) -> list[Seed]:
    """First frames of the DAVIS clips, with their masks."""
    root = data_folder() / "davis2016"
    found = []
    for clip in sorted((root / "JPEGImages" / "480p").iterdir())[:count]:
        rgb = np.array(Image.open(clip / "00000.jpg").convert("RGB"))
        mask = np.array(Image.open(root / "Annotations" / "480p" / clip.name / "00000.png"))
        found.append(Seed(clip.name, rgb, (mask > 127).astype(np.uint8)))
    return found


def rates(dreams: list[Dream]) -> list[float]:
    """Pairs a second of each film."""
    found = []
    for dream in dreams:
        start = time.perf_counter()
        for t in range(len(dream)):
            frame = dream.frame(t)
            jpeg(frame.rgb_u8), png(frame.ids)
        found.append(len(dream) / (time.perf_counter() - start))
    return found


def released(found: list[Seed], count: int) -> list[float]:
    """Image-and-mask pairs a second of the released way; each call makes two."""
    rng, result = np.random.default_rng(0), []
    for seed in found:
        start = time.perf_counter()
        for _ in range(count):
            image, mask, _, second, second_mask = pair(seed.rgb_u8, seed.ids, rng)
            for rgb, ids in ((image, mask), (second, second_mask)):
                jpeg(rgb), png(ids.astype(np.uint8))
        result.append(2 * count / (time.perf_counter() - start))
    return result


def worker(count: int, frames: int, begin: Any, done: Any) -> None:
    """Render for a while when told to; how many frames a second."""
    one_thread()
    dreams = [Dream(seed, Settings(frames=frames, fill="telea-half")) for seed in seeds(count)]
    rates(dreams[:1])
    begin.wait()
    start = time.perf_counter()
    rates(dreams)
    done.put(count * frames / (time.perf_counter() - start))


def together(processes: int, count: int, frames: int) -> float:
    """Frames a second of so many processes at once, one thread each."""
    context = multiprocessing.get_context("spawn")
    begin, done = context.Barrier(processes), context.Queue()
    running = [context.Process(target=worker, args=(count, frames, begin, done)) for _ in range(processes)]
    for process in running:
        process.start()
    total = sum(done.get(timeout=600) for _ in running)
    for process in running:
        process.join()
    return total


def summary(values: list[float]) -> dict[str, float]:
    """Harmonic mean (frames over time), and the tenth and ninetieth percentile over films."""
    a = np.array(values)
    return {"mean": float(len(a) / (1 / a).sum()), "p10": float(np.quantile(a, 0.1)), "p90": float(np.quantile(a, 0.9))}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results" / "dream_speed.json")
    args = parser.parse_args()
    one_thread()
    found = seeds(args.seeds)

    fills: dict[str, list[float]] = {}
    films: dict[str, list[Dream]] = {}
    for fill in ("telea-half", "telea", "auto", "patchmatch"):
        for seed in found:
            start = time.perf_counter()
            Dream(seed, Settings(fill=fill))
            fills.setdefault(fill, []).append(time.perf_counter() - start)
    for blend in WANTED:
        films[blend] = [Dream(s, Settings(frames=args.frames, blend=blend, fill="telea-half")) for s in found]

    speed: dict[str, list[float]] = {name: [] for name in (*WANTED, "released")}
    for _ in range(args.rounds):  # taken in turns, so that whatever else the machine does meets all alike
        for blend, dreams in films.items():
            speed[blend] += rates(dreams)
        speed["released"] += released(found, 1)
    result: dict[str, Any] = {
        "pairs_per_second": {k: summary(v) for k, v in speed.items()},
        "prepare_s": {k: {"median": float(np.median(v)), "max": max(v)} for k, v in fills.items()},
        "frames": args.frames, "rounds": args.rounds, "seeds": [s.id for s in found],
    }  # fmt: skip
    scaling = []
    for _ in range(args.rounds):
        one = together(1, args.seeds, args.frames)
        scaling.append(together(2, args.seeds, args.frames) / one)
    result["two_processes"] = {"ratio_median": float(np.median(scaling)), "ratios": scaling}

    show(result, args.frames)
    save(args.out, result)


def show(result: dict[str, Any], frames: int) -> None:
    """The figures, and the arithmetic for the original's 196,680 frames."""
    rows, prepare, ratios = result["pairs_per_second"], result["prepare_s"], result["two_processes"]["ratios"]
    print(
        f"one core, 854x480, {len(result['seeds'])} films of {frames} frames, {result['rounds']} rounds; files included"
    )
    for name, row in rows.items():
        wanted = f"wanted {WANTED[name]}" if name in WANTED else "Telea for every image"
        ratio = row["mean"] / rows["released"]["mean"]
        spread = f"(p10 {row['p10']:.2f}, p90 {row['p90']:.2f})"
        print(f"  {name:<9} {row['mean']:7.2f} pairs/s {spread}  {ratio:6.1f} x released  {wanted}")
    times = (f"{name} {row['median']:.2f} s (max {row['max']:.2f})" for name, row in prepare.items())
    print("once a seed, fill and cutting out:", ", ".join(times))
    print(
        f"two processes: {result['two_processes']['ratio_median']:.2f} x one ({', '.join(f'{r:.2f}' for r in ratios)})"
    )
    total = SEEDS * FRAMES
    for name, fill in (("feather", "telea-half"), ("feather", "auto"), ("poisson", "auto")):
        render, once = total / rows[name]["mean"] / 3600, SEEDS * prepare[fill]["median"] / 3600
        print(f"{SEEDS:,} seeds x {FRAMES} = {total:,} frames, {name}, {fill}: {total:,} / {rows[name]['mean']:.1f} = "
              f"{render:.2f} core hours, fills {once:.2f}, together {render + once:.2f}")  # fmt: skip
    slow = total / rows["released"]["mean"] / 3600
    print(f"the released way with Telea: {slow:.1f} core hours; pyLucid by its own times, on a GPU server: 174.8 hours")


if __name__ == "__main__":
    main()
