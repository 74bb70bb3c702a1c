"""Which label files lie below a folder and how they begin and end: enough to tell formats apart, nothing more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from handful.data.paths import is_image_name

DEPTH = 4  # levels of folders that are looked at
EACH = 12  # files of one suffix that are opened in one folder
MOST = 300  # and in all
HEAD, TAIL = 1 << 14, 1 << 12
Listed = dict[str, list[str]]  # suffix in small letters -> names
_REMEMBERED: ContextVar[Callable[[str], Listed] | None] = ContextVar("remembered", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """List each folder once, however many formats ask, until the block ends."""
    token = _REMEMBERED.set(cache(_listed))
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def files(folder: Path, *ends_in: str) -> Iterator[str]:
    """The files whose names end so (any case) in and a little below a folder, relative; links are not followed into
    folders, hidden ones are passed over.
    """
    listed = _list(folder)
    for end in ends_in:
        yield from (name for name in listed.get(_suffix(end), ()) if name.lower().endswith(end))


def images(folder: Path) -> Iterator[str]:
    """The images in and a little below a folder, relative."""
    return (name for suffix, names in _list(folder).items() if is_image_name(f"x{suffix}") for name in names)


def has_images(folder: Path) -> bool:
    """Whether an image lies in or a little below a folder."""
    return next(images(folder), None) is not None


def _list(folder: Path) -> Listed:
    return (_REMEMBERED.get() or _listed)(str(folder))


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def _listed(folder: str) -> Listed:
    found: Listed = {}
    below = [""]
    for _ in range(DEPTH):
        level, below = below, []
        for at in level:
            try:
                entries = sorted(os.scandir(os.path.join(folder, at)), key=lambda e: e.name)
            except OSError:
                continue
            for entry in entries:
                name = f"{at}/{entry.name}" if at else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(name)
                else:
                    found.setdefault(_suffix(entry.name), []).append(name)
    return found


def likely(folder: Path, *suffixes: str, is_it: Callable[[bytes], bool]) -> str | None:
    """The first file whose beginning and end look right; a few files of each folder are opened."""
    opened: dict[str, int] = {}
    for name in files(folder, *suffixes):
        at = name.rpartition("/")[0]
        opened[at] = opened.get(at, 0) + 1
        if opened[at] > EACH or sum(opened.values()) > MOST:
            continue
        if is_it(ends(folder / name)):
            return name
    return None


def is_there(place: Path, suffix: str, *, is_it: Callable[[bytes], bool]) -> bool:
    """Whether a place is a label file that looks right, or a folder with one below it; a few files are opened."""
    place = Path(place)
    if place.is_file():
        return place.suffix.lower() == suffix and is_it(ends(place))
    return likely(place, suffix, is_it=is_it) is not None


def all_of(place: Path, names: Iterable[str], suffix: str, *, is_it: Callable[[bytes], bool]) -> list[str]:
    """The label files that look right: the one that the place is, or those of the names below it; all are opened."""
    root, own = (place.parent, [place.name]) if place.is_file() else (place, None)
    few = [name for name in names if name.lower().endswith(suffix)] if own is None else own
    return [name for name in few if is_it(ends(root / name))]


def ends(path: Path) -> bytes:
    """The first and last bytes of a file, as one; empty when it is no file or cannot be read. NUL bytes, which UTF-16
    has beside each letter, are left out.
    """
    try:
        if not path.is_file():
            return b""
        with open(path, "rb") as opened:
            start = opened.read(HEAD)
            size = os.fstat(opened.fileno()).st_size
            if size > HEAD:
                opened.seek(max(HEAD, size - TAIL))
                start += opened.read(TAIL)
    except (OSError, ValueError):
        return b""
    return start.replace(b"\0", b"")
