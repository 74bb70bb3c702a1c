"""A file is what its bytes say: HEIC, transparency, bit depths, pages, ends that are missing, names that are wrong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful import heif, image
from handful.curate.check import check
from handful.curate.image_metadata import read_metadata
from handful.errors import DataError
from handful.image import NO_END, TooManyPixels, from_pillow, has_avif, read_image
from tests.heic import box, heic

HIGH, WIDE = 96, 160


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    y, x = np.mgrid[:HIGH, :WIDE]
    made = np.stack([x * 1.5, y * 2.5, 128 + 100 * np.sin(x / 30 + y / 20)], -1).astype(np.uint8)
    made[8:30, 10:60] = (220, 30, 30)
    return made


def png(path: Path, rows: np.ndarray, bits: int, color: int, trns: bytes) -> Path:
    """rows: (h, bytes a row) uint8 as PNG stores them; color: PNG's color type."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    high, wide = rows.shape[0], rows.shape[1] * 8 // bits // (3 if color == 2 else 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, bits, color, 0, 0, 0))
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", trns) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def tiff(path: Path, data: bytes, wide: int, high: int, bits: int, black: int = 1, more: tuple[int, ...] = ()) -> Path:
    """A gray TIFF. black: 1, or 0 where the largest value is black. more: a tag and its value."""
    tags = {256: wide, 257: high, 258: bits, 259: 1, 262: black, 273: 8, 277: 1, 278: high, 279: len(data)}
    tags |= dict([more]) if more else {}  # type: ignore[list-item]
    offset = 8 + len(data) + len(data) % 2
    out = (b"II*\0" + struct.pack("<I", offset) + data).ljust(offset, b"\0") + struct.pack("<H", len(tags))
    for tag, value in sorted(tags.items()):
        out += struct.pack("<HHII", tag, 4, 1, value)
    path.write_bytes(out + bytes(4))
    return path


# -- HEIC -------------------------------------------------------------------------------------------------------------

TURNED: dict[str, tuple[dict[str, Any], Any]] = {
    "one image": ({}, lambda a: a),
    "tiles": ({"tile": 64}, lambda a: a),
    "a quarter": ({"turns": [("irot", 1)]}, np.rot90),
    "three quarters, in tiles": ({"turns": [("irot", 3)], "tile": 64}, lambda a: np.rot90(a, 3)),
    "top to bottom": ({"turns": [("imir", 0)]}, np.flipud),
    "left to right": ({"turns": [("imir", 1)]}, np.fliplr),
    "turned, then mirrored": ({"turns": [("irot", 1), ("imir", 1)]}, lambda a: np.fliplr(np.rot90(a))),
    "cropped": ({"crop": (100, 60)}, lambda a: a[18:78, 30:130]),
}


@pytest.mark.parametrize("how", TURNED)
def test_heic_is_read_as_its_camera_shows_it(how: str, photo: np.ndarray, tmp_path: Path) -> None:
    about, seen = TURNED[how]
    (tmp_path / "a.HEIC").write_bytes(heic(photo, **about))
    found = image.decode(tmp_path / "a.HEIC")
    want = seen(photo)
    assert found.image.rgb_u8.shape == want.shape and np.abs(found.image.rgb_u8.astype(int) - want).max() <= 3
    assert found.format == "HEIF" and found.size_wh == found.image.size_wh and found.image.notes == ()


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv444p10le"])
def test_heic_with_coarse_colors_or_ten_bits(pixels: str, photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic(photo, pixels=pixels))
    assert np.abs(read_image(tmp_path / "a.heic").rgb_u8.astype(int) - photo).mean() < 4


def test_heic_with_alpha_is_laid_on_white(photo: np.ndarray, tmp_path: Path) -> None:
    alpha = np.full((HIGH, WIDE), 255, np.uint8)
    alpha[:, :80] = 0
    (tmp_path / "a.heic").write_bytes(heic(photo, alpha_u8=alpha, turns=[("imir", 1)]))
    found = read_image(tmp_path / "a.heic")
    assert (found.rgb_u8[:, 80:] == 255).all() and "white" in found.notes[0]
    assert np.abs(found.rgb_u8[:, :80].astype(int) - photo[:, :79:-1]).max() <= 3


