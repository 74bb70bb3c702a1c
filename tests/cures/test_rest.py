"""What is seldom met: no memory, a missing package, workers that die, pages of demo, translated classes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import demo, heif, image, parallel
from handful.cli import last_resort
from handful.curate.convert import measured
from handful.data import formats, sample_images
from handful.errors import DataError
from handful.lucid import preview
from handful.models import lite
from handful.pick import need
from handful.training import checkpoint
from tests.conftest import ROOT, save
from tests.curate import test_repair as sets
from tests.cures.desk import Desk, cures
from tests.cures.dies import dies
from tests.cures.inventory import OPTION
from tests.cures.spoken import options_of
from tests.data.planted import turned

PIP = re.compile(r"pip install (?:--[\w-]+ )?'?([\w-]+)(?:\[([\w,-]+)\])?")


def there(said: str) -> None:
    """The package or extra that a `pip install` line names is one of the project's."""
    found = PIP.search(said)
    assert found, said
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    if found[2]:
        assert found[1] == "handful" and found[2] in extras
        return
    named = {re.split(r"[<>=\[]", row)[0] for rows in (*extras.values(), project["dependencies"]) for row in rows}
    assert found[1] in {*named, "handful", "cryptography"}, found[1]


@cures("pick:need pip install", "models.lite:weights_file pip install",
       "models.lite:weights_file pip install #2", "heif:decode pip install",
       "image:_unidentified pip install", "lucid.preview:_write_video pip install",
       "data.sample_images:sample_photo pip install", "data.sample_images:sample_photo reinstall")  # fmt: skip
def test_packages_that_are_named_are_those_of_the_project(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test installs nothing: what a message calls a package is held to the project's own list."""
    there(desk.raises(need, "a_package_that_is_not_there", "video"))
    with monkeypatch.context() as patch:
        patch.setattr(lite, "sha256", lambda path: "0" * 64)
        there(desk.raises(lite.weights_file, "lite0"))
        patch.setattr("importlib.util.find_spec", lambda name: None)
        there(desk.raises(lite.weights_file, "lite0"))
        there(desk.raises(sample_images.sample_photo, "cat"))
    with monkeypatch.context() as patch:
        patch.setattr(sample_images, "SAMPLES", {"x": ("skimage", "no such file.png")})
        desk.raises(sample_images.sample_photo, "x")
    with monkeypatch.context() as patch:
        patch.setattr(heif, "present", lambda name: False)
        with pytest.raises(heif.NoDecoder) as caught:
            heif.decode(b"", 1)
        there(desk.told(caught.value))
        patch.setattr(image, "has_avif", lambda: False)
        there(desk.raises(image._unidentified, Path("a.avif"), b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(64)))
        told: list[str] = []
        patch.setattr(preview, "present", lambda name: False)
        patch.setattr(preview, "note", told.append)
        preview._write_video([], desk.place)
        there(desk.told(told[0]))


@cures("cli.last_resort:told --batch --frame --workers", leaves_out=("--batch", "--frame", "--workers"))
def test_no_memory(desk: Desk) -> None:
    """What is smaller needs less: each of the options is one of a verb that can run out of memory."""
    text, code = last_resort.told(MemoryError("out of memory"), ["train", "segment"])
    assert code == 2
    for flag in OPTION.findall(desk.told(text)):
        assert any(flag in options_of(verb) for verb in ("train segment", "teach", "dream run"))


def _all(shared: str, **more: Any) -> list[tuple[int, int]]:
    return list(parallel.each(dies, shared, range(4), **more))


@cures("parallel:each --workers", "parallel:each --workers #2", leaves_out=("--workers",))
def test_a_worker_that_dies(desk: Desk) -> None:
    for resumable in (False, True):
        place = desk.at(f"once {resumable}")
        said = desk.raises(_all, str(place), workers=2, resumable=resumable)
        assert "--workers" in said and ("--resume" in said) == resumable
        assert sorted(_all(str(place), workers=1)) == [(i, i) for i in range(4)]


@cures("data.labelmaps:source_for --labels-from", "data.labelmaps:_uncovered --labels", leaves_out=())
def test_classes_are_translated(desk: Desk) -> None:
    desk.at("set").mkdir()
    root = sets.saved(desk.at("set"), sets.coco(desk.at("set"), categories=[{"id": 1, "name": "my own mug"}]))
    convert = ["data", "convert", root, desk.at("copy"), "--to", "coco", "--allow-loss"]
    said = desk.no(*convert, "--labels", "ten")
    desk.at("table.csv").write_text("name,target\nmy own mug,cup\n")
    desk.yes(*convert, *said.option("--labels"), desk.at("table.csv"))
    desk.at("two.csv").write_text("source,name,target\na,my own mug,cup\nb,my own mug,bowl\n")
    convert[3] = desk.at("second")
    said = desk.no(*convert, "--labels", desk.at("two.csv"))
    desk.yes(*convert, "--labels", desk.at("two.csv"), *said.value("--labels-from"))


@cures("demo:run --out", "demo:run --out #2", "demo:own_photos add", leaves_out=("--out",))
def test_the_place_of_a_demo(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_runtimes", lambda names: _stop())
    desk.at("file").write_text("mine")
    desk.at("mine").mkdir()
    desk.at("mine/a").write_text("mine")
    for place in ("file", "mine"):
        desk.raises(demo.run, photos=None, out=desk.at(place))
    with pytest.raises(_Went):
        demo.run(photos=None, out=desk.at("report"))
    photos = sets.folders(desk.at("photos"))
    for name in ("cup/2.jpg", "dish/3.jpg"):
        (photos / name).unlink()
    rng = np.random.default_rng(0)
    desk.raises(demo.own_photos, photos, rng)
    save(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8), photos / "cup/9.jpg")
    assert demo.own_photos(photos, rng)[1]


class _Went(Exception):
    """It went on."""


def _stop() -> None:
    raise _Went


@cures("training.checkpoint:_unwritten --resume", "data.format_yolo:_size handful data check",
       "data.format_yolo:_size --fix", "curate.convert:measured handful data check",
       leaves_out=("--resume",))  # fmt: skip
def test_what_could_not_be_written(desk: Desk) -> None:
    """A full disk is not made here; --resume after one is tried in tests/training/test_checkpoint.py."""
    error = checkpoint._unwritten(desk.place, DataError("the disk is full"))
    assert desk.told(error).option("--resume") == ["--resume"] and "--resume" in options_of("train segment")
    desk.at("set").mkdir()
    root = sets.saved(desk.at("set"), sets.coco(desk.at("set")))
    turned(root / "images/0.jpg", size_first=False)
    said = desk.raises(formats.write, formats.read(root, on_finding=lambda f: None), desk.at("yolo"), "yolo")
    desk.yes(*said.command("data check", FOLDER=root, COPY=desk.at("copy")))
    desk.yes("data", "convert", desk.at("copy"), desk.at("as yolo"), "--to", "yolo", "--allow-loss")
    whole = formats.read(desk.at("copy"))
    formats.write(whole, desk.at("faulty"), "coco")
    for path in desk.at("faulty").rglob("*.jpg"):
        path.unlink()
    said = desk.raises(measured, whole, desk.at("faulty"), "coco")
    desk.yes(*said.command("data check"))
