"""device: compile, compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from handful.cli.shared import FOLDER, RUNTIMES, Verbs, common, say


@click.group(cls=Verbs)
def device() -> None:
    """Compile a model for phone runtimes, and prove that what runs there is what was taught."""


@device.command("compile")
@click.argument("model", type=FOLDER)
@click.option("--runtime", required=True, help=RUNTIMES)
@click.option("--precision", default="fp32", show_default=True, help="fp32 or fp16.")
@click.option("--force", is_flag=True, help="Compile again even if nothing has changed.")
@common
def compile_(model: Path, runtime: str, precision: str, force: bool, as_json: bool) -> None:
    """Compile MODEL for one runtime, into MODEL/compiled/RUNTIME-PRECISION."""
    from handful.device.compile import compile_model

    made = compile_model(model, runtime, precision, force=force)
    say(
        {"schema_version": 1, "folder": str(made.folder), **made.meta},
        as_json,
        lambda r: f"{r['folder']}: {r['bytes'] / 1e6:.2f} MB, {r['compile_seconds']:.1f} s",
    )


@device.command()
@click.argument("model", type=FOLDER)
@click.option("--runtime", required=True, help=RUNTIMES)
@click.option("--precision", default="fp32", show_default=True, help="fp32 or fp16.")
@click.option("--images", type=FOLDER, help="Photos to compare on; without it, photos that come along.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--no-layers", is_flag=True, help="Compare the outputs only.")
@common
def compare(
    model: Path, runtime: str, precision: str, images: Path | None, threads: int, no_layers: bool, as_json: bool
) -> None:
    """Compare MODEL on a phone runtime with the network that was taught: outputs, and layer by layer."""
    from handful.data.photos import photos_below, read_photo
    from handful.device.compare import compare_model

    chosen = None if images is None else [read_photo(path) for path in photos_below(images)]
    result = compare_model(model, runtime, precision, chosen, layers=not no_layers, threads=threads)

    def text(r: dict[str, Any]) -> str:
        lines = [
            f"{r['runtime']} {r['precision']}: {r['verdict']}, on {r['images']} photos",
            f"  PSNR {r['psnr_db']:.1f} dB, relative RMSE {r['rel_rmse']:.2g}, largest difference {r['max_abs']:.2g}, "
            f"same answer {100 * r['top1_agreement']:.1f} %",
        ]
        if r["layers"]:
            worst = min(r["layers"], key=lambda layer: layer["psnr_db"])
            lines.append(f"  {len(r['layers'])} layers; worst {worst['name']} at {worst['psnr_db']:.1f} dB")
        if r["first_bad_layer"]:
            lines.append(f"  first bad layer: {r['first_bad_layer']}")
        return "\n".join([*lines, *(f"  {reason}" for reason in r["reasons"])])

    say(result, as_json, text)
    if result["verdict"] != "pass":
        sys.exit(1)
