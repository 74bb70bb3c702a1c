"""How well pixels were classified: accuracy, IoU, contours; what a class that is absent counts for is a named rule.

Tools differ in what they do with a class that the images do not show, by up to 25 points of mIoU on one prediction, so
no mIoU is given here without its rule in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.pick import need, unknown
from handful.words import counted

IGNORE = 255
TOLERANCE = 0.008  # how far apart two contours may lie, as a share of the picture's diagonal (DAVIS)
BACKGROUNDS = ("background", "__background__", "_background_", "other")

_IOU = "IoU of a class is TP / (TP + FP + FN) over all labeled pixels of all images; mIoU is their mean over classes"
RULES = {
    "mmseg": f"{_IOU}; a class that is neither in the truth nor predicted is left out, one that is only predicted "
    "counts 0",
    "detectron2": f"{_IOU}; a class that is not in the truth is left out, even where it was predicted",
    "ultralytics": f"{_IOU}; a class that is not in the truth is left out, even where it was predicted; with a "
    "background and one class, that class alone counts",
    "paddle": f"{_IOU}; a class that is neither in the truth nor predicted counts 1, one that is only predicted 0",
    "gluon": f"{_IOU}; a class that is not in the truth counts 0, predicted or not",
}
WORDS = {
    "pixel_accuracy": "share of labeled pixels given their class",
    "mean_accuracy": "share of a class's pixels given that class, mean over the classes in the truth",
    "boundary_f": "harmonic mean of the precision and recall of contour pixels within 0.008 of the diagonal, for each "
    "class of the truth in each image; mean over images, then over classes",
}


class Confusion:
    """Counts of (truth, prediction), added up image by image.

    counts: (k, k) int64, a row a class of the truth, a column a class predicted. ignore: the value in truth that does
    not count.
    """

    def __init__(self, classes: int, *, ignore: int = IGNORE) -> None:
        if classes < 1:
            raise DataError(f"got {counted(classes, 'class')}; wanted at least one")
        self.ignore = ignore
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, where: str = "the truth") -> None:
        """Add pixels. truth, prediction: integers of one shape, class numbers 0..k-1; truth also `ignore`.

        Raises DataError, with `where`, for other shapes, kinds or values.
        """
        for what, a in (("truth", truth), ("prediction", prediction)):
            if not isinstance(a, np.ndarray) or a.dtype.kind not in "iu":
                raise DataError(f"the {what} of {where} must be integers, got {getattr(a, 'dtype', type(a).__name__)}")
        if truth.shape != prediction.shape:
            raise DataError(f"{where} is {truth.shape} and its prediction {prediction.shape}; wanted one size")
        k = len(self.counts)
        counted = truth != self.ignore
        theirs, ours = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        for what, a in (("", theirs), ("the prediction for ", ours)):
            if a.size and (a.min() < 0 or a.max() >= k):
                value = int(a.min() if a.min() < 0 else a.max())
                raise DataError(f"{what}{where} holds the value {value}; the classes are 0 to {k - 1}")
        self.counts += np.bincount(theirs * k + ours, minlength=k * k).reshape(k, k)

    @property
    def pixel_accuracy(self) -> float | None:
        """Share of pixels given their class; None when there is no pixel."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else None

    @property
    def accuracy(self) -> list[float | None]:
        """Of each class, the share of its pixels given it; None for a class that the truth does not have."""
        right, there = np.diag(self.counts).tolist(), self.counts.sum(axis=1).tolist()
        return [r / n if n else None for r, n in zip(right, there, strict=True)]

    def iou(self, rule: str = "mmseg", background: int | None = None) -> list[float | None]:
        """IoU of each class by a rule; None for a class that the rule leaves out.

        background: number of the class that is everything else. Raises UnknownName for a rule that does not exist.
        """
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        right = np.diag(self.counts)
        truth, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        union = truth + predicted - right
        value: list[float | None] = [r / u if u else None for r, u in zip(right.tolist(), union.tolist(), strict=True)]
        if rule in ("detectron2", "ultralytics"):
            value = [v if n else None for v, n in zip(value, truth.tolist(), strict=True)]
        if rule == "ultralytics" and background is not None and len(value) == 2:
            value[background] = None
        absent = {"paddle": 1.0, "gluon": 0.0}.get(rule)
        return [absent if v is None else v for v in value] if absent is not None else value

    def scores(
        self, classes: Sequence[str], *, rule: str = "mmseg", background: int | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Everything that follows from the counts, as JSON.

        miou_with_background is over all classes, miou_without_background over all but `background`; both are the same
        when no class is one. per_class: {name: {"iou", "accuracy", "pixels": in the truth}}, None where a rule leaves
        a class out.
        """
        if len(classes) != len(self.counts):
            raise DataError(f"got {len(classes)} names for {counted(len(self.counts), 'class')}; wanted one each")
        iou, accuracy = self.iou(rule, background), self.accuracy
        pixels = self.counts.sum(axis=1).tolist()
        rows = zip(classes, iou, accuracy, pixels, strict=True)
        return {
            "miou_with_background": mean(iou),
            "miou_without_background": mean(v for i, v in enumerate(iou) if i != background),
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": mean(accuracy),
            "per_class": {name: {"iou": i, "accuracy": a, "pixels": n} for name, i, a, n in rows},
            "background": None if background is None else classes[background],
            "rule": {"name": rule, "miou": RULES[rule], **WORDS},
        }


def mean(values: Any) -> float | None:
    """The mean of what is not None; None when nothing is."""
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def background_of(classes: Sequence[str], named: str | None = None) -> int | None:
    """Number of the class that is everything else: the one named, or else the first that is called so, or None.

    Raises UnknownName for a name that is no class.
    """
    if named is not None:
        if named not in classes:
            raise unknown("class", named, classes)
        return list(classes).index(named)
    return next((i for i, name in enumerate(classes) if name.casefold() in BACKGROUNDS), None)


class Contours:
    """F of contours, an image at a time (Csurka et al., "What is a good evaluation measure for semantic
    segmentation?", BMVC 2013, with the contours and the tolerance of DAVIS; Perazzi et al., CVPR 2016).
    """

    def __init__(self, classes: int, *, ignore: int = IGNORE, tolerance: float = TOLERANCE) -> None:
        self.ignore, self.tolerance = ignore, tolerance
        self.found: list[list[float]] = [[] for _ in range(classes)]

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add an image: (h, w) class numbers both; pixels to ignore are set to no class in both."""
        void = truth == self.ignore
        for i in np.unique(truth[~void]).tolist():
            self.found[i].append(boundary_f((prediction == i) & ~void, (truth == i) & ~void, self.tolerance))

    @property
    def per_class(self) -> list[float | None]:
        """The mean over the images that show a class; None for a class that none shows."""
        return [mean(values) for values in self.found]


def boundary_f(prediction: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """F of the contours of two masks, (h, w) bool, 0..1; 1 when neither has one, 0 when only one has.

    tolerance: a share of the diagonal, rounded up to whole pixels.
    """
    cv2 = need("cv2", "train")
    radius = int(np.ceil(tolerance * float(np.hypot(*truth.shape))))
    at = np.arange(-radius, radius + 1)
    disk = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(np.uint8)
    ours, theirs = _contour(prediction), _contour(truth)
    n_ours, n_theirs = int(ours.sum()), int(theirs.sum())
    if not n_ours or not n_theirs:
        return float(n_ours == n_theirs)
    precision = int((ours & cv2.dilate(theirs, disk)).sum()) / n_ours
    recall = int((theirs & cv2.dilate(ours, disk)).sum()) / n_theirs
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask: np.ndarray) -> np.ndarray:
    """(h, w) uint8, 1 where a pixel differs from the one to its right, below it or both."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edge = (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])
    edge[-1, -1] = False
    return np.asarray(edge, dtype=np.uint8)
