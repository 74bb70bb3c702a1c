"""Letterboxing: an image in a proposer's square frame, and boxes between frame and image.

The steps before and after a proposer's network. Proposers (proposer_*.py) and compiled detectors
(handful.detection.compiled) share them.
"""

from __future__ import annotations

import numpy as np

from handful.detection.contract import clip_to_image
from handful.detection.fusion import nms
from handful.image import fit


def letterbox(rgb_u8: np.ndarray, side_px: int) -> tuple[np.ndarray, float, tuple[float, float]]:
    """An image scaled until it fits into a black square, in its middle.

    rgb_u8: (h, w, 3) uint8 RGB. Returns the frame (side_px, side_px, 3) uint8, px of the frame for one px of the image,
    and (left, top) of the image in it.
    """
    height, width = rgb_u8.shape[:2]
    factor = side_px / max(height, width)
    high, wide = max(1, min(side_px, round(height * factor))), max(1, min(side_px, round(width * factor)))
    left, top = (side_px - wide) // 2, (side_px - high) // 2
    frame = np.zeros((side_px, side_px, 3), np.uint8)
    frame[top : top + high, left : left + wide] = fit(rgb_u8, (high, wide))
    return frame, factor, (float(left), float(top))


def frame_to_image(boxes: np.ndarray, factor: float, left_top: tuple[float, float]) -> np.ndarray:
    """Boxes (n, 4) in px of the frame -> float64 px of the image, not yet clipped to it."""
    return np.asarray((np.asarray(boxes, np.float64) - [*left_top, *left_top]) / factor)


def image_to_frame(boxes: np.ndarray, factor: float, left_top: tuple[float, float]) -> np.ndarray:
    """Boxes (n, 4) in px of the image -> float64 px of the frame."""
    return np.asarray(np.asarray(boxes, np.float64).reshape(-1, 4) * factor + [*left_top, *left_top])


def on_image(focus: np.ndarray, left_top: tuple[float, float], side_px: int) -> np.ndarray:
    """The part of a map over the frame (h, w) that lies over the image."""
    cell = side_px / len(focus)
    left, top = (min(len(focus) // 2, int(v / cell + 0.5)) for v in left_top)
    return focus[top : len(focus) - top, left : focus.shape[1] - left]


def top_boxes(
    boxes: np.ndarray, quality: np.ndarray, size_wh: tuple[int, int], *, pre_nms_top_k: int, nms_iou: float,
    max_boxes: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The best boxes after non-maximum suppression: (n, 4) float64 px of the image and (n,) float64, n at most
    `max_boxes`, best first.

    boxes: (m, 4) px of the image; quality: (m,). The `pre_nms_top_k` best are clipped to the image; then non-maximum
    suppression at `nms_iou`. Of equal ones the first in order.
    """
    quality = np.asarray(quality, np.float64)
    order = np.argsort(-quality, kind="stable")[:pre_nms_top_k]
    whole, there = clip_to_image(boxes[order], size_wh)
    whole, quality = whole[there], quality[order][there]
    stays = nms(whole, quality, nms_iou)[:max_boxes]
    return whole[stays], quality[stays]
