"""What a taught classifier says of one image, read from its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handful.fewshot.nemo import labels_of


@dataclass(frozen=True)
class Answer:
    """A prediction for one image.

    label: the class, or None for "none of these". nearest: the closest class all the same. probability: softmax of
    the answer's score among all scores. margin: logits by which the nearest class beats "none of these"; below
    zero means none. scores: (k + 1,) float32 logits, the last for "none of these".
    """

    label: str | None
    nearest: str
    probability: float
    margin: float
    scores: np.ndarray


def answer(scores: np.ndarray, classes: Sequence[str]) -> Answer:
    """Read one row of scores (k + 1,) as an Answer."""
    exp = np.exp(scores - scores.max())
    label = labels_of(scores[None], classes)[0]
    best = int(np.argmax(scores[:-1]))
    probability = exp[best if label is not None else -1] / exp.sum()
    return Answer(label, classes[best], float(probability), float(scores[best] - scores[-1]), scores)
