"""Every export in listed_sets.py is recognized, read rightly, and refused by name when something in it is wrong."""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings

from handful.curate.differences import ADDED, differences
from handful.curate.repair import repair
from handful.data import formats, label_studio_rle, painted_text
from handful.data.finding import Finding, stop
from handful.data.folder_names import PATH_HOLDERS
from handful.data.image_finder import Finder, placed, split_in
from handful.data.marks import ellipse, turned
from handful.data.paths import Shelf
from handful.data.shapes import painted, rle_of
from handful.errors import DataError
from handful.types import Dataset, Object, Sample
from tests.data.boxsets import boxed_sets, dataset, through
from tests.data.boxsets import placed as placed_on_disk
from tests.data.listed_sets import (
    MUG,
    SETS,
    SIZE,
    SUPERVISELY_META,
    Made,
    labelme,
    photo,
    png_text,
    region,
    supervisely,
    tar,
)

QUIET = frozenset(("unlabeled_image", "turned_box"))


@pytest.mark.parametrize("name", SETS)
def test_an_export_is_read_rightly(name: str, tmp_path: Path) -> None:
    made = SETS[name]
    root = made.write(tmp_path / "set")
    (source,) = formats.sources(root)
    assert (source.format, source.place) == (made.format, root)
    told: list[Finding] = []
    dataset = source.read(told.append)
    samples = {(s.split, s.name): s for s in dataset}
    assert len(samples) == len(dataset) and samples.keys() == made.wanted.keys()
    for key, wanted in made.wanted.items():
        sample = samples[key]
        if wanted is None or isinstance(wanted, str):
            assert (sample.label, sample.objects) == (wanted, None), key
            continue
        assert sample.label is None and sample.objects is not None
        assert [thing.label for thing in sample.objects] == [label for label, _ in wanted], key
        for thing, (_, box) in zip(sample.objects, wanted, strict=True):
            assert thing.box_px is not None
            np.testing.assert_allclose(thing.box_px, box, rtol=0, atol=1e-5)
        assert sample.size_wh in (SIZE, None) and (sample.size_wh == SIZE or not wanted)
    assert {finding.code for finding in told} - QUIET == made.more, [f.text for f in told]
    used = {label for w in made.wanted.values() for label in ([w] if isinstance(w, str) else [n for n, _ in w or ()])}
    assert used <= {c.name for c in dataset.categories}


# --- which image a name means ----------------------------------------------------------------------------------------


def finder(root: Path, *images: str) -> Finder:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).write_bytes(b"")
    return Finder(Shelf(root, root))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("a.jpg", "images/a.jpg"), ("images/a.jpg", "images/a.jpg"), ("/home/me/x/a.jpg", "images/a.jpg"),
        ("C:\\x\\images\\a.jpg", "images/a.jpg"), ("..\\..\\media\\upload\\4\\a.jpg", "images/a.jpg"),
        ("a", "images/a.jpg"), ("/data/upload/1/0a1b2c3d-a.jpg", "images/a.jpg"),
        ("/data/local-files/?d=x/a.jpg", "images/a.jpg"), ("https://x.org/a.jpg?token=1", "images/a.jpg"),
        ("b%20c.jpg", "images/b c.jpg"), ("two/x.jpg", "images/two/x.jpg"), ("far/one/x.jpg", "images/one/x.jpg"),
    ],
)  # fmt: skip
def test_an_image_is_found_by_what_its_name_ends_with(said: str, found: str, tmp_path: Path) -> None:
    here = finder(tmp_path, "images/a.jpg", "images/b c.jpg", "images/one/x.jpg", "images/two/x.jpg")
    assert here.find(said, stop, file="labels.json") == found


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("gone.jpg", "missing_image"), ("x.jpg", "missing_image"), ("../../etc/passwd", "missing_image"),
        ("/etc/passwd", "missing_image"), ("a\0.jpg", "unsafe_path"), ("", "unsafe_path"), (None, "unsafe_path"),
        (["a.jpg"], "unsafe_path"), ("a" * 5000, "unsafe_path"), ("a.png", "missing_image"), ("..", "missing_image"),
        ("A.JPG", "wrong_case_name"), ("out.jpg", "symlink_outside"), ("http://[x/a.jpg", "no finding"),
    ],
)  # fmt: skip
def test_a_name_that_means_no_image_is_told(said: object, code: str, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "images/out.jpg").symlink_to(tmp_path / "secret.jpg")
    here = finder(root, "images/a.jpg", "images/one/x.jpg", "images/two/x.jpg")
    told: list[Finding] = []
    found = here.find(said, told.append, file="labels.json")
    assert [f.code for f in told] == ([] if code == "no finding" else [code])
    assert (found is not None) == (code in ("wrong_case_name", "no finding"))


def test_labels_of_one_split_are_never_read_on_anothers_photos(tmp_path: Path) -> None:
    here = finder(tmp_path, "train/0.jpg", "train/1.jpg", "val/0.jpg")
    assert here.find("0.jpg", stop, file="annotations/val.csv", split="val") == "val/0.jpg"
    assert here.find("x/valid/0.jpg", stop, file="all.csv") == "val/0.jpg"
    assert here.find("0.jpg", stop, file="train/a.csv") == "train/0.jpg"
    for said, file, split in (("1.jpg", "val.csv", "val"), ("val/1.jpg", "all.csv", None), ("0.jpg", "all.csv", None)):
        with pytest.raises(DataError, match=r"which (is not in|may be)"):
            here.find(said, stop, file=file, split=split)


