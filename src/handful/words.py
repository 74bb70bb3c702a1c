"""Words: a count with its noun for messages; what may be the name of a class."""

from __future__ import annotations

import os
import shlex


def counted(n: int, one: str, many: str = "") -> str:
    """counted(1, "class") -> "1 class", counted(3, "class") -> "3 classes". many: what `one` is for another number,
    where it is no plain plural: counted(n, "class was", "classes were")."""
    return f"{n} {one if n == 1 else many or plural(one)}"


def plural(noun: str) -> str:
    """box -> boxes, class -> classes, category -> categories, image -> images."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def shell(value: object) -> str:
    """A path or name as one word of a command, quoted where a shell would take it apart."""
    text = str(value)
    if os.name == "nt":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def is_a_line(name: str) -> bool:
    """Whether a class's name is one line of text that is not empty, as whoever reads names line by line needs it. The
    name of a folder may hold bytes that are no text."""
    return name.splitlines() == [name] and not any("\ud800" <= letter <= "\udfff" for letter in name)
