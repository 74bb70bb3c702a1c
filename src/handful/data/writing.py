"""Putting images and text where a format wants them; the image's bytes are copied, never encoded again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from handful.data.finding import SEE_ALL, stop
from handful.data.paths import safe_name
from handful.data.reading import upright_size
from handful.errors import DataError
from handful.image import read_image
from handful.pick import need
from handful.types import Dataset, Image, Sample


def image_of(sample: Sample) -> Image:
    """The sample's image as RGB. Raises DataError, naming the file, when it cannot be read."""
    return sample.pixels() if sample.pixels is not None else read_image(sample.path)


def own_size(sample: Sample) -> tuple[int, int]:
    """(width, height) in px of a sample's image, upright, from the image. Raises DataError when it cannot be read."""
    if sample.pixels is not None:
        return image_of(sample).size_wh
    size = upright_size(sample.path, sample.path.parent, stop)
    if size is None:
        raise DataError(f"{sample.path} cannot be read as an image; {SEE_ALL}")
    return size


def size_for_writing(sample: Sample) -> tuple[int, int]:
    """(width, height) in px of a sample's image, as its labels say, else its own."""
    return own_size(sample) if sample.size_wh is None else sample.size_wh


class Writer:
    """Writes into a folder that nobody sees before it is whole (files.replacing_folder).

    link: make hard links to the images instead of copies, where the file system allows: quick and without space, but
    a change to one is a change to both.
    """

    def __init__(self, folder: Path, *, link: bool = False) -> None:
        self.folder, self.link = Path(folder), link
        self._taken: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """Where a relative name goes, its folders made. Raises DataError for a name that would leave the folder."""
        safe = safe_name(name)
        if safe is None:
            raise DataError(f"{name!r} would be written outside {self.folder}; rename it")
        path = self.folder / safe
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, sample: Sample, name: str) -> str:
        """Place a sample's image under a relative name; the name it got: it ends in .png where pixels were decoded, and
        as the image's own file does where many lie in one.

        Raises DataError when two samples want the same name.
        """
        held = None if sample.pixels is None else getattr(sample.pixels, "encoded", None)
        data, suffix = (None, ".png") if held is None else held()
        if sample.pixels is not None:
            name = str(PurePosixPath(name).with_suffix(suffix))
        path = self.path(name)
        if name in self._taken:
            raise DataError(f"{sample.path} and {self._taken[name]} would both be written as {name}; rename one")
        self._taken[name] = str(sample.path)
        if data is not None:
            path.write_bytes(data)
            return name
        if sample.pixels is not None:
            need("PIL.Image", "data").fromarray(sample.pixels().rgb_u8).save(path, format="PNG", compress_level=1)
            return name
        try:
            if self.link:
                os.link(os.path.realpath(sample.path), path)
                return name
        except OSError:
            pass  # another disk, or a file system without links: a copy is as good
        try:
            shutil.copyfile(sample.path, path)
        except OSError as error:
            raise DataError(f"{sample.path} could not be copied ({error.strerror or error})") from error
        return name

    def text(self, name: str, text: str) -> None:
        """Write UTF-8 text with Unix line ends. Raises DataError for a name in it that is no text."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            bad = text[max(0, error.start - 20) : error.end]
            raise DataError(f"{bad!r} cannot be written into {name} as UTF-8; rename it") from error
        self.path(name).write_bytes(data)


def stems_are_unique(dataset: Dataset) -> bool:
    """Whether no two samples of a split differ in their suffix only: formats that name labels by stem need it."""
    seen = set()
    for sample in dataset:
        key = (sample.split, str(PurePosixPath(sample.name).with_suffix("")))
        if key in seen:
            return False
        seen.add(key)
    return True
