"""What a taught model would say of its own samples, each left out once: leave-one-out, in closed form.

A sample x of class k, in the whitened space (W W' = A, the inverse of the scatter R + ridge I), with u = x - m_k, n
samples in its class and c = n / (n - 1). Without it R is smaller by c u u', so the inverse scatter A becomes
A + g A u (A u)', g = c / (1 - c u'Au) (Sherman and Morrison 1950), and its class's mean is m_k - u / (n - 1). All the
model's cosines follow from products that are there. The same, to rounding, as unlearning the sample and solving anew
(tests/fewshot/test_left_out.py), which would take a Cholesky decomposition a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handful.curate.seen import Mark, Seen
from handful.errors import DataError
from handful.fewshot.nemo import GAIN, Solution, labels_of, none_below
from handful.fewshot.vigilance import WORKING
from handful.words import counted, shell

MOST = 4096  # samples that are left out: more tell nothing more, and are held in memory
REFUSED = 0.1  # the share of a user's own images that may be refused
SHOWN = 3
LISTED = 20


@dataclass(frozen=True)
class Suspect:
    """A sample that looks like another class than the one it was taught as, by `apart` of a cosine."""

    image: str
    label: str
    looks_like: str
    apart: float


@dataclass(frozen=True)
class LeftOut:
    """How many of the samples that can be left out would be right, wrong, or called "none of these" at `vigilance`, and
    which look like another class, the worst first.

    copies: samples that are not among them since nearly the same image was taught as the same class: without one, the
    other is still there. alone: samples that are not among them since their class has no other. suggested: the
    vigilance at which a tenth at most would be refused, where more are, but none below the useful range; then_right,
    then_refused: what would be there.
    """

    images: int
    right: int
    refused: int
    vigilance: float
    suspects: tuple[Suspect, ...] = ()
    copies: int = 0
    alone: int = 0
    suggested: float | None = None
    then_right: int = 0
    then_refused: int = 0

    @property
    def wrong(self) -> int:
        """Those that would get another class."""
        return self.images - self.right - self.refused

    def to_json(self) -> dict[str, Any]:
        """As `handful teach --json` has it."""
        return {
            "images": self.images, "right": self.right, "wrong": self.wrong, "refused": self.refused,
            "near_copies": self.copies, "vigilance": self.vigilance, "suggested_vigilance": self.suggested,
            "suspects": [{"image": one.image, "label": one.label, "looks_like": one.looks_like} for one in
                         self.suspects[:LISTED]],
        }  # fmt: skip

    def told(self, model: str) -> list[str]:
        """In lines for the terminal. model: its folder, for the command."""
        lines = []
        if self.copies:
            many = counted(self.copies, "image is a near copy", "images are near copies")
            lines.append(f"{many} of another of the same class, which says nothing of new images")
        if not self.images:
            return [*lines, "no image could be left out: one of each class is all there is"] if self.alone else lines
        lines.append(
            f"each of {counted(self.images, 'image')} left out once: {_numbers(self.images, self.right, self.refused)}"
        )
        if self.suggested is not None:
            lines.append(f"at a vigilance of {self.suggested:g}: "
                         f"{_numbers(self.images, self.then_right, self.then_refused)}; to keep that: "
                         f"handful set {shell(model)} --vigilance {self.suggested:g}")  # fmt: skip
        if self.suspects:
            shown = "; ".join(f"{one.image} ({one.label}) like {one.looks_like}" for one in self.suspects[:SHOWN])
            more = len(self.suspects) - SHOWN
            lines.append(f"look at these again, which look like another class: {shown}"
                         + (f"; and {more} more" if more > 0 else ""))  # fmt: skip
        return lines


def _numbers(images: int, right: int, refused: int) -> str:
    return f'{right} right, {images - right - refused} wrong, {refused} "none of these"'


def left_out_scores(
    solution: Solution, counts: Mapping[str, int], z: np.ndarray, labels: Sequence[str]
) -> np.ndarray:  # fmt: skip
    """Samples (n, d) that the model has learned under these labels -> (n, k + 1) float64, as Solution.scores would give
    each had it not been learned; "none of these" keeps the threshold of the whole model.

    counts: samples a class. A class of one has no mean without it: its column is minus infinity. Raises DataError for a
    label that the model does not know.
    """
    strange = sorted(set(labels) - set(solution.classes))
    if strange:
        raise DataError(f"{strange[0]!r} was never learned; wanted one of: {', '.join(solution.classes[:8])}")
    number = {name: i for i, name in enumerate(solution.classes)}
    own = np.array([number[label] for label in labels], np.intp)
    n = np.array([counts[name] for name in solution.classes], np.float64)[own]
    x = np.atleast_2d(z).astype(np.float64) @ solution.whiten.T
    means = solution.prototypes * solution.lengths[:, None]
    u = x - means[own]
    several = n > 1
    c = np.where(several, n / np.maximum(n - 1, 1), 0.0)
    g = c / np.maximum(1 - c * np.einsum("nd,nd->n", u, u), 1e-9)
    xu = np.einsum("nd,nd->n", x, u)
    x2 = np.einsum("nd,nd->n", x, x) + g * xu**2
    um = u @ means.T
    dots = x @ means.T + (g * xu)[:, None] * um
    m2 = solution.lengths[None] ** 2 + g[:, None] * um**2
    rest = means[own] - u / np.maximum(n - 1, 1)[:, None]
    ur = np.einsum("nd,nd->n", u, rest)
    rows = np.arange(len(x))
    dots[rows, own] = np.einsum("nd,nd->n", x, rest) + g * xu * ur
    m2[rows, own] = np.einsum("nd,nd->n", rest, rest) + g * ur**2
    cosine: np.ndarray = dots / np.sqrt(np.maximum(x2[:, None] * m2, 1e-24))
    cosine[rows[~several], own[~several]] = -np.inf
    return np.concatenate([GAIN * cosine, np.full((len(x), 1), GAIN * solution.none)], axis=1)


def leave_out(
    solution: Solution, counts: Mapping[str, int], z: np.ndarray, labels: Sequence[str], images: Sequence[str],
    vigilance: float, copies: Sequence[bool] = (),
) -> LeftOut:  # fmt: skip
    """Leave each sample out once. z (n, d), their labels and what to call them; vigilance: the model's own; copies:
    which are near copies of other taught images of their class."""
    near = list(copies) or [False] * len(labels)
    several = [counts.get(label, 0) > 1 for label in labels]
    kept = [i for i in range(len(labels)) if several[i] and not near[i]]
    alone = several.count(False)
    if not kept:
        return LeftOut(0, 0, 0, vigilance, copies=sum(near), alone=alone)
    own_labels = [labels[i] for i in kept]
    scores = left_out_scores(solution, counts, np.asarray(z)[kept], own_labels)
    number = {name: i for i, name in enumerate(solution.classes)}
    cosine = scores[:, :-1] / GAIN
    suspects = []
    for row, i, label in zip(cosine, kept, own_labels, strict=True):
        best = int(np.argmax(row))
        if best != number[label] and row[best] >= solution.none:
            suspects.append(Suspect(images[i], label, solution.classes[best], float(row[best] - row[number[label]])))
    suspects.sort(key=lambda one: -one.apart)

    def at(value: float) -> tuple[int, int]:
        """(right, refused) at a vigilance."""
        asked = scores.copy()
        asked[:, -1] = GAIN * none_below(solution.expected, value)
        said = labels_of(asked, solution.classes)
        return sum(a == b for a, b in zip(said, own_labels, strict=True)), said.count(None)

    right, refused = at(vigilance)
    suggested, then = None, (right, refused)
    if refused > REFUSED * len(kept) and vigilance > WORKING[0]:
        # the best cosine that all but a tenth have; the vigilance whose threshold lies there, rounded down
        enough = np.sort(cosine.max(axis=1))[int(REFUSED * len(kept))]
        there = vigilance - 10 * (none_below(solution.expected, vigilance) - float(enough))
        suggested = max(WORKING[0], float(np.floor(there * 10 - 1e-9) / 10))
        then = at(suggested)
    return LeftOut(len(kept), right, refused, vigilance, tuple(suspects), sum(near), alone, suggested, *then)


class Sampled:
    """A fair draw of at most `most` of what comes, in bounded memory (reservoir sampling, Vitter 1985, algorithm R)."""

    def __init__(self, most: int = MOST, seed: int = 0) -> None:
        self.most, self.came, self._draw = most, 0, np.random.default_rng(seed)
        self.rows: list[tuple[np.ndarray, str, str, Mark]] = []

    def add(self, z: np.ndarray, label: str, image: str, one: Mark) -> None:
        """One sample, what to call it, and its mark."""
        self.came += 1
        if len(self.rows) < self.most:
            self.rows.append((z.astype(np.float32), label, image, one))
        elif (at := int(self._draw.integers(self.came))) < self.most:
            self.rows[at] = (z.astype(np.float32), label, image, one)

    def leave_out(
        self, solution: Solution, counts: Mapping[str, int], vigilance: float, seen: Seen | None
    ) -> LeftOut:  # fmt: skip
        """Leave each of them out once. seen: what the model has learned, these among it."""
        if not self.rows:
            return LeftOut(0, 0, 0, vigilance)
        z, labels, images, marks = zip(*self.rows, strict=True)
        copies = [] if seen is None else seen.copied(marks, labels)
        return leave_out(solution, counts, np.stack(z), labels, images, vigilance, copies)
