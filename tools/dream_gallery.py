"""The gallery of docs/dream.md, from photographs that come inside packages: python tools/dream_gallery.py OUT.jpg

Each row: the photo with its mask (guessed from a box, or drawn as ellipses), the background with the hole filled, and
four frames of a film.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from handful.data.sample_images import sample_photo
from handful.files import replacing
from handful.lucid.clip import Dream
from handful.lucid.encode import jpeg
from handful.lucid.outline import mask_in_box
from handful.lucid.preview import outlined, sheet
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings

BOXES = {"officer": (8, 4, 506, 606), "flower": (120, 20, 560, 375)}
ELLIPSES = {"coffee": (((281, 237), (210, 174), 8), ((296, 112), (116, 98), 0))}  # saucer and cup: centre, axes, angle
SHOWN = (3, 8, 13, 19)


def main() -> None:
    """Dream, and write the sheet."""
    rows = []
    for name in (*BOXES, *ELLIPSES):
        rgb = sample_photo(name).rgb_u8
        mask = mask_in_box(rgb, BOXES[name]).astype(np.uint8) if name in BOXES else np.zeros(rgb.shape[:2], np.uint8)
        for centre, axes, angle in ELLIPSES.get(name, ()):
            cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
        dream = Dream(Seed(name, rgb, mask), Settings(frames=20, seed=1))
        frames = [dream.frame(t) for t in SHOWN]
        rows.append([outlined(dream.seed.rgb_u8, dream.seed.ids, 3), dream.background_u8, *(f.rgb_u8 for f in frames)])
    with replacing(Path(sys.argv[1])) as part:
        part.write_bytes(jpeg(sheet(rows, 300), 85))


if __name__ == "__main__":
    main()
