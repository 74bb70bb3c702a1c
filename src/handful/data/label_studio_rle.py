"""Label Studio's run lengths of a painted mask: bits in bytes, as github.com/thi-ng/umbrella (rle-pack) packs them.

32 bits say how many values there are (four a pixel, RGBA, row by row), 5 bits the size of a value less one, four times
4 bits the sizes of counts less one. Then blocks: one bit (1: one value repeated, 0: as many values), two bits which
size the count has, the count less one, the value or values.
"""

from __future__ import annotations

import itertools

import numpy as np

from handful.data.masks import MAX_PIXELS

_SIZES = (3, 4, 8, 16)
_CHANNELS = 4


def unpacked(numbers: object, size_wh: tuple[int, int]) -> np.ndarray:
    """The bool (h, w) mask of a list of bytes: where it is not transparent. Raises ValueError."""
    width, height = size_wh
    if not isinstance(numbers, list) or not set(map(type, numbers)) <= {int}:
        raise ValueError("run lengths that are no list of numbers")
    if width * height > MAX_PIXELS:
        raise ValueError("a mask with more pixels than is safe to open")
    try:
        bits = _Bits(bytes(numbers))
    except (ValueError, OverflowError):
        raise ValueError("run lengths that are no bytes") from None
    count = bits.read(32)
    if count != _CHANNELS * width * height:
        raise ValueError(f"run lengths of {count} values; wanted {_CHANNELS * width * height} for {width}x{height} px")
    word = bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    found = np.zeros(count, dtype=np.uint8)
    at = 0
    while at < count:
        repeated = bits.read(1)
        end = at + 1 + bits.read(sizes[bits.read(2)])
        if end > count:
            raise ValueError("run lengths that leave the image")
        if repeated:
            found[at:end] = min(bits.read(word), 255)
        else:
            for i in range(at, end):
                found[i] = min(bits.read(word), 255)
        at = end
    return np.asarray(found.reshape(height, width, _CHANNELS)[..., 3] > 0)


class _Bits:
    """Bits of bytes, the highest first. Raises ValueError at their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, count: int) -> int:
        first, last = self.at // 8, (self.at + count + 7) // 8
        self.at += count
        if last > len(self.data):
            raise ValueError("run lengths that are cut short")
        value = int.from_bytes(self.data[first:last], "big") >> (last * 8 - self.at)
        return value & ((1 << count) - 1)


def packed(mask: np.ndarray) -> list[int]:
    """A bool (h, w) mask as a list of bytes."""
    flat = np.repeat(np.asarray(mask, dtype=bool).ravel(), _CHANNELS)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges, [flat.size])).tolist()
    parts = [f"{flat.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, end in itertools.pairwise(starts):
        value = "1" * 8 if flat[start] else "0" * 8
        while start < end:
            run = min(end - start, 1 << _SIZES[-1])
            which = next(i for i, size in enumerate(_SIZES) if run <= 1 << size)
            parts.append(f"1{which:02b}{run - 1:0{_SIZES[which]}b}{value}")
            start += run
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
