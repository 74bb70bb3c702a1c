from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data import format_coco, format_voc, voc_classes, voc_masks, voc_rows
from handful.data.finding import Finding
from handful.data.masks import voc_palette, write_ids
from handful.data.shapes import painted, pixels_of
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Category, Dataset, Object, Sample
from tests.conftest import opened
from tests.data.boxsets import (
    JSON,
    a_mask,
    boxed_sets,
    coco_again,
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
    typed,
)

XML = """<annotation>
  <folder>VOC2007</folder>
  <filename>{name}.jpg</filename>
  <source><database>The VOC2007 Database</database><image>flickr</image></source>
  <size><width>40</width><height>30</height><depth>3</depth></size>
  <segmented>0</segmented>
  {objects}
</annotation>
"""
DOG = """<object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
  <bndbox><xmin>8</xmin><ymin>5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"""


def thing(name: str = "cat", box: str = "1 1 10 10", more: str = "") -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=False))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox>{more}</object>"


def voc(root: Path, files: dict[str, str | None], lists: dict[str, str] | None = None) -> Path:
    """A VOC folder: image stem -> the objects in its XML file, a whole XML file, or None for an image without one."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        photo(root / "JPEGImages" / f"{stem}.jpg")
        if text is not None:
            path = root / "Annotations" / f"{stem}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = text.startswith(("<?", "<!", "<annotation", "<html"))
            path.write_text(text if whole else XML.format(name=stem, objects=text))
    for name, lines in (lists or {}).items():
        path = root / "ImageSets" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines)
    return root


# --- what VOC says ---------------------------------------------------------------------------------------------------


def test_vocs_own_xml_is_read(tmp_path: Path) -> None:
    back = format_voc.read(voc(tmp_path, {"000001": DOG}, {"Main/train": "000001\n"}))
    (sample,) = back
    (dog,) = sample.objects or ()
    assert dog.box_px == (7.0, 4.0, 20.0, 30.0)  # counted from 1, the last pixel belongs to it
    assert dog.label == "dog" and typed(dict(dog.attributes)) == typed({"pose": "Left", "truncated": 1})
    assert (sample.name, sample.split, sample.size_wh) == ("000001.jpg", "train", (40, 30))
    source = {"database": "The VOC2007 Database", "image": "flickr"}
    assert sample.attributes == {"folder": "VOC2007", "source": source, "segmented": 0}
    assert [c.name for c in back.categories] == ["dog"]  # what is in the files, with the id that VOC gives it
    assert {c.name: c.id for c in back.categories}["dog"] == 12


def test_pixels_count_from_one(tmp_path: Path) -> None:
    source = dataset([placed(tmp_path, Sample(Path(), objects=(Object("cat", (0.0, 0.0, 1.0, 1.0)),), name="a.jpg"))],
                     ["cat"])  # fmt: skip
    through(format_voc, source, tmp_path / "voc")
    text = (tmp_path / "voc/Annotations/a.xml").read_text()
    assert "<xmin>1</xmin>" in text and "<xmax>1</xmax>" in text
    # what other evaluators ask for without looking whether it is there
    for tag in ("pose", "truncated", "difficult"):
        assert f"<{tag}>" in text


@settings(deadline=None)
@given(JSON)
def test_an_attribute_comes_back_with_its_type(value: Any) -> None:
    assert typed(voc_rows.value_of(voc_rows.text_of(value))) == typed(value)


def test_cvats_attributes_are_read(tmp_path: Path) -> None:
    pairs = {"occluded": "True", "color": "dark red", "rotation": "0.0", "iscrowd": "1", "track_id": "7", "n": "1e999"}
    text = "".join(f"<attribute><name>{k}</name><value>{v}</value></attribute>" for k, v in pairs.items())
    (sample,) = format_voc.read(voc(tmp_path, {"a": thing(more=f"<attributes>{text}</attributes>")}))
    (cat,) = sample.objects or ()
    wanted = {"occluded": True, "color": "dark red", "rotation": 0.0, "n": "1e999"}
    assert cat.crowd and cat.track == 7 and typed(dict(cat.attributes)) == typed(wanted)


# --- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(boxed_sets(attributes=True))
def test_boxes_and_attributes_come_back(source: Dataset) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = dataset([placed(folder / "photos", s) for s in source], source.categories)
        back = through(format_voc, source, folder / "voc")
        wanted = everything(source)
        for row in wanted.values():
            if row["objects"] is None:  # without an XML file nothing is said of the image
                row["size"] = None
        assert everything(back) == wanted
        assert len(back) == len(source)
        used = {t.label for s in source for t in s.objects or ()}
        if used <= set(voc_classes.CLASSES):
            assert {c.name for c in source.categories} <= {c.name for c in back.categories}
        else:
            assert [c.name for c in back.categories] == [c.name for c in source.categories]
        listed = [row for row in order(source) if row[0]]
        assert [row for row in order(back) if row[0]] == listed
        assert [p.read_bytes() for p in _photos(back)] == [p.read_bytes() for p in _photos(source)]


def _photos(source: Dataset) -> list[Path]:
    return [s.path for s in sorted(source, key=lambda s: (s.split or "", s.name))]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_maps_come_back(data: st.DataObject) -> None:
    """Class maps with ignored pixels, and objects with holes, one pixel small, several parts."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    own = data.draw(st.sampled_from([["cat", "dog"], ["Ä b", "b:c", "#d"], ["background", "cat", "x"]]))
    colors = data.draw(st.booleans())
    names = [Category(3 * i, n, rgb=tuple(rng.integers(0, 256, 3).tolist()) if colors else None)
             for i, n in enumerate(own, int(own[0] != "background"))]  # fmt: skip
    size = 24, 18
    with tempfile.TemporaryDirectory() as held:
        folder, samples = Path(held), []
        for i in range(data.draw(st.integers(1, 3))):
            ids = rng.choice([c.id for c in names] + [255], size[::-1]).astype(np.uint8)
            shapes = []
            free = np.ones(size[::-1], bool)
            for _ in range(data.draw(st.integers(0, 4))):
                c = names[-1 - int(rng.integers(0, 2))]
                x, y = rng.integers(0, 20), rng.integers(0, 14)
                pixels = np.zeros(size[::-1], bool)
                pixels[y : y + rng.integers(1, 14), x : x + rng.integers(1, 20)] = True
                pixels &= free & (rng.random(size[::-1]) < rng.choice([0.5, 1.0]))
                if pixels.any():
                    free &= ~pixels
                    ids[pixels] = c.id
                    ys, xs = np.nonzero(pixels)
                    box = float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)
                    shapes.append(Object(c.name, box, (), rle(pixels)))
            masked, objects = data.draw(st.booleans()), data.draw(st.booleans())
            sample = Sample(Path(), objects=tuple(shapes) if objects else None, name=f"{i}.jpg", size_wh=size,
                            mask=a_mask(ids) if masked else None)  # fmt: skip
            samples.append(placed(folder / "photos", sample))
        source = dataset(samples, names)
        back = through(format_voc, source, folder / "voc")
        to = {c.name: c for c in back.categories}
        ids_to = np.full(256, 255, np.uint8)
        for c in names:
            if c.name in to:
                ids_to[c.id] = to[c.name].id
                assert to[c.name].rgb == c.rgb
        wanted, found = everything(source), everything(back)
        for row in wanted.values():
            if row["mask"] is not None:
                row["mask"] = ids_to[np.array(row["mask"])].tolist()
            if row["objects"] is None:
                row["size"] = None
        assert found == wanted
        own_ids = set(own) <= {"cat", "dog", "background"}  # VOC's, so that no labelmap.txt is needed without colors
        assert ("background" in to) == ("background" in own or (own_ids and not colors and len(to) > 2))


