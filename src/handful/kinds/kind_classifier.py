"""A trained classifier: what an image shows, always one of its own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.errors import HandfulError
from handful.evaluation import Evaluation
from handful.image import Image, fit
from handful.kinds import shared
from handful.kinds.contract import Classifier, Export, Verbs
from handful.kinds.trained import Trained
from handful.results import Classification, Origin
from handful.threads import inference, over

DESCRIPTION = "a trained classifier"
TASKS = ("classify",)
MADE_BY = ("handful train classify DATA --out MODEL",)
VERBS = Verbs(shared.TRAINED_LACKS)


def owns(meta: Mapping[str, Any]) -> bool:
    """See handful.kinds.contract.Kind."""
    return meta.get("task") == "classify"


class TrainedClassifier(Trained, Classifier):
    """As Classifier; it has no "none of these"."""

    kind, task = "classifier", "classify"

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None
    ) -> Iterator[Classification]:
        """As Model.stream."""
        import torch

        def one(asked: tuple[Image, Origin]) -> Classification:
            image, origin = asked
            # a copy: torch wants to be allowed to write
            frame = np.array(fit(image.rgb_u8, self.network.frame_hw)[None])
            with inference():
                scores = self.network(torch.from_numpy(frame))[0].float().numpy().copy()
            return Classification.of(scores, self.classes, origin)

        yield from over(one, images_of(source, on_error))

    def evaluate(
        self, data: StrPath, *, split: str | None = None, report: StrPath | None = None, format: str | None = None,
        torch_device: str = "cpu", allow: Sequence[str] = (),
    ) -> Evaluation:  # fmt: skip
        """As Model.evaluate, on any data set whose images have one class each. allow: codes of errors to go on with."""
        from handful.training.evaluate_classify import evaluate

        result = evaluate(
            self.on_disk("evaluate"), Path(data), split=split, report=None if report is None else Path(report),
            format=format, device=torch_device, allow=allow,
        )  # fmt: skip
        return shared.evaluation("classify", result, ("accuracy", "mean_accuracy", "accuracy_mirrored"))


def load(folder: Path) -> TrainedClassifier:
    """See handful.kinds.contract.Kind."""
    return TrainedClassifier.read(folder)


def export(folder: Path) -> Export:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.exports import classifier

    found: Export = classifier(folder)
    return found


def from_bundle(bundle: Bundle, sessions: Mapping[str, Session]) -> Classifier:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.bundled import BundledClassifier

    found: Classifier = BundledClassifier(bundle, sessions)
    return found
