"""What was found, drawn into the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handful.detection.irene import Detections
from handful.files import replacing
from handful.pick import need
from handful.training.report_page import palette

GREY = (140, 140, 140)
SHARE = 0.45  # of the class's colour in the pixels of a mask


def shaded(rgb_u8: np.ndarray, found: Detections) -> np.ndarray:
    """The photo, each mask laid over it in its class's colour, the best last, with its border. (h, w, 3) uint8"""
    out = rgb_u8.copy()
    colours, ndimage = palette(found.classes, None), need("scipy.ndimage", "detect")
    for i in reversed(range(len(found.masks or ()))):
        mask = found.masks[i]  # type: ignore[index]
        color = np.array(GREY if found.unknown[i] else colours[found.label[i]], np.float64)
        left, top, right, bottom = mask.box_px
        part = out[top:bottom, left:right]
        thick = max(1, round(min(rgb_u8.shape[:2]) / 300))
        border = mask.pixels & ~ndimage.binary_erosion(mask.pixels, iterations=thick)
        for where, share in ((mask.pixels & ~border, SHARE), (border, 0.9)):
            part[where] = np.round((1 - share) * part[where] + share * color).astype(np.uint8)
    return out


def drawn(rgb_u8: np.ndarray, found: Detections, path: Path) -> None:
    """Write `painted` as a JPEG. Raises DataError when the file cannot be written; an older one is then as it was."""
    with replacing(path) as part:
        need("PIL.Image", "teach").fromarray(painted(rgb_u8, found)).save(part, format="JPEG", quality=90)


def painted(rgb_u8: np.ndarray, found: Detections) -> np.ndarray:
    """A copy of a photo (h, w, 3) uint8 with each box and its name in the class's colour, grey where it is unknown; a
    mask, where there is one, half-transparent under it."""
    image, pen_of, font_of = (need(f"PIL.{name}", "teach") for name in ("Image", "ImageDraw", "ImageFont"))
    photo = image.fromarray(shaded(rgb_u8, found))
    pen = pen_of.Draw(photo)
    size = max(11, round(min(photo.size) / 32))
    font, thick = font_of.load_default(size), max(2, size // 7)
    colours = palette(found.classes, None)
    rows = zip(found.xyxy_px, found.score, found.label, found.unknown, strict=True)
    for box, score, label, strange in reversed(list(rows)):  # the best last, so that nothing lies over its name
        color = GREY if strange else colours[label]
        name = f"unknown, like {found.classes[label]}" if strange else found.classes[label]
        left, top, right, bottom = (float(v) for v in box)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=color, width=thick)
        text = f"{name} {100 * score:.0f} %"
        wide, high = pen.textlength(text, font=font) + 6, size + 5
        at = (min(left, max(0, photo.size[0] - wide)), top - high if top >= high else top)
        pen.rectangle((at[0], at[1], at[0] + wide, at[1] + high), fill=color)
        dark = sum(c * w for c, w in zip(color, (0.299, 0.587, 0.114), strict=True)) < 140
        pen.text((at[0] + 3, at[1] + 1), text, fill=(255, 255, 255) if dark else (0, 0, 0), font=font)
    return np.asarray(photo)
