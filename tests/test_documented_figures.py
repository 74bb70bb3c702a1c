"""Every figure in the documents is in a result file, benchmarks/results/*.json, which says where it is from.

A line `<!-- results: NAME.json -->` in a page says that the next block, a table or a paragraph, shows that file's
figures. Of a table each row and column is looked up by its name, and each cell has to hold the file's numbers, rounded
as the page rounds. Of a paragraph or a list each number with a decimal point, a percent sign or a thousands comma has
to be somewhere in the file. `<!-- figures: why -->` marks a table whose numbers are no measurements.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![\w])")
ASKED = {"schema_version", "benchmark", "command", "commit", "recorded", "machine", "seeds", "spread"}


def plain(text: str) -> str:
    """A cell without Markdown: bold, code, links."""
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"[*`]", "", text)).split())


def numbers(value: Any) -> list[float]:
    """All numbers in a JSON value or a text, in order."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, (int, float)):
        return [float(value)]
    if isinstance(value, str):
        return [float(one.replace(",", "")) for one in NUMBER.findall(value)]
    return [n for one in (value.values() if isinstance(value, dict) else value) for n in numbers(one)]


def rounds_to(value: float, shown: str) -> bool:
    """Whether a page may show a value so."""
    bare = shown.replace(",", "")
    decimals = len(bare.partition(".")[2])
    return abs(value - float(bare)) <= 0.5 * 10**-decimals + 1e-9


def same(shown: str, value: Any) -> bool:
    """Whether a cell shows a JSON value."""
    told, kept = NUMBER.findall(shown), numbers(value)
    return len(told) == len(kept) and all(rounds_to(v, s) for v, s in zip(kept, told, strict=True))


def cells(line: str) -> list[str]:
    return [plain(cell) for cell in line.strip().strip("|").split("|")]


@dataclass
class Block:
    """What a page shows: where it begins, the mark above it, its lines."""

    where: str
    mark: str
    lines: list[str]

    @property
    def table(self) -> bool:
        return self.lines[0].startswith("|")

    @property
    def files(self) -> list[str]:
        return re.findall(r"[\w-]+\.json", self.mark) if self.mark.startswith("results") else []


def blocks(text: str, name: str) -> list[Block]:
    """Paragraphs, lists and tables of a page with the mark above each; code left out."""
    text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    found: list[Block] = []
    mark, lines = "", []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            lines.append(line)
            continue
        if lines and (comment := re.fullmatch(r"<!-- (.*) -->", "\n".join(lines))):
            mark = comment[1]
        elif lines:
            found.append(Block(f"{name}:{number - len(lines)}", mark, lines))
            mark = ""
        lines = []
    return found


