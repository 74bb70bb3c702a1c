"""How good a segmentation model is: its predictions at the size of the labels, against them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from handful.curate.seen import Mark, mark
from handful.data.finding import leaves_unusable
from handful.errors import DataError
from handful.image import fit
from handful.plotting import palette
from handful.progress import track, warn
from handful.threads import inference, over, side_by_side
from handful.training.evaluate import opened
from handful.training.loader_segment import Images, labels_of
from handful.training.metrics import RULES, Confusion, Contours, background_of, mean
from handful.training.report_page import Worst, painted
from handful.training.source import image_of, split_of, usable
from handful.types import Sample
from handful.words import counted

SIZE_RULE = (
    "each image is squashed to the model's frame, the scores are enlarged to the size of its labels (bilinear) and the "
    "largest is the prediction"
)

NOT_ASKED = np.zeros((0, 0), np.uint8)


def predict(network: Any, rgb_u8: np.ndarray, size_hw: tuple[int, int] | None = None) -> np.ndarray:
    """The class number of each pixel, (h, w) uint8, of an image (h, w, 3) uint8 RGB of any size.

    network: takes (1, h, w, 3) uint8 of its frame_hw, gives (1, k, h', w') logits. size_hw: of the prediction, the
    image's own unless given.
    """
    frame = np.array(fit(rgb_u8, network.frame_hw)[None])  # a copy: torch wants to be allowed to write
    device = next(iter(network.parameters())).device
    with inference():
        scores = network(torch.from_numpy(frame).to(device))
        size = size_hw or rgb_u8.shape[:2]
        if tuple(scores.shape[2:]) != tuple(size):
            scores = F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
        return np.asarray(scores[0].argmax(0).to(torch.uint8).cpu().numpy())


def confusion_of(network: Any, images: Images, most: int | None = None) -> Confusion:
    """Counts over images that are already at the frame's size, labels too: what is watched while training.

    most: only so many of the images.
    """
    found = Confusion(len(images.classes))

    def asked(i: int) -> tuple[int, np.ndarray, np.ndarray]:
        rgb, labels = images[i]
        return i, labels, predict(network, rgb)

    count = min(len(images), most or len(images))
    for i, labels, predicted in over(asked, range(count), workers=side_by_side(network)):
        found.add(labels, predicted, images.names[i])
    return found


def measured(
    network: Any, samples: Sequence[Sample], read: Callable[[Sample, tuple[int, int]], np.ndarray | None],
    classes: tuple[str, ...], *, rule: str, background: int | None, worst: Worst,
    marks: list[Mark] | None = None, leave_out: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Scores (see Confusion.scores, boundary_f besides) at the size of the labels.

    Each class also says how many images show it. "worst" names the images with the lowest mIoU over the classes that
    are in them or were predicted. read: as handful.training.loader_segment.labels_of gives it. worst: collects those
    images, for a page. marks: takes that of each image that is measured. leave_out: images or masks that cannot be used
    are left out, with a warning. Raises DataError when nothing is labeled.
    """
    colors = palette(classes, None if background is None else classes[background])
    counts, contours = Confusion(len(classes)), Contours(len(classes))
    images = unlabeled = unused = 0

    def asked(sample: Sample) -> tuple[Sample, np.ndarray, np.ndarray | None, np.ndarray] | None:
        try:
            image = image_of(sample)
            truth = read(sample, image.size_wh)
        except DataError as error:
            if not leave_out:
                raise usable(error) from error
            return None
        return sample, image.rgb_u8, truth, NOT_ASKED if truth is None else predict(network, image.rgb_u8)

    done = over(asked, samples, workers=side_by_side(network))
    for row in track(done, "measuring", len(samples)):
        if row is None:
            unused += 1
            continue
        sample, rgb_u8, truth, predicted = row
        if truth is None:
            unlabeled += 1
            continue
        if marks is not None:
            marks.append(mark(fit(rgb_u8, network.frame_hw)))
        alone = Confusion(len(classes))
        alone.add(truth, predicted, str(sample.mask_path or sample.path))
        counts.counts += alone.counts
        contours.add(truth, predicted)
        images += 1
        if (about := _of_image(alone, classes, sample.name or str(sample.path))) is not None:
            worst.add(about["miou"], about, functools.partial(_pictures, rgb_u8, truth, predicted, colors))
    if not counts.counts.sum():
        raise DataError(f"no pixel of {counted(images + unlabeled, 'image')} is labeled with a class of the model "
                        f"({', '.join(classes[:8])}); check that these are its masks")  # fmt: skip
    if unused:
        warn(f"left out: {counted(unused, 'image')} that cannot be used")
    if unlabeled:
        warn(f"not counted: {counted(unlabeled, 'image')} that nobody labeled")
    found = counts.scores(classes, rule=rule, background=background)
    for name, f, shown in zip(classes, contours.per_class, contours.found, strict=True):
        found["per_class"][name] |= {"boundary_f": f, "images": len(shown)}
    found["boundary_f"] = mean(contours.per_class)
    found["rule"]["size"] = SIZE_RULE
    return {**found, "confusion": counts.counts.tolist(), "images": images, "unlabeled": unlabeled,
            "worst": worst.rows()}  # fmt: skip


def _pictures(
    rgb_u8: np.ndarray, truth: np.ndarray, predicted: np.ndarray, colors: Sequence[tuple[int, int, int]]
) -> dict[str, np.ndarray]:
    return {"image": rgb_u8, "labeled": painted(truth, colors, rgb_u8), "predicted": painted(predicted, colors, rgb_u8)}


def _of_image(alone: Confusion, classes: tuple[str, ...], name: str) -> dict[str, Any] | None:
    iou = {classes[i]: v for i, v in enumerate(alone.iou()) if v is not None}
    if not iou:
        return None
    lowest = min(iou, key=lambda k: iou[k])
    return {"image": name, "miou": mean(iou.values()), "pixel_accuracy": alone.pixel_accuracy, "worst_class": lowest}


def evaluate(
    model: Path,
    data: Path,
    *,
    split: str | None = None,
    rule: str = "mmseg",
    background: str | None = None,
    masks: str | None = None,
    format: str | None = None,
    device: str = "cpu",
    report: Path | None = None,
    allow: Sequence[str] = (),
    **options: Any,
) -> dict[str, Any]:
    """Measure a segmentation model folder on a split of any data set: test unless named, or val where there is none.

    rule: one of handful.training.metrics.RULES, what absent classes count for. background: which class is everything
    else; found by its name unless given. masks: which folder of masks, where several lie side by side. report: an HTML
    page to write. allow: codes of errors to go on with; with one of unusable images or masks these are left
    out, with a warning. Classes of the data that the model does not have are not counted, with a warning. Returns the
    JSON object that `handful evaluate --json` prints. Raises DataError or UnknownName.
    """
    if rule not in RULES:
        Confusion(1).iou(rule)  # raises, naming them
    options |= {"masks": masks} if masks else {}
    subject = opened(model, data, ("segment",), split=split, format=format, device=device, allow=allow,
                     **options)  # fmt: skip
    which = background_of(subject.classes, background)
    samples, worst = split_of(subject.dataset, subject.split), Worst(shown=report is not None)
    marks: list[Mark] = []
    read = labels_of(subject.dataset, subject.classes)
    measures = measured(subject.network, samples, read, subject.classes, rule=rule, background=which, worst=worst,
                        marks=marks, leave_out=leaves_unusable(allow))  # fmt: skip
    return subject.result(measures, worst, report, marks)
