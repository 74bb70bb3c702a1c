"""Each metric against a figure worked out by hand, and each refusal seen."""

from __future__ import annotations

import numpy as np
import pytest

from handful.device.lab.compare import compare_layers, compare_outputs
from handful.device.lab.metrics import CAP_DB, METRICS, differences, same_names, top1_agreement, whole
from handful.errors import DataError

WANT = np.array([[3.0, 4.0]], np.float32)


def test_by_hand() -> None:
    found = differences(np.array([[3.0, 5.0]], np.float32), WANT, "x")
    assert found["psnr_db"] == round(20 * np.log10(4 / np.sqrt(0.5)), 2) == 15.05
    assert found["rel_rmse"] == pytest.approx(np.sqrt(0.5) / np.sqrt(12.5))
    assert found["max_abs"] == 1.0
    assert found["cosine"] == pytest.approx((9 + 20) / (5 * np.sqrt(34)))
    assert found["exact"] is False
    assert found.keys() <= METRICS.keys()


def test_equal_tensors_are_exact_and_capped() -> None:
    assert differences(WANT, WANT, "x") == {
        "psnr_db": CAP_DB, "rel_rmse": 0.0, "max_abs": 0.0, "cosine": 1.0, "exact": True
    }  # fmt: skip


def test_a_wrong_scale_shows_though_cosine_is_blind_to_it() -> None:
    found = differences(1000 * WANT, WANT, "x")
    assert found["cosine"] == pytest.approx(1) and found["rel_rmse"] == pytest.approx(999) and found["psnr_db"] < 0


def test_the_shape_does_not_change_the_figure() -> None:
    rng = np.random.default_rng(0)
    want = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    got = want + 0.01 * rng.normal(size=want.shape).astype(np.float32)
    assert differences(got, want, "x") == differences(got.reshape(-1), want.reshape(-1), "x")


def test_a_silent_reference() -> None:
    zeros = np.zeros((1, 2), np.float32)
    assert differences(zeros, zeros, "x")["exact"] is True
    found = differences(WANT, zeros, "x")
    assert found["psnr_db"] == -CAP_DB and found["rel_rmse"] is None and found["cosine"] == 0.0
    assert differences(zeros, WANT, "x")["cosine"] == 0.0


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        (WANT[:, :1], WANT, "shapes differ"),
        (WANT.T, WANT, "shapes differ"),
        (WANT[:0], WANT[:0], "is empty"),
        (WANT * np.nan, WANT, "2 of 2 values on the 'got' side"),
        (WANT, WANT * np.inf, "'want' side are NaN or infinite"),
    ],
)
def test_refused(got: np.ndarray, want: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        differences(got, want, "x")
    with pytest.raises(DataError, match=says):
        whole({"x": got}, {"x": want})
    with pytest.raises(DataError, match=says):
        compare_outputs({"x": got}, {"x": want})
    with pytest.raises(DataError, match=says):
        compare_layers({"x": got}, {"x": want}, ["x"], "fp32")


@pytest.mark.parametrize("got", [{}, {"y": WANT}, {"x": WANT, "y": WANT}])
def test_other_names_are_refused(got: dict[str, np.ndarray]) -> None:
    for compare in (whole, compare_outputs):
        with pytest.raises(DataError, match="names differ"):
            compare(got, {"x": WANT})
    with pytest.raises(DataError, match="names differ"):
        compare_layers(got, {"x": WANT}, ["x"], "fp32")


def test_comparing_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        same_names([], [])
    with pytest.raises(DataError, match="nothing to compare"):
        compare_outputs({}, {})
    with pytest.raises(DataError, match="nothing to compare"):
        compare_layers({}, {}, [], "fp32")


def test_the_answer_counts_the_none_score() -> None:
    want = {"scores": np.array([[1.0, 2.0], [1.0, 2.0]]), "none": np.array([[3.0], [0.0]])}
    assert top1_agreement(want, want) == 1.0
    assert top1_agreement({**want, "none": np.array([[0.0], [0.0]])}, want) == 0.5
    assert top1_agreement({**want, "scores": want["scores"][:, ::-1]}, want) == 0.5
    with pytest.raises(DataError):
        top1_agreement({**want, "none": want["none"] * np.nan}, want)
    with pytest.raises(DataError, match="numbers of photographs"):
        top1_agreement({name: array[:1] for name, array in want.items()}, want)
    joined = {"scores": np.concatenate([want["scores"], want["none"]], axis=1)}
    assert top1_agreement(joined, want) == 1.0
    assert compare_outputs({"x": WANT}, {"x": WANT})["skipped"]
