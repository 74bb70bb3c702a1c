"""Where something may be written. Nothing falls on what a command reads, nor on a file that handful did not make, and
a place that cannot be written is told before the work.

Every file that handful writes outside its own folders says so in its bytes (MARK), so what may be replaced is known
without a list, after any kill and in a copy.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from handful.errors import DataError

MARK = "made by handful"
_MARKS = (MARK.encode(), b"<title>handful")  # pages of versions before 0.4 had a title alone
_SEARCHED = 64 << 20  # bytes of a file that are searched for the mark
_HELD = 1 << 20  # a JSON file is parsed up to this size; above, its first key must be ours


def ours(path: Path) -> bool:
    """Whether a file says of itself that handful made it: a page, picture or video by MARK, JSON by its
    schema_version."""
    try:
        with open(path, "rb") as file:
            if path.suffix.lower() == ".json":
                return _our_json(file.read(_HELD))
            size = min(os.fstat(file.fileno()).st_size, _SEARCHED)
            if not size:
                return False
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as held:
                return any(held.find(mark) >= 0 for mark in _MARKS)
    except (OSError, ValueError):
        return False


def _our_json(start: bytes) -> bool:
    if len(start) < _HELD:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(start)
            return isinstance(value, dict) and isinstance(value.get("schema_version"), int)
        return False
    return start[:200].lstrip(b"{ \r\n\t").startswith(b'"schema_version"')


def check_file(path: Path, reads: Iterable[Path] = ()) -> None:
    """Raises DataError for a file that must not be replaced or cannot be written. reads: what the command reads."""
    path = Path(path)
    for read in reads:
        if same(path, read):
            raise DataError(f"{path} is read by this command, so nothing is written over it; choose another name")
    if path.is_dir():
        raise DataError(f"{path} is a folder; wanted the name of a file")
    if os.path.lexists(path) and path.exists() and not ours(path):
        raise DataError(f"{path} exists and was not made by handful, so it is not replaced; choose another name")
    check_writable(real(path).parent)


def check_folder(place: Path, reads: Iterable[Path] = (), *, whole: bool = False, names: Iterable[str] = ()) -> None:
    """Raises DataError for a folder that must not be written into.

    reads: what the command reads. whole: the folder is made or replaced as one, so nothing that is read may lie in it.
    names: of the files that are written into it.
    """
    place = Path(place)
    for read in reads:
        if same(place, read):
            raise DataError(f"{place} is read by this command, so nothing is written there; choose another place")
        if whole and holds(place, read):
            raise DataError(f"{read} lies in {place}, which this command would write anew; choose another place")
    if os.path.lexists(place) and place.exists() and not place.is_dir():
        raise DataError(f"{place} is a file, so nothing can be written into it; choose another folder")
    check_writable(real(place))
    for name in names:
        check_file(place / name, reads)


def check_writable(folder: Path) -> None:
    """Raises DataError where nothing can be made in a folder, or in the first that there is above it. Nothing is left
    there, and no time of the folder changes where the system can open a file without a name."""
    place = Path(folder)
    try:
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise DataError(f"{place} is a file, so nothing can be written into it; choose another folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        with contextlib.suppress(AttributeError, OSError):
            os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY))  # Linux, and most of its file systems
            return
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=place)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"nothing can be written into {folder} ({why}); choose another folder") from error


def writable(folder: Path) -> bool:
    """Whether something can be made in a folder."""
    try:
        check_writable(folder)
    except DataError:
        return False
    return True


def same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder: by link, hard link or the volume's way with upper and lower case."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return real(one) == real(other)


def holds(folder: Path, path: Path) -> bool:
    """Whether a path is below a folder, wherever links lead."""
    return any(same(folder, parent) for parent in real(path).parents if parent.exists()) if folder.exists() else False


def real(path: Path) -> Path:
    """An absolute path without links; also of what is not there yet, and where the current folder is gone."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return Path(path)
