"""What travels between the parts: frozen, checked once when made, NumPy only. Names carry unit, order and range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.image import Image as Image
from handful.image import described


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
            raise DataError(
                f"xyxy_px must be ({np.size(self.label)}, 4), one row a label, got {described(self.xyxy_px)}"
            )
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
            raise DataError(f"a mask must be uint8 or uint16 (h, w), got {described(a)}")

    @property
    def ignore(self) -> int:
        """The id that means "not labeled"."""
        return int(np.iinfo(self.ids.dtype).max)


@dataclass(frozen=True, eq=False)
class Rle:
    """Which pixels belong to one object, as run lengths down the columns, background first (COCO's rule).

    size_hw: (height, width) of the image in px. counts: the run lengths, or the same compressed as pycocotools does.
    """

    size_hw: tuple[int, int]
    counts: tuple[int, ...] | bytes


@dataclass(frozen=True, eq=False)
class Object:
    """One object that somebody marked in one image.

    label: its class. box_px: (left, top, right, bottom) in pixels of the image, right and bottom exclusive; None
    when nobody drew one. polygons_px: the outlines of its parts, each (n, 2) float64 x, y. rle: its pixels, when they
    were painted. crowd: the mark covers many objects of one class. track: the same object has the same number in every
    frame of a clip. attributes: what else was said of it, JSON values only ("area", "difficult", "id", ...).
    """

    label: str
    box_px: tuple[float, float, float, float] | None = None
    polygons_px: tuple[np.ndarray, ...] = ()
    rle: Rle | None = None
    crowd: bool = False
    track: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Category:
    """A class of a data set: its id (the value in masks, the category_id of COCO) and its name.

    parent: the group it belongs to. thing: countable (True), stuff (False) or unknown (None). attributes: what else was
    said of it, JSON values only ("keypoints", "skeleton", ...); two categories that differ only there are equal.
    """

    id: int
    name: str
    parent: str | None = None
    thing: bool | None = None
    rgb: tuple[int, int, int] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image on disk and what is known of it. None means nobody looked; an empty value means nothing is there.

    path: the image, or the file that holds it. name: which image of the data set this is: its path inside its split,
    with forward slashes and suffix. split: "train", "val", "test" or another name; None when the data set has none.
    label: the class of the whole image. objects: what is marked in it. mask: a call that reads the class of each
    pixel (ids are those of the data set's categories); mask_path: where from. size_wh: (width, height) in px as the
    labels say, which the image itself may contradict. clip and frame: its place in a clip. attributes: what else was
    said of the image, JSON values only. pixels: a call that decodes the image, when `path` holds many; where it has
    a method `encoded`, that gives the image's own file as (bytes, suffix). dropped: how many labels its file has that
    could not be used; where that is all of them, objects is None: the image is not empty.
    """

    path: Path
    label: str | None = None
    objects: tuple[Object, ...] | None = None
    mask: Callable[[], Mask] | None = None
    name: str = ""
    split: str | None = None
    size_wh: tuple[int, int] | None = None
    mask_path: Path | None = None
    clip: str | None = None
    frame: int | None = None
    license: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    pixels: Callable[[], Image] | None = None
    dropped: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, read as they are asked for, and the classes their labels refer to. Iterating starts anew each time.

    format: the name of the format it was read from. root: its folder. categories: every class, unique ids and names.
    count: how many samples there are. info: what the files say of the whole set, JSON values only ("licenses", ...).
    """

    format: str
    root: Path
    categories: tuple[Category, ...]
    samples: Callable[[], Iterator[Sample]]
    count: int
    info: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in order of time: rgb_u8 (t, h, w, 3) uint8; fps in frames a second, None when unknown."""

    rgb_u8: np.ndarray
    fps: float | None = None

    def __post_init__(self) -> None:
        a = self.rgb_u8
        if not isinstance(a, np.ndarray) or a.dtype != np.uint8 or a.ndim != 4 or a.shape[3] != 3 or not a.size:
            raise DataError(f"a clip must be uint8 (t, h, w, 3) in RGB order, got {described(a)}")
        if self.fps is not None and not self.fps > 0:
            raise DataError(f"fps must be above 0, got {self.fps}")
