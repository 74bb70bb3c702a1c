"""The package as a user imports it: light, typed, and each name where it is said to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

import handful
from handful.errors import DataError, UnknownName
from tests.conftest import ROOT
from tests.kinds.test_conformance import same
from tests.kinds.worlds import World, untouched
from tests.training import test_classify

SCRIPT = Path(__file__).parent / "typed_script.py"


def test_importing_loads_nothing_else() -> None:
    code = "import sys, handful; dir(handful); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "handful" in out and not {"numpy", "PIL", "click", "torch", "rich"} & set(out)


def test_every_name_is_there() -> None:
    assert {"load", "teach", "train", "predict", "evaluate", "dream", "Image", "Detections"} <= set(dir(handful))
    for name in handful.__all__:
        assert getattr(handful, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = handful.lode


def test_a_users_script_sees_no_any(tmp_path: Path) -> None:
    """`make lint` holds the script to it; here, that a script that does see Any is caught by the same settings."""
    assert len(SCRIPT.read_text().splitlines()) >= 30 and "typed_script.py" in (ROOT / "pyproject.toml").read_text()
    bad = tmp_path / SCRIPT.name  # by its name it is held to the same
    bad.write_text(SCRIPT.read_text().replace("main()\n", "import json\n\nprint(json.loads('1'))\nmain()\n", 1))
    bad.write_text(bad.read_text() + "\nprint(handful.load('m').predict('x')[0].nothing)\n")
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(bad)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert told.returncode == 1 and 'Expression has type "Any"' in told.stdout and "nothing" in told.stdout


def test_teach_predict_evaluate(tmp_path: Path) -> None:
    data = test_classify.folders(tmp_path / "photos", {"": 4})
    model = handful.teach(data, tmp_path / "model", backbone="lite0", frame_hw=(64, 64), vigilance=2.0)
    assert isinstance(model, handful.Classifier) and model.kind == "taught_classifier"
    (one,) = handful.predict(model, data / "red" / "0.png")
    assert one.nearest == "red" and same(one, handful.predict(tmp_path / "model", data / "red" / "0.png")[0])
    assert handful.evaluate(model, data).images == 12
    with pytest.raises(DataError, match="not images"):
        handful.teach(tmp_path / "model", tmp_path / "other")
    with pytest.raises(DataError, match="wanted a detector"):
        handful.load(tmp_path / "model", "detector")
    with pytest.raises(UnknownName, match="did you mean 'detector'"):
        handful.load(tmp_path / "model", "detectors")  # type: ignore[call-overload]
    with pytest.raises(DataError, match="max_samples is for images with boxes"):
        handful.teach(data, tmp_path / "other", max_samples=3)
    before = untouched(tmp_path / "model")
    for vigilance in (float("nan"), 1e300, -5.0):
        with pytest.raises(DataError, match="wanted a number from 0 to 10"):
            handful.teach(data, tmp_path / "model", vigilance=vigilance, overwrite=True)
    assert untouched(tmp_path / "model") == before


def test_train_and_dream(tmp_path: Path) -> None:
    data = test_classify.folders(tmp_path / "photos", {"train": 4, "val": 2})
    model = handful.train(
        "classify", data, tmp_path / "m", net="signet", epochs=1, batch=8, settings={"args": {"width": 0.25}}
    )  # fmt: skip
    assert isinstance(model, handful.Classifier) and model.kind == "classifier"
    assert model.predict(data / "val" / "red")[0].margin is None
    with pytest.raises(UnknownName, match="did you mean 'segment'"):
        handful.train("segmnt", data, tmp_path / "n")  # type: ignore[arg-type]
    ids = np.zeros((60, 80), np.uint8)
    ids[20:40, 20:50] = 1
    rng = np.random.default_rng(0)
    for place, array in (("images", rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)), ("masks", ids)):
        (tmp_path / "seeds" / place).mkdir(parents=True)
        PIL_Image.fromarray(array).save(tmp_path / "seeds" / place / "a.png")
    (tmp_path / "seeds" / "labels.json").write_text('{"labels": {"0": "background", "1": "box"}, "ignore": 255}')
    dreams = handful.dream(tmp_path / "seeds", tmp_path / "dreams", frames=2, workers=1)
    assert (dreams.frames, dreams.images, dreams.failed) == (2, 1, ()) and dreams.out.is_dir()


def test_what_a_folder_is_instead(world: World, tmp_path: Path) -> None:
    told = {}
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "step-00000001").mkdir(parents=True)
    (tmp_path / "run" / "step-00000001" / "state.json").write_text("{}")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "artefact.json").write_text("{}")
    (tmp_path / "demo" / "model").mkdir(parents=True)
    (tmp_path / "demo" / "model" / "handful.json").write_text("{}")
    for name in ("absent", "empty", "run", "old", "demo"):
        with pytest.raises(DataError) as error:
            handful.load(tmp_path / name)
        told[name] = str(error.value)
        assert "\n" not in told[name] and str(tmp_path / name) in told[name]
    assert "does not exist; wanted a model folder" in told["absent"] and "without a model" in told["empty"]
    assert "not finished" in told["run"] and "--resume" in told["run"]
    assert "compiled by handful 0.3 or older" in told["old"] and "handful device compile" in told["old"]
    assert f"did you mean {tmp_path / 'demo' / 'model'}" in told["demo"]


def test_a_model_is_taught_more_by_its_own_sort_of_images(world: World, tmp_path: Path) -> None:
    from handful.kinds import registry

    (tmp_path / "file").touch()
    with pytest.raises(handful.DataError, match="file is a file; wanted a folder for the model"):
        handful.teach(world.data, tmp_path / "file")
    for boxes, wanted in ((True, "taught_detector"), (False, "taught_classifier")):
        if world.kind == wanted:
            registry.can_be_taught(world.model, boxes=boxes, add=True)
        else:
            with pytest.raises(handful.DataError, match=f"is {registry.kind(world.kind).DESCRIPTION}, and images"):
                registry.can_be_taught(world.model, boxes=boxes, add=True)


def test_a_model_says_what_it_is(world: World) -> None:
    model = handful.load(world.model)
    assert repr(model).startswith(f"<{world.kind} of {len(model.classes)} classes ({model.classes[0]}")
    assert str(world.model) in repr(model)
