"""The verb that is running: the options it has, so that no message proposes one that it lacks, and what it has written,
so that whoever stops it is told."""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from handful.words import counted, shell

FEW = 3
_options: ContextVar[frozenset[str] | None] = ContextVar("options", default=None)
PASSING = "handful-"  # how the folders begin that are made among the system's temporary ones
_written: dict[str, None] = {}
_verbs: list[bool] = []  # whether a verb runs, on whichever thread: a program that calls would hold all it ever wrote


@contextmanager
def verb(options: Iterable[str]) -> Iterator[None]:
    """A verb with these options (`--images`, ...) runs meanwhile."""
    token = _options.set(frozenset(options))
    _written.clear()
    _verbs.append(True)
    try:
        yield
    finally:
        _options.reset(token)
        _verbs.pop()


def wrote(path: str | os.PathLike[str]) -> None:
    """A file or folder is whole where it belongs. What is in a folder that is still on its way does not count."""
    place = os.fspath(path)
    passing = os.path.abspath(place).startswith(os.path.join(tempfile.gettempdir(), PASSING))
    if _verbs and not passing and not any(part.endswith(".part") for part in Path(place).parts):
        _written[place] = None


def written() -> str:
    """What the verb that runs, or ran last, has written, in words: a few names, or how many in which folder; or ""."""
    homes: dict[str, list[str]] = defaultdict(list)
    for place in _written:
        homes[os.path.dirname(place) or "."].append(place)
    rows: list[str] = []
    for home, several in homes.items():
        rows += several if len(several) <= FEW else [f"{counted(len(several), 'file')} in {home}"]
    return ", ".join(rows[:FEW]) + (f" and {len(rows) - FEW} more" if len(rows) > FEW else "")


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
