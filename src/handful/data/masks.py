"""Label ids as PNG files: one value a pixel, checked against the classes, written with a palette people can read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from handful.data.finding import SEE_ALL, Finding, OnFinding
from handful.data.ledger import MASK, note
from handful.data.paths import relative
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Mask
from handful.words import counted

LFS = b"version https://git-lfs"  # what Git LFS leaves in a file's place until it is pulled
POINTER = "is a Git LFS pointer, not the file itself; run git lfs pull"
POINTERS = "Git LFS pointers stand in the place of files; run git lfs pull"  # several of them, as one cause
MAX_PIXELS = 89_478_485  # Pillow's own limit for an image
MANY = 64  # values or colors of no class: beyond this they are told as one


def open_values(
    path: Path, root: Path, on_finding: OnFinding, *, alpha: bool = False, colors: bool = False
) -> np.ndarray | None:
    """The values of a mask file as they are stored, or None after telling why not.

    (h, w) uint8 or uint16 for index, gray and palette files, (h, w, 3) uint8 for colored ones. A colored file in
    which all is gray comes as (h, w), since ids are often saved so; colors: as (h, w, 3), where colors are codes.
    alpha: the alpha channel of a file that has one, instead of its colors.
    """
    note(path, MASK)
    PIL_Image = need("PIL.Image", "data")
    file = relative(path, root)
    try:
        if path.stat().st_size == 0:
            on_finding(Finding("empty_file", file, 0, detail="is a mask of zero bytes"))
            return None
        with open(path, "rb") as begun:
            pointer = begun.read(len(LFS)) == LFS
        if pointer:
            on_finding(Finding("lfs_pointer", file, detail=POINTER, cause=POINTERS))
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL_Image.open(path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    on_finding(Finding("image_bomb", file, [opened.width, opened.height], detail="is a mask with more "
                                                                                                 "than "
                                 "89 megapixels"))  # fmt: skip
                    return None
                opened.load()
                mode = opened.mode
                if alpha and mode in ("RGBA", "LA", "PA"):
                    values = np.array(opened.convert("RGBA").getchannel("A"))
                elif mode == "LA":
                    values = np.array(opened.getchannel("L"))
                elif mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
                    values = np.asarray(opened.convert("RGB"))
                elif mode in ("L", "P"):
                    values = np.array(opened)
                elif mode == "1":
                    values = np.array(opened).astype(np.uint8)
                elif mode.startswith("I"):
                    wide = np.asarray(opened)
                    if wide.min() < 0 or wide.max() > 65535:
                        value = int(wide.max() if wide.max() > 65535 else wide.min())
                        on_finding(Finding("label_outside_map", file, value, int(((wide < 0) | (wide > 65535)).sum()),
                                     detail=f"holds {value}, which no class can have"))  # fmt: skip
                        wide = np.where((wide < 0) | (wide > 65535), 65535, wide)
                    values = wide.astype(np.uint16)
                else:
                    on_finding(
                        Finding("mask_not_ids", file, mode, detail=f"is a mask of mode {mode}; wanted label ids")
                    )
                    return None
    except FileNotFoundError:
        on_finding(Finding("missing_mask", file, detail="is not there"))
        return None
    except DataError:  # what tell raised
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        on_finding(Finding("unreadable_mask", file, str(error)[:200], detail=f"cannot be read as a mask ({error})"))
        return None
    gray = values.ndim == 3 and not colors and (values[..., 0] == values[..., 1]).all()
    if gray and (values[..., 0] == values[..., 2]).all():
        values = np.ascontiguousarray(values[..., 0])  # gray saved as color: the ids are all there
    return values


def checked_ids(
    values: np.ndarray, categories: Sequence[Category], on_finding: OnFinding, *, file: str, ignore: int | None = None
) -> Mask:
    """Stored values as a Mask: `ignore` becomes the largest value; one that is no class is told and then ignored."""
    known = {c.id for c in categories}
    counts = _counts(values)
    wide = max([*known, 0]) >= 255
    top = 65535 if wide else 255
    fine = {ignore, top, 65535 if values.dtype == np.uint16 else top}
    bad = [v for v in np.flatnonzero(counts).tolist() if v not in known and v not in fine]
    text = f"the classes are {_ranges(sorted(known))}"
    if len(bad) > MANY:  # no labels at all: depth, or gray levels
        count = int(counts[bad].sum())
        detail = f"holds {len(bad)} values that are no class, {bad[0]} to {bad[-1]}, in {count} pixels; {text}"
        on_finding(Finding("label_outside_map", file, bad[:20], count, detail=detail))
    for value in bad if len(bad) <= MANY else ():
        count = int(counts[value])
        detail = f"holds the value {value} in {count} pixels; {text}"
        on_finding(Finding("label_outside_map", file, value, count, detail=detail))
    table = np.arange(len(counts)).clip(max=top).astype(np.uint16 if wide else np.uint8)
    table[bad] = top
    if ignore is not None and ignore not in known and ignore < len(table):
        table[ignore] = top
    if values.dtype == np.uint16 and not wide:
        table[[v for v in (65535,) if v < len(table)]] = top
    as_it_is = table.dtype == values.dtype and bool((table == np.arange(len(table))).all())
    return Mask(values if as_it_is else table[values])


def value_counts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values there are in an array of any shape, sorted, and how many there are of each, both (n,). As np.unique,
    but those of 8 and 16 bits are counted, which takes a fifth of the time that sorting them does.
    """
    if values.dtype not in (np.uint8, np.uint16) or not values.size:
        found, counts = np.unique(values, return_counts=True)
        return found, counts
    counts = _counts(values)
    found = np.flatnonzero(counts)
    return found, counts[found]


