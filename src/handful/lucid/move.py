"""Motion: thin-plate bends, affine poses, walks that stay in bounds, and warps whose inverse is known.

Every map is between positions in pixels, x right and y down, with whole numbers at pixel centers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GRID_PX = 4  # maps are exact on a grid this wide and linear between; 0.06 px off at the worst, next to a bend's point
PERSISTENCE = 0.8  # of a velocity from one frame to the next


def walk(rng: np.random.Generator, steps: int, step: float | np.ndarray, far: float | np.ndarray) -> np.ndarray:
    """A smooth random walk from 0: (steps, ...) float64, as many columns as `step` or `far` has.

    The velocity is an autoregressive process of order 1, bounded by `step`; the position is turned back at +-far.
    """
    step, far = np.broadcast_arrays(np.asarray(step, float), np.asarray(far, float))
    drawn = rng.uniform(-1, 1, (steps, *step.shape))
    velocity = np.empty_like(drawn)
    velocity[0] = drawn[0]
    for t in range(1, steps):
        velocity[t] = np.clip(PERSISTENCE * velocity[t - 1] + (1 - PERSISTENCE**2) ** 0.5 * drawn[t], -1, 1)
    position = np.cumsum(velocity * step, 0)
    return folded(position - position[:1], far)


def folded(x: np.ndarray, far: np.ndarray) -> np.ndarray:
    """x, mirrored back into -far..far wherever it would leave; no step becomes longer."""
    safe = np.where(far > 0, far, 1)
    inside = safe - np.abs((x + safe) % (4 * safe) - 2 * safe)
    return np.asarray(np.where(far > 0, inside, 0.0))


@dataclass(frozen=True, eq=False)
class Bend:
    """A thin-plate spline as a displacement (Bookstein 1989): d(p) = a0 + a1 x + a2 y + sum w_i U(|p - c_i|).

    U(r) = r^2 log r. centers: (n, 2) px. weights: (n, 2). plane: (3, 2).
    """

    centres: np.ndarray
    weights: np.ndarray
    plane: np.ndarray

    @classmethod
    def through(cls, at: np.ndarray, displacement: np.ndarray) -> Bend:
        """The spline that takes the given displacements (n, 2) at the given points (n, 2); n at least 3."""
        n = len(at)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = _u(((at[:, None] - at[None]) ** 2).sum(-1))
        system[:n, n:] = np.column_stack([np.ones(n), at])
        system[n:, :n] = system[:n, n:].T
        right = np.zeros((n + 3, 2))
        right[:n] = displacement
        solved = np.linalg.lstsq(system, right, rcond=None)[0]  # points on one line leave it singular
        return cls(np.asarray(at, float), solved[:n], solved[n:])

    def __call__(self, p: np.ndarray) -> np.ndarray:
        """Displacements (..., 2) at positions (..., 2)."""
        squared = ((p[..., None, :] - self.centres) ** 2).sum(-1)
        return np.asarray(_u(squared) @ self.weights + self.plane[0] + p @ self.plane[1:])

    def undone(self, q: np.ndarray, rounds: int = 12) -> np.ndarray:
        """The p with p + d(p) = q, by fixed point iteration; bends are kept gentle enough that it converges."""
        p = q - self(q)
        for _ in range(rounds):
            p = q - self(p)
        return np.asarray(p)

    def steepest(self, box: np.ndarray) -> float:
        """The largest change of the displacement per pixel in a box (left, top, right, bottom); below 1, no folds."""
        x, y = np.linspace(box[0], box[2], 24), np.linspace(box[1], box[3], 24)
        d = self(np.stack(np.meshgrid(x, y), -1))
        dx = np.diff(d, axis=1)[:-1] / max(x[1] - x[0], 1e-6)
        dy = np.diff(d, axis=0)[:, :-1] / max(y[1] - y[0], 1e-6)
        jacobian = np.stack([dx, dy], -1)
        return float(np.linalg.norm(jacobian, 2, axis=(-2, -1)).max())


def _u(squared: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-12)))


def gentle(centres: np.ndarray, offsets: np.ndarray, box: np.ndarray, steepest: float = 0.6) -> Bend:
    """The bend that moves the object's points `centers` by `offsets`, as the backward displacement of a warp.

    Scaled down until it folds nothing: the change per pixel stays below `steepest`.
    """
    for _ in range(12):
        bend = Bend.through(centres + offsets, -offsets)
        found = bend.steepest(box)
        if found <= steepest:
            return bend
        offsets = offsets * min(0.9, steepest / found)
    return Bend.through(centres, np.zeros_like(offsets))


@dataclass(frozen=True, eq=False)
class Warp:
    """Where a layer of the image is in a frame. affine: (2, 3), image to frame; bend: what the object itself does,
    in the image's pixels, as a backward displacement; None for a rigid layer.
    """

    affine: np.ndarray
    bend: Bend | None = None

    def back(self, frame: np.ndarray) -> np.ndarray:
        """Positions (..., 2) in the frame to positions in the image."""
        p = apply(inverse(self.affine), frame)
        return p if self.bend is None else p + self.bend(p)

    def forth(self, photo: np.ndarray) -> np.ndarray:
        """Positions (..., 2) in the image to positions in the frame."""
        return apply(self.affine, photo if self.bend is None else self.bend.undone(photo))

    def maps(self, box: tuple[int, int, int, int], origin_xy: tuple[int, int]) -> np.ndarray:
        """For cv2.remap: (h, w, 2) float32, where each pixel of a box of the frame comes from, in a crop whose first
        pixel lies at origin_xy of the image. box: left, top, right, bottom.
        """
        return upsampled(lambda p: self.back(p) - np.asarray(origin_xy, float), box)


def upsampled(function, box: tuple[int, int, int, int]) -> np.ndarray:  # type: ignore[no-untyped-def]
    """function(positions (n, m, 2)) over each pixel of a box, exact on a grid and linear between: (h, w, 2) float32."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    half = (GRID_PX - 1) / 2  # cv2.resize puts a grid's points in the middle of its cells
    x = left + half + GRID_PX * np.arange(-1, -(-width // GRID_PX) + 1)
    y = top + half + GRID_PX * np.arange(-1, -(-height // GRID_PX) + 1)
    grid = function(np.stack(np.meshgrid(x, y), -1)).astype(np.float32)
    size = grid.shape[1] * GRID_PX, grid.shape[0] * GRID_PX
    dense = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(dense[GRID_PX : GRID_PX + height, GRID_PX : GRID_PX + width])


def remapped(
    source: np.ndarray, maps: np.ndarray, *, nearest: bool = False, beyond: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """An array at the positions of `Warp.maps`, linear between pixels; past its edge 0, or as OpenCV's border."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.asarray(cv2.remap(source, maps, None, how, borderMode=beyond))  # type: ignore[call-overload]


def pose(about: np.ndarray, shift: np.ndarray, turn_deg: float, scale: float, flip: bool = False) -> np.ndarray:
    """The (2, 3) affine map that mirrors, scales and turns about a point (2,) and then shifts by (2,) px."""
    angle = np.deg2rad(turn_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if flip:
        linear = linear @ np.diag([-1.0, 1.0])
    return np.column_stack([linear, about + shift - linear @ about])


def apply(affine: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An affine map (2, 3) at positions (..., 2)."""
    return np.asarray(p @ affine[:, :2].T + affine[:, 2])


def then(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The affine map that does `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def inverse(affine: np.ndarray) -> np.ndarray:
    """The affine map back."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def covering(affine: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """A camera's map, zoomed in about the frame's middle just so far that the image covers the whole frame."""
    width, height = size_wh
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    back = inverse(affine)
    centre = apply(back, middle)
    reach = apply(back, corners) - centre  # from the middle to the corners, in the image
    # the image seen may go from the center only so far in each direction
    room = np.where(reach > 0, np.array([width - 1, height - 1]) - centre, centre)
    if (room <= 0).any():
        raise ValueError("the camera looks past the image")
    zoom = max(1.0, float((np.abs(reach) / room).max()))
    return then(affine, np.array([[zoom, 0, middle[0] * (1 - zoom)], [0, zoom, middle[1] * (1 - zoom)]]))


def outline_points(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) px positions spread over the border of a mask (h, w) bool: at even distances, from a random start."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    border = max(contours, key=len)[:, 0].astype(float)
    at = (rng.uniform() + np.arange(count)) / count * len(border)
    return np.asarray(border[at.astype(int) % len(border)])
