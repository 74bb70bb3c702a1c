"""Sample selection (active learning) for boxes, by three strategies: random, the 2018 report's regimen, by error type.

The rules on vectors are in handful.fewshot.sample_selection; here is what they need to know of boxes.
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
from handful.fewshot.sample_selection import densest_uncovered, nearest_boundary, quotas, typical, worst_first
from handful.select.data_pool import BoxRef, LearnedModel, draw_boxes, learn_boxes
from handful.select.feature_cache import CachedImage
from handful.select.grid_evaluation import FN, GridEvaluation, MatchedDetections, f1

START = 5
REACH = 0.5  # cosine from which a taught box covers another, when no class has two to measure it by
HALVINGS = 2  # how often a step that lowers F1 is halved, to keep the half that does not
Selection = dict[str, list[BoxRef]]


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of a detector on a set of images, by type. missed: {class: objects that were proposed and given no class};
    confused: {class: (object, the class it was given)}; not_proposed: objects that no proposal matches; background:
    detections of nothing; mislocated: detections that touch an object of their class with too low an IoU. The
    classifier cannot mend the last three."""

    missed: dict[str, list[BoxRef]]
    confused: dict[str, list[tuple[BoxRef, str]]]
    not_proposed: int
    background: int
    mislocated: int

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {
            "missed": sum(map(len, self.missed.values())), "confused": sum(map(len, self.confused.values())),
            "not_proposed": self.not_proposed, "background": self.background, "mislocated": self.mislocated,
        }  # fmt: skip


def error_types(evaluation: GridEvaluation, detections: MatchedDetections, classes: Sequence[str]) -> Errors:
    """Every object that was missed and every detection that was wrong, by type (as in TIDE, Bolya 2020,
    arXiv:2008.08115)."""
    missed: dict[str, list[BoxRef]] = {}
    confused: dict[str, list[tuple[BoxRef, str]]] = {}
    not_proposed = background = mislocated = 0
    image = evaluation.image[detections.box]
    for i, one in enumerate(evaluation.images):
        own = np.flatnonzero(image == i)
        proposed = iou(one.truth.boxes, one.boxes)
        detected = iou(one.truth.boxes, evaluation.boxes[i][evaluation.place[detections.box[own]]])
        found = set(detections.on[own].tolist())
        for j, name in enumerate(one.truth.names):
            if one.truth.crowd[j] or name not in classes or j in found:
                continue
            if not (proposed[j] >= MATCH_IOU).any():
                not_proposed += 1
                continue
            other = [a for a in np.flatnonzero(detected[j] >= MATCH_IOU) if classes[detections.label[own[a]]] != name]
            if other:
                best = max(other, key=lambda a: detections.score[own[a]])
                confused.setdefault(name, []).append(((i, j), classes[detections.label[own[best]]]))
            else:
                missed.setdefault(name, []).append((i, j))
        for a in np.flatnonzero(detections.on[own] == -1).tolist():
            mine = np.array([n == classes[detections.label[own[a]]] for n in one.truth.names], bool)
            background += int((detected[:, a] < BACKGROUND_IOU).all())
            mislocated += int(((detected[:, a] < MATCH_IOU) & (detected[:, a] >= 0.1) & mine).any())
    return Errors(missed, confused, not_proposed, background, mislocated)


@dataclass
class Run:
    """One run of a strategy: images to teach from, their objects, their evaluation, vigilance, seed.

    score: the F1 on the images to tune by of a selection; refused: boxes that were tried and lowered it.
    """

    images: tuple[CachedImage, ...]
    there: dict[str, list[BoxRef]]
    evaluation: GridEvaluation
    vigilance: float
    seed: int
    score: Callable[[LearnedModel], float]
    refused: set[BoxRef] = field(default_factory=set)

    def budget(self, most: int) -> int:
        """How many boxes `most` a class are, where there are so many."""
        return sum(min(most, len(rows)) for rows in self.there.values())

    def vectors(self, rows: Sequence[BoxRef]) -> np.ndarray:
        """(n, dim) float64."""
        return np.stack([self.images[i].truth_vectors[j] for i, j in rows])


def random_boxes(run: Run, picked: Selection, most: int) -> Selection:
    """`most` of each class, drawn by seed."""
    return draw_boxes(run.there, most, run.seed)


def report_regimen(run: Run, picked: Selection, most: int) -> Selection:
    """The 2018 report's regimen: a few at random, then one more of each class, from the images with the lowest F1 that
    have one. As in the report these are the images it learns from."""
    if not picked:
        return draw_boxes(run.there, most, run.seed)
    counts = run.evaluation.counts(learn_boxes(run.images, picked), (run.vigilance,))[0]
    own = np.where(counts.sum(axis=1) > 0, f1(counts), 1.0)
    rank = {image: place for place, image in enumerate(worst_first(own.tolist(), run.seed + most))}
    grown = {name: list(rows) for name, rows in picked.items()}
    for name, rows in run.there.items():
        left = sorted(set(rows) - set(grown[name]), key=lambda place: (rank[place[0]], place))
        grown[name] += left[: most - len(grown[name])]
    return grown


