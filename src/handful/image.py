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

from handful import heif
from handful.arrays import U8
from handful.errors import DataError
from handful.image_bytes import HEAD, PLAIN, Scale, ends_in_zeros, kind_of, pages_of, scale_of, whole_jpeg
from handful.pick import need, present
from handful.words import counted, shell

if TYPE_CHECKING:
    import PIL.Image

MIN_SIDE_PX = 8
MOST_PIXELS = 89_478_485  # where Pillow begins to warn: a small file can hold more than the memory does
MOST_CAMERA_PIXELS = 256_000_000  # a phone has 108 or 200; of a JPEG or HEIC that size the file is large too
NEAR_WHITE = 240
NO_END = "its end marker was missing, its pixels are all there"
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
HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))  # read with handful[video]


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

        Gray, palette, CMYK, 12- and 16-bit photographs are converted, transparent ones laid on white; `notes` says so.
        HEIC needs `handful[video]`. Raises DataError, naming the file, for one that is missing, no image, truncated,
        animated, of several pages, or smaller than 8 px a side.
        """
        return decode(Path(path)).image


def read_image(path: Path) -> Image:
    """Read one still photograph.

    Returns an Image: RGB uint8 (h, w, 3), turned as its EXIF orientation says. Gray, palette, CMYK, 12- and 16-bit
    images are converted, transparent ones laid on white; `notes` says so. Raises DataError, naming the file, for
    a file that is missing, not an image, truncated, animated, of several pages, smaller than 8 px a side, too large
    for the memory (JPEG and HEIC: 256 megapixels; others: 89), or float-valued.
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

    What the file is, its bytes say, never its suffix. data: the file's bytes, when they are already here. small_px: a
    JPEG may come out smaller, its sides at least this, which is several times quicker and still reads every byte;
    size_wh is the true size all the same.
    """
    path = Path(path)
    pil = need("PIL.Image", "teach")
    held: Path | io.BytesIO = path if data is None else io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            # its pixels are counted below. Pillow warns of odd EXIF and palettes; what matters is decided below
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                return _decoded(pil, held, path, small_px)
            except _Endless as error:
                encoded = path.read_bytes() if data is None else data
                whole = whole_jpeg(encoded, need("PIL.JpegImagePlugin", "teach"))
                if whole is None:
                    raise DataError(f"{path} cannot be read as an image ({error}); replace or remove it") from None
                return _decoded(pil, io.BytesIO(whole), path, small_px, () if encoded.startswith(whole) else (NO_END,))
            except pil.UnidentifiedImageError:
                return _unidentified(path, data)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; wanted an image there") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; wanted an image") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(f"{path} cannot be read as an image ({error}); replace or remove it") from error


class _Endless(Exception):
    """A JPEG that stops before its end marker."""


def _decoded(
    pil: Any, held: Path | io.BytesIO, path: Path, small_px: int | None, known: tuple[str, ...] | None = None
) -> Decoded:
    """What Pillow reads. known: notes to begin with, of a JPEG whose end has been looked at."""
    try:
        opened = pil.open(held)
    except pil.DecompressionBombError:  # twice its limit; a camera's JPEG is allowed more
        try:
            opened = need("PIL.JpegImagePlugin", "teach").JpegImageFile(held)
        except SyntaxError:
            raise _too_many(path, MOST_PIXELS) from None
    with opened:
        stored, kind, mode = opened.size, opened.format or "", opened.mode
        jpeg = kind in ("JPEG", "MPO")
        most = MOST_CAMERA_PIXELS if jpeg else MOST_PIXELS
        if stored[0] * stored[1] > most:
            raise _too_many(path, most)
        if not jpeg:  # an MPO's first picture is the image: phones put a depth map or a preview behind it
            _one_picture(opened, str(path), "save one frame as PNG", "save the page you mean as PNG")
        else:
            if known is None and ends_in_zeros(opened.fp):
                raise _Endless("its end is zero bytes: the copy broke off")
            if small_px is not None:
                opened.draft("RGB" if mode != "L" else "L", (small_px, small_px))
        scale = PLAIN if jpeg else scale_of(opened)
        try:
            opened.load()
        except OSError as error:
            if jpeg and known is None and "truncated" in str(error):
                raise _Endless(str(error)) from None
            raise
        tag = opened.getexif().get(0x0112, 1)
        # it copies even when nothing turns
        picture = opened if tag == 1 else need("PIL.ImageOps", "teach").exif_transpose(opened)
        rgb, notes = _to_rgb(picture, path, scale)
    orientation = tag if tag in range(1, 9) else 1
    return _checked(path, rgb, (*(known or ()), *notes), stored, orientation, kind, mode)


def _checked(
    path: Path, rgb: np.ndarray, notes: tuple[str, ...], stored: tuple[int, int], orientation: int, kind: str, mode: str
) -> Decoded:
    width, height = stored if orientation < 5 else stored[::-1]
    if min(width, height) < MIN_SIDE_PX:
        raise DataError(f"{path} is {width}x{height} px; wanted at least {MIN_SIDE_PX} px a side; replace or remove it")
    if orientation > 1:
        notes = ("turned as its EXIF orientation says", *notes)
    image = Image(np.ascontiguousarray(rgb), path, notes)
    return Decoded(image, (width, height), stored, orientation, kind, mode)


def _too_many(path: Path, most: int) -> TooManyPixels:
    return TooManyPixels(f"{path} has too many pixels to open safely; scale it below {most // 1_000_000} megapixels")


def _one_picture(opened: Any, name: str, cure: str, page_cure: str) -> None:
    """Raises DataError for a file of several pictures, saying what they are."""
    frames = getattr(opened, "n_frames", 1)
    if opened.format == "TIFF":
        pages = pages_of(opened)
        if not pages:
            raise DataError(f"{name} is a camera's raw file, or a TIFF that begins with a small copy of its image; "
                            "export it as JPEG or PNG")  # fmt: skip
        if pages > 1:
            raise DataError(f"{name} is a TIFF of {counted(pages, 'page')}; wanted one image; {page_cure}")
    elif frames > 1 and opened.format in ("GIF", "WEBP", "PNG", "AVIF"):
        raise DataError(f"{name} is animated ({counted(frames, 'frame')}); wanted a still image; {cure}")
    elif frames > 1 and opened.format != "MPO":
        raise DataError(f"{name} holds {counted(frames, 'picture')} ({opened.format}); wanted one; {cure}")


def _unidentified(path: Path, data: bytes | None) -> Decoded:
    """What Pillow does not know: HEIC is read, other kinds are named."""
    if data is None:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    else:
        head = data[:HEAD]
    kind = kind_of(head)
    if kind == "HEIF":
        return _of_heif(path, path.read_bytes() if data is None else data)
    if kind == "AVIF":
        cure = "export it as JPEG or PNG" if has_avif() else "run: pip install 'pillow>=11.3', or export it as PNG"
        raise DataError(f"{path} is an AVIF image that cannot be read; {cure}")
    if kind.endswith("video"):
        raise DataError(f"{path} is {kind}, wanted an image; give it its own suffix, or have its frames saved as PNG")
    if not kind or kind.isupper():  # an image's beginning, and nothing behind it that could be read
        reason = f"a {kind} that is damaged" if kind else "not an image, or of an unknown kind"
        raise DataError(f"{path} cannot be read as an image ({reason}); replace or remove it")
    raise DataError(f"{path} cannot be read as an image (it is {kind}); replace it by one in JPEG or PNG, or remove it")


def optional_kinds() -> str:
    """Which kinds are read here that are not read everywhere: a verdict on images holds for these."""
    return " ".join(("HEIF",) * present("av") + ("AVIF",) * has_avif())


def has_avif() -> bool:
    """Whether this Pillow reads AVIF: from 11.3 on its wheels do."""
    return bool(need("PIL.features", "teach").check("avif"))


def _of_heif(path: Path, data: bytes) -> Decoded:
    try:
        found = heif.decode(data, MOST_CAMERA_PIXELS)
    except heif.Unreadable as error:
        raise DataError(f"{path} cannot be read as an image ({error}); replace or remove it") from None
    except heif.TooLarge:
        raise _too_many(path, MOST_CAMERA_PIXELS) from None
    except heif.NoDecoder as error:
        raise DataError(f"{path} {error}") from None
    rgb, notes = found.rgb_u8, tuple[str, ...]()
    if found.alpha_u8 is not None and found.alpha_u8.min() < 255:
        rgb, notes = _on_white(rgb, found.alpha_u8)
    if found.others:
        notes = (*notes, f"the main one of {counted(found.others + 1, 'picture')}")
    mode = "RGB" if found.alpha_u8 is None else "RGBA"
    size_wh = rgb.shape[1], rgb.shape[0]  # no reader shows it before it is turned
    return _checked(path, rgb, notes, size_wh, 1, "HEIF", mode)


def from_pillow(picture: PIL.Image.Image) -> Image:
    """A Pillow image of any mode as an Image, turned as its EXIF orientation says; `notes` tells what was done.

    Raises DataError for floating-point values, an animation or several pages, and a picture below 8 px a side.
    """
    ImageOps = need("PIL.ImageOps", "teach")
    name = str(getattr(picture, "filename", "") or "the Pillow image")
    _one_picture(picture, name, "pass one frame: image.copy()", "pass one page: image.copy()")
    scale = scale_of(picture)  # first: EXIF may lie behind the pixels, and loads them
    tag = picture.getexif().get(0x0112, 1)
    upright = ImageOps.exif_transpose(picture) if tag != 1 else picture
    rgb, notes = _to_rgb(upright, Path(name), scale)
    if min(rgb.shape[:2]) < MIN_SIDE_PX:
        raise DataError(f"{name} is {rgb.shape[1]}x{rgb.shape[0]} px; wanted at least {MIN_SIDE_PX} px a side")
    turned = ("turned as its EXIF orientation says",) if tag in range(2, 9) else ()
    return Image(np.ascontiguousarray(rgb), None, (*turned, *notes))


def _to_rgb(picture, path: Path, scale: Scale = PLAIN) -> tuple[np.ndarray, tuple[str, ...]]:  # type: ignore[no-untyped-def]
    mode = picture.mode
    key = picture.info.get("transparency")
    if key is not None and mode in ("RGB", "L", "1") and (clear := _clear(np.asarray(picture), key, scale)) is not None:
        rgb, notes = _on_white(np.asarray(picture.convert("RGB")), clear)
        return rgb, (*notes, *(("gray, read as RGB",) if mode != "RGB" else ()))
    if mode == "RGB":
        return np.asarray(picture), ()
    if mode in ("L", "1"):
        return np.asarray(picture.convert("RGB")), ("gray, read as RGB",)
    if mode == "CMYK":
        return np.asarray(picture.convert("RGB")), ("CMYK, converted without a color profile",)
    if mode.startswith("I"):
        # Pillow's own conversion clips at 255, which turns a 16-bit image white
        gray = np.asarray(picture)
        if gray.min() < 0 or gray.max() > scale.top:
            wanted = "8 or 16 bits" if scale.bits == 16 else f"{scale.bits} bits"
            raise DataError(f"{path} has values {gray.min()} to {gray.max()}; wanted {wanted}; convert it")
        gray8 = (gray.astype(np.uint32) * 255 // scale.top).astype(np.uint8)
        gray8 = 255 - gray8 if scale.black_is_top else gray8
        rgb = np.repeat(gray8[..., None], 3, axis=2)
        told = (f"{scale.bits}-bit, scaled to 8",)
        clear = None if key is None else _clear(gray, key, scale)
        return (rgb, told) if clear is None else (_on_white(rgb, clear)[0], (*told, *_on_white(rgb, clear)[1]))
    if mode == "F":
        raise DataError(f"{path} holds floating-point values of unknown range; convert it to 8 or 16 bits")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or (key is not None and mode == "P"):
        rgba = np.asarray(picture.convert("RGBA"))
        if rgba[..., 3].min() == 255:
            return rgba[..., :3], ()
        return _on_white(rgba[..., :3], rgba[..., 3:])
    return np.asarray(picture.convert("RGB")), (() if mode == "P" else (f"{mode}, converted to RGB",))


def _clear(pixels: np.ndarray, key: object, scale: Scale) -> np.ndarray | None:
    """Alpha (h, w, 1) uint8, 0 where a pixel has the value that a file calls transparent; None when no pixel has."""
    try:
        values = np.array(key, dtype=np.int64)
    except (TypeError, ValueError):
        return None
    values = values >> -scale.key_by if scale.key_by < 0 else values * scale.key_by
    same = pixels == (values > 0 if pixels.dtype == bool else values)
    same = same.all(axis=-1) if pixels.ndim == 3 else same
    return np.where(same, 0, 255).astype(np.uint8)[..., None] if same.any() else None


def _on_white(rgb: np.ndarray, alpha_u8: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """What hides under full transparency is arbitrary, so it is covered, not revealed."""
    alpha = alpha_u8.astype(np.uint16)
    white = ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if white.min() >= NEAR_WHITE:
        return white, ("transparent, laid on white, where nothing of it shows; lay it on a ground of another color",)
    return white, ("transparent, laid on white",)


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
        packed = str(folder).lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2"))
        unpack = f"; unpack it: handful data convert {shell(folder)} FOLDER --to folder" if packed else ""
        raise DataError(f"{folder} is a file; wanted a folder of images{unpack}") from None
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
