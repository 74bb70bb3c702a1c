"""Vigilance: which values there are, and how that is said, in one place; nothing is imported for it."""

from __future__ import annotations

from handful.errors import DataError

LIMITS = (0.0, 10.0)  # beyond, every answer is the same
WORKING = (1.2, 4.1)
SAID = f"{LIMITS[0]:g} to {LIMITS[1]:g}, in practice {WORKING[0]:g} to {WORKING[1]:g}"
MEANING = f'{SAID}; higher says "none of these" more often'


def check_vigilance(value: float) -> float:
    """A vigilance that somebody gave. Raises DataError, with the range, for one that no model can use."""
    low, high = LIMITS
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:  # NaN is in no range
        raise DataError(f"vigilance is {value!r}; wanted a number from {MEANING}")
    return float(value)
