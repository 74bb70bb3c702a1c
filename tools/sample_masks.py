"""The masks of the things in sample scenes: GrabCut in their boxes, which takes ten seconds, so that they come along.

    python tools/sample_masks.py

Writes src/handful/data/sample_masks/THING.png, black and white. To be run again when THINGS or `mask_in_box` changes.
"""

from __future__ import annotations

from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo
from handful.lucid.outline import mask_in_box
from handful.sample_data import MASKS, THINGS


def main() -> None:
    MASKS.mkdir(exist_ok=True)
    for name, (photo, box) in THINGS.items():
        picture = PIL_Image.fromarray(mask_in_box(sample_photo(photo).rgb_u8, box))
        picture.save(MASKS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
