"""detect, evaluate-detect, and what `teach` does with photos that have boxes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.shared import FOLDER, common, readable, say


def teach_boxes(
    data: Path, out: Path, backbone: str | None, vigilance: float | None, classes: Sequence[str], overwrite: bool,
    allow: Sequence[str], given: dict[str, Any], as_json: bool,
) -> tuple[dict[str, Any], bool, Callable[[dict[str, Any]], str]]:  # fmt: skip
    """What `handful teach` says of a detector: for shared.say."""
    from handful.detection import teaching
    from handful.detection.embedder import CropSettings
    from handful.detection.scoring import VIGILANCE

    options: dict[str, Any] = {"images": str(given["images"])} if "images" in given else {}
    result = teaching.teach(
        data, out, max_samples=given.get("max_samples", teaching.MAX_SAMPLES), classes=list(classes) or None,
        proposer=given.get("proposer"), crop=CropSettings(backbone=backbone) if backbone else None,
        vigilance=VIGILANCE if vigilance is None else vigilance, seed=given.get("seed", 0), split=given.get("split"),
        exhaustive=not given.get("partial", False),
        scales=None if given.get("scales", "auto") == "auto" else int(given["scales"]), format=given.get("format"),
        allow=allow, overwrite=overwrite, **options,
    )  # fmt: skip
    return (
        result,
        as_json,
        lambda r: (
            f"learned {sum(r['samples'].values())} boxes in {r['images']} images; {r['model']} knows "
            f"{len(r['classes'])} classes, finds things with {r['proposer']}, tells of them from a score of "
            f"{r['score_threshold']:.2f} on; {r['seconds']:.1f} s"
        ),
    )


look_option = click.option(
    "--look",
    type=click.Choice(["whole", "pyramid", "focus"]),
    help="One scale; all of every scale; finer ones where something is small.  [default: as it was taught]",
)


@click.command()
@click.argument("detector", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1)
@click.option("--video", type=FOLDER, help="Instead of images: a film, frame by frame.")
@click.option(
    "--out", type=FOLDER, help="A folder for what was found, drawn into the photos or the film, and detections.json."
)
@look_option
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the detector's own.")
@click.option(
    "--score-threshold", type=click.FloatRange(0, 1), help="Leave out lower scores.  [default: the detector's own]"
)
@click.option("--unknown", is_flag=True, help="Also tell of things that are none of the taught classes.")
@click.option("--explain", is_flag=True, help="With each, the taught boxes it is most like.")
@click.option("--masks", is_flag=True, help="Also the pixels of each, as COCO's run lengths, and drawn.")
@click.option("--masks-by", help="head, grabcut or none, instead of the detector's own way to masks.")
@click.option("--runtime", help="Ask the detector as compiled for this runtime; compiled first when it was not.")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or fp16, with --runtime.")
@common
def detect(
    detector: Path, images: Sequence[Path], video: Path | None, out: Path | None, look: str | None,
    vigilance: float | None, score_threshold: float | None, unknown: bool, explain: bool, masks: bool, masks_by: str |
    None,
    runtime: str | None, precision: str, as_json: bool,
) -> None:  # fmt: skip
    """Find in each of IMAGES the things DETECTOR was taught.

    An image that cannot be read is told on stderr; the others are answered all the same, and the exit code is 2. So it
    is with a film that breaks off: all frames before are answered. Ctrl-C ends a film early and keeps what was done.
    """
    if (video is None) == (not images):
        raise click.UsageError("wanted either images or --video FILE")
    if video is not None and (runtime or masks or masks_by):
        raise click.UsageError("--video goes without --runtime and --masks")
    if runtime is not None and look not in (None, "whole"):
        raise click.UsageError("a compiled detector looks as it was taught to: --runtime goes without --look")
    from handful.detection.draw import write_drawn
    from handful.detection.irene import Irene
    from handful.files import write_json

    irene = Irene.load(detector, look)
    asked: Any = irene
    if runtime is not None:
        from handful.kinds import bundled
        from handful.kinds.compiling import compile_model

        compiled: Any = bundled.load(compile_model(detector, runtime, precision).folder)
        asked = compiled.inner
    if video is not None:
        _film(
            irene,
            detector,
            video,
            out,
            explain,
            as_json,
            vigilance=vigilance,
            score_threshold=score_threshold,
            unknown=unknown,
        )
        return
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, image in readable(images, failed):
        found = asked.detect(image.rgb_u8, vigilance=vigilance, unknown=unknown, score_threshold=score_threshold)
        if masks_by or masks:
            found = irene.add_masks(image.rgb_u8, found, masks_by or True)
        told = found.rows()
        for i, row in enumerate(told if explain else []):
            row["like"] = irene.explain(found, i, 3)
        rows.append({"image": str(path), "found": told, "notes": list(image.notes)})
        if out is not None:
            write_drawn(image.rgb_u8, found, out / f"{path.stem}.jpg")
    result = {"schema_version": 1, "model": str(detector), "vigilance": irene.nemo.vigilance if vigilance is None else
              vigilance, "score_threshold": irene.score_threshold if score_threshold is None else score_threshold,
              "images": rows,
              "failed": failed}  # fmt: skip
    if out is not None:
        write_json(out / "detections.json", result)
    say(result, as_json, _found_text)
    if failed:
        sys.exit(2)


def _film(
    irene: Any, detector: Path, video: Path, out: Path | None, explain: bool, as_json: bool, **how: Any
) -> None:  # fmt: skip
    from handful.detection.video_file import watched

    vigilance = irene.nemo.vigilance if how["vigilance"] is None else how["vigilance"]
    score_threshold = irene.score_threshold if how["score_threshold"] is None else how["score_threshold"]
    result = {"schema_version": 1, "model": str(detector), "vigilance": vigilance, "score_threshold": score_threshold,
              **watched(irene, video, out, explain=explain, **how)}  # fmt: skip
    say(result, as_json, _film_text)
    if result["ended"] == "stopped":
        sys.exit(130)
    if result["ended"] == "broken":
        click.echo(f"handful: {result['why']}", err=True)
        sys.exit(2)


def _film_text(result: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for row in result["frames"]:
        for name in {one["class"] for one in row["found"] if not one["unknown"]}:
            counts[name] = counts.get(name, 0) + 1
    told = [f"{result['video']}: {len(result['frames'])} frames"]
    told += [f"  {name} in {n}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return "\n".join(told)


def _found_text(result: dict[str, Any]) -> str:
    lines = []
    for row in result["images"]:
        lines.append(f"{row['image']}: {len(row['found'])} found")
        for one in row["found"]:
            name = f"unknown (nearest: {one['class']})" if one["unknown"] else one["class"]
            box = ", ".join(f"{v:.0f}" for v in one["box_px"])
            like = "; like " + ", ".join(f"{e['class']} in {e['image']}" for e in one["like"]) if "like" in one else ""
            lines.append(f"  {100 * one['score']:3.0f} % {name} at {box}{like}")
    return "\n".join(lines)


@click.command("evaluate-detect")
@click.argument("detector", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--images", type=FOLDER, help="The folder of COCO's photos, where they do not lie beside the JSON.")
@click.option("--proposer", help="boxes: ask about the true boxes, to see NEMO apart.  [default: the detector's own]")
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the detector's own.")
@look_option
@click.option("--split", help="Which split.  [default: all photos]")
@click.option("--format", "format_", help="Read as this instead of finding out.")
@click.option("--masks", is_flag=True, help="Also COCO's table of masks, on the photos whose things have them.")
@click.option("--masks-by", help="head, grabcut or none, instead of the detector's own way to masks.")
@common
def evaluate_detect(
    detector: Path, data: Path, images: Path | None, proposer: str | None, vigilance: float | None, split: str | None,
    format_: str | None, masks: bool, masks_by: str | None, look: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure DETECTOR on DATA, photos with boxes it has not seen: COCO's table, recall, F1, unknown classes."""
    from handful.detection.evaluate import evaluate

    options: dict[str, Any] = {"images": str(images)} if images is not None else {}
    result = evaluate(detector, data, split=split, format=format_, proposer=proposer, vigilance=vigilance,
                      masks=masks_by or masks, scale_mode=look, **options)  # fmt: skip
    say(result, as_json, _measured_text)


