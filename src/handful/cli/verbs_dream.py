"""dream: films with exact masks from photos with masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from handful.cli.options import common, option, options
from handful.cli.places import ImageFile, Output, PathOrAddress
from handful.cli.shared import Verbs, decorated, leave, say
from handful.cli.verbs_data import MASKS, options_of, reading
from handful.words import counted

RUN = "run"


class Dreams(Verbs):
    """A group whose `run` need not be said: what is no command is the folder of seeds."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names and not self._typo(args[0]):
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def _typo(self, word: str) -> bool:
        """Whether a word is rather a mistyped command than a folder."""
        import difflib

        near = difflib.get_close_matches(word, self.commands, 1, cutoff=0.7)
        return bool(near) and not Path(word).exists()


def making(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides the pixels, the same for a whole run and for a look at one image."""
    return decorated(command, (
        option("--frames", default=20), option("--ranges", default="paper"), option("--fill", default="auto"),
        option("--blend", default="feather"), option("--seed", default=0), option("--max-side", told="as they are"),
    ))  # fmt: skip


def _settings(**values: Any) -> Any:
    from handful.lucid.settings import Settings

    return Settings(max_side_px=values.pop("max_side"), **values)


@click.group(cls=Dreams)
def dream() -> None:
    """Dream clips with exact masks from images that have masks: handful dream SEEDS --out DIR.

    Lucid Data Dreaming (Khoreva et al. 2017): what is marked in a photo is cut out, the hole is filled, and object
    and camera move. See `handful dream run --help`.
    """


@dream.command(
    RUN,
    examples=(
        "handful dream labelled --out dreams",
        "handful dream labelled --out dreams --frames 30 --workers 2 --resume",
    ),
    renamed={**MASKS, "--jobs": "--workers"},
)
@click.argument("seeds", type=PathOrAddress())
@option("--out", "A folder for the shards (.tar), new or with --resume.", writes=Output("files"), required=True)
@making
@options("--previous")
@option("--limit", told="all")
@options("--all-frames")
@option("--workers", "Processes on this machine.", told="one a processor")
@option("--ray", told="none")
@options("--resume")
@reading
@common
def run(
    seeds: str, out: Path, limit: int | None, all_frames: bool, workers: int | None, ray: str | None, resume: bool,
    format: str | None, masks_in: str | None, images: Path | None, mask_threshold: int | None, flat: bool,
    as_json: bool, **settings: Any,
) -> None:  # fmt: skip
    """Dream a film of every photo in SEEDS that has a mask or outlines, into OUT, which every data verb reads.

    SEEDS: a folder in any format, or a labeling store: its folder, .sqlite file or address.

    A photo that cannot be used is listed and stops nothing. Exit code 1: not one could be used.
    """
    from handful.lucid.farm import dream_folder
    from handful.lucid.preview import preview_run

    if workers is not None and ray is not None:
        raise click.UsageError("--workers and --ray exclude each other")
    if Path(seeds).exists():
        from handful.kinds import registry

        registry.no_model(Path(seeds))
    result = {"schema_version": 1, "data": seeds} | dream_folder(
        seeds, out, _settings(**settings), workers=workers, ray=ray, resume=resume, limit=limit, all_frames=all_frames,
        format=format, **options_of(masks_in, images, flat, mask_threshold),
    )  # fmt: skip
    result |= preview_run(out)
    say(result, as_json, _dreamed)
    if not result["images"]:
        leave()


def _dreamed(r: dict[str, Any]) -> str:
    lines = [
        f"{r['out']}: {counted(r['frames'], 'frame')} of {counted(r['images'], 'seed')} in "
        f"{counted(r['shards'], 'shard')}"
    ]
    if r["frames_per_second"]:
        lines[0] += f", {r['seconds']:.0f} s, {r['frames_per_second']:.1f} frames a second"
    if "sheet" in r:
        lines.append("look at " + " and ".join(filter(None, (r["sheet"], r["video"]))))
    for gate in r["gates"].get("gates", ()):
        if not gate["ok"]:
            lines.append(f"  {gate['gate']}: {gate['value']:.3g}, {gate['rule']} ({gate['limit']})")
    if r["failed"]:
        lines.append(f"{counted(len(r['failed']), 'seed')} could not be used:")
        lines += [f"  {row['source']}: {row['error'].removeprefix(row['source'] + ': ')}" for row in r["failed"][:20]]
        if len(r["failed"]) > 20:
            lines.append(f"  and {len(r['failed']) - 20} more, all in {r['out']}/manifest.json")
    return "\n".join(lines)


@dream.command(
    "preview",
    examples=(
        "handful dream preview photo.jpg --box 120,20,560,420 --out look",
        "handful dream preview photo.jpg --mask mask.png --out look --frames 30",
    ),
)
@click.argument("photo", type=ImageFile())
@option("--mask", told="guessed from --box")
@option("--box", told="none")
@option(
    "--out",
    "A folder for sheet.jpg, preview.mp4, gates.json.",
    required=True,
    writes=Output("files", "sheet.jpg", "preview.mp4", "gates.json"),
)
@making
@common
def preview(
    photo: Path, mask: Path | None, box: str | None, out: Path, as_json: bool, **settings: Any
) -> None:  # fmt: skip
    """Look at what would be dreamed from one PHOTO: a sheet of frames, a short film, the quality gates.

    Exit code 1: a gate is closed.
    """
    from handful.lucid.clip import Dream
    from handful.lucid.preview import preview as run
    from handful.lucid.preview import seed_of

    if (mask is None) == (box is None):
        raise click.UsageError("say what moves: either --mask PNG or --box LEFT,TOP,RIGHT,BOTTOM")
    numbers = None if box is None else _numbers(box)
    result = {"schema_version": 1} | run(Dream(seed_of(photo, mask, numbers), _settings(**settings)), out)
    say(result, as_json, _previewed)
    if not result["gates"]["ok"]:
        leave()


def _numbers(box: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, box.split(","))
    except ValueError:
        raise click.BadParameter(
            f"got --box {box!r}; wanted LEFT,TOP,RIGHT,BOTTOM in px, such as 120,20,560,420"
        ) from None
    return left, top, right, bottom


def _previewed(r: dict[str, Any]) -> str:
    lines = [
        f"{counted(r['frames'], 'frame')} of {r['source']}: look at "
        + " and ".join(filter(None, (r["sheet"], r["video"])))
    ]
    for gate in r["gates"]["gates"]:
        value = "nothing to measure" if gate["value"] is None else f"{gate['value']:.3g} ({gate['limit']})"
        lines.append(f"  {'ok ' if gate['ok'] else 'BAD'} {gate['gate']:<16} {value}")
    return "\n".join(lines)
