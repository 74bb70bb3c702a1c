"""Images in images/ and, beside it, a folder of masks that mirrors it: one PNG an image, one id a pixel.

images/[SPLIT/]a.jpg and masks/[SPLIT/]a.png; the folder may have any name, and there may be several (labels23/,
seg10/, ...). The names of the ids are in labels.json, or a text file with a name a line (label_names.py). Masks of
0 and 255 only, without names, are taken as background and foreground, 128 among them as ignore; masks that number the
things of each image, as objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from handful import running
from handful.data import class_lists, instance_ids
from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_names import LISTS, Labels, is_ours, labels_of, write_labels
from handful.data.label_tree import (
    Decode,
    decoder,
    decoder_of,
    mask_names,
    numbered,
    paired,
    split_names,
    split_of,
    stem,
    stored,
    top_of,
    translator,
    with_mask,
)
from handful.data.looks import checked_threshold, hard_values, look_of_several
from handful.data.masks import value_counts, write_ids
from handful.data.pairing import MASK_WORDS, TOKEN
from handful.data.paths import Shelf, walk
from handful.data.writing import Writer
from handful.errors import DataError
from handful.pick import unknown
from handful.progress import track
from handful.types import Category, Dataset, Sample
from handful.words import counted, shell

PRECEDENCE = 80  # any of the others may look like this too
TITLE = "Images and a folder of masks"
TREE = """\
images/a.jpg
images/train/b.jpg                 or in folders that are splits
masks/a.png                        the same path with .png; any name of the folder; one number a pixel
labels.json                        {"labels": {"0": "background", "1": "mug"}, "ignore": 255}
"""
IMAGES, MASKS = "images", "masks"
MOST_COLORS = 64  # of colored masks that nothing names: with more, no color is a class
BINARY = {0: 0, 255: 1, 128: 255}


def detect(folder: Path) -> bool:
    """Whether the folder has images/ and a folder of masks that mirrors it; one of photographs, whose name says nothing
    of masks, is a class beside images."""
    return any(_says_mask(tree) or _look(Path(folder) / tree) != "photo" for tree in mask_trees(folder))


def _says_mask(tree: str) -> bool:
    return any(token.lower() in MASK_WORDS for token in TOKEN.findall(tree))


def _look(tree: Path) -> str | None:
    return look_of_several([tree / name for name in sorted(walk(tree)) if name.lower().endswith(".png")])


def mask_trees(folder: Path) -> list[str]:
    """The folders beside images/ that hold a PNG named like one of its images."""
    folder = Path(folder)
    if not (folder / IMAGES).is_dir():
        return []
    images = {name for name in walk(folder / IMAGES)}
    keys = images | {stem(name) for name in images}
    beside = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != IMAGES)
    found = [tree for tree in beside if any(_mirrors(name, keys) for name in walk(folder / tree))]
    return found or ([MASKS] if is_ours(folder) else [])  # written here, with no image labeled


def _mirrors(name: str, keys: set[str]) -> bool:
    return name.lower().endswith(".png") and stem(name) in keys


def read(
    folder: Path, *, on_finding: OnFinding = stop, masks: str | None = None, threshold: int | None = None
) -> Dataset:
    """The images of images/ in order of split and name, each with its mask from one of the trees beside it.

    masks: which tree. threshold: values of a soft mask from it on are foreground (1 to 255). The split is the first
    folder, if it is called as splits are. An image without a mask is one nobody labeled. Raises DataError, with their
    names, when there are several trees and none is given; UnknownName for one that is not there.
    """
    folder = Path(folder)
    trees = mask_trees(folder)
    if masks is not None and masks not in trees:
        raise unknown("tree of masks", masks, trees)
    if not trees:
        raise DataError(f"{folder} has no {IMAGES}/ with a folder of masks beside it that mirrors it")
    if masks is None and len(trees) > 1:
        how = running.reading(f"--masks-in {shell(trees[0])}", folder, "masks")
        raise DataError(f"{folder} has {len(trees)} trees of masks: {', '.join(trees)}; name one, as in: {how}")
    tree = masks or trees[0]
    images, shelf = Shelf(folder / IMAGES, folder), Shelf(folder / tree, folder)
    mask_of = paired(sorted(images.images), shelf, on_finding)
    labels, look = labels_of(folder, tree, on_finding), "named"
    decode: Decode | None
    if labels is None:
        others = [path for path in class_lists.find(folder, [tree]) if path not in {folder / name for name in LISTS}]
        labels = class_lists.named(folder, others, on_finding)
    if labels is None:
        names = sorted(mask_of.values())
        look = look_of_several([shelf.folder / name for name in names]) or "mask"
        opened = partial(hard_values, root=folder, look=look, threshold=checked_threshold(threshold))
        labels, decode = meaning_of(tree, shelf, names, opened, on_finding)
    else:
        decode = decoder_of(labels, on_finding)
    splits = labels.splits
    rows = sorted((split or "", name, at) for at in images.images for split, name in [split_of(at, splits)])

    def samples() -> Iterator[Sample]:
        for split, name, at in rows:
            if images.inside(at, on_finding):
                sample = Sample(images.folder / at, name=name, split=split or None)
                if decode is None:
                    yield instance_ids.with_things(sample, shelf, mask_of.get(at), on_finding, look, threshold)
                else:
                    yield with_mask(sample, shelf, mask_of.get(at), decode, on_finding, look, threshold)

    return Dataset("masks", folder, labels.categories, samples, len(rows))


def meaning_of(
    tree: str, shelf: Shelf, names: list[str], opened: Callable[..., np.ndarray | None], on_finding: OnFinding
) -> tuple[Labels, Decode | None]:
    """The values found in masks that nothing names: background and foreground, or classes named by their numbers; None
    in place of what reads them where they number things (instance_ids.py).

    names: of the masks, on the shelf. opened: reads one, as looks.hard_values with all but path and on_finding given.
    """
    seen: set[int] = set()
    colored, colors, numbering = 0, Counter[int](), instance_ids.Numbering()
    for name in track(names, f"looking for values in {tree}"):
        if not shelf.inside(name, lambda finding: None):
            continue
        values = opened(shelf.folder / name, on_finding=lambda finding: None)
        if values is not None and values.ndim == 3:
            colored += 1
            if len(colors) <= MOST_COLORS:
                code = values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
                one, counts = np.unique(code, return_counts=True)
                colors.update(dict(zip(one[: MOST_COLORS + 1].tolist(), counts.tolist(), strict=False)))
        if values is not None and values.ndim == 2:
            found = value_counts(values)[0]
            seen.update(found.tolist())
            numbering.add(values, found)
    if not colored and numbering.is_of_things():
        on_finding(instance_ids.told(tree))
        return Labels(instance_ids.CATEGORIES), None
    if colored and not seen:
        on_finding(Finding("mask_not_ids", tree, "RGB", colored, detail=_unnamed(colors)))
        return Labels(()), decoder((), lambda finding: None)
    if 255 in seen and seen <= BINARY.keys():
        also = " and 128 as ignore" if 128 in seen else ""
        detail = f"has no names for its values; with 0 and 255 only, they are read as background and foreground{also}"
        on_finding(Finding("no_label_map", tree, sorted(seen), len(seen), detail))
        return Labels((Category(0, "background"), Category(1, "foreground"))), translator(BINARY, on_finding)
    categories, decode = numbered(seen, tree, on_finding)
    return Labels(categories), decode


def _unnamed(colors: Counter[int]) -> str:
    """What is wrong with colored masks that no file names, and how to name them. colors: {0xRRGGBB: pixels}."""
    if len(colors) > MOST_COLORS:
        return (f"hold more than {MOST_COLORS} colors, as photographs and JPEG do, so that no color is a class; save "
                f"colored masks as PNG; or, if this is a class of photographs and {IMAGES}/ another, rename {IMAGES}/ "
                f"to {IMAGES.capitalize()}/")  # fmt: skip
    rows = [(code >> 16, code >> 8 & 255, code & 255, n) for code, n in colors.most_common()]
    rows.sort(key=lambda row: row[:3] != (0, 0, 0))  # black first, which mostly is the background
    told = "; ".join(f"{r},{g},{b} in {counted(n, 'pixel')}" for r, g, b, n in rows)
    lines = "".join(f"NAME{i},{r},{g},{b}\\n" for i, (r, g, b, _) in enumerate(rows))
    return (f"are colored masks, and no file says which color is which class: {told}; name them in the data's own "
            f"folder: printf 'name,r,g,b\\n{lines}' > class_dict.csv (with names of yours)")  # fmt: skip


def write(dataset: Dataset, writer: Writer) -> None:
    """Write images/, masks/ and labels.json. What is not about pixels (boxes, images' classes, clips) is left out."""
    mask_name = mask_names(split_names(dataset))
    splits: dict[str, None] = {}
    for place in (IMAGES, MASKS):
        writer.path(f"{place}/x")  # there even when nothing is in it
    for sample in dataset:
        before = f"{sample.split}/" if sample.split else ""
        name = writer.image(sample, f"{IMAGES}/{before}{sample.name}").removeprefix(f"{IMAGES}/")
        if sample.split:
            splits[sample.split] = None
        if sample.mask is not None:
            ids = stored(sample.mask(), dataset.categories, name)
            write_ids(writer.path(f"{MASKS}/{mask_name(name)}"), ids, dataset.categories)
    write_labels(writer, dataset.categories, ignore=top_of(dataset.categories), splits=list(splits))
