"""Which folders of a tree of photographs are its classes, which are its splits, and which hold masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from handful.data import pairing
from handful.data.folder_names import HOLDERS, SPLITS
from handful.data.looks import look_of_several
from handful.errors import DataError
from handful.words import shell

FEW = 3


def nest(names: Iterable[str]) -> dict[str, list[str]]:
    """{folder: the folders in it} where two or more folders hold images only in folders of their own, and those are
    not called like splits or like holders of images; {} where it is clear which are the classes."""
    parts = [PurePosixPath(name).parts for name in names if "/" in name]
    outer = sorted({path[0] for path in parts})
    if len(outer) < 2 or all(name.lower() in SPLITS | HOLDERS for name in outer):
        return {}
    inner: dict[str, set[str]] = {name: set() for name in outer}
    for path in parts:
        if len(path) == 2:
            return {}
        inner[path[0]].add(path[1])
    if all(name.lower() in SPLITS | HOLDERS for names in inner.values() for name in names):
        return {}
    return {name: sorted(found) for name, found in inner.items()}


def clear(place: Path, names: Iterable[str]) -> None:
    """Raise DataError where folders lie in folders, so that either could be the classes."""
    found = nest(names)
    if not found:
        return
    deep = [f"{name}/{one}" for name, several in found.items() for one in several]
    few = ", ".join(deep[:FEW]) + (", ..." if len(deep) > FEW else "")
    first = next(iter(found))
    raise DataError(
        f"{place} holds folders in folders ({few}), and either may be the classes: {first}, or {found[first][0]}; move "
        f"the inner folders up into {place}, in place of the outer ones, where they are the classes, else their images "
        f"up into {first} and its like; or take one as a set of its own: {shell(place / first)}"
    )


def are_splits_inside(names: Iterable[str]) -> bool:
    """Whether images lie as CLASS/SPLIT/IMAGE."""
    parts = [PurePosixPath(name).parts for name in names]
    outer = {path[0] for path in parts if len(path) > 1}
    inner = all(len(path) == 1 or (len(path) > 2 and path[1].lower() in SPLITS) for path in parts)
    return len(outer) > 1 and inner and not all(name.lower() in SPLITS | HOLDERS for name in outer)


def lone(place: Path, names: Sequence[str]) -> str | None:
    """The one folder in which all images lie, where it is a set of its own and no class: folders lie in it."""
    parts = [PurePosixPath(name).parts for name in names]
    outer = {path[0] for path in parts}
    one = len(outer) == 1 and all(len(path) > 2 for path in parts)
    name = next(iter(outer)) if one else None
    return name if name is not None and name.lower() not in SPLITS | HOLDERS else None


def masks_without_photos(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """{folder, as ground_truth or train/masks: its pictures} of folders that hold masks, whatever those are called.

    Such a folder is called as masks are, its pictures look like masks, and those of the other folders like photographs.
    Pictures are opened only where a name says so.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(name).parts
        if len(path) > 1:
            depth = 2 if path[0].lower() in SPLITS and len(path) > 2 else 1
            groups["/".join(path[:depth])].append(name)
    if len(groups) < 2:
        return {}
    found = {}
    for at, several in groups.items():
        if not _says_mask(at):
            continue
        if look_of_several([folder / name for name in several]) not in ("mask", "soft"):
            continue
        found[at] = several
    rest = [name for at, several in groups.items() if at not in found for name in several]
    if not found or not rest or look_of_several([folder / name for name in rest]) != "photo":
        return {}
    return found


def _says_mask(at: str) -> bool:
    word = pairing.taken_apart(f"{at.rpartition('/')[2]}/x").words[:1]
    return bool(set("_".join(word).split("_")) & pairing.MASK_WORDS)