@pytest.mark.parametrize(
    ("path", "placed_at"),
    [
        ("a.jpg", (None, "a.jpg")), ("images/a.jpg", (None, "a.jpg")), ("train/images/x/a.jpg", ("train", "x/a.jpg")),
        ("images/valid/a.jpg", ("valid", "a.jpg")), ("train2017/a.jpg", ("train", "a.jpg")),
        ("VisDrone2019-DET-val/images/a.jpg", ("val", "a.jpg")), ("testimony/a.jpg", (None, "testimony/a.jpg")),
        ("test tubes/a.jpg", (None, "test tubes/a.jpg")), ("mug/train/a.jpg", (None, "mug/train/a.jpg")),
    ],
)  # fmt: skip
def test_the_split_is_what_the_folder_says(path: str, placed_at: tuple[str | None, str]) -> None:
    assert placed(path) == placed_at


@pytest.mark.parametrize(
    ("file", "split"),
    [("train.csv", "train"), ("x/instances_valid.json", "valid"), ("train_val.csv", None), ("contest.csv", None)],
)
def test_the_split_is_what_the_list_says(file: str, split: str | None) -> None:
    assert split_in(file) == split


# --- what is wrong is told, file and value ---------------------------------------------------------------------------


def faulty(root: Path, name: str, file: str, change: Callable[[Any], Any] | bytes | str) -> list[Finding]:
    """What is told of an export with one file changed. Nothing may be raised, and the strict reading must refuse."""
    made = SETS[name]
    held = made.files[file]
    new = (
        change(json.loads(json.dumps(held)) if isinstance(held, dict | list) else held) if callable(change) else change
    )
    Made(made.format, {**made.files, file: new}, {}).write(root)
    told: list[Finding] = []
    dataset = formats.module(made.format).read(root, on_finding=told.append)
    for sample in dataset:
        for thing in sample.objects or ():
            assert thing.box_px is not None and np.isfinite(thing.box_px).all()
        assert root in sample.path.parents
    with pytest.raises(DataError, match="there:"):
        list(formats.module(made.format).read(root))
    return [f for f in told if f.severity == "error"]


def at(*path: Any, to: Any) -> Callable[[Any], Any]:
    """A change of one value in JSON."""

    def change(value: Any) -> Any:
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return value

    return change


