"""The map in docs/architecture.md is the house: every file is drawn in its own room, and every file drawn is there.

The map is a tree. A line is two spaces a level, then `room/`, `file.py` or `kind_*.py`, then what it is. Files that are
named in what follows belong to the line's room (`room/` names files of its own inside); after `kind_*.py`, `name.py` is
`kind_name.py`. A path with a slash points at another room, and has to be there too. A line that begins far to the right
goes on with the line before.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "handful"
NOT_DRAWN = {"__init__.py", "__main__.py"}


def house() -> set[str]:
    """Every file of the package by its path: {"errors.py", "data/finding.py", ...}."""
    return {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if p.name not in NOT_DRAWN}


def faults(drawing: str, files: set[str]) -> list[str]:
    """What is wrong with a map of these files, a line each; nothing where it is true."""
    lines = [line for line in re.sub(r"\n {12,}", " ", drawing).splitlines() if line.strip()]
    if not lines or lines[0].strip() != "src/handful/":
        return ["the map does not begin with src/handful/"]
    found: list[str] = []
    drawn: list[str] = []  # paths, some with a *
    rooms: list[str] = []  # the open rooms, from the outermost, each with its slash
    for line in lines[1:]:
        depth, odd = divmod(len(line) - len(line.lstrip()), 2)
        name, _, words = line.strip().partition(" ")
        if odd or not 1 <= depth <= len(rooms) + 1 or not re.fullmatch(r"\w+/|\w+(_\*)?\.py", name):
            found.append(f"not a room or a file, two spaces a level: {line.strip()}")
            continue
        rooms = rooms[: depth - 1]
        if name.endswith("/"):
            rooms.append(name)
        within, kind = "".join(rooms), name.partition("*")[0] if "*" in name else ""
        if not name.endswith("/"):
            drawn.append(within + name)
        for path in re.findall(r"[\w/*]+\.py\b", words):
            if "/" in path:
                found += [] if path in files else [f"{line.strip().split()[0]} points at {path}, which is not there"]
            else:
                drawn.append(f"{within}{kind}{path}")
    for path in sorted({p for p in drawn if drawn.count(p) > 1}):
        found.append(f"{path} is drawn twice")
    for path in drawn:
        if not any(fnmatch(file, path) and file.count("/") == path.count("/") for file in files):
            found.append(f"{path} is drawn, and is not there")
    for file in sorted(files):
        if not any(fnmatch(file, path) and file.count("/") == path.count("/") for path in drawn):
            found.append(f"{file} is there, and not drawn")
    return found


def test_the_map_is_the_house() -> None:
    drawing = (ROOT / "docs" / "architecture.md").read_text().split("```text\n")[1].split("```")[0]
    assert "\n".join(faults(drawing, house())) == ""


FILES = {"errors.py", "data/finding.py", "data/format_coco.py", "data/format_voc.py", "data/coco_rows.py",
         "data/coco_index.py", "select/feature_cache.py", "store/migrations/env.py"}  # fmt: skip
TRUE = """\
src/handful/
  errors.py          one small family
  data/              real images
    finding.py       what can be wrong (see select/feature_cache.py)
    format_*.py      coco voc
    coco_*.py        index.py: rows stay bytes;
                     rows.py: parsing
  select/            what to teach next
    feature_cache.py kept
  store/             labels
    migrations/      how they came to be: env.py
"""


def test_a_true_map_is_accepted() -> None:
    assert faults(TRUE, FILES) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("feature_cache.py kept", "uncache.py kept"), "select/uncache.py is drawn, and is not there"),
        (("    finding.py       what", "    unfinding.py     what"), "data/finding.py is there, and not drawn"),
        (("  select/            what to teach next\n", ""), "data/feature_cache.py is drawn, and is not there"),
        (("  errors.py          one small family\n", ""), "errors.py is there, and not drawn"),
        (("index.py: rows stay bytes;", ""), None),  # the pattern shows every file of its kind
        (("index.py: rows", "indices.py: rows"), "data/coco_indices.py is drawn, and is not there"),
        (("    format_*.py      coco voc\n", ""), "data/format_voc.py is there, and not drawn"),
        (("format_*.py      coco voc", "formats_*.py     coco voc"), "data/formats_*.py is drawn, and is not there"),
        (("how they came to be: env.py", "how they came to be"), "store/migrations/env.py is there, and not drawn"),
        (("    migrations/ ", "  migrations/ "), "migrations/env.py is drawn, and is not there"),
        (("see select/feature_cache.py", "see data/feature_cache.py"), "points at data/feature_cache.py"),
        (("    feature_cache.py kept\n", "    feature_cache.py kept\n" * 2), "select/feature_cache.py is drawn twice"),
        (("    format_*.py ", "   format_*.py "), "two spaces a level: format_*.py"),
        (("  store/             labels", "  and the labels"), "not a room or a file"),
        (("src/handful/\n", ""), "does not begin with"),
    ],
)
def test_a_false_map_is_caught(change: tuple[str, str], said: str | None) -> None:
    drawing = TRUE.replace(*change)
    assert drawing != TRUE
    found = faults(drawing, FILES)
    assert any(said in fault for fault in found) if said else found == [], found


def test_a_new_file_has_to_be_drawn_in_its_own_room() -> None:
    """The rule there was looked for the name anywhere in the map, so that unkept.py showed kept.py, in any room."""
    for new in ("data/errors.py", "cache.py", "rows.py", "select/finding.py", "data/inner/format_x.py"):
        assert faults(TRUE, FILES | {new}) == [f"{new} is there, and not drawn"]
