"""Images and labels as they come: taught from and asked about, through the verbs' own functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.detection
from handful.detection.evaluate import evaluate
from handful.detection.irene import Irene
from handful.detection.multiscale import MultiScaleProposer, Scales
from handful.detection.teaching import teach
from handful.errors import DataError
from tests.detection.test_evaluate import bare  # noqa: F401
from tests.detection.test_irene import BARE, COLORS, PROPOSERS
from tests.training.made import write
from tests.training.test_verbs import typed

Row = tuple[str, tuple[float, float, float, float]]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def coco(root: Path, photos: list[tuple[tuple[int, int], list[Row]]], names: list[str], split: str = "train") -> Path:
    """Dark images with a patch of its class's color in each box; a box may reach over the edge."""
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for i, ((wide, high), rows) in enumerate(photos):
        rgb = np.full((high, wide, 3), 10, np.uint8)
        for name, box in rows:
            left, top, right, bottom = (max(0, round(v)) for v in box)
            rgb[top:bottom, left:right] = COLORS[name]
            notes.append({"id": len(notes) + 1, "image_id": i + 1, "category_id": names.index(name) + 1, "iscrowd": 0,
                          "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                          "area": (box[2] - box[0]) * (box[3] - box[1])})  # fmt: skip
        write(root / "images" / split / f"{i}.png", rgb)
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": wide, "height": high})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    (root / f"instances_{split}.json").write_text(
        json.dumps({"images": images, "annotations": notes, "categories": categories})
    )
    return root


SOME: list[tuple[tuple[int, int], list[Row]]] = [
    ((120, 90), [("apple", (10.0 + i, 10, 40, 50)), ("leaf", (60, 20, 100.0 + i, 70))]) for i in range(3)
]


def learned(tmp_path: Path, **more: Any) -> Path:
    data = coco(tmp_path / "taught", SOME, ["apple", "leaf"])
    teach(data, tmp_path / "d", proposer="blobs", crop=BARE, **more)
    return tmp_path / "d"


def test_photos_without_a_thing_are_taught_from_and_measured(tmp_path: Path) -> None:
    empty: list[tuple[tuple[int, int], list[Row]]] = [((50, 40), []), ((8, 8), [])]
    data = coco(tmp_path / "x", [*SOME, *empty], ["apple", "leaf"])
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE)
    assert said["images"] == 3 and said["samples"] == {"apple": 3, "leaf": 3}
    found = evaluate(tmp_path / "d", data)
    assert found["images"] == 5 and found["AP"] == pytest.approx(1.0) and found["f1"] == 1.0
    nothing = coco(tmp_path / "y", empty, ["apple"])
    with pytest.raises(DataError, match="no image has a box"):
        teach(nothing, tmp_path / "e", proposer="blobs", crop=BARE)
    with pytest.raises(DataError, match="no image shows a class"):
        evaluate(tmp_path / "d", nothing)


def test_a_class_that_is_never_shown_does_not_count(tmp_path: Path) -> None:
    model = learned(tmp_path)
    other = coco(tmp_path / "other", [((120, 90), [("apple", (10, 10, 40, 50))])], ["apple", "leaf"], "val")
    found = evaluate(model, other)
    assert found["AP"] == pytest.approx(1.0) and found["per_class"]["leaf"] == {"AP": None, "objects": 0}
    assert found["f1_macro"] == 1.0


def test_one_class_and_one_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = coco(tmp_path / "x", SOME, ["apple", "leaf"])
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE, max_samples=1, classes=["leaf"])
    assert said["samples"] == {"leaf": 1} and any("learned from one box" in w for w in said["warnings"])
    assert "leaf" in capsys.readouterr().err
    found = evaluate(tmp_path / "d", data)
    assert found["per_class"]["leaf"]["AP"] == pytest.approx(1.0)


def test_boxes_over_the_edge_and_outside(tmp_path: Path) -> None:
    over: list[tuple[tuple[int, int], list[Row]]] = [((120, 90), [("leaf", (100, 70, 140, 110))]), *SOME]
    data = coco(tmp_path / "x", over, ["apple", "leaf"])
    outside: list[tuple[tuple[int, int], list[Row]]] = [((120, 90), [("leaf", (300, 200, 340, 240))]), *SOME]
    gone = coco(tmp_path / "y", outside, ["apple", "leaf"])
    for place, code in ((data, "box_outside"), (gone, "box_off_image")):
        with pytest.raises(DataError, match=rf"label 1 \(leaf\).*--allow {code}"):
            teach(place, tmp_path / "d", proposer="blobs", crop=BARE)
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE, allow=["box_outside"])
    assert said["samples"] == {"apple": 3, "leaf": 4}  # cut at the edge
    said = teach(gone, tmp_path / "e", proposer="blobs", crop=BARE, allow=["box_off_image"])
    assert said["samples"] == {"apple": 3, "leaf": 3}  # there is nothing to learn


