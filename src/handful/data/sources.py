"""Whatever a user hands over, as images: a path, a folder, a video, a Pillow image, an array, a list of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, Union

import numpy as np

from handful.arrays import U8, StrPath
from handful.data.own_files import is_drawn
from handful.data.video import SUFFIXES as VIDEOS
from handful.data.video import Video
from handful.errors import DataError, HandfulError
from handful.image import MIN_SIDE_PX, Image, described, from_pillow, images_below, read_image
from handful.results import Origin

if TYPE_CHECKING:
    import PIL.Image

Source: TypeAlias = Union[StrPath, Image, U8, "PIL.Image.Image", Sequence[Union[StrPath, Image, U8, "PIL.Image.Image"]]]
OnError: TypeAlias = Callable[[str, HandfulError], None]

RGB_NOTE = "array, taken as RGB"


def images_of(source: Source, on_error: OnError | None = None) -> Iterator[tuple[Image, Origin]]:
    """Each image and what it is called, in order; read one at a time.

    on_error: called with an image's name and the reason where one cannot be read, and the next follows; without it the
    first one raises. Raises DataError, naming the image, or the folder that holds none; and for what is no image, with
    what to pass instead.
    """
    for name, read in _named(source):
        try:
            image = read()
        except HandfulError as error:
            if on_error is None:
                raise
            on_error(name, error)
            continue
        if isinstance(image, Image):
            yield image, _origin(name, image)
            continue
        for number, (time_s, rgb) in enumerate(image):
            frame = Image(rgb)
            yield frame, Origin(name, frame.size_wh, None, number, time_s, rgb)
        if image.why:
            broken = DataError(image.why)
            if on_error is None:
                raise broken
            on_error(name, broken)


def _origin(name: str, image: Image) -> Origin:
    return Origin(name, image.size_wh, image.path, None, None, None if image.path else image.rgb_u8, image.notes)


def _named(source: Source) -> Iterator[tuple[str, Callable[[], Image | Video]]]:
    """The name of each image or video, and how it is read."""
    if isinstance(source, (str, os.PathLike)):
        yield from _of_path(Path(source))
    elif isinstance(source, Image):
        yield str(source.path or "image"), partial(_itself, source)
    elif isinstance(source, np.ndarray):
        yield from _of_array(source, "array")
    elif _is_pillow(source):
        yield _name_of(source, "image"), partial(from_pillow, source)
    elif isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray)):
        if not len(source):
            raise DataError("got an empty list; wanted at least one image")
        for i, one in enumerate(source):
            if isinstance(one, np.ndarray):
                yield from _of_array(one, f"array {i}")
            elif isinstance(one, Image):
                yield str(one.path or f"image {i}"), partial(_itself, one)
            elif _is_pillow(one):
                yield _name_of(one, f"image {i}"), partial(from_pillow, one)
            elif isinstance(one, (str, os.PathLike)):
                yield from _of_path(Path(one))
            else:
                raise DataError(f"item {i} of the list is a {type(one).__name__}; {WANTED}")
    else:
        raise DataError(f"got {described(source) if hasattr(source, 'shape') else type(source).__name__}; {WANTED}")


WANTED = (
    "wanted a path to an image, a folder or a video, a Pillow image, a uint8 RGB array (h, w, 3), or a list of these"
)


def _of_path(path: Path) -> Iterator[tuple[str, Callable[[], Image | Video]]]:
    if path.suffix.lower() in VIDEOS and not path.is_dir():
        yield str(path), partial(Video, path)
    elif path.is_dir():
        found = images_below(path)
        files = [file for file in found if not is_drawn(str(file.parent), file.name)]
        if not files:
            raise DataError(f"{path} has no images in or below it, but what handful drew; wanted at least one")
        for file in files:
            yield str(file), partial(read_image, file)
    else:
        yield str(path), partial(read_image, path)


def _of_array(array: np.ndarray, name: str) -> Iterator[tuple[str, Callable[[], Image]]]:
    """One image, or the images of a batch."""
    if array.ndim == 4:
        for i, one in enumerate(array):
            yield f"{name}[{i}]", partial(from_array, one)
    else:
        yield name, partial(from_array, array)


def from_array(array: np.ndarray) -> Image:
    """An array (h, w, 3) uint8 as an Image; its notes say that it was taken as RGB.

    Raises DataError, with the cure, for gray, float, channels-first, four-channel and any other arrays, and below 8 px
    a side.
    """
    got = described(array)
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        if min(array.shape[:2]) < MIN_SIDE_PX:
            raise DataError(f"got {got}; wanted at least {MIN_SIDE_PX} px a side")
        return Image(np.ascontiguousarray(array), None, (RGB_NOTE,))
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        raise DataError(
            f"got a gray {got}; wanted RGB (h, w, 3); pass np.repeat(a.reshape(*a.shape[:2], 1), 3, axis=2)"
        )
    if array.ndim == 3 and array.shape[0] == 3:
        raise DataError(f"got channels first, {got}; wanted (h, w, 3); pass a.transpose(1, 2, 0)")
    if array.ndim == 3 and array.shape[2] == 4:
        raise DataError(f"got four channels, {got}; pass PIL.Image.fromarray(a), which is laid on white")
    if array.ndim == 3 and array.shape[2] == 3 and np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise DataError(f"got {got} with NaN or infinity in it; wanted uint8, 0 to 255; look at what computes it")
        unit = bool(array.size) and float(array.min()) >= 0 and float(array.max()) <= 1
        cure = "(a * 255).round().astype(np.uint8)" if unit else "a.round().clip(0, 255).astype(np.uint8)"
        raise DataError(f"got {got}; wanted uint8, 0 to 255; pass {cure}, without any normalization")
    raise DataError(f"got {got}; wanted uint8 RGB (h, w, 3), or a batch (n, h, w, 3)")


def _itself(image: Image) -> Image:
    return image


def _is_pillow(value: object) -> TypeGuard[PIL.Image.Image]:
    return any(c.__module__ == "PIL.Image" and c.__name__ == "Image" for c in type(value).__mro__)


def _name_of(picture: object, otherwise: str) -> str:
    return str(getattr(picture, "filename", "") or otherwise)
