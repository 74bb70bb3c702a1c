"""Masks that label files hold as text: base64 of a PNG (LabelMe), of a compressed PNG (Supervisely), and of nothing
that can fill the memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
import zlib
from typing import Any

import numpy as np

from handful.data.masks import MAX_PIXELS
from handful.data.shapes import rle_of
from handful.pick import need
from handful.types import Rle

_MOST_TEXT = 1 << 25


def unpacked(text: Any, *, compressed: bool = False) -> np.ndarray:
    """The bool (h, w) pixels of a mask in base64: where it is not zero, or not transparent. Raises ValueError."""
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        raise ValueError("a mask that is no text")
    try:
        data = base64.b64decode(text, validate=False)
        if compressed:
            stream = zlib.decompressobj()
            data = stream.decompress(data, _MOST_TEXT)
            if stream.unconsumed_tail:
                raise ValueError("a mask that grows beyond use")
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"a mask that cannot be unpacked ({error})") from None
    PIL_Image = need("PIL.Image", "data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL_Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise ValueError("more pixels than are safe to open")
                opened.load()
                bands = np.asarray(opened.convert("RGBA") if opened.mode in ("P", "PA") else opened)
    except ValueError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise ValueError(f"a mask that is no PNG ({str(error)[:100]})") from None
    if bands.ndim == 2:
        return np.asarray(bands > 0, dtype=bool)
    clear = bands.shape[2] in (2, 4) and not bands[..., -1].all()
    return np.asarray(bands[..., -1] > 0 if clear else bands[..., :3].any(axis=2), dtype=bool)


def packed(mask: np.ndarray) -> str:
    """A bool (h, w) mask as LabelMe holds it."""
    held = io.BytesIO()
    need("PIL.Image", "data").fromarray(mask.astype(np.uint8) * 255).convert("1").save(held, format="PNG")
    return base64.b64encode(held.getvalue()).decode("ascii")


def placed_at(mask: np.ndarray, left: int, top: int, size_wh: tuple[int, int]) -> Rle:
    """A small mask put into an image of (width, height) px. Raises ValueError when it leaves the image, or is empty."""
    height, width = mask.shape
    if left < 0 or top < 0 or left + width > size_wh[0] or top + height > size_wh[1]:
        raise ValueError(f"a mask of {width}x{height} px at {left}, {top}, which leaves the image")
    if not mask.any():
        raise ValueError("a mask without a pixel")
    if size_wh[0] * size_wh[1] > MAX_PIXELS:
        raise ValueError("more pixels than are safe to open")
    whole = np.zeros((size_wh[1], size_wh[0]), dtype=bool)
    whole[top : top + height, left : left + width] = mask
    return rle_of(whole)
