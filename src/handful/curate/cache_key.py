"""What a verdict on a folder depends on: the bytes and names of its files, its folders, and where its links lead."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from handful.curate.image_metadata import Cache, file_hash
from handful.data.folder_names import above
from handful.data.paths import walk
from handful.progress import track

NAMING = (".txt", ".csv", ".json", ".names", ".yaml", ".yml", ".labels")  # files that name classes


def content_hash(place: Path, cache: Cache) -> str:
    """SHA-256 over the names and bytes of every file in a folder (or of one file), and the names of those that are left
    out, hidden or handful's own."""
    digest = hashlib.sha256()
    if place.is_file():
        return file_hash(place, cache)
    passed: dict[str, str] = {}
    for name in track(list(walk(place, passed)), "hashing"):
        digest.update(f"{name}\0{file_hash(place / name, cache)}\n".encode("utf-8", "surrogateescape"))
    digest.update(repr(sorted(passed.items())).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def shape(place: Path) -> str:
    """SHA-256 of what a folder's files do not tell: which folders there are, empty ones too, where links lead, and what
    lies in folders that are links. A verdict depends on all of it."""
    digest = hashlib.sha256()
    for entry in _above(place):  # names of classes for all splits
        digest.update(f"{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}\n".encode(errors="replace"))
    stack = [str(place)]
    while stack:
        at = stack.pop()
        with contextlib.suppress(OSError), os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                said = [os.path.relpath(entry.path, place)]
                if entry.is_symlink():
                    said += ["link", os.readlink(entry.path), os.path.realpath(entry.path), *_linked(entry)]
                elif entry.is_dir():
                    stack.append(entry.path)
                else:
                    continue
                digest.update("\0".join([*said, "\n"]).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _above(place: Path) -> list[os.DirEntry[str]]:
    top = above(place)
    with contextlib.suppress(OSError):
        entries = () if top is None else os.scandir(top)
        return sorted((e for e in entries if e.name.endswith(NAMING) and e.is_file()), key=lambda e: e.name)
    return []


def _linked(entry: os.DirEntry[str]) -> list[str]:
    """What is below a folder that is a link, by names, sizes and times."""
    if not entry.is_dir():
        return ["there" if entry.is_file() else "broken"]
    found = []
    for folder, _, names in os.walk(entry.path):
        for name in sorted(names):
            with contextlib.suppress(OSError):
                now = os.stat(os.path.join(folder, name))
                found.append(f"{folder}/{name} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}")
    return sorted(found)
