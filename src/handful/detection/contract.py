"""What a source of boxes is: the contract of every proposer_*.py.

A file `proposer_x.py` makes the source "x" exist. It holds what `Proposals` below lists and nothing else is needed.
tests/detection/test_proposals.py runs over every file it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handful.errors import DataError


@dataclass(frozen=True, eq=False)
class Proposals:
    """What was seen in one photo, before anybody asks what it is.

    xyxy_px: (n, 4) float64, left, top, right, bottom in px of the photo, inside it and with an area, best first.
    quality: (n,) float64, 0 to 1: how likely it is that there is a thing, and just there. scale: (n,) int64, which of
    several scales found it. features: boxes (m, 4) in px of the photo -> (m, dim) float32, what lies in each of any
    boxes, not only these. focus: (h, w) float32, 0 to 1, where it is worth looking closer, over the whole photo; None
    from a source that does not say. Raises DataError for other shapes, NaN, or a box without area.
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
    """A source of boxes that is ready. dim: length of a feature, 0 for a source without any. about: JSON: name, paper,
    licence, what it was trained on, parameters, SHA-256 of its weights. network: its torch module, whose weights a
    detector's folder keeps; None without one.

    What an eye may have besides: side_px, of the square input a photo is fitted into; look_many(photos, most), a list
    of Seen, for several at once; glance(rgb_u8), a Seen for its features alone (see `glance`)."""

    dim: int
    about: dict[str, Any]
    network: Any

    def look(self, rgb_u8: np.ndarray, most: int = 100) -> Proposals:
        """At most `most` boxes of a photo (h, w, 3) uint8 RGB of any size."""
        ...


@dataclass(frozen=True, eq=False)
class ProposerGraph:
    """An eye as what a phone can run: networks of fixed shapes, and the constants of the steps between them.

    All that compiling a detector asks of its eye; handful.detection.graphs makes the graphs of it and
    handful.device.detector runs them. Modules are torch's, in eval mode; frame: the photo as framing.letterbox lays it
    into a square, k: any number of boxes.

    side_px: of the frame, a square.
    propose: uint8 (1, side_px, side_px, 3) RGB -> quality (1, n) 0 to 1, boxes (1, n, 4) px of the frame, then any
        number of maps (1, c, h, w).
    features: (*maps, boxes (k, 4) px of the frame) -> (k, dim), as Seen.features; RoiMeans in graphs.py is one. None
        for an eye without features.
    first, overlap: of those boxes the first best go on, without those that share more IoU with a better one.
    again: None, or a closer look at the boxes that went on: (*maps, boxes (again_most, 4) px of the frame) ->
        quality (again_most,) 0 to 1, boxes (again_most, 4) px of the frame, which take the place of what they were made
        from; then `overlap` once more.
    again_most: boxes that are looked at again; 0 without `again`.
    """

    side_px: int
    propose: Any
    features: Any
    first: int
    overlap: float
    again: Any = None
    again_most: int = 0

    def __post_init__(self) -> None:
        if self.side_px < 1 or self.first < 1 or not 0 < self.overlap <= 1:
            raise DataError(f"side_px {self.side_px}, first {self.first}, overlap {self.overlap}; wanted a frame and "
                            "boxes of 1 or more, and an IoU above 0, at most 1")  # fmt: skip
        if (self.again is None) != (self.again_most == 0):
            raise DataError(f"again_most is {self.again_most}; wanted boxes with a second look, and 0 without one")


class Compilable(Proposer, Protocol):
    """An Eye that can go onto a phone: it also has `graph`. One without it is refused with a DataError."""

    def graph(self) -> ProposerGraph:
        """Its networks, with the weights of now; what they are made from is not changed."""
        ...


class ProposerModule(Protocol):
    """A module proposer_*.py. WHAT: a line for people."""

    DESCRIPTION: str

    def available(self) -> bool:
        """Whether all it needs is on this machine."""
        ...

    def load(self, state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Proposer:
        """Ready to look. state, about: {parameter: tensor} and Eye.about of one that was kept, instead of what is on
        this machine. Raises DataError or MissingPackage with what to type when something is absent."""
        ...


def glance(proposer: Proposer, rgb_u8: np.ndarray) -> Proposals:
    """A photo as the eye sees it, for Seen.features alone: its boxes may be any."""
    own = getattr(proposer, "glance", None)
    return own(rgb_u8) if own else proposer.look(rgb_u8, 1)  # type: ignore[no-any-return]


def inside_photo(boxes: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut at the photo's edges, (n, 4) float64, and which of them still have an area, (n,) bool."""
    edge = np.array([*size_wh, *size_wh], np.float64)
    cut = np.clip(np.asarray(boxes, np.float64), 0.0, edge)
    return cut, np.asarray((cut[:, 2] - cut[:, 0] > 0) & (cut[:, 3] - cut[:, 1] > 0))
