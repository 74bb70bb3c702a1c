"""A repaired copy of a faulty data set, and what was done to it. The original is never touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful import places
from handful.curate.account import left_aside
from handful.curate.check import check, chosen, inspect
from handful.curate.differences import differences
from handful.curate.image_metadata import Cache
from handful.data import formats
from handful.data.finding import KEPT, Finding
from handful.data.format_csv_boxes import is_answer
from handful.data.formats import Source, located, sources
from handful.data.ledger import UNREAD
from handful.data.paths import relative, split_kind
from handful.data.shapes import box_of
from handful.errors import DataError
from handful.files import replacing_folder, write_json
from handful.image import read_image
from handful.pick import need
from handful.types import Dataset, Image, Mask, Object, Sample
from handful.words import counted

OUT_CODES = frozenset(("unreadable_image", "empty_file", "image_bomb", "size_mismatch"))
TURNED_CODES = frozenset(("exif_rotated", "exif_against_labels"))
STAYS = ("test", "val")  # where an image stays that is in several splits
Key = tuple[str, str]  # (split, name without suffix): which image it is in the source and in the copy


@dataclass(frozen=True)
class State:
    """What is said of an image. labels: how many objects are listed for it, usable or not; None: nobody looked."""

    labels: int | None
    mask: bool = False
    label: str | None = None

    @property
    def text(self) -> str:
        """For people."""
        said = [] if self.label is None else [f"class {self.label}"]
        if self.labels:
            said.append(counted(self.labels, "label"))
        said += ["a mask"] if self.mask else []
        return " and ".join(said) or ("unlabeled" if self.labels is None else "empty")


def repair(
    place: Path, out: Path, *, format: str | None = None, cache: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Write a copy with every repair that CODES names, check it again, and write what was done to OUT.repairs.json.

    Files that look like labels and were not read come along: they stay an error.

    The copy is read back and held against the source, image by image; what changed is listed with its state before
    and after. An image whose labels were dropped is never empty in the copy: it is unlabeled, or left out. A folder
    with several sets of labels becomes one folder a set in `out`. Returns the JSON object of `handful data check --fix
    --json`. Raises DataError when `out` exists, or lies inside the folder, and for a copy that would falsify.
    """
    named, place, out = place, located(place), Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    if place.resolve() in out.resolve().parents:
        raise DataError(f"{out} lies inside {place}, which is never written to; choose another place")
    told = out.with_name(out.name + ".repairs.json")
    places.check_file(told)
    found = sources(place, format=format, **options)
    with Cache(cache) as kept:
        aside = left_aside(place, found) if chosen(format, options) else {}
        findings, _, files = inspect(place, found, kept, aside=aside)
    repairs = [{**f.as_json(), "done": f.repair} for f in findings.found if f.repair != KEPT and not _undone(f)]
    rows: dict[str, list[dict[str, Any]]] = {}
    states: dict[str, dict[str, Any]] = {}
    with replacing_folder(out) as part:
        for source in found:
            name = source.title.replace(" ", "-")
            to = part if len(found) == 1 else part / relative(source.place, place) / name
            to.mkdir(parents=True, exist_ok=True)
            before = _states(source.read(_pass), place)
            repaired = _repaired(source, place, findings.found)
            written = formats.copied_as(repaired)
            formats.write(repaired, to, written)
            back = formats.module(written).read(to, on_finding=_pass)
            states[name] = _held_against(before, _states(back, to), source.title)
            rows[name] = [row.as_json() for row in differences(_lenient(source), back)]
        _take_along(place, part, [file for file, (role, _) in files.files.items() if role == UNREAD])
    after = check(out, cache=None, format=written if len(found) == 1 else None)
    result = {
        "schema_version": 1,
        "data": str(named),
        "out": str(out),
        "repairs": repairs,
        "states": states,
        "differences": rows,
        "findings": after["findings"],
        "ok": after["ok"],
    }
    write_json(told, result)
    return result