def test_the_bytes_say_what_it_is(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phone.jpg").write_bytes(heic(photo))
    (tmp_path / "phone.HEIC").write_bytes(heic(photo))
    PIL_Image.fromarray(photo).save(tmp_path / "mail.HEIC", "JPEG", quality=95)
    assert (read_image(tmp_path / "phone.jpg").rgb_u8 == read_image(tmp_path / "phone.HEIC").rgb_u8).all()
    assert np.abs(read_image(tmp_path / "mail.HEIC").rgb_u8.astype(int) - photo).mean() < 6
    assert read_metadata(tmp_path / "phone.jpg").format == "HEIF" and read_metadata(tmp_path / "mail.HEIC").mark
    monkeypatch.setattr(heif, "present", lambda module: False)
    with pytest.raises(DataError, match=r"phone\.jpg is a HEIC image, .*handful\[video\]"):
        read_image(tmp_path / "phone.jpg")
    assert "HEIC" in read_metadata(tmp_path / "phone.jpg").error_text
    assert np.abs(read_image(tmp_path / "mail.HEIC").rgb_u8.astype(int) - photo).mean() < 6  # a JPEG needs none of it


def test_a_verdict_without_a_decoder_does_not_last(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set" / "mug").mkdir(parents=True)
    for i in range(2):
        (tmp_path / "set" / "mug" / f"{i}.heic").write_bytes(heic(np.roll(photo, 40 * i, 1)))

    def unreadable() -> list[str]:
        report = check(tmp_path / "set", cache=tmp_path / "cache", near=False)
        return [row["code"] for row in report["findings"] if row["code"] == "unreadable_image"]

    with monkeypatch.context() as without:
        for module in (heif, image):
            without.setattr(module, "present", lambda name: False)
        assert len(unreadable()) == 2
    assert unreadable() == []  # PyAV was installed in between


def test_a_heic_that_is_damaged_or_large(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = heic(photo, tile=64)
    path, rng = tmp_path / "a.heic", np.random.default_rng(0)
    for end in (30, 60, 200, 400, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"a\.heic cannot be read as an image"):
            read_image(path)
    said: list[str] = []
    for _ in range(150):
        bent = bytearray(whole)
        for at in rng.integers(24, 900, 3):
            bent[at] = rng.integers(256)
        path.write_bytes(bent)
        try:
            read_image(path)
        except DataError as error:
            said.append(str(error))
    assert said and all(str(path) in text and "\n" not in text for text in said)
    for kind, named in (("av01", "AV1"), ("jpeg", "JPEG"), ("zzzz", "zzzz")):
        path.write_bytes(heic(photo, kind=kind))
        with pytest.raises(DataError, match=f"a HEIF of {named}, wanted HEVC"):
            read_image(path)
    path.write_bytes(whole)
    monkeypatch.setattr(image, "MOST_CAMERA_PIXELS", HIGH * WIDE - 1)
    with pytest.raises(TooManyPixels):
        read_image(path)


@pytest.mark.skipif(not has_avif(), reason="this Pillow reads no AVIF")
def test_avif_and_moving_avif(photo: np.ndarray, tmp_path: Path) -> None:
    PIL_Image.fromarray(photo).save(tmp_path / "a.jpg", "AVIF", quality=95)
    found = image.decode(tmp_path / "a.jpg")
    assert found.format == "AVIF" and np.abs(found.image.rgb_u8.astype(int) - photo).mean() < 6
    others = [PIL_Image.fromarray(np.roll(photo, k, 1)) for k in (5, 9)]
    PIL_Image.fromarray(photo).save(tmp_path / "b.avif", save_all=True, append_images=others)
    with pytest.raises(DataError, match=r"is animated \(3 frames\)"):
        read_image(tmp_path / "b.avif")


# -- transparency -----------------------------------------------------------------------------------------------------


def keyed(folder: Path, what: str) -> tuple[Path, np.ndarray]:
    """A PNG whose color key makes its left half transparent, and what it must look like, (32, 64, 3)."""
    left = np.arange(64)[None] < 32
    want = np.where(left, 255, 85).astype(np.uint8) * np.ones((32, 1), np.uint8)
    path = folder / f"{what}.png"
    if what == "gray of 2 bits":
        png(path, np.tile(np.repeat(np.uint8([0b10101010, 0b01010101]), 8), (32, 1)), 2, 0, struct.pack(">H", 2))
    elif what == "gray of 8 bits":
        png(path, np.where(left, 7, 85).astype(np.uint8) * np.ones((32, 1), np.uint8), 8, 0, struct.pack(">H", 7))
    elif what == "gray of 16 bits":
        values = (np.where(left, 999, 85 * 257) * np.ones((32, 1), int)).astype(">u2")
        png(path, values.view(np.uint8).reshape(32, -1), 16, 0, struct.pack(">H", 999))
    elif what == "black and white":
        want = np.where(left, 255, 0).astype(np.uint8) * np.ones((32, 1), np.uint8)
        want[:, :] = np.where(left, 255, 0)
        png(path, np.tile(np.repeat(np.uint8([0xFF, 0x00]), 4), (32, 1)), 1, 0, struct.pack(">H", 1))
    elif what == "RGB of 8 bits":
        values = np.where(left[..., None], [9, 8, 7], [85, 85, 85]).astype(np.uint8) * np.ones((32, 1, 1), np.uint8)
        png(path, values.reshape(32, -1), 8, 2, struct.pack(">HHH", 9, 8, 7))
    else:
        values = (np.where(left[..., None], 0x1234, 85 * 257) * np.ones((32, 1, 3), int)).astype(">u2")
        png(path, values.view(np.uint8).reshape(32, -1), 16, 2, struct.pack(">HHH", 0x1234, 0x1234, 0x1234))
    return path, np.repeat(want[..., None], 3, axis=2)


@pytest.mark.parametrize("what", ["gray of 2 bits", "gray of 8 bits", "gray of 16 bits", "black and white",
                                  "RGB of 8 bits", "RGB of 16 bits"])  # fmt: skip
def test_a_color_that_is_called_transparent_is(what: str, tmp_path: Path) -> None:
    path, want = keyed(tmp_path, what)
    found = read_image(path)
    np.testing.assert_array_equal(found.rgb_u8, want)
    assert any("white" in note for note in found.notes)
    with PIL_Image.open(path) as opened:
        np.testing.assert_array_equal(from_pillow(opened).rgb_u8, want)


def test_both_ways_to_be_transparent_are_the_same_photo(tmp_path: Path) -> None:
    a = np.full((64, 64, 3), (200, 30, 30), np.uint8)
    a[16:48, 16:48] = (30, 60, 200)
    PIL_Image.fromarray(a).save(tmp_path / "key.png", transparency=(200, 30, 30))
    alpha = np.where((a == (200, 30, 30)).all(-1), 0, 255).astype(np.uint8)
    PIL_Image.fromarray(np.dstack([a, alpha])).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "key.png").rgb_u8 == read_image(tmp_path / "alpha.png").rgb_u8).all()
    PIL_Image.fromarray(a).save(tmp_path / "none.png", transparency=(1, 2, 3))
    assert read_image(tmp_path / "none.png").notes == () and (read_image(tmp_path / "none.png").rgb_u8 == a).all()


def test_a_white_logo_on_nothing_is_told(photo: np.ndarray, tmp_path: Path) -> None:
    alpha = np.zeros((HIGH, WIDE), np.uint8)
    alpha[20:40, 20:90] = 255
    PIL_Image.fromarray(np.dstack([np.full_like(photo, 250), alpha])).save(tmp_path / "white.png")
    PIL_Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "red.png")
    assert "nothing of it shows" in read_image(tmp_path / "white.png").notes[0]
    assert read_image(tmp_path / "red.png").notes == ("transparent, laid on white",)


