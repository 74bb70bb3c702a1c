"""XML files wherever people keep them, lists of classes under any name, YAML files that name what is not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data import format_camvid, format_voc, format_yolo, formats
from handful.data.finding import Finding
from handful.data.masks import voc_palette, write_ids
from handful.data.voc_classes import listed
from tests.data.boxsets import codes, photo, told

XML = """<annotation><filename>{name}</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>mug</name><bndbox><xmin>{left}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""


def put(root: Path, pairs: dict[str, str]) -> Path:
    """{image: its XML file}; the box of each image begins elsewhere, so that no two can be mistaken."""
    for number, (image, xml) in enumerate(pairs.items(), 1):
        photo(root / image)
        (root / xml).parent.mkdir(parents=True, exist_ok=True)
        (root / xml).write_text(XML.format(name=Path(image).name, left=number))
    return root


def read_boxes(root: Path) -> dict[str, tuple[str | None, int]]:
    """{image: (split, left edge of its box + 1)}, read without a fault."""
    assert [s.format for s in formats.sources(root)] == ["voc"]
    found = {}
    for sample in format_voc.read(root):
        if sample.objects:
            assert sample.objects[0].box_px is not None
            found[sample.path.relative_to(root).as_posix()] = (sample.split, int(sample.objects[0].box_px[0]) + 1)
    return found


PLACES = {
    "pets": ("images/{}.jpg", "annotations/xmls/{}.xml", None),
    "xmls": ("images/{}.jpg", "xmls/{}.xml", None),
    "labels": ("images/{}.jpg", "labels/{}.xml", None),
    "ann": ("img/{}.jpg", "ann/{}.xml", None),
    "xml beside the images' own folder": ("{}.jpg", "xml/{}.xml", None),
    "two deeper": ("JPEGImages/{}.jpg", "Annotations/a/b/{}.xml", None),
    "images deeper": ("images/day/{}.jpg", "Annotations/{}.xml", None),
    "names of one's own": ("pictures/{}.jpg", "boxes_voc/{}.xml", None),
    "split folders": ("train/images/{}.jpg", "train/annotations/{}.xml", "train"),
    "split and xml": ("test/imgs/{}.jpg", "test/xml/{}.xml", "test"),
    "train_images": ("train_images/{}.jpg", "train_annots/{}.xml", "train_images"),
}


@pytest.mark.parametrize("place", PLACES)
def test_xml_files_wherever_they_lie(place: str, tmp_path: Path) -> None:
    image, xml, split = PLACES[place]
    put(tmp_path, {image.format(n): xml.format(n) for n in ("a", "b")})
    assert read_boxes(tmp_path) == {image.format(n): (split, i) for i, n in enumerate("ab", 1)}


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("{}/images/{}.jpg", "{}/annotations/{}.xml"), ("{}_images/{}.jpg", "{}_annots/{}.xml"),
        ("pictures/{}/{}.jpg", "boxes_voc/{}/{}.xml"), ("{}/{}.jpg", "{}/{}.xml"),
    ],
)  # fmt: skip
def test_splits_with_the_same_names_keep_their_own_xml_files(image: str, xml: str, tmp_path: Path) -> None:
    pairs = {image.format(s, n): xml.format(s, n) for s in ("train", "valid") for n in ("0", "1")}
    put(tmp_path, pairs)
    found = read_boxes(tmp_path)
    assert {name: left for name, (_, left) in found.items()} == {name: i for i, name in enumerate(pairs, 1)}
    assert all((split or "").startswith(name.split("/")[name.startswith("pict")].split("_")[0])
               for name, (split, _) in found.items())  # fmt: skip


def test_an_xml_file_that_may_be_of_two_images_is_told(tmp_path: Path) -> None:
    put(tmp_path, {"images/day/a.jpg": "xmls/a.xml"})
    photo(tmp_path / "images/night/a.jpg")
    (finding,) = [f for f in told(format_voc, tmp_path) if f.severity == "error"]
    assert (finding.code, finding.file) == ("ambiguous_image", "xmls/a.xml")
    assert all(s.objects is None for s in format_voc.read(tmp_path, on_finding=lambda f: None))


