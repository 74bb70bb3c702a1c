"""Images and the masks that mirror them in another folder: paired by name, opened one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import LABELED_SPLITS
from handful.data.label_names import Labels
from handful.data.looks import hard_values
from handful.data.masks import checked_ids, from_colors, no_mask, open_values, same_size, value_counts
from handful.data.paths import Shelf, relative
from handful.data.reading import upright_size
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Dataset, Mask, Rle, Sample

COLOR_MODES = ("RGB", "RGBA", "CMYK", "YCbCr")
Decode = Callable[[np.ndarray, Path, str], "Mask | None"]


def stem(name: str) -> str:
    """A relative name without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def split_of(name: str, splits: Sequence[str] | None = None) -> tuple[str | None, str]:
    """(split, name inside it) of an image. splits: the folders that are splits; None for those usually called so."""
    if splits is None:
        first, _, rest = name.partition("/")
        return (first, rest) if rest and first.lower() in LABELED_SPLITS else (None, name)
    for split in sorted(splits, key=len, reverse=True):
        if name.startswith(f"{split}/"):
            return split, name[len(split) + 1 :]
    return None, name


def paired(
    images: Iterable[str],
    masks: Shelf,
    on_finding: OnFinding,
    *,
    key: Callable[[str], str] = stem,
    mask_key: Callable[[str], str | None] = stem,
) -> dict[str, str]:
    """{image: its mask}, both relative to their folders; a mask without an image is told.

    key, mask_key: what the names of an image and of its mask have in common (None: not such a mask). Where images
    differ in their suffix only, masks are named by the whole name: a.jpg.png.
    """
    images = list(images)
    by_key: dict[str, str] = {}
    for name in sorted(masks.images):
        own = mask_key(name) if name.lower().endswith(".png") else None
        if own is not None and by_key.setdefault(own, name) != name:
            file = relative(masks.folder / name, masks.root)
            on_finding(Finding("orphan_label", file, by_key[own], detail=f"and {by_key[own]} are masks of one image"))
    keys = {image: key(image) for image in images}
    by_stem = by_key.keys() & set(keys.values())
    if len(by_key.keys() & set(images)) > len(by_stem):
        keys = {image: image for image in images}
        by_stem = by_key.keys() & set(images)
    found = {image: by_key[own] for image, own in keys.items() if own in by_stem}
    orphans = sorted(by_key.keys() - by_stem)
    if orphans:
        spelled = {own.casefold(): image for image, own in keys.items() if image not in found}
        for own in orphans:
            file = relative(masks.folder / by_key[own], masks.root)
            image = spelled.get(own.casefold())
            if image is not None and image not in found:
                found[image] = by_key[own]
                on_finding(Finding("wrong_case_name", file, image, detail=f"is the mask of {image}, spelled otherwise"))
            else:
                detail = f"is a mask, but there is no image {own}"
                on_finding(Finding("missing_image", file, own, detail=detail, cause="masks without an image"))
    return found


