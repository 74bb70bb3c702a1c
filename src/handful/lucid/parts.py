"""What moves in a clip: the parts of a seed that move together, each with its way through all frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from handful.lucid.cut import PAD_PX, Cutout, premultiplied
from handful.lucid.move import Warp, covering, gentle, outline_points, pose, then, walk
from handful.lucid.settings import Ranges

GAP_PX = 2  # parts nearer than this would show a cut edge if one moved without the other
POINTS = 5  # of the thin-plate spline, as in MaskTrack and Lucid Data Dreaming
BEND_STEP = 0.3  # of the bend's range from one frame to the next
OUT_SHARE = 0.35  # of a clip that leaving and coming back takes
EDGE_POINTS = 24


@dataclass(frozen=True, eq=False)
class Part:
    """A cut-out and where it is in frames -1 to n. depth: larger is nearer. label: which of the seed's parts it is,
    from 1; 0 for something that passes in front and belongs to no object."""

    label: int
    cutout: Cutout
    warps: tuple[Warp, ...]
    depth: float

    def at(self, t: int) -> Warp:
        """Its place in frame t, from -1 to the clip's length."""
        return self.warps[t + 1]

    def box(self, t: int, size_wh: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """The part of the frame it can reach (left, top, right, bottom px), or None."""
        height, width = self.cutout.mask_u8.shape
        left, top = self.cutout.xy
        x, y = np.linspace(left, left + width - 1, EDGE_POINTS), np.linspace(top, top + height - 1, EDGE_POINTS)
        edge = np.concatenate([np.stack(np.broadcast_arrays(*pair), -1).reshape(-1, 2) for pair in
                               ((x, y[0]), (x, y[-1]), (x[0], y), (x[-1], y))])  # fmt: skip
        places = self.at(t).forth(edge)
        low, high = np.floor(places.min(0)) - 1, np.ceil(places.max(0)) + 2
        box = max(0, low[0]), max(0, low[1]), min(size_wh[0], high[0]), min(size_wh[1], high[1])
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
        return int(box[0]), int(box[1]), int(box[2]), int(box[3])


def groups(ids: np.ndarray, foreground: np.ndarray, *, whole: bool) -> np.ndarray:
    """Which pixels must move together: (h, w) int32, 0 background, 1.. the parts, largest first.

    Pixels nearer than 2 px belong together, because a gap would open between them; with `whole`, all pixels of one
    id do too.
    """
    wide = cv2.dilate(foreground.astype(np.uint8), np.ones((GAP_PX + 1,) * 2, np.uint8))
    count, labels = cv2.connectedComponents(wide, connectivity=8)
    labels = np.where(foreground, labels, 0)
    if whole and count > 2:
        parent = list(range(count))

        def root(i: int) -> int:
            while parent[i] != i:
                i = parent[i]
            return i

        pairs = np.unique(np.stack([ids[foreground].astype(np.int64), labels[foreground]]), axis=1)
        first: dict[int, int] = {}
        for number, label in pairs.T.tolist():
            parent[root(label)] = root(first.setdefault(number, label))
        labels = np.array([root(i) for i in range(count)], np.int32)[labels]
    numbers, sizes = np.unique(labels[foreground], return_counts=True)
    order = numbers[np.argsort(-sizes, kind="stable")]
    lookup = np.zeros(count + 1, np.int32)
    lookup[order] = np.arange(1, len(order) + 1)
    return np.asarray(lookup[labels])


def camera(rng: np.random.Generator, steps: int, ranges: Ranges, size_wh: tuple[int, int]) -> list[np.ndarray]:
    """The camera's map, image to frame, in each of the steps: affine, (2, 3)."""
    size = np.array(size_wh, float)
    shift = walk(rng, steps, ranges.camera_step_shift * size, ranges.camera_far_shift * size)
    turn = walk(rng, steps, ranges.camera_step_turn, ranges.camera_far_turn)
    scale = 1 + walk(rng, steps, ranges.camera_step_scale, ranges.camera_far_scale)
    maps = [pose((size - 1) / 2, shift[t], float(turn[t]), float(scale[t])) for t in range(steps)]
    return [covering(m, size_wh) if ranges.cover else m for m in maps]


def ways(
    rng: np.random.Generator, cutout: Cutout, cameras: Sequence[np.ndarray], ranges: Ranges, size_wh: tuple[int, int]
) -> tuple[Warp, ...]:
    """Where a cut-out is in each step.

    An object that the image cuts off on one or two sides stays there, so that its cut edge is never seen; one that
    is cut off on three or four moves with the camera alone.
    """
    steps = len(cameras)
    inside = cutout.mask_u8 > 0
    rows, columns = np.nonzero(inside)
    origin = np.array(cutout.xy, float)
    about = np.array([columns.mean(), rows.mean()]) + origin
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) + np.tile(origin, 2)
    size = box[2:] - box[:2]
    frame = np.array(size_wh, float)

    # drawn before anything is decided, so that each quantity has its own numbers whatever the others do
    anywhere, leaving = rng.uniform(size=2)
    half = np.minimum(size / 2, frame / 2)  # wholly inside the frame, if it fits
    place = half + rng.uniform(size=2) * (frame - 2 * half)
    start_shift = rng.uniform(-1, 1, 2) * ranges.start_shift * size
    start_turn = float(rng.uniform(-1, 1)) * ranges.start_turn
    start_scale = 1 + float(rng.uniform(-1, 1)) * ranges.start_scale
    shift = walk(rng, steps, ranges.step_shift * size, ranges.far_shift * size)
    turn = start_turn + walk(rng, steps, ranges.step_turn, ranges.far_turn)
    scale = start_scale * (1 + walk(rng, steps, ranges.step_scale, ranges.far_scale))
    points = outline_points(inside, POINTS, rng) + origin
    reach = np.tile(ranges.bend * size, (POINTS, 1))
    offsets = walk(rng, steps, BEND_STEP * reach, reach)
    out = rng.uniform(size=3)

    if sum(cutout.touches) >= 3:
        return tuple(Warp(m) for m in cameras)
    if anywhere < ranges.anywhere and not any(cutout.touches):
        start_shift = place - (box[:2] + box[2:]) / 2
    shift = shift + start_shift
    if leaving < ranges.leave and steps >= 8:
        shift = shift + _away(out, steps, box, cutout.touches, frame)
    for _, axis, line in _sides(cutout.touches, size_wh):
        offsets[:, np.abs(points[:, axis] - line) <= PAD_PX] = 0
    edges = _edges(inside, cutout, size_wh)
    result = []
    for t in range(steps):
        bend = gentle(points, offsets[t], box) if ranges.bend and min(size) >= 8 else None
        own = pose(about, shift[t], float(turn[t]), float(scale[t]))
        result.append(_anchored(Warp(then(own, cameras[t]), bend), edges, frame))
    return tuple(result)


