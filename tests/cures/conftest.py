"""The desk of each row, which is held to what the row says it follows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cures.desk import Desk
from tests.kinds.worlds import HELD, MAKERS, World, planted


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """A folder with a space in its name and a cache, as people have them, and the command."""
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "my things"
    place.mkdir()
    found = Desk(place, capsys)
    failed = request.session.testsfailed
    yield found
    if request.session.testsfailed == failed:
        found.held_to(getattr(request.function, "cures", ()), getattr(request.function, "leaves_out", ()))


@pytest.fixture
def model_of(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """A model of a kind, copied into the folder to work in, and what it can be asked about; the tests' own networks are
    there."""
    with planted():

        def get(kind: str) -> World:
            if kind not in HELD:
                HELD[kind] = MAKERS[kind](tmp_path_factory.mktemp(kind))
            model = tmp_path / "my things" / kind
            if not model.exists():
                shutil.copytree(HELD[kind].model, model)
            return replace(HELD[kind], model=model)

        yield get
