"""Filling a hole from the rest of the image: patches voted over scales, found by a randomised search.

The energy and the voting are Wexler, Shechtman and Irani, "Space-Time Completion of Video" (TPAMI 2007); the search is
Barnes et al., "PatchMatch" (SIGGRAPH 2009), spreading in jumps (Rong and Tan, "Jump Flooding", I3D 2006) so that NumPy
moves all patches at once. Patches are compared by their first Walsh-Hadamard coefficients (Hel-Or and Hel-Or, TPAMI
2005) of Lab and of the mean slope around a pixel (a texture feature, after Newson et al., SIAM J. Imaging Sci. 2014).

The same image, hole and generator give the same bytes however many threads there are: descriptors and weights are
whole numbers, and sums are taken in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

PATCH = 8  # px, the side of a patch at every scale
WORK_PX = 320  # the long side at which the search for structure ends; what follows sharpens
SHARPEN_PX = 1_200_000  # the area up to which it is worth searching; in larger images the last step is a vote alone
SHRINK = 0.6  # from one scale to the next
COARSEST_RADIUS = 3.0  # px, the hole's largest inscribed radius at the coarsest scale: one patch sees across
FEWEST_SOURCES = 64  # patches; with fewer there is nothing to choose from
JUMPS = (8, 4, 2, 1)  # px
COHERENCE = 1.15  # what a neighbor found may be this much worse: larger pieces in one go, hence sharper votes
FIRST_ROUNDS, ROUNDS = 8, 3  # searches and votes at the coarsest scale, and at those after it
NEAR_PX = 4  # how far the sharpening looks around what the scale before found
TEXTURE_SIGMA = 4  # px, over which slopes are averaged
FOCUS_SIGMA = 0.8  # px around a patch's middle that count in the last vote: less blur than a plain mean
LIFT = 24  # gray levels at most between the hole's border and the image that are smoothed away; more is an edge
LIFT_PX = 8  # how far into the hole that reaches


@dataclass
class Level:
    """One scale. Patches are named by their top left pixel; flat indices run over their grid, padded by JUMPS[0]."""

    picture_u8: np.ndarray  # (h, w, 4) L, a, b, texture; inside the hole the current guess
    hole: np.ndarray  # bool (h, w)
    source: np.ndarray  # bool, the padded grid: patches that may be copied
    y: np.ndarray  # int64 (n,): the patches to be matched, all that touch the hole
    x: np.ndarray
    weight: np.ndarray  # float32 (n,): trust, less with the distance from what is known

    def flat(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Index in the padded grid."""
        return np.asarray((y + JUMPS[0]) * self.source.shape[1] + (x + JUMPS[0]))

    def place(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The other way round: y and x."""
        y, x = np.divmod(flat, self.source.shape[1])
        return y - JUMPS[0], x - JUMPS[0]

    def anywhere(self, rng: np.random.Generator) -> np.ndarray:
        """A random source for each patch."""
        sources = np.flatnonzero(self.source)
        return np.asarray(sources[rng.integers(0, len(sources), len(self.y))])


def _walsh() -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(channel, column kernel, row kernel) of the coefficients kept: the low ones, more of lightness than of color."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < PATCH:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    rows = matrix[np.argsort([(np.diff(row) != 0).sum() for row in matrix])]
    pairs = sorted(((i, j) for i in range(PATCH) for j in range(PATCH)), key=lambda p: (p[0] + p[1], p[0] * p[1]))
    return [(c, rows[i], rows[j]) for c, n in enumerate((14, 5, 5, 1)) for i, j in pairs[:n]]


WALSH = _walsh()


def _describe(picture_u8: np.ndarray) -> np.ndarray:
    """float32 (h - 7, w - 7, 25), whole numbers, of every patch."""
    h, w = (n - PATCH + 1 for n in picture_u8.shape[:2])
    planes = [np.ascontiguousarray(picture_u8[..., c], np.float32) for c in range(4)]
    out = np.empty((h, w, len(WALSH)), np.float32)
    for k, (c, column, row) in enumerate(WALSH):
        whole = cv2.sepFilter2D(planes[c], cv2.CV_32F, row, column, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
        out[..., k] = whole[:h, :w]
    out *= 1 / 16  # 1/8 makes the transform orthonormal; steps of 2 are fine enough, and keep sums of squares exact
    return np.asarray(np.rint(out, out=out))


def _picture(rgb_u8: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """What patches are compared in: uint8 (h, w, 4) L, a, b, mean slope of L. Nothing inside the gap counts."""
    lab = cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2Lab)
    light = lab[..., 0].astype(np.float32)
    slope = np.abs(cv2.Sobel(light, -1, 1, 0, ksize=1)) + np.abs(cv2.Sobel(light, -1, 0, 1, ksize=1))
    known = cv2.erode((~gap).astype(np.float32), np.ones((3, 3), np.uint8))
    share = cv2.GaussianBlur(known, (0, 0), TEXTURE_SIGMA)
    texture = cv2.GaussianBlur(slope * known, (0, 0), TEXTURE_SIGMA) / np.maximum(share, 1e-3)
    return np.dstack([lab, np.rint(np.minimum(texture, 255)).astype(np.uint8)])


def shrunk(picture_u8: np.ndarray, hole: np.ndarray, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Picture uint8 (h, w, c) and hole bool (h, w) at the size hw; the hole gives no color to those around it."""
    known = (~hole).astype(np.float32)
    share = cv2.resize(known, hw[::-1], interpolation=cv2.INTER_AREA)
    sums = cv2.resize(picture_u8 * known[..., None], hw[::-1], interpolation=cv2.INTER_AREA)
    color = np.rint(sums / np.maximum(share, 1e-6)[..., None])
    return np.clip(color, 0, 255).astype(np.uint8), np.asarray(share < 0.999)


def telea(picture_u8: np.ndarray, hole: np.ndarray, radius_px: float) -> np.ndarray:
    """cv2.inpaint by Telea's method: uint8 (h, w, c), hole bool (h, w), not everywhere."""
    # along the image's border cv2 lets what lies in the hole through, by up to 13 gray levels
    blank = picture_u8.copy()
    blank[hole] = np.rint(picture_u8[~hole].mean(0))
    parts = [np.ascontiguousarray(part) for part in (blank[..., :3], blank[..., 3:]) if part.size]
    return np.dstack([cv2.inpaint(part, hole.astype(np.uint8), radius_px, cv2.INPAINT_TELEA) for part in parts])


def _touches(mask: np.ndarray) -> np.ndarray:
    """bool (h - 7, w - 7): patches with a pixel of the mask."""
    h, w = (n - PATCH + 1 for n in mask.shape)
    most = cv2.dilate(mask.astype(np.uint8), np.ones((PATCH, PATCH), np.uint8), anchor=(0, 0))
    return np.asarray(most[:h, :w] > 0)


def _level(picture_u8: np.ndarray, hole: np.ndarray, wanted: np.ndarray) -> Level:
    """A scale at which the patches that touch `wanted` are matched."""
    y, x = np.nonzero(_touches(wanted))
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)[y + PATCH // 2, x + PATCH // 2]
    weight = np.power(1.3, -np.minimum(depth, 24)).astype(np.float32)
    return Level(picture_u8, hole, np.pad(~_touches(hole), JUMPS[0]), y, x, weight)


class Search:
    """The nearest source of each patch that is to be matched."""

    def __init__(self, level: Level, found: np.ndarray) -> None:
        """found: int64 (n,), the flat index of a first guess, each a source."""
        self.level, self.found = level, found
        h, w = (n - PATCH + 1 for n in level.hole.shape)
        self.last = np.array([[h - 1], [w - 1]])
        margin = (JUMPS[0], JUMPS[0])
        self.sources = np.pad(_describe(level.picture_u8), (margin, margin, (0, 0))).reshape(-1, len(WALSH))
        self.usable = level.source.ravel()
        self.at = level.flat(level.y, level.x)
        self.index = np.full(level.source.size, -1)
        self.index[self.at] = np.arange(len(self.at))
        self.refresh()

    def refresh(self) -> None:
        """Describe the hole anew after a vote."""
        y, x = self.level.y, self.level.x
        top, left = y.min(), x.min()
        part = self.level.picture_u8[top : y.max() + PATCH, left : x.max() + PATCH]
        self.targets = _describe(part)[y - top, x - left]
        self.cost = self._distance(self.found, self.targets)

    def _distance(self, at: np.ndarray, targets: np.ndarray) -> np.ndarray:
        difference = self.sources[at]
        difference -= targets
        return np.asarray(np.einsum("nk,nk->n", difference, difference))

    def _offer(self, which: np.ndarray, at: np.ndarray, slack: float = 1.0) -> None:
        """Take the sources at flat indices for the patches `which`, where they are nearer."""
        usable = self.usable[at]
        which, at = which[usable], at[usable]
        cost = self._distance(at, self.targets[which])
        better = cost < self.cost[which] * np.float32(slack)
        self.found[which[better]] = at[better]
        self.cost[which[better]] = cost[better]

    def spread(self, jumps: tuple[int, ...] = JUMPS) -> None:
        """What a neighbor found, moved along, may be right here too."""
        width = self.level.source.shape[1]
        for jump in jumps:
            for step in (-jump, jump, -jump * width, jump * width):
                neighbor = self.index[self.at + step]
                which = np.flatnonzero(neighbor >= 0)
                self._offer(which, self.found[neighbor[which]] - step, COHERENCE)

    def wander(self, radius: float, rng: np.random.Generator) -> None:
        """Look at random around what was found, nearer and nearer."""
        every = np.arange(len(self.found))
        while radius >= 1:
            moved = np.stack(self.level.place(self.found)) + np.rint(rng.uniform(-radius, radius, (2, len(every))))
            y, x = np.clip(moved.astype(np.int64), 0, self.last)
            self._offer(every, self.level.flat(y, x))
            radius /= 2

    def repaint(self) -> None:
        """Vote, and describe what came of it."""
        _repaint(self.level, self.found, _trust(self.level, self.cost))
        self.refresh()


def _trust(level: Level, cost: np.ndarray) -> np.ndarray:
    """Weights of votes, float32 whole numbers from 1: the nearer the match and the hole's border, the more."""
    spread = max(float(np.percentile(cost, 75)), 16.0)
    return np.asarray(np.rint(np.maximum(1023 * np.exp(-cost / (2 * spread)) * level.weight, 1)), np.float32)


def _vote(
    level: Level, found: np.ndarray, weight: np.ndarray, colors_u8: np.ndarray, focus: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's mean over the patches that hold it: float32 (h, w, c), and its sum of weights (h, w).

    focus: sigma in px; a patch's vote counts less for pixels far from its middle.
    """
    h, w = level.hole.shape
    sy, sx = level.place(found)
    to, source = level.y * w + level.x, sy * w + sx
    colors = colors_u8.reshape(h * w, -1).astype(np.float32)
    total, sums = np.zeros(h * w, np.float32), np.zeros_like(colors)
    middle = (PATCH - 1) / 2
    for dy in range(PATCH):
        for dx in range(PATCH):
            far = (dy - middle) ** 2 + (dx - middle) ** 2
            # no patch drops out: a pixel in the image's corner is in one patch alone, and in that one's corner
            here = weight * np.float32(max(round(256 * np.exp(-far / (2 * focus**2))), 1))
            step = dy * w + dx
            # a patch has one pixel at each step, so no index comes twice and += adds them all
            sums[to + step] += colors[source + step] * here[:, None]
            total[to + step] += here
    sums /= np.maximum(total, 1)[:, None]
    return sums.reshape(h, w, -1), total.reshape(h, w)


def _repaint(level: Level, found: np.ndarray, weight: np.ndarray) -> None:
    mean, total = _vote(level, found, weight, level.picture_u8)
    inside = level.hole & (total > 0)
    level.picture_u8[inside] = np.rint(mean[inside]).astype(np.uint8)


def _carried(coarse: Search, fine: Level, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the coarser scale found, at this one: flat indices of sources, and whether each was carried or is random."""
    ratio = np.array(fine.hole.shape) / np.array(coarse.level.hole.shape)
    near = np.rint(np.stack([fine.y, fine.x]) / ratio[:, None]).astype(np.int64)
    which = coarse.index[coarse.level.flat(*np.clip(near, 0, coarse.last))]
    sy, sx = coarse.level.place(coarse.found[which])
    offset = np.stack([sy - coarse.level.y[which], sx - coarse.level.x[which]])
    moved = np.stack([fine.y, fine.x]) + np.rint(offset * ratio[:, None]).astype(np.int64)
    last = np.array(fine.hole.shape)[:, None] - PATCH
    at = fine.flat(*np.clip(moved, 0, last))
    carried = (which >= 0) & (moved >= 0).all(0) & (moved <= last).all(0) & fine.source.ravel()[at]
    return np.where(carried, at, fine.anywhere(rng)), carried


def _settle(level: Level, coarse: Search | None, sharpen: bool, rng: np.random.Generator) -> Search:
    """Search and vote in turn at one scale."""
    hole = level.hole
    if coarse is None:
        level.picture_u8[hole] = telea(level.picture_u8, hole, 3)[hole]
        search = Search(level, level.anywhere(rng))
        search.wander(max(hole.shape), rng)
    else:
        guess = cv2.resize(coarse.level.picture_u8, hole.shape[::-1], interpolation=cv2.INTER_LINEAR)
        level.picture_u8[hole] = guess[hole]
        found, carried = _carried(coarse, level, rng)
        _repaint(level, found, level.weight * carried)
        search = Search(level, found)
    if sharpen:
        search.spread((1,))
        search.wander(NEAR_PX, rng)
        search.spread((1,))
        return search
    for _ in range(ROUNDS if coarse else FIRST_ROUNDS):
        search.spread()
        search.wander(max(hole.shape) / 2, rng)
        search.spread((1,))
        search.repaint()
    return search


def _scales(gap: np.ndarray) -> Iterator[tuple[tuple[int, int], bool]]:
    """((h, w), whether it only sharpens) of the scales that are searched, coarse to fine."""
    h, w = gap.shape
    radius = float(cv2.distanceTransform(gap.astype(np.uint8), cv2.DIST_L2, 5).max())
    factors = [min(0.5, WORK_PX / max(h, w))]
    while radius * factors[-1] > COARSEST_RADIUS:
        factors.append(factors[-1] * SHRINK)
    sizes = [(round(h * f), round(w * f)) for f in reversed(factors)]
    yield from ((size, False) for size in sizes if min(size) >= 2 * PATCH)
    last = min(1.0, (SHARPEN_PX / (h * w)) ** 0.5)
    yield (round(h * last), round(w * last)), min(sizes[-1]) >= 2 * PATCH


def complete(rgb_u8: np.ndarray, hole: np.ndarray, avoid: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Fill a hole with patches from outside it.

    rgb_u8: (h, w, 3) RGB uint8. hole: bool (h, w), not empty. avoid: bool (h, w), never copied from; searched as if it
    were part of the hole, so that it does not shape what is found.
    Returns RGB uint8 (h, w, 3), changed inside the hole alone; None when too few whole patches are free of both.
    """
    gap = hole | avoid
    if min(hole.shape) < PATCH or (~_touches(gap)).sum() < FEWEST_SOURCES:
        return None
    picture = _picture(rgb_u8, gap)
    search: Search | None = None
    for size, sharpen in _scales(gap):
        full = size == gap.shape
        small, small_gap = (picture.copy(), gap) if full else shrunk(picture, gap, size)
        level = _level(small, small_gap, hole if full else small_gap)
        if level.source.sum() >= FEWEST_SOURCES:
            search = _settle(level, search, sharpen and search is not None, rng)
    if search is None:
        return None
    level, found, weight = search.level, search.found, _trust(search.level, search.cost)
    magnified = gap.shape[0] / level.hole.shape[0]
    if level.hole.shape != gap.shape:
        level = _level(picture, gap, hole)
        found, carried = _carried(search, level, rng)
        weight = np.rint(np.maximum(1023 * level.weight * carried, 1)).astype(np.float32)
    voted, total = _vote(level, found, weight, rgb_u8, FOCUS_SIGMA * magnified)
    rim = ((total > 0) & ~gap).astype(np.float32)
    error = np.clip((rgb_u8 - voted) * rim[..., None], -LIFT, LIFT)
    share = cv2.GaussianBlur(rim, (0, 0), LIFT_PX / 2)
    lift = cv2.GaussianBlur(error, (0, 0), LIFT_PX / 2) / np.maximum(share, 1e-3)[..., None]
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    lift *= np.exp(-depth / LIFT_PX)[..., None]
    out = rgb_u8.copy()
    out[hole] = np.clip(np.rint(voted + lift), 0, 255).astype(np.uint8)[hole]
    return out
