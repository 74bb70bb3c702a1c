"""Which folders of a tree of photographs are its classes, which are its splits, and which hold masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from handful import running
from handful.data import pairing
from handful.data.folder_names import HOLDERS, LABELED_SPLITS, SPLITS
from handful.data.label_tree import header
from handful.data.looks import look_of_several
from handful.errors import DataError
from handful.words import shell

FEW = 3
MOST = 16  # folders that hold masks
LOSSLESS = frozenset((".png", ".bmp", ".tif", ".tiff", ".gif"))


def nest(names: Iterable[str]) -> dict[str, list[str]]:
    """{folder: the folders in it} where two or more folders hold images only in folders of their own, and those are
    not called like splits or like holders of images; {} where it is clear which are the classes."""
    parts = [PurePosixPath(name).parts for name in names if "/" in name]
    outer = sorted({path[0] for path in parts})
    if len(outer) < 2 or all(name.lower() in SPLITS | HOLDERS for name in outer):
        return {}
    inner: dict[str, set[str]] = {name: set() for name in outer}
    for path in parts:
        inner[path[0]].add(path[1] if len(path) > 2 else "")
    if any("" in held for held in inner.values()):
        return _around(inner)
    if all(name.lower() in SPLITS | HOLDERS for names in inner.values() for name in names):
        return {}
    return {name: sorted(found) for name, found in inner.items()}


def _around(inner: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Of folders some of which hold images themselves: those around class folders all the same. They are called like
    splits (train/cat beside test1), hold folders called like those beside them (augmented/cat beside cat), or would be
    the only class (crops/cat beside images)."""
    deep = {name: held for name, held in inner.items() if "" not in held and len(held) > 1}
    only = [name for name in inner if name.lower() not in HOLDERS]
    found = {name: held for name, held in deep.items()
             if _says_split(name) or held & (inner.keys() - {name}) or only == [name]}  # fmt: skip
    return {name: sorted(held) for name, held in found.items()}


def _says_split(name: str) -> bool:
    return bool({token.lower() for token in pairing.TOKEN.findall(name)} & (LABELED_SPLITS | HOLDERS))


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
    groups = _groups(names)
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


def _groups(names: Iterable[str]) -> dict[str, list[str]]:
    """The images of each folder that may be a class: CLASS, or SPLIT/CLASS."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(name).parts
        if len(path) > 1:
            depth = 2 if path[0].lower() in SPLITS and len(path) > 2 else 1
            groups["/".join(path[:depth])].append(name)
    return groups


def masks_by_name(folder: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """{folder: {picture: the photo of its name}} of folders that are not called as masks are, and hold them all the
    same: each of their pictures has the name and the size of a photograph in another folder, but for its suffix, and
    looks like a mask.

    Nothing tells such a folder from a class of drawings whose images are numbered as the photographs are, so it is read
    as neither. Pictures are opened only where all names of a folder are among those of the others.
    """
    groups = _groups(sorted(names))
    of: dict[str, dict[str, str]] = defaultdict(dict)  # stem -> folder -> picture
    for at, several in groups.items():
        for name in several:
            of[PurePosixPath(name).stem][at] = name
    found: dict[str, dict[str, str]] = {}
    for at, several in groups.items():
        kinds = {PurePosixPath(name).suffix.lower() for name in several}
        if not all(PurePosixPath(name).suffix.lower() in LOSSLESS for name in several):
            continue
        partners = {name: next((n for other, n in of[PurePosixPath(name).stem].items() if other != at), None)
                    for name in several}  # fmt: skip
        whole = {name: partner for name, partner in partners.items() if partner is not None}
        if len(whole) == len(several) > 1 and not kinds & {PurePosixPath(n).suffix.lower() for n in whole.values()}:
            found[at] = whole
    if len(found) > MOST:  # numbered alike: these are classes
        return {}
    return {at: pairs for at, pairs in found.items() if _look_like_pairs(folder, pairs)}


def _look_like_pairs(folder: Path, pairs: Mapping[str, str]) -> bool:
    if look_of_several([folder / name for name in pairs]) not in ("mask", "soft"):
        return False
    if look_of_several([folder / name for name in pairs.values()]) != "photo":
        return False
    few = list(pairs.items())[:FEW]
    sizes = [(header(folder / mask), header(folder / photo)) for mask, photo in few]
    return all(mask is not None and photo is not None and mask[1] == photo[1] for mask, photo in sizes)


def how_to_pair(folder: Path, at: str, pairs: Mapping[str, str]) -> str:
    """What to say for masks and photographs that pair to be read; "" where photos lie in several folders, or the
    running verb takes no patterns."""
    ends = {(str(PurePosixPath(photo).parent), PurePosixPath(photo).suffix, PurePosixPath(mask).suffix)
            for mask, photo in pairs.items()}  # fmt: skip
    if len(ends) != 1:
        return ""
    ((photos, suffix, own),) = ends
    images, masks = shell(f"{photos}/{{}}{suffix}"), shell(f"{at}/{{}}{own}")
    return f"to read them: --images {images} --masks-in {masks}" if running.has("--images", "--masks-in") else ""


def _says_mask(at: str) -> bool:
    word = pairing.taken_apart(f"{at.rpartition('/')[2]}/x").words[:1]
    return bool(set("_".join(word).split("_")) & pairing.MASK_WORDS)
