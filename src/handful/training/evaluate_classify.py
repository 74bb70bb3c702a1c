"""How good a classifier is: its predictions for images it has not seen."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data.finding import leaves_unreadable
from handful.progress import track
from handful.training.evaluate import opened
from handful.training.loader_classify import Images, gather
from handful.training.metrics import Confusion, mean
from handful.training.report_page import Worst
from handful.training.weights import Whole

AT_ONCE = 256  # images
RULE = {
    "name": "top-1",
    "accuracy": "share of images given their class",
    "mean_accuracy": "share of a class's images given that class, mean over the classes that have images",
    "accuracy_mirrored": "as accuracy, of the mean of the softmax of each image and of its mirror image",
}


def predict(network: Any, rgb: np.ndarray) -> np.ndarray:
    """(n, h, w, 3) uint8 RGB of the network's frame -> (n, k) float32 softmax."""
    device = next(iter(network.parameters())).device
    whole = Whole(network)
    with torch.inference_mode():
        # torch wants to be allowed to write
        x = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).to(device).permute(0, 3, 1, 2)
        found = whole(x)[0].float().softmax(1)
        return np.asarray(found.cpu().numpy())


def scores(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy of predictions, (n,) class numbers both, as JSON; per_class: {name: {"accuracy", "images"}}."""
    counts = Confusion(len(classes), ignore=-1)
    counts.add(truth, predicted)
    per_class = counts.accuracy
    images = counts.counts.sum(axis=1).tolist()
    return {
        "accuracy": counts.pixel_accuracy,
        "mean_accuracy": mean(per_class),
        "per_class": {c: {"accuracy": a, "images": n} for c, a, n in zip(classes, per_class, images, strict=True)},
        "confusion": counts.counts.tolist(),
        "rule": RULE,
    }


def measured(
    network: Any, images: Images, most: int | None = None, *, mirror: bool = False, worst: Worst | None = None
) -> np.ndarray:
    """(n, k) float32: softmax for the images, or the first so many of them.

    mirror: for their mirror images instead. worst: collects wrong predictions, the surest first.
    """
    count, parts = min(len(images), most or len(images)), []
    for start in track(range(0, count, AT_ONCE), "measuring", -(-count // AT_ONCE)):
        which = range(start, min(start + AT_ONCE, count))
        rgb = images.pixels(which)
        found = predict(network, np.ascontiguousarray(rgb[:, :, ::-1]) if mirror else rgb)
        parts.append(found)
        if worst is not None:
            _add_wrong(worst, images, which, found, rgb)
    return np.concatenate(parts)


def _add_wrong(worst: Worst, images: Images, which: Sequence[int], probabilities: np.ndarray, rgb: np.ndarray) -> None:
    for i, row, own in zip(which, probabilities, rgb, strict=True):
        truth, predicted = int(images.labels[i]), int(row.argmax())
        if predicted != truth:
            about = {"image": images.names[i], "truth": images.classes[truth], "predicted": images.classes[predicted],
                     "probability": float(row[predicted])}  # fmt: skip
            worst.add(-float(row[predicted]), about, functools.partial(dict, image=own))


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, device: str = "cpu",
    report: Path | None = None, allow: Sequence[str] = (), **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a classifier on a split of any data set whose images have a class: test unless named, or val.

    Images of classes that the model does not have are not counted, with a warning. "worst" names those it was surest of
    and wrong. report: an HTML page to write. allow: codes of errors to go on with; with one
    of finding.UNREADABLE, images that cannot be read are left out, with a warning. Returns the JSON object that
    `handful evaluate --json` prints. Raises DataError or UnknownName.
    """
    subject = opened(model, data, ("classify",), split=split, format=format, device=device, allow=allow, **options)
    frame_hw, leave_out = subject.network.frame_hw, leaves_unreadable(allow)
    images = gather(subject.dataset, subject.split, subject.classes, frame_hw, leave_out=leave_out)
    worst = Worst(shown=report is not None)
    found = measured(subject.network, images, worst=worst)
    both = (found + measured(subject.network, images, mirror=True)) / 2
    measures = {
        **scores(images.labels, found.argmax(1), subject.classes),
        "accuracy_mirrored": float((images.labels == both.argmax(1)).mean()),
        "images": len(images),
        "worst": worst.rows(),
    }
    return subject.result(measures, worst, report, images.marks())
