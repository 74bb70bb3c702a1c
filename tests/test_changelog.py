"""CHANGELOG.md: every version with its date, newest first; what changed since the last one is told."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from itertools import pairwise

import pytest

import handful
from tests.conftest import ROOT


def faults(text: str, version: str, changed: bool) -> list[str]:
    """What is wrong with a changelog. version: of the package; changed: its code is no longer that version's."""
    found = []
    sections = [(part.partition("\n")[0].strip(), part.partition("\n")[2]) for part in text.split("\n## ")[1:]]
    released: list[tuple[tuple[int, ...], date]] = []
    for at, (heading, body) in enumerate(sections):
        if not re.search(r"^- \S", body, re.M):
            found.append(f"{heading} says nothing")
        if heading == "Unreleased":
            if at:
                found.append("Unreleased is not on top")
            continue
        parts = re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - (\d{4}-\d\d-\d\d)", heading)
        try:
            released.append((tuple(map(int, parts.group(1, 2, 3))), date.fromisoformat(parts[4])))  # type: ignore[union-attr, index]
        except (AttributeError, ValueError):
            found.append(f"{heading} is not a version and its date: 1.2.3 - 2026-11-29")
    for (newer, later), (older, earlier) in pairwise(released):
        if newer <= older or later < earlier:
            found.append(f"{newer} of {later} stands above {older} of {earlier}")
    newest = ".".join(map(str, released[0][0])) if released else "no version"
    if newest != version:
        found.append(f"the package is {version}, and the newest section is of {newest}")
    if changed and (not sections or sections[0][0] != "Unreleased"):
        found.append(f"the code is no longer {version}'s, and there is no section Unreleased on top")
    return found


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def changed_since(version: str) -> bool:
    """Whether anything under src differs from the commit that gave the package this version."""
    try:
        made = git("log", "-1", "--format=%H", f'-S__version__ = "{version}"', "--", "src/handful/__init__.py")
        if not made or git("rev-parse", "--is-shallow-repository") == "true":
            pytest.skip(f"the history to the commit that made {version} is not here")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no git history here ({error})")
    return bool(git("diff", "--name-only", made, "--", "src"))


def test_the_changelog_has_this_version_and_its_date() -> None:
    assert faults((ROOT / "CHANGELOG.md").read_text(), handful.__version__, changed=False) == []


def test_what_changed_since_is_told() -> None:
    changed = changed_since(handful.__version__)
    assert faults((ROOT / "CHANGELOG.md").read_text(), handful.__version__, changed) == []


TRUE = """# Changelog

## Unreleased

- More.

## 0.3.0 - 2026-11-23

Dreams.

- One.

## 0.2.0 - 2026-11-23

- Two.
"""


@pytest.mark.parametrize(
    ("change", "version", "changed", "said"),
    [
        (("", ""), "0.3.0", True, None),
        (("## Unreleased\n\n- More.\n\n", ""), "0.3.0", False, None),
        (("## Unreleased\n\n- More.\n\n", ""), "0.3.0", True, "no section Unreleased on top"),
        (("- More.\n", "Soon.\n"), "0.3.0", True, "Unreleased says nothing"),
        (("", ""), "0.4.0", False, "the package is 0.4.0, and the newest section is of 0.3.0"),
        (("- More.", "- More than 0.4.0 - 2026-11-29"), "0.4.0", False, "the newest section is of 0.3.0"),
        (("0.3.0 - 2026-11-23", "0.3.0"), "0.3.0", False, "0.3.0 is not a version and its date"),
        (("0.3.0 - 2026-11-23", "0.3.0 - 2026-11-31"), "0.3.0", False, "is not a version and its date"),
        (("- Two.\n", ""), "0.3.0", False, "0.2.0 - 2026-11-23 says nothing"),
        (("0.2.0 - 2026-11-23", "0.2.0 - 2026-11-24"), "0.3.0", False, "stands above"),
        (("0.2.0 - 2026-11-23", "0.3.0 - 2026-11-23"), "0.3.0", False, "stands above"),
        (("0.2.0 - 2026-11-23", "Unreleased"), "0.3.0", False, "Unreleased is not on top"),
    ],
)
def test_a_false_changelog_is_caught(change: tuple[str, str], version: str, changed: bool, said: str | None) -> None:
    found = faults(TRUE.replace(*change), version, changed)
    assert any(said in fault for fault in found) if said else found == [], found
