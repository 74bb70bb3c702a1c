"""From one format to another, with the losses measured by reading the copy back, not promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.curate.differences import ADDED, Difference, differences
from handful.curate.findings import FindingsReport
from handful.data import formats, labelmaps
from handful.data.finding import Finding, stop
from handful.errors import DataError
from handful.files import replacing_folder
from handful.types import Dataset
from handful.words import shell


class _Refused(Exception):
    """Leaves the block that would have put the copy in place."""


def convert(
    source: Path,
    out: Path,
    *,
    to: str,
    format: str | None = None,
    labels: str | None = None,
    labels_from: str | None = None,
    allow_loss: bool = False,
    link: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the labels and images of one folder into another format.

    The copy is written aside, read back and held against the source. Whatever it lost or changed is listed; without
    `allow_loss` such a copy is thrown away. labels: translate classes by a label map ("ten", "person", or a CSV file)
    first; labels_from: whose names they are, where that is not clear. link: hard links to the images instead of
    copies. options: for the reader (masks, flat, images). Returns the JSON object of `handful data convert --json`;
    its findings are what reading the source told, such as labels of another task that were not read. Raises DataError
    for faulty input, and when `out` exists.
    """  # fmt: skip
    out = Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    formats.module(to)
    found = formats.one(source, format=format, **options)
    told = FindingsReport(found.place)

    def on_finding(finding: Finding) -> None:
        stop(finding)
        told.on_finding(finding)

    dataset = found.read(on_finding)
    result: dict[str, Any] = {"schema_version": 1, "data": str(source), "from": found.title, "to": to}
    result["images"] = len(dataset)
    if labels is not None:
        table = labelmaps.label_map(Path(labels) if labels.endswith(".csv") else labels)
        result["labels"] = labelmaps.plan(dataset, table, source=labels_from)
        dataset = labelmaps.remap(dataset, table, source=labels_from)
    result |= put(dataset, out, to, allow_loss=allow_loss, link=link)
    return {**result, "findings": told.rows()}


def put(dataset: Dataset, out: Path, to: str, *, allow_loss: bool = False, link: bool = False) -> dict[str, Any]:
    """Write a data set into a new folder, read it back, and keep it if nothing was lost, or if that is allowed.

    Returns {"out", "differences", "lossless", "written"}. Raises DataError when `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    result: dict[str, Any] = {"out": str(out)}
    try:
        with replacing_folder(out) as part:
            formats.write(dataset, part, to, link=link)
            rows = measured(dataset, part, to)
            result["differences"] = [row.as_json() for row in rows]
            result["lossless"] = all(row.how == ADDED for row in rows)
            result["written"] = result["lossless"] or allow_loss
            if not result["written"]:
                raise _Refused
    except _Refused:
        pass
    return result


def measured(dataset: Dataset, copy: Path, to: str) -> list[Difference]:
    """What a copy says differently from what was to be written. Raises DataError if the copy itself is faulty."""
    found: list[Finding] = []
    back = formats.module(to).read(copy, on_finding=found.append)
    rows = differences(dataset, back)
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise DataError(
            f"the {to} copy would be faulty: {errors[0].text} [{errors[0].code}]; it was not kept; "
            f"check the source: handful data check {shell(dataset.root)}"
        )
    return rows