NAN, HUGE = float("nan"), 10**400
VIA = ("via_region_data.json", "a.jpg123", "regions", 0)
DOCTYPE = '<!DOCTYPE a [<!ENTITY l "x">]><annotations>'
LS = ("project-1.json", 0, "annotations", 0, "result", 0)
FAULTS: list[tuple[str, str, Any, str]] = [
    ("labelme", "a.json", at("shapes", 0, "points", to=[[NAN, 1], [2, 3]]), "not_finite"),
    ("labelme", "a.json", at("shapes", 0, "points", to=[[HUGE, 1], [2, 3]]), "not_finite"),
    ("labelme", "a.json", at("shapes", 0, "points", to=[[1, 1], [1, 9]]), "box_no_area"),
    ("labelme", "a.json", at("shapes", 0, "points", to=[[1, 1], [90, 9]]), "box_outside"),
    ("labelme", "a.json", at("shapes", 1, "points", to=[[1, 1], [9, 9]]), "broken_polygon"),
    ("labelme", "a.json", at("shapes", 1, "points", to=[[1, 1], [9, 9], [NAN, 3]]), "not_finite"),
    ("labelme", "a.json", at("shapes", 0, "points", to="x"), "broken_label"),
    ("labelme", "a.json", at("shapes", 0, "label", to=None), "broken_label"),
    ("labelme", "a.json", at("shapes", 0, "label", to="\ud800"), "broken_label"),
    ("labelme", "a.json", at("shapes", 0, "shape_type", to="point"), "unheld_mark"),
    ("labelme", "a.json", at("shapes", 0, "shape_type", to="linestrip"), "unheld_mark"),
    ("labelme", "a.json", at("shapes", to=[5]), "broken_label"),
    ("labelme", "a.json", at("shapes", 0, "attributes", to={"area": float("inf")}), "not_finite"),
    ("labelme", "a.json", at("shapes", 0, "attributes", to={"deep": [{"x": NAN}]}), "not_finite"),
    ("labelme", "a.json", at("imagePath", to="b.jpg"), "two_label_files"),
    ("labelme", "a.json", '{"shapes": [], "imagePath": "a.jpg"'.encode("utf-16"), "unreadable_labels"),
    ("labelme", "a.json", b'{"shapes": [], "imagePath": "a.jpg", "x": "\xff"}', "unreadable_labels"),
    ("labelme", "a.json", '{"shapes": [' + "[" * 100_000 + '], "imagePath": ""}', "unreadable_labels"),
    ("labelme", "b.json", at("shapes", 0, "mask", to="AAAA"), "broken_label"),
    ("labelme", "b.json", at("shapes", 0, "mask", to=png_text(300, 300)), "broken_label"),
    ("labelme", "b.json", at("shapes", 0, "points", to=[[39, 29], [64, 45]]), "broken_label"),
    ("via 2", VIA[0], at(*VIA[1:], "shape_attributes", "width", to=-5), "box_negative"),
    ("via 2", VIA[0], at(*VIA[1:], "shape_attributes", "x", to="wide"), "broken_label"),
    ("via 2", VIA[0], at(*VIA[1:], "shape_attributes", "name", to="point"), "unheld_mark"),
    ("via 2", VIA[0], at(*VIA[1:], "region_attributes", to={}), "broken_label"),
    ("via 2", VIA[0], at(*VIA[1:], "region_attributes", "class", to={"a": True, "b": True}), "several_classes"),
    ("via 2", VIA[0], at(*VIA[1:], "region_attributes", to={"x": "1", "y": "2"}), "broken_label"),
    ("via 2", VIA[0], at("a.jpg123", "filename", to="/etc/passwd"), "missing_image"),
    ("via 3", "p.json", at("metadata", "1_x", "xy", to=[2, 1, 1, NAN, 4]), "not_finite"),
    ("via 3", "p.json", at("metadata", "1_x", "xy", to=[1, 1, 1]), "unheld_mark"),
    ("via 3", "p.json", at("file", "1", "type", to=4), "unheld_mark"),
    ("via csv", "train/via_export_csv.csv", lambda text: text.replace('""x"":4', '""x"":'), "broken_label"),
    ("label studio", *LS[:1], at(*LS[1:], "value", "x", to=NAN), "not_finite"),
    ("label studio", *LS[:1], at(*LS[1:], "value", "width", to=500), "box_outside"),
    ("label studio", *LS[:1], at(*LS[1:], "value", "height", to=-1), "box_negative"),
    ("label studio", *LS[:1], at(*LS[1:], "value", "x", to=None), "broken_label"),
    ("label studio", *LS[:1], at(*LS[1:], "value", "rectanglelabels", to=["a", "b"]), "several_classes"),
    ("label studio", *LS[:1], at(*LS[1:], "type", to="keypointlabels"), "unheld_mark"),
    ("label studio", *LS[:1], at(*LS[1:], "image_rotation", to=90), "broken_label"),
    ("label studio", *LS[:1], at(*LS[1:5], to=7), "broken_label"),
    ("label studio", *LS[:1], at(*LS[1:], to={**region("brushlabels", {"format": "rle", "rle": [0, 0, 0, 9]}, ["m"])}),
     "broken_rle"),
    ("label studio", *LS[:1], at(0, "annotations", to=[{"result": []}, {"result": []}]), "several_answers"),
    ("label studio", *LS[:1], at(0, "data", to={"one": "a.jpg", "two": "b.jpg"}), "broken_label"),
    ("label studio", *LS[:1], at(0, "data", "image", to="/data/upload/1/z.jpg"), "missing_image"),
    ("label studio choices", "p.json", at(0, "annotations", 0, "result", 0, "value", "choices", to=["a", "b"]),
     "several_classes"),
    ("cvat", "annotations.xml", lambda text: text.replace('xtl="4.00"', 'xtl="nan"'), "not_finite"),
    ("cvat", "annotations.xml", lambda text: text.replace('xtl="4.00"', 'xtl="31"'), "box_negative"),
    ("cvat", "annotations.xml", lambda text: text.replace('xtl="4.00"', 'xtl="1e300"'), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace('xtl="4.00"', ""), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace('rle="0, 100"', 'rle="0, 99"'), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace('rle="0, 100"', 'rle="0, -1, 101"'), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace('left="1" top="2"', 'left="35" top="2"'), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace("1.0,2.0;", "1.0;"), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace('rotation="90"', 'rotation="inf"'), "broken_label"),
    ("cvat", "annotations.xml", lambda text: text.replace("<ellipse ", "<polyline "), "unheld_mark"),
    ("cvat", "annotations.xml", lambda text: text.replace('name="a.jpg"', 'name="../../a.png"'), "missing_image"),
    ("cvat", "annotations.xml", lambda text: text.replace("<annotations>", DOCTYPE),
     "unsafe_xml"),
    ("cvat", "annotations.xml", lambda text: text[:-30], "unreadable_labels"),
    ("cvat subsets", "annotations.xml", lambda text: text.replace("<tag ", '<tag label="a"/><tag ', 1),
     "several_classes"),
    ("cvat video", "annotations.xml", lambda text: text.replace('frame="2"', 'frame="-1"'), "broken_label"),
    ("cvat video", "annotations.xml", lambda text: text.replace('frame="2"', 'frame="77"'), "missing_image"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug,4", "mug,nan"), "not_finite"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug,4", "mug,x"), "broken_label"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug,4", "mug,35"), "box_negative"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug,4", "mug,-40"), "box_outside"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug,4,3,30,20", "mug,,,,"), "broken_label"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("mug", ""), "broken_label"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.replace("a.jpg", "../../../etc/passwd"), "missing_image"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.encode("utf-16")[:-1], "unreadable_labels"),
    ("csv boxes", "train/_annotations.csv", lambda text: text.encode("utf-16")[2:], "unreadable_labels"),
    ("csv boxes", "train/_annotations.csv", lambda text: text + '"' + "x" * 200_000, "unreadable_labels"),
    ("csv ones", "train/_classes.csv", lambda text: text.replace("0, 1", "1, 1"), "several_classes"),
    ("csv classes", "train.csv", lambda text: text.replace("b,cup", "b,cup\nzz,cup"), "missing_image"),
    ("createml", "train/_annotations.createml.json", at(0, "annotations", 0, "coordinates", "x", to=NAN), "not_finite"),
    ("createml", "train/_annotations.createml.json", at(0, "annotations", 0, "coordinates", to={}), "broken_label"),
    ("createml", "train/_annotations.createml.json", at(0, "annotations", 0, "coordinates", "width", to=-4),
     "box_negative"),
    ("createml", "train/_annotations.createml.json", at(1, to=5), "broken_label"),
    ("supervisely", "train/ann/a.jpg.json", at("objects", 0, "points", "exterior", 0, to=[NAN, 1]), "not_finite"),
    ("supervisely", "train/ann/a.jpg.json", at("objects", 0, "classTitle", to="plate"), "unknown_category"),
    ("supervisely", "train/ann/a.jpg.json", at("objects", 0, "geometryType", to="line"), "unheld_mark"),
    ("supervisely", "train/ann/a.jpg.json", at("objects", 1, "points", "interior", to=[[[1, 1]]]), "broken_polygon"),
    ("supervisely", "train/ann/b.jpg.json", at("objects", 0, "bitmap", "data", to=base64.b64encode(
        zlib.compress(bytes(1 << 27))).decode()), "broken_label"),
    ("supervisely", "train/ann/b.jpg.json", at("objects", 0, "bitmap", "origin", to=[35, 2]), "broken_label"),
    ("supervisely", "meta.json", at("classes", to=[*SUPERVISELY_META["classes"], {"title": 1.5}]), "broken_label"),
    ("dota", "train/labelTxt/P1.txt", lambda text: text.replace("4 3 30", "4 nan 30"), "not_finite"),
    ("dota", "train/labelTxt/P1.txt", lambda text: text.replace("4 3 30", "4 x 30"), "broken_label"),
    ("dota", "train/labelTxt/P1.txt", lambda text: text.replace("4 3 30", "-400 3 30"), "box_outside"),
    ("visdrone own", "annotations/a.txt", "4,3,26,17,1,1,0,1\n4,3,x,17,1,1,0,1\n", "broken_label"),
    ("visdrone own", "annotations/a.txt", "4,3,26,17,1,1,0,1\n4,3,-2,17,1,1,0,1\n", "box_negative"),
    ("fiftyone", "labels.json", at("labels", "a", 0, "bounding_box", to=[NAN, 0, 1, 1]), "not_finite"),
    ("fiftyone", "labels.json", at("labels", "a", 0, "label", to=7), "broken_label"),
    ("fiftyone", "labels.json", at("labels", "a", 0, "mask", to={"$binary": {}}), "unheld_mark"),
    ("fiftyone classes", "labels.json", at("labels", "a", to=7), "unknown_category"),
    ("fiftyone samples", "samples.json", at("samples", 0, "ground_truth", "_cls", to="Keypoints"), "unheld_mark"),
    ("fiftyone samples", "samples.json", at("samples", 0, "filepath", to="/data/../../x.jpg"), "missing_image"),
    ("bdd100k", "labels/det_20/det_train.json", at(0, "labels", 0, "box2d", "x1", to=NAN), "not_finite"),
    ("bdd100k", "labels/det_20/det_train.json", at(0, "labels", 0, "box2d", to=None), "unheld_mark"),
    ("bdd100k", "labels/det_20/det_val.json", at(0, "labels", 0, "poly2d", 0, "closed", to=False), "unheld_mark"),
    ("bdd100k", "labels/det_20/det_val.json", at(0, "labels", 0, "poly2d", 0, "vertices", to=[[1, 2], [3]]),
     "broken_polygon"),
    ("webdataset", "train-0000.tar", lambda data: data[:-9_500], "unreadable_labels"),
    ("webdataset", "train-0000.tar", tar({"../../x.jpg": photo(), "a.jpg": photo(), "a.cls": b"1"}), "unsafe_path"),
    ("webdataset json", "s-0.tar", tar({"a.jpg": photo(), "a.json": b'{"label": [1]}'}), "broken_label"),
    ("webdataset json", "s-0.tar", tar({"a.jpg": photo(), "a.json": b"[" * 100_000}), "broken_label"),
    ("webdataset json", "s-0.tar", tar({"a.jpg": photo(), "b.json": b'{"label": "x"}'}), "missing_image"),
    ("yolo darknet", "valid/_darknet.labels", "mug\ncup\n", "duplicate_category"),
    ("yolo flat", "a.txt", "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 nan 0.1\n", "not_finite"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "change", "code"), FAULTS)