# -- bits and pages ---------------------------------------------------------------------------------------------------


def test_twelve_bits_are_scaled(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64).astype(int), (64, 1))
    pairs = ramp.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    found = read_image(tiff(tmp_path / "a.tif", packed.astype(np.uint8).tobytes(), 64, 64, 12))
    np.testing.assert_array_equal(found.rgb_u8[..., 0], ramp * 255 // 4095)
    assert found.notes == ("12-bit, scaled to 8",)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white(bits: int, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, (1 << bits) - 1, 64), (64, 1)).astype(f"<u{bits // 8}")
    found = read_image(tiff(tmp_path / "a.tif", ramp.tobytes(), 64, 64, bits, black=0))
    assert found.rgb_u8[0, 0, 0] == 255 and found.rgb_u8[0, -1, 0] == 0


def test_pages_are_not_an_animation(photo: np.ndarray, tmp_path: Path) -> None:
    pages = [PIL_Image.fromarray(np.roll(photo, k, 1)) for k in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a\.tif is a TIFF of 3 pages; wanted one image"):
        read_image(tmp_path / "a.tif")
    with PIL_Image.open(tmp_path / "a.tif") as opened, pytest.raises(DataError, match="TIFF of 3 pages") as caught:
        from_pillow(opened)
    assert str(caught.value).endswith("image.copy()")
    with PIL_Image.open(tmp_path / "a.tif") as opened:  # what the message says
        opened.seek(1)
        assert (from_pillow(opened.copy()).rgb_u8 == np.roll(photo, 1, 1)).all()
    small = pages[0].resize((40, 24))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=[small])
    with PIL_Image.open(tmp_path / "b.tif") as opened:
        opened.seek(1)
        assert opened.tag_v2[254] == 1  # or the next line shows nothing
    assert (read_image(tmp_path / "b.tif").rgb_u8 == photo).all()


