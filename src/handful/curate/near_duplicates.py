"""Which images are one picture again: re-encoded, resized, trimmed, a little brighter, or the next frame of a clip.

Two steps. A perceptual hash finds the pairs worth a look (pHash: the signs of 64 low frequencies against their median;
Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). It calls many images on white
alike, so each pair is then laid over one another: a small trim and stretch are solved for (Lucas and Kanade, "An
iterative image registration technique", 1981) and what is left is compared with the detail around it.
`benchmarks/alike.py` chose the limits and has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from handful.pick import need
from handful.types import Image

SIDE = 32  # of the thumbnail, px
BITS = 14  # of 64 may differ
ROUGH = 0.145  # what may be left after laying over, as a share of the detail there
COLOR = 16.0  # how far the color of a sixteenth of the image may move, of 255
LIGHT = 32.0  # how far the mean brightness may move, of 255
FLAT = 0.7  # standard deviation of an image's brightness below which there is nothing to compare
TRIM = 0.08  # the largest shift or stretch looked for, as a share of half the side
_WHITE = 250.0  # brighter than this is cut off, so a brighter copy cannot show what it was
_SOFT = 2.0, 1.5, 16.0  # detail weaker than 1.5 x the image's, kept in 2 to 16, counts as that: noise is no difference
_LOOKS = 128  # pairs laid over at a time: they stay in the processor's cache
_ROWS, _COLUMNS = 256, 2048  # hash pairs compared at a time: they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of an image to find it again, about 1.1 kB.

    bits: the 64 bits of its pHash. flipped: those of its mirror image. gray: (32, 32) uint8, brightness.
    chroma: (4, 4, 2) uint8, Cb and Cr of sixteen parts, 128 is gray.
    """

    bits: int
    flipped: int
    gray: np.ndarray
    chroma: np.ndarray


