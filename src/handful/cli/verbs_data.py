"""data: check, convert, balance, split, stats."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.shared import FOLDER, Verbs, common, no_cache, say

FORMATS = "coco, voc, yolo, ade20k, cityscapes, camvid, davis, cifar, folder or masks"


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """--format, --masks and --flat: which of the labels in a folder, the same on every data verb."""
    command = click.option("--flat", is_flag=True, help="Photos lie in the folder itself; a file's name is its class.")(
        command
    )
    command = click.option("--masks", help="Which folder of masks, where several lie side by side.")(command)
    return click.option("--format", "format_", help=f"Read as this instead of finding out: {FORMATS}.")(command)


def options_of(masks: str | None, flat: bool) -> dict[str, Any]:
    """What the readers must be told, only where it was said."""
    return {**({"masks": masks} if masks else {}), **({"flat": True} if flat else {})}


@click.group(cls=Verbs)
def data() -> None:
    """Read, check, repair, convert, balance, split and look at photos and their labels."""


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--fix", type=FOLDER, help="Write a repaired copy here, and what was done to COPY.repairs.json.")
@click.option("--no-near", is_flag=True, help="Do not look for photos that look alike.")
@reading
@no_cache
@common
def check(
    folder: Path, fix: Path | None, no_near: bool, format_: str | None, masks: str | None, flat: bool, no_cache: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Find what would break or falsify training, before training: which file, which value, how to mend it.

    Exit code 0: nothing that breaks; 1: errors, with the table.
    """
    from handful.data.check import check as run
    from handful.data.mend import mend
    from handful.files import cache_home

    cache = None if no_cache else cache_home()
    options = options_of(masks, flat)
    if fix is not None:
        result = mend(folder, fix, format=format_, cache=cache, **options)
        say(result, as_json, _mended)
    else:
        result = run(folder, format=format_, cache=cache, near=not no_near, **options)
        say(result, as_json, _checked)
    if not result["ok"]:
        sys.exit(1)


def _checked(r: dict[str, Any]) -> str:
    lines = []
    for part in r["sets"]:
        splits = ", ".join(f"{name or 'no split'} {n}" for name, n in part["splits"].items())
        objects = sum(c["objects"] for c in part["classes"].values())
        lines.append(
            f"{part['format']:<16} {part['folder']}: {part['photos']} photos ({splits}), {part['labelled']} labelled, "
            f"{part['empty']} empty, {part['unlabelled']} unlabelled; {len(part['classes'])} classes"
            + (f", {objects} objects" if objects else "")
        )
    lines += ["", *_table(r["findings"])]
    errors, warnings = (sum(f["grave"] == grave for f in r["findings"]) for grave in ("error", "warning"))
    if errors:
        lines.append(f"not fit to train on: {errors} errors, {warnings} warnings; "
                     f"mend a copy: handful data check {r['folder']} --fix COPY")  # fmt: skip
    else:
        lines.append(f"fit to train on: no errors, {warnings} warnings")
    return "\n".join(lines)


def _table(findings: Sequence[dict[str, Any]]) -> list[str]:
    """Findings by kind, the first three of each with their files."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in findings:
        kinds[row["grave"], row["code"]].append(row)
    lines = []
    for (grave, code), rows in kinds.items():
        style = {"error": "red", "warning": "yellow"}.get(grave)
        total = "" if len(rows) == 1 else f" ({len(rows)})"
        lines.append(click.style(f"{grave:<8}{code}{total}", fg=style, bold=grave == "error"))
        lines += [f"        {'' if row['file'] == '.' else row['file'] + ': '}{row['text']}" for row in rows[:3]]
        if len(rows) > 3:
            lines.append(f"        and {len(rows) - 3} more; all with --json")
        if grave == "error":
            lines.append(f"        --fix: {rows[0]['repair']}")
    return lines


def _mended(r: dict[str, Any]) -> str:
    lines = [f"{r['copy']} written from {r['folder']}; {len(r['repairs'])} repairs, listed in {r['copy']}.repairs.json"]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in r["repairs"]:
        kinds[row["code"]].append(row)
    lines += [f"  {len(rows):>5} {code}: {rows[0]['done']}" for code, rows in kinds.items()]
    for name, rows in r["differences"].items():
        lines += [f"  {name}: {d['how']} {d['count']} {d['what']} (first: {d['example']})" for d in rows]
    if not r["ok"]:
        lines += ["the copy still has errors that only a person can mend:", *_table(r["findings"])]
    return "\n".join(lines)


@data.command()
@click.argument("source", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--to", required=True, help=f"The format to write: {FORMATS}.")
@click.option("--labels", help="Translate classes first: ten, person, or a CSV file with the columns name,target.")
@click.option("--allow-loss", is_flag=True, help="Keep the copy although it lost something; what is listed.")
@click.option("--link", is_flag=True, help="Hard links to the photos instead of copies.")
@reading
@common
def convert(
    source: Path, out: Path, to: str, labels: str | None, allow_loss: bool, link: bool, format_: str | None,
    masks: str | None, flat: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write SOURCE in another format to OUT, read the copy back, and list what it lost.

    Exit code 1: something would be lost and --allow-loss was not given; nothing is written then.
    """
    from handful.data.convert import convert as run

    result = run(
        source, out, to=to, format=format_, labels=labels, allow_loss=allow_loss, link=link, **options_of(masks, flat)
    )
    say(result, as_json, _converted)
    if not result["written"]:
        sys.exit(1)


def _converted(r: dict[str, Any]) -> str:
    lines = [f"{r['photos']} photos, {r['from']} to {r['to']}: " + ("nothing lost" if r["lossless"] else "with losses")]
    for d in r["differences"]:
        largest = f", at most {d['largest']:g}" if "largest" in d else ""
        lines.append(f"  {d['how']:<8} {d['count']:>7} {d['what']}{largest}   (first: {d['example']})")
    lines.append(
        f"written to {r['folder']}" if r["written"] else "not written; to keep the copy all the same: --allow-loss"
    )
    return "\n".join(lines)
