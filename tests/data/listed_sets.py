"""Small data sets as common tools export them, each with what must be read of it; made for the tests and the fuzz.

Everything is laid out by hand after the tools' own exports, so that a reader is never tested against its own writer.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo

SIZE = 40, 30
Box = tuple[float, float, float, float]
Thing = tuple[str, Box]


@dataclass(frozen=True)
class Made:
    """files: relative name -> text, bytes, or what becomes JSON; None is a photo of SIZE.

    wanted: (split, name) -> boxes by class, in order; None for an image nobody labeled; a text is the image's class.
    more: findings beside unlabeled_image and turned_box that are right to be told.
    """

    format: str
    files: Mapping[str, Any]
    wanted: Mapping[tuple[str | None, str], list[Thing] | str | None]
    more: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Put the set into a folder."""
        for number, (name, held) in enumerate(self.files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_bytes(held, name, number))
        return folder


def as_bytes(held: Any, name: str = "a.jpg", number: int = 0) -> bytes:
    """What stands for a file in Made, as bytes."""
    if held is None:
        return photo(Path(name).suffix, number)
    if isinstance(held, bytes):
        return held
    return (held if isinstance(held, str) else json.dumps(held)).encode()


def photo(suffix: str = ".jpg", number: int = 0) -> bytes:
    """A piece of a real photograph, another one for each number."""
    out = io.BytesIO()
    left = 20 + 7 * (number % 30)
    piece = PIL_Image.fromarray(sample_photo("cat").rgb_u8).crop((left, 40, left + 80, 100)).resize(SIZE)
    piece.save(out, format="PNG" if suffix.lower() == ".png" else "JPEG")
    return out.getvalue()


MUG, CUP = ("mug", (4.0, 3.0, 30.0, 20.0)), ("cup", (1.0, 2.0, 11.0, 12.0))


def png_text(height: int, width: int, *, compressed: bool = False) -> str:
    """A mask that is all set, in base64."""
    out = io.BytesIO()
    PIL_Image.fromarray(np.full((height, width), 255, np.uint8)).save(out, format="PNG")
    data = out.getvalue()
    return base64.b64encode(zlib.compress(data) if compressed else data).decode()


def labelme(path: str, shapes: list[Any], **more: Any) -> dict[str, Any]:
    """A file of LabelMe's."""
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path, "imageData": None,
            "imageHeight": SIZE[1], "imageWidth": SIZE[0], **more}  # fmt: skip


def shape(label: str, points: list[Any], kind: str, **more: Any) -> dict[str, Any]:
    """A shape of LabelMe's."""
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def percent(left: float, top: float, right: float, bottom: float) -> dict[str, float]:
    """A box as Label Studio has it."""
    w, h = SIZE
    return {"x": left / w * 100, "y": top / h * 100, "width": (right - left) / w * 100,
            "height": (bottom - top) / h * 100, "rotation": 0}  # fmt: skip


def task(key: int, image: str, result: list[Any] | None, **more: Any) -> dict[str, Any]:
    """A task of Label Studio's; None: nobody answered."""
    answers = [] if result is None else [{"id": key, "result": result, "was_cancelled": False, "completed_by": 1}]
    return {"id": key, "data": {"image": image}, "annotations": answers, "predictions": [], "drafts": [], **more}


def region(kind: str, value: dict[str, Any], labels: list[str], **more: Any) -> dict[str, Any]:
    """A region of Label Studio's."""
    return {"id": f"r{kind}{labels}", "type": kind, "from_name": "label", "to_name": "image", "original_width": SIZE[0],
            "original_height": SIZE[1], "image_rotation": 0, "value": {**value, kind: labels}, **more}  # fmt: skip


def via(name: str, regions: Any) -> dict[str, Any]:
    """An image of VIA's version 1 or 2."""
    return {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}


def rect(label: Any, left: int, top: int, right: int, bottom: int, key: str = "class") -> dict[str, Any]:
    """A region of VIA's."""
    at = {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top}
    return {"shape_attributes": at, "region_attributes": {key: label} if key else {}}


