"""data: check, convert, balance, split, stats, samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from handful.cli.findings import checked, mended
from handful.cli.options import common, option, options
from handful.cli.places import Data, Output
from handful.cli.shared import Verbs, decorated, leave, say
from handful.words import counted, shell

UNREAD = ("other_task", "missing_split", "no_label_map", "moved_name", "not_an_image")  # of these a copy is told
MASKS = {"--masks": "--masks-in"}


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """--format, --masks-in, --images and others: which of the labels in a folder, the same on every data verb."""
    return decorated(command, (
        option("--format", told="found out"), option("--masks-in", told="the only one"),
        option("--images", told="found by their names"), option("--mask-threshold", told="soft masks are an error"),
        option("--flat"),
    ))  # fmt: skip


def options_of(
    masks_in: str | None, images: Path | None, flat: bool, mask_threshold: int | None = None
) -> dict[str, Any]:
    """What the readers must be told, only where it was said."""
    said = {"masks": masks_in, "images": images, "threshold": mask_threshold, "flat": flat}
    return {name: value for name, value in said.items() if value}


@click.group(cls=Verbs)
def data() -> None:
    """Read, check, repair, convert, balance, split and look at images and their labels."""


@data.command(
    "check",
    examples=("handful data check photos", "handful data check labelled --fix labelled-repaired"),
    renamed=MASKS,
)
@click.argument("folder", type=Data())
@option("--fix", told="nothing is written")
@options("--no-near")
@reading
@options("--no-cache")
@common
def check_(
    folder: Path, fix: Path | None, no_near: bool, format: str | None, masks_in: str | None, images: Path | None,
    mask_threshold: int | None,
    flat: bool, no_cache: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find what would break or falsify training, before training: which file, which value, how to repair it.

    Exit code 0: nothing that breaks; 1: errors, with the table, or no image is labeled.
    """
    from handful.curate.check import check as run
    from handful.curate.repair import repair
    from handful.files import cache_home

    cache = None if no_cache else cache_home()
    options = options_of(masks_in, images, flat, mask_threshold)
    if fix is not None:
        result = repair(folder, fix, format=format, cache=cache, **options)
        say(result, as_json, mended)
    else:
        result = run(folder, format=format, cache=cache, near=not no_near, **options)
        say(result, as_json, checked)
    if not result["ok"]:
        leave()


