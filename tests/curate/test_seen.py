"""What a model folder remembers of the images it has seen."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.curate.seen import FILE, Seen, mark, told
from handful.data.sample_images import sample_photo
from handful.errors import DataError

NAMES = ("cat", "coffee", "rocket", "astronaut")


def photos() -> list[np.ndarray]:
    return [sample_photo(name).rgb_u8 for name in NAMES]


def copied(rgb: np.ndarray, side: int = 300, quality: int = 70) -> np.ndarray:
    """The image at another size and as a JPEG."""
    file = BytesIO()
    PIL_Image.fromarray(rgb).resize((side, side * rgb.shape[0] // rgb.shape[1])).save(file, "JPEG", quality=quality)
    return np.asarray(PIL_Image.open(file))


def test_the_same_pixels_and_near_copies_are_found_and_others_are_not() -> None:
    cat, coffee, rocket, astronaut = photos()
    seen = Seen()
    for one in (cat, coffee):
        seen.add(mark(one), "x")
    asked = [mark(one) for one in (cat, copied(coffee), rocket, astronaut, copied(rocket))]
    assert seen.compared(asked) == {"images": 5, "copies": 1, "near_copies": 1}
    assert Seen().compared(asked) == {"images": 5, "copies": 0, "near_copies": 0}


def test_a_photo_that_was_cropped_and_lit_is_a_near_copy() -> None:
    """As benchmarks/seen.py wears photos: with the limit of 4 bits of old, coffee was not known again."""
    for rgb in photos():
        cropped = rgb[round(0.02 * rgb.shape[0]) :]
        lit = (cropped.astype(np.float32) * 1.1).clip(0, 255).astype(np.uint8)
        seen = Seen()
        seen.add(mark(rgb))
        assert seen.compared(map(mark, (cropped, lit, copied(cropped)))) == {"images": 3, "copies": 0, "near_copies": 3}


def test_what_is_kept_is_read_back_and_small(tmp_path: Path) -> None:
    seen, names = Seen(), ("café", "", "猫")
    for rgb, name in zip(photos(), names, strict=False):
        seen.add(mark(rgb), name)
    seen.save(tmp_path)
    back = Seen.load(tmp_path)
    assert back is not None and back.rows == seen.rows
    assert (tmp_path / FILE).stat().st_size < 1500
    back.forget("猫")
    back.drop(mark(photos()[0]), "café")
    assert [label for _, label in back.rows] == [""]
    Seen().save(tmp_path)
    empty = Seen.load(tmp_path)
    assert empty is not None and len(empty) == 0


def test_a_folder_that_does_not_say_is_not_known_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert Seen.load(tmp_path) is None
    assert "not known" in told({"seen": None})
    (tmp_path / FILE).write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(DataError, match=r"seen\.safetensors"):
        Seen.load(tmp_path)


def test_the_share_is_told_with_its_near_copies() -> None:
    assert told({"seen": {"images": 9, "copies": 0, "near_copies": 0}}) == ""
    text = told({"seen": {"images": 9, "copies": 2, "near_copies": 1}})
    assert text.startswith("3 of 9 images were taught or trained on (1 near copy among them)")
    assert told({"seen": {"images": 1, "copies": 1, "near_copies": 0}}).startswith("1 of 1 image was")
