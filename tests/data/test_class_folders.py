"""Folders of photographs: which are classes, which splits, which hold masks; the same to every verb."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from pathlib import Path

import pytest

from handful.cli import main
from handful.curate.check import check
from handful.curate.repair import repair
from handful.data import format_folder, formats
from handful.data.finding import Finding
from handful.errors import DataError
from handful.fewshot.teaching import checked_images
from tests.data.layouts import STORED, Maker


def photos(place: Path, *names: str) -> Maker:
    m = Maker(5, place)
    for name in names:
        m.photo(name)
    return m


def read(place: Path) -> tuple[Counter[tuple[str | None, str | None]], dict[str, str]]:
    """(how many images of each split and class, the errors) as a classifier is taught them."""
    found: list[Finding] = []
    rows = Counter((s.split, s.label) for s in format_folder.read(place, on_finding=found.append))
    return rows, {f.code: f.text for f in found if f.severity == "error"}


def mvtec(place: Path, broken: str = "broken") -> Path:
    m = photos(place, "train/good/000.png", "train/good/001.png", "test/good/000.png")
    for i in range(2):
        m.photo(f"test/{broken}/{i:03}.png")
        m.save(STORED["0/255"][0](m.areas()), f"ground_truth/{broken}/{i:03}_mask.png")
    return place


def test_masks_beside_splits_are_no_class(tmp_path: Path) -> None:
    rows, errors = read(mvtec(tmp_path))
    assert rows == {("train", "good"): 2, ("test", "good"): 1, ("test", "broken"): 2}
    assert set(errors) == {"unread_labels"} and "ground_truth is no class" in errors["unread_labels"]
    report = check(tmp_path, near=False)
    assert not report["ok"] and set(report["sets"][0]["per_class"]) == {"good", "broken"}
    with pytest.raises(DataError, match="move ground_truth/ away"):
        checked_images(tmp_path, keep=False)
    samples, _ = checked_images(tmp_path, keep=False, allow=["unread_labels"])
    assert {s.label for s in samples} == {"good", "broken"}
    shutil.rmtree(tmp_path / "ground_truth")
    assert check(tmp_path, near=False)["ok"]


@pytest.mark.parametrize("at", ["masks", "train/masks"])
def test_masks_of_other_names_are_no_class(at: str, tmp_path: Path) -> None:
    m = photos(tmp_path, *(f"{at.replace('masks', 'images')}/{i}.jpg" for i in range(3)))
    for i in range(3):
        m.save(STORED["0/255"][0](m.areas()), f"{at}/drawing {chr(97 + i)}.png")
    rows, errors = read(tmp_path)
    assert {label for _, label in rows} == {None} and f"{at} is no class" in errors["unread_labels"]


def test_a_class_called_masks_is_one_where_it_has_photographs(tmp_path: Path) -> None:
    photos(tmp_path, "masks/0.jpg", "masks/1.jpg", "gloves/2.jpg", "gloves/3.jpg")
    assert read(tmp_path) == ({(None, "masks"): 2, (None, "gloves"): 2}, {})


def test_numbers_pair_whatever_zeros_are_before_them(tmp_path: Path) -> None:
    m = photos(tmp_path, *(f"images/{i}.jpg" for i in (1, 2, 10)))
    for i in (1, 2, 10):
        m.save(STORED["0/255"][0](m.areas()), f"masks/{i:03}.png")
    report = check(tmp_path, near=False)
    assert report["ok"] and [(s["format"], s["labeled"]) for s in report["sets"]] == [("pairs masks", 3)]
    m.save(STORED["0/255"][0](m.areas()), "masks/011.png")  # counted otherwise than the photographs: nothing is guessed
    assert {f["code"] for f in check(tmp_path, near=False)["findings"] if f["severity"] == "error"} == {"unread_labels"}


def test_splits_in_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(tmp_path / "set", "cup/train/0.jpg", "cup/val/1.jpg", "plate/train/2.jpg", "plate/val/3.jpg")
    rows, errors = read(tmp_path / "set")
    assert not errors and rows == {(s, c): 1 for s in ("train", "val") for c in ("cup", "plate")}
    (held,) = check(tmp_path / "set", near=False)["sets"]
    assert (held["labeled"], held["splits"], set(held["per_class"])) == (4, {"train": 2, "val": 2}, {"cup", "plate"})
    formats.write(formats.read(tmp_path / "set"), tmp_path / "copy", "folder")
    assert read(tmp_path / "copy") == (rows, {})
    with pytest.raises(SystemExit):
        main(["teach", str(tmp_path / "set"), "--out", str(tmp_path / "model"), "--no-cache"])
    assert "is split into train, val; name one of them: --split" in capsys.readouterr().err


def test_folders_in_folders_are_refused_by_all(tmp_path: Path) -> None:
    photos(tmp_path, "animals/cat/0.jpg", "animals/dog/1.jpg", "vehicles/car/2.jpg")
    for verb in (lambda: check(tmp_path), lambda: formats.read(tmp_path), lambda: checked_images(tmp_path, keep=False)):
        with pytest.raises(DataError, match=r"animals/cat, animals/dog, vehicles/car\), and either may be the classes"):
            verb()
    assert read(tmp_path / "animals")[0] == {(None, "cat"): 1, (None, "dog"): 1}


def test_a_folder_around_the_class_folders_is_no_class(tmp_path: Path) -> None:
    photos(tmp_path, "data/cup/0.jpg", "data/plate/1.jpg")
    (tmp_path / "__MACOSX/data").mkdir(parents=True)
    (tmp_path / "__MACOSX/data/._0.jpg").write_bytes(b"x")
    samples, _ = checked_images(tmp_path, keep=False)
    assert [s.label for s in samples] == ["cup", "plate"]
    assert set(check(tmp_path, near=False)["sets"][0]["per_class"]) == {"cup", "plate"}


def test_files_that_were_not_read_stay_an_error_in_a_copy(tmp_path: Path) -> None:
    photos(tmp_path / "set", "cup/0.jpg", "plate/1.jpg")
    for name in ("cup/0.json", "boxes/0.npy"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_text('{"shapes": []}')
    (tmp_path / "set/plate/1.xml").write_text("<x/>")
    report = check(tmp_path / "set", near=False)
    assert {f["code"] for f in report["findings"] if f["severity"] == "error"} == {"unread_labels"}
    assert any("is XML named like an image" in f["text"] for f in report["findings"])
    result = repair(tmp_path / "set", tmp_path / "copy")
    assert not result["ok"] and not check(tmp_path / "copy", near=False)["ok"]
    mvtec(tmp_path / "masked")
    repair(tmp_path / "masked", tmp_path / "other")
    assert "ground_truth is no class" in read(tmp_path / "other")[1]["unread_labels"]


@pytest.mark.parametrize("line", ["0 10 12 60 40", "0 10 10 50 10 50 60 10 60"])
def test_yolo_in_pixels_is_no_box_around_all(line: str, tmp_path: Path) -> None:
    m = photos(tmp_path / "set", "images/0.jpg")
    m.write("labels/0.txt", f"{line}\n")
    m.write("classes.txt", "cup\n")
    (found,) = [f for f in check(m.place, near=False)["findings"] if f["severity"] == "error"]
    assert found["code"] == "broken_label" and "in pixels as it seems" in found["text"]
    repair(m.place, tmp_path / "copy")
    assert [s.objects for s in formats.read(tmp_path / "copy")] == [None]


def test_what_nobody_labeled_is_not_called_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(tmp_path, "images/0.jpg", "images/1.jpg")
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", str(tmp_path)])
    out = capsys.readouterr().out
    assert "nothing to train on: no image is labeled" in out and "fit to train on" not in out
    assert not check(tmp_path, near=False)["ok"]
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", str(tmp_path), "--fix", str(tmp_path.parent / "copy")])
    assert "no image of the copy is labeled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("photos_at", "masks_at"),
    [(("cat", "dog"), "drawn"), (("shots",), "out"), (("train/cat", "train/dog"), "train/drawn")],
)
def test_masks_in_a_folder_that_no_word_tells(photos_at: tuple[str, ...], masks_at: str, tmp_path: Path) -> None:
    m = Maker(11, tmp_path)
    shelf = masks_at.replace(masks_at.rpartition("/")[2], "shelf")
    for at in (*photos_at, shelf):
        for i in range(3):
            m.photo(f"{at}/{at[-1]}{i}.jpg")
            if at != shelf:
                m.save(STORED["0/255"][0](m.areas()), f"{masks_at}/{at[-1]}{i}.png")
    with pytest.raises(DataError, match=f"each looks like a mask of the photo of its name, so {masks_at} is no class"):
        list(formats.read(tmp_path))
    report = check(tmp_path, near=False)
    assert masks_at.rpartition("/")[2] not in report["sets"][0]["per_class"] and not report["ok"]
    for i, path in enumerate(sorted((tmp_path / masks_at).iterdir())):
        path.rename(path.with_name(f"own{i}.png"))  # a class of drawings
    assert masks_at.rpartition("/")[2] in check(tmp_path, near=False)["sets"][0]["per_class"]


def test_classes_that_are_numbered_alike_are_no_masks(tmp_path: Path) -> None:
    m = Maker(12, tmp_path)
    for i in range(3):
        m.photo(f"a/{i}.png")
        m.photo(f"b/{i}.png")
        m.save(STORED["0/255"][0](m.areas()), f"logo/{i}.png")
    assert set(check(tmp_path, near=False)["sets"][0]["per_class"]) == {"a", "b", "logo"}


@pytest.mark.parametrize(
    ("deep", "beside"),
    [
        (("train/cat", "train/dog"), ("test1",)),
        (("seg_train/cat", "seg_train/dog"), ("seg_pred",)),
        (("augmented/cat", "augmented/dog"), ("cat", "dog")),
        (("train/cat", "train/dog", "test/cat", "test/dog"), ("samples",)),
        (("crops/cat", "crops/dog"), ("images",)),
    ],
)
def test_folders_around_classes_beside_folders_of_images(
    deep: tuple[str, ...], beside: tuple[str, ...], tmp_path: Path
) -> None:
    photos(tmp_path, *(f"{at}/{at.replace('/', '')}{i}.jpg" for at in (*deep, *beside) for i in range(2)))
    with pytest.raises(DataError, match=f"folders in folders.*{deep[-2]}.* either may be the classes"):
        formats.read(tmp_path)


def test_classes_with_folders_of_their_own_beside_classes_without(tmp_path: Path) -> None:
    photos(tmp_path, "cup/monday/0.jpg", "cup/tuesday/1.jpg", "plate/2.jpg", "plate/close/3.jpg")
    assert {name: c["images"] for name, c in check(tmp_path, near=False)["sets"][0]["per_class"].items()} == {
        "cup": 2, "plate": 2,
    }  # fmt: skip


@pytest.mark.parametrize("at", ["cat/cat{}", "{}", "images/{}"])
def test_masks_beside_the_photographs_that_differ_in_the_suffix_alone(at: str, tmp_path: Path) -> None:
    m = Maker(13, tmp_path)
    for i in range(3):
        m.photo(at.format(i) + ".jpg")
        m.save(STORED["ids"][0](m.areas()), at.format(i) + ".png")
    (held,) = check(tmp_path, near=False)["sets"]
    assert (held["format"], held["images"], held["labeled"]) == ("pairs .png", 3, 3)
    assert check(tmp_path, near=False, masks=".png")["sets"] == [held]
    for i in range(3):
        m.photo(at.format(i) + ".png")  # now both are photographs
    with contextlib.suppress(DataError):
        assert not [s for s in check(tmp_path, near=False)["sets"] if s["format"].startswith("pairs")]


def test_pictures_that_look_like_masks_and_pair_with_nothing_are_an_error(tmp_path: Path) -> None:
    """DRIVE's vessels, beside masks of the field of view that do pair."""
    m = Maker(14, tmp_path)
    for i in range(3):
        m.photo(f"training/images/{i}_training.tif")
        m.save(STORED["0/255"][0](m.areas()), f"training/1st_manual/{i}_manual1.gif")
        m.save(STORED["0/255"][0](m.areas()), f"training/mask/{i}_training_mask.gif")
    report = check(tmp_path, near=False)
    (error,) = [f for f in report["findings"] if f["severity"] == "error"]
    assert "1st_manual" in error["text"] and "no name says of which image it is" in error["text"]
    assert report["account"]["counts"]["unread"] == 3


def test_a_folder_that_is_called_unlabeled_is_no_class(tmp_path: Path) -> None:
    photos(tmp_path, "cup/0.jpg", "plate/1.jpg", "Unlabeled/2.jpg", "Unlabeled/3.jpg")
    report = check(tmp_path, near=False)
    assert set(report["sets"][0]["per_class"]) == {"cup", "plate"} and report["sets"][0]["unlabeled"] == 2
    assert report["ok"] and "which is read as images of no class" in str(report["findings"])
