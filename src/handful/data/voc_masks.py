"""VOC's two maps of an image: SegmentationClass, the class of each pixel, and SegmentationObject, the number of each
object, in the order of the XML file. 0 is background and 255 the border that nobody assigned.

CVAT and Datumaro paint both in colors; VOC itself, and handful, write palette files whose values are the ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.label_tree import segments
from handful.data.masks import checked_ids, from_colors, open_values, same_size, value_counts, voc_palette
from handful.data.paths import relative
from handful.data.shapes import painted
from handful.types import Category, Mask, Object, Rle
from handful.words import counted

TOLERANCE_PX = 2.0  # how far an object's pixels may leave its box
MOST_RUNS = 5_000_000  # a map of more pieces is noise, and would fill the memory
VOID_RGB = (224, 224, 192)
Box = tuple[float, float, float, float]


class Piece(NamedTuple):
    """One object of an instance map: its pixels, the smallest box around them, and its class, None when unclear."""

    rle: Rle
    box: Box
    category: int | None


def colors_of(categories: Sequence[Category]) -> dict[tuple[int, int, int], int]:
    """The id of each color of a painted map: the classes' own, VOC's for those that have none."""
    palette = voc_palette()
    found = {VOID_RGB: 255, (0, 0, 0): 0}
    for c in categories:
        found[c.rgb or (palette[3 * c.id % 768], palette[3 * c.id % 768 + 1], palette[3 * c.id % 768 + 2])] = c.id
    return found


def class_map(path: Path, root: Path, categories: Sequence[Category], on_finding: OnFinding) -> Mask | None:
    """The class of each pixel; None after telling why not."""
    values = open_values(path, root, on_finding, colors=True)
    if values is None:
        return None
    file = relative(path, root)
    colors = colors_of(categories)
    if values.ndim == 3 and _grey_ids(values, categories, colors):
        values = values[..., 0]
    if values.ndim == 2:
        return checked_ids(values, categories, on_finding, file=file, ignore=255 if values.dtype == np.uint8 else None)
    if max(colors.values()) > 255:
        on_finding(
            Finding("mask_not_ids", file, len(colors), detail=f"is painted, with {counted(len(colors), 'class')}")
        )
        return None
    return from_colors(values, colors, on_finding, file=file)


def _grey_ids(values: np.ndarray, categories: Sequence[Category], colors: Mapping[Any, int]) -> bool:
    """Whether a colored file holds ids, gray in all three channels, and not colors that all happen to be gray."""
    if (values[..., 0] != values[..., 1]).any() or (values[..., 0] != values[..., 2]).any():
        return False
    present = set(value_counts(values[..., 0])[0].tolist())
    return present <= {c.id for c in categories} | {255} and not all((v, v, v) in colors for v in present)


def pieces(
    path: Path, root: Path, classes: Mask | None, size_wh: tuple[int, int] | None, on_finding: OnFinding
) -> dict[int, Piece] | None:
    """The objects of an instance map by their number; None after telling why it cannot be used."""
    values = open_values(path, root, on_finding, colors=True)
    if values is None:
        return None
    file = relative(path, root)
    if values.ndim == 3:  # painted: the number is the place of the color in VOC's palette
        palette = np.frombuffer(voc_palette(), dtype=np.uint8).reshape(256, 3)
        table = {(int(r), int(g), int(b)): number for number, (r, g, b) in enumerate(palette)}
        gray = (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all()
        if gray and not all((v, v, v) in table for v in value_counts(values)[0].tolist()):
            table = {(v, v, v): v for v in range(256)}  # numbers in all three channels
        found = from_colors(values, table, on_finding, file=file)
        if found is None:
            return None
        values = found.ids
    if size_wh is not None and not same_size(Mask(values), size_wh, on_finding, file=file):
        return None
    if classes is not None and classes.ids.shape != values.shape:
        classes = None
    found_pieces = _pieces(values, classes)
    if found_pieces is None:
        on_finding(
            Finding("mask_not_ids", file, MOST_RUNS, detail=f"falls into more than {MOST_RUNS} pieces; it is noise")
        )
    return found_pieces


def _pieces(values: np.ndarray, classes: Mask | None) -> dict[int, Piece] | None:
    """The objects of an instance map; None when it is noise."""
    flat = values.ravel(order="F")
    if np.count_nonzero(flat[1:] != flat[:-1]) > MOST_RUNS:
        return None
    categories = {} if classes is None else _categories(flat, classes)
    void = np.iinfo(values.dtype).max
    return {number: Piece(rle, box, categories.get(number)) for number, rle, box in segments(values) if number != void}


def _categories(flat: np.ndarray, classes: Mask) -> dict[int, int]:
    """The class that most pixels of each object have; flat: the instance map, down its columns."""
    class_flat = classes.ids.ravel(order="F")
    code = flat.astype(np.uint32) << 16 | class_flat
    starts = np.concatenate(([0], np.flatnonzero(code[1:] != code[:-1]) + 1))
    pairs, where = np.unique(code[starts], return_inverse=True)
    pixels = np.bincount(where, weights=np.diff(starts, append=code.size))
    best: dict[int, tuple[float, int]] = {}
    for pair, count in zip(pairs.tolist(), pixels.tolist(), strict=True):
        number, category = pair >> 16, pair & 0xFFFF
        if category != classes.ignore and count > best.get(number, (0.0, 0))[0]:
            best[number] = count, category
    return {number: category for number, (_, category) in best.items()}


def inside(piece: Box, box: Box) -> bool:
    """Whether an object's pixels lie in its box: what others hide of it may be missing."""
    return all((piece[i] - box[i]) * (1 if i < 2 else -1) >= -TOLERANCE_PX for i in range(4))


