"""Which verbs a message may come from, by the module that holds it: the options it names must be theirs."""

from __future__ import annotations

from functools import cache

import click

from handful.cli import cli
from handful.cli.places import Data, Output
from handful.cli.shared import Alias

TRAIN = ("train segment", "train classify", "train detect", "train instance")
DREAM = ("dream run",)
TEACH = ("teach",)
PHOTO_OR_BOXES = ("teach", "heatmap", "select")
# "data": every verb that reads a data set. "out": every verb that writes into a folder.
FROM: dict[str, tuple[str, ...]] = {
    "bundle": (), "cli.findings:table": ("data check",), "cli.findings:checked": ("data check",),
    "cli.last_resort": (), "cli.measured:taught": ("evaluate",), "cli.verbs_change:set_": ("set",),
    "cli.verbs_change:unlearn": ("unlearn",), "cli.verbs_data:_converted": ("data convert",),
    "cli.verbs_data:_kept": ("data balance", "data split"), "cli.verbs_data:split_": ("data split",),
    "cli.verbs_dream:run": DREAM, "cli.verbs_dream:preview": ("dream preview",),
    "cli.verbs_dream:_numbers": ("dream preview",), "cli.verbs_models:flow": ("models flow",),
    "cli.verbs_models:_argument": ("models show",), "cli.verbs_predict": ("predict",), "cli.verbs_teach": TEACH,
    "cli.verbs_train": TRAIN, "curate.account": ("data check",),
    "curate.check": (*TEACH, *TRAIN, "heatmap", "select", "data chips", "demo"), "curate.seen": TEACH,
    "data": ("data",), "data.near_names": TEACH, "demo:run": ("demo",), "detection.teaching": TEACH,
    "detection.graphs": TEACH, "device.compile": ("device compile",), "device.lab.agreement": ("device compare",),
    "fewshot.teaching": TEACH, "kinds.predictions": ("predict",),
    "kinds.kind_taught_classifier:unlearn_data": ("unlearn",), "kinds.registry:can_be_taught": TEACH,
    "lucid.seed": ("dream run", "dream preview"), "models.backbone": (*TEACH, "demo"), "models.fetch": ("weights get",),
    "models.folder:may_teach_into": TEACH, "parallel": ("dream run", "heatmap", "select"),
    "curate.split": ("data split",),
    "data.labelmaps": ("data convert",), "parallel:RESUME": DREAM, "places": ("out",),
    "training": TRAIN, "training.distributed": (*TRAIN, "evaluate"), "training.weights": TRAIN,
    "kinds.registry:cure": (), "cli.verbs_train:plain": TRAIN,
}  # fmt: skip


@cache
def parsers() -> dict[str, click.Command]:
    """Every verb's command: "data check" and so on; old names left out."""
    found: dict[str, click.Command] = {}

    def walk(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for sub in command.list_commands(context):
                one = command.get_command(context, sub)
                assert one is not None
                walk(one, f"{name} {sub}".strip())
        elif not isinstance(command, Alias):
            found[name] = command

    walk(cli, "")
    return found


def options_of(verb: str) -> set[str]:
    """The options of a verb."""
    return {flag for param in parsers()[verb].params for flag in param.opts if flag.startswith("--")}


def verbs_of(module: str, function: str) -> tuple[str, ...]:
    """The verbs whose messages a function's may be."""
    places = [f"{module}:{function}", *(module.rsplit(".", i)[0] for i in range(module.count(".") + 1))]
    found = next((FROM[place] for place in places if place in FROM), None)
    assert found is not None, f"say in tests/cures/spoken.py which verbs the messages of {module} may come from"
    kinds = {"data": Data, "out": Output}
    held: list[str] = []
    for name in found:
        kind = kinds.get(name)
        held += [name] if kind is None else [
            verb for verb, command in parsers().items()
            if any(isinstance(p.type, kind) and getattr(p.type, "how", "") != "file" for p in command.params)
        ]  # fmt: skip
    return tuple(held)
