"""Writes docs/formats.md, what is read, from the formats themselves: python tools/write_formats.py"""

from __future__ import annotations

from pathlib import Path

from handful.data.formats import known, module

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"
HEAD = """\
# What is read

Each of these is recognized by what lies in the folder; `--format NAME` says it where that is not
enough. A set in folders called `train`, `val`, `valid`, `test` and the
like is read with its splits. `handful data check FOLDER` tells how a folder is read, file by file;
what looks like labels and is not read is an error. What each can hold is told by
`handful data convert`, which lists what would be lost. Made by `tools/write_formats.py`.
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for name in sorted(known()):
        one = module(name)
        written = "Read and written." if hasattr(one, "write") else "Read."
        parts.append(f"## {one.TITLE}\n\n`{name}`. {written}\n\n```text\n{one.TREE.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
