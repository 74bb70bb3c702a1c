"""train: segment, classify, detect, instance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from handful.cli.measured import measured
from handful.cli.options import common, option
from handful.cli.places import Data, Output
from handful.cli.shared import Verbs, decorated, say
from handful.words import counted

OWN = "as tuned for the network"
NONE = ("none",)  # typed for an option that may be repeated


RENAMED = {"--size": "--frame", "--device": "--torch-device"}


@click.group(cls=Verbs)
def train() -> None:
    """Train a compact network: stopped and resumed to the bit, measured by rules that are said."""


def planned(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every recipe takes: the plan, where to begin from, and what to read."""
    own = [option(flag, told=OWN) for flag in (
        "--batch", "--lr", "--optimizer", "--momentum", "--lr-bias", "--weight-decay", "--schedule", "--warmup",
        "--clip", "--ema", "--freeze", "--lr-of")]  # fmt: skip
    return decorated(command, (
        option("--out", "The model folder to make; OUT.run keeps checkpoints.", writes=Output("model"), required=True),
        option("--frame", told=OWN), option("--arg", told=OWN),
        option("--epochs", told="none; either this or --minutes"), option("--minutes", told="none"), *own,
        option("--accumulate", default=1), option("--seed", default=0), option("--torch-device", default="cpu"),
        option("--precision", "fp32 or bf16.", default="fp32"),
        option("--threads", "Of torch.", told="as many as it has"),
        option("--workers", "Threads that prepare images.", default=2),
        option("--class", "Others are left aside; for segment they are background where it is one class, or outlines.",
               told="all"),
        option("--from", told="none"),
        option("--rename", told="none"), option("--every", default=1), option("--keep", default="best"),
        option("--save-every", told="never"), option("--tensorboard"), option("--train-split", default="train"),
        option("--val-split", default="val"), option("--format", told="found out"), option("--allow", told="none"),
        option("--resume"), option("--overwrite"), common,
    ))  # fmt: skip


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """What was typed, as a recipe takes it; what was not is left out, and so left to the network."""
    options["args"], options["rename"] = pairs(options["args"], "--arg"), pairs(options["rename"], "--rename")
    factors = {} if options["lr_of"] == NONE else pairs(options["lr_of"], "--lr-of")
    for part, factor in factors.items():
        if not isinstance(factor, int | float) or isinstance(factor, bool):
            raise click.BadParameter(f"--lr-of {part}={factor}: wanted a number")
    options["lr_of"] = factors if options["lr_of"] else None
    options["freeze"] = [] if options["freeze"] == NONE else list(options["freeze"]) or None
    options["classes"] = list(options["classes"]) or None
    options["size_hw"], options["device"] = options.pop("frame_hw"), options.pop("torch_device")
    typed = {key: value for key, value in options.items() if value is not None}
    typed |= {"images": str(typed["images"])} if "images" in typed else {}
    off = {key for key, nothing in (("ema", 0), ("clip", 0), ("val_split", "none")) if typed.get(key) == nothing}
    return {**typed, **dict.fromkeys(off)}


