"""Sets that are not read as they are: exported, converted, named or mended as the message says, they are."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.curate import split as splitting
from handful.data import formats, labelmaps, paths
from handful.data.masks import LFS
from handful.types import Category, Dataset, Mask
from tests.curate import test_repair as sets
from tests.cures.desk import Desk, cures
from tests.cures.test_writing import made
from tests.data.listed_sets import SETS, photo
from tests.data.reports import XML, coco, photos, voc, write
from tests.training.made import small

CLIP = "1,0,24,18,48,36,1,4,0,0\n2,0,30,20,48,36,1,4,0,0\n"  # frame, track, box, score, class, cut, covered


@cures("data.format_ade20k:read take", "data.format_visdrone:read convert", "data.format_voc:read name")
def test_sets_of_which_another_form_is_read(desk: Desk) -> None:
    whole = "images/ADE/training/urban/street/ADE_train_00016869"
    held = {f"{whole}.jpg": photo(), f"{whole}_seg.png": photo(".png"), f"{whole}.json": {"annotation": {}}}
    assert "ADEChallengeData2016" in desk.no("data", "check", write(desk.at("whole"), held))
    scenes = made(desk.at("photos"), "a.jpg", mask=True, split="train", label="street")
    formats.write(scenes, desk.at("ADEChallengeData2016"), "ade20k")
    assert "ade20k" in desk.yes("data", "check", desk.at("ADEChallengeData2016"))

    frames = {f"sequences/uav/{i:07d}.jpg": data for i, data in enumerate(photos("1.jpg", "2.jpg").values(), 1)}
    root = write(desk.at("clips"), {**frames, "annotations/uav.txt": CLIP})
    assert "an entry for each frame" in desk.no("data", "check", root, "--format", "visdrone")
    rows = [list(map(int, line.split(","))) for line in CLIP.split()]
    images = [{"id": row[0], "file_name": f"sequences/uav/{row[0]:07d}.jpg", "width": 96, "height": 72} for row in rows]
    marks = [{"id": i, "image_id": row[0], "category_id": row[7], "bbox": row[2:6], "track_id": row[1], "iscrowd": 0,
              "area": row[4] * row[5]} for i, row in enumerate(rows)]  # fmt: skip
    named = {"images": images, "annotations": marks, "categories": [{"id": 4, "name": "car"}]}
    shutil.rmtree(root / "annotations")
    (root / "instances.json").write_text(json.dumps(named))
    assert "car" in desk.yes("data", "check", root, "--json")

    for year in ("VOC2007", "VOC2012"):
        held = {f"JPEGImages/{name}": data for name, data in photos("a.jpg").items()}
        write(desk.at("VOCdevkit", year), {**held, "Annotations/a.xml": voc(XML)})
    said = desk.no("data", "check", desk.at("VOCdevkit"), "--format", "voc")
    for name in str(said).partition("name one: ")[2].split("\n")[0].split(", "):
        desk.yes("data", "check", desk.at("VOCdevkit", name))


@cures("data.format_fiftyone:_detection export", "data.format_webdataset:_tell_passed write")
def test_labels_of_a_form_that_is_not_read(desk: Desk) -> None:
    root = SETS["fiftyone samples"].write(desk.at("fiftyone"))
    held = json.loads((root / "samples.json").read_text())
    held["samples"][0]["ground_truth"]["detections"][0]["mask"] = {"$binary": {"base64": "eJw=", "subType": "00"}}
    (root / "samples.json").write_text(json.dumps(held))
    assert "export it as COCO" in desk.no("data", "check", root)
    boxes = coco()
    desk.yes("data", "check", write(desk.at("coco"), {**photos("a.jpg"), "annotations.json": boxes}))

    shards = desk.at("shards")
    shards.mkdir()
    members = {"a.jpg": photo(), "a.cls": b"1", "b.jpg": photo(number=1), "b.cls": b"0", "b.seg.npy": b"x"}
    _tar(shards / "s-0000.tar", members)
    assert "write the shards without them" in desk.no("data", "check", shards)
    _tar(shards / "s-0000.tar", {name: data for name, data in members.items() if not name.endswith(".npy")})
    desk.yes("data", "check", shards)


def _tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as packed:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            packed.addfile(about, io.BytesIO(data))


@cures("data.labelmaps:_translated_mask add", "data.masks:POINTERS run", "data.paths:walk mend")
def test_masks_and_folders_that_are_not_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.at("table.csv").write_text("name,target\nbox,cup\nroad,other\n")
    table = labelmaps.label_map(desk.at("table.csv"))

    def translated(ids: int, *classes: Category) -> list[np.ndarray]:
        (sample,) = made(desk.at("photos"), "a.jpg", label="box")
        masked = replace(sample, label=None, mask=partial(Mask, np.full((30, 40), ids, np.uint8)))
        dataset = Dataset("made", desk.at("photos"), classes, [masked].__iter__, 1)
        return [s.mask().ids for s in labelmaps.remap(dataset, table) if s.mask]

    desk.raises(translated, 3, Category(1, "box"))
    assert translated(3, Category(1, "box"), Category(3, "road"))[0].max() == 0  # the class is added
    assert translated(1, Category(1, "box"))[0].max() == 1  # the mask is mended

    root = small(desk.at("pointers"), {"train": 3})
    masks = {path: path.read_bytes() for path in sorted(root.glob("masks/train/*.png"))}
    for path in masks:
        path.write_bytes(LFS + b".github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9781\n")
    assert "run git lfs pull" in desk.no("data", "check", root)
    for path, data in masks.items():  # what git lfs pull does
        path.write_bytes(data)
    desk.yes("data", "check", root)

    listed = os.scandir

    def scandir(place: Any) -> Any:  # as it is for everyone but root
        if not os.stat(place).st_mode & 0o400:
            raise PermissionError(13, "Permission denied")
        return listed(place)

    monkeypatch.setattr(paths.os, "scandir", scandir)
    (root / "masks").chmod(0o000)
    desk.no("data", "check", root)
    (root / "masks").chmod(0o755)
    desk.yes("data", "check", root)


@cures("curate.split:_renamed rename", "curate.split:samples make")
def test_splits_that_do_not_fit(desk: Desk) -> None:
    desk.at("first").mkdir()
    root = sets.saved(desk.at("first"), sets.coco(desk.at("first"), many=4))
    parted = splitting.split(formats.read(root), near=False)
    (root / "images/0.jpg").rename(root / "images/other.jpg")
    held = json.loads((root / "annotations.json").read_text())
    next(row for row in held["images"] if row["file_name"] == "0.jpg")["file_name"] = "other.jpg"
    (root / "annotations.json").write_text(json.dumps(held))
    changed = formats.read(root)
    desk.raises(list, splitting.apply(changed, parted))
    assert len(list(splitting.apply(changed, splitting.split(changed, near=False)))) == 4

    # two old parts whose names differ by case alone, joined in one
    for name, does in (("0.jpg", False), ("1.jpg", True)):
        samples = [
            replace(one, name=n, split=part)
            for one, n, part in zip(
                made(desk.at("cases"), "0.jpg", "1.jpg", label="mug"), ("0.jpg", name), ("train", "Train"), strict=True
            )
        ]
        dataset = Dataset("made", desk.at("cases"), (Category(1, "mug"),), samples.__iter__, 2)
        if does:
            assert len(list(splitting.apply(dataset, splitting.split(dataset, parts={"all": 1.0}, near=False)))) == 2
        else:
            desk.raises(splitting.split, dataset, parts={"all": 1.0}, near=False)
