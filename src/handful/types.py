"""What travels between the parts: frozen, checked once when made, NumPy only. Names carry unit, order and range."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.errors import DataError


def _got(value: object) -> str:
    shape, dtype = getattr(value, "shape", "unknown"), getattr(value, "dtype", "unknown")
    return f"{type(value).__name__} of shape {shape} and dtype {dtype}"


@dataclass(frozen=True, eq=False)
class Image:
    """A still image.

    rgb_u8: (h, w, 3) uint8, red first, 0..255. path: where it came from, if from a file.
    notes: what had to be done to read it as such ("rotated as its EXIF tag says"), one short clause each.
    Raises DataError for any other array.
    """

    rgb_u8: np.ndarray
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        a = self.rgb_u8
        if not isinstance(a, np.ndarray) or a.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3 or not a.size:
            raise DataError(f"an image must be uint8 (h, w, 3) in RGB order, got {_got(a)}")

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb_u8.shape[1], self.rgb_u8.shape[0]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one image.

    xyxy_px: (n, 4) float32: left, top, right, bottom in pixels of the original image, right and bottom exclusive.
    label: (n,) int64 class ids. Raises DataError for other shapes, NaN, or a box without area.
    """

    xyxy_px: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        if np.ndim(self.label) != 1 or np.shape(self.xyxy_px) != (len(self.label), 4):
            raise DataError(f"xyxy_px must be ({np.size(self.label)}, 4), one row a label, got {_got(self.xyxy_px)}")
        if not np.isfinite(self.xyxy_px).all():
            raise DataError("xyxy_px holds NaN or infinity")
        flat = (self.xyxy_px[:, 2:] <= self.xyxy_px[:, :2]).any(axis=1)
        if flat.any():
            i = int(flat.argmax())
            raise DataError(f"box {i} has no area: {self.xyxy_px[i].tolist()}; wanted left < right and top < bottom")


@dataclass(frozen=True, eq=False)
class Mask:
    """Label ids of each pixel: (h, w) uint8 or uint16; the largest value (255 or 65535) means "ignore"."""

    ids: np.ndarray

    def __post_init__(self) -> None:
        a = self.ids
        if not isinstance(a, np.ndarray) or a.ndim != 2 or a.dtype not in (np.uint8, np.uint16) or not a.size:
            raise DataError(f"a mask must be uint8 or uint16 (h, w), got {_got(a)}")

    @property
    def ignore(self) -> int:
        """The id that means "not labelled"."""
        return int(np.iinfo(self.ids.dtype).max)


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo on disk and what is known of it. None means nobody looked; an empty value means nothing is there."""

    path: Path
    label: str | None = None
    boxes: Boxes | None = None
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in order of time: rgb_u8 (t, h, w, 3) uint8; fps in frames a second, None when unknown."""

    rgb_u8: np.ndarray
    fps: float | None = None

    def __post_init__(self) -> None:
        a = self.rgb_u8
        if not isinstance(a, np.ndarray) or a.dtype != np.uint8 or a.ndim != 4 or a.shape[3] != 3 or not a.size:
            raise DataError(f"a clip must be uint8 (t, h, w, 3) in RGB order, got {_got(a)}")
        if self.fps is not None and not self.fps > 0:
            raise DataError(f"fps must be above 0, got {self.fps}")
