"""What dreaming proposes, followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.data import formats
from handful.lucid import farm, seed
from handful.lucid.torch_data import ShardDataset
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.lucid.made import ids, labelled, photo

SHORT = ["--frames", 2, "--fill", "telea-half", "--blend", "feather"]
ALONE = [*SHORT, "--workers", 1]


@pytest.fixture
def seeds(desk: Desk) -> Path:
    return labelled(desk.at("seeds"), 2)


@cures("cli.verbs_dream:run --workers --ray", "data.shard_lists:again handful dream",
       "data.shard_lists:again --out --resume", "data.shard_lists:absent go",
       "data.format_shards:data restore", "data.format_shards:read handful dream",
       "lucid.farm:_begun choose", "lucid.farm:_begun give", "lucid.farm:_alone handful dream",
       "lucid.torch_data:__init__ handful dream", "lucid.seed:fitted --max-side",
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
