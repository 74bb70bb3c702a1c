"""The dream farm for real: thousands of frames on a Ray cluster of three nodes, one of which is killed half-way.

    python benchmarks/dream_farm.py [--seeds 300] [--frames 20] [--fill telea] [--place FOLDER]
                                    [--out bench-results/dream_farm.json]

Seeds are photos of coco-mini with outlined things, one a photo, and the first frame of each DAVIS film; where these are
fewer than asked for, single things of coco-mini's photos are seeds of their own, the largest first. What cannot be a
seed (nothing of 64 px) is left out beforehand, so that the count is exact.

The cluster is ray.cluster_utils.Cluster on this machine: three nodes of one processor each. When half of the shards are
there, one of the two nodes that are not the head is killed with all its workers (SIGKILL). The same seeds are then
dreamed in this one process. It must come out that every frame is there exactly once and that every frame and mask has
the same SHA-256 in both; the exit status is 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, save

from handful.data import formats
from handful.device.runtimes.contract import versions_of
from handful.errors import DataError
from handful.files import read_json
from handful.lucid.farm import farm
from handful.lucid.seed import SeedRef, first_frames, seeds_of
from handful.lucid.settings import Settings
from handful.pick import need
from handful.types import Sample

LEAST_PX = 64
NODES = 3


def usable(ref: SeedRef) -> bool:
    try:
        seed = ref.load()
    except DataError:
        return False
    return int(np.bincount(seed.ids[seed.foreground]).max()) >= LEAST_PX


def singles(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Things of photos with several, each as a sample of its own, the largest boxes first."""
    found = []
    for sample in samples:
        things = [o for o in sample.objects or () if (o.polygons_px or o.rle) and o.box_px and not o.crowd]
        for number, thing in enumerate(things if len(things) > 1 else ()):
            left, top, right, bottom = thing.box_px or (0, 0, 0, 0)
            found.append(((left - right) * (bottom - top), sample.name, number, sample, thing))
    for _, name, number, sample, thing in sorted(found, key=lambda row: row[:3]):
        yield replace(sample, name=f"{name}#{number}", objects=(thing,))


def chosen(folder: Path, count: int) -> tuple[list[SeedRef], dict[str, int]]:
    coco = list(formats.read(folder / "coco-mini", format="coco"))
    parts = {
        "DAVIS first frames": seeds_of(first_frames(formats.read(folder / "davis2016"))),
        "photos of coco-mini": seeds_of(replace(s, mask=None) for s in coco),
        "single things of coco-mini": seeds_of(singles(coco)),
    }
    refs: list[SeedRef] = []
    counts = {}
    for name, part in parts.items():
        before = len(refs)
        for ref in part:
            if len(refs) < count and usable(ref):
                refs.append(ref)
        counts[name] = len(refs) - before
    return refs, counts


def per_frame(out: Path) -> tuple[dict[str, tuple[str, str]], int]:
    """({frame: SHA-256 of photo and mask}, how many are there more than once)."""
    rows = [row for path in sorted(out.glob("shard-*.json")) for row in read_json(path)["frames"]]
    return {row["key"]: (row["jpg"], row["png"]) for row in rows}, len(rows) - len({row["key"] for row in rows})


def on_cluster(refs: list[SeedRef], out: Path, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    cluster_utils = need("ray.cluster_utils", "ray")
    node = {"num_cpus": 1, "object_store_memory": 200 << 20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    others = [cluster.add_node(**node) for _ in range(NODES - 1)]
    killed: dict[str, Any] = {}
    done = threading.Event()
    start = time.perf_counter()

    def kill() -> None:
        while not done.wait(0.05):
            begun = out / "dream.json"
            there = len(list(out.glob("shard-*.json")))
            if begun.exists() and there * 2 >= read_json(begun)["shards"]:
                cluster.remove_node(others[0], allow_graceful=False)
                killed.update(after_seconds=time.perf_counter() - start, shards_there=there)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = farm(refs, out, settings, ray=cluster.address)
    finally:
        done.set()
        killer.join()
        cluster.shutdown()
    return result, killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--fill", default="telea")
    parser.add_argument("--place", type=Path, help="keep both results here")
    parser.add_argument("--out", type=Path, default=Path("bench-results/dream_farm.json"))
    args = parser.parse_args()
    settings = Settings(frames=args.frames, fill=args.fill)
    refs, counts = chosen(data_folder(), args.seeds)
    print(f"{len(refs)} seeds: " + ", ".join(f"{n} {name}" for name, n in counts.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="handful-farm-") as temporary:
        place = args.place or Path(temporary)
        ray, killed = on_cluster(refs, place / "ray", settings)
        print(f"Ray: {ray['frames']} frames in {ray['seconds']:.0f} s; one node killed {killed}", flush=True)
        alone = farm(refs, place / "alone", settings, workers=1)
        (ours, twice), (theirs, _) = per_frame(place / "ray"), per_frame(place / "alone")
        size = sum(path.stat().st_size for path in (place / "ray").glob("*.tar"))
    wanted = len(refs) * args.frames
    other = sum(ours.get(key) != value for key, value in theirs.items())
    rows = [("three nodes, one killed", ray), ("one process", alone)]
    print(f"{'':26s}{'frames':>8s}{'failed':>9s}{'shards':>8s}{'seconds':>9s}{'frames/s':>10s}")
    for name, r in rows:
        print(f"{name:26s}{r['frames']:8d}{len(r['failed']):9d}{r['shards']:8d}{r['seconds']:9.0f}"
              f"{r['frames_per_second']:10.1f}")  # fmt: skip
    ok = bool(killed) and len(ours) == wanted and not twice and not other and ray["sha256"] == alone["sha256"]
    print(f"{len(ours)} frames of {wanted}, {twice} twice, {other} with another SHA-256 than in one process; "
          f"{size / 1e6:.0f} MB; {'as it must be' if ok else 'WRONG'}")  # fmt: skip
    kept = ("frames", "shards", "seconds", "frames_per_second", "sha256")
    save(args.out, {
        "seeds": len(refs), "of": counts, "frames": len(ours), "wanted": wanted, "twice": twice, "other": other,
        "killed": killed, "bytes": size, "fill": args.fill, "ok": ok, "gates": ray["gates"],
        "packages": versions_of("ray", "opencv-python-headless"),
        "runs": {name: {key: r[key] for key in kept} for name, r in rows},
    })  # fmt: skip
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