def header(path: Path) -> tuple[str, tuple[int, int]] | None:
    """(Pillow's color mode, (width, height) as stored) of a picture, from its header; None if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with need("PIL.Image", "data").open(path) as opened:
                return str(opened.mode), (int(opened.width), int(opened.height))
    except Exception:  # what is wrong with a picture is told by who reads its pixels
        return None


def decoder(
    categories: Sequence[Category],
    on_finding: OnFinding,
    *,
    ignore: int | None = None,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    same: Mapping[int, int] | None = None,
) -> Decode:
    """What turns a mask's stored values into ids: they are ids, or `colors` where the file is colored.

    same: what a second value of a class stands for.
    """

    painted: dict[int, tuple[str, tuple[int, ...]]] = {}

    def decode(values: np.ndarray, path: Path, file: str) -> Mask | None:
        if values.ndim == 2 and not _same_palette(values, path, file, painted, on_finding):
            return None
        if colors and (values.ndim == 3 or (header(path) or [""])[0] in COLOR_MODES):
            if values.ndim == 2:  # all gray: open_values took the colors for ids
                values = np.repeat(values[..., None], 3, axis=2)
            return from_colors(values, colors, on_finding, file=file)
        if values.ndim == 3:
            detail = "is a colored mask; wanted ids, or colors named in labels.json"
            on_finding(Finding("mask_not_ids", file, "RGB", detail=detail))
            return None
        if same:
            table = np.arange(max(int(values.max()), *same) + 1).astype(np.promote_types(values.dtype, np.uint8))
            table[list(same)] = list(same.values())
            values = table[values]
        return checked_ids(values, categories, on_finding, file=file, ignore=ignore)

    return decode


def _same_palette(
    values: np.ndarray, path: Path, file: str, seen: dict[int, tuple[str, tuple[int, ...]]], on_finding: OnFinding
) -> bool:
    """Whether a mask with a palette shows its values in the colors that other masks do; tells where it does not.

    seen: {value: the first file that has it, its color}, filled in. A program that makes a palette for each picture
    numbers the colors anew in each, so that one value means different things.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with need("PIL.Image", "data").open(path) as opened:
                flat = _palette(opened) if opened.mode == "P" else None
    except Exception:  # Pillow's openers raise OSError, SyntaxError, ValueError and more; its pixels were read before
        flat = None
    for value in value_counts(values)[0].tolist() if flat is not None else ():
        assert flat is not None
        rgb = tuple(flat[3 * value : 3 * value + 3])
        other, first = seen.setdefault(value, (file, rgb))
        if len(rgb) == len(first) == 3 and rgb != first:
            detail = (f"has a palette of its own: value {value} is the color {list(rgb)} here and {list(first)} in "
                      f"{other}, so its values do not say which class is which; save the masks as RGB")  # fmt: skip
            cause = "masks with different palettes, whose values do not say which class is which"
            on_finding(Finding("mask_not_ids", file, [value, list(rgb)], detail=detail, cause=cause))
            return False
    return True


def _palette(opened: Any) -> list[int] | None:
    """Red, green and blue of each value of an opened picture; of a PNG without decoding its pixels for that."""
    held = opened.palette
    if opened.format == "PNG" and held is not None and held.rawmode == "RGB":
        return list(held.palette)
    found: list[int] | None = opened.getpalette("RGB")
    return found


def decoder_of(labels: Labels, on_finding: OnFinding) -> Decode:
    """What turns a mask's stored values into the ids of classes that a file names."""
    return decoder(labels.categories, on_finding, ignore=labels.ignore, colors=labels.colors, same=labels.same)


def values_in(paths: Iterable[Path], root: Path) -> set[int]:
    """Every value that masks hold; of colored ones nothing."""
    seen: set[int] = set()
    for path in paths:
        values = open_values(path, root, lambda finding: None)
        if values is not None and values.ndim == 2:
            seen.update(value_counts(values)[0].tolist())
    return seen


def numbered(values: set[int], tree: str, on_finding: OnFinding) -> tuple[tuple[Category, ...], Decode]:
    """The values of masks that nothing names as classes, each called by its number, and what reads them; it is told."""
    ids = sorted(values - {255 if max(values, default=0) <= 255 else 65535})
    few = ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")
    if ids:
        detail = f"has no names for its values ({few}); each is called by its number"
        on_finding(Finding("no_label_map", tree, ids[:20], len(ids), detail))
    categories = tuple(Category(i, str(i)) for i in ids)
    return categories, decoder(categories, on_finding)


def translator(table: Mapping[int, int], on_finding: OnFinding) -> Decode:
    """What turns stored values into ids by a table (255: ignore); a value outside it is told and then ignored."""
    classes = [Category(i, str(i)) for i in table]

    def decode(values: np.ndarray, path: Path, file: str) -> Mask | None:
        if values.ndim == 3:
            on_finding(
                Finding("mask_not_ids", file, "RGB", detail=f"is a colored mask; wanted the values {list(table)}")
            )
            return None
        # 255 may be a class here, so that only the table can say what is known
        lookup = np.full(max(256, int(values.max()) + 1), 255, dtype=np.uint8)
        for value, number in table.items():
            lookup[value] = number
        if not set(value_counts(values)[0].tolist()) <= table.keys():
            wanted = np.isin(values, list(table))
            checked_ids(np.where(wanted, next(iter(table)), values), classes, on_finding, file=file)
        return Mask(lookup[values])

    return decode


