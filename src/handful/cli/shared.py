"""What every verb shares: --json, --quiet, names that are nearly right, one way to print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

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


def say(result: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """Print a result: as JSON, or as `text` puts it."""
    from handful.files import to_json

    click.echo(to_json(result) if as_json else text(result))


def readable(images: Sequence[Path], failed: list[dict[str, str]]) -> Iterator[tuple[Path, Any]]:
    """(path, Image) of each image that can be read; the others are told on stderr and put into `failed`."""
    from handful.errors import DataError
    from handful.image import read_image

    for path in images:
        try:
            image = read_image(path)
        except DataError as error:
            failed.append({"image": str(path), "error": str(error)})
            click.echo(f"handful: {error}", err=True)
            continue
        yield path, image


def frame_option(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """HEIGHTxWIDTH as numbers."""
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


no_cache = click.option("--no-cache", is_flag=True, help="Do not read or keep anything in the cache folder.")
flat_option = click.option(
    "--flat", is_flag=True, help="Photos lie directly in the folder; a file's name is its class."
)
