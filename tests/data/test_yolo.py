from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image
from scipy.ndimage import label

from handful.data import format_coco, format_yolo, yolo_outline, yolo_rows
from handful.data.finding import Finding, stop
from handful.data.shapes import bounds, painted
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Dataset, Object, Sample
from tests.data.boxsets import (
    WORDS,
    boxed_sets,
    codes,
    dataset,
    everything,
    jittered,
    order,
    photo,
    placed,
    precision,
    rle,
    through,
    told,
    without_shapes,
)
from tests.data.planted import bomb

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
BOX = "0 0.5 0.5 0.5 0.5\n"
TRIANGLE = "1 0.1 0.1 0.9 0.1 0.5 0.9\n"


def yolo(root: Path, labels: dict[str, str | None], config: str | None = YAML) -> Path:
    """A YOLO folder: "train/a" -> the text of its label file, or None for an image without one."""
    for name, text in labels.items():
        photo(root / "images" / f"{name}.jpg")
        if text is not None:
            path = root / "labels" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
    if config is not None:
        (root / "data.yaml").write_text(config)
    return root


def of(text: str, *, size: tuple[int, int] = (100, 50), points: tuple[int, int] = (0, 0)) -> tuple[Object, ...]:
    return yolo_rows.objects_of(text, {0: "cat", 1: "dog"}, size, stop, file="a.txt", points=points)


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_is_a_box_or_an_outline() -> None:
    (cat,) = of("0 0.5 0.5 0.2 0.4\n")
    assert (cat.label, cat.box_px, cat.polygons_px) == ("cat", (40.0, 15.0, 60.0, 35.0), ())
    (dog,) = of("1 0.1 0.2 0.5 0.2 0.3 1.0\n\n")
    assert (dog.label, dog.box_px) == ("dog", (10.0, 10.0, 50.0, 50.0))
    assert dog.polygons_px[0].tolist() == [[10, 10], [50, 10], [30, 50]]
    assert of("") == () and of("\n \n") == ()
    (cat,) = of("0.0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.2 0.2 1\n", points=(2, 3))
    assert cat.box_px == (40.0, 15.0, 60.0, 35.0) and not cat.polygons_px


def test_the_last_line_needs_no_end_and_windows_ends_are_fine() -> None:
    assert len(of(BOX.strip() + "\r\n" + BOX.strip())) == 2


@pytest.mark.parametrize(
    ("text", "code", "value"),
    [
        (BOX + TRIANGLE, "broken_label", 1),  # Ultralytics would take the box for an outline of two points
        ("0 0.5 0.5 0.5\n", "broken_label", 1),
        (BOX + "0 0.5 0.5 0.5 0.5 0.9\n", "broken_label", 2),
        ("0 .1 .1 .2 .2 .3 .3 .4\n", "broken_label", 1),
        ("cat 0.5 0.5 0.5 0.5\n", "broken_label", 1),
        ("0.5 0.5 0.5 0.5 0.5\n", "broken_label", 1),
        ("1e999 0.5 0.5 0.5 0.5\n", "broken_label", 1),
        ("0 0.5 0.5 x 0.5\n", "broken_label", 1),
        ("2 0.5 0.5 0.5 0.5\n", "unknown_category", 2),
        ("-1 0.5 0.5 0.5 0.5\n", "unknown_category", -1),
        ("0 0.5 nan 0.5 0.5\n", "not_finite", 1),
        ("0 0.5 inf 0.5 0.5\n", "not_finite", 1),
        ("0 0.5 1e308 0.5 1e308\n", "not_finite", None),
        ("0 0.5 0.5 -0.5 0.5\n", "box_negative", None),
        ("0 0.5 0.5 0 0.5\n", "box_no_area", None),
        ("0 0.9 0.5 0.5 0.5\n", "box_outside", None),
        ("0 320 240 64 48\n", "box_off_image", None),
        ("1 0.1 0.1 1.9 0.1 0.5 0.9\n", "box_outside", None),
        ("1 0.1 0.1 1e300 0.1 0.5 0.9\n", "box_outside", None),
        ("1 0.1 0.1 0.2 0.1 0.5 0.1\n", "box_no_area", None),
        ("0 " + "0.5 " * 200_002 + "\n", "broken_polygon", 1),
        ("0 " + "0.5 " * 1_700_000 + "\n", "broken_polygon", 1),
    ],
)
def test_findings_in_lines(text: str, code: str, value: int | None) -> None:
    found: list[Finding] = []
    kept = yolo_rows.objects_of(text, {0: "cat", 1: "dog"}, (100, 50), found.append, file="labels/a.txt")
    assert [f.code for f in found] == [code] and found[0].file == "labels/a.txt"
    assert value is None or found[0].value == value
    assert all(t.box_px is not None and t.box_px[0] >= 0 and t.box_px[2] <= 100 for t in kept)
    with pytest.raises(DataError, match=r"labels/a\.txt"):
        yolo_rows.objects_of(text, {0: "cat", 1: "dog"}, (100, 50), stop, file="labels/a.txt")


