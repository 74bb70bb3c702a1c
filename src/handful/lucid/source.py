"""Where seeds come from: a folder in any format, or a labeling store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.data import formats
from handful.data.finding import OnFinding
from handful.errors import DataError
from handful.types import Dataset

STORE_FILE = "labels.sqlite"  # handful.store's own name, which cannot be asked without its packages; a test compares
STORE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


def is_store(place: str | Path) -> bool:
    """Whether a place is a labeling store: an address, an SQLite file, or a folder that holds one."""
    if "://" in str(place):
        return True
    path = Path(place)
    return path.suffix.lower() in STORE_SUFFIXES or (path / STORE_FILE).is_file()


@contextmanager
def opened(
    place: str | Path, on_finding: OnFinding, *, format: str | None = None, **options: Any
) -> Iterator[tuple[Dataset, dict[str, str]]]:
    """The samples of a place, and what to write down about it: its path or address (without password) and its format.

    format and options: as data.formats takes them; a store has none. Raises DataError for a store that is not there.
    """
    if not is_store(place):
        found = formats.one(Path(place), format=format, **options)
        yield found.read(on_finding), {"path": str(Path(place).absolute()), "format": found.title}
        return
    if format or options:
        raise DataError(f"{place} is a labeling store; leave out the format and what goes with it")
    if "://" not in str(place):
        path = Path(place)
        if not (path.is_file() or (path / STORE_FILE).is_file()):
            raise DataError(f"{path} does not exist; wanted a labeling store or a folder of images with labels")
    from handful.store import Store

    with Store.open(place) as store:
        yield store.dataset(), {"path": str(store.place), "format": "store"}