def _measured_text(r: dict[str, Any]) -> str:
    def told(value: float | None) -> str:
        return "  -  " if value is None else f"{100 * value:5.1f}"

    subset = ", a small set: not to be held against figures on COCO's 5,000" if r["subset"] else ""
    lines = [f"{r['images']} images, {r['objects']} objects of {len(r['per_class'])} taught classes{subset}"]
    lines.append("AP    AP50  AP75  small medium large | AR1   AR10  AR100 small medium large")
    lines.append(" ".join(told(r[k]) for k in ("AP", "AP50", "AP75", "APs", "APm", "APl")) + " | "
                 + " ".join(told(r[k]) for k in ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")))  # fmt: skip
    lines.append("recall without classes: "
                 + ", ".join(f"{told(v).strip()} at {n}" for n, v in r["ar_agnostic"].items()))  # fmt: skip
    lines.append(f"F1 {told(r['f1']).strip()} at vigilance {r['vigilance']:g}, told from {r['score_threshold']:.2f}; "
                 f"class "
                 f"of true boxes right {told(r['accuracy']).strip()} %; "
                 f"{r['seconds_per_image']:.2f} s a photo")  # fmt: skip
    if "masks" in r:
        from handful.detection.evaluate_masks import text_of

        lines.append(text_of(r))
    if r["unknown"]["auroc"] is not None:
        lines.append(f"{r['unknown']['unknown']} things of untaught classes: AUROC {r['unknown']['auroc']:.3f}, "
                     f"FPR95 {r['unknown']['fpr95']:.3f}")  # fmt: skip
    return "\n".join(lines)
