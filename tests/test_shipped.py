"""Models that come with handful: by name everywhere a model folder is, never in a user's way, and nothing is written
beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import handful
from handful import shipped
from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.files import read_json, sha256
from handful.kinds import compiling
from handful.models.folder import META, WEIGHTS
from tests.conftest import save
from tests.test_cli import handful as command

NAMES = shipped.known()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_there_are_some() -> None:
    assert "people" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_was_made_from_and_is_small(name: str) -> None:
    folder = shipped.HOME / name
    meta = read_json(folder / META)
    assert (folder / WEIGHTS).stat().st_size <= 500_000
    assert sha256(folder / WEIGHTS) == meta["files"][WEIGHTS]
    # no picture, no list of photos
    assert sorted(path.name for path in folder.iterdir()) == sorted([META, WEIGHTS, "seen.safetensors"])
    for key in ("trained_on", "license", "made_by", "photos"):
        assert meta["card"][key], key
    assert "license allows" in meta["card"]["trained_on"]
    assert "/" not in meta["card"]["trained_on"]  # no place of the machine it was made on


@pytest.mark.usefixtures("elsewhere")
def test_people_are_found() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("skimage")
    model = handful.load("people", "segmenter")
    assert model.classes == ("background", "person")
    [someone], [nobody] = (model.predict(sample_photo(name)) for name in ("astronaut", "coffee"))
    whole = (someone.ids == 1).mean()
    assert 0.25 < whole < 0.75  # she fills about half of it
    assert (someone.ids[150:250, 180:280] == 1).mean() > 0.9  # her face and collar
    assert (someone.ids[:60, 440:] == 1).mean() < 0.3  # the model of the shuttle behind her
    assert (nobody.ids == 1).mean() < 0.1


def test_what_lies_here_is_meant_first(elsewhere: Path) -> None:
    assert shipped.found("people") == shipped.HOME / "people"
    (elsewhere / "people").mkdir()
    assert shipped.found("people") == Path("people")
    assert shipped.found(elsewhere / "people") == elsewhere / "people"
    with pytest.raises(DataError, match="people is a folder without a model, and hides the model"):
        handful.load("people")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", ["peeple", "people/", "./people", "people/x", "", ".", "..", "../people", "PEOPLE"])
def test_only_the_very_name_is_one(name: str) -> None:
    assert shipped.found(name) == Path(name)


def test_by_name_on_the_command_line(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("skimage")
    save(sample_photo("astronaut"), elsewhere / "astronaut.png")
    code, out, _ = command(capsys, "predict", "people", "astronaut.png", "--out", "seen", "--json")
    assert code == 0 and 0.25 < json.loads(out)["results"][0]["shares"]["person"] < 0.75
    assert list((elsewhere / "seen").glob("**/*.png"))
    code, _, err = command(capsys, "predict", "peeple", "astronaut.png")
    assert code == 2 and "of models that come with handful there is people" in err
    code, _, err = command(capsys, "set", "people", "--vigilance", "2")
    assert code == 2 and "a trained segmentation model" in err
    code, out, _ = command(capsys, "models", "list", "--json")
    assert code == 0 and [row["name"] for row in json.loads(out)["pretrained"]] == NAMES


def test_what_is_compiled_goes_into_the_cache(elsewhere: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    before = sorted(shipped.HOME.rglob("*"))
    made = compiling.compile_model("people", "onnxruntime")
    assert made.folder.is_relative_to(elsewhere / "cache")
    assert compiling.compile_model("people", "onnxruntime").folder == made.folder
    assert sorted(shipped.HOME.rglob("*")) == before
    bundle = handful.load(made.folder, "segmenter")
    photo = np.asarray(sample_photo("astronaut").rgb_u8)
    assert (bundle.predict(photo)[0].ids == handful.load("people", "segmenter").predict(photo)[0].ids).mean() > 0.999


def test_without_a_cache_it_says_where(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("HANDFUL_CACHE", "")
    with pytest.raises(DataError, match="set HANDFUL_CACHE"):
        compiling.compile_model("people", "onnxruntime")
