"""Public bug reports, made again: each is read right, or refused by the name of what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from handful.curate.check import check
from handful.data import formats
from handful.errors import DataError
from tests.data.report_cases import REPORTS
from tests.data.reports import Report, page, write

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
def test_a_public_report(report: Report, tmp_path: Path) -> None:
    place = write(tmp_path / "set", report.files())
    if report.refused:
        with pytest.raises(DataError, match=report.refused):
            formats.read(place)
        return
    found = check(place, near=False)
    told = {severity: {f["code"] for f in found["findings"] if f["severity"] == severity} for severity in
            ("error", "warning", "note")}  # fmt: skip
    assert told["error"] == report.errors, found["findings"]
    assert report.others <= told["warning"] | told["note"], found["findings"]
    if report.reads is None and report.pixels is None and report.labels is None:
        return
    (source,) = formats.sources(place)
    assert source.format == (report.format or source.format)
    samples = list(source.read(lambda finding: None))
    if report.labels is not None:
        assert {Path(s.path).stem: s.label for s in samples} == report.labels
    if report.pixels is not None:
        names, pixels = {c.id: c.name for c in source.read(lambda finding: None).categories}, Counter[str]()
        for sample in samples:
            assert sample.mask is not None
            ids = sample.mask().ids
            pixels.update({names[i]: int((ids == i).sum()) for i in names})
        assert pixels == report.pixels
    if report.reads is not None:
        assert {Path(s.path).stem for s in samples} == set(report.reads)
        for sample in samples:
            wanted = sorted(report.reads[Path(sample.path).stem])
            got = sorted((thing.label, thing.box_px) for thing in sample.objects or () if thing.box_px)
            assert [label for label, _ in got] == [label for label, _ in wanted], got
            for (_, box), (_, want) in zip(got, wanted, strict=True):
                assert box == pytest.approx(want, abs=0.05)


def test_the_page_says_what_is_tested() -> None:
    assert len({report.url for report in REPORTS}) == len({report.name for report in REPORTS}) == len(REPORTS) >= 40
    assert (ROOT / "docs/bug-reports.md").read_text(encoding="utf-8") == page(REPORTS)