VIA_3 = {
    "project": {"pid": "__VIA_PROJECT_ID__", "rev": "1", "pname": "x"},
    "config": {}, "attribute": {"1": {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options":
                                      {"0": "mug", "1": "cup"}, "default_option_id": ""}},
    "file": {"1": {"fid": "1", "fname": "a.jpg", "type": 2, "loc": 1, "src": "a.jpg"},
             "2": {"fid": "2", "fname": "b.jpg", "type": 2, "loc": 1, "src": "b.jpg"}},
    "metadata": {"1_x": {"vid": "1", "flg": 0, "z": [], "xy": [2, 4, 3, 26, 17], "av": {"1": "0"}},
                 "2_y": {"vid": "2", "flg": 0, "z": [], "xy": [7, 1, 2, 11, 2, 11, 12, 1, 12], "av": {"1": "1"}}},
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
}  # fmt: skip

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>mug</name><color>#ff0000</color><attributes></attributes></label>
    <label><name>cup</name><attributes></attributes></label></labels></task></meta>
  <image id="0" name="a.jpg" width="40" height="30">
    <box label="mug" source="manual" occluded="1" xtl="4.00" ytl="3.00" xbr="30.00" ybr="20.00" z_order="0">
      <attribute name="color">red</attribute></box>
    <polygon label="cup" source="manual" occluded="0" points="1.0,2.0;11.0,2.0;11.0,12.0;1.0,12.0" z_order="0"/>
  </image>
  <image id="1" name="b.jpg" width="40" height="30">
    <mask label="cup" source="manual" rle="0, 100" left="1" top="2" width="10" height="10" z_order="0"/>
    <ellipse label="mug" cx="17" cy="11.5" rx="13" ry="8.5"/>
    <box label="mug" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90"/>
  </image>
  <image id="2" name="c.jpg" width="40" height="30"></image>
</annotations>
"""
CVAT_VIDEO = """<annotations><version>1.1</version>
<meta><task><size>4</size><start_frame>0</start_frame><stop_frame>3</stop_frame>
<labels><label><name>mug</name></label></labels>
<original_size><width>40</width><height>30</height></original_size></task></meta>
<track id="7" label="mug" source="manual">
  <box frame="0" outside="0" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="10" ybr="10" z_order="0"/>
  <box frame="2" outside="0" occluded="0" keyframe="1" xtl="4" ytl="6" xbr="14" ybr="16" z_order="0"/>
  <box frame="3" outside="1" occluded="0" keyframe="1" xtl="4" ytl="6" xbr="14" ybr="16" z_order="0"/>
</track></annotations>
"""
FIFTYONE_SAMPLES = {"samples": [
    {"_id": {"$oid": "1"}, "filepath": "data/a.jpg", "tags": ["train"], "metadata": {"_cls": "ImageMetadata",
     "width": 40, "height": 30}, "ground_truth": {"_cls": "Detections", "detections": [
         {"_id": {"$oid": "2"}, "_cls": "Detection", "attributes": {}, "tags": [], "label": "mug",
          "bounding_box": [0.1, 0.1, 0.65, 17 / 30], "confidence": None}]},
     "predictions": {"_cls": "Detections", "detections": []}},
    {"_id": {"$oid": "3"}, "filepath": "data/b.jpg", "tags": [], "metadata": None, "ground_truth": None}]}  # fmt: skip
SUPERVISELY_META = {"classes": [{"title": "mug", "shape": "rectangle", "color": "#FF0000"},
                                {"title": "cup", "shape": "any", "color": "#00FF00"}], "tags": []}  # fmt: skip


def supervisely(*objects: dict[str, Any], tags: list[Any] | None = None) -> dict[str, Any]:
    """An annotation of Supervisely's."""
    return {"description": "", "tags": tags or [], "size": {"height": 30, "width": 40}, "objects": list(objects)}


