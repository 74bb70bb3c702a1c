"""What a model answers, whatever its kind and wherever it ran: frozen, NumPy only, with a picture and a JSON object.

`plot()` gives the photograph with the answer drawn in, (h, w, 3) uint8 RGB; `to_json()` the object that the command
line
prints. A result remembers which photograph it is about: its pixels where they came as an array or a frame of a video,
else only its path, from which `plot` reads it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handful import plotting
from handful.arrays import F32, F64, I64, U8, Bool, JSONObject
from handful.errors import DataError
from handful.image import Image, described, read_image
from handful.pick import need
from handful.words import counted

if TYPE_CHECKING:
    import supervision

NONE_OF_THESE = "none of these"


@dataclass(frozen=True, eq=False)
class Origin:
    """Which image a result is about.

    name: of the image, as the user gave it. size_wh: (width, height) in px. path: its file, None for an array. frame,
    time_s: its place in a video. rgb_u8: its pixels, kept only where no file has them. notes: what was assumed or done
    to read it ("gray, read as RGB").
    """

    name: str
    size_wh: tuple[int, int]
    path: Path | None = None
    frame: int | None = None
    time_s: float | None = None
    rgb_u8: U8 | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def pixels(self) -> U8:
        """(h, w, 3) uint8 RGB, read again where they were not kept. Raises DataError when the file has gone."""
        if self.rgb_u8 is not None:
            return self.rgb_u8
        if self.path is None:
            raise DataError(f"{self.name}: its pixels were not kept; give them to plot()")
        return read_image(self.path).rgb_u8

    def to_json(self) -> JSONObject:
        """source (the image or video), size_wh, and of a frame its number and time."""
        told: JSONObject = {"source": self.name, "size_wh": list(self.size_wh)}
        if self.frame is not None:
            told |= {"frame": self.frame, "time_s": self.time_s}
        return {**told, "notes": list(self.notes)} if self.notes else told


def _on(origin: Origin, image: Image | U8 | None) -> U8:
    """The photo to draw on. Raises DataError for one of another size."""
    if image is None:
        return origin.pixels()
    rgb = image.rgb_u8 if isinstance(image, Image) else Image(image).rgb_u8
    if (rgb.shape[1], rgb.shape[0]) != origin.size_wh:
        raise DataError(
            f"the result is about an image of {origin.size_wh[0]}x{origin.size_wh[1]} px, got one of "
            f"{rgb.shape[1]}x{rgb.shape[0]} px; give plot() the image that was asked about"
        )
    return rgb


@dataclass(frozen=True, eq=False)
class Classification:
    """What one image shows.

    label: its class; None for "none of these". nearest: the closest class all the same. probability: of the answer, the
    softmax of the scores. scores: (k,) float32 logits, one a class in the order of `classes`; where the model says
    "none
    of these", (k + 1,), the last for that. margin: logits by which the nearest class beats "none of these", below zero
    where that is the answer; None for a model that always names a class.
    """

    label: str | None
    nearest: str
    probability: float
    classes: tuple[str, ...]
    scores: F32
    origin: Origin
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.scores.shape not in ((len(self.classes),), (len(self.classes) + 1,)):
            raise DataError(
                f"wanted a score for each of {counted(len(self.classes), 'class')}, got {described(self.scores)}"
            )

    @classmethod
    def of(cls, scores: F32, classes: tuple[str, ...], origin: Origin) -> Classification:
        """From one row of scores: (k,), or (k + 1,) with "none of these" last, which wins when no class is above it."""
        known, none = scores[: len(classes)], scores[len(classes) :]
        best = int(np.argmax(known))
        named = not len(none) or float(known[best]) > float(none[0])
        probability = _softmax(scores)[best if named else -1]
        margin = float(known[best] - none[0]) if len(none) else None
        return cls(classes[best] if named else None, classes[best], float(probability), classes, scores, origin, margin)

    @property
    def probabilities(self) -> F64:
        """The softmax of `scores`, in the same order."""
        return _softmax(self.scores)

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """The n likeliest answers and their probability, best first; "none of these" is one where the model has it."""
        names = (*self.classes, NONE_OF_THESE)
        values = self.probabilities
        return [(names[i], float(values[i])) for i in np.argsort(-values, kind="stable")[:n].tolist()]

    def plot(self, image: Image | U8 | None = None, *, top: int = 3) -> U8:
        """(h, w, 3) uint8 RGB: the image with its likeliest classes. image: instead of reading it again."""
        colors = dict(zip(self.classes, plotting.palette(self.classes), strict=True))
        answer = self.label or NONE_OF_THESE
        rows = [(answer, self.probability), *(one for one in self.top(top) if one[0] != answer)][:top]
        lines = [(f"{name} {100 * p:.0f} %", colors.get(name, plotting.UNKNOWN)) for name, p in rows]
        return plotting.captioned(_on(self.origin, image), lines)

    def to_json(self, *, top: int | None = None) -> JSONObject:
        """label, nearest, probability, margin, and probabilities: of each class, or of the `top` likeliest."""
        n = len(self.scores) if top is None else top
        return {
            **self.origin.to_json(),
            "label": self.label,
            "nearest": self.nearest,
            "probability": round(self.probability, 6),
            "margin": None if self.margin is None else round(self.margin, 4),
            "probabilities": {name: round(p, 6) for name, p in self.top(n)},
        }


def _softmax(scores: F32) -> F64:
    wide = scores.astype(np.float64)
    exp = np.exp(wide - wide.max())
    return np.asarray(exp / exp.sum(), np.float64)


@dataclass(frozen=True, eq=False)
class Patch:
    """The pixels of one thing: pixels (h, w) bool, the smallest rectangle around them, whose left upper pixel is
    left_top, (x, y) in whole px of the image. Raises DataError for other arrays and where no pixel is True."""

    left_top: tuple[int, int]
    pixels: Bool

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.bool_ or not self.pixels.any():
            raise DataError(f"a mask must be bool (h, w) with a pixel in it, got {self.pixels.dtype} "
                            f"{self.pixels.shape} with {int(np.count_nonzero(self.pixels))}")  # fmt: skip

    @classmethod
    def of(cls, whole: Bool) -> Patch | None:
        """From a mask (h, w) bool over the whole image; None where no pixel is True."""
        rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        if not len(rows):
            return None
        top, left = int(rows[0]), int(columns[0])
        return cls((left, top), np.ascontiguousarray(whole[top : rows[-1] + 1, left : columns[-1] + 1]))

    @property
    def box_px(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in px of the image, the last two exclusive."""
        high, wide = self.pixels.shape
        return (*self.left_top, self.left_top[0] + wide, self.left_top[1] + high)

    def whole(self, size_wh: tuple[int, int]) -> Bool:
        """(h, w) bool over the whole image."""
        left, top, right, bottom = self.box_px
        out = np.zeros(size_wh[::-1], bool)
        out[top:bottom, left:right] = self.pixels
        return out

    def rle(self, size_wh: tuple[int, int]) -> JSONObject:
        """COCO's compressed run lengths over the whole image, as JSON: {"size": [h, w], "counts": "..."}."""
        mask_api = need("pycocotools.mask", "data")
        made = mask_api.encode(np.asfortranarray(self.whole(size_wh), dtype=np.uint8))
        return {"size": [int(v) for v in made["size"]], "counts": made["counts"].decode("ascii")}


