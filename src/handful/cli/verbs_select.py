"""heatmap, select: how carefully to ask, and what to teach next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, option, options
from handful.cli.places import Data, Output
from handful.cli.shared import decorated, say, verb
from handful.words import counted


def _pool(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both ask of a pool."""
    return decorated(command, (
        click.argument("pool", type=Data()),
        option("--images", told="beside the JSON"),
        option("--proposer", told="the best that is here"),
        option("--backbone", "Of the crops.", told="lite0"),
        option("--seeds", default=10),
        option("--split-seed", default=0),
        option("--workers", "Processes on this machine.", default=1),
        option("--ray", told="none"),
        option("--format", told="found out"),
        option("--allow", told="none"),
        options("--no-cache"),
        common,
    ))  # fmt: skip


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Options as the functions want them."""
    from handful.detection.embedder import CropSettings
    from handful.select.feature_cache import default_cache

    options: dict[str, Any] = {"images": str(given["images"])} if given["images"] is not None else {}
    return {
        "proposer": given["proposer"], "crop": CropSettings(backbone=given["backbone"]) if given["backbone"] else None,
        "seeds": range(given["seeds"]), "split_seed": given["split_seed"], "workers": given["workers"],
        "ray": "local" if given["ray"] == "ray" else given["ray"],  # as --on took it before 0.4
        "format": given["format"], "allow": given["allow"],
        "cache": None if given["no_cache"] else default_cache(), **options,
    }  # fmt: skip


@verb(
    examples=("handful heatmap shop --out map", "handful heatmap shop --seeds 3 --workers 2 --no-classes"),
    renamed={"--on": "--ray"},
)
@option(
    "--out",
    "A folder for the picture and the JSON.",
    writes=Output("files", "heatmap.png", "heatmap.json"),
    default=Path("heatmap"),
)
@options("--no-classes")
@_pool
def heatmap(out: Path, no_classes: bool, as_json: bool, **given: Any) -> None:
    """F1 of a detector over vigilance and samples a class, taught from POOL, a data set with boxes.

    Three sets of photos: to teach from, to draw the map and choose by, to report on. Needs `handful[detect]`.
    """
    from handful.select import heatmap as maps

    options = {**_asked(given), **({"classes": ()} if no_classes else {})}
    result = maps.run(given.pop("pool"), out, **options)
    say({**result, "out": str(out)}, as_json, lambda r: _map_text(r, out))


def _map_text(r: dict[str, Any], out: Path) -> str:
    best, images = r["tune"]["best"], r["images"]
    level = sum(map(sum, r["tune"]["plateau"]))
    cells = len(r["vigilances"]) * len(r["samples"])
    low, high = (100 * v for v in best["interval"])
    lines = [f"{counted(images['teach'], 'image')} to teach from, {images['tune']} to tune by, {images['report']} to "
             f"report on; {counted(len(r['seeds']), 'seed')}",
             f"best on tune: F1 {100 * best['f1']:.1f} % ({low:.1f} to {high:.1f}) at vigilance {best['vigilance']:g}, "
             f"{best['samples']} a class; {level} of {cells} cells are as good"]  # fmt: skip
    for row in r["report"]:
        name, told = next((n, row["by_samples"][n]) for n in reversed(row["by_samples"]))
        low, high = (100 * v for v in told["interval"])
        lines.append(f"reported: F1 {100 * told['f1']:.1f} % ({low:.1f} to {high:.1f}) at vigilance "
                     f"{row['vigilance']:g}, {name} a class")  # fmt: skip
    for k, told in r.get("study", {}).get("by_classes", {}).items():
        low, high = (100 * v for v in told["interval"])
        lines.append(f"{counted(k, 'class')} at a time: F1 {100 * told['f1']:.1f} % ({low:.1f} to {high:.1f})")
    return "\n".join([*lines, f"written to {out}"])


@verb(
    "select",
    examples=("handful select shop --out next", "handful select shop --out next --seeds 3 --workers 2"),
    renamed={"--on": "--ray"},
)
@option(
    "--out",
    "A folder for the page and regimen.json.",
    writes=Output("files", "regimen.json", "regimen.html"),
    required=True,
)
@option("--vigilance", told="3")
@_pool
def select(out: Path, vigilance: float | None, as_json: bool, **given: Any) -> None:
    """Which boxes of POOL to teach next, by three rules held against each other: ours, the 2018 report's, and chance.

    Each starts with 5 a class and grows to 20. The page shows F1 at each size and the photos that are answered worst.
    """
    from handful.select import regimen as rules

    result = rules.run(given.pop("pool"), out, vigilance=vigilance, **_asked(given))
    say({**result, "out": str(out)}, as_json, lambda r: _regimen_text(r, out))


def _regimen_text(r: dict[str, Any], out: Path) -> str:
    lines = ["boxes a class   " + "  ".join(f"{name:>16}" for name in r["strategies"])]
    for n in r["samples"]:
        told = [r["strategies"][name]["by_samples"][str(n)] for name in r["strategies"]]
        lines.append(f"{n:>13}   " + "  ".join(f"{100 * t['f1']:5.1f} ({t['boxes']:6.0f})".rjust(16) for t in told))
    return "\n".join(
        [*lines, "F1 in % on the images to report on, mean of the seeds (boxes taught)", f"written to {out}"]
    )
