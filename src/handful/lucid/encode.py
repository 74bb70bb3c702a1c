"""Frames and masks as bytes: JPEG, and PNG with the ids as palette indices. The same input gives the same bytes."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import cv2
import numpy as np

from handful.data.masks import voc_palette
from handful.errors import DataError

_SIGNATURE_AND_HEADER = 33  # 8 bytes of signature, 25 of the IHDR chunk
_COLOR_TYPE = 25
_INDEXED = 3


def jpeg(rgb_u8: np.ndarray, quality: int = 95, comment: str = "") -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file. quality: 1 to 100. comment: kept in the file."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"a frame of shape {rgb_u8.shape} could not be encoded as JPEG")
    held, said = data.tobytes(), comment.encode()
    return held[:2] + b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said + held[2:] if said else held


def png(ids: np.ndarray) -> bytes:
    """(h, w) ids as a PNG file: uint8 with DAVIS's and VOC's palette, uint16 as gray values."""
    done, data = cv2.imencode(".png", ids, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(f"a mask of shape {ids.shape} could not be encoded as PNG")
    raw = data.tobytes()
    if ids.dtype != np.uint8:
        return raw
    # OpenCV writes no palettes; gray and indexed pictures differ only in the header and in the table after it
    header = raw[12:_COLOR_TYPE] + bytes([_INDEXED]) + raw[_COLOR_TYPE + 1 : 29]
    return raw[:12] + header + struct.pack(">I", zlib.crc32(header)) + _palette() + raw[_SIGNATURE_AND_HEADER:]


@cache
def _palette() -> bytes:
    chunk = b"PLTE" + voc_palette()
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
