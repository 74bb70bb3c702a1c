"""The stub network is known in these tests and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import handful.models
from tests.training.made import NETS, known


@pytest.fixture(autouse=True, scope="package")
def stub() -> Iterator[None]:
    known()
    yield
    handful.models.__path__.remove(NETS)
