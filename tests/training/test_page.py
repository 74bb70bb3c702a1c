"""What the page on training says works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from handful.cli import main
from handful.models.show import counts_of, make
from tests.conftest import ROOT
from tests.test_docs import commands
from tests.training.made import small
from tests.training.test_classify import folders
from tests.training.test_detect import small as boxed

PAGE = ROOT / "docs/train.md"


def test_the_page_on_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small(tmp_path / "scenes")
    folders(tmp_path / "flowers")
    boxed(tmp_path / "shop")
    shown = commands(PAGE.read_text())
    assert len(shown) >= 12
    for command in shown:
        try:
            main(shlex.split(command)[1:])
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{command}: exit {stop.code}")
    for made in ("model-2/transfer.png", "report.html", "flow.png", "classifier/handful.json", "outliner/handful.json"):
        assert (tmp_path / made).exists(), made


def test_the_sizes_in_the_page_are_those_of_the_networks() -> None:
    rows = re.findall(r"^\| `(\w+(?::\w+)?)`[^|]*\| ([\d,]+) \|[^|]*\| ([\d,]+) M \|", PAGE.read_text(), re.M)
    assert len(rows) == 8
    for name, params, macs in rows:
        counts = counts_of(make(name, 11, {"pretrained": False} if "lite0" in name else {}))
        assert f"{counts.parameters:,}" == params and f"{counts.macs / 1e6:,.0f}" == macs, name
