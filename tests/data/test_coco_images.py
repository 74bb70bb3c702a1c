"""Which images a COCO file speaks of: decided for the whole file, never the first folder where a name fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.cli import main
from handful.curate.check import check
from handful.data import format_coco, formats
from handful.data.coco_images import Tree
from handful.data.finding import Finding
from handful.data.paths import Shelf, name_parts, split_kind
from handful.errors import DataError
from tests.data.boxsets import told

SIZE = 40, 30


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """An image whose pixels no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    PIL_Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def rows(names: Iterable[Any], **more: Any) -> dict[str, Any]:
    """A COCO file of one box an image."""
    listed = list(names)
    return {
        "images": [{"id": i, "file_name": n, "width": SIZE[0], "height": SIZE[1]} for i, n in enumerate(listed)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3 + i, 4], "area": 12}
                        for i in range(len(listed))],
        "categories": [{"id": 1, "name": "mug"}],
        **more,
    }  # fmt: skip


def laid(root: Path, images: Iterable[str], labels: Mapping[str, Iterable[Any] | dict[str, Any]]) -> Path:
    for name in images:
        picture(root / name)
    for file, names in labels.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(json.dumps(names if isinstance(names, dict) else rows(names)))
    return root


def labeled(root: Path, **options: Any) -> list[str]:
    """The images that have labels, relative to the folder, in order; read without a fault."""
    found = format_coco.read(root, **options)
    return [s.path.relative_to(root).as_posix() for s in found if s.objects]


ABC = ["a.png", "b.png", "c.png"]


def under(folder: str, names: Iterable[str] = ABC) -> list[str]:
    return [f"{folder}/{name}" if folder else name for name in names]


TWO_SPLITS = {
    "years": (("train2017", "val2017"), ("annotations/custom_train.json", "annotations/custom_val.json")),
    "roboflow": (("train", "valid"), ("train/_annotations.coco.json", "valid/_annotations.coco.json")),
    "fiftyone": (("train/data", "test/data"), ("train/labels.json", "test/labels.json")),
    "images by split": (("images/train", "images/val"), ("labels/train.json", "labels/val.json")),
    "split images": (("train/images", "val/images"), ("train/annotations.json", "val/annotations.json")),
    "names at the end": (("images_train", "images_test"), ("train_annotations.json", "test_annotations.json")),
    "longer words": (
        ("training", "validation"),
        ("annotations/instances_train.json", "annotations/instances_val.json"),
    ),
}


@pytest.mark.parametrize("layout", TWO_SPLITS)
def test_two_splits_with_the_same_names_keep_their_own_images(layout: str, tmp_path: Path) -> None:
    folders, files = TWO_SPLITS[layout]
    laid(tmp_path, [n for f in folders for n in under(f)], dict.fromkeys(files, ABC))
    assert formats.sources(tmp_path)[0].format == "coco"
    found = {s.path.relative_to(tmp_path).as_posix(): split_kind(s.split or "") for s in format_coco.read(tmp_path)}
    kinds = [split_kind(*folder.split("/")) for folder in folders]
    assert found == {n: kind for folder, kind in zip(folders, kinds, strict=True) for n in under(folder)}
    assert sorted(labeled(tmp_path)) == sorted(n for f in folders for n in under(f))


def test_what_val_has_not_is_not_taken_from_train(tmp_path: Path) -> None:
    images = [*under("train2017"), *under("val2017", ABC[:2])]
    laid(tmp_path, images, {"annotations/my_train.json": ABC, "annotations/my_val.json": ABC})
    (finding,) = told(format_coco, tmp_path)
    assert (finding.code, finding.file, finding.value) == ("missing_image", "annotations/my_val.json", "c.png")
    found = [s for s in format_coco.read(tmp_path, on_finding=lambda f: None) if s.split == "my_val"]
    assert [s.path for s in found] == [tmp_path / n for n in under("val2017", ABC[:2])]


