"""One writer at a time in a folder. The lock is the kernel's: it goes with the process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from handful.errors import DataError
from handful.progress import note

WAIT_S = 30.0  # teaching a few images takes less
STEP_S = 0.05
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


@contextlib.contextmanager
def one_writer(folder: Path, wait_s: float = WAIT_S, *, shared: bool = False) -> Iterator[None]:
    """Nobody else who asks changes a folder meanwhile; of one that is not there, nothing is made beside its place.

    shared: others who ask so too may work beside it, as compilations for several runtimes do; all others may not.
    Waits for another writer. The lock lies on the folder itself, so nothing is left behind, and a folder that took its
    place meanwhile is locked in its stead. Raises DataError when the other is not done after wait_s. On a volume that
    knows no locks there are none. Do not ask twice in one process: it would wait for itself.
    """
    until, told = time.monotonic() + wait_s, False
    while True:
        handle = _opened(folder)
        try:
            taken = handle is not None and not _locked(handle, shared)
            if not taken and (handle is None or _is_at(handle, folder)):
                yield
                return
        finally:
            if handle is not None:
                os.close(handle)
        if not taken:
            continue  # another folder came to this place while we waited
        if time.monotonic() > until:
            raise DataError(
                f"another handful command has been changing {folder} for {wait_s:g} s; wait until it ends, or stop it"
            )
        if not told:
            note(f"waiting for another handful command that changes {folder}")
            told = True
        time.sleep(STEP_S)


def _place(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = Path(os.path.realpath(folder))
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def _opened(folder: Path) -> int | None:
    try:
        return os.open(_place(folder), os.O_RDONLY)
    except OSError:  # may not be read, or has just gone
        return None


def _locked(handle: int, shared: bool = False) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in TAKEN  # a volume that knows no locks
    return True


def _is_at(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(_place(folder)))
    except OSError:
        return False
