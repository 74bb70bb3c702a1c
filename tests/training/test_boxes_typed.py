"""`handful train detect` and `instance`, `handful evaluate` of such a model, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handful.cli import main
from handful.errors import UsageError
from handful.kinds.compiling import compile_model
from tests.training.test_detect import small


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


@pytest.mark.parametrize("task", ["detect", "instance", "segment"])
def test_images_that_lie_elsewhere_reach_the_recipe(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    given: dict[str, object] = {}

    def run(data: Path, out: Path, **options: object) -> dict[str, object]:
        given.update(options)
        return {"rank": 1, "model": str(out)}

    monkeypatch.setattr(f"handful.training.recipe_{task}.run", run)
    words = ("train", task, tmp_path, "--out", tmp_path / "m", "--epochs", 1, "--images", "photos")
    assert typed(capsys, *words)[0] == 0 and given["images"] == "photos"


@pytest.mark.parametrize("task", ["detect", "instance"])
def test_train_then_evaluate(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = small(tmp_path / "d"), tmp_path / "m"
    train = ["train", task, data, "--out", out, "--epochs", 1, "--batch", 2, "--size", "96x96", "--threads", 1,
             "--arg", "pretrained=false", "--augment", "scale=[0.9,1.1]"]  # fmt: skip
    code, shown, err = typed(capsys, *train)
    assert code == 0, err
    assert "AP50" in shown and "objects" in shown and ("masks" in shown) == (task == "instance")
    config = json.loads((out / "train.json").read_text())["config"]
    assert config["augment"]["scale"] == [0.9, 1.1] and config["task"] == task
    code, shown, _ = typed(capsys, "evaluate", out, data, "--split", "val", "--json")
    found = json.loads(shown)
    assert code == 0 and found["task"] == task and {"AP", "AP50", "AR100", "per_class"} <= found.keys()
    code, _, err = typed(capsys, "evaluate", out, data, "--rule", "gluon")
    assert code == 2 and "--rule is for a trained segmentation model" in err
    with pytest.raises(UsageError, match=r"is a trained detector: how many things .*no phone runtime"):
        compile_model(out, "onnxruntime")
    code, _, err = typed(capsys, *train[:3], "--out", tmp_path / "x", "--epochs", 1, "--augment", "scael=2")
    assert code == 2 and "did you mean 'scale'" in err
