"""The statistics of a data set as it lies there, with what became of its files and what its reader found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from handful.curate.account import account_of
from handful.curate.findings import FindingsReport
from handful.curate.stats import stats
from handful.data import formats
from handful.data.finding import Finding, stop
from handful.data.ledger import IMAGE, note, noting
from handful.types import Sample


def survey(
    place: Path, out: Path | None = None, *, format: str | None = None, seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Measure the one set of labels in a folder, and write OUT/stats.json and OUT/stats.html when a folder is given.

    The result of handful.curate.stats.stats, and besides "account", what became of each file, and "findings", rows as
    `handful data check` has them, of what the reader told and of labels that were not read; not of a whole check.
    format, options: for the reader. Raises DataError with the first error that the reader finds.
    """
    place = formats.located(place)
    findings = FindingsReport(place)

    def on_finding(finding: Finding) -> None:
        findings.on_finding(finding)
        stop(finding)

    with noting() as used:
        dataset = formats.one(place, format=format, **options).read(on_finding)

        def noted() -> Iterator[Sample]:
            for sample in dataset:
                note(sample.path, IMAGE)
                yield sample

        result = stats(replace(dataset, samples=noted), out, seed=seed)
    files = account_of(place, used, findings.on_finding, {f.file: f.code for f in findings.found})
    return {**result, "account": files.as_json(), "findings": findings.rows()}
