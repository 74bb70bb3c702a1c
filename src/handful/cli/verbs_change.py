"""set, unlearn: a taught model changed in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, on_engine, option, options
from handful.cli.places import Data, ModelFolder
from handful.cli.shared import refuse, say, typed, verb
from handful.words import counted


@verb("set", examples=("handful set model --vigilance 2", "handful set detector --score-threshold 0.5 --mode fast"))
@click.argument("model", type=ModelFolder())
@option("--vigilance", told="stays as it is")
@option("--score-threshold", "Of a taught detector.", told="stays as it is")
@option("--mode", "Of a taught detector.", told="stays as it is")
@common
def set_(model: Path, as_json: bool, **given: Any) -> None:
    """Set how careful a taught MODEL is from now on, in its folder.

    What was compiled of a detector stays true and is kept, but for another mode; a classifier's vigilance is in its
    graph, so what was compiled of it must be compiled again.
    """
    from handful.kinds import changing

    values = typed(given)
    if not values:
        raise click.UsageError("say what to set: --vigilance, --score-threshold or --mode")
    say(changing.set_own(model, values), as_json, _set)


def _set(r: dict[str, Any]) -> str:
    own = [f"{name.replace('_', ' ')} {r[name]:g}" for name in ("vigilance", "score_threshold") if name in r]
    own += [f"mode {r['mode']}"] if r.get("mode") else []
    lines = [f"{r['model']}: {', '.join(own)}"]
    if r["bundles_kept"]:
        lines.append(f"compiled models have it too: {', '.join(r['bundles_kept'])}")
    return "\n".join([*lines, *_dropped(r)])


def _dropped(r: dict[str, Any]) -> list[str]:
    return [f"must be compiled again: {', '.join(r['bundles_dropped'])}"] if r["bundles_dropped"] else []


@verb(examples=("handful unlearn model photos/mug/1.jpg --class mug", "handful unlearn model --class mug"))
@click.argument("model", type=ModelFolder())
@click.argument("data", type=Data(), required=False)
@option("--class", "Without DATA: forget this class.", told="all of DATA")
@options("--flat")
@option("--split", "Of boxes.", told="all images")
@option("--format", "Of boxes.", told="found out")
@option("--images", told="beside the JSON")
@on_engine
@common
def unlearn(model: Path, data: Path | None, classes: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Take back what a taught MODEL learned from DATA, as if it had never been learned.

    DATA is an image or a folder of images of the one --class, a folder of images for each class, or a data set with
    boxes for a detector. Without DATA a whole class is forgotten; how its images scattered stays in what is known of
    all classes. All or nothing is taken back.
    """
    from handful.kinds import changing, registry

    asked = typed(given)
    if data is None and not classes:
        raise click.UsageError("say what to unlearn: DATA, --class NAME, or both")
    if data is None and asked:
        raise click.UsageError(f"--{min(asked).replace('_', '-')} goes with DATA")
    module, owner = registry.loader(model), registry.model_class(registry.kind_name_of(model))
    if hasattr(owner, "unlearn_data"):
        refuse(model, module.DESCRIPTION, owner, "unlearn_data", asked)
    say(changing.unlearn(model, data, list(classes), asked), as_json, _unlearned)


def _unlearned(r: dict[str, Any]) -> str:
    more = f", {counted(r['never_learned'], 'box was', 'boxes were')} never learned" if r.get("never_learned") else ""
    lines = [f"{r['model']}: {r['unlearned']} unlearned{more}; it knows {counted(len(r['classes']), 'class')}"]
    if r["classes_forgotten"]:
        lines.append(f"forgotten: {', '.join(r['classes_forgotten'])}")
    return "\n".join([*lines, *_dropped(r)])
