"""Evaluation of video object segmentation: the DAVIS measures J (region) and F (contour).

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016; several
objects as in Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", arXiv:1704.00675. J is
intersection over union. F is the harmonic mean of the precision and recall of contour pixels, which may lie a little
beside one another: 0.008 of the frame's diagonal, 8 px at 854 x 480.

Nothing against nothing scores 1, so a wrong folder could pass for a perfect tracker: `score_clip` therefore refuses a
missing frame and a truth without objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from handful.errors import DataError
from handful.pick import need
from handful.words import counted

TOLERANCE = 0.008  # how far apart two contours may lie, as a share of the frame's diagonal


@dataclass(frozen=True, eq=False)
class Score:
    """One measure over the frames of a clip, or a mean of such over objects.

    mean: over frames, 0..1. recall: the share of frames above 0.5. decay: the mean of the first quarter of the frames
    minus that of the last; below 0 when it gets better. per_frame: (t,) float64; empty for a mean over objects.
    """

    mean: float
    recall: float
    decay: float
    per_frame: np.ndarray

    def as_dict(self) -> dict[str, float]:
        """mean, recall and decay."""
        return {"mean": self.mean, "recall": self.recall, "decay": self.decay}


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object through one clip."""

    j: Score
    f: Score


@dataclass(frozen=True)
class ClipScore:
    """What one clip scored. objects: by id; with merge, one object with the id 1."""

    objects: Mapping[int, ObjectScore]

    @property
    def j(self) -> Score:
        """The mean over objects of J."""
        return mean_over(o.j for o in self.objects.values())

    @property
    def f(self) -> Score:
        """The mean over objects of F."""
        return mean_over(o.f for o in self.objects.values())

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2 of the means."""
        return (self.j.mean + self.f.mean) / 2


def boundary(mask: np.ndarray) -> np.ndarray:
    """The contour of a mask, as DAVIS draws it: where it differs from the pixel to the right, below or both.

    mask: (h, w) bool -> (h, w) bool. The pixels lie on the upper and left side of each edge; the last row looks only
    to the right, the last column only down, and the last pixel is never one. Raises DataError for any other array.
    """
    _bool_mask(mask, "the mask")
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def j_of(pred: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """Intersection over union of two masks, 0..1; 1 when both are empty.

    pred, truth: (h, w) bool. void: (h, w) bool, pixels that do not count. Raises DataError for other arrays or sizes.
    """
    pred, truth = _counted(pred, truth, void)
    union = int(np.count_nonzero(pred | truth))
    return int(np.count_nonzero(pred & truth)) / union if union else 1.0


def f_of(
    pred: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, *, tolerance: float = TOLERANCE,
    crop: bool = True,
) -> float:  # fmt: skip
    """F of the contours of two masks, 0..1; 1 when neither has one, 0 when only one has.

    pred, truth: (h, w) bool. void: (h, w) bool, pixels set to background in both. tolerance: a share of the diagonal,
    rounded up to whole pixels; 1 or more is pixels. crop: look only where there is a mask, which changes the time and
    not one bit of the result. Raises DataError for other arrays, sizes or a tolerance of 0 or less.
    """
    pred, truth = _counted(pred, truth, void)
    radius = _radius(pred.shape, tolerance)
    if crop:
        window = _window(pred | truth)
        pred, truth = pred[window], truth[window]
    ours, theirs = boundary(pred), boundary(truth)
    n_ours, n_theirs = int(np.count_nonzero(ours)), int(np.count_nonzero(theirs))
    if n_ours == 0 or n_theirs == 0:
        return float(n_ours == n_theirs)
    precision = np.count_nonzero(ours & _grown(theirs, radius)) / n_ours
    recall = np.count_nonzero(theirs & _grown(ours, radius)) / n_theirs
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def score_of(per_frame: Sequence[float] | np.ndarray) -> Score:
    """Mean, recall and decay of one measure, from its value in each frame in order of time.

    Raises DataError when there are none, or one is NaN.
    """
    values = np.asarray(per_frame, dtype=np.float64)
    if values.ndim != 1 or not values.size or np.isnan(values).any():
        raise DataError(f"wanted a number for each frame, got {values.tolist()!r:.80}")
    # DAVIS keeps these in uint8, so from 257 frames on its quarters are not the ones it means
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return Score(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()), values)


def mean_over(scores: Iterable[Score]) -> Score:
    """The mean of each figure. DAVIS 2017 averages over all objects of all clips, not over clips.

    Raises DataError when there are none.
    """
    found = list(scores)
    if not found:
        raise DataError("there is no score to average; wanted at least one object")
    if len(found) == 1:
        return found[0]
    mean, recall, decay = np.mean([[s.mean, s.recall, s.decay] for s in found], axis=0).tolist()
    return Score(mean, recall, decay, np.zeros(0))


def score_clip(
    pred: Sequence[np.ndarray | None],
    truth: Sequence[np.ndarray | None],
    *,
    merge: bool = False,
    ignore: int | None = 255,
    ends: bool = False,
    tolerance: float = TOLERANCE,
    name: str = "the clip",
) -> ClipScore:
    """J and F of a followed clip.

    pred, truth: label ids of every frame in order of time, each (h, w) of integers or bool, 0 background; a sequence
    that reads a file when indexed does. The objects are the ids of the first frame of truth; ids that only come later
    are background. merge: everything above 0 is one object, as in DAVIS 2016. ignore: this id in truth is nobody's and
    does not count; DAVIS 2016 writes its object as 255, so its files want merge=True, ignore=None. ends: whether the
    first frame, which was given, and the last count too; in the semi-supervised task they do not. tolerance: as in
    `f_of`. name: what to call the clip in errors.

    Raises DataError when a frame is missing or of another size, when truth has no object (in its first frame, or in
    all that count), when pred has an id that is no object of truth, or when there are too few frames.
    """
    if len(pred) != len(truth):
        raise DataError(
            f"{name} has {counted(len(truth), 'frame')} and {len(pred)} of them were predicted; wanted one for each"
        )
    if len(truth) < (1 if ends else 3):
        raise DataError(f"{name} has {counted(len(truth), 'frame')}; wanted at least {1 if ends else 3}"
                        + ("" if ends else ", for the first and the last do not count"))  # fmt: skip
    first = _ids(truth[0], f"frame 0 of the truth of {name}")
    objects = _objects(first, merge, ignore, name)
    j: dict[int, list[float]] = {i: [] for i in objects}
    f: dict[int, list[float]] = {i: [] for i in objects}
    something = False
    for t in range(0 if ends else 1, len(truth) - (0 if ends else 1)):
        theirs = _ids(truth[t], f"frame {t} of the truth of {name}", first.shape)
        ours = _ids(pred[t], f"frame {t} of the prediction of {name}", first.shape)
        void = theirs == ignore if ignore is not None else None
        if not merge:
            extra = sorted(set(np.unique(ours).tolist()) - {0, *objects})
            if extra:
                raise DataError(f"frame {t} of the prediction of {name} has the ids {extra[:5]}; "
                                f"wanted 0 and {objects}, the objects of the first frame")  # fmt: skip
        for i in objects:
            a, b = (ours > 0, theirs > 0) if merge else (ours == i, theirs == i)
            something = something or bool((b if void is None else b & ~void).any())
            j[i].append(j_of(a, b, void))
            f[i].append(f_of(a, b, void, tolerance=tolerance))
    if not something:
        raise DataError(f"no frame of {name} that counts has an object in its truth, so nothing predicted would be "
                        "perfect; check that these are the masks")  # fmt: skip
    return ClipScore({i: ObjectScore(score_of(j[i]), score_of(f[i])) for i in objects})


def _objects(first: np.ndarray, merge: bool, ignore: int | None, name: str) -> list[int]:
    ids: list[int] = [i for i in np.unique(first).tolist() if i != 0 and i != ignore]
    if not ids:
        hint = ""
        if ignore is not None and bool((first == ignore).any()):
            hint = f", only {ignore}, which is to be ignored; masks of DAVIS 2016 want merge=True, ignore=None"
        raise DataError(f"the first frame of the truth of {name} has no object{hint or '; check that it is a mask'}")
    return [1] if merge else ids


def _ids(frame: np.ndarray | None, what: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    if frame is None:
        raise DataError(f"{what} is missing; wanted a mask for every frame")
    if not isinstance(frame, np.ndarray) or frame.ndim != 2 or frame.dtype.kind not in "biu" or not frame.size:
        raise DataError(f"{what} must be label ids (h, w), got {_got(frame)}")
    if shape is not None and frame.shape != shape:
        raise DataError(f"{what} is {frame.shape[1]} x {frame.shape[0]} px and the first frame of the truth "
                        f"{shape[1]} x {shape[0]}; wanted one size: resize the prediction, by nearest")  # fmt: skip
    return frame.astype(np.uint8) if frame.dtype == bool else frame


def _got(value: object) -> str:
    shape, dtype = getattr(value, "shape", "unknown"), getattr(value, "dtype", "unknown")
    return f"{type(value).__name__} of shape {shape} and dtype {dtype}"


def _bool_mask(mask: np.ndarray, what: str) -> None:
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != bool or not mask.size:
        raise DataError(f"{what} must be bool (h, w), got {_got(mask)}")


def _counted(pred: np.ndarray, truth: np.ndarray, void: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    for mask, what in ((pred, "the prediction"), (truth, "the truth"), *([(void, "void")] if void is not None else [])):
        _bool_mask(mask, what)
        if mask.shape != truth.shape:
            raise DataError(f"{what} is {mask.shape} and the truth {truth.shape}; wanted masks of one size")
    return (pred, truth) if void is None else (pred & ~void, truth & ~void)


def _radius(shape: tuple[int, ...], tolerance: float) -> int:
    if not tolerance > 0:
        raise DataError(f"the tolerance is {tolerance}; wanted a share of the diagonal, or pixels from 1 on")
    return int(tolerance) if tolerance >= 1 else int(np.ceil(tolerance * float(np.hypot(shape[0], shape[1]))))


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The box of a mask and a pixel around it: contours lie up to a pixel above and left of it, none beyond."""
    sides = []
    for axis in (1, 0):
        at = np.flatnonzero(mask.any(axis=axis))
        if not at.size:
            return slice(None), slice(None)
        sides.append(slice(max(int(at[0]) - 1, 0), int(at[-1]) + 2))
    return sides[0], sides[1]


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    cv2 = need("cv2", "dream")
    grown: np.ndarray = cv2.dilate(mask.view(np.uint8), _disk(radius)).view(bool)
    return grown


@lru_cache(maxsize=8)
def _disk(radius: int) -> np.ndarray:
    """(2r + 1, 2r + 1) uint8: the pixels whose centers are within the radius."""
    at = np.arange(-radius, radius + 1)
    return (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(np.uint8)
