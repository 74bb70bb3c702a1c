"""The models of all kinds, made once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.kinds.worlds import HELD, MAKERS, World, planted


@pytest.fixture(autouse=True)
def _planted() -> Iterator[None]:
    """For each test here, and gone after it: the rest of the tests has what handful comes with."""
    with planted():
        yield


@pytest.fixture(scope="session")
def world_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    """The world of a kind; copy its model before changing it."""

    def get(kind: str) -> World:
        if kind not in HELD:
            with planted():
                HELD[kind] = MAKERS[kind](tmp_path_factory.mktemp(kind))
        return HELD[kind]

    return get


@pytest.fixture(params=sorted(MAKERS))
def world(request: pytest.FixtureRequest, world_of: Callable[[str], World]) -> World:
    """Each kind in turn."""
    return world_of(request.param)
