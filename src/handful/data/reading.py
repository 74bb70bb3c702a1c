"""Getting at label files and image headers without trusting them: size first, only real files, findings counted."""

from __future__ import annotations

import codecs
import os
import stat
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from handful.data.finding import Finding, OnFinding
from handful.data.ledger import LABELS, note
from handful.data.masks import LFS, MAX_PIXELS
from handful.data.masks import POINTER as POINTER
from handful.data.masks import POINTERS as POINTERS
from handful.data.paths import relative
from handful.errors import DataError
from handful.pick import need

T = TypeVar("T")
MOST_BYTES = 1 << 25  # a label file of one image, or a list of images, is never larger
FEW = 20  # findings of one kind in one file that are told one by one


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins so is one of Git LFS's pointers, not the file itself."""
    return start.startswith(LFS)


def is_pointer_file(path: Path) -> bool:
    """Whether a file is one of Git LFS's pointers. Raises OSError for one that cannot be opened."""
    with open(path, "rb") as opened:
        return is_pointer(opened.read(len(LFS)))


def tell_pointer(file: str, on_finding: OnFinding) -> None:
    """Tell that a file is a pointer."""
    on_finding(Finding("lfs_pointer", file, detail=POINTER, cause=POINTERS))


def label_bytes(
    path: Path, root: Path, on_finding: OnFinding, *, most: int = MOST_BYTES, empty: bool = False
) -> bytes | None:
    """The bytes of a small label file, or None after telling why not. empty: a file of zero bytes says something."""
    file = relative(path, root)
    note(path, LABELS)
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # a pipe would wait for ever
            on_finding(Finding("unreadable_labels", file, detail="is no ordinary file"))
            return None
        if about.st_size > most:
            detail = f"has {about.st_size} bytes; label files over {most >> 20} MB are not read"
            on_finding(Finding("unreadable_labels", file, about.st_size, detail=detail))
            return None
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        on_finding(Finding("unreadable_labels", file, detail=f"cannot be read ({getattr(error, 'strerror', error)})"))
        return None
    if not data and not empty:
        on_finding(Finding("empty_file", file, 0, detail="is a label file of zero bytes"))
        return None
    if is_pointer(data):
        tell_pointer(file, on_finding)
        return None
    return data


def label_text(
    path: Path, root: Path, on_finding: OnFinding, *, most: int = MOST_BYTES, empty: bool = True
) -> str | None:
    """The text of a small label file, or None after telling why not: UTF-8, or UTF-16 that says so in its first bytes,
    as spreadsheets and Windows write it."""
    data = label_bytes(path, root, on_finding, most=most, empty=empty)
    if data is None:
        return None
    marked = len(data) > 2 and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    code = "utf-16" if marked else "utf-8-sig"
    if not marked and b"\0" in data:
        detail = "is no text: it holds bytes of zero, as UTF-16 without its first two bytes does; save it as UTF-8"
        on_finding(Finding("unreadable_labels", relative(path, root), data.index(b"\0"), detail=detail))
        return None
    try:
        return data.decode(code)
    except UnicodeDecodeError as error:
        name = code.upper().removesuffix("-SIG")
        detail = f"is no {name} text (byte {data[error.start]:#04x} at {error.start})"
        on_finding(Finding("unreadable_labels", relative(path, root), error.start, detail=detail))
        return None


def unless_dropped(objects: Sequence[T], listed: int) -> tuple[T, ...] | None:
    """The objects of an image whose file lists so many labels; None when not one of them could be used.

    Such an image is not one that somebody found empty: nobody knows what is in it.
    """
    return None if listed and not objects else tuple(objects)


class Few:
    """A tell that passes on the first findings of each kind and counts the rest: a broken file can hold a million."""

    def __init__(self, on_finding: OnFinding, most: int = FEW) -> None:
        self._tell, self._most = on_finding, most
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Finding] = {}

    def __call__(self, finding: Finding) -> None:
        """Pass a finding on, or count it."""
        self._counts[finding.code] += 1
        if self._counts[finding.code] <= self._most:
            self._tell(finding)
        else:
            self._last[finding.code] = finding

    def close(self) -> None:
        """Tell how many were left untold."""
        for code, finding in self._last.items():
            rest = self._counts[code] - self._most
            detail = f"{rest} more of this kind, the last: {finding.detail}"
            self._tell(replace(finding, count=rest, detail=detail))


def upright_size(path: Path, root: Path, on_finding: OnFinding) -> tuple[int, int] | None:
    """(width, height) in px of an image as EXIF turns it, from its header; None after telling why it has none."""
    PIL_Image = need("PIL.Image", "data")
    file = relative(path, root)
    try:
        if os.path.getsize(path) == 0:
            on_finding(Finding("empty_file", file, 0, detail="is an image of zero bytes"))
            return None
        if is_pointer_file(path):
            tell_pointer(file, on_finding)
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL_Image.open(path) as opened:
                width, height = opened.size
                if width * height > MAX_PIXELS:
                    detail = f"is {width}x{height} px, more than is safe to open"
                    on_finding(Finding("image_bomb", file, [width, height], detail=detail))
                    return None
                tag = _orientation(opened, path)
    except DataError:  # what tell raised
        raise
    except PIL_Image.DecompressionBombError:
        on_finding(Finding("image_bomb", file, detail="has more pixels than is safe to open"))
        return None
    except Exception as error:  # Pillow's openers raise OSError, SyntaxError, ValueError, struct.error and more
        on_finding(Finding("unreadable_image", file, str(error)[:200], detail=f"cannot be read as an image ({error})"))
        return None
    if min(width, height) < 1:
        on_finding(Finding("unreadable_image", file, [width, height], detail=f"is {width}x{height} px"))
        return None
    return (height, width) if tag in (5, 6, 7, 8) else (width, height)


def _orientation(opened, path: Path) -> int:  # type: ignore[no-untyped-def]
    if opened.format == "PNG" and "exif" not in opened.info and b"eXIf" not in path.read_bytes():
        return 1  # asked for EXIF, Pillow would decode the whole PNG to see whether some follows the pixels
    tag = opened.getexif().get(0x0112, 1)
    return tag if tag in range(1, 9) else 1
