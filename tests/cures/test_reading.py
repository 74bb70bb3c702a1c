"""How labels are to be read: what a message tells to say is said, and they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.curate import test_repair as sets
from tests.cures.desk import Desk, cures
from tests.data.layouts import STORED, Maker
from tests.data.test_coco_images import ABC, laid, picture


def masks(place: Path, *trees: str, photos: str = "images", spoil: bool = False) -> Path:
    """Photographs, and a folder of masks of them for each of `trees`."""
    m = Maker(7, place)
    for i in range(4):
        m.photo(f"{photos}/{i}.jpg")
        for tree in trees:
            m.save(STORED["ids"][0](m.areas()), f"{tree}/{i}{'' if not spoil else chr(97 + i)}.png")
    return place


@cures("data.coco_images:_say --images")
def test_images_that_lie_elsewhere(desk: Desk) -> None:
    root = laid(desk.at("set"), [], {"boxes.json": ABC})
    for name in ABC:
        picture(desk.at("pictures", name))
    said = desk.no("data", "check", root)
    words = said.after("say so: ", FOLDER=desk.at("pictures"))
    assert words == [str(root / "boxes.json"), "--images", str(desk.at("pictures"))]
    desk.yes("data", "check", *words)
    chips = ["--out", desk.at("chips"), "--split", "boxes", "--proposer", "none"]
    desk.yes("data", "chips", *words, *chips)


def test_images_that_lie_twice(desk: Desk) -> None:
    root = laid(desk.at("set"), [], {"boxes.json": ABC})
    for name in ABC:
        picture(root / "one" / name)
        picture(root / "two" / name)
    said = desk.no("data", "check", root)
    words = said.after("as in ")
    assert words[1] == "--images" and Path(words[2]).parent == root
    assert "ambiguous_image" not in desk.run("data", "check", *words)


@cures("data.coco_images:_tell_links say")
def test_images_behind_a_link(desk: Desk) -> None:
    root = laid(desk.at("set"), [], {"annotations/instances_train.json": ABC})
    for name in ABC:
        picture(desk.at("pictures", name))
    (root / "images").symlink_to(desk.at("pictures"))
    words = desk.no("data", "check", root).after("that those are meant: ")
    desk.yes("data", "check", *words)
    (root / "images").unlink()
    shutil.copytree(desk.at("pictures"), root / "images")
    desk.yes("data", "check", root)


@cures("data.coco_images:_unmix put")
def test_labels_that_only_fit_the_images_of_another_split(desk: Desk) -> None:
    names = {"annotations/instances_train.json": ABC, "annotations/instances_val.json": ABC}
    root = laid(desk.at("set"), [f"train/{name}" for name in ABC], names)
    said = desk.no("data", "check", root)
    words = said.after("that those are meant: ")
    assert "ambiguous_image" not in desk.run("data", "check", *words)
    shutil.copytree(root / "train", root / "val")
    assert "ambiguous_image" not in desk.run("data", "check", root)


@cures("data.formats:sources --flat", "data.formats:sources give", "data.format_folder:_of --flat")
def test_loose_images(desk: Desk) -> None:
    for name in ("cat", "cup"):
        picture(desk.at("photos", f"{name}.png"))
    said = desk.no("data", "check", desk.at("photos"))
    desk.run("data", "check", desk.at("photos"), *said.option("--flat"))
    desk.yes("data", "stats", desk.at("photos"), "--out", desk.at("stats"), *said.option("--flat"))
    said = desk.no("data", "check", desk.at("photos"), "--format", "folder")
    desk.yes("data", "stats", desk.at("photos"), "--out", desk.at("stats"), *said.option("--flat"))
    said = desk.no("train", "classify", desk.at("photos"), "--out", desk.at("m"), "--epochs", 1)
    assert "--flat" not in said and "folder for each class" in said
    for name in ("cat", "cup"):
        desk.at("photos", name).mkdir()
        desk.at("photos", f"{name}.png").rename(desk.at("photos", name, "0.png"))
    assert "unlabeled" in desk.yes("data", "check", desk.at("photos"))
    deep = desk.at("1/2/3/4/5/set")
    laid(deep, ABC, {"boxes.json": ABC})
    assert "give the folder where a set begins" in desk.no("data", "check", desk.at("1"))
    desk.yes("data", "check", deep)


@cures("data.format_masks:read --masks-in", "data.format_masks:read name", "data.formats:one name",
       "data.formats:_choice --format")  # fmt: skip
def test_several_folders_of_masks(desk: Desk) -> None:
    root = masks(desk.at("set"), "masks", "other masks")
    said = desk.no("data", "split", root)
    for choice in said.partition("name one: ")[2].strip().split("; "):
        desk.yes("data", "split", root, *desk.told(choice).value("--masks-in"))
    said = desk.no("data", "split", root, "--format", "masks")
    desk.yes("data", "split", root, "--format", "masks", *said.after("as in: "))
    boxed = sets.saved(desk.at("boxed"), sets.coco(desk.at("boxed"))) if desk.at("boxed").mkdir() is None else root
    m = Maker(3, boxed)
    for i in range(2):
        m.save(STORED["ids"][0](m.areas()).resize((40, 30)), f"masks/{i}.png")
    said = desk.no("data", "split", boxed)
    assert "--masks-in masks" in said
    desk.yes("data", "split", boxed, *said.value("--format"), "--part", "a=0.5", "--part", "b=0.5", "--no-near")
    assert "unread_labels" not in desk.run("data", "check", boxed, *said.value("--format"))
    assert "unread_labels" not in desk.run("data", "check", boxed, *said.value("--masks-in"))


@cures("data.format_pairs:read --images --masks-in", "data.format_pairs:read say",
       "data.pairing:told --images --masks-in", "data.pairing:told give")  # fmt: skip
def test_photographs_and_masks_whose_names_do_not_pair(desk: Desk) -> None:
    root = masks(desk.at("set"), "drawn", photos="shots")
    for i in range(4):
        (root / f"drawn/{i}.png").rename(root / f"drawn/by_hand_{i}_of_four.png")
    said = desk.no("data", "check", root, "--format", "pairs")
    how = [*said.value("--images"), *said.value("--masks-in")]
    assert how == ["--images", "a/{}.jpg", "--masks-in", "b/{}_mask.png"]  # a pattern for each: here they are others
    own = [how[0], "shots/{}.jpg", how[2], "drawn/by_hand_{}_of_four.png"]
    said = desk.no("data", "check", root, "--format", "pairs", *own[2:])
    assert said.after("give both: ") == how
    desk.yes("data", "check", root, *own)


@cures("data.format_pairs:read --masks-in #2", "data.format_pairs:read name")
def test_several_pairs(desk: Desk) -> None:
    root = masks(desk.at("set"), "masks", "seg", photos="imgs")
    said = desk.no("data", "split", root, "--format", "pairs")
    desk.yes("data", "split", root, "--format", "pairs", *said.after("as in: "))


@cures("data.pairing:how_to_read --format --masks-in")
def test_masks_that_were_taken_for_a_class(desk: Desk) -> None:
    root = masks(desk.at("set"), "my masks", photos="shots")
    said = desk.no("data", "check", root, "--format", "folder")
    desk.yes("data", "check", root, *said.after("to read them: "))


@cures("data.format_folder:_masks_among move")
def test_masks_beside_the_photographs_of_class_folders(desk: Desk) -> None:
    m = Maker(7, desk.at("set"))
    for name in ("cup", "plate"):
        for i in range(2):
            m.photo(f"{name}/{name}{i}.jpg")
            m.save(STORED["ids"][0](m.areas()), f"{name}/{name}{i}_seg.png")
    words = ["teach", desk.at("set"), "--out", desk.at("m"), "--backbone", "lite0", "--frame", "64x64"]
    said = desk.no(*words)
    assert "copy" not in said  # one with the masks read would hold no classes of images
    assert "2 classes" in desk.yes(*words, *said.value("--allow")) and "4 images" in desk.yes(*words, "--overwrite",
                                                                            *said.value("--allow"))  # fmt: skip
    for mask in desk.at("set").glob("*/*.png"):
        mask.unlink()
    assert "4 images" in desk.yes(*words, "--overwrite")


@cures("data.class_folders:how_to_pair --images --masks-in", "data.format_folder:_masks_among move #2")
def test_masks_in_a_folder_that_no_word_tells(desk: Desk) -> None:
    m = Maker(7, desk.at("set"))
    for i in range(3):
        m.photo(f"shots/{i}.jpg")
        m.photo(f"shelf/s{i}.jpg")
        m.save(STORED["0/255"][0](m.areas()), f"drawn out/{i}.png")
    said = desk.no("data", "check", desk.at("set"))
    assert "pairs" in desk.yes("data", "check", desk.at("set"), *said.after("to read them: "))
    shutil.move(desk.at("set", "drawn out"), desk.at("away"))
    desk.yes("data", "check", desk.at("set"))
    for i, path in enumerate(sorted(desk.at("away").iterdir())):
        path.rename(path.with_name(f"own{i}.png"))
    shutil.move(desk.at("away"), desk.at("set", "drawings"))
    assert "3 classes" in desk.yes("data", "check", desk.at("set"))


@cures("running:reading --to", "running:reading handful data convert")
def test_a_verb_that_cannot_say_how_a_set_is_read(desk: Desk) -> None:
    root = masks(desk.at("set"), "masks", "other masks")
    said = desk.no("train", "classify", root, "--out", desk.at("model"), "--epochs", 1)
    assert "make a copy" in said
    desk.yes(*said.command("data convert", COPY=desk.at("copy")))
    desk.yes("data", "check", desk.at("copy"))


@cures("data.class_folders:clear move")
def test_folders_in_folders(desk: Desk) -> None:
    for name in ("animals/cat", "animals/dog", "vehicles/car"):
        picture(desk.at("set", name, "0.png"))
    said = desk.no("data", "check", desk.at("set"))
    assert "a set of its own" in said
    desk.yes("data", "check", *said.after("of its own: "))
    shutil.copytree(desk.at("set"), desk.at("outer"))
    for at in ("set", "outer"):
        for inner in list(desk.at(at).glob("*/*")):
            inner.rename(desk.at(at, inner.name)) if at == "set" else (inner / "0.png").rename(f"{inner}.png")
    for outer in ("animals", "vehicles"):
        desk.at("set", outer).rmdir()
    assert "3 classes" in desk.yes("data", "check", desk.at("set"))
    assert "2 classes" in desk.yes("data", "check", desk.at("outer"))


@cures("data.formats:_read leave")
def test_an_option_that_a_format_does_not_have(desk: Desk) -> None:
    desk.at("set").mkdir()
    root = sets.saved(desk.at("set"), sets.coco(desk.at("set")))
    assert "leave it out" in desk.no("data", "check", root, "--format", "coco", "--masks-in", "masks")
    desk.yes("data", "check", root, "--format", "coco")


@cures("data.formats:_joined give", "data.formats:_joined give #2")
def test_splits_that_number_their_classes_differently(desk: Desk) -> None:
    for case, classes in (("one", ({"1": "mug"}, {"1": "dish"})), ("two", ({"1": "mug"}, {"2": "mug"}))):
        for split, names in zip(("train", "val"), classes, strict=True):
            place = masks(desk.at(case, split), "masks")
            (place / "labels.json").write_text(json.dumps({"labels": {"0": "ground", **names}, "ignore": 255}))
        said = desk.no("data", "stats", desk.at(case), "--out", desk.at("stats"))
        assert "one by one" in said
        for split in ("train", "val"):
            desk.run("data", "stats", desk.at(case, split), "--out", desk.at(f"{case}-{split}"))