def test_a_fault_is_told_with_its_file(name: str, file: str, change: Any, code: str, tmp_path: Path) -> None:
    found = faulty(tmp_path / "set", name, file, change)
    assert code in {f.code for f in found}, [f.text for f in found]
    assert len({f.code for f in found}) == 1, [f.text for f in found]
    assert all(file.rpartition("/")[2] in f.text or file.rpartition("/")[2] in f.file for f in found)


@pytest.mark.parametrize("name", SETS)
def test_label_files_that_are_links_out_are_not_followed(name: str, tmp_path: Path) -> None:
    made = SETS[name]
    root = made.write(tmp_path / "set")
    labels = [n for n, held in made.files.items() if held is not None and Path(n).suffix in
              (".json", ".xml", ".csv", ".txt", ".tar")]  # fmt: skip
    first = next(n for n in labels if Path(n).name not in ("meta.json", "classes.txt", "metadata.json")
                  and "descriptions" not in n and "submission" not in n)  # fmt: skip
    outside = tmp_path / "outside"
    (root / first).rename(outside)
    (root / first).symlink_to(outside)
    told: list[Finding] = []
    for _ in formats.module(made.format).read(root, on_finding=told.append):
        pass
    assert "symlink_outside" in {f.code for f in told}, first


# --- written, and read again -----------------------------------------------------------------------------------------

