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
    from handful.detect import teaching
    from handful.detect.describe import Look
    from handful.teach.nemo import VIGILANCE

    options: dict[str, Any] = {"images": str(given["images"])} if "images" in given else {}
    result = teaching.teach(
        data, out, most=given.get("max_samples", teaching.MOST), classes=list(classes) or None,
        proposals=given.get("proposals"), look=Look(backbone=backbone) if backbone else None,
        vigilance=VIGILANCE if vigilance is None else vigilance, seed=given.get("seed", 0), split=given.get("split"),
        format=given.get("format"), allow=allow, overwrite=overwrite, **options,
    )  # fmt: skip
    return (
        result,
        as_json,
        lambda r: (
            f"learned {sum(r['samples'].values())} boxes in {r['photos']} photos; {r['model']} knows "
            f"{len(r['classes'])} classes, finds things with {r['proposals']}, {r['seconds']:.1f} s"
        ),
    )


@click.command()
@click.argument("detector", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FOLDER, help="A folder for the photos with what was found drawn in, and detections.json.")
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the detector's own.")
@click.option("--least", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Leave out lower scores.")
@click.option("--unknown", is_flag=True, help="Also tell of things that are none of the taught classes.")
@click.option("--explain", is_flag=True, help="With each, the taught boxes it is most like.")
@click.option("--runtime", help="Ask the detector as compiled for this runtime; compiled first when it was not.")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or fp16, with --runtime.")
@common
def detect(
    detector: Path, images: Sequence[Path], out: Path | None, vigilance: float | None, least: float, unknown: bool,
    explain: bool, runtime: str | None, precision: str, as_json: bool,
) -> None:  # fmt: skip
    """Find in each of IMAGES the things DETECTOR was taught.

    An image that cannot be read is told on stderr; the others are answered all the same, and the exit code is 2.
    """
    from handful.detect.draw import drawn
    from handful.detect.irene import Irene
    from handful.files import write_json

    irene: Irene = Irene.load(detector)
    asked: Any = irene
    if runtime is not None:
        from handful.device.compile import compile_model
        from handful.device.detector import OnDevice

        asked = OnDevice.load(compile_model(detector, runtime, precision).folder)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, image in readable(images, failed):
        found = asked.detect(image.rgb_u8, vigilance=vigilance, unknown=unknown, least=least)
        told = found.rows()
        for i, row in enumerate(told if explain else []):
            row["like"] = irene.explain(found, i, 3)
        rows.append({"image": str(path), "found": told, "notes": list(image.notes)})
        if out is not None:
            drawn(image.rgb_u8, found, out / f"{path.stem}.jpg")
    result = {"schema_version": 1, "model": str(detector), "vigilance": irene.nemo.vigilance if vigilance is None else
              vigilance, "images": rows, "failed": failed}  # fmt: skip
    if out is not None:
        write_json(out / "detections.json", result)
    say(result, as_json, _found_text)
    if failed:
        sys.exit(2)


def _found_text(result: dict[str, Any]) -> str:
    lines = []
    for row in result["images"]:
        lines.append(f"{row['image']}: {len(row['found'])} found")
        for one in row["found"]:
            name = f"unknown (nearest: {one['class']})" if one["unknown"] else one["class"]
            box = ", ".join(f"{v:.0f}" for v in one["box_px"])
            like = "; like " + ", ".join(f"{e['class']} in {e['photo']}" for e in one["like"]) if "like" in one else ""
            lines.append(f"  {100 * one['score']:3.0f} % {name} at {box}{like}")
    return "\n".join(lines)


@click.command("evaluate-detect")
@click.argument("detector", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--images", type=FOLDER, help="The folder of COCO's photos, where they do not lie beside the JSON.")
@click.option("--proposals", help="boxes: ask about the true boxes, to see NEMO apart.  [default: the detector's own]")
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the detector's own.")
@click.option("--split", help="Which split.  [default: all photos]")
@click.option("--format", "format_", help="Read as this instead of finding out.")
@common
def evaluate_detect(
    detector: Path, data: Path, images: Path | None, proposals: str | None, vigilance: float | None, split: str | None,
    format_: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure DETECTOR on DATA, photos with boxes it has not seen: COCO's table, recall, F1, unknown classes."""
    from handful.detect.evaluate import evaluate

    options: dict[str, Any] = {"images": str(images)} if images is not None else {}
    result = evaluate(detector, data, split=split, format=format_, proposals=proposals, vigilance=vigilance, **options)
    say(result, as_json, _measured_text)


def _measured_text(r: dict[str, Any]) -> str:
    def told(value: float | None) -> str:
        return "  -  " if value is None else f"{100 * value:5.1f}"

    subset = ", a small set: not to be held against figures on COCO's 5,000" if r["subset"] else ""
    lines = [f"{r['photos']} photos, {r['things']} things of {len(r['per_class'])} taught classes{subset}"]
    lines.append("AP    AP50  AP75  small medium large | AR1   AR10  AR100 small medium large")
    lines.append(" ".join(told(r[k]) for k in ("AP", "AP50", "AP75", "APs", "APm", "APl")) + " | "
                 + " ".join(told(r[k]) for k in ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")))  # fmt: skip
    lines.append("recall without classes: "
                 + ", ".join(f"{told(v).strip()} at {n}" for n, v in r["ar_agnostic"].items()))  # fmt: skip
    lines.append(f"F1 {told(r['f1']).strip()} at vigilance {r['vigilance']:g}; class of true boxes right "
                 f"{told(r['accuracy']).strip()} %; {r['seconds_per_image']:.2f} s a photo")  # fmt: skip
    if r["unknown"]["auroc"] is not None:
        lines.append(f"{r['unknown']['unknown']} things of untaught classes: AUROC {r['unknown']['auroc']:.3f}, "
                     f"FPR95 {r['unknown']['fpr95']:.3f}")  # fmt: skip
    return "\n".join(lines)
