"""What model folders, bundles, weights and networks propose, followed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import handful.kinds
from handful import bundle
from handful.data.sample_images import sample_photo
from handful.detection import graphs, irene, teaching
from handful.device.lab import agreement
from handful.errors import DataError
from handful.fewshot.classifier import FewShotClassifier
from handful.kinds import loading, registry
from handful.models import fetch, folder
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.detection.test_irene import BARE
from tests.kinds.worlds import SMALL, World
from tests.training.test_detect import FAST
from tests.training.test_detect import small as things

Models = Callable[[str], World]


def changed(place: Path, **values: Any) -> None:
    """Keys of a JSON file set to these values."""
    place.write_text(json.dumps({**json.loads(place.read_text()), **values}))


def fast(world: World, task: str) -> list[object]:
    """Options that make a model of a kind in a moment."""
    if task == "teach":
        weights = world.data.parent / "small.safetensors"
        return ["--backbone", SMALL, "--backbone-weights", weights, "--frame", "64x64", "--overwrite"]
    return {
        "classify": ["--arg", "width=0.25", "--frame", "32x32", "--epochs", 1, "--batch", 8, "--threads", 1],
        "segment": ["--net", "stub", "--frame", "32x48", "--epochs", 1, "--batch", 4, "--threads", 1],
    }[task]


@cures("kinds:MADE_BY handful teach", "kinds:MADE_BY handful train", "kinds:MADE_BY --out",
       "kinds.kind_classifier:MADE_BY handful train classify", "kinds.kind_classifier:MADE_BY --out",
       "kinds.kind_segmenter:MADE_BY handful train segment", "kinds.kind_segmenter:MADE_BY --out",
       "kinds.kind_taught_classifier:MADE_BY handful teach", "kinds.kind_taught_classifier:MADE_BY --out",
       "kinds.registry:cure handful teach", "kinds.registry:cure handful train #2",
       "kinds.registry:cure --out", "models.folder:read_meta handful teach",
       "models.folder:read_meta --out", "models.folder:read_meta handful teach #2",
       "models.folder:read_meta --out #2", "kinds.registry:can_be_taught --out",
       "fewshot.classifier:scores handful teach", "fewshot.classifier:scores --out")  # fmt: skip
def test_where_a_model_is_wanted(desk: Desk, model_of: Models) -> None:
    world = model_of("taught_classifier")
    image = next(world.images.iterdir())
    photos = desk.at("photos")
    shutil.copytree(world.data, photos)
    said = desk.no("predict", desk.at("nowhere"), image)
    desk.yes(*said.command("teach", DATA=photos, DIR=desk.at("nowhere")), *fast(world, "teach"))
    desk.yes("predict", desk.at("nowhere"), image)
    said = desk.no("predict", photos, image)
    desk.yes(*said.command("teach", DIR=desk.at("made")), *fast(world, "teach"))
    trained = model_of("classifier")
    said = desk.no("predict", trained.data, image)
    words = said.command("train", TASK="classify", DIR=desk.at("trained"))
    desk.yes(*words, *fast(trained, "classify"))
    for call, place in ((folder.read_meta, image), (folder.read_meta, photos)):
        said = desk.raises(call, place)
        desk.yes(*said.command("teach", PHOTOS=photos, DIR=desk.at("more")), *fast(world, "teach"))
    network = FewShotClassifier.load(desk.at("more"))
    for name in network.classes:
        network.nemo.forget(name)
    from handful.image import read_image

    said = desk.raises(network.scores, read_image(image))
    desk.yes(*said.command("teach", PHOTOS=photos, DIR=desk.at("fresh")), *fast(world, "teach"))
    segmenter = model_of("segmenter")
    desk.no("teach", photos, "--out", segmenter.model, "--add")
    desk.yes("teach", photos, "--out", desk.at("again"), *fast(world, "teach"))
    # each kind says which command makes one: it is told, and does
    for kind, task, data in (("classifier", "classify", trained.data), ("segmenter", "segment", segmenter.data),
                             ("taught_classifier", "teach", photos)):  # fmt: skip
        said = desk.told(f"`handful {registry.kind(kind).MADE_BY[0].removeprefix('handful ')}`")
        words = said.command("", DATA=data, PHOTOS=data, MODEL=desk.at(f"made {kind}"))
        desk.yes(*words, *fast(world, task))
        assert registry.kind_name_of(desk.at(f"made {kind}")) == kind
    assert handful.kinds.MADE_BY


@cures("kinds.kind_detector:MADE_BY handful train detect", "kinds.kind_detector:MADE_BY --out",
       "kinds.kind_detector:MADE_BY handful train instance", "kinds.kind_detector:MADE_BY --out #2",
       "kinds.kind_detector:NOT_COMPILED handful teach", "kinds.kind_detector:NOT_COMPILED --out",
       "kinds.kind_taught_detector:MADE_BY handful teach", "kinds.kind_taught_detector:MADE_BY --out",
       "detection.teaching:_may_write --add --overwrite", "detection.teaching:_may_write --add #2",
       "detection.teaching:_taught_more give", "detection.folder:load handful teach",
       "detection.folder:load --out", "detection.graphs:graph_of --proposer",
       "device.lab.agreement:agreement --photos", leaves_out=("--proposer", "--photos"))  # fmt: skip
def test_detectors(desk: Desk, model_of: Models) -> None:
    trained, taught = model_of("detector"), model_of("taught_detector")
    said = desk.no("device", "compile", trained.model, "--runtime", "torch")
    bare = ["--proposer", "dots", "--scales", 1, "--max-samples", 4, "--partial"]
    desk.yes(*said.command("teach", DATA=taught.data, MODEL=desk.at("first")), *bare)
    told = desk.told(f"`{registry.kind('taught_detector').MADE_BY[0]}`")
    desk.yes(*told.command("teach", BOXES=taught.data, MODEL=desk.at("second")), *bare)
    desk.no("teach", taught.data, "--out", desk.at("second"), "--add", "--overwrite")
    desk.no("teach", taught.data, "--out", desk.at("second"), "--add", "--proposer", "dots")
    desk.no("teach", taught.data, "--out", desk.at("second"), "--add", "--max-samples", 4)
    desk.yes("teach", taught.data, "--out", desk.at("second"), "--add", "--split", "val")
    desk.yes("teach", taught.data, "--out", desk.at("second"), "--overwrite", *bare)
    said = desk.raises(irene.Irene.load, model_of("classifier").model)
    coco = next(taught.data.glob("instances_train.json"))
    words = said.command("teach", **{"COCO.json": coco, "DETECTOR": desk.at("third")})
    desk.yes(*words, "--images", taught.data / "images/train", *bare, "--split", "train")
    few = things(desk.at("few"), {"train": 2, "val": 3})
    for task, command in zip(("detect", "instance"), registry.kind("detector").MADE_BY, strict=True):
        told = desk.told(f"`{command}`")
        args = [word for name, value in FAST["args"].items() for word in ("--arg", f"{name}={json.dumps(value)}")]
        height, width = FAST["size_hw"]
        desk.yes(*told.command("train", DATA=few, MODEL=desk.at(task)), *args, "--epochs", 1, "--batch", 4,
                 "--threads", 1, "--frame", f"{height}x{width}")  # fmt: skip
        assert registry.kind_name_of(desk.at(task)) == "detector"
    mute = type("Mute", (), {"about": {"name": "mute"}, "scales": None})()
    desk.raises(graphs.graph_of, mute)
    from handful.detection.proposer_objectness import load

    assert graphs.graph_of(load())
    desk.raises(agreement.agreement, [], [])
    assert teaching and BARE


@cures("bundle:_manifest handful device compile", "bundle:_manifest --runtime",
       "bundle:compile_again --precision", "bundle:read_bundle do not",
       "device.compile:compile_bundle handful device compile",
       "device.compile:compile_bundle --runtime --precision --out", "cli.verbs_predict:_loaded --top",
       "kinds.registry:look_at copy", "cli.verbs_models:flow --out", "cli.verbs_models:_argument --arg",
       "cli.verbs_models:_show_text handful train", "kinds.kind_taught_detector:VERBS give",
       "kinds.shared:on_disk save", "device.manual:manual handful device compare",
       "models.folder:read_meta restore #2", "models.folder:read_meta restore #3",
       "models.folder:read_meta restore", "models.folder:read_meta do not",
       "models.folder:read_meta teach", leaves_out=("--top", "handful train", "handful device compare"))  # fmt: skip
def test_model_folders_and_bundles(desk: Desk, model_of: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    world = model_of("taught_classifier")
    model, image = world.model, next(world.images.iterdir())
    said = desk.raises(bundle.read_bundle, desk.at("nowhere"))
    desk.yes(*[{"litert": "torch"}.get(word, word) for word in said.command("device compile", MODEL=model)])
    place = model / "compiled/torch-fp32"
    assert "handful device compare MODEL" in desk.told((place / "README.md").read_text())
    whole = (place / bundle.MANIFEST).read_text()
    changed(place / bundle.MANIFEST, schema_version=0, precision="fp16")
    said = desk.no("predict", place, image)
    (place / bundle.MANIFEST).write_text(whole)
    assert said.value("--precision") == ["--precision", "fp16"] and str(model) in said.command("device compile")
    desk.typed.append((desk.clock, ["--precision"]))  # the runtime torch has fp32 alone; others are compiled elsewhere
    changed(place / bundle.MANIFEST, files={**json.loads(whole)["files"], "../x": "0"})
    desk.no("predict", place, image)
    (place / bundle.MANIFEST).write_text(whole)
    desk.yes("predict", place, image)
    changed(place / bundle.MANIFEST, schema_version=0)
    desk.yes(*desk.no("predict", place, image).command("device compile"))
    desk.yes("predict", place, image)
    with monkeypatch.context() as patch:
        patch.setattr("handful.places.check_writable", _refuse)
        said = desk.no("device", "compile", model, "--runtime", "torch", "--force")
    words = said.command("device compile", DIR=desk.at("app"))
    desk.yes(*words)
    segmenter = model_of("segmenter")
    desk.yes("device", "compile", segmenter.model, "--runtime", "torch")
    desk.no("predict", segmenter.model / "compiled/torch-fp32", next(segmenter.images.iterdir()), "--top", 2)
    desk.yes("predict", segmenter.model / "compiled/torch-fp32", next(segmenter.images.iterdir()))
    # a model that is not whole is copied again
    state = (model / "model.safetensors").read_bytes()
    for spoil in (lambda f: f.unlink(), lambda f: f.write_bytes(b"x")):
        spoil(model / "model.safetensors")
        desk.no("predict", model, image)
        desk.raises(folder.read_meta, model)
        (model / "model.safetensors").write_bytes(state)
        desk.yes("predict", model, image)
    about = (model / folder.META).read_text()
    for spoiled in ({"schema_version": 0}, {"files": {"../x": "0"}}):
        changed(model / folder.META, **spoiled)
        desk.no("predict", model, image)
        (model / folder.META).write_text(about)
    (model / folder.META).write_text(json.dumps({k: v for k, v in json.loads(about).items() if k != "classes"}))
    desk.no("predict", model, image)
    (model / folder.META).write_text(about)
    desk.yes("predict", model, image)
    # networks
    said = desk.no("models", "flow", segmenter.model, image, "--out", desk.at("flow.jpg"))
    desk.yes("models", "flow", segmenter.model, image, *said.option("--out"), desk.at("flow.png"))
    said = desk.no("models", "show", "stub", "--arg", "width")
    desk.yes("models", "show", "stub", *said.option("--arg"), "width=4")
    taught = model_of("taught_detector")
    desk.no("models", "flow", taught.model, next(taught.images.iterdir()), "--out", desk.at("f.png"))
    loaded = loading.load(model)
    loaded.folder = None
    desk.raises(loaded.compile, "torch")
    loaded.save(desk.at("saved"))
    desk.yes("predict", desk.at("saved"), image)


def _refuse(place: Path) -> None:
    raise DataError(f"nothing can be written into {place}")


@cures("models.backbone:_timm --backbone --backbone-weights", "models.fetch:load handful weights get",
       "models.fetch:load handful weights get #2", "models.fetch:_taken handful weights list",
       "models.fetch:_downloaded --file", "models.fetch:home set",
       leaves_out=("--backbone", "handful weights get", "--file"))  # fmt: skip
def test_weights(desk: Desk, model_of: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    world = model_of("taught_classifier")

    def offline(*a: Any, **k: Any) -> None:
        raise OSError("no network")

    import urllib.request

    import timm

    own = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: offline() if k.get("pretrained") else own(*a, **k))
    teach = ["teach", world.data, "--out", desk.at("model"), "--backbone", SMALL, "--frame", "64x64"]
    said = desk.no(*teach)
    desk.yes(*teach, *said.option("--backbone-weights"), world.data.parent / "small.safetensors")
    monkeypatch.setenv("HANDFUL_CACHE", "")
    desk.raises(fetch.home)
    monkeypatch.setenv("HANDFUL_CACHE", str(desk.at("cache")))
    assert fetch.home()
    said = desk.raises(fetch.load, "nanodet")
    assert said.command("weights get") == ["weights", "get", "nanodet"]
    desk.at("nanodet.param").write_text("not that file")
    name, source = next((n, s) for n, s in fetch.SOURCES.items() if s.url)
    given = desk.at(next(iter(source.files)))
    given.write_bytes(b"not that file")
    said = desk.no("weights", "get", name, "--file", given)
    desk.yes(*said.command("weights list"))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    said = desk.no("weights", "get", name)
    monkeypatch.setattr(fetch, "SOURCES", {**fetch.SOURCES, name: _with(source, given)})
    said = desk.yes("weights", "get", name, *said.option("--file"), given)
    path = fetch.home() / f"{name}.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    assert desk.raises(fetch.load, name).command("weights get") == ["weights", "get", name]
    desk.yes("weights", "get", name, "--file", given)
    assert fetch.load(name)


def _with(source: Any, given: Path) -> Any:
    """A source whose file is this one."""
    import numpy as np

    from handful.files import sha256

    return replace(source, files={given.name: sha256(given)}, read=lambda path: {"a": np.zeros(2, np.float32)})


@cures("cli.verbs_models:_list_text handful predict")
def test_a_model_that_comes_with_handful(desk: Desk) -> None:
    save(sample_photo("coffee"), desk.at("photos", "coffee.png"))
    for command in desk.yes("models", "list").commands("predict", IMAGES=desk.at("photos")):
        assert "coffee.png" in desk.yes(*command)


@cures("kinds.compiling:_kept set")
def test_a_model_that_comes_with_handful_and_no_cache(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", "")
    said = desk.no("device", "compile", "people", "--runtime", "torch")
    name, place = said.after("; set ").pop(0), desk.at("kept")
    assert name == "HANDFUL_CACHE"
    monkeypatch.setenv(name, str(place))
    desk.yes("device", "compile", "people", "--runtime", "torch")
    assert list(place.rglob("bundle.json"))


@cures("kinds.registry:loader rename")
def test_a_folder_that_hides_a_model_that_comes_with_handful(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.place)
    save(sample_photo("coffee"), desk.at("people", "coffee.png"))
    said = desk.no("predict", "people", "people/coffee.png")
    assert "rename it" in said and "run this in another folder" in said
    desk.at("elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(desk.at("elsewhere"))
        assert "coffee.png" in desk.yes("predict", "people", "../people/coffee.png")
    desk.at("people").rename(desk.at("photos"))
    assert "coffee.png" in desk.yes("predict", "people", "photos/coffee.png")
