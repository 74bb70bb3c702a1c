"""A trained segmentation network: the class of each pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.arrays import StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source, images_of
from handful.errors import HandfulError
from handful.evaluation import Evaluation
from handful.image import Image
from handful.kinds import shared
from handful.kinds.contract import Export, Segmenter, Verbs
from handful.kinds.trained import Trained
from handful.results import Origin, Segmentation
from handful.threads import over

DESCRIPTION = "a trained segmentation model"
TASKS = ("segment",)
MADE_BY = ("handful train segment DATA --out MODEL",)
VERBS = Verbs(shared.TRAINED_LACKS)


def owns(meta: Mapping[str, Any]) -> bool:
    """See handful.kinds.contract.Kind."""
    return meta.get("task") == "segment"


class TrainedSegmenter(Trained, Segmenter):
    """As Segmenter."""

    kind, task = "segmenter", "segment"

    @property
    def background(self) -> str | None:
        """The class that is everything else, found by its name, if there is one."""
        from handful.training.metrics import background_of

        which = background_of(self.classes, None)
        return None if which is None else self.classes[which]

    def stream(
        self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None
    ) -> Iterator[Segmentation]:
        """As Model.stream."""
        from handful.training.evaluate_segment import predict

        background = self.background

        def one(asked: tuple[Image, Origin]) -> Segmentation:
            image, origin = asked
            return Segmentation(predict(self.network, image.rgb_u8), self.classes, origin, background)

        yield from over(one, images_of(source, on_error))

    def evaluate(
        self, data: StrPath, *, split: str | None = None, report: StrPath | None = None, format: str | None = None,
        rule: str = "mmseg", background: str | None = None, masks_in: str | None = None, torch_device: str = "cpu",
        allow: Sequence[str] = (), images: StrPath | None = None,
    ) -> Evaluation:  # fmt: skip
        """As Model.evaluate, on any data set with masks.

        rule: what absent classes count for, of handful.training.metrics.RULES. background: which class is everything
        else; found by its name unless told. masks_in: which folder of masks, where several lie side by side. allow:
        codes of errors to go on with. images: the folder of COCO's images, where they do not lie beside the JSON.
        """
        from handful.training.evaluate_segment import evaluate

        options = {} if images is None else {"images": str(images)}
        result = evaluate(
            self.on_disk("evaluate"), Path(data), split=split, report=None if report is None else Path(report),
            format=format, rule=rule, background=background, masks=masks_in, device=torch_device,
            allow=allow, **options,
        )  # fmt: skip
        headline = ("miou_with_background", "miou_without_background", "pixel_accuracy", "mean_accuracy", "boundary_f")
        return shared.evaluation("segment", result, headline)


def load(folder: Path) -> TrainedSegmenter:
    """See handful.kinds.contract.Kind."""
    return TrainedSegmenter.read(folder)


def export(folder: Path) -> Export:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.exports import segmenter

    found: Export = segmenter(folder)
    return found


def from_bundle(bundle: Bundle, sessions: Mapping[str, Session]) -> Segmenter:
    """See handful.kinds.contract.Kind."""
    from handful.kinds.bundled import BundledSegmenter

    found: Segmenter = BundledSegmenter(bundle, sessions)
    return found
