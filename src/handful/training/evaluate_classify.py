"""How good a classifier is: its answers to photos it has not seen."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data import formats
from handful.errors import DataError
from handful.image import fit
from handful.models.folder import from_folder
from handful.progress import track
from handful.training.evaluate_segment import chosen_split, not_counted
from handful.training.loader_segment import photo_of, split_of
from handful.training.metrics import Confusion, mean
from handful.training.report_page import Worst, write
from handful.training.source import held
from handful.training.weights import Whole
from handful.types import Sample

WORDS = {
    "accuracy": "share of photos given their class",
    "mean_accuracy": "share of a class's photos given that class, mean over the classes that have photos",
    "accuracy_mirrored": "as accuracy, of the mean of the softmax of each photo and of its mirror image",
}


def probabilities(network: Any, rgb: np.ndarray) -> np.ndarray:
    """(n, h, w, 3) uint8 photos of the network's frame -> (n, k) float32 softmax."""
    device = next(iter(network.parameters())).device
    whole = Whole(network)
    with torch.inference_mode():
        # torch wants to be allowed to write
        x = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).to(device).permute(0, 3, 1, 2)
        found = whole(x)[0].float().softmax(1)
        return np.asarray(found.cpu().numpy())


def scores(truth: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy of answers, (n,) class numbers both, as JSON; per_class: {name: {"accuracy", "photos"}}."""
    counts = Confusion(len(classes), ignore=-1)
    counts.add(truth, answers)
    per_class = counts.accuracy
    photos = counts.counts.sum(axis=1).tolist()
    return {
        "accuracy": counts.pixel_accuracy,
        "mean_accuracy": mean(per_class),
        "per_class": {c: {"accuracy": a, "photos": n} for c, a, n in zip(classes, per_class, photos, strict=True)},
        "confusion": counts.counts.tolist(),
    }


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, device: str = "cpu",
    batch: int = 64, report: Path | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a classifier on a split of any data set whose photos have a class: test unless named, or val.

    Photos of classes that the model does not have are not counted, and said. "worst" names those it was surest of and
    wrong. report: an HTML page to write. Returns the JSON object that `handful
    evaluate --json` prints. Raises DataError or UnknownName.
    """
    from handful.training.distributed import ready

    began = time.monotonic()
    loaded = from_folder(model)
    if loaded.meta.get("task") != "classify":
        raise DataError(f"{model} is no classifier that `handful train classify` made")
    classes = tuple(loaded.classes)
    number = {name: i for i, name in enumerate(classes)}
    dataset = held(formats.read(data, format=format, **options))
    split = chosen_split(dataset, split)
    there = [s for s in split_of(dataset, split) if s.label in number]
    if not there:
        raise DataError(f"no photo of {data} is of a class of the model ({', '.join(classes[:8])}); check that these "
                        "are its classes")  # fmt: skip
    other = not_counted(dataset, data, classes)
    network = ready(loaded.network, device)
    found: list[np.ndarray] = []
    worst = Worst(shown=report is not None)
    truth = np.array([number[str(s.label)] for s in there])
    for start in track(range(0, len(there), batch), "measuring", -(-len(there) // batch)):
        photos = np.stack([fit(photo_of(s).rgb_u8, network.frame_hw) for s in there[start : start + batch]])
        chances = probabilities(network, photos)
        mirrored = probabilities(network, np.ascontiguousarray(photos[:, :, ::-1]))
        found += [chances.argmax(1), ((chances + mirrored) / 2).argmax(1)]
        add_wrong(worst, there[start : start + batch], truth[start:], chances, photos, classes)
    result = {
        "schema_version": 1,
        "task": "classify",
        **scores(truth, np.concatenate(found[::2]), classes),
        "accuracy_mirrored": float((truth == np.concatenate(found[1::2])).mean()),
        "rule": {"name": "top-1", **WORDS},
        "photos": len(there),
        "worst": worst.rows(),
        **{key: loaded.meta.get(key) for key in ("params", "macs", "seed", "minutes")},
        "model": str(model),
        "data": str(data),
        "split": split or None,
        "not_counted": other,
        "seconds": round(time.monotonic() - began, 2),
    }
    if report is not None:
        write(Path(report), result, worst)
    return result


def add_wrong(
    worst: Worst, samples: Sequence[Sample], truth: np.ndarray, chances: np.ndarray, photos: np.ndarray,
    classes: Sequence[str],
) -> None:  # fmt: skip
    """Hand wrong answers on, the surest first. truth: (>= n,); chances: (n, k); photos: (n, h, w, 3) uint8."""
    for sample, is_, row, rgb in zip(samples, truth[: len(samples)].tolist(), chances, photos, strict=True):
        said = int(row.argmax())
        if said != is_:
            about = {"photo": sample.name or str(sample.path), "truth": classes[is_], "predicted": classes[said],
                     "probability": float(row[said])}  # fmt: skip
            worst.add(-float(row[said]), about, functools.partial(dict, photo=rgb))
