"""Models that come with handful, by name: `handful predict people photo.jpg`. One model folder each, as training
writes it, with weights of 16 bits; its card says what they were made from (tools/make_people.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # told before NumPy is loaded, that there is no such model
    from handful.arrays import StrPath

HOME = Path(__file__).parent / "pretrained"


def known() -> list[str]:
    """Their names."""
    return sorted(place.parent.name for place in HOME.glob("*/handful.json"))


def found(model: StrPath) -> Path:
    """The folder of the model that is meant: `model` itself where anything lies there, else the one of that name that
    comes with handful; `model` again where there is none."""
    own = Path(model)
    shipped = HOME / own
    bare = len(own.parts) == 1 and str(model) == own.name  # people, and not ./people or people/
    return shipped if bare and not os.path.lexists(own) and (shipped / "handful.json").exists() else own


def ships(folder: StrPath) -> bool:
    """Whether a model folder is one of these, in which nothing else is written."""
    return Path(folder).resolve().parent == HOME.resolve()