def _sides(touches: tuple[bool, bool, bool, bool], size_wh: tuple[int, int]) -> list[tuple[int, int, float]]:
    """(side, axis, coordinate) of the sides of the image that cut the object off."""
    lines = 0.0, 0.0, size_wh[0] - 1.0, size_wh[1] - 1.0
    return [(i, i % 2, lines[i]) for i in range(4) if touches[i]]


def _edges(inside: np.ndarray, cutout: Cutout, size_wh: tuple[int, int]) -> dict[int, np.ndarray]:
    """Of each cut-off side, positions (n, 2) along the cut in the image."""
    found = {}
    for side, axis, line in _sides(cutout.touches, size_wh):
        at = int(line) - cutout.xy[axis]
        along = np.flatnonzero(inside[:, at] if axis == 0 else inside[at])
        along = along[np.linspace(0, len(along) - 1, min(EDGE_POINTS, len(along))).astype(int)] + cutout.xy[1 - axis]
        across = np.full(len(along), line)
        found[side] = np.stack([across, along] if axis == 0 else [along, across], -1)
    return found


def _anchored(warp: Warp, edges: dict[int, np.ndarray], frame: np.ndarray) -> Warp:
    """The warp, shifted and if need be enlarged until every cut-off edge lies on or beyond its side of the frame."""
    if not edges:
        return warp
    affine = warp.affine
    end = frame - 1
    for axis in (0, 1):
        if axis in edges and axis + 2 in edges:
            low = Warp(affine, warp.bend).forth(edges[axis])[:, axis].max()
            high = Warp(affine, warp.bend).forth(edges[axis + 2])[:, axis].min()
            grow = end[axis] / max(high - low, 1.0)
            if grow > 1:
                grow = min(grow, 2.0)
                affine = affine * grow + np.column_stack([np.zeros((2, 2)), (1 - grow) * end / 2])
    shift = np.zeros(2)
    for side, points in edges.items():
        axis = side % 2
        at = Warp(affine, warp.bend).forth(points)[:, axis] + shift[axis]
        shift[axis] += -max(0.0, at.max()) if side < 2 else max(0.0, end[axis] - at.min())
    return Warp(affine + np.column_stack([np.zeros((2, 2)), shift]), warp.bend)


