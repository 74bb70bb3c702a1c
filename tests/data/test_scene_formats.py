"""Cityscapes and ADE20K: their own layouts, classes and objects; what is written is read back as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data import format_ade20k, format_cityscapes
from handful.data.finding import Finding
from handful.data.label_tree import segments
from handful.data.labelmaps import label_map
from handful.data.shapes import bounds, pixels_of, rle_of
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Category, Dataset, Object
from tests.data.made import SIZE, Row, classes, codes, ids, made, rows, said, tree

often = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CITY = format_cityscapes.CATEGORIES
ADE = format_ade20k.standard()


def read_all(module: ModuleType, root: Path) -> tuple[Dataset, list[Finding], list[DataError]]:
    told: list[Finding] = []
    dataset = module.read(root, on_finding=told.append)
    broken = []
    for sample in dataset:
        try:
            if sample.mask is not None:
                sample.mask()
        except DataError as error:
            broken.append(error)
    return dataset, told, broken


def back(module: ModuleType, dataset: Dataset, folder: Path) -> Dataset:
    module.write(dataset, Writer(folder))
    assert module.detect(folder)
    again, told, _ = read_all(module, folder)
    assert told == []
    return again


def things(dataset: Dataset) -> dict[str, Any]:
    return {
        s.name: None if s.objects is None else [(o.label, o.box_px, o.rle and pixels_of(o.rle).tobytes(), o.crowd)
                                                for o in s.objects]
        for s in dataset
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000), st.integers(1, 4))
def test_segments_are_what_each_value_alone_gives(height: int, width: int, seed: int, most: int) -> None:
    values = np.random.default_rng(seed).integers(0, most + 1, (height, width)).astype(np.uint16)
    found = {value: (rle, box) for value, rle, box in segments(values)}
    assert sorted(found) == [v for v in np.unique(values).tolist() if v]
    for value, (rle, box) in found.items():
        assert rle == rle_of(values == value) or rle.counts == rle_of(values == value).counts
        assert box == bounds(values == value)


# Cityscapes


def test_the_classes_are_those_of_the_label_maps() -> None:
    table = label_map("ten").table["cityscapes"]
    assert [c.name for c in CITY] == [name for name in table if name != "license plate"]
    assert len(CITY) == 34 and CITY[33].name == "bicycle" and CITY[26].rgb == (0, 0, 142)
    assert next(c.name for c in CITY if c.thing) == "person" and sum(bool(c.thing) for c in CITY) == 10


def with_objects(dataset: Dataset, categories: tuple[Category, ...]) -> Dataset:
    """Two objects and a group in every image that has a mask."""

    def samples() -> Iterator[Any]:
        for sample in dataset:
            objects = None
            if sample.mask is not None:
                found = []
                for i, (name, crowd) in enumerate((("person", False), ("car", True), ("person", False))):
                    pixels = sample.mask().ids == -1
                    pixels[2 * i : 2 * i + 2, i : i + 3] = True
                    found.append(Object(name, bounds(pixels), rle=rle_of(pixels), crowd=crowd))
                objects = tuple(found)
            yield replace(sample, objects=objects)

    return replace(dataset, samples=samples, categories=categories)


@often
@given(rows(("train", "val")))
def test_cityscapes_comes_back_as_it_was(found: list[Row]) -> None:
    categories = CITY[:24]  # no countable class in the masks: without its objects it would come back as a group
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, categories)
        after = back(format_cityscapes, before, Path(folder) / "copy")
        assert after.categories == CITY
        for a, b in zip(said(before), said(after), strict=True):
            assert a[:3] == b[:3] and (a[3] is None) == (b[3] is None)
        for a, b in zip(before, after, strict=True):
            if a.mask and b.mask:  # ignored pixels are class 0 there
                assert (np.where(a.mask().ids == 255, 0, a.mask().ids) == b.mask().ids).all()


def test_objects_come_back(tmp_path: Path) -> None:
    found = [Row(f"aachen/aachen_{i:06d}_{19 + i:06d}.png", ("train", "val")[i], "all first", i) for i in range(2)]
    before = with_objects(made(tmp_path / "photos", [*found, Row("b/c.png", "train", "none", 3)], CITY), CITY)
    after = back(format_cityscapes, before, tmp_path / "copy")
    got, wanted = things(after), things(before)
    assert {k: v and sorted(v) for k, v in got.items()} == {k: v and sorted(v) for k, v in wanted.items()}
    assert got["b/c.png"] is None and got["aachen/aachen_000000_000019.png"] is not None
    names = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*.png")}
    stem = "train/aachen/aachen_000000_000019"
    assert {f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png",
            f"gtFine/{stem}_gtFine_instanceIds.png"} <= names  # fmt: skip
    ids_there = np.array(PIL_Image.open(tmp_path / f"copy/gtFine/{stem}_gtFine_instanceIds.png"))
    assert set(np.unique(ids_there).tolist()) == {0, 24000, 24001, 26}
    assert next((s.clip, s.frame) for s in after) == ("aachen_000000", 19)


def test_twice_around_changes_nothing(tmp_path: Path) -> None:
    before = with_objects(made(tmp_path / "p", [Row("a/b.png", "train", "any", 1)], CITY[:20]), CITY[:20])
    first = back(format_cityscapes, before, tmp_path / "1")
    second = back(format_cityscapes, first, tmp_path / "2")
    assert said(first) == said(second) and things(first) == things(second)


def test_classes_go_by_name(tmp_path: Path) -> None:
    categories = (Category(0, "sky"), Category(7, "car"), Category(300, "road"))
    before = made(tmp_path / "photos", [Row("a/b.png", "train", "any", 1)], categories)
    after = back(format_cityscapes, before, tmp_path / "copy")
    (a,), (b,) = before, after
    assert a.mask is not None and b.mask is not None
    table = {0: 23, 7: 26, 300: 7, 65535: 0}
    assert (np.vectorize(table.get)(a.mask().ids) == b.mask().ids).all()
    bad = made(tmp_path / "more", [Row("a.png", "train", "any", 1)], (Category(0, "sky"), Category(1, "cup")))
    with pytest.raises(DataError, match=r"does not have.*'cup'"):
        format_cityscapes.write(bad, Writer(tmp_path / "x"))
    twins = made(tmp_path / "t", [Row("a.png", "train", "any", 1), Row("a.bmp", "train", "any", 1)], CITY)
    with pytest.raises(DataError, match="suffix only"):
        format_cityscapes.write(twins, Writer(tmp_path / "y"))


def city(root: Path, **more: Any) -> Path:
    files: dict[str, Any] = {}
    for split in ("train", "test"):
        stem = f"{split}/bonn/bonn_000000_000019"
        labels = np.array([[3, 0], [1, 2]], np.uint8) if split == "test" else np.array([[26, 7], [255, 24]], np.uint8)
        big = labels.repeat(5, 0).repeat(6, 1)[: SIZE[1], : SIZE[0]]
        files[f"leftImg8bit/{stem}_leftImg8bit.png"] = None
        files[f"gtFine/{stem}_gtFine_labelIds.png"] = big
    files["gtFine/train/bonn/bonn_000000_000019_gtFine_color.png"] = b"not looked at"
    files["gtCoarse/train_extra/bonn/bonn_000000_000020_gtCoarse_labelIds.png"] = ids(1)
    return tree(root, {**files, **more})


def test_the_test_split_is_unlabelled(tmp_path: Path) -> None:
    dataset, told, _ = read_all(format_cityscapes, city(tmp_path))
    assert codes(told) == ["unlabeled_image"] and told[0].count == 1
    assert {s.split: s.mask is None for s in dataset} == {"test": True, "train": False}


def test_coarse_labels_where_there_are_no_fine_ones(tmp_path: Path) -> None:
    more = {"leftImg8bit/train_extra/bonn/bonn_000000_000020_leftImg8bit.png": None}
    dataset, _, _ = read_all(format_cityscapes, city(tmp_path, **more))
    (extra,) = (s for s in dataset if s.split == "train_extra")
    assert extra.mask is not None and (extra.mask().ids == 1).all() and extra.name == "bonn/bonn_000000_000020.png"


def test_fine_labels_before_coarse_ones(tmp_path: Path) -> None:
    dataset, _, _ = read_all(format_cityscapes, city(tmp_path, **{LABEL.replace("gtFine", "gtCoarse"): ids(1)}))
    (sample,) = (s for s in dataset if s.split == "train")
    assert sample.mask_path == tmp_path / LABEL


LABEL = "gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png"
INSTANCE = "gtFine/train/bonn/bonn_000000_000019_gtFine_instanceIds.png"


@pytest.mark.parametrize(
    ("files", "code", "file"),
    [
        ({LABEL: ids(34)}, "label_outside_map", LABEL),
        ({LABEL: ids(7, (4, 4))}, "mask_size_mismatch", LABEL),
        ({LABEL: b"x"}, "unreadable_mask", LABEL),
        ({LABEL.replace("bonn_000000_000019", "bonn_000000_000029"): ids(7)}, "missing_image",
         LABEL.replace("bonn_000000_000019", "bonn_000000_000029")),
        ({INSTANCE: np.full(SIZE[::-1], 34001, np.uint16)}, "label_outside_map", INSTANCE),
        ({INSTANCE: b"x"}, "unreadable_mask", INSTANCE),
        ({INSTANCE: np.arange(297, dtype=np.uint8).reshape(9, 11, 3)}, "mask_not_ids", INSTANCE),
        ({"leftImg8bit/train/bonn/x.png": None}, "not_an_image", "leftImg8bit"),
    ],
)  # fmt: skip
def test_each_fault_of_cityscapes_is_found(tmp_path: Path, files: dict[str, Any], code: str, file: str) -> None:
    _, told, _ = read_all(format_cityscapes, city(tmp_path, **files))
    assert [f.file for f in told if f.code == code] == [file], told
    assert {f.code for f in told} <= {code, "unlabeled_image"}


# ADE20K


@often
@given(rows((None, "train", "val", "test")), classes(most_id=600), st.booleans())
def test_ade20k_comes_back_as_it_was(found: list[Row], categories: tuple[Category, ...], own: bool) -> None:
    categories = ADE if own else tuple(replace(c, rgb=None) for c in categories)
    found = [r for r in found if r.split or r.name.split("/")[0] not in ("train", "val", "test", *format_ade20k.SPLITS)]
    with tempfile.TemporaryDirectory() as folder:
        before = made(Path(folder) / "photos", found, categories)
        after = back(format_ade20k, before, Path(folder) / "copy")
        assert [c.name for c in after.categories] == [c.name for c in categories]
        number = {a.id: b.id for a, b in zip(before.categories, after.categories, strict=True)}
        assert own is False or after.categories == ADE
        for a, b in zip(before, after, strict=True):
            assert (a.name, a.split, a.path.read_bytes()) == (b.name, b.split, b.path.read_bytes())
            assert (a.mask is None) == (b.mask is None)
            if a.mask is not None and b.mask is not None:
                mine, other = a.mask(), b.mask()
                wanted = np.vectorize({**number, mine.ignore: 255}.get)(mine.ids)
                assert (wanted == other.ids).all()


def test_the_layout_of_ade20k(tmp_path: Path) -> None:
    found = [Row("ADE_train_00000001.png", "train", "hole", 1), Row("ADE_val_00000001.png", "val", "any", 2)]
    before = with_objects(made(tmp_path / "photos", found, ADE), ADE)
    after = back(format_ade20k, before, tmp_path / "copy")
    assert (tmp_path / "copy/annotations/validation/ADE_val_00000001.png").is_file()
    assert (tmp_path / "copy/images/training/ADE_train_00000001.png").is_file()
    assert 0 in np.array(PIL_Image.open(tmp_path / "copy/annotations/training/ADE_train_00000001.png"))
    rgb = np.array(PIL_Image.open(tmp_path / "copy/annotations_instance/training/ADE_train_00000001.png"))
    assert set(map(tuple, rgb.reshape(-1, 3).tolist())) == {(0, 0, 0), (4, 1, 0), (4, 2, 0), (9, 1, 0)}
    wanted = {k: sorted((a, b, c, False) for a, b, c, _ in v) for k, v in things(before).items()}
    assert {k: sorted(v) for k, v in things(after).items()} == wanted
    (tmp_path / "copy/objectInfo150.txt").unlink()
    assert format_ade20k.read(tmp_path / "copy").categories == ADE
    (tmp_path / "copy").rename(tmp_path / "ADEChallengeData2016")
    assert len(format_ade20k.read(tmp_path)) == 2


def test_the_published_table_of_names(tmp_path: Path) -> None:
    rows_of = "".join(f"{c.id} \t0.1\t2\t3\t{c.name}, and so on \n" for c in ADE)
    files = {"images/training/a.png": None, "annotations/training/a.png": ids(13),
             "objectInfo150.txt": "Idx\tRatio\tTrain\tVal\tName\n" + rows_of}  # fmt: skip
    dataset, told, _ = read_all(format_ade20k, tree(tmp_path, files))
    assert told == [] and dataset.categories == ADE and ADE[12].name == "person"
    assert len(format_ade20k.COUNTABLE) == 100 == len(set(format_ade20k.COUNTABLE))


def test_objects_are_numbered_for_the_own_classes_only(tmp_path: Path) -> None:
    names = "Idx\tName\n150\tflag\n16\tmine\n"
    more = {"objectInfo150.txt": names, f"annotations_instance/{PHOTO}": RED // 101 * 6}
    dataset, _, _ = read_all(format_ade20k, ade(tmp_path, **more))
    assert [s.objects for s in dataset] == [None]


def ade(root: Path, **more: Any) -> Path:
    files = {"images/training/ADE_train_00000001.png": None, "annotations/training/ADE_train_00000001.png": ids(150)}
    return tree(root, {**files, **more})


PHOTO = "training/ADE_train_00000001.png"
RED = np.zeros((*SIZE[::-1], 3), np.uint8)
RED[0] = 101, 1, 0


@pytest.mark.parametrize(
    ("files", "code", "file"),
    [
        ({f"annotations/{PHOTO}": ids(151)}, "label_outside_map", f"annotations/{PHOTO}"),
        ({f"annotations/{PHOTO}": ids(1, (3, 3))}, "mask_size_mismatch", f"annotations/{PHOTO}"),
        ({f"annotations/{PHOTO}": b"x"}, "unreadable_mask", f"annotations/{PHOTO}"),
        ({"annotations/training/b.png": ids(1)}, "missing_image", "annotations/training/b.png"),
        ({"annotations_instance/training/b.png": ids(0)}, "missing_image", "annotations_instance/training/b.png"),
        ({f"annotations_instance/{PHOTO}": RED}, "label_outside_map", f"annotations_instance/{PHOTO}"),
        ({f"annotations_instance/{PHOTO}": b"x"}, "unreadable_mask", f"annotations_instance/{PHOTO}"),
        ({"objectInfo150.txt": "Idx\tName\n150\tflag\nnonsense\n"}, "broken_label", "objectInfo150.txt"),
        ({"objectInfo150.txt": "Idx\tName\n150\tflag\n999\tx\n"}, "broken_label", "objectInfo150.txt"),
        ({"objectInfo150.txt": "Idx\tName\n150\tflag\n150\tx\n"}, "category_clash", "objectInfo150.txt"),
        ({"objectInfo150.txt": b"\xff\n150\tflag"}, "unreadable_labels", "objectInfo150.txt"),
    ],
)
def test_each_fault_of_ade20k_is_found(tmp_path: Path, files: dict[str, Any], code: str, file: str) -> None:
    assert read_all(format_ade20k, ade(tmp_path / "sound"))[1:] == ([], [])
    _, told, _ = read_all(format_ade20k, ade(tmp_path / "set", **files))
    assert [f.file for f in told if f.code == code] == [file], told
    assert {f.code for f in told} <= {code, "label_outside_map"}


def test_what_ade20k_cannot_hold_is_said(tmp_path: Path) -> None:
    found = [Row("a.png", None, "any", 1)]
    for categories, match in (
        (tuple(Category(i, f"{i}") for i in range(300)), "300 classes"),
        ((Category(1, "a\tb"),), "cannot hold the name"),
    ):
        with pytest.raises(DataError, match=match):
            format_ade20k.write(made(tmp_path / match, found, categories), Writer(tmp_path / "copy"))
    with pytest.raises(DataError, match="of ADE20K in it"):
        format_ade20k.read(tmp_path)
    with pytest.raises(DataError, match="layout of Cityscapes"):
        format_cityscapes.read(tmp_path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = {"objectInfo150.txt": data, f"annotations/{PHOTO}": data, f"annotations_instance/{PHOTO}": data}
        read_all(format_ade20k, ade(Path(folder) / "a", **more))
        read_all(format_cityscapes, city(Path(folder) / "b", **{LABEL: data, INSTANCE: data}))
