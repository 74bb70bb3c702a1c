"""How good a segmentation model is: its answers at the size of the labels, against them."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from handful.data import formats
from handful.errors import DataError
from handful.image import fit
from handful.models.folder import from_folder
from handful.progress import track, warn
from handful.training.loader_segment import SPLITS, Photos, labels_of, photo_of, split_of
from handful.training.metrics import RULES, Confusion, Contours, background_of, mean
from handful.training.report_page import Worst, painted, palette, write
from handful.training.source import held
from handful.types import Dataset, Sample

SIZE_RULE = (
    "each photo is squashed to the model's frame, the scores are enlarged to the size of its labels (bilinear) and the "
    "largest is the answer"
)


def predict(network: Any, rgb_u8: np.ndarray, size_hw: tuple[int, int] | None = None) -> np.ndarray:
    """The class number of each pixel, (h, w) uint8, of a photo (h, w, 3) uint8 RGB of any size.

    network: takes (1, h, w, 3) uint8 of its frame_hw, gives (1, k, h', w') logits. size_hw: of the answer, the photo's
    own unless told otherwise.
    """
    frame = np.array(fit(rgb_u8, network.frame_hw)[None])  # a copy: torch wants to be allowed to write
    device = next(iter(network.parameters())).device
    with torch.inference_mode():
        scores = network(torch.from_numpy(frame).to(device))
        size = size_hw or rgb_u8.shape[:2]
        if tuple(scores.shape[2:]) != tuple(size):
            scores = F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
        return np.asarray(scores[0].argmax(0).to(torch.uint8).cpu().numpy())


def confusion_of(network: Any, photos: Photos, most: int | None = None) -> Confusion:
    """Counts over photos that are already at the frame's size, labels too: what is watched while training.

    most: only so many of the photos.
    """
    found = Confusion(len(photos.classes))
    for i in range(min(len(photos), most or len(photos))):
        rgb, labels = photos[i]
        found.add(labels, predict(network, rgb), photos.names[i])
    return found


def measured(
    network: Any, samples: Iterable[Sample], read: Any, classes: tuple[str, ...], *, rule: str, background: int | None,
    total: int | None = None, worst: Worst | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Scores (see Confusion.scores, boundary_f besides) at the size of the labels.

    Each class also says how many photos show it. "worst" names the photos with the lowest mIoU over the classes that
    are in them or were said to be. read: as handful.training.loader_segment.labels_of gives it. worst: collects those
    photos, for a
    page. Raises DataError when nothing is labelled.
    """
    worst = worst if worst is not None else Worst()
    colours = palette(classes, None if background is None else classes[background])
    counts, contours = Confusion(len(classes)), Contours(len(classes))
    photos = unlabelled = 0
    for sample in track(samples, "measuring", total):
        image = photo_of(sample)
        truth = read(sample, image.size_wh)
        if truth is None:
            unlabelled += 1
            continue
        answer = predict(network, image.rgb_u8)
        alone = Confusion(len(classes))
        alone.add(truth, answer, str(sample.mask_path or sample.path))
        counts.counts += alone.counts
        contours.add(truth, answer)
        photos += 1
        if (about := _of_photo(alone, classes, sample.name or str(sample.path))) is not None:
            worst.add(about["miou"], about, functools.partial(_pictures, image.rgb_u8, truth, answer, colours))
    if not counts.counts.sum():
        raise DataError(f"no pixel of {photos + unlabelled} photos is labelled with a class of the model "
                        f"({', '.join(classes[:8])}); check that these are its masks")  # fmt: skip
    if unlabelled:
        warn(f"{unlabelled} photos that nobody labelled do not count")
    found = counts.scores(classes, rule=rule, background=background)
    for name, f, shown in zip(classes, contours.per_class, contours.found, strict=True):
        found["per_class"][name] |= {"boundary_f": f, "photos": len(shown)}
    found["boundary_f"] = mean(contours.per_class)
    found["rule"]["size"] = SIZE_RULE
    return {**found, "confusion": counts.counts.tolist(), "photos": photos, "unlabelled": unlabelled,
            "worst": worst.rows()}  # fmt: skip


def _pictures(
    rgb_u8: np.ndarray, truth: np.ndarray, answer: np.ndarray, colours: Sequence[tuple[int, int, int]]
) -> dict[str, np.ndarray]:
    return {"photo": rgb_u8, "labelled": painted(truth, colours, rgb_u8), "answer": painted(answer, colours, rgb_u8)}


def _of_photo(alone: Confusion, classes: tuple[str, ...], name: str) -> dict[str, Any] | None:
    iou = {classes[i]: v for i, v in enumerate(alone.iou()) if v is not None}
    if not iou:
        return None
    lowest = min(iou, key=lambda k: iou[k])
    return {"photo": name, "miou": mean(iou.values()), "pixel_accuracy": alone.pixel_accuracy, "worst_class": lowest}


def not_counted(dataset: Dataset, data: Path, classes: tuple[str, ...]) -> list[str]:
    """The classes of the data that a model does not have, which is said. Raises DataError when it has none of them."""
    known = {c.name for c in dataset.categories}
    other = sorted(known - set(classes))
    if not known & set(classes):
        raise DataError(f"{data} has the classes {', '.join(sorted(known)[:8])}; the model knows "
                        f"{', '.join(classes[:8])}: none is the same")  # fmt: skip
    if other:
        warn(f"{len(other)} classes of {data} that the model does not know are not counted: {', '.join(other[:8])}")
    return other


def chosen_split(dataset: Dataset, named: str | None) -> str:
    """The split that is named, or else test, or val where there is none, or photos in no split."""
    there = {SPLITS.get(s.split or "", s.split or "") for s in dataset}
    return named if named is not None else next((s for s in ("test", "val") if s in there), "")


def evaluate(
    model: Path,
    data: Path,
    *,
    split: str | None = None,
    rule: str = "mmseg",
    background: str | None = None,
    format: str | None = None,
    device: str = "cpu",
    report: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure a segmentation model folder on a split of any data set: test unless named, or val where there is none.

    rule: one of handful.training.metrics.RULES, what absent classes count for. background: which class is everything
    else; found by its name unless told. report: an HTML page to write. Classes of the data that the model does not
    have are not counted, and said. Returns the JSON object that `handful evaluate --json` prints. Raises DataError or
    UnknownName.
    """
    from handful.training.distributed import ready

    began = time.monotonic()
    if rule not in RULES:
        Confusion(1).iou(rule)  # raises, naming them
    loaded = from_folder(model)
    if loaded.meta.get("task") != "segment":
        raise DataError(f"{model} is no segmentation model; `handful evaluate` asks it about photos, a folder a class")
    classes = tuple(loaded.classes)
    which = background_of(classes, background)
    dataset = held(formats.read(data, format=format, **options))
    other = not_counted(dataset, data, classes)
    chosen = chosen_split(dataset, split)
    samples = split_of(dataset, chosen)
    network = ready(loaded.network, device)
    read = labels_of(dataset, classes)
    worst = Worst(shown=report is not None)
    found = measured(network, samples, read, classes, rule=rule, background=which, total=len(samples), worst=worst)
    about = loaded.meta
    result = {
        "schema_version": 1,
        "task": "segment",
        **found,
        "params": about.get("params"),
        "macs": about.get("macs"),
        "seed": about.get("seed"),
        "minutes": about.get("minutes"),
        "model": str(model),
        "data": str(data),
        "split": chosen or None,
        "not_counted": other,
        "seconds": round(time.monotonic() - began, 2),
    }
    if report is not None:
        write(Path(report), result, worst)
    return result
