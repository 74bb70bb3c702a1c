"""The recipe from data to model folder, and every way in which it must stop with a reason."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PIL_Image

from handful.errors import DataError, UnknownName
from handful.files import read_json, read_tensors
from handful.image import read_image
from handful.models.folder import from_folder, read_meta
from handful.training import checkpoint
from handful.training.augment_segment import NOTHING
from handful.training.config import Plan
from handful.training.distributed import device_of
from handful.training.evaluate_segment import evaluate, predict
from handful.training.loss import Loss
from handful.training.recipe_segment import run
from handful.training.start import Settings
from tests.bounds import SEED, bound
from tests.conftest import opened
from tests.training.made import FAST, SIZE_HW, ids_of, small, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("data"), {"train": 10, "val": 3, "test": 2}, seed=1000 * SEED)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model folder and what run() said of it; copy it before changing it."""
    out = tmp_path_factory.mktemp("trained") / "model"
    return out, run(data, out, **{**FAST, "epochs": 40}, augment=NOTHING, balance="none", every=5, seed=SEED)


def test_it_learns_and_the_folder_is_a_model(model: tuple[Path, dict[str, Any]], data: Path) -> None:
    out, said = model
    bound("segment: pixel accuracy", said["pixel_accuracy"], at_least=0.85)
    bound("segment: mean IoU", said["miou_with_background"], at_least=0.6)
    meta = read_meta(out)
    assert meta["task"] == "segment" and meta["classes"] == ["background", "box", "sky"] and meta["seed"] == SEED
    assert meta["metrics"]["miou_with_background"] == said["miou_with_background"]
    assert "TP / (TP + FP + FN)" in meta["rule"]["miou"] and meta["params"] == said["params"] > 100
    assert meta["macs"] == said["macs"] > 1000 and meta["minutes"] > 0
    loaded = from_folder(out).network
    assert loaded.frame_hw == SIZE_HW
    rgb = read_image(data / "images" / "val" / "0.png").rgb_u8
    bound("segment: right pixels of one photo", (predict(loaded, rgb) == ids_of(1000 * SEED + 11)).mean(), at_least=0.8)
    for name in ("curves.png", "metrics.csv", "train.json"):
        assert name in meta["files"]
    assert opened(out / "curves.png").width > 400
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == [str(i) for i in range(1, 41)]
    assert [r["epoch"] for r in rows if r["miou_with_background"]] == [str(i) for i in range(5, 41, 5)]
    bound("segment: last loss of the first", float(rows[-1]["loss"]) / float(rows[0]["loss"]), at_most=0.5)
    record = json.loads((out / "train.json").read_text())
    assert record["config"]["lr"] == 0.02 and record["data"]["train"]["images"] == 10
    assert record["data"]["train"]["images_of"] == {"background": 10, "box": 10, "sky": 10}
    assert {row["images"] for row in said["per_class"].values()} == {3}


def test_what_was_kept_is_the_best_on_val(model: tuple[Path, dict[str, Any]]) -> None:
    out, said = model
    history = json.loads((out / "train.json").read_text())["history"]
    scores = {row["epoch"]: row["miou_with_background"] for row in history if "miou_with_background" in row}
    assert said["best"]["epoch"] == max(scores, key=lambda e: scores[e])
    # photos, frame and labels are of one size here, so both ways of measuring see the same
    assert said["miou_with_background"] == pytest.approx(max(scores.values()))


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()[1].copy()
    said = [run(data, tmp_path / str(i), **FAST, workers=workers) for i, workers in enumerate((1, 5))]
    assert said[0]["model_sha256"] == said[1]["model_sha256"]
    assert before[0] == torch.get_num_threads() and torch.equal(before[1], torch.get_rng_state())
    assert (before[2] == np.random.get_state()[1]).all()
    assert run(data, tmp_path / "2", **FAST, seed=1)["model_sha256"] != said[0]["model_sha256"]


