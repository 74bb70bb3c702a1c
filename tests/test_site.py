"""The documentation as a site: built without a warning, every link holds, and nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import handful
from handful.pick import present
from tests import skips
from tests.conftest import ROOT
from tests.test_cli import walked


def build(project: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """`make docs`, of the project in a folder."""
    skips.need(present("mkdocs") and present("mkdocstrings"), "docs", "no MkDocs; run: pip install 'handful[docs]'")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(to)],
        cwd=project, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    to = tmp_path_factory.mktemp("site")
    done = build(ROOT, to)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return to


class Page(HTMLParser):
    """ids: every anchor. links: what a reader may click. loaded: what the browser fetches to show the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.ids |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag == "link" and known.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(known["href"])
        if "src" in known:
            self.loaded.append(known["src"])


def faults(site: Path) -> list[str]:
    """Links that lead nowhere, and what would be fetched over the network, a line each."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where} fetches {one}" for one in page.loaded if "//" in one]
        if where.name == "404.html":
            continue  # its links begin at the root of a server
        for link in [*page.links, *(one for one in page.loaded if "//" not in one and not one.startswith("data:"))]:
            target, anchor = urldefrag(unquote(link))
            if "//" in target or target.startswith(("data:", "mailto:")):
                continue
            there = (path.parent / target).resolve() if target else path
            if there.is_dir():
                there /= "index.html"
            if not there.is_file():
                found.append(f"{where} links to {link}, which is not there")
            elif anchor and there in pages and anchor not in pages[there].ids:
                found.append(f"{where} links to {link}, which has no such place")
    return found


@pytest.mark.slow
def test_every_link_holds_and_nothing_is_fetched(site: Path) -> None:
    assert "\n".join(faults(site)) == ""
    assert len(list(site.rglob("*.html"))) > len(list((ROOT / "docs").glob("*.md")))  # the reference is below


@pytest.mark.slow
def test_the_reference_has_every_command_and_every_name(site: Path) -> None:
    commands = Page((site / "reference" / "cli.html").read_text()).ids
    for verb, command in walked().items():
        assert command.hidden or "-".join(("handful", *verb)) in commands, f"no command {verb} in the reference"
    names = Page((site / "reference" / "api.html").read_text()).ids
    for name in handful.__all__:
        assert name.startswith("_") or f"handful.{name}" in names, f"no {name} in the reference"


WRAP = 100


def too_long(text: str) -> list[str]:
    """Lines of prose that do not wrap; tables, code, pictures and links that cannot be broken are left out."""
    text = re.sub(r"^ *```.*?^ *```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    return [
        f"{number}: {line}"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > WRAP and not line.startswith(("|", "![", "<!--")) and not re.match(r"(\d+\. )?\[[^]]*\]\(", line)
    ]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_prose_wraps(page: Path) -> None:
    assert "\n".join(too_long(page.read_text())) == ""


def test_a_long_line_is_found() -> None:
    long = "a word " * 16
    assert too_long(f"x\n{long}\n") == [f"2: {long}"]
    assert too_long(f"| {long} |\n```sh\n{long}\n```\n[{long}](x.md)\n1. [{long}](x.md)\n") == []


def test_what_is_wrong_with_a_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "index.html").write_text('<h1 id="top">x</h1>')
    text = '<h2 id="here">x</h2><a href="{}">x</a><img src="data:image/png;base64,"><a href="https://x.org">x</a>'
    for link, said in [
        ("#here", None), ("below/", None), ("below/index.html#top", None), ("#there", "no such place"),
        ("below/index.html#here", "no such place"), ("below/other.html", "not there"),
        ('#here"><img src="https://x.org/x.png', "fetches https://x.org/x.png"),
    ]:  # fmt: skip
        (tmp_path / "index.html").write_text(text.format(link))
        found = faults(tmp_path)
        assert (said in found[0] and len(found) == 1) if said else found == [], (link, found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "said"),
    [("[x](nowhere.md)", "nowhere.md"), ("[x](#nowhere)", "#nowhere"), ("::: handful.nothing", "handful.nothing"),
     ("## Fine", None)],
)  # fmt: skip
def test_a_page_with_a_fault_is_not_built(tmp_path: Path, page: str, said: str | None) -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(text.split("\nnav:")[0])
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "assets", tmp_path / "docs" / "assets")
    (tmp_path / "tools").mkdir()
    shutil.copyfile(ROOT / "tools" / "docs_hooks.py", tmp_path / "tools" / "docs_hooks.py")
    (tmp_path / "docs" / "index.md").write_text(f"# x\n\n{page}\n")
    done = build(tmp_path, tmp_path / "site")
    assert (done.returncode == 0) == (said is None), done.stdout + done.stderr
    if said:
        assert said in done.stdout + done.stderr
