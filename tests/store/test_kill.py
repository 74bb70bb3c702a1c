"""A writer killed at random moments: benchmarks/store_kill.py in short, and the proof that it sees losses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytest_plugins = ["tests.store.fixture"]


def kill(tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "kill.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "store_kill.py"), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_no_acknowledged_label_is_lost(store_url: str, kind: str, tmp_path: Path) -> None:
    found = kill(tmp_path, "--kills", "5", "--place", store_url)
    assert (found["kills"], found["lost"], found["history_breaks"]) == (5, 0, [])
    assert found["acknowledged"] > 0
    assert found["database"] == {"mysql": "mariadb"}.get(kind, kind)


def test_a_store_that_speaks_too_early_is_seen(store_url: str, tmp_path: Path) -> None:
    assert kill(tmp_path, "--kills", "8", "--place", store_url, "--break")["lost"] > 0


@pytest.mark.slow
def test_killed_while_it_is_made(tmp_path: Path) -> None:
    """The tenth kill comes anywhere from the start of the process."""
    assert kill(tmp_path, "--kills", "10", "--seed", "3")["lost"] == 0
