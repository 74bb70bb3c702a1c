"""What was once misread without a word: each is read right, or told with the file, the place in it and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.curate.check import check, ensure
from handful.data import format_folder, formats
from handful.errors import DataError
from tests.data.layouts import SIZE, STORED, Maker
from tests.data.reports import photos, write

REGION = {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0, "original_width": 96, "original_height": 72}


def checked(root: Path, files: dict[str, Any], **options: Any) -> tuple[dict[str, int], dict[str, str]]:
    """({class: images}, {code of an error or a warning: its text}) of a folder of these files."""
    report = check(write(root, files), near=False, **options)
    found = {f["code"]: f["text"] for f in report["findings"] if f["severity"] != "note"}
    quiet = ("one_image", "same_image_twice", "class_without_samples")
    (held, *_) = report["sets"]
    named = {name: counts["images"] for name, counts in held["per_class"].items() if counts["images"]}
    return named, {code: text for code, text in found.items() if code not in quiet}


def task(i: int, **said: Any) -> dict[str, Any]:
    return {"id": i, "image": f"/data/upload/3/abcd1234-{i}.jpg", "annotator": 1, "annotation_id": i, "lead_time": 2.0,
            **said}  # fmt: skip


def test_the_regions_of_a_short_export_have_their_class_under_labels(tmp_path: Path) -> None:
    two = [{**REGION, "labels": ["cup"]}, {**REGION, "x": 50, "labels": ["plate"]}]
    named, told = checked(tmp_path, {**photos("0.jpg", "1.jpg"), "export.json": [task(0, bbox=two), task(1, bbox=[])]})
    assert (named, told) == ({"cup": 1, "plate": 1}, {})


def test_a_region_without_a_class_is_no_empty_image(tmp_path: Path) -> None:
    named, told = checked(tmp_path, {**photos("0.jpg"), "export.json": [task(0, label=[REGION])]})
    assert not named and set(told) == {"broken_label"}
    assert "rectanglelabels" in told["broken_label"] and "width" in told["broken_label"]


FIVE = photos(*[f"p{i}.jpg" for i in range(5)])
CORNERS = "filename,xmin,ymin,xmax,ymax"


def table(header: str, *ends: str) -> dict[str, Any]:
    """Five images and a row for each: its name, and one of the ends after another."""
    rows = [f"p{i}.jpg,{ends[i % len(ends)]}" for i in range(5)]
    return {**FIVE, "boxes.csv": "\n".join([header, *rows])}


@pytest.mark.parametrize("title", ["Klasse", "Kategorie", "defect_type", "Species", "classe", "object type"])
def test_a_column_that_sounds_like_classes_is_read_as_them(title: str, tmp_path: Path) -> None:
    named, told = checked(tmp_path, table(f"{CORNERS},{title}", "10,12,60,40,cup", "10,12,60,40,plate"))
    assert (named, told) == ({"cup": 3, "plate": 2}, {})


def test_names_beside_numbers_are_used(tmp_path: Path) -> None:
    named, told = checked(tmp_path, table(f"{CORNERS},species,label", "10,12,60,40,cup,3", "10,12,60,40,cup,4"))
    assert (named, told) == ({"cup": 5}, {})


@pytest.mark.parametrize(
    ("more", "ends", "says"),
    [
        ("baum", ("cup", "plate"), "'baum'"),
        ("Klasse,Kategorie", ("cup,x", "plate,y"), "'Klasse' or 'Kategorie'"),
        ("label,thing", ("0,cup", "1,plate"), "numbers as 'label', and text in the column 'thing'"),
    ],
)
def test_text_that_may_be_the_classes_is_not_passed_over(
    more: str, ends: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    named, told = checked(tmp_path, table(f"{CORNERS},{more}", *(f"10,12,60,40,{end}" for end in ends)))
    assert not named and set(told) == {"unread_labels", "unlabeled_image"}
    assert says in told["unread_labels"] and "call the column of the classes class" in told["unread_labels"]


@pytest.mark.parametrize("more", ["", ",source", ",camera"])
def test_boxes_without_classes_are_told_as_that(more: str, tmp_path: Path) -> None:
    named, told = checked(tmp_path, table(f"{CORNERS}{more}", "10,12,60,40" + ",usask" * bool(more)))
    assert named == {"0": 5} and set(told) == {"no_label_map"}
    assert "has no column of classes" in told["no_label_map"] and "numbers for its classes" not in told["no_label_map"]


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("cx,cy,width,height", (35, 26)), ("xc,yc,w,h", (35, 26)), ("x_center,y_center,bw,bh", (35, 26)),
        ("bbox_cx,bbox_cy,bbox_w,bbox_h", (35, 26)), ("x_min,y_min,box_w,box_h", (10, 12)),
        ("min x,min y,width,height", (10, 12)), ("box_xmin,box_ymin,box_w,box_h", (10, 12)),
    ],
)  # fmt: skip
def test_the_columns_of_a_box_by_their_names(header: str, first: tuple[int, int], tmp_path: Path) -> None:
    place = write(tmp_path, table(f"filename,{header},class", f"{first[0]},{first[1]},50,28,cup"))
    boxes = [thing.box_px for sample in formats.read(place) for thing in sample.objects or ()]
    assert boxes == [(10, 12, 60, 40)] * 5


@pytest.mark.parametrize(
    ("header", "end"),
    [("bx,by,bw,bh", "10,12,60,40"), ("x,y", "40,12"), ("x1,y1,x2,y2,x3,y3,x4,y4", "1,1,9,1,9,9,1,9")],
)
def test_numbers_that_may_be_places_are_not_passed_over(header: str, end: str, tmp_path: Path) -> None:
    _, told = checked(tmp_path, table(f"filename,{header},class", f"{end},cup", f"{end},plate"))
    assert set(told) == {"unread_labels"} and header.replace(",", ", ") in told["unread_labels"]
    assert "xmin, ymin, xmax, ymax" in told["unread_labels"]


def test_other_numbers_beside_classes_are_none_of_our_business(tmp_path: Path) -> None:
    named, told = checked(tmp_path, table("filename,age,weight,class", "40,12,cup", "41,12,plate"))
    assert (named, told) == ({"cup": 3, "plate": 2}, {})


@pytest.mark.parametrize("order", ["le", "be"])
def test_a_table_in_the_encoding_of_windows(order: str, tmp_path: Path) -> None:
    """UTF-16 that says so in its first bytes; it was refused, with a repair that was refused too."""
    files = table("filename,class", "cup", "plate")
    (name,) = (name for name in files if name.endswith(".csv"))
    mark = {"le": b"\xff\xfe", "be": b"\xfe\xff"}[order]
    named, told = checked(tmp_path, {**files, name: mark + files[name].encode(f"utf-16-{order}")})
    assert (named, told) == ({"cup": 3, "plate": 2}, {})


NUMBERED = photos("0/a.jpg", "1/b.jpg", "1/c.jpg", "10/d.jpg")
NAMES = {"0": "cup", "1": "plate", "10": "mug", "7": "more than there are"}


@pytest.mark.parametrize(
    "held",
    [NAMES, {name: int(number) for number, name in NAMES.items()}, {n: [f"n{n}", name] for n, name in NAMES.items()}],
)
def test_a_file_names_class_folders_that_are_numbers(held: dict[str, Any], tmp_path: Path) -> None:
    named, told = checked(tmp_path, {**NUMBERED, "cat_to_name.json": held})
    assert (named, told) == ({"cup": 1, "plate": 2, "mug": 1}, {})
    assert check(tmp_path, near=False)["account"]["counts"] == {"image": 4, "classes": 1}
    assert {s.label for s in format_folder.read(tmp_path)} == {"cup", "plate", "mug"}  # as teach reads it


def test_a_file_names_the_numbers_of_tables_and_masks(tmp_path: Path) -> None:
    rows = "image_id,target\n" + "".join(f"p{i},{i % 2}\n" for i in range(5))
    kaggle = {**FIVE, "train.csv": rows, "label_num_to_disease_map.json": {"0": "cup", "1": "plate"}}
    assert checked(tmp_path / "csv", kaggle) == ({"cup": 3, "plate": 2}, {})
    m = Maker(3, tmp_path / "masks")
    for i in range(3):
        m.photo(f"x/{i}.jpg")
        m.save(PIL_Image.fromarray((np.indices(SIZE[::-1])[0] // 24).astype(np.uint8)), f"y/{i}.png")
    assert checked(tmp_path / "masks", {"classes.json": ["bg", "cup", "plate"]}) == (
        {"bg": 3, "cup": 3, "plate": 3}, {})  # fmt: skip


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"names.json": {"0": "cup", "1": "plate"}}, "has no name for 10"),
        ({"names.json": {"0": "cup", "1": "cup", "10": "mug"}}, "names two of them alike"),
        ({"classes.json": ["cup", "plate"]}, "has no name for 10"),
        ({"a.json": NAMES, "b.json": {**NAMES, "0": "plate"}}, "otherwise than a.json"),
    ],
)
def test_a_file_that_does_not_name_all_is_told(files: dict[str, Any], says: str, tmp_path: Path) -> None:
    named, told = checked(tmp_path, {**NUMBERED, **files})
    assert set(named) == {"0", "1", "10"}
    assert set(told) == {"unread_labels"} and says in told["unread_labels"]


def test_classes_with_names_need_no_such_file(tmp_path: Path) -> None:
    named, told = checked(tmp_path, {**photos("cup/a.jpg", "mug/b.jpg"), "cat_to_name.json": NAMES})
    assert set(named) == {"cup", "mug"} and set(told) == {"not_an_image"}


def coco(classes: list[str], said: dict[str, str]) -> dict[str, Any]:
    """A COCO file of the images by their file names, each with one box of a class."""
    images = [{"id": i, "file_name": name, "width": 96, "height": 72} for i, name in enumerate(said)]
    boxes = [{"id": i, "image_id": i, "category_id": classes.index(name), "bbox": [10, 10, 30, 30], "area": 900,
              "iscrowd": 0} for i, name in enumerate(said.values())]  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    return {"images": images, "annotations": boxes, "categories": categories}


TWO = photos("cup/a.jpg", "cup/b.jpg", "plate/c.jpg", "plate/d.jpg")


def test_labels_that_contradict_the_class_folders_are_told(tmp_path: Path) -> None:
    rows = "file,label\na.jpg,plate\nb.jpg,cup\nc.jpg,plate\nd.jpg,plate\n"
    named, told = checked(tmp_path / "csv", {**TWO, "labels.csv": rows})
    assert named == {"cup": 1, "plate": 3} and set(told) == {"folder_mismatch"}
    assert told["folder_mismatch"].startswith(
        "1 image lies in the folder of another class than the labels (csv_classes)"
    )
    assert checked(tmp_path / "csv", {}, format="csv_classes") == (named, {})
    boxes = coco(["cup"], dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "cup"))
    named, told = checked(tmp_path / "coco", {**TWO, "annotations.json": boxes})
    assert named == {"cup": 3} and {*told, "unlabeled_image"} == {"folder_mismatch", "unlabeled_image"}
    assert "plate/c.jpg is of cup" in told["folder_mismatch"]
    with pytest.raises(DataError, match="--format coco"):
        list(formats.read(tmp_path / "coco"))
    found = formats.with_boxes(tmp_path / "coco")  # as teach, train and evaluate give it, found out and not named
    with pytest.raises(DataError, match="folder_mismatch"):
        ensure(tmp_path / "coco", format=found, allow=["unlabeled_image"], cache=tmp_path / "cache")
    ensure(tmp_path / "coco", format="coco", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (TWO, {"cup/a.jpg": "cup", "cup/b.jpg": "cup", "plate/c.jpg": "plate", "plate/d.jpg": "plate"}),  # they agree
        (photos("cup/a.jpg", "cup/b.jpg"), {"cup/a.jpg": "plate", "cup/b.jpg": "cup"}),  # one folder is but a folder
        (photos("monday/a.jpg", "tuesday/b.jpg"), {"monday/a.jpg": "plate", "tuesday/b.jpg": "cup"}),
        (photos("train/a.jpg", "val/b.jpg"), {"train/a.jpg": "train", "val/b.jpg": "train"}),  # splits, and trains
    ],
)
def test_folders_that_contradict_nothing_are_not_told(
    files: dict[str, Any], said: dict[str, str], tmp_path: Path
) -> None:
    told = checked(tmp_path, {**files, "annotations.json": coco(sorted(set(said.values())), said)})[1]
    assert not told


@pytest.mark.parametrize(
    ("header", "row"),
    [("cx,cy,w,h,angle", "40,40,30,20,12.5"), ("x,y,width,height,Box_Rotation", "10,10,30,20,-90"),
     ("x,y,width,height,theta (rad)", "10,10,30,20,0.3")],
)  # fmt: skip
def test_a_column_that_turns_boxes_is_told(header: str, row: str, tmp_path: Path) -> None:
    files = {**photos("a.jpg", "b.jpg"), "boxes.csv": f"image,label,{header}\na.jpg,cup,{row}\nb.jpg,cup,{row}\n"}
    with pytest.raises(DataError, match=r"turns its boxes by the column.*take it away"):
        list(formats.read(write(tmp_path, files)))
    still = row.rpartition(",")[0] + ",0"
    assert checked(tmp_path, {"boxes.csv": f"image,label,{header}\na.jpg,cup,{still}\nb.jpg,cup,{still}\n"}) == (
        {"cup": 2},
        {},
    )


def test_an_angle_that_says_something_else_turns_no_box(tmp_path: Path) -> None:
    rows = "image,label,xmin,ymin,xmax,ymax,angle,camera_angle\na.jpg,cup,10,10,40,40,30,30\nb.jpg,cup,1,1,9,9,4,4\n"
    assert checked(tmp_path, {**photos("a.jpg", "b.jpg"), "boxes.csv": rows}) == ({"cup": 2}, {})


def test_an_angle_among_the_attributes_of_a_box_is_told(tmp_path: Path) -> None:
    held = coco(["cup"], dict.fromkeys(("a.jpg", "b.jpg"), "cup"))
    held["annotations"][0]["attributes"] = {"occluded": False, "rotation": 33.1}  # as CVAT's COCO has it
    named, told = checked(tmp_path, {**photos("a.jpg", "b.jpg"), "annotations.json": held})
    assert named == {"cup": 2} and "1 box has an angle" in told["unread_angle"] and "a.jpg" in told["unread_angle"]
    held["annotations"][0]["segmentation"] = [[12, 8, 40, 12, 38, 40, 8, 36]]
    assert checked(tmp_path, {"annotations.json": held}) == ({"cup": 2}, {})


VOC = (
    "<annotation><filename>{}</filename><size><width>96</width><height>72</height><depth>3</depth></size><object>"
    "<name>cup</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>"
)


def voc(*box: float, said: str = "{}.jpg") -> dict[str, Any]:
    xml = {f"Annotations/{i}.xml": VOC.format(said.format((i + 1) % 3), *box) for i in range(3)}
    return {**photos("JPEGImages/0.jpg", "JPEGImages/1.jpg", "JPEGImages/2.jpg"), **xml}


def test_boxes_in_fractions_where_pixels_are_wanted(tmp_path: Path) -> None:
    assert "are fractions, where voc has pixels" in checked(tmp_path, voc(0.2, 0.2, 0.5, 0.6))[1]["box_in_fractions"]
    held = coco(["cup"], dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "cup"))
    for row in held["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.5, 0.6]
    files = {**photos("a.jpg", "b.jpg", "c.jpg"), "annotations.json": held}
    with pytest.raises(DataError, match="multiply them"):
        list(formats.read(write(tmp_path / "coco", files)))
    held["annotations"][0]["bbox"] = [0.1, 0.2, 2.5, 0.6]  # one that is no fraction: they are small boxes
    assert "box_in_fractions" not in checked(tmp_path / "coco", {"annotations.json": held})[1]


def test_an_xml_file_that_names_another_image_that_is_there(tmp_path: Path) -> None:
    assert "whose labels they are read as: 3 times" in checked(tmp_path, voc(9, 9, 50, 60))[1]["other_filename"]
    assert not checked(tmp_path, voc(9, 9, 50, 60, said="C:/old/frame{}.png"))[1]  # a name of long ago


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (("Mass|Edema", "Mass", "No Finding"), {"Mass": 1, "No Finding": 1}),
        (("cup; plate", "cup", "plate"), {"cup": 1, "plate": 1}),
        (("scab rot", "scab", "rot", "rust", "scab rust"), {"rot": 1, "rust": 1, "scab": 1}),
        (("hot dog", "hot", "dog"), {"dog": 1, "hot": 1, "hot dog": 1}),  # one such name is a name
        (("Doe, Jane", "Roe, Ann"), {"Doe, Jane": 1, "Roe, Ann": 1}),
    ],
)
def test_cells_that_name_several_classes(labels: tuple[str, ...], named: dict[str, int], tmp_path: Path) -> None:
    rows = "".join(f'{i}.jpg,"{label}"\n' for i, label in enumerate(labels))
    files = {**photos(*(f"{i}.jpg" for i in range(len(labels)))), "labels.csv": f"image,labels\n{rows}"}
    found, told = checked(tmp_path, files)
    assert found == named and ("several_classes" in told) == (sum(named.values()) < len(labels))


def test_masks_saved_as_jpeg_have_no_numbers_left(tmp_path: Path) -> None:
    m = Maker(4, tmp_path)
    for i in range(3):
        m.photo(f"images/{i}.jpg")
        m.save(STORED["ids"][0](m.areas()), f"masks/{i}.jpg", quality=75)
    assert checked(tmp_path, {})[1]["soft_mask"].startswith("masks saved as JPEG, which changes their numbers")
    assert "soft_mask" in checked(tmp_path, {"classes.txt": "none\ncup\nplate\nspoon\nmug\nfork\n"})[1]


def test_numbers_of_boxes_in_one_column_are_not_passed_over(tmp_path: Path) -> None:
    rows = "".join(f'{i}.jpg,"{i} 12 60 40",cup,2021-03-04 10:11:12\n' for i in range(3))
    files = {**photos("0.jpg", "1.jpg", "2.jpg"), "labels.csv": f'image,"bbox(xyxy)",label,taken\n{rows}'}
    assert "has numbers as bbox(xyxy) that may be boxes" in checked(tmp_path, files)[1]["unread_labels"]


def test_cells_that_say_nothing_are_no_class(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(("cup", "?", "plate", "NaN", "-")))
    named, told = checked(tmp_path, {**photos(*(f"{i}.jpg" for i in range(5))), "labels.csv": f"image,label\n{rows}"})
    assert named == {"cup": 1, "plate": 1} and "3 times" in told["unlabeled_image"]


def test_labels_in_utf_16_that_are_not_read_are_told(tmp_path: Path) -> None:
    held = json.dumps(coco(["cup"], {"a.jpg": "cup"}))
    files = {**photos("cup/a.jpg", "plate/b.jpg"), "annotations.json": held.encode("utf-16")}
    assert "annotations.json" in str(check(write(tmp_path, files), near=False, format="folder")["findings"])


def test_boxes_whose_areas_say_that_their_numbers_are_corners(tmp_path: Path) -> None:
    held = coco(["cup"], dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "cup"))
    for i, row in enumerate(held["annotations"]):
        row |= {"bbox": [10, 10 + i, 30, 40], "area": 20 * (30 - i)}
    files = {**photos("a.jpg", "b.jpg", "c.jpg"), "annotations.json": held}
    assert "left, top, right, bottom" in checked(tmp_path, files)[1]["box_in_corners"]
    held["annotations"][1]["area"] = 1200
    assert "box_in_corners" not in checked(tmp_path, {"annotations.json": held})[1]


def test_a_labelme_file_that_names_another_image_that_is_there(tmp_path: Path) -> None:
    shape = {"label": "cup", "shape_type": "rectangle", "points": [[10, 10], [50, 60]]}
    top = {"version": "5", "shapes": [shape], "imageHeight": 72, "imageWidth": 96}
    files = {f"{i}.json": {**top, "imagePath": f"{(i + 1) % 3}.jpg"} for i in range(3)}
    assert "other_filename" in checked(tmp_path, {**photos("0.jpg", "1.jpg", "2.jpg"), **files})[1]
    files = {f"{i}.json": {**top, "imagePath": f"..\\\\img\\\\{i}.jpg"} for i in range(3)}
    assert "other_filename" not in checked(tmp_path, files)[1]


def test_outlines_that_are_a_box_and_keypoints(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    names = [f"images/{i}.jpg" for i in range(4)]
    config = {"data.yaml": "train: images\nval: images\nnames: [cup]\n"}

    def lines(points: list[np.ndarray]) -> dict[str, str]:
        return {f"labels/{i}.txt": f"0 {' '.join(f'{v:.4f}' for v in p.ravel())}\n" for i, p in enumerate(points)}

    pose = [np.vstack([[(0.5, 0.5), (0.4, 0.4)], rng.uniform(0.31, 0.69, (17, 2))]) for _ in names]
    told = checked(tmp_path / "pose", {**photos(*names), **config, **lines(pose)})[1]
    assert "kpt_shape: [17, 2]" in told["unsaid_keypoints"]
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    ring = [0.5 + np.stack([np.cos(turn), np.sin(turn)], 1) * r for r in (0.1, 0.2, 0.3, 0.4)]  # outlines of eight
    assert not checked(tmp_path / "outlines", {**photos(*names), **config, **lines(ring)})[1]
    quads = [np.array([[0.2, 0.2], [0.4, 0.3], [0.35, 0.5], [0.15, 0.4]])] * 4
    assert not checked(tmp_path / "turned", {**photos(*names), **config, **lines(quads)})[1]
