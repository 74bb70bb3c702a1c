"""Whatever a user hands over becomes the same image, or is refused with a cure that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data.sources import RGB_NOTE, from_array, images_of
from handful.errors import DataError
from handful.image import Image, from_pillow
from tests.kinds.worlds import rgb

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16", "LAB")


def one(source: Any) -> Image:
    ((image, _),) = images_of(source)
    return image


@pytest.mark.parametrize("mode", MODES)
def test_a_pillow_image_of_any_mode_is_as_its_file(mode: str, tmp_path: Path) -> None:
    base = PIL_Image.fromarray(rgb(3))
    if mode in ("I", "I;16"):
        picture = PIL_Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257)
        picture = picture.convert("I") if mode == "I" else picture
    elif mode == "LAB":
        picture = PIL_Image.new("LAB", (50, 40), (120, 130, 140))
    elif mode in ("RGBa", "PA"):
        picture = base.convert("RGBA").convert("RGBa") if mode == "RGBa" else base.convert("P").convert("PA")
    else:
        picture = base.convert(mode)
    assert picture.mode == mode or mode == "I;16"
    found = from_pillow(picture)
    assert found.rgb_u8.shape == (40, 50, 3) and found.rgb_u8.dtype == np.uint8
    if mode in ("RGB", "L", "RGBA", "CMYK", "P"):  # modes that a file can hold
        file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        picture.save(file)
        assert np.array_equal(found.rgb_u8, Image.open(file).rgb_u8)
    if mode in ("I", "I;16"):
        assert "16-bit, scaled to 8" in found.notes and found.rgb_u8.max() > 200  # not clipped to white, nor to black
        assert len(np.unique(found.rgb_u8)) > 100


def test_floats_and_animations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floating-point"):
        from_pillow(PIL_Image.fromarray(rgb(3)).convert("F"))
    frames = [PIL_Image.fromarray(rgb(i)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="animated"), PIL_Image.open(tmp_path / "a.gif") as animated:
        from_pillow(animated)


def test_exif_is_followed() -> None:
    picture = PIL_Image.fromarray(rgb(3, (40, 60)))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.info["exif"] = exif.tobytes()
    turned = from_pillow(picture)
    assert turned.rgb_u8.shape == (60, 40, 3) and "turned" in turned.notes[0]
    assert np.array_equal(turned.rgb_u8, np.rot90(np.asarray(picture), -1))


Cure = Callable[[np.ndarray], Any]
WRONG: list[tuple[str, np.ndarray, str]] = [
    ("gray", rgb(1)[..., 0], "np.repeat(a.reshape(*a.shape[:2], 1), 3, axis=2)"),
    ("gray with an axis", rgb(1)[..., :1], "np.repeat(a.reshape(*a.shape[:2], 1), 3, axis=2)"),
    ("channels first", rgb(1).transpose(2, 0, 1), "a.transpose(1, 2, 0)"),
    ("four channels", np.concatenate([rgb(1), rgb(2)[..., :1]], axis=2), "PIL.Image.fromarray(a)"),
    ("float 0..1", rgb(1) / 255, "(a * 255).round().astype(np.uint8)"),
    ("float 0..255", rgb(1).astype(np.float32), "a.round().clip(0, 255).astype(np.uint8)"),
]


@pytest.mark.parametrize(("what", "array", "cure"), WRONG, ids=[w[0] for w in WRONG])
def test_the_cure_for_an_array_works(what: str, array: np.ndarray, cure: str) -> None:
    with pytest.raises(DataError) as error:
        one(array)
    told = re.search(r"pass (.+?)(, which|, without|$)", str(error.value))
    assert told is not None and told[1] == cure
    import PIL

    mended = eval(cure, {"np": np, "a": array, "PIL": PIL})  # the cure as a user would type it
    assert one(mended).rgb_u8.shape == (40, 50, 3)


def test_an_array_is_taken_as_rgb_and_says_so() -> None:
    assert one(rgb(1)).notes == (RGB_NOTE,) and np.array_equal(one(rgb(1)).rgb_u8, rgb(1))
    batch = np.stack([rgb(1), rgb(2)])
    found = list(images_of(batch))
    assert [o.name for _, o in found] == ["array[0]", "array[1]"] and np.array_equal(found[1][0].rgb_u8, rgb(2))
    for bad in (np.zeros((2, 3, 4, 5, 6)), rgb(1).astype(np.int32), np.zeros((0, 5, 3), np.uint8), rgb(1)[..., :2]):
        with pytest.raises(DataError, match=r"wanted|must be"):
            from_array(bad)


@pytest.mark.parametrize("bad", [5, None, [], [7], {"a": 1}, b"bytes", object()])
def test_what_is_no_image_is_refused(bad: Any) -> None:
    with pytest.raises(DataError, match="wanted"):
        list(images_of(bad))


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jpg does not exist"):
        list(images_of(tmp_path / "absent.jpg"))
    with pytest.raises(DataError, match="no images in or below"):
        list(images_of(tmp_path))
    (tmp_path / "sub").mkdir()
    PIL_Image.fromarray(rgb(1)).save(tmp_path / "sub" / "b.png")
    PIL_Image.fromarray(rgb(2)).save(tmp_path / "a.png")
    assert [Path(o.name).name for _, o in images_of(str(tmp_path))] == ["a.png", "b.png"]


def video(path: Path, count: int = 8) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            frame = np.full((48, 64, 3), 20 + 200 * i // count, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_a_video_is_its_frames(tmp_path: Path) -> None:
    found = list(images_of(video(tmp_path / "a.mp4")))
    assert [o.frame for _, o in found] == list(range(8))
    assert [o.time_s for _, o in found] == pytest.approx([i / 10 for i in range(8)])
    means = [float(image.rgb_u8.mean()) for image, _ in found]
    assert np.all(np.diff(means) > 15) and all(o.rgb_u8 is not None for _, o in found)


def test_a_broken_video_gives_what_it_has(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", 60)
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match="cannot be read as a video"):
        list(images_of(tmp_path / "b.mp4"))
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "c.mkv"), "w") as out, av.open(str(tmp_path / "a.mp4")) as held:
        stream = out.add_stream_from_template(held.streams.video[0])
        for packet in held.demux(held.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    bytes_ = (tmp_path / "c.mkv").read_bytes()
    (tmp_path / "c.mkv").write_bytes(bytes_[: len(bytes_) * 2 // 3])
    bad: list[str] = []
    found = list(images_of(tmp_path / "c.mkv", lambda name, error: bad.append(str(error))))
    assert 0 < len(found) < 60 and len(bad) == 1 and "breaks off after" in bad[0]


def test_errors_go_where_they_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    told: list[tuple[str, str]] = []
    good = rgb(1)
    found = list(images_of([tmp_path / "bad.png", good], lambda name, error: told.append((name, str(error)))))
    assert len(found) == 1 and [Path(n).name for n, _ in told] == ["bad.png"] and "cannot be read" in told[0][1]


def test_arrays_that_hold_no_image() -> None:
    with pytest.raises(DataError, match="with NaN or infinity in it; wanted uint8"):
        from_array(np.full((40, 50, 3), np.nan))
    with pytest.raises(DataError, match="wanted at least 8 px a side"):
        from_array(rgb(0)[:1, :1])