def _take_along(place: Path, to: Path, files: Sequence[str]) -> None:
    """Copy files that look like labels and were not read: without them the copy would be called fit. A competition's
    form for answers holds none."""
    for file in files:
        where = to / file
        if where.exists() or not (place / file).is_file() or is_answer(where.name):
            continue
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place / file, where)


def _undone(finding: Finding) -> bool:
    """Whether --fix leaves it to a person."""
    return finding.by_hand is not None


def _states(dataset: Dataset, place: Path) -> dict[Key, tuple[str, State]]:
    """(file, what is said of it) of each image."""
    found: dict[Key, tuple[str, State]] = {}
    for sample in dataset:
        listed = None if sample.objects is None and not sample.dropped else len(sample.objects or ()) + sample.dropped
        key = sample.split or "", str(PurePosixPath(sample.name).with_suffix(""))
        found[key] = relative(sample.path, place), State(listed, sample.mask is not None, sample.label)
    return found


def _held_against(
    before: dict[Key, tuple[str, State]], after: dict[Key, tuple[str, State]], title: str
) -> dict[str, Any]:
    """What became of each image: how many there are of each kind before and after, and those that changed.

    Raises DataError when the copy says of an image that it is empty and the source does not: nothing is worth that.
    """
    changed = []
    for key, (file, was) in before.items():
        now = after.get(key, ("", None))[1]
        if now is not None and now.text == "empty" and was.text != "empty":
            raise DataError(
                f"the copy would call {file} empty ({title}), of which the source has {was.text}; it was not kept; "
                "this is a fault of handful: please report it, and mend these labels by hand"
            )
        if now is None or now != was:
            changed.append({"image": file, "split": key[0], "before": was.text,
                            "after": "left out" if now is None else now.text})  # fmt: skip
    added = [file for key, (file, _) in after.items() if key not in before]
    if added:
        raise DataError(
            f"the copy would hold {added[0]} ({title}), which the source has not; it was not kept; this is a fault of "
            "handful: please report it"
        )
    return {"before": _counted(before), "after": _counted(after), "changed": changed}


def _counted(states: dict[Key, tuple[str, State]]) -> dict[str, int]:
    kinds = [state.text if state.text in ("empty", "unlabeled") else "labeled" for _, state in states.values()]
    counts = {kind: kinds.count(kind) for kind in ("labeled", "empty", "unlabeled")}
    return {"images": len(states), **counts, "labels": sum(state.labels or 0 for _, state in states.values())}


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
    dataset = source.read(_pass)
    leaving = _leaving(dataset, place, found)

    def samples() -> Iterator[Sample]:
        for sample in dataset:
            at = relative(sample.path, place)
            if at in out or (at, sample.split) in leaving:
                continue
            mask = sample.mask
            if sample.mask_path is not None and relative(sample.mask_path, place) in out:
                continue
            if mask is not None and sample.mask_path is not None:
                bad = relative(sample.mask_path, source.place) in unmasked or at in unmasked
                mask = mask if not bad and _usable(mask) else None
            objects = None if sample.objects is None else tuple(_once(sample.objects))
            pixels = _as_labeled(sample) if at in turned else sample.pixels
            yield replace(sample, mask=mask, objects=objects, pixels=pixels)

    return replace(dataset, samples=samples)


def _leaving(dataset: Dataset, place: Path, found: list[Finding]) -> set[tuple[str, str | None]]:
    """(file, split) of images that are in several splits, all but the one that stays: in test, or else val."""
    across = [{f.file, *f.value} for f in found if f.code == "same_image_across_splits"]
    if not across:
        return set()
    named = set().union(*across)
    where = [(at, sample.split) for sample in dataset if (at := relative(sample.path, place)) in named]
    leaving: set[tuple[str, str | None]] = set()
    for group in across:
        here = [pair for pair in where if pair[0] in group]
        here.sort(key=lambda pair: STAYS.index(kind) if (kind := split_kind(pair[1] or "")) in STAYS else len(STAYS))
        leaving.update(pair for pair in here if pair[1] != here[0][1])
    return leaving


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
