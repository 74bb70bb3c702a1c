"""Photographs and masks as people pair them: by names that differ in a word, in any two folders or in one.

`train/a.jpg` and `train_mask/a.png`, `images/a.jpg` and `masks/a_mask.png`, `0001/img.png` and `0001/label.png`: what
two names have in common is what is left of their paths without the words for "image" and "mask". Which side is the
masks is measured in the files (looks.py), and taken from the words only where both sides look alike.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from handful import running
from handful.data.folder_names import LABELED_SPLITS
from handful.data.looks import look_of_several
from handful.data.paths import is_image_name, walk
from handful.errors import DataError
from handful.words import counted, shell

MASK_WORDS = frozenset((
    "mask", "masks", "masque", "segmask", "seg", "segm", "segmentation", "segmentations", "segmentationmap",
    "label", "labels", "labelled", "labeled", "labelids", "labeltrainids", "gt", "gts", "groundtruth", "truth",
    "annotation", "annotations", "anno", "annos", "annot", "annots", "matte", "mattes", "alpha", "trimap",
    "trimaps", "instance", "instances", "instanceids", "target", "targets", "silhouette", "silhouettes", "fg",
    "foreground", "manual", "pixels", "semantic", "gtfine", "color", "colors", "colour", "binary", "lesion",
    "roi", "segmim",
))  # fmt: skip
IMAGE_WORDS = frozenset((
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics", "rgb", "input",
    "inputs", "jpegimages", "pngimages", "leftimg8bit", "frame", "frames", "original", "originals", "orig", "raw",
    "png", "jpg", "jpeg", "x", "sat",
))  # fmt: skip
LAST_ONLY = frozenset(("p", "l", "ground"))  # CamVid's _P and _L; the first half of ground_truth
# words, also those of camelCase, and numbers
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^A-Za-z\d_\-. ]+")
WORDS = MASK_WORDS | IMAGE_WORDS
_JOINTS = dict.fromkeys(map(ord, "_-. "))
MASK_LOOKS = ("mask", "soft", "alpha")


@dataclass(frozen=True)
class Named:
    """The path of a picture, taken apart. key: what it shares with its partner. words: what was taken out. index: the
    number after the word for mask, where one picture has several."""

    name: str
    key: tuple[str, ...]
    words: tuple[str, ...]
    index: str = ""


@dataclass
class Tree:
    """Pictures whose paths have the same words taken out. by_key: those of each key, in order of name."""

    words: tuple[str, ...]
    by_key: dict[tuple[str, ...], list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def title(self) -> str:
        """What it is called where one has to be named: the words, or "photos" without any."""
        return "/".join(self.words) or "photos"

    @cached_property
    def names(self) -> list[str]:
        """All its pictures."""
        return sorted(name for names in self.by_key.values() for name in names)


@dataclass(frozen=True)
class Pairs:
    """Photographs and one tree of masks.

    masks: {photo: its masks}, several where a photo has a mask for each object. look: of the masks (looks.LOOKS).
    orphans: masks without a photo. photos: all, also those without a mask. objects: a mask is one object of many.
    loose: their folders have names of any kind, so that train_shots is the split train.
    """

    title: str
    look: str
    photos: tuple[str, ...]
    masks: dict[str, tuple[str, ...]]
    orphans: tuple[str, ...] = ()
    objects: bool = False
    loose: bool = False


_REMEMBERED: ContextVar[dict[tuple[str, tuple[str, ...]], list[Pairs]] | None] = ContextVar("pairs", default=None)


def taken_apart(name: str) -> Named:
    """The words for "image" and "mask" taken out of a path, at the ends of each part of it; suffix left out."""
    composed = name if name.isascii() else unicodedata.normalize("NFC", name)  # as macOS has accents, and others
    *folders, file = os.path.splitext(composed)[0].split("/")
    parts = [*map(_folder_apart, folders), _part_apart(file, last=True)]
    key, words = (tuple([part[i] for part in parts if part[i]]) for i in (0, 1))
    return Named(name, key, words, parts[-1][2])


@lru_cache(maxsize=1 << 16)  # the folders of a hundred thousand names are few
def _folder_apart(part: str) -> tuple[str, str, str]:
    return _part_apart(part, last=False)


def _part_apart(part: str, *, last: bool) -> tuple[str, str, str]:
    """One part of a path: what is left of it, the words that were taken out, and the index of a file."""
    whole, index = part.lower().translate(_JOINTS), ""
    tokens = [whole] if whole in WORDS else [token.lower() for token in TOKEN.findall(part)]
    if last and len(tokens) > 2 and tokens[-1].isdigit() and tokens[-2] in MASK_WORDS:
        index = tokens.pop()
    out: list[str] = []
    while tokens and (tokens[-1] in WORDS or (len(tokens) > 1 and tokens[-1] in LAST_ONLY)):
        out.insert(0, tokens.pop())
    while tokens and tokens[0] in WORDS:
        out.append(tokens.pop(0))
    return " ".join(tokens), "_".join(out), index


@contextmanager
def remembering() -> Iterator[None]:
    """Look for the pairs of a folder once, however often they are asked for, until the block ends. What is on the disk
    must not change in it.
    """
    if _REMEMBERED.get() is not None:
        yield
        return
    token = _REMEMBERED.set({})
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def find(folder: Path, names: Iterable[str] | None = None) -> list[Pairs]:
    """Every tree of masks in and below a folder that pairs with photographs there; [] where there is none.

    names: the pictures to look at, relative to the folder; None for all. A picture is opened only where names pair.
    """
    folder, held = Path(folder), _REMEMBERED.get()
    listed = tuple(sorted(name for name in (walk(folder) if names is None else names) if is_image_name(name)))
    if held is None:
        return _find(folder, listed)
    key = (str(folder), listed)
    if key not in held:
        held[key] = _find(folder, listed)
    return held[key]


def _find(folder: Path, names: Sequence[str]) -> list[Pairs]:
    named = [taken_apart(name) for name in names]
    looks: dict[tuple[str, ...], str | None] = {}

    def look(tree: Tree) -> str | None:
        if tree.words not in looks:
            looks[tree.words] = look_of_several([folder / name for name in tree.names])
        return looks[tree.words]

    for keyed in (_as_it_is, _without_splits, _without_folders):
        found = _paired(_trees(named, keyed), look)
        if found:
            return found
    found = _one_of_many(named, look) or _of_two_folders(folder, named) or _numbered(named, look)
    return found or _by_suffix(folder, named)


def _as_it_is(one: Named) -> tuple[str, ...]:
    return one.key


def _without_splits(one: Named) -> tuple[str, ...]:
    return tuple(part for part in one.key[:-1] if part not in LABELED_SPLITS) + one.key[-1:]


def _without_folders(one: Named) -> tuple[str, ...]:
    """PedMasks beside PNGImages: a folder whose name ends in a word for image or mask is no part of the name."""
    *folders, _ = one.name.split("/")
    kept = [part for part in folders if not _folder_apart(part)[1]]
    return tuple(" ".join(t.lower() for t in TOKEN.findall(part)) for part in kept) + one.key[-1:]


def _without_padding(one: Named) -> tuple[str, ...]:
    return tuple(" ".join(t.lstrip("0") or "0" if t.isdigit() else t for t in part.split()) for part in one.key)


def _numbered(named: Sequence[Named], look: Callable[[Tree], str | None]) -> list[Pairs]:
    """images/1.jpg beside masks/001.png: numbers with zeros before them, where each has its one partner."""
    found = _paired(_trees(named, _without_padding), look)
    return [p for p in found if not p.orphans and len(p.masks) == len(p.photos) == sum(map(len, p.masks.values()))]


def _trees(named: Sequence[Named], keyed: Callable[[Named], tuple[str, ...]]) -> list[Tree]:
    trees: dict[tuple[str, ...], Tree] = {}
    for one in named:
        trees.setdefault(one.words, Tree(one.words)).by_key[keyed(one)].append(one.name)
    return sorted(trees.values(), key=lambda tree: tree.words)


def _paired(trees: Sequence[Tree], look: Callable[[Tree], str | None]) -> list[Pairs]:
    found = []
    photos = [tree for tree in trees if not _says_mask(tree)] or list(trees)
    for masks in trees:
        mates = [t for t in photos if t is not masks and t.by_key.keys() & masks.by_key.keys()]
        mates = [t for t in mates if len(t.by_key.keys() & masks.by_key.keys()) * 2 >= len(masks.by_key)] or mates
        if not mates or not _are_masks(masks, mates, look):
            continue
        of = {key: name for tree in mates for key, names in tree.by_key.items() for name in names}
        several = [name for tree in mates for names in tree.by_key.values() if len(names) > 1 for name in names]
        if several:  # two photographs of one key: whose the mask is cannot be told
            continue
        rows = {of[key]: tuple(sorted(names)) for key, names in masks.by_key.items() if key in of}
        orphans = tuple(sorted(name for key, names in masks.by_key.items() if key not in of for name in names))
        found.append(Pairs(masks.title, look(masks) or "mask", tuple(sorted(of.values())), rows, orphans))
    return found


def _says_mask(tree: Tree) -> bool:
    return any(token in MASK_WORDS for word in tree.words for token in word.split("_"))


def _are_masks(masks: Tree, mates: Sequence[Tree], look: Callable[[Tree], str | None]) -> bool:
    """Whether one side looks like masks and the other does not, or where both look alike, only one is called so."""
    own, others = look(masks), {look(tree) for tree in mates}
    if own is None:
        return False
    says, said = _says_mask(masks), any(map(_says_mask, mates))
    if own in MASK_LOOKS or own == "flat":
        return "photo" in others or None in others or (says and not said)
    return False


def _one_of_many(named: Sequence[Named], look: Callable[[Tree], str | None]) -> list[Pairs]:
    """One photograph a folder, and beside it a folder with a mask for each object, whatever those are called."""
    trees = {tree.title: tree for tree in _trees(named, lambda one: one.key[:-1])}
    found = []
    for masks in trees.values():
        for photos in trees.values():
            lone = {key: names[0] for key, names in photos.by_key.items() if len(names) == 1}
            shared = lone.keys() & masks.by_key.keys()
            if photos is masks or not shared or () in shared or len(shared) * 2 < len(lone):
                continue
            if _says_mask(masks) and not _says_mask(photos) and look(masks) in MASK_LOOKS:
                rows = {lone[key]: tuple(sorted(masks.by_key[key])) for key in shared}
                orphans = tuple(n for key, ns in masks.by_key.items() if key not in shared for n in ns)
                found.append(
                    Pairs(masks.title, look(masks) or "mask", tuple(sorted(lone.values())), rows, orphans, True)
                )
    return found


def without_split(part: str) -> tuple[str, str]:
    """(word for a split, the rest) of a folder's name: train_shots is train and shots; "" for what is not there."""
    tokens = TOKEN.findall(part)
    words = [token for token in tokens if token.lower() in LABELED_SPLITS]
    if len(words) != 1:
        return "", part
    return words[0], "_".join(token for token in tokens if token not in words)