def by_error_type(run: Run, picked: Selection, most: int) -> Selection:
    """Ours: typical boxes first; then boxes of the classes with most errors: of missed objects from the densest region
    that no taught box covers, of confused ones from the decision boundary; kept only where F1 on the images to tune by
    does not fall. At most as many boxes as `most` a class would be."""
    if not picked:
        return {name: [rows[i] for i in typical(run.vectors(rows), most, run.seed)] for name, rows in run.there.items()}
    known = learn_boxes(run.images, picked)
    wrong = error_types(run.evaluation, run.evaluation.detections(known, run.vigilance), known.solution.classes)
    budget = run.budget(most) - sum(map(len, picked.values()))
    candidates = _candidates(run, picked, known, wrong, budget)
    return _without_harm(run, picked, candidates, run.score(known), HALVINGS)[0]


STRATEGIES: dict[str, Callable[[Run, Selection, int], Selection]] = {
    "ours": by_error_type, "original": report_regimen, "random": random_boxes,
}  # fmt: skip


def _candidates(
    run: Run, picked: Selection, known: LearnedModel, wrong: Errors, budget: int
) -> list[tuple[str, BoxRef]]:  # fmt: skip
    """Boxes to try next, at most `budget`."""
    used = {place for rows in picked.values() for place in rows} | run.refused
    missed = {n: [p for p in rows if p not in used and run.images[p[0]].learnable[p[1]]]
              for n, rows in wrong.missed.items()}  # fmt: skip
    mixed = {n: [(p, r) for p, r in rows if p not in used and run.images[p[0]].learnable[p[1]]]
             for n, rows in wrong.confused.items()}  # fmt: skip
    there = {n: len(missed.get(n, [])) + len(mixed.get(n, [])) for n in run.there}
    cap = {n: min(3, count) for n, count in there.items()}
    mass = {n: len(wrong.missed.get(n, [])) + len(wrong.confused.get(n, [])) if there[n] else 0 for n in there}
    reach = _reach(run, picked)
    found: list[tuple[str, BoxRef]] = []
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


def _reach(run: Run, picked: Selection) -> float:
    """The median cosine of taught boxes to the nearest of their class."""
    near = []
    for rows in picked.values():
        if len(rows) > 1:
            cosine = (z := run.vectors(rows)) @ z.T
            np.fill_diagonal(cosine, -1)
            near += cosine.max(axis=1).tolist()
    return float(np.median(near)) if near else REACH


def _without_harm(
    run: Run, picked: Selection, candidates: list[tuple[str, BoxRef]], score: float, halvings: int
) -> tuple[Selection, float]:  # fmt: skip
    """`picked` with those of `candidates` that do not lower F1, and its F1."""
    if not candidates:
        return picked, score
    grown = {name: [*rows, *(p for n, p in candidates if n == name)] for name, rows in picked.items()}
    now = run.score(learn_boxes(run.images, grown))
    if now >= score:
        return grown, now
    if halvings and len(candidates) > 1:
        order = np.random.default_rng((run.seed, len(candidates), 17)).permutation(len(candidates)).tolist()
        for part in (order[::2], order[1::2]):
            picked, score = _without_harm(run, picked, [candidates[i] for i in part], score, halvings - 1)
        return picked, score
    run.refused |= {place for _, place in candidates}
    return picked, score


def worst_images(
    evaluation: GridEvaluation, known: LearnedModel, vigilance: float
) -> list[tuple[int, float, np.ndarray]]:
    """(index of the image, F1, counts), the lowest F1 first; of equals the one with more missed and wrong."""
    counts = evaluation.counts(known, (vigilance,))[0]
    own = np.where(counts.sum(axis=1) > 0, f1(counts), 1.0)
    worst = sorted(range(len(own)), key=lambda i: (own[i], -int(counts[i, 1:].sum()), i))
    return [(i, float(own[i]), counts[i]) for i in worst]


def error_counts(wrong: Errors, counts: np.ndarray) -> Mapping[str, int]:
    """Errors by type beside the true positives, for a page."""
    return {
        "true_positives": int(counts.sum(axis=0)[0]),
        "false_negatives": int(counts.sum(axis=0)[FN]),
        **wrong.counts(),
    }


def boxes_per_class(picked: Selection) -> Counter[str]:
    """How many boxes of each class."""
    return Counter({name: len(rows) for name, rows in picked.items()})
