"""What a model found, drawn into the photograph: class names, boxes, masks. NumPy and Pillow only."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import U8, Bool
from handful.pick import need

GRAY = (60, 60, 66)  # of the background class in a label map
UNKNOWN = (140, 140, 140)  # of a box that is none of the classes
MASK_SHARE = 0.45  # of the class's color in the pixels of a mask

# fonts of many scripts, as Linux, macOS and Windows have them
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf",
    "msyh.ttc", "simsun.ttc", "msgothic.ttc", "malgun.ttf", "segoeui.ttf", "Nirmala.ttf",
)  # fmt: skip

RGB = tuple[int, int, int]


def palette(classes: Sequence[str], background: str | None = None) -> list[RGB]:
    """A color for each class, RGB 0..255: far from each other, gray for the background."""
    found = []
    for i, name in enumerate(classes):
        # the golden ratio keeps neighbors apart, however many there are
        rgb = colorsys.hsv_to_rgb((0.58 + i * 0.618034) % 1, 0.62 + 0.2 * (i % 2), 0.92 - 0.16 * (i % 3))
        found.append(GRAY if name == background else (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return found


@dataclass(frozen=True)
class Drawn:
    """One thing to draw. box_px: left, top, right, bottom in px of the photo; pixels: (h, w) bool of the thing, its
    left
    upper pixel at left_top, or None; text: the name beside it."""

    box_px: tuple[float, float, float, float]
    text: str
    color: RGB
    pixels: Bool | None = None
    left_top: tuple[int, int] = (0, 0)


def eroded(pixels: Bool, times: int) -> Bool:
    """(h, w) bool: the pixels whose four neighbors, `times` times over, are set too; beyond the edge nothing is."""
    out = np.pad(pixels, 1)
    for _ in range(times):
        inner = out[1:-1, 1:-1] & out[:-2, 1:-1] & out[2:, 1:-1] & out[1:-1, :-2] & out[1:-1, 2:]
        out = np.pad(inner, 1)
    return out[1:-1, 1:-1]


def shaded(rgb_u8: U8, things: Sequence[Drawn]) -> U8:
    """A copy of a photo (h, w, 3) uint8 RGB with the mask of each thing laid over it, the first on top, with a
    border."""
    out = rgb_u8.copy()
    thick = max(1, round(min(rgb_u8.shape[:2]) / 300))
    for thing in reversed(things):
        if thing.pixels is None:
            continue
        (left, top), (high, wide) = thing.left_top, thing.pixels.shape
        part = out[top : top + high, left : left + wide]
        border = thing.pixels & ~eroded(thing.pixels, thick)
        for where, share in ((thing.pixels & ~border, MASK_SHARE), (border, 0.9)):
            part[where] = np.round((1 - share) * part[where] + share * np.array(thing.color)).astype(np.uint8)
    return out


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> Any:
    """A font by its file's name, "" for Pillow's own; None where it is not installed."""
    font_of = need("PIL.ImageFont", "data")
    try:
        return font_of.truetype(name, size) if name else font_of.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str, size: int, letter: str) -> bool:
    """Whether a font has a letter: one that it lacks is drawn as the box that stands for U+FFFF."""
    font = _font(name, size)
    if letter.isspace() or font is None:
        return font is not None
    if 0xD800 <= ord(letter) <= 0xDFFF:  # a byte of a file's name that is no Unicode
        return False
    own, none = font.getmask(letter), font.getmask("\uffff")
    return (own.size, bytes(own)) != (none.size, bytes(none))


def _fonts() -> list[str]:
    """Files of fonts to try after Pillow's own, which has little beyond ASCII: Matplotlib's, and those of systems."""
    found = find_spec("matplotlib")
    ours = [str(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")] if found and found.origin else []
    return ["", *ours, *SYSTEM_FONTS]


def lettered(text: str, size: int) -> tuple[str, Any]:
    """The text as it can be drawn, and a font for it: the first that has all its letters.

    Where none is installed that has, those that lack are written as their code points: <U+7EA2>.
    """
    text = unicodedata.normalize("NFC", text)
    for name in _fonts():
        if all(_has(name, size, letter) for letter in text):
            return text, _font(name, size)
    name = next((n for n in _fonts()[1:] if _font(n, size) is not None), "")
    return "".join(c if _has(name, size, c) else f"<U+{ord(c):04X}>" for c in text), _font(name, size)


def readable(words: Any) -> Any:
    """A text of a Matplotlib figure that may hold names of a user's, made as `lettered` makes them, in its font; "$" is
    a dollar and no mathematics. Returns it."""
    text, font = lettered(words.get_text(), 16)
    words.set_text(text)
    words.set_parse_math(False)
    file = getattr(font, "path", None)
    if isinstance(file, str) and Path(file).name != "DejaVuSans.ttf":  # which is Matplotlib's own
        properties = words.get_fontproperties().copy()
        properties.set_file(file)
        words.set_fontproperties(properties)
    return words


def boxed(rgb_u8: U8, things: Sequence[Drawn]) -> U8:
    """A copy of a photo (h, w, 3) uint8 RGB with the mask, the box and the name of each thing, the first on top."""
    image, pen_of = (need(f"PIL.{name}", "data") for name in ("Image", "ImageDraw"))
    photo = image.fromarray(shaded(rgb_u8, things))
    pen = pen_of.Draw(photo)
    size = max(11, round(min(photo.size) / 32))
    thick = max(2, size // 7)
    for thing in reversed(things):  # the first last, so that nothing lies over its name
        left, top, right, bottom = thing.box_px
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=thing.color, width=thick)
        text, font = lettered(thing.text, size)
        wide, high = pen.textlength(text, font=font) + 6, size + 5
        at = (min(left, max(0, photo.size[0] - wide)), top - high if top >= high else top)
        pen.rectangle((at[0], at[1], at[0] + wide, at[1] + high), fill=thing.color)
        pen.text((at[0] + 3, at[1] + 1), text, fill=_ink(thing.color), font=font)
    return np.asarray(photo)


def captioned(rgb_u8: U8, lines: Iterable[tuple[str, RGB]]) -> U8:
    """A copy of a photo (h, w, 3) uint8 RGB with lines of text in its upper left corner, each on its own color."""
    image, pen_of = (need(f"PIL.{name}", "data") for name in ("Image", "ImageDraw"))
    photo = image.fromarray(rgb_u8)
    pen = pen_of.Draw(photo)
    size = max(11, round(min(photo.size) / 24))
    y = 0
    for line, color in lines:
        text, font = lettered(line, size)
        wide, high = pen.textlength(text, font=font) + 10, size + 7
        pen.rectangle((0, y, wide, y + high), fill=color)
        pen.text((5, y + 2), text, fill=_ink(color), font=font)
        y += high
    return np.asarray(photo)


def label_map(rgb_u8: U8, ids: U8, classes: Sequence[str], background: str | None = None) -> U8:
    """A photo (h, w, 3) uint8 RGB with each pixel's class (h, w) laid over it in its color, and a legend of the classes
    that are there. The background's pixels stay as they are."""
    colors = np.array([*palette(classes, background), *[GRAY] * (256 - len(classes))], np.float64)
    out = rgb_u8.astype(np.float64)
    there = [i for i in np.unique(ids).tolist() if i < len(classes)]
    shown = np.isin(ids, [i for i in there if classes[i] != background])
    out[shown] = 0.45 * out[shown] + 0.55 * colors[ids[shown]]
    counted = sorted(there, key=lambda i: -int(np.count_nonzero(ids == i)))
    share = [100 * float(np.mean(ids == i)) for i in counted]
    named = [
        (f"{classes[i]} {s:.0f} %" if s >= 1 else f"{classes[i]} < 1 %", i) for s, i in zip(share, counted, strict=True)
    ]
    lines = [(text, tuple(int(v) for v in colors[i])) for text, i in named[:8]]
    return captioned(np.round(out).astype(np.uint8), lines)  # type: ignore[arg-type]


def _ink(color: RGB) -> RGB:
    """Black or white, whichever is easier to read on a color."""
    dark = sum(c * w for c, w in zip(color, (0.299, 0.587, 0.114), strict=True)) < 140
    return (255, 255, 255) if dark else (0, 0, 0)
