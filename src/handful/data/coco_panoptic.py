"""COCO's panoptic maps: a PNG whose color is a segment's id (R + 256 G + 65536 B), and what each segment is.

Kirillov et al., "Panoptic Segmentation", 2019. Id 0 is what nobody labeled: ignore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.data.coco_rows import identifier
from handful.data.finding import Finding, OnFinding
from handful.data.masks import no_mask, open_values
from handful.data.paths import relative
from handful.data.shapes import bounds, painted, rle_of
from handful.pick import need
from handful.types import Category, Mask, Object


def read_ids(path: Path, root: Path, on_finding: OnFinding) -> np.ndarray | None:
    """The segment id of each pixel, (h, w) uint32; None after telling why not."""
    values = open_values(path, root, on_finding, colors=True)
    if values is None:
        return None
    if values.ndim == 2:  # all ids below 256 in a gray file
        return np.asarray(values, dtype=np.uint32)
    return values.astype(np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)


def segments_of(
    row: Mapping[str, Any], names: Mapping[Any, str], present: np.ndarray, on_finding: OnFinding, *, file: str, png: str
) -> dict[int, Mapping[str, Any]]:
    """Segment id -> its row, for segments of known classes; unknown classes and ids without a row are told."""
    found: dict[int, Mapping[str, Any]] = {}
    listed = row.get("segments_info")
    for segment in listed if isinstance(listed, list) else []:
        key = identifier(segment.get("id")) if isinstance(segment, dict) else None
        if not isinstance(key, int) or not 0 < key < 1 << 24:
            on_finding(Finding("broken_label", file, str(segment)[:100], detail=f"has a segment with the id {key}"))
        elif identifier(segment.get("category_id")) not in names:
            value = segment.get("category_id")
            detail = f"segment {key} is of category {value}, which is not listed"
            cause = f"category {str(value)[:60]} is not listed in {file}"
            on_finding(Finding("unknown_category", file, value, detail=detail, cause=cause))
        elif key in found:
            on_finding(Finding("duplicate_label_id", file, key, detail=f"lists the segment {key} twice for one image"))
        else:
            found[key] = segment
    known = {identifier(s.get("id")) for s in listed if isinstance(s, dict)} if isinstance(listed, list) else set()
    for value in present.tolist():
        if value and value not in known:
            on_finding(
                Finding(
                    "label_outside_map", png, value, detail=f"holds the segment {value}, which {file} does not list"
                )
            )
    return found


def mask_reader(
    path: Path, row: Mapping[str, Any], names: Mapping[int, str], categories: Sequence[Category], root: Path,
    on_finding: OnFinding, file: str,
) -> Callable[[], Mask]:  # fmt: skip
    """A call that reads the class of each pixel from a panoptic map. names: the class of each id in its file."""
    ids_of = {c.name: c.id for c in categories}
    top = 65535 if max([*ids_of.values(), 0]) >= 255 else 255

    def read() -> Mask:
        ids = read_ids(path, root, on_finding)
        if ids is None:
            raise no_mask(path)
        present, where = np.unique(ids, return_inverse=True)
        segments = segments_of(row, names, present, on_finding, file=file, png=relative(path, root))
        classes = {key: ids_of[names[identifier(s.get("category_id"))]] for key, s in segments.items()}  # type: ignore[index]
        lookup = [classes.get(v, top) for v in present.tolist()]
        return Mask(np.array(lookup, dtype=np.uint16 if top > 255 else np.uint8)[where.reshape(ids.shape)])

    return read


def objects_of(
    path: Path, row: Mapping[str, Any], names: Mapping[int, str], categories: Sequence[Category], root: Path,
    on_finding: OnFinding, file: str,
) -> tuple[Object, ...] | None:  # fmt: skip
    """The countable segments of a panoptic map as objects with their pixels; None where the map cannot be read."""
    countable = {c.name for c in categories if c.thing}
    things = {key for key, name in names.items() if name in countable}
    ids = read_ids(path, root, on_finding)
    if ids is None:
        return None
    found = []
    for key, segment in segments_of(
        row, names, np.unique(ids), on_finding, file=file, png=relative(path, root)
    ).items():
        if segment["category_id"] in things:
            pixels = ids == key
            box = bounds(pixels)
            if box is None:
                on_finding(Finding("broken_label", file, key, detail=f"lists the segment {key}, which has no pixel"))
                continue
            attributes = {"area": int(pixels.sum())}
            found.append(Object(names[segment["category_id"]], box, (), rle_of(pixels),
                                bool(segment.get("iscrowd", 0)), None, attributes))  # fmt: skip
    return tuple(found)


def encode(
    mask: Mask, objects: Sequence[Object], ids: Mapping[str, int], size_wh: tuple[int, int]
) -> tuple[Any, list[dict[str, Any]]]:
    """A class map and objects as (picture, segments_info): an object is a segment, each class's rest is another."""
    segment = np.zeros(mask.ids.shape, dtype=np.uint32)
    rows: list[dict[str, Any]] = []

    def add(pixels: np.ndarray, category: int, crowd: bool) -> None:
        box = bounds(pixels)
        if box is None:
            return
        key = len(rows) + 1
        segment[pixels] = key
        left, top, right, bottom = map(int, box)
        rows.append({"id": key, "category_id": category, "area": int(pixels.sum()), "iscrowd": int(crowd),
                     "bbox": [left, top, right - left, bottom - top]})  # fmt: skip

    for thing in objects:
        pixels = painted(thing, size_wh)
        if pixels is not None and pixels.shape == mask.ids.shape:
            add(pixels & (segment == 0) & (mask.ids == ids[thing.label]), ids[thing.label], thing.crowd)
    for value in np.unique(mask.ids).tolist():
        if value != mask.ignore:
            add((mask.ids == value) & (segment == 0), value, False)
    rgb = np.stack([segment & 255, segment >> 8 & 255, segment >> 16 & 255], axis=-1).astype(np.uint8)
    return need("PIL.Image", "data").fromarray(rgb), rows