def paired(
    objects: Sequence[Object], found: Mapping[int, Piece], names: Mapping[int, str], on_finding: OnFinding, *, file: str
) -> tuple[Object, ...]:
    """The objects with the pixels that the instance map has for them; told and left without when the two disagree."""
    places = [i for i, thing in enumerate(objects) if not thing.crowd]
    why = ""
    for number, piece in found.items():
        thing = objects[places[number - 1]] if number <= len(places) else None
        if thing is None:
            why = f"has the object {number}, the XML file lists {len(places)}"
        elif piece.category is not None and names and names.get(piece.category) != thing.label:
            why = f"has a {names.get(piece.category)} as object {number}, the XML file a {thing.label}"
        elif thing.box_px is not None and not inside(piece.box, thing.box_px):
            why = f"has object {number} ({thing.label}) outside the box that the XML file gives it"
        if why:
            on_finding(Finding("missing_mask", file, number, detail=f"{why}; no object of the image gets its pixels"))
            return tuple(objects)
    result = list(objects)
    for number, piece in found.items():
        thing = objects[places[number - 1]]
        result[places[number - 1]] = Object(
            thing.label, thing.box_px, (), piece.rle, thing.crowd, thing.track, thing.attributes
        )
    return tuple(result)


def objects_from(
    found: Mapping[int, Piece], names: Mapping[int, str], on_finding: OnFinding, *, file: str
) -> tuple[Object, ...]:  # fmt: skip
    """The objects of an instance map that no XML file lists, their classes from the class map."""
    result = []
    for number, piece in sorted(found.items()):
        label = None if piece.category is None else names.get(piece.category)
        if label is None:
            detail = f"has the object {number}, whose pixels are of no class"
            on_finding(Finding("label_outside_map", file, number, detail=detail))
            continue
        result.append(Object(label, piece.box, (), piece.rle))
    return tuple(result)


def encode(
    objects: Sequence[Object], classes: np.ndarray | None, ids: Mapping[str, int], size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(class map, instance map) of an image's objects, or None when VOC's two maps cannot say it.

    They can when every object but crowds has a shape that lies in its box and agrees with the class map, if there is
    one (classes: VOC ids, the largest value for ignore). A later object hides an earlier one. Crowds are ignored
    pixels.
    """
    width, height = size_wh
    things = [thing for thing in objects if not thing.crowd]
    if not things or len(things) > 65000 or (classes is not None and classes.shape != (height, width)):
        return None
    instances = np.zeros((height, width), dtype=np.uint8 if len(things) < 255 else np.uint16)
    wide = max(ids.values()) >= 255
    top, void = np.iinfo(instances.dtype).max, 65535 if wide else 255
    made = np.zeros((height, width), dtype=np.uint16 if wide else np.uint8)
    for number, thing in enumerate(things, 1):
        pixels = painted(thing, size_wh)
        if pixels is None or pixels.shape != instances.shape:
            return None
        np.copyto(instances, number, where=pixels)
        np.copyto(made, ids[thing.label], where=pixels)
    boxes = {number: box for number, _, box in segments(instances)}
    for number, thing in enumerate(things, 1):
        box = boxes.get(number)
        if box is not None and thing.box_px is not None and not inside(box, thing.box_px):
            return None
    if classes is not None:
        drawn = instances > 0
        if (classes[drawn] != made[drawn]).any():
            return None
        instances[(classes == np.iinfo(classes.dtype).max) & ~drawn] = top
        return classes, instances
    for thing in objects:
        pixels = painted(thing, size_wh) if thing.crowd else None
        if pixels is not None and pixels.shape == instances.shape:
            free = pixels & (instances == 0)
            instances[free], made[free] = top, void
    return made, instances