WRITTEN = ("labelme", "cvat", "label_studio", "createml", "csv_boxes")
WITH_SHAPES = ("labelme", "cvat", "label_studio")


@pytest.mark.parametrize("format", WRITTEN)
def test_boxes_come_back(format: str) -> None:
    module = formats.module(format)

    @given(boxed_sets(attributes=False))
    @settings(max_examples=25, deadline=None)
    def check(made: Dataset) -> None:
        # a folder called as those of images are is no part of an image's name: a loss that convert tells
        samples = [s for s in made if s.objects is not None and s.split != "mine/own"
                   and s.name.split("/")[0].lower() not in PATH_HOLDERS]  # fmt: skip
        if not samples or not any(s.objects for s in samples):
            return
        with tempfile.TemporaryDirectory() as folder:
            held = [placed_on_disk(Path(folder) / "photos", s) for s in samples]
            source = dataset(held, [c.name for c in made.categories])
            back = through(module, source, Path(folder) / "set")
            rows = differences(source, back)
            lost = [row for row in rows if row.what not in ("classes", "classes' ids") and row.how != ADDED]
            assert lost == [], [row.as_json() for row in lost]

    check()


def shapes() -> Dataset:
    """Objects of every kind: a box, one part, two parts, pixels with a hole, a crowd; attributes; an empty image."""
    pixels = np.zeros((30, 40), dtype=bool)
    pixels[5:20, 6:30] = True
    pixels[8:12, 10:20] = False
    one = np.array([[1.5, 2.25], [20, 3], [11, 25]])
    two = np.array([[30.0, 20], [39, 20], [39, 29.5]])
    things = (
        Object("mug", (1.25, 2.5, 30.75, 20.0), attributes={"color": "red", "occluded": 1}),
        Object("cup", (1.5, 2.25, 20.0, 25.0), (one,)),
        Object("cup", (1.5, 2.25, 39.0, 29.5), (one, two)),
        Object("mug", (6.0, 5.0, 30.0, 20.0), rle=rle_of(pixels), crowd=True),
    )
    rows = (("a.jpg", "train", things), ("b.jpg", "train", ()), ("c.jpg", "val", None))
    return dataset([Sample(Path(), name=n, split=s, objects=o, size_wh=(40, 30)) for n, s, o in rows], ["cup", "mug"])


@pytest.mark.parametrize("format", WRITTEN)
def test_what_is_lost_is_what_the_page_says(format: str, tmp_path: Path) -> None:
    source = shapes()
    held = [placed_on_disk(tmp_path / "photos", s) for s in source]
    source = dataset(held, [c.name for c in source.categories])
    back = through(formats.module(format), source, tmp_path / "set")
    lost = {row.what: row.count for row in differences(source, back) if row.how != ADDED}
    wanted: dict[str, int] = {"classes' ids": 0}
    if format not in WITH_SHAPES:
        wanted |= {"objects' outlines": 2, "objects' pixels": 1, "crowd": 1,
                   "object's attribute 'color'": 1, "object's attribute 'occluded'": 1}  # fmt: skip
    if format == "label_studio":  # a region an outline: the second part becomes an object of its own
        wanted |= {"outlines": 1, "boxes, px": 1}
    assert {k: v for k, v in lost.items() if k != "classes' ids"} == {k: v for k, v in wanted.items() if v}
    again = {(s.split, s.name): s.objects for s in back}
    assert again["train", "b.jpg"] == () and again["val", "c.jpg"] is None


@pytest.mark.parametrize(
    "name", [name for name, made in SETS.items() if not hasattr(formats.module(made.format), "write")]
)
def test_a_format_that_is_only_read_says_what_can_be_written(name: str, tmp_path: Path) -> None:
    source = formats.one(SETS[name].write(tmp_path / "set"))
    read_back = source.read(lambda finding: None)
    with pytest.raises(DataError, match=r"is read and not written; wanted one of .*coco"):
        formats.write(read_back, tmp_path / "out", source.format)
    other = formats.copied_as(read_back)
    (tmp_path / "copy").mkdir()
    formats.write(read_back, tmp_path / "copy", other)
    back = formats.module(other).read(tmp_path / "copy", on_finding=lambda finding: None)
    assert sum(len(s.objects or ()) for s in back) == sum(len(s.objects or ()) for s in read_back)
    assert [s.label for s in back if s.label] == [s.label for s in read_back if s.label]


def test_label_studios_run_lengths_come_back_and_are_bounded() -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random((9, 7)) < 0.5, np.ones((300, 400), dtype=bool), np.zeros((5, 5), dtype=bool)):
        packed = label_studio_rle.packed(mask)
        assert (label_studio_rle.unpacked(packed, mask.shape[::-1]) == mask).all()
        with pytest.raises(ValueError, match="wanted"):
            label_studio_rle.unpacked(packed, (mask.shape[1] + 1, mask.shape[0]))
    # a block of values one by one, as Label Studio's own packer writes short runs: 4 values of 8 bits
    bits = f"{4:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111" + "0" + "00" + "011" + "".join(
        f"{v:08b}" for v in (1, 2, 3, 255))  # fmt: skip
    bits += "0" * (-len(bits) % 8)
    numbers = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert label_studio_rle.unpacked(numbers, (1, 1)).tolist() == [[True]]
    for bad in (numbers[:-2], [300], "x", None, [1.5]):
        with pytest.raises(ValueError, match=r"run lengths|bytes"):
            label_studio_rle.unpacked(bad, (1, 1))


