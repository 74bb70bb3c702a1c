"""A repaired copy of a faulty data set, and what was done to it. The original is never touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.check import check, inspect
from handful.curate.differences import differences
from handful.curate.image_metadata import Cache
from handful.data import formats
from handful.data.finding import KEPT, Finding
from handful.data.formats import Source, located, sources
from handful.data.paths import relative
from handful.data.shapes import box_of
from handful.errors import DataError
from handful.files import replacing_folder, write_json
from handful.image import read_image
from handful.pick import need
from handful.types import Dataset, Image, Mask, Object, Sample

OUT_CODES = frozenset(("unreadable_image", "empty_file", "image_bomb", "size_mismatch"))
TURNED_CODES = frozenset(("exif_rotated", "exif_against_labels"))
TESTS = ("test", "testing", "val", "valid", "validation")


def repair(
    place: Path, out: Path, *, format: str | None = None, cache: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Write a copy with every repair that CODES names, check it again, and write what was done to OUT.repairs.json.

    A folder with several sets of labels becomes one folder a set in `out`. Returns the JSON object of `handful data
    check --fix --json`. Raises DataError when `out` exists, or lies inside the folder.
    """
    named, place, out = place, located(place), Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    if place.resolve() in out.resolve().parents:
        raise DataError(f"{out} lies inside {place}, which is never written to; choose another place")
    found = sources(place, format=format, **options)
    with Cache(cache) as kept:
        findings, _ = inspect(place, found, kept)
    repairs = [{**f.as_json(), "done": f.repair} for f in findings.found if f.repair != KEPT and "none" not in f.repair]
    rows: dict[str, list[dict[str, Any]]] = {}
    with replacing_folder(out) as part:
        for source in found:
            name = source.title.replace(" ", "-")
            to = part if len(found) == 1 else part / relative(source.place, place) / name
            to.mkdir(parents=True, exist_ok=True)
            repaired = _repaired(source, place, findings.found)
            written = formats.copied_as(repaired)
            formats.write(repaired, to, written)
            back = formats.module(written).read(to, on_finding=lambda finding: None)
            rows[name] = [row.as_json() for row in differences(_lenient(source), back)]
    after = check(out, cache=None, format=written if len(found) == 1 else None)
    result = {
        "schema_version": 1,
        "data": str(named),
        "out": str(out),
        "repairs": repairs,
        "differences": rows,
        "findings": after["findings"],
        "ok": after["ok"],
    }
    write_json(out.with_name(out.name + ".repairs.json"), result)
    return result


def _pass(finding: Finding) -> None:
    """What was told once is not told again."""


def _lenient(source: Source) -> Dataset:
    dataset = source.read(_pass)

    def samples() -> Iterator[Sample]:
        for sample in dataset:
            mask = sample.mask
            if mask is not None and not _usable(mask):
                mask = None
            if sample.path.is_file():
                yield replace(sample, mask=mask)

    return replace(dataset, samples=samples)


def _usable(mask: Callable[[], Mask]) -> bool:
    try:
        mask()
    except DataError:
        return False
    return True


def _repaired(source: Source, place: Path, found: list[Finding]) -> Dataset:
    """The set as its reader repairs it, without what cannot be repaired."""
    out = {f.file for f in found if f.code in OUT_CODES}
    turned = {f.file for f in found if f.code in TURNED_CODES}
    unmasked = {f.file for f in found if f.code == "mask_size_mismatch"}
    for finding in found:
        if finding.code == "same_image_twice":
            out.update(finding.value)
    across = {file for f in found if f.code == "same_image_across_splits" for file in (f.file, *f.value)}
    dataset = source.read(_pass)

    def samples() -> Iterator[Sample]:
        for sample in dataset:
            at = relative(sample.path, place)
            if at in out or (at in across and sample.split not in TESTS):
                continue
            mask = sample.mask
            if mask is not None and sample.mask_path is not None:
                bad = relative(sample.mask_path, source.place) in unmasked or at in unmasked
                mask = mask if not bad and _usable(mask) else None
            objects = None if sample.objects is None else tuple(_once(sample.objects))
            pixels = _as_labeled(sample) if at in turned else sample.pixels
            yield replace(sample, mask=mask, objects=objects, pixels=pixels)

    return replace(dataset, samples=samples)


def _once(objects: tuple[Object, ...]) -> Iterator[Object]:
    seen = set()
    for thing in objects:
        key = (thing.label, box_of(thing))
        if key[1] is None or key not in seen:
            yield thing
        seen.add(key)


def _as_labeled(sample: Sample) -> Callable[[], Image]:
    """The image's pixels as its labels see them: turned by EXIF if their size says so, else as they lie in the file."""

    def read() -> Image:
        upright = read_image(sample.path)
        wanted = sample.size_wh or (sample.mask().ids.shape[::-1] if sample.mask is not None else None)
        if wanted is None or tuple(wanted) == upright.size_wh:
            return upright
        with need("PIL.Image", "data").open(sample.path) as opened:
            return Image(np.asarray(opened.convert("RGB")), sample.path)

    return read
