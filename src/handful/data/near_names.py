"""Names of classes that are one name to a person and two to a computer: other case, spaces, or accents composed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from handful.errors import DataError
from handful.progress import warn
from handful.words import counted


def spelled_alike(name: str) -> str:
    """What all spellings of a name have in common: case, spaces, and whether accents are composed do not count."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(folded.split())


def near_names(names: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """(name, the known one that it is spelled like) of each name that is not known itself."""
    known = list(known)
    nearest = {spelled_alike(one): one for one in known}
    own = set(known)
    return [(n, nearest[at]) for n in names if n not in own and (at := spelled_alike(n)) in nearest]


def told(pairs: Iterable[tuple[str, str]]) -> str:
    """ "'Mug' (known as 'mug')" of each pair; names that look the same are written with their code points."""
    return ", ".join(f"{_visible(a, b)} (known as {_visible(b, a)})" for a, b in pairs)


def learned_as_named(data: object, names: Iterable[str], known: Iterable[str], allow: Iterable[str] = ()) -> None:
    """Before a model learns more. Raises DataError where names of the data are those of its classes spelled otherwise;
    with category_twins in allow, warns."""
    if pairs := near_names(names, known):
        text = f"{data} spells {counted(len(pairs), 'class')} otherwise than the model: {told(pairs)}"
        if "category_twins" not in allow:
            raise DataError(f"{text}; rename them in the data, or learn them as other classes: --allow category_twins")
        warn(f"{text}; learned as other classes")


def warn_of_strangers(data: object, names: Iterable[str], known: Iterable[str], so: str = "strangers to it") -> None:
    """Warn where names of the data are those of a model's classes spelled otherwise. so: what they are then."""
    if pairs := near_names(names, known):
        warn(f"{data} spells {counted(len(pairs), 'class')} otherwise than the model, so they are {so}: {told(pairs)}; "
             "rename them in the data")  # fmt: skip


def _visible(name: str, other: str) -> str:
    alike = unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
    return ascii(name) if alike else repr(name)
