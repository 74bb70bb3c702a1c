"""demo, teach, recognise, evaluate."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.shared import FOLDER, RUNTIMES, common, flat_option, frame_option, no_cache, readable, say


@click.command()
@click.option("--photos", type=FOLDER, help="Your own photos, a folder a class; without it, photos that come along.")
@click.option("--out", type=FOLDER, default=Path("demo-report"), show_default=True, help="Where the report goes.")
@click.option("--backbone", default="lite2", show_default=True, help="lite0, lite1, lite2 or timm:NAME.")
@click.option("--vigilance", type=float, default=None, help="How careful; 1.2 to 4.1, higher says none more often.")
@click.option("--runtime", "runtimes", multiple=True, help=f"Only this runtime (may be repeated): {RUNTIMES}.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which photos are taught and which are asked.")
@click.option("--open", "open_it", is_flag=True, help="Open the report when done.")
@common
def demo(
    photos: Path | None,
    out: Path,
    backbone: str,
    vigilance: float | None,
    runtimes: Sequence[str],
    seed: int,
    open_it: bool,
    as_json: bool,
) -> None:
    """Teach from a few photos, compile for four phone runtimes, compare, time, and write a report."""
    from handful.demo import run

    result = run(
        photos=photos, out=out, backbone=backbone, vigilance=vigilance, runtimes=list(runtimes) or None, seed=seed
    )
    say(result, as_json, lambda r: r["summary"])
    if open_it and sys.stdout.isatty():
        click.launch(str(Path(result["report"]).resolve()))
    if not result["passed"]:
        sys.exit(1)


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The model folder to make.")
@click.option("--backbone", help="lite0, lite1, lite2 or timm:NAME.  [default: lite2; for boxes lite0]")
@click.option("--weights", type=FOLDER, help="For timm:NAME: a safetensors file with timm's key names.")
@click.option("--vigilance", type=float, default=None, help="How careful; 1.2 to 4.1, higher says none more often.")
@click.option("--frame", callback=frame_option, help="The frame the phone will give, HEIGHTxWIDTH.  [default: 448x448]")
@click.option("--class", "classes", multiple=True, help="Teach only this class (may be repeated).")
@flat_option
@click.option("--max-samples", type=click.IntRange(1), help="Boxes: at most so many of a class.  [default: 20]")
@click.option("--proposer", help="Boxes: what finds things of any kind.  [default: the best that is here]")
@click.option(
    "--scales",
    type=click.Choice(["auto", "1", "2", "3"]),
    help="Boxes: how many scales a photo is looked at.  [default: auto]",
)
@click.option("--seed", type=int, help="Boxes: which of them are learned.  [default: 0]")
@click.option("--split", help="Boxes: which split.  [default: train, or all photos]")
@click.option(
    "--images", type=FOLDER, help="Boxes: the folder of COCO's photos, where they do not lie beside the JSON."
)
@click.option("--format", "format_", help="Boxes: read as this instead of finding out.")
@click.option("--partial", is_flag=True, default=None, help="Boxes: not every thing of these classes is marked.")
@click.option("--add", is_flag=True, help="Teach the model in --out more.")
@click.option("--overwrite", is_flag=True, help="Replace the model in --out.")
@click.option("--allow", multiple=True, help="Go on although `handful data check` finds errors of this code.")
@no_cache
@common
def teach(
    data: Path,
    out: Path,
    backbone: str | None,
    weights: Path | None,
    vigilance: float | None,
    frame: tuple[int, int] | None,
    classes: Sequence[str],
    flat: bool,
    add: bool,
    overwrite: bool,
    allow: Sequence[str],
    no_cache: bool,
    as_json: bool,
    **boxes: Any,
) -> None:
    """Teach a model from DATA: a folder with a folder of photos for each class, or photos with boxes.

    Photos with boxes (COCO, VOC, YOLO) make a detector, see `handful detect`.
    """
    from handful.data import formats

    given = {name.rstrip("_"): value for name, value in boxes.items() if value is not None}
    found = None if flat else formats.with_boxes(data, given.get("format"))
    if found or (given and not flat):
        from handful.cli.verbs_detect import teach_boxes

        wrong = {"--weights": weights, "--frame": frame, "--add": add, "--no-cache": no_cache}
        for name in (name for name, value in wrong.items() if value):
            raise click.UsageError(
                f"{data} has boxes, so a detector is taught; {name} is for photos with one class each"
            )
        given = {**given, "format": given.get("format", found)}  # found out once
        say(*teach_boxes(data, out, backbone, vigilance, classes, overwrite, allow, given, as_json))
        return
    if given:
        raise click.UsageError(f"--{min(given).replace('_', '-')} is for photos with boxes; --flat is not")
    from handful.fewshot import classifier

    result = classifier.teach(
        data,
        out,
        backbone=backbone or classifier.BACKBONE,
        weights=weights,
        vigilance=vigilance,
        frame_hw=frame or classifier.FRAME_HW,
        classes=list(classes) or None,
        flat=flat,
        add=add,
        overwrite=overwrite,
        allow=allow,
        cache=classifier.cache_folder(not no_cache),
    )
    say(
        result,
        as_json,
        lambda r: (
            f"learned {r['learned']} photos; {r['model']} knows {len(r['classes'])} classes from "
            f"{sum(r['samples'].values())} photos, {r['bytes'] / 1e6:.1f} MB, {r['seconds']:.1f} s"
        ),
    )


@click.command("recognise")
@click.argument("model", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1, required=True)
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the model's own.")
@common
def recognize(model: Path, images: Sequence[Path], vigilance: float | None, as_json: bool) -> None:
    """Say what MODEL sees in each of IMAGES: one of its classes, or none of these.

    An image that cannot be read is told on stderr; the others are answered all the same, and the exit code is 2.
    """
    from handful.fewshot.classifier import FewShotClassifier

    classifier = FewShotClassifier.load(model)
    if vigilance is not None:
        classifier.nemo.vigilance = vigilance
        classifier.refresh()
    answers: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, image in readable(images, failed):
        said = classifier.recognize(image)
        answers.append(
            {
                "image": str(path),
                "label": said.label,
                "nearest": said.nearest,
                "probability": round(said.probability, 4),
                "margin": round(said.margin, 3),
                "notes": list(image.notes),
            }
        )
    result = {
        "schema_version": 1,
        "model": str(model),
        "vigilance": classifier.nemo.vigilance,
        "answers": answers,
        "failed": failed,
    }

    def text(r: dict[str, Any]) -> str:
        lines = []
        for a in r["answers"]:
            said = a["label"] or f"none of these (nearest: {a['nearest']})"
            note = f"  [{'; '.join(a['notes'])}]" if a["notes"] else ""
            lines.append(f"{a['image']}: {said}, {100 * a['probability']:.0f} %{note}")
        return "\n".join(lines)

    say(result, as_json, text)
    if failed:
        sys.exit(2)


# task of a trained model -> the module that measures it, and how verbs_train puts that
MEASURED = {
    "segment": ("handful.training.evaluate_segment", "segmented"),
    "classify": ("handful.training.evaluate_classify", "classified"),
    "detect": ("handful.training.evaluate_detect", "detected"),
    "instance": ("handful.training.evaluate_detect", "detected"),
}


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--vigilance", type=float, default=None, help="Taught: ask with this vigilance, not the model's own.")
@flat_option
@click.option("--split", help="Trained: which split.  [default: test, or val]")
@click.option("--rule", help="Segmentation: what absent classes count for: mmseg, detectron2, ...  [default: mmseg]")
@click.option("--background", help="Segmentation: which class is everything else.  [default: found by its name]")
@click.option("--masks", help="Segmentation: which folder of masks, where several lie side by side.")
@click.option("--format", "format_", help="Trained: read as this instead of finding out.")
@click.option("--report", type=FOLDER, help="Trained: also write a page: classes, confusions, the worst photos.")
@click.option("--device", help="Trained: cpu, cuda, cuda:1 or mps.  [default: cpu]")
@common
def evaluate(model: Path, data: Path, vigilance: float | None, flat: bool, as_json: bool, **segment: Any) -> None:
    """Measure MODEL on photos it has not seen.

    A taught model is asked about a folder of photos a class; classes it was not taught count as unknown. A trained
    one is held against the labels of any data set of its task.
    """
    from handful.models.folder import read_meta

    given = {name.rstrip("_"): value for name, value in segment.items() if value is not None}
    task = read_meta(model).get("task")
    if task in MEASURED:
        from handful.cli import verbs_train

        if flat or vigilance is not None:
            raise click.UsageError(f"{model} is a model to {task}; --flat and --vigilance are for taught ones")
        module, words = MEASURED[task]
        measure = importlib.import_module(module).evaluate
        for name in given:
            if name not in inspect.signature(measure).parameters and (name, task) != ("masks", "segment"):
                raise click.UsageError(f"{model} is a model to {task}; --{name} is for segmentation")
        say(measure(model, data, **given), as_json, getattr(verbs_train, words))
        return
    if given:
        raise click.UsageError(f"{model} is a taught model; --{min(given)} is for trained models")
    from handful.fewshot.evaluate import evaluate as run

    def text(r: dict[str, Any]) -> str:
        lines = [
            f"accuracy      {r['accuracy']:.3f}   ({r['n']} photos of taught classes)",
            f"open-set F1   {r['open_f1']:.3f}   (at vigilance {r['vigilance']:g}; {r['n_unknown']} photos of others)",
        ]
        if r["unknown_auroc"] is not None:
            lines.append(f"unknown AUROC {r['unknown_auroc']:.3f}")
        worst = sorted(r["per_class"].items(), key=lambda item: (item[1]["accuracy"], item[0]))[:5]
        lines.append("worst classes " + ", ".join(f"{name} {v['accuracy']:.2f}" for name, v in worst))
        return "\n".join(lines)

    say(run(model, data, vigilance=vigilance, flat=flat), as_json, text)
