"""`handful set`, `handful unlearn`, `handful teach --add`: a model changed in its folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful
from handful.device.targets import job
from handful.errors import DataError
from handful.kinds import changing
from handful.kinds.compiling import compile_model
from tests.conftest import ROOT
from tests.detection.test_evaluate import data_set
from tests.detection.test_irene import scene
from tests.kinds.worlds import World, untouched
from tests.test_cli import handful as typed

Capture = pytest.CaptureFixture[str]
Worlds = Callable[[str], World]


def copy_of(world: World, to: Path) -> Path:
    shutil.copytree(world.model, to, ignore=shutil.ignore_patterns("compiled"))
    return to


def test_what_has_nothing_to_set_says_so(world: World, tmp_path: Path, capsys: Capture) -> None:
    model = copy_of(world, tmp_path / "m")
    before = untouched(model)
    for words in (("set", model, "--vigilance", 2), ("unlearn", model, "--class", "red")):
        code, _, err = typed(capsys, *words)
        if world.kind.startswith("taught"):
            assert code == (0 if words[0] == "set" else 2 if world.kind == "taught_detector" else 0), err
        else:
            assert code == 2 and f"{model} is a trained " in err and len(err.splitlines()) == 1
            assert untouched(model) == before


def test_vigilance_is_set_in_the_folder(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    for kind in ("taught_classifier", "taught_detector"):
        model = copy_of(world_of(kind), tmp_path / kind)
        own: Any = handful.load(model)
        asked = own.predict(world_of(kind).images, vigilance=2.2)
        code, said, _ = typed(capsys, "set", model, "--vigilance", "2.2", "--json")
        told = json.loads(said)
        assert code == 0 and told["vigilance"] == 2.2 and told["bundles_kept"] == told["bundles_dropped"] == []
        changed: Any = handful.load(model)
        assert changed.vigilance == 2.2 and changed.samples == own.samples
        for one, other in zip(changed.predict(world_of(kind).images), asked, strict=True):
            assert one.to_json() == other.to_json()  # the same as asked with it for one call
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted({kind, *(p.name for p in tmp_path.iterdir())})
        for bad in ("nan", "1e300", "-5"):
            before = untouched(model)
            code, _, err = typed(capsys, "set", model, "--vigilance", bad)
            assert code == 2 and "wanted a number from 0 to 10" in err and untouched(model) == before
    code, said, _ = typed(capsys, "set", tmp_path / "taught_detector", "--score-threshold", "0.35")
    assert code == 0 and "score threshold 0.35" in said
    assert handful.load(tmp_path / "taught_detector", "detector").score_threshold == 0.35  # type: ignore[attr-defined]
    code, _, err = typed(capsys, "set", tmp_path / "taught_classifier", "--score-threshold", "0.35")
    assert code == 2 and "--score-threshold is for a taught detector" in err
    code, _, err = typed(capsys, "set", tmp_path / "taught_classifier")
    assert code == 2 and "say what to set" in err


def test_a_mode_is_set_without_teaching_anew(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    world = world_of("taught_detector")
    model = copy_of(world, tmp_path / "m")
    own: Any = handful.load(model)
    assert own.mode == "accurate" == own.card["mode"]
    code, said, _ = typed(capsys, "set", model, "--mode", "fast", "--json")
    assert code == 0 and json.loads(said)["mode"] == "fast"
    fast: Any = handful.load(model)
    settings = fast.inner.embedder.settings
    assert (fast.mode, settings.max_boxes, settings.max_crops) == ("fast", 50, 4) and fast.samples == own.samples
    assert sum(len(one) for one in fast.predict(world.images))
    code, said, _ = typed(capsys, "set", model, "--mode", "accurate")
    assert code == 0 and "mode accurate" in said
    for one, other in zip(handful.load(model).predict(world.images), own.predict(world.images), strict=True):
        assert one.to_json() == other.to_json()
    code, _, err = typed(capsys, "set", model, "--mode", "fsat")
    assert code == 2 and "accurate" in err
    code, _, err = typed(capsys, "set", copy_of(world_of("taught_classifier"), tmp_path / "c"), "--mode", "fast")
    assert code == 2 and "--mode is for a taught detector" in err


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that compile know the tests' own networks and proposers."""
    monkeypatch.setattr(job, "COMMAND", [sys.executable, str(ROOT / "tests" / "device" / "child.py")])


