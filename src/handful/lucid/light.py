"""Illumination, noise, motion blur and JPEG: what happens to light between a scene and a file."""

from __future__ import annotations

import cv2
import numpy as np

from handful.lucid.move import walk
from handful.lucid.settings import Ranges

GREY = 0.15  # saturation below which less of the lift is added, so that gray stays gray
UNCHANGED = np.array([1.0, 1, 0, 1, 1, 0])
TURN = 0.15  # of the range: how far a curve may change from one frame to the next


def curves(rng: np.random.Generator, steps: int, ranges: Ranges, fraction: float = 1.0) -> np.ndarray:
    """The illumination of a clip: (steps, 6) float64: gain, power, lift of saturation, then of value.

    Lucid Data Dreaming's x -> a x^b + c, a part of it (ranges.drift) changing slowly, the rest the same in all frames.
    """
    bound = fraction * np.array([ranges.gain, ranges.power, ranges.lift] * 2)
    fixed = rng.uniform(-1, 1, 6) * bound * (1 - ranges.drift)
    moving = walk(rng, steps, TURN * bound, bound) * ranges.drift
    return np.asarray(fixed + moving + UNCHANGED)


def table(curve: np.ndarray) -> np.ndarray:
    """The lookup table (1, 256, 3) uint8 for hue, saturation and value of one frame's curve (6,)."""
    x = np.arange(256) / 255
    s = curve[0] * x ** curve[1] + curve[2] * np.minimum(x / GREY, 1)
    v = curve[3] * x ** curve[4] + curve[5]
    full = np.stack([x, s, v], -1)[None]
    return np.asarray(np.rint(np.clip(full, 0, 1) * 255).astype(np.uint8))


def relit(rgb_u8: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB under another light: the curve (6,) on saturation and value in HSV; hue stays."""
    if np.array_equal(curve, UNCHANGED):
        return rgb_u8  # by way of 8-bit hues it would come back up to 4 gray levels off
    hsv = cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2HSV_FULL)
    cv2.LUT(hsv, table(curve), dst=hsv)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=hsv))


def streak(length_px: float, angle_rad: float) -> np.ndarray | None:
    """The kernel of motion blur along a line: (k, k) float32 that sums to 1; None when it is too short to be seen."""
    if length_px < 1.5:
        return None
    half = int(np.ceil(min(length_px, 63) / 2))
    kernel = np.zeros((2 * half + 1,) * 2, np.float32)
    reach = np.linspace(-0.5, 0.5, 8 * half + 1) * min(length_px, 63)
    x, y = half + reach * np.cos(angle_rad), half + reach * np.sin(angle_rad)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):
            share = (1 - np.abs(x - x0 - dx)) * (1 - np.abs(y - y0 - dy))
            np.add.at(kernel, (np.minimum(y0 + dy, 2 * half), np.minimum(x0 + dx, 2 * half)), share)
    return np.asarray(kernel / kernel.sum())


def noise_tile(rng: np.random.Generator, size_wh: tuple[int, int], sigma: float) -> np.ndarray:
    """Grey noise larger than a frame: (h + 64, w + 64, 3) int16, drawn once a clip and shifted in every frame."""
    width, height = size_wh
    drawn: np.ndarray = rng.standard_normal((height + 64, width + 64, 3), np.float32)
    return np.asarray(np.rint(drawn * sigma).astype(np.int16))


def noisy(rgb_u8: np.ndarray, tile: np.ndarray, at_xy: tuple[int, int]) -> np.ndarray:
    """A frame with a window of the tile added; at_xy: 0..63 each."""
    height, width = rgb_u8.shape[:2]
    x, y = at_xy
    return np.asarray(cv2.add(rgb_u8, tile[y : y + height, x : x + width], dtype=cv2.CV_8U))


def compressed(rgb_u8: np.ndarray, quality: int) -> np.ndarray:
    """A frame as it comes back from a JPEG file of that quality."""
    _, data = cv2.imencode(".jpg", rgb_u8[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(back[..., ::-1])
