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
from handful.words import counted

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
    plain = kind()
    for key, value in changed.items():
        _of_its_kind(kind.__name__.lower(), key, value, getattr(plain, key))
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in changed.items()})


def _of_its_kind(what: str, key: str, value: Any, plain: Any) -> None:
    """Raises DataError for a value that is a number where a range is wanted, or a word where a number is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(plain, tuple):
        good = isinstance(value, list | tuple) and len(value) == len(plain) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in value)  # fmt: skip
        wanted = f"{counted(len(plain), 'number')} in brackets, such as {key}=[{','.join(map(str, plain))}]"
    elif isinstance(plain, bool):
        good, wanted = isinstance(value, bool), f"{key}=true or {key}=false"
    else:
        good, wanted = number or (plain is None and value is None), "a number"
    if not good:
        raise DataError(f"{key} of {what} is {value!r}; wanted {wanted}")


def parts(
    own: Mapping[str, Any], freeze: Sequence[str] | None, lr_of: Mapping[str, float] | None
) -> tuple[Sequence[str], Mapping[str, float]]:
    """Which parts are not trained, and factors of the learning rate by part: as given, or the network's own."""
    return own.get("freeze", ()) if freeze is None else freeze, own.get("lr_of", {}) if lr_of is None else lr_of


def crop_of(crop: float | tuple[int, int] | None, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width in px of what is cut of a frame: as given, all of it (None), or a share of each side.

    Raises DataError for a share that is none.
    """
    if crop is not None and not isinstance(crop, (int, float)):
        if crop[0] > size_hw[0] or crop[1] > size_hw[1]:
            asked, frame = (f"{h}x{w}" for h, w in (crop, size_hw))
            raise DataError(f"crop is {asked}, larger than the frame of {frame} that it is cut of; wanted at most "
                            f"{frame}, or a larger frame: --frame {asked}")  # fmt: skip
        return crop
    if crop is None:
        return size_hw
    if not 0 < crop <= 1:
        raise DataError(f"crop is {crop}; wanted (height, width) in px, or the share of both sides, above 0 to 1")
    if crop == 1:
        return size_hw
    height, width = (min(side, max(CELL, CELL * round(side * crop / CELL))) for side in size_hw)
    return height, width
