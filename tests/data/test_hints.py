"""What is told where a set cannot be read as it is: each mask by itself, and ways out that lead out."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.cli import main
from handful.curate.check import check
from handful.data import class_lists, formats, pairing
from tests.data.layouts import STORED, Maker
from tests.data.reports import labelme, photos, picture, shape, write


def texts(report: dict[str, Any], severity: str = "error") -> dict[str, str]:
    return {f["code"]: f["text"] for f in report["findings"] if f["severity"] == severity}


@pytest.mark.parametrize("images", ["images", "shots"])  # the formats masks and pairs
def test_one_soft_mask_among_hard_ones_is_told(images: str, tmp_path: Path) -> None:
    m = Maker(1, tmp_path / "set")
    for i in range(13):
        m.photo(f"{images}/{i:02d}.jpg")
        m.save(STORED["soft" if i == 4 else "0/255"][0](m.areas()), f"masks/{i:02d}.png")  # of six that are tried, none
    report = check(m.place, near=False)
    (held,) = report["sets"]
    assert set(texts(report)) == {"soft_mask"}
    assert set(held["per_class"]) == {"background", "foreground"}
    assert (held["images"], held["labeled"], held["unlabeled"]) == (13, 12, 1)
    assert check(m.place, near=False, threshold=128)["sets"][0]["labeled"] == 13


def test_hard_masks_are_not_taken_for_soft_ones(tmp_path: Path) -> None:
    m = Maker(2, tmp_path)
    for i in range(3):
        m.photo(f"images/{i}.jpg")
        ids = m.areas().copy()
        ids[:3, :3], ids[5:8, 2:60], ids[-6:-1, 3:40] = 255, 9, 254
        m.save(PIL_Image.fromarray(ids), f"masks/{i}.png")
    report = check(tmp_path, near=False)
    assert not texts(report) and {"0", "1", "9", "254"} <= set(report["sets"][0]["per_class"])


def test_pairs_are_looked_for_once_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Maker(3, tmp_path)
    for i in range(3):
        m.photo(f"train/{i}.jpg")
        m.save(STORED["0/255"][0](m.areas()), f"train_mask/{i}.png")
    looked = Counter[tuple[str, int]]()
    whole = pairing._find

    def counted(folder: Path, names: Any) -> Any:
        looked[str(folder), len(names)] += 1
        return whole(folder, names)

    monkeypatch.setattr(pairing, "_find", counted)
    assert check(tmp_path, near=False)["ok"]
    assert looked[str(tmp_path), 6] == 1 and max(looked.values()) == 1
    (tmp_path / "train_mask/0.png").unlink()  # nothing is remembered from one check to the next
    assert [s.mask is None for s in formats.read(tmp_path)] == [True, False, False]


def test_a_photograph_that_lies_in_its_labelme_file(tmp_path: Path) -> None:
    held = base64.b64encode(picture()).decode()
    write(tmp_path, {"b.jpg": picture(1), "b.json": labelme(imagePath="b.jpg"),
                     "a.json": labelme(shape([[24, 18], [72, 54]], "rectangle"), imageData=held)})  # fmt: skip
    said = texts(check(tmp_path, near=False))
    assert set(said) == {"missing_image"} and "(imageData)" in said["missing_image"]
    (tmp_path / "b.json").write_text(json.dumps(labelme(imagePath="b.jpg", imageData=held)))
    advised = re.search(r'python -c (".*") \*\.json', said["missing_image"])
    assert advised is not None
    (program,) = shlex.split(advised[1])
    files = sorted(str(path) for path in tmp_path.glob("a.json"))
    subprocess.run([sys.executable, "-c", program, *files], check=True, cwd=tmp_path)
    assert (tmp_path / "a.jpg").read_bytes() == picture()
    assert check(tmp_path, near=False)["ok"]


def test_a_csv_of_classes_given_to_teach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i},{'mug' if i % 2 else 'cup'}\n" for i in range(6))
    place = write(tmp_path / "set", {**photos(*[f"train/{i}.jpg" for i in range(6)]), "train.csv": f"id,label\n{rows}"})
    with pytest.raises(SystemExit) as ended:
        main(["teach", str(place), "--out", str(tmp_path / "model")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "csv_classes" in said
    command = shlex.split(said[said.index("handful data convert") :].replace("COPY", str(tmp_path / "copy")))
    main(command[1:])
    copy = check(tmp_path / "copy", near=False)
    assert copy["ok"] and copy["sets"][0]["format"] == "folder"
    assert {name: n["images"] for name, n in copy["sets"][0]["per_class"].items()} == {"cup": 3, "mug": 3}


def test_members_of_a_shard_that_are_not_read_are_told(tmp_path: Path) -> None:
    mask = io.BytesIO()
    PIL_Image.fromarray(np.zeros((72, 96), np.uint8)).save(mask, "PNG")
    members = {"jpg": picture(), "cls": b"0", "json": b'{"caption": "a mug"}', "seg.png": mask.getvalue()}
    with tarfile.open(tmp_path / "train-0.tar", "w") as shard:
        for kind, data in members.items():
            about = tarfile.TarInfo(f"0.{kind}")
            about.size = len(data)
            shard.addfile(about, io.BytesIO(data))
    report = check(tmp_path, near=False)
    assert "1 member called KEY.seg.png" in texts(report)["unread_labels"]
    assert "1 member called KEY.json" in texts(report, "note")["other_task"]


@pytest.mark.parametrize("text", ["mug," + "9" * 5000, "mug,²", "mug,٣", "a,b\nmug,1" + "0" * 400])
def test_a_list_of_classes_with_numbers_that_are_none(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"classes.csv": f"{text}\n"}) / "classes.csv"
    labels = class_lists.read(path, tmp_path, lambda finding: None)
    assert labels is not None and labels.categories[-1].name == text.splitlines()[-1]
