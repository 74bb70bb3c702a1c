"""HEIC files of our own making: HEVC by PyAV's encoder, in a container written here box by box."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest


def box(kind: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind.encode()) + body


def full(kind: str, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def hevc(rgb_u8: np.ndarray, pixels: str = "yuv444p") -> tuple[bytes, bytes]:
    """(the decoder's settings as hvcC, the coded image with the length before each part) of one picture, BT.601, full
    range. Its sides must be even."""
    av = pytest.importorskip("av")
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height, context.pix_fmt = rgb_u8.shape[1], rgb_u8.shape[0], pixels
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"x265-params": "lossless=1:keyint=1:log-level=none:range=full:colormatrix=bt470bg:pools=none:"
                                      "frame-threads=1:repeat-headers=1:info=0"}  # fmt: skip
    frame = av.VideoFrame.from_ndarray(rgb_u8, format="rgb24")
    frame = frame.reformat(format=pixels, src_colorspace=5, dst_colorspace=5, src_color_range=2, dst_color_range=2)
    frame.pts = 0
    stream = b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
    parts = [p for p in stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if p]
    held: dict[int, list[bytes]] = {}
    for part in parts:
        held.setdefault(part[0] >> 1 & 63, []).append(part)
    sps = held[33][0]
    depth = 2 if "10" in pixels else 0
    chroma = 3 if "444" in pixels else 1
    about = struct.pack(">HBBBBHBB", 0xF000, 0xFC, 0xFC | chroma, 0xF8 | depth, 0xF8 | depth, 0, 0x0F, 3)
    settings = b"\1" + sps[3:15] + about
    for kind in (32, 33, 34):
        settings += struct.pack(">BHH", 0x80 | kind, 1, len(held[kind][0])) + held[kind][0]
    slices = [p for kind, ps in held.items() if kind < 32 for p in ps]
    return settings, b"".join(struct.pack(">I", len(p)) + p for p in slices)


def heic(
    rgb_u8: np.ndarray,
    *,
    tile: int | None = None,
    turns: Sequence[tuple[str, int]] = (),
    crop: tuple[int, int] | None = None,
    alpha_u8: np.ndarray | None = None,
    pixels: str = "yuv444p",
    brand: bytes = b"heic",
    kind: str = "hvc1",
) -> bytes:
    """A HEIC file. tile: the side of the tiles of a grid, in px; one image without. turns: ("irot", quarter turns
    against the clock) and ("imir", axis) in order. crop: (width, height) to keep of the middle. alpha_u8: (h, w)."""
    high, wide = rgb_u8.shape[:2]
    items: list[tuple[int, str, bytes, list[int], int]] = []  # id, kind, bytes, properties, flags
    held: list[bytes] = []

    def has(made: bytes) -> int:
        held.append(made)
        return len(held)

    def extent(w: int, h: int) -> int:
        return has(full("ispe", struct.pack(">II", w, h)))

    references = b""
    shown = [extent(wide, high)]
    if crop is not None:
        shown.append(has(box("clap", struct.pack(">IIIIiIiI", crop[0], 1, crop[1], 1, 0, 1, 0, 1))))
    shown += [has(box(name, bytes([value]))) for name, value in turns]
    if tile is None:
        settings, coded = hevc(rgb_u8, pixels)
        items.append((1, kind, coded, [*shown, has(box("hvcC", settings))], 0))
    else:
        rows, columns = -(-high // tile), -(-wide // tile)
        padded = np.pad(rgb_u8, ((0, rows * tile - high), (0, columns * tile - wide), (0, 0)), mode="edge")
        items.append((1, "grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, wide, high), shown, 0))
        size, settings_at = extent(tile, tile), {}
        for i in range(rows * columns):
            y, x = i // columns * tile, i % columns * tile
            settings, coded = hevc(padded[y : y + tile, x : x + tile], pixels)
            at = settings_at.setdefault(settings, 0) or has(box("hvcC", settings))
            settings_at[settings] = at
            items.append((2 + i, kind, coded, [size, at], 1))
        to = [2 + i for i in range(rows * columns)]
        references += box("dimg", struct.pack(">HH", 1, len(to)), struct.pack(f">{len(to)}H", *to))
    if alpha_u8 is not None:
        settings, coded = hevc(np.repeat(alpha_u8[..., None], 3, axis=2), pixels)
        number = len(items) + 1
        about = full("auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
        items.append((number, "hvc1", coded, [extent(wide, high), has(box("hvcC", settings)), has(about)], 1))
        references += box("auxl", struct.pack(">HHH", number, 1, 1))

    def meta(start: int) -> bytes:
        names = b"".join(full("infe", struct.pack(">HH4s", n, 0, k.encode()), b"\0", version=2, flags=hidden)
                         for n, k, _, _, hidden in items)  # fmt: skip
        places, at = b"", start
        for n, _, coded, _, _ in items:
            places += struct.pack(">HHHII", n, 0, 1, at, len(coded))
            at += len(coded)
        links = b"".join(struct.pack(">HB", n, len(have)) + bytes(0x80 | i for i in have) for n, _, _, have, _ in items)
        return full(
            "meta",
            full("hdlr", struct.pack(">I4s12x", 0, b"pict"), b"\0"),
            full("pitm", struct.pack(">H", 1)),
            full("iloc", struct.pack(">HH", 0x4400, len(items)), places),
            full("iinf", struct.pack(">H", len(items)), names),
            *([full("iref", references)] if references else []),
            box("iprp", box("ipco", *held), full("ipma", struct.pack(">I", len(items)), links)),
        )

    head = box("ftyp", brand, bytes(4), b"mif1", brand)
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box("mdat", *(coded for _, _, coded, _, _ in items))