def fingerprint(image: Image) -> Fingerprint:
    """The fingerprint of an image."""
    pil = need("PIL.Image", "data")
    small = pil.fromarray(image.rgb_u8).resize((SIDE, SIDE), pil.Resampling.BOX)
    rgb = np.asarray(small, dtype=np.float32)
    gray = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    chroma = np.stack([(rgb[..., 2] - gray) * 0.564, (rgb[..., 0] - gray) * 0.713], axis=-1)
    chroma = chroma.reshape(4, SIDE // 4, 4, SIDE // 4, 2).mean((1, 3))
    return Fingerprint(_phash(gray), _phash(gray[:, ::-1]), _byte(_blur(gray)), _byte(np.clip(chroma + 128, 0, 255)))


def _byte(values: np.ndarray) -> np.ndarray:
    return np.round(values).astype(np.uint8)


def _phash(gray: np.ndarray) -> int:
    at = np.arange(SIDE)
    waves = np.cos(np.pi * (2 * at + 1) * at[:8, None] / (2 * SIDE))
    low = (waves @ gray.astype(np.float64) @ waves.T).ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _blur(gray: np.ndarray) -> np.ndarray:
    """(n, n) smoothed by 1 4 6 4 1, so that a shift of a part of a pixel can be solved for."""
    for _ in range(2):  # down the columns; turned, down the rows
        wide = np.pad(gray, ((2, 2), (0, 0)), mode="edge")
        gray = ((wide[:-4] + wide[4:] + 4 * (wide[1:-3] + wide[3:-1]) + 6 * wide[2:-2]) / 16).T
    return gray


def near_pairs(
    prints: Sequence[Fingerprint], *, bits: int = BITS, rough: float = ROUGH, color: float = COLOR,
    mirrored: bool = False,
) -> list[tuple[int, int]]:  # fmt: skip
    """All pairs (i, j), i < j, of images that look the same, sorted.

    bits: how many of the 64 bits may differ; every such pair is looked at. rough: what may be left after laying one
    over the other. color: how far the color of a part may move, of 255. mirrored: a mirror image counts as the same.
    An image of one plain color is alike only to its own copy. Time grows with the square of the number: a minute for
    100,000. A clip of one scene gives all its pairs; `clusters` does not, and should be used to group.
    """
    found = {(int(i), int(j)) for block in _pairs(prints, bits, rough, color, mirrored) for i, j in block}
    return sorted(found)


def clusters(
    prints: Sequence[Fingerprint], *, bits: int = BITS, rough: float = ROUGH, color: float = COLOR,
    mirrored: bool = False,
) -> list[list[int]]:  # fmt: skip
    """`groups` of `near_pairs`, without holding or even looking at pairs of images that are in one group already."""
    joined = _Joined(len(prints))
    for block in _pairs(prints, bits, rough, color, mirrored, wanted=joined.apart):
        joined.join(block)
    return joined.groups()


def groups(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """0 to n - 1 in groups that pairs hold together, each sorted, in the order of their first; most have one member."""
    joined = _Joined(n)
    joined.join(np.array(list(pairs), dtype=np.int64).reshape(-1, 2))
    return joined.groups()


class _Joined:
    """Union-find whose every member points straight at the first of its group."""

    def __init__(self, n: int) -> None:
        self.first = np.arange(n)

    def apart(self, pairs: np.ndarray) -> np.ndarray:
        """Which of the (m, 2) pairs are not in one group yet."""
        return np.asarray(self.first[pairs[:, 0]] != self.first[pairs[:, 1]])

    def join(self, pairs: np.ndarray) -> None:
        parent = self.first.tolist()

        def top(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        for i, j in pairs[self.apart(pairs)].tolist():
            a, b = top(i), top(j)
            parent[max(a, b)] = min(a, b)
        first = np.array(parent, dtype=np.int64)
        while (first[first] != first).any():
            first = first[first]
        self.first = first

    def groups(self) -> list[list[int]]:
        order = np.argsort(self.first, kind="stable")
        cuts = np.flatnonzero(np.diff(self.first[order])) + 1
        return [part.tolist() for part in np.split(order, cuts) if part.size]


def _pairs(
    prints: Sequence[Fingerprint], bits: int, rough: float, color: float, mirrored: bool,
    wanted: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """(m, 2) pairs that look the same, block by block. wanted: says of (m, 2) pairs which are worth a look, (m,)."""
    if not prints:
        return
    code = np.array([p.bits for p in prints], dtype=np.uint64)
    turned = np.array([p.flipped for p in prints], dtype=np.uint64)
    gray, chroma = np.stack([p.gray for p in prints]), np.stack([p.chroma for p in prints])
    for flip in (False, True) if mirrored else (False,):
        for block in _hash_pairs(code, turned if flip else code, bits):
            for start in range(0, len(block), _LOOKS):
                part = block[start : start + _LOOKS]
                if wanted is not None:
                    part = part[wanted(part)]
                if not len(part):
                    continue
                # always the same way round, so that the order of the images does not matter
                swap = (code[part[:, 0]] > code[part[:, 1]])[:, None]
                i, j = np.where(swap, part[:, ::-1], part).T
                other = (gray[j][:, :, ::-1], chroma[j][:, :, ::-1]) if flip else (gray[j], chroma[j])
                yield part[_difference(gray[i], chroma[i], *other, color) <= rough]


def _hash_pairs(a: np.ndarray, b: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """All (m, 2) pairs i < j where a[i] and b[j], (n,) uint64, differ in `bits` bits or fewer."""
    n = len(a)
    for top in range(0, n, _ROWS):
        found = []
        for left in range(top, n, _COLUMNS):
            apart = np.bitwise_count(a[top : top + _ROWS, None] ^ b[None, left : left + _COLUMNS])
            hit = np.flatnonzero(apart <= bits)
            if hit.size:
                i, j = np.divmod(hit, apart.shape[1])
                found.append(np.stack([i + top, j + left], axis=1))
        if found:
            pairs = np.concatenate(found)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _difference(
    grey_a: np.ndarray, chroma_a: np.ndarray, grey_b: np.ndarray, chroma_b: np.ndarray, color: float = COLOR
) -> np.ndarray:
    """(k,) how much k pairs differ, inf for another color or light; thumbnails (k, 32, 32), colors (k, 4, 4, 2)."""
    tint = np.abs(chroma_a.astype(np.int16) - chroma_b).max((1, 2, 3))
    a, b = grey_a.astype(np.float32), grey_b.astype(np.float32)
    light = np.abs(a.mean((1, 2)) - b.mean((1, 2)))
    detail = np.minimum(a.std((1, 2)), b.std((1, 2)))
    copy = (((a - b) ** 2).mean((1, 2)) < 0.25) & (light <= 2) & (tint <= 2)
    left = np.where(copy, 0.0, np.inf)
    look = np.flatnonzero(~copy & (detail >= FLAT) & (tint <= color) & (light <= LIGHT))
    if look.size:
        least, per, most = _SOFT
        left[look] = _left(a[look], b[look], np.clip(per * detail[look], least, most))
    return left


def _left(a: np.ndarray, b: np.ndarray, soft: np.ndarray, steps: int = 4) -> np.ndarray:
    """(k,) what is left of a laid over b, both (k, 32, 32) float32, as a share of the detail around; 0 is the same.

    soft: (k,) detail weaker than this counts as this much. Gauss-Newton for a stretch and a shift along each axis,
    brightness and contrast; the best step counts.
    """
    k = len(a)
    at = ((np.arange(SIDE) + 0.5) * 2 / SIDE - 1).astype(np.float32)  # pixel centers, the image from -1 to 1
    move = np.zeros((k, 4), dtype=np.float32)  # stretch x, shift x, stretch y, shift y
    best = np.full(k, np.inf)
    left = np.full(k, np.inf)
    for step in range(steps + 1):
        laid, inside = _lay(a, move, at)
        gain, base, rest = _relight(laid, b, inside)
        error = (rest**2).sum((1, 2)) / inside.sum((1, 2))
        better = error < best
        best = np.where(better, error, best)
        if (now := np.flatnonzero(better)).size:
            left[now] = _share(rest[now], laid[now] * gain[now], b[now], inside[now], soft[now])
        if step == steps:
            break
        down, right = np.gradient(laid, axis=(1, 2))
        right, down = right * gain * (SIDE / 2), down * gain * (SIDE / 2)
        slopes = [right * at, right, down * at[:, None], down, base, np.ones_like(laid)]
        slope = np.stack(slopes, axis=1).reshape(k, 6, -1)
        held = slope * inside.reshape(k, 1, -1)
        square = held @ slope.transpose(0, 2, 1)
        # a little damping, for pictures that say nothing about one of the axes
        damp = 1e-3 * np.trace(square[:, :4, :4], axis1=1, axis2=2)[:, None] * [1, 1, 1, 1, 0, 0] + 1e-3
        square[:, range(6), range(6)] += damp
        change = np.linalg.solve(square, held @ rest.reshape(k, -1, 1))[:, :4, 0]
        move = np.clip(move + change, -TRIM, TRIM).astype(np.float32)
    return left


def _lay(a: np.ndarray, move: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a stretched and shifted, where both images are), (k, 32, 32) each; the rim is left out, it was blurred."""
    rim = 2
    rows = np.arange(len(a))[:, None]
    places, fractions, valid = [], [], []
    for stretch, shift in ((0, 1), (2, 3)):
        where = ((at * (1 + move[:, stretch, None]) + move[:, shift, None]) * SIDE + SIDE - 1) / 2
        ok = (where >= rim - 0.5) & (where <= SIDE - rim - 0.5)
        ok[:, :rim] = ok[:, SIDE - rim :] = False
        where = np.clip(where, 0, SIDE - 1.001)
        places.append(where.astype(np.int64))
        fractions.append((where - places[-1]).astype(np.float32))
        valid.append(ok)
    (x, y), fx, fy = places, fractions[0][:, None, :], fractions[1][:, :, None]
    left, right = (np.take_along_axis(a, column[:, None, :], axis=2) for column in (x, x + 1))
    across = left * (1 - fx) + right * fx  # each row of a once, and from these both rows that a place lies between
    inside = (valid[1][:, :, None] & valid[0][:, None, :]).astype(np.float32)
    return across[rows, y] * (1 - fy) + across[rows, y + 1] * fy, inside


def _relight(laid: np.ndarray, b: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gain (k, 1, 1), laid without its mean, what is left after brightness and contrast), found where nothing is cut
    off at white. A white pixel may have been any brighter one, so there only the wrong side counts.
    """
    seen = inside * (laid < _WHITE) * (b < _WHITE)
    few = seen.sum((1, 2), keepdims=True) < 0.1 * inside.sum((1, 2), keepdims=True)
    seen = np.where(few, inside, seen)
    n = np.maximum(seen.sum((1, 2), keepdims=True), 1)
    base = laid - (seen * laid).sum((1, 2), keepdims=True) / n
    goal = b - (seen * b).sum((1, 2), keepdims=True) / n
    spread = (seen * base * base).sum((1, 2), keepdims=True) / n
    shared = (seen * base * goal).sum((1, 2), keepdims=True) / n
    gain = np.clip((shared + 25) / (spread + 25), 0.8, 1.25)  # 25: five levels; flatter than that, contrast is noise
    rest = goal - gain * base
    rest = np.where(laid >= _WHITE, np.minimum(rest, 0), rest)
    rest = np.where(b >= _WHITE, np.maximum(rest, 0), rest)
    return gain, base, inside * rest


def _share(rest: np.ndarray, a: np.ndarray, b: np.ndarray, inside: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """(k,) rms over the image of what is left, over the detail in 5 x 5 px around: an edge may be off by more than a
    plain area. Without that, every object on white would be mostly the same white.
    """
    # what is inside are some of the columns of some of the rows
    down, over = (_around(inside.max(axis, keepdims=True)) for axis in (2, 1))
    n = np.maximum(down * over, 1e-6)

    def detail(x: np.ndarray) -> np.ndarray:
        mean = _around(inside * x) / n
        return np.asarray(np.maximum(_around(inside * x * x) / n - mean * mean, 0))

    share = inside * (_around(rest * rest) / n) / (np.maximum(detail(a), detail(b)) + soft[:, None, None] ** 2)
    return np.asarray(np.sqrt(share.sum((1, 2)) / inside.sum((1, 2))))


def _around(x: np.ndarray, width: int = 5) -> np.ndarray:
    """Sums of (k, n, m) over the width x width pixels around each."""
    for axis in (1, 2):
        if x.shape[axis] > 1:
            x = _along(x, axis, width)
    return x


def _along(x: np.ndarray, axis: int, width: int) -> np.ndarray:
    """The same along one axis."""
    wide = np.zeros([n + (width - 1) * (i == axis) for i, n in enumerate(x.shape)])
    n, parts = x.shape[axis], [slice(None)] * 3

    def part(start: int) -> np.ndarray:
        return wide[tuple(slice(start, start + n) if i == axis else one for i, one in enumerate(parts))]

    part(width // 2)[...] = x
    sums = part(0) + part(1)
    for i in range(2, width):
        sums += part(i)
    return np.asarray(sums)
