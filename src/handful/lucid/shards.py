"""The clips of seeds as parts of shards, and shards that are whole or absent; see data/format_shards.py for what is in
them. The same seeds and settings give the same bytes, whoever makes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import handful
from handful.data.shard_tar import END, section
from handful.errors import DataError, HandfulError
from handful.files import read_json, replacing, sha256, write_json
from handful.lucid.clip import Dream
from handful.lucid.encode import jpeg, png
from handful.lucid.gates import measured
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings

MOST_FRAMES = 640  # of a shard: 60 MB of 854x480 px, and what a kill can cost
LEAST_SHARDS = 32  # as long as there are as many seeds
GATED = 8  # one clip in so many is measured: to measure a frame costs as much as to make the clip
_SLUG = 40


def made_with() -> dict[str, str]:
    """The versions that decide a frame's bytes."""
    return {"handful": handful.__version__, "numpy": np.__version__, "opencv": cv2.__version__}


def stem_of(number: int, seed: str) -> str:
    """000012-bear for seed 12, train/bear.jpg: what is unique is the number, so that no two names can clash."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r"\.\w{1,5}$", "", seed)).strip("-")
    return f"{number:06d}-{name[-_SLUG:].strip('-')}".rstrip("-")


@dataclass(frozen=True, eq=False)
class DreamClip:
    """What came of one seed: its part of a tar file and its rows for the shard's list, or why there is none.

    top: largest object id. whole: ids are objects (True) or classes. gates: what gates.measured says of some frames,
    for every GATED-th seed. made_with: by which versions.
    """

    number: int
    seed: str
    tar: bytes = b""
    rows: tuple[dict[str, Any], ...] = ()
    top: int = 0
    whole: bool = True
    sha256: str = ""
    gates: tuple[dict[str, float | None], ...] = ()
    refused: str = ""
    made_with: dict[str, str] = field(default_factory=made_with)


def reason(error: BaseException) -> str:
    """Why a seed was refused, in one line; what handful did not foresee is named by its type."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, HandfulError) else f"{type(error).__name__}: {text}"


def _never() -> bool:
    return False