def test_evaluate_measures_at_the_size_of_the_labels(
    model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = model
    found = evaluate(out, data, split="val")
    for key in ("miou_with_background", "miou_without_background", "pixel_accuracy", "mean_accuracy", "per_class",
                "rule", "params", "macs", "seed"):  # fmt: skip
        assert found[key] == said[key], key
    assert found["minutes"] == said["minutes"] and found["split"] == "val" and found["images"] == 3
    assert evaluate(out, data)["split"] == "test"
    # larger photos and labels
    large = tmp_path / "large"
    for kind in ("images", "masks"):
        for file in sorted((data / kind / "val").iterdir()):
            write(large / kind / "val" / file.name, np.asarray(PIL_Image.open(file)).repeat(3, 0).repeat(3, 1))
    shutil.copyfile(data / "labels.json", large / "labels.json")
    bigger = evaluate(out, large)
    assert sum(map(sum, bigger["confusion"])) == 9 * sum(map(sum, found["confusion"]))
    bound("segment: pixel accuracy lost where photos are three times as large",
            found["pixel_accuracy"] - bigger["pixel_accuracy"], at_most=0.1)  # fmt: skip
    with pytest.raises(UnknownName, match="did you mean 'gluon'"):
        evaluate(out, data, rule="glun")
    with pytest.raises(DataError, match="no split 'tset'"):
        evaluate(out, data, split="tset")
    other = small(tmp_path / "other", names={0: "background", 1: "car", 2: "sky"})
    capsys.readouterr()
    part = evaluate(out, other)
    assert part["not_counted"] == ["car"] and "not counted: car" in capsys.readouterr().err
    assert part["per_class"]["box"]["pixels"] == 0
    with pytest.raises(DataError, match="is one of the model's"):
        evaluate(out, small(tmp_path / "alien", names={0: "a", 1: "b", 2: "c"}))


def test_transfer_freeze_and_teacher(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, _ = model
    more: dict[str, Any] = {"classes": ["sky", "box"], "freeze": ["encoder"], "lr_of": {"head": 2.0}, "ema": None}
    plan = {**FAST, **more, "epochs": 1, "precision": "bf16", "loss": Loss(dice=0.5, ohem=0.5)}
    said = run(data, tmp_path / "m", **plan, from_=out, teacher=out)
    assert said["transfer"] == {"kept": 12, "reshaped": 4, "new": 0, "dropped": 0}
    old, new = (read_tensors(f / "model.safetensors") for f in (out, tmp_path / "m"))
    for name in new:
        frozen = name.startswith("core.encoder")
        assert not frozen or (old[name] == new[name]).all(), name  # batch norm's statistics too
    assert not (old["core.middle.0.weight"] == new["core.middle.0.weight"]).all()
    assert new["core.head.weight"].dtype == np.float32
    record = json.loads((tmp_path / "m" / "train.json").read_text())
    assert {r["lr"] for r in record["transfer"] if r["name"].startswith("core.head")} == {2.0}
    assert (tmp_path / "m" / "transfer.png").exists() and "transfer.png" in read_meta(tmp_path / "m")["files"]
    with pytest.raises(DataError, match=r"the teacher .* does not know car"):
        run(small(tmp_path / "d", names={0: "car", 1: "box", 2: "sky"}), tmp_path / "n", **FAST, teacher=out)


def test_without_val_the_last_weights_are_kept(data: Path, tmp_path: Path) -> None:
    said = run(data, tmp_path / "m", **FAST, val_split=None)
    assert said["best"] is None and "miou_with_background" not in said
    with_val = run(data, tmp_path / "n", **FAST)["model"]
    heights = [opened(Path(folder) / "curves.png").height for folder in (tmp_path / "m", with_val)]
    assert heights[0] < 0.7 * heights[1]  # nothing was measured, so there is no empty panel for it
    assert read_meta(tmp_path / "m")["metrics"] is None


def test_a_presets_frame_is_what_it_trains_for(data: Path, tmp_path: Path) -> None:
    frames = []
    for wish in ({}, {"args": {"frame_hw": [64, 96]}}, {"args": {"frame_hw": [64, 96]}, "size_hw": (32, 64)}):
        out = tmp_path / f"m{len(frames)}"
        run(data, out, **{**{k: v for k, v in FAST.items() if k not in ("size_hw", "crop", "args")}, **wish,
                          "net": "exeggutor:people", "epochs": 1, "val_split": None})  # fmt: skip
        frames.append(tuple(from_folder(out).network.frame_hw))
        assert read_json(out / "train.json")["config"]["size_hw"] == list(frames[-1])
    assert frames == [(256, 256), (64, 96), (32, 64)]


def test_minutes_become_epochs(data: Path, tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    plan = {**FAST, "epochs": None, "minutes": 0.5}
    said = run(data, tmp_path / "m", **plan, clock=lambda: float(next(ticks)))
    # a second a look at the clock: 2 batches of 1.1 s and 3 photos of 1 s are an epoch of 5.2 s
    assert said["epochs"] == int(30 / 5.2)


def test_resume_goes_on_or_says_why_not(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(data, tmp_path / "whole", **FAST)
    real = checkpoint.save

    class Stopped(Exception):
        pass

    def once(*args: Any) -> Path:
        path = real(*args)
        if path.name == "step-00000004":
            raise Stopped
        return path

    monkeypatch.setattr(checkpoint, "save", once)
    with pytest.raises(Stopped):
        run(data, tmp_path / "m", **FAST)
    monkeypatch.undo()
    assert not (tmp_path / "m").exists()
    with pytest.raises(DataError, match=r"m\.run exists; use --resume"):
        run(data, tmp_path / "m", **FAST)
    with pytest.raises(DataError, match=r"lr is 0\.5, was 0\.02; give the same settings"):
        run(data, tmp_path / "m", **{**FAST, "lr": 0.5}, resume=True)
    with pytest.raises(DataError, match="the data have changed"):
        run(small(tmp_path / "d", {"train": 9, "val": 3}), tmp_path / "m", **FAST, resume=True)
    (tmp_path / "m.run" / ".step-00000006.abc.part").mkdir()
    (tmp_path / "m.run" / ".metrics.csv.abc.part").write_text("half")
    said = run(data, tmp_path / "m", **FAST, resume=True)
    assert said["model_sha256"] == whole["model_sha256"] and said["resumed"]
    assert not list((tmp_path / "m.run").glob(".*"))
    again = run(data, tmp_path / "m", **FAST, resume=True)  # there is nothing left to do, and it is done
    assert again["model_sha256"] == whole["model_sha256"]
    with pytest.raises(DataError, match="exists; use --resume to continue, --overwrite"):
        run(data, tmp_path / "m", **FAST)
    with pytest.raises(DataError, match="exclude each other"):
        run(data, tmp_path / "m", **FAST, resume=True, overwrite=True)
    (tmp_path / "m.run" / "notes.txt").write_text("mine")
    new = run(data, tmp_path / "m", **FAST, overwrite=True, seed=3)
    assert new["model_sha256"] != whole["model_sha256"] and (tmp_path / "m.run" / "notes.txt").exists()
    shutil.rmtree(tmp_path / "m.run")
    with pytest.raises(DataError, match=r"is finished and .* has no checkpoint"):
        run(data, tmp_path / "m", **FAST, resume=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="is not a model folder, so it is not overwritten"):
        run(data, tmp_path / "mine", **FAST, overwrite=True)


def test_a_run_that_an_older_version_began_goes_on(data: Path, tmp_path: Path) -> None:
    # settings that bear another name now; what is otherwise is told by its name of today
    config = {"views": {"flip": 0.5}, "world": 1, "lr": 0.1}
    state = checkpoint.State(config, "data", {}, 3)
    checkpoint.same_config(state, {"augment": {"flip": 0.5}, "world_size": 1, "lr": 0.1}, "data", {})
    with pytest.raises(DataError, match=r"augment is \{'flip': 0.4\}, was \{'flip': 0.5\}; give the same"):
        checkpoint.same_config(state, {"augment": {"flip": 0.4}, "world_size": 1, "lr": 0.1}, "data", {})


def test_every_recipe_takes_what_the_plan_does() -> None:
    own = {"args", "classes", "size_hw", "from_", "rename", "freeze", "lr_of", "train_split", "val_split", "format",
           "images", "allow", "resume", "overwrite", "clock"}  # fmt: skip
    assert Settings.__annotations__.keys() == Plan.__dataclass_fields__.keys() | own
    assert not own & Plan.__dataclass_fields__.keys()


def test_two_runs_do_not_write_to_one_place(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, said = checkpoint.save, []

    def second(*args: Any) -> Path:
        with pytest.raises(DataError, match=r"another run is writing to .*m\.run; wait for it"):
            run(data, tmp_path / "m", **FAST, overwrite=True)
        said.append(True)
        return real(*args)

    monkeypatch.setattr(checkpoint, "save", second)
    run(data, tmp_path / "m", **FAST)
    assert said and (tmp_path / "m").exists()


@pytest.mark.parametrize(("allowed", "last"), [(0, "there is no earlier"), (3, "there is no earlier"), (4, "00000002")])
def test_a_full_disk_stops_with_the_last_checkpoint_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, last: str
) -> None:
    import safetensors.numpy

    whole = run(data, tmp_path / "whole", **FAST)
    real, calls = safetensors.numpy.save_file, []

    def full(tensors: Any, path: str) -> None:
        calls.append(path)
        if len(calls) > allowed:
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(DataError, match=f"No space left on device.*{last}.*make room and go on"):
        run(data, tmp_path / "m", **FAST)
    monkeypatch.undo()
    assert run(data, tmp_path / "m", **FAST, resume=True)["model_sha256"] == whole["model_sha256"]


def test_nan_stops_keeps_the_batch_and_names_the_photos(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(loss became|norm became) (nan|inf).*the images were .*\d\.png.*--lr") as e:
        run(data, tmp_path / "m", **{**FAST, "lr": 1e30}, clip=None, warmup=0.0)
    (kept,) = (tmp_path / "m.run").glob("nan-*.safetensors")
    assert str(kept) in str(e.value) and not (tmp_path / "m").exists()
    batch = read_tensors(kept)
    assert batch["rgb"].shape == (4, 3, *SIZE_HW) and batch["labels"].shape == (4, *SIZE_HW)
    assert batch["rgb"].dtype == batch["labels"].dtype == np.uint8


def test_a_device_that_is_not_there() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match="cuda was asked for, but torch sees no GPU here; use --torch-device cpu"):
            device_of("cuda")
        with pytest.raises(DataError, match="cuda:3 was asked for"):
            device_of("cuda:3")
    with pytest.raises(UnknownName, match="did you mean 'cuda'"):
        device_of("cudda")
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epochs": None}, "either --epochs or --minutes"),
        ({"minutes": 1.0}, "either --epochs or --minutes"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"threads": 0}, "threads is 0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"optimizer": "adamv"}, "did you mean 'adamw'"),
        ({"keep": "lats"}, "did you mean 'last'"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"precision": "fp61"}, "no precision named 'fp61'"),
        ({"device": "cuda:9"}, "cuda:9 was asked for"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"balance": "ennet"}, "did you mean 'enet'"),
        ({"rule": "mmseq"}, "did you mean 'mmseg'"),
        ({"background": "skyy"}, "did you mean 'sky'"),
        ({"net": "stbu"}, "did you mean 'stub'"),
        ({"freeze": ["encodr"]}, "did you mean 'encoder'"),
        ({"val_split": "vla"}, "no split 'vla', it has test, train, val"),
        ({"from_": Path("nowhere")}, "nowhere is not a folder"),
        ({"teacher": Path("nowhere")}, "nowhere is not a folder"),
    ],
)
def test_every_wrong_wish_is_answered(data: Path, tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        run(data, tmp_path / "m", **{**FAST, **more})
    assert not (tmp_path / "m").exists() and not checkpoint.checkpoints(tmp_path / "m.run")


def wrong_value(root: Path) -> None:
    write(root / "masks" / "train" / "1.png", np.full(SIZE_HW, 9, np.uint8))


def wrong_size(root: Path) -> None:
    write(root / "masks" / "train" / "1.png", ids_of(2)[2:])


def no_photo(root: Path) -> None:
    (root / "images" / "train" / "1.png").write_bytes(b"no photo")


@pytest.mark.parametrize(
    ("harm", "said"),
    [(wrong_value, r"1\.png: holds the value 9"), (wrong_size, r"1\.png: is 48x30 px"), (no_photo, r"1\.png")],
)
def test_bad_data_stop_it_before_it_begins(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    root = small(tmp_path / "data")
    harm(root)
    with pytest.raises(DataError, match=said + r"[\s\S]*--allow"):
        run(root, tmp_path / "m", **FAST)
    assert not (tmp_path / "m").exists()
    if harm is wrong_size:
        run(root, tmp_path / "m", **{**FAST, "epochs": 1}, allow=["mask_size_mismatch"])
        assert json.loads((tmp_path / "m" / "train.json").read_text())["data"]["train"]["images"] == 9


def test_the_page_shows_the_worst_photos_first(model: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    out, _ = model
    root = tmp_path / "d"
    shutil.copytree(data, root)
    name = root / "images" / "val" / "1.png"
    write(name, 255 - np.asarray(PIL_Image.open(name)))  # nothing like what was learned
    found = evaluate(out, root, split="val", report=tmp_path / "page.html")
    assert found["worst"][0]["image"] == "1.png" and len(found["worst"]) == 3
    values = [row["miou"] for row in found["worst"]]
    assert values == sorted(values) and values[0] < values[1] - 0.1
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 9 and page.index("1.png") < page.index("0.png")
    for words in ("TP / (TP + FP + FN)", "mIoU without background", "truth \\ predicted", "sky"):
        assert words in page
    assert "http" not in page and not (tmp_path / ".page.html.part").exists()
    assert "pictures" not in found["worst"][0]
    said = run(root, tmp_path / "m", **{**FAST, "epochs": 1})
    own = Path(said["report"]).read_text()
    assert "How it was learned" in own and "data:image/png;base64," in own
