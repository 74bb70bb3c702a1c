"""Masks, DAVIS and CamVid: what is written is read back as it was, and what is wrong is found and named."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data import format_camvid, format_davis, format_masks, formats
from handful.data.finding import Finding, stop
from handful.data.masks import value_counts
from handful.data.writing import Writer
from handful.errors import DataError, UnknownName
from handful.types import Category, Dataset, Mask
from tests.conftest import opened
from tests.data.made import SIZE, Row, classes, codes, ids, made, rows, said, same, tree

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
often = settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
SPLITS = (None, "train", "val", "a b", "ünï")


def back(module: ModuleType, dataset: Dataset, folder: Path) -> Dataset:
    """Written and read again; anything that is told is an error here."""
    told: list[Finding] = []
    module.write(dataset, Writer(folder))
    assert module.detect(folder)
    again: Dataset = module.read(folder, on_finding=told.append)
    list(again)
    assert [f for f in told if f.code != "missing_mask"] == []
    return again


def read_all(module: ModuleType, root: Path, **options: Any) -> tuple[Dataset, list[Finding], list[DataError]]:
    """The set, all that is told about it and its masks, and the masks that cannot be used."""
    told: list[Finding] = []
    dataset = module.read(root, on_finding=told.append, **options)
    broken = []
    for sample in dataset:
        try:
            if sample.mask is not None:
                sample.mask()
        except DataError as error:
            broken.append(error)
    return dataset, told, broken


# masks


@often
@given(rows(SPLITS), classes())
def test_masks_come_back_as_they_were(found: list[Row], categories: tuple[Category, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, categories)
        after = back(format_masks, before, Path(folder) / "copy")
        same(before, after)
        assert after.categories == before.categories


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(rows(SPLITS), classes(most_id=65534))
def test_ids_of_sixteen_bits_come_back(found: list[Row], categories: tuple[Category, ...]) -> None:
    categories = (*categories, Category(300, "three hundred")) if all(c.id != 300 for c in categories) else categories
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, categories)
        after = back(format_masks, before, Path(folder) / "copy")
        same(before, after)
        assert after.categories == before.categories


def test_three_hundred_classes(tmp_path: Path) -> None:
    categories = tuple(Category(i, f"class {i}", "group" if i % 2 else None, bool(i % 3)) for i in range(300))
    before = made(tmp_path / "photos", [Row("a.png", "train", "any", 1), Row("b.png", None, "none", 2)], categories)
    after = back(format_masks, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == categories
    assert opened(tmp_path / "copy/masks/train/a.png").mode.startswith("I")
    assert json.loads((tmp_path / "copy/labels.json").read_text())["ignore"] == 65535


def test_photos_that_differ_in_their_suffix_only(tmp_path: Path) -> None:
    categories = (Category(0, "a"), Category(1, "b"))
    found = [Row("x.png", None, "any", 1), Row("x.bmp", None, "hole", 2), Row("y.png", None, "none", 3)]
    before = made(tmp_path / "photos", found, categories)
    after = back(format_masks, before, tmp_path / "copy")
    same(before, after)
    assert (tmp_path / "copy/masks/x.bmp.png").is_file()
    found.append(Row("x.png.png", None, "any", 4))
    with pytest.raises(DataError, match=r"x\.png.*rename"):
        format_masks.write(made(tmp_path / "more", found, categories), Writer(tmp_path / "copy2"))


def test_nobody_looked_is_not_the_same_as_nothing_there(tmp_path: Path) -> None:
    categories = (Category(0, "background"), Category(1, "thing"))
    before = made(tmp_path / "p", [Row("a.png", None, "none", 1), Row("b.png", None, "all first", 1)], categories)
    looked = {s.name: s.mask for s in back(format_masks, before, tmp_path / "copy")}
    assert looked["a.png"] is None
    assert looked["b.png"] is not None and (looked["b.png"]().ids == 0).all()


def test_a_set_without_any_mask_or_photo_is_still_one(tmp_path: Path) -> None:
    before = made(tmp_path / "p", [Row("a.png", "train", "none", 1)], (Category(3, "x"),))
    same(before, back(format_masks, before, tmp_path / "copy"))
    assert format_masks.mask_trees(tmp_path / "copy") == ["masks"]
    assert len(back(format_masks, made(tmp_path / "q", [], (Category(3, "x"),)), tmp_path / "empty")) == 0


def test_a_value_of_no_class_is_not_written(tmp_path: Path) -> None:
    before = made(tmp_path / "p", [Row("a.png", None, "any", 1)], (Category(3, "x"),))
    mask = Mask(ids(7))
    bad = Dataset("made", tmp_path, before.categories, lambda: iter([_with(s, mask) for s in before]), 1)
    with pytest.raises(DataError, match=r"a\.png holds 7"):
        format_masks.write(bad, Writer(tmp_path / "copy"))


def _with(sample: Any, mask: Mask) -> Any:
    from dataclasses import replace

    return replace(sample, mask=lambda: mask)


def test_splits_are_folders_called_so(tmp_path: Path) -> None:
    files = {f"images/{n}": None for n in ("train/a.png", "val/b/c.png", "other/d.png", "e.png")}
    tree(tmp_path, {**files, "masks/e.png": ids(1), "labels.txt": "a\nb\n"})
    assert [(s.split, s.name) for s in format_masks.read(tmp_path)] == [
        (None, "e.png"), (None, "other/d.png"), ("train", "a.png"), ("val", "b/c.png")]  # fmt: skip


def test_which_tree_must_be_said(tmp_path: Path) -> None:
    tree(tmp_path, {"images/a.png": None, "seg/a.png": ids(1), "other/a.png": ids(2), "readme/notes.png": ids(),
                    "labels.json": '{"seg": {"1": "one"}, "other_ids": {"2": "two"}}'})  # fmt: skip
    assert format_masks.mask_trees(tmp_path) == ["other", "seg"]
    with pytest.raises(DataError, match="2 trees of masks: other, seg"):
        format_masks.read(tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'seg'"):
        format_masks.read(tmp_path, masks="sec")
    assert [c.name for c in format_masks.read(tmp_path, masks="seg").categories] == ["one"]
    assert [c.name for c in format_masks.read(tmp_path, masks="other").categories] == ["two"]
    with pytest.raises(DataError, match="no images"):
        format_masks.read(tmp_path / "seg")


def test_a_value_can_mean_not_labelled(tmp_path: Path) -> None:
    values = ids(0)
    values[0] = 2
    table = {"m": {"0": "void", "1": "one", "2": "two"}, "m_ignore": 0}
    tree(tmp_path, {"images/a.png": None, "m/a.png": values, "labels.json": json.dumps(table)})
    dataset, told, _ = read_all(format_masks, tmp_path)
    assert told == []
    assert [c.name for c in dataset.categories] == ["one", "two"]
    (sample,) = dataset
    assert sample.mask is not None and sorted(np.unique(sample.mask().ids)) == [2, 255]


def test_colored_masks_with_named_colors(tmp_path: Path) -> None:
    rgb = np.zeros((*SIZE[::-1], 3), np.uint8)
    rgb[:3] = 10, 20, 30
    table = {
        "labels": {"4": "black", "5": "dark", "6": "grey"},
        "rgb": {"4": [0, 0, 0], "5": [10, 20, 30], "6": [7, 7, 7]},
    }
    grey = np.full((*SIZE[::-1], 3), 7, np.uint8)
    tree(tmp_path, {"images/a.png": None, "masks/a.png": rgb, "images/b.png": None, "masks/b.png": grey,
                    "labels.json": json.dumps(table)})  # fmt: skip
    dataset, told, _ = read_all(format_masks, tmp_path)
    assert told == []
    masks = [s.mask().ids for s in dataset if s.mask]
    assert (masks[0][:3] == 5).all() and (masks[0][3:] == 4).all()
    assert (masks[1] == 6).all()  # all gray, and still a color


def test_without_names_the_numbers_are_the_names(tmp_path: Path) -> None:
    values = ids(3)
    values[0, 0], values[0, 1] = 9, 255
    tree(tmp_path, {"images/a.png": None, "masks/a.png": values})
    dataset, told, _ = read_all(format_masks, tmp_path)
    assert codes(told) == ["no_label_map"] and told[0].file == "masks" and told[0].value == [3, 9]
    assert dataset.categories == (Category(3, "3"), Category(9, "9"))


@pytest.mark.parametrize(("values", "classes"), [((0, 255), 2), ((0, 128, 255), 2), ((255,), 2), ((0, 128), 2)])
def test_binary_masks_without_names(tmp_path: Path, values: tuple[int, ...], classes: int) -> None:
    mask = ids(values[0])
    for i, value in enumerate(values):
        mask[i] = value
    tree(tmp_path, {"images/a.png": None, "m/a.png": mask})
    dataset, told, _ = read_all(format_masks, tmp_path)
    assert codes(told) == ["no_label_map"] and len(dataset.categories) == classes
    (sample,) = dataset
    assert sample.mask is not None
    found = set(np.unique(sample.mask().ids).tolist())
    if 255 in values:
        assert "background and foreground" in told[0].text and ("128" in told[0].text) == (128 in values)
        assert found == {{0: 0, 255: 1, 128: 255}[v] for v in {*values, int(mask[-1, 0])}}
    else:
        assert [c.name for c in dataset.categories] == ["0", "128"] and found == {0, 128}


PHOTO = {"images/a.png": None}
NAMED = {**PHOTO, "masks/a.png": ids(0), "labels.txt": "x\ny\n"}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("files", "code", "file"),
    [
        ({"masks/a.png": ids(9)}, "label_outside_map", "masks/a.png"),
        ({"masks/a.png": ids(0, (5, 5))}, "mask_size_mismatch", "masks/a.png"),
        ({"masks/a.png": b"no PNG"}, "unreadable_mask", "masks/a.png"),
        ({"masks/a.png": b""}, "empty_file", "masks/a.png"),
        ({"masks/a.png": np.arange(297, dtype=np.uint8).reshape(9, 11, 3)}, "mask_not_ids", "masks/a.png"),
        ({"masks/b.png": ids(0)}, "missing_image", "masks/b.png"),
        ({"images/B.png": None, "masks/b.png": ids(0)}, "wrong_case_name", "masks/b.png"),
        ({"masks/a.PNG": ids(0)}, "orphan_label", "masks/a.png"),
        ({"labels.txt": b"\xff\xfe"}, "unreadable_labels", "labels.txt"),
        ({"labels.txt": b""}, "empty_file", "labels.txt"),
        ({"labels.txt": "x\0y\nz\n"}, "unreadable_labels", "labels.txt"),
        ({"labels.txt": "x\n" * 70_000}, "unreadable_labels", "labels.txt"),
        ({"labels.txt": "x\n\ny"}, "broken_label", "labels.txt"),
        ({"labels.txt": "x\nx"}, "duplicate_category", "labels.txt"),
        ({"labels.txt": "cat\nCat"}, "category_twins", "labels.txt"),
        ({"labels.json": "{"}, "unreadable_labels", "labels.json"),
        ({"labels.json": DEEP}, "unreadable_labels", "labels.json"),
        ({"labels.json": '{"ignore": ' + "9" * 5000 + "}"}, "unreadable_labels", "labels.json"),
        ({"labels.json": "[1]"}, "unreadable_labels", "labels.json"),
        ({"labels.json": '{"labels": ["x"]}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": 7}}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "\\ud800"}}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"-1": "x"}}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "x"}, "ignore": "y"}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "x"}, "rgb": {"0": [1, 2, 900]}}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "x"}, "rgb": 3}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "x"}, "splits": 3}'}, "broken_label", "labels.json"),
        ({"labels.json": '{"labels": {"0": "x", "0": "y"}}'}, "category_clash", "labels.json"),
    ],
)
def test_each_fault_of_masks_is_found(tmp_path: Path, files: dict[str, Any], code: str, file: str) -> None:
    assert read_all(format_masks, tree(tmp_path / "sound", NAMED))[1] == []
    root = tree(tmp_path / "set", {**NAMED, **files})
    _, told, broken = read_all(format_masks, root)
    assert [f.file for f in told if f.code == code] == [file], told
    assert bool(broken) == (code in ("mask_size_mismatch", "unreadable_mask", "mask_not_ids")
                            or (file == "masks/a.png" and code == "empty_file"))  # fmt: skip
    if told[0].severity == "error":
        with pytest.raises(DataError, match=file.replace(".", r"\.")):
            [sample.mask() for sample in format_masks.read(root, on_finding=stop) if sample.mask]


def test_a_photo_or_mask_that_is_a_link_elsewhere(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", NAMED)
    tree(tmp_path / "far", {"a.png": ids(0)})
    (root / "masks/a.png").unlink()
    os.symlink(tmp_path / "far/a.png", root / "masks/a.png")
    dataset, told, _ = read_all(format_masks, root)
    assert codes(told) == ["symlink_outside"] and told[0].file == "masks/a.png"
    assert [s.mask for s in dataset] == [None]
    os.symlink(tmp_path / "far/a.png", root / "images/b.png")
    assert sorted(f.file for f in read_all(format_masks, root)[1]) == ["images/b.png", "masks/a.png"]


def test_a_mask_drawn_on_the_photo_as_it_lies_is_accepted(tmp_path: Path) -> None:
    exif = PIL_Image.Exif()
    exif[0x0112] = 6
    root = tree(tmp_path, {"masks/a.png": ids(0), "masks/b.png": ids(0, SIZE[::-1]), "labels.txt": "x"})
    (root / "images").mkdir()
    for name in "ab":
        PIL_Image.new("RGB", SIZE).save(root / f"images/{name}.jpg", exif=exif)
    assert read_all(format_masks, root)[1:] == ([], [])


def test_a_sixteen_bit_photograph_taken_for_a_mask_is_one_finding(tmp_path: Path) -> None:
    deep = np.arange(99, dtype=np.uint16).reshape(9, 11) * 600 + 5
    _, told, _ = read_all(format_masks, tree(tmp_path, {**NAMED, "masks/a.png": deep}))
    assert codes(told) == ["label_outside_map"] and told[0].count == 99 and "99 values" in told[0].text


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_labels_or_masks(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = tree(Path(folder), {**NAMED, "masks/a.png": data, "labels.json": data})
        read_all(format_masks, root)
        (root / "labels.json").unlink()
        (root / "labels.txt").write_bytes(data)
        read_all(format_masks, root)


# DAVIS


@st.composite
def clips(draw: Any) -> list[Row]:
    """Images in folders; a film has no two frames of one name, whatever their splits."""
    return list({row.name: row for row in draw(rows(SPLITS, deep=1))}.values())


@often
@given(clips())
def test_clips_of_one_object_come_back_as_2016(found: list[Row]) -> None:
    found = [
        Row(r.name, r.split, "one pixel" if r.kind in ("any", "hole", "all ignore") else r.kind, r.seed) for r in found
    ]
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, format_davis.BINARY)
        after = back(format_davis, before, Path(folder) / "copy")
        _same_clips(before, after)
        assert after.categories == format_davis.BINARY
        for path in (Path(folder) / "copy/Annotations").rglob("*.png"):
            with PIL_Image.open(path) as mask:
                assert mask.mode == "L" and set(np.unique(np.array(mask)).tolist()) <= {0, 255}


@often
@given(clips(), classes())
def test_clips_of_any_classes_come_back(found: list[Row], categories: tuple[Category, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, categories)
        after = back(format_davis, before, Path(folder) / "copy")
        _same_clips(before, after)
        assert after.categories == before.categories


def _same_clips(before: Dataset, after: Dataset) -> None:
    """The same frames; where a list cannot hold a name, its frame is in no split."""
    one, two = ({r[0]: r for r in said(d) if r[0] == r[0].strip() and "\n" not in r[0]} for d in (before, after))
    clips = {s.clip for s in after}
    assert clips == {s.name.rpartition("/")[0] for s in before}
    listable = all(clip == (clip or "").strip() and "\n" not in (clip or "") for clip in clips)
    assert {k: v[2:] for k, v in one.items()} == {k: v[2:] for k, v in two.items()}
    if listable:
        assert {k: v[1] for k, v in one.items()} == {k: v[1] for k, v in two.items()}


def test_numbered_objects_are_2017(tmp_path: Path) -> None:
    categories = (Category(0, "background"), Category(1, "object 1"), Category(2, "object 2"))
    found = [Row("bear/00000.png", "train", "hole", 1), Row("bear/00001.png", "train", "any", 2),
             Row("cow/00000.png", "val", "all ignore", 2)]  # fmt: skip
    before = made(tmp_path / "photos", found, categories)
    after = back(format_davis, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == categories
    assert not (tmp_path / "copy/labels.json").exists()
    assert (tmp_path / "copy/ImageSets/2017/train.txt").read_text() == "bear\n"
    assert [(s.clip, s.frame) for s in after] == [("bear", 0), ("bear", 1), ("cow", 0)]
    assert opened(tmp_path / "copy/Annotations/480p/bear/00000.png").mode == "P"


def test_clips_in_which_nothing_is_marked(tmp_path: Path) -> None:
    found = [Row("bear/00000.png", None, "all first", 1), Row("bear/00001.png", None, "all ignore", 2)]
    before = made(tmp_path / "photos", found, (Category(0, "background"),))
    after = back(format_davis, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == before.categories


def test_an_object_that_comes_later_is_still_counted(tmp_path: Path) -> None:
    categories = (Category(0, "background"), Category(1, "object 1"), Category(2, "object 2"))
    found = [Row("bear/00000.png", None, "all first", 1), Row("bear/00001.png", None, "hole", 2)]
    before = made(tmp_path / "photos", found, categories)
    after = back(format_davis, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == categories


@pytest.mark.parametrize("clip", ["JPEGImages/0", "Annotations", "JPEGImages/Annotations/480p", "480p", "a b"])
def test_clips_called_as_folders_are(tmp_path: Path, clip: str) -> None:
    for binary in (True, False):
        categories = format_davis.BINARY if binary else (Category(3, "x"),)
        found = [Row(f"{clip}/0.png", "train", "all first", 1), Row(f"{clip}/1.png", "train", "none", 1)]
        before = made(tmp_path / f"p{binary}", found, categories)
        same(before, back(format_davis, before, tmp_path / f"c{binary}"))


def test_a_binary_clip_with_ignored_pixels_keeps_them(tmp_path: Path) -> None:
    before = made(tmp_path / "photos", [Row("bear/00000.png", None, "hole", 1)], format_davis.BINARY)
    after = back(format_davis, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == before.categories


def test_a_clip_in_two_splits_is_listed_by_frame(tmp_path: Path) -> None:
    found = [Row(f"bear/{i:05d}.png", ("train", "val")[i % 2], "one pixel", i) for i in range(4)]
    before = made(tmp_path / "photos", found, (Category(0, "sky"), Category(4, "tree")))
    after = back(format_davis, before, tmp_path / "copy")
    assert [(s.name, s.split) for s in after] == sorted((r.name, r.split) for r in found)
    assert "/JPEGImages/480p/bear/00000.png /Annotations/480p/bear/00000.png" in (
        tmp_path / "copy/ImageSets/480p/train.txt").read_text()  # fmt: skip


def test_time_goes_by_number_not_by_name(tmp_path: Path) -> None:
    tree(tmp_path, {f"JPEGImages/bear/{n}.jpg": None for n in ("9", "10", "100")})
    tree(tmp_path, {f"Annotations/bear/{n}.png": ids(1) for n in ("9", "10", "100")})
    dataset = format_davis.read(tmp_path)
    assert [s.frame for s in dataset] == [9, 10, 100]
    assert [c.name for c in dataset.categories] == ["background", "object 1"]


def test_what_davis_cannot_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of no clip"):
        format_davis.write(
            made(tmp_path / "a", [Row("a.png", None, "any", 1)], (Category(1, "x"),)), Writer(tmp_path / "1")
        )
    many = made(tmp_path / "b", [Row("f/a.png", None, "any", 1)], (Category(300, "x"),))
    with pytest.raises(DataError, match="larger"):
        format_davis.write(many, Writer(tmp_path / "2"))
    with pytest.raises(DataError, match="no JPEGImages"):
        format_davis.read(tmp_path)


def davis(root: Path, frames: int = 3, **more: Any) -> Path:
    files: dict[str, Any] = {}
    for clip in ("bear", "cow"):
        for i in range(frames):
            files[f"JPEGImages/480p/{clip}/{i:05d}.jpg"] = None
            files[f"Annotations/480p/{clip}/{i:05d}.png"] = ids(1) * np.uint8(255 * (i % 2))
    return tree(root, {**files, **more})


@pytest.mark.parametrize(
    ("files", "code", "file"),
    [
        ({"Annotations/480p/bear/00009.png": ids(0)}, "missing_image", "Annotations/480p/bear/00009.png"),
        ({"Annotations/480p/bear/00001.png": ids(7)}, "label_outside_map", "Annotations/480p/bear/00001.png"),
        ({"Annotations/480p/bear/00002.png": b"x"}, "unreadable_mask", "Annotations/480p/bear/00002.png"),
        ({"Annotations/480p/bear/00002.png": b""}, "empty_file", "Annotations/480p/bear/00002.png"),
        ({"Annotations/480p/cow/00001.png": ids(0, (5, 5))}, "mask_size_mismatch", "Annotations/480p/cow/00001.png"),
        ({"Annotations/480p/cow/00001.png": np.zeros((9, 11, 3), np.uint8) + np.uint8([1, 2, 3])}, "mask_not_ids",
         "Annotations/480p/cow/00001.png"),
        ({"JPEGImages/480p/cow/00003.jpg": ids(0, (40, 30))}, "size_mismatch", "JPEGImages/480p/cow/00003.jpg"),
        ({"JPEGImages/480p/cow/00003.jpg": None, "JPEGImages/480p/cow/00004.jpg": None}, "missing_mask",
         "JPEGImages/480p/cow"),
        ({"JPEGImages/480p/loose.jpg": None}, "not_an_image", "JPEGImages/480p/loose.jpg"),
        ({"JPEGImages/1080p/bear/00000.jpg": None}, "not_an_image", "JPEGImages/1080p"),
        ({"ImageSets/2017/train.txt": "bear\nwolf\n"}, "missing_image", "ImageSets/2017/train.txt"),
        ({"ImageSets/480p/val.txt": "/JPEGImages/480p/bear/00007.jpg /Annotations/480p/bear/00007.png\n"},
         "missing_image", "ImageSets/480p/val.txt"),
        ({"ImageSets/2017/train.txt": "bear\ncow", "ImageSets/2017/val.txt": "cow"}, "duplicate_image",
         "ImageSets/2017/train.txt"),
        ({"ImageSets/2016/val.txt": b"\xff\xff"}, "unreadable_labels", "ImageSets/2016/val.txt"),
        ({"labels.json": "nothing"}, "unreadable_labels", "labels.json"),
    ],
)  # fmt: skip
def test_each_fault_of_clips_is_found(tmp_path: Path, files: dict[str, Any], code: str, file: str) -> None:
    assert read_all(format_davis, davis(tmp_path / "sound"))[1:] == ([], [])
    dataset, told, _ = read_all(format_davis, davis(tmp_path / "set", **files))
    assert [f.file for f in told if f.code == code] == [file], told
    assert {f.code for f in told} - {code} <= {"missing_mask"}
    if code == "missing_mask":
        assert told[0].count == 2 and len(told[0].files) == 2
    if code == "duplicate_image":
        assert {s.split for s in dataset if s.clip == "cow"} == {"val"}
    if code == "size_mismatch":
        assert "cow/00003.jpg" not in [s.name for s in dataset]


def test_lists_of_a_million_clips_that_are_not_there(tmp_path: Path) -> None:
    lines = "".join(f"film{i}\n" for i in range(200_000)) + "/JPEGImages/" + " " * 300_000 + "x\n"
    _, told, _ = read_all(format_davis, davis(tmp_path, **{"ImageSets/2017/train.txt": lines}))
    assert len(told) == 21 and sum(f.count for f in told) == 200_001


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_lists_and_masks_of_films(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = {"ImageSets/2017/train.txt": data, "Annotations/480p/bear/00000.png": data, "labels.json": data}
        read_all(format_davis, davis(Path(folder), 1, **more))


# CamVid


@often
@given(rows(SPLITS), classes(), st.booleans())
def test_camvid_comes_back_as_it_was(found: list[Row], categories: tuple[Category, ...], own: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, format_camvid.ELEVEN if own else categories)
        after = back(format_camvid, before, Path(folder) / "copy")
        one, two = sorted(said(before), key=str), sorted(said(after), key=str)
        assert one == two
        assert after.categories == before.categories


def test_segnets_layout(tmp_path: Path) -> None:
    found = [Row("0001TP_006690.png", "train", "any", 1), Row("0016E5_07959.png", "val", "hole", 2),
             Row("Seq05VD_f00000.png", "test", "none", 3)]  # fmt: skip
    before = made(tmp_path / "photos", found, format_camvid.ELEVEN)
    after = back(format_camvid, before, tmp_path / "copy")
    line = "train/0001TP_006690.png trainannot/0001TP_006690.png\n"
    assert (tmp_path / "copy/train.txt").read_text() == line
    assert not (tmp_path / "copy/labels.json").exists()
    assert 11 in np.array(PIL_Image.open(tmp_path / "copy/trainannot/0001TP_006690.png"))
    assert {(s.split, s.clip, s.frame) for s in after} == {
        ("train", "0001TP", 6690), ("val", "0016E5", 7959), ("test", "Seq05VD", 0)}  # fmt: skip


def test_lists_from_another_machine_give_the_order(tmp_path: Path) -> None:
    names = [f"0001TP_00{n}.png" for n in (6690, 6720, 6750, 6780)]
    tree(tmp_path, {f"train/{n}": None for n in names})
    tree(tmp_path, {f"trainannot/{n}": ids(1) for n in names})
    order = [names[2], names[1]]
    lines = [f"/SegNet/CamVid/train/{n} /SegNet/CamVid/trainannot/{n}" for n in order]
    for text in ("\n".join(lines), "\r\n".join(lines) + "\r\n", " ".join(lines)):
        (tmp_path / "train.txt").write_bytes(text.encode())
        assert [s.name for s in format_camvid.read(tmp_path)] == [*order, names[0], names[3]]


def original(root: Path, **more: Any) -> Path:
    rgb = np.full((*SIZE[::-1], 3), 128, np.uint8)  # Sky, all gray
    rgb2 = rgb.copy()
    rgb2[:2] = 0, 128, 64
    rgb2[2:4] = 0
    names = format_camvid.ORIGINAL
    files = {f"{names[0]}/0001TP_006690.png": None, f"{names[1]}/0001TP_006690_L.png": rgb,
             f"{names[0]}/Seq05VD_f00030.png": None, f"{names[1]}/Seq05VD_f00030_L.png": rgb2}  # fmt: skip
    return tree(root, {**files, **more})


def test_the_original_with_its_colors(tmp_path: Path) -> None:
    colors = "128 128 128\t\tSky\n0 128 64\tBridge\n0 0 0 Void\n"
    for root in (original(tmp_path / "a"), original(tmp_path / "b", **{"label_colors.txt": colors})):
        assert format_camvid.detect(root)
        dataset, told, _ = read_all(format_camvid, root)
        assert told == []
        names = {c.id: c.name for c in dataset.categories}
        first, second = (s.mask().ids for s in dataset if s.mask)
        assert names[int(first[0, 0])] == "Sky" and (first == first[0, 0]).all()
        assert [names[int(v)] for v in second[[0, 2, 5], 0]] == ["Bridge", "Void", "Sky"]
        assert next((s.name, s.split, s.clip) for s in dataset) == ("0001TP_006690.png", None, "0001TP")
    assert len(format_camvid.read(tmp_path / "a").categories) == 32


def test_the_split_that_results_are_published_on(data: Path) -> None:
    for sample in format_camvid.read(data / "camvid"):
        assert format_camvid.usual_split(sample.clip, sample.frame) == sample.split
    assert format_camvid.usual_split("Seq05VD", 0) == format_camvid.usual_split("0001TP", 8550) == "test"
    assert format_camvid.usual_split(None, None) is None


@pytest.mark.parametrize(
    ("files", "code", "file"),
    [
        ({"train.txt": "train/b.png trainannot/b.png\n"}, "missing_image", "train.txt"),
        ({"train.txt": "train/a.png trainannot/a.png\n" * 2}, "duplicate_image", "train.txt"),
        ({"train.txt": b"\xff"}, "unreadable_labels", "train.txt"),
        ({"trainannot/b.png": ids(0)}, "missing_image", "trainannot/b.png"),
        ({"trainannot/a.png": ids(12)}, "label_outside_map", "trainannot/a.png"),
        ({"trainannot/a.png": ids(0, (4, 4))}, "mask_size_mismatch", "trainannot/a.png"),
        ({"trainannot/a.png": b"x"}, "unreadable_mask", "trainannot/a.png"),
        ({"label_colors.txt": "no colors\n128 128 128 Sky"}, "broken_label", "label_colors.txt"),
        ({"label_colors.txt": "1 1 900 Sky"}, "broken_label", "label_colors.txt"),
        ({"trainannot/a.png": np.full((9, 11, 3), 3, np.uint8)}, "mask_not_ids", "trainannot/a.png"),
    ],
)
def test_each_fault_of_camvid_is_found(tmp_path: Path, files: dict[str, Any], code: str, file: str) -> None:
    def framed(name: str) -> str:  # a.png is frame 0001TP_006690.png, b.png the one after it
        return name.replace("a.png", "0001TP_006690.png").replace("b.png", "0001TP_006720.png")

    sound = {framed("train/a.png"): None, framed("trainannot/a.png"): ids(11)}
    assert read_all(format_camvid, tree(tmp_path / "sound", sound))[1:] == ([], [])
    planted = {framed(name): framed(value) if isinstance(value, str) else value for name, value in files.items()}
    _, told, _ = read_all(format_camvid, tree(tmp_path / "set", {**sound, **planted}))
    assert framed(file) in [f.file for f in told if f.code == code], told


def test_a_colored_mask_with_colors_of_no_class(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    one = np.full((*SIZE[::-1], 3), 128, np.uint8)
    one[0, 0] = 1, 2, 3
    name = f"{format_camvid.ORIGINAL[1]}/0001TP_006690_L.png"
    _, told, broken = read_all(format_camvid, original(tmp_path / "a", **{name: rgb}))
    assert codes(told) == ["mask_not_ids"] and len(broken) == 1
    _, told, broken = read_all(format_camvid, original(tmp_path / "b", **{name: one}))
    assert codes(told) == ["label_outside_map"] and told[0].value == [1, 2, 3] and told[0].count == 1 and not broken


def test_colored_masks_in_folders_by_split(tmp_path: Path) -> None:
    sky = np.full((*SIZE[::-1], 3), 128, np.uint8)
    tree(tmp_path, {"val/0016E5_08001.png": None, "val_labels/0016E5_08001_L.png": sky})
    dataset, told, _ = read_all(format_camvid, tmp_path)
    (sample,) = dataset
    assert told == [] and len(dataset.categories) == 32 and sample.split == "val"
    assert sample.mask is not None and (sample.mask().ids == 21).all()


def test_frames_in_another_split_than_the_published_one(tmp_path: Path) -> None:
    names = {"train": ("0001TP_006690", "Seq05VD_f00000", "Seq05VD_f00030"), "val": ("0016E5_07959",)}
    tree(tmp_path, {f"{split}/{name}.png": None for split, own in names.items() for name in own})
    tree(tmp_path, {f"{split}annot/{name}.png": ids(1) for split, own in names.items() for name in own})
    _, told, _ = read_all(format_camvid, tmp_path)
    assert [(f.code, f.file, f.value, f.count) for f in told] == [("other_split", "train", ["Seq05VD", "test"], 2)]


def test_numbers_that_a_clip_passes_over(tmp_path: Path) -> None:
    root = davis(tmp_path, 8)
    for clip, number in (("bear", 3), ("bear", 5), ("cow", 0), ("cow", 7)):  # cow has merely fewer frames
        for path in root.rglob(f"{clip}/{number:05d}.*"):
            path.unlink()
    _, told, _ = read_all(format_davis, root)
    assert [(f.code, f.file, f.value) for f in told] == [("frame_gap", "JPEGImages/480p/bear", [2, 4])]


def test_not_camvid(tmp_path: Path) -> None:
    tree(tmp_path, {"images/a.png": None, "labels/a.png": ids(1)})
    assert not format_camvid.detect(tmp_path)
    with pytest.raises(DataError, match="no layout of CamVid"):
        format_camvid.read(tmp_path / "images")


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 3), np.uint8), np.full((2, 2), 255, np.uint8), np.full((2, 2), 65535, np.uint16),
        np.random.default_rng(0).integers(0, 256, (700, 400), dtype=np.uint8)[::2, 1:],
        np.random.default_rng(0).integers(9, 65536, (300, 500), dtype=np.uint16).T,
        np.array([[3, -2, 3]], np.int32), np.array([1.5, 0.5], np.float32),
    ],
    ids=lambda values: f"{values.shape} {values.dtype}",
)  # fmt: skip
def test_values_are_counted_as_numpy_does(values: np.ndarray) -> None:
    for ours, numpys in zip(value_counts(values), np.unique(values, return_counts=True), strict=True):
        assert ours.tolist() == numpys.tolist()


# real data


def test_davis_to_masks_and_back_is_the_same_file_for_file(data: Path, tmp_path: Path) -> None:
    source = data / "davis2016"
    first = format_davis.read(source)
    format_masks.write(first, Writer(tmp_path / "masks", link=True))
    format_davis.write(format_masks.read(tmp_path / "masks"), Writer(tmp_path / "davis", link=True))
    names = sorted(p.relative_to(source) for top in ("JPEGImages", "Annotations") for p in (source / top).rglob("*.*"))
    assert len(names) == 2 * 494
    assert sorted(p.relative_to(tmp_path / "davis") for p in (tmp_path / "davis").rglob("*.*")) == sorted(names)
    for name in names:
        a, b = source / name, tmp_path / "davis" / name
        if name.suffix == ".jpg":
            assert a.read_bytes() == b.read_bytes()
        else:
            with PIL_Image.open(a) as one, PIL_Image.open(b) as two:
                assert one.mode == two.mode == "L"
                assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(
    ("name", "options", "classes", "masks"),
    [
        ("coco-mini", {"masks": "seg10"}, 11, 148),
        ("coco-mini", {"masks": "semantic133"}, 133, 148),
        ("coco-mini", {"masks": "person_masks"}, 2, 143),
        ("msrc-seg", {"masks": "labels23"}, 23, 489),
        ("msrc-seg", {"masks": "seg10"}, 11, 489),
        ("camvid", {}, 11, 468),
    ],
)
def test_real_masks_come_back(
    data: Path, tmp_path: Path, name: str, options: dict[str, str], classes: int, masks: int
) -> None:
    module = format_camvid if name == "camvid" else format_masks
    before, told, _ = read_all(module, data / name, **options)
    assert codes(told) == (["no_label_map"] if options.get("masks") == "person_masks" else [])
    assert len(before.categories) == classes and sum(s.mask is not None for s in before) == masks
    after = back(module, before, tmp_path / "copy")
    same(before, after)
    assert after.categories == before.categories


def test_the_person_masks_say_person_where_they_are_white(data: Path) -> None:
    told: list[Finding] = []
    for sample in format_masks.read(data / "coco-mini", on_finding=told.append, masks="person_masks"):
        if sample.mask is not None and sample.mask_path is not None:
            stored = np.array(PIL_Image.open(sample.mask_path))
            found = sample.mask().ids
            assert ((found == 1) == (stored == 255)).all() and ((found == 255) == (stored == 128)).all()


def test_each_real_folder_is_what_it_is(data: Path) -> None:
    kinds = {p.name: formats.sources(p)[0].format for p in sorted(data.iterdir()) if p.is_dir()}
    assert kinds["camvid"] == "camvid" and kinds["davis2016"] == "davis" and kinds["msrc-seg"] == "masks"
    mine = ("davis", "cityscapes", "ade20k", "camvid", "cifar")
    for place in (p for p in data.iterdir() if p.is_dir()):
        found = [name for name in mine if formats.module(name).detect(place)]
        assert found == ([kinds[place.name]] if kinds[place.name] in mine else []), place
