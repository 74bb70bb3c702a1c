"""The verbs of dreams, what the page on them says of the gates, and a look at one image."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handful.cli import main
from handful.data import formats
from handful.errors import DataError, HandfulError
from handful.lucid.outline import mask_in_box
from handful.lucid.preview import seed_of
from tests.conftest import ROOT, save
from tests.lucid.made import ids, labelled, photo


def run(command: str) -> int:
    try:
        main(shlex.split(command)[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_gates_in_the_page_are_those_there_are() -> None:
    from handful.lucid.gates import GATES

    text = (ROOT / "docs/dream.md").read_text()
    rows = [
        line.split("|")
        for line in text.split("## Quality gates")[1].split("\n## ")[0].splitlines()
        if line.startswith("| `")
    ]
    shown = {row[1].strip(" `"): row[3].strip() for row in rows}
    assert shown == {name: "0" if limit == 0 else f"{way} {limit:g}" for name, _, limit, way in GATES}


def test_a_mask_from_a_box() -> None:
    rgb = np.full((160, 240, 3), (40, 120, 60), np.uint8)
    rgb = np.clip(rgb + np.random.default_rng(0).normal(0, 8, rgb.shape), 0, 255).astype(np.uint8)
    true = ids((120, 80, 45, 30)) > 0
    rgb[true] = np.clip(rgb[true].astype(int) + np.array([150, -60, 0]), 0, 255)
    rgb[76:84, 110:130] = (40, 120, 60)  # a hole, which is closed
    found = mask_in_box(rgb, (60, 35, 180, 125))
    assert (found & true).sum() / (found | true).sum() > 0.97
    assert np.array_equal(found, mask_in_box(rgb, (60, 35, 180, 125)))
    for box, why in [
        ((60, 35, 61, 125), "less than 4 px"),
        ((300, 35, 400, 125), "less than 4 px"),
        ((0, 0, 240, 160), "covers the whole image"),
        ((0, float("nan"), 240, 160), "NaN"),
    ]:
        with pytest.raises(DataError, match=why):
            mask_in_box(rgb, box)


def test_masks_as_people_draw_them(tmp_path: Path) -> None:
    path = save(photo(), tmp_path / "a.jpg")
    drawn = ids((60, 80, 30, 30), (160, 80, 30, 30))
    save(drawn, tmp_path / "ids.png")
    save((drawn > 0).astype(np.uint8) * 255, tmp_path / "white.png")
    save(np.repeat(drawn[..., None] * np.uint8(100), 3, 2) * (np.arange(3) == 0).astype(np.uint8), tmp_path / "red.png")
    save(drawn[:90], tmp_path / "short.png")
    (tmp_path / "text.png").write_text("no picture")
    assert np.array_equal(seed_of(path, tmp_path / "ids.png").ids, drawn)
    assert np.array_equal(seed_of(path, tmp_path / "white.png").ids, drawn > 0)
    for name, why in [("red", "one value a pixel"), ("short", "240x90"), ("text", "text.png"), ("none", "none.png")]:
        with pytest.raises(HandfulError, match=why):
            seed_of(path, tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="neither a mask nor a box"):
        seed_of(path, None)


def test_preview_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(photo(), tmp_path / "a.jpg")
    assert run(f"handful dream preview {path} --out {tmp_path / 'x'}") == 2
    assert "--mask PNG or --box" in capsys.readouterr().err
    assert run(f"handful dream preview {path} --box 1,2 --out {tmp_path / 'x'}") == 2
    assert "LEFT,TOP,RIGHT,BOTTOM" in capsys.readouterr().err
    save(ids((60, 80, 30, 30)), tmp_path / "m.png")
    command = f"handful dream preview {path} --mask {tmp_path / 'm.png'} --out {tmp_path / 'x'} --frames 6 --json"
    assert run(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["gates"]["ok"] and said["frames"] == 6 and Path(said["video"]).exists()
    assert not (tmp_path / "y").exists()
    assert run(f"handful dream preview {path} --box 0,0,240,160 --out {tmp_path / 'y'}") == 2
    assert not (tmp_path / "y").exists()


def test_seeds_from_a_labelling_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same dreams from the folder and from the store it was put into, but for the names of classes."""
    from handful.lucid import source
    from handful.store import Store, database

    assert source.STORE_FILE == database.FILE and source.STORE_SUFFIXES == database.SUFFIXES
    folder = labelled(tmp_path / "labelled")
    with Store.open(tmp_path / "store") as store:
        store.add_dataset(formats.read(folder), author="ada")
    found = []
    for place in (
        folder,
        tmp_path / "store",
        tmp_path / "store" / "labels.sqlite",
        f"sqlite:///{tmp_path}/store/labels.sqlite",
    ):
        out = tmp_path / f"dreams{len(found)}"
        assert run(f"handful dream {place} --out {out} --frames 2 --fill telea --workers 1 --json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert {r["sha256"] for r in found} == {found[0]["sha256"]} and found[0]["images"] == 3
    assert run(f"handful dream {tmp_path / 'none.sqlite'} --out {tmp_path / 'x'}") == 2
    assert "does not exist" in capsys.readouterr().err and not (tmp_path / "none.sqlite").exists()
    assert run(f"handful dream {tmp_path / 'store'} --format coco --out {tmp_path / 'x'}") == 2


def test_without_the_package_for_films_there_is_no_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("handful.lucid.preview.present", lambda name: False)
    path = save(photo(), tmp_path / "a.jpg")
    save(ids((60, 80, 30, 30)), tmp_path / "m.png")
    assert run(f"handful dream preview {path} --mask {tmp_path / 'm.png'} --out {tmp_path / 'x'} --frames 6") == 0
    said = capsys.readouterr()
    assert "no preview.mp4: PyAV is not installed" in said.err and "preview.mp4" not in said.out
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["gates.json", "sheet.jpg"]


def test_without_opencv_the_line_that_installs_it(tmp_path: Path) -> None:
    image = str(save(photo(), tmp_path / "a.jpg"))
    code = (
        "import sys; sys.modules['cv2'] = None\nfrom handful.cli import main\n"
        f"main(['dream', 'preview', {image!r}, '--box', '1,2,30,40', '--out', {str(tmp_path / 'x')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'handful[dream]'" in done.stderr and "Traceback" not in done.stderr
