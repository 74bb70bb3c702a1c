"""What a taught classifier would have answered at every useful vigilance: right, wrong, refused, unknown accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handful.fewshot.left_out import REFUSED
from handful.fewshot.nemo import GAIN, none_below
from handful.fewshot.vigilance import WORKING

VIGILANCES = tuple(round(0.1 * i, 1) for i in range(round(10 * WORKING[0]), round(10 * WORKING[1]) + 1))
RULE = (
    "of the images of taught classes, how many get their class (right), another (wrong), or none of these (refused); "
    "unknown_accepted: images of other classes that get a class"
)
SUGGESTED = (
    "the vigilance with the largest mean of the share of known images that are right and of unknown ones that are "
    "refused, the middle one of equals; without unknown images the highest at which at most a tenth is refused; null "
    "where most of the images were taught"
)


def over_range(
    scores: np.ndarray, labels: Sequence[str], classes: Sequence[str], expected: float
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each of VIGILANCES: vigilance, right, wrong, refused, unknown_accepted, as RULE says.

    scores: (n, k + 1) logits, whose last column is not looked at; labels: the truth, any names; expected: the model's.
    """
    truth = np.array(labels)
    known = np.isin(truth, list(classes))
    best = scores[:, :-1].max(axis=1)
    right = known & (np.array(list(classes))[scores[:, :-1].argmax(axis=1)] == truth)
    rows = []
    for vigilance in VIGILANCES:
        said = best > GAIN * none_below(expected, vigilance)
        rows.append({
            "vigilance": vigilance, "right": int((said & right).sum()), "wrong": int((said & known & ~right).sum()),
            "refused": int((~said & known).sum()), "unknown_accepted": int((said & ~known).sum()),
        })  # fmt: skip
    return rows


def suggested(rows: Sequence[dict[str, Any]], unknown: int) -> float:
    """A vigilance from `over_range`, as SUGGESTED says. unknown: how many images are of classes not taught."""
    known = rows[0]["right"] + rows[0]["wrong"] + rows[0]["refused"]
    if unknown:
        worth = [row["right"] / known - row["unknown_accepted"] / unknown for row in rows]
        best = [i for i, value in enumerate(worth) if value > max(worth) - 1e-9]
        return float(rows[best[len(best) // 2]]["vigilance"])
    few = [row["vigilance"] for row in rows if row["refused"] <= REFUSED * known]
    return float(few[-1] if few else rows[0]["vigilance"])
