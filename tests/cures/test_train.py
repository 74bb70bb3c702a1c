"""What training proposes, followed: with a network that learns in a moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

from handful.data import formats
from handful.training import loader_classify, loop
from handful.training.evaluate import opened
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.kinds.worlds import World
from tests.training.made import small

Models = Callable[[str], World]
PLAN = ["--net", "stub", "--frame", "32x48", "--threads", 1, "--batch", 4]
ONE = ["--epochs", 1]


@pytest.fixture
def scenes(desk: Desk, model_of: Models) -> Path:
    """Images with masks; the stub is one of the networks."""
    return small(desk.at("scenes"), {"train": 4, "val": 2})


@cures("training.config:__post_init__ --epochs --minutes", "training.loop:reserved --resume --overwrite",
       "training.loop:reserved --out", "training.loop:reserved --resume #2",
       "training.loop:reserved --overwrite #2", "training.loop:reserved --out #2",
       "training.loop:reserved --overwrite #3", "training.loop:reserved --out #3",
       "training.checkpoint:load --overwrite", "training.checkpoint:same_config --out",
       "training.checkpoint:same_config --out #2", "training.checkpoint:_further --from --out",
       "kinds.registry:cure --resume", "kinds.registry:cure handful train",
       "training.tuned:crop_of --frame", leaves_out=("--minutes",))  # fmt: skip
def test_a_run_and_its_place(scenes: Path, desk: Desk) -> None:
    train = ["train", "segment", scenes, *PLAN]
    model = desk.at("model")
    said = desk.no(*train, "--out", model)
    one = [*train, *said.option("--epochs"), 1]
    desk.no(*one, "--out", model, "--resume", "--overwrite")
    desk.yes(*one, "--out", model)
    said = desk.no(*one, "--out", model)
    desk.yes(*one, "--out", model, *said.option("--resume"))
    desk.yes(*one, "--out", model, *said.option("--overwrite"))
    desk.yes(*one, "--out", desk.at("other"))
    said = desk.no(*train, "--epochs", 2, "--out", model, "--resume")
    desk.yes(*train, *ONE, *said.value("--from")[:1], model, *said.option("--out"), desk.at("further"))
    said = desk.no(*one, "--out", model, "--resume", "--lr", 0.5)
    desk.yes(*one, "--out", model, "--resume")
    said = desk.no("predict", desk.at("model.run"), scenes)
    assert "finish it with" in said and str(model) in said
    desk.yes(*one, "--out", model, *said.option("--resume"))
    with filelock.FileLock(desk.at("model.run") / loop.LOCK):
        desk.no(*one, "--out", model, "--resume")
    desk.yes(*one, "--out", model, "--resume")
    whole = (scenes / "images/train/0.png").read_bytes()
    save(np.zeros((32, 48, 3), np.uint8), scenes / "images/train/0.png")
    desk.no(*one, "--out", model, "--resume")
    (scenes / "images/train/0.png").write_bytes(whole)
    desk.yes(*one, "--out", model, "--resume")
    for place in desk.at("model.run").glob("step-*"):
        (place / "weights.safetensors").write_bytes(b"")
    said = desk.no(*one, "--out", model, "--resume")
    desk.yes(*one, "--out", model, *said.option("--overwrite"))
    for place in desk.at("model.run").glob("step-*"):
        shutil.rmtree(place)
    said = desk.no(*one, "--out", model, "--resume")
    desk.yes(*one, "--out", model, *said.option("--overwrite"))
    desk.at("mine").mkdir()
    desk.at("mine/a").write_text("mine")
    desk.no(*one, "--out", desk.at("mine"))
    desk.yes(*one, "--out", desk.at("third"))
    said = desk.no(*one, "--out", desk.at("fourth"), "--crop", "64x64")
    desk.yes(*one, "--out", desk.at("fourth"), "--crop", "64x64", *said.value("--frame"))


@cures("cli.verbs_train:plain --lr-of", "training.weights:rates --freeze",
       "training.loop:_stop_for_nan --lr", "training.distributed:device_of --torch-device",
       "training.distributed:device_of --torch-device #2", "training.weights:teacher_of handful train",
       "training.weights:teacher_of choose", "training.transfer:transfer choose",
       "training.source:split_of handful data split", "training.source:split_of --out --part",
       leaves_out=("--freeze",))  # fmt: skip
def test_settings_of_a_run(scenes: Path, desk: Desk, model_of: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ["train", "segment", scenes, *PLAN, *ONE]
    said = desk.no(*train, "--out", desk.at("a"), "--lr-of", "core.head=fast")
    desk.yes(*train, "--out", desk.at("a"), *said.option("--lr-of"), "core.head=2")
    desk.no(*train, "--out", desk.at("b"), "--freeze", "core")
    desk.yes(*train, "--out", desk.at("b"), "--freeze", "core.encoder")
    three = ["train", "segment", scenes, *PLAN, "--epochs", 3, "--out", desk.at("c"), "--optimizer", "sgd"]
    said = desk.no(*three, "--lr", 1e38, "--clip", 0)
    desk.yes(*three, *said.option("--lr"), 1e-3, "--overwrite")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        said = desk.no(*train, "--out", desk.at(device), "--torch-device", device)
        desk.yes(*train, "--out", desk.at(device), *said.value("--torch-device"))
    # teachers
    classifier = model_of("classifier").model
    assert "`handful train segment` made" in desk.no(*train, "--out", desk.at("d"), "--teacher", classifier)
    desk.yes(*train, "--out", desk.at("d"), "--teacher", desk.at("a"))
    renamed = small(desk.at("renamed"), {"train": 4, "val": 2}, names={0: "background", 1: "thing", 2: "sky"})
    desk.no("train", "segment", renamed, *PLAN, *ONE, "--out", desk.at("e"), "--teacher", desk.at("a"))
    desk.yes("train", "segment", renamed, *PLAN, *ONE, "--out", desk.at("e"))
    desk.no(*train, "--out", desk.at("f"), "--from", classifier)
    desk.yes(*train, "--out", desk.at("f"), "--from", desk.at("a"))
    said = desk.no(*train, "--out", desk.at("g"), "--train-split", "nothing")
    parts = said.command("data split", COPY=desk.at("parts"))
    desk.yes(*parts, "--no-near")
    desk.yes("train", "segment", desk.at("parts"), *PLAN, *ONE, "--out", desk.at("g"))


@cures("training.loader_classify:classes_of handful teach", "training.loader_classify:classes_of --out",
       "training.evaluate:opened handful train", "training.transfer:transfer handful train",
       "training.source:on_finding --allow", "training.source:usable --allow",
       "training.source:not_counted handful data convert", "training.source:not_counted --to --labels",
       "training.loader_classify:gather check", "kinds.shared:_TAUGHT handful train",
       "kinds.shared:_TAUGHT --from --out", leaves_out=("handful train",))  # fmt: skip
def test_classifiers(desk: Desk, model_of: Models) -> None:
    world = model_of("taught_classifier")
    alone = desk.at("alone")
    for split, color in (("train", "red"), ("val", "blue")):
        shutil.copytree(world.data / color, alone / split / "red")
    said = desk.no("train", "classify", alone, "--out", desk.at("m"), *ONE)
    words = said.command("teach", MODEL=desk.at("taught"))
    fast = ["--backbone", "timm:test_efficientnet", "--backbone-weights", world.data.parent / "small.safetensors",
            "--frame", "64x64", "--split", "train"]  # fmt: skip
    desk.yes(*words, *fast)
    trained = model_of("classifier")
    other = desk.at("other")
    for split, folder in (("train", "x"), ("val", "y")):
        shutil.copytree(trained.data / "test" / "red", other / split / folder)
    said = desk.no("evaluate", trained.model, other)
    table = desk.at("names.csv")
    table.write_text("name,target\nx,red\ny,blue\n")
    desk.yes(*said.command("data convert", **{"COPY": desk.at("copy"), "NAMES.csv": table}), "--allow-loss")
    assert "no class of" not in desk.run("evaluate", trained.model, desk.at("copy"))
    dataset = formats.read(trained.data)
    desk.raises(loader_classify.gather, dataset, "train", ["purple"], (32, 32))
    assert len(loader_classify.gather(dataset, "test", ["red"], (32, 32)))
    images = shutil.copytree(trained.data, desk.at("images"))
    bad = sorted((images / "test/red").iterdir())[0]
    bad.write_bytes(b"no image")
    said = desk.no("evaluate", trained.model, images)
    desk.yes("evaluate", trained.model, images, *said.value("--allow"))
    (images / "test/red").rename(images / "test/Red")
    bad.with_name("x").parent.mkdir(exist_ok=True)
    shutil.copy(sorted((images / "test/blue").iterdir())[0], images / "test/red/new.png")
    said = desk.no("evaluate", trained.model, images, "--allow", "unreadable_image")
    desk.yes("evaluate", trained.model, images, "--allow", "unreadable_image", *said.value("--allow"))
    desk.no(
        "train", "classify", trained.data, "--from", model_of("taught_detector").model, "--out", desk.at("no"), *ONE
    )
    desk.no("set", trained.model, "--vigilance", 1)
    said = desk.no("unlearn", trained.model, "--class", "red")
    words = said.command("train", TASK="classify", DATA=trained.data, MODEL=trained.model, OTHER=desk.at("more"))
    desk.yes(*words, *ONE, "--batch", 8, "--threads", 1, "--arg", "width=0.25", "--frame", "32x32")
    how = {"split": None, "format": None, "device": "cpu"}
    assert "`handful train segment` made" in desk.raises(opened, trained.model, trained.data, ["segment"], **how)
