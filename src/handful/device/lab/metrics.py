"""How far two tensors are apart: one definition each, in NumPy, said in words beside every number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from handful.errors import DataError

CAP_DB = 200.0

METRICS = {
    "psnr_db": (
        "20*log10(max|want| / rms(got - want)), in decibels, peak and mean over the whole tensor, all photographs "
        f"together; {CAP_DB:g} for equal tensors, never more; -{CAP_DB:g} when want is all zero and got is not"
    ),
    "rel_rmse": "rms(got - want) / rms(want), over the whole tensor; 0 for equal tensors, null when want is all zero",
    "max_abs": "max|got - want|, in the tensor's own unit",
    "cosine": "sum(got*want) / (|got| |want|) of the flattened tensors; 1 for equal ones, 0 when one is all zero. "
    "Blind to a wrong scale: read it beside rel_rmse",
    "exact": "every value is equal, bit for bit but for the sign of zero",
    "top1_agreement": (
        "share of photographs with the same answer; the answer is the argmax over the scores of all classes and of "
        '"none of these" together'
    ),
}


def differences(got: np.ndarray, want: np.ndarray, name: str) -> dict[str, Any]:
    """psnr_db, rel_rmse, max_abs, cosine, exact; see METRICS. Any shape, the same on both sides.

    Raises DataError, with the tensor's name, for another shape, nothing in it, or a value that is not finite.
    """
    if got.shape != want.shape:
        raise DataError(f"{name}: shapes differ: got {got.shape}, wanted {want.shape}")
    if not want.size:
        raise DataError(f"{name} is empty: shape {want.shape}; there is nothing to compare")
    for side, array in (("got", got), ("want", want)):
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            raise DataError(f"{name}: {bad} of {array.size} values on the {side!r} side are NaN or infinite")
    g, w = got.ravel().astype(np.float64), want.ravel().astype(np.float64)
    if np.array_equal(g, w):
        return {"psnr_db": CAP_DB, "rel_rmse": 0.0, "max_abs": 0.0, "cosine": 1.0, "exact": True}
    error, peak = _rms(g - w), float(np.abs(w).max())
    lengths = _rms(g) * _rms(w) * g.size
    return {
        "psnr_db": round(min(CAP_DB, 20 * float(np.log10(peak / error))), 2) if peak else -CAP_DB,
        "rel_rmse": error / _rms(w) if peak else None,
        "max_abs": float(np.abs(g - w).max()),
        "cosine": float(g @ w / lengths) if lengths else 0.0,
        "exact": False,
    }


def _rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(a * a)))


def same_names(got: Iterable[str], want: Iterable[str]) -> None:
    """Raises DataError unless both hold the same names, at least one, in any order."""
    got, want = set(got), set(want)
    if not want:
        raise DataError("nothing to compare: the reference has no tensors")
    if got != want:
        missing, extra = sorted(want - got), sorted(got - want)
        raise DataError(f"names differ: missing {missing or 'none'}, not asked for {extra or 'none'}")


def whole(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`differences` of all tensors laid end to end. Raises DataError as `differences` and `same_names`."""
    same_names(got, want)
    for name in want:
        differences(got[name], want[name], name)
    flat = [np.concatenate([side[name].ravel() for name in want]) for side in (got, want)]
    return differences(flat[0], flat[1], "all outputs")


def top1_agreement(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> float:
    """Share of rows with the same argmax of "scores", (n, k) on both sides, n at least 1.

    The last score is that of "none of these". A network that gives it apart, as "none" (n, 1), has it joined on.
    """
    answers = []
    for side in (got, want):
        both = np.concatenate([side[name] for name in ("scores", "none") if name in side], axis=1)
        if not both.size or not np.isfinite(both).all():
            raise DataError("scores are empty or not finite; there is no answer to compare")
        answers.append(both.argmax(axis=1))
    if answers[0].shape != answers[1].shape:
        raise DataError(f"different numbers of photographs: {len(answers[0])} and {len(answers[1])}")
    return float(np.mean(answers[0] == answers[1]))
