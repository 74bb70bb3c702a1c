"""device: compile, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, option, options
from handful.cli.places import ModelFolder, Output
from handful.cli.shared import Verbs, leave, say
from handful.words import counted


@click.group(cls=Verbs)
def device() -> None:
    """Compile a model for phone runtimes, and prove that what runs there is what was taught."""


@device.command(
    "compile",
    examples=(
        "handful device compile model --runtime onnxruntime",
        "handful device compile model --runtime litert --precision fp16 --out app",
    ),
)
@click.argument("model", type=ModelFolder())
@option("--runtime", required=True)
@option("--precision", "fp32 or fp16.", default="fp32")
@option(
    "--out",
    "What an app needs, as RUNTIME-PRECISION in this folder.",
    writes=Output("bundles"),
    told="only beside the model",
)
@options("--force")
@common
def compile_(model: Path, runtime: str, precision: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Compile MODEL for one runtime, into MODEL/compiled/RUNTIME-PRECISION.

    What it writes is a bundle: all that an app needs, with a README.md that says how to use it.
    """
    from handful import places
    from handful.device.compile import shipped
    from handful.kinds.compiling import compile_model

    # a model on a volume that cannot be written is compiled elsewhere all the same
    into = out if out is not None and not places.writable(model) else None
    made = compile_model(model, runtime, precision, force=force, into=into)
    if out is not None and into is None:
        made = shipped(made, out)
    say(
        {**made.meta, "model": str(model), "bundle": str(made.folder), "bytes": made.bytes},
        as_json,
        lambda r: f"{r['bundle']}: {r['bytes'] / 1e6:.2f} MB, {r['compile_seconds']:.1f} s; how to use it: README.md",
    )


@device.command(
    "compare",
    examples=(
        "handful device compare model --runtime onnxruntime",
        "handful device compare model --runtime litert --precision fp16 --photos photos",
    ),
    renamed={"--images": "--photos"},
)
@click.argument("model", type=ModelFolder())
@option("--runtime", required=True)
@option("--precision", "fp32 or fp16.", default="fp32")
@option("--photos", told="photographs inside other packages")
@option("--threads", "Of the runtime.", default=1)
@options("--no-layers")
@common
def compare(
    model: Path, runtime: str, precision: str, photos: Path | None, threads: int, no_layers: bool, as_json: bool
) -> None:
    """Compare MODEL on a phone runtime with the network that was taught: outputs, and layer by layer.

    For a detector: what it finds in photos, and graph by graph.
    """
    from handful.image import images_below, read_image
    from handful.kinds.compiling import compare_model

    chosen = None if photos is None else [read_image(path) for path in images_below(photos)]
    result = compare_model(model, runtime, precision, chosen, layers=not no_layers, threads=threads)

    def text(r: dict[str, Any]) -> str:
        if "matched_of_want" in r:
            return _detector_text(r)
        lines = [
            f"{r['runtime']} {r['precision']}: {r['verdict']}, on {counted(r['images'], 'photo')}",
            f"  PSNR {r['psnr_db']:.1f} dB, relative RMSE {r['rel_rmse']:.2g}, largest difference {r['max_abs']:.2g}, "
            f"same answer {100 * r['top1_agreement']:.1f} %",
        ]
        if r["layers"]:
            worst = min(r["layers"], key=lambda layer: layer["psnr_db"])
            lines.append(f"  {counted(len(r['layers']), 'layer')}; worst {worst['name']} at {worst['psnr_db']:.1f} dB")
        if r["first_bad_layer"]:
            lines.append(f"  first bad layer: {r['first_bad_layer']}")
        return "\n".join([*lines, *(f"  {reason}" for reason in r["reasons"])])

    say(result, as_json, text)
    if result["verdict"] != "pass":
        leave()


def _detector_text(r: dict[str, Any]) -> str:
    lines = [
        f"{r['runtime']} {r['precision']}: {r['verdict']}, on {counted(r['images'], 'photo')}",
        f"  of {counted(r['boxes_want'], 'box')} {r['matched_of_want']:.2%} are found again, of the runtime's "
        f"{r['boxes_got']} {r['matched_of_got']:.2%} are the detector's; scores differ by "
        f"{r['largest_score_difference']:.2g} at most",
        *(f"  {row['name']}: {row['psnr_db']:.1f} dB" for row in r["graphs"]),
    ]
    return "\n".join([*lines, *(f"  {reason}" for reason in r["reasons"])])
