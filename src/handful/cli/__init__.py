"""Every verb. Nothing heavy is imported before the verb that needs it, so `handful --help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from handful import __version__
from handful.cli import (
    verbs_data,
    verbs_detect,
    verbs_device,
    verbs_dream,
    verbs_models,
    verbs_regimen,
    verbs_teach,
    verbs_train,
)
from handful.cli.shared import Verbs
from handful.errors import HandfulError

__all__ = ["cli", "main"]


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="handful")
def cli() -> None:
    """Teach a camera something new from a handful of images, and prove it on the phone.

    Start with `handful demo`. Results go to stdout, everything else to stderr. Exit code 0: done; 1: a check
    said no; 2: bad input or usage.
    """


for command in (verbs_teach.demo, verbs_data.data, verbs_dream.dream, verbs_teach.teach, verbs_teach.recognize,
                verbs_train.train, verbs_teach.evaluate, verbs_models.models, verbs_models.weights,
                verbs_detect.detect, verbs_detect.evaluate_detect, verbs_regimen.heatmap, verbs_regimen.regimen,
                verbs_device.device):  # fmt: skip
    cli.add_command(command)


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
