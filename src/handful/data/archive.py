"""Data sets in a .zip or .tar file: unpacked once into the cache, by rules that no archive can break out of.

Nothing in an archive is trusted: names that lead elsewhere, links, devices, names twice, more files or bytes than are
safe, and sizes that lie are refused, naming the archive and the member; then nothing is left behind.
"""

from __future__ import annotations

import atexit
import bz2
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from handful.data.paths import safe_name
from handful.errors import DataError
from handful.files import cache_home, replacing_folder, sha256
from handful.progress import track, warn
from handful.words import counted

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
OTHERS = (".tar.zst", ".tzst", ".zst", ".7z", ".rar", ".gz", ".xz", ".bz2")
LIMIT_BYTES = 200 << 30  # ImageNet, the largest anybody has at home, is 150 GB
LIMIT_FILES = 3_000_000
LIMIT_RATIO = 200  # images hardly shrink, label text shrinks tenfold; beyond this it is an attack
FREE_BYTES = 256 << 20  # below this no ratio is held against an archive
BLOCK = 1 << 20
MOST_AT_ONCE = 16 << 20  # a header that asks for more is an attack
LAYOUT = frozenset(("images", "labels", "masks", "annotations", "jpegimages", "train", "val", "valid", "validation",
                    "test", "training", "testing", "leftimg8bit", "gtfine", "gtcoarse", "imagesets"))  # fmt: skip
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, IndexError, KeyError,
           struct.error, NotImplementedError, OverflowError, RuntimeError, MemoryError)  # fmt: skip


Read = Callable[[int], bytes]  # at most so many bytes more, none at the end


@dataclass
class _Limits:
    """What has been unpacked so far, held against what is safe."""

    archive: Path
    most_bytes: int
    most_files: int
    size: int
    count: int = 0
    names: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def bad(self, member: str, why: str, do: str = "get the archive from where it was first published") -> DataError:
        return DataError(f"{self.archive}: {member[:200]!r} {why}; {do}")

    def add_bytes(self, member: str, count: int) -> None:
        self.count += count
        if self.count > self.most_bytes:
            raise self.bad(member, f"is where it grows over {self.most_bytes} bytes", "unpack it yourself if it should")
        if self.count > FREE_BYTES and self.count > LIMIT_RATIO * self.size:
            raise self.bad(member, f"is where it has grown {LIMIT_RATIO}-fold, as no data set does")

    def name(self, member: str, folder: bool) -> str | None:
        """The safe relative name of a member, or None for one that is passed over."""
        name = safe_name(member)
        if name is None:
            if folder and member.replace("\\", "/").strip("./") == "" and ".." not in member and member[:1] == ".":
                return None  # "./", as tar writes it
            raise self.bad(member, "is a name that leads outside the folder")
        if PurePosixPath(name).parts[0] == "__MACOSX":
            return None
        if len(self.names) >= self.most_files:
            raise self.bad(member, f"is more than the {counted(self.most_files, 'file')} that are unpacked at most")
        if folder:
            return name
        if name in self.files:
            raise self.bad(member, "is in it twice")
        other = self.names.setdefault(name.casefold(), name)
        if other != name:
            warn(f"{self.archive}: {name} and {other} are one file on systems where case does not count")
        self.files.add(name)
        return name


def is_archive(place: Path) -> bool:
    """Whether a file's name is that of an archive that is read here."""
    return place.name.lower().endswith(SUFFIXES)