def shown_figures(text: str) -> list[str]:
    """The numbers of a paragraph that are figures: with a decimal point, a percent sign or a thousands comma."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    return [m[0] for m in NUMBER.finditer(text) if re.search(r"[.,]\d", m[0]) or text[m.end() :].startswith(" %")]


def table_faults(block: Block, results: dict[str, Any]) -> list[str]:
    """Rows, columns and cells of a table that no result has. Of several files each may have some of the columns."""
    header, body = cells(block.lines[0]), [cells(line) for line in block.lines[2:]]
    found = []
    for row in body:
        shown = [(column, cell) for column, cell in zip(header[1:], row[1:], strict=True) if NUMBER.search(cell)]
        wrong: set[tuple[str, str]] | None = None
        for name in block.files:
            kept = [
                dict(zip(map(plain, table["columns"]), one, strict=True))
                for table in results[name].get("tables", {}).values()
                for one in table["rows"]
                if plain(str(one[0])) == row[0]
            ]
            for one in (
                [min(({s for s in shown if not same(s[1], k.get(s[0]))} for k in kept), key=len)] if kept else []
            ):
                wrong = one if wrong is None else wrong & one
        if wrong is None:
            found.append(f"{block.where}: no result has a row {row[0]!r}")
        else:
            found += [
                f"{block.where}: {row[0]}, {column}: {cell!r}" for column, cell in shown if (column, cell) in wrong
            ]
    return found


def faults(text: str, name: str, results: dict[str, Any]) -> list[str]:
    """Figures of a page that no result has, or that say no result, a line each."""
    found = []
    shown = blocks(text, name)
    for block, after in zip(shown, [*shown[1:], None], strict=True):
        found += [f"{block.where}: no result file {one}" for one in block.files if one not in results]
        if found and any(one not in results for one in block.files):
            continue
        said = "\n".join(block.lines)
        if block.files and block.table:
            found += table_faults(block, results)
        elif block.files:
            known = [n for one in block.files for n in numbers({k: results[one].get(k) for k in ("tables", "figures")})]
            found += [
                f"{block.where}: {shown}"
                for shown in shown_figures(said)
                if not any(rounds_to(v, shown) for v in known)
            ]
        elif block.table and not block.mark.startswith("figures"):
            cell = next(
                (c for line in block.lines[2:] for c in cells(line)[1:] if re.fullmatch(r"[-+]?\d*\.\d+.*", c)), None
            )
            found += [f"{block.where}: a table of figures without a result file: {cell}"] if cell else []
        elif not block.mark and not _introduces(said, after, results) and shown_figures(said):
            found.append(f"{block.where}: names a benchmark, shows {shown_figures(said)[0]}, and no result file")
    return found


def _introduces(said: str, after: Block | None, results: dict[str, Any]) -> bool:
    """Whether a paragraph names no benchmark, or that of the results right below, whose settings it tells."""
    below = {results[one]["benchmark"] for one in (after.files if after else ()) if one in results}
    return set(re.findall(r"benchmarks/\w+\.py", said)) <= below


def load() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_figures_of_a_page_are_those_measured(page: Path) -> None:
    assert "\n".join(faults(page.read_text(), page.name, load())) == ""


def test_every_result_says_what_made_it_and_is_shown() -> None:
    shown = {one for page in PAGES for block in blocks(page.read_text(), page.name) for one in block.files}
    results = load()
    assert results
    for name, result in results.items():
        assert result.keys() >= ASKED, f"{name} lacks {sorted(ASKED - result.keys())}"
        assert (ROOT / result["benchmark"]).is_file(), f"{name}: {result['benchmark']} is not there"
        assert result["benchmark"] in result["command"], name
        assert re.fullmatch(r"[0-9a-f]{40}", result["commit"]), f"{name}: {result['commit']} is no commit"
        assert result.get("tables") or result.get("figures"), f"{name} holds nothing"
        there = re.findall(r"(?:^|[\s\"=])(/(?:tmp|work|root|home|Users|var)/[^\s\"]*)", json.dumps(result))
        assert not there, f"{name} names places of one machine: {there[:3]}"
        assert name in shown, f"no page shows {name}"


KEPT = {
    "a.json": {
        "benchmark": "benchmarks/a.py",
        "tables": {"t": {"columns": ["", "F1", "ms (p10 to p90)"], "rows": [
            ["ours, 5 a class", {"mean": 0.5612, "sd": 0.0211}, {"median": 45.04, "low": 38, "high": 49.7}],
            ["theirs", 0.5, None], ["theirs", 0.48, None],
        ]}},
        "figures": {"share": 1125, "auroc_percent": 68.1},
    },
    "more.json": {"benchmark": "benchmarks/a.py", "tables": {"t": {"columns": ["", "AP"], "rows": [["theirs", 0.31]]}}},
}  # fmt: skip
PAGE = """\
At 0.25 of full size, `python benchmarks/a.py`:

<!-- results: a.json -->

| | ms (p10 to p90) | F1 |
|---|---|---|
| **ours**, 5 a class | 45.0 (38.0 to 49.7) | **0.561 ± 0.021** |
| theirs | | 0.48 |

<!-- results: a.json -->

Of 1,125 things 68 % are found, in 12 images of 3 classes; `x 9.9`.

| | px |
|---|---|
| side | 416 |

<!-- results: a.json more.json -->

| | F1 | AP |
|---|---|---|
| theirs | 0.50 | 0.31 |

A sentence with 12.5 in it.
"""


def test_a_page_that_is_right_is_accepted() -> None:
    assert faults(PAGE, "page", KEPT) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.561", "0.562", "ours, 5 a class, F1"), ("± 0.021", "± 0.022", "ours, 5 a class, F1"),
        ("38.0 to", "38.1 to", "ms"), ("| | 0.48", "| 12.0 | 0.48", "ms"), ("| 0.48", "| 0.49", "theirs, F1"),
        ("| theirs", "| others", "no result has a row 'others'"), ("| F1 |", "| recall |", "recall"),
        ("**ours**, 5", "**ours**, 6", "no result has a row"), ("1,125", "1,126", "1,126"), ("68 %", "69 %", "69"),
        ("| 416 |", "| 0.416 |", "without a result file"), ("| ms (p10 to p90) | F1", "| F1 | ms (p10 to p90)", "F1"),
        ("A sentence", "`python benchmarks/x.py`: a sentence", "names a benchmark"),
        ("benchmarks/a.py", "benchmarks/b.py", "names a benchmark"), ("a.json", "b.json", "no result"),
        ("± 0.021", "", "ours, 5 a class, F1"),
        ("0.31", "0.32", "theirs, AP"), ("0.50 |", "0.51 |", "theirs, F1"), (" more.json", "", "theirs, AP"),
    ],
)  # fmt: skip
def test_a_figure_that_nobody_measured_is_found(old: str, new: str, said: str) -> None:
    page = PAGE.replace(old, new, 1)
    assert page != PAGE
    found = faults(page, "page", KEPT)
    assert found and any(said in one for one in found), found