@dataclass(frozen=True, eq=False)
class Detection:
    """One thing that was found.

    name: its class, or "none of these"; nearest: the closest class all the same. score: 0 to 1. box_px: left, top,
    right, bottom in px of the image. mask: its pixels, where they were asked for.
    """

    name: str
    nearest: str
    score: float
    box_px: tuple[float, float, float, float]
    mask: Patch | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best first.

    xyxy_px: (n, 4) float64: left, top, right, bottom in px of the image, right and bottom exclusive. score: (n,)
    float64,
    0 to 1. label: (n,) int64, which of `classes`. margin: (n,) float64, logits by which that class beats "none of
    these";
    at 0 or below the box is unknown, and `label` only the nearest class; of a model without "none of these" all are
    above
    0. masks: the pixels of each, None where nobody asked for them. vectors: (n, dim) float64, what a taught detector
    was asked about, for `explain`; (n, 0) elsewhere.
    """

    classes: tuple[str, ...]
    xyxy_px: F64
    score: F64
    label: I64
    margin: F64
    vectors: F64
    masks: tuple[Patch, ...] | None = None
    size_wh: tuple[int, int] | None = None
    origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.score)

    def __iter__(self) -> Iterator[Detection]:
        """One thing after another, best first."""
        masks: tuple[Patch | None, ...] = self.masks if self.masks is not None else (None,) * len(self)
        rows = zip(self.names, self.label, self.score, self.xyxy_px, masks, strict=True)
        for name, k, score, box, mask in rows:
            left, top, right, bottom = (float(v) for v in box)
            yield Detection(name, self.classes[k], float(score), (left, top, right, bottom), mask)

    @property
    def unknown(self) -> Bool:
        """(n,) bool: none of the classes."""
        return np.asarray(self.margin <= 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each, or "none of these"."""
        return tuple(NONE_OF_THESE if u else self.classes[k] for k, u in zip(self.label, self.unknown, strict=True))

    def rows(self) -> list[JSONObject]:
        """As JSON: class, score, box_px, unknown, margin (null of a model that has no "none of these"); and mask,
        COCO's run lengths, where masks were asked for."""
        rows: list[JSONObject] = [
            {"class": self.classes[k], "score": float(s), "box_px": [float(v) for v in box], "unknown": bool(u),
             "margin": float(m) if np.isfinite(m) else None}  # infinite where no box can be none of the classes
            for box, s, k, u, m in zip(self.xyxy_px, self.score, self.label, self.unknown, self.margin, strict=True)
        ]  # fmt: skip
        if self.masks is not None and self.size_wh is not None:
            for row, mask in zip(rows, self.masks, strict=True):
                row["mask"] = mask.rle(self.size_wh)
        return rows

    def plot(self, image: Image | U8 | None = None) -> U8:
        """(h, w, 3) uint8 RGB: the image with each box, its class and score, and its mask. image: instead of reading it
        again. Raises DataError where no image is known."""
        if self.origin is None and image is None:
            raise DataError("these detections have no image of their own; give one: plot(image)")
        if self.origin is not None:
            rgb = _on(self.origin, image)
        else:
            rgb = image.rgb_u8 if isinstance(image, Image) else Image(image).rgb_u8  # type: ignore[arg-type]
        return plotting.boxed(rgb, self.drawn())

    def drawn(self) -> list[plotting.Drawn]:
        """What `plot` draws, best first."""
        colors = plotting.palette(self.classes)
        things = []
        for i, (box, score, k, unknown) in enumerate(
            zip(self.xyxy_px.tolist(), self.score.tolist(), self.label.tolist(), self.unknown.tolist(), strict=True)
        ):
            name = f"unknown, like {self.classes[k]}" if unknown else self.classes[k]
            mask = self.masks[i] if self.masks is not None else None
            things.append(
                plotting.Drawn(
                    (box[0], box[1], box[2], box[3]), f"{name} {100 * score:.0f} %",
                    plotting.UNKNOWN if unknown else colors[k], mask.pixels if mask else None,
                    mask.left_top if mask else (0, 0),
                )
            )  # fmt: skip
        return things

    def to_json(self) -> JSONObject:
        """The image, and `found`: a row a box, as `rows`."""
        return {**(self.origin.to_json() if self.origin is not None else {}), "found": self.rows()}

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`: xyxy, confidence, class_id, mask, and data["class_name"], data["margin"]. A box
        that is none of the classes has the class_id len(classes). Raises MissingPackage without supervision."""
        sv = need("supervision", "supervision")
        ids = np.where(self.unknown, len(self.classes), self.label).astype(int)
        mask = None
        if self.masks is not None and self.size_wh is not None:
            mask = np.zeros((len(self), *self.size_wh[::-1]), bool)
            for i, one in enumerate(self.masks):
                mask[i] = one.whole(self.size_wh)
        data = {"class_name": np.array(self.names, dtype=np.str_), "margin": self.margin, "nearest": self.label}
        found: supervision.Detections = sv.Detections(
            xyxy=self.xyxy_px.astype(np.float32), confidence=self.score.astype(np.float32), class_id=ids, mask=mask,
            data=data,
        )  # fmt: skip
        return found

    @classmethod
    def from_supervision(
        cls, found: supervision.Detections, classes: tuple[str, ...], size_wh: tuple[int, int] | None = None
    ) -> Detections:
        """From `supervision.Detections`. classes: the name of each class_id; one that is len(classes) is none of them.

        size_wh: of the image, needed where there are no masks to tell. A missing confidence counts as 1. Raises
        DataError
        for a missing class_id, or one that is no class.
        """
        n = len(found.xyxy)
        if found.class_id is None and n:
            raise DataError("these supervision.Detections have no class_id; wanted one a box")
        ids = np.zeros(0, np.int64) if found.class_id is None else np.asarray(found.class_id, np.int64)
        if n and (ids.min() < 0 or ids.max() > len(classes)):
            raise DataError(
                f"class_id {int(ids.max())} is none of {counted(len(classes), 'class')}; give the names of all"
            )
        unknown = ids == len(classes)
        nearest = np.asarray(found.data.get("nearest", np.where(unknown, 0, ids)), np.int64)
        margin = np.asarray(found.data.get("margin", np.where(unknown, -1.0, 1.0)), np.float64)
        score = np.ones(n) if found.confidence is None else np.asarray(found.confidence, np.float64)
        masks, size = None, size_wh
        if found.mask is not None:
            patches = [Patch.of(np.asarray(one, bool)) for one in found.mask]
            if any(one is None for one in patches):
                raise DataError(f"the mask of detection {patches.index(None)} has no pixel; leave that detection out")
            masks = tuple(one for one in patches if one is not None)
            size = (int(found.mask.shape[2]), int(found.mask.shape[1]))
        order = np.argsort(-score, kind="stable")
        return cls(
            classes, np.asarray(found.xyxy, np.float64)[order], score[order], np.where(unknown, nearest, ids)[order],
            margin[order], np.zeros((n, 0)), None if masks is None else tuple(masks[i] for i in order.tolist()), size,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of each pixel of one image.

    ids: (h, w) uint8, number of the class in `classes`, at the image's own size. background: the class that is
    everything else, if one is.
    """

    ids: U8
    classes: tuple[str, ...]
    origin: Origin
    background: str | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype != np.uint8:
            raise DataError(f"a label map must be uint8 (h, w), got {described(self.ids)}")

    @property
    def shares(self) -> dict[str, float]:
        """The share of the image's pixels of each class that is there, largest first."""
        counts = np.bincount(self.ids.ravel(), minlength=len(self.classes))[: len(self.classes)]
        order = np.argsort(-counts, kind="stable").tolist()
        return {self.classes[i]: float(counts[i] / self.ids.size) for i in order if counts[i]}

    def mask(self, name: str) -> Bool:
        """(h, w) bool: the pixels of a class. Raises DataError for a name that is no class."""
        if name not in self.classes:
            raise DataError(f"no class named {name!r}; there is {', '.join(self.classes)}")
        return np.asarray(self.ids == self.classes.index(name))

    def plot(self, image: Image | U8 | None = None) -> U8:
        """(h, w, 3) uint8 RGB: the image with each class in its color, and a legend. image: instead of reading it
        again."""
        return plotting.label_map(_on(self.origin, image), self.ids, self.classes, self.background)

    def to_json(self) -> JSONObject:
        """The image, and `shares`: the share of its pixels of each class that is there."""
        return {**self.origin.to_json(), "shares": {name: round(v, 6) for name, v in self.shares.items()}}


Result = Classification | Detections | Segmentation
