"""`handful evaluate`: one verb for every kind, a page for each, and in one line who takes an option."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handful
from handful.kinds import registry
from handful.training.start import begin
from tests.kinds.worlds import World, untouched
from tests.test_cli import handful as typed

Capture = pytest.CaptureFixture[str]
Worlds = Callable[[str], World]
NOISE = ("seconds", "seconds_per_image", "report")


def asked(world: World) -> list[Any]:
    return ["evaluate", world.model, world.data, *(["--split", world.split] if world.split else [])]


def without_noise(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in NOISE}


def test_every_kind_is_measured_and_has_a_page(world: World, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "page.html"
    before = untouched(world.model)
    code, said, _ = typed(capsys, *asked(world), "--report", page, "--json")
    told = json.loads(said)
    own = handful.load(world.model).evaluate(world.data, split=world.split)
    assert code == 0 and without_noise(json.loads(json.dumps(own.details))).items() <= told.items()
    html = page.read_text()
    headline = next(iter(own.metrics.values()))
    assert headline is not None and f"{100 * headline:.1f} %" in html
    assert all(name in html for name in own.per_class)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", html), "the page needs something outside itself"
    assert not re.search(r"\bundefined\b|\bNone\b|jinja2", html)
    code, said, _ = typed(capsys, *asked(world), "--report", page)
    assert code == 0 and f"page: {page}" in said and len(said.splitlines()) >= 4
    assert untouched(world.model) == before


def test_a_detector_s_page_shows_its_mistakes(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    for kind in ("taught_detector", "detector"):
        world, page = world_of(kind), tmp_path / f"{kind}.html"
        code, said, _ = typed(capsys, *asked(world), "--report", page, "--json")
        told, html = json.loads(said), page.read_text()
        assert code == 0 and told["worst"], "nothing is wrong, so nothing can be shown"
        f1 = [row["f1"] for row in told["worst"]]
        assert f1 == sorted(f1) and all({"image", "right", "wrong", "missed"} <= row.keys() for row in told["worst"])
        assert html.count('<img src="data:image/jpeg') == 2 * len(told["worst"])  # labels and predictions
        assert all(row["image"] in html for row in told["worst"])
        assert all(name in html for name in ("AP50", "APs", "AR100", "COCO"))
        assert ("F1 at vigilance" in html) == ("boxes taught" in html) == (kind == "taught_detector")


def test_an_image_that_cannot_be_read_is_left_out_when_allowed(
    world: World, tmp_path: Path, capsys: Capture
) -> None:  # fmt: skip
    data = shutil.copytree(world.data, tmp_path / "data")
    bad = sorted(f for f in (data / world.images.relative_to(world.data)).iterdir() if f.suffix == ".png")[0]
    bad.write_bytes(b"no image")
    words = ["evaluate", world.model, data, *(["--split", world.split] if world.split else []), "--json"]
    code, _, err = typed(capsys, *words)
    advice = re.search(r"--allow (\w+)", err)
    assert code == 2 and bad.name in err and advice is not None, err
    code, _, err = typed(capsys, *words, "--allow", "near_duplicate")  # of something else
    assert code == 2 and bad.name in err
    code, said, err = typed(capsys, *words, "--allow", advice.group(1))  # the advice, followed
    before = json.loads(typed(capsys, *asked(world), "--json")[1])
    assert code == 0 and json.loads(said)["images"] == before["images"] - 1, err
    assert "left out" in err
    code, _, err = typed(capsys, *words, "--allow", "unreadable_imag")
    assert code == 2 and "did you mean 'unreadable_image'" in err


def test_images_that_lie_elsewhere(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    """A trained detector, as a taught one, by their folder; a segmenter by a pattern."""
    world = world_of("detector")
    labels = shutil.copy(next(world.data.rglob("instances_val.json")), tmp_path / "labels.json")
    named = json.loads(typed(capsys, *asked(world), "--json")[1])
    code, said, err = typed(capsys, "evaluate", world.model, labels, "--images", world.images, "--json")
    assert code == 0 and json.loads(said)["AP"] == named["AP"] and json.loads(said)["images"] == 4, err
    data = begin("detect", "faster_rcnn", {"images": str(world.images), "epochs": 1}).read(labels)[0]
    assert [sample.path.parent for sample in data] == [world.images] * 4  # train --images
    world = world_of("segmenter")
    named = json.loads(typed(capsys, *asked(world), "--json")[1])
    where = ("--images", "images/val/{}.png", "--masks-in", "masks/val/{}.png")
    code, said, err = typed(capsys, "evaluate", world.model, world.data, *where, "--json")
    assert code == 0 and json.loads(said)["confusion"] == named["confusion"], err


# option, its value, the kinds that take it
OPTIONS: list[tuple[str, tuple[str, ...], set[str]]] = [
    ("--vigilance", ("2",), {"taught_classifier", "taught_detector"}),
    ("--flat", (), {"taught_classifier"}),
    ("--rule", ("mmseg",), {"segmenter"}),
    ("--background", ("background",), {"segmenter"}),
    ("--masks-in", ("masks",), {"segmenter"}),
    ("--masks-by", ("none",), {"taught_detector"}),
    ("--true-boxes", (), {"taught_detector"}),
    ("--scale-mode", ("whole",), {"taught_detector"}),
    ("--torch-device", ("cpu",), {"classifier", "segmenter", "detector"}),
    ("--images", ("x",), {"segmenter", "detector", "taught_detector"}),
]


@pytest.mark.parametrize(("flag", "value", "kinds"), OPTIONS, ids=[o[0] for o in OPTIONS])
def test_an_option_is_for_the_kinds_that_have_it(
    world: World, flag: str, value: tuple[str, ...], kinds: set[str], capsys: Capture
) -> None:  # fmt: skip
    if world.kind in kinds:
        assert flag.strip("-").replace("-", "_").removesuffix("_by") in registry.options(
            registry.model_class(world.kind), "evaluate"
        )
        return
    code, out, err = typed(capsys, *asked(world), flag, *value, "--json")
    assert code == 2 and json.loads(out)["error"] in err and len(err.splitlines()) == 1
    assert f"is {registry.kind(world.kind).DESCRIPTION}; {flag.removesuffix('-by')} is for" in err
    assert all(registry.kind(kind).DESCRIPTION in err for kind in kinds)


def test_what_is_measured_unless_a_split_is_named(world_of: Worlds, capsys: Capture) -> None:
    """test, or else val, or else all images, whatever the kind."""
    for kind in ("taught_detector", "segmenter", "classifier"):
        world = world_of(kind)
        told = json.loads(typed(capsys, "evaluate", world.model, world.data, "--json")[1])
        named = json.loads(typed(capsys, *asked(world), "--json")[1])
        assert told["split"] == world.split == named["split"] and told["images"] == named["images"] > 0
    world = world_of("taught_classifier")
    told = json.loads(typed(capsys, "evaluate", world.model, world.data, "--json")[1])
    assert told["split"] is None and told["images"] == len(list(world.data.rglob("*.png")))


def test_the_old_name_asks_about_true_boxes(world_of: Worlds, capsys: Capture) -> None:
    world = world_of("taught_detector")
    new = json.loads(typed(capsys, *asked(world), "--true-boxes", "--json")[1])
    code, said, err = typed(capsys, "evaluate-detect", *asked(world)[1:], "--proposer", "boxes", "--json")
    assert code == 0 and without_noise(json.loads(said)) == without_noise(new)
    assert "is `handful evaluate` now" in err and "--proposer is --true-boxes now" in err
