"""Object proposals: the contract of every proposer_*.py.

A file `proposer_x.py` makes the proposer "x" exist. It holds what `ProposerModule` below lists and nothing else is
needed. tests/detection/test_proposers.py runs over every file it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handful.errors import DataError


@dataclass(frozen=True, eq=False)
class Proposals:
    """Class-agnostic boxes of one image, best first, and features of any box in it.

    xyxy_px: (n, 4) float64, left, top, right, bottom in px of the image, inside it and with an area. quality: (n,)
    float64, 0 to 1: objectness, how likely it is that an object is there and that the box fits it. scale: (n,) int64,
    which scale of an image pyramid found it. features: boxes (m, 4) in px of the image -> (m, dim) float32, of any
    boxes, not only these. focus: (h, w) float32, 0 to 1, a focus map over the whole image: where a finer scale is worth
    its time; None from a proposer without one. Raises DataError for other shapes, NaN, or a box without area.
    """

    xyxy_px: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    features: Callable[[np.ndarray], np.ndarray]
    focus: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.quality)
        if self.xyxy_px.shape != (n, 4) or self.quality.shape != (n,) or self.scale.shape != (n,):
            raise DataError(f"boxes {self.xyxy_px.shape}, quality {self.quality.shape} and scale {self.scale.shape} do "
                            "not fit; wanted (n, 4), (n,) and (n,)")  # fmt: skip
        if not (np.isfinite(self.xyxy_px).all() and np.isfinite(self.quality).all()):
            raise DataError("a proposed box or its quality is NaN or infinite")
        if (self.xyxy_px[:, 2:] <= self.xyxy_px[:, :2]).any():
            raise DataError("a proposed box has no area")

    def __len__(self) -> int:
        return len(self.quality)


class Proposer(Protocol):
    """A proposer, ready to run. dim: length of a feature, 0 for a proposer without features. about: JSON: name, paper,
    license, what it was trained on, parameters, SHA-256 of its weights. network: its torch module, whose weights a
    detector's folder keeps; None without one.

    A proposer may also have: side_px, the side of its square input in px; propose_batch(images, max_boxes), a list of
    Proposals for several images at once; encode(rgb_u8), Proposals for their features alone (see `encode`).
    """

    dim: int
    about: dict[str, Any]
    network: Any

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """At most `max_boxes` boxes of an image (h, w, 3) uint8 RGB of any size."""
        ...


@dataclass(frozen=True, eq=False)
class ProposerGraph:
    """A proposer as a phone runs it: networks of fixed shapes, and the constants of the steps between them.

    Compiling a detector needs nothing else of its proposer; handful.detection.graphs makes the graphs of it and
    handful.detection.compiled runs them. Modules are torch's, in eval mode; frame: the image letterboxed into a square
    (letterbox.py), k: any number of boxes.

    side_px: of the frame, a square.
    propose: uint8 (1, side_px, side_px, 3) RGB -> quality (1, n) 0 to 1, boxes (1, n, 4) px of the frame, with `focus`
        a focus map (1, h, w) 0 to 1, then any number of maps (1, c, h, w).
    features: (*maps, boxes (k, 4) px of the frame) -> (k, dim), as Proposals.features; RoiMeans in graphs.py is one.
        None for a proposer without features.
    pre_nms_top_k, nms_iou: the best so many boxes go into non-maximum suppression at this IoU.
    refine: None, or a second stage on the boxes that are left: (*maps, boxes (refine_top_k, 4) px of the frame) ->
        quality (refine_top_k,) 0 to 1, boxes (refine_top_k, 4) px of the frame, which replace those they were made
        from; then non-maximum suppression once more.
    refine_top_k: boxes that are refined; 0 without `refine`.
    """

    side_px: int
    propose: Any
    features: Any
    pre_nms_top_k: int
    nms_iou: float
    refine: Any = None
    refine_top_k: int = 0
    focus: bool = False

    def __post_init__(self) -> None:
        if self.side_px < 1 or self.pre_nms_top_k < 1 or not 0 < self.nms_iou <= 1:
            raise DataError(f"side_px {self.side_px}, pre_nms_top_k {self.pre_nms_top_k}, nms_iou {self.nms_iou}; "
                            "wanted a frame and boxes of 1 or more, and an IoU above 0, at most 1")  # fmt: skip
        if (self.refine is None) != (self.refine_top_k == 0):
            raise DataError(f"refine_top_k is {self.refine_top_k}; wanted boxes with a second stage, and 0 without one")


class Compilable(Proposer, Protocol):
    """A proposer that can be compiled: it also has `graph`. One without it is refused with a DataError."""

    def graph(self) -> ProposerGraph:
        """Its networks with their present weights; the proposer is not changed."""
        ...


class ProposerModule(Protocol):
    """A module proposer_*.py. DESCRIPTION: a line for people."""

    DESCRIPTION: str

    def available(self) -> bool:
        """Whether all it needs is on this machine."""
        ...

    def load(self, state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Proposer:
        """Ready to run. state, about: {parameter: tensor} and Proposer.about of a saved one, instead of what is on this
        machine. Raises DataError or MissingPackage with what to type when something is absent."""
        ...


def encode(proposer: Proposer, rgb_u8: np.ndarray) -> Proposals:
    """An image's features: Proposals whose `features` count, and whose boxes may be any."""
    own = getattr(proposer, "encode", None)
    return own(rgb_u8) if own else proposer.propose(rgb_u8, 1)  # type: ignore[no-any-return]


def clip_to_image(boxes: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to the image, (n, 4) float64, and which of them still have an area, (n,) bool."""
    edge = np.array([*size_wh, *size_wh], np.float64)
    cut = np.clip(np.asarray(boxes, np.float64), 0.0, edge)
    return cut, np.asarray((cut[:, 2] - cut[:, 0] > 0) & (cut[:, 3] - cut[:, 1] > 0))
