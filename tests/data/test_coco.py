"""COCO: everything it can say survives, whatever a file says is read or refused by name."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image
from pycocotools import mask as mask_api

from handful.curate.differences import differences
from handful.data import coco_index, format_coco, formats
from handful.data.finding import Finding, stop
from handful.data.shapes import bounds, decompress, painted, pixels_of, rle_of
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Category, Dataset, Mask, Object, Rle, Sample

W, H = 40, 30


def blank(path: Path, size: tuple[int, int] = (W, H)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL_Image.new("RGB", size, (90, 120, 60)).save(path)
    return path


def as_dataset(samples: list[Sample], categories: tuple[Category, ...], root: Path) -> Dataset:
    return Dataset("coco", root, categories, lambda: iter(samples), len(samples), {})


def round_trip(data: Dataset, place: Path) -> Dataset:
    format_coco.write(data, Writer(place))
    return format_coco.read(place)


SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='/\\:."*?<>|'), min_size=1, max_size=12
)
coordinates = st.floats(0, W - 2).map(lambda v: round(v, 2))


@st.composite
def objects(draw: st.DrawFn, labels: list[str]) -> Object:
    label = draw(st.sampled_from(labels))
    kind = draw(st.sampled_from(["box", "one pixel", "outlines", "hole", "crowd", "compressed"]))
    x, y = draw(coordinates), min(draw(coordinates), H - 2.0)
    box = (x, y, round(x + draw(st.floats(0.5, W - x)), 2), round(y + draw(st.floats(0.5, H - y)), 2))
    attributes = draw(st.dictionaries(st.sampled_from(["occluded", "note", "score"]),
                                      st.booleans() | st.integers() | SHORT, max_size=2))  # fmt: skip
    attributes["area"] = 12.5
    if kind == "one pixel":
        return Object(label, (5.0, 6.0, 6.0, 7.0), attributes=attributes)
    if kind == "outlines":
        parts = draw(st.lists(st.lists(st.tuples(coordinates, st.floats(0, H)), min_size=3, max_size=8), min_size=1,
                              max_size=3))  # fmt: skip
        return Object(label, box, tuple(np.array(p, dtype=np.float64) for p in parts), attributes=attributes)
    if kind in ("hole", "crowd", "compressed"):
        mask = np.zeros((H, W), dtype=bool)
        mask[4:20, 5:25] = True
        mask[8:12, 10:15] = False
        mask[draw(st.integers(0, H - 1)), draw(st.integers(0, W - 1))] = True
        rle = rle_of(mask)
        if kind == "compressed":
            rle = Rle((H, W), mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])
        return Object(label, box, (), rle, kind == "crowd", attributes=attributes)
    return Object(label, box, track=draw(st.none() | st.integers(1, 9)), attributes=attributes)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_all_it_can_say_survives(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        labels = data.draw(st.lists(names, min_size=1, max_size=4, unique_by=lambda n: " ".join(n.split()).casefold()))
        files = data.draw(st.lists(names, min_size=1, max_size=4, unique_by=str.casefold))
        samples = []
        for i, name in enumerate(files):
            path = blank(Path(folder) / "photos" / f"{i}.png")
            found = data.draw(st.none() | st.lists(objects(labels), max_size=4))
            split = data.draw(st.sampled_from([None, "train", "val"]))
            attributes = {} if found is None else {"id": 100 + i}
            samples.append(Sample(path, name=f"{name}.png", split=split, size_wh=(W, H), attributes=attributes,
                                  objects=None if found is None else tuple(found)))  # fmt: skip
        before = as_dataset(samples, tuple(Category(3 * i + 1, n) for i, n in enumerate(labels)), Path(folder))
        rows = differences(before, round_trip(before, Path(folder) / "coco"))
        assert [r for r in rows if "attribute 'id'" not in r.what] == []


def test_300_objects_in_one_photo(tmp_path: Path) -> None:
    many = tuple(
        Object("a", (i % 20, i // 20, i % 20 + 1.5, i // 20 + 2.25), attributes={"area": 3.0}) for i in range(300)
    )
    sample = Sample(blank(tmp_path / "a.png"), objects=many, name="a.png", size_wh=(W, H))
    before = as_dataset([sample], (Category(1, "a"),), tmp_path)
    rows = {row.what: (row.how, row.count) for row in differences(before, round_trip(before, tmp_path / "coco"))}
    assert rows["object's attribute 'id'"] == ("added", 300)


def test_pixel_masks_become_panoptic_maps_and_come_back(tmp_path: Path) -> None:
    ids = np.zeros((H, W), dtype=np.uint16)
    ids[:10], ids[10:20, :20], ids[25:] = 300, 7, 65535
    thing = rle_of(ids == 7)
    sample = Sample(blank(tmp_path / "a.png"), name="a.png", split="val", size_wh=(W, H), mask=lambda: Mask(ids.copy()),
                    objects=(Object("cup", bounds(ids == 7), (), thing, attributes={"area": 200}),))  # fmt: skip
    before = as_dataset(
        [sample], (Category(0, "rest"), Category(7, "cup", None, True), Category(300, "sky", None, False)), tmp_path
    )
    after = round_trip(before, tmp_path / "coco")
    assert [r for r in differences(before, after) if r.how != "added"] == []
    (found,) = after
    assert found.mask is not None and (found.mask().ids == ids).all()
    (tmp_path / "coco/annotations/instances_val.json").unlink()  # the map alone gives the objects, too
    (found,) = format_coco.read(tmp_path / "coco")
    assert found.objects is not None and [t.label for t in found.objects] == ["cup"]
    assert found.objects[0].rle is not None and (pixels_of(found.objects[0].rle) == (ids == 7)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms())
def test_run_lengths_agree_with_pycocotools(h: int, w: int, random: Any) -> None:
    mask = np.array([[random.random() < 0.5 for _ in range(w)] for _ in range(h)])
    rle = rle_of(mask)
    assert isinstance(rle.counts, tuple)
    theirs = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert decompress(theirs["counts"]) == list(rle.counts)
    assert (pixels_of(rle) == mask).all() and (pixels_of(Rle((h, w), theirs["counts"])) == mask).all()
    x, y, w_box, h_box = mask_api.toBbox(theirs).tolist()
    assert bounds(mask) == ((x, y, x + w_box, y + h_box) if mask.any() else None)


def test_outlines_are_painted_as_pycocotools_paints(data: Path) -> None:
    for sample in format_coco.read(data / "coco-mini"):
        for thing in (sample.objects or ())[:3]:
            if thing.polygons_px and sample.size_wh:
                w, h = sample.size_wh
                rle = mask_api.merge(mask_api.frPyObjects([p.ravel().tolist() for p in thing.polygons_px], h, w))
                mine = painted(thing, (w, h))
                assert mine is not None and mine.sum() == mask_api.area(rle)


def coco(root: Path, **more: Any) -> dict[str, Any]:
    blank(root / "images" / "a.png")
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": W, "height": H}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12}],
        **more,
    }
    return value


def refused(root: Path, text: str | bytes, words: str) -> list[Finding]:
    """Read strictly: refused with the file named; read leniently: told, never raised."""
    file = root / "instances_train.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=words) as error:
        list(format_coco.read(root))
    assert "instances_train.json" in str(error.value)
    told: list[Finding] = []
    list(format_coco.read(root, on_finding=told.append))
    assert told
    return told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "zero bytes"), (b"{", "not readable JSON"), (b"[]", "JSON"), (b"null", "JSON"),
        (b'{"images": {}}', "list"),
        (b'{"images": [1]}', "id"), (b'{"images": [' + b"[" * 200_000, "JSON"),
        (b'{"images": [], "categories": 7}', "list"),
        (b"\xff\xfe\x00", "JSON"), (b'{"images": [{"id": 1}], "categories": []}', "without a file_name"),
    ],
)  # fmt: skip
def test_broken_files_are_refused_by_name(text: bytes, words: str, tmp_path: Path) -> None:
    refused(tmp_path, text, words)


@pytest.mark.parametrize(
    ("bbox", "code"),
    [
        ([1, 2, float("nan"), 4], "not_finite"), ([1, 2, float("inf"), 4], "not_finite"),
        ([1, 2, -3, 4], "box_negative"),
        ([1, 2, 0, 4], "box_no_area"), ([35, 2, 30, 4], "box_outside"), (["1", 2, 3, 4], "broken_label"),
        ([1, 2, 3], "broken_label"), ([1e300, 2, 3, 4], "broken_label"), ({"x": 1}, "broken_label"),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be(bbox: Any, code: str, tmp_path: Path) -> None:
    value = coco(tmp_path)
    value["annotations"][0]["bbox"] = bbox
    told = refused(tmp_path, json.dumps(value), "label 1")
    assert [f.code for f in told] == [code]


def test_a_number_beyond_json_is_told_as_what_it_is(tmp_path: Path) -> None:
    told = refused(tmp_path, json.dumps(coco(tmp_path)).replace("[1, 2, 3, 4]", "[1, 2, 1e999, 4]"), "inf")
    assert [f.code for f in told] == ["not_finite"]


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/hostname", "..\\..\\a.png", "C:\\a.png", "a\0.png", "", "x/../../a.png", "file:///a.png"]
)
def test_no_name_leaves_the_folder(name: str, tmp_path: Path) -> None:
    value = coco(tmp_path / "set")
    value["images"][0]["file_name"] = name
    (tmp_path / "set/images/a.png").rename(tmp_path / "a.png")
    blank(tmp_path / "set/images/b.png")
    told = refused(tmp_path / "set", json.dumps(value), "names the image")
    assert "unsafe_path" in {f.code for f in told}
    if name.endswith("a.png") and "\0" not in name:  # the image of that name inside the folder is the one meant
        (tmp_path / "a.png").rename(tmp_path / "set/images/a.png")
        read = {s.path: s.objects for s in format_coco.read(tmp_path / "set")}
        assert read[tmp_path / "set/images/a.png"] and read[tmp_path / "set/images/b.png"] is None


@pytest.mark.parametrize("size", [{"width": float(W), "height": float(H)}, {}, {"width": None, "height": None}])
def test_sizes_as_other_tools_write_them(size: dict[str, Any], tmp_path: Path) -> None:
    value = coco(tmp_path)
    value["images"] = [{"id": 1, "file_name": "a.png", **size}]
    (tmp_path / "instances_train.json").write_text(json.dumps(value))
    found: list[Finding] = []
    (sample,) = format_coco.read(tmp_path, on_finding=found.append)
    assert [f.code for f in found if f.severity == "error"] == []
    assert sample.objects is not None and sample.objects[0].box_px == (1, 2, 4, 6)
    assert sample.size_wh == (W, H)


@pytest.mark.parametrize("colors", [(5, 70000), (0x474747, 0x5A5A5A)])
def test_a_panoptic_map_may_be_gray(colors: tuple[int, int], tmp_path: Path) -> None:
    """Black-and-white photographs are colored in grays; the three bytes are one number all the same."""
    blank(tmp_path / "images" / "train" / "a.png")
    ids = np.full((H, W), colors[0], np.uint32)
    ids[5:15, 5:20] = colors[1]
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)
    (tmp_path / "annotations" / "panoptic_train").mkdir(parents=True)
    PIL_Image.fromarray(rgb).save(tmp_path / "annotations" / "panoptic_train" / "a.png")
    parts = [{"id": color, "category_id": i, "area": 1, "iscrowd": 0} for i, color in enumerate(colors, 1)]
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": W, "height": H}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": parts}],
        "categories": [{"id": 1, "name": "wall", "isthing": 0}, {"id": 2, "name": "mug", "isthing": 1}],
    }
    (tmp_path / "annotations" / "panoptic_train.json").write_text(json.dumps(value))
    (sample,) = format_coco.read(tmp_path)
    assert sample.mask is not None and (sample.mask().ids == np.where(ids == colors[1], 2, 1)).all()


@pytest.mark.parametrize("name", [7, None])
def test_an_image_without_a_name(name: Any, tmp_path: Path) -> None:
    value = coco(tmp_path)
    value["images"][0]["file_name"] = name
    (told, *rest) = refused(tmp_path, json.dumps(value), "without a file_name")
    assert (told.code, told.count, rest) == ("broken_label", 1, [])


def test_half_copied_and_linked_folders(tmp_path: Path) -> None:
    value = coco(tmp_path / "set")
    (tmp_path / "set/images/a.png").unlink()
    assert refused(tmp_path / "set", json.dumps(value), r"a\.png is not in")[0].code == "missing_image"
    blank(tmp_path / "real.png")
    (tmp_path / "set/images/a.png").symlink_to(tmp_path / "real.png")
    with pytest.raises(DataError, match=r"is a link to .*real\.png"):
        list(format_coco.read(tmp_path / "set"))
    (tmp_path / "set/images/a.png").unlink()
    blank(tmp_path / "set/images/b.png")
    (tmp_path / "set/images/a.png").symlink_to("b.png")  # a link inside the folder is as good as a file
    assert [s.name for s in format_coco.read(tmp_path / "set")] == ["a.png", "b.png"]


@pytest.mark.parametrize("layout", ["official", "split folders", "roboflow", "beside", "one file"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    value = json.dumps(coco(tmp_path / "elsewhere"))
    places = {
        "official": ("annotations/instances_val2017.json", "val2017/a.png", "val2017"),
        "split folders": ("instances_val.json", "images/val/a.png", "val"),
        "roboflow": ("val/_annotations.coco.json", "val/a.png", "val"),
        "beside": ("annotations.json", "a.png", None),
        "one file": ("annotations.json", "images/a.png", None),
    }
    labels, photo, split = places[layout]
    root = tmp_path / "set"
    blank(root / photo)
    (root / labels).parent.mkdir(parents=True, exist_ok=True)
    (root / labels).write_text(value)
    assert formats.sources(root)[0].format == "coco"
    (sample,) = formats.read(root)
    assert (sample.name, sample.split, sample.path, len(sample.objects or ())) == ("a.png", split, root / photo, 1)
    if layout != "roboflow":
        (sample,) = formats.read(root / labels)  # the file itself may be named
        assert sample.path == root / photo


def test_nobody_looked_is_not_empty(tmp_path: Path) -> None:
    value = coco(tmp_path)
    value["images"].append({"id": 2, "file_name": "empty.png", "width": W, "height": H})
    for name in ("empty.png", "unlisted.png"):
        blank(tmp_path / "images" / name)
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert {s.name: s.objects if not s.objects else len(s.objects) for s in format_coco.read(tmp_path)} == {
        "a.png": 1, "empty.png": (), "unlisted.png": None}  # fmt: skip
    del value["annotations"]  # as in image_info_test: nobody said anything
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert [s.objects for s in format_coco.read(tmp_path)] == [None] * 3


def test_rows_stay_bytes_until_they_are_asked_for(tmp_path: Path) -> None:
    value = coco(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(value))
    part = coco_index.index(tmp_path / "a.json", tmp_path, None, stop)
    assert part is not None
    assert type(part.images[0]).__name__ == "Raw" and type(part.labels[1][0]).__name__ == "Raw"


def test_a_large_file_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_index, "MAP_FROM_BYTES", 10)
    (tmp_path / "a.json").write_text(json.dumps(coco(tmp_path)))
    (sample,) = format_coco.read(tmp_path)
    assert len(sample.objects or ()) == 1


def test_two_files_that_disagree_about_a_class(tmp_path: Path) -> None:
    shutil.copytree(blank(tmp_path / "images/train/a.png").parent, tmp_path / "images/val")
    value = coco(tmp_path / "x")
    (tmp_path / "instances_train.json").write_text(json.dumps(value))
    value["categories"] = [{"id": 1, "name": "y"}]
    (tmp_path / "instances_val.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"instances_val\.json: gives the id 1 to 'y'"):
        format_coco.read(tmp_path)