@data.command(
    "convert",
    examples=(
        "handful data convert labelled as-voc --to voc",
        "handful data convert labelled as-yolo --to yolo --allow-loss --link",
    ),
    renamed=MASKS,
)
@click.argument("source", type=Data())
@click.argument("out", type=Output("data"))
@option("--to", required=True)
@option("--labels", told="the classes stay as they are")
@option("--labels-from", told="found out")
@options("--allow-loss", "--link")
@reading
@common
def convert_(
    source: Path, out: Path, to: str, labels: str | None, labels_from: str | None, allow_loss: bool, link: bool,
    format: str | None, masks_in: str | None, images: Path | None,
    mask_threshold: int | None, flat: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write SOURCE in another format to OUT, read the copy back, and list what it lost.

    Exit code 1: something would be lost and --allow-loss was not given; nothing is written then.
    """
    from handful.curate.convert import convert as run

    result = run(
        source,
        out,
        to=to,
        format=format,
        labels=labels,
        labels_from=labels_from,
        allow_loss=allow_loss,
        link=link,
        **options_of(masks_in, images, flat, mask_threshold),
    )
    say(result, as_json, _converted)
    if not result["written"]:
        leave()


def _converted(r: dict[str, Any]) -> str:
    lines = [
        f"{counted(r['images'], 'image')}, {r['from']} to {r['to']}: "
        + ("nothing lost" if r["lossless"] else "with losses")
    ]
    lines += [f"  {f['severity']}: {f['file']}: {f['text']}" for f in r["findings"] if f["code"] in UNREAD]
    for d in r["differences"]:
        largest = f", at most {d['largest']:g}" if "largest" in d else ""
        lines.append(f"  {d['how']:<8} {d['count']:>7} × {d['what']}{largest}   (first: {d['example']})")
    lines.append(
        f"written to {r['out']}" if r["written"] else "not written; to keep the copy all the same: --allow-loss"
    )
    return "\n".join(lines)


def _kept(r: dict[str, Any]) -> list[str]:
    """What became of the copy, for verbs that write one."""
    if "written" not in r:
        return []
    if r["written"]:
        return [f"written to {r['out']}"]
    losses = [f"  {d['how']} {d['count']} × {d['what']} (first: {d['example']})" for d in r["differences"]]
    return ["not written, since the format would lose something; --allow-loss keeps the copy:", *losses]


@data.command(
    "balance",
    examples=(
        "handful data balance labelled --per objects",
        "handful data balance labelled --out balanced --count 200",
    ),
    renamed={**MASKS, "--size": "--count", "--weights": "--balance"},
)
@click.argument("source", type=Data())
@option(
    "--out", "The chosen images and their labels, in the same format.", writes=Output("data"), told="nothing is written"
)
@option("--per", default="images")
@option("--count", told="as many as leave the classes least uneven")
@option("--class", told="all")
@option("--balance", default="enet")
@option("--seed", default=0)
@options("--allow-loss")
@reading
@common
def balance_(
    source: Path, out: Path | None, per: str, count: int | None, classes: Sequence[str], balance: str, seed: int,
    allow_loss: bool, format: str | None, masks_in: str | None, images: Path | None,
    mask_threshold: int | None, flat: bool, as_json: bool,
) -> None:  # fmt: skip
    """Choose images so that each class has as nearly as many images, objects or pixels; weights for the loss, too."""
    from handful.curate import balance as balancing
    from handful.curate.convert import put
    from handful.data import formats

    found = formats.one(source, format=format, **options_of(masks_in, images, flat, mask_threshold))
    dataset = found.read()
    chosen = balancing.balance(dataset, per=per, size=count, seed=seed, classes=list(classes) or None)  # type: ignore[arg-type]
    picked = balancing.select(dataset, chosen.names)
    result = {**chosen.as_json(), "data": str(source), "images": len(chosen.names), "balance": balance}
    result |= {"class_weights": balancing.weights(balancing.counts(dataset), rule=balance)}
    if out is not None:
        result |= put(picked, out, formats.copied_as(dataset), allow_loss=allow_loss)
    say(result, as_json, _balanced)
    if not result.get("written", True):
        leave()


def _balanced(r: dict[str, Any]) -> str:
    width = max(map(len, r["before"]), default=5)
    lines = [f"{counted(r['images'], 'image')} chosen; {r['per']} per class, before and after, and the weight by the "
             f"rule {r['balance']}"]  # fmt: skip
    lines += [
        f"  {name:<{width}} {before:>10} {r['after'].get(name, 0):>10}   {r['class_weights'].get(name, 0):8.3f}"
        for name, before in sorted(r["before"].items(), key=lambda item: -item[1])
    ]
    lines.append(f"uneven (deviation over mean): {r['uneven_before']:.2f} before, {r['uneven_after']:.2f} after")
    return "\n".join(lines + _kept(r))


def _part(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> dict[str, float]:
    parts = {}
    for text in value:
        name, _, share = text.partition("=")
        try:
            parts[name] = float(share)
        except ValueError:
            raise click.BadParameter(f"got {text!r}; wanted NAME=SHARE, such as train=0.8") from None
    return parts


@data.command(
    "split",
    examples=(
        "handful data split labelled --out parts --part train=0.8 --part val=0.2",
        "handful data split labelled --test-per-class 20 --by clip",
    ),
    renamed=MASKS,
)
@click.argument("source", type=Data())
@option(
    "--out",
    "The images and labels by their new splits, in the same format.",
    writes=Output("data"),
    told="nothing is written",
)
@option("--part", told="train=0.8 val=0.2", callback=_part)
@option("--test-per-class", told="none")
@option("--by", told="near-duplicates alone")
@options("--no-near")
@option("--seed", default=0)
@options("--allow-loss")
@reading
@options("--no-cache")
@common
def split_(
    source: Path, out: Path | None, parts: dict[str, float], test_per_class: int | None, by: str | None, no_near: bool,
    seed: int, allow_loss: bool, format: str | None, masks_in: str | None, images: Path | None,
    mask_threshold: int | None, flat: bool,
    no_cache: bool, as_json: bool,
) -> None:  # fmt: skip
    """Divide images into train, val and test: each class by its share, what belongs together kept together."""
    from handful.curate import split as splits
    from handful.curate.convert import put
    from handful.data import formats
    from handful.files import cache_home

    if parts and test_per_class is not None:
        raise click.UsageError("--part and --test-per-class exclude each other")
    found = formats.one(source, format=format, **options_of(masks_in, images, flat, mask_threshold))
    dataset = found.read()
    more: dict[str, Any] = {"by": by, "seed": seed, "near": not no_near, "cache": None if no_cache else cache_home()}
    if test_per_class is not None:
        made = splits.curated_test(dataset, test_per_class, **more)
    else:
        made = splits.split(dataset, parts=parts or splits.SHARES, **more)
    result = {**made.as_json(), "data": str(source)}
    if out is not None:
        result |= put(splits.apply(dataset, made), out, formats.copied_as(dataset), allow_loss=allow_loss)
    say(result, as_json, _divided)
    if not result.get("written", True):
        leave()


def _divided(r: dict[str, Any]) -> str:
    whole = sum(r["images"].values())
    lines = [", ".join(f"{part} {n} ({100 * n / whole:.1f} %)" for part, n in r["images"].items())]
    lines.append(f"kept together: {counted(len(r['groups']), 'group')} of images that belong together")
    off = r["deviation"]
    lines.append(
        f"share of a class off by {100 * off['mean']:.1f} points on average, at most {100 * off['largest']:.1f}"
    )
    return "\n".join(lines + _kept(r))


@data.command(
    "stats", examples=("handful data stats labelled", "handful data stats labelled --out pages --json"), renamed=MASKS
)
@click.argument("source", type=Data())
@option(
    "--out",
    "A folder for stats.html and stats.json.",
    writes=Output("files", "stats.html", "stats.json"),
    default=Path("stats"),
)
@reading
@common
def stats_(
    source: Path, out: Path, format: str | None, masks_in: str | None, images: Path | None,
    mask_threshold: int | None, flat: bool, as_json: bool
) -> None:  # fmt: skip
    """Write a page of pictures about SOURCE: class counts, object sizes, what comes together, samples."""
    from handful.cli.findings import account, table
    from handful.curate.survey import survey

    found = survey(source, out, format=format, **options_of(masks_in, images, flat, mask_threshold))

    def told(r: dict[str, Any]) -> str:
        lines = [f"{counted(r['images'], 'image')}, {counted(len(r['classes']), 'class')}: {out / 'stats.html'}"]
        lines += [*account(r["account"]), *table(r["findings"])]
        return "\n".join([*lines, f"all findings: handful data check {shell(source)}"] if r["findings"] else lines)

    say({**found, "data": str(source), "out": str(out)}, as_json, told)


@data.command(
    "chips",
    examples=(
        "handful data chips shop --out shop-chips",
        "handful data chips shop --out shop-chips --one thing --side 416",
    ),
    renamed={"--scales": "--max-scales"},
)
@click.argument("source", type=Data())
@option("--out", "The COCO data set to make.", writes=Output("data"), required=True)
@option("--side", default=320)
@option("--max-scales", default=3)
@option("--proposer", "It says where negative chips are worth it; none: no such chips.", default="objectness")
@option("--draws", default=1)
@option("--one", told="classes stay as they are")
@option("--split", "Others are copied.", default="train")
@option("--seed", default=0)
@option("--format", told="found out")
@option("--images", told="beside the JSON")
@option("--allow", told="none")
@common
def chips_(
    source: Path, out: Path, side: int, max_scales: int, format: str | None, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Cut SOURCE's images into chips that show each thing at a fitting size, to train a detector on (SNIPER)."""
    from handful.detection.chip_set import chip_set

    if given["images"] is None:
        del given["images"]
    result = chip_set(source, out, side_px=side, max_scales=max_scales, format=format, **given)
    say(result, as_json, lambda r: f"{counted(r['chips'], 'chip')} of {counted(r['images'], 'image')} at "
        f"{counted(len(r['by_scale']), 'scale')} ({', '.join(map(str, r['by_scale']))}), {r['negative']} of them "
        f"negative; {counted(r['objects'], 'object')} to learn from {r['objects_in_images']}: {r['out']}")  # fmt: skip


@data.command(
    "samples", examples=("handful data samples classes --out photos", "handful data samples boxes --out shop --seed 1")
)
@click.argument("kind")
@option("--out", "A new folder.", writes=Output("data"), required=True)
@option("--seed", default=0)
@common
def samples_(kind: str, out: Path, seed: int, as_json: bool) -> None:
    """Write a small data set made of photographs inside other packages, to try every verb on.

    KIND is classes (a folder of images for each class), new (other views of them, and other things), boxes (COCO, with
    outlines), pixels (images and masks) or seeds (images with masks to dream from). They show how things work, not how
    good they are.
    """
    from handful import sample_data

    result = {"schema_version": 1} | sample_data.write(kind, out, seed=seed)
    say(result, as_json, lambda r: f"{counted(r['images'], 'image')} written to {r['out']}")
