"""From one format to another, with the losses measured by reading the copy back, not promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.data import formats, labelmaps
from handful.data.differences import ADDED, Difference, differences
from handful.data.finding import Finding
from handful.errors import DataError
from handful.files import replacing_folder


class _Refused(Exception):
    """Leaves the block that would have put the copy in place."""


def convert(
    source: Path,
    out: Path,
    *,
    to: str,
    format: str | None = None,
    labels: str | None = None,
    allow_loss: bool = False,
    link: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the labels and photos of one folder into another format.

    The copy is written aside, read back and held against the source. Whatever it lost or changed is listed; without
    `allow_loss` such a copy is thrown away. labels: translate classes by a label map ("ten", "person", or a CSV file)
    first. link: hard links to the photos instead of copies. options: for the reader (masks, flat). Returns the JSON
    object of `handful data convert --json`. Raises DataError for faulty input, and when `out` exists.
    """  # fmt: skip
    out = Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    formats.module(to)
    found = formats.one(source, format=format, **options)
    dataset = found.read()
    result: dict[str, Any] = {"schema_version": 1, "source": str(source), "from": found.title, "to": to}
    result |= {"folder": str(out), "photos": len(dataset)}
    if labels is not None:
        table = labelmaps.label_map(Path(labels) if labels.endswith(".csv") else labels)
        result["labels"] = labelmaps.plan(dataset, table)
        dataset = labelmaps.remap(dataset, table)
    try:
        with replacing_folder(out) as part:
            formats.write(dataset, part, to, link=link)
            rows = measured(dataset, part, to)
            result |= {"differences": [row.as_json() for row in rows]}
            result["lossless"] = all(row.how == ADDED for row in rows)
            result["written"] = result["lossless"] or allow_loss
            if not result["written"]:
                raise _Refused
    except _Refused:
        pass
    return result


def measured(dataset: Any, copy: Path, to: str) -> list[Difference]:
    """What a copy says differently from what was to be written. Raises DataError if the copy itself is faulty."""
    told: list[Finding] = []
    back = formats.module(to).read(copy, tell=told.append)
    rows = differences(dataset, back)
    errors = [finding for finding in told if finding.grave == "error"]
    if errors:
        raise DataError(
            f"the {to} copy would be faulty: {errors[0].text} [{errors[0].code}]; it was not kept; "
            "check the source with `handful data check`"
        )
    return rows
