"""A converted copy is what its target's own tools take: each is loaded by them, where their license allows it here, or
else held to their documented rules.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as PIL_Image
from pycocotools.coco import COCO

from handful.curate.convert import convert
from handful.data import formats
from handful.data.masks import write_ids
from tests.data.test_coco_images import picture, rows

PEOPLE = [{"id": 1, "name": "person", "supercategory": "animal", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]],
           "frequency": "f", "synonyms": ["human"]}]  # fmt: skip


def coco(root: Path, *splits: str, names: tuple[str, ...] = ("a.png", "b.png"), **more: Any) -> Path:
    for split in splits:
        for name in names:
            picture(root / split / name)
        (root / split / "_annotations.coco.json").write_text(json.dumps(rows(names, **more)))
    return root


def converted(source: Path, to: str, **options: Any) -> Path:
    out = source.with_name(f"{source.name}-{to}")
    assert convert(source, out, to=to, allow_loss=True, **options)["written"]
    return out


def test_coco_as_pycocotools_and_torchvision_read_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    source = coco(tmp_path / "set", "train", "valid", categories=PEOPLE, videos=[{"id": 3}])
    value = json.loads((source / "train/_annotations.coco.json").read_text())
    value["annotations"][0] |= {
        "keypoints": [12, 30, 2, 20, 40, 1],
        "num_keypoints": 2,
        "segmentation": [10, 10, 20, 10, 20, 20],
    }
    (source / "train/_annotations.coco.json").write_text(json.dumps(value))
    copy = converted(source, "coco")
    assert convert(source, tmp_path / "again", to="coco")["lossless"]
    for split in ("train", "valid"):
        file = copy / f"annotations/instances_{split}.json"
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = COCO(str(file))
            loaded = datasets.CocoDetection(str(copy / "images" / split), str(file))
        assert len(theirs.getImgIds()) == len(loaded) == 2
        assert theirs.loadCats([1]) == PEOPLE  # every field, as it was
        assert json.loads(file.read_text())["videos"] == [{"id": 3}]
        pixels, labels = loaded[0]
        assert pixels.size == (40, 30) and labels[0]["bbox"] == [1, 2, 3, 4]
        if split == "train":
            assert labels[0]["keypoints"] == [12, 30, 2, 20, 40, 1]
            assert theirs.annToMask(labels[0]).sum() > 20  # the flat outline is one that they can paint


def test_voc_as_torchvision_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for split in ("train", "val"):
        picture(tmp_path / f"set/images/{split}/{split}.png")
        ids = np.zeros((30, 40), np.uint8)
        ids[5:15] = 2
        write_ids(tmp_path / f"set/masks/{split}/{split}.png", ids)
    (tmp_path / "set/labels.txt").write_text("background\nmug\ndish\n")
    copies = {"VOCSegmentation": converted(tmp_path / "set", "voc")}
    copies["VOCDetection"] = converted(coco(tmp_path / "boxes", "train", names=("c.png",)), "voc")
    for name, copy in copies.items():
        (tmp_path / name / "VOCdevkit").mkdir(parents=True)
        copy.rename(tmp_path / name / "VOCdevkit/VOC2012")
        for path in (tmp_path / name).rglob("*.png"):  # torchvision asks for .jpg by name
            if path.parent.name == "JPEGImages":
                PIL_Image.open(path).save(path.with_suffix(".jpg"))
        loaded = getattr(datasets, name)(str(tmp_path / name), year="2012", image_set="train")
        pixels, target = loaded[0]
        assert len(loaded) == 1 and pixels.size == (40, 30)
        if name == "VOCSegmentation":
            assert np.unique(np.asarray(target)).tolist() == [0, 2]
        else:
            (mug,) = target["annotation"]["object"]
            assert mug["name"] == "mug" and mug["bndbox"] == {"xmin": "2", "ymin": "3", "xmax": "4", "ymax": "6"}


def test_class_folders_as_torchvision_reads_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for name in ("cup", "dish"):
        picture(tmp_path / f"set/{name}/{name}.png")
    loaded = datasets.ImageFolder(str(converted(tmp_path / "set", "folder")))
    assert loaded.classes == ["cup", "dish"] and [label for _, label in loaded.samples] == [0, 1]


def ultralytics(config: Path) -> dict[str, int]:
    """{key: images with labels}, by the rules that docs.ultralytics.com/datasets states; what breaks them is raised.

    train and val must be there, relative to the YAML's folder; names has an id for each class; the label file of an
    image is found by its path with images turned into labels; a line is a class and fractions, then keypoints.
    """
    said = yaml.safe_load(config.read_text())
    assert isinstance(said["names"], dict) and set(said["names"]) == set(range(said["nc"]))
    points = said.get("kpt_shape", [0, 0])
    found = {}
    for key in ("train", "val", "test"):
        if key == "test" and not said.get(key):
            continue
        assert said.get(key), f"{key} is missing"
        images = [p for p in (config.parent / said[key]).rglob("*") if p.suffix in (".png", ".jpg")]
        assert images, f"{key} has no images"
        found[key] = 0
        for image in images:
            label = Path(str(image).replace("/images/", "/labels/", 1)).with_suffix(".txt")
            for line in label.read_text().splitlines() if label.exists() else ():
                number, *values = map(float, line.split())
                assert 0 <= number < said["nc"] and len(values) == 4 + points[0] * points[1]
                assert all(0 <= v <= 1 for v in values[:4])
                found[key] += 1
    return found


@pytest.mark.parametrize(
    ("splits", "wanted"),
    [
        (("train", "valid", "test"), {"train": 2, "val": 2, "test": 2}), (("train", "val"), {"train": 2, "val": 2}),
        (("train2017", "val2017"), {"train": 2, "val": 2}), (("training", "validation"), {"train": 2, "val": 2}),
        (("my_train", "dev", "testing"), {"train": 2, "val": 2, "test": 2}),
    ],
)  # fmt: skip
def test_yolo_by_ultralytics_rules(splits: tuple[str, ...], wanted: dict[str, int], tmp_path: Path) -> None:
    source = coco(tmp_path / "set", *splits, categories=PEOPLE)
    copy = converted(source, "yolo")
    assert ultralytics(copy / "data.yaml") == wanted
    assert {s.split for s in formats.read(copy)} == set(splits)  # here they keep their names
    said = yaml.safe_load((copy / "data.yaml").read_text())
    assert said["kpt_shape"] == [2, 3] and said["kpt_names"] == {0: ["nose", "tail"]}


def test_the_rules_can_be_broken(tmp_path: Path) -> None:
    copy = converted(coco(tmp_path / "set", "train", "valid"), "yolo")
    text = (copy / "data.yaml").read_text()
    for old, new in (
        ("val: images/valid", "val: null"),
        ("nc: 1", "nc: 2"),
        ("train: images/train", "train: images/x"),
    ):
        (copy / "data.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(AssertionError):
            ultralytics(copy / "data.yaml")


LOSSES = {
    "keypoints": ("classes' attribute 'keypoints'", "voc"), "skeleton": ("classes' attribute 'skeleton'", "yolo"),
    "synonyms": ("classes' attribute 'synonyms'", "voc"), "supercategory": ("classes' parents", "yolo"),
    "licenses": ("data set's 'licenses'", "yolo"), "license": ("license", "voc"),
    "videos": ("data set's 'more'", "voc"),
    "objects": ("objects", "masks"), "score": ("object's attribute 'score'", "yolo"),
    "a crowd": ("crowds", "yolo"), "an image's date": ("image's attribute 'date_captured'", "yolo"),
}  # fmt: skip


@pytest.mark.parametrize("what", LOSSES)
def test_no_loss_is_kept_quiet(what: str, tmp_path: Path) -> None:
    named, to = LOSSES[what]
    root = tmp_path / "set"
    value = rows(["a.png"], categories=PEOPLE, licenses=[{"id": 1, "name": "MIT"}], videos=[{"id": 3}])
    value["images"][0] |= {"license": 1, "date_captured": "2020"}
    value["annotations"][0] |= {"keypoints": [1, 1, 2, 2, 2, 0], "num_keypoints": 1, "score": 0.5}
    value["annotations"].append({"id": 9, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 1,
                                 "segmentation": {"size": [30, 40], "counts": [45, 5, 1150]}})  # fmt: skip
    picture(root / "images/a.png")
    (root / "instances.json").write_text(json.dumps(value))
    result = convert(root, tmp_path / "out", to=to)
    assert not result["lossless"] and not result["written"]
    assert ("lost", named) in {(row["how"], row["what"]) for row in result["differences"]}, result["differences"]


def test_labels_of_another_task_are_told(tmp_path: Path) -> None:
    source = tmp_path / "set"
    picture(source / "images/train/a.png")
    (source / "annotations").mkdir()
    for kind in ("instances", "captions", "person_keypoints"):
        (source / f"annotations/{kind}_train.json").write_text(json.dumps(rows(["a.png"])))
    result = convert(source, tmp_path / "out", to="coco")
    told = [(row["code"], row["file"]) for row in result["findings"]]
    assert told == [("other_task", "annotations/captions_train.json"),
                    ("other_task", "annotations/person_keypoints_train.json")]  # fmt: skip
    (source / "annotations/instances_train.json").unlink()  # alone, keypoints are read: they have boxes too
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (sample,) = formats.read(source)
    assert sample.split == "train" and len(sample.objects or ()) == 1
