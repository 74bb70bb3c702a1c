"""Losses are measured: every kind of change is seen by `differences`, and no conversion keeps quiet about one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.cli import main
from handful.curate.convert import convert
from handful.curate.differences import differences
from handful.data import formats
from handful.data.shapes import rle_of
from handful.errors import DataError
from handful.types import Category, Dataset, Mask, Object, Sample

SQUARE = np.zeros((20, 30), dtype=bool)
SQUARE[5:12, 6:14] = True
OUTLINE = np.array([[6.0, 5.0], [14.0, 5.0], [14.0, 12.0], [6.0, 12.0]])
MASK = np.where(SQUARE, 1, 0).astype(np.uint8)


def dataset(place: Path, change: Callable[[Sample], Sample] = lambda s: s, **more: Any) -> Dataset:
    """Two images: one with three objects and a mask, one looked at and empty."""
    place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        if not (place / name).exists():
            PIL_Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(place / name)
    things = (
        Object("cat", (6.0, 5.0, 14.0, 12.0), (OUTLINE,), attributes={"area": 56.0}),
        Object("cat", (1.0, 1.0, 3.0, 3.0), rle=rle_of(SQUARE), crowd=True),
        Object("dog", (20.25, 3.5, 28.0, 17.0), track=4),
    )
    full = Sample(place / "a.png", objects=things, mask=lambda: Mask(MASK.copy()), name="a.png", split="train",
                  size_wh=(30, 20), license="MIT", attributes={"id": 7})  # fmt: skip
    empty = Sample(place / "b.png", objects=(), name="b.png", split="train", size_wh=(30, 20))
    categories = (Category(0, "other"), Category(1, "cat", "animal", True, (1, 2, 3)), Category(2, "dog"))
    values = {"format": "coco", "root": place, "categories": categories, "count": 2, "info": {"about": {}}, **more}
    return Dataset(samples=lambda: iter([change(full), change(empty)]), **values)


def things(change: Callable[[Object], Object | None], which: int = 0) -> Callable[[Sample], Sample]:
    def of(sample: Sample) -> Sample:
        objects = list(sample.objects or ())
        if objects:
            got = change(objects[which])
            objects[which : which + 1] = [] if got is None else [got]
        return replace(sample, objects=tuple(objects))

    return of


def other_mask() -> Mask:
    ids = MASK.copy()
    ids[0, 0] = 1
    return Mask(ids)


CHANGES: dict[str, tuple[Callable[[Sample], Sample], tuple[str, str, int]]] = {
    "an object dropped": (things(lambda t: None, 2), ("objects", "lost", 1)),
    "a crowd dropped": (things(lambda t: None, 1), ("crowds", "lost", 1)),
    "a box moved": (things(lambda t: replace(t, box_px=(6.0, 5.0, 14.0, 12.5))), ("boxes, px", "changed", 1)),
    "an outline dropped": (things(lambda t: replace(t, polygons_px=())), ("objects' outlines", "lost", 1)),
    "an outline moved": (things(lambda t: replace(t, polygons_px=(OUTLINE + 0.1,))), ("outlines", "changed", 1)),
    "pixels changed": (things(lambda t: replace(t, rle=rle_of(~SQUARE)), 1), ("objects' pixels", "changed", 1)),
    "pixels dropped": (things(lambda t: replace(t, rle=None), 1), ("objects' pixels", "lost", 1)),
    "an outline painted": (
        things(lambda t: replace(t, polygons_px=(), rle=rle_of(SQUARE))),
        ("outlines became pixels, the same pixels", "changed", 1)),
    "an outline painted otherwise": (
        things(lambda t: replace(t, polygons_px=(), rle=rle_of(~SQUARE))),
        ("outlines became pixels, other pixels", "changed", 1)),
    "a crowd made one object": (things(lambda t: replace(t, crowd=False), 1), ("crowd", "lost", 1)),
    "a track dropped": (things(lambda t: replace(t, track=None), 2), ("track", "lost", 1)),
    "an attribute dropped": (things(lambda t: replace(t, attributes={})), ("object's attribute 'area'", "lost", 1)),
    "nobody looked": (lambda s: replace(s, objects=None) if not s.objects else s, ("looked at and empty", "lost", 1)),
    "the mask dropped": (lambda s: replace(s, mask=None), ("pixel mask", "lost", 1)),
    "one pixel": (lambda s: replace(s, mask=other_mask) if s.mask else s, ("pixel mask", "changed", 1)),
    "the license": (lambda s: replace(s, license=None), ("license", "lost", 1)),
    "the split": (lambda s: replace(s, split=None), ("split", "lost", 2)),
    "the size": (lambda s: replace(s, size_wh=(31, 20)), ("size", "changed", 2)),
    "an id": (lambda s: replace(s, attributes={}), ("image's attribute 'id'", "lost", 1)),
    "a class of the image": (lambda s: replace(s, label="cat"), ("image's class", "added", 2)),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_seen_once(what: str, tmp_path: Path) -> None:
    change, (named, how, count) = CHANGES[what]
    rows = differences(dataset(tmp_path), dataset(tmp_path, change))
    assert [(row.what, row.how, row.count) for row in rows] == [(named, how, count)]
    assert rows[0].example


def test_the_same_set_has_no_differences_whatever_the_order_of_ids(tmp_path: Path) -> None:
    assert differences(dataset(tmp_path), dataset(tmp_path)) == []
    other = (Category(0, "other"), Category(9, "cat", "animal", True, (1, 2, 3)), Category(2, "dog"))
    ids = np.where(SQUARE, 9, 0).astype(np.uint8)
    after = dataset(tmp_path, lambda s: replace(s, mask=lambda: Mask(ids)) if s.mask else s, categories=other)
    (row,) = differences(dataset(tmp_path), after)
    assert (row.what, row.how, row.example) == ("classes' ids", "changed", "cat: 1 -> 9")


def test_classes_photos_and_what_is_said_of_the_set(tmp_path: Path) -> None:
    fewer = dataset(tmp_path, categories=(Category(0, "other"), Category(1, "cat", None, True)), info={})
    rows = {(row.what, row.how) for row in differences(dataset(tmp_path), fewer)}
    assert rows == {("classes", "lost"), ("classes' parents", "lost"), ("classes' colors", "lost"),
                    ("data set's 'about'", "lost")}  # fmt: skip
    one = replace(dataset(tmp_path), samples=lambda: iter(list(dataset(tmp_path))[:1]))
    assert [(r.what, r.how, r.count) for r in differences(dataset(tmp_path), one)] == [("images", "lost", 1)]
    assert [(r.what, r.how, r.count) for r in differences(one, dataset(tmp_path))] == [("images", "added", 1)]
    again = dataset(tmp_path / "elsewhere")
    PIL_Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "elsewhere" / "a.png")
    assert [r.what for r in differences(dataset(tmp_path), again)] == ["image's pixels or bytes"]


def test_one_object_lost_among_many_of_a_class_moves_no_other(tmp_path: Path) -> None:
    many = tuple(Object("cat", (float(i), 1.0, i + 2.0, 4.0)) for i in range(25))
    before = dataset(tmp_path, lambda s: replace(s, objects=many, mask=None))
    after = dataset(tmp_path, lambda s: replace(s, objects=many[:3] + many[4:], mask=None))
    assert [(r.what, r.how, r.count) for r in differences(before, after)] == [("objects", "lost", 2)]


def written(data: Dataset, place: Path) -> Path:
    place.mkdir()
    formats.write(data, place, "coco")
    return place


def test_coco_to_coco_loses_nothing(tmp_path: Path) -> None:
    source = written(dataset(tmp_path / "photos"), tmp_path / "coco")
    result = convert(source, tmp_path / "again", to="coco", format="coco")
    assert result["lossless"] and result["written"] and result["differences"] == []
    assert result["images"] == 2


def test_a_loss_needs_leave_and_nothing_is_written_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = written(dataset(tmp_path / "photos"), tmp_path / "coco")
    command = ["data", "convert", str(source), str(tmp_path / "out"), "--to", "folder", "--format", "coco"]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "objects" in said and "--allow-loss" in said
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    main([*command, "--allow-loss", "--json"])
    result = json.loads(capsys.readouterr().out)
    keys = {"schema_version", "data", "from", "to", "out", "images", "differences", "lossless", "written"}
    assert keys <= set(result)
    assert not result["lossless"] and result["written"]
    lost = {row["what"]: row["count"] for row in result["differences"] if row["how"] == "lost"}
    assert lost["objects"] == 3 and lost["pixel mask"] == 1 and lost["looked at and empty"] == 1
    with pytest.raises(DataError, match="exists"):
        convert(source, tmp_path / "out", to="coco", format="coco")


def test_links_are_the_same_bytes_without_the_space(tmp_path: Path) -> None:
    source = written(dataset(tmp_path / "photos"), tmp_path / "coco")
    convert(source, tmp_path / "again", to="coco", format="coco", link=True)
    a, b = source / "images/train/a.png", tmp_path / "again/images/train/a.png"
    assert a.stat().st_ino == b.stat().st_ino


def test_a_faulty_source_is_not_converted(tmp_path: Path) -> None:
    source = written(dataset(tmp_path / "photos"), tmp_path / "coco")
    file = source / "annotations/instances_train.json"
    rows = json.loads(file.read_text())
    rows["annotations"][0]["bbox"][2] = -4
    file.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"instances_train\.json.*data check"):
        convert(source, tmp_path / "out", to="coco", format="coco")
    assert not (tmp_path / "out").exists()


def test_real_coco_round_trip(data: Path, tmp_path: Path) -> None:
    result = convert(data / "coco-mini", tmp_path / "copy", to="coco", format="coco")
    assert result["lossless"] and result["differences"] == []
    for split in ("train", "val"):
        a = json.loads((data / f"coco-mini/instances_{split}.json").read_text())
        b = json.loads((tmp_path / f"copy/annotations/instances_{split}.json").read_text())
        assert a.keys() == b.keys()
        for key in ("info", "licenses", "images", "categories"):
            assert a[key] == b[key]
        rows = ({row["id"]: row for row in x["annotations"]} for x in (a, b))
        assert next(rows) == next(rows)


def test_labels_are_translated_on_the_way(data: Path, tmp_path: Path) -> None:
    result = convert(
        data / "coco-mini", tmp_path / "ten", to="masks", format="masks", masks="semantic133", labels="ten"
    )
    assert result["lossless"], result["differences"]
    names = json.loads((tmp_path / "ten/labels.json").read_text())["labels"]
    ten = ["other", "person", "sky", "plants", "pet", "building", "flower", "water", "food", "mountain", "beach"]
    assert names == {str(i): name for i, name in enumerate(ten)}
    mine = np.array(PIL_Image.open(tmp_path / "ten/masks/val/000000000724.png"))
    given = np.array(PIL_Image.open(data / "coco-mini/seg10/val/000000000724.png"))
    assert (mine == given).all()