def test_many_masks_before_the_xml_files_do_not_hide_them(tmp_path: Path) -> None:
    put(tmp_path, {"images/a.jpg": "annotations/xmls/a.xml"})
    for i in range(250):
        (tmp_path / "annotations/trimaps").mkdir(exist_ok=True)
        (tmp_path / f"annotations/trimaps/{i}.png").write_bytes(b"x")
    assert read_boxes(tmp_path) == {"images/a.jpg": (None, 1)}


def test_what_an_xml_file_says_beside_boxes_is_kept(tmp_path: Path) -> None:
    put(tmp_path, {"JPEGImages/a.jpg": "Annotations/a.xml"})
    path = tmp_path / "Annotations/a.xml"
    part = "<part><name>handle</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>"
    outline = "<polygon><x1>2</x1><y1>3</y1><x2>20</x2><y2>3</y2><x3>20</x3><y3>15</y3></polygon>"
    text = path.read_text().replace("</object>", f"{part}{outline}<actions><jumping>1</jumping></actions></object>")
    path.write_text(text.replace("<size>", "<path>/home/me/a.jpg</path><weather>rain</weather><size>"))
    (sample,) = format_voc.read(tmp_path)
    (mug,) = sample.objects or ()
    assert mug.attributes == {"part": [{"name": ["handle"], "bndbox": [{"xmin": [1], "ymin": [2], "xmax": [3],
                              "ymax": [4]}]}], "actions": [{"jumping": [1]}]}  # fmt: skip
    assert mug.polygons_px[0].tolist() == [[2, 3], [20, 3], [20, 15]]
    assert dict(sample.attributes) == {"path": "/home/me/a.jpg", "weather": "rain"}
    (tmp_path / "again").mkdir()
    formats.write(format_voc.read(tmp_path), tmp_path / "again", "voc")
    (back,) = format_voc.read(tmp_path / "again")
    assert dict(back.attributes) == dict(sample.attributes)
    assert dict((back.objects or ())[0].attributes) == dict(mug.attributes)


def test_a_turned_box_is_an_outline(tmp_path: Path) -> None:
    put(tmp_path, {"JPEGImages/a.jpg": "Annotations/a.xml"})
    path = tmp_path / "Annotations/a.xml"
    start, end = path.read_text().split("<bndbox>")[0], "</object></annotation>"
    turned = "<robndbox><cx>20</cx><cy>15</cy><w>10</w><h>4</h><angle>1.5707963267948966</angle></robndbox>"
    path.write_text(start + turned + end)
    ((mug,),) = [s.objects or () for s in format_voc.read(tmp_path)]
    assert mug.box_px is None and np.allclose(mug.polygons_px[0], [[22, 10], [22, 20], [18, 20], [18, 10]])


# classes of masks


def masked(root: Path, values: tuple[int, ...] = (0, 1, 2), names: tuple[str, ...] = ("x", "y"), **more: str) -> Path:
    for i, name in enumerate(names):
        photo(root / f"JPEGImages/{name}.jpg")
        ids = np.zeros((30, 40), np.uint8)
        ids[5:15] = values[1:][i % max(1, len(values) - 1)]
        ids[20:], ids[0] = values[-1], values[0]
        write_ids(root / f"SegmentationClass/{name}.png", ids)
    for file, text in more.items():
        (root / file.replace("__", "/").replace("_txt", ".txt").replace("_names", ".names")).write_text(text)
    return root


LISTS = ("class_names.txt", "classes.txt", "labels.txt", "label_names.txt", "codes.txt", "obj.names")


