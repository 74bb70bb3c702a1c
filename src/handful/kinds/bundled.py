"""A compiled bundle as a model: NumPy, Pillow and its runtime, without torch and without the model it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from handful.arrays import U8, JSONObject, StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.detection.compiled import CompiledDetector
from handful.detection.scoring import MIN_SCORE
from handful.errors import DataError, HandfulError, UsageError
from handful.fewshot.nemo import none_below
from handful.image import Image, fit
from handful.kinds import shared
from handful.kinds.contract import Classifier, Detector, Segmenter
from handful.results import Classification, Detections, Origin, Segmentation
from handful.threads import over

ROWS_AT_ONCE = 64


class Bundled:
    """What every bundle is: it answers, and everything else is asked of the model that it was compiled from."""

    kind: str
    task: str
    folder: Path | None
    runtime: str

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]) -> None:
        self.bundle, self.sessions = bundle, dict(sessions)
        self.kind, self.task, self.folder, self.runtime = bundle.kind, bundle.task, bundle.folder, bundle.runtime
        self.after: Any = bundle.meta.get("postprocessing") or {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of its scores."""
        return self.bundle.classes

    @property
    def card(self) -> JSONObject:
        """See Model.card."""
        keys = ("name", "classes", "runtime", "precision", "preprocessing", "postprocessing", "card", "versions")
        return {"kind": self.kind, "task": self.task, **{key: self.bundle.meta.get(key) for key in keys}}

    def _not_here(self, verb: str) -> NoReturn:
        home = self.bundle.model or "MODEL"
        raise UsageError(f"{self.folder} is a bundle, which was compiled from a model; to {verb}, give the model "
                         f"itself: {home}")  # fmt: skip

    def evaluate(self, data: StrPath, **how: Any) -> NoReturn:
        """Raises UsageError: the model itself is evaluated."""
        self._not_here("evaluate")

    def compile(self, runtime: str, precision: str = "fp32") -> NoReturn:
        """Raises UsageError: the model itself is compiled."""
        self._not_here("compile for another runtime")

    def save(self, folder: StrPath) -> NoReturn:
        """Raises UsageError: a bundle is copied as a folder."""
        raise UsageError(f"{self.folder} is a bundle: copy its folder; to save the model, give the model itself: "
                         f"{self.bundle.model or 'MODEL'}")  # fmt: skip


class OfOneGraph(Bundled):
    """A bundle with one graph, which takes a frame and gives scores."""

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]) -> None:
        super().__init__(bundle, sessions)
        (graph,) = bundle.graphs
        self._session, self._input, self._output = sessions[graph.name], graph.inputs[0], graph.outputs[0].name

    def scores(self, rgb_u8: np.ndarray) -> np.ndarray:
        """What the graph says of an image (h, w, 3) uint8 RGB of any size: float32, its shape as the graph's port."""
        height, width = self._input.shape[1:3]
        frame = np.ascontiguousarray(fit(rgb_u8, (height, width))[None])
        return self._session.run({self._input.name: frame})[self._output]


class BundledClassifier(OfOneGraph, Classifier):
    """As Classifier; taught ones say "none of these", as the vigilance they were compiled with asks."""

    @property
    def vigilance(self) -> float | None:
        """How careful it is unless a call says otherwise; None for a model that always names a class."""
        value = self.after.get("vigilance")
        return None if value is None else float(value)

    def predict(self, source: Source, *, vigilance: float | None = None) -> list[Classification]:
        """As Model.predict. vigilance: for this call, instead of the model's own."""
        return list(self.stream(source, vigilance=vigilance))

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None,
        vigilance: float | None = None,
    ) -> Iterator[Classification]:  # fmt: skip
        """As Model.stream. vigilance: for this call, instead of the model's own. Raises UsageError for a model that has
        none."""
        shared.check(vigilance)
        if vigilance is not None and self.vigilance is None:
            raise UsageError(
                f"{self.folder} was compiled from a trained model, which has no vigilance; leave that option out"
            )

        def answer(one: tuple[Image, Origin]) -> Classification:
            row = self.scores(one[0].rgb_u8)[0]
            if vigilance is not None:
                row[-1] = float(self.after["gain"]) * none_below(float(self.after["expected"]), vigilance)
            return Classification.of(row, self.classes, one[1])

        yield from over(answer, images_of(source, on_error))


