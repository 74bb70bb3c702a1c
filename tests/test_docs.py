"""What the documents say works: every command and snippet of the quick start runs, every path and verb named exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from handful.cli import main
from handful.data.sample_images import sample_photo
from handful.demo import view
from tests.conftest import ROOT, save
from tests.test_cli import verbs

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines() if line.startswith("handful ")]


def test_blocks_are_found() -> None:
    assert blocks("```sh\nhandful x\n```\n", "sh") == ["handful x\n"]
    assert len(commands((ROOT / "docs/quickstart.md").read_text())) >= 7


@pytest.mark.slow
def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    seen = [("photos", "mug", "coffee"), ("photos", "stapler", "cat"), ("more-photos", "mug", "coffee")]
    for folder, label, photo in [*seen, ("new-photos", "lamp", "flower")]:
        for name in "abc":
            save(view(sample_photo(photo), rng), tmp_path / folder / label / f"{name}.jpg")
    save(sample_photo("rocket"), tmp_path / "someone-elses.jpg")
    text = (ROOT / "docs/quickstart.md").read_text()
    for command in commands(text):
        try:
            main(shlex.split(command)[1:])
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{command}: exit {stop.code}")
    for snippet in blocks(text, "python"):
        exec(compile(snippet, "quickstart.md", "exec"), {})
    assert (tmp_path / "model-2" / "handful.json").exists()
    assert (tmp_path / "seen" / "results.json").exists()
    assert list((tmp_path / "model" / "compiled" / "onnxruntime-fp16").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_named_has_a_verb(page: Path) -> None:
    known = {" ".join(verb) for verb in verbs()}
    for command in commands(page.read_text()):
        words = [word for word in shlex.split(command)[1:] if not word.startswith("-")]
        assert words[0] in known or " ".join(words[:2]) in known, f"{page.name}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_and_script_named_exists(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+?)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for script in re.findall(r"(?:python )((?:benchmarks|tools)/\w+\.py)", text):
        assert (ROOT / script).exists(), f"{page.name} names {script}"


def test_every_benchmark_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for script in (ROOT / "benchmarks").glob("*.py"):
        if not script.name.startswith("common"):
            assert f"benchmarks/{script.name}" in text, f"no page says what {script.name} measures"
