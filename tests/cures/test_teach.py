"""What teach, unlearn, set, predict and evaluate propose, followed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful.fewshot.left_out import LeftOut
from handful.kinds import loading, predictions
from handful.models.folder import may_teach_into
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.kinds.worlds import SMALL, World

Models = Callable[[str], World]


@pytest.fixture
def teach(model_of: Models, desk: Desk) -> list[object]:
    """Words that teach a classifier in a moment, and its data: a folder of images for each class."""
    world = model_of("taught_classifier")
    shutil.copytree(world.data, desk.at("photos"))
    weights = world.data.parent / "small.safetensors"
    return ["teach", desk.at("photos"), "--backbone", SMALL, "--backbone-weights", weights, "--frame", "64x64"]


@cures("models.folder:may_teach_into --add --overwrite --out", "models.folder:may_teach_into --out #2",
       "fewshot.teaching:teach --add --overwrite", "curate.seen:told --again")  # fmt: skip
def test_a_model_that_is_there(teach: list[object], desk: Desk, model_of: Models) -> None:
    model = model_of("taught_classifier").model
    said = desk.no(*teach, "--out", model)
    desk.no(*teach, "--out", model, "--add", "--overwrite")
    said = desk.told(desk.yes(*teach, "--out", model, *said.option("--add")))
    assert "again" in said
    assert "learned 0 images" not in desk.yes(*teach, "--out", model, "--add", *said.option("--again"))
    desk.raises(may_teach_into, model, overwrite=False, begun=True)
    desk.yes(*teach, "--out", model, "--overwrite")
    desk.yes(*teach, "--out", desk.at("other"))


@cures("fewshot.teaching:teach --split", "cli.verbs_teach:_classes handful data convert",
       "cli.verbs_teach:_classes --to --allow-loss", "cli.verbs_teach:_classes --format",
       leaves_out=("--format",))  # fmt: skip
def test_what_teaches_a_classifier(teach: list[object], desk: Desk, model_of: Models) -> None:
    photos = desk.at("photos")
    for split in ("train", "val"):
        shutil.copytree(photos, desk.at("parts", split))
        for path in desk.at("parts", split).rglob("*.png"):
            path.rename(path.with_name(f"{split}-{path.name}"))
    for i, path in enumerate(sorted(desk.at("parts", "val").rglob("*.png"))):
        save(np.full((40, 40, 3), 9 * i, np.uint8), path)
    words = [*teach[:1], desk.at("parts"), *teach[2:], "--out", desk.at("model")]
    said = desk.no(*words)
    desk.yes(*words, *said.option("--split"), "train")

    desk.yes("data", "convert", photos, desk.at("table"), "--to", "csv_classes", "--allow-loss")
    words = [*teach[:1], desk.at("table"), *teach[2:], "--out", desk.at("second")]
    said = desk.no(*words)
    desk.yes(*said.command("data convert", COPY=desk.at("made")))
    desk.yes(*teach[:1], desk.at("made"), *teach[2:], "--out", desk.at("second"))
    said = desk.no(*teach, "--out", desk.at("third"), "--format", "csv_classes")
    desk.yes(*teach, "--out", desk.at("third"))


@cures("image:list_images handful data convert", "image:list_images --to",
       "fewshot.teaching:checked_images handful data check")  # fmt: skip
def test_an_archive_and_a_set_without_an_image(teach: list[object], desk: Desk) -> None:
    packed = Path(shutil.make_archive(str(desk.at("photos")), "zip", desk.at("photos")))
    said = desk.no(*teach[:1], packed, *teach[2:], "--out", desk.at("model"))
    desk.yes(*said.command("data convert", FOLDER=desk.at("unpacked")))
    desk.yes(*teach[:1], desk.at("unpacked"), *teach[2:], "--out", desk.at("model"))
    outside = shutil.move(desk.at("photos"), desk.at("elsewhere"))
    for path in Path(outside).rglob("*.png"):
        link = desk.at("photos") / path.relative_to(outside)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    said = desk.no(*teach, "--out", desk.at("second"), "--allow", "symlink_outside")
    assert "symlink_outside" in desk.tells(*said.command("data check"))


@cures("data.near_names:learned_as_named --allow", "data.near_names:warn_of_strangers rename")
def test_classes_spelled_otherwise(teach: list[object], desk: Desk, model_of: Models) -> None:
    model, photos = model_of("taught_classifier").model, desk.at("photos")
    name = next(p.name for p in sorted(photos.iterdir()))
    (photos / name).rename(photos / name.upper())
    for path in (photos / name.upper()).iterdir():
        save(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8), path)
    assert name.upper() in desk.run("evaluate", model, photos)
    said = desk.no(*teach, "--out", model, "--add")
    desk.yes(*teach, "--out", model, "--add", *said.value("--allow"))
    (photos / name.upper()).rename(photos / name)
    assert "spells" not in desk.yes("evaluate", model, photos)


@cures("cli.verbs_change:set_ --vigilance --score-threshold", "cli.verbs_change:set_ --mode",
       "cli.verbs_change:unlearn --class",
       "kinds.kind_taught_classifier:unlearn_data --class", "kinds.changing:unlearn teach",
       "cli.measured:ranged handful set", "cli.measured:ranged --vigilance", "fewshot.left_out:told handful set",
       "fewshot.left_out:told --vigilance", "curate.seen:told measure")  # fmt: skip
def test_a_taught_model_is_changed(teach: list[object], desk: Desk, model_of: Models) -> None:
    model, photos = model_of("taught_classifier").model, desk.at("photos")
    names = sorted(p.name for p in photos.iterdir())
    said = desk.no("set", model)
    desk.yes("set", model, *said.option("--vigilance"), 10)
    said = desk.yes("evaluate", model, photos)
    assert "measure on other images" in said
    assert "suggested" not in said  # by the very photos it was taught
    for i, path in enumerate(photos.rglob("*.png")):
        save(np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8), path)
    said = desk.yes("evaluate", model, photos)
    assert "measure on other" not in said and said.value("--vigilance") != ["--vigilance", "10"]
    desk.yes(*said.command("set"))
    assert "suggested" not in desk.yes("evaluate", model, photos)
    told = desk.told(LeftOut(9, 4, 5, 3.0, suggested=1.5).told(str(model))[1])
    desk.yes(*told.command("set"))
    detector = model_of("taught_detector").model
    said = desk.no("set", detector)
    desk.yes("set", detector, *said.option("--score-threshold"), 0.5)
    desk.yes("set", detector, *said.option("--mode"), "fast")
    said = desk.no("unlearn", model)
    desk.yes("unlearn", model, *said.option("--class"), names[0])
    said = desk.no("unlearn", model, model_of("taught_classifier").data / names[1])
    desk.yes("unlearn", model, model_of("taught_classifier").data / names[1], *said.option("--class"), names[1])
    while len(loading.load(model).classes) > 1:
        desk.yes("unlearn", model, "--class", loading.load(model).classes[0])
    (last,) = loading.load(model).classes
    said = desk.no("unlearn", model, "--class", last)
    save(np.random.default_rng(9).integers(0, 255, (40, 40, 3), dtype=np.uint8), desk.at("new/thing/0.png"))
    desk.yes(*teach[:1], desk.at("new"), "--out", model, "--add")
    desk.yes("unlearn", model, "--class", last)


@cures("cli.verbs_predict:predict --precision --runtime", "cli.verbs_predict:_check --top --explain",
       "cli.verbs_predict:_check --runtime", "cli.verbs_predict:_check --runtime #2",
       "cli.verbs_predict:_loaded --explain", "kinds.predictions:inside --out",
       "kinds.predictions:inside --out #2", "device.compile:_may_ship --out",
       "device.compile:shipped --out", "kinds.registry:look_at handful predict",
       "kinds.registry:no_model handful predict", "bundle:compile_again handful device compile",
       "bundle:compile_again --runtime", "kinds.bundled:stream leave", leaves_out=("--precision",))  # fmt: skip
def test_options_of_predict(desk: Desk, model_of: Models) -> None:
    world = model_of("taught_classifier")
    model, image = world.model, next(world.images.iterdir())
    said = desk.no("predict", model, image, "--precision", "fp32")
    desk.yes("predict", model, image, *said.option("--runtime"), "torch", "--precision", "fp32")
    bundle = model / "compiled/torch-fp32"
    desk.no("predict", bundle, image, "--runtime", "torch")
    desk.yes("predict", bundle, image)
    said = desk.no("predict", bundle, image, "--explain")
    segmenter = model_of("segmenter")
    photo = next(segmenter.images.iterdir())
    desk.no("predict", segmenter.model, photo, "--top", 2)
    desk.no("predict", segmenter.model, photo, "--explain")
    desk.yes("predict", segmenter.model, photo)
    desk.yes("predict", model, image, "--top", 2)
    taught = model_of("taught_detector")
    desk.yes("predict", taught.model, next(taught.images.iterdir()), "--explain")
    trained = model_of("detector")
    desk.no("predict", trained.model, next(trained.images.iterdir()), "--runtime", "torch")
    desk.yes("predict", trained.model, next(trained.images.iterdir()))
    # places
    shutil.copytree(world.images, desk.at("asked"))
    desk.no("predict", model, desk.at("asked"), "--out", desk.at("asked"))
    photos = sorted(desk.at("asked").iterdir())
    desk.no("predict", model, photos[0], "--out", desk.at("asked"))
    desk.raises(predictions.inside, desk.at("asked"), photos, [desk.at("asked")])
    desk.raises(predictions.inside, desk.at("asked"), [desk.at("asked", "0.png")])
    desk.yes("predict", model, desk.at("asked"), "--out", desk.at("answers"))
    # bundles
    compiled = ["device", "compile", model, "--runtime", "torch"]
    desk.at("mine/torch-fp32").mkdir(parents=True)
    desk.at("mine/torch-fp32/a").write_text("mine")
    desk.no(*compiled, "--out", desk.at("mine"))
    desk.no(*compiled, "--out", model / "compiled")
    desk.yes(*compiled, "--out", desk.at("app"))
    said = desk.no("device", "compile", bundle, "--runtime", "torch")
    assert said.partition("the model itself: ")[2].startswith(str(model))
    desk.yes("predict", bundle, image)
    desk.no("evaluate", model, model)
    (own,) = desk.at("app").iterdir()
    desk.yes("set", model, "--vigilance", 1)
    shutil.copytree(own, model / "compiled/torch-fp32", dirs_exist_ok=True)
    said = desk.yes("predict", bundle, image)
    desk.yes(*said.command("device compile"))
    assert "compiled before" not in desk.yes("predict", bundle, image)
    classifier = model_of("classifier")
    desk.yes("device", "compile", classifier.model, "--runtime", "torch")
    desk.no("predict", classifier.model / "compiled/torch-fp32", image, "--vigilance", 1)
    desk.yes("predict", classifier.model / "compiled/torch-fp32", image)