@pytest.mark.usefixtures("child")
def test_what_is_compiled_of_a_detector_is_kept(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    world = world_of("taught_detector")
    model = copy_of(world, tmp_path / "m")
    bundle = compile_model(model, "torch").folder
    stale = shutil.copytree(bundle, model / "compiled" / "torch-fp16")
    written = (stale / "bundle.json").read_text()
    (stale / "bundle.json").write_text(written.replace('"handful.json": "', '"handful.json": "0'))
    code, said, _ = typed(capsys, "set", model, "--vigilance", "1.7", "--score-threshold", "0.45", "--json")
    told = json.loads(said)
    assert code == 0 and told["bundles_kept"] == ["torch-fp32"] and told["bundles_dropped"] == ["torch-fp16"]
    kept = (bundle / "bundle.json").read_text()
    assert not stale.exists()
    again = compile_model(model, "torch")  # is found to be true, and nothing is compiled
    assert (again.folder / "bundle.json").read_text() == kept
    asked, own = handful.load(bundle).predict(world.images), handful.load(model).predict(world.images)
    assert sum(len(r) for r in own) and [r.names for r in asked] == [r.names for r in own]  # type: ignore[union-attr]
    fresh: dict[str, Any] = dict(compile_model(model, "torch", force=True).meta)
    held: dict[str, Any] = json.loads(kept)
    code, said, _ = typed(capsys, "set", model, "--mode", "fast")
    assert code == 0 and "must be compiled again: torch-fp32" in said
    few: Any = compile_model(model, "torch").meta["plan"]
    assert few["boxes"]["max_boxes"] == 50
    asked, own = handful.load(bundle).predict(world.images), handful.load(model).predict(world.images)
    assert sum(len(r) for r in own) and [r.names for r in asked] == [r.names for r in own]  # type: ignore[union-attr]
    for noise in ("compile_seconds", "compile_peak_rss_mb", "facts"):
        fresh.pop(noise), held.pop(noise)
    assert json.loads(json.dumps(fresh)) == held, "what is kept differs from what would be compiled"


def test_what_is_compiled_of_a_classifier_is_not_kept(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    model = copy_of(world_of("taught_classifier"), tmp_path / "m")
    compile_model(model, "torch")
    code, said, _ = typed(capsys, "set", model, "--vigilance", "2")
    assert code == 0 and "must be compiled again: torch-fp32" in said and not (model / "compiled").exists()


# -- unlearn ----------------------------------------------------------------------------------------------------------


def test_images_are_taken_back_as_if_never_learned(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    from handful.fewshot.teaching import teach

    world = world_of("taught_classifier")
    photos = shutil.copytree(world.data, tmp_path / "photos")
    label = sorted(p.name for p in photos.iterdir())[0]
    taken = sorted((photos / label).iterdir())[:2]
    how: dict[str, Any] = {"backbone": "lite0", "frame_hw": (64, 64)}
    teach(photos, tmp_path / "all", **how)
    for path in taken:
        shutil.move(path, tmp_path / path.name)
    teach(photos, tmp_path / "few", **how)
    for path in taken:
        code, said, err = typed(capsys, "unlearn", tmp_path / "all", tmp_path / path.name, "--class", label)
        assert code == 0 and "1 unlearned" in said, err
    state = [(tmp_path / name / "nemo.safetensors").read_bytes() for name in ("all", "few")]
    assert state[0] == state[1]
    before = untouched(tmp_path / "all")
    code, _, err = typed(capsys, "unlearn", tmp_path / "all", tmp_path / taken[0].name, "--class", label)
    assert code == 2 and taken[0].name in err and "never learned" in err and untouched(tmp_path / "all") == before
    # a folder for each class: one that was never learned, and nothing has changed
    shutil.copy(tmp_path / taken[0].name, photos / label / "zzz.png")
    code, _, err = typed(capsys, "unlearn", tmp_path / "all", photos)
    assert code == 2 and "zzz.png" in err and untouched(tmp_path / "all") == before
    (photos / label / "zzz.png").unlink()
    code, said, _ = typed(capsys, "unlearn", tmp_path / "all", photos, "--class", label, "--json")
    told = json.loads(said)
    assert code == 0 and told["classes_forgotten"] == [label] and told["unlearned"] >= 1
    assert label not in told["classes"]
    code, _, err = typed(capsys, "unlearn", tmp_path / "few", photos)
    assert code == 2 and "would have no class left" in err
    code, _, err = typed(capsys, "unlearn", tmp_path / "few", tmp_path / taken[0].name)
    assert code == 2 and "--class NAME" in err


def test_a_class_is_forgotten_without_its_images(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    for kind in ("taught_classifier", "taught_detector"):
        model = copy_of(world_of(kind), tmp_path / kind)
        classes = handful.load(model).classes
        code, said, _ = typed(capsys, "unlearn", model, "--class", classes[0])
        assert code == 0 and f"forgotten: {classes[0]}" in said
        assert handful.load(model).classes == classes[1:]
        before = untouched(model)
        code, _, err = typed(capsys, "unlearn", model, "--class", classes[0])
        assert code == 2 and f"no class named {classes[0]!r}" in err and untouched(model) == before
        code, _, err = typed(capsys, "unlearn", model)
        assert code == 2 and "say what to unlearn" in err


def test_boxes_are_taken_back(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    world = world_of("taught_detector")
    model = copy_of(world, tmp_path / "m")
    own: Any = handful.load(model)
    code, said, err = typed(capsys, "unlearn", model, world.data, "--class", "leaf", "--json")
    told = json.loads(said)
    assert code == 0, err
    assert told["unlearned"] == own.samples["leaf"] and told["never_learned"] > 0
    assert told["classes_forgotten"] == ["leaf"]
    left: Any = handful.load(model)
    named = {label: {i for i, one in zip(own.inner.examples.images, own.inner.examples.labels, strict=True)
                     if one == label} for label in own.samples}  # fmt: skip
    assert {label for _, label in left.inner.seen.rows} == {"apple", "sky"}
    assert len(own.inner.seen) == len(set.union(*named.values()))
    assert left.samples == {k: v for k, v in own.samples.items() if k != "leaf"}
    assert set(left.inner.examples.labels) == set(left.classes) == {"apple", "sky"}
    # as if it had never been learned: the sums are those of one that was taught without it
    taught: Any = handful.load(world.model)
    taught.forget("leaf")
    assert taught.inner.seen.rows == left.inner.seen.rows
    assert left.inner.nemo.counts == taught.inner.nemo.counts
    taught.forget("sky")  # an image that no other class has is not known any more
    assert len(taught.inner.seen) == len(named["apple"]) < len(own.inner.seen)
    code, _, err = typed(capsys, "unlearn", model, world.data, "--class", "leaf")
    assert code == 2 and "has learned none" in err
    other = data_set(tmp_path / "other", ["apple"], {"train": 2})
    code, _, err = typed(capsys, "unlearn", model, other)  # other pixels under the same names, or other boxes
    assert code == 2


def test_unlearned_boxes_leave_no_trace(world_of: Worlds, tmp_path: Path) -> None:
    world = world_of("taught_detector")
    model: Any = handful.load(world.model)
    before = model.inner.nemo.counts
    first = model.inner.nemo.solve()
    extra = data_set(tmp_path / "extra", ["lemon", "apple"], {"train": 2})
    changing_model = copy_of(world, tmp_path / "m")
    handful.teach(extra, changing_model, add=True, partial=True)
    more: Any = handful.load(changing_model)
    assert "lemon" in more.classes and more.samples["apple"] > before["apple"]
    changing.unlearn(changing_model, extra, [], {})
    back: Any = handful.load(changing_model)
    assert back.inner.nemo.counts == before and back.inner.seen.rows == model.inner.seen.rows
    again = back.inner.nemo.solve()
    assert np.array_equal(again.whiten, first.whiten) and np.array_equal(again.prototypes, first.prototypes)


# -- teach --add for detectors ----------------------------------------------------------------------------------------


def test_a_detector_is_taught_more(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    world = world_of("taught_detector")
    model = copy_of(world, tmp_path / "m")
    own: Any = handful.load(model)
    more = data_set(tmp_path / "more", ["lemon"], {"train": 3})
    code, said, err = typed(capsys, "teach", more, "--out", model, "--add", "--json")
    told = json.loads(said)
    assert code == 0, err
    assert told["samples"]["lemon"] == told["learned"] == 3 and told["already_learned"] == 0
    assert "does not label apple, leaf, sky" in err
    grown: Any = handful.load(model)
    assert grown.classes == ("apple", "leaf", "lemon", "sky") and grown.score_threshold == own.score_threshold
    assert grown.vigilance == own.vigilance
    rgb, boxes = scene(["lemon", "leaf"], 77)
    assert grown.inner.classify_boxes(rgb, boxes, vigilance=1.0).names == ("lemon", "leaf")
    before = untouched(model)
    code, _, err = typed(capsys, "teach", more, "--out", model, "--add")
    assert code == 2 and "already" in err and untouched(model) == before  # nothing is learned twice
    for words, says in ((("--proposer", "blobs"), "keeps the proposer"), (("--overwrite",), "exclude each other"),
                        (("--scales", "2"), "keeps the scales")):  # fmt: skip
        code, _, err = typed(capsys, "teach", more, "--out", model, "--add", *words)
        assert code == 2 and says in err and untouched(model) == before
    code, _, err = typed(capsys, "teach", more, "--out", tmp_path / "absent", "--add")
    assert code == 2 and "absent is not a folder" in err and not (tmp_path / "absent").exists()


def test_an_untaught_model_says_what_to_do(world_of: Worlds) -> None:
    world = world_of("taught_classifier")
    model: Any = handful.load(world.model)
    for name in model.classes:
        model.forget(name)
    with pytest.raises(DataError, match="was taught nothing yet; learn at least one image: handful teach"):
        model.predict(world.images)
    detector: Any = handful.load(world_of("taught_detector").model)
    for name in detector.classes:
        detector.forget(name)
    with pytest.raises(DataError, match="nothing has been learned yet; learn at least one sample"):
        detector.predict(world_of("taught_detector").images)
