"""What `handful data check` proposes about a data set, followed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful.curate.check import ensure
from handful.data import formats
from handful.data.finding import CODES, KEPT, by_hand
from handful.errors import DataError
from tests.conftest import opened, save
from tests.curate import test_repair as sets
from tests.cures.desk import Desk, Test, cures
from tests.data.layouts import STORED, Maker
from tests.data.planted import FAULTS, Planted
from tests.data.reports import photos, write

BY_HAND: dict[str, str] = {}  # code -> the test that does what a person is told to do


def by_hand_of(code: str) -> Callable[[Test], Test]:
    """A test that follows the advice about a code which --fix leaves to a person."""

    def mark(test: Test) -> Test:
        BY_HAND[code] = test.__name__
        return test

    return mark


def test_every_code_has_a_cure() -> None:
    """What --fix does is tried in tests/curate/test_repair.py, code by code; what a person has to do, here."""
    fixed = sets.PLANTED.keys() | sets.ELSEWHERE.keys()
    for code, kind in CODES.items():
        if kind.repair != KEPT:
            assert (code in fixed) != (code in BY_HAND), code
    assert set(BY_HAND) == {code for code in CODES if by_hand(code) is not None}


def boxes(root: Path, **more: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    return sets.saved(root, sets.coco(root, **more))  # type: ignore[arg-type]


def faulty(root: Path, several: int = 1) -> Path:
    """Boxes of which some leave their image."""
    root.mkdir(parents=True)
    value = sets.coco(root, many=several + 1)
    for row in value["annotations"][:several]:
        row["bbox"] = [20, 10, 60, 15]
    return sets.saved(root, value)


@cures("cli.verbs_data:told handful data check", "data.finding:ways_on handful data check",
       "data.finding:ways_on --fix", "cli.findings:table --fix", "cli.findings:table --json")  # fmt: skip
def test_a_copy_is_repaired_by_the_command_that_is_printed(desk: Desk) -> None:
    said = desk.no("data", "check", faulty(desk.at("set"), 5))
    desk.yes(*said.command("data check", COPY=desk.at("copy")))
    assert "box_outside" not in desk.yes("data", "check", desk.at("copy"))
    told = desk.yes("data", "stats", sets._captions(desk.at("captions")), "--out", desk.at("stats"))
    assert "other_task" in desk.yes(*told.command("data check"))
    rows = json.loads(desk.tells("data", "check", desk.at("set"), *said.option("--json")))["findings"]
    assert len([row for row in rows if row["code"] == "box_outside"]) == 5


def test_no_copy_is_proposed_where_only_a_person_can_help(desk: Desk) -> None:
    root = desk.at("set")
    root.mkdir()
    said = desk.no("data", "check", boxes(root, categories=[{"id": 1, "name": "mug"}, {"id": 2, "name": "Mug"}]))
    assert "--fix" not in said and "by hand: join or rename them" in said


@cures("curate.check:ensure handful data check", "curate.check:ensure --allow")
def test_all_that_stands_in_the_way_is_allowed_at_once(desk: Desk) -> None:
    root = faulty(desk.at("set"))
    (root / "images/1.jpg").write_bytes(b"")
    chips = ["data", "chips", root, "--out", desk.at("chips"), "--proposer", "none", "--split", ""]
    said = desk.no(*chips)
    desk.tells(*said.command("data check"))
    allowed = said.partition("all the same: ")[2].split()
    assert allowed.count("--allow") == 2
    desk.yes(*chips, *allowed)


def test_what_would_leave_nothing_is_not_proposed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    place = sets.ELSEWHERE["ambiguous_image"][0](tmp_path / "set")
    with pytest.raises(DataError) as caught:
        ensure(place)
    assert "--fix COPY" in str(caught.value) and "--allow" not in str(caught.value)


@cures("data.finding:stop handful data check", "data.finding:stop --fix",
       "data.finding:SEE_ALL handful data check")  # fmt: skip
def test_a_reader_that_stops_says_how_to_see_all_and_to_go_on(desk: Desk) -> None:
    root = faulty(desk.at("set"))
    said = desk.no("data", "convert", root, desk.at("voc"), "--to", "voc")
    repair, see = said.commands("data check", FOLDER=root, COPY=desk.at("copy"))
    desk.tells(*see)
    desk.yes(*repair)
    desk.yes("data", "convert", desk.at("copy"), desk.at("voc"), "--to", "voc", "--allow-loss")


@by_hand_of("unread_labels")
@cures("data.suspects:report_unread --format")
def test_labels_that_were_not_read_are_named(desk: Desk) -> None:
    root = sets.folders(desk.at("set"))
    table = "filename,xmin,ymin,xmax,ymax,class\n" + "".join(f"{i}.jpg,1,2,30,20,mug\n" for i in range(4))
    (root / "labels.csv").write_text(table)
    said = desk.no("data", "check", root, "--format", "folder")
    assert "unread_labels" not in desk.yes("data", "check", root, *said.option("--format"), "csv_boxes")
    (root / "labels.csv").rename(desk.at("labels.csv"))  # or: they are no labels
    desk.yes("data", "check", root, "--format", "folder")


@by_hand_of("unsaid_keypoints")
@cures("data.fractions:tell say")
def test_keypoints_of_which_nothing_says_how_many_there_are(desk: Desk) -> None:
    points = " ".join(f"{0.4 + 0.02 * i:.2f} {0.6 - 0.02 * (i % 3):.2f}" for i in range(6))
    config = "train: images\nval: images\nnames: [mug]\n"
    root = sets.yolo(desk.at("set"), config, **dict.fromkeys("abcd", f"0 0.5 0.5 0.4 0.4 {points}\n"))
    said = desk.no("data", "check", root)
    assert by_hand("unsaid_keypoints") in said and "kpt_shape: [6, 2]" in said
    (root / "data.yaml").write_text(config + "kpt_shape: [6, 2]\n")
    desk.yes("data", "check", root)


@by_hand_of("box_in_corners")
@cures("data.fractions:tell write")
def test_boxes_in_corners_are_written_with_their_sides(desk: Desk) -> None:
    rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 25], "area": 300} for i in range(3)]
    desk.at("set").mkdir()
    value = sets.coco(desk.at("set"), many=3)
    root = sets.saved(desk.at("set"), {**value, "annotations": rows})
    assert by_hand("box_in_corners") in desk.no("data", "check", root)
    sets.saved(root, {**value, "annotations": [{**row, "bbox": [5, 5, 15, 20]} for row in rows]})
    desk.yes("data", "check", root)


@by_hand_of("box_in_fractions")
@cures("data.fractions:tell multiply")
def test_boxes_in_fractions_are_multiplied(desk: Desk) -> None:
    rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0.25, 0.2, 0.5, 0.4], "area": 0.2} for i in range(3)]
    root = desk.at("set")
    root.mkdir()
    value = sets.coco(root, many=3)
    sets.saved(root, {**value, "annotations": rows})
    assert by_hand("box_in_fractions") in desk.no("data", "check", root)
    rows = [{**row, "bbox": [10, 6, 20, 12], "area": 240} for row in rows]  # of 40x30 px
    sets.saved(root, {**value, "annotations": rows})
    desk.yes("data", "check", root)


@by_hand_of("category_twins")
def test_classes_of_one_name_are_renamed(desk: Desk) -> None:
    root = boxes(desk.at("set"), categories=[{"id": 1, "name": "mug"}, {"id": 2, "name": "Mug"}])
    assert by_hand("category_twins") in desk.no("data", "check", root)
    value = json.loads((root / "annotations.json").read_text())
    value["categories"][1]["name"] = "dish"
    sets.saved(root, value)
    desk.yes("data", "check", root)


@by_hand_of("linked_folder")
def test_a_linked_class_is_put_in_its_place(desk: Desk) -> None:
    root = sets.folders(desk.at("set"))
    shutil.move(root / "cup", desk.at("cups"))
    (root / "cup").symlink_to(desk.at("cups"))
    said = desk.no("data", "check", root)
    words = said.after("in their places: ", FOLDER=root, COPY=desk.at("copy"))
    subprocess.run(words, check=True)
    assert "linked_folder" not in desk.yes("data", "check", desk.at("copy"))


@by_hand_of("same_image_in_two_classes")
def test_an_image_in_two_classes_is_decided(desk: Desk) -> None:
    root = sets.folders(desk.at("set"))
    shutil.copy(root / "cup/0.jpg", root / "dish/again.jpg")
    assert "same_image_in_two_classes" in desk.yes("data", "check", root)
    (root / "dish/again.jpg").unlink()
    assert "same_image_in_two_classes" not in desk.yes("data", "check", root)


@by_hand_of("near_duplicate_across_splits")
def test_near_duplicates_are_divided_anew(desk: Desk) -> None:
    here = Planted(desk.at("set"))
    shutil.rmtree(here.root / "masks")
    (here.root / "labels.json").unlink()
    FAULTS["near_duplicate_across_splits"][0](here)
    said = desk.yes("data", "check", here.save())
    assert "near_duplicate_across_splits" in said
    advice = by_hand("near_duplicate_across_splits")
    assert advice is not None
    words = advice.removeprefix("use handful ").split()
    desk.yes(*words, here.root, "--out", desk.at("parts"))
    assert "near_duplicate_across_splits" not in desk.yes("data", "check", desk.at("parts"))


@by_hand_of("ignored_class")
def test_a_class_that_is_read_as_not_labeled_gets_its_number(desk: Desk) -> None:
    m = Maker(4, desk.at("set"))
    for i in range(3):
        m.photo(f"images/{i}.jpg")
        m.save(STORED["0/255"][0](m.areas()), f"masks/{i}.png")
    m.write("labels.json", json.dumps({"labels": {"0": "background", "1": "person"}, "ignore": 255}))
    said = desk.no("data", "check", desk.at("set"))
    advice = by_hand("ignored_class")
    assert "ignored_class" in said and advice is not None and advice in said
    for i in range(3):
        ids = np.array(opened(desk.at("set", f"masks/{i}.png")))
        save(np.where(ids == 255, 1, ids).astype(np.uint8), desk.at("set", f"masks/{i}.png"))
    desk.yes("data", "check", desk.at("set"))


@by_hand_of("lfs_pointer")
def test_lfs_pointers_are_fetched_by_git(desk: Desk) -> None:
    """`git lfs pull` itself needs a server; here the file takes its pointer's place, as it does."""
    root = sets.folders(desk.at("set"))
    whole = (root / "cup/0.jpg").read_bytes()
    (root / "cup/0.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    said = desk.no("data", "check", root)
    assert "lfs_pointer" in said and "run git lfs pull" in said
    (root / "cup/0.jpg").write_bytes(whole)
    desk.yes("data", "check", root)


@cures("data.looks:HOW handful data convert", "data.looks:HOW --to --mask-threshold")
def test_soft_masks_are_made_hard(desk: Desk) -> None:
    root = desk.at("set")
    sets._soft(root)
    said = desk.no("data", "check", root)
    desk.yes(*said.command("data convert", FOLDER=root, COPY=desk.at("copy")))
    desk.yes("data", "check", desk.at("copy"))
    assert all(s.mask is not None for s in formats.read(desk.at("copy")))


@by_hand_of("folder_mismatch")
@cures("data.against_folders:_tell --format")
def test_labels_against_folders(desk: Desk) -> None:
    rows = "file,label\na.jpg,b\nb.jpg,a\n"
    root = write(desk.at("set"), {**photos("a/a.jpg", "b/b.jpg"), "labels.csv": rows})
    said = desk.no("data", "check", root)
    assert "csv_classes" in desk.yes("data", "check", root, *said.value("--format"))
    (root / "labels.csv").unlink()
    assert "folder " in desk.yes("data", "check", root)