def opened(place: Path, *, cache: Path | None, limit_bytes: int = LIMIT_BYTES, limit_files: int = LIMIT_FILES) -> Path:
    """The folder of a data set: `place` itself, or what is in the archive `place`, unpacked once.

    cache: where it is kept, under its SHA-256; None for files.cache_home(), or, where that is none, a temporary
    folder that goes with the process. A file that is no archive is returned as it is. Where all of an archive lies in
    one folder, that one is returned, unless its name is part of a layout ("train"). Raises DataError, naming the
    archive and the member, for an archive that is broken or unsafe.
    """
    place = Path(place)
    if not place.exists():
        raise DataError(f"{place} does not exist; wanted a folder or an archive")
    if place.is_dir() or not is_archive(place):
        if place.is_file() and place.name.lower().endswith(OTHERS):
            raise DataError(
                f"{place} is a kind of archive that is not supported; unpack it yourself and give the folder"
            )
        return place
    home = cache if cache is not None else cache_home()
    if home is None:
        home = Path(tempfile.mkdtemp(prefix="handful-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    try:
        target = Path(home) / "archives" / sha256(place)
        if not target.is_dir():
            _unpack(place, target, limit_bytes, limit_files)
    except OSError as error:
        raise DataError(f"{place} could not be unpacked ({error.strerror or error})") from error
    return _inner(target)


class _AlreadyThere(Exception):
    """Another process was quicker."""


def _unpack(place: Path, target: Path, limit_bytes: int, limit_files: int) -> None:
    limits = _Limits(place, limit_bytes, limit_files, place.stat().st_size)
    try:
        with replacing_folder(target) as part:
            members = _zip(place, limits) if place.name.lower().endswith(".zip") else _tar(place, limits)
            try:
                for name, read in track(members, f"unpacking {place.name}"):
                    _write(part, name, read, limits)
            except _BROKEN as error:
                raise DataError(
                    f"{place} is broken or cut short ({type(error).__name__}: {str(error)[:200]}); get it again"
                ) from error
            if target.is_dir():
                raise _AlreadyThere
    except _AlreadyThere:
        pass


def _inner(folder: Path) -> Path:
    """The one folder in a folder, unless its name means something."""
    inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name.lower() not in LAYOUT:
        return _inner(inside[0])
    return folder


def _write(part: Path, name: str, read: Read | None, limits: _Limits) -> None:
    path = part / name
    try:
        if read is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            while block := read(BLOCK):
                file.write(block)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise limits.bad(name, "clashes with another name in it") from error
    except OSError as error:
        if error.errno is None:  # not from the disk: a decoder says so
            raise ValueError(str(error)) from error
        raise limits.bad(name, f"could not be written ({error.strerror or error})", "free some space") from error


def _zip(place: Path, limits: _Limits) -> Iterator[tuple[str, Read | None]]:
    _few_enough(place, limits)
    with zipfile.ZipFile(place) as archive:
        infos = archive.infolist()
        _apart(infos, limits)
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if "\0" in info.orig_filename:
                raise limits.bad(info.orig_filename, "has a zero byte in its name")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise limits.bad(info.filename, "is a link or a device, not a file")
            if info.flag_bits & 1:
                raise limits.bad(info.filename, "is encrypted", "unpack it yourself with its password")
            name = limits.name(info.filename, info.is_dir())
            if name is None:
                continue
            if info.is_dir():
                yield name, None
                continue
            with archive.open(info) as member:
                yield name, _counted(member, info.filename, info.file_size, limits)


def _few_enough(place: Path, limits: _Limits) -> None:
    """Refuse a list of members so long that reading it would take all memory: zipfile reads it whole."""
    with open(place, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 66_000))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        length = struct.unpack("<L", tail[at + 12 : at + 16])[0] if 0 <= at <= len(tail) - 16 else 0
        wide = tail.rfind(b"PK\x06\x06")
        if 0 <= wide <= len(tail) - 48:
            length = max(length if length != 0xFFFFFFFF else 0, struct.unpack("<Q", tail[wide + 40 : wide + 48])[0])
    if min(length, size) > 46 * limits.most_files + 256 * BLOCK:
        raise DataError(
            f"{place}: its list of members has {length} bytes, more than {counted(limits.most_files, 'file')} need"
        )


def _apart(infos: list[zipfile.ZipInfo], limits: _Limits) -> None:
    """Refuse members that share bytes of the archive: that is how a small file unpacks to petabytes."""
    end, before = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise limits.bad(info.filename, f"shares bytes of the archive with {before[:200]!r}")
        end = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
        before = info.filename


def _counted(member: IO[bytes], name: str, size: int, limits: _Limits) -> Read:
    """A read that counts what really comes out, and refuses a member that is not as long as it says."""
    total = 0

    def read(count: int) -> bytes:
        nonlocal total
        block = member.read(count)
        total += len(block)
        limits.add_bytes(name, len(block))
        if total > size or (not block and total != size):
            raise limits.bad(name, f"has {total} bytes and says it has {size}")
        return block

    return read


class _Stream:
    """The bytes of a tar file, decompressed as they are asked for; forward only, each one counted."""

    def __init__(self, file: IO[bytes], kind: Callable[[], Any] | None, limits: _Limits) -> None:
        self._file, self._kind, self._limits = file, kind, limits
        self._unpacker: Any = kind() if kind is not None else None
        self._held, self._at = b"", 0
        self.member, self.last = "the first member", b""

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def seek(self, to: int, whence: int = 0) -> int:
        if whence or to < self._at:
            raise tarfile.ReadError(f"goes back from byte {self._at} to {to}")
        while self._at < to and self._next(min(to - self._at, BLOCK)):
            pass
        return self._at

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MOST_AT_ONCE:
            raise self._limits.bad(self.member, f"is followed by a header of {count} bytes")
        blocks = []
        while count and (block := self._next(count)):
            blocks.append(block)
            count -= len(block)
        self.last = b"".join(blocks)
        return self.last

    def finish(self) -> None:
        """Read what is left: only then the checksums at the end have been looked at."""
        while self._next(BLOCK):
            pass

    def _next(self, count: int) -> bytes:
        """At most `count` bytes more, none at the end. Raises EOFError when the file stops in the middle."""
        block = self._file.read(count) if self._unpacker is None else self._unpacked(count)
        self._at += len(block)
        self._limits.add_bytes(self.member, len(block))
        return block

    def _unpacked(self, count: int) -> bytes:
        while True:
            if self._unpacker.eof:  # another stream may follow, as pigz and pbzip2 write them
                self._held = self._unpacker.unused_data or self._file.read(1 << 16)
                if not self._held.strip(b"\0"):
                    return b""
                self._unpacker = self._kind() if self._kind is not None else None
            elif not self._held and getattr(self._unpacker, "needs_input", True):
                self._held = self._file.read(1 << 16)
                if not self._held:
                    raise EOFError("the file ends in the middle")
            try:
                block: bytes = self._unpacker.decompress(self._held, count)
            except OSError as error:  # what bz2 raises for bytes it does not know
                raise ValueError(str(error)) from error
            self._held = getattr(self._unpacker, "unconsumed_tail", b"")
            if block:
                return block


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=1 << 30)  # its header may ask for any amount


