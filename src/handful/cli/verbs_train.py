"""train segment; and how `evaluate` speaks of a segmentation model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.shared import FOLDER, Verbs, common, frame_option, say

OWN = "  [default: as tuned for the network]"
NONE = ("none",)  # typed for an option that may be repeated


@click.group(cls=Verbs)
def train() -> None:
    """Train a compact network: stopped and resumed to the bit, measured by rules that are said."""


def planned(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every recipe takes: the plan, where to begin from, and what to read."""
    options = (
        click.option("--out", type=FOLDER, required=True, help="The model folder to make; OUT.run keeps checkpoints."),
        click.option("--arg", "args", multiple=True, metavar="KEY=VALUE", help="For the network (may be repeated)."),
        click.option("--epochs", type=int, help="How often each photo is seen."),
        click.option("--minutes", type=float, help="Instead: as many epochs as fit into this time."),
        click.option("--batch", type=int, help=f"Photos in a batch, over all devices.{OWN}"),
        click.option("--lr", type=float, help=f"Largest learning rate.{OWN}"),
        click.option("--accumulate", type=int, default=1, show_default=True, help="Batches in a step."),
        click.option("--optimizer", help=f"adamw or sgd.{OWN}"),
        click.option("--momentum", type=float, help=f"Of sgd, and adamw's first beta.{OWN}"),
        click.option("--lr-bias", type=float, help=f"Factor of the rate of biases.{OWN}"),
        click.option("--weight-decay", type=float, help=OWN.strip()),
        click.option("--schedule", help=f"How the rate falls: poly, cosine or constant.{OWN}"),
        click.option("--warmup", type=float, help=f"Share of the steps in which it rises.{OWN}"),
        click.option("--clip", type=float, help=f"Largest norm of the gradient; 0: any.{OWN}"),
        click.option("--size", "size_hw", callback=frame_option, help="The frame the phone will give, HEIGHTxWIDTH."),
        click.option("--seed", type=int, default=0, show_default=True, help="Decides every chance."),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 or mps."),
        click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16."),
        click.option("--threads", type=int, help="Of torch on the CPU.  [default: as many as it has]"),
        click.option("--workers", type=int, default=2, show_default=True, help="Threads that prepare photos."),
        click.option("--ema", type=float, help=f"Decay of the mean of weights; 0: no mean.{OWN}"),
        click.option("--class", "classes", multiple=True,
                     help="Learn only this class (may be repeated); others are left aside."),
        click.option("--from", "from_", type=FOLDER, help="Begin with the weights of this model that fit."),
        click.option("--rename", multiple=True, metavar="OLD=NEW", help="With --from: beginnings of names."),
        click.option("--freeze", multiple=True, metavar="PART",
                     help=f"Do not train this part (may be repeated), or: none.{OWN}"),
        click.option("--lr-of", multiple=True, metavar="PART=FACTOR",
                     help=f"Train this part faster or slower, or: none.{OWN}"),
        click.option("--every", type=int, default=1, show_default=True, help="Measure on val after so many epochs."),
        click.option("--keep", default="best", show_default=True,
                     help="Which weights: the best on val, or the last."),
        click.option("--save-every", type=int, help="Also keep a checkpoint after so many steps."),
        click.option("--tensorboard", is_flag=True, help="Also write OUT.run/events for TensorBoard."),
        click.option("--train-split", default="train", show_default=True),
        click.option("--val-split", default="val", show_default=True, help="none: measure nothing."),
        click.option("--format", "format_", help="Read as this instead of finding out."),
        click.option("--allow", multiple=True, help="Go on although `handful data check` finds errors of this code."),
        click.option("--resume", is_flag=True,
                     help="Go on with the run in OUT.run, to the bit as if it had never stopped."),
        click.option("--overwrite", is_flag=True, help="Replace the model in OUT and the run beside it."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return common(command)


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
    options["format"] = options.pop("format_")
    typed = {key: value for key, value in options.items() if value is not None}
    off = {key for key, nothing in (("ema", 0), ("clip", 0), ("val_split", "none")) if typed.get(key) == nothing}
    return {**typed, **dict.fromkeys(off)}


balance_option = click.option(
    "--balance", help=f"Weights of classes: enet, enet^0.5 (milder), effective, inverse, ..., or none.{OWN}"
)
teacher_option = click.option("--teacher", type=FOLDER, help="A model of the same task to imitate.")


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--net", default="exeggutor", show_default=True, help="NAME or NAME:PRESET of a segmentation network.")
@click.option("--crop", callback=frame_option, help=f"What is cut of it to train on, HEIGHTxWIDTH.{OWN}")
@click.option("--loss", "losses", multiple=True, metavar="KEY=VALUE",
              help="auxiliary, ohem, dice, smoothing, teach, temperature.")  # fmt: skip
@click.option("--augment", "augments", multiple=True, metavar="KEY=VALUE",
              help="flip, scale=[0.5,2], rotate_deg, brightness, contrast, ...; none=true for none.")  # fmt: skip
@balance_option
@teacher_option
@click.option("--background", help="Which class is everything else.  [default: found by its name]")
@click.option("--rule", default="mmseg", show_default=True,
              help="What absent classes count for: mmseg, detectron2, ultralytics, paddle or gluon.")  # fmt: skip
@click.option("--masks", help="Which folder of masks, where several lie side by side.")
@planned
def segment(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a segmentation network on DATA, any folder whose pixels have classes, with splits train and val."""
    from handful.training.augment_segment import NOTHING
    from handful.training.recipe_segment import run

    options = plain(options)
    options["loss"] = pairs(options.pop("losses"), "--loss")
    options["augment"] = _changes(NOTHING, options.pop("augments"))
    say(run(data, out, **options), as_json, trained)


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--net", default="signet", show_default=True, help="NAME or NAME:PRESET of a classifier.")
@click.option("--loss", "losses", multiple=True, metavar="KEY=VALUE", help="smoothing, auxiliary, teach, temperature.")
@click.option("--augment", "augments", multiple=True, metavar="KEY=VALUE",
              help="mirror, shift, scale=[0.8,1.25], rotate_deg, ..., cutout; none=true for none.")  # fmt: skip
@balance_option
@teacher_option
@planned
def classify(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a classifier on DATA, a folder of photos for each class, with splits train and val."""
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


augment_option = click.option(
    "--augment", "augments", multiple=True, metavar="KEY=VALUE",
    help="flip, scale=[0.6,1.8], visible, brightness, ..., draws; none=true for none.",
)  # fmt: skip


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--net", default="faster_rcnn", show_default=True, help="NAME or NAME:PRESET of a detector.")
@augment_option
@planned
def detect(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a detector on DATA, any folder whose photos have boxes, with splits train and val."""
    _boxes(data, out, as_json, "detect", options)


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--net", default="mask_rcnn", show_default=True, help="NAME or NAME:PRESET of a network with masks.")
@augment_option
@planned
def instance(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a network that outlines each thing on DATA, any folder whose photos have outlines, as `detect`."""
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
             f"{r['epochs']} epochs in {r['minutes']:.1f} min{best}"]  # fmt: skip
    measured = {"segment": segmented, "classify": classified}.get(r["task"], detected)
    if r["report"]:
        lines.append(f"page with the worst photos: {r['report']}")
    return "\n".join([*lines, *([measured(r)] if "rule" in r else [])])


def detected(r: dict[str, Any]) -> str:
    """COCO's table of a detector, for people."""
    from handful.training.coco_table import STATS

    def percent(value: float | None) -> str:
        return "   -  " if value is None else f"{100 * value:6.2f}"

    kinds = {"boxes": "", **({"masks": "mask_"} if "mask_AP" in r else {})}
    lines = [f"{'%':<14}" + "".join(f"{kind:>9}" for kind in kinds)]
    lines += [f"{name:<14}" + "".join(f"   {percent(r[before + name])}" for before in kinds.values()) for name in STATS]
    return "\n".join([*lines, f"{r['rule']['AP']}; {r['images']} images, {r['objects']} objects"])


def classified(r: dict[str, Any]) -> str:
    """The measures of a classifier, for people."""
    lines = [
        f"accuracy           {100 * r['accuracy']:6.2f} %",
        f"mean accuracy      {100 * r['mean_accuracy']:6.2f} %",
    ]
    if "accuracy_mirrored" in r:
        lines.append(f"with mirror images {100 * r['accuracy_mirrored']:6.2f} %")
    there = {name: v["accuracy"] for name, v in r["per_class"].items() if v["accuracy"] is not None}
    worst = sorted(there.items(), key=lambda item: (item[1], item[0]))[:5]
    lines.append("worst classes      " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in worst))
    return "\n".join([*lines, f"rule {r['rule']['name']}: {r['rule']['accuracy']}; {r['images']} images"])


def segmented(r: dict[str, Any]) -> str:
    """The measures of a segmentation model, for people."""

    def percent(value: float | None) -> str:
        return "   -  " if value is None else f"{100 * value:6.2f}"

    rows: Sequence[tuple[str, float | None]] = (
        ("mIoU with background", r["miou_with_background"]),
        ("mIoU without background", r["miou_without_background"]),
        ("pixel accuracy", r["pixel_accuracy"]),
        ("mean accuracy", r["mean_accuracy"]),
        ("boundary F", r["boundary_f"]),
    )
    lines = [f"{name:<24}{percent(value)} %" for name, value in rows]
    lines.append(f"{'class':<24}{'IoU':>6}  {'accuracy':>8}  {'boundary F':>10}  {'images':>6}")
    for name, v in r["per_class"].items():
        lines.append(f"{name[:23]:<24}{percent(v['iou'])}  {percent(v['accuracy']):>8}  "
                     f"{percent(v.get('boundary_f')):>10}  {v['images']:>6}")  # fmt: skip
    behind = f"background: {r['background']}" if r["background"] else "no class is the background"
    lines.append(f"rule {r['rule']['name']}: {r['rule']['miou']}; {behind}; {r['images']} images")
    return "\n".join(lines)
