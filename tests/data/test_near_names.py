"""Names of classes that are one to a person and two to a computer, within a data set and between data and a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.curate.check import check, ensure
from handful.data import format_folder
from handful.data.finding import Finding
from handful.data.near_names import learned_as_named, near_names, told
from handful.errors import DataError
from handful.fewshot.evaluate import evaluate
from handful.fewshot.teaching import teach
from handful.training import source
from handful.types import Category, Dataset
from tests.conftest import save
from tests.data.layouts import Maker

COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


def test_near_names() -> None:
    assert near_names(["Mug", "mug", "plate", "cup "], ["mug", "cup"]) == [("Mug", "mug"), ("cup ", "cup")]
    assert near_names([DECOMPOSED, "STRASSE"], [COMPOSED, "stra\u00dfe"]) == [
        (DECOMPOSED, COMPOSED), ("STRASSE", "stra\u00dfe")]  # fmt: skip
    assert near_names(["Mug", "mug"], ["Mug", "mug"]) == [] and near_names(["cup"], ["cap"]) == []
    assert told([("Mug", "mug")]) == "'Mug' (known as 'mug')"
    assert told([(DECOMPOSED, COMPOSED)]) == r"'Cafe\u0301' (known as 'Caf\xe9')"  # they look the same


def test_twins_in_one_set_are_told_however_accents_are_composed(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        save(np.full((8, 8, 3), 7, np.uint8), tmp_path / name / "a.png")
    with pytest.raises(DataError, match="one name in different spelling"):
        format_folder.read(tmp_path)


def test_a_model_is_not_taught_a_second_spelling(
    taught_model: Path, photo_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(taught_model, tmp_path / "model"))
    photos = photo_folder(("cat",), 2)
    (photos / "cat").rename(photos / "CAT")
    with pytest.raises(DataError, match=r"'CAT' \(known as 'cat'\); rename.*--allow category_twins"):
        teach(photos, model, add=True)
    save(np.zeros((64, 64, 3), np.uint8), photos / "rocket" / "a.png")
    capsys.readouterr()
    evaluate(model, photos)
    assert "spells 1 class otherwise than the model, so they are strangers to it: 'CAT' (known as 'cat')" in (
        capsys.readouterr().err)  # fmt: skip
    shutil.rmtree(photos / "rocket")
    assert teach(photos, model, add=True, allow=["category_twins"])["classes"] == ["CAT", "cat", "coffee", "rocket"]


def test_learning_more_and_counting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="x spells 1 class otherwise"):
        learned_as_named("x", ["Mug"], ["mug"])
    learned_as_named("x", ["Mug"], ["mug"], ["category_twins"])
    learned_as_named("x", ["cup"], ["mug"])
    assert capsys.readouterr().err.count("learned as other classes") == 1
    data = Dataset("folder", Path("x"), (Category(0, "Mug"), Category(1, "cup")), lambda: iter(()), 0)
    assert source.not_counted(data, Path("x"), ["mug", "cup"]) == ["Mug"]
    assert "not counted: 'Mug' (known as 'mug')" in capsys.readouterr().err


def test_a_class_folder_that_is_a_link_is_told(tmp_path: Path) -> None:
    """By teach and check, whether it leads out or not; one that holds no image is nobody's loss."""
    data, out = tmp_path / "data", tmp_path / "out"
    for place in (data / "mug", data / "cup", out / "plate"):
        for i in range(2):
            save(np.full((8, 8, 3), 40 * i + len(place.name), np.uint8), place / f"{i}.png")
    (out / "notes").mkdir()
    (data / "plate").symlink_to(out / "plate")
    (data / "notes").symlink_to(out / "notes")
    found: list[Finding] = []
    format_folder.read(data, on_finding=found.append)
    assert [(f.code, f.file, f.value) for f in found] == [("linked_folder", "plate", os.path.realpath(out / "plate"))]
    with pytest.raises(DataError, match=r"plate: is a link to .*cp -rL.*--allow linked_folder"):
        ensure(data, format="folder")
    ensure(data, format="folder", allow=["linked_folder"])
    copy = followed(found[0].text, data)
    (copy / "notes").rmdir()
    assert [c.name for c in format_folder.read(copy).categories] == ["cup", "mug", "plate"]
    assert "linked_folder" not in {f["code"] for f in check(copy)["findings"]}


def followed(text: str, data: Path) -> Path:
    """What a message about links says to do, done: the copy."""
    assert "cp -rL FOLDER COPY" in text
    copy = data.parent / "copy"
    subprocess.run(["cp", "-rL", data, copy], check=True)
    return copy


