"""Cutting an object out cleanly: a soft border, and no color of what lay behind it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from handful.data.shapes import bounds

PAD_PX = 6  # around the object, so that no warp reaches past the crop before it is transparent
BAND_PX = 2  # how far from the drawn border the matte may differ from it
GUIDE_RADIUS_PX = 4
GUIDE_EPSILON = 1e-4  # in (0..1)^2: edges stronger than about 1 % in gray level lead the matte


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object by itself.

    rgba_u8: (ch, cw, 4) uint8 RGBA, colors already multiplied by alpha, so that warping mixes in nothing from behind.
    mask_u8: (ch, cw) uint8, 255 inside as it was drawn. ids: (ch, cw) object ids, continued past the border so that a
    warp finds one at every pixel of the mask. xy: (left, top) of the crop in the image, px; below 0 where the object
    is cut off by the image's border, past which it is continued by its last pixels.
    touches: (left, top, right, bottom), whether it is cut off there.
    """

    rgba_u8: np.ndarray
    mask_u8: np.ndarray
    ids: np.ndarray
    xy: tuple[int, int]
    touches: tuple[bool, bool, bool, bool]


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) px around the True pixels of (h, w), of which there is at least one."""
    found = bounds(mask)
    assert found is not None
    left, top, right, bottom = found
    return int(left), int(top), int(right), int(bottom)


def cut(rgb_u8: np.ndarray, ids: np.ndarray, part: np.ndarray, background_u8: np.ndarray) -> Cutout:
    """Cut a part out of an image.

    rgb_u8: (h, w, 3) uint8 RGB. ids: (h, w). part: (h, w) bool, the pixels that belong to it, at least one.
    background_u8: the image with its hole filled: what a half-transparent border pixel is taken to be mixed with.
    """
    height, width = part.shape
    left, top, right, bottom = box_of(part)
    touches = left == 0, top == 0, right == width, bottom == height
    t, b, l, r = max(top - PAD_PX, 0), min(bottom + PAD_PX, height), max(left - PAD_PX, 0), min(right + PAD_PX, width)  # noqa: E741
    # where the image ends the object goes on; elsewhere it ends
    ring = PAD_PX - (top - t), PAD_PX - (b - bottom), PAD_PX - (left - l), PAD_PX - (r - right)

    def crop(a: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.copyMakeBorder(a[t:b, l:r], *ring, cv2.BORDER_REPLICATE))

    mask = crop(part.astype(np.uint8) * 255)
    for axis, (at_start, at_end) in enumerate(((touches[1], touches[3]), (touches[0], touches[2]))):
        before, after = (ring[0], ring[1]) if axis == 0 else (ring[2], ring[3])
        view = mask if axis == 0 else mask.T
        if before and not at_start:
            view[:before] = 0
        if after and not at_end:
            view[-after:] = 0
    photo, behind = crop(rgb_u8), crop(background_u8)
    alpha = matte(photo, mask)
    color = uncontaminated(photo, behind, mask, alpha)
    return Cutout(premultiplied(color, alpha), mask, _continued(crop(ids), mask), (l - ring[2], t - ring[0]), touches)


def premultiplied(rgb_u8: np.ndarray, alpha_u8: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 RGBA whose colors are already multiplied by alpha / 255."""
    rgba = np.dstack([cv2.multiply(rgb_u8, cv2.merge([alpha_u8] * 3), scale=1 / 255), alpha_u8])
    return np.ascontiguousarray(rgba)


def matte(rgb_u8: np.ndarray, mask_u8: np.ndarray) -> np.ndarray:
    """A soft border for a drawn mask: (h, w) uint8 alpha, equal to the mask more than 2 px away from its border.

    Within these 2 px it follows the image's own edges (guided filter, He et al. 2013), and is 1/2 near the drawn line.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND_PX + 1,) * 2)
    inner, outer = cv2.erode(mask_u8, kernel), cv2.dilate(mask_u8, kernel)
    p = mask_u8.astype(np.float32) / 255
    gray = cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = (2 * GUIDE_RADIUS_PX + 1,) * 2

    def mean(a: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(a, size))

    m_i, m_p = mean(gray), mean(p)
    a = (mean(gray * p) - m_i * m_p) / (mean(gray * gray) - m_i * m_i + GUIDE_EPSILON)
    guided = mean(a) * gray + mean(m_p - a * m_i)
    # a guide without an edge here gives a ramp wider than any lens would; the drawn line then speaks louder
    soft = 0.5 * np.clip((guided - 0.5) * 2 + 0.5, 0, 1) + 0.5 * cv2.GaussianBlur(p, (0, 0), 0.8)
    alpha = np.where(inner > 0, 255, np.where(outer > 0, np.rint(soft * 255), 0))
    return np.asarray(alpha.astype(np.uint8))


def uncontaminated(rgb_u8: np.ndarray, behind_u8: np.ndarray, mask_u8: np.ndarray, alpha_u8: np.ndarray) -> np.ndarray:
    """The object's own colors, (h, w, 3) uint8: at the border solved from I = a F + (1 - a) B, and where a is too
    small to solve for, continued from inside.
    """
    core = cv2.erode(mask_u8, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    if not core.any():
        core = mask_u8
    inside = extended(rgb_u8, core > 0)
    a = alpha_u8.astype(np.float32)[..., None] / 255
    solved = np.clip((rgb_u8 - (1 - a) * behind_u8.astype(np.float32)) / np.maximum(a, 0.05), 0, 255)
    trust = np.clip((a - 0.5) / 0.45, 0, 1)
    mixed = np.rint(trust * solved + (1 - trust) * inside)
    return np.asarray(np.where(core[..., None] > 0, rgb_u8, mixed).astype(np.uint8))


def extended(rgb_u8: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colors continued from the known pixels to all others, smoothly (normalized blurs, wider as it gets farther)."""
    result = rgb_u8.astype(np.float32)
    done = known.copy()
    weight = known.astype(np.float32)
    premultiplied = result * weight[..., None]
    sigma = 1.0
    longest = max(known.shape)
    while not done.all() and sigma <= longest:
        w = cv2.GaussianBlur(weight, (0, 0), sigma)
        reach = (w > 0.02) & ~done
        if reach.any():
            c = cv2.GaussianBlur(premultiplied, (0, 0), sigma)
            result[reach] = c[reach] / w[reach, None]
            done |= reach
        sigma *= 2
        if sigma > 8:  # farther than any border reaches
            break
    if not done.all() and known.any():
        result[~done] = rgb_u8[known].mean(0)
    return result


def _continued(ids: np.ndarray, mask_u8: np.ndarray) -> np.ndarray:
    """Ids of the mask's pixels, and around them the id of the nearest one."""
    outside = (mask_u8 == 0).astype(np.uint8)
    if not outside.any():
        return ids.copy()
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(labels.max()) + 1, ids.dtype)
    inside = outside == 0
    table[labels[inside]] = ids[inside]
    return np.asarray(table[labels])
