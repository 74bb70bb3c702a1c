"""Every kind does what its contract says: load, predict, evaluate, learn, unlearn, set, save; what it lacks it says."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

import handful
from handful import image, threads
from handful.errors import DataError, UsageError
from handful.kinds import registry
from handful.kinds.contract import Classifier, Detector, Model, Segmenter
from handful.results import Classification, Detections, Segmentation
from tests.kinds.worlds import MAKERS, World, rgb, untouched

BASES: dict[str, tuple[type, type]] = {
    "classify": (Classifier, Classification),
    "segment": (Segmenter, Segmentation),
    "detect": (Detector, Detections),
    "instance": (Detector, Detections),
}


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same to the bit."""
    if isinstance(one, Classification):
        return one.label == other.label and np.array_equal(one.scores, other.scores)
    if isinstance(one, Segmentation):
        return np.array_equal(one.ids, other.ids)
    return np.array_equal(one.xyxy_px, other.xyxy_px) and np.array_equal(one.score, other.score)


def test_every_kind_is_tried() -> None:
    assert sorted(MAKERS) == registry.kinds()


def test_load(world: World) -> None:
    model = handful.load(world.model)
    base, _ = BASES[model.task]
    assert isinstance(model, base) and model.kind == world.kind and model.folder == world.model
    assert model.classes and model.runtime == "torch" and model.task in registry.kind(world.kind).TASKS
    card = model.card
    assert card["kind"] == world.kind and card["classes"] == list(model.classes)
    json.dumps(card)  # it is JSON
    assert registry.describe(world.model) == registry.kind(world.kind).DESCRIPTION


def test_predict_takes_whatever_is_an_image(world: World) -> None:
    model = handful.load(world.model)
    files = sorted(world.images.glob("*.png"))
    of_folder = model.predict(world.images)
    assert len(of_folder) == len(files) >= 2 and all(isinstance(r, BASES[model.task][1]) for r in of_folder)
    for i, file in enumerate(files[:2]):
        array = np.array(PIL_Image.open(file).convert("RGB"))
        ways: list[Any] = [file, str(file), PIL_Image.open(file), array, array[None], handful.Image.open(file), [file]]
        for way in ways:
            (one,) = model.predict(way)
            assert same(one, of_folder[i]), f"{type(way)} is answered otherwise than its file"
    assert [r.to_json()["source"] for r in of_folder] == [str(f) for f in files]
    mixed = model.predict([files[0], PIL_Image.open(files[1])])
    assert all(same(a, b) for a, b in zip(mixed, of_folder[:2], strict=True))


def test_predictions_have_a_picture_and_json(world: World) -> None:
    model = handful.load(world.model)
    result = model.predict(world.images)[0]
    picture = result.plot()
    assert picture.dtype == np.uint8 and picture.shape == (*result.origin.size_wh[::-1], 3)
    told = json.loads(json.dumps(result.to_json()))
    assert told["size_wh"] == list(result.origin.size_wh)
    own = rgb(1)
    kept = model.predict(own)[0]  # of an array the pixels are kept, since no file has them
    assert kept.plot().shape == own.shape
    assert "array, taken as RGB" in kept.to_json()["notes"]
    with pytest.raises(DataError, match="give plot"):
        kept.plot(rgb(2, (10, 12)))


def test_no_call_changes_the_model(world: World) -> None:
    model: Any = handful.load(world.model)
    before = untouched(world.model)
    plain = model.predict(world.images)
    options = [{"vigilance": 9.5}, {"score_threshold": 0.99}, {"vigilance": 0.1, "unknown": True}]
    taken = [o for o in options if o.keys() <= set(model.predict.__kwdefaults__ or {})]
    for option in taken:
        model.predict(world.images, **option)
        assert all(same(a, b) for a, b in zip(model.predict(world.images), plain, strict=True)), option
    assert bool(taken) == (world.kind != "classifier" and world.kind != "segmenter")
    model.evaluate(world.data, split=world.split)
    assert untouched(world.model) == before


def test_two_threads_do_not_race(world: World) -> None:
    model: Any = handful.load(world.model)
    careful = {"vigilance": 9.5} if hasattr(model, "vigilance") else {}
    plain, strict = model.predict(world.images), model.predict(world.images, **careful)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(model.predict, world.images, **(careful if i % 2 else {})) for i in range(6)]
        for i, future in enumerate(asked):
            want = strict if i % 2 else plain
            assert all(same(a, b) for a, b in zip(future.result(), want, strict=True))


