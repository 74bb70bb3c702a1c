"""HEIC and HEIF, the images of iPhones and of newer cameras: what is in the file, and its pixels by FFmpeg's decoder.

The container (ISO/IEC 23008-12) is read here; the HEVC in it by PyAV (`handful[video]`): a library that does both would
be one more package under the GPL or LGPL (docs/choices.md). Read: one image or a grid of tiles, cropped, turned and
mirrored as the file says; its alpha is laid on white by the caller. EXIF orientation says the same turn once more and
is passed over, as every reader does.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handful.arrays import U8
from handful.pick import need, present

BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
NOT_HERE = frozenset((b"avif", b"avis"))  # AVIF is the same container, and Pillow reads it
CODECS = {"av01": "AV1", "avc1": "H.264", "jpeg": "JPEG", "j2k1": "JPEG 2000", "vvc1": "VVC", "unci": "no codec",
          "iovl": "an overlay of images", "iden": "a derived image"}  # fmt: skip
ALPHA = ("urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", "urn:mpeg:hevc:2015:auxid:1")
MAX_BOXES = 100_000


class Unreadable(Exception):
    """What is wrong with the file, without its name."""


class TooLarge(Exception):
    """More pixels than are allowed."""


class NoDecoder(Exception):
    """PyAV is not here; how to get it."""


@dataclass
class Item:
    """One image, or what belongs to one. extents: (offset, length) in bytes, or in `idat`. to: what it refers to."""

    kind: str = ""
    hidden: bool = False
    extents: list[tuple[int, int]] = field(default_factory=list)
    in_idat: bool = False
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    to: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Heif:
    """The pixels of the file's primary image, upright: rgb_u8 (h, w, 3) uint8; alpha_u8 (h, w, 1) uint8 or None.
    others: how many more images the file shows.
    """

    rgb_u8: U8
    alpha_u8: U8 | None
    others: int


def is_heif(head: bytes) -> bool:
    """Whether the first bytes of a file (64 are enough) are those of HEIC or HEIF, and not of AVIF."""
    if head[4:8] != b"ftyp":
        return False
    size = min(max(int.from_bytes(head[:4], "big"), 16), 64)
    brands = {head[i : i + 4] for i in (8, *range(16, size, 4))}
    return bool(brands & BRANDS) and not brands & NOT_HERE


def decode(data: bytes, most_pixels: int) -> Heif:
    """The primary image of a file's bytes.

    Raises Unreadable for what is damaged or coded in another way, TooLarge, and NoDecoder where PyAV is not installed.
    """
    if not present("av"):
        raise NoDecoder(
            "is a HEIC image, which needs PyAV; run: pip install 'handful[video]', or export it as JPEG or PNG"
        )
    try:
        items, primary, idat = parse(data)
        return _shown(data, items, primary, idat, most_pixels)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise Unreadable(f"a HEIC whose description of itself is damaged ({type(error).__name__})") from error


def boxes(data: bytes, start: int, end: int) -> list[tuple[str, int, int]]:
    """(kind, where its contents start, where it ends) of each box. Raises Unreadable for a size that cannot be."""
    found = []
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            size, body = struct.unpack_from(">Q", data, body)[0], body + 8
        size = size or end - start
        if size < body - start or start + size > end:
            raise Unreadable(f"a HEIC whose part {kind.decode('latin-1')!r} ends outside the file; it is cut off")
        found.append((kind.decode("latin-1"), body, start + size))
        start += size
        if len(found) > MAX_BOXES:
            raise Unreadable(f"a HEIC of more than {MAX_BOXES} parts")
    return found


def parse(data: bytes) -> tuple[dict[int, Item], int, bytes]:
    """The items by their ids, the id of the primary one, and the data that lies among the descriptions."""
    top = dict((kind, (body, end)) for kind, body, end in boxes(data, 0, len(data)) if kind == "meta")
    if "meta" not in top:
        raise Unreadable("a HEIC without a description of its images; a video has the suffix .mov or .mp4")
    inner = {kind: (body, end) for kind, body, end in boxes(data, top["meta"][0] + 4, top["meta"][1])}
    items: dict[int, Item] = {}
    _kinds(data, *inner["iinf"], items)
    _places(data, *inner["iloc"], items)
    if "iref" in inner:
        _references(data, *inner["iref"], items)
    if "iprp" in inner:
        _properties(data, *inner["iprp"], items)
    body, _ = inner["pitm"]
    primary = struct.unpack_from(">H" if data[body] == 0 else ">I", data, body + 4)[0]
    idat = data[slice(*inner["idat"])] if "idat" in inner else b""
    return items, primary, idat


def _kinds(data: bytes, body: int, end: int, items: dict[int, Item]) -> None:
    for kind, at, _ in boxes(data, body + (6 if data[body] == 0 else 8), end):
        if kind != "infe" or data[at] < 2:
            continue
        wide = data[at] > 2
        number, _, name = struct.unpack_from(">IH4s" if wide else ">HH4s", data, at + 4)
        items[number] = Item(name.decode("latin-1"), bool(data[at + 3] & 1))


def _places(data: bytes, body: int, end: int, items: dict[int, Item]) -> None:
    version, sizes = data[body], struct.unpack_from(">H", data, body + 4)[0]
    offset_n, length_n, base_n = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_n = sizes & 15 if version in (1, 2) else 0
    at = body + 6

    def number(count: int) -> int:
        nonlocal at
        at += count
        if at > end:
            raise Unreadable("a HEIC whose list of places is cut off")
        return int.from_bytes(data[at - count : at], "big")

    for _ in range(number(2 if version < 2 else 4)):
        item = items.setdefault(number(2 if version < 2 else 4), Item())
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # in which file: this one
        base = number(base_n)
        item.in_idat = method == 1
        for _ in range(number(2)):
            number(index_n)
            item.extents.append((base + number(offset_n), number(length_n)))
        if method > 1:
            item.extents = []


def _references(data: bytes, body: int, end: int, items: dict[int, Item]) -> None:
    wide = ">I" if data[body] else ">H"
    step = struct.calcsize(wide)
    for kind, at, _ in boxes(data, body + 4, end):
        source, count = struct.unpack_from(wide, data, at)[0], struct.unpack_from(">H", data, at + step)[0]
        first = at + step + 2
        to = [struct.unpack_from(wide, data, first + i * step)[0] for i in range(count)]
        items.setdefault(source, Item()).to.setdefault(kind, []).extend(to)


def _properties(data: bytes, body: int, end: int, items: dict[int, Item]) -> None:
    inner = boxes(data, body, end)
    held = [(k, data[b:e]) for kind, at, stop in inner if kind == "ipco" for k, b, e in boxes(data, at, stop)]
    for kind, at, _ in inner:
        if kind != "ipma":
            continue
        version, wide = data[at], data[at + 3] & 1
        count, at = struct.unpack_from(">I", data, at + 4)[0], at + 8
        for _ in range(count):
            number = struct.unpack_from(">H" if version < 1 else ">I", data, at)[0]
            at += 2 if version < 1 else 4
            many, at = data[at], at + 1
            for _ in range(many):
                index = struct.unpack_from(">H", data, at)[0] & 0x7FFF if wide else data[at] & 0x7F
                at += 2 if wide else 1
                if index:
                    items[number].properties.append(held[index - 1])


def _bytes(data: bytes, item: Item, idat: bytes) -> bytes:
    source, parts = idat if item.in_idat else data, []
    for offset, length in item.extents:
        length = length or len(source) - offset
        if offset + length > len(source):
            raise Unreadable(f"a HEIC cut off: its pixels end at byte {offset + length}, the file at {len(source)}")
        parts.append(source[offset : offset + length])
    return b"".join(parts)


def _shown(data: bytes, items: dict[int, Item], primary: int, idat: bytes, most: int) -> Heif:
    item = items[primary]
    rgb = _coded(data, items, item, idat, most, "rgb24")
    aux = [i for i in items.values() if primary in i.to.get("auxl", []) and _is_alpha(i)]
    alpha = _coded(data, items, aux[0], idat, most, "gray") if aux else None
    if alpha is not None and alpha.shape[:2] != rgb.shape[:2]:
        raise Unreadable(f"a HEIC whose transparency is {alpha.shape[1]}x{alpha.shape[0]} px, its image "
                         f"{rgb.shape[1]}x{rgb.shape[0]}")  # fmt: skip
    for kind, value in item.properties:
        if kind == "clap":
            rgb = _cropped(rgb, value)
            alpha = None if alpha is None else _cropped(alpha, value)
        if kind in ("irot", "imir"):
            rgb = _turned(rgb, kind, value[0])
            alpha = None if alpha is None else _turned(alpha, kind, value[0])
    parts = {n for i in items.values() for kind in ("dimg", "auxl", "thmb") for n in (i.to.get(kind, []))}
    shown = [n for n, i in items.items() if (i.kind in ("hvc1", "grid")) and not i.hidden and n not in parts
             and not {"auxl", "thmb"} & i.to.keys()]  # fmt: skip
    others = len(set(shown) - {primary})
    return Heif(np.ascontiguousarray(rgb), alpha, others)


def _is_alpha(item: Item) -> bool:
    return any(k == "auxC" and v[4:].split(b"\0")[0].decode("latin-1") in ALPHA for k, v in item.properties)


def _turned(a: np.ndarray, kind: str, value: int) -> np.ndarray:
    if kind == "irot":
        return np.rot90(a, value & 3)  # counted against the clock, as NumPy does
    return a[:, ::-1] if value & 1 else a[::-1]  # axis 1: mirrored left to right; 0: top to bottom


def _cropped(a: np.ndarray, clap: bytes) -> np.ndarray:
    wide_n, wide_d, high_n, high_d, x_n, x_d, y_n, y_d = struct.unpack(">IIIIiIiI", clap[:32])
    if not (wide_d and high_d and x_d and y_d):
        raise Unreadable("a HEIC cropped by a fraction with nothing below its line")
    high, wide = a.shape[:2]
    w, h = min(round(wide_n / wide_d), wide), min(round(high_n / high_d), high)
    x = min(max(math.floor((wide - w + 1) / 2 + x_n / x_d), 0), wide - w)
    y = min(max(math.floor((high - h + 1) / 2 + y_n / y_d), 0), high - h)
    if not (w and h):
        raise Unreadable("a HEIC cropped to nothing")
    return a[y : y + h, x : x + w]


def _coded(data: bytes, items: dict[int, Item], item: Item, idat: bytes, most: int, form: str) -> np.ndarray:
    """The pixels of an item before it is cropped and turned: (h, w, 3), or (h, w, 1) for form "gray"."""
    if item.kind == "hvc1":
        _small_enough(*_extent(item), most)
        return _decoded([(_bytes(data, item, idat), item, item)], most, form)[0]
    if item.kind != "grid":
        raise Unreadable(f"a HEIF of {CODECS.get(item.kind, item.kind or 'an unknown kind')}, wanted HEVC")
    about = _bytes(data, item, idat)
    rows, columns = about[2] + 1, about[3] + 1
    wide, high = struct.unpack_from(">II" if about[1] & 1 else ">HH", about, 4)
    _small_enough(wide, high, most)
    numbers = item.to.get("dimg", [])
    if len(numbers) != rows * columns:
        raise Unreadable(f"a HEIC of {rows}x{columns} tiles that names {len(numbers)}")
    tiles = [items[n] for n in numbers]
    if any(t.kind != "hvc1" for t in tiles):
        raise Unreadable(f"a HEIF whose tiles are {CODECS.get(tiles[0].kind, tiles[0].kind)}, wanted HEVC")
    _small_enough(*(_extent(tiles[0])[0] * columns, _extent(tiles[0])[1] * rows), 2 * most)
    found = _decoded([(_bytes(data, t, idat), t, item) for t in tiles], most, form)
    h, w = found[0].shape[:2]
    if any(f.shape[:2] != (h, w) for f in found) or w * columns < wide or h * rows < high:
        raise Unreadable(f"a HEIC of {wide}x{high} px whose tiles do not cover it")
    canvas = np.empty((h * rows, w * columns, found[0].shape[2]), np.uint8)
    for i, tile in enumerate(found):
        y, x = i // columns * h, i % columns * w
        canvas[y : y + h, x : x + w] = tile
    return canvas[:high, :wide]


def _extent(item: Item) -> tuple[int, int]:
    for kind, value in item.properties:
        if kind == "ispe":
            return struct.unpack_from(">II", value, 4)
    raise Unreadable("a HEIC that does not say its size")


def _small_enough(wide: int, high: int, most: int) -> None:
    if not wide or not high:
        raise Unreadable(f"a HEIC of {wide}x{high} px")
    if wide * high > most:
        raise TooLarge


def _decoded(coded: list[tuple[bytes, Item, Item]], most: int, form: str) -> list[np.ndarray]:
    """Each coded image's pixels. coded: (its bytes, the item, the item that says the colors)."""
    av = need("av", "video")
    found: list[np.ndarray] = []
    at = 0
    try:
        while at < len(coded):
            settings = dict(coded[at][1].properties).get("hvcC")
            if settings is None:
                raise Unreadable("a HEIC without its decoder's settings")
            same = at
            context = av.CodecContext.create("hevc", "r")
            context.extradata, context.thread_count = settings, 1
            context.options = {"max_pixels": str(most), "err_detect": "explode"}
            frames = []
            while same < len(coded) and dict(coded[same][1].properties).get("hvcC") == settings:
                packet = av.Packet(coded[same][0])
                packet.pts = packet.dts = same
                frames += context.decode(packet)
                same += 1
            frames += context.decode(None)
            if len(frames) != same - at or any(f.is_corrupt for f in frames):
                raise Unreadable(f"a HEIC whose pixels are damaged: {len(frames)} of {same - at} parts decoded")
            for frame, (_, item, colors) in zip(frames, coded[at:same], strict=True):
                wide, high = _extent(item)
                pixels = _pixels(av, frame, dict(colors.properties).get("colr", b""), form)
                if pixels.shape[0] < high or pixels.shape[1] < wide:
                    raise Unreadable(f"a HEIC that says {wide}x{high} px and holds {frame.width}x{frame.height}")
                found.append(pixels[:high, :wide])
            at = same
    except av.error.FFmpegError as error:
        raise Unreadable(f"a HEIC whose pixels are damaged ({error.strerror})") from error
    return found


def _pixels(av: Any, frame: Any, color: bytes, form: str) -> np.ndarray:
    """(h, w, 3) RGB, or (h, w, 1) of the brightness as it is stored."""
    if form == "gray":
        whole = frame.reformat(format="gray16le" if "10" in frame.format.name or "12" in frame.format.name else "gray")
        values: np.ndarray = whole.to_ndarray()
        values = (values >> 8).astype(np.uint8) if values.dtype != np.uint8 else values
        return values[..., None]
    matrix, full = int(frame.colorspace), int(frame.color_range) == 2
    if color[:4] == b"nclx":
        matrix, full = struct.unpack_from(">H", color, 8)[0], bool(color[10] & 0x80)
    matrix = {1: 1, 7: 7, 9: 9, 10: 9}.get(matrix, 5)  # as FFmpeg numbers them; BT.601 where nothing is said
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, src_color_range=2 if full else 1,
                         dst_color_range=2)  # fmt: skip
    return np.asarray(rgb.to_ndarray())
