"""Accuracy and IoU against the worked cases, a slow second implementation, and what the rules say."""

from __future__ import annotations

import numpy as np
import pytest

from handful.errors import DataError, UnknownName
from handful.training.metrics import RULES, Confusion, Contours, background_of, boundary_f
from handful.video.score import f_of

# the same prediction by five tools' rules, 4 classes: mIoU in percent. The matrices were found by search: the only
# thing known of the original ones is these six results
ALL_PRESENT = [[420, 0, 10, 0], [20, 550, 50, 0], [30, 80, 310, 30], [0, 0, 20, 510]]
ABSENT = [[420, 0, 10, 0], [20, 550, 50, 0], [30, 80, 310, 0], [0, 0, 0, 0]]
ONLY_PREDICTED = [[420, 0, 10, 0], [20, 510, 50, 40], [30, 80, 310, 0], [0, 0, 0, 0]]
WORKED = {
    "ultralytics": (78.91, 76.88, 74.98),
    "detectron2": (78.91, 76.88, 74.98),
    "mmseg": (78.91, 76.88, 56.24),
    "paddle": (78.91, 82.66, 56.24),
    "gluon": (78.91, 57.66, 56.24),
}


def filled(counts: object, ignore: int = 255) -> Confusion:
    found = Confusion(len(np.array(counts)), ignore=ignore)
    found.counts += np.array(counts)
    return found


@pytest.mark.parametrize("rule", RULES)
def test_the_worked_cases(rule: str) -> None:
    names = ["a", "b", "c", "d"]
    got = [filled(c).scores(names, rule=rule)["miou_with_background"] for c in (ALL_PRESENT, ABSENT, ONLY_PREDICTED)]
    assert [round(100 * v, 2) for v in got] == list(WORKED[rule])


def slow_iou(truth: list[int], prediction: list[int], classes: int, rule: str) -> list[float | None]:
    """Pixel by pixel, from the rules' words."""
    found: list[float | None] = []
    pairs = [(t, p) for t, p in zip(truth, prediction, strict=True) if t != 255]
    for c in range(classes):
        both = sum(1 for t, p in pairs if t == c and p == c)
        either = sum(1 for t, p in pairs if t == c or p == c)
        in_truth = any(t == c for t, _ in pairs)
        if in_truth:
            found.append(both / either)
        elif rule in ("detectron2", "ultralytics"):
            found.append(None)
        elif either:
            found.append(0.0)
        else:
            found.append({"mmseg": None, "paddle": 1.0, "gluon": 0.0}[rule])
    return found


@pytest.mark.parametrize("rule", RULES)
def test_against_a_slow_second_implementation(rule: str) -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 3, 6):
        for _ in range(20):
            pool = rng.choice(k, rng.integers(1, k + 1), replace=False)
            truth = rng.choice([*pool, 255], (5, 7)).astype(np.uint8)
            prediction = rng.choice(k, (5, 7)).astype(np.uint8)
            found = Confusion(k)
            for half in (slice(0, 2), slice(2, None)):  # streamed
                found.add(truth[half], prediction[half])
            flat = truth.ravel().tolist(), prediction.ravel().tolist()
            assert found.iou(rule) == slow_iou(*flat, k, rule)
            counted = [(t, p) for t, p in zip(*flat, strict=True) if t != 255]
            right = sum(t == p for t, p in counted)
            assert found.pixel_accuracy == (right / len(counted) if counted else None)
            per = [[p == t for t, p in counted if t == c] for c in range(k)]
            assert found.accuracy == [sum(v) / len(v) if v else None for v in per]


def test_background_is_left_out_of_one_of_the_two() -> None:
    found = filled([[50, 10], [0, 40]]).scores(["background", "cat"], background=0)
    assert found["miou_with_background"] == pytest.approx((50 / 60 + 40 / 50) / 2)
    assert found["miou_without_background"] == pytest.approx(40 / 50)
    assert found["pixel_accuracy"] == pytest.approx(0.9)
    assert found["mean_accuracy"] == pytest.approx((50 / 60 + 1) / 2)
    assert found["background"] == "background" and found["rule"]["miou"] == RULES["mmseg"]
    one = filled([[50, 10], [0, 40]]).scores(["background", "cat"], background=0, rule="ultralytics")
    assert one["miou_with_background"] == pytest.approx(0.8)  # one class: that alone
    assert filled([[50, 10], [0, 40]]).scores(["a", "b"])["background"] is None


def test_which_class_is_the_background() -> None:
    assert background_of(["cat", "Background"]) == 1 and background_of(["other", "cat"]) == 0
    assert background_of(["cat", "dog"]) is None and background_of(["cat", "dog"], "dog") == 1
    with pytest.raises(UnknownName, match="did you mean 'dog'"):
        background_of(["cat", "dog"], "dgo")


def test_nothing_counted_is_no_perfect_score() -> None:
    found = Confusion(2)
    found.add(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8))
    scores = found.scores(["a", "b"])
    assert scores["pixel_accuracy"] is scores["miou_with_background"] is scores["mean_accuracy"] is None


@pytest.mark.parametrize(
    ("truth", "prediction", "said"),
    [
        (np.array([[0, 3]]), np.array([[0, 1]]), "x.png holds the value 3; the classes are 0 to 2"),
        (np.array([[0, 1]]), np.array([[0, -1]]), "the prediction for x.png holds the value -1"),
        (np.array([[0, 1]]), np.array([[0], [1]]), "one size"),
        (np.array([[0.0, 1]]), np.array([[0, 1]]), "must be integers, got float64"),
    ],
)
def test_wrong_arrays_are_named(truth: np.ndarray, prediction: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        Confusion(3).add(truth, prediction, "x.png")


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'paddle'"):
        Confusion(2).iou("padle")
    with pytest.raises(DataError, match="2 names for 3 classes"):
        Confusion(3).scores(["a", "b"])


def test_contours_are_those_of_davis() -> None:
    rng = np.random.default_rng(1)
    for size in ((40, 60), (7, 9), (200, 150)):
        for _ in range(8):
            a, b = (np.kron(rng.random((4, 5)) < 0.4, np.ones((size[0] // 3, size[1] // 3))) > 0 for _ in "ab")
            a, b = (m[: size[0], : size[1]] for m in (a, b))
            b = np.roll(b, 1, axis=1) if rng.random() < 0.5 else a ^ (rng.random(a.shape) < 0.01)
            assert boundary_f(b, a) == f_of(b, a)
    assert boundary_f(a, a) == 1.0


def test_contours_of_classes_and_what_is_ignored() -> None:
    truth = np.zeros((30, 30), np.uint8)
    truth[10:20, 10:20] = 1
    found = Contours(3)
    found.add(truth, truth)
    found.add(truth, np.zeros_like(truth))
    assert found.per_class == [pytest.approx(0.5), pytest.approx(0.5), None]
    hidden = np.where(truth == 1, 255, truth).astype(np.uint8)
    again = Contours(3)
    again.add(hidden, truth)
    assert again.per_class[1] is None