def test_the_whole_ade20k_is_refused_by_name(tmp_path: Path) -> None:
    base = "images/ADE/training/urban/street/ADE_train_00016869"
    held = {f"{base}.jpg": None, f"{base}_seg.png": photo(".png"), f"{base}_parts_1.png": photo(".png")}
    root = Made("ade20k", {**held, f"{base}.json": {"annotation": {}}}, {}).write(tmp_path / "set")
    with pytest.raises(DataError, match=r"ADE_train_00016869\.jpg is of the whole ADE20K.*ADEChallengeData2016"):
        formats.read(root)


def test_a_table_of_pixel_values_or_captions_is_no_table_of_classes(tmp_path: Path) -> None:
    names = {f"train/{i}.jpg": None for i in range(3)}
    tables = ("Pixel Value, Class\n0, background\n1, mug\n", "file_name,text\n0.jpg,a mug\n1.jpg,a cup\n",
              "filename,score\n0.jpg,0.1\n1.jpg,0.2\n2.jpg,0.3\n")  # fmt: skip
    for i, text in enumerate(tables):
        root = Made("folder", {**names, "train/_classes.csv": text}, {}).write(tmp_path / str(i))
        assert not formats.module("csv_classes").detect(root)


def test_clips_of_visdrone_are_refused_by_name(tmp_path: Path) -> None:
    made = {"sequences/uav1/0000001.jpg": None, "annotations/uav1.txt": "1,0,593,43,174,190,0,0,0,0\n"}
    root = Made("visdrone", made, {}).write(tmp_path / "set")
    with pytest.raises(DataError, match=r"uav1\.txt has the labels of a clip"):
        formats.read(root)


def test_an_option_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    root = SETS["cvat"].write(tmp_path / "set")
    with pytest.raises(DataError, match="--masks-in is nothing that cvat has"):
        formats.one(root, format="cvat", masks="masks").read()


def test_titles_and_trees_are_there() -> None:
    for name in {made.format for made in SETS.values()}:
        module = formats.module(name)
        assert module.TITLE and 2 <= len(module.TREE.strip().split("\n")) <= 10, name


# --- YOLO as people have it ------------------------------------------------------------------------------------------

LINE = "0 0.5 0.5 0.2 0.3\n"


def yolo(root: Path, config: str = "", **files: Any) -> Path:
    """A YOLO data set; names are files without suffix, by their text: photos have none."""
    held: dict[str, Any] = {"data.yaml": config} if config else {}
    for name, text in files.items():
        held[name.replace("__", "/") + (".jpg" if text is None else ".txt")] = text
    return Made("yolo", held, {}).write(root)


def test_a_split_called_valid_is_written_under_the_key_that_ultralytics_reads(tmp_path: Path) -> None:
    held = [placed_on_disk(tmp_path / "photos", Sample(Path(), name=f"{s}.jpg", split=s, size_wh=(40, 30), objects=(
        Object("mug", (4.0, 3.0, 30.0, 20.0)),))) for s in ("train", "valid", "test")]  # fmt: skip
    source = dataset(held, ["mug"])
    back = through(formats.module("yolo"), source, tmp_path / "set")
    config = (tmp_path / "set/data.yaml").read_text()
    assert "val: images/valid\n" in config and "null" not in config
    assert sorted((s.split, s.name) for s in back) == sorted((s.split, s.name) for s in source)


def test_folders_of_another_machine_are_found_by_their_last_name(tmp_path: Path) -> None:
    config = "train: /content/ds/train\nval: C:\\ds\\val\ntest: ../test\nnames: [mug]\n"
    root = yolo(tmp_path / "set", config, train__0=LINE, val__1=LINE)
    for image in ("train/0.jpg", "val/1.jpg"):
        (root / image).write_bytes(photo())
    told: list[Finding] = []
    found = formats.module("yolo").read(root, on_finding=told.append)
    assert [(s.split, s.name, len(s.objects or ())) for s in found] == [("train", "0.jpg", 1), ("val", "1.jpg", 1)]
    (note,) = told
    assert (note.code, note.severity, note.value) == ("missing_split", "note", "../test")
    assert len(list(formats.module("yolo").read(root))) == 2  # nothing that stops a training


def test_a_data_yaml_none_of_whose_folders_is_there_is_an_error(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train: a\nval: b\nnames: [mug]\n", x__0=LINE)
    (root / "x/0.jpg").write_bytes(photo())
    told: list[Finding] = []
    list(formats.module("yolo").read(root, on_finding=told.append))
    assert [f.code for f in told] == ["missing_image", "missing_image"]


def test_a_folder_of_images_that_is_a_link_is_named(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train: images\nval: images\nnames: [mug]\n", labels__0=LINE, labels__1=LINE)
    for i in range(2):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / f"photos/{i}.jpg").write_bytes(photo())
    (root / "images").symlink_to(tmp_path / "photos")
    told: list[Finding] = []
    list(formats.module("yolo").read(root, on_finding=told.append))
    assert [(f.code, f.file) for f in told] == [("linked_folder", "images")]
    (root / "images").unlink()
    (root / "images").mkdir()
    told.clear()
    list(formats.module("yolo").read(root, on_finding=told.append))
    assert [f.code for f in told] == ["missing_image", "missing_image"]  # without the link it is the labels' own fault


def test_a_label_file_beside_photos_that_has_none_is_told(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", a=LINE, gone=LINE, README="photos of mugs\n")
    (root / "a.jpg").write_bytes(photo())
    told: list[Finding] = []
    list(formats.module("yolo").read(root, on_finding=told.append))
    assert [(f.code, f.file) for f in told if f.severity == "error"] == [("missing_image", "gone.txt")]


# --- what is made of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "boxes"), [("label studio", True), ("label studio choices", False), ("csv boxes", True),
                        ("csv classes", False), ("labelme flags", False), ("dota", True), ("fiftyone classes", False)],
)  # fmt: skip
def test_a_detector_is_taught_where_there_are_boxes(name: str, boxes: bool, tmp_path: Path) -> None:
    root = SETS[name].write(tmp_path / "set")
    assert formats.with_boxes(root) == (SETS[name].format if boxes else None)


