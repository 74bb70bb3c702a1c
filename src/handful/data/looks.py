"""Whether a picture looks like a mask or like a photograph, measured on a few rows of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.masks import MAX_PIXELS, open_values, value_counts
from handful.data.paths import relative
from handful.errors import DataError
from handful.pick import need

ROWS = 96  # of a picture, evenly spaced: enough to tell flat areas from texture
FEW_VALUES, FLAT = 64, 0.8  # a mask has few values, in areas: most pixels are as their neighbor
MANY_VALUES, VERY_FLAT = 4096, 0.95  # many objects in 16 bits
EDGES = 0.4  # of what lies between: that differs from its neighbor
POLES, NEAR = 0.9, 0.12  # a soft mask: nearly all pixels near its darkest or its brightest value
LOW = 32  # above it a mask of a few classes has no values but 255
FULL = 200  # such a mask's brightest value
LOSSY = ("JPEG", "MPO", "WEBP")
HOW = "; say from which value on it is foreground: handful data convert FOLDER COPY --to masks --mask-threshold 128"
LOOKS = ("mask", "soft", "alpha", "photo")


def look_of(path: Path) -> str | None:
    """One of LOOKS; "flat" where one value fills the picture, which may be anything; None where it cannot be read.

    mask: few values in areas. soft: two values with something between them, as JPEG or a blur leaves. alpha: what it
    shows lies in its alpha channel alone. photo: all else.
    """
    PIL_Image = need("PIL.Image", "data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL_Image.open(path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    return None
                lossy = opened.format in LOSSY
                opened.draft("L" if opened.mode == "L" else "RGB", (256, 256))
                rgba = opened.convert("RGBA") if opened.mode in ("LA", "PA") else opened
                values = np.asarray(rgba.convert("RGB") if rgba.mode in ("CMYK", "YCbCr") else rgba)
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        return None
    rows = values[:: max(1, len(values) // ROWS)]
    if rows.dtype == bool:
        rows = rows.astype(np.uint8)
    if rows.ndim == 3 and rows.shape[2] == 4:
        color, alpha = rows[..., :3], rows[..., 3]
        if alpha.min() != alpha.max() and (color == color[:1, :1]).all():
            return "alpha"
        rows = color
    if rows.ndim == 3 and (rows == rows[..., :1]).all():
        rows = rows[..., 0]
    if rows.ndim == 3:
        rows = rows.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        return _by_values(rows) or "photo"
    return "soft" if _is_soft(rows, lossy) else _by_values(rows) or "photo"


def _by_values(rows: np.ndarray) -> str | None:
    count = len(value_counts(rows)[0])
    if count == 1:
        return "flat"
    flat = float((rows[:, 1:] == rows[:, :-1]).mean()) if rows.shape[1] > 1 else 1.0
    few = count <= FEW_VALUES and flat >= FLAT
    return "mask" if few or (count <= MANY_VALUES and flat >= VERY_FLAT and count < rows.size // 16) else None


def _is_soft(rows: np.ndarray, lossy: bool = False) -> bool:
    """Two values far apart, and between them only what edges and compression leave: no areas of their own.

    lossy: of a file as JPEG writes it.
    """
    low, high = float(rows.min()), float(rows.max())
    near = NEAR * (high - low)
    if high - low < 64 or float(((rows <= low + near) | (rows >= high - near)).mean()) < POLES:
        return False
    ends = [np.unique(rows[side]) for side in (rows <= low + near, rows >= high - near)]
    runs = all(len(end) > 1 and int(end[-1]) - int(end[0]) == len(end) - 1 for end in ends)
    if high >= FULL and (runs or (lossy and sum(map(len, ends)) > 2)):
        return True  # 0, 1, 252 and 253: what compression makes of two values
    between = (rows != low) & (rows != high)
    if not between.any() or len(np.unique(rows[between])) < 4:
        return False
    alone = between[:, 1:] & (rows[:, 1:] != rows[:, :-1])
    return float(alone.sum()) / max(1, int(between[:, 1:].sum())) > EDGES


def look_of_several(paths: Sequence[Path], most: int = 6) -> str | None:
    """What most of some pictures look like, from a few spread over them; None where none can be read."""
    picked = [paths[i] for i in sorted({round(at) for at in np.linspace(0, len(paths) - 1, min(most, len(paths)))})]
    looks = Counter(look for path in picked if (look := look_of(path)) is not None)
    told = looks.most_common()
    if len(told) > 1 and told[0][0] == "flat":
        told = told[1:]
    return told[0][0] if told else None


def hard_values(path: Path, root: Path, look: str, threshold: int | None, on_finding: OnFinding) -> np.ndarray | None:
    """As masks.open_values, of a file of masks that look so; a soft one is 0 and 255 by the threshold, or, without one,
    None after telling. look: one of LOOKS, of the whole set: alpha reads the alpha channel; "named": hard values, whose
    classes a file names."""
    values = open_values(path, root, on_finding, alpha=look == "alpha")
    if values is None or values.ndim == 3:
        return values
    few = 0
    if look not in ("soft", "alpha") and _is_jpeg(path) and not _is_soft(_spread(values), True):
        few = len(value_counts(values)[0])
    if few > 2:
        cause = "masks saved as JPEG, which changes their numbers; save the masks as PNG"
        detail = f"is a mask saved as JPEG, which changes its numbers: {few} are in it now"
        on_finding(Finding("soft_mask", relative(path, root), few, detail=f"{detail}; save it as PNG", cause=cause))
        return None
    if look == "named":  # values of no class are told as such
        return values
    if look not in ("soft", "alpha"):  # the set's look is drawn from a few: one of the others may be soft
        rows = _spread(values)
        lossy = path.suffix.lower() in (".jpg", ".jpeg", ".webp")
        # small ids, and 255 for what is not labeled, however scattered
        ids = len(value_counts(rows[rows > LOW])[0]) < 2
        if values.dtype != np.uint8 or ids or not _is_soft(rows, lossy):
            return values
    few = len(value_counts(values)[0])
    if few <= 2:
        return values
    if threshold is None:
        detail = f"is one soft mask of {few} gray levels, as JPEG or a blurred edge leaves it{HOW}"
        on_finding(Finding("soft_mask", relative(path, root), few, detail=detail, cause=f"soft masks{HOW}"))
        return None
    return np.where(values >= threshold, 255, 0).astype(np.uint8)


def _spread(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, len(values) // ROWS)]


def _is_jpeg(path: Path) -> bool:
    with open(path, "rb") as opened:
        return opened.read(3) == b"\xff\xd8\xff"


def checked_threshold(threshold: int | None) -> int | None:
    """A threshold for soft masks that somebody gave. Raises DataError for one outside 1 to 255."""
    if threshold is not None and not 1 <= threshold <= 255:
        raise DataError(f"the threshold of soft masks is {threshold}; wanted 1 to 255")
    return threshold
