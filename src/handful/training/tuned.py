"""How a network is trained where nothing else is given: as it was tuned, which its card says (`training`).

So the figures of a network are those of the plain command: nobody has to know the settings they were measured with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from handful.errors import DataError
from handful.pick import unknown
from handful.training.config import Plan

T = TypeVar("T")
CELL = 32  # a crop has whole cells of the coarsest maps


def plan_of(own: Mapping[str, Any], given: Mapping[str, Any], **otherwise: Any) -> Plan:
    """The plan `given` by name, over what of `own` is of a plan, over `otherwise`. Raises as Plan does."""
    known = {f.name for f in fields(Plan)}
    return Plan.of({**otherwise, **{key: value for key, value in own.items() if key in known}, **given})


def made(kind: type[T], own: Mapping[str, Any] | None, given: T | Mapping[str, Any] | None) -> T:
    """A Loss or an Augment: `given` as it is, or what it changes of the network's own settings.

    Raises UnknownName for a setting that there is not, DataError for a value that makes no sense.
    """
    if isinstance(given, kind):
        return given
    changed: dict[str, Any] = {**(own or {}), **(given or {})}  # type: ignore[dict-item]
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in changed:
        if key not in known:
            raise unknown(f"setting of {kind.__name__.lower()}", key, known)
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in changed.items()})
    except (TypeError, ValueError) as error:
        raise DataError(f"{changed} are not settings of {kind.__name__.lower()} ({error})") from error


def parts(
    own: Mapping[str, Any], freeze: Sequence[str] | None, lr_of: Mapping[str, float] | None
) -> tuple[Sequence[str], Mapping[str, float]]:
    """Which parts are not trained, and factors of the learning rate by part: as given, or the network's own."""
    return own.get("freeze", ()) if freeze is None else freeze, own.get("lr_of", {}) if lr_of is None else lr_of


def crop_of(crop: float | tuple[int, int] | None, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width in px of what is cut of a frame: as given, all of it (None), or a share of each side.

    Raises DataError for a share that is none.
    """
    if not isinstance(crop, (int, float)):
        return crop or size_hw
    if not 0 < crop <= 1:
        raise DataError(f"crop is {crop}; wanted (height, width) in px, or the share of both sides, above 0 to 1")
    if crop == 1:
        return size_hw
    height, width = (min(side, max(CELL, CELL * round(side * crop / CELL))) for side in size_hw)
    return height, width
