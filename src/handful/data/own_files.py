"""What handful wrote itself among a user's images: predictions, models, curves. They are no data, and no class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from handful import places
from handful.image import SUFFIXES

MODELS = frozenset(("handful.json", "bundle.json"))  # all of such a folder is a model, its curves and pages too
RESULTS = "results.json"  # of a folder that predict wrote
PAGES = (".html", ".htm")
HEAD = 2048  # bytes of a picture in which its maker is told
_PALETTE_OR_GRAY = (0, 3)  # a PNG's kind of color: of masks, which are labels wherever somebody has put them


def is_model(folder: str, names: Sequence[str]) -> bool:
    """Whether a folder with these files and folders is a model's, or that of a training that is not finished."""
    if any(name in MODELS and places.ours(Path(folder, name)) for name in names):
        return True
    steps = (name for name in names if name.startswith(("step-", "best-")))
    return any(os.path.isfile(os.path.join(folder, step, "state.json")) for step in steps)


def made(folder: str, files: Sequence[str], below: bool = False) -> frozenset[str]:
    """Which files of a folder handful made. below: the folder lies in one of predictions.

    One picture is opened of each folder, and the others where that one, or results.json, is handful's: to open each
    of a hundred thousand photographs would take as long as to list them ten times.
    """
    pages = {name for name in files if name.lower().endswith(PAGES) and places.ours(Path(folder, name))}
    images = [name for name in files if os.path.splitext(name)[1].lower() in SUFFIXES]
    if not (pages or below or _is_results(folder, files) or any(is_drawn(folder, name) for name in images[:1])):
        return frozenset()
    pictures = {name for name in images if is_drawn(folder, name, masks=below)}
    others = (name for name in files if name not in pictures and name not in images)
    return frozenset({*pages, *pictures, *(name for name in others if places.ours(Path(folder, name)))})


def is_of_predictions(folder: str, files: Sequence[str]) -> bool:
    """Whether what lies below a folder may be masks that predict wrote."""
    return _is_results(folder, files) or any(is_drawn(folder, name) for name in files[:1] if _is_jpeg(name))


def _is_results(folder: str, files: Sequence[str]) -> bool:
    return RESULTS in files and places.ours(Path(folder, RESULTS))


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith(".jpg")


def is_drawn(folder: str, name: str, *, masks: bool = False) -> bool:
    """Whether a picture says of itself that handful drew it. masks: also where it is one of label ids."""
    try:
        path = os.path.join(folder, name)
        now = os.stat(path)
        return _says(path, now.st_size, now.st_mtime_ns, masks)
    except OSError:
        return False


@lru_cache(maxsize=1 << 14)
def _says(path: str, size: int, changed_ns: int, masks: bool) -> bool:
    with open(path, "rb") as opened:
        head = opened.read(HEAD)
    if places.MARK.encode() not in head:
        return False
    return masks or not (head.startswith(b"\x89PNG") and len(head) > 25 and head[25] in _PALETTE_OR_GRAY)
