"""Shards: the tar files themselves, reading them as a data set, damage, and what others make of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from handful.curate.check import check
from handful.curate.convert import convert, put
from handful.curate.repair import repair
from handful.data import format_shards, formats, shard_tar
from handful.data.finding import Finding
from handful.data.writing import Writer
from handful.errors import DataError
from handful.lucid.clip import Dream, frame_of
from handful.lucid.farm import farm
from handful.lucid.settings import Settings
from handful.lucid.shards import stem_of
from handful.types import Category, Dataset, Mask, Sample
from tests.conftest import ROOT
from tests.lucid.seeds import clips, refs

SETTINGS = Settings(frames=3, fill="telea", previous=True)
NAMES = ["bear", "Bear", "bärchen/x".replace("/", "-"), "cow"]


@pytest.fixture(scope="module")
def dreamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seeds of three frames, two seeds a shard; do not change it."""
    place = tmp_path_factory.mktemp("dreamed")
    clips(place / "seeds", NAMES)
    farm(refs(place / "seeds"), place / "out", SETTINGS, workers=1, shard_seeds=2)
    return place / "out"


@pytest.fixture
def copy(dreamed: Path, tmp_path: Path) -> Path:
    to = tmp_path / "copy"
    to.mkdir()
    for file in dreamed.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def told(folder: Path) -> tuple[list[str], list[str]]:
    """(codes of what is told, names of the samples that are read all the same)."""
    found: list[Finding] = []
    names = [sample.name for sample in formats.read(folder, on_finding=found.append)]
    return [f.code for f in found], names


# --- tar -------------------------------------------------------------------------------------------------------------


