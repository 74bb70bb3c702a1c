"""Evaluation of a taught classifier on images it has not seen: closed-set accuracy, and the open set with unknowns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.seen import Mark, leak, mark, mostly_new
from handful.data import format_folder
from handful.data.finding import leaves_unreadable
from handful.data.folder_names import usual
from handful.data.near_names import warn_of_strangers
from handful.errors import DataError
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.nemo import labels_of
from handful.fewshot.teaching import checked_images, readable
from handful.fewshot.vigilance_range import RULE as RANGE_RULE
from handful.fewshot.vigilance_range import SUGGESTED, over_range, suggested
from handful.image import read_image
from handful.progress import track, warn
from handful.results import NONE_OF_THESE
from handful.threads import over
from handful.training.source import split_to_measure
from handful.types import Sample
from handful.words import counted

RULE = {
    "accuracy": "share of images of taught classes whose best class, 'none of these' left out, is right",
    "per_class": "the same for each taught class; images: how many of it; accepted: share not called none of these",
    "open_f1": "2 TP / (2 TP + FP + FN) over all images: TP, an image of a taught class given that class; FP, an image "
    "given a class that is wrong, untaught images included; FN, an image of a taught class not given it",
    "unknown_auroc": "chance that an image of a taught class has a larger best score minus none-score than an image of "
    "an untaught class (ties count half); null without both kinds",
    "vigilance_range": RANGE_RULE,
    "suggested_vigilance": SUGGESTED,
}


def measure(scores: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """The numbers above. scores: (n, k + 1), the last column for none of these; labels: the truth, any names."""
    if not len(labels) or scores.shape != (len(labels), len(classes) + 1):
        raise DataError(
            f"wanted scores of shape ({len(labels)}, {len(classes) + 1}) and an image at least, got {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise DataError("the scores hold NaN or infinity")
    truth = np.array(labels)
    known = np.isin(truth, list(classes))
    if not known.any():
        raise DataError(f"no image of {len(truth)} is of a taught class; taught are: {', '.join(classes[:8])}")
    best = np.array(list(classes))[np.argmax(scores[:, :-1], axis=1)]
    predicted = np.array(labels_of(scores, classes, none=""))
    right = predicted == truth
    tp, fp, fn = int((right & known).sum()), int(((predicted != "") & ~right).sum()), int((known & ~right).sum())
    margin = scores[:, :-1].max(axis=1) - scores[:, -1]
    per_class = {
        name: {
            "images": int((truth == name).sum()),
            "accuracy": float((best[truth == name] == name).mean()),
            "accepted": float((predicted[truth == name] != "").mean()),
        }
        for name in classes
        if (truth == name).any()
    }
    return {
        "accuracy": float((best == truth)[known].mean()),
        "per_class": per_class,
        "unknown_auroc": auroc(margin[known], margin[~known]) if not known.all() else None,
        "open_f1": 2 * tp / (2 * tp + fp + fn),
        "known_images": int(known.sum()),
        "unknown_images": int((~known).sum()),
    }


def auroc(high: np.ndarray, low: np.ndarray) -> float:
    """The chance that one of `high` exceeds one of `low`, ties counting half (Mann-Whitney U)."""
    low = np.sort(low)
    below, upto = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + upto).mean() / (2 * len(low)))


def evaluate(
    model: Path, data: Path, *, vigilance: float | None = None, flat: bool = False, split: str | None = None,
    format: str | None = None, report: Path | None = None, cache: Path | None = None,
    loaded: FewShotClassifier | None = None, allow: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a taught classifier on a folder of images per class. Classes that it was not taught count as unknown.

    split: only this one; test unless named, or val, or all. report: also an HTML page. loaded: the model of the folder
    `model`, when it is here already. allow: codes of errors to go on with. Returns the JSON object that `handful
    evaluate --json` prints. Raises DataError.
    """
    began = time.monotonic()
    if format not in (None, "folder"):
        raise DataError(f"{data}: format {format!r} has no labels for whole images; wanted a folder a class")
    taught = loaded or FewShotClassifier.load(model, cache=cache)
    samples, warnings = checked_images(data, flat=flat, quiet=["one_image"], split=split, allow=allow)
    for text in warnings:
        warn(text)
    if split is None and (split := split_to_measure(samples, None) or None) is not None:
        samples = [s for s in samples if usual(s.split) == split]
    warn_of_strangers(data, sorted({str(s.label) for s in samples}), taught.classes)
    own = taught.nemo.vigilance if vigilance is None else vigilance

    def ask(sample: Sample) -> tuple[np.ndarray, Mark] | None:
        image = readable(sample.path, leaves_unreadable(allow))
        return None if image is None else (taught.scores(image, vigilance), mark(image.rgb_u8))

    rows = list(track(over(ask, samples), "classifying", len(samples)))
    if None in rows:
        warn(f"{rows.count(None)} of {counted(len(rows), 'image')} could not be read and left out")
    samples = [sample for sample, row in zip(samples, rows, strict=True) if row is not None]
    read = [row for row in rows if row is not None]
    if not read:
        raise DataError(f"{data}: no image can be read; wanted one at least")
    scores = np.stack([row for row, _ in read])
    labels = [s.label or "" for s in samples]
    numbers = measure(scores, labels, taught.classes)
    predicted = labels_of(scores, taught.classes)
    rows_of_range = over_range(scores, labels, taught.classes, taught.expected)
    seen = leak(taught.seen, (one for _, one in read))
    result = {
        "schema_version": 1,
        "task": "classify",
        **numbers,
        "images": len(samples),
        "vigilance": own,
        "vigilance_range": rows_of_range,
        "suggested_vigilance": suggested(rows_of_range, numbers["unknown_images"]) if mostly_new(seen) else None,
        "split": split,
        "seen": seen,
        "rule": RULE,
        "model": str(model),
        "data": str(data),
        "data_sha256": format_folder.digest(samples),
        "predictions": [
            {"image": str(s.path), "truth": s.label, "predicted": answer}
            for s, answer in zip(samples, predicted, strict=True)
        ],
        "report": None if report is None else str(report),
        "seconds": round(time.monotonic() - began, 2),
    }
    if report is not None:
        _page(Path(report), result, scores, samples, taught.classes)
    return result


