"""The data verbs as a person types them: exit codes, JSON with the documented keys, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handful.data.finding import CODES
from tests.conftest import ROOT
from tests.data.layouts import Maker
from tests.data.planted import FAULTS, Planted
from tests.test_cli import handful

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *args: object, code: int = 0) -> dict[str, Any]:
    got, out, _ = handful(capsys, *args, "--json")
    assert got == code
    value: dict[str, Any] = json.loads(out)
    assert value["schema_version"] == 1
    return value


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Planted(tmp_path_factory.mktemp("sound") / "set").root


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    here = Planted(tmp_path / "faulty")
    for code in ("box_outside", "unreadable_image", "label_outside_map", "tiny_object", "duplicate_object"):
        FAULTS[code][0](here)
    return here.save()


def test_check_says_yes_and_no(sound: Path, faulty: Path, capsys: Capture) -> None:
    report = run_json(capsys, "data", "check", sound)
    assert report["ok"] and report["findings"] == []
    report = run_json(capsys, "data", "check", faulty, code=1)
    assert not report["ok"]
    for row in report["findings"]:
        assert {"code", "severity", "file", "value", "count", "text", "repair"} == row.keys()
    code, out, _ = handful(capsys, "data", "check", faulty)
    assert code == 1
    assert "label_outside_map" in out and "train014.png" in out and "77" in out and "--fix COPY" in out
    assert "not fit to train on: 3 errors, 1 warning" in out


def test_fix_leaves_the_original_and_makes_a_sound_copy(faulty: Path, tmp_path: Path, capsys: Capture) -> None:
    result = run_json(capsys, "data", "check", faulty, "--fix", tmp_path / "copy")
    assert result["ok"]
    assert {"data", "out", "repairs", "differences", "findings", "ok"} <= result.keys()
    assert len(result["repairs"]) == 4  # a tiny object is kept
    assert handful(capsys, "data", "check", faulty)[0] == 1
    assert handful(capsys, "data", "check", tmp_path / "copy" / "coco")[0] == 0
    code, _, err = handful(capsys, "data", "check", faulty, "--fix", tmp_path / "copy")
    assert code == 2 and "exists" in err


def test_a_set_must_be_named_where_there_are_several(sound: Path, tmp_path: Path, capsys: Capture) -> None:
    code, _, err = handful(capsys, "data", "convert", sound, tmp_path / "out", "--to", "coco")
    assert code == 2
    assert err.rstrip().endswith("name one: --format coco; --masks-in masks")
    got = run_json(capsys, "data", "stats", sound, "--masks-in", "masks", "--out", tmp_path / "stats")
    assert got["format"].startswith("masks")
    assert got["account"]["counts"]["image"] == got["images"] and got["account"]["files"] > got["images"]
    code, _, err = handful(capsys, "data", "convert", sound, tmp_path / "out", "--to", "cocoa", "--format", "coco")
    assert code == 2 and "did you mean 'coco'" in err


def test_balance_split_stats(sound: Path, tmp_path: Path, capsys: Capture) -> None:
    got = run_json(capsys, "data", "balance", sound, "--format", "coco", "--out", tmp_path / "b", "--count", "12")
    assert got["written"] and got["lossless"] and got["images"] == 12 == len(got["names"])
    assert got["uneven_after"] <= got["uneven_before"] + 0.2
    assert {"cat", "cup", "rocket"} == got["class_weights"].keys() == got["after"].keys()
    assert run_json(capsys, "data", "check", tmp_path / "b")["sets"][0]["images"] == 12

    parts = ["--part", "train=0.5", "--part", "val=0.25", "--part", "test=0.25"]
    got = run_json(capsys, "data", "split", sound, "--format", "coco", "--out", tmp_path / "s", *parts)
    assert got["images"].keys() == {"train", "val", "test"} and sum(got["images"].values()) == 54
    assert run_json(capsys, "data", "check", tmp_path / "s")["sets"][0]["splits"] == got["images"]
    again = run_json(capsys, "data", "split", sound, "--format", "coco", *parts)
    assert again["of"] == got["of"] and "written" not in again

    got = run_json(capsys, "data", "stats", sound, "--format", "coco", "--out", tmp_path / "page")
    assert "cat" in (tmp_path / "page/stats.html").read_text()
    assert got["classes"]


def test_stats_tell_what_was_found(tmp_path: Path, capsys: Capture) -> None:
    """By the reader, of the last images too, and of labels that it did not read."""
    maker = Maker(6, tmp_path / "set")
    for i in range(3):
        maker.photo(f"mug/{i}.jpg")
        maker.photo(f"images/{i}.jpg")
    maker.write("slides.pptx", "words")
    words = ("data", "stats", maker.place, "--out", tmp_path / "pages")
    rows = {row["code"]: row for row in run_json(capsys, *words)["findings"]}
    assert rows["not_an_image"]["count"] == 1 and rows["unlabeled_image"]["count"] == 3
    _, said, _ = handful(capsys, *words)
    assert "slides.pptx" in said and "rename it to Images/" in said and f"handful data check {maker.place}" in said
    yolo = Maker(7, tmp_path / "yolo")
    yolo.photo("images/0.jpg")
    yolo.write("labels/0.txt", "0 0.5 0.5 0.2 0.2\n")
    yolo.write("data.yaml", "train: images\nnames: [mug]\n")
    yolo.write("boxes.csv", "image,label\n0.jpg,mug\n")
    told = run_json(capsys, "data", "stats", yolo.place, "--format", "yolo", "--out", tmp_path / "p")
    rows = {row["code"]: row for row in told["findings"]}
    assert rows["unread_labels"]["file"] == "boxes.csv" and rows["unread_labels"]["severity"] == "error"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "absent"], "does not exist"), (["split", ".", "--part", "train"], "NAME=SHARE"),
        (["balance", ".", "--per", "photo"], "per"), (["check", ".", "--format", "coko"], "did you mean 'coco'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told(args: list[str], words: str, sound: Path, capsys: Capture) -> None:
    args = [str(sound) if a == "." else a for a in args]
    more = ["--format", "coco"] if args[0] in ("balance", "split") else []
    code, _, err = handful(capsys, "data", *args, *more)
    assert code == 2 and words in err


def test_the_page_lists_every_code_and_its_repair() -> None:
    text = (ROOT / "docs/data.md").read_text()
    for code, kind in CODES.items():
        assert f"| `{code}` | {kind.severity} | {kind.text} | {kind.repair} |" in text, code