_KINDS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"\xfd7zXZ\0", _xz),
    (b"BZh", bz2.BZ2Decompressor),
)


def _tar(place: Path, limits: _Limits) -> Iterator[tuple[str, Read | None]]:
    with open(place, "rb") as file:
        start = file.read(6)
        file.seek(0)
        kind = next((kind for magic, kind in _KINDS if start.startswith(magic)), None)
        stream = _Stream(file, kind, limits)
        fileobj: Any = stream
        archive: Any
        with tarfile.open(fileobj=fileobj, mode="r:", errorlevel=2) as archive:
            for member in archive:
                archive.members = []  # kept, they would take a gigabyte for a million files
                stream.member = member.name
                if member.issparse() or not (member.isreg() or member.isdir()):
                    raise limits.bad(member.name, "is a link, a device or a file with holes")
                name = limits.name(member.name, member.isdir())
                if name is None:
                    continue
                contents = None if member.isdir() else archive.extractfile(member)
                yield name, None if contents is None else _exactly(contents, member, limits)
        if stream.last.strip(b"\0") or len(stream.last) != tarfile.BLOCKSIZE:
            raise EOFError("no end is marked: it is cut short")
        stream.finish()


def _exactly(contents: IO[bytes], member: tarfile.TarInfo, limits: _Limits) -> Read:
    left = member.size

    def read(count: int) -> bytes:
        nonlocal left
        block = contents.read(min(count, left)) if left else b""
        left -= len(block)
        if left and not block:
            raise limits.bad(member.name, f"is cut short by {left} bytes", "get the archive again")
        return block

    return read
