"""demo, teach: a model from a handful of images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, on_engine, option, options
from handful.cli.places import Data, Output
from handful.cli.shared import leave, say, typed, verb
from handful.words import counted, shell

OF_BOXES = ("max_samples", "proposer", "scales", "mode", "seed", "images", "partial")
FEW = 8  # classes that are named
OF_CLASSES = ("backbone_weights", "frame_hw", "no_cache", "again")


@verb(examples=("handful demo", "handful demo --photos photos --runtime onnxruntime --out report"))
@option("--photos", "A folder for each class.", told="photographs inside other packages")
@option("--out", "The report.", writes=Output("files", "report.html", "report.json"), default=Path("demo-report"))
@option("--backbone", default="lite2")
@option("--vigilance", told="3")
@option("--runtime", "Only this one (may be repeated).", param="runtimes", many=True, told="all four")
@option("--seed", "Which photos are taught and which are asked.", default=0)
@option("--allow", told="none")
@options("--open")
@common
def demo(
    photos: Path | None, out: Path, backbone: str, vigilance: float | None, runtimes: Sequence[str], seed: int,
    allow: Sequence[str], open_it: bool, as_json: bool,
) -> None:  # fmt: skip
    """Teach from a few photos, compile for four phone runtimes, compare, time, and write a report."""
    from handful.demo import run

    result = run(
        photos=photos,
        out=out,
        backbone=backbone,
        vigilance=vigilance,
        runtimes=list(runtimes) or None,
        seed=seed,
        allow=allow,
    )
    say(result, as_json, lambda r: r["summary"])
    if open_it and sys.stdout.isatty():
        click.launch(str(Path(result["report"]).resolve()))
    if not result["passed"]:
        leave()


@verb(
    examples=("handful teach photos --out model", "handful teach shop --out detector --max-samples 20 --class mug"),
    renamed={"--weights": "--backbone-weights"},
)
@click.argument("data", type=Data())
@option("--out", "The model folder to make.", writes=Output("model"), required=True)
@options("--add", "--overwrite", "--again")
@option("--class", told="all")
@option("--backbone", told="lite2; for boxes lite0")
@option("--vigilance", told="3")
@option("--split", told="train where things have boxes; else all images, which must not be split")
@option("--format", told="found out")
@option("--allow", told="none")
@option("--frame", "Of images with one class each.", told="448x448")
@options("--flat")
@option("--backbone-weights", told="what timm fetches")
@option("--max-samples", told="20")
@option("--proposer", "For boxes.", told="the best that is here")
@option("--scales", "For boxes.", told="auto, by the sizes of the things")
@option("--mode", "For boxes.", told="accurate")
@option("--seed", "Which boxes are learned.", told="0")
@option("--images", told="beside the JSON")
@option("--partial", "Then the rest of an image teaches nothing.")
@options("--no-cache")
@on_engine
@common
def teach(data: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Teach a model from DATA, in seconds: a folder of images for each class, or images with boxes.

    Images with one class each make a classifier, images with boxes (COCO, VOC, YOLO) a detector.
    """
    from handful.data import formats
    from handful.kinds import registry

    asked = typed(given)
    found = None if asked.get("flat") else formats.with_boxes(data, asked.get("format"))
    wrong = OF_CLASSES if found else OF_BOXES
    for name in (name for name in wrong if name in asked):
        flag = {"frame_hw": "frame"}.get(name, name).replace("_", "-")
        raise click.UsageError(
            f"{data} has boxes, so a detector is taught; --{flag} is for images with one class each" if found else
            f"--{flag} is for images with boxes; {data} has none"
        )  # fmt: skip
    classes = list(asked.pop("classes", ())) or None
    registry.can_be_taught(out, boxes=bool(found), add=bool(asked.get("add")))
    if found:
        _boxes(data, out, classes, as_json, {**asked, "format": found})  # found out once
    else:
        _classes(data, out, classes, as_json, asked)


def _classes(data: Path, out: Path, classes: list[str] | None, as_json: bool, asked: dict[str, Any]) -> None:
    from handful.data import formats
    from handful.fewshot import teaching

    other = None if "format" in asked or asked.get("flat") else formats.with_labels(data)
    if other is not None:
        raise click.UsageError(
            f"{data} says the class of each image as {other}, and folders of images teach a classifier; make them: "
            f"handful data convert {shell(data)} COPY --to folder --allow-loss"
        )
    if asked.pop("format", "folder") != "folder":
        raise click.UsageError(f"{data}: only folders of images teach a classifier; --format is for images with boxes")
    cache = teaching.cache_folder(not asked.pop("no_cache", False))
    asked = {"weights" if name == "backbone_weights" else name: value for name, value in asked.items()}
    say(
        teaching.teach(data, out, classes=classes, cache=cache, **asked), as_json,
        lambda r: f"learned {counted(r['learned'], 'image')}; {r['model']} knows "
        f"{_named(r['classes'])} from {counted(sum(r['samples'].values()), 'image')}, "
        f"{r['bytes'] / 1e6:.1f} MB, {r['seconds']:.1f} s",
    )  # fmt: skip


def _named(classes: Sequence[str]) -> str:
    """How many classes, and the names of the first: a wrong reading of the folders is seen in them."""
    more = f" and {len(classes) - FEW} more" if len(classes) > FEW else ""
    return f"{counted(len(classes), 'class')} ({', '.join(classes[:FEW])}{more})"


def _boxes(data: Path, out: Path, classes: list[str] | None, as_json: bool, asked: dict[str, Any]) -> None:
    from handful.detection import teaching
    from handful.detection.embedder import crop_settings

    crop, scales = crop_settings(asked.pop("backbone", None), asked.pop("mode", None)), asked.pop("scales", "auto")
    asked |= {} if crop is None else {"crop": crop}
    asked |= {"scales": int(scales)} if scales != "auto" else {}
    asked |= {"images": str(asked["images"])} if "images" in asked else {}
    say(
        teaching.teach(data, out, classes=classes, exhaustive=not asked.pop("partial", False), **asked), as_json,
        lambda r: f"learned {counted(sum(r['samples'].values()), 'box')} in {counted(r['images'], 'image')}; "
        f"{r['model']} knows {_named(r['classes'])}, finds things with {r['proposer']} and "
        f"keeps those with a score of {r['score_threshold']:.2f} or more; {r['seconds']:.1f} s",
    )  # fmt: skip