def weights(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of networks with one answer a pixel or an image."""
    return decorated(command, (option("--balance", told=OWN), option("--teacher", told="none")))


beside = option("--images", told="beside the JSON")


@train.command("segment", renamed={**RENAMED, "--masks": "--masks-in"}, examples=(
    "handful train segment scenes --out model --minutes 30",
    "handful train segment scenes --net exeggutor:small --frame 360x480 --epochs 40 --out model"))  # fmt: skip
@click.argument("data", type=Data())
@option("--net", default="exeggutor")
@option("--crop", told=OWN)
@option("--loss", "auxiliary, ohem, dice, smoothing, teach, temperature.", told=OWN)
@option("--augment", "flip, scale=[0.5,2], rotate_deg, brightness, contrast, ...", told=OWN)
@weights
@option("--background", told="found by its name")
@option("--rule", default="mmseg")
@option("--masks-in", told="the only one")
@beside
@planned
def segment(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a segmentation network on DATA, any folder whose pixels have classes, with splits train and val."""
    from handful.training.augment_segment import NOTHING
    from handful.training.recipe_segment import run

    options = plain(options)
    if "masks_in" in options:
        options["masks"] = options.pop("masks_in")
    options["loss"] = pairs(options.pop("losses"), "--loss")
    options["augment"] = _changes(NOTHING, options.pop("augments"))
    say(run(data, out, **options), as_json, trained)


@train.command("classify", renamed=RENAMED, examples=(
    "handful train classify flowers --out model --epochs 20",
    "handful train classify flowers --net signet:lite0 --frame 224x224 --minutes 10 --out model"))  # fmt: skip
@click.argument("data", type=Data())
@option("--net", default="signet")
@option("--loss", "smoothing, auxiliary, teach, temperature.", told=OWN)
@option("--augment", "mirror, shift, scale=[0.8,1.25], rotate_deg, ..., cutout.", told=OWN)
@weights
@planned
def classify(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a classifier on DATA, a folder of images for each class, with splits train and val."""
    from handful.training.augment_classify import NOTHING
    from handful.training.recipe_classify import run

    options = plain(options)
    options["loss"] = pairs(options.pop("losses"), "--loss")
    options["augment"] = _changes(NOTHING, options.pop("augments"))
    say(run(data, out, **options), as_json, trained)


def _boxes(data: Path, out: Path, as_json: bool, task: str, options: dict[str, Any]) -> None:
    import importlib

    from handful.training.augment_detect import NOTHING

    options = plain(options)
    options["augment"] = _changes(NOTHING, options.pop("augments"))
    run = importlib.import_module(f"handful.training.recipe_{task}").run
    say(run(data, out, **options), as_json, trained)


zoomed = option("--augment", "flip, scale=[0.6,1.8], visible, brightness, ..., draws.", told=OWN)


@train.command("detect", renamed=RENAMED, examples=(
    "handful train detect shop --out detector --epochs 12",
    "handful train detect shop-chips --net objectness --frame 320x320 --epochs 12 --out proposer"))  # fmt: skip
@click.argument("data", type=Data())
@option("--net", default="faster_rcnn")
@zoomed
@beside
@planned
def detect(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a detector on DATA, any folder whose images have boxes, with splits train and val."""
    _boxes(data, out, as_json, "detect", options)


@train.command("instance", renamed=RENAMED, examples=(
    "handful train instance shop --out outliner --epochs 12",
    "handful train instance shop --from detector --minutes 60 --out outliner"))  # fmt: skip
@click.argument("data", type=Data())
@option("--net", default="mask_rcnn")
@zoomed
@beside
@planned
def instance(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a network that outlines each thing on DATA, any folder whose images have outlines, as `detect`."""
    _boxes(data, out, as_json, "instance", options)


def _changes(nothing: Any, given: Iterable[str]) -> Any:
    """--augment: what of the network's own changes is to be otherwise, or `nothing`."""
    values = pairs(given, "--augment")
    return nothing if values.pop("none", False) else values


def pairs(given: Iterable[str], option: str) -> dict[str, Any]:
    """KEY=VALUE as {key: value}, the value as JSON where it is."""
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{option} {text}: wanted KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def trained(r: dict[str, Any]) -> str:
    """What was trained, for people."""
    if "rank" in r:
        return ""
    best = f"; best after epoch {r['best']['epoch']}" if r["best"] else ""
    lines = [f"{r['model']}: {r['net']}, {r['params'] / 1e6:.2f} M parameters, {r['macs'] / 1e6:.0f} M MACs, "
             f"{counted(r['epochs'], 'epoch')} in {r['minutes']:.1f} min{best}"]  # fmt: skip
    if r["report"]:
        lines.append(f"page with the worst images: {r['report']}")
    return "\n".join([*lines, *([measured(r)] if "rule" in r else [])])
