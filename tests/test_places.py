"""What is missing, or something else than was wanted, is told in one line before anything heavy is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handful.fewshot.vigilance import SAID, WORKING
from handful.models import folder as folders
from tests.conftest import ROOT, save
from tests.kinds.worlds import rgb
from tests.test_cli import handful

Capture = pytest.CaptureFixture[str]
MAKES = "`handful teach DATA --out DIR`"
RUN = (
    "import sys\nfrom handful.cli import main\ncode = 0\ntry: main(sys.argv[1:])\n"
    "except SystemExit as end: code = end.code\n"
    "print(code, *sorted({'torch', 'PIL', 'scipy', 'cv2', 'numpy'} & {m.split('.')[0] for m in sys.modules}))"
)


def light(*words: str, cwd: Path) -> tuple[int, str, list[str]]:
    """Exit code, stderr and the heavy modules that were loaded."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, cwd=cwd, env=env)
    code, *heavy = done.stdout.splitlines()[-1].split()
    return int(code), done.stderr, heavy


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("predict nowhere x.jpg", f"nowhere does not exist; wanted a model folder: {MAKES}"),
        ("predict model x.jpg", "x.jpg does not exist; wanted an image, a video or a folder there"),
        ("predict model empty", "empty has no images or videos in or below it"),
        ("predict model model", "model is a trained segmentation model, not images; `handful predict MODEL IMAGES`"),
        ("predict model photo.png --top 2", "model is a trained segmentation model; --top is for classifiers"),
        ("predict model photo.png --vigilance 2", "--vigilance is for a taught classifier or a taught detector"),
        ("predict model photo.png --vigilance nan", "vigilance is nan; wanted a number from 0 to 10"),
        ("predict torn photo.png", "torn/model.safetensors is missing; copy the whole folder again"),
        ("predict newer photo.png", "newer was made by handful 99 (schema 99)"),
        ("predict photos photo.png", "photos is a folder of images and labels (folder); wanted a model folder"),
        ("predict pictures photo.png", "pictures is a folder of images; wanted a model folder"),
        ("predict model.run photo.png", "finish it with `handful train ... --resume`, which makes model"),
        ("evaluate nowhere photos", f"nowhere does not exist; wanted a model folder: {MAKES}"),
        ("evaluate model nowhere", "nowhere does not exist; wanted images there"),
        ("evaluate model model", "model is a trained segmentation model, not images; `handful predict MODEL IMAGES`"),
        ("evaluate model photos --flat", "--flat is for a taught classifier"),
        ("evaluate bundle photos", "bundle is a bundle, which was compiled from a model; wanted the model itself"),
        ("teach nowhere --out m", "nowhere does not exist; wanted images there"),
        ("teach model --out m", "model is a trained segmentation model, not images"),
        ("teach bundle --out m", "bundle is a bundle, which was compiled from a model, not images"),
        ("teach photos --out m --vigilance 1e300", "vigilance is 1e+300; wanted a number from 0 to 10"),
        ("teach photos --out m --vigilance -5", "vigilance is -5.0; wanted a number from 0 to 10"),
        ("train segment nowhere --out m", "nowhere does not exist; wanted images there"),
        ("train segment model --out m", "model is a trained segmentation model, not images"),
        ("train segment photos --out m --from bundle", "bundle is a bundle"),
        ("train segment photos --out m --from photos", "photos is a folder of images and labels (folder)"),
        ("train segment photos --out m --net unett", "did you mean 'unet'"),
        ("device compile nowhere --runtime litert", "nowhere does not exist; wanted a model folder"),
        ("device compile bundle --runtime litert", "bundle is a bundle"),
        ("device compare old --runtime litert", "old is a model compiled by an older version of handful"),
        ("data check nowhere", "nowhere does not exist; wanted images there"),
        ("data stats model", "model is a trained segmentation model, not images"),
        ("demo --photos model", "model is a trained segmentation model, not images"),
        ("select nowhere --out s", "nowhere does not exist; wanted images there"),
        ("heatmap model", "model is a trained segmentation model, not images"),
        ("models flow nowhere photo.png", "'nowhere' is neither a model folder nor a network"),
        ("models flow model nowhere.png", "nowhere.png does not exist; wanted an image"),
        ("dream preview nowhere.png --box 1,2,30,40 --out o", "nowhere.png does not exist; wanted an image"),
    ],
)  # fmt: skip
def test_one_line_before_anything_heavy(line: str, says: str, tmp_path: Path) -> None:
    save(rgb(0), tmp_path / "photo.png")
    save(rgb(1), tmp_path / "pictures" / "a.png")
    for name in "ab":
        save(rgb(2), tmp_path / "photos" / name / f"{name}.png")  # of one name they would be looked at: pairs?
    meta = {
        "schema_version": folders.SCHEMA_VERSION, "handful": "99", "task": "segment", "network": {"kind": "unet"},
        "classes": ["a"], "preprocessing": {}, "files": {"model.safetensors": "0"},
    }  # fmt: skip
    for place, change in (("model", {}), ("torn", {}), ("newer", {"schema_version": 99})):
        (tmp_path / place).mkdir()
        (tmp_path / place / "handful.json").write_text(json.dumps({**meta, **change}))
        if place != "torn":
            (tmp_path / place / "model.safetensors").write_text("")
    for file in ("bundle/bundle.json", "old/artefact.json", "model.run/step-00000001/state.json", "empty/x.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    code, err, heavy = light(*line.split(), cwd=tmp_path)
    assert code == 2 and says in err, err
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    assert set(heavy) <= {"numpy"}, "it was loaded for nothing"
    if line.split()[1:2] == ["nowhere"] or line.split()[2:3] == ["nowhere"]:
        assert heavy == [] or line.startswith(("models", "evaluate model")), "not even NumPy is needed to see nothing"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_heavy_verb_would_be_noticed(tmp_path: Path) -> None:
    """What the test above looks for is there once a verb really works."""
    assert light("models", "show", "unet", cwd=tmp_path)[2] == ["numpy", "torch"]


@pytest.mark.parametrize("value", ["nan", "1e300", "-5", "inf"])
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_vigilance_that_no_model_can_use(verb: str, value: str, taught_model: Path, capsys: Capture) -> None:
    code, out, err = handful(capsys, verb, taught_model, taught_model.parent / "photos", "--vigilance", value)
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert f"wanted a number from {SAID}" in err


def told_otherwise(text: str) -> list[str]:
    """Where a text says the range of vigilance in other words than handful does."""
    range_, flat = f"{WORKING[0]:g} to {WORKING[1]:g}", " ".join(text.split())
    found = [flat[max(0, m.start() - 30) : m.end()] for m in re.finditer(re.escape(range_), flat)]
    return [words for words in found if not words.endswith(SAID)]


def test_the_range_of_vigilance_is_told_in_one_way(capsys: Capture) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    texts = {str(path): path.read_text() for path in pages}
    assert {name: said for name, text in texts.items() if (said := told_otherwise(text))} == {}
    assert sum(SAID in " ".join(text.split()) for text in texts.values()) >= 5
    for verb in ("predict", "teach", "set", "evaluate", "demo", "select"):
        assert SAID in " ".join(handful(capsys, verb, "--help")[1].split())
    assert told_otherwise("1.2 to 4.1 is the working range") and told_otherwise("about 1.2\nto 4.1")