@pytest.mark.parametrize(
    ("name", "to"), [("via 2", "coco"), ("csv classes", "csv_classes"), ("webdataset", "csv_classes")]
)
def test_a_copy_is_repaired_into_what_holds_it(name: str, to: str, tmp_path: Path) -> None:
    root = SETS[name].write(tmp_path / "set")
    result = repair(root, tmp_path / "copy")
    assert result["ok"], result["findings"]
    assert formats.one(tmp_path / "copy").format == to
    wanted = sum(len(w) if isinstance(w, list) else w is not None for w in SETS[name].wanted.values())
    back = formats.read(tmp_path / "copy", on_finding=lambda finding: None)
    assert sum(len(s.objects or ()) + (s.label is not None) for s in back) == wanted


# --- what looks alike and is not -------------------------------------------------------------------------------------


def test_flags_and_tags_are_classes_only_where_nothing_is_drawn(tmp_path: Path) -> None:
    made = SETS["labelme"]
    files = {**made.files, "c.json": labelme("c.jpg", [], flags={"blurry": True})}
    found = formats.read(Made("labelme", files, {}).write(tmp_path / "labelme"))
    (flagged,) = (s for s in found if s.name == "c.jpg")
    assert flagged.objects == () and flagged.label is None and flagged.attributes == {"flags": {"blurry": True}}
    assert "blurry" not in {c.name for c in found.categories}
    made = SETS["supervisely"]
    tagged = supervisely(tags=[{"name": "night"}])
    files = {**made.files, "ds1/ann/a.jpg.json": tagged}
    found = formats.read(Made("supervisely", files, {}).write(tmp_path / "both"))
    assert [(s.label, s.objects) for s in found if "ds1" in s.name] == [(None, ())]
    alone = {"ds/img/a.jpg": None, "ds/ann/a.jpg.json": tagged, "meta.json": {"classes": []}}
    (sample,) = formats.read(Made("supervisely", alone, {}).write(tmp_path / "alone"))
    assert (sample.label, sample.objects) == ("night", None)


def test_several_flags_are_several_classes(tmp_path: Path) -> None:
    files = {"a.jpg": None, "a.json": labelme("a.jpg", [], flags={"mug": True, "cup": True})}
    root = Made("labelme", files, {}).write(tmp_path)
    with pytest.raises(DataError, match=r"a\.json: is flagged mug, cup; wanted one class"):
        list(formats.read(root))


def test_a_file_that_ends_in_its_image_is_recognized(tmp_path: Path) -> None:
    text = json.dumps(
        {"shapes": [], "imageData": "x" * 100_000, "imagePath": "a.jpg", "imageHeight": 30, "imageWidth": 40}
    )
    root = Made("labelme", {"a.jpg": None, "a.json": text}, {}).write(tmp_path)
    (sample,) = formats.read(root)
    assert sample.objects == () and sample.size_wh == SIZE


@pytest.mark.parametrize("table", ["ImageId,ClassId,EncodedPixels\na.jpg,1,1 2 9 4\n", "image,rle\na.jpg,\nb.jpg,\n"])
def test_run_lengths_in_a_table_are_not_taken_for_classes(table: str, tmp_path: Path) -> None:
    root = Made("", {"train/a.jpg": None, "train/b.jpg": None, "train.csv": table}, {}).write(tmp_path)
    assert not formats.module("csv_classes").detect(root) and not formats.module("csv_boxes").detect(root)


def test_the_name_of_a_class_is_taken_before_its_number(tmp_path: Path) -> None:
    boxes = "filename,class,label,xmin,ymin,width,height\na.jpg,0,mug,4,3,26,17\n"
    (sample,) = formats.read(Made("", {"a.jpg": None, "l.csv": boxes}, {}).write(tmp_path / "boxes"))
    assert [(t.label, t.box_px) for t in sample.objects or ()] == [MUG]
    classes = "id,label,category\na,0,mug\na,0,mug\n"
    (sample,) = formats.read(Made("", {"a.jpg": None, "l.csv": classes}, {}).write(tmp_path / "classes"))
    assert sample.label == "mug"


def test_an_image_of_two_classes_in_a_table_is_told(tmp_path: Path) -> None:
    root = Made("", {"a.jpg": None, "b.jpg": None, "l.csv": "id,label\na,mug\na,cup\nb,mug\n"}, {}).write(tmp_path)
    with pytest.raises(DataError, match=r"l\.csv: says that a is of the classes mug, cup; wanted one"):
        list(formats.read(root))


