"""What stands around the code: the hooks before a commit, the workflow of CI, the forms for issues."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

TEXT = {".md", ".py", ".toml", ".txt", ".yml", ".yaml", ".sh", ".csv", ".css", ".js", ".json", ""}


def hooks() -> dict[str, dict[str, Any]]:
    held = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in held["repos"]] == ["local"], "nothing is downloaded"
    return {hook["id"]: hook for hook in held["repos"][0]["hooks"]}


def texts() -> list[Path]:
    """Every text file of the project."""
    found = [
        p for folder in ("src", "tests", "docs", "benchmarks", "tools", ".github") for p in (ROOT / folder).rglob("*")
    ]
    found += ROOT.iterdir()
    return [p for p in found if p.is_file() and p.suffix in TEXT and "__pycache__" not in p.parts and p.name != ".git"]


def said(hook: dict[str, Any], text: str) -> bool:
    """Whether one of the hooks that search (pygrep) finds something in a text, as pre-commit does."""
    if "--multiline" in hook.get("args", ()):
        return re.search(hook["entry"].encode(), text.encode(), re.MULTILINE | re.DOTALL) is not None
    return any(re.search(hook["entry"].encode(), line) for line in text.encode().splitlines())


def test_a_commit_is_checked_as_make_lint_does() -> None:
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    entries = [shlex.split(hook["entry"]) for hook in hooks().values() if hook["language"] == "system"]
    for command in re.findall(r"\$\(BIN\)/(\w+(?: \w+)?)", lint):
        tool, *verb = command.split()
        assert any(e[0] == f".venv/bin/{tool}" and e[1 : 1 + len(verb)] == verb for e in entries), command


@pytest.mark.parametrize(
    ("hook", "good", "bad"),
    [
        ("trailing-whitespace", "a b\n\nc\n", ["a \n", "a\n\t\n"]),
        ("end-of-file", "a\n\nb\n", ["a", "a\n\n", "a\nb"]),
        ("merge-conflict", "=====\n<<<<<<<<\na ======= b\n", ["<<<<<<< HEAD\n", "=======\n", ">>>>>>> x\n"]),
    ],
)
def test_a_hook_finds_what_it_is_for(hook: str, good: str, bad: list[str]) -> None:
    assert not said(hooks()[hook], good) and all(said(hooks()[hook], text) for text in bad)


def test_no_hook_finds_anything_today() -> None:
    searching = {name: hook for name, hook in hooks().items() if hook["language"] == "pygrep"}
    files = texts()
    assert len(searching) == 3 and len(files) > 300
    found = [f"{path.relative_to(ROOT)}: {hook['name']}" for path in files for hook in searching.values()
             if path.stat().st_size and said(hook, path.read_text())]  # fmt: skip
    assert found == []


def test_ci_runs_what_a_person_runs() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = ci["jobs"]["test"]
    assert ci[True].keys() == {"push", "pull_request"}  # YAML takes `on` for a yes
    (step,) = (step for step in job["steps"] if "run" in step)
    assert step["run"].rstrip().endswith(".ci/run") and (ROOT / ".ci" / "run").stat().st_mode & 0o100
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    rows = job["strategy"]["matrix"]["include"]
    assert len({row["instructions"] for row in rows}) >= 3
    for row in rows:
        assert set(row) - {"python", "instructions"} <= set(re.findall(r"matrix\.(\w+)", step["run"]))
    script = (ROOT / "tools" / "install.sh").read_text()
    least, most = (f"{a}.{b}" for a, b in re.findall(r"\((3), (\d+)\)", script)[:2])
    assert {row["python"] for row in rows} >= {least, most}, f"tools/install.sh takes {least} to {most}"


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.name)
def test_the_forms_are_forms(form: Path) -> None:
    held = yaml.safe_load(form.read_text())
    if form.name == "config.yml":
        assert held.keys() == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= held.keys()
    ids = [field["id"] for field in held["body"]]
    assert len(ids) == len(set(ids)) and any(f.get("validations", {}).get("required") for f in held["body"])
    for field in held["body"]:
        assert field["type"] in ("input", "textarea") and field["attributes"]["label"]
    if form.name == "bug.yml":
        assert {"handful --version", "The model's handful.json"} <= {f["attributes"]["label"] for f in held["body"]}
        needed = {f["id"] for f in held["body"] if f.get("validations", {}).get("required")}
        assert {"what", "command", "version", "machine"} == needed
