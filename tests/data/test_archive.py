"""Archives: the sound ones unpack once and whole; the hostile and the broken ones leave nothing behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.data import archive
from handful.data.archive import opened
from handful.errors import DataError

FILES = {"a.txt": b"one", "sub/b.bin": bytes(range(256)) * 8, "sub/deep/ünï code.png": b"", "sub/c" * 20: b"x" * 5000}


def zipped(path: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
        for info in members:
            out.addfile(info)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def found(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(place: Path, cache: Path, match: str, **limits: int) -> None:
    """Refused in one line that names the archive, and nothing is left."""
    with pytest.raises(DataError, match=match) as error:
        opened(place, cache=cache, **limits)
    assert str(place) in str(error.value)
    assert not any(p.is_file() for p in cache.rglob("*")) and not any(cache.glob("archives/*")), list(cache.rglob("*"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2", "X.ZIP"])
def test_what_went_in_comes_out(tmp_path: Path, name: str) -> None:
    make = zipped if name.lower().endswith("zip") else tarred
    place = make(tmp_path / name, FILES)
    folder = opened(place, cache=tmp_path / "cache")
    assert found(folder) == FILES
    assert folder.parent == tmp_path / "cache" / "archives"


def test_the_second_time_nothing_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = zipped(tmp_path / "a.zip", FILES)
    first = opened(place, cache=tmp_path / "cache")
    monkeypatch.setattr(archive, "_unpack", lambda *a: pytest.fail("unpacked again"))
    place.rename(tmp_path / "b.zip")
    assert opened(tmp_path / "b.zip", cache=tmp_path / "cache") == first


def test_other_bytes_are_another_folder(tmp_path: Path) -> None:
    one = opened(zipped(tmp_path / "a.zip", {"a": b"1"}), cache=tmp_path / "cache")
    assert opened(zipped(tmp_path / "a.zip", {"a": b"2"}), cache=tmp_path / "cache") != one


def test_a_folder_or_another_file_is_returned_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert opened(tmp_path, cache=None) == tmp_path
    assert opened(tmp_path / "x.json", cache=None) == tmp_path / "x.json"
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "gone.zip", cache=None)
    for name in ("a.7z", "a.rar", "a.tar.zst"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match="unpack it yourself"):
            opened(tmp_path / name, cache=None)


def test_where_nothing_is_kept_it_goes_to_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", "")
    assert found(opened(zipped(tmp_path / "a.zip", FILES), cache=None)) == FILES
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "home"))
    assert tmp_path / "home" in opened(zipped(tmp_path / "a.zip", FILES), cache=None).parents


def test_a_lone_folder_is_entered_unless_its_name_says_something(tmp_path: Path) -> None:
    place = opened(zipped(tmp_path / "a.zip", {"CamVid/v1/train/a.png": b"", "CamVid/v1/b": b""}), cache=tmp_path / "c")
    assert sorted(p.name for p in place.iterdir()) == ["b", "train"]
    place = opened(zipped(tmp_path / "b.zip", {"test/cat/a.png": b""}), cache=tmp_path / "c")
    assert [p.name for p in place.iterdir()] == ["test"]
    place = opened(zipped(tmp_path / "d.zip", {"set/a": b"", "__MACOSX/._a": b""}), cache=tmp_path / "c")
    assert [p.name for p in place.iterdir()] == ["a"]


def test_tar_writes_a_dot_first(tmp_path: Path) -> None:
    place = tarred(
        tmp_path / "a.tar", {"./a": b"1", "./b/c": b"2"}, special(".", tarfile.DIRTYPE), special("./", tarfile.DIRTYPE)
    )
    assert found(opened(place, cache=tmp_path / "c")) == {"a": b"1", "b/c": b"2"}


NAMES = ["/etc/x", "../x", "a/../../x", "C:\\x", "..\\x", "\\x", "a/..", "//x", "x" * 2000]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    refused(zipped(tmp_path / "a.zip", {"ok": b"", name: b"x"}), tmp_path / "c", "leads outside")
    refused(tarred(tmp_path / "a.tar", {"ok": b"", name: b"x"}), tmp_path / "d", "leads outside")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["a\0b"])
def test_a_zero_byte_in_a_name(tmp_path: Path, name: str) -> None:
    data = zipped(tmp_path / "a.zip", {"aXb.png": b"x"}).read_bytes().replace(b"aXb", b"a\0b")
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path / "c", "zero byte|broken")


@pytest.mark.parametrize(
    ("kind", "link"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "ok"), (tarfile.LNKTYPE, "ok"), (tarfile.CHRTYPE, ""),
     (tarfile.BLKTYPE, ""), (tarfile.FIFOTYPE, ""), (tarfile.GNUTYPE_SPARSE, ""), (b"Z", "")],
)  # fmt: skip
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes, link: str) -> None:
    place = tarred(tmp_path / "a.tar", {"ok": b""}, special("bad", kind, link))
    refused(place, tmp_path / "c", "bad.*link, a device|broken")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        info = zipfile.ZipInfo("bad")
        info.external_attr = (kind | 0o777) << 16
        out.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", tmp_path / "c", "bad.*link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_and_names_that_clash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("x", "1")
        out.writestr("x", "2")
    refused(tmp_path / "a.zip", tmp_path / "c", "'x' is in it twice")
    refused(tarred(tmp_path / "a.tar", {"x": b"1", "./x": b"2"}), tmp_path / "c", "in it twice")
    refused(tarred(tmp_path / "b.tar", {"x": b"1", "x/y": b"2"}), tmp_path / "c", "clashes")
    refused(tarred(tmp_path / "c.tar", {"x/y": b"1", "x": b"2"}), tmp_path / "c", "clashes")
    opened(zipped(tmp_path / "b.zip", {"x": b"1", "X": b"2"}), cache=tmp_path / "c")
    assert "X and x are one file" in capsys.readouterr().err


def test_too_many_files_or_bytes(tmp_path: Path) -> None:
    many = {f"{i}": b"" for i in range(50)}
    refused(zipped(tmp_path / "a.zip", many), tmp_path / "c", "more than the 20 files", limit_files=20)
    refused(tarred(tmp_path / "a.tar.gz", many), tmp_path / "c", "more than the 20 files", limit_files=20)
    big = {"ok": b"", "big": bytes(3_000_000)}
    refused(zipped(tmp_path / "b.zip", big), tmp_path / "c", "'big'.*2000000 bytes", limit_bytes=2_000_000)
    refused(tarred(tmp_path / "b.tar.xz", big), tmp_path / "c", "2000000 bytes", limit_bytes=2_000_000)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_a_bomb_is_stopped_by_how_much_it_grows(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    make = zipped if name.endswith("zip") else tarred
    refused(make(tmp_path / name, {"zeros": bytes(30_000_000)}), tmp_path / "c", "200-fold")
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 28)
    assert opened(tmp_path / name, cache=tmp_path / "c").is_dir()  # small enough not to matter


def overlapping(path: Path) -> Path:
    """A kernel of zeros that a hundred entries share."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflate.compress(bytes(1 << 20)) + deflate.flush()
    crc = zlib.crc32(bytes(1 << 20))
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(body), 1 << 20, 1, 0) + b"a" + body
    rows = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(body), 1 << 20, 1, 0, 0, 0, 0, 0, 0) + b"a"
        for _ in range(100)
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 100, 100, len(rows), len(local), 0)
    path.write_bytes(local + rows + end)
    return path


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    refused(overlapping(tmp_path / "a.zip"), tmp_path / "c", "shares bytes of the archive")


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_member_that_is_not_as_long_as_it_says(tmp_path: Path, size: int) -> None:
    data = bytearray(zipped(tmp_path / "a.zip", {"x": bytes(1_000_000)}).read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<L", size)
    data[22:26] = struct.pack("<L", size)
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path / "c", "broken or cut short|says it has")


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip", {"x": b"secret"}).read_bytes())
    for at in (6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path / "c", "'x' is encrypted")


