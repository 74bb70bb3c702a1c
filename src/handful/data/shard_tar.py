"""A shard: one plain tar file of many small members, found by their place in it; the same members give the same bytes.

WebDataset's layout (Aizman et al. 2019, arXiv 2001.01858): what belongs to one sample lies together and shares its
name up to the first dot, KEY.jpg, KEY.png, KEY.json. Headers are POSIX ustar without times or owners.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from handful.data.paths import safe_name

BLOCK = 512
END = bytes(2 * BLOCK)
LONGEST_NAME = 100
_SUM = slice(148, 156)


@dataclass(frozen=True)
class Member:
    """A file inside a shard: its name, and where its bytes begin."""

    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        """The sample it belongs to."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def kind(self) -> str:
        """What follows the key: "jpg", "prev.png"."""
        return self.name.rpartition("/")[2].partition(".")[2]


class Damaged(Exception):
    """A shard that cannot be read on from here; the message says where and why."""


def section(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Part of a tar file: each member's header and bytes. Parts can be put one after the other, then END."""
    parts = []
    for name, data in members:
        parts += [_header(name, len(data)), data, bytes(-len(data) % BLOCK)]
    return b"".join(parts)


def _header(name: str, size: int) -> bytes:
    raw = name.encode("ascii")
    if len(raw) > LONGEST_NAME or size >= 8**11:
        raise ValueError(f"{name} of {size} bytes does not fit into a tar header")
    held = bytearray(BLOCK)
    for at, text in ((0, raw), (100, b"0000644"), (108, b"0000000"), (116, b"0000000"), (124, b"%011o" % size),
                     (136, b"00000000000"), (148, b"        "), (156, b"0"), (257, b"ustar"), (263, b"00"),
                     (329, b"0000000"), (337, b"0000000")):  # fmt: skip
        held[at : at + len(text)] = text
    held[_SUM] = b"%06o\0 " % sum(held)
    return bytes(held)


def members(path: Path) -> Iterator[Member]:
    """The members of a shard in order, from their headers alone. Raises Damaged where that cannot go on.

    Names are as they are in the file; see `safe`.
    """
    try:
        with open(path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            at, last = 0, "its beginning"
            while True:
                file.seek(at)
                header = file.read(BLOCK)
                if header == bytes(BLOCK):
                    return
                if len(header) < BLOCK:
                    raise Damaged(f"is cut short after {last}")
                member = _member(header, at, last)
                if member is not None:
                    if member.offset + member.size > end:
                        raise Damaged(f"is cut short inside {member.name[:200]!r}")
                    yield member
                    last = repr(member.name[:200])
                at += BLOCK + -(-_size(header, last) // BLOCK) * BLOCK
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror or error})") from error


def _member(header: bytes, at: int, last: str) -> Member | None:
    """What a header says; None for a folder. Raises Damaged."""
    blank = header[: _SUM.start] + b" " * 8 + header[_SUM.stop :]
    if _octal(header[_SUM]) != sum(blank):
        raise Damaged(f"holds no header at byte {at}, after {last}")
    name = header[:100].partition(b"\0")[0]
    if header[257:262] == b"ustar" and header[345:500].strip(b"\0"):
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    kind = header[156:157]
    if kind == b"5":
        return None
    if kind not in (b"0", b"\0"):
        raise Damaged(f"holds a member of kind {kind!r} after {last}; wanted files only, as WebDataset writes them")
    return Member(name.decode("utf-8", "backslashreplace"), at + BLOCK, _size(header, last))


def _size(header: bytes, last: str) -> int:
    size = _octal(header[124:136])
    if size is None:
        raise Damaged(f"holds a header without a size after {last}")
    return size


def _octal(field: bytes) -> int | None:
    text = field.strip(b"\0 ")
    return int(text, 8) if text and all(c in b"01234567" for c in text) else None


def safe(member: Member) -> bool:
    """Whether a member's name stays where it is put and has a key and a kind."""
    return safe_name(member.name) == member.name and member.kind != "" and member.key[-1:] not in ("", "/")


def count(path: Path) -> int:
    """How many samples a shard holds, as far as it can be read."""
    keys = set()
    try:
        for member in members(path):
            keys.add(member.key)
    except Damaged:
        pass
    return len(keys)