def test_labels_of_val_are_not_read_on_trains_images_where_val_is_not_there(tmp_path: Path) -> None:
    laid(tmp_path, under("train2017"), {"annotations/train.json": ABC, "annotations/val.json": ABC})
    (finding,) = told(format_coco, tmp_path)
    assert (finding.code, finding.file, finding.count) == ("ambiguous_image", "annotations/val.json", 3)
    assert "train2017" in finding.text and "annotations/train.json" in finding.text
    found = list(format_coco.read(tmp_path, on_finding=lambda f: None))
    assert [s.split for s in found] == ["train"] * 3
    for name in under("val2017"):  # what the message says helps
        picture(tmp_path / name)
    assert sorted(labeled(tmp_path)) == sorted([*under("train2017"), *under("val2017")])
    for name in under("val2017"):
        (tmp_path / name).unlink()
    (tmp_path / "annotations/train.json").unlink()  # and no less so where train has no labels
    assert [f.code for f in told(format_coco, tmp_path)] == ["ambiguous_image"]
    assert labeled(tmp_path, images=tmp_path / "train2017") == under("train2017")


def test_lists_by_split_over_one_folder_are_fine_and_an_image_in_both_is_told(tmp_path: Path) -> None:
    laid(tmp_path, under("images"), {"train.json": ABC[:2], "val.json": ABC[2:]})
    assert {s.name: s.split for s in format_coco.read(tmp_path)} == {"a.png": "train", "b.png": "train", "c.png": "val"}
    laid(tmp_path, [], {"val.json": ABC[1:]})
    (finding,) = told(format_coco, tmp_path)
    assert (finding.code, finding.file) == ("same_image_across_splits", "images/b.png")


def test_what_fits_two_folders_is_refused_and_said_outright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laid(tmp_path, [*under("night"), *under("day")], {"boxes.json": ABC})
    (finding,) = told(format_coco, tmp_path)
    assert (finding.code, finding.value, finding.count) == ("ambiguous_image", ["day", "night"], 3)
    assert "day or night" in finding.text and f"--images {tmp_path / 'day'}" in finding.text
    with pytest.raises(DataError, match="nothing is guessed"):
        format_coco.read(tmp_path)
    assert labeled(tmp_path, images=tmp_path / "night") == under("night")
    with pytest.raises(SystemExit) as stop:  # and the same from a shell
        main(["data", "check", str(tmp_path), "--no-cache"])
    assert stop.value.code == 1 and "ambiguous_image" in capsys.readouterr().out
    for named in (tmp_path, tmp_path / "boxes.json"):
        main(["data", "check", str(named), "--no-cache", "--images", str(tmp_path / "day")])
        assert "3 labeled" in capsys.readouterr().out


def test_sizes_tell_images_from_their_thumbnails(tmp_path: Path) -> None:
    laid(tmp_path, under("large"), {"boxes.json": ABC})
    for name in under("small"):
        picture(tmp_path / name, (20, 15))
    assert labeled(tmp_path) == under("large")


@pytest.mark.parametrize("masks", ["masks", "annotations/semantic", "images_seg", "gt"])
def test_masks_with_the_names_of_the_images_are_not_them(masks: str, tmp_path: Path) -> None:
    laid(tmp_path, [*under("photos_2024"), *under(masks)], {"boxes.json": ABC})
    assert labeled(tmp_path) == under("photos_2024")


def test_masks_are_not_images_where_the_images_are_not_there(tmp_path: Path) -> None:
    laid(tmp_path, under("masks"), {"boxes.json": ABC})
    assert [f.code for f in told(format_coco, tmp_path)] == ["missing_image"]
    assert not any(s.objects for s in format_coco.read(tmp_path, on_finding=lambda f: None))


def test_a_split_made_of_the_images_of_another(tmp_path: Path) -> None:
    laid(tmp_path, under("train2017"), {"my_train.json": ABC[:2], "my_val.json": ABC[2:]})
    assert {s.name: s.split for s in format_coco.read(tmp_path)} == {
        "a.png": "my_train", "b.png": "my_train", "c.png": "my_val"}  # fmt: skip