def mask_reader(
    path: Path, image: Path, root: Path, decode: Decode, on_finding: OnFinding, look: str = "named",
    threshold: int | None = None,
) -> Callable[[], Mask]:  # fmt: skip
    """A call that reads one mask; what is wrong with it, or with its size, is told. Raises DataError if unusable.

    look, threshold: as looks.hard_values.
    """
    file = relative(path, root)

    def read() -> Mask:
        values = hard_values(path, root, look, threshold, on_finding)
        mask = None if values is None else decode(values, path, file)
        if mask is None:
            raise no_mask(path)
        said = header(image)
        height, width = mask.ids.shape
        if said is not None and (width, height) != said[1]:
            upright = upright_size(image, root, lambda finding: None)  # as stored is fine, as EXIF turns it too
            if not same_size(mask, upright or said[1], on_finding, file=file):
                raise no_mask(path)
        return mask

    return read


def with_mask(
    sample: Sample, masks: Shelf, name: str | None, decode: Decode, on_finding: OnFinding, look: str = "named",
    threshold: int | None = None,
) -> Sample:  # fmt: skip
    """The sample with its mask, if it has one that lies in the data set's folder. look, threshold: as mask_reader."""
    if name is None or not masks.inside(name, on_finding):
        return sample
    path = masks.folder / name
    read = mask_reader(path, sample.path, masks.root, decode, on_finding, look, threshold)
    return replace(sample, mask=read, mask_path=path)


def split_names(dataset: Dataset) -> Iterator[str]:
    """The names of images as they lie in folders by split."""
    return (f"{sample.split}/{sample.name}" if sample.split else sample.name for sample in dataset)


def mask_names(images: Iterable[str]) -> Callable[[str], str]:
    """What an image's mask is called: a.png, or a.jpg.png where images of a folder differ in their suffix only.

    Raises DataError where neither would tell whose mask it is.
    """
    names = set(images)
    stems = {stem(name) for name in names}
    if len(stems) == len(names):
        return lambda name: f"{stem(name)}.png"
    both = sorted(stems & names)
    if both:
        raise DataError(f"the masks of {both[0]} and of images that differ in their suffix only would clash; rename it")
    return lambda name: f"{name}.png"


def stored(mask: Mask, categories: Sequence[Category], where: str) -> np.ndarray:
    """The ids of a mask as they are written: 8 bits where the classes fit, 16 beyond; the largest value is ignore.

    Raises DataError for an id that no class has.
    """
    known = np.array(sorted({c.id for c in categories}), dtype=np.int64)
    top = top_of(categories)
    ignored = mask.ids == mask.ignore
    outside = np.setdiff1d(value_counts(mask.ids)[0], [*known, mask.ignore])
    if outside.size:
        raise DataError(f"the mask of {where} holds {outside[0]}, which is no class of the data set")
    ids = mask.ids.astype(np.uint8 if top == 255 else np.uint16)
    ids[ignored] = top
    return ids


def top_of(categories: Sequence[Category]) -> int:
    """The value that means "ignore" in masks of these classes: 255, or 65535 where ids need 16 bits."""
    return 65535 if max((c.id for c in categories), default=0) >= 255 else 255


def segments(values: np.ndarray) -> Iterator[tuple[int, Rle, tuple[float, float, float, float]]]:
    """Each value of an (h, w) map from 1 up, with its pixels and the box around them: all in one pass over the map."""
    height, width = values.shape
    flat = values.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    ends = np.append(starts[1:], flat.size)
    of_run = flat[starts]
    order = np.argsort(of_run, kind="stable")
    for runs in np.split(order, np.flatnonzero(np.diff(of_run[order])) + 1):
        value, first, last = int(of_run[runs[0]]), starts[runs], ends[runs]
        if not value:
            continue
        # background, object, background, ...; what is left at the end is background
        counts = np.stack([first - np.append(0, last[:-1]), last - first], axis=1).ravel().tolist()
        rest = flat.size - int(last[-1])
        tall = (last - 1) // height > first // height  # runs on into the next column, so from edge to edge
        top = 0 if tall.any() else int((first % height).min())
        bottom = height if tall.any() else int(((last - 1) % height).max()) + 1
        box = float(first[0] // height), float(top), float((last[-1] - 1) // height + 1), float(bottom)
        yield value, Rle((height, width), tuple([*counts, rest] if rest else counts)), box
