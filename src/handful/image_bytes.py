"""What an image's bytes say, whatever the file is called: its kind, whether a JPEG is whole, how a TIFF counts."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

from handful.heif import is_heif

HEAD = 64  # bytes that tell the kind
ZEROS = 64  # so many at the end of a JPEG are no part of it: a copy that broke off before its end was written
MARKER = b"\xff\xd9"  # the end of a JPEG
# three ways for pixels that are not there to come out: a JPEG that is the same in all has none missing
PADS = (b"", b"\x5a" * 256, bytes(range(1, 255)))
STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "a PDF"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"8BPS", "a Photoshop file"),
)


def kind_of(head: bytes) -> str:
    """What a file is by its first 64 bytes: "HEIF", "JPEG", "a web page" and so on; "" where they say nothing."""
    if is_heif(head):
        return "HEIF"
    if head[4:8] == b"ftyp":
        avif = any(head[i : i + 4] in (b"avif", b"avis") for i in (8, *range(16, HEAD, 4)))
        raw = head[8:12] == b"crx "
        return "AVIF" if avif else "a camera's raw file" if raw else "an MP4 or QuickTime video"
    if head[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "an AVI video"}.get(head[8:12], "")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for known, kind in STARTS:
        if head.startswith(known) or (known[:1] == b"<" and start.startswith(known)):
            return kind
    return "nothing but zero bytes" if len(head) >= 8 and not any(head) else ""


def ends_in_zeros(file: Any) -> bool:
    """Whether an open binary file, or BytesIO, ends in zero bytes. It is left where it was."""
    if isinstance(file, io.BytesIO):
        tail = bytes(file.getbuffer()[-ZEROS:])
    else:
        number = file.fileno()
        tail = os.pread(number, ZEROS, max(os.fstat(number).st_size - ZEROS, 0))
    return len(tail) == ZEROS and not any(tail)


def whole_jpeg(data: bytes, jpeg: Any) -> bytes | None:
    """A JPEG up to its end, zero bytes behind it cut off; where only the end marker is not there, with it; None where
    pixels are missing. jpeg: PIL.JpegImagePlugin.

    What is missing is filled in by the decoder, without a word; so the file is decoded with several things put where
    the rest would be, and is whole when they change nothing.
    """
    body = data.rstrip(b"\0") if not any(data[-ZEROS:]) else data
    if _pixels(body, jpeg) is not None:
        return body
    body = body.removesuffix(MARKER[:1])
    found = [_pixels(body + pad + MARKER, jpeg) for pad in PADS]
    return None if found[0] is None or any(f != found[0] for f in found) else body + MARKER


def _pixels(data: bytes, jpeg: Any) -> bytes | None:
    try:
        with jpeg.JpegImageFile(io.BytesIO(data)) as one:
            pixels: bytes = one.tobytes()
            return pixels
    except (OSError, SyntaxError, ValueError):
        return None


@dataclass(frozen=True)
class Scale:
    """How a file counts: top: its largest value, black_is_top: whether that is black. bits: of a value, for people.
    key_by: what the file's transparent value is multiplied with, or shifted right by when negative.
    """

    top: int = 65535
    black_is_top: bool = False
    bits: int = 16
    key_by: int = 1


PLAIN = Scale()


def scale_of(opened: Any) -> Scale:
    """Of a Pillow image, before its pixels are loaded."""
    tags = getattr(opened, "tag_v2", None)
    if tags is not None and opened.mode.startswith("I;16"):
        bits = tags.get(258, (16,))
        bits = bits[0] if isinstance(bits, tuple) else bits
        if 8 < bits < 16 or tags.get(262) == 0:
            return Scale((1 << bits) - 1, tags.get(262) == 0, bits)
    if "transparency" in opened.info and opened.mode in ("L", "RGB") and getattr(opened, "tile", None):
        raw = opened.tile[0][3]
        raw = str(raw[0] if isinstance(raw, tuple) else raw)
        return Scale(key_by={"L;2": 85, "L;4": 17, "RGB;16B": -8}.get(raw, 1))
    return PLAIN


def pages_of(opened: Any) -> int:
    """The pages of a TIFF, less those that only show its first one smaller, or mask it. It is left at the first.
    0: a camera's raw file, or one whose first picture is only a small copy."""
    if opened.tag_v2.get(50706) is not None or int(opened.tag_v2.get(254) or 0) & 1:
        return 0
    pages = 1
    for i in range(1, opened.n_frames):
        opened.seek(i)
        pages += not int(opened.tag_v2.get(254) or 0) & 5
    if opened.n_frames > 1:
        opened.seek(0)
    return pages