@pytest.mark.parametrize(
    ("link", "other", "named"),
    [
        ("labels", "images", "data.yaml"), ("labels/train", "images", "data.yaml"), ("images", "labels", "data.yaml"),
        ("gt", "imgs", ""), ("imgs", "gt", ""), ("shapes", "images", ""), ("images", "shapes", ""),
        ("images", "", "train.csv"),
    ],
)  # fmt: skip
def test_a_folder_that_leads_out_is_told_in_every_format(link: str, other: str, named: str, tmp_path: Path) -> None:
    """Not passed over, as if nobody had labeled the images, nor blamed on the labels."""
    maker = Maker(2, tmp_path / "data")
    shape = {"label": "mug", "points": [[1, 1], [20, 1], [20, 20]], "shape_type": "polygon"}
    for i in range(2):
        for place in {link.split("/")[0], other} & {"images", "imgs"}:
            maker.photo(f"{place}/{'train/' if named == 'data.yaml' else ''}{i}.jpg")
        for place in {link.split("/")[0], other} - {"images", "imgs", ""}:
            if place == "labels":
                maker.write(f"labels/train/{i}.txt", "0 .5 .5 .2 .2\n")
            elif place == "gt":
                maker.save(PIL_Image.fromarray((maker.areas() > 0).astype(np.uint8) * 255), f"gt/{i}.png")
            else:
                maker.write(f"shapes/{i}.json", json.dumps({"version": "5", "shapes": [shape], "imagePath": f"{i}.jpg",
                            "imageWidth": 96, "imageHeight": 72, "imageData": None}))  # fmt: skip
    if named:
        lists = {"data.yaml": "train: images/train\nnames: [mug]\n", "train.csv": "image,label\n0.jpg,mug\n1.jpg,mug\n"}
        maker.write(named, lists[named])
    assert check(maker.place)["ok"]
    whole = check(maker.place)["sets"]
    (tmp_path / "out").mkdir()
    shutil.move(maker.place / link, tmp_path / "out" / "own")
    (maker.place / link).symlink_to(tmp_path / "out" / "own")
    try:
        (text,) = [f["text"] for f in check(maker.place)["findings"] if f["code"] == "linked_folder"]
    except DataError as error:  # nothing else is there
        text = str(error)
        assert f"{link} is a link to" in text
    assert check(followed(text, maker.place))["sets"] == whole


@pytest.mark.parametrize(
    ("folders", "classes", "unlabeled"),
    [
        (("Images", "Text"), ["Images", "Text"], 0),
        (("photos", "drawings"), ["drawings", "photos"], 0),
        (("train/Photos", "train/art", "val/Photos", "val/art"), ["Photos", "art"], 0),
        (("images", "cat"), ["cat"], 1),  # as `write` puts images of no class
        (("images/cat", "images/dog"), ["cat", "dog"], 0),
    ],
)
def test_classes_may_be_called_as_folders_of_images_are(
    folders: tuple[str, ...], classes: list[str], unlabeled: int, tmp_path: Path
) -> None:
    for i, name in enumerate(folders):
        save(np.full((8, 8, 3), 40 * i, np.uint8), tmp_path / name / f"{i}.png")
    found: list[Finding] = []
    dataset = format_folder.read(tmp_path, on_finding=found.append)
    assert sorted({s.label for s in dataset if s.label is not None}) == classes
    assert sum(s.label is None for s in dataset) == unlabeled
    assert [one.code for one in found] == ["unlabeled_image"] * unlabeled


@pytest.mark.parametrize("beside", ["Text", "Labels", "labels", "Annotations", "Masks", "gt", "mask"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_classes_may_be_called_as_folders_of_labels_are(beside: str, suffix: str, tmp_path: Path) -> None:
    """What lies in them decides: photographs, of the same names."""
    maker = Maker(3, tmp_path)
    for name in ("Images", beside, "cup"):
        for i in range(2):
            maker.photo(f"{name}/{i}{suffix}")
    report = check(tmp_path)
    assert report["ok"] and [s["format"] for s in report["sets"]] == ["folder"]
    assert sorted(report["sets"][0]["per_class"]) == sorted(["Images", beside, "cup"])
    assert "unlabeled_image" not in {f["code"] for f in report["findings"]}


@pytest.mark.parametrize(("beside", "code"), [("text", "unlabeled_image"), ("masks", "mask_not_ids")])
def test_photographs_in_images_are_no_class_until_it_is_renamed(beside: str, code: str, tmp_path: Path) -> None:
    maker = Maker(4, tmp_path)
    for name in ("images", beside):
        for i in range(2):
            maker.photo(f"{name}/{i}.png")
    (text,) = [f["text"] for f in check(tmp_path)["findings"] if f["code"] == code]
    assert "rename" in text and "Images/" in text and "colored masks, and no file" not in text
    (tmp_path / "images").rename(tmp_path / "Images")  # the advice, followed
    report = check(tmp_path)
    assert report["ok"] and list(report["sets"][0]["per_class"]) == ["Images", beside]
