"""The classify recipe, its photos, views and measures."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.cli import main
from handful.curate.seen import Seen, mark
from handful.data import formats
from handful.errors import DataError, MissingPackage, UnknownName
from handful.files import read_tensors, sha256
from handful.image import read_image
from handful.models.folder import from_folder, read_meta
from handful.training import checkpoint, loader_classify
from handful.training.augment_classify import NOTHING, Augment, augmented
from handful.training.evaluate_classify import evaluate, predict, scores
from handful.training.loss import Loss
from handful.training.recipe_classify import run
from handful.training.start import seen_by
from tests.bounds import SEED, bound
from tests.training.made import write

Capture = pytest.CaptureFixture[str]
MOVES = Augment(shift=2 / 32, scale=(1.0, 1.0), rotate_deg=0, brightness=0, contrast=0, saturation=0, hue_deg=0)
COLORS = {"blue": (40, 60, 200), "green": (60, 160, 70), "red": (200, 60, 40)}
FAST: dict[str, Any] = {"net": "signet", "args": {"width": 0.25}, "epochs": 3, "batch": 8, "lr": 0.02, "threads": 1,
                        "ema": None, "augment": MOVES}  # fmt: skip


def photo(name: str, seed: int, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng((seed, *name.encode()))
    pixels = rng.normal(110, 30, (size, size, 3))
    y, x = rng.integers(4, size - 16, 2)
    pixels[y : y + 12, x : x + 12] = COLORS[name] + rng.normal(0, 15, (12, 12, 3))
    return np.asarray(pixels.clip(0, 255), dtype=np.uint8)


def folders(root: Path, splits: dict[str, int] | None = None, names: tuple[str, ...] = tuple(COLORS)) -> Path:
    for number, (split, count) in enumerate((splits or {"train": 12, "val": 4, "test": 2}).items(), 10 * SEED):
        for name in names:
            for i in range(count):
                write(root / split / name / f"{i}.png", photo(name, 100 * number + i))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("trained") / "model"
    return out, run(data, out, **{**FAST, "epochs": 15}, seed=SEED)


def test_it_learns_and_the_folder_is_a_model(model: tuple[Path, dict[str, Any]], data: Path) -> None:
    out, said = model
    bound("classify: accuracy", said["accuracy"], at_least=0.9)
    assert said["task"] == "classify" and said["classes"] == ["blue", "green", "red"]
    meta = read_meta(out)
    assert meta["metrics"]["accuracy"] == said["accuracy"] and meta["rule"]["name"] == "top-1"
    assert {"curves.png", "metrics.csv", "train.json"} <= meta["files"].keys()
    header = (out / "metrics.csv").read_text().splitlines()[0]
    assert header == "epoch,step,lr,loss,accuracy,mean_accuracy,seconds"
    network = from_folder(out).network
    with torch.inference_mode():
        rgb = read_image(data / "val" / "red" / "0.png").rgb_u8
        alone = network(torch.from_numpy(rgb[None].copy()))
    # what is measured is what a phone will do
    assert np.allclose(predict(network, rgb[None]), alone.softmax(1).numpy(), atol=1e-5)
    found = evaluate(out, data, split="val")
    assert found["accuracy"] == said["accuracy"] and found["confusion"] == said["confusion"]
    assert found["params"] == said["params"] and evaluate(out, data)["split"] == "test"


def test_the_first_layer_whitens_and_is_kept(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, _ = model
    again = run(data, tmp_path / "m", **{**FAST, "epochs": 1, "lr": 0.2})
    one, other = (read_tensors(p / "model.safetensors") for p in (out, tmp_path / "m"))
    assert again["epochs"] == 1 and (one["core.first.weight"] == other["core.first.weight"]).all()
    assert not (one["core.first.bias"] == other["core.first.bias"]).all()
    assert (one["core.groups.0.2.weight"] == 1).all()  # batch norm's scale is not trained either
    photos = loader_classify.gather(formats.read(data), "train", ("blue", "green", "red"), (32, 32))
    network = from_folder(out).network
    x = network.normalize(torch.from_numpy(photos.pixels(range(36))).permute(0, 3, 1, 2).float())
    white = network.core.first(x)[:, :12].permute(1, 0, 2, 3).flatten(1) - network.core.first.bias[:12, None]
    second_moment = (white @ white.T / white.shape[1]).detach()
    assert torch.allclose(second_moment, torch.eye(12), atol=0.05)


def test_stopped_and_resumed_it_is_the_same_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {
        **FAST,
        "optimizer": "sgd",
        "ema": 0.9,
        "lr_bias": 4.0,
        "save_every": 1,
        "args": {"width": 0.25, "exits": 1},
    }
    whole = run(data, tmp_path / "whole", **plan)
    assert run(data, tmp_path / "two", **plan, workers=5)["model_sha256"] == whole["model_sha256"]
    assert run(data, tmp_path / "other", **plan, seed=1)["model_sha256"] != whole["model_sha256"]
    real = checkpoint.save

    class Stopped(Exception):
        pass

    def once(*args: Any) -> Path:
        path = real(*args)
        if path.name == "step-00000006":
            raise Stopped
        return path

    monkeypatch.setattr(checkpoint, "save", once)
    with pytest.raises(Stopped):
        run(data, tmp_path / "m", **plan)
    monkeypatch.undo()
    assert not (tmp_path / "m").exists()
    with pytest.raises(DataError, match=r"augment is .*cutout.*; give the same settings"):
        run(data, tmp_path / "m", **{**plan, "augment": Augment(cutout=0.2)}, resume=True)
    assert run(data, tmp_path / "m", **plan, resume=True)["model_sha256"] == whole["model_sha256"]


def test_the_last_weights_or_the_best(data: Path, tmp_path: Path) -> None:
    said = run(data, tmp_path / "m", **FAST, keep="last")
    assert said["best"] is None and said["accuracy"] is not None
    history = json.loads((tmp_path / "m" / "train.json").read_text())["history"]
    assert said["accuracy"] == history[-1]["accuracy"]
    nothing = run(data, tmp_path / "n", **FAST, val_split=None)
    assert "accuracy" not in nothing and nothing["model_sha256"] == said["model_sha256"]


def test_teacher_transfer_and_fewer_classes(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, _ = model
    teacher = Path(shutil.copytree(out, tmp_path / "teacher"))
    before = Seen.load(out)
    assert before is not None and len(before) == 36
    before.add(mark(np.full((32, 32, 3), 90, np.uint8)))
    before.save(teacher)
    meta = json.loads((teacher / "handful.json").read_text())
    meta["files"]["seen.safetensors"] = sha256(teacher / "seen.safetensors")
    (teacher / "handful.json").write_text(json.dumps(meta))
    said = run(data, tmp_path / "m", **{**FAST, "classes": ["red", "blue"], "loss": Loss(smoothing=0.1)}, from_=out,
               teacher=teacher, freeze=["groups"], balance="inverse")  # fmt: skip
    assert said["classes"] == ["red", "blue"] and said["transfer"]["kept"] > 5
    assert (tmp_path / "m" / "transfer.png").exists()
    one, other = (read_tensors(p / "model.safetensors") for p in (out, tmp_path / "m"))
    assert all((one[k] == other[k]).all() for k in one if k.startswith("core.groups"))
    # what the source has seen, of green too, and the teacher, the new model has seen
    after = Seen.load(tmp_path / "m")
    assert after is not None and after.rows == before.rows
    new = folders(tmp_path / "d", names=("blue", "green", "red"))
    (new / "train" / "red").rename(new / "train" / "yellow")
    with pytest.raises(DataError, match="does not know yellow"):
        run(new, tmp_path / "n", **{**FAST, "classes": ["yellow", "blue"]}, teacher=out)


def test_a_source_that_does_not_say_what_it_has_seen_is_told(tmp_path: Path, capsys: Capture) -> None:
    assert len(seen_by(None)) == 0 and not capsys.readouterr().err
    assert len(seen_by(tmp_path)) == 0
    assert f"{tmp_path} does not say which images it has seen" in capsys.readouterr().err


def bad_photo(root: Path) -> None:
    (root / "train" / "red" / "1.png").write_bytes(b"no photo")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"net": "exeggutor"}, "exeggutor is for segment, not to classify"),
        ({"classes": ["redd", "blue"]}, "did you mean 'red'"),
        ({"classes": ["red"]}, "has 1 class to tell apart"),
        ({"val_split": "vla"}, "no split 'vla'"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"balance": "invers"}, "did you mean 'inverse'"),
        ({"from_": Path("nowhere")}, "nowhere is not a folder"),
    ],
)
def test_every_wrong_wish_is_answered(data: Path, tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        run(data, tmp_path / "m", **{**FAST, **more})
    assert not (tmp_path / "m").exists()


def test_a_photo_that_is_none_and_a_loss_that_is_none(data: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "d")
    bad_photo(root)
    with pytest.raises(DataError, match=r"1\.png.*--allow"):
        run(root, tmp_path / "m", **FAST)
    run(root, tmp_path / "m", **{**FAST, "epochs": 1}, allow=["unreadable_image"])
    seen = json.loads((tmp_path / "m" / "train.json").read_text())["data"]["train"]
    assert seen["images"] == 35 and len(seen["skipped"]) == 1
    with pytest.raises(DataError, match=r"(loss became|norm became) (nan|inf).*\.png.*--lr"):
        run(data, tmp_path / "n", **{**FAST, "lr": 1e30, "optimizer": "sgd"}, clip=None, warmup=0.0)
    (kept,) = (tmp_path / "n.run").glob("nan-*.safetensors")
    assert read_tensors(kept)["rgb"].shape == (8, 3, 32, 32)


def test_views_move_pixels_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
    which = np.arange(6)
    assert (augmented(rgb, which, NOTHING, (0, 0, 0)) == rgb).all()
    mirror = Augment(True, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)
    even, odd = augmented(rgb, which, mirror, (0, 0, 0)), augmented(rgb, which, mirror, (0, 1, 5))
    turned = [bool((a == b[:, ::-1]).all()) for a, b in zip(even, rgb, strict=True)]
    assert 0 < sum(turned) < 6
    assert (odd == even[:, :, ::-1]).all()  # every photo the other way round in the next epoch
    shifted = augmented(rgb, which, Augment(False, 0.3, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0), (0, 0, 0))
    padded = np.pad(rgb, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    places = [
        {(y, x) for y in range(7) for x in range(7) if (padded[i, y : y + 8, x : x + 10] == shifted[i]).all()}
        for i in range(6)
    ]
    assert all(len(found) == 1 for found in places) and len(set.union(*places)) > 3
    cut = augmented(rgb, which, Augment(False, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, cutout=0.5), (0, 0, 0))
    changed = (cut != rgb).any(3)
    assert 0 < changed.sum(axis=(1, 2)).max() <= 16 and (cut[changed] == 114).all()
    warped = augmented(rgb, which, Augment(), (3, 1, 4))
    assert warped.shape == rgb.shape and warped.dtype == np.uint8 and not (warped == rgb).all()
    assert (warped == augmented(rgb, which, Augment(), (3, 1, 4))).all()
    for wrong in ({"shift": 1.0}, {"scale": (2.0, 1.0)}, {"rotate_deg": 200}, {"cutout": -1}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            Augment(**wrong)  # type: ignore[arg-type]


def test_scores_by_hand() -> None:
    found = scores(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["a", "b", "c"])
    assert found["accuracy"] == 0.75 and found["mean_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["per_class"]["c"] == {"accuracy": None, "images": 0} and found["confusion"][0] == [2, 1, 0]


def test_as_typed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def typed(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    train = ["train", "classify", data, "--out", tmp_path / "m", "--arg", "width=0.25", "--epochs", 2, "--batch", 8,
             "--optimizer", "sgd", "--augment", "cutout=0.25", "--threads", 1]  # fmt: skip
    code, out, _ = typed(*train)
    assert code == 0 and "accuracy" in out and "rule top-1" in out
    config = json.loads((tmp_path / "m" / "train.json").read_text())["config"]
    assert config["augment"]["cutout"] == 0.25 and config["optimizer"] == "sgd"
    code, out, _ = typed("evaluate", tmp_path / "m", data, "--split", "train", "--json")
    assert code == 0 and json.loads(out)["images"] == 36
    code, out, _ = typed("evaluate", tmp_path / "m", data)
    assert code == 0 and "with mirror images" in out
    for words, said in (
        (("evaluate", tmp_path / "m", data, "--rule", "gluon"), "--rule is for a trained segmentation model"),
        (("evaluate", tmp_path / "m", data, "--vigilance", "3"), "--vigilance is for a taught classifier"),
        ((*train[:3], "--out", tmp_path / "x", "--epochs", 1, "--augment", "cutuot=1"), "did you mean 'cutout'"),
    ):
        code, _, err = typed(*words)
        assert code == 2 and said in err, err


def test_tensorboard_is_written_when_it_is_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(data, tmp_path / "m", **FAST, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "m.run" / "events"))
    events.Reload()
    history = json.loads((tmp_path / "m" / "train.json").read_text())["history"]
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3]
    assert [e.value for e in events.Scalars("accuracy")] == pytest.approx([r["accuracy"] for r in history])


def test_tensorboard_that_is_not_there_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingPackage, match=r"handful\[tensorboard\]"):
        run(data, tmp_path / "m", **FAST, tensorboard=True)
    assert not (tmp_path / "m").exists()


def test_the_page_shows_what_was_got_wrong(model: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = model
    root = folders(tmp_path / "d", {"test": 3})
    for i in range(3):  # called red, but blue
        write(root / "test" / "red" / f"blue-{i}<b>.png", photo("blue", 500 + i))
    found = evaluate(out, root, report=tmp_path / "page.html")
    wrong = [row for row in found["worst"] if "blue" in row["image"]]
    assert len(wrong) == 3 and {row["predicted"] for row in wrong} == {"blue"} and wrong[0]["truth"] == "red"
    chances = [row["probability"] for row in found["worst"]]
    assert chances == sorted(chances, reverse=True)
    page = (tmp_path / "page.html").read_text()
    assert "blue-0&lt;b&gt;.png" in page and "<b>.png" not in page  # a name cannot become markup
    assert page.count("data:image/jpeg;base64,") == len(found["worst"]) and "http" not in page
    assert "red for blue" in page