def render(number: int, seed: Seed, settings: Settings, stopped: Callable[[], bool] = _never) -> DreamClip:
    """All frames of one seed, encoded. Never raises for a seed that cannot be dreamed from: refused says why.

    stopped: asked before each frame whether anybody still wants them.
    """
    cv2.setNumThreads(1)
    stem = stem_of(number, seed.id)
    members: list[tuple[str, bytes]] = []
    rows = []
    gated = []
    try:
        if stopped():
            raise HandfulError("stopped")
        dream = Dream(seed, settings)
        ignore, top = seed.ignore, 0
        for t in range(len(dream)):
            if stopped():
                raise HandfulError("stopped")
            frame = dream.frame(t)
            parts = {"jpg": jpeg(frame.rgb_u8, settings.quality), "png": png(frame.ids)}
            if frame.previous is not None:
                parts["prev.png"] = png(frame.previous)
            height, width = frame.ids.shape
            about = {"clip": seed.id, "frame": t, "name": f"{stem}/{t:05d}.jpg", "recipe": dream.recipe(t),
                     "size_wh": [width, height]}  # fmt: skip
            parts["json"] = json.dumps(about, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            members += [(f"{stem}-{t:05d}.{kind}", data) for kind, data in parts.items()]
            hashes = {kind: hashlib.sha256(data).hexdigest() for kind, data in parts.items()}
            rows.append({"key": f"{stem}-{t:05d}", **hashes})
            top = max(top, int(frame.ids[frame.ids < ignore].max(initial=0)))
            if number % GATED == 0 and t == len(dream) // 2:
                gated.append(measured(dream, t, frame))
        return DreamClip(number, seed.id, section(members), tuple(rows), top, seed.whole, dream.digest, tuple(gated))
    except Exception as error:  # whatever is wrong with one image, the other ten thousand are dreamed
        return DreamClip(number, seed.id, refused=reason(error))


@dataclass(frozen=True)
class Shard:
    """A file to be made, and from which seeds: [first, first + count) of the list."""

    number: int
    first: int
    count: int

    @property
    def stem(self) -> str:
        """Its file's name, without the suffix."""
        return f"shard-{self.number:05d}"

    def tar(self, out: Path) -> Path:
        """Its tar file."""
        return out / f"{self.stem}.tar"

    def list(self, out: Path) -> Path:
        """What is in it."""
        return out / f"{self.stem}.json"


def per_shard(seeds: int, frames: int) -> int:
    """Seeds a shard: so few that many workers have something to do, whoever and however many they are."""
    return max(1, min(MOST_FRAMES // frames, -(-seeds // LEAST_SHARDS)))


def plan(seeds: int, each: int) -> list[Shard]:
    """The shards of a number of seeds."""
    return [Shard(i, first, min(each, seeds - first)) for i, first in enumerate(range(0, seeds, each))]


class Open:
    """A shard being written: clips come in any order and go in by their number. `end` puts it in place.

    Use inside an ExitStack: when that ends with an error, nothing is left of it.
    """

    def __init__(self, shard: Shard, out: Path, stack: ExitStack) -> None:
        self.shard, self.out = shard, out
        self._own = ExitStack()
        self._file = open(self._own.enter_context(replacing(shard.tar(out), own=True)), "wb")  # noqa: SIM115
        # buffered bytes that do not fit on the disk raise once more when the file is closed
        self._own.push(lambda *error: _closed(self._file, quiet=error[0] is not None))
        stack.push(self._own)
        self._next, self._early = shard.first, dict[int, DreamClip]()
        self._digest, self.bytes = hashlib.sha256(), 0
        self._rows: list[dict[str, Any]] = []
        self._seeds: list[dict[str, Any]] = []
        self._top = 0

    def add(self, clip: DreamClip) -> bool:
        """Take a clip; whether all are there now."""
        self._early[clip.number] = clip
        while (at := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self._write(at.tar)
            self._rows += at.rows
            self._top = max(self._top, at.top)
            row: dict[str, Any] = {"number": at.number, "seed": at.seed}
            row |= (
                {"refused": at.refused} if at.refused else {"sha256": at.sha256, "whole": at.whole, "gates": at.gates}
            )
            self._seeds.append(row)
        return self._next == self.shard.first + self.shard.count

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def end(self) -> list[dict[str, Any]]:
        """Put tar file and list in place; the rows of its seeds."""
        self._write(END)
        self._own.close()
        write_json(self.shard.list(self.out), {
            "schema_version": 1, "sha256": self._digest.hexdigest(), "bytes": self.bytes, "top": self._top,
            "seeds": self._seeds, "frames": self._rows,
        }, own=True)  # fmt: skip
        return self._seeds


def _closed(file: Any, *, quiet: bool) -> bool:
    try:
        file.close()
    except OSError:
        if not quiet:
            raise
    return False


def why_damaged(shard: Shard, out: Path, ids: Sequence[str]) -> str | None:
    """None when a shard is whole: its list is readable and of these seeds, its tar file has the list's hash.

    "" when it was never finished, else what is wrong with it.
    """
    tar, listed = shard.tar(out), shard.list(out)
    if not listed.exists():
        return ""
    try:
        held = read_json(listed)
        seeds = [(row["number"], row["seed"]) for row in held["seeds"]]
        size, digest, frames = held["bytes"], held["sha256"], held["frames"]
    except (DataError, KeyError, TypeError):
        return f"{listed.name} is not readable"
    if seeds != [(i, ids[i]) for i in range(shard.first, shard.first + shard.count)] or not isinstance(frames, list):
        return f"{listed.name} is not the list of its seeds"
    if not tar.is_file():
        return f"{tar.name} is gone"
    if tar.stat().st_size != size:
        return f"{tar.name} has {tar.stat().st_size} bytes, not {size}"
    if sha256(tar) != digest:
        return f"{tar.name} does not have its SHA-256"
    return None
