"""A run of CI does not pass over a test in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips
from tests.conftest import ROOT

GONE = 'pytest.importorskip("a_package_that_is_not_there")'
ALLOWED = """
import pytest
from tests.skips import need

def test_one(): pass
def test_photographs(): need(False, "data", "no photographs at /nowhere; set HANDFUL_DATA")
@pytest.mark.xfail(reason="known")
def test_known(): assert 0
"""
OTHERS = f"""
import pytest

def test_gone(): {GONE}
@pytest.mark.skip(reason="later")
def test_later(): pass
"""
MODULE = f"import pytest\n{GONE}\n"


def run(place: Path, require: str | None, **files: str) -> tuple[int, str]:
    """(exit code, stdout) of pytest on these files, with the rule."""
    for name, text in files.items():
        (place / f"{name}.py").write_text(text)
    env = {key: value for key, value in os.environ.items() if key != "HANDFUL_REQUIRE"}
    env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | ({"HANDFUL_REQUIRE": require} if require else {})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, said = run(tmp_path, None, test_a=ALLOWED, test_b=OTHERS, test_c=MODULE)
    assert code == 0 and "1 passed, 4 skipped, 1 xfailed" in said and "must not be" not in said


def test_in_ci_what_is_allowed_is_a_skip(tmp_path: Path) -> None:
    code, said = run(tmp_path, "torch", test_a=ALLOWED)
    assert code == 0 and "1 passed, 1 skipped, 1 xfailed" in said and "must not be" not in said


def test_in_ci_any_other_skip_is_told_and_fails(tmp_path: Path) -> None:
    code, said = run(tmp_path, "torch,data", test_a=ALLOWED, test_b=OTHERS, test_c=MODULE)
    assert code == 1 and "FAILED test_a.py::test_photographs" in said  # it is required
    rest = said.split("must not be where HANDFUL_REQUIRE is set")[1]
    gone = "could not import 'a_package_that_is_not_there'"
    for line in (f"test_b.py::test_gone: {gone}", "test_b.py::test_later: later", f"test_c.py: {gone}"):
        assert line in rest
    (tmp_path / "test_a.py").write_text("def test_one(): pass")
    assert run(tmp_path, "torch")[0] == 1  # for the skips alone


def test_photographs_that_are_required_are_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_REQUIRE", "torch,data")
    with pytest.raises(pytest.fail.Exception, match="not here"):
        skips.need(False, "data", "not here")
    monkeypatch.setenv("HANDFUL_REQUIRE", "torch")
    with pytest.raises(pytest.skip.Exception, match="not here"):
        skips.need(False, "data", "not here")
