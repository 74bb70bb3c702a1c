"""Boxes, outlines and run lengths: checked once, turned into one another by COCO's rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handful.data.finding import Finding, OnFinding
from handful.data.masks import MAX_PIXELS
from handful.pick import need
from handful.types import Object, Rle

OUTSIDE_PX = 1.0  # drawing tools round up to a pixel over the edge; more is a mistake
MAX_POINTS = 100_000  # an outline with more is a mistake or an attack
MAX_LENGTH_PX = 2_000_000  # so is a longer one: pycocotools takes memory for each pixel of it, and crashes without


def checked_box(
    xyxy: Sequence[float], size_wh: tuple[int, int] | None, on_finding: OnFinding, *, file: str, what: str
) -> tuple[float, float, float, float] | None:
    """The box (left, top, right, bottom in px), cut at the image's edge, or None after telling what is wrong."""
    left, top, right, bottom = xyxy
    if size_wh is not None and 0 <= left < right <= size_wh[0] and 0 <= top < bottom <= size_wh[1]:
        return float(left), float(top), float(right), float(bottom)
    value = [_plain(v) for v in xyxy]
    if not all(map(math.isfinite, xyxy)):
        on_finding(Finding("not_finite", file, value, detail=f"{what} has the box {value}"))
        return None
    if right < left or bottom < top:
        on_finding(Finding("box_negative", file, value, detail=f"{what} is {right - left:g} x {bottom - top:g} px"))
        return None
    if right == left or bottom == top:
        on_finding(Finding("box_no_area", file, value, detail=f"{what} is {right - left:g} x {bottom - top:g} px"))
        return None
    if size_wh is None:
        return float(left), float(top), float(right), float(bottom)
    width, height = size_wh
    over = max(-left, -top, right - width, bottom - height)
    if over > OUTSIDE_PX and (right <= 0 or bottom <= 0 or left >= width or top >= height):
        detail = f"{what} lies outside the {width}x{height} image: {value}"
        on_finding(Finding("box_off_image", file, value, detail=detail))
        return None
    if over > OUTSIDE_PX:
        on_finding(
            Finding("box_outside", file, value, detail=f"{what} leaves the {width}x{height} image by {over:g} px")
        )
    cut = max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
    if over <= OUTSIDE_PX and (cut[2] <= cut[0] or cut[3] <= cut[1]):
        on_finding(Finding("box_no_area", file, value, detail=f"{what} has no area inside the image"))
        return None
    if over <= OUTSIDE_PX:  # within rounding: kept as it was drawn, so that nothing is changed in silence
        return float(left), float(top), float(right), float(bottom)
    return float(cut[0]), float(cut[1]), float(cut[2]), float(cut[3])


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def checked_polygon(flat: Any, on_finding: OnFinding, *, file: str, what: str) -> np.ndarray | None:
    """[x1, y1, x2, y2, ...] as (n, 2) float64 px, or None after telling what is wrong."""
    try:
        points = np.asarray(flat, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 1 or points.size < 6 or points.size % 2 or points.size > 2 * MAX_POINTS:
        detail = f"{what} has an outline of {points.size} numbers; wanted an even count of 6 or more"
        on_finding(Finding("broken_polygon", file, int(points.size), detail=detail))
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        finite = math.isfinite(points.sum()) or np.isfinite(points).all()  # the sum alone is half the time
    if not finite:
        on_finding(Finding("not_finite", file, "NaN or infinity", detail=f"{what} has an outline with NaN or infinity"))
        return None
    points = points.reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        length = float(np.abs(points - np.roll(points, 1, axis=0)).sum())
    if not length <= MAX_LENGTH_PX or np.abs(points).max() > MAX_LENGTH_PX:
        on_finding(Finding("broken_polygon", file, str(length), detail=f"{what} has an outline of {length:g} px"))
        return None
    return points


def checked_rle(
    value: Mapping[str, Any], size_wh: tuple[int, int] | None, on_finding: OnFinding, *, file: str, what: str
) -> Rle | None:
    """{"size": [h, w], "counts": [...] or "..."} as Rle, or None after telling what is wrong."""

    def broken(why: str) -> Rle | None:
        on_finding(Finding("broken_rle", file, why, detail=f"{what}: {why}"))
        return None

    size, counts = value.get("size"), value.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(v) is int and 0 < v < 1 << 20 for v in size)):
        return broken(f"the run lengths' size is {str(size)[:60]}; wanted [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        return broken(f"the run lengths are for {width}x{height} px, which is more than is safe to open")
    if size_wh is not None and (width, height) != size_wh:
        return broken(f"the run lengths are for {width}x{height} px, the image has {size_wh[0]}x{size_wh[1]}")
    if isinstance(counts, str):
        try:
            runs: Sequence[int] = decompress(counts.encode("ascii"))
        except (ValueError, UnicodeEncodeError):
            return broken("the compressed run lengths cannot be read")
        kept: tuple[int, ...] | bytes = counts.encode("ascii")
    elif isinstance(counts, list) and set(map(type, counts)) <= {int}:  # in C: a crowd has thousands of runs
        runs, kept = counts, tuple(counts)
    else:
        return broken("the run lengths are neither numbers nor text")
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        return broken(f"the run lengths sum to {sum(runs)}; wanted {height * width}")
    return Rle((height, width), kept)


def decompress(text: bytes) -> list[int]:
    """COCO's compressed run lengths as numbers (maskApi.c, rleFrString). Raises ValueError when cut short."""
    runs: list[int] = []
    value = shift = 0
    open_ = False
    for byte in text:
        part = byte - 48
        if not 0 <= part < 64 or shift > 60:
            raise ValueError("not run lengths")
        value |= (part & 31) << shift
        shift += 5
        open_ = bool(part & 32)
        if not open_:
            if part & 16:
                value |= -1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if open_:
        raise ValueError("cut short")
    return runs


def rle_of(mask: np.ndarray) -> Rle:
    """Run lengths of a bool (h, w) mask, uncompressed."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    height, width = mask.shape
    return Rle((height, width), tuple([0, *runs] if flat[0] else runs))


def pixels_of(rle: Rle) -> np.ndarray:
    """The bool (h, w) mask of run lengths."""
    runs = decompress(rle.counts) if isinstance(rle.counts, bytes) else rle.counts
    values = np.zeros(len(runs), dtype=bool)
    values[1::2] = True
    return np.repeat(values, runs).reshape(rle.size_hw, order="F")


def painted(thing: Object, size_wh: tuple[int, int]) -> np.ndarray | None:
    """The bool (h, w) pixels of an object, by pycocotools' rule for outlines; None when it has neither."""
    if thing.rle is not None:
        return pixels_of(thing.rle)
    if not thing.polygons_px:
        return None
    mask_api = need("pycocotools.mask", "data")
    width, height = size_wh
    parts = mask_api.frPyObjects([p.ravel().tolist() for p in thing.polygons_px], height, width)
    return np.asarray(mask_api.decode(mask_api.merge(parts)), dtype=bool)


def box_of(thing: Object) -> tuple[float, float, float, float] | None:
    """The drawn box, or else the smallest one around the outlines or pixels."""
    if thing.box_px is not None:
        return thing.box_px
    if thing.polygons_px:
        points = np.concatenate(thing.polygons_px)
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        return left, top, right, bottom
    if thing.rle is not None:
        return bounds(pixels_of(thing.rle))
    return None


def bounds(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """The smallest box around the True pixels of (h, w), right and bottom exclusive; None when there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
