"""How good a taught model is, on photos it has not seen: closed-set accuracy, and the open set it will really meet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import format_folder
from handful.errors import DataError
from handful.fewshot.classifier import FewShotClassifier, checked_photos
from handful.fewshot.nemo import labels_of
from handful.image import read_image
from handful.progress import track, warn

RULE = {
    "accuracy": "share of photos of taught classes whose best class, 'none of these' set aside, is right",
    "per_class": "the same for each taught class; n: its photos; answered: share not called none of these",
    "open_f1": "2 TP / (2 TP + FP + FN) over all photos: TP, a photo of a taught class given that class; FP, a photo "
    "given a class that is wrong, untaught photos included; FN, a photo of a taught class not given it",
    "unknown_auroc": "chance that a photo of a taught class has a larger best score minus none-score than a photo of "
    "an untaught class (ties count half); null without both kinds",
}


def measure(scores: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """The numbers above. scores: (n, k + 1), the last column for none of these; labels: the truth, any names."""
    if not len(labels) or scores.shape != (len(labels), len(classes) + 1):
        raise DataError(
            f"wanted scores of shape ({len(labels)}, {len(classes) + 1}) and a photo at least, got {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise DataError("the scores hold NaN or infinity")
    truth = np.array(labels)
    known = np.isin(truth, list(classes))
    if not known.any():
        raise DataError(f"none of the {len(truth)} photos is of a taught class; taught are: {', '.join(classes[:8])}")
    best = np.array(list(classes))[np.argmax(scores[:, :-1], axis=1)]
    said = np.array(labels_of(scores, classes, none=""))
    right = said == truth
    tp, fp, fn = int((right & known).sum()), int(((said != "") & ~right).sum()), int((known & ~right).sum())
    margin = scores[:, :-1].max(axis=1) - scores[:, -1]
    per_class = {
        name: {
            "n": int((truth == name).sum()),
            "accuracy": float((best[truth == name] == name).mean()),
            "answered": float((said[truth == name] != "").mean()),
        }
        for name in classes
        if (truth == name).any()
    }
    return {
        "accuracy": float((best == truth)[known].mean()),
        "per_class": per_class,
        "unknown_auroc": auroc(margin[known], margin[~known]) if not known.all() else None,
        "open_f1": 2 * tp / (2 * tp + fp + fn),
        "n": int(known.sum()),
        "n_unknown": int((~known).sum()),
    }


def auroc(high: np.ndarray, low: np.ndarray) -> float:
    """The chance that one of `high` exceeds one of `low`, ties counting half (Mann-Whitney U)."""
    low = np.sort(low)
    below, upto = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + upto).mean() / (2 * len(low)))


def evaluate(
    model: Path, photos: Path, *, vigilance: float | None = None, flat: bool = False, cache: Path | None = None
) -> dict[str, Any]:
    """Ask a model about a folder of photos per class. Classes it was not taught count as unknown.

    Returns the JSON object that `handful evaluate --json` prints.
    """
    began = time.monotonic()
    taught = FewShotClassifier.load(model, cache=cache)
    if vigilance is not None:
        taught.nemo.vigilance = vigilance
        taught.refresh()
    samples, warnings = checked_photos(photos, flat=flat, quiet=["one_photo"])
    for text in warnings:
        warn(text)
    scores = np.stack([taught.scores(read_image(s.path)) for s in track(samples, "asking", len(samples))])
    labels = [s.label or "" for s in samples]
    numbers = measure(scores, labels, taught.classes)
    said = labels_of(scores, taught.classes)
    return {
        "schema_version": 1,
        **numbers,
        "vigilance": taught.nemo.vigilance,
        "rule": RULE,
        "model": str(model),
        "data_sha256": format_folder.digest(samples),
        "answers": [
            {"photo": str(s.path), "truth": s.label, "predicted": answer}
            for s, answer in zip(samples, said, strict=True)
        ],
        "seconds": round(time.monotonic() - began, 2),
    }