def _of_two_folders(folder: Path, named: Sequence[Named]) -> list[Pairs]:
    """Folders of any name whose files have the same names, where one holds what looks like masks and one photographs:
    shots/a.jpg and masks/a.png, or A/a.png and B/a.png where no other folder is there.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
    for one in named:
        apart = [without_split(part) for part in one.name.split("/")[:-1]]
        at = tuple(rest for _, rest in apart if rest)
        key = (*(split for split, _ in apart if split), *one.key[-1:])
        groups.setdefault(at, {}).setdefault(key, []).append(one.name)
    found = []
    for at, masks in groups.items():
        says = any(_folder_apart(part)[1] and set(_folder_apart(part)[1].split("_")) & MASK_WORDS for part in at)
        for other, photos in groups.items():
            shared = photos.keys() & masks.keys()
            if other == at or not (says or len(groups) == 2) or len(shared) * 2 < max(len(masks), 1):
                continue
            if any(len(names) > 1 for names in (*photos.values(), *masks.values())):
                continue
            own = look_of_several([folder / names[0] for names in masks.values()])
            if own not in MASK_LOOKS or look_of_several([folder / n[0] for n in photos.values()]) != "photo":
                continue
            rows: dict[str, tuple[str, ...]] = {photos[key][0]: (masks[key][0],) for key in shared}
            orphans = tuple(sorted(names[0] for key, names in masks.items() if key not in shared))
            every = tuple(sorted(names[0] for names in photos.values()))
            found.append(Pairs("/".join(at), own, every, rows, orphans, loose=True))
            break
    return found


def _by_suffix(folder: Path, named: Sequence[Named]) -> list[Pairs]:
    """cat/a.jpg and cat/a.png, side by side and called alike, where those of one suffix look like masks and the others
    like photographs.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)  # path without suffix -> suffix -> name
    for one in named:
        stem, suffix = os.path.splitext(one.name)
        groups[stem][suffix.lower()] = one.name
    twice = {stem: found for stem, found in groups.items() if len(found) == 2}
    kinds = {tuple(sorted(found)) for found in twice.values()}
    if len(kinds) != 1 or len(twice) < 2 or len(twice) * 2 < len(groups):
        return []
    for own, other in (kind := next(iter(kinds)), kind[::-1]):
        masks, photos = ([found[suffix] for found in twice.values()] for suffix in (own, other))
        look = look_of_several([folder / name for name in masks])
        if look in MASK_LOOKS and look_of_several([folder / name for name in photos]) == "photo":
            every = tuple(sorted(found.get(other, "") for found in groups.values() if other in found))
            orphans = tuple(sorted(found[own] for found in groups.values() if other not in found))
            return [Pairs(own, look, every, dict(zip(photos, ((m,) for m in masks), strict=True)), orphans)]
    return []