def _page(
    path: Path, result: dict[str, Any], scores: np.ndarray, samples: Sequence[Sample], classes: Sequence[str]
) -> None:  # fmt: skip
    """The page of a measurement, with "none of these" as one more class, and the images it is most wrong about."""
    from handful.training.report_page import Worst, write

    names = [*classes, NONE_OF_THESE]
    number = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(names), len(names)), np.int64)
    worst = Worst(shown=True)
    for row, sample, one in zip(scores, samples, result["predictions"], strict=True):
        truth = number.get(str(sample.label), len(classes))
        predicted = len(classes) if one["predicted"] is None else number[one["predicted"]]
        counts[truth, predicted] += 1
        if truth != predicted:
            chance = np.exp(row.astype(np.float64) - row.max())
            share = float(chance[predicted] / chance.sum())
            about = {"image": sample.name or str(sample.path), "truth": sample.label, "predicted": names[predicted]}
            worst.add(-share, {**about, "probability": share}, lambda path=sample.path: {"": read_image(path).rgb_u8})  # type: ignore[misc]
    images = counts.sum(axis=1)
    right = [float(counts[i, i] / n) if n else None for i, n in enumerate(images.tolist())]
    there = [v for v in right if v is not None]
    rule = {
        **RULE,
        "name": "open set",
        "accuracy": "share of images given their class, or none of these where they are of no taught class",
        "mean_accuracy": "the same for each class, mean over the classes that have images",
    }
    page = {
        **result, "accuracy": float(np.trace(counts) / max(1, counts.sum())), "mean_accuracy": float(np.mean(there)),
        "per_class": {n: {"accuracy": a, "images": int(i)} for n, a, i in zip(names, right, images, strict=True)},
        "confusion": counts.tolist(), "rule": rule,
    }  # fmt: skip
    write(path, page, worst)
