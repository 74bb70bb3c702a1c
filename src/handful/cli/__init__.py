"""Every verb. Nothing is imported before the verb that needs it, so `handful --help` is instant."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import click

from handful import __version__, running
from handful.cli.last_resort import settle_terminal
from handful.cli.shared import SETTINGS, Alias, Verbs, say
from handful.errors import HandfulError
from handful.threads import settle_process

__all__ = ["cli", "main"]

STOPPED = "stopped; no partial files are left"

# verb -> the file that holds it, its name there, and its first line of help; tests hold these to the verbs themselves
HOME = {
    "demo": ("teach", "demo",
             "Teach from a few photos, compile for four phone runtimes, compare, time, and write a report."),
    "data": ("data", "data", "Read, check, repair, convert, balance, split and look at images and their labels."),
    "dream": ("dream", "dream", "Dream clips with exact masks from images that have masks: handful dream SEEDS --out "
                                "DIR."),
    "models": ("models", "models", "See which networks there are and what one costs, before training it."),
    "weights": ("models", "weights", "Fetch weights that do not come with handful."),
    "teach": ("teach", "teach", "Teach a model from DATA, in seconds: a folder of images for each class, or images "
                                "with boxes."),
    "train": ("train", "train", "Train a compact network: stopped and resumed to the bit, measured by rules that are "
                                "said."),
    "predict": ("predict", "predict", "Say what MODEL sees in each of IMAGES: files, folders or videos."),
    "evaluate": ("evaluate", "evaluate", "Measure MODEL on DATA, labelled images that it has not seen."),
    "set": ("change", "set_", "Set how careful a taught MODEL is from now on, in its folder."),
    "unlearn": ("change", "unlearn", "Take back what a taught MODEL learned from DATA, as if it had never been "
                                     "learned."),
    "heatmap": ("select", "heatmap", "F1 of a detector over vigilance and samples a class, taught from POOL, a data "
                                      "set with boxes."),
    "select": ("select", "select", "Which boxes of POOL to teach next, by three rules held against each other: ours, "
                                    "the 2018 report's, and chance."),
    "device": ("device", "device", "Compile a model for phone runtimes, and prove that what runs there is what was "
                                   "taught."),
}  # fmt: skip


class Root(Verbs):
    """The whole command; a verb's file is imported when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their use; old names last."""
        return [*HOME, *(name for name in self.commands if name not in HOME)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or a usage error that names the nearest."""
        if cmd_name in HOME and cmd_name not in self.commands:
            self.add_command(loaded(cmd_name), cmd_name)
        if cmd_name not in self.commands:
            from handful.pick import unknown

            raise click.UsageError(str(unknown("command", cmd_name, HOME)))
        return self.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the verbs do, from HOME, so that none of them is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in HOME.items()])


def loaded(verb: str) -> click.Command:
    """A verb, its file imported."""
    file, name, _ = HOME[verb]
    command: click.Command = getattr(importlib.import_module(f"handful.cli.verbs_{file}"), name)
    return command


@click.group(cls=Root, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="handful")
def cli() -> None:
    """Teach a camera something new from a handful of images, and prove it on the phone.

    Start with `handful demo`. Results go to stdout, everything else to stderr. Exit code 0: done; 1: a check said no;
    2: bad input or usage; 70: a fault of handful itself; 130: stopped by Ctrl-C.
    """


for old, new, options in (
    ("recognise", "predict", {}), ("recognize", "predict", {}), ("detect", "predict", {"--video": ""}),
    ("evaluate-detect", "evaluate", {"--proposer": "!--true-boxes"}), ("regimen", "select", {}),
):  # fmt: skip
    cli.add_command(Alias(old, partial(loaded, new), new, options))


def main(args: Sequence[str] | None = None) -> None:
    """The `handful` command: every handful error is one line on stderr and exit code 2; with --json also an object on
    stdout, so that a program reads what went wrong where it reads everything else."""
    settle_process()
    settle_terminal()
    typed = list(sys.argv[1:] if args is None else args)
    try:
        cli.main(args=typed, prog_name="handful", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        _end(typed, error.format_message(), 2)
    except HandfulError as error:
        click.echo(f"handful: {error}", err=True)
        _end(typed, str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        kept = running.written()
        text = f"{STOPPED}; whole, and kept: {kept}" if kept else STOPPED
        click.echo(f"handful: {text}", err=True)
        _end(typed, text, 130)
    except Exception as error:
        from handful.cli import last_resort

        text, code = last_resort.told(error, typed)
        click.echo(f"handful: {text}", err=True)
        _end(typed, text, code)


def _end(typed: Sequence[str], text: str, code: int) -> NoReturn:
    """Leave with an exit code; where --json was typed, as an object on stdout, whether or not the verb took it."""
    options = typed[: typed.index("--")] if "--" in typed else typed
    if "--json" in options:
        with contextlib.suppress(OSError):  # nothing takes what is printed
            say({"schema_version": 1, "error": text, "exit_code": code}, True, str)
    sys.exit(code)
