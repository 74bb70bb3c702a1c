"""Smooth corrections of an image: what is known on a line, spread over the pixels beside it by multigrid.

One equation at each pixel, e - (the mean of e at its 4 neighbors) = rhs, where a neighbor past the array's edge is
the pixel itself. That is the discrete Poisson equation that gradient-domain editing comes down to (Perez et al. 2003),
times -1/4. A V-cycle relaxes it at full size, hands what is left to a picture of half the size, and so on: the cost is
a few filters over the image however far a correction reaches. All arrays are float32 (h, w, channels), 1 to 4 channels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Sides = tuple[bool, bool, bool, bool]  # left, top, right, bottom
Hold = Callable[[np.ndarray], None]  # sets a correction to 0, in place, where it must stay 0

CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
_HERE = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
_EDGE = cv2.BORDER_REPLICATE
# the fine grid deals with the eigenvalues above SPLIT, the coarser one with those below; and a correction from below
# comes back a little weakened by the two blurs on its way. Both were chosen by the error after one cycle on real crops
SPLIT = 0.2
OVER = 1.1
LEVELS = 4  # of a screened equation: 16 px are then one, and further away nothing is left
COARSEST_PX = 4
COARSEST_SWEEPS = 16


class _Buffers(threading.local):
    """Memory that is kept from call to call: to get a picture's worth of it anew from the system each time would take
    longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def get(self, name: str, shape: tuple[int, ...], level: int = 0) -> np.ndarray:
        """An uninitialized float32 array, good until the same name and level are asked for again in this thread."""
        size = int(np.prod(shape))
        kept = self._kept.get((name, level))
        if kept is None or kept.size < size:
            kept = self._kept[name, level] = np.empty(size, np.float32)
        return kept[:size].reshape(shape)


_BUFFERS = _Buffers()