def _counts(values: np.ndarray) -> np.ndarray:
    """How many pixels have each value, up to the largest there is; a part at a time, as counting takes 8 bytes a
    pixel.
    """
    total = np.zeros(int(values.max()) + 1, dtype=np.int64)
    flat = values.ravel()
    if flat.dtype == np.uint8:  # in a third of the time, as Pillow need not widen each first
        row = need("PIL.Image", "data").frombuffer("L", (flat.size, 1), np.ascontiguousarray(flat), "raw", "L", 0, 1)
        return np.array(row.histogram()[: len(total)])
    for start in range(0, flat.size, 1 << 17):
        total += np.bincount(flat[start : start + (1 << 17)], minlength=len(total))
    return total


def _ranges(ids: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0 to 2, 5"."""
    parts: list[list[int]] = []
    for i in ids:
        if parts and i == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], i]
        else:
            parts.append([i])
    text = [f"{p[0]} to {p[-1]}" if len(p) > 1 else str(p[0]) for p in parts]
    return ", ".join(text[:6]) + (", ..." if len(text) > 6 else "")


def from_colors(
    values: np.ndarray, colors: Mapping[tuple[int, int, int], int], on_finding: OnFinding, *, file: str
) -> Mask | None:
    """A colored mask as a Mask: each of `colors` has its id; a color that is no class is told and then ignored."""
    code = values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    found, where, counts = np.unique(code, return_inverse=True, return_counts=True)
    table = {(r << 16) | (g << 8) | b: i for (r, g, b), i in colors.items()}
    ids = [table.get(int(c)) for c in found]
    unknown = [(c, n) for c, n, known in zip(found.tolist(), counts.tolist(), ids, strict=True) if known is None]
    if len(unknown) > MANY or (unknown and len(unknown) == len(ids)):
        detail = (
            f"holds {counted(len(unknown), 'color that names', 'colors that name')} no class, so it is no mask of "
            "these classes"
        )
        on_finding(Finding("mask_not_ids", file, len(unknown), sum(n for _, n in unknown), detail=detail))
        return None
    for color, count in unknown:
        rgb = [color >> 16, color >> 8 & 255, color & 255]
        detail = f"holds the color {rgb} in {count} pixels, which is no class"
        on_finding(Finding("label_outside_map", file, rgb, count, detail=detail))
    wide = max([*colors.values(), 0]) >= 255
    top = 65535 if wide else 255
    lookup = np.array([top if i is None else i for i in ids], dtype=np.uint16 if wide else np.uint8)
    return Mask(lookup[where.reshape(code.shape)])


@lru_cache(maxsize=1)
def voc_palette() -> bytes:
    """VOC's palette of 256 colors, RGB: neighboring ids look different; 255, ignore, is cream."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for i in range(256):
        value = i
        for bit in range(8):
            for channel in range(3):
                table[i, channel] |= ((value >> channel) & 1) << (7 - bit)
            value >>= 3
    table[255] = 224, 224, 192
    return table.tobytes()


def png_of(ids: np.ndarray, categories: Sequence[Category] = ()) -> Any:
    """Label ids as a Pillow picture: a palette one for 8 bits, 16-bit gray beyond.

    The palette is the categories' own colors, if every one has its own, or else VOC's.
    """
    PIL_Image = need("PIL.Image", "data")
    if ids.dtype == np.uint16:
        return PIL_Image.fromarray(ids)
    picture = PIL_Image.frombytes("P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes())
    palette = bytearray(voc_palette())
    if categories and all(c.rgb is not None and 0 <= c.id < 255 for c in categories):
        for c in categories:
            palette[3 * c.id : 3 * c.id + 3] = bytes(c.rgb or (0, 0, 0))
    picture.putpalette(bytes(palette))
    return picture


def write_ids(path: Path, ids: np.ndarray, categories: Sequence[Category] = ()) -> None:
    """Write label ids (h, w) uint8 or uint16 as a PNG, losslessly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png_of(ids, categories).save(path, format="PNG")


def same_size(mask: Mask, size_wh: tuple[int, int], on_finding: OnFinding, *, file: str) -> bool:
    """Whether a mask has its image's size; tells when it does not."""
    height, width = mask.ids.shape
    if (width, height) == size_wh:
        return True
    detail = f"is {width}x{height} px, its image {size_wh[0]}x{size_wh[1]}"
    on_finding(Finding("mask_size_mismatch", file, [width, height], detail=detail))
    return False


def no_mask(path: Path) -> DataError:
    """The error for a mask that was told to be unusable and is asked for all the same."""
    return DataError(f"{path} cannot be used as a mask; {SEE_ALL}")
