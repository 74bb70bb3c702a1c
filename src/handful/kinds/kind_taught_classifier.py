"""A taught classifier: NEMO on a pre-trained backbone, taught from a handful of images; it can say "none of these"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import JSONObject, StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.errors import DataError, HandfulError
from handful.evaluation import Evaluation
from handful.image import Image
from handful.kinds import shared
from handful.kinds.contract import Classifier, Export, Verbs
from handful.kinds.taught import Taught
from handful.results import Classification, Origin
from handful.threads import over

DESCRIPTION = "a taught classifier"
TASKS = ("classify",)
MADE_BY = ("handful teach PHOTOS --out MODEL",)
VERBS = Verbs()


def owns(meta: Mapping[str, Any]) -> bool:
    """See handful.kinds.contract.Kind."""
    return bool(meta["network"].get("kind") == "taught")


class TaughtClassifier(Taught, Classifier):
    """As Classifier; it learns and unlearns images, and says None, "none of these", as its vigilance asks."""

    kind, task = "taught_classifier", "classify"

    def __init__(self, inner: Any, folder: Path | None = None) -> None:
        """inner: a handful.fewshot.classifier.FewShotClassifier."""
        self.inner, self.folder = inner, folder

    def _changed(self) -> None:
        self.inner.changed()

    @property
    def card(self) -> JSONObject:
        """See Model.card."""
        return {
            "kind": self.kind, "task": self.task, "classes": list(self.classes), "samples": dict(self.samples),
            "vigilance": self.vigilance, **self.inner.about, "backbone": self.inner.net.card.to_json(),
        }  # fmt: skip

    def predict(self, source: Source, *, vigilance: float | None = None) -> list[Classification]:
        """As Model.predict. vigilance: for this call, instead of the model's own."""
        return list(self.stream(source, vigilance=vigilance))

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None,
        vigilance: float | None = None,
    ) -> Iterator[Classification]:  # fmt: skip
        """As Model.stream. vigilance: for this call, instead of the model's own."""
        shared.check(vigilance)

        def one(asked: tuple[Image, Origin]) -> Classification:
            image, origin = asked
            scores = np.asarray(self.inner.scores(image, vigilance), np.float32)
            return Classification.of(scores, self.classes, origin)

        yield from over(one, images_of(source, on_error))

    def learn(self, source: Source, label: str) -> int:
        """Learn images of one class, all or none of them; how many. Takes effect at once; `save` keeps it."""
        from handful.curate.seen import mark

        embed = self.inner.embedder.teach_vector
        rows = list(over(lambda one: (embed(one[0]), mark(one[0].rgb_u8)), images_of(source)))
        self.inner.learn_vectors([z for z, _ in rows], [one for _, one in rows], [label] * len(rows))
        return len(rows)

    def unlearn(self, source: Source, label: str) -> int:
        """Take images back, as if they had never been learned; how many. Raises DataError, naming the first that never
        was; those before it are then learned again, so that nothing has changed."""
        return self._take_back([(source, label)])

    def unlearn_data(self, data: StrPath, *, classes: Sequence[str] | None = None, flat: bool = False) -> JSONObject:
        """Take back an image, or a folder of images, of the one class named; or of a folder of images for each class
        all, or only those of some classes. All or nothing. {"unlearned": how many}.

        flat: images lie in the folder itself, a file's name is its class. Raises DataError, naming the first that never
        was learned.
        """
        from handful.data import format_folder

        place = Path(data)
        if not flat and not format_folder.detect(place):
            if not classes or len(classes) != 1:
                raise DataError(f"{place} has no class folders, so its class is not known; name it: --class NAME")
            return {"unlearned": self._take_back([(place, classes[0])])}
        samples = format_folder.read(place, classes=classes, flat=flat)
        return {"unlearned": self._take_back([(s.path, str(s.label)) for s in samples])}

    def _take_back(self, rows: Sequence[tuple[Source, str]]) -> int:
        from handful.curate.seen import mark

        done: list[tuple[Any, str]] = []
        marks: list[tuple[Any, str]] = []
        try:
            for source, label in rows:
                for image, origin in images_of(source):
                    try:
                        vector = self.inner.take_back(image, label)
                    except HandfulError as error:
                        raise DataError(f"{origin.name}: {error}") from error
                    done.append((vector, label))
                    marks.append((mark(image.rgb_u8), label))
        except HandfulError:
            for vector, label in done:
                self.inner.nemo.learn(vector, label)
            raise
        if self.inner.seen is not None:
            for one, label in marks:
                self.inner.seen.drop(one, label)
        self.inner.changed()
        return len(done)

    def evaluate(
        self, data: StrPath, *, split: str | None = None, report: StrPath | None = None, format: str | None = None,
        vigilance: float | None = None, flat: bool = False, allow: Sequence[str] = (),
    ) -> Evaluation:  # fmt: skip
        """As Model.evaluate, on images with one class each. Classes that it was not taught count as unknown.

        vigilance: for this call. flat: images lie in the folder itself, a file's name is its class. allow: codes of
        errors to go on with.
        """
        from handful.fewshot.evaluate import evaluate

        shared.check(vigilance)
        folder = self.folder if self.folder is not None else Path("the model")
        result = evaluate(
            folder, Path(data), vigilance=vigilance, flat=flat, split=split, format=format,
            report=None if report is None else Path(report), loaded=self.inner, allow=allow,
        )  # fmt: skip
        return shared.evaluation("classify", result, ("accuracy", "open_f1", "unknown_auroc"))


def load(folder: Path) -> TaughtClassifier:
    """See handful.kinds.contract.Kind."""
    from handful.fewshot.classifier import FewShotClassifier

    return TaughtClassifier(FewShotClassifier.load(folder), folder)


def export(folder: Path) -> Export:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.exports import taught_classifier

    found: Export = taught_classifier(folder)
    return found


def from_bundle(bundle: Bundle, sessions: Mapping[str, Session]) -> Classifier:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.bundled import BundledClassifier

    found: Classifier = BundledClassifier(bundle, sessions)
    return found