def test_a_thousand_things(tmp_path: Path) -> None:
    rows: list[Row] = [("leaf" if (i + j) % 2 else "apple", (20.0 * i + 4, 20.0 * j + 4, 20.0 * i + 16, 20.0 * j + 16))
                       for i in range(40) for j in range(25)]  # fmt: skip
    data = coco(tmp_path / "x", [((800, 500), rows)], ["apple", "leaf"])
    model = learned(tmp_path)
    found = evaluate(model, data)
    assert found["objects"] == 1000 and found["AR100"] == pytest.approx(0.1, abs=0.01)  # an image has 100 answers
    assert found["ar_agnostic"]["300"] == pytest.approx(0.3, abs=0.01)
    said = teach(data, tmp_path / "many", proposer="blobs", crop=BARE, max_samples=2000)
    assert said["samples"] == {"apple": 500, "leaf": 500}


def test_the_same_box_under_two_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = [*SOME, ((120, 90), [("apple", (10.0, 10.0, 40.0, 50.0)), ("leaf", (10.0, 10.0, 40.0, 50.0))])]
    data = coco(tmp_path / "x", twice, ["apple", "leaf"])
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE)
    err = capsys.readouterr().err
    assert "3.png: the box" in err and "'apple' and 'leaf'" in err and said["samples"] == {"apple": 4, "leaf": 4}
    rgb = np.full((90, 120, 3), 10, np.uint8)
    rgb[20:70, 60:100] = COLORS["leaf"]
    assert len(Irene.load(tmp_path / "d").detect(rgb)) == 1


def test_panoramas_and_specks(tmp_path: Path) -> None:
    irene = Irene.load(learned(tmp_path))
    wide = np.full((300, 20000, 3), 10, np.uint8)
    wide[100:160, 15000:15050] = COLORS["leaf"]
    found = irene.detect(wide)
    assert [found.classes[k] for k in found.label] == ["leaf"]
    assert np.abs(found.xyxy_px[0] - [15000, 100, 15050, 160]).max() < 3
    for side in (8, 9):
        assert len(irene.detect(np.full((side, side, 3), 10, np.uint8))) == 0
        assert len(irene.detect(np.full((side, side, 3), 220, np.uint8), unknown=True)) <= 1


@pytest.mark.usefixtures("bare")
def test_the_verbs_look_as_they_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near: list[tuple[tuple[int, int], list[Row]]] = [
        ((512, 384), [("apple", (40.0 + i, 60, 240, 260)), ("leaf", (400, 80.0 + i, 412, 92.0 + i))]) for i in range(4)
    ]
    data = coco(tmp_path / "x", near, ["apple", "leaf"])
    found = {}
    for scales in ("1", "2"):
        out = tmp_path / scales
        code, said, _ = typed(capsys, "teach", data, "--out", out, "--proposer", "squint", "--scales", scales, "--json")
        assert code == 0 and json.loads(said)["scales"]["count"] == int(scales)
        code, said, _ = typed(capsys, "evaluate", out, data, "--scale-mode", "pyramid", "--json")
        told = json.loads(said)
        assert code == 0 and told["scales"]["mode"] == "pyramid"
        found[scales] = told["per_class"]
    assert found["1"]["leaf"]["AP"] == 0 and found["2"]["leaf"]["AP"] > 0.9 and found["1"]["apple"]["AP"] > 0.9
    code, said, _ = typed(
        capsys, "predict", tmp_path / "2", data / "images/train/0.png", "--scale-mode", "whole", "--json"
    )
    assert code == 0 and {row["class"] for row in json.loads(said)["results"][0]["found"]} == {"apple"}
    code, said, _ = typed(
        capsys, "predict", tmp_path / "2", data / "images/train/0.png", "--scale-mode", "pyramid", "--json"
    )
    assert {row["class"] for row in json.loads(said)["results"][0]["found"]} == {"apple", "leaf"}
    # unasked: objects are small against the image, so two scales, and the finer one where something is small
    code, said, _ = typed(capsys, "teach", data, "--out", tmp_path / "auto", "--proposer", "squint", "--json")
    assert json.loads(said)["scales"]["count"] == 2 and json.loads(said)["scales"]["mode"] == "focus"
    proposer = Irene.load(tmp_path / "auto").proposer
    assert isinstance(proposer, MultiScaleProposer) and proposer.scales == Scales(2, "focus")
    code, _, err = typed(capsys, "predict", tmp_path / "2", data / "images/train/0.png", "--scale-mode", "near")
    assert code == 2 and "near" in err