def buffer(shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of zeros to put the right-hand side in, good until the next call in this thread."""
    zeros = _BUFFERS.get("given", shape)
    zeros.fill(0)
    return zeros


def screened(rhs: np.ndarray, decay_px: float, zero_at: Sides) -> np.ndarray:
    """e - mean of 4 neighbors + e / (2 decay)^2 = rhs: a correction that fades like exp(-distance / decay).

    zero_at: at which sides of the array the outermost line stays 0. One V-cycle: off by a fiftieth of the largest
    value on average, by an eighth at the worst pixel. `rhs` is set to 0 where e is; the result is good until
    the next call in this thread. (Bhat et al. 2008 on this equation.)
    """

    def hold(e: np.ndarray) -> None:
        left, top, right, bottom = zero_at
        if top:
            e[0] = 0
        if bottom:
            e[-1] = 0
        if left:
            e[:, 0] = 0
        if right:
            e[:, -1] = 0

    levels = 1
    while levels <= LEVELS and min(rhs.shape[:2]) >> levels >= COARSEST_PX:
        levels += 1
    hold(rhs)
    return _cycle(rhs, [hold] * levels, 0, 0.25 / decay_px**2, 2, 3)


def membrane(values: np.ndarray, fixed: np.ndarray, free: np.ndarray, steps: int = 4) -> np.ndarray:
    """The surface without a bump (Laplace's equation) through what is known.

    values: (h, w, channels), 0 wherever not fixed. fixed, free: (h, w) uint8 0 or 1, never both at one pixel. Returns
    values where fixed, the surface where free, 0 elsewhere; in `values` itself. Free pixels with none that is fixed
    in reach are 0. Conjugate gradients, each step led by a V-cycle, so that no shape of `free` can make it diverge.
    """
    shape = values.shape
    mask = free.astype(np.float32)
    masks = [mask]
    while min(mask.shape) > COARSEST_PX:
        mask = np.asarray(cv2.pyrDown(mask), dtype=np.float32)
        # pixels that are half free follow half-heartedly, which keeps thin parts alive on the coarse grids
        weight = np.clip(1.5 * mask - 0.5, 0, 1)
        if not weight.any():
            break
        masks.append(weight)
    holds = [_only(m, shape[2], level) for level, m in enumerate(masks)]
    residual, search = _BUFFERS.get("residual", shape), _BUFFERS.get("search", shape)
    pull, product = _BUFFERS.get("pull", shape), _BUFFERS.get("product", shape)

    def dot(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(cv2.sumElems(cv2.multiply(a, b, dst=product))))

    cv2.filter2D(values, -1, CROSS, dst=residual, borderType=_EDGE)
    holds[0](residual)
    before = 0.0
    for _ in range(steps):
        ahead = _cycle(residual, holds, 0, 0.0, 2, 2)
        strength = dot(residual, ahead)
        if strength <= 0:  # solved
            break
        if before:
            cv2.scaleAdd(search, strength / before, ahead, dst=search)
        else:
            np.copyto(search, ahead)
        before = strength
        cv2.filter2D(search, -1, _HERE - CROSS, dst=pull, borderType=_EDGE)
        holds[0](pull)
        far = strength / dot(search, pull)
        cv2.scaleAdd(search, far, values, dst=values)
        cv2.scaleAdd(pull, -far, residual, dst=residual)
    return values


def _only(mask: np.ndarray, channels: int, level: int) -> Hold:
    wide = _BUFFERS.get("mask", (*mask.shape, channels), level)
    cv2.merge([mask] * channels, dst=wide)

    def hold(e: np.ndarray) -> None:
        cv2.multiply(e, wide, dst=e)

    return hold


def _cycle(rhs: np.ndarray, holds: Sequence[Hold], level: int, screen: float, before: int, after: int) -> np.ndarray:
    """One V-cycle from e = 0, with so many sweeps before and after the coarser grid. rhs is 0 where e is held at 0."""
    height, width, channels = rhs.shape
    hold = holds[level]
    e, other = _BUFFERS.get("e", rhs.shape, level), _BUFFERS.get("other", rhs.shape, level)
    if level == len(holds) - 1:
        weights = [1 / (1.25 + screen)] * COARSEST_SWEEPS
        np.multiply(rhs, np.float32(weights[0]), out=e)
        return _relaxed(rhs, e, other, hold, screen, weights[1:])[0]
    weights = _weights(before)
    np.multiply(rhs, np.float32(weights[0]), out=e)
    e, other = _relaxed(rhs, e, other, hold, screen, weights[1:])
    cv2.filter2D(e, -1, CROSS - np.float32(1 + screen) * _HERE, dst=other, borderType=_EDGE)
    cv2.add(other, rhs, dst=other)
    hold(other)
    coarse = _BUFFERS.get("coarse", ((height + 1) // 2, (width + 1) // 2, channels), level)
    cv2.pyrDown(other, dst=coarse)
    np.multiply(coarse, np.float32(4), out=coarse)  # the same bend over pixels twice as far apart
    holds[level + 1](coarse)
    deeper = _cycle(coarse, holds, level + 1, 4 * screen, before, after)
    cv2.pyrUp(deeper, dst=other, dstsize=(width, height))
    cv2.scaleAdd(other, OVER, e, dst=e)
    hold(e)
    return _relaxed(rhs, e, other, hold, screen, _weights(after)[::-1])[0]


def _relaxed(
    rhs: np.ndarray, e: np.ndarray, other: np.ndarray, hold: Hold, screen: float, weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobi sweeps of these weights, to and fro between two buffers; the one with the result first."""
    for w in weights:
        kernel = np.float32(1 - w * (1 + screen)) * _HERE + np.float32(w) * CROSS
        cv2.filter2D(e, -1, kernel, dst=other, borderType=_EDGE)
        cv2.scaleAdd(rhs, w, other, dst=other)
        hold(other)
        e, other = other, e
    return e, other


def _weights(sweeps: int) -> list[float]:
    """Of the Jacobi sweeps that together damp all eigenvalues from SPLIT to 2 alike (Chebyshev)."""
    middle, half = (2 + SPLIT) / 2, (2 - SPLIT) / 2
    return [float(1 / (middle + half * np.cos(np.pi * (2 * k + 1) / (2 * sweeps)))) for k in range(sweeps)]
