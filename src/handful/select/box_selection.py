"""Which boxes to teach next, three ways: by chance, by the 2018 report's rule, by the kind of what went wrong.

The rules on vectors are handful.fewshot.sample_selection's; here is what they need to know of boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from handful.detection.background import BACKGROUND_IOU
from handful.detection.evaluate import MATCH_IOU
from handful.detection.fusion import iou
from handful.detection.scoring import logits_of
from handful.fewshot.sample_selection import densest_uncovered, nearest_boundary, poor_first, quotas, typical
from handful.select.data_pool import Learned, Place, drawn, learned
from handful.select.feature_cache import Kept
from handful.select.grid_evaluation import FN, Exam, Given, f1

START = 5
REACH = 0.5  # cosine from which a taught box covers another, when no class has two to measure it by
HALVINGS = 2  # how often a step that does harm is halved, to keep the half that does none
Picked = dict[str, list[Place]]


@dataclass(frozen=True, eq=False)
class Faults:
    """What went wrong on a set of images. missed: {class: objects that were proposed and given no class}; confused:
    {class: (object, the class it was given)}; unseen: objects no proposed box lies on; background: answers on nothing;
    misplaced: answers that touch an object of their class, but share too little of it. The last three are not for the
    classifier to mend."""

    missed: dict[str, list[Place]]
    confused: dict[str, list[tuple[Place, str]]]
    unseen: int
    background: int
    misplaced: int

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {
            "missed": sum(map(len, self.missed.values())), "confused": sum(map(len, self.confused.values())),
            "unseen": self.unseen, "background": self.background, "misplaced": self.misplaced,
        }  # fmt: skip


def faults(exam: Exam, given: Given, classes: Sequence[str]) -> Faults:
    """Every object that was not found and every answer that was wrong, by kind (as TIDE has them, Bolya 2020,
    arXiv:2008.08115)."""
    missed: dict[str, list[Place]] = {}
    confused: dict[str, list[tuple[Place, str]]] = {}
    unseen = background = misplaced = 0
    photo = exam.photo[given.box]
    for i, one in enumerate(exam.photos):
        own = np.flatnonzero(photo == i)
        over = iou(one.truth.boxes, one.boxes)
        said = iou(one.truth.boxes, exam.boxes[i][exam.place[given.box[own]]])
        found = set(given.on[own].tolist())
        for j, name in enumerate(one.truth.names):
            if one.truth.crowd[j] or name not in classes or j in found:
                continue
            if not (over[j] >= MATCH_IOU).any():
                unseen += 1
                continue
            other = [a for a in np.flatnonzero(said[j] >= MATCH_IOU) if classes[given.label[own[a]]] != name]
            if other:
                best = max(other, key=lambda a: given.score[own[a]])
                confused.setdefault(name, []).append(((i, j), classes[given.label[own[best]]]))
            else:
                missed.setdefault(name, []).append((i, j))
        for a in np.flatnonzero(given.on[own] == -1).tolist():
            mine = np.array([n == classes[given.label[own[a]]] for n in one.truth.names], bool)
            background += int((said[:, a] < BACKGROUND_IOU).all())
            misplaced += int(((said[:, a] < MATCH_IOU) & (said[:, a] >= 0.1) & mine).any())
    return Faults(missed, confused, unseen, background, misplaced)


@dataclass
class Run:
    """What one run of a rule holds: images to teach from, their objects, how to ask, the seed.

    score: the F1 on the images to tune by of what is picked; refused: boxes that were tried and did harm.
    """

    photos: tuple[Kept, ...]
    there: dict[str, list[Place]]
    exam: Exam
    vigilance: float
    seed: int
    score: Callable[[Learned], float]
    refused: set[Place] = field(default_factory=set)

    def budget(self, most: int) -> int:
        """How many boxes `most` a class are, as far as there are so many."""
        return sum(min(most, len(rows)) for rows in self.there.values())

    def vectors(self, rows: Sequence[Place]) -> np.ndarray:
        """(n, dim) float64."""
        return np.stack([self.photos[i].taught[j] for i, j in rows])


def by_chance(run: Run, picked: Picked, most: int) -> Picked:
    """`most` of each class, drawn."""
    return drawn(run.there, most, run.seed)


def as_reported(run: Run, picked: Picked, most: int) -> Picked:
    """The 2018 report's: a few by chance, then one more of each class, from the images answered worst where they have
    one. The images are those it learns from, as they were there."""
    if not picked:
        return drawn(run.there, most, run.seed)
    counts = run.exam.counts(learned(run.photos, picked), (run.vigilance,))[0]
    own = np.where(counts.sum(axis=1) > 0, f1(counts), 1.0)
    rank = {photo: place for place, photo in enumerate(poor_first(own.tolist(), run.seed + most))}
    grown = {name: list(rows) for name, rows in picked.items()}
    for name, rows in run.there.items():
        left = sorted(set(rows) - set(grown[name]), key=lambda place: (rank[place[0]], place))
        grown[name] += left[: most - len(grown[name])]
    return grown


def by_fault(run: Run, picked: Picked, most: int) -> Picked:
    """Ours: the typical ones first; then boxes of the classes with most faults, those of missed objects from the
    densest spot no taught box covers, those of confused ones from the boundary; kept only where F1 on the images to
    tune by does not fall. At most as many boxes as `most` a class would be."""
    if not picked:
        return {name: [rows[i] for i in typical(run.vectors(rows), most, run.seed)] for name, rows in run.there.items()}
    known = learned(run.photos, picked)
    wrong = faults(run.exam, run.exam.given(known, run.vigilance), known.solution.classes)
    budget = run.budget(most) - sum(map(len, picked.values()))
    offered = _offered(run, picked, known, wrong, budget)
    return _kept(run, picked, offered, run.score(known), HALVINGS)[0]


RULES: dict[str, Callable[[Run, Picked, int], Picked]] = {
    "ours": by_fault, "original": as_reported, "random": by_chance,
}  # fmt: skip


def _offered(
    run: Run, picked: Picked, known: Learned, wrong: Faults, budget: int
) -> list[tuple[str, Place]]:  # fmt: skip
    """Boxes to try next, at most `budget`."""
    used = {place for rows in picked.values() for place in rows} | run.refused
    missed = {n: [p for p in rows if p not in used and run.photos[p[0]].learnable[p[1]]]
              for n, rows in wrong.missed.items()}  # fmt: skip
    mixed = {n: [(p, r) for p, r in rows if p not in used and run.photos[p[0]].learnable[p[1]]]
             for n, rows in wrong.confused.items()}  # fmt: skip
    there = {n: len(missed.get(n, [])) + len(mixed.get(n, [])) for n in run.there}
    cap = {n: min(3, count) for n, count in there.items()}
    mass = {n: len(wrong.missed.get(n, [])) + len(wrong.confused.get(n, [])) if there[n] else 0 for n in there}
    reach = _reach(run, picked)
    found: list[tuple[str, Place]] = []
    for name, count in quotas(mass, budget, cap).items():
        covered = list(picked[name])
        bare, near = missed.get(name, []), mixed.get(name, [])
        for_missed = min(len(bare), round(count * len(bare) / max(1, len(bare) + len(near))))
        for_missed = max(for_missed, count - len(near))
        for turn in range(count):
            if turn < for_missed:
                place = bare.pop(densest_uncovered(run.vectors(bare), run.vectors(covered), reach))
            else:
                logits = logits_of(known.solution, run.vectors([p for p, _ in near]))
                number = {n: k for k, n in enumerate(known.solution.classes)}
                rival = np.array([logits[i, number[r]] for i, (_, r) in enumerate(near)])
                place = near.pop(nearest_boundary(logits[:, number[name]], rival))[0]
            covered.append(place)
            found.append((name, place))
    return found


def _reach(run: Run, picked: Picked) -> float:
    """The cosine at which taught boxes of one class usually lie to their nearest."""
    near = []
    for rows in picked.values():
        if len(rows) > 1:
            cosine = (z := run.vectors(rows)) @ z.T
            np.fill_diagonal(cosine, -1)
            near += cosine.max(axis=1).tolist()
    return float(np.median(near)) if near else REACH


def _kept(
    run: Run, picked: Picked, offered: list[tuple[str, Place]], score: float, halvings: int
) -> tuple[Picked, float]:  # fmt: skip
    """`picked` with those of `offered` that do no harm, and its F1."""
    if not offered:
        return picked, score
    grown = {name: [*rows, *(p for n, p in offered if n == name)] for name, rows in picked.items()}
    now = run.score(learned(run.photos, grown))
    if now >= score:
        return grown, now
    if halvings and len(offered) > 1:
        order = np.random.default_rng((run.seed, len(offered), 17)).permutation(len(offered)).tolist()
        for part in (order[::2], order[1::2]):
            picked, score = _kept(run, picked, [offered[i] for i in part], score, halvings - 1)
        return picked, score
    run.refused |= {place for _, place in offered}
    return picked, score


def poorest(exam: Exam, known: Learned, vigilance: float) -> list[tuple[int, float, np.ndarray]]:
    """(number of the image, F1, counts), the worst answered first; of equals the one with more missed and wrong."""
    counts = exam.counts(known, (vigilance,))[0]
    own = np.where(counts.sum(axis=1) > 0, f1(counts), 1.0)
    worst = sorted(range(len(own)), key=lambda i: (own[i], -int(counts[i, 1:].sum()), i))
    return [(i, float(own[i]), counts[i]) for i in worst]


def shares(wrong: Faults, counts: np.ndarray) -> Mapping[str, int]:
    """Faults by kind beside the answers that were right, for a page."""
    return {"right": int(counts.sum(axis=0)[0]), "not found": int(counts.sum(axis=0)[FN]), **wrong.counts()}


def sizes_of(picked: Picked) -> Counter[str]:
    """How many boxes of each class."""
    return Counter({name: len(rows) for name, rows in picked.items()})