def how_to_read(folder: Path, title: str) -> str:
    """What to say for the masks of a title in a folder to be read."""
    return running.reading(f"--format pairs --masks-in {shell(title)}", folder, "masks")


def told(folder: Path, images: str | None, masks: str | None) -> list[Pairs]:
    """Pairs by patterns that somebody gave, `{}` standing for what they share: `imgs/{}.jpg`, `masks/{}_mask.png`.

    Raises DataError for a pattern without `{}`, and where none or several match.
    """
    if images is None or masks is None:
        how = running.reading("--images 'a/{}.jpg' --masks-in 'b/{}_mask.png'", folder, "masks")
        raise DataError(f"a pattern with {{}} says how images and masks pair only beside another; give both: {how}")
    sides = [_matched(folder, pattern) for pattern in (images, masks)]
    rows: dict[str, tuple[str, ...]] = {name: (sides[1][key],) for key, name in sides[0].items() if key in sides[1]}
    if not rows:
        raise DataError(f"{folder} has {counted(len(sides[0]), 'image')} as {images} and {len(sides[1])} as {masks}, "
                        "and none of them share what stands for {}")  # fmt: skip
    orphans = tuple(name for key, name in sorted(sides[1].items()) if key not in sides[0])
    look = look_of_several([folder / names[0] for names in rows.values()]) or "mask"
    return [Pairs(masks, look, tuple(sorted(sides[0].values())), rows, orphans)]


def _matched(folder: Path, pattern: str) -> dict[str, str]:
    before, brace, after = pattern.partition("{}")
    if not brace or "{}" in after:
        raise DataError(f"the pattern is {pattern!r}; wanted one {{}} in it, for what images and masks share")
    found = {}
    for name in walk(folder):
        if name.startswith(before) and name.endswith(after) and is_image_name(name):
            found[name[len(before) : len(name) - len(after)]] = name
    return found