def test_three_hundred_objects_in_one_photo(tmp_path: Path) -> None:
    things = []
    for i in range(300):
        pixels = np.zeros((30, 40), bool)
        pixels[i // 20 * 2 : i // 20 * 2 + 1, i % 20 * 2 : i % 20 * 2 + 1] = True
        box = (i % 20 * 2.0, i // 20 * 2.0, i % 20 * 2.0 + 1, i // 20 * 2.0 + 1)
        things.append(Object("ab"[i % 2], box, (), rle(pixels), attributes={"id": i}))
    source = dataset([placed(tmp_path, Sample(Path(), objects=tuple(things), name="a.jpg", size_wh=(40, 30)))], "ab")
    back = through(format_voc, source, tmp_path / "voc")
    assert everything(back) == everything(source)
    assert opened(tmp_path / "voc/SegmentationObject/a.png").mode.startswith("I")


def test_hundreds_of_classes_need_two_bytes_a_pixel(tmp_path: Path) -> None:
    ids = np.arange(1200, dtype=np.uint16).reshape(30, 40) % 400 + 1
    ids[0, 0] = 65535
    sample = placed(tmp_path, Sample(Path(), name="a.jpg", mask=a_mask(ids)))
    source = dataset([sample], [f"c{i:03d}" for i in range(400)])
    (back,) = through(format_voc, source, tmp_path / "voc")
    assert back.mask is not None and (back.mask().ids == ids).all()


def test_nobody_looked_is_not_empty(tmp_path: Path) -> None:
    samples = [placed(tmp_path, Sample(Path(), objects=o, name=n)) for n, o in (("a.jpg", None), ("b.jpg", ()))]
    back = {s.name: s.objects for s in through(format_voc, dataset(samples, ["cat"]), tmp_path / "voc")}
    assert back == {"a.jpg": None, "b.jpg": ()}
    assert not (tmp_path / "voc/Annotations/a.xml").exists()


def test_what_others_hide_is_lost_and_crowds_are_ignored(tmp_path: Path) -> None:
    square = np.array([[2.0, 2], [12, 2], [12, 12], [2, 12]])
    over = np.zeros((30, 40), bool)
    over[2:12, 6:20] = True
    crowd = np.zeros((30, 40), bool)
    crowd[20:30] = True
    things = (
        Object("cat", (2.0, 2.0, 12.0, 12.0), (square,)),
        Object("cat", (0.0, 20.0, 40.0, 30.0), (), rle(crowd), crowd=True),
        Object("dog", (6.0, 2.0, 20.0, 12.0), (), rle(over)),
    )
    source = dataset([placed(tmp_path, Sample(Path(), objects=things, name="a.jpg", size_wh=(40, 30)))], ["cat", "dog"])
    (back,) = through(format_voc, source, tmp_path / "voc")
    cat, many, dog = back.objects or ()
    whole = painted(things[0], (40, 30))
    assert whole is not None and cat.rle is not None and (pixels_of(cat.rle) == (whole & ~over)).all()
    assert many.crowd and many.rle is None
    assert dog.rle is not None and (pixels_of(dog.rle) == over).all()
    assert back.mask is None  # made from the objects: nobody looked at each pixel
    classes = np.array(PIL_Image.open(tmp_path / "voc/SegmentationClass/a.png"))
    assert (classes[20:] == 255).all() and set(np.unique(classes)) == {0, 8, 12, 255}


def test_an_object_without_a_shape_leaves_the_photo_without_maps(tmp_path: Path) -> None:
    things = (
        Object("cat", (2.0, 2.0, 9.0, 9.0), (np.array([[2.0, 2], [9, 2], [9, 9]]),)),
        Object("cat", (1.0, 1.0, 3.0, 3.0)),
    )
    source = dataset([placed(tmp_path, Sample(Path(), objects=things, name="a.jpg", size_wh=(40, 30)))], ["cat"])
    (back,) = through(format_voc, source, tmp_path / "voc")
    assert [(t.box_px, t.rle) for t in back.objects or ()] == [(t.box_px, None) for t in things]
    assert not (tmp_path / "voc/SegmentationObject").exists()


@pytest.mark.parametrize("other", ["val", "train"])
def test_photos_of_one_stem_are_refused(tmp_path: Path, other: str) -> None:
    samples = [placed(tmp_path, Sample(Path(), name="a.jpg", split="train")),
               placed(tmp_path, Sample(Path(), name="a.png", split=other))]  # fmt: skip
    (tmp_path / "voc").mkdir()
    with pytest.raises(DataError, match=r"a\.png.*a\.jpg.*rename"):
        format_voc.write(dataset(samples), Writer(tmp_path / "voc"))


def test_a_class_that_xml_cannot_hold_is_refused(tmp_path: Path) -> None:
    sample = placed(tmp_path, Sample(Path(), objects=(Object("a\0b", (0.0, 0.0, 5.0, 5.0)),), name="a.jpg"))
    (tmp_path / "voc").mkdir()
    with pytest.raises(DataError, match="rename"):
        format_voc.write(dataset([sample], ["a\0b"]), Writer(tmp_path / "voc"))


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_xml_beside_photos_and_in_folders_of_splits(tmp_path: Path) -> None:
    voc(tmp_path / "x", {"a": thing(), "b": None})
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "x").rglob("*.*"):
        shutil.copy(path, flat)
    assert format_voc.detect(flat)
    assert [(s.name, s.split, s.objects is None) for s in format_voc.read(flat)] == [
        ("a.jpg", None, False), ("b.jpg", None, True)]  # fmt: skip
    for split in ("train", "valid"):
        shutil.copytree(flat, tmp_path / "roboflow" / split)
    assert format_voc.detect(tmp_path / "roboflow")
    assert [(s.split, s.name) for s in format_voc.read(tmp_path / "roboflow")] == [
        ("train", "a.jpg"), ("train", "b.jpg"), ("valid", "a.jpg"), ("valid", "b.jpg")]  # fmt: skip


def test_the_development_kit_and_images_with_annotations(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit" / "VOC2012", {"a": thing()})
    for place in (tmp_path, tmp_path / "VOCdevkit"):
        assert format_voc.detect(place) and [s.name for s in format_voc.read(place)] == ["a.jpg"]
    shutil.copytree(tmp_path / "VOCdevkit/VOC2012/JPEGImages", tmp_path / "k/images/sub")
    shutil.copytree(tmp_path / "VOCdevkit/VOC2012/Annotations", tmp_path / "k/annotations/sub")
    assert format_voc.detect(tmp_path / "k") and [s.name for s in format_voc.read(tmp_path / "k")] == ["sub/a.jpg"]
    voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": thing()})
    assert not format_voc.detect(tmp_path)
    with pytest.raises(DataError, match="VOC2007, VOC2012"):
        format_voc.read(tmp_path)


def test_lists_of_splits(tmp_path: Path) -> None:
    lists = {
        "Main/train": "b\na\n", "Main/val": "my image 1\n", "Main/trainval": "a\nb\nd\nmy image 1\n",
        "Main/cat_train": "a  1\nb -1\nd  0\n", "Segmentation/val": "c\na\n", "Layout/test": "a\n",
    }  # fmt: skip
    back = format_voc.read(voc(tmp_path, {n: thing() for n in ("a", "b", "c", "d", "my image 1")}, lists))
    assert [(s.split, s.name) for s in back] == [
        ("train", "b.jpg"), ("train", "a.jpg"), ("val", "my image 1.jpg"), ("val", "c.jpg"),
        (None, "d.jpg")]  # fmt: skip


def test_cvats_default_list_is_no_split(tmp_path: Path) -> None:
    back = format_voc.read(voc(tmp_path, {"a b": thing(), "c": thing()}, {"Main/default": 'c\n"a b"\n'}))
    assert [(s.split, s.name) for s in back] == [(None, "c.jpg"), (None, "a b.jpg")]


def test_the_photo_is_found_by_filename_when_the_stem_differs(tmp_path: Path) -> None:
    voc(tmp_path, {"a": None})
    (tmp_path / "Annotations" / "label_7.xml").write_text(XML.format(name="a", objects=thing()))
    assert [(s.name, len(s.objects or ())) for s in format_voc.read(tmp_path)] == [("a.jpg", 1)]


def test_painted_maps_of_cvat_are_read(tmp_path: Path) -> None:
    voc(tmp_path, {"a": None}, {"Segmentation/default": "a\n"})
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:70,130,180::\n"
    )
    ids = np.zeros((30, 40), np.uint8)
    ids[10:], ids[:4] = 1, 2
    colors = np.array([[0, 0, 0], [128, 64, 128], [70, 130, 180]], np.uint8)
    things = np.zeros((30, 40), np.uint8)
    things[10:20], things[20:] = 1, 2
    palette = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    for folder, rgb in (("SegmentationClass", colors[ids]), ("SegmentationObject", palette[things])):
        (tmp_path / folder).mkdir()
        PIL_Image.fromarray(rgb).save(tmp_path / folder / "a.png")
    (sample,) = format_voc.read(tmp_path)
    assert sample.mask is not None and (sample.mask().ids == ids).all()
    assert [(t.label, t.box_px) for t in sample.objects or ()] == [
        ("road", (0.0, 10.0, 40.0, 20.0)), ("road", (0.0, 20.0, 40.0, 30.0))]  # fmt: skip


def test_a_map_painted_in_greys_is_not_taken_for_ids(tmp_path: Path) -> None:
    grey = np.full((30, 40, 3), 128, np.uint8)
    grey[:3] = 0
    PIL_Image.fromarray(grey).save(tmp_path / "a.png")
    classes = (Category(0, "background"), Category(1, "sky", rgb=(128, 128, 128)))
    found: list[Finding] = []
    mask = voc_masks.class_map(tmp_path / "a.png", tmp_path, classes, found.append)
    assert not found and mask is not None and (mask.ids[3:] == 1).all() and (mask.ids[:3] == 0).all()


# --- findings --------------------------------------------------------------------------------------------------------

BOMB = '<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;">]><annotation><filename>&m;</filename></annotation>'
IN_XML = {
    "unsafe_xml": BOMB,
    "unreadable_labels": "<annotation><object></annotation>",
    "box_outside": thing(box="1 1 60 20"),
    "box_no_area": thing(box="9 1 8 20"),
    "box_negative": thing(box="20 1 8 20"),
    "not_finite": thing(box="nan 1 8 20"),
    "broken_label": thing(box="1 1 8"),
    "category_twins": thing("cat") + thing("Cat"),
}


@pytest.mark.parametrize("code", IN_XML)
def test_findings_in_xml(tmp_path: Path, code: str) -> None:
    voc(tmp_path, {"good": thing(), "bad": IN_XML[code]})
    found = told(format_voc, tmp_path)
    assert {f.code for f in found} == {code}
    assert all("bad.xml" in f.file or code == "category_twins" for f in found)
    with pytest.raises(DataError, match=r"bad\.xml|Annotations"):
        everything(format_voc.read(tmp_path))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<html></html>", "unreadable_labels"),
        ("<!DOCTYPE annotation><annotation></annotation>", "unsafe_xml"),
        ("<annotation>" + "<a>" * 60 + "</a>" * 60 + "</annotation>", "unreadable_labels"),
        ("<annotation><object><bndbox/></object></annotation>", "broken_label"),
        (thing("") + thing("cat"), "broken_label"),
        (thing(box="1 1 1e400 20"), "broken_label"),
        (thing(box="1 1 １２ 20"), "broken_label"),
        (XML.format(name="bad", objects=thing()).replace("<width>40", "<width>0"), "no_size"),
        (XML.format(name="bad", objects=thing()).replace("<width>40", "<width>1000000000"), "no_size"),
    ],
)
def test_more_findings_in_xml(tmp_path: Path, text: str, code: str) -> None:
    found = codes(format_voc, voc(tmp_path, {"good": thing(), "bad": text}))
    assert code in found and found - {"no_size"} == {code} - {"no_size"}