def figure(label: str, kind: str, outer: list[Any], inner: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """An object of Supervisely's."""
    return {"id": 1, "classTitle": label, "geometryType": kind, "tags": [],
            "points": {"exterior": outer, "interior": inner or []}, **more}  # fmt: skip


def tar(members: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file as Python's own module writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as held:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            held.addfile(about, io.BytesIO(data))
    return out.getvalue()


ROBOFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
SETS: dict[str, Made] = {
    "labelme": Made("labelme", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None, "d.jpg": None,
        "a.json": labelme("a.jpg", [shape("mug", [[30, 20], [4, 3]], "rectangle"), shape(
            "cup", [[1, 2], [11, 2], [11, 12]], "polygon", group_id=3), shape(
            "cup", [[1, 2], [11, 12], [1, 12]], "polygon", group_id=3)]),
        "b.json": labelme("..\\old\\b.jpg", [shape("mug", [[4, 3], [29, 19]], "mask", mask=png_text(17, 26)), shape(
            "cup", [[6, 7], [6, 12]], "circle")]),
        "c.json": labelme("c.jpg", []),
    }, {(None, "a.jpg"): [MUG, CUP], (None, "b.jpg"): [MUG, CUP], (None, "c.jpg"): [], (None, "d.jpg"): None}),
    "labelme flags": Made("labelme", {
        "train/a.jpg": None, "val/b.jpg": None,
        "train/a.json": labelme("a.jpg", [], flags={"mug": True, "cup": False}),
        "val/b.json": labelme("b.jpg", [], flags={"mug": False, "cup": True}),
    }, {("train", "a.jpg"): "mug", ("val", "b.jpg"): "cup"}),
    "labelme apart": Made("labelme", {
        "images/a.jpg": None, "images/b.jpg": None,
        "labels/a.json": labelme("/home/me/pics/a.jpg", [shape("mug", [[4, 3], [30, 3], [30, 20], [4, 20]],
                                                               "rotation", score=0.9)]),
        "labels/b.json": {"shapes": [{"label": "cup", "points": [[1, 2], [11, 2], [11, 12], [1, 12]]}],
                          "imagePath": "renamed.jpg", "lineColor": [0, 255, 0, 128], "imageData": "x" * 400},
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP]}),
    "via 2": Made("via", {
        "a.jpg": None, "b.jpg": None, "c.jpg": None,
        "via_region_data.json": {"a.jpg123": via("a.jpg", [rect("mug", 4, 3, 30, 20)]),
                                 "b.jpg123": via("b.jpg", [{"shape_attributes": {
                                     "name": "polygon", "all_points_x": [1, 11, 11, 1], "all_points_y": [2, 2, 12, 12]},
                                     "region_attributes": {"class": {"cup": True, "mug": False}}}]),
                                 "c.jpg123": via("c.jpg", [])},
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP], (None, "c.jpg"): None}),
    "via 1": Made("via", {
        "images/a.jpg": None, "images/b.jpg": None,
        "annotations/via.json": {
            "a.jpg123": {**via("a.jpg", {"0": rect("mug", 4, 3, 30, 20, "name")}), "fileref": ""},
            "b.jpg123": via("b.jpg", {"0": {"shape_attributes": {"name": "ellipse", "cx": 6, "cy": 7, "rx": 5, "ry": 5},
                                            "region_attributes": {"name": "cup"}}})},
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP]}),
    "via project": Made("via", {
        "a.jpg": None, "p.json": {"_via_settings": {"ui": {}}, "_via_img_metadata": {
            "a.jpg1": via("a.jpg", [rect("", 4, 3, 30, 20, "")])}, "_via_attributes": {"region": {}, "file": {}}},
    }, {(None, "a.jpg"): [("0", MUG[1])]}, frozenset(("no_label_map",))),
    "via 3": Made("via", {"a.jpg": None, "b.jpg": None, "p.json": VIA_3},
                  {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP]}),
    "via csv": Made("via", {
        "train/a.jpg": None, "train/b.jpg": None,
        "train/via_export_csv.csv": "#filename,file_size,file_attributes,region_count,region_id,"
        'region_shape_attributes,region_attributes\na.jpg,1,"{}",2,0,"{""name"":""rect"",""x"":4,""y"":3,""width"":26,""height"":17}",'
        '"{""type"":""mug""}"\na.jpg,1,"{}",2,1,"{""name"":""circle"",""cx"":6,""cy"":7,""r"":5}",'
        '"{""type"":""cup""}"\nb.jpg,1,"{}",0,0,"{}","{}"\n',
    }, {("train", "a.jpg"): [MUG, CUP], ("train", "b.jpg"): None}),
    "label studio": Made("label_studio", {
        "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None, "images/d e.jpg": None,
        "project-1.json": [
            task(1, "/data/upload/4/0a1b2c3d-a.jpg", [region("rectanglelabels", percent(*MUG[1]), ["mug"])],
                 file_upload="0a1b2c3d-a.jpg"),
            task(2, "http://127.0.0.1:8080/data/local-files/?d=pics%5Cb.jpg", [region("polygonlabels", {"points": [
                [2.5, 20 / 3], [27.5, 20 / 3], [27.5, 40], [2.5, 40]], "closed": True}, ["cup"])]),
            task(3, "s3://bucket/x/c.jpg", []), task(4, "/data/upload/4/d%20e.jpg", None)],
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP], (None, "c.jpg"): [], (None, "d e.jpg"): None}),
    "label studio min": Made("label_studio", {
        "images/a.jpg": None, "images/b.jpg": None,
        "min.json": [{"image": "/data/upload/1/aabbccdd-a.jpg", "id": 1, "label": [
            {**percent(*MUG[1]), "rectanglelabels": ["mug"], "original_width": 40, "original_height": 30}],
            "annotator": 1, "annotation_id": 1, "created_at": "x", "lead_time": 3.2},
            {"image": "/data/upload/1/aabbccdd-b.jpg", "id": 2, "label": [
                {"x": 15, "y": 70 / 3, "radiusX": 12.5, "radiusY": 50 / 3, "rotation": 0, "ellipselabels": ["cup"],
                 "original_width": 40, "original_height": 30}], "annotator": 1, "annotation_id": 2, "lead_time": 1}],
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): [CUP]}),
    "label studio choices": Made("label_studio", {
        "a.jpg": None, "b.jpg": None,
        "p.json": [task(1, "a.jpg", [region("choices", {}, ["mug"])]),
                   task(2, "b.jpg", [region("choices", {}, ["cup"])])],
    }, {(None, "a.jpg"): "mug", (None, "b.jpg"): "cup"}),
    "cvat": Made("cvat", {"annotations.xml": CVAT, "images/a.jpg": None, "images/b.jpg": None, "images/c.jpg": None},
                 {(None, "a.jpg"): [MUG, CUP], (None, "b.jpg"): [CUP, MUG, ("mug", (13.0, 7.0, 17.0, 17.0))],
                  (None, "c.jpg"): []}),
    "cvat subsets": Made("cvat", {
        "images/train/a.jpg": None, "images/mine/b.jpg": None, "annotations.xml":
        '<annotations><version>1.1</version><image id="0" subset="train" name="a.jpg" width="40" height="30">'
        '<tag label="mug"/></image><image id="1" subset="mine" name="b.jpg" width="40" height="30">'
        '<tag label="cup"/></image></annotations>',
    }, {("train", "a.jpg"): "mug", ("mine", "b.jpg"): "cup"}),
    "cvat video": Made("cvat", {"annotations.xml": CVAT_VIDEO, **{f"images/frame_{i:06d}.PNG": None for i in range(4)}},
                       {(None, "frame_000000.PNG"): [("mug", (0.0, 0.0, 10.0, 10.0))],
                        (None, "frame_000001.PNG"): [("mug", (2.0, 3.0, 12.0, 13.0))],
                        (None, "frame_000002.PNG"): [("mug", (4.0, 6.0, 14.0, 16.0))], (None, "frame_000003.PNG"): []}),
    "csv boxes": Made("csv_boxes", {
        "train/a.jpg": None, "train/b.jpg": None, "valid/a.jpg": None,
        "train/_annotations.csv": ROBOFLOW + "a.jpg,40,30,mug,4,3,30,20\na.jpg,40,30,cup,1,2,11,12\n",
        "valid/_annotations.csv": ROBOFLOW + "a.jpg,40,30,cup,1,2,11,12\n",
    }, {("train", "a.jpg"): [MUG, CUP], ("train", "b.jpg"): None, ("valid", "a.jpg"): [CUP]}),
    "csv retinanet": Made("csv_boxes", {
        "imgs/a.jpg": None, "imgs/b.jpg": None, "train.csv": "/data/imgs/a.jpg,4,3,30,20,mug\n/data/imgs/b.jpg,,,,,\n",
    }, {("train", "a.jpg"): [MUG], ("train", "b.jpg"): []}),
    "csv open images": Made("csv_boxes", {
        "train/a.jpg": None, "validation/a.jpg": None, "class-descriptions-boxable.csv": "/m/1,mug\n/m/2,cup\n",
        "train-annotations-bbox.csv": f"{OPEN_IMAGES}a,xclick,/m/1,1,0.1,0.75,0.1,0.6666666667,1,0,0,0,0\n",
        "validation-annotations-bbox.csv": f"{OPEN_IMAGES}a,x,/m/2,1,0.025,0.275,0.0666666667,0.4,0,0,1,0,0\n",
    }, {("train", "a.jpg"): [MUG], ("validation", "a.jpg"): [CUP]}),
    "csv xywh": Made("csv_boxes", {
        "images/a.png": None, "images/b.png": None,
        "labels.csv": "image_name;label;x;y;w;h\na.png;mug;4;3;26;17\nimages\\b.png;cup;1;2;10;10\n",
    }, {(None, "a.png"): [MUG], (None, "b.png"): [CUP]}),
    "csv one column": Made("csv_boxes", {
        "train/a.jpg": None, "train.csv": 'image_id,width,height,bbox,source\na,40,30,"[4.0, 3.0, 26.0, 17.0]",u\n',
    }, {("train", "a.jpg"): [("0", MUG[1])]}, frozenset(("no_label_map",))),
    "csv classes": Made("csv_classes", {
        "train/a.jpg": None, "train/b.jpg": None, "train/c.jpg": None, "test/d.jpg": None,
        "train.csv": "id,label\na,mug\nb,cup\n", "sample_submission.csv": "id,label\nd,mug\n",
    }, {("train", "a.jpg"): "mug", ("train", "b.jpg"): "cup", ("train", "c.jpg"): None, ("test", "d.jpg"): None}),
    "csv ones": Made("csv_classes", {
        "train/a.jpg": None, "train/b.jpg": None, "valid/c.jpg": None,
        "train/_classes.csv": "filename, mug, cup\na.jpg, 1, 0\nb.jpg, 0, 1\n",
        "valid/_classes.csv": "filename, mug, cup\nc.jpg, 1, 0\n",
    }, {("train", "a.jpg"): "mug", ("train", "b.jpg"): "cup", ("valid", "c.jpg"): "mug"}),
    "csv splits": Made("csv_classes", {
        "x/mug/a.jpg": None, "x/cup/b.jpg": None,
        "all.csv": "class id,filepaths,labels,data set\n0,x/mug/a.jpg,mug,train\n1,x/cup/b.jpg,cup,valid\n",
    }, {("train", "x/mug/a.jpg"): "mug", ("valid", "x/cup/b.jpg"): "cup"}),
    "csv numbers": Made("csv_classes", {"images/a.jpg": None, "images/b.jpg": None,
                                        "train.csv": "image_id,label\na.jpg,0\nb.jpg,10\n"},
                        {("train", "a.jpg"): "0", ("train", "b.jpg"): "10"}, frozenset(("no_label_map",))),
    "createml": Made("createml", {
        "train/a.jpg": None, "train/b.jpg": None,
        "train/_annotations.createml.json": [{"image": "a.jpg", "annotations": [
            {"label": "mug", "coordinates": {"x": 17, "y": 11.5, "width": 26, "height": 17}}]},
            {"image": "b.jpg", "annotations": []}],
    }, {("train", "a.jpg"): [MUG], ("train", "b.jpg"): []}),
    "supervisely": Made("supervisely", {
        "meta.json": SUPERVISELY_META, "train/img/a.jpg": None, "train/img/b.jpg": None, "ds1/img/a.jpg": None,
        "train/ann/a.jpg.json": supervisely(figure("mug", "rectangle", [[4, 3], [29, 19]]), figure(
            "cup", "polygon", [[1, 2], [11, 2], [11, 12], [1, 12]], [[[3, 4], [6, 4], [6, 6], [3, 6]]])),
        "train/ann/b.jpg.json": supervisely(figure("cup", "bitmap", [], bitmap={
            "origin": [1, 2], "data": png_text(10, 10, compressed=True)})),
        "ds1/ann/a.jpg.json": supervisely(), "train/masks_machine/a.png": None,
    }, {("train", "a.jpg"): [MUG, CUP], ("train", "b.jpg"): [CUP], (None, "ds1/img/a.jpg"): []}),
    "dota": Made("dota", {
        "train/images/P1.png": None, "train/images/P2.png": None,
        "train/labelTxt/P1.txt": "imagesource:GoogleEarth\ngsd:0.146\n"
        "4 3 30 3 30 20 4 20 mug 0\n1 7 6 2 11 7 6 12 cup 1\n",
        "train/labelTxt/P2.txt": "imagesource:x\ngsd:null\n",
    }, {("train", "P1.png"): [MUG, CUP], ("train", "P2.png"): []}),
    "visdrone": Made("visdrone", {
        "VisDrone2019-DET-train/images/0000002_00005_d_0000014.jpg": None,
        "VisDrone2019-DET-train/annotations/0000002_00005_d_0000014.txt": "4,3,26,17,1,4,0,1\n1,2,10,10,0,0,0,0\n",
    }, {("train", "0000002_00005_d_0000014.jpg"): [
        ("car", MUG[1]), ("ignored regions", CUP[1])]}),
    "visdrone own": Made("visdrone", {
        "images/a.jpg": None, "annotations/a.txt": "4,3,26,17,1,1,0,1\n", "images/b.jpg": None, "annotations/b.txt": "",
    }, {(None, "a.jpg"): [("1", MUG[1])], (None, "b.jpg"): []}, frozenset(("no_label_map",))),
    "fiftyone": Made("fiftyone", {
        "data/a.jpg": None, "data/b.jpg": None, "labels.json": {"classes": ["cup", "mug"], "labels": {
            "a": [{"label": 1, "bounding_box": [0.1, 0.1, 0.65, 17 / 30], "supercategory": "x"}], "b": []}},
    }, {(None, "a.jpg"): [MUG], (None, "b.jpg"): []}),
    "fiftyone classes": Made("fiftyone", {
        "data/a.jpg": None, "data/b.jpg": None,
        "labels.json": {"classes": ["cup", "mug"], "labels": {"a": 1, "b": None}},
    }, {(None, "a.jpg"): "mug", (None, "b.jpg"): None}),
    "fiftyone samples": Made("fiftyone", {
        "data/a.jpg": None, "data/b.jpg": None, "samples.json": FIFTYONE_SAMPLES, "metadata.json": {"name": "x"},
    }, {("train", "a.jpg"): [MUG], (None, "b.jpg"): None}),
    "bdd100k": Made("bdd100k", {
        "images/100k/train/a.jpg": None, "images/100k/val/b.jpg": None,
        "labels/det_20/det_train.json": [{"name": "a.jpg", "attributes": {"weather": "clear"}, "labels": [
            {"id": "1", "category": "mug", "attributes": {"occluded": False}, "box2d":
             {"x1": 4, "y1": 3, "x2": 30, "y2": 20}}]}],
        "labels/det_20/det_val.json": [{"name": "b.jpg", "timestamp": 1, "labels": [
            {"id": "2", "category": "cup", "poly2d": [
                {"vertices": [[1, 2], [11, 2], [11, 12], [1, 12]], "types": "LLLL", "closed": True}]}]}],
    }, {("train", "100k/train/a.jpg"): [MUG], ("val", "100k/val/b.jpg"): [CUP]}),
    "bdd100k each": Made("bdd100k", {
        "train/a.jpg": None, "train/a.json": {"name": "a", "frames": [{"timestamp": 10000, "objects": [
            {"category": "mug", "id": 0, "attributes": {}, "box2d": {"x1": 4, "y1": 3, "x2": 30, "y2": 20}},
            {"category": "cup", "id": 1, "attributes": {}, "poly2d": [[1, 2, "L"], [11, 2, "L"], [11, 12, "L"],
                                                                      [1, 12, "L"]]}]}], "attributes": {"scene": "x"}},
    }, {("train", "a.jpg"): [MUG, CUP]}),
    "webdataset": Made("webdataset", {
        "classes.txt": "cup\nmug\n",
        "train-0000.tar": tar({"00.jpg": photo(), "00.cls": b"1", "01.jpg": photo(number=1), "01.cls": b"0\n"}),
        "val-0000.tar": tar({"00.png": photo(".png", 2), "00.cls": b"1"}, tarfile.USTAR_FORMAT),
    }, {("train", "00.jpg"): "mug", ("train", "01.jpg"): "cup", ("val", "00.png"): "mug"}),
    "webdataset json": Made("webdataset", {
        "s-0.tar": tar({"x/0.jpg": photo(), "x/0.json": b'{"label": "mug", "id": 4}', "x/1.jpg": photo(number=1),
                        "x/1.json": b'{"label": null}'}),
    }, {(None, "x/0.jpg"): "mug", (None, "x/1.jpg"): None}),
    "yolo flat": Made("yolo", {"a.jpg": None, "b.jpg": None, "a.txt": "0 0.425 0.3833333333 0.65 0.5666666667\n",
                               "b.txt": ""}, {(None, "a.jpg"): [("0", MUG[1])], (None, "b.jpg"): []},
                      frozenset(("no_label_map",))),
    "yolo darknet": Made("yolo", {
        "train/a.jpg": None, "train/a.txt": "1 0.425 0.3833333333 0.65 0.5666666667\n",
        "valid/b.jpg": None, "valid/b.txt": "0 0.15 0.2333333333 0.25 0.3333333333\n",
        "train/_darknet.labels": "cup\nmug\n", "valid/_darknet.labels": "cup\nmug\n",
    }, {("train", "a.jpg"): [MUG], ("valid", "b.jpg"): [CUP]}),
}  # fmt: skip
