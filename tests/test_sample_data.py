"""Sample data: what a reader without data begins with is sound, labelled exactly, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful import sample_data
from handful.curate.check import check
from handful.data import formats
from handful.data.sample_images import sample_photo
from handful.data.shapes import pixels_of
from handful.errors import DataError, UnknownName
from handful.image import read_image
from handful.lucid.outline import mask_in_box
from tests.conftest import save


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_classes_and_new_views_of_them(tmp_path: Path) -> None:
    told = sample_data.write("classes", tmp_path / "photos")
    assert told == {"kind": "classes", "out": str(tmp_path / "photos"), "images": 25}
    assert sorted(p.name for p in (tmp_path / "photos").iterdir()) == sorted(sample_data.CLASSES)
    assert check(tmp_path / "photos")["ok"]
    sample_data.write("new", tmp_path / "new")
    names = {p.name for p in (tmp_path / "new").iterdir()}
    assert names == {*sample_data.CLASSES, *sample_data.OTHER}
    taught, new = set(tree(tmp_path / "photos").values()), set(tree(tmp_path / "new").values())
    assert len(taught) == 25 and len(new) == 24 and not taught & new


@pytest.mark.slow
def test_scenes_have_exact_labels(tmp_path: Path) -> None:
    sample_data.write("boxes", tmp_path / "boxes")
    sample_data.write("pixels", tmp_path / "pixels")
    for name, count in (("boxes", 22), ("pixels", 22)):
        found = check(tmp_path / name)
        assert found["ok"] and found["sets"][0]["splits"] == {"train": 16, "val": 6}, found
        assert found["sets"][0]["images"] == count
    masks = {s.name: s for s in formats.read(tmp_path / "pixels")}
    names = [c.name for c in formats.read(tmp_path / "pixels").categories]
    assert names == ["background", *sample_data.THINGS]
    seen = set()
    for sample in formats.read(tmp_path / "boxes"):
        same = masks[sample.name]
        assert same.mask is not None and sample.objects
        assert (read_image(sample.path).rgb_u8 == read_image(same.path).rgb_u8).all()
        ids = same.mask().ids
        for thing in sample.objects:
            assert thing.rle is not None and thing.box_px is not None
            pixels = pixels_of(thing.rle)
            seen.add(thing.label)
            assert (ids[pixels] == names.index(thing.label)).all()
            rows, columns = np.nonzero(pixels)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.box_px == tuple(map(float, box))
    assert seen == set(sample_data.THINGS)


def test_masks_come_along_as_they_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the thing that is found quickest; and a photograph of another size gets one of its own."""
    name = "flower"
    photo, box = sample_data.THINGS[name]
    made = mask_in_box(sample_photo(photo).rgb_u8, box)
    _, kept = sample_data._cut(name)
    assert (made & kept).sum() / (made | kept).sum() > 0.99
    for other, (_, (left, top, right, bottom)) in sample_data.THINGS.items():
        pixels = sample_data._cut(other)[1]
        assert pixels[top:bottom, left:right].sum() == pixels.sum() > 0.2 * (right - left) * (bottom - top)
    sample_data._cut.cache_clear()
    save(np.ones((4, 4), bool), tmp_path / f"{name}.png")
    monkeypatch.setattr(sample_data, "MASKS", tmp_path)
    monkeypatch.setattr("handful.lucid.outline.mask_in_box", lambda rgb, box: made)
    assert (sample_data._cut(name)[1] == made).all()
    sample_data._cut.cache_clear()


def test_seeds_are_the_same_each_time_and_what_is_there_is_kept(tmp_path: Path) -> None:
    sample_data.write("seeds", tmp_path / "a")
    sample_data.write("seeds", tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert {s.name for s in formats.read(tmp_path / "a")} == {"cup.jpg", "flower.jpg"}
    before = tree(tmp_path / "a")
    with pytest.raises(DataError, match="is there already"):
        sample_data.write("classes", tmp_path / "a")
    assert tree(tmp_path / "a") == before
    with pytest.raises(UnknownName, match="did you mean 'boxes'"):
        sample_data.write("boxs", tmp_path / "c")
    assert not (tmp_path / "c").exists()
