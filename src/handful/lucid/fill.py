"""The image behind an object: a hole filled from what surrounds it, or by an inpainter from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from handful import pick
from handful.errors import DataError
from handful.lucid import patchmatch

METHODS = ("auto", "patchmatch", "telea", "telea-half")
TELEA_RADIUS_PX = 5
THICK = 0.005  # of the diagonal, 5 px at 854 x 480: a hole with a larger inscribed radius shows when Telea fills it
APART_PX = 33  # holes further apart than this are filled each by itself
FEWEST_MARGIN_PX = 48  # of image around a hole that patches may come from
FOREIGN_LEVELS = 8.0  # mean gray levels an inpainter may change outside the hole, by rounding or JPEG

Inpainter = Callable[[np.ndarray, np.ndarray], np.ndarray]
Box = tuple[slice, slice]


def hole_of(mask: np.ndarray, radius_px: int = 7) -> np.ndarray:
    """The hole an object leaves: its mask grown by a disk, to take its soft border and its shadow's start along.

    mask: bool (h, w). radius_px: 7 is what Lucid Data Dreaming (arXiv 1703.09554) uses at 480p; 0 changes nothing.
    Returns bool (h, w).
    """
    reach = np.arange(-radius_px, radius_px + 1)
    disk = reach[:, None] ** 2 + reach**2 <= radius_px**2
    return np.asarray(cv2.dilate(np.ascontiguousarray(mask, np.uint8), disk.astype(np.uint8)) > 0)


def fill(
    rgb_u8: np.ndarray,
    hole: np.ndarray,
    method: str | Inpainter = "auto",
    *,
    rng: np.random.Generator,
    avoid: np.ndarray | None = None,
) -> np.ndarray:
    """Fill a hole plausibly; outside it no bit changes.

    rgb_u8: (h, w, 3) uint8 RGB. hole: bool (h, w). avoid: bool (h, w), objects that stay: nothing is copied from them.
    Every method then fills hole and avoid together and keeps what lies in the hole.

    method:
      "telea": cv2.inpaint (Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004): smooth.
      "telea-half": the same at half the size, three times as fast.
      "patchmatch": pieces of the image, see handful.lucid.patchmatch; the only one that draws from rng. Where there
        are too few whole 8 x 8 patches to copy from (tiny images), Telea.
      "auto": patchmatch for parts of the hole so thick that Telea's smear shows, Telea for cracks and specks. A hole
        grown by `hole_of` is nearly always thick.
      a callable (rgb_u8 (h, w, 3), hole bool (h, w)) -> rgb_u8 (h, w, 3): any other inpainter. What it changes outside
        the hole is put back; if that is more than rounding or JPEG would, DataError, as it is then another picture.

    Returns a new (h, w, 3) uint8 RGB. Raises DataError for arrays that are not as above, for a hole that leaves nothing
    to fill from, and for what a callable returns; UnknownName for a method that does not exist.
    """
    if not callable(method) and method not in METHODS:
        raise pick.unknown("way to fill", method, METHODS)
    if not (isinstance(rgb_u8, np.ndarray) and rgb_u8.dtype == np.uint8 and rgb_u8.ndim == 3 and rgb_u8.shape[2] == 3):
        raise DataError(f"the image to fill is {_what(rgb_u8)}; wanted uint8 (h, w, 3) RGB")
    for name, mask in (("hole", hole), ("avoid", avoid)):
        good = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == rgb_u8.shape[:2]
        if not good and (mask is not None or name == "hole"):
            raise DataError(f"{name} is {_what(mask)}; wanted bool {rgb_u8.shape[:2]}, as the image: try `{name} > 0`")
    out = np.array(rgb_u8, order="C")
    gap = hole.copy() if avoid is None else hole | avoid
    if not hole.any():
        return out
    if gap.all():
        what = "the hole" if avoid is None else "the hole and what is to be avoided"
        raise DataError(f"{what} cover{'s' * (avoid is None)} the whole image; leave some of it to fill from")
    photo = out.copy()
    if callable(method):
        out[hole] = _foreign(method, photo, gap)[hole]
        return out
    for part in _parts(hole):
        box, filled = _fill_part(photo, part, gap, _chosen(method, part), rng)
        out[box][part[box]] = filled[part[box]]
    return out


def thickness(hole: np.ndarray) -> float:
    """The largest inscribed radius of a hole, bool (h, w), over the image's diagonal; the image's border is no edge."""
    if hole.all():
        return float("inf")
    depth = cv2.distanceTransform(np.ascontiguousarray(hole, np.uint8), cv2.DIST_L2, 5)
    return float(depth.max() / np.hypot(*hole.shape))


def _chosen(method: str, hole: np.ndarray) -> str:
    if method != "auto":
        return method
    return "patchmatch" if thickness(hole) > THICK else "telea"


def _what(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _parts(hole: np.ndarray) -> Iterator[np.ndarray]:
    """The hole in parts that have nothing to do with one another, bool (h, w) each."""
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((APART_PX, APART_PX), np.uint8))
    n, labels = cv2.connectedComponents(grown)
    for k in range(1, n):
        yield hole & (labels == k)


def _around(hole: np.ndarray, margin: int) -> Box:
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


def _fill_part(
    rgb_u8: np.ndarray, part: np.ndarray, gap: np.ndarray, method: str, rng: np.random.Generator
) -> tuple[Box, np.ndarray]:
    """One part filled, in a box around it."""
    whole = slice(None), slice(None)
    if method == "patchmatch":
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        margin = max(int(np.ptp(rows)), int(np.ptp(columns)), FEWEST_MARGIN_PX)
        for box in (_around(part, margin), whole):
            photo = np.ascontiguousarray(rgb_u8[box])
            filled = patchmatch.complete(photo, part[box], gap[box] & ~part[box], rng)
            if filled is not None:
                return box, filled
    # far enough for what Telea sees; further only where all of that is to be avoided
    box = _around(part, 3 * TELEA_RADIUS_PX)
    box = whole if gap[box].all() else box
    photo, hole = np.ascontiguousarray(rgb_u8[box]), gap[box]
    if method == "telea-half":
        return box, _telea_half(photo, hole)
    return box, patchmatch.telea(photo, hole, TELEA_RADIUS_PX)


def _telea_half(rgb_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    h, w = hole.shape
    small, small_hole = patchmatch.shrunk(rgb_u8, hole, ((h + 1) // 2, (w + 1) // 2))
    if small_hole.all():
        return patchmatch.telea(rgb_u8, hole, TELEA_RADIUS_PX)
    smooth = patchmatch.telea(small, small_hole, TELEA_RADIUS_PX)
    return np.asarray(cv2.resize(smooth, (w, h), interpolation=cv2.INTER_LINEAR))


def _foreign(inpainter: Inpainter, rgb_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """What an inpainter from outside returned, checked."""
    name = getattr(inpainter, "__qualname__", type(inpainter).__name__)
    filled = inpainter(rgb_u8.copy(), hole.copy())
    if not isinstance(filled, np.ndarray) or filled.dtype != np.uint8 or filled.shape != rgb_u8.shape:
        raise DataError(
            f"the inpainter {name} returned {_what(filled)}; wanted uint8 {rgb_u8.shape} RGB, as it was given"
        )
    changed = float(cv2.absdiff(np.ascontiguousarray(filled), rgb_u8)[~hole].mean())
    if changed > FOREIGN_LEVELS:
        raise DataError(
            f"the inpainter {name} returned a picture that differs outside the hole, by {changed:.0f} gray levels on "
            f"average; wanted the same image: look at the channel order (RGB), the range (0..255) and the hole "
            f"(True where to fill)"
        )
    return filled
