"""predict: what a model of any kind says of images and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, on_engine, option, options
from handful.cli.places import PATH, ModelFolder, Output
from handful.cli.shared import leave, refuse, say, typed, verb
from handful.words import counted


@verb(
    examples=("handful predict model new.jpg", "handful predict detector photos clip.mp4 --out seen --masks --json"),
    renamed={"--look": "--scale-mode"},
)
@click.argument("model", type=ModelFolder(bundle=True))
@click.argument("images", type=PATH, nargs=-1, required=True)
@option("--out", "A folder for the pictures with the answers drawn in, label masks, videos and results.json.",
        writes=Output("files", "results.json"), told="nothing is written")  # fmt: skip
@option("--top", "Of a classifier.", told="the answer alone; with --json all of them")
@option("--vigilance", told="the model's own")
@option("--score-threshold", told="the model's own; of a trained detector 0.5")
@options("--unknown", "--explain", "--masks")
@option("--masks-by", told="the detector's own way")
@option("--scale-mode", told="as it was taught")
@option("--runtime", "The model is compiled first when it was not.", told="none, it runs in torch")
@option("--precision", "fp32 or fp16, with --runtime.", told="fp32")
@on_engine
@common
def predict(model: Path, images: Sequence[Path], out: Path | None, as_json: bool, **given: Any) -> None:
    """Say what MODEL sees in each of IMAGES: files, folders or videos.

    A classifier says what an image shows, a detector which things are where, a segmenter what each pixel is. MODEL is a
    model folder of any kind, or a compiled bundle. With --json the probabilities of all classes are printed.

    An image that cannot be read is told on stderr; the others are answered all the same, and the exit code is 2. So it
    is with a video that breaks off: all frames before are answered. Ctrl-C ends early and keeps what was done.
    """
    from handful.kinds import predictions

    asked = typed(given)
    runtime, precision, top, explain = (asked.pop(k, None) for k in ("runtime", "precision", "top", "explain"))
    if precision and not runtime:
        raise click.UsageError("--precision goes with --runtime")
    if (by := asked.pop("masks_by", None)) is not None:
        asked["masks"] = by
    _check(model, asked, top, explain, runtime)
    lost: list[dict[str, Any]] = []

    def not_read(row: dict[str, Any]) -> None:
        click.echo(f"handful: {row['error']}", err=True)

    def absent(row: dict[str, Any]) -> None:
        lost.append(row)
        not_read(row)

    paths = predictions.sources(images, out, absent)
    if not paths:  # nothing heavy was loaded for it
        if as_json:
            error = "; ".join(row["error"] for row in lost)
            say({"schema_version": 1, "error": error, "exit_code": 2, "failed": lost}, True, str)
        leave(2)
    if out is not None:
        predictions.inside(out, paths, images)
    loaded, explainer = _loaded(model, asked, runtime, precision or "fp32", explain, top)
    lines = Lines(top)
    result = predictions.predict_to(
        loaded, paths, out, failed=lost, options=asked, top=top, on_failed=not_read,
        explainer=explainer if explain else None, on_row=(lambda row: None) if as_json else lines.row,
    )  # fmt: skip
    if as_json:
        say(result, True, str)
    else:
        lines.videos(result)
    if result["status"] == "stopped":
        leave(130)
    if result["failed"]:
        leave(2)


def _check(model: Path, asked: dict[str, Any], top: int | None, explain: Any, runtime: str | None) -> None:
    """Raises UsageError, in one line, for options that this kind of model does not have; loads nothing."""
    from handful import bundle
    from handful.errors import UsageError
    from handful.kinds import registry
    from handful.kinds.contract import Classifier

    if (model / bundle.MANIFEST).exists():
        if runtime is not None:
            raise UsageError(f"{model} is compiled already; --runtime is for model folders")
        return  # what it can be told is known when it is loaded
    module = registry.loader(model)
    owner = registry.model_class(registry.kind_name_of(model))
    refuse(model, module.DESCRIPTION, owner, "stream", asked)
    if top is not None and not issubclass(owner, Classifier):
        raise UsageError(f"{model} is {module.DESCRIPTION}; --top is for classifiers")
    if explain:
        able = [k for k in registry.kinds() if hasattr(registry.model_class(k), "explain")]
        if not hasattr(owner, "explain"):
            raise UsageError(f"{model} is {module.DESCRIPTION}; --explain is for "
                             f"{' and '.join(registry.kind(k).DESCRIPTION for k in able)}")  # fmt: skip
    reason = module.VERBS.why_not("compile")
    if runtime is not None and reason is not None:
        raise UsageError(f"{model} is {module.DESCRIPTION}; it has no --runtime: {reason}")


def _loaded(
    model: Path, asked: dict[str, Any], runtime: str | None, precision: str, explain: Any, top: int | None
) -> tuple[Any, Any]:  # fmt: skip
    """The model that is asked, compiled first where it has to be, and the one that explains, if any."""
    from handful import bundle
    from handful.errors import UsageError
    from handful.kinds import loading
    from handful.kinds.contract import Classifier

    place = model
    if runtime is not None:
        from handful.kinds.compiling import compile_model

        place = compile_model(model, runtime, precision).folder
    loaded = loading.load(place)
    if (place / bundle.MANIFEST).exists():
        refuse(place, "a bundle, compiled from a model", type(loaded), "stream", asked)
        if top is not None and not isinstance(loaded, Classifier):
            raise UsageError(f"{place} is a bundle to {loaded.task}; --top is for classifiers")
    explainer = loading.load(model) if explain and place != model else loaded
    if explain and not hasattr(explainer, "explain"):
        raise UsageError(f"{model} is a bundle; --explain is for the model it was compiled from")
    return loaded, explainer


class Lines:
    """Answers for people, a line each as they come; of a video only what was seen in how many frames. top: as --top."""

    def __init__(self, top: int | None = None) -> None:
        self.top = top
        self.seen: dict[str, Counter[str]] = {}

    def row(self, row: dict[str, Any]) -> None:
        """One answer."""
        if "frame" in row:
            self.seen.setdefault(row["source"], Counter()).update(set(names_in(row)))
        else:
            click.echo(text_of(row, self.top))

    def videos(self, result: dict[str, Any]) -> None:
        """What the videos were, and where everything lies."""
        for one in result["videos"]:
            click.echo(f"{one['source']}: {counted(one['frames'], 'frame')}")
            for name, count in self.seen.get(one["source"], Counter()).most_common():
                click.echo(f"  {name} in {count}")


def names_in(row: dict[str, Any]) -> list[str]:
    """The classes that an answer names."""
    if "found" in row:
        return [one["class"] for one in row["found"] if not one["unknown"]]
    return list(row["shares"]) if "shares" in row else [row["label"] or "none of these"]


def text_of(row: dict[str, Any], top: int | None = None) -> str:
    """One answer for people; of a classifier also the next likeliest of `top`."""
    notes = f"  [{'; '.join(row['notes'])}]" if row.get("notes") else ""
    if "label" in row:
        label = row["label"] or f"none of these (nearest: {row['nearest']})"
        rest = list(row["probabilities"].items())[1:top] if top is not None else []
        more = "".join(f"; {name} {100 * p:.0f} %" for name, p in rest)
        return f"{row['source']}: {label}, {100 * row['probability']:.0f} %{more}{notes}"
    if "shares" in row:
        shares = [f"{name} {100 * v:.1f} %" for name, v in list(row["shares"].items())[:6]]
        more = f" and {len(row['shares']) - 6} more" if len(row["shares"]) > 6 else ""
        return f"{row['source']}: {', '.join(shares)}{more}{notes}"
    lines = [f"{row['source']}: {len(row['found'])} found{notes}"]
    for one in row["found"]:
        name = f"unknown (nearest: {one['class']})" if one["unknown"] else one["class"]
        box = ", ".join(f"{v:.0f}" for v in one["box_px"])
        like = [f"{e['class']} in {e['image']}" for e in one.get("like", ())]
        lines.append(f"  {100 * one['score']:3.0f} % {name} at {box}" + (f"; like {', '.join(like)}" if like else ""))
    return "\n".join(lines)