def test_a_section_is_a_tar_file_that_others_read(tmp_path: Path) -> None:
    members = [("a-0.jpg", b"x" * 700), ("a-0.prev.png", b""), ("a-0.json", b"y" * 512)]
    path = tmp_path / "a.tar"
    path.write_bytes(shard_tar.section(members) + shard_tar.END)
    with tarfile.open(path) as archive:
        assert [(m.name, archive.extractfile(m).read()) for m in archive.getmembers()] == members  # type: ignore[union-attr]
        assert {(m.mtime, m.uid, m.mode) for m in archive.getmembers()} == {(0, 0, 0o644)}
    assert [(m.name, m.size, m.key, m.kind) for m in shard_tar.members(path)] == [
        ("a-0.jpg", 700, "a-0", "jpg"), ("a-0.prev.png", 0, "a-0", "prev.png"), ("a-0.json", 512, "a-0", "json"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_tar_files_of_others_are_read(tmp_path: Path, kind: int) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as archive:
        archive.add(tmp_path / "x", "folder/key.jpg")
    assert [(m.name, m.size) for m in shard_tar.members(tmp_path / "a.tar")] == [("folder/key.jpg", 3)]


@pytest.mark.parametrize(("cut", "said"), [(600, "inside 'a.jpg'"), (1024, "after 'a.jpg'"), (100, "its beginning")])
def test_a_tar_file_that_is_cut_short(tmp_path: Path, cut: int, said: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes((shard_tar.section([("a.jpg", b"x" * 300)]) + shard_tar.END)[:cut])
    with pytest.raises(shard_tar.Damaged, match=said):
        list(shard_tar.members(path))
    assert shard_tar.count(path) == (cut == 1024)


def test_no_two_seeds_share_a_name() -> None:
    ids = ["a/b.jpg", "a-b.jpg", "A/B.jpg", "é.png", "è.png", "../x", "日本", "x" * 300, "x" * 301]
    stems = [stem_of(i, name) for i, name in enumerate(ids)]
    assert len({s.lower() for s in stems}) == len(ids)
    for stem in stems:
        assert stem.isascii() and "/" not in stem and "." not in stem and len(stem) < 80
    assert stem_of(12, "train/bear.jpg") == "000012-train-bear"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_frames_come_back(dreamed: Path) -> None:
    dataset = formats.read(dreamed)
    samples = list(dataset)
    assert dataset.format == "shards" and len(dataset) == len(samples) == 12
    assert [c.name for c in dataset.categories] == ["background", "object 1", "object 2"]
    source = refs(dreamed.parent / "seeds")
    assert [(s.clip, s.frame) for s in samples] == [(r.id, t) for r in source for t in range(3)]
    for ref, sample in zip(source, samples[::3], strict=True):
        frame = Dream(ref.load(), SETTINGS).frame(0)
        assert sample.mask is not None and sample.pixels is not None
        np.testing.assert_array_equal(sample.mask().ids, frame.ids)
        assert np.abs(sample.pixels().rgb_u8.astype(int) - frame.rgb_u8).mean() < 4
        assert sample.size_wh == (128, 96)


def test_a_frames_recipe_makes_it_again(dreamed: Path) -> None:
    ref = refs(dreamed.parent / "seeds")[3]
    with tarfile.open(dreamed / "shard-00001.tar") as archive:
        about = json.loads(archive.extractfile("000003-cow-00000-00002.json").read())  # type: ignore[union-attr]
    assert len(json.dumps(about["recipe"])) < 1024
    again = frame_of(about["recipe"], ref.load())
    sample = next(s for s in formats.read(dreamed) if s.clip == about["clip"] and s.frame == 2)
    np.testing.assert_array_equal(sample.mask().ids, again.ids)  # type: ignore[misc]


def test_check_stats_convert(dreamed: Path, tmp_path: Path) -> None:
    assert check(dreamed)["ok"]
    for to in ("davis", "masks"):
        result = convert(dreamed, tmp_path / to, to=to)
        assert result["written"] and result["lossless"], (to, result["differences"])
        back = formats.read(tmp_path / to)
        for a, b in zip(formats.read(dreamed), back, strict=True):
            np.testing.assert_array_equal(a.mask().ids, b.mask().ids)  # type: ignore[misc]


def test_any_data_set_can_be_written_as_shards(tmp_path: Path, dreamed: Path) -> None:
    source = formats.read(clips(tmp_path / "s", ["a", "b"]))
    result = put(source, tmp_path / "out", "shards")
    assert result["lossless"], result["differences"]
    again = put(formats.read(dreamed), tmp_path / "again", "shards")
    assert again["lossless"], again["differences"]
    a, b = ((f / "shard-00000.tar").read_bytes() for f in (tmp_path / "again", dreamed))
    assert a.count(b"\xff\xd8\xff") == b.count(b"\xff\xd8\xff") + 6  # the JPEG bytes themselves, both shards in one


def test_labels_attributes_and_wide_ids_survive(tmp_path: Path, dreamed: Path) -> None:
    photo = next(iter(formats.read(clips(tmp_path / "s", ["a"])))).path
    wide = np.full((96, 128), 300, np.uint16)
    wide[:5] = 65535
    rows = [
        Sample(photo, name="x/ä.jpg", label="cat", split="train", license="CC0", attributes={"a": [1, None]}),
        Sample(photo, name="y.jpg", mask=lambda: Mask(wide), clip="film", frame=7),
    ]
    source = Dataset("made", tmp_path, (Category(1, "cat", "pet", True, (1, 2, 3)), Category(300, "far")),
                     lambda: iter(rows), 2, {"licenses": ["x"]})  # fmt: skip
    assert put(source, tmp_path / "out", "shards")["differences"] == []
    assert [(s.clip, s.frame) for s in formats.read(tmp_path / "out")] == [(None, None), ("film", 7)]


def test_shards_of_older_versions_are_read(copy: Path) -> None:
    """handful 0.3 said "photo" and "licence"."""
    about, png = {"name": "a.png", "photo": "photo.png", "licence": "CC0"}, io.BytesIO()
    PIL.Image.new("RGB", (9, 8)).save(png, format="PNG")
    with tarfile.open(copy / "shard-00000.tar", "w") as out:
        for kind, data in (("photo.png", png.getvalue()), ("json", json.dumps(about).encode())):
            member = tarfile.TarInfo(f"00000000.{kind}")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    (copy / "shard-00000.json").write_text('{"frames": [{"key": "00000000"}], "top": 0}')
    found = next(iter(formats.read(copy)))
    assert (found.name, found.license) == ("a.png", "CC0")
    assert found.pixels is not None and found.pixels().rgb_u8.shape == (8, 9, 3)


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(bytes(data))


def offset(folder: Path, kind: str) -> int:
    member = next(m for m in shard_tar.members(folder / "shard-00001.tar") if m.kind == kind)
    return member.offset + member.size // 2


def test_a_damaged_photo_is_named_and_left_out(copy: Path) -> None:
    flip(copy / "shard-00001.tar", offset(copy, "jpg"))
    codes, names = told(copy)
    assert codes == ["unreadable_image"] and len(names) == 11
    with pytest.raises(DataError, match=r"shard-00001.tar: 000002-\S+\.jpg is damaged"):
        [s.pixels() for s in formats.read(copy)]  # type: ignore[misc]
    report = check(copy)
    assert not report["ok"] and "shard-00001.tar" in report["findings"][0]["file"]


def test_a_damaged_mask_is_named(copy: Path) -> None:
    flip(copy / "shard-00001.tar", offset(copy, "png"))
    codes, names = told(copy)
    assert codes == ["unreadable_mask"] and len(names) == 12
    with pytest.raises(DataError, match=r"shard-00001.tar.*000002-\S+\.png"):
        [s.mask() for s in formats.read(copy)]  # type: ignore[misc]
    result = repair(copy, copy.parent / "mended")
    assert result["ok"] and len(formats.read(copy.parent / "mended")) == 12


@pytest.mark.parametrize(
    ("name", "fault", "codes", "left"),
    [
        ("shard-00001.tar", lambda d: d[:9000], {"unreadable_labels", "missing_image"}, 6),
        ("shard-00001.tar", lambda d: d[:-1024], {"unreadable_labels"}, 12),
        ("shard-00001.tar", lambda d: d[:100] + b"\xff" + d[101:], {"unreadable_labels", "missing_image"}, 6),
        ("shard-00001.json", lambda d: d[:-20], {"unreadable_labels"}, 12),
        ("shard-00001.json", lambda d: b"[]", {"unreadable_labels"}, 12),
        ("dream.json", lambda d: d.replace(b'"shards": 2', b'"shards": 3'), {"missing_image"}, 12),
        ("shard-00001.tar", lambda d: d + b"", set(), 12),
    ],
)
def test_damage_is_told(copy: Path, name: str, fault: Callable[[bytes], bytes], codes: set[str], left: int) -> None:
    (copy / name).write_bytes(fault((copy / name).read_bytes()))
    got, names = told(copy)
    assert set(got) == codes and len(names) == left
    if codes:
        with pytest.raises(DataError, match=name):
            list(formats.read(copy))


@pytest.mark.parametrize("bad", ["../out.jpg", "/etc/passwd.jpg", "a/../../b.jpg", "noending", ".jpg", "a\\b.jpg"])
def test_names_that_lead_elsewhere_are_refused(copy: Path, bad: str) -> None:
    path = copy / "shard-00000.tar"
    rest = path.read_bytes()
    path.write_bytes(shard_tar.section([(bad, b"123")]) + rest)
    codes, names = told(copy)
    assert codes == ["unsafe_path"] and len(names) == 12
    with pytest.raises(DataError, match=r"shard-00000\.tar"):
        list(formats.read(copy))


def test_links_in_a_shard_and_shards_that_are_links_are_refused(copy: Path, tmp_path: Path) -> None:
    with tarfile.open(copy / "shard-00000.tar", "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert set(told(copy)[0]) == {"unreadable_labels", "missing_image"}
    (copy / "shard-00000.tar").rename(tmp_path / "outside.tar")
    (copy / "shard-00000.tar").symlink_to(tmp_path / "outside.tar")
    assert "symlink_outside" in told(copy)[0]


def test_a_folder_without_shards_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert not format_shards.detect(tmp_path)
    with pytest.raises(DataError, match=r"shard-00000\.tar"):
        format_shards.read(tmp_path)


def test_a_sample_that_is_there_twice(tmp_path: Path) -> None:
    photo = next(iter(formats.read(clips(tmp_path / "s", ["a"])))).path
    rows = [Sample(photo, name="x.jpg"), Sample(photo, name="x.jpg")]
    out = tmp_path / "out"
    out.mkdir()
    format_shards.write(Dataset("made", tmp_path, (), lambda: iter(rows), 2), Writer(out))
    assert told(out) == (["duplicate_image"], ["x.jpg"])


def by_workers(dreamed: str) -> None:
    """How many frames two workers of torch's loader read as this process does."""
    import torch
    from torch.utils.data import DataLoader

    from handful.lucid.torch_data import DreamDataset, ShardDataset

    same = 0
    live: Any = DreamDataset(refs(Path(dreamed).parent / "seeds"), SETTINGS, kept=1)
    for dataset in (live, ShardDataset(Path(dreamed))):
        loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
        batches = torch.cat([batch["ids"] for batch in loader])
        same += sum(torch.equal(batches[i], dataset[i]["ids"]) for i in range(12))
    print(f"{same} as without workers")


def test_torch_reads_dreams_and_shards(dreamed: Path) -> None:
    torch = pytest.importorskip("torch")
    from handful.lucid.torch_data import ClipSampler, DreamDataset, ShardDataset

    source = refs(dreamed.parent / "seeds")
    live: Any = DreamDataset(source, SETTINGS, kept=1)
    kept: Any = ShardDataset(dreamed)
    assert len(live) == len(kept) == 12
    for i in (11, 0, 5, -1):
        a, b = live[i], kept[i]
        assert a["rgb"].shape == (3, 96, 128) and a["rgb"].dtype == torch.uint8
        assert a["ids"].dtype == torch.int64 and torch.equal(a["ids"], b["ids"])
        assert torch.equal(a["previous"], b["previous"])
        assert (a["rgb"].float() - b["rgb"].float()).abs().mean() < 4
    assert kept[-1]["key"] == "000003-cow-00000-00002"
    order = list(ClipSampler(live))
    assert sorted(order) == list(range(12)) and [i // 3 for i in order][::3] == [i // 3 for i in order][2::3]
    # workers are forked from a process that has no threads of other tests
    words = [sys.executable, "-c", "from tests.lucid.test_shards import by_workers as b; import sys; b(sys.argv[1])"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([*words, str(dreamed)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "24 as without workers\n", done.stderr
    motion: Any = DreamDataset(formats.read(dreamed.parent / "seeds"), SETTINGS, motion=True)
    assert len(motion) == 12 and torch.equal(motion[4]["rgb"], live[4]["rgb"])
    assert motion[4]["flow_forward"].shape == (2, 96, 128) and motion[4]["visible_forward"].dtype == torch.bool
    with pytest.raises(IndexError):
        live[12]


def test_torch_refuses_a_damaged_or_unfinished_folder(copy: Path) -> None:
    pytest.importorskip("torch")
    from handful.lucid.torch_data import ShardDataset

    flip(copy / "shard-00001.tar", offset(copy, "png"))
    with pytest.raises(DataError, match=r"shard-00001.tar.*damaged"):
        ShardDataset(copy)[6]
    (copy / "shard-00001.tar").unlink()
    with pytest.raises(DataError, match="go on: handful dream"):
        ShardDataset(copy)
