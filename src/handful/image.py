"""The Image, and how a photograph of a phone, a scanner or the web becomes one: upright RGB, or the reason why not."""

from __future__ import annotations

import base64
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handful.arrays import U8
from handful.errors import DataError
from handful.pick import need
from handful.words import counted

if TYPE_CHECKING:
    import PIL.Image

MIN_SIDE_PX = 8
SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".jpe",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".ppm",
        ".pgm",
    )
)
# Named so that the images an iPhone makes are refused with a reason instead of being passed over in silence.
HEIC_SUFFIXES = frozenset((".heic", ".heif"))


def described(value: object) -> str:
    """What an array is, for a message: "ndarray of shape (4, 4) and dtype uint8"."""
    shape, dtype = getattr(value, "shape", "unknown"), getattr(value, "dtype", "unknown")
    return f"{type(value).__name__} of shape {shape} and dtype {dtype}"


@dataclass(frozen=True, eq=False)
class Image:
    """A still image.

    rgb_u8: (h, w, 3) uint8, red first, 0..255. path: where it came from, if from a file.
    notes: what had to be done to read it as such ("rotated as its EXIF tag says"), one short clause each.
    Raises DataError for any other array.
    """

    rgb_u8: U8
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        a = self.rgb_u8
        if not isinstance(a, np.ndarray) or a.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3 or not a.size:
            raise DataError(f"an image must be uint8 (h, w, 3) in RGB order, got {described(a)}")

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb_u8.shape[1], self.rgb_u8.shape[0]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Image:
        """Read one still photograph from a file: upright, RGB, 8 bits.

        Grey, palette, CMYK and 16-bit photographs are converted, transparent ones laid on white; `notes` says so.
        Raises DataError, naming the file, for one that is missing, no image, truncated, animated, or smaller than 8 px
        a side.
        """
        return decode(Path(path)).image


def read_image(path: Path) -> Image:
    """Read one still photograph.

    Returns an Image: RGB uint8 (h, w, 3), turned as its EXIF orientation says. Grey, palette, CMYK and 16-bit
    images are converted, transparent ones laid on white; `notes` says so. Raises DataError, naming the file, for
    a file that is missing, not an image, truncated, animated, smaller than 8 px a side, or float-valued.
    """
    return decode(path).image


@dataclass(frozen=True)
class Decoded:
    """An image and what its file says: the image as read, upright size, size in the file before turning (px, width
    first), EXIF orientation (1 to 8), Pillow's names of the file's format and color mode.
    """

    image: Image
    size_wh: tuple[int, int]
    stored_wh: tuple[int, int]
    orientation: int
    format: str
    mode: str


class TooManyPixels(DataError):
    """An image that would need more memory than is safe."""