def test_evaluate(world: World, tmp_path: Path) -> None:
    model = handful.load(world.model)
    found = model.evaluate(world.data, split=world.split)
    assert found.images > 0 and set(found.per_class) == set(model.classes) and found.rule and found.metrics
    assert all(v is None or 0 <= v <= 1 for v in found.metrics.values())
    told = json.loads(json.dumps(found.to_json()))
    assert told["schema_version"] == 1
    again = handful.evaluate(world.model, world.data, split=world.split)
    assert again.metrics == found.metrics
    picture = found.plot()
    assert picture.ndim == 3 and picture.dtype == np.uint8 and picture.std() > 1


def test_save_is_a_model_of_the_same_answers(world: World, tmp_path: Path) -> None:
    model = handful.load(world.model)
    want = model.predict(world.images)
    to = model.save(tmp_path / "copy")
    again = handful.load(to)
    assert all(same(a, b) for a, b in zip(again.predict(world.images), want, strict=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(DataError, match="not a model folder"):
        handful.load(world.model).save(tmp_path / "mine")
    assert untouched(tmp_path / "mine") == {"diary.txt": b"dear"}


def test_what_a_kind_lacks_it_says(world: World) -> None:
    model = handful.load(world.model)
    module = registry.kind(world.kind)
    for verb, reason in module.VERBS.lacks.items():
        with pytest.raises(UsageError, match=module.DESCRIPTION):
            registry.wanted(model, verb)
        assert len(reason) > 20
    lacks_learning = "learn" in module.VERBS.lacks
    assert lacks_learning == (not hasattr(model, "learn"))
    if "compile" in module.VERBS.lacks:
        with pytest.raises(UsageError, match="follows from the image"):
            model.compile("onnxruntime")


def test_a_damaged_folder_names_the_file(world: World, tmp_path: Path) -> None:
    for name in sorted(json.loads((world.model / "handful.json").read_text())["files"]):
        copy = tmp_path / f"{name}.copy"
        shutil.copytree(world.model, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:-7])
        with pytest.raises(DataError, match=name):
            handful.load(copy)
        (copy / name).unlink()
        with pytest.raises(DataError, match=f"{name} is missing"):
            handful.load(copy)
        shutil.rmtree(copy)
    copy = tmp_path / "newer"
    shutil.copytree(world.model, copy)
    meta = json.loads((copy / "handful.json").read_text())
    (copy / "handful.json").write_text(json.dumps({**meta, "schema_version": 99}))
    with pytest.raises(DataError, match="pip install --upgrade handful"):
        handful.load(copy)
    (copy / "handful.json").write_text(json.dumps({**meta, "task": "dance", "network": {"kind": "shoes"}}))
    with pytest.raises(DataError, match="does not know"):
        handful.load(copy)


def asked_of(model: Model[Any], source: Any) -> list[Any]:
    return list(model.stream(source))


def test_images_are_answered_side_by_side_and_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model = handful.load(world.model)
    files = sorted(world.images.glob("*.png"))
    alone = [model.predict(file)[0] for file in files]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 3)
    readers: set[str] = set()
    fit = image.fit

    def seen(*args: Any, **more: Any) -> np.ndarray:
        readers.add(threading.current_thread().name)
        return fit(*args, **more)

    # every network is given its frame by one of these
    for name in [name for name, module in sys.modules.items() if getattr(module, "fit", None) is fit]:
        monkeypatch.setattr(sys.modules[name], "fit", seen)
    together = model.predict(files * 2)
    assert all(same(one, other) for one, other in zip(together, alone * 2, strict=True))
    assert any(name.startswith("handful") for name in readers), readers


def test_an_unreadable_image_is_named_and_the_others_are_answered(world: World, tmp_path: Path) -> None:
    model = handful.load(world.model)
    shutil.copytree(world.images, tmp_path / "images")
    (tmp_path / "images" / "0b.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"0b\.png"):
        model.predict(tmp_path / "images")
    bad: list[str] = []
    found = list(model.stream(tmp_path / "images", on_error=lambda name, error: bad.append(name)))
    assert len(found) == len(list(world.images.glob("*.png"))) and [Path(b).name for b in bad] == ["0b.png"]
