"""What a kind of model is: the contract of every kind_*.py, and the classes that users hold.

A file `kind_x.py` makes the kind "x" exist. It holds what `Kind` below lists and nothing else is needed: no list to
extend, no conditional elsewhere. tests/kinds/test_conformance.py runs over every file it finds.

Users hold a `Model`: a `Classifier`, a `Segmenter` or a `Detector`, from a model folder or from a compiled bundle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from handful.arrays import JSONObject, StrPath
from handful.bundle import Bundle, Session
from handful.data.sources import Source
from handful.errors import HandfulError, UsageError
from handful.evaluation import Evaluation
from handful.results import Classification, Detections, Result, Segmentation
from handful.words import counted

if TYPE_CHECKING:
    from torch import nn

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Export:
    """A model as what a phone runtime compiles, with all that an app needs beside the graphs.

    graphs: torch modules in eval mode by name, in the order in which they run; each has input_names, output_names and
    frame_hw or examples(), see handful.device.runtimes.contract.Runtime. manifest: what the bundle tells beside them,
    as JSON: "kind", "task", "classes", "labels" ({output: the name of each of its values}), "preprocessing" and
    "postprocessing" (in words and constants), "plan" (the steps between several graphs), "card".
    """

    graphs: Mapping[str, nn.Module]
    manifest: JSONObject


class Model(ABC, Generic[R]):
    """Any model: taught or trained, or compiled. Safe to ask from several threads: no call changes it but `learn` and
    `unlearn`.

    folder: where it was loaded from, None for one in memory. kind: the name of its kind. task: "classify", "segment",
    "detect" or "instance". runtime: what runs it: "torch", or the runtime of a bundle.
    """

    kind: str
    task: str
    folder: Path | None = None
    runtime: str = "torch"

    def __repr__(self) -> str:
        """Kind, classes, and where it lies: <taught_classifier of 3 classes (mug, lamp, cup), torch, model>."""
        names = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        return (
            f"<{self.kind} of {counted(len(self.classes), 'class')} ({names}), {self.runtime}, "
            f"{self.folder or 'in memory'}>"
        )

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of its scores."""

    @property
    @abstractmethod
    def card(self) -> JSONObject:
        """What it is, for people and programs: kind, network, classes, license, provenance, what it was made from."""

    def predict(self, source: Source) -> list[R]:
        """One result an image, in order.

        source: a path to an image, a folder or a video; a Pillow image; an array (h, w, 3) uint8 RGB, or a batch
        (n, h, w, 3); a handful.Image; or a list of these. An array is taken as RGB: OpenCV gives BGR, so pass
        `array[..., ::-1]`. Raises DataError, naming the image, at the first that cannot be read.
        """
        return list(self.stream(source))

    @abstractmethod
    def stream(self, source: Source, *, on_error: Callable[[str, HandfulError], None] | None = None) -> Iterator[R]:
        """As `predict`, one result at a time, for folders and videos of any length.

        on_error: called with the name of an image that cannot be read and why, and the next is asked; without it the
        first one raises.
        """

    @abstractmethod
    def evaluate(self, data: StrPath, *, split: str | None = None, report: StrPath | None = None) -> Evaluation:
        """Measure on labelled images it has not seen. split: which; report: also write a page there."""

    @abstractmethod
    def compile(self, runtime: str, precision: str = "fp32") -> Bundle:
        """For a phone runtime, into FOLDER/compiled/RUNTIME-PRECISION, or what was compiled before from the same files.

        Raises UsageError for a model without a folder (save it first) and for a bundle.
        """

    @abstractmethod
    def save(self, folder: StrPath) -> Path:
        """Write the model folder, whole or not at all. Raises UsageError for a bundle."""


class Classifier(Model[Classification], ABC):
    """Says what an image shows."""


class Segmenter(Model[Segmentation], ABC):
    """Says of each pixel what it shows."""


class Detector(Model[Detections], ABC):
    """Finds things in an image: boxes, and masks where it has them."""


@dataclass(frozen=True)
class Verbs:
    """What can be done with a kind. A verb it lacks maps to the reason, in words that say what to do instead."""

    lacks: Mapping[str, str] = field(default_factory=dict)

    def why_not(self, verb: str) -> str | None:
        """None where the kind has the verb."""
        return self.lacks.get(verb)


class Kind(Protocol):
    """A module kind_*.py.

    DESCRIPTION: a line for people. TASKS: the values of "task" it may have. MADE_BY: the commands that make one. VERBS:
    of load, predict, evaluate, learn, unlearn, set, compile, compare, flow: what it lacks and why.
    """

    DESCRIPTION: str
    TASKS: tuple[str, ...]
    MADE_BY: tuple[str, ...]
    VERBS: Verbs

    def owns(self, meta: Mapping[str, Any]) -> bool:
        """Whether a folder whose handful.json is `meta` is of this kind."""
        ...

    def load(self, folder: Path) -> Model[Any]:
        """The model in a folder of this kind. Raises DataError, naming the file, when anything is not as saved."""
        ...

    def export(self, folder: Path) -> Export:
        """For compiling; runs in a process of its own, with torch."""
        ...

    def from_bundle(self, bundle: Bundle, sessions: Mapping[str, Session]) -> Model[Any]:
        """A compiled bundle as a model, with NumPy and Pillow alone: must not import torch. sessions: of its graphs."""
        ...


def lacking(kind: str, verb: str, verbs: Verbs) -> None:
    """Raises UsageError, with the kind's own reason, where it lacks a verb."""
    reason = verbs.why_not(verb)
    if reason is not None:
        raise UsageError(reason)
