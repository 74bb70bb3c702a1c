"""Folders of taught models that do not fit themselves, files in the way, and locks: what is told is done."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from handful import locks, places
from handful.cli import last_resort
from handful.data.video import Video, write_video
from handful.detection.teaching import teach
from handful.device import compile as compiling
from handful.fewshot.nemo import Nemo
from handful.kinds.changing import set_own
from tests.conftest import save
from tests.curate import test_repair as sets
from tests.cures.desk import Desk, cures
from tests.cures.test_models import changed, fast
from tests.detection.test_irene import BARE
from tests.kinds.worlds import World

Models = Callable[[str], World]


@cures("fewshot.classifier:load teach", "fewshot.nemo:load restore #2", "fewshot.nemo:load teach")
def test_a_classifier_that_does_not_fit_itself(desk: Desk, model_of: Models) -> None:
    world = model_of("taught_classifier")
    model, image = world.model, next(world.images.iterdir())
    about = model / "handful.json"
    whole = json.loads(about.read_text())
    named, framed = ["other", *whole["classes"][1:]], {**whole["network"]["args"], "frame_hw": [48, 48]}
    for values in ({"classes": named}, {"network": {**whole["network"], "args": framed}}):
        changed(about, **values)
        desk.no("predict", model, image)
        if "network" in values:
            desk.yes("teach", world.data, "--out", model, *fast(world, "teach"))
        else:
            about.write_text(json.dumps(whole))  # as teaching it again would
        desk.yes("predict", model, image)
    held = Nemo(4, features="x")
    held.learn_many(np.eye(4), list("aabb"))
    held.save(desk.at("nemo"))
    good = desk.at("nemo", "nemo.json").read_bytes()
    changed(desk.at("nemo", "nemo.json"), classes=["a", "b", "c"])
    desk.raises(Nemo.load, desk.at("nemo"))
    desk.at("nemo", "nemo.json").write_bytes(good)
    assert Nemo.load(desk.at("nemo")).classes == ("a", "b")


@cures("detection.background:from_state teach", "detection.folder:load restore", "detection.folder:load teach")
def test_a_detector_that_does_not_fit_itself(desk: Desk, model_of: Models) -> None:
    world = model_of("taught_detector")
    model, image = world.model, next(world.images.iterdir())
    about = model / "handful.json"
    whole = json.loads(about.read_text())
    examples = whole["examples"]
    for values in ({"crop": {**whole["crop"], "sides": 4}},
                   {"examples": {**examples, "labels": examples["labels"][1:]}},
                   {"examples": {**examples, "background": [*examples["background"], "more.jpg"]}}):  # fmt: skip
        about.write_text(json.dumps(whole))
        desk.yes("predict", model, image)  # restored
        changed(about, **values)
        desk.no("predict", model, image)
    teach(world.data, model, overwrite=True, proposer="dots", crop=BARE, max_samples=4, scales=1)
    desk.yes("predict", model, image)


@cures("device.compile:_unchanged run", "locks:one_writer wait", "places:check_writable choose #2",
       "data.video:__post_init__ replace")  # fmt: skip
def test_others_at_work_and_files_in_the_way(desk: Desk, model_of: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    world = model_of("taught_classifier")
    words = ["device", "compile", world.model, "--runtime", "torch", "--out", desk.at("app")]
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "note", lambda text: set_own(world.model, {"vigilance": 7.0}))
        desk.no(*words)
    desk.yes(*words)

    held, go = threading.Event(), threading.Event()

    def other() -> None:
        with locks.one_writer(desk.place):
            held.set()
            go.wait(30)

    def write() -> None:
        with locks.one_writer(desk.place, 0.0):
            pass

    working = threading.Thread(target=other)
    working.start()
    assert held.wait(30)
    desk.raises(write)
    go.set()
    working.join()
    write()

    desk.raises(places.check_writable, Path("/proc/handful"))
    places.check_writable(desk.at("free"))

    clip, frames = desk.at("clip.mp4"), [np.full((32, 48, 3), 40 * i, np.uint8) for i in range(3)]
    clip.write_bytes(b"no video")
    desk.no("predict", world.model, clip)
    clip.unlink()
    write_video(frames, clip, Fraction(10))
    assert len(list(Video(clip))) == 3
    desk.yes("predict", world.model, clip)
    for i, frame in enumerate(frames):
        save(frame, desk.at("frames", f"{i}.png"))
    desk.yes("predict", world.model, desk.at("frames"))


@cures("cli.last_resort:told please report", "cli.last_resort:told send")
def test_the_last_resort(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(desk.place))
    monkeypatch.setattr(last_resort.tempfile, "tempdir", None)
    try:
        raise KeyError("a fault")
    except KeyError as error:
        text, code = last_resort.told(error, ["teach", "x"])
    said = desk.told(text)
    assert code == 70
    (file,) = [word for word in said.replace(";", " ").split() if "handful-trace-" in word]
    kept = next(desk.place.glob("handful-trace-*")).read_text()
    assert Path(file).name in {path.name for path in desk.place.iterdir()}
    assert "KeyError: 'a fault'" in kept and "['teach', 'x']" in kept and "Traceback" in kept

    root = sets.folders(desk.at("set"))
    with monkeypatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr("sys.stdout", full)
        desk.no("data", "check", root)
    assert "image" in desk.yes("data", "check", root)
