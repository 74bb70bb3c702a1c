"""`handful train` and `handful evaluate`, as they are typed."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.cli import main
from handful.files import read_tensors
from tests.forked import Program
from tests.training.made import SIZE_HW, small
from tests.training.test_classify import folders
from tests.training.test_detect import TINY
from tests.training.test_detect import small as shop


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def train(data: Path, out: Path, *more: object) -> list[object]:
    return ["train", "segment", data, "--net", "stub", "--out", out, "--epochs", 2, "--batch", 4, "--frame", "32x48",
            "--threads", 1, *more]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("data"))


def test_train_then_evaluate(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(capsys, *train(data, tmp_path / "m", "--arg", "width=6", "--loss", "dice=0.5", "--augment",
                                          "scale=[0.8,1.2]", "--crop", "32x40", "--json"))  # fmt: skip
    said = json.loads(out)
    assert code == 0 and said["epochs"] == 2 and said["model"] == str(tmp_path / "m") and "epoch 2 of 2" in err
    config = json.loads((tmp_path / "m" / "train.json").read_text())["config"]
    assert config["args"] == {"width": 6, "frame_hw": list(SIZE_HW)} and config["loss"]["dice"] == 0.5
    assert config["augment"]["scale"] == [0.8, 1.2] and config["crop"] == [32, 40]
    code, out, _ = typed(capsys, "evaluate", tmp_path / "m", data, "--split", "train", "--rule", "gluon", "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0 and found["images"] == 10 and found["rule"]["name"] == "gluon"
    keys = {"miou_with_background", "miou_without_background", "pixel_accuracy", "mean_accuracy", "per_class", "rule",
            "params", "macs", "seed", "minutes"}  # fmt: skip
    assert keys <= found.keys()
    code, out, _ = typed(capsys, "evaluate", tmp_path / "m", data)
    assert code == 0 and "mIoU without background" in out and "rule mmseg: IoU of a class is TP" in out
    code, out, err = typed(capsys, *train(data, tmp_path / "m", "--arg", "width=6", "--resume", "--lr", 0.5))
    assert code == 2 and "lr is 0.5, was 0.001" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--net", "stbu"), "did you mean 'stub'"),
        (("--arg", "width"), "wanted KEY=VALUE"),
        (("--arg", "widht=3"), "did you mean 'width'"),
        (("--loss", "dise=1"), "did you mean 'dice'"),
        (("--augment", "flipp=1"), "did you mean 'flip'"),
        (("--augment", "scale=2"), "scale of augment is 2; wanted 2 numbers in brackets"),
        (("--lr-of", "head=fast"), "wanted a number"),
        (("--frame", "32"), "wanted HEIGHTxWIDTH"),
        (("--precision", "bf61"), "did you mean 'bf16'"),
        (("--masks-in", "maks"), "did you mean 'masks'"),
        (("--minutes", "1"), "either --epochs or --minutes"),
    ],
)
def test_wrong_words_are_answered(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str], said: str
) -> None:
    code, out, err = typed(capsys, *train(data, tmp_path / "m", *more))
    assert code == 2 and said in err and out == "" and "Traceback" not in err
    assert not (tmp_path / "m").exists()


def test_a_gpu_that_is_not_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # nor here, where there is one
    code, _, err = typed(capsys, *train(data, tmp_path / "m", "--device", "cuda"))
    assert code == 2 and "cuda was asked for, but torch sees no GPU here; use --torch-device cpu" in err


def test_options_of_the_other_kind_of_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], taught_model: Path
) -> None:
    code, _, err = typed(capsys, "evaluate", taught_model, data, "--rule", "mmseg")
    assert code == 2 and "is a taught classifier; --rule is for a trained segmentation model" in err
    typed(capsys, *train(data, tmp_path / "m"))
    code, _, err = typed(capsys, "evaluate", tmp_path / "m", data, "--flat")
    assert code == 2 and "is a trained segmentation model; --flat is for a taught classifier" in err


def two(words: list[object]) -> list[dict[str, Any]]:
    """What the two processes of one training printed, the first one's first."""
    pytest.importorskip("accelerate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys; from tests.training.made import known; known(); from handful.cli import main; main(sys.argv[1:])"
    )
    processes = []
    for rank in (0, 1):
        where = {"MASTER_PORT": str(port), "MASTER_ADDR": "127.0.0.1", "HANDFUL_CACHE": ""}
        who = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(Program(code, *map(str, words), "--json", env={**where, **who}))
    ends = [one.end(240) for one in processes]
    assert [code for code, _, _ in ends] == [0, 0], ends
    said = [json.loads(out) for _, out, _ in ends]
    assert said[1]["rank"] == 1
    return said


def apart(one: Path, other: Path) -> float:
    """How far two models' weights are from one another, as a share of their own size."""
    a, b = (read_tensors(folder / "model.safetensors") for folder in (one, other))
    keys = [key for key in a if a[key].dtype == np.float32]
    return max(float(np.linalg.norm(a[key] - b[key]) / (np.linalg.norm(a[key]) + 1e-6)) for key in keys)


def test_two_processes_train_the_network_that_one_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--arg", "dropout=0", "--loss", "dice=0.5", "--optimizer", "sgd", "--lr", 0.05]
    said = two([*train(data, tmp_path / "two", *same)])[0]
    code, out, _ = typed(capsys, *train(data, tmp_path / "one", *same, "--json"))
    assert code == 0
    record = json.loads((tmp_path / "two" / "train.json").read_text())
    assert record["config"]["world_size"] == 2 and len(record["history"]) == said["epochs"] == 2
    assert apart(tmp_path / "two", tmp_path / "one") < 1e-4
    alone = json.loads(out)
    for key in ("miou_with_background", "pixel_accuracy", "mean_accuracy"):
        assert said[key] == pytest.approx(alone[key], abs=2e-3)


def test_two_processes_train_the_classifier_that_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = folders(tmp_path / "photos")
    words = ["train", "classify", photos, "--net", "signet", "--arg", "width=0.25", "--frame", "32x32", "--epochs", 2,
             "--batch", 8, "--optimizer", "sgd", "--lr", 0.02, "--threads", 1]  # fmt: skip
    said = two([*words, "--out", tmp_path / "two"])[0]
    code, out, _ = typed(capsys, *words, "--out", tmp_path / "one", "--json")
    assert code == 0 and apart(tmp_path / "two", tmp_path / "one") < 1e-4
    assert said["accuracy"] == json.loads(out)["accuracy"]


def test_two_processes_train_one_detector(tmp_path: Path) -> None:
    # each draws the regions it learns from by itself, so the weights are not those of one process
    words = [
        "train",
        "detect",
        shop(tmp_path / "shop"),
        "--frame",
        "64x96",
        "--epochs",
        1,
        "--batch",
        4,
        "--threads",
        1,
    ]
    args = [word for key, value in TINY.items() for word in ("--arg", f"{key}={json.dumps(value)}")]
    said = two([*words, *args, "--out", tmp_path / "m"])[0]
    assert said["epochs"] == 1 and 0 <= said["AP"] <= 1
    assert all(abs(v).max() < 1e6 for v in read_tensors(tmp_path / "m" / "model.safetensors").values())