def _away(
    drawn: np.ndarray, steps: int, box: np.ndarray, touches: tuple[bool, bool, bool, bool], frame: np.ndarray
) -> np.ndarray:
    """An extra shift (steps, 2): out of the frame in mid-clip and back, by a side that the object may use."""
    sides = [i for i in range(4) if touches[i]] or [0, 2]
    side = sides[int(drawn[0] * len(sides))]
    axis = side % 2
    margin = 0.35 * (box[2:] - box[:2])[axis] + 8  # turned or bent, it still is out
    far = -(box[axis + 2] + margin) if side < 2 else frame[axis] - box[axis] + margin
    half = max(3.0, OUT_SHARE * steps / 2)
    middle = half + drawn[1] * max(0.0, steps - 1 - 2 * half)
    near = np.clip(1 - np.abs(np.arange(steps) - middle) / half, 0, 1)
    shift = np.zeros((steps, 2))
    shift[:, axis] = far * np.clip(1.25 * (0.5 - 0.5 * np.cos(np.pi * near)), 0, 1)
    return shift


def blob(rng: np.random.Generator, background_u8: np.ndarray, size_px: float) -> Cutout:
    """Something smooth and roundish to pass in front, cut from anywhere in the background; size_px: its diameter."""
    height, width = background_u8.shape[:2]
    side = int(np.clip(size_px, 12, min(height, width) - 2))
    left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = np.ones_like(angle)
    for k in range(2, 6):
        radius += rng.uniform(-1, 1) * 0.5 / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    radius *= (side / 2 - 4) / radius.max()
    outline = np.stack([side / 2 + radius * np.cos(angle), side / 2 + radius * np.sin(angle)], -1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.0)
    patch = background_u8[top : top + side, left : left + side]
    return Cutout(premultiplied(patch, alpha), mask, np.zeros((side, side), np.uint8), (left, top), (False,) * 4)


def passing(
    rng: np.random.Generator, cutout: Cutout, target: Part, steps: int, size_wh: tuple[int, int]
) -> tuple[Warp, ...]:
    """A straight way across the target, from clear of it to clear of it, in the course of the film."""
    side = max(cutout.mask_u8.shape)
    centre = np.array(cutout.xy, float) + side / 2
    heights = np.array(target.cutout.mask_u8.shape[::-1])
    direction = rng.uniform(0, 2 * np.pi)
    unit = np.array([np.cos(direction), np.sin(direction)])
    reach = float(np.hypot(*heights)) / 2 + side / 2
    middle = np.array(target.cutout.xy, float) + heights / 2
    turn = rng.uniform(-2, 2)
    result = []
    for t in range(steps):
        along = unit * reach * (2 * t / max(1, steps - 1) - 1)
        goal = target.warps[t].forth(middle) + along
        result.append(Warp(pose(centre, goal - centre, float(turn * t), 1.0)))
    return tuple(result)