@pytest.mark.parametrize("more", [(254, 1), (50706, 0x01040000)], ids=["small copy first", "DNG"])
def test_a_raw_file_is_not_its_preview(more: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raw file"):
        read_image(tiff(tmp_path / "a.tif", bytes(64 * 64), 64, 64, 8, more=more))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_what_moves_is_called_so(kind: str, photo: np.ndarray, tmp_path: Path) -> None:
    frames = [PIL_Image.fromarray(np.roll(photo, 9 * k, 1)) for k in range(4)]
    frames[0].save(tmp_path / "a.jpg", kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"is animated \(4 frames\)"):
        read_image(tmp_path / "a.jpg")


# -- ends -------------------------------------------------------------------------------------------------------------


def jpeg(photo: np.ndarray, **how: Any) -> bytes:
    held = io.BytesIO()
    PIL_Image.fromarray(photo).save(held, "JPEG", quality=92, **how)
    return held.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_a_jpeg_that_lacks_only_its_end(progressive: bool, kind: str, photo: np.ndarray, tmp_path: Path) -> None:
    whole = jpeg(np.asarray(PIL_Image.fromarray(photo).convert(kind)), progressive=progressive)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    want = read_image(path)
    assert NO_END not in want.notes
    for end in (whole[:-2], whole[:-1], whole[:-2] + bytes(500)):
        path.write_bytes(end)
        found = read_image(path)
        assert found.notes == (NO_END, *want.notes) and (found.rgb_u8 == want.rgb_u8).all()
        assert read_metadata(path).notes[0] == NO_END
    path.write_bytes(whole + bytes(5000))  # a block of the disk, filled up: nothing is missing
    assert read_image(path).notes == want.notes and (read_image(path).rgb_u8 == want.rgb_u8).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_refused(progressive: bool, photo: np.ndarray, tmp_path: Path) -> None:
    whole, path = jpeg(photo, progressive=progressive), tmp_path / "a.jpg"
    for missing in (4, 6, 10, 40, 200, len(whole) // 2):
        for rest, said in ((b"", "truncated"), (bytes(missing + 100), "zero bytes")):
            path.write_bytes(whole[:-missing] + rest)
            with pytest.raises(DataError, match=said):
                read_image(path)
            assert read_metadata(path).error == "unreadable_image"


# -- large ------------------------------------------------------------------------------------------------------------


def test_phone_photos_of_any_size(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL_Image, "MAX_IMAGE_PIXELS", HIGH * WIDE // 3)  # Pillow's own limit is passed twice over
    monkeypatch.setattr(image, "MOST_PIXELS", HIGH * WIDE - 1)
    (tmp_path / "a.jpg").write_bytes(jpeg(photo))
    PIL_Image.fromarray(photo).save(tmp_path / "a.png")
    small = PIL_Image.new("RGB", (9, 9))
    PIL_Image.fromarray(photo).save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[small])
    assert read_image(tmp_path / "a.jpg").size_wh == (WIDE, HIGH) == read_image(tmp_path / "a.mpo").size_wh
    with pytest.raises(TooManyPixels):
        read_image(tmp_path / "a.png")
    drafted = image.decode(tmp_path / "a.jpg", small_px=30)
    assert drafted.image.size_wh < drafted.size_wh == (WIDE, HIGH)
    monkeypatch.setattr(image, "MOST_CAMERA_PIXELS", HIGH * WIDE - 1)
    with pytest.raises(TooManyPixels):
        read_image(tmp_path / "a.jpg")


# -- no image ---------------------------------------------------------------------------------------------------------

OTHERS = {
    "a web page": b"\n<!DOCTYPE html><html>",
    "a PDF": b"%PDF-1.7",
    "an SVG drawing": b"<svg xmlns=",
    "a ZIP archive": b"PK\3\4",
    "an MP4 or QuickTime video": box("ftyp", b"isom", bytes(4), b"mp42"),
    "a Matroska or WebM video": b"\x1aE\xdf\xa3",
    "a JPEG XL image": b"\xff\x0a",
    "a camera's raw file": box("ftyp", b"crx ", bytes(4)),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "nothing but zero bytes": bytes(80),
    "a JPEG that is damaged": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_image_is_called_what_it_is(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(OTHERS[what].ljust(80, b"\1" if any(OTHERS[what]) else b"\0"))
    with pytest.raises(DataError, match=what):
        read_image(tmp_path / "a.jpg")
