"""Names found in label files and archives are never trusted: nothing is opened outside the data set's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from handful.data.finding import Finding, OnFinding
from handful.errors import DataError
from handful.image import HEIC_SUFFIXES, SUFFIXES

LEFTOVER_SUFFIXES = (".part", ".partial", ".crdownload", ".tmp", ".download", ".filepart", ".swp", "~")
_DRIVE = re.compile(r"^[A-Za-z]:")


def safe_name(name: object) -> str | None:
    """A relative path with forward slashes that stays where it is put, or None: absolute, "..", NUL, a drive."""
    if not isinstance(name, str) or not name or "\0" in name or len(name) > 1024:
        return None
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts or not path.parts:
        return None
    return str(path)


def relative(path: Path, root: Path) -> str:
    """The path as people read it in a table: relative to the data set's folder where it lies in it."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path)


def is_image_name(name: str) -> bool:
    """Whether the suffix is one of an image, in any case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES | HEIC_SUFFIXES


def is_leftover(name: str) -> bool:
    """Whether the name is one that a broken copy, a download or an editor leaves behind."""
    return name.lower().endswith(LEFTOVER_SUFFIXES)


def walk(folder: Path) -> Iterator[str]:
    """Every file in and below a folder, relative, forward slashes, sorted, hidden ones left out; links not followed
    into folders, so a loop of links cannot hold it.
    """
    stack = [""]
    while stack:
        at = stack.pop()
        try:
            entries = sorted(os.scandir(os.path.join(folder, at)), key=lambda e: e.name)
        except FileNotFoundError:
            raise DataError(f"{folder} does not exist; wanted a folder there") from None
        except NotADirectoryError:
            raise DataError(f"{folder} is a file; wanted a folder") from None
        except OSError as error:
            raise DataError(f"{folder}/{at} cannot be listed ({error.strerror}); mend its permissions") from error
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{at}/{entry.name}" if at else entry.name
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
            elif not entry.is_dir():
                yield name
        stack += reversed(below)


def linked_folders(folder: Path) -> list[str]:
    """The links to folders in and below a folder, relative; walk() does not go into them."""
    found, stack = [], [""]
    while stack:
        at = stack.pop()
        for entry in os.scandir(os.path.join(folder, at)):
            name = f"{at}/{entry.name}" if at else entry.name
            if entry.is_symlink():
                found += [name] if entry.is_dir() else []
            elif entry.is_dir() and not entry.name.startswith("."):
                stack.append(name)
    return sorted(found)


class Shelf:
    """The images of one folder, listed once: is a name there, under which spelling, and is it safe to open?"""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = Path(folder), Path(root)
        self._real = os.path.realpath(root) + os.sep
        listed = list(walk(self.folder)) if self.folder.is_dir() else []
        self.images = {name for name in listed if is_image_name(name)}
        self.others = [name for name in listed if name not in self.images]
        self._spelling: dict[str, str] | None = None

    def find(self, name: object, on_finding: OnFinding, *, file: str) -> str | None:
        """The image's own name, or None after telling why it cannot be used. file: which labels name it."""
        safe = safe_name(name)
        if safe is None:
            on_finding(Finding("unsafe_path", file, str(name)[:200], detail=f"names the image {str(name)[:200]!r}"))
            return None
        if safe not in self.images:
            other = self._other_spelling(safe)
            if other is None:
                on_finding(Finding("missing_image", file, safe, detail=f"{safe} is not in {self.folder}"))
                return None
            on_finding(Finding("wrong_case_name", file, safe, detail=f"says {safe}, the file is {other}"))
            safe = other
        return safe if self.inside(safe, on_finding) else None

    def inside(self, name: str, on_finding: OnFinding) -> bool:
        """Whether the image, links followed, lies in the data set's folder; tells when it does not."""
        path = os.path.join(self.folder, name)
        if os.path.islink(path) and not os.path.realpath(path).startswith(self._real):
            where = os.path.realpath(path)
            on_finding(
                Finding("symlink_outside", relative(Path(path), self.root), where, detail=f"is a link to {where}")
            )
            return False
        return True

    def _other_spelling(self, name: str) -> str | None:
        if self._spelling is None:
            self._spelling = {image.casefold(): image for image in sorted(self.images)}
        return self._spelling.get(name.casefold())
