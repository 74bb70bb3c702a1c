"""`handful data check`: a sound set is sound, each kind of fault is found where it was planted, none is invented."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.curate.check import check, ensure
from handful.curate.repair import repair
from handful.data.finding import CODES, OLD_CODES, SEVERITIES, Finding, known_codes, stop
from handful.data.masks import write_ids
from handful.errors import DataError, UnknownName
from tests.data.planted import FAULTS, Planted, photographs

# what follows from another planted fault, and is told beside it
FOLLOWS = {
    "missing_image": {"missing_mask"}, "name_clash": {"missing_mask"}, "symlink_outside": set(),
    "wrong_case_name": set(), "unsafe_path": set(), "same_image_twice": {"missing_mask"},
    "same_image_across_splits": {"missing_mask"}, "near_duplicate": {"missing_mask"},
    "near_duplicate_across_splits": {"missing_mask"}, "mask_not_ids": set(), "size_mismatch": set(),
    "duplicate_image_id": {"unlabeled_image", "orphan_label"},
    "category_twins": {"class_without_samples"},
}  # fmt: skip


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Planted(tmp_path_factory.mktemp("sound") / "set").root


def planted(sound: Path, to: Path) -> Planted:
    shutil.copytree(sound, to)
    found = object.__new__(Planted)
    found.root, found.number = to, 10_000
    found.json = {s: json.loads((to / f"instances_{s}.json").read_text()) for s in ("train", "val")}
    return found


def rows(report: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [row for row in report["findings"] if row["code"] == code]


def test_a_sound_set_is_sound(sound: Path) -> None:
    report = check(sound)
    assert report["findings"] == []
    assert report["ok"] is True
    assert [(part["format"], part["images"], part["labeled"]) for part in report["sets"]] == [
        ("coco", 54, 54), ("masks", 54, 54)]  # fmt: skip
    assert report["sets"][0]["per_class"]["cat"]["objects"] == 36
    assert report["sets"][1]["per_class"]["cup"]["pixels"] == 18 * 50 * 70


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_found_alone(code: str, sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    plant, names = FAULTS[code]
    plant(here)
    report = check(here.save())
    found = rows(report, code)
    assert len(found) == 1, [row for row in report["findings"]]
    assert names in json.dumps(found[0]), found[0]
    assert {row["code"] for row in report["findings"]} - {code} <= FOLLOWS.get(code, set())
    assert report["ok"] is (
        CODES[code].severity != "error" and not any(r["severity"] == "error" for r in report["findings"])
    )


def test_all_faults_at_once_are_all_found_and_none_invented(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    for plant, _ in FAULTS.values():
        plant(here)
    report = check(here.save())
    counts = Counter(row["code"] for row in report["findings"])
    assert len(FAULTS) >= 30
    # an image whose entry was spoiled is one that nothing names
    assert counts.keys() - {"unused_image"} == FAULTS.keys()
    for code, (_, names) in FAULTS.items():
        assert any(names in json.dumps(row) for row in rows(report, code)), code


def test_every_code_there_is_can_be_seen() -> None:
    elsewhere = {"unsafe_xml", "unreadable_labels", "not_an_image", "no_label_map", "empty_class_folder", "one_image",
                 "same_image_in_two_classes", "frame_gap", "other_split", "ambiguous_image", "moved_name", "no_size",
                 "missing_split", "flat_outline", "box_off_image", "category_clash", "category_mismatch", "other_task",
                 "two_label_files", "shared_label_file", "lfs_pointer", "linked_folder", "unheld_mark",
                 "several_classes", "folder_mismatch", "class_count", "unread_angle", "box_in_fractions",
                 "box_in_corners", "unsaid_keypoints",
                 "other_filename",
                 "several_answers", "turned_box",
                 # tests/data/test_pairs.py
                 "soft_mask", "unread_labels", "unused_image", "ignored_class"}  # fmt: skip
    assert set(CODES) == set(FAULTS) | elsewhere
    assert all(kind.severity in SEVERITIES and kind.text and kind.repair for kind in CODES.values())


def test_the_value_the_file_and_the_pixels_are_named(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    FAULTS["label_outside_map"][0](here)
    (row,) = rows(check(here.save()), "label_outside_map")
    assert (row["file"], row["value"], row["count"]) == ("masks/train/train014.png", 77, 25)
    assert "0 to 3" in row["text"]


def test_a_repaired_copy_has_no_errors_and_the_original_is_untouched(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    for code, (plant, _) in FAULTS.items():
        if code != "category_twins":  # only a person can say which name is right
            plant(here)
    here.save()
    before = {p: p.read_bytes() for p in here.root.rglob("*") if p.is_file()}
    result = repair(here.root, tmp_path / "copy")
    assert {p: p.read_bytes() for p in here.root.rglob("*") if p.is_file()} == before
    assert result["ok"], [row for row in result["findings"] if row["severity"] == "error"]
    errors = {code for code in FAULTS if CODES[code].severity == "error"} - {"category_twins"}
    assert errors <= {row["code"] for row in result["repairs"]}
    assert json.loads((tmp_path / "copy.repairs.json").read_text())["repairs"] == result["repairs"]
    with pytest.raises(DataError, match="exists"):
        repair(here.root, tmp_path / "copy")
    with pytest.raises(DataError, match="lies inside"):
        repair(here.root, here.root / "copy")


def test_a_sound_set_is_mended_into_itself(sound: Path, tmp_path: Path) -> None:
    result = repair(sound, tmp_path / "copy")
    assert result["repairs"] == []
    assert result["differences"] == {"coco": [], "masks": []}


def test_the_photo_turned_by_exif_is_saved_as_its_labels_see_it(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    raw = np.asarray(PIL_Image.open(here.path(0, "val")).convert("RGB"))
    FAULTS["exif_against_labels"][0](here)
    repair(here.save(), tmp_path / "copy", format="coco")
    saved = np.asarray(PIL_Image.open(tmp_path / "copy/images/val/val000.png"))
    assert saved.shape == raw.shape
    assert np.abs(saved.astype(int) - raw).mean() < 4  # one more JPEG of the same picture, unturned


def test_what_was_seen_is_kept_and_a_change_is_seen(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    cache = tmp_path / "cache"
    first = check(here.root, cache=cache)
    assert first["ok"] and check(here.root, cache=cache) == first
    FAULTS["unreadable_image"][0](here)
    again = check(here.root, cache=cache)
    assert not again["ok"] and again["sha256"] != first["sha256"]


def test_a_kept_report_is_really_used(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first = check(sound, cache=cache)
    monkeypatch.setattr("handful.curate.check.inspect", lambda *a, **k: pytest.fail("looked again"))
    assert check(sound, cache=cache) == first


def test_training_does_not_begin_on_a_faulty_set(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    FAULTS["box_no_area"][0](here)
    FAULTS["tiny_object"][0](here)
    FAULTS["wrong_area"][0](here)
    here.save()
    with pytest.raises(DataError, match=r"box_no_area.*--fix.*--allow box_no_area"):
        ensure(here.root)
    assert any("area" in line for line in ensure(here.root, allow=["box_no_area"]))


def folder_set(root: Path) -> Path:
    for i, photo in enumerate(photographs(6)):
        path = root / ("cat", "dog")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path, quality=92)
    return root


def test_class_folders(tmp_path: Path) -> None:
    root = folder_set(tmp_path / "set")
    assert check(root)["findings"] == []
    (root / "empty").mkdir()
    (root / "lone").mkdir()
    shutil.copy(root / "cat" / "0.jpg", root / "dog" / "cat.jpg")
    photographs(7)[6].save(root / "lone" / "1.jpg")
    (root / "cat" / "notes.txt").write_text("x")
    found = {row["code"]: row for row in check(root)["findings"]}
    assert found.keys() == {"empty_class_folder", "same_image_in_two_classes", "one_image", "not_an_image"}
    assert found["same_image_in_two_classes"]["file"] == "cat/0.jpg"
    assert found["empty_class_folder"]["file"] == "empty"
    assert found["not_an_image"]["value"] == ["cat/notes.txt"]


def test_masks_without_names(tmp_path: Path, sound: Path) -> None:
    shutil.copytree(sound / "images", tmp_path / "set" / "images")
    shutil.copytree(sound / "masks", tmp_path / "set" / "masks")
    report = check(tmp_path / "set")
    assert [row["code"] for row in report["findings"]] == ["no_label_map"]
    assert list(report["sets"][0]["per_class"]) == ["0", "1", "2", "3"]


def test_label_files_that_cannot_be_read(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    (here.root / "instances_train.json").write_text('{"images": [')
    report = check(here.root)
    (row,) = rows(report, "unreadable_labels")
    assert row["file"] == "instances_train.json"
    assert not report["ok"]


def test_the_one_line_of_a_finding() -> None:
    with pytest.raises(DataError, match=r"^a\.png: holds 7; repair it.*set to ignore"):
        stop(Finding("label_outside_map", "a.png", 7, detail="holds 7"))
    stop(Finding("tiny_object", "a.png"))


def test_real_folders_with_their_known_flaws(data: Path) -> None:
    found = {p: check(data / p) for p in ("coco-mini", "msrc-seg", "camvid", "davis2016", "cifar10", "grocery",
                                          "product-iconic", "office-amazon", "fewshot-det")}  # fmt: skip
    assert {p: len(r["sets"]) for p, r in found.items()} == {
        "coco-mini": 4, "msrc-seg": 2, "camvid": 1, "davis2016": 1, "cifar10": 1, "grocery": 1, "product-iconic": 1,
        "office-amazon": 1, "fewshot-det": 2}  # fmt: skip
    assert rows(found["office-amazon"], "same_image_twice")
    assert rows(found["product-iconic"], "unlabeled_image")[0]["count"] == 81
    assert rows(found["coco-mini"], "no_license")
    assert all(row["severity"] != "error" for r in found.values() for row in r["findings"])


def test_a_mask_that_names_no_class_costs_only_its_pixels(sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    FAULTS["label_outside_map"][0](here)
    result = repair(here.save(), tmp_path / "copy", format="masks", masks="masks")
    ids = np.array(PIL_Image.open(tmp_path / "copy/masks/train/train014.png"))
    assert (ids[:5, :5] == 255).all() and (ids == 255).sum() == 25
    assert [d["what"] for d in result["differences"]["masks"]] == []
    write_ids(tmp_path / "x.png", ids)
    assert (np.array(PIL_Image.open(tmp_path / "x.png")) == ids).all()


def test_codes_by_their_old_names() -> None:
    assert known_codes(["not_a_photo", "no_licence", "tiny_object"]) == ("not_an_image", "no_license", "tiny_object")
    assert set(OLD_CODES.values()) <= set(CODES) and not set(OLD_CODES) & set(CODES)
    with pytest.raises(UnknownName, match=r"tiny_objet.*did you mean 'tiny_object'"):
        known_codes(["tiny_objet"])
