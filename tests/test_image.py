"""Every kind of picture a phone, a scanner or the web hands over: read as a person sees it, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.image import fit, images_below, list_images, read_image


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    return fit(sample_photo("cat").rgb_u8, (60, 90))


def test_plain_photo_is_untouched(cat: np.ndarray, tmp_path: Path) -> None:
    PIL_Image.fromarray(cat).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.rgb_u8 == cat).all()
    assert image.size_wh == (90, 60)
    assert image.notes == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_followed(cat: np.ndarray, tmp_path: Path, orientation: int) -> None:
    turns = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
             6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}  # fmt: skip
    exif = PIL_Image.Exif()
    exif[0x0112] = orientation
    PIL_Image.fromarray(cat).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")
    assert (image.rgb_u8 == turns[orientation](cat)).all()
    assert "EXIF" in image.notes[0]


def test_grey(cat: np.ndarray, tmp_path: Path) -> None:
    PIL_Image.fromarray(cat).convert("L").save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert (image.rgb_u8[..., 0] == image.rgb_u8[..., 2]).all()
    assert "gray" in image.notes[0]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    PIL_Image.fromarray(ramp).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.rgb_u8[..., 1], ramp // 257)
    assert "16-bit" in image.notes[0]


def test_cmyk_looks_the_same(cat: np.ndarray, tmp_path: Path) -> None:
    PIL_Image.fromarray(cat).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert np.abs(image.rgb_u8.astype(int) - cat).mean() < 6
    assert "CMYK" in image.notes[0]


def test_transparent_pixels_become_white_not_what_hides_under_them(cat: np.ndarray, tmp_path: Path) -> None:
    rgba = np.dstack([cat, np.full(cat.shape[:2], 255, np.uint8)])
    rgba[:10, :, 3] = 0
    PIL_Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.rgb_u8[:10] == 255).all()
    assert (image.rgb_u8[10:] == cat[10:]).all()
    assert "white" in image.notes[0]
    rgba[..., 3] = 255
    PIL_Image.fromarray(rgba).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").notes == ()


def test_palette(cat: np.ndarray, tmp_path: Path) -> None:
    PIL_Image.fromarray(cat).quantize(200).save(tmp_path / "a.gif")
    assert np.abs(read_image(tmp_path / "a.gif").rgb_u8.astype(int) - cat).mean() < 10


def bad_files(folder: Path, cat: np.ndarray) -> dict[str, tuple[Path, str]]:
    """name -> (file, what its message must say)."""
    good = folder / "good.jpg"
    PIL_Image.fromarray(cat).save(good)
    made = {name: folder / name for name in ("text.jpg", "cut.jpg", "empty.png", "cut.png", "tiny.png", "moving.gif",
                                             "float.tif", "phone.heic", "absent.jpg")}  # fmt: skip
    made["text.jpg"].write_text("no picture at all")
    made["cut.jpg"].write_bytes(good.read_bytes()[:900])
    made["empty.png"].write_bytes(b"")
    PIL_Image.fromarray(cat).save(made["cut.png"])
    made["cut.png"].write_bytes(made["cut.png"].read_bytes()[:3000])
    PIL_Image.new("RGB", (1, 1)).save(made["tiny.png"])
    frames = [PIL_Image.fromarray(np.roll(cat, i, axis=1)) for i in range(3)]
    frames[0].save(made["moving.gif"], save_all=True, append_images=frames[1:])
    PIL_Image.fromarray(np.random.default_rng(0).random((40, 40)).astype(np.float32)).save(made["float.tif"])
    made["phone.heic"].write_bytes(b"\0\0\0\x18ftypheic")
    words = {"text.jpg": "not an image", "cut.jpg": "truncated", "empty.png": "not an image", "cut.png": "truncated",
             "tiny.png": "1x1 px; wanted at least", "moving.gif": "3 frames", "float.tif": "floating-point",
             "phone.heic": "HEIC", "absent.jpg": "does not exist"}  # fmt: skip
    return {name: (path, words[name]) for name, path in made.items()}


@pytest.mark.parametrize(
    "name",
    ["text.jpg", "cut.jpg", "empty.png", "cut.png", "tiny.png", "moving.gif", "float.tif", "phone.heic", "absent.jpg"],
)
def test_unusable_files_are_refused_by_name(name: str, cat: np.ndarray, tmp_path: Path) -> None:
    path, words = bad_files(tmp_path, cat)[name]
    with pytest.raises(DataError, match=words) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_photo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)


def test_listing(cat: np.ndarray, tmp_path: Path) -> None:
    place = tmp_path / "below"
    place.mkdir()
    for name in ("b.JPG", "a.png", ".hidden.jpg"):
        PIL_Image.fromarray(cat).save(place / name)
    (place / "notes.txt").write_text("x")
    photos, others = list_images(place)
    assert [p.name for p in photos] == ["a.png", "b.JPG"]
    assert [p.name for p in others] == ["notes.txt"]
    assert [p.name for p in images_below(tmp_path) if p.name[0] != "."] == ["a.png", "b.JPG"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images"):
        images_below(tmp_path / "none")
    with pytest.raises(DataError, match="does not exist"):
        images_below(tmp_path / "absent")
