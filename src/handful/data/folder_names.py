"""What the names of folders and files say: which split, and that images lie in them. All such lists are here.

They differ on purpose: a folder called dev may well be a class, but a list called dev.csv beside images is a split.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# which of three a word speaks of, wherever it stands in a name: val2017, custom_val, dev-images
KIND_OF = {**dict.fromkeys(("train", "training", "trn"), "train"), **dict.fromkeys(("test", "testing", "tst"), "test"),
           **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "minival"), "val")}  # fmt: skip
# a folder of just this name is a split and no class: not dev, eval and trn, which things are called
IN_ORDER = ("train", "training", "valid", "val", "validation", "test", "testing")
SPLITS = frozenset(IN_ORDER)
# beside labels there are no classes to be mistaken for, and VOC's trainval is a list
LABELED_SPLITS = SPLITS | {"trainval"}
# what label files and the folders that they name are called, in one spelling
SPLIT_OF = {name: KIND_OF[name] for name in (*SPLITS, "dev")}
# a folder of one of these names holds images of no class, or class folders
HOLDERS = frozenset(("images", "photos", "jpegimages", "imgs", "img"))
# of these a label file's path may leave one out: alone they may be classes
PATH_HOLDERS = HOLDERS | {"image", "data", "sequences"}

_DATED = re.compile(r"([a-z]+)[-_ ]?\d*")


def usual(split: str | None) -> str:
    """The name that teaching, training and evaluation know a split by: "train" for Training, train2017 and the like; ""
    for none, and any other name as it is."""
    said = _DATED.fullmatch((split or "").lower())
    return KIND_OF.get(said[1], split or "") if said else split or ""


def above(folder: Path) -> Path | None:
    """The folder above one that is a split, where files about all splits lie: names of classes; else None."""
    place = Path(os.path.abspath(folder))
    return place.parent if place.name.lower() in SPLITS and place.parent != place else None