@pytest.mark.parametrize("file", LISTS)
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("_background_\nmug\nplate\n", ["_background_", "mug", "plate"]),  # labelme's class_names.txt
        ("__ignore__\n_background_\nmug\nplate", ["_background_", "mug", "plate"]),  # labelme's labels.txt
        ("background\r\nmug\r\nplate\r\n", ["background", "mug", "plate"]),
        ("mug\nplate\n", ["background", "mug", "plate"]),  # as many names as values above the background's
    ],
)
def test_classes_of_masks_come_from_the_list_that_is_there(
    file: str, text: str, wanted: list[str], tmp_path: Path
) -> None:
    root = masked(tmp_path)
    (root / file).write_text(text)
    assert codes(format_voc, root) == set()
    found = format_voc.read(root)
    assert [(c.id, c.name) for c in found.categories] == list(enumerate(wanted))
    first = next(iter(found))
    assert first.mask is not None and set(np.unique(first.mask().ids).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("text", [None, "mug\nplate\nfork\n", "mug\n", "mug\nmug\n", "background\nmug\n", "\n"])
def test_classes_of_masks_are_never_invented(text: str | None, tmp_path: Path) -> None:
    root = masked(tmp_path)
    if text is not None:
        (root / "classes.txt").write_text(text)
    (finding,) = told(format_voc, root)
    assert (finding.code, finding.severity) == ("no_label_map", "warning")
    assert ("classes.txt" in finding.file) == (text is not None)
    assert [(c.id, c.name) for c in format_voc.read(root).categories] == [(0, "0"), (1, "1"), (2, "2")]


def test_vocs_own_names_where_its_own_files_say_so(tmp_path: Path) -> None:
    root = masked(tmp_path / "named", names=("2007_000032", "2007_000033"))
    assert len(format_voc.read(root).categories) == 21 and codes(format_voc, root) == set()
    root = masked(tmp_path / "labels")
    (root / "Annotations").mkdir()
    (root / "Annotations/x.xml").write_text(XML.format(name="x.jpg", left=3).replace("mug", "cat"))
    assert format_voc.read(root).categories[8].name == "cat"
    root = masked(tmp_path / "own")
    (root / "Annotations").mkdir()
    (root / "Annotations/x.xml").write_text(XML.format(name="x.jpg", left=3))
    assert [c.name for c in format_voc.read(root).categories] == ["0", "1", "2", "mug"]  # no value is said to be mug
    assert codes(format_voc, root) == {"no_label_map", "unlabeled_image"} - {"unlabeled_image"}


def test_labelmes_folders_of_png(tmp_path: Path) -> None:
    root = masked(tmp_path, class__names_txt="") if False else masked(tmp_path)
    (root / "class_names.txt").write_text("_background_\nmug\nplate\n")
    (root / "SegmentationClass").rename(root / "SegmentationClassPNG")
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClass/x.npy").write_bytes(b"x")
    assert [s.mask is not None for s in format_voc.read(root)] == [True, True]
    assert codes(format_voc, root) == set()


def test_numbers_painted_gray_are_what_the_palette_says(tmp_path: Path) -> None:
    """VOC's palette is gray at 7; in a painted map 128, 128, 128 is object 7, in a map of ids saved as RGB 128 is."""
    root = tmp_path
    photo(root / "JPEGImages/x.jpg")
    palette = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    assert palette[7].tolist() == [128, 128, 128]
    things = np.zeros((30, 40), np.uint8)
    things[5:15, 5:20] = 7
    (root / "SegmentationObject").mkdir()
    PIL_Image.fromarray(palette[things]).save(root / "SegmentationObject/x.png")
    classes = np.zeros((30, 40, 3), np.uint8)
    classes[5:15, 5:20] = 1  # ids saved as RGB
    (root / "SegmentationClass").mkdir()
    PIL_Image.fromarray(classes).save(root / "SegmentationClass/x.png")
    (root / "classes.txt").write_text("background\nmug\n")
    (sample,) = format_voc.read(root)
    assert [(t.label, t.box_px) for t in sample.objects or ()] == [("mug", (5.0, 5.0, 20.0, 15.0))]
    assert sample.mask is not None and np.unique(sample.mask().ids).tolist() == [0, 1]


def test_where_a_list_of_names_begins() -> None:
    assert [c.id for c in listed("bg\nmug", {0, 1}) or ()] == [0, 1]
    assert listed("mug\nplate", {0, 1}) is None and listed("mug\nplate", {0, 3}) is None


# CamVid


def camvid(
    root: Path, top: int, folders: tuple[str, str] = ("images", "labels"), tail: str = "_P", **more: Any
) -> Path:
    for i in range(2):
        photo(root / folders[0] / f"0016E5_0000{i}.png")
        ids = np.zeros((30, 40), np.uint8)
        ids[5:15] = top
        write_ids(root / folders[1] / f"0016E5_0000{i}{tail}.png", ids)
    for file, text in more.items():
        (root / f"{file}.txt").write_text(text)
    return root


def test_camvid_as_fastai_spreads_it(tmp_path: Path) -> None:
    root = camvid(
        tmp_path / "named", 4, codes="Animal\nArchway\nBicyclist\nBridge\nBuilding\n", valid="0016E5_00001.png\n"
    )
    assert [c.name for c in format_camvid.read(root).categories] == [
        "Animal",
        "Archway",
        "Bicyclist",
        "Bridge",
        "Building",
    ]
    assert {s.name: s.split for s in format_camvid.read(root)} == {
        "0016E5_00000.png": "train",
        "0016E5_00001.png": "valid",
    }
    assert codes(format_camvid, root) == set()
    for number, (top, tail, folders) in enumerate([(4, "_P", ("images", "labels")), (30, "", ("images", "labels"))]):
        root = camvid(tmp_path / str(number), top, folders, tail)
        assert codes(format_camvid, root) == {"no_label_map"}
        assert [c.name for c in format_camvid.read(root).categories] == ["0", str(top)]


def test_segnets_layout_of_other_images_has_no_classes_of_camvid(tmp_path: Path) -> None:
    for place, frame in (("own", "a"), ("camvids", "0016E5_00001")):
        photo(tmp_path / place / f"train/{frame}.png")
        write_ids(tmp_path / place / f"trainannot/{frame}.png", np.full((30, 40), 3, np.uint8))
    assert [c.name for c in format_camvid.read(tmp_path / "own").categories] == ["3"]
    assert codes(format_camvid, tmp_path / "own") == {"no_label_map"}
    assert format_camvid.read(tmp_path / "camvids").categories == format_camvid.ELEVEN


def test_a_table_of_colors(tmp_path: Path) -> None:
    rgb = np.zeros((30, 40, 3), np.uint8)
    rgb[5:15] = 9, 8, 7
    photo(tmp_path / "train/a.png")
    (tmp_path / "train_labels").mkdir()
    PIL_Image.fromarray(rgb).save(tmp_path / "train_labels/a.png")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nvoid, 0, 0, 0\nmug,9,8,7\n")
    found = format_camvid.read(tmp_path)
    assert [(c.name, c.rgb) for c in found.categories] == [("void", (0, 0, 0)), ("mug", (9, 8, 7))]
    assert [np.unique(s.mask().ids).tolist() for s in found if s.mask] == [[0, 1]]


# data.yaml


def yolo(root: Path, config: str, images: tuple[str, ...]) -> Path:
    for image in images:
        photo(root / image)
        label = root / format_yolo.label_of(image)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.4\n")
    (root / "data.yaml").write_text(config)
    return root


BOTH = ("train/images/a.jpg", "valid/images/b.jpg")


@pytest.mark.parametrize(
    ("config", "images", "findings", "splits"),
    [
        ("train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [mug]", BOTH, {"missing_split"},
         {"a.jpg": "train", "b.jpg": "val"}),
        ("train: ../train/images\nval: ../valid/images\ntest: /content/x/test/images\nnames: [mug]", BOTH,
         {"missing_split"}, {"a.jpg": "train", "b.jpg": "val"}),
        ("path: /kaggle/input/mugs\ntrain: train/images\nval: valid/images\ntest: test/images\nnames: [mug]", BOTH,
         {"missing_split"}, {"a.jpg": "train", "b.jpg": "val"}),
        ("train: C:\\ds\\train\nval: C:\\ds\\valid\nnames: [mug]", ("train/a.jpg", "valid/b.jpg"), set(),
         {"a.jpg": "train", "b.jpg": "val"}),
        ("train: /content/ds/pictures\nval: /content/ds/pictures\nnames: [mug]", ("pictures/a.jpg",), set(),
         {"a.jpg": None}),
        ("train: /x/train/images\nval: /x/val/images\nnames: [mug]", ("images/a.jpg",), {"unsafe_path"},
         {"a.jpg": None}),
        ("train: imagez/train\nval: images/val\nnames: [mug]", ("images/train/a.jpg", "images/val/b.jpg"),
         {"missing_image"}, {"a.jpg": None, "b.jpg": "val"}),
        ("val: images/valid\nvalid: images/valid\ntrain: images/train\nnames: [mug]",
         ("images/train/a.jpg", "images/valid/b.jpg"), set(), {"a.jpg": "train", "b.jpg": "valid"}),
    ],
)  # fmt: skip
def test_what_data_yaml_names_in_vain(
    config: str, images: tuple[str, ...], findings: set[str], splits: dict[str, str | None], tmp_path: Path
) -> None:
    root = yolo(tmp_path, config + "\n", images)
    assert codes(format_yolo, root) == findings
    found = {Path(s.name).name: s.split for s in format_yolo.read(root, on_finding=lambda f: None)}
    assert found == splits


def test_a_link_to_the_images_is_named_and_not_its_labels_blamed(tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "train: images\nval: images\nnames: [mug]\n", ("images/a.jpg", "images/b.jpg"))
    (root / "images").rename(tmp_path / "photos")
    (root / "images").symlink_to("../photos")
    (finding,) = told(format_yolo, root)
    assert (finding.code, finding.file) == ("linked_folder", "images") and str(tmp_path / "photos") in finding.text
    (root / "images").unlink()  # what the message says helps
    shutil.copytree(tmp_path / "photos", root / "images")
    assert codes(format_yolo, root) == set() and len(list(format_yolo.read(root))) == 2


def test_keypoints_are_read_and_written(tmp_path: Path) -> None:
    config = "train: images\nval: images\nkpt_shape: [2, 3]\nkpt_names: {0: [nose, tail]}\nnames: [cat]\n"
    root = yolo(tmp_path / "set", config, ("images/a.jpg",))
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.4 0.25 0.5 2 0 0 0\n")
    found = format_yolo.read(root)
    assert found.categories[0].attributes == {"keypoints": ["nose", "tail"]}
    ((cat,),) = [s.objects or () for s in found]
    assert cat.attributes == {"keypoints": [10.0, 15.0, 2, 0, 0, 0], "num_keypoints": 1}
    (tmp_path / "again").mkdir()
    formats.write(found, tmp_path / "again", "yolo")
    ((back,),) = [s.objects or () for s in format_yolo.read(tmp_path / "again")]
    assert back.attributes == cat.attributes and back.box_px == cat.box_px
    (root / "data.yaml").write_text(config.replace("[2, 3]", "[2, 2]"))
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.4 0.25 0.5 0 0\n")
    ((cat,),) = [s.objects or () for s in format_yolo.read(root)]
    assert cat.attributes["keypoints"] == [10.0, 15.0, 2, 0, 0, 0]


def test_pointers_of_git_lfs_are_named(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9781\n"
    boxes = put(tmp_path / "voc", {"images/a.jpg": "annotations/a.xml", "images/b.jpg": "annotations/b.xml"})
    lines = yolo(tmp_path / "yolo", "train: images\nval: images\nnames: [mug]\n", ("images/a.jpg", "images/b.jpg"))
    for path in (boxes / "annotations/b.xml", lines / "labels/b.txt", lines / "images/a.jpg"):
        path.write_text(pointer)
    for module, root, count in ((format_voc, boxes, 1), (format_yolo, lines, 2)):
        said: list[Finding] = told(module, root)
        assert {f.code for f in said if f.severity == "error"} == {"lfs_pointer"}
        assert sum(f.code == "lfs_pointer" for f in said) == count and "git lfs pull" in said[0].text
