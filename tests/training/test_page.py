"""What the page on training says of the networks' sizes."""

from __future__ import annotations

import re

from handful.models.show import counts_of, make
from tests.conftest import ROOT

PAGE = ROOT / "docs/train.md"


def test_the_sizes_in_the_page_are_those_of_the_networks() -> None:
    rows = re.findall(r"^\| `(\w+(?::\w+)?)`[^|]*\| ([\d,]+) \|[^|]*\| ([\d,]+) M \|", PAGE.read_text(), re.M)
    assert len(rows) == 8
    for name, params, macs in rows:
        counts = counts_of(make(name, 11, {"pretrained": False} if "lite0" in name else {}))
        assert f"{counts.parameters:,}" == params and f"{counts.macs / 1e6:,.0f}" == macs, name