def test_what_a_model_answered_is_no_label(tmp_path: Path) -> None:
    made = SETS["csv boxes"]
    answers = "filename,width,height,class,xmin,ymin,xmax,ymax\nb.jpg,40,30,mug,1,1,9,9\n"
    root = Made("", {**made.files, "train/predictions.csv": answers}, {}).write(tmp_path)
    assert {s.name: s.objects for s in formats.read(root)}["b.jpg"] is None


def test_captions_in_shards_are_not_classes(tmp_path: Path) -> None:
    held: dict[str, bytes] = {}
    for i in range(30):
        held |= {f"{i:03}.jpg": photo(number=i), f"{i:03}.txt": f"a photo of {i} mugs".encode()}
    root = Made("", {"0.tar": tar(held)}, {}).write(tmp_path)
    with pytest.raises(DataError, match="30 different texts for 30 images: captions"):
        formats.read(root)


# --- shapes ----------------------------------------------------------------------------------------------------------


def pixels(root: Path, name: str, which: int) -> np.ndarray:
    """The pixels of one object of an image."""
    (sample,) = (s for s in formats.read(root, on_finding=lambda finding: None) if s.name == name)
    assert sample.objects is not None
    found = painted(sample.objects[which], SIZE)
    assert found is not None
    return found


def test_holes_parts_and_masks_are_the_right_pixels(tmp_path: Path) -> None:
    cup = pixels(SETS["supervisely"].write(tmp_path / "hole"), "a.jpg", 1)
    assert cup[2:12, 1:11].sum() == cup.sum() == 100 - 6 and not cup[4:6, 3:6].any()
    whole = pixels(tmp_path / "hole", "b.jpg", 0)
    assert whole.sum() == 100 and whole[2:12, 1:11].all()
    masked = pixels(SETS["labelme"].write(tmp_path / "labelme"), "b.jpg", 0)
    assert masked.sum() == 26 * 17 and masked[3:20, 4:30].all()
    two = formats.read(tmp_path / "labelme")
    assert [len(t.polygons_px) for s in two if s.name == "a.jpg" for t in s.objects or ()] == [0, 2]
    assert pixels(SETS["cvat"].write(tmp_path / "cvat"), "b.jpg", 0)[2:12, 1:11].all()


def test_a_compressed_mask_cannot_fill_the_memory() -> None:
    packed = base64.b64encode(zlib.compress(bytes(1 << 27))).decode()
    with pytest.raises(ValueError, match="grows beyond use"):
        painted_text.unpacked(packed, compressed=True)
    with pytest.raises(ValueError, match="more pixels than are safe"):
        painted_text.unpacked(png_text(12_000, 9_000))


def test_boxes_turn_clockwise_as_their_tools_turn_them() -> None:
    quarter = [[20, 0], [20, 10], [0, 10], [0, 0]]  # from left top around, after a quarter turn about the middle
    assert turned((5, -5, 15, 15), 90).tolist() == quarter
    # Label Studio's about the left top corner: the width now goes down
    assert turned((10, 10, 30, 14), 90, (10, 10)).tolist() == [[10, 10], [10, 30], [6, 30], [6, 10]]
    round_ = ellipse(10, 10, 6, 2, 90)
    assert round_.min(0).tolist() == [8, 4] and round_.max(0).tolist() == [12, 16]


def test_attributes_flags_and_tracks_are_kept(tmp_path: Path) -> None:
    found = {s.name: s for s in formats.read(SETS["cvat"].write(tmp_path / "cvat"), on_finding=lambda f: None)}
    assert (found["a.jpg"].objects or ())[0].attributes == {"color": "red", "occluded": 1}
    clip = list(formats.read(SETS["cvat video"].write(tmp_path / "video")))
    assert [[t.track for t in s.objects or ()] for s in clip] == [[7], [7], [7], []]
    (train, val) = formats.read(SETS["csv open images"].write(tmp_path / "open"))
    assert [(t.crowd, dict(t.attributes)) for s in (train, val) for t in s.objects or ()] == [
        (False, {"occluded": 1}), (True, {})]  # fmt: skip
    (drone,) = formats.read(SETS["visdrone"].write(tmp_path / "drone"))
    assert [(t.crowd, dict(t.attributes)) for t in drone.objects or ()] == [(False, {"occluded": 1}), (True, {})]
    (one, _) = formats.read(SETS["bdd100k"].write(tmp_path / "bdd"))
    assert one.attributes == {"weather": "clear"}


def test_cvats_xml_names_its_subsets_where_cvat_and_datumaro_look_for_them(tmp_path: Path) -> None:
    held = [placed_on_disk(tmp_path / "photos", s) for s in shapes()]
    through(formats.module("cvat"), dataset(held, ["cup", "mug"]), tmp_path / "splits")
    root = ElementTree.fromstring((tmp_path / "splits/annotations.xml").read_text())
    assert [node.text for node in root.iterfind("meta/project/tasks/task/subset")] == ["train", "val"]
    names = [node.text for node in root.iterfind("meta/project/labels/label/name")]
    declared = {node.text for node in root.iterfind("meta/project/labels/label/attributes/attribute/name")}
    assert names == ["cup", "mug"] and {"color", "is_crowd"} <= declared
    (one,) = (replace(s, split=None) for s in held if s.name == "a.jpg")
    through(formats.module("cvat"), dataset([one], ["cup", "mug"]), tmp_path / "none")
    root = ElementTree.fromstring((tmp_path / "none/annotations.xml").read_text())
    assert root.find("meta/task/labels") is not None and root.find("meta/project") is None
