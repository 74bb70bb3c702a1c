"""One outline for each object, which is all that a line of YOLO's holds: pixels traced, parts joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handful.data.shapes import bounds

_STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # right, down, left, up: x, y
_MOST_PAIRS = 1 << 22  # distances worked out at a time


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outer outlines of a bool (h, w) mask along the edges of its pixels, each (n, 2) float64 x, y, clockwise.

    Pixels that touch at a corner only are separate parts. Holes are left out, with the islands in them.
    """
    box = bounds(mask)
    if box is None:
        return []
    left, top, right, bottom = map(int, box)
    starts, directions = _edges(mask[top:bottom, left:right])
    width = right - left + 1
    ends = starts + _STEPS[directions] @ np.array([1, width])
    at: dict[int, list[int]] = {}
    for i, start in enumerate(starts.tolist()):
        at.setdefault(start, []).append(i)
    where, way = ends.tolist(), directions.tolist()
    open_ = np.ones(starts.size, dtype=bool)
    found = []
    for first in range(starts.size):
        if not open_[first]:
            continue
        edge, corners = first, []
        while open_[edge]:
            open_[edge] = False
            after = at[where[edge]]
            # where two pixels touch at a corner, turning right stays on the same one
            follow = next((i for i in after if way[i] == (way[edge] + 1) % 4), after[0]) if len(after) > 1 else after[0]
            if way[follow] != way[edge]:
                corners.append(where[edge])
            edge = follow
        points = np.array([divmod(c, width)[::-1] for c in corners], dtype=np.float64) + np.array([left, top])
        if _area(points) > 0:
            found.append(points)
    return _outermost(found)


def _outermost(found: list[np.ndarray]) -> list[np.ndarray]:
    """The outlines that lie in no other: an island in a hole that is left out is inside already."""
    if len(found) < 2:
        return found
    edges = np.concatenate([np.stack([p, np.roll(p, -1, axis=0)], axis=1) for p in found])
    x, from_y, to_y = edges[:, 0, 0], edges[:, 0, 1], edges[:, 1, 1]
    kept = []
    for points in found:
        left, top = points[np.lexsort((points[:, 0], points[:, 1]))[0]] + 0.5  # the middle of its first pixel
        crossed = (x < left) & (np.minimum(from_y, to_y) < top) & (top < np.maximum(from_y, to_y))
        if np.sign(from_y - to_y)[crossed].sum() == 1:  # left sides go up: in one outline, its own
            kept.append(points)
    return kept


def _edges(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixel edges between inside and outside, inside on the right: where each starts and its direction."""
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    inside = padded[1:-1, 1:-1]
    width = mask.shape[1] + 1
    found = []
    for direction, (other, dy, dx) in enumerate(
        ((padded[:-2, 1:-1], 0, 0), (padded[1:-1, 2:], 0, 1), (padded[2:, 1:-1], 1, 1), (padded[1:-1, :-2], 1, 0))
    ):
        y, x = np.nonzero(inside & ~other)
        found.append(((y + dy) * width + x + dx, np.full(y.size, direction)))
    return np.concatenate([s for s, _ in found]), np.concatenate([d for _, d in found])


def _area(points: np.ndarray) -> float:
    """Twice the area, above zero for a clockwise outline (y goes down)."""
    x, y = points[:, 0], points[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One outline of several: from the nearest corner over to the next part, around it, and back the same way.

    The ways over have no area.
    """
    whole = parts[0]
    for part in parts[1:]:
        i, j = _nearest(whole, part)
        around = np.concatenate([part[j:], part[: j + 1]])
        whole = np.concatenate([whole[: i + 1], around, whole[i:]])
    return whole


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    rows = max(1, _MOST_PAIRS // len(b))
    best, place = np.inf, (0, 0)
    for start in range(0, len(a), rows):
        apart = ((a[start : start + rows, None] - b[None]) ** 2).sum(axis=2)
        at = int(apart.argmin())
        if apart.flat[at] < best:
            best, place = float(apart.flat[at]), (start + at // len(b), at % len(b))
    return place
