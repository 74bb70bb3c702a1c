"""A split given alone is called as the whole set is, folders in capitals are read, and forgotten names are told."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from handful.curate.check import check
from tests.data.layouts import STORED, Maker
from tests.data.reports import photos, write
from tests.data.test_said_nothing import checked

LINE = "1 0.5 0.5 0.5 0.5\n"
BOTH = {"train/images/": "train/labels/", "val/images/": "val/labels/"}


def yolo(places: dict[str, str], suffix: str = ".txt") -> dict[str, Any]:
    """A photo and a label in each of the places; names are without doubles."""
    names = {f"{images}p{i}.jpg": f"{labels}p{i}{suffix}" for i, (images, labels) in enumerate(places.items())}
    return {**photos(*names), **dict.fromkeys(names.values(), LINE)}


@pytest.mark.parametrize(
    ("file", "text"),
    [("classes.txt", "cup\nplate\n"), ("data.yaml", "train: train/images\nval: val/images\nnames: [cup, plate]\n"),
     ("obj.names", "cup\nplate\n"), ("names.json", '{"0": "cup", "1": "plate"}')],
)  # fmt: skip
def test_names_above_a_split_are_those_of_the_whole(file: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, {**yolo(BOTH), file: text})
    for place in (tmp_path, tmp_path / "train"):
        named, told = checked(place, {})
        assert set(named) == {"plate"} and "no_label_map" not in told, place
    assert "no_label_map" in checked(tmp_path / "own", yolo({"images/": "labels/"}))[1]  # no split: its own folder


def test_a_map_above_that_names_other_numbers_is_of_something_else(tmp_path: Path) -> None:
    write(tmp_path, {**yolo(BOTH), "names.json": '{"7": "cup"}'})
    assert set(checked(tmp_path / "train", {})[0]) == {"1"}


def test_names_of_masks_above_a_split(tmp_path: Path) -> None:
    m = Maker(2, tmp_path)
    for split in ("train", "val"):
        for i in range(3):
            m.photo(f"{split}/shots/{i}.jpg")
            m.save(STORED["ids"][0](m.areas()), f"{split}/masks/{i}.png")
    m.write("classes.txt", "none\ncup\nplate\n")
    assert set(checked(tmp_path / "train", {})[0]) == {"none", "cup", "plate"}


def test_a_kept_verdict_depends_on_the_names_above(tmp_path: Path) -> None:
    write(tmp_path / "set", yolo(BOTH))
    before = check(tmp_path / "set" / "train", near=False, cache=tmp_path / "cache")["sets"][0]["per_class"]
    write(tmp_path / "set", {"classes.txt": "cup\nplate\n"})
    after = check(tmp_path / "set" / "train", near=False, cache=tmp_path / "cache")["sets"][0]["per_class"]
    assert (list(before), list(after)) == (["1"], ["cup", "plate"])


@pytest.mark.parametrize(
    ("places", "suffix"),
    [
        ({"Images/": "Labels/"}, ".TXT"),
        ({"images/": "labels/"}, ".TXT"),
        ({"IMAGES/": "labels/"}, ".txt"),
        ({"Train/Images/": "Train/Labels/", "Valid/Images/": "Valid/Labels/"}, ".TXT"),
        ({"Images/Train/": "Labels/Train/", "Images/Val/": "Labels/Val/"}, ".txt"),
        ({"": ""}, ".TXT"),
    ],
)
def test_labels_in_folders_and_suffixes_in_capitals(places: dict[str, str], suffix: str, tmp_path: Path) -> None:
    report = check(write(tmp_path, {**yolo(places, suffix), "obj.names": "cup\nplate\n"}), near=False)
    (held,) = report["sets"]
    assert (held["format"], held["labeled"], held["per_class"]["plate"]["objects"]) == (
        "yolo",
        len(places),
        len(places),
    )
    assert report["ok"] and set(held["splits"]) == ({""} if len(places) == 1 else {next(iter(held["splits"])), "val"}
                                                    if "val" in held["splits"] else {"train", "valid"})  # fmt: skip


def test_label_files_that_differ_in_case_only_are_their_own_images(tmp_path: Path) -> None:
    files = {**photos("images/a.jpg", "images/b.jpg"), "labels/a.txt": LINE, "labels/a.TXT": "", "labels/b.TXT": LINE}
    (held,) = check(write(tmp_path, files), near=False)["sets"]
    assert held["labeled"] == 2


def test_a_number_of_classes_that_is_not_how_many_are_named(tmp_path: Path) -> None:
    config = "train: train/images\nval: val/images\nnc: {}\nnames: [cup, plate]\n"
    _, told = checked(tmp_path, {**yolo(BOTH), "data.yaml": config.format(3)})
    assert "3 classes (nc) and names 2" in told["class_count"]
    assert "class_count" not in checked(tmp_path, {"data.yaml": config.format(2)})[1]


@pytest.mark.parametrize("text", ["0 cup\n1 plate\n", "0: cup\n1: plate\n", "0\tcup\n1\tplate\n", "0. cup\n1. plate\n"])
def test_lists_whose_lines_begin_with_their_numbers(text: str, tmp_path: Path) -> None:
    assert set(checked(tmp_path / "yolo", {**yolo(BOTH), "classes.txt": text})[0]) == {"plate"}
    m = Maker(6, tmp_path / "masks")
    for i in range(2):
        m.photo(f"shots/{i}.jpg")
        m.save(STORED["one bit"][0](m.areas()), f"masks/{i}.png")
    m.write("classes.txt", text)
    assert set(checked(m.place, {})[0]) == {"cup", "plate"}


def test_names_that_begin_with_numbers_of_their_own(tmp_path: Path) -> None:
    assert set(checked(tmp_path, {**yolo(BOTH), "classes.txt": "1 cent\n2 cents\n"})[0]) == {"2 cents"}


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_whose_accents_are_composed_otherwise(forms: tuple[str, str], tmp_path: Path) -> None:
    image, label = (unicodedata.normalize(form, "Gläser") for form in forms)
    files = {**photos(f"images/{image}1.jpg"), f"labels/{label}1.txt": LINE, "classes.txt": "cup\nplate\n"}
    assert checked(tmp_path / "yolo", files)[0] == {"plate": 1}
    m = Maker(6, tmp_path / "masks")
    for i in range(2):
        m.photo(f"images/{image}{i}.jpg")
        m.save(STORED["one bit"][0](m.areas()), f"masks/{label}{i}.png")
    assert check(m.place, near=False)["sets"][0]["labeled"] == 2
    table = {**photos(f"{image}1.jpg", f"{image}2.jpg"), "t.csv": f"file,label\n{label}1.jpg,cup\n{label}2.jpg,cup\n"}
    named, told = checked(tmp_path / "csv", table)
    assert named == {"cup": 2} and "accents composed otherwise" in told["wrong_case_name"]