def test_many_findings_of_one_kind_are_counted(tmp_path: Path) -> None:
    found = told(format_voc, voc(tmp_path, {"a": thing(box="5 5 1 1") * 500}))
    assert len(found) == 21 and sum(f.count for f in found) == 500


def test_findings_about_files(tmp_path: Path) -> None:
    def planted(name: str, files: dict[str, str | None] | None = None, lists: dict[str, str] | None = None) -> Path:
        return voc(tmp_path / name, {"a": thing(), "b": thing(), **(files or {})}, lists)

    (planted("empty") / "Annotations/a.xml").write_bytes(b"")
    assert codes(format_voc, tmp_path / "empty") == {"empty_file"}
    (planted("orphan") / "Annotations/z.xml").write_text(XML.format(name="z", objects=thing()))
    assert codes(format_voc, tmp_path / "orphan") == {"missing_image"}
    (planted("case") / "Annotations/z.xml").write_text(XML.format(name="C", objects=thing()))
    photo(tmp_path / "case/JPEGImages/c.jpg")
    assert codes(format_voc, tmp_path / "case") == {"wrong_case_name"}
    (planted("away") / "Annotations/z.xml").write_text(XML.format(name="../../../etc/x", objects=thing()))
    assert codes(format_voc, tmp_path / "away") == {"unsafe_path"}
    photo(planted("twice") / "JPEGImages/a.png")
    assert codes(format_voc, tmp_path / "twice") == {"shared_label_file"}
    (planted("twice2") / "Annotations/z.xml").write_text(XML.format(name="a", objects=thing()))
    assert codes(format_voc, tmp_path / "twice2") == {"two_label_files"}
    read = [s.name for s in format_voc.read(tmp_path / "twice2", on_finding=lambda f: None)]
    assert read == ["b.jpg"]  # which of the two is right is not known
    assert codes(format_voc, planted("list", lists={"Main/train": "a\nzz\n"})) == {"missing_image"}
    assert codes(format_voc, planted("list2", lists={"Main/train": "A\n"})) == {"wrong_case_name"}
    assert codes(format_voc, planted("list3", lists={"Main/train": "a\na\n"})) == {"duplicate_image"}
    both = planted("across", lists={"Main/train": "a\nb\n", "Main/test": "b\n"})
    assert codes(format_voc, both) == {"same_image_across_splits"}
    read = {s.name: s.split for s in format_voc.read(both, on_finding=lambda f: None)}
    assert read == {"a.jpg": "train", "b.jpg": "test"}  # a test set keeps its images
    bad = planted("bytes", lists={"Main/train": "a\n"})
    (bad / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\n")
    assert codes(format_voc, bad) == {"unreadable_labels"}
    assert codes(format_voc, planted("unseen", {"c": None})) == {"unlabeled_image"}
    link = planted("link")
    (tmp_path / "secret.xml").write_text(XML.format(name="a", objects=thing()))
    (link / "Annotations/a.xml").unlink()
    (link / "Annotations/a.xml").symlink_to(tmp_path / "secret.xml")
    assert codes(format_voc, link) == {"symlink_outside"}
    pipe = planted("pipe")
    (pipe / "Annotations/a.xml").unlink()
    import os

    os.mkfifo(pipe / "Annotations/a.xml")
    assert codes(format_voc, pipe) == {"unreadable_labels"}


def test_findings_about_maps(tmp_path: Path) -> None:
    def planted(name: str, kind: str, ids: np.ndarray, objects: str = thing("cat", "1 1 10 10")) -> Path:
        root = voc(tmp_path / name, {"a": objects})
        write_ids(root / kind / "a.png", ids)
        if kind == "SegmentationObject":
            write_ids(root / "SegmentationClass/a.png", np.where(ids > 0, 8, 0).astype(np.uint8))
        return root

    ids = np.zeros((30, 40), np.uint8)
    ids[:10, :10] = 8
    assert codes(format_voc, planted("good", "SegmentationClass", ids)) == set()
    assert codes(format_voc, planted("value", "SegmentationClass", ids * 5)) == {"label_outside_map"}
    assert codes(format_voc, planted("names", "SegmentationClass", ids, thing("gnu"))) == {"no_label_map"}
    broken = planted("broken", "SegmentationClass", ids)
    (broken / "SegmentationClass/a.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert codes(format_voc, broken) == {"unreadable_mask"}
    orphan = planted("orphan", "SegmentationClass", ids)
    write_ids(orphan / "SegmentationClass/zz.png", ids)
    assert codes(format_voc, orphan) == {"missing_image"}
    one = (ids > 0).astype(np.uint8)
    (sample,) = format_voc.read(planted("one", "SegmentationObject", one))
    assert sample.objects and sample.objects[0].rle is not None
    assert codes(format_voc, planted("size", "SegmentationObject", one[:-1])) == {"mask_size_mismatch"}
    for name, objects in {"count": "", "class": thing("dog", "1 1 10 10"), "box": thing("cat", "20 20 30 30")}.items():
        number = 2 * one if name == "count" else one
        root = planted(name, "SegmentationObject", number, objects or thing("cat", "1 1 10 10"))
        (finding,) = told(format_voc, root)
        assert finding.code == "missing_mask" and finding.severity == "warning"
        assert all(t.rle is None for s in format_voc.read(root) for t in s.objects or ())
    noise = planted("noise", "SegmentationObject", one)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as m:
        m.setattr(voc_masks, "MOST_RUNS", 3)
        assert codes(format_voc, noise) == {"mask_not_ids"}
    alone = planted("alone", "SegmentationObject", one)
    (alone / "Annotations/a.xml").unlink()
    (alone / "SegmentationClass/a.png").unlink()
    assert codes(format_voc, alone) == {"missing_mask"}


@pytest.mark.parametrize(
    ("text", "code"),
    [("cat:1,2,300::\n", "broken_label"), ("cat:::\ncat:::\n", "duplicate_category"), ("dog:::\n", "unknown_category")],
)
def test_findings_in_the_label_map(tmp_path: Path, text: str, code: str) -> None:
    root = voc(tmp_path, {"a": thing("cat")})
    (root / "labelmap.txt").write_text(text)
    assert code in codes(format_voc, root)


def test_folders_that_are_not_voc(tmp_path: Path) -> None:
    for i, names in enumerate(([], ["JPEGImages", "Annotations"], ["images", "labels"])):
        folder = tmp_path / f"place{i}"
        folder.mkdir(parents=True)
        for name in names:
            photo(folder / name / "a.jpg")
        assert not format_voc.detect(folder)
        with pytest.raises(DataError, match=str(folder)):
            format_voc.read(folder)


# --- real data -------------------------------------------------------------------------------------------------------


def test_coco_through_voc_scores_the_same(data: Path, tmp_path: Path) -> None:
    """Real boxes, crowds and shapes: COCO -> VOC -> COCO has every box, and each evaluator's figures are equal."""
    source = format_coco.read(data / "coco-mini")
    back = coco_again(format_voc, data / "coco-mini", tmp_path)
    assert kept(back) == kept(source)
    assert sum(map(len, kept(back).values())) == 2582
    for split in ("train", "val"):
        detections = jittered(data / "coco-mini" / f"instances_{split}.json")
        before = precision(data / "coco-mini" / f"instances_{split}.json", detections)
        after = precision(tmp_path / f"coco/annotations/instances_{split}.json", detections)
        assert after == before and before["pycocotools"] == pytest.approx(before["faster"], abs=1e-9)
        assert 0.2 < before["pycocotools"][0] < 0.9
        print(split, json.dumps(before["pycocotools"][:3]))


def kept(source: Dataset) -> dict[Any, list[Any]]:
    """What VOC holds of COCO's objects but shapes."""
    return {
        (s.split, s.name): [
            (t.label, t.crowd, t.attributes["id"], t.attributes["area"], [round(v, 6) for v in t.box_px or ()])
            for t in s.objects or ()
        ]
        for s in source
    }


def test_every_real_mask_is_kept_or_hidden(data: Path, tmp_path: Path) -> None:
    """The same pixels, unless a later object hides some of them, or another object of the image has no shape."""
    source = format_coco.read(data / "coco-mini")
    back = {(s.split, s.name): s for s in through(format_voc, source, tmp_path / "voc")}
    same = less = lost = 0
    for s in source:
        other = back[s.split, s.name].objects or ()
        for a, b in zip(s.objects or (), other, strict=True):
            pixels = painted(a, s.size_wh or (1, 1))
            if pixels is None or a.crowd:
                continue
            if b.rle is None:
                lost += 1
                continue
            now = pixels_of(b.rle)
            assert not (now & ~pixels).any()
            same, less = same + bool((now == pixels).all()), less + bool((now != pixels).any())
    assert (same, less, lost) == (1695, 393, 98)
