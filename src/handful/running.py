"""The verb that is running and the options it has, so that no message proposes one that it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from handful.words import shell

_options: ContextVar[frozenset[str] | None] = ContextVar("options", default=None)


@contextmanager
def verb(options: Iterable[str]) -> Iterator[None]:
    """A verb with these options (`--images`, ...) runs meanwhile."""
    token = _options.set(frozenset(options))
    try:
        yield
    finally:
        _options.reset(token)


def has(*options: str) -> bool:
    """Whether the running verb has all of these options. Where none runs, a program calls: it has what a reader has."""
    known = _options.get()
    return known is None or known.issuperset(options)


def reading(options: str, place: object, to: str) -> str:
    """How a data set is read with options: they, or, where the running verb lacks one, a copy that does without.

    place: the data set. to: the format of the copy.
    """
    if has(*re.findall(r"--[a-z-]+", options)):
        return options
    return f"make a copy, and give that (handful data convert {shell(place)} COPY --to {to} {options})"
