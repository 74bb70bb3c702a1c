"""A taught detector, Irene: a proposer finds things of any kind, NEMO says which taught class each is, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import JSONObject, StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.errors import HandfulError
from handful.evaluation import Evaluation
from handful.image import Image
from handful.kinds import shared
from handful.kinds.contract import Detector, Export, Verbs
from handful.kinds.taught import Taught
from handful.results import Detections, Origin, Patch
from handful.threads import over

DESCRIPTION = "a taught detector"
TASKS = ("detect",)
MADE_BY = ("handful teach BOXES --out MODEL",)
# see handful.device.compile.ModelSource: a detector is several graphs, and these know how they go together
PROGRAM, REFERENCE = "handful.kinds.bundled:detector_program", "handful.kinds.exports:detector_reference"
VERBS = Verbs({"flow": "a detector is several networks, and the flow is drawn through one; give a trained one"})


def owns(meta: Mapping[str, Any]) -> bool:
    """See handful.kinds.contract.Kind."""
    return bool(meta["network"].get("kind") == "irene")


class TaughtDetector(Taught, Detector):
    """As Detector; it learns and unlearns boxes, and can tell of things that are none of its classes."""

    kind, task = "taught_detector", "detect"

    def __init__(self, inner: Any, folder: Path | None = None) -> None:
        """inner: a handful.detection.irene.Irene."""
        self.inner, self.folder = inner, folder
        self._modes: dict[str, Any] = {}

    def _changed(self) -> None:
        self._modes.clear()

    def _at(self, scale_mode: str | None) -> Any:
        """The detector, looking at images in another way than it was taught."""
        if scale_mode is None:
            return self.inner
        if scale_mode not in self._modes:
            self._modes[scale_mode] = type(self.inner).load(shared.on_disk(self.folder, "ask"), scale_mode)
        other = self._modes[scale_mode]
        other.nemo, other.examples, other.bank = self.inner.nemo, self.inner.examples, self.inner.bank
        other.score_threshold, other.seen = self.inner.score_threshold, self.inner.seen
        return other

    @property
    def score_threshold(self) -> float:
        """Score below which a box is left out unless a call says otherwise; calibrated on the taught images."""
        return float(self.inner.score_threshold)

    @property
    def mode(self) -> str:
        """How many crops an image is worth: "accurate", "fast", or "every_box", as models before 0.4."""
        return str(self.inner.embedder.settings.mode)

    @property
    def card(self) -> JSONObject:
        """See Model.card."""
        return {
            "kind": self.kind, "task": self.task, "classes": list(self.classes), "samples": dict(self.samples),
            "vigilance": self.vigilance, "score_threshold": self.score_threshold, "mode": self.mode,
            "proposer": self.inner.proposer.about, **self.inner.about,
        }  # fmt: skip

    def predict(
        self, source: Source, *, vigilance: float | None = None, score_threshold: float | None = None,
        unknown: bool = False, masks: bool | str = False, scale_mode: str | None = None,
    ) -> list[Detections]:  # fmt: skip
        """As Model.predict; options as in `stream`."""
        return list(self.stream(source, vigilance=vigilance, score_threshold=score_threshold, unknown=unknown,
                                masks=masks, scale_mode=scale_mode))  # fmt: skip

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None,
        vigilance: float | None = None, score_threshold: float | None = None, unknown: bool = False,
        masks: bool | str = False, scale_mode: str | None = None,
    ) -> Iterator[Detections]:  # fmt: skip
        """As Model.stream.

        vigilance, score_threshold: for this call, instead of the model's own. unknown: also boxes that are none of the
        classes. masks: True for the pixels of each, in the detector's own way; "head", "grabcut" or "none" for another.
        scale_mode: how an image is looked at, instead of how it was taught: "whole", one scale; "pyramid", all of every
        scale; "focus", finer ones where something is small.
        """
        shared.check(vigilance)
        inner = self._at(scale_mode)
        threshold = None if score_threshold is None else shared.check_score(score_threshold, 0.0)

        def one(asked: tuple[Image, Origin]) -> Detections:
            image, origin = asked
            found = inner.detect(
                image.rgb_u8, vigilance=vigilance, score_threshold=threshold, unknown=unknown, masks=masks
            )
            own = None if found.masks is None else tuple(Patch(m.left_top, m.pixels) for m in found.masks)
            return Detections(
                found.classes, found.xyxy_px, found.score, found.label, found.margin, found.vectors, own,
                origin.size_wh, origin,
            )  # fmt: skip

        inner.solution()  # both once, before images are asked about side by side
        if masks:
            inner.masker(None if masks is True else str(masks))
        yield from over(one, images_of(source, on_error))

    def explain(self, found: Detections, at: int, n: int = 5) -> list[JSONObject]:
        """The n taught boxes most like detection `at`, nearest first: class, image, box_px, cosine."""
        rows: list[JSONObject] = self.inner.explain(found, at, n)
        return rows

    def learn(self, image: Image | StrPath, boxes: np.ndarray, labels: list[str], *, name: str = "") -> None:
        """Learn boxes (n, 4) px of one image, all or none of them; a class name each. Takes effect at once."""
        (one, origin), *_ = images_of(image)
        self._modes.clear()
        self.inner.learn(one.rgb_u8, np.asarray(boxes, np.float64), labels, name or origin.name)

    def unlearn(
        self, image: Image | StrPath, box: tuple[float, float, float, float], label: str, *, name: str = ""
    ) -> None:
        """Take one box back, as if it had never been learned. Raises DataError if it never was."""
        (one, origin), *_ = images_of(image)
        self._modes.clear()
        self.inner.unlearn(one.rgb_u8, box, label, name or origin.name)

    def unlearn_data(
        self, data: StrPath, *, classes: Sequence[str] | None = None, split: str | None = None,
        format: str | None = None, images: StrPath | None = None,
    ) -> JSONObject:  # fmt: skip
        """Take back the boxes of a data set that were learned, or only those of some classes.

        {"unlearned": how many, "never_learned": boxes that were not}. split, format, images: as in `evaluate`. Raises
        DataError where none of its boxes was learned.
        """
        from handful.detection.teaching import unlearn

        self._modes.clear()
        options = {} if images is None else {"images": str(images)}
        found: JSONObject = unlearn(self.inner, Path(data), classes=classes, split=split, format=format, **options)
        return found

    def set_score_threshold(self, score_threshold: float) -> None:
        """The model's own score threshold from now on; `save` keeps it. Raises DataError, telling the range."""
        self.inner.score_threshold = shared.check_score(score_threshold, 0.0)

    def set_mode(self, mode: str) -> None:
        """How many crops an image is worth from now on; `save` keeps it, and nothing is taught anew. Raises
        UnknownName."""
        embedder = self.inner.embedder
        embedder.settings = embedder.settings.at(mode)
        self._modes.clear()

    def evaluate(
        self, data: StrPath, *, split: str | None = None, report: StrPath | None = None, format: str | None = None,
        true_boxes: bool = False, vigilance: float | None = None, masks: bool | str = False,
        images: StrPath | None = None, scale_mode: str | None = None, allow: Sequence[str] = (),
    ) -> Evaluation:  # fmt: skip
        """As Model.evaluate, on any data set with boxes. Classes that it was not taught count as unknown.

        true_boxes: ask about these, to see how well they are named apart from how well they are found. masks: also
        COCO's table of masks. images: the folder of COCO's images, where they do not lie beside the JSON. scale_mode:
        as in `stream`. allow: codes of errors to go on with.
        """
        from handful.detection.evaluate import evaluate

        shared.check(vigilance)
        options = {} if images is None else {"images": str(images)}
        result = evaluate(
            self.folder or Path("the model"), Path(data), split=split, format=format,
            proposer="boxes" if true_boxes else None, vigilance=vigilance, masks=masks, detector=self._at(scale_mode),
            report=None if report is None else Path(report), allow=allow, **options,
        )  # fmt: skip
        return shared.evaluation("detect", result, (*shared.COCO, "f1", "accuracy"))


def load(folder: Path) -> TaughtDetector:
    """See handful.kinds.contract.Kind."""
    from handful.detection.irene import Irene

    return TaughtDetector(Irene.load(folder), folder)


def export(folder: Path) -> Export:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.exports import taught_detector

    found: Export = taught_detector(folder)
    return found


def from_bundle(bundle: Bundle, sessions: Mapping[str, Session]) -> Detector:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.bundled import BundledDetector

    found: Detector = BundledDetector(bundle, sessions)
    return found