def test_one_file_may_speak_of_several_folders(tmp_path: Path) -> None:
    names = ["t1.png", "v1.png", "t2.png", "v2.png", "v3.png"]
    images = [f"{'train' if n[0] == 't' else 'val'}2014/{n}" for n in names]
    laid(tmp_path, images, {"annotations/lvis.json": names})
    assert labeled(tmp_path) == images


def test_an_image_that_is_missing_is_not_found_in_another_class_folder(tmp_path: Path) -> None:
    images = ["data/cat/1.png", "data/dog/1.png", "data/dog/2.png", "data/cat/3.png"]
    wanted = [f"/content/set/{n}" for n in ("cat/1.png", "dog/1.png", "cat/2.png", "dog/2.png", "cat/3.png")]
    laid(tmp_path, images, {"boxes.json": wanted})
    findings = {f.code: f for f in told(format_coco, tmp_path)}
    assert findings.keys() == {"moved_name", "unsafe_path"} and findings["unsafe_path"].count == 1
    assert "cat/2.png" in findings["unsafe_path"].text
    found = [s for s in format_coco.read(tmp_path, on_finding=lambda f: None) if s.objects]
    assert [s.path.relative_to(tmp_path).as_posix() for s in found] == [images[0], images[1], images[2], images[3]]


