"""Bounds on what is learned, each with a margin that was measured: they have to hold on every processor.

A training ends elsewhere with every seed, and with every instruction set that PyTorch finds on a machine. So what a
test asks of it is written `bound("name", value, at_least=0.5)`: `tools/learning_margins.py` runs those tests with
several seeds (`SEED`) and instruction sets and keeps the worst of each in tests/learning_margins.json, and
tests/test_bounds.py holds every bound in the tests against that file. A bound that turns out to be thin is given easier
data or a longer training; it is never lowered until it passes.
"""

from __future__ import annotations

import json
import os

SEED = int(os.environ.get("HANDFUL_TEST_SEED", "0"))  # of the data and the training of such a test
LEAST_MARGIN = 0.05  # of the worst value to its bound; all are in 0..1 or grow from 0
SHARE_OF_SPREAD = 0.5  # and this share of what lies between the worst and the best


def bound(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
    """Assert that value >= at_least, or value <= at_most. name: what was measured, one in all tests."""
    if (at_least is None) == (at_most is None):
        raise ValueError(f"{name}: give at_least or at_most")
    if record := os.environ.get("HANDFUL_BOUNDS"):  # told before it can fail
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
        with open(record, "a") as file:
            file.write(json.dumps({"name": name, "test": test, "value": float(value),
                                   "at_least": at_least, "at_most": at_most}) + "\n")  # fmt: skip
    if at_least is not None:
        assert value >= at_least, f"{name}: {value:.3f}, wanted at least {at_least}"
    else:
        assert at_most is not None and value <= at_most, f"{name}: {value:.3f}, wanted at most {at_most}"


def margin_of(
    values: list[float], *, at_least: float | None = None, at_most: float | None = None
) -> tuple[float, float]:
    """(the worst value's distance to its bound, the distance it has to have)."""
    limit, sign = (at_least, 1) if at_least is not None else (at_most, -1)
    assert limit is not None and values
    worst, best = min(v * sign for v in values), max(v * sign for v in values)
    return worst - limit * sign, max(LEAST_MARGIN, SHARE_OF_SPREAD * (best - worst))
