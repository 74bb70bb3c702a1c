"""What dreaming proposes, followed."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.data import formats
from handful.lucid import farm, seed, shards
from handful.lucid.settings import Settings
from handful.lucid.torch_data import ShardDataset
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.lucid.made import ids, labelled, photo
from tests.lucid.made import seed as a_seed

SHORT = ["--frames", 2, "--fill", "telea-half", "--blend", "feather"]
ALONE = [*SHORT, "--workers", 1]


@pytest.fixture
def seeds(desk: Desk) -> Path:
    return labelled(desk.at("seeds"), 2)


@cures("cli.verbs_dream:run --workers --ray", "data.shard_lists:again handful dream",
       "data.shard_lists:again --out --resume", "data.shard_lists:absent go",
       "data.format_shards:data restore", "data.format_shards:read handful dream",
       "lucid.farm:_begun choose", "lucid.farm:_begun give", "lucid.farm:_alone handful dream",
       "lucid.torch_data:__init__ handful dream", "lucid.torch_data:_index make", "lucid.torch_data:_index make #2",
       "lucid.seed:fitted --max-side",
       "parallel:RESUME --resume", leaves_out=("--ray",))  # fmt: skip
def test_a_run_of_dreams(seeds: Path, desk: Desk) -> None:
    dream = ["dream", "run", seeds, *ALONE]
    out = desk.at("dreams")
    said = desk.no(*dream, "--out", out, "--workers", 2, "--ray", "local")
    desk.yes(*dream, "--out", out, *said.option("--workers"), 1)
    said = desk.no(*dream, "--out", out)
    desk.yes(*dream, "--out", out, *said.option("--resume"))
    desk.no(*dream, "--out", out, "--resume", "--seed", 5)  # the same settings, or another folder
    desk.yes(*dream, "--out", desk.at("other"), "--seed", 5)
    with farm._alone(out):
        desk.no(*dream, "--out", out, "--resume")
    desk.yes(*dream, "--out", out, "--resume")
    desk.at("mine").mkdir()
    desk.at("mine/a.txt").write_text("mine")
    desk.no(*dream, "--out", desk.at("mine"))
    desk.no(*dream, "--out", desk.at("mine/a.txt/b"))
    # a shard that is gone or damaged
    said = desk.raises(formats.read, desk.at("mine"), format="shards")
    desk.raises(ShardDataset, desk.at("mine"))
    shard = sorted(out.glob("*.tar"))[-1]
    whole = shard.read_bytes()
    at = whole.index(b"\xff\xd8\xff") + 200
    shard.write_bytes(whole[:at] + bytes(b ^ 255 for b in whole[at : at + 64]) + whole[at + 64 :])
    said = desk.no("data", "check", out)
    words = said.command("dream", SEEDS=seeds)
    desk.yes(*words, *ALONE)
    assert shard.read_bytes() == whole
    for spoiled in (whole[:600], _without(whole, ".png")):  # cut off, and one of its masks gone
        shard.write_bytes(spoiled)
        said = desk.raises(lambda: ShardDataset(out)[-1])
        desk.yes(*said.command("dream", SEEDS=seeds), *ALONE)
        assert shard.read_bytes() == whole and ShardDataset(out)[-1]["ids"].any()
    shard.unlink()
    said = desk.no("data", "check", out)
    desk.yes(*said.command("dream", SEEDS=seeds), *ALONE)
    assert shard.read_bytes() == whole
    # too large
    big = seed.Seed("a.jpg", photo(), ids((120, 80, 45, 30)))
    said = desk.raises(big.fitted, max_px=900, max_side_px=None)
    side = int(said.value("--max-side")[1])
    assert big.fitted(max_px=900, max_side_px=side).rgb_u8.size
    desk.yes(*dream, "--out", desk.at("small"), *said.option("--max-side"), 120)


@cures("cli.verbs_dream:preview --mask --box", "cli.verbs_dream:_numbers --box",
       "lucid.outline:mask_in_box draw")  # fmt: skip
def test_a_preview(desk: Desk) -> None:
    save(photo(), desk.at("photo.png"))
    save(ids((120, 80, 45, 30)), desk.at("mask.png"))
    preview = ["dream", "preview", desk.at("photo.png"), "--out", desk.at("look"), *SHORT]
    said = desk.no(*preview)
    desk.yes(*preview, *said.option("--mask"), desk.at("mask.png"))
    desk.no(*preview, "--box", "1,2,3")
    save(np.full((160, 240, 3), 90, np.uint8), desk.at("flat.png"))
    flat = desk.no("dream", "preview", desk.at("flat.png"), "--box", "60,40,180,120", "--out", desk.at("flat"), *SHORT)
    assert "draw a mask" in flat
    thing = photo().copy()
    thing[ids((120, 80, 45, 30)) > 0] = (250, 20, 20)
    save(thing, desk.at("thing.png"))
    boxed = ["dream", "preview", desk.at("thing.png"), "--out", desk.at("box"), *SHORT]
    desk.yes(*boxed, *said.option("--box"), "60,35,180,125")


def _without(tar: bytes, end: str) -> bytes:
    """A tar file without its first member whose name ends so."""
    held, kept = io.BytesIO(), False
    with tarfile.open(fileobj=io.BytesIO(tar)) as packed, tarfile.open(fileobj=held, mode="w") as out:
        for member in packed:
            if not kept and member.name.endswith(end):
                kept = True
                continue
            out.addfile(member, packed.extractfile(member))
    assert kept
    return held.getvalue()


LITTLE = Settings(frames=2, fill="telea", max_side_px=None)


@cures("lucid.farm:farm choose", "lucid.farm:_lost_clip shrink", "lucid.farm:_room make",
       "lucid.farm:_same_versions install")  # fmt: skip
def test_what_may_befall_a_run(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [240, 120]  # of the image that is dreamed from, before and after it is shrunk

    def seeds(side: int) -> list[seed.SeedRef]:
        whole = a_seed()
        return [seed.SeedRef("a.jpg", lambda: whole.fitted(max_px=10**6, max_side_px=side)),
                seed.SeedRef("b.jpg", lambda: whole.fitted(max_px=10**6, max_side_px=100))]  # fmt: skip

    desk.at("file").write_text("mine")
    desk.raises(farm.farm, seeds(100), desk.at("file/dreams"), LITTLE, workers=1)
    assert farm.farm(seeds(100), desk.at("free/dreams"), LITTLE, workers=1)["frames"] == 4

    def each(work: Any, shared: Any, jobs: Iterator[Any], **how: Any) -> Iterator[tuple[Any, Any]]:
        for job in jobs:  # a worker that has no memory for a large image
            large = job[1].rgb_u8.shape[1] > 200
            yield job, how["lost"](job, "its worker died again and again") if large else work(shared, job)

    monkeypatch.setattr(farm, "each", each)
    made = farm.farm(seeds(sides[0]), desk.at("first"), LITTLE, workers=1)
    desk.told(made["failed"][0]["error"])
    assert farm.farm(seeds(sides[1]), desk.at("first"), LITTLE, resume=True)["failed"]  # not gone through again
    assert not farm.farm(seeds(sides[1]), desk.at("second"), LITTLE, workers=1)["failed"]

    room, write = [5000], shards.Open._write

    def full(self: shards.Open, data: bytes) -> None:
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(shards.Open, "_write", full)
    said = desk.raises(farm.farm, seeds(100), desk.at("third"), LITTLE, workers=1)
    assert "--resume" in said
    room[0] = 10**9
    assert farm.farm(seeds(100), desk.at("third"), LITTLE, workers=1, resume=True)["frames"] == 4

    clip = shards.DreamClip(0, "a.jpg")
    desk.raises(farm._same_versions, replace(clip, made_with={**clip.made_with, "opencv": "4.9"}))
    assert farm._same_versions(clip) is clip  # from a node with the same installed
