"""Which file of a data set was opened as what: noted by all that opens one, for the account of its files.

A first look at how a file begins (sniff.py, looks.py, suspects.py) is no use of it and is not noted. The members of a
shard are told by its reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

IMAGE, MASK, LABELS, NAMES, UNREAD = "image", "mask", "labels", "classes", "unread"
_open: list[dict[str, str]] = []


def note(path: str | os.PathLike[str], role: str) -> None:
    """Say that a file was used. role: IMAGE, MASK, LABELS, NAMES (of classes), or UNREAD: told as not read."""
    for ledger in _open:
        if role != UNREAD or os.fspath(path) not in ledger:
            ledger[os.fspath(path)] = role


@contextmanager
def noting() -> Iterator[dict[str, str]]:
    """{path as it was opened: role} of all that is used meanwhile, whichever thread uses it."""
    ledger: dict[str, str] = {}
    _open.append(ledger)
    try:
        yield ledger
    finally:
        _open[:] = [one for one in _open if one is not ledger]
