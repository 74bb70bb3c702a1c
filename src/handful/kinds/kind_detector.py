"""A trained detector: boxes of its classes; and masks, where it was trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.errors import HandfulError, UsageError
from handful.evaluation import Evaluation
from handful.image import fit
from handful.kinds import shared
from handful.kinds.contract import Detector, Export, Verbs
from handful.kinds.trained import Trained
from handful.pick import need
from handful.results import Detections, Origin, Patch
from handful.threads import over

DESCRIPTION = "a trained detector"
TASKS = ("detect", "instance")
MADE_BY = (
    "handful train detect DATA --out MODEL",
    "handful train instance DATA --out MODEL",
)
NOT_COMPILED = (
    "how many things it finds follows from the image, which no phone runtime here takes as one graph; teach a detector "
    "instead, which compiles: handful teach DATA --out MODEL"
)
VERBS = Verbs({**shared.TRAINED_LACKS, "compile": NOT_COMPILED, "compare": NOT_COMPILED})
SCORE_THRESHOLD = 0.5  # what is shown unless told otherwise


def owns(meta: Mapping[str, Any]) -> bool:
    """See handful.kinds.contract.Kind."""
    return meta.get("task") in TASKS


class TrainedDetector(Trained, Detector):
    """As Detector; it has no "none of these", so no box is unknown."""

    kind, task = "detector", "detect"

    def __init__(self, network: Any, meta: dict[str, Any], folder: Path | None = None) -> None:
        super().__init__(network, meta, folder)
        self.task = str(meta.get("task"))

    def predict(self, source: Source, *, score_threshold: float | None = None) -> list[Detections]:
        """As Model.predict. score_threshold: score below which a box is left out, 0.5 unless told otherwise."""
        return list(self.stream(source, score_threshold=score_threshold))

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None,
        score_threshold: float | None = None,
    ) -> Iterator[Detections]:  # fmt: skip
        """As Model.stream. score_threshold: score below which a box is left out, 0.5 unless told otherwise."""
        threshold = shared.check_score(score_threshold, SCORE_THRESHOLD)
        yield from over(lambda one: self._found(one[0].rgb_u8, one[1], threshold), images_of(source, on_error))

    def _found(self, rgb_u8: np.ndarray, origin: Origin, threshold: float) -> Detections:
        from handful.training.evaluate_detect import predict

        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        boxes, scores, labels, rles = predict(self.network, fit(rgb_u8, self.network.frame_hw), size_wh)
        masks: tuple[Patch, ...] | None = None
        keep = np.flatnonzero(scores >= threshold)
        if self.task == "instance":
            mask_api = need("pycocotools.mask", "data")
            patches = {i: Patch.of(np.asarray(mask_api.decode(rles[i]), bool)) for i in keep.tolist()}
            keep = np.array([i for i in keep.tolist() if patches[i] is not None], np.int64)
            masks = tuple(p for i in keep.tolist() if (p := patches[i]) is not None)
        n = len(keep)
        return Detections(
            self.classes, np.asarray(boxes[keep], np.float64), np.asarray(scores[keep], np.float64),
            np.asarray(labels[keep], np.int64), np.full(n, np.inf), np.zeros((n, 0)), masks, size_wh, origin,
        )  # fmt: skip

    def evaluate(
        self, data: StrPath, *, split: str | None = None, report: StrPath | None = None, format: str | None = None,
        torch_device: str = "cpu", allow: Sequence[str] = (),
        images: StrPath | None = None,
    ) -> Evaluation:  # fmt: skip
        """As Model.evaluate, on any data set with boxes; with outlines or pixels, where the model gives masks.

        allow: codes of errors to go on with. images: the folder of COCO's images, where they do not lie beside the
        JSON.
        """
        from handful.training.evaluate_detect import evaluate

        options = {} if images is None else {"images": str(images)}
        result = evaluate(
            self.on_disk("evaluate"), Path(data), split=split, report=None if report is None else Path(report),
            format=format, device=torch_device, allow=allow, **options,
        )  # fmt: skip
        return shared.evaluation(self.task, result, shared.COCO)

    def compile(self, runtime: str, precision: str = "fp32") -> Bundle:
        """Raises UsageError: it cannot be compiled."""
        raise UsageError(f"{self.folder or 'the model'} is {DESCRIPTION}: {NOT_COMPILED}")


def load(folder: Path) -> TrainedDetector:
    """See handful.kinds.contract.Kind."""
    return TrainedDetector.read(folder)


def export(folder: Path) -> Export:
    """See handful.kinds.contract.Kind. Raises UsageError: it cannot be compiled."""
    raise UsageError(f"{folder} is {DESCRIPTION}: {NOT_COMPILED}")


def from_bundle(bundle: Bundle, sessions: Mapping[str, Session]) -> Detector:
    """See handful.kinds.contract.Kind. Raises UsageError: there are no such bundles."""
    raise UsageError(
        f"{bundle.folder} says that it was compiled from {DESCRIPTION}, and those cannot be compiled: {NOT_COMPILED}"
    )
