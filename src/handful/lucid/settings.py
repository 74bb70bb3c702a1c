"""How far objects move and change in a dreamed clip, and everything else that decides its pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handful.errors import DataError
from handful.pick import unknown

FILLS = ("auto", "telea", "telea-half", "patchmatch")
BLENDS = ("feather", "ring", "poisson")


@dataclass(frozen=True)
class Ranges:
    """Bounds of every random change: drawn evenly between minus and plus the bound, unless said otherwise.

    start_*: an object's pose in the first frame. step_*: its largest change from one frame to the next. far_*: its
    largest distance from the first pose. Shifts are fractions of the object's own box, turns are in degrees, scales
    are fractions of 1 (0.05: 0.95 to 1.05). anywhere: chance that the clip begins with the object at an even random
    place in the frame.
    bend: offset of the five thin-plate points, as a fraction of the object's box.
    camera_*: the same for the camera; shifts are fractions of the frame. cover: zoom in just enough that the
    camera never looks past the image's border; otherwise the image is mirrored there.
    gain, power, lift: illumination, x -> a x^b + c on saturation and value in 0..1, with a and b around 1 and c
    around 0; drift: how much of that range changes within a clip rather than once for all of it.
    object_light: the same range, as a fraction, for each object alone.
    flip: chance of a mirrored film. flip_background: chance of a mirrored background behind unmirrored objects.
    still: chance that an object that could move stays where it is (never all of them).
    leave: chance that an object leaves the frame and comes back. occluder: chance that something passes in front.
    noise: standard deviation in gray levels, 0 to this. shutter: motion blur, as a fraction of a frame's
    motion, 0 to this.
    jpeg: lowest quality a frame is compressed to before it is kept; 100: not at all.
    """

    start_shift: float = 0.0
    start_turn: float = 0.0
    start_scale: float = 0.0
    anywhere: float = 0.0
    step_shift: float = 0.1
    step_turn: float = 3.0
    step_scale: float = 0.05
    far_shift: float = 0.5
    far_turn: float = 30.0
    far_scale: float = 0.15
    bend: float = 0.1
    camera_step_shift: float = 0.01
    camera_step_turn: float = 1.0
    camera_step_scale: float = 0.02
    camera_far_shift: float = 0.05
    camera_far_turn: float = 5.0
    camera_far_scale: float = 0.1
    cover: bool = True
    gain: float = 0.05
    power: float = 0.3
    lift: float = 0.07
    drift: float = 0.5
    object_light: float = 0.0
    flip: float = 0.5
    flip_background: float = 0.0
    still: float = 0.0
    leave: float = 0.0
    occluder: float = 0.0
    noise: float = 0.0
    shutter: float = 0.0
    jpeg: int = 100

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1000:
                raise DataError(f"ranges: {field.name} must be a number from 0, got {value!r}")
        if self.far_scale >= 0.95 or self.start_scale >= 0.95 or self.bend > 0.5 or not 1 <= self.jpeg <= 100:
            raise DataError("ranges: scales must stay below 0.95, bend at most 0.5, jpeg from 1 to 100")


# Khoreva et al. 2017 (arXiv 1703.09554): the paper's own ranges, and those of the code that was released with it
PRESETS: dict[str, Ranges] = {
    "paper": Ranges(),
    "released": Ranges(
        start_scale=0.15, anywhere=1.0, step_shift=0.05, step_turn=0.0, step_scale=0.0, far_scale=0.15, bend=0.05,
        camera_step_shift=0.05, camera_step_turn=3.0, camera_step_scale=0.05, camera_far_shift=0.05,
        camera_far_turn=3.0, camera_far_scale=0.05, cover=False, gain=0.03, power=0.2, lift=0.05, flip_background=0.5,
        still=0.5,
    ),
    "strong": Ranges(
        start_shift=0.3, start_turn=15.0, start_scale=0.3, anywhere=0.25, step_shift=0.15, step_turn=5.0,
        step_scale=0.07, far_shift=1.0, far_turn=45.0, far_scale=0.4, bend=0.12, camera_step_shift=0.02,
        camera_step_turn=2.0, camera_step_scale=0.03, camera_far_shift=0.08, camera_far_turn=10.0,
        camera_far_scale=0.2, gain=0.1, power=0.4, lift=0.1, object_light=0.5, still=0.2, leave=0.15, occluder=0.3,
        noise=6.0, shutter=0.5, jpeg=60,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Everything but the seed that decides a clip's pixels.

    frames: how many. ranges: a preset's name, or Ranges. fill and blend: see fill.py and blend.py. seed: of the
    random numbers. previous: also make the corrupted mask of the frame before (MaskTrack's second input).
    min_object_px: a part with fewer pixels stays in the background. quality: of the JPEG files, 1 to 100.
    max_px: larger images are refused, with the memory they would need. max_side_px: shrink seeds to this first.
    Raises DataError or UnknownName.
    """

    frames: int = 20
    ranges: str | Ranges = "paper"
    fill: str = "auto"
    blend: str = "feather"
    seed: int = 0
    previous: bool = False
    min_object_px: int = 64
    quality: int = 95
    max_px: int = 25_000_000
    max_side_px: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.ranges, str) and self.ranges not in PRESETS:
            raise unknown("ranges", self.ranges, PRESETS)
        if self.fill not in FILLS:
            raise unknown("fill", self.fill, FILLS)
        if self.blend not in BLENDS:
            raise unknown("blend", self.blend, BLENDS)
        if not 1 <= self.frames <= 100_000 or not 1 <= self.quality <= 100 or self.min_object_px < 1:
            raise DataError(
                f"a clip has 1 to 100,000 frames of JPEG quality 1 to 100 and parts of at least 1 px, got "
                f"{self.frames}, {self.quality} and {self.min_object_px}"
            )
        if self.max_side_px is not None and self.max_side_px < 16:
            raise DataError(f"seeds cannot be shrunk to {self.max_side_px} px; wanted at least 16")

    @property
    def bounds(self) -> Ranges:
        """The ranges themselves."""
        return PRESETS[self.ranges] if isinstance(self.ranges, str) else self.ranges

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; a preset by its name, other ranges by what differs from "paper"."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "ranges"}
        ranges: str | dict[str, Any]
        if isinstance(self.ranges, str):
            ranges = self.ranges
        else:
            plain = Ranges()
            ranges = {k: v for k, v in dataclasses.asdict(self.ranges).items() if v != getattr(plain, k)}
        return {**values, "ranges": ranges}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From `as_dict`. Raises DataError for anything it does not know."""
        known = {f.name for f in dataclasses.fields(cls)}
        ranges = values.get("ranges", "paper")
        strange = set(values) - known
        if isinstance(ranges, Mapping):
            strange |= set(ranges) - {f.name for f in dataclasses.fields(Ranges)}
        if strange:
            raise DataError(
                f"dream settings hold {', '.join(sorted(strange))}, which this version of handful does not know"
            )
        if isinstance(ranges, Mapping):
            ranges = Ranges(**ranges)
        return cls(**{**values, "ranges": ranges})