WRITTEN = {
    "images\\a b.png": "", "./images/a b.png": "", "images//a b.png": "", "a%20b.png": "", "images/a%20b.png": "",
    "/home/me/set/images/a b.png": "moved_name", "C:\\set\\images\\a b.png": "moved_name",
    "file:///home/me/images/a%20b.png": "moved_name", "https://x.org/d/images/a%20b.png?k=1#t": "moved_name",
    "/data/local-files/?d=set/images/a%20b.png": "moved_name", "s3://bucket/images/a b.png": "moved_name",
    "..\\..\\label-studio\\media\\upload\\4\\a b.png": "moved_name", "../images/a b.png": "moved_name",
    "images/0a1b2c3d-a b.png": "", "IMAGES/A B.PNG": "wrong_case_name", "images/a B.png": "wrong_case_name",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_names_as_tools_write_them(name: str, tmp_path: Path) -> None:
    laid(tmp_path, ["images/a b.png"], {"result.json": [name]})
    assert {f.code for f in told(format_coco, tmp_path)} == ({WRITTEN[name]} if WRITTEN[name] else set())
    found = list(format_coco.read(tmp_path, on_finding=lambda f: None))
    assert [(s.path.relative_to(tmp_path).as_posix(), len(s.objects or ())) for s in found] == [("images/a b.png", 1)]
    if "0a1b2c3d" in name:
        return
    shelf, said = Shelf(tmp_path, tmp_path), list[Finding]()  # one image at a time, as the other formats look
    assert shelf.find("images/a%20b.png" if name == "a%20b.png" else name, said.append, file="x") == "images/a b.png"
    assert [f.code for f in said] == ([WRITTEN[name]] if WRITTEN[name] else [])


def test_accents_composed_and_not(tmp_path: Path) -> None:
    laid(tmp_path, ["images/cafe\u0301.png"], {"boxes.json": ["caf\u00e9.png"]})
    assert [f.code for f in told(format_coco, tmp_path)] == ["wrong_case_name"]
    (sample,) = format_coco.read(tmp_path, on_finding=lambda f: None)
    assert sample.objects and sample.name == "cafe\u0301.png"


def test_one_image_is_never_guessed(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "val/b.png", "cat/c.png"):
        picture(tmp_path / name)
    shelf = Shelf(tmp_path, tmp_path)

    def codes(name: str) -> list[str]:
        said: list[Finding] = []
        assert shelf.find(name, said.append, file="x.json") is None
        return [f.code for f in said]

    assert codes("/elsewhere/a.png") == ["ambiguous_image"]
    assert codes("/elsewhere/train/b.png") == ["unsafe_path"]  # val's b.png is another image
    assert codes("dog/c.png") == ["missing_image"]  # so is a cat's
    assert codes("/etc/hostname") == codes("../../etc/x.png") == codes("a\0.png") == ["unsafe_path"]


def test_the_parts_of_a_name() -> None:
    assert name_parts("D:\\x\\.\\y\\..\\z.jpg") == ["x", "y", "z.jpg"]
    assert name_parts("file://host/a%2520.jpg") == ["a%20.jpg"]
    assert name_parts(7) == name_parts("") == name_parts("a\0b") == name_parts("x" * 5000) == []
    assert name_parts("https://[bad/x.jpg") == []
    assert split_kind("train2017") == "train" and split_kind("custom_val") == split_kind("valid") == "val"
    assert split_kind("trainval") is split_kind("train_test") is split_kind("images") is None


@pytest.mark.parametrize("key", ["coco_url", "filename", "path"])
def test_a_name_under_another_key(key: str, tmp_path: Path) -> None:
    value = rows(ABC)
    for row in value["images"]:
        row[key] = ("http://images.org/val2017/" if key == "coco_url" else "") + row.pop("file_name")
    laid(tmp_path, under("val2017"), {"lvis_val.json": value})
    findings = {f.code for f in told(format_coco, tmp_path)}
    assert findings == ({"moved_name"} if key == "coco_url" else set())
    found = list(format_coco.read(tmp_path, on_finding=lambda f: None))
    assert [s.name for s in found if s.objects] == ABC


@pytest.mark.parametrize("which", ["image_id", "category_id", "categories", "images", "sizes"])
def test_numbers_written_as_text(which: str, tmp_path: Path) -> None:
    value = rows(ABC)
    for row in value["images" if which == "sizes" else which if which in value else "annotations"]:
        for key in ("width", "height") if which == "sizes" else ("id",) if which in value else (which,):
            row[key] = str(row[key])
    laid(tmp_path, under("images"), {"boxes.json": value})
    assert labeled(tmp_path) == under("images")
    assert [c.name for c in format_coco.read(tmp_path).categories] == ["mug"]


def test_many_missing_images_are_one_finding(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(40)]
    laid(tmp_path, under("images", names[:20]), {"boxes.json": names})
    (row,) = [f for f in check(tmp_path, near=False)["findings"] if f["severity"] == "error"]
    assert (row["code"], row["count"]) == ("missing_image", 20)
    assert "20 of its 40 images" in row["text"] and "'20.png', '21.png', '22.png'" in row["text"]
    laid(tmp_path / "none", [], {"boxes.json": names})
    (finding,) = told(format_coco, tmp_path / "none")
    assert finding.count == 40 and "none of its 40 images" in finding.text and "--images" in finding.text


def test_a_linked_folder_of_images_is_named(tmp_path: Path) -> None:
    outside = tmp_path / "photos"
    for name in ABC:
        picture(outside / name)
    root = laid(tmp_path / "set", [], {"annotations/instances_train.json": ABC})
    (root / "images").symlink_to(outside)
    (finding,) = told(format_coco, root)
    assert (finding.code, finding.file, finding.value) == ("linked_folder", "images", str(outside))
    assert f"--images {outside}" in finding.text
    found = list(format_coco.read(root, images=outside))  # what the message says helps
    assert [len(s.objects or ()) for s in found] == [1, 1, 1]
    (root / "images").unlink()
    outside.rename(root / "images")
    assert labeled(root) == under("images")


def test_images_beside_what_is_not_theirs_are_not_of_the_set(tmp_path: Path) -> None:
    laid(tmp_path, [*under("pictures", [*ABC, "loose.png"]), "plots/loss.png"], {"boxes.json": under("pictures")})
    assert {s.name: s.objects is None for s in format_coco.read(tmp_path)} == {
        "a.png": False, "b.png": False, "c.png": False, "loose.png": True}  # fmt: skip
    assert Tree(tmp_path).in_folder("pictures", ["A.PNG"]) == "pictures/a.png"
