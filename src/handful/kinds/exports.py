"""Each kind of model as what a phone runtime compiles: its networks, and all that an app must know beside them.

Runs in a process of its own, with torch, on a folder that was found whole before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import JSONObject
from handful.kinds.contract import Export
from handful.results import NONE_OF_THESE, Detections

GRAPH = "model"  # the name of the one graph of a model that has one
UPRIGHT = "read the image upright, as its EXIF orientation says, as RGB, 8 bits a channel"


def export(folder: Path) -> Export:
    """A model folder of any kind that can be compiled. Raises UsageError for others, with the reason."""
    from handful.kinds import registry

    return registry.loader(Path(folder)).export(Path(folder))


def taught_classifier(folder: Path) -> Export:
    """As Kind.export."""
    from handful.fewshot.nemo import GAIN, expected_from
    from handful.models.folder import from_folder

    model = from_folder(folder, whole=False)
    vigilance = float(model.meta["about"]["vigilance"])
    none = float(model.network.head.classify.bias[-1].item()) / GAIN
    labels = [*model.classes, NONE_OF_THESE]
    after: JSONObject = {
        "steps": [
            "the answer is the label with the largest score; the last is none of these",
            "softmax over all scores gives the probability of each",
        ],
        "none_of_these": "last", "gain": GAIN, "expected": expected_from(none, vigilance), "vigilance": vigilance,
    }  # fmt: skip
    return _of_one(model, "taught_classifier", "classify", {"scores": labels}, after)


def classifier(folder: Path) -> Export:
    """As Kind.export."""
    from handful.models.folder import from_folder

    model = from_folder(folder, whole=False)
    after: JSONObject = {
        "steps": [
            "the answer is the label with the largest score",
            "softmax over all scores gives the probability of each",
        ],
        "none_of_these": None,
    }
    return _of_one(model, "classifier", "classify", {"scores": model.classes}, after)


def segmenter(folder: Path) -> Export:
    """As Kind.export."""
    from handful.models.folder import from_folder
    from handful.training.metrics import background_of

    model = from_folder(folder, whole=False)
    background = background_of(model.classes, None)
    after: JSONObject = {
        "steps": [
            "the scores, (1, classes, rows, columns), are enlarged to the image's size: bilinear, half-pixel centers, "
            "not antialiased",
            "the class of each pixel is that with the largest score",
        ],
        "background": None if background is None else model.classes[background],
    }
    return _of_one(model, "segmenter", "segment", {"scores": model.classes}, after)


def _of_one(model: Any, kind: str, task: str, labels: dict[str, list[str]], after: JSONObject) -> Export:
    """A model of one network that takes a squashed frame."""
    height, width = model.network.frame_hw
    said = {k: v for k, v in model.meta["preprocessing"].items() if k != "before_the_graph"}
    before = {
        "steps": [
            UPRIGHT,
            f"squash it to {width} x {height} px (width x height): bilinear, antialiased (Pillow's BILINEAR); its "
            "aspect is not kept",
            "give the pixels as they are, 0 to 255, red first: all else is inside the graph",
        ],
        "resize": "squash", "filter": "bilinear, antialiased", **said,
    }  # fmt: skip
    manifest: JSONObject = {
        "kind": kind, "task": task, "classes": list(model.classes), "labels": labels, "preprocessing": before,
        "postprocessing": after, "plan": None, "card": model.meta.get("card"),
    }  # fmt: skip
    return Export({GRAPH: model.network}, manifest)


def taught_detector(folder: Path) -> Export:
    """As Kind.export. Raises DataError for a source of boxes that cannot be compiled."""
    from handful.detection import graphs
    from handful.detection.irene import Irene

    irene = Irene.load(folder, whole=False)
    plan = graphs.plan(irene)
    before = {"steps": [UPRIGHT, graphs.FIRST_STEP], **plan["frame"], "crops": plan["crops"]}
    after = {"steps": list(graphs.LAST_STEPS), **plan["answer"], "fusion": plan["fusion"]}
    classes = list(irene.classes)
    manifest: JSONObject = {
        "kind": "taught_detector", "task": "detect", "classes": classes,
        "labels": {"logits": classes, "cosine_floor": [NONE_OF_THESE]}, "preprocessing": before,
        "postprocessing": after, "plan": plan,
        "card": {"proposer": irene.proposer.about, "vigilance": irene.nemo.vigilance},
    }  # fmt: skip
    return Export(graphs.parts(irene), manifest)


def detector_reference(folder: Path) -> Callable[[np.ndarray], Detections]:
    """As handful.device.compile.ModelSource.reference: what the taught detector itself finds, in PyTorch."""
    from handful.detection.irene import Irene
    from handful.detection.scoring import MIN_SCORE

    irene = Irene.load(folder, whole=False)
    # also what is too doubtful to be told: the more boxes, the more a comparison sees
    return lambda rgb: irene.detect(rgb, unknown=True, score_threshold=MIN_SCORE)
