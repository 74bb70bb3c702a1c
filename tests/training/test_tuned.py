"""How a network is trained unless told otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import handful.models
from handful.errors import DataError, UnknownName
from handful.models.preprocessing import NetCard
from handful.models.show import card_of, describe
from handful.pick import names
from handful.training import augment_classify, augment_detect, augment_segment, tuned, weights
from handful.training.loss import Loss, class_weights
from handful.training.recipe_segment import run
from tests.training.made import FAST, small

CARD = NetCard(
    "segment", "", "", "", presets={"big": {"width": 2}, "wide": {"width": 2, "deep": True}, "other": {"width": 3}},
    training={"": {"lr": 0.1}, "big": {"lr": 0.2, "freeze": ["a"]}, "wide": {"lr": 0.3, "lr_of": {"a": 0.5}}},
)  # fmt: skip
AUGMENTS = {"segment": augment_segment.Augment, "classify": augment_classify.Augment,
            "detect": augment_detect.Augment, "instance": augment_detect.Augment}  # fmt: skip


@pytest.mark.parametrize(
    ("net", "args", "said"),
    [
        ("net", {}, {"lr": 0.1}),
        ("net:big", {"width": 2}, {"lr": 0.2, "freeze": ["a"]}),
        ("net:big", {"width": 7}, {"lr": 0.2, "freeze": ["a"]}),  # the one that was named, though changed
        ("net", {"width": 2, "deep": False}, {"lr": 0.2, "freeze": ["a"]}),  # the arguments of one, unnamed
        ("net", {"width": 2, "deep": True}, {"lr": 0.3, "lr_of": {"a": 0.5}}),  # of two, the one that says more
        ("net:other", {"width": 3}, {"lr": 0.1}),  # a preset of which nothing is said
        ("net:big", {"width": 2, "pretrained": False}, {"lr": 0.2}),  # nothing there that is worth keeping
    ],
)
def test_which_settings_hold(net: str, args: dict[str, Any], said: dict[str, Any]) -> None:
    assert CARD.trained_with(net, args) == said


def test_every_card_says_only_what_its_recipe_takes() -> None:
    seen = 0
    for kind in names(handful.models, "net"):
        card = card_of(kind)
        for preset in card.training or {}:
            net = f"{kind}:{preset}" if preset else kind
            name, module, args = weights.network_card(net, card.task)
            own = card.trained_with(net, args)
            assert json.loads(json.dumps(own)) == own
            tuned.plan_of(own, {"epochs": 1})
            tuned.made(Loss, own.get("loss"), None)
            tuned.made(AUGMENTS[card.task], own.get("augment"), None)
            class_weights([1, 2], [1, 1], [3, 3], own.get("balance", "none"))
            tuned.crop_of(own.get("crop"), (64, 64))
            bare = {"pretrained": False} if "encoder" in args else {}
            speed = weights.rates(weights.built(module, card.classes or 3, {**args, **bare}),
                                  own.get("lr_of", {}), own.get("freeze", ()))  # fmt: skip
            assert speed
            plan = {f for f in tuned.plan_of({}, {"epochs": 1}).__dataclass_fields__ if f not in ("epochs", "minutes")}
            assert own.keys() <= plan | {"loss", "augment", "balance", "crop", "freeze", "lr_of"}, name
            seen += 1
    assert seen >= 12


def test_what_is_given_wins_piece_by_piece() -> None:
    own = {"lr": 0.008, "ema": 0.99, "loss": {"dice": 0.5, "smoothing": 0.1}, "crop": 0.72, "balance": "enet"}
    plan = tuned.plan_of(own, {"epochs": 2, "lr": 0.5, "ema": None}, batch=64)
    assert (plan.lr, plan.ema, plan.batch, plan.epochs) == (0.5, None, 64, 2)
    assert tuned.made(Loss, own["loss"], {"smoothing": 0.2}) == Loss(dice=0.5, smoothing=0.2)
    assert tuned.made(Loss, own["loss"], Loss()) == Loss()
    assert tuned.made(augment_segment.Augment, None, {"scale": [0.8, 1.2]}).scale == (0.8, 1.2)
    assert tuned.parts({"freeze": ["a"], "lr_of": {"b": 2.0}}, None, {}) == (["a"], {})
    with pytest.raises(UnknownName, match="did you mean 'dice'"):
        tuned.made(Loss, None, {"dise": 1})
    with pytest.raises(UnknownName, match="did you mean 'epochs'"):
        tuned.plan_of({}, {"epoch": 2})


@pytest.mark.parametrize(
    ("crop", "size_hw", "cut_hw"),
    [
        (0.72, (360, 480), (256, 352)),
        (0.72, (32, 48), (32, 32)),
        (1.0, (33, 50), (33, 50)),
        (1, (64, 64), (64, 64)),
        (None, (40, 60), (40, 60)),
        ((30, 20), (40, 60), (30, 20)),
    ],
)
def test_a_crop_is_a_size_or_a_share(crop: Any, size_hw: tuple[int, int], cut_hw: tuple[int, int]) -> None:
    assert tuned.crop_of(crop, size_hw) == cut_hw


@pytest.mark.parametrize("crop", [0.0, 1.5, -1, float("nan")])
def test_a_share_that_is_none(crop: float) -> None:
    with pytest.raises(DataError, match="the share of both sides"):
        tuned.crop_of(crop, (64, 64))


def test_a_training_records_what_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small(tmp_path / "data")
    own = {"lr": 0.02, "loss": {"dice": 0.5}, "lr_of": {"head": 2.0}, "crop": 0.7, "balance": "none"}
    module = weights.network_card("stub", "segment")[1]
    monkeypatch.setattr(module, "CARD", replace(module.CARD, training={"": own}))
    run(data, tmp_path / "m", net="stub", epochs=1, batch=4, threads=1, loss={"smoothing": 0.1}, size_hw=(64, 64))
    config = json.loads((tmp_path / "m" / "train.json").read_text())["config"]
    assert config["lr"] == 0.02 and config["lr_of"] == {"head": 2.0} and config["balance"] == "none"
    assert config["loss"]["dice"] == 0.5 and config["loss"]["smoothing"] == 0.1 and config["crop"] == [32, 32]
    run(data, tmp_path / "n", **{**FAST, "epochs": 1}, crop=1.0, lr_of={}, balance="enet")
    config = json.loads((tmp_path / "n" / "train.json").read_text())["config"]
    assert config["lr_of"] == {} and config["balance"] == "enet" and config["crop"] == [32, 48]


def test_show_tells_them() -> None:
    assert describe("exeggutor:lite0")["training"]["lr_of"] == {"core.encoder": 0.2}
    assert "lr_of" not in describe("exeggutor:lite0", args={"pretrained": False})["training"]
    assert describe("exeggutor:small")["training"]["lr"] == 0.008
    assert describe("classifier")["training"] == {}


@pytest.mark.parametrize(("kind", "given", "words"), [
    (Loss, {"dice": "x"}, "dice of loss is 'x'; wanted a number"),
    (Loss, {"dice": True}, "dice of loss is True; wanted a number"),
    (augment_segment.Augment, {"scale": 2}, r"scale of augment is 2; wanted 2 numbers.*such as scale=\[0.5,2.0\]"),
    (augment_segment.Augment, {"scale": [1, "x"]}, "wanted 2 numbers in brackets"),
    (augment_segment.Augment, {"flip": [1]}, r"flip of augment is \[1\]; wanted a number"),
])  # fmt: skip
def test_a_setting_of_another_kind_is_told_in_its_own_words(kind: type, given: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        tuned.made(kind, {}, given)
    assert tuned.made(Loss, {}, {"ohem": None, "dice": 1}).dice == 1


def test_a_crop_is_no_larger_than_its_frame() -> None:
    with pytest.raises(DataError, match=r"crop is 128x64, larger than the frame of 64x64.*--frame 128x64"):
        tuned.crop_of((128, 64), (64, 64))
    assert tuned.crop_of((64, 32), (64, 64)) == (64, 32) and tuned.crop_of(None, (64, 32)) == (64, 32)