def test_a_list_of_members_too_long_to_read(tmp_path: Path) -> None:
    size = 300 << 20
    with open(tmp_path / "a.zip", "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size - 10, 5, 0))
    refused(tmp_path / "a.zip", tmp_path / "c", "list of members", limit_files=1000)


def test_a_header_that_asks_for_all_memory(tmp_path: Path) -> None:
    info = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 40
    with gzip.open(tmp_path / "a.tar.gz", "wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    refused(tmp_path / "a.tar.gz", tmp_path / "c", "header of")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "x.tar.bz2"])
def test_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    rng = random.Random(0)
    files = {f"{i}.bin": rng.randbytes(700 + i) for i in range(6)}
    data = (zipped if name.endswith("zip") else tarred)(tmp_path / name, files).read_bytes()
    step = 512 if name.endswith(".tar") else 211
    end = 6 * 512 * 3 + 511 if name.endswith(".tar") else len(data)
    for cut in range(0, end, step):
        (tmp_path / name).write_bytes(data[:cut])
        refused(tmp_path / name, tmp_path / f"c{cut}", "cut short|broken")


def test_several_streams_in_one_file(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "a.tar", FILES).read_bytes()
    half = len(whole) // 2
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)):
        place = tmp_path / f"b.tar{suffix}"
        place.write_bytes(pack(whole[:half]) + pack(b"") + pack(whole[half:]) + bytes(1000))
        assert found(opened(place, cache=tmp_path / suffix)) == FILES


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "x.tar.bz2"]), st.data())
def test_any_damage_is_refused_or_harmless(name: str, draw: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make: Callable[[Path, dict[str, bytes]], Path] = zipped if name.endswith("zip") else tarred
        data = bytearray(make(root / name, FILES).read_bytes())
        for _ in range(draw.draw(st.integers(1, 6))):
            data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
        (root / name).write_bytes(data)
        error = None
        try:
            opened(root / name, cache=root / "c")
        except DataError as found_out:
            error = str(found_out)
        assert error is None or (name in error and not any(p.is_file() for p in (root / "c").rglob("*")))
        assert {p.name for p in root.iterdir()} <= {name, "c"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["x.zip", "x.tar", "x.tar.gz"]), st.binary(max_size=2000))
