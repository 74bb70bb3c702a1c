"""Every verb. Nothing heavy is imported before the verb that needs it, so `handful --help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from handful import __version__
from handful.errors import HandfulError

FOLDER = click.Path(path_type=Path)
RUNTIMES = "torch, onnxruntime, litert, executorch or ncnn"


class Verbs(click.Group):
    """A group that answers a mistyped verb with the nearest one, and every handful error with one line."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or a usage error that names the nearest."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            from handful.pick import unknown

            raise click.UsageError(str(unknown("command", cmd_name, self.list_commands(ctx))))
        return found


def _say(result: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    from handful.files import to_json

    click.echo(to_json(result) if as_json else text(result))


def _frame(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    height, _, width = value.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and 32 <= int(height) <= 4096 and 32 <= int(width) <= 4096):
        raise click.BadParameter(f"got {value!r}; wanted HEIGHTxWIDTH in pixels, 32 to 4096, such as 480x640")
    return int(height), int(width)


def _quiet(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    from handful.progress import set_quiet

    set_quiet(value)
    return value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json and --quiet, the same on every verb."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)
    return click.option(
        "--quiet", is_flag=True, callback=_quiet, expose_value=False, help="No progress, only warnings and errors."
    )(command)


no_cache = click.option("--no-cache", is_flag=True, help="Do not read or keep features in the cache folder.")
flat_option = click.option(
    "--flat", is_flag=True, help="Photos lie directly in the folder; a file's name is its class."
)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="handful")
def cli() -> None:
    """Teach a camera something new from a handful of images, and prove it on the phone.

    Start with `handful demo`. Results go to stdout, everything else to stderr. Exit code 0: done; 1: a check
    said no; 2: bad input or usage.
    """


@cli.command()
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
    _say(result, as_json, lambda r: r["summary"])
    if open_it and sys.stdout.isatty():
        click.launch(str(Path(result["report"]).resolve()))
    if not result["passed"]:
        sys.exit(1)


@cli.command()
@click.argument("photos_dir", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The model folder to make.")
@click.option("--backbone", default="lite2", show_default=True, help="lite0, lite1, lite2 or timm:NAME.")
@click.option("--weights", type=FOLDER, help="For timm:NAME: a safetensors file with timm's key names.")
@click.option("--vigilance", type=float, default=None, help="How careful; 1.2 to 4.1, higher says none more often.")
@click.option("--frame", callback=_frame, help="The frame the phone will give, HEIGHTxWIDTH.  [default: 448x448]")
@click.option("--class", "classes", multiple=True, help="Teach only this class (may be repeated).")
@flat_option
@click.option("--add", is_flag=True, help="Teach the model in --out more.")
@click.option("--overwrite", is_flag=True, help="Replace the model in --out.")
@no_cache
@common
def teach(
    photos_dir: Path,
    out: Path,
    backbone: str,
    weights: Path | None,
    vigilance: float | None,
    frame: tuple[int, int] | None,
    classes: Sequence[str],
    flat: bool,
    add: bool,
    overwrite: bool,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Teach a model from PHOTOS_DIR, a folder with a folder of photos for each class."""
    from handful.teach import taught

    result = taught.teach(
        photos_dir,
        out,
        backbone=backbone,
        weights=weights,
        vigilance=vigilance,
        frame_hw=frame or taught.FRAME_HW,
        classes=list(classes) or None,
        flat=flat,
        add=add,
        overwrite=overwrite,
        cache=taught.cache_folder(not no_cache),
    )
    _say(
        result,
        as_json,
        lambda r: (
            f"learned {r['learned']} photos; {r['model']} knows {len(r['classes'])} classes from "
            f"{sum(r['samples'].values())} photos, {r['bytes'] / 1e6:.1f} MB, {r['seconds']:.1f} s"
        ),
    )


@cli.command()
@click.argument("model", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1, required=True)
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the model's own.")
@common
def recognise(model: Path, images: Sequence[Path], vigilance: float | None, as_json: bool) -> None:
    """Say what MODEL sees in each of IMAGES: one of its classes, or none of these.

    An image that cannot be read is told on stderr; the others are answered all the same, and the exit code is 2.
    """
    from handful.data.photos import read_photo
    from handful.errors import DataError
    from handful.teach.taught import Taught

    taught = Taught.load(model)
    if vigilance is not None:
        taught.nemo.vigilance = vigilance
        taught.refresh()
    answers, failed = [], []
    for path in images:
        try:
            image = read_photo(path)
        except DataError as error:
            failed.append({"image": str(path), "error": str(error)})
            click.echo(f"handful: {error}", err=True)
            continue
        said = taught.recognise(image)
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
        "vigilance": taught.nemo.vigilance,
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

    _say(result, as_json, text)
    if failed:
        sys.exit(2)


@cli.command()
@click.argument("model", type=FOLDER)
@click.argument("folder_per_class", type=FOLDER)
@click.option("--vigilance", type=float, default=None, help="Ask with this vigilance instead of the model's own.")
@flat_option
@common
def evaluate(model: Path, folder_per_class: Path, vigilance: float | None, flat: bool, as_json: bool) -> None:
    """Measure MODEL on photos it has not seen. Classes it was not taught count as unknown."""
    from handful.teach.evaluate import evaluate as run

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

    _say(run(model, folder_per_class, vigilance=vigilance, flat=flat), as_json, text)


@cli.group(cls=Verbs)
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
    _say(
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

    _say(result, as_json, text)
    if result["verdict"] != "pass":
        sys.exit(1)


def main(args: Sequence[str] | None = None) -> None:
    """The `handful` command: every handful error is one line on stderr and exit code 2."""
    try:
        cli.main(args=list(args) if args is not None else None, prog_name="handful", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except HandfulError as error:
        click.echo(f"handful: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("handful: stopped; nothing half-written is left", err=True)
        sys.exit(130)
