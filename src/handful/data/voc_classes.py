"""The classes of a VOC data set: VOC's own 20, CVAT's labelmap.txt, or the names that stand in the XML files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from handful.data.finding import Finding, OnFinding
from handful.data.reading import Few
from handful.errors import DataError
from handful.types import Category

Classes = Sequence[tuple[str, tuple[int, int, int] | None]]
CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
BACKGROUND = "background"
BACKGROUNDS = frozenset((BACKGROUND, "_background_", "__background__", "bg"))
LISTS = ("class_names.txt", "classes.txt", "labels.txt", "label_names.txt", "label.txt", "class.txt", "names.txt",
         "classnames.txt", "class_list.txt", "codes.txt", "categories.txt", "obj.names", "classes.names")  # fmt: skip
_IGNORED = frozenset(("__ignore__", "_ignore_"))
ILLEGAL = re.compile("[\x00-\x08\x0a-\x1f\ud800-\udfff\ufffe\uffff]")  # and line ends, which XML changes
_MAP_LINE = re.compile(r"(?P<name>.+):(?P<rgb>(\d{1,3},\d{1,3},\d{1,3})?):[^:]*:[^:]*", re.ASCII)


def numbered(classes: Classes) -> tuple[Category, ...]:
    """The classes of a labelmap.txt: VOC's ids if all names are VOC's, or else from 1 in order; background is 0."""
    names = [name for name, _ in classes if name not in BACKGROUNDS]
    own = set(names) <= set(CLASSES)
    ids = {name: CLASSES.index(name) + 1 if own else i for i, name in enumerate(names, 1)}
    return tuple(Category(ids.get(name, 0), name, rgb=rgb) for name, rgb in classes)


def implied(names: Iterable[str], *, masks: bool) -> tuple[Category, ...]:
    """The classes of a set without labelmap.txt: the names in its XML files, or VOC's own where masks are VOC's."""
    names = set(names) - {""}
    back = [BACKGROUND] if masks or BACKGROUND in names else []
    if names <= {*CLASSES, BACKGROUND}:
        return numbered([(name, None) for name in (*back, *(name for name in CLASSES if masks or name in names))])
    return numbered([(name, None) for name in (*back, *sorted(names - {BACKGROUND}))])


def class_name(name: str) -> str:
    """The name. Raises DataError when XML cannot hold it."""
    if ILLEGAL.search(name):
        raise DataError(f"the class {name!r} cannot stand in an XML file; rename it")
    return name


def map_text(classes: Classes) -> str:
    """CVAT's labelmap.txt. Raises DataError for a class name that it cannot hold."""
    lines = [f"{class_name(name)}:{','.join(map(str, rgb or ()))}::" for name, rgb in classes]
    return "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"


def map_classes(text: str, on_finding: OnFinding, *, file: str) -> list[tuple[str, tuple[int, int, int] | None]]:
    """The classes of a labelmap.txt with their colors, in order; broken lines and doubles are told."""
    found: dict[str, tuple[int, int, int] | None] = {}
    few = Few(on_finding)
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        match = _MAP_LINE.fullmatch(line)
        rgb = [int(v) for v in match["rgb"].split(",") if v] if match else []
        name = match["name"] if match else "" if line.startswith("#") else line.strip()
        if max([*rgb, 0]) > 255 or (match is None and ":" in name):
            few(Finding("broken_label", file, number, detail=f"line {number} is {line[:60]!r}; wanted name:r,g,b::"))
        elif name in found:
            few(Finding("duplicate_category", file, name, detail=f"lists the class {name!r} twice"))
        elif name:
            found[name] = (rgb[0], rgb[1], rgb[2]) if rgb else None
    few.close()
    return list(found.items())


def listed(text: str, present: Iterable[int]) -> tuple[Category, ...] | None:
    """The classes of a list with a name a line, by the values in masks; None where it cannot be told which is which.

    A list that begins with the background gives it the value 0, as labelme's does (its "__ignore__" is no class). One
    that does not counts from 1, if the masks hold as many values as it has names; otherwise nothing says where it
    begins.
    """
    names = [line.strip() for line in text.replace("\r\n", "\n").rstrip().split("\n")]
    while names and names[0] in _IGNORED:
        names.pop(0)
    names = [name for name in names if name]
    top = max(present, default=0)
    if not names or len(set(names)) < len(names) or top > len(names):
        return None
    if names[0].casefold() in BACKGROUNDS:
        return tuple(Category(i, name) for i, name in enumerate(names)) if top < len(names) else None
    if top == len(names):
        return (Category(0, BACKGROUND), *(Category(i, name) for i, name in enumerate(names, 1)))
    return None