def test_many_findings_of_one_kind_are_counted() -> None:
    found: list[Finding] = []
    yolo_rows.objects_of("x\n" * 5000, {}, (100, 50), found.append, file="a.txt")
    assert len(found) == 21 and sum(f.count for f in found) == 5000


def test_no_number_leaves_the_photo() -> None:
    """Boxes may leave the image by a pixel; Ultralytics drops an image with a number below 0 or above 1."""
    over = [(-1.0, -1.0, 101.0, 51.0), (-0.9, 3.0, 0.5, 9.0), (99.8, 10.0, 100.9, 50.9)]
    for box in over:
        for thing in (Object("a", box), Object("a", box, (np.array([[box[0], box[1]], [box[2], box[1]], box[2:]]),))):
            (line,) = yolo_rows.lines_of([thing], {"a": 0}, (100, 50))
            assert all(0 <= float(v) <= 1 for v in line.split()[1:])


# --- outlines --------------------------------------------------------------------------------------------------------


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask without its holes; what can be reached from outside around a corner is no hole."""
    ground, _ = label(~np.pad(mask, 1), structure=np.ones((3, 3)))  # around corners, too
    return np.asarray(ground != ground[0, 0])[1:-1, 1:-1]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_traced_pixels_are_the_same_pixels_without_holes(seed: int, h: int, w: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < share
    parts = yolo_outline.outlines(mask)
    assert bool(parts) == bool(mask.any())
    if parts:
        again = painted(Object("", None, tuple(parts)), (w, h))
        assert again is not None and (again == filled(mask)).all()
        assert all((p == p.round()).all() and (np.abs(p - np.roll(p, 1, 0)).min(1) == 0).all() for p in parts)


def test_an_island_in_a_hole_is_inside_already() -> None:
    rings = np.zeros((15, 15), bool)
    rings[1:14, 1:14] = True
    rings[3:12, 3:12] = False
    rings[5:10, 5:10] = True
    rings[6:8, 6:8] = False
    (part,) = yolo_outline.outlines(rings)
    whole = painted(Object("", None, (yolo_outline.joined([part]),)), (15, 15))
    assert whole is not None and (whole == filled(rings)).all()


def test_a_ring_loses_its_hole() -> None:
    ring = np.zeros((12, 12), bool)
    ring[2:9, 2:9] = True
    ring[4:6, 4:6] = False
    (part,) = yolo_outline.outlines(ring)
    assert part.tolist() == [[9, 2], [9, 9], [2, 9], [2, 2]]


def test_parts_are_joined_where_they_are_nearest() -> None:
    a = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    b = np.array([[30.0, 30], [14, 11], [40, 30]])
    whole = yolo_outline.joined([a, b])
    assert whole.tolist() == [[0, 0], [10, 0], [10, 10], [14, 11], [40, 30], [30, 30], [14, 11], [10, 10], [0, 10]]
    both, one = painted(Object("", None, (a, b)), (50, 50)), painted(Object("", None, (whole,)), (50, 50))
    assert both is not None and one is not None and (both != one).sum() <= 4  # the way over has no area


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40))
def test_the_nearest_corners_are_found_in_pieces(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 30, (n, 2)).astype(float), rng.integers(0, 30, (m, 2)).astype(float)
    apart = ((a[:, None] - b[None]) ** 2).sum(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yolo_outline, "_MOST_PAIRS", 64)
        i, j = yolo_outline._nearest(a, b)
    assert apart[i, j] == apart.min()


# --- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(boxed_sets(attributes=False))
def test_boxes_come_back(source: Dataset) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = dataset([placed(folder / "photos", s) for s in source], source.categories)
        back = through(format_yolo, source, folder / "yolo")
        wanted = everything(source)
        for row in wanted.values():
            row["size"] = None if row["objects"] is None else row["size"]
        assert everything(back) == wanted and len(back) == len(source)
        assert [(c.id, c.name) for c in back.categories] == list(enumerate(c.name for c in source.categories))
        # an image's place in a folder is its name's: the order inside a split is by name
        assert order(back) == sorted(order(source))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_outlines_come_back(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, samples = Path(name), []
        for i in range(n):
            things = []
            for _ in range(rng.integers(1, 4)):
                points = np.round(rng.uniform(0, [40, 30], (rng.integers(3, 9), 2)), 2)
                (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
                things.append(Object("ab"[rng.integers(0, 2)], (left, top, right, bottom), (points,)))
            sample = Sample(Path(), objects=tuple(things), name=f"{i}.jpg", split="train", size_wh=(40, 30))
            samples.append(placed(folder / "photos", sample))
        source = dataset(samples, "ab")
        assert everything(through(format_yolo, source, folder / "yolo")) == everything(source)


@given(st.lists(WORDS | st.text(st.characters(exclude_categories=()), min_size=1, max_size=8) | st.sampled_from(
    ["no", "1", "1e3", "null", "~", "2020-01-01", "- a", "a: b", "#c", "'"]), min_size=1, max_size=5,
    unique_by=lambda n: " ".join(n.split()).casefold()))  # fmt: skip
@settings(deadline=None)
def test_class_names_come_back(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as held:
        back = through(format_yolo, dataset([], names), Path(held) / "yolo")
        assert [c.name for c in back.categories] == names


def test_a_thousandth_of_a_pixel_in_a_large_photo(tmp_path: Path) -> None:
    size = 13_333, 8
    boxes = [(i + 0.001 * i, 1.0, 12_000.123 + i, 7.111111) for i in range(100)]
    things = tuple(Object("a", box) for box in boxes)
    sample = Sample(tmp_path / "a.png", objects=things, name="a.png", size_wh=size)
    PIL_Image.new("RGB", size).save(tmp_path / "a.png")
    (back,) = through(format_yolo, dataset([sample], "a"), tmp_path / "yolo")
    np.testing.assert_allclose([t.box_px for t in back.objects or ()], boxes, rtol=0, atol=1e-6)


def test_pixels_become_an_outline_and_boxes_beside_them_rectangles(tmp_path: Path) -> None:
    ring = np.zeros((30, 40), bool)
    ring[4:20, 5:25] = True
    ring[8:12, 10:14] = False
    things = (Object("a", (5.0, 4.0, 25.0, 20.0), (), rle(ring)), Object("b", (1.0, 2.0, 3.5, 9.25)))
    crowd = Object("b", (0.0, 0.0, 9.0, 9.0), (), rle(ring), crowd=True)
    sample = placed(tmp_path, Sample(Path(), objects=(*things, crowd), name="a.jpg", size_wh=(40, 30)))
    (back,) = through(format_yolo, dataset([sample], "ab"), tmp_path / "yolo")
    a, b = back.objects or ()
    pixels = painted(a, (40, 30))
    assert pixels is not None and (pixels == filled(ring)).all() and a.box_px == bounds(ring)
    assert b.box_px == things[1].box_px and len(b.polygons_px[0]) == 4


def test_three_hundred_objects_in_one_photo(tmp_path: Path) -> None:
    things = tuple(
        Object("ab"[i % 2], (i % 40 + 0.0, i // 40 + 0.25, i % 40 + 1.0, i // 40 + 1.25)) for i in range(300)
    )
    sample = placed(tmp_path, Sample(Path(), objects=things, name="a.jpg", size_wh=(40, 30)))
    source = dataset([sample], "ab")
    assert everything(through(format_yolo, source, tmp_path / "yolo")) == everything(source)


def test_nobody_looked_is_not_empty(tmp_path: Path) -> None:
    samples = [placed(tmp_path, Sample(Path(), objects=o, name=n)) for n, o in (("a.jpg", None), ("b.jpg", ()))]
    back = {s.name: s.objects for s in through(format_yolo, dataset(samples, ["cat"]), tmp_path / "yolo")}
    assert back == {"a.jpg": None, "b.jpg": ()}
    assert (tmp_path / "yolo/labels/b.txt").read_bytes() == b"" and not (tmp_path / "yolo/labels/a.txt").exists()


def test_photos_of_one_stem_are_refused(tmp_path: Path) -> None:
    samples = [placed(tmp_path, Sample(Path(), name=n, split="train")) for n in ("a.jpg", "a.png")]
    (tmp_path / "yolo").mkdir()
    with pytest.raises(DataError, match=r"a\.png.*a\.jpg.*labels/train/a\.txt.*rename"):
        format_yolo.write(dataset(samples), Writer(tmp_path / "yolo"))


def test_a_split_that_data_yaml_cannot_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yolo").mkdir()
    sample = placed(tmp_path, Sample(Path(), name="a.jpg", split="names"))
    with pytest.raises(DataError, match="'names'"):
        format_yolo.write(dataset([sample]), Writer(tmp_path / "yolo"))


def turned(path: Path, orientation: int) -> Path:
    exif = PIL_Image.Exif()
    exif[0x0112] = orientation
    PIL_Image.open(path).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_fractions_are_of_the_photo_as_exif_turns_it(tmp_path: Path, suffix: str) -> None:
    yolo(tmp_path, {"train/a": BOX})
    (tmp_path / "images/train/a.jpg").unlink()
    for orientation, size in ((3, (40, 30)), (5, (30, 40)), (6, (30, 40)), (7, (30, 40)), (8, (30, 40))):
        turned(photo(tmp_path / f"images/train/a{suffix}"), orientation)
        (sample,) = format_yolo.read(tmp_path)
        quarters = (size[0] / 4, size[1] / 4, size[0] * 3 / 4, size[1] * 3 / 4)
        assert sample.size_wh == size and (sample.objects or ())[0].box_px == quarters
    late = tmp_path / "images/train/a.png"
    if suffix == ".png":  # the EXIF after the pixels, where a header does not show it
        data = late.read_bytes()
        at, end = (
            data.index(b"eXIf") - 4,
            data.index(b"eXIf") + 8 + int.from_bytes(data[data.index(b"eXIf") - 4 :][:4], "big"),
        )
        moved = data[:at] + data[end:-12] + data[at:end] + data[-12:]
        late.write_bytes(moved)
        (sample,) = format_yolo.read(tmp_path)
        assert sample.size_wh == (30, 40)


def test_labels_drawn_for_another_size_are_refused(tmp_path: Path) -> None:
    """Fractions would be of the wrong side: an image that EXIF turns, with labels for how it lies in the file."""
    path = turned(photo(tmp_path / "a.jpg"), 6)
    sample = Sample(path, objects=(Object("a", (1.0, 1.0, 39.0, 9.0)),), name="a.jpg", size_wh=(40, 30))
    (tmp_path / "yolo").mkdir()
    with pytest.raises(DataError, match=r"a\.jpg is 30x40.*for 40x30.*--fix"):
        format_yolo.write(dataset([sample], "a"), Writer(tmp_path / "yolo"))


# --- layouts ---------------------------------------------------------------------------------------------------------


def rows(root: Path) -> list[tuple[str | None, str, int | None]]:
    return [(s.split, s.name, None if s.objects is None else len(s.objects)) for s in format_yolo.read(root)]


def test_what_ultralytics_reads_is_written(tmp_path: Path) -> None:
    samples = [placed(tmp_path, Sample(Path(), objects=(), name="a.jpg", split=s)) for s in ("val", "train", "mine")]
    through(format_yolo, dataset(samples, ["a", "no"]), tmp_path / "yolo")
    config = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert config == {"train": "images/train", "val": "images/val", "mine": "images/mine", "nc": 2,
                      "names": {0: "a", 1: "no"}}  # fmt: skip
    through(format_yolo, dataset(samples[1:2]), tmp_path / "one")
    assert yaml.safe_load((tmp_path / "one/data.yaml").read_text())["val"] is None  # both keys must be there
    assert [s.split for s in format_yolo.read(tmp_path / "one")] == ["train"]


def test_data_yaml_from_another_machine(tmp_path: Path) -> None:
    wanted = [("train", "a.jpg", 1), ("val", "sub/b.jpg", 1)]
    for i, text in enumerate((
        "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n",
        "train: ../x/images/train\nval: /content/x/images/val\nnames: [cat, dog]\nnc: 2\n",
        "path: C:/data\ntrain: [images/train]\nval: ./images/val/\ntest:\nnames: ['cat', 'dog']\nauthor: me\n",
    )):  # fmt: skip
        root = yolo(tmp_path / str(i), {"train/a": BOX, "val/sub/b": TRIANGLE}, text)
        assert format_yolo.detect(root) and rows(root) == wanted
        assert rows(root / "data.yaml") == wanted


def test_a_class_called_no_stays_no(tmp_path: Path) -> None:
    names = [
        c.name for c in format_yolo.read(yolo(tmp_path, {}, "train: images/train\nnames: [no, 1e3, 007]\n")).categories
    ]
    assert names == ["no", "1e3", "007"]


def test_one_set_for_train_and_val_has_no_splits(tmp_path: Path) -> None:
    root = yolo(tmp_path, {"train2017/a": BOX}, "train: images/train2017\nval: images/train2017\nnames: [cat]\n")
    assert rows(root) == [(None, "a.jpg", 1)]


def test_roboflows_layout(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        photo(tmp_path / split / "images/a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels/a.txt").write_text(BOX)
    assert format_yolo.detect(tmp_path)
    assert codes(format_yolo, tmp_path) == {"no_label_map"}
    assert rows(tmp_path) == [("train", "a.jpg", 1), ("valid", "a.jpg", 1)]
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cat]\n"
    )
    assert codes(format_yolo, tmp_path) == {"missing_split"}  # there is no test, which is a note
    assert rows(tmp_path) == [("train", "a.jpg", 1), ("val", "a.jpg", 1)]
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    assert rows(tmp_path) == [("train", "a.jpg", 1), ("val", "a.jpg", 1)]


def test_folders_alone(tmp_path: Path) -> None:
    root = yolo(tmp_path, {"train/a": BOX, "val/b": TRIANGLE, "c": None}, None)
    (root / "classes.txt").write_text("cat\r\ndog\r\n")
    assert format_yolo.detect(root)
    assert rows(root) == [(None, "c.jpg", None), ("train", "a.jpg", 1), ("val", "b.jpg", 1)]
    assert [c.name for c in format_yolo.read(root).categories] == ["cat", "dog"]


def test_darknets_layout(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        photo(tmp_path / f"obj_train_data/sub/{name}.jpg")
        (tmp_path / f"obj_train_data/sub/{name}.txt").write_text(BOX)
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    (tmp_path / "train.txt").write_text("data/obj_train_data/sub/b.jpg\ndata/obj_train_data/sub/a.jpg\n")
    (tmp_path / "valid.txt").write_text("/home/me/data/obj_train_data/sub/c.jpg\r\n")
    wanted = [("train", "sub/b.jpg", 1), ("train", "sub/a.jpg", 1), ("valid", "sub/c.jpg", 1)]
    assert format_yolo.detect(tmp_path) and rows(tmp_path) == wanted
    (tmp_path / "obj.data").unlink()
    assert rows(tmp_path) == wanted
    with (tmp_path / "train.txt").open("a") as file:
        file.write(
            "data/obj_train_data/sub/a.jpg\ndata/obj_train_data/sub/c.jpg\ndata/obj_train_data/zz.jpg\n../../../x.jpg\n"
        )
    assert codes(format_yolo, tmp_path) == {"duplicate_image", "same_image_across_splits", "missing_image"}


def test_label_files_beside_photos(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    (tmp_path / "a.txt").write_text(BOX)
    (tmp_path / "classes.txt").write_text("cat\n")
    assert format_yolo.detect(tmp_path) and rows(tmp_path) == [(None, "a.jpg", 1), (None, "b.jpg", None)]


# --- findings about files --------------------------------------------------------------------------------------------


def test_findings_about_files(tmp_path: Path) -> None:
    def planted(name: str, labels: dict[str, str | None] | None = None, config: str | None = YAML) -> Path:
        return yolo(tmp_path / name, {"train/a": BOX, "val/b": BOX, **(labels or {})}, config)

    assert codes(format_yolo, planted("good")) == set()
    assert codes(format_yolo, planted("unseen", {"train/c": None, "train/d": None})) == {"unlabeled_image"}
    bad = planted("bytes")
    (bad / "labels/train/a.txt").write_bytes(b"\xff\xfe0")
    assert codes(format_yolo, bad) == {"unreadable_labels"}
    header = planted("header")
    (header / "images/train/a.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (finding,) = told(format_yolo, header)
    assert (finding.code, finding.file) == ("unreadable_image", "images/train/a.jpg")
    assert [s.name for s in format_yolo.read(header, on_finding=lambda f: None)] == ["b.jpg"]
    with pytest.raises(DataError, match=r"images/train/a\.jpg"):
        list(format_yolo.read(header))
    empty = planted("empty")
    (empty / "images/train/a.jpg").write_bytes(b"")
    assert codes(format_yolo, empty) == {"empty_file"}
    large = planted("bomb")
    bomb(large / "images/train/a.png")
    (large / "images/train/a.jpg").unlink()
    assert codes(format_yolo, large) == {"image_bomb"}
    photo(planted("stem") / "images/train/a.png")
    (finding,) = told(format_yolo, tmp_path / "stem")
    assert finding.code == "shared_label_file" and "a.jpg" in finding.text and "a.png" in finding.text
    (planted("orphan") / "labels/train/z.txt").write_text(BOX)
    assert codes(format_yolo, tmp_path / "orphan") == {"missing_image"}
    assert codes(format_yolo, planted("split", None, YAML.replace("images/val", "images/gone"))) == {"missing_image"}
    assert codes(format_yolo, planted("away", None, YAML.replace("images/val", "/etc/gone"))) == {"unsafe_path"}
    assert codes(format_yolo, planted("double", None, YAML.replace("dog", "dog, dog"))) == {"duplicate_category"}
    assert codes(format_yolo, planted("twins", None, YAML.replace("dog", "dog, Dog"))) == {"category_twins"}
    assert codes(format_yolo, planted("kind", None, YAML.replace("dog", "[dog]"))) == {"broken_label"}
    assert codes(format_yolo, planted("ids", None, YAML.replace("[cat, dog]", "{0: cat, x: dog}"))) == {"broken_label"}
    assert "no_label_map" in codes(
        format_yolo, planted("names", None, "train: images/train\nval: images/val\nnames:\n")
    )
    link = planted("link")
    shutil.move(link / "labels/train/a.txt", tmp_path / "a.txt")
    (link / "labels/train/a.txt").symlink_to(tmp_path / "a.txt")
    assert codes(format_yolo, link) == {"symlink_outside"}
    pipe = planted("pipe")
    (pipe / "labels/train/a.txt").unlink()
    os.mkfifo(pipe / "labels/train/a.txt")
    assert codes(format_yolo, pipe) == {"unreadable_labels"}
    case = planted("case", None, "train: train.txt\nval: images/val\nnames: [cat]\n")
    (case / "train.txt").write_text("images/train/A.jpg\n")
    assert codes(format_yolo, case) == {"wrong_case_name"}


@pytest.mark.parametrize(
    "text", ["train: [\nnames: a\n", "train: a\nnames: &a [*a\n", "names: 1\ntrain: x\n\0", "- names:\n- train:\n",
             "names: " + "[" * 3000 + "\ntrain: x\n", "? [names: 1]\n: {train: {a: b}: c}\nnames: x\ntrain: y\n"]
)  # fmt: skip
def test_broken_yaml(tmp_path: Path, text: str) -> None:
    root = yolo(tmp_path, {"train/a": BOX}, text)
    assert "unreadable_labels" in codes(format_yolo, root) or not format_yolo.detect(root) or "- names" in text
    with pytest.raises(DataError):
        list(format_yolo.read(root / "data.yaml"))


def test_yaml_that_repeats_itself_is_harmless(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    root = yolo(tmp_path, {"train/a": BOX}, bomb + "train: *a59\nval: images/val\nnames: *a59\n")
    assert "broken_label" in codes(format_yolo, root)


# --- real data -------------------------------------------------------------------------------------------------------


def test_coco_boxes_through_yolo_score_the_same_but_for_crowds(data: Path, tmp_path: Path) -> None:
    """Every box comes back; a crowd cannot be said, so what was found in it turns from passed over to wrong."""
    held = data / "coco-mini"
    for name, crowds in (("none", False), ("crowds", True)):
        source = without_shapes(format_coco.read(held), crowds=crowds)
        (tmp_path / name).mkdir()
        before = through(format_coco, source, tmp_path / name / "before")
        back = through(format_yolo, before, tmp_path / name / "yolo")
        through(format_coco, back, tmp_path / name / "after")
        boxes = {(s.split, s.name): [(t.label, *t.box_px) for t in s.objects or () if t.box_px] for s in back}
        wanted = {(s.split, s.name): [(t.label, *t.box_px) for t in s.objects or () if t.box_px and not t.crowd]
                  for s in before}  # fmt: skip
        assert boxes.keys() == wanted.keys() and sum(map(len, boxes.values())) == 2565
        for key, things in wanted.items():
            assert [t[0] for t in boxes[key]] == [t[0] for t in things]
            if things:
                np.testing.assert_allclose([t[1:] for t in boxes[key]], [t[1:] for t in things], rtol=0, atol=1e-6)
        for split in ("train", "val"):
            detections = jittered(held / f"instances_{split}.json")
            was, now = (precision(tmp_path / name / at / f"annotations/instances_{split}.json", detections)
                        for at in ("before", "after"))  # fmt: skip
            for scores in (was, now):
                assert scores["pycocotools"] == pytest.approx(scores["faster"], abs=1e-9)
            print(name, split, json.dumps([was["pycocotools"][:3], now["pycocotools"][:3]]))
            if crowds:
                assert now["pycocotools"][0] <= was["pycocotools"][0]
            else:
                assert now["pycocotools"] == pytest.approx(was["pycocotools"], abs=1e-9)
        if crowds:
            assert now != was


def test_coco_shapes_through_yolo(data: Path, tmp_path: Path) -> None:
    """Real outlines come back to the point, joined where they had parts; traced pixels are the same but for holes."""
    source = format_coco.read(data / "coco-mini")
    back = {(s.split, s.name): s for s in through(format_yolo, source, tmp_path / "yolo")}
    assert len(back) == 332
    outlines = joined = same = other = 0
    for s in source:
        things = [t for t in s.objects or () if not t.crowd]
        for a, b in zip(things, back[s.split, s.name].objects or (), strict=True):
            if len(a.polygons_px) == 1:
                np.testing.assert_allclose(b.polygons_px[0], a.polygons_px[0], rtol=0, atol=1e-6)
                outlines += 1
            elif a.polygons_px or a.rle is not None:
                was, now = painted(a, s.size_wh or (1, 1)), painted(b, s.size_wh or (1, 1))
                assert was is not None and now is not None
                if a.polygons_px:
                    joined += 1
                    assert (was != now).sum() <= 0.02 * was.sum() + 12
                else:
                    assert (now == filled(was)).all()
                    same, other = same + bool((was == now).all()), other + bool((was != now).any())
    assert (outlines, joined, same, other) == (1057, 93, 977, 59)
