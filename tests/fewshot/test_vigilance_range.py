"""What evaluate says of other vigilances."""

from __future__ import annotations

import numpy as np
import pytest

from handful.cli.measured import ranged
from handful.fewshot.nemo import GAIN, labels_of, none_below
from handful.fewshot.vigilance import WORKING
from handful.fewshot.vigilance_range import VIGILANCES, over_range, suggested

EXPECTED = 0.7


def asked() -> tuple[np.ndarray, list[str]]:
    """Four images of a, one of them taken for b; one of b; two unknown ones. Thresholds: 0.31 (at 1.2) to 0.6."""
    best = {"a": [0.9, 0.55, 0.2, 0.1], "b": [0.1, 0.1, 0.45, 0.8]}
    rows = [[a, b, 0] for a, b in zip(*best.values(), strict=True)] + [[0.1, 0.7, 0], [0.5, 0.1, 0], [0.1, 0.2, 0]]
    return GAIN * np.array(rows), ["a", "a", "a", "b", "b", "strange", "odd"]


def test_every_vigilance_is_what_asking_at_it_gives() -> None:
    scores, labels = asked()
    rows = over_range(scores, labels, ["a", "b"], EXPECTED)
    assert [row["vigilance"] for row in rows] == list(VIGILANCES) and (VIGILANCES[0], VIGILANCES[-1]) == WORKING
    for row in rows:
        at = scores.copy()
        at[:, -1] = GAIN * none_below(EXPECTED, row["vigilance"])
        said = labels_of(at, ["a", "b"])
        known = list(zip(said[:5], labels[:5], strict=True))
        assert row["right"] == sum(a == b for a, b in known) and row["refused"] == sum(a is None for a, _ in known)
        assert row["wrong"] == 5 - row["right"] - row["refused"]
        assert row["unknown_accepted"] == sum(a is not None for a in said[5:])
    first, last = rows[0], rows[-1]
    assert (first["right"], first["wrong"], first["refused"], first["unknown_accepted"]) == (4, 1, 0, 1)
    assert (last["right"], last["wrong"], last["refused"], last["unknown_accepted"]) == (3, 0, 2, 0)


def test_the_suggestion_weighs_known_against_unknown() -> None:
    scores, labels = asked()
    rows = over_range(scores, labels, ["a", "b"], EXPECTED)
    # between 0.5 and 0.55 all right answers are given and no unknown image is named: vigilance 3.1 to 3.5
    assert suggested(rows, 2) == 3.3
    known = over_range(scores[:5], labels[:5], ["a", "b"], EXPECTED)
    assert suggested(known, 0) == 2.5  # the last that refuses none of five
    assert suggested([{**row, "right": 0, "wrong": 0, "refused": 5} for row in known], 0) == 1.2


def test_what_the_terminal_shows() -> None:
    scores, labels = asked()
    rows = over_range(scores, labels, ["a", "b"], EXPECTED)
    told = {"vigilance_range": rows, "suggested_vigilance": 3.3, "vigilance": 3.0, "unknown_images": 2, "model": "m x"}
    lines = ranged(told)
    assert lines[0].split() == ["at", "vigilance", "1.2", "2", "3", "3.3", "4.1"]
    assert lines[1].split() == ["right", "4", "4", "4", "4", "3"]
    assert lines[4].split()[-5:] == ["1", "1", "1", "0", "0"]
    assert lines[5] == "suggested vigilance 3.3: handful set 'm x' --vigilance 3.3"
    assert len(ranged({**told, "vigilance": 3.3, "unknown_images": 0})) == 4
    assert len(ranged({**told, "suggested_vigilance": None})) == 5


@pytest.mark.parametrize("vigilance", [0.0, 7.0])
def test_a_vigilance_outside_the_range_is_none_of_its_columns(vigilance: float) -> None:
    scores, labels = asked()
    rows = over_range(scores, labels, ["a", "b"], EXPECTED)
    told = {"vigilance_range": rows, "suggested_vigilance": 3.3, "vigilance": vigilance, "unknown_images": 2,
            "model": "m"}  # fmt: skip
    assert ranged(told)[0].split()[2:] == ["1.2", "2", "3", "3.3", "4.1"]