def decode(path: Path, *, data: bytes | None = None, small_px: int | None = None) -> Decoded:
    """Read one still photograph with what its file says; the rules and errors are those of read_image.

    data: the file's bytes, when they are already here. small_px: a JPEG may come out smaller, its sides at least
    this, which is several times quicker and still reads every byte.
    """
    PIL_Image = need("PIL.Image", "teach")
    ImageOps = need("PIL.ImageOps", "teach")
    path = Path(path)
    if path.suffix.lower() in HEIC_SUFFIXES:
        raise DataError(f"{path} is a HEIC image, which is not read here; export it as JPEG or PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL_Image.DecompressionBombWarning)
            # Pillow warns of odd EXIF and palettes; what matters to the pixels is decided below
            warnings.simplefilter("ignore", UserWarning)
            with PIL_Image.open(path if data is None else io.BytesIO(data)) as opened:
                stored, kind, mode = opened.size, opened.format or "", opened.mode
                frames = getattr(opened, "n_frames", 1)
                # MPO is what many phones write for a JPEG with a depth map or preview: the first picture is the image
                if frames > 1 and opened.format != "MPO":
                    raise DataError(
                        f"{path} is animated ({counted(frames, 'frame')}); wanted a still image; save one frame as PNG"
                    )
                if small_px is not None and kind == "JPEG":
                    opened.draft("RGB" if mode != "L" else "L", (small_px, small_px))
                opened.load()
                tag = opened.getexif().get(0x0112, 1)
                picture = ImageOps.exif_transpose(opened) if tag != 1 else opened  # it copies even when nothing turns
                rgb, notes = _to_rgb(picture, path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; wanted an image there") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; wanted an image") from None
    except (PIL_Image.DecompressionBombWarning, PIL_Image.DecompressionBombError):
        raise TooManyPixels(f"{path} has too many pixels to open safely; scale it below 89 megapixels") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = "not an image, or of an unknown kind" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{path} cannot be read as an image ({reason}); replace or remove it") from error
    orientation = tag if tag in range(1, 9) else 1
    width, height = stored if orientation < 5 else stored[::-1]
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(f"{path} is {width}x{height} px; wanted at least {MIN_SIDE_PX} px a side; replace or remove it")
    if orientation > 1:
        notes = ("turned as its EXIF orientation says", *notes)
    image = Image(np.ascontiguousarray(rgb), path, notes)
    return Decoded(image, (width, height), stored, orientation, kind, mode)


def from_pillow(picture: PIL.Image.Image) -> Image:
    """A Pillow image of any mode as an Image, turned as its EXIF orientation says; `notes` tells what was done.

    Raises DataError for floating-point values, an animation, and a picture below 8 px a side.
    """
    ImageOps = need("PIL.ImageOps", "teach")
    name = str(getattr(picture, "filename", "") or "the Pillow image")
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise DataError(f"{name} is animated; wanted a still image; pass one frame: image.copy()")
    tag = picture.getexif().get(0x0112, 1)
    upright = ImageOps.exif_transpose(picture) if tag != 1 else picture
    rgb, notes = _to_rgb(upright, Path(name))
    if min(rgb.shape[:2]) < MIN_SIDE_PX:
        raise DataError(f"{name} is {rgb.shape[1]}x{rgb.shape[0]} px; wanted at least {MIN_SIDE_PX} px a side")
    turned = ("turned as its EXIF orientation says",) if tag in range(2, 9) else ()
    return Image(np.ascontiguousarray(rgb), None, (*turned, *notes))


def _to_rgb(picture, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:  # type: ignore[no-untyped-def]
    mode = picture.mode
    if mode == "RGB":
        return np.asarray(picture), ()
    if mode in ("L", "1"):
        return np.asarray(picture.convert("RGB")), ("gray, read as RGB",)
    if mode == "CMYK":
        return np.asarray(picture.convert("RGB")), ("CMYK, converted without a color profile",)
    if mode.startswith("I"):
        # Pillow's own conversion clips at 255, which turns a 16-bit image white
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError(f"{path} has values {grey.min()} to {grey.max()}; wanted 8 or 16 bits; convert it")
        grey8 = (grey.astype(np.uint32) // 257).astype(np.uint8)
        return np.repeat(grey8[..., None], 3, axis=2), ("16-bit, scaled to 8",)
    if mode == "F":
        raise DataError(f"{path} holds floating-point values of unknown range; convert it to 8 or 16 bits")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"))
        alpha = rgba[..., 3:].astype(np.uint16)
        if alpha.min() == 255:
            return rgba[..., :3], ()
        # what hides under full transparency is arbitrary, so it is covered, not revealed
        white = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return white.astype(np.uint8), ("transparent, laid on white",)
    return np.asarray(picture.convert("RGB")), (() if mode == "P" else (f"{mode}, converted to RGB",))


def fit(rgb_u8: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Squash an image to exactly (h, w): bilinear, antialiased, aspect not kept. uint8 (h, w, 3) in and out."""
    PIL_Image = need("PIL.Image", "teach")
    height, width = size_hw
    if rgb_u8.shape[:2] == (height, width):
        return rgb_u8
    return np.array(PIL_Image.fromarray(rgb_u8).resize((width, height), PIL_Image.Resampling.BILINEAR))


def data_uri(picture: Any, quality: int) -> str:
    """A Pillow picture as a JPEG inside an address, for a page without outside links. quality: Pillow's, 1 to 95."""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode("ascii")


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """(images, other files) directly in a folder, each sorted by name; hidden files are passed over."""
    try:
        files = sorted(p for p in Path(folder).iterdir() if p.is_file() and not p.name.startswith("."))
    except FileNotFoundError:
        raise DataError(f"{folder} does not exist; wanted a folder of images") from None
    except NotADirectoryError:
        raise DataError(f"{folder} is a file; wanted a folder of images") from None
    photos = [p for p in files if p.suffix.lower() in SUFFIXES | HEIC_SUFFIXES]
    return photos, [p for p in files if p not in set(photos)]


def images_below(place: Path) -> list[Path]:
    """Every image in a folder and the folders below it, sorted; or the one image named. Raises DataError if none."""
    place = Path(place)
    if place.is_file():
        return [place]
    list_images(place)  # raises with the reason when it is not a folder
    found = sorted(p for p in place.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES | HEIC_SUFFIXES)
    if not found:
        raise DataError(f"{place} has no images in or below it; wanted at least one")
    return found