class BundledSegmenter(OfOneGraph, Segmenter):
    """As Segmenter."""

    @property
    def background(self) -> str | None:
        """The class that is everything else, if there is one."""
        value = self.after.get("background")
        return None if value is None else str(value)

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None
    ) -> Iterator[Segmentation]:
        """As Model.stream."""

        def answer(one: tuple[Image, Origin]) -> Segmentation:
            height, width = one[0].rgb_u8.shape[:2]
            ids = largest(self.scores(one[0].rgb_u8)[0], (height, width))
            return Segmentation(ids, self.classes, one[1], self.background)

        yield from over(answer, images_of(source, on_error))


def largest(scores: np.ndarray, size_hw: tuple[int, int]) -> U8:
    """(k, h, w) float32 -> (height, width) uint8: which is largest, after bilinear resizing (half-pixel centers, not
    antialiased), as torch's interpolate with align_corners=False does it."""
    _, high, wide = scores.shape
    (above, below, down), (left, right, across) = _places(high, size_hw[0]), _places(wide, size_hw[1])
    out = np.empty(size_hw, np.uint8)
    for start in range(0, size_hw[0], ROWS_AT_ONCE):  # all rows at once would be the image's size times the classes
        some = slice(start, start + ROWS_AT_ONCE)
        share = down[some, None]
        rows = scores[:, above[some]] * (1 - share) + scores[:, below[some]] * share
        out[some] = (rows[:, :, left] * (1 - across) + rows[:, :, right] * across).argmax(axis=0)
    return out


def _places(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` places along an axis of `count` samples: the two samples around it, and the share of the
    second."""
    at = np.maximum((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(count / size) - 0.5, 0)
    first = np.minimum(at.astype(np.int64), count - 1)
    return first, np.minimum(first + 1, count - 1), (at - first).astype(np.float32)


class BundledDetector(Bundled, Detector):
    """As Detector; it can tell of things that are none of its classes. It has boxes alone, no masks."""

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]) -> None:
        super().__init__(bundle, sessions)
        plan = bundle.meta.get("plan")
        if not isinstance(plan, dict):
            raise DataError(f"{bundle.folder} has no plan for its graphs; compile the detector again")
        self.inner = CompiledDetector(plan, self.sessions)

    @property
    def vigilance(self) -> float:
        """How careful it is unless a call says otherwise: 0 to 10, in practice 1.2 to 4.1."""
        return float(self.inner.vigilance)

    @property
    def score_threshold(self) -> float:
        """Score below which a box is left out unless a call says otherwise."""
        return self.inner.score_threshold

    def predict(
        self, source: Source, *, vigilance: float | None = None, score_threshold: float | None = None,
        unknown: bool = False, masks: bool | str = False,
    ) -> list[Detections]:  # fmt: skip
        """As Model.predict; options as in `stream`."""
        how: dict[str, Any] = {"vigilance": vigilance, "score_threshold": score_threshold, "unknown": unknown}
        return list(self.stream(source, masks=masks, **how))

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None,
        vigilance: float | None = None, score_threshold: float | None = None, unknown: bool = False,
        masks: bool | str = False,
    ) -> Iterator[Detections]:  # fmt: skip
        """As Model.stream.

        vigilance, score_threshold: for this call, instead of the model's own. unknown: also boxes that are none of the
        classes. Raises UsageError for masks, which no bundle gives.
        """
        shared.check(vigilance)
        if masks:
            raise UsageError(f"{self.folder} is a bundle, which gives boxes and no masks; for masks give the model it "
                             f"was compiled from: {self.bundle.model or 'MODEL'}")  # fmt: skip
        threshold = None if score_threshold is None else shared.check_score(score_threshold, 0.0)

        def answer(one: tuple[Image, Origin]) -> Detections:
            found = self.inner.detect(one[0].rgb_u8, vigilance=vigilance, score_threshold=threshold, unknown=unknown)
            return replace(found, size_wh=one[1].size_wh, origin=one[1])

        yield from over(answer, images_of(source, on_error))


def detector_program(bundle: Bundle, sessions: Mapping[str, Session]) -> Callable[[np.ndarray], Detections]:
    """As handful.device.compile.ModelSource.program: all that is found, however doubtful."""
    inner = BundledDetector(bundle, sessions).inner
    return lambda rgb: inner.detect(rgb, unknown=True, score_threshold=MIN_SCORE)
