"""The page of what is read says what the formats say of themselves."""

from __future__ import annotations

import importlib.util

from handful.data.formats import known, module
from tests.conftest import ROOT


def test_the_page_is_what_the_formats_say() -> None:
    spec = importlib.util.spec_from_file_location("write_formats", ROOT / "tools" / "write_formats.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "docs" / "formats.md").read_text()
    assert text == tool.page(), "run: python tools/write_formats.py"
    assert len({module(name).TITLE for name in known()}) == len(known())
    assert all(2 <= len(module(name).TREE.splitlines()) <= 12 for name in known())