def test_any_bytes_at_all(name: str, data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        with pytest.raises(DataError):
            opened(Path(folder) / name, cache=Path(folder) / "c")


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*a: object, **k: object) -> None:
        raise OSError(28, "No space left on device")

    place = zipped(tmp_path / "a.zip", FILES)
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DataError, match="No space left"):
        opened(place, cache=tmp_path / "c")


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = zipped(tmp_path / "a.zip", FILES)
    real, first = archive._zip, list[int]()

    def slower(where: Path, limits: archive._Limits):  # type: ignore[no-untyped-def]
        yield from real(where, limits)
        if where == place:  # while this one was at work, another finished
            monkeypatch.setattr(archive, "_zip", real)
            first.append(opened(place, cache=tmp_path / "c").stat().st_ino)

    monkeypatch.setattr(archive, "_zip", slower)
    folder = opened(place, cache=tmp_path / "c")
    assert found(folder) == FILES
    assert [folder.stat().st_ino] == first  # what the other already reads from is not exchanged
    assert len(list((tmp_path / "c/archives").iterdir())) == 1


def test_a_real_archive(data: Path, tmp_path: Path) -> None:
    folder = opened(data / "cifar10" / "test.tar.xz", cache=tmp_path / "c")
    assert sorted(p.name for p in (folder / "test").iterdir())[:2] == ["airplane", "automobile"]
    assert sum(len(files) for _, _, files in os.walk(folder)) == 10_000
