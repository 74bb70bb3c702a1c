"""The figures the README claims, through the commands a user types. Needs the shared photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from handful.cli import main
from tests.bounds import bound

SHELF = ("Banana", "Carrots", "Garlic", "Leek", "Mango", "Plum", "Zucchini", "Lemon")


def said(capsys: pytest.CaptureFixture[str], *args: object) -> dict:  # type: ignore[type-arg]
    main([*map(str, args), "--json", "--quiet"])
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_grocery_from_shelf_to_shelf(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight classes, six photos each, so that this stays short; benchmarks/grocery.py has all of it."""
    for split in ("train", "test"):
        for label in SHELF:
            for path in sorted((data / "grocery" / split / label).iterdir())[:6]:
                place = tmp_path / split / label
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place / path.name)
    said(capsys, "teach", tmp_path / "train", "--out", tmp_path / "m")
    numbers = said(capsys, "evaluate", tmp_path / "m", tmp_path / "test")
    bound("teach: accuracy, groceries", numbers["accuracy"], at_least=0.8)
    bound("teach: open-set F1, groceries", numbers["open_f1"], at_least=0.6)
    unknowns = said(capsys, "evaluate", tmp_path / "m", tmp_path / "test", "--vigilance", "9")
    assert unknowns["open_f1"] == 0.0
    assert unknowns["accuracy"] == numbers["accuracy"]
