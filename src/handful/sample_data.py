"""Small data sets made of the photographs inside scikit-image, scikit-learn and matplotlib, to try every verb on.

They show how things work, not how good they are: many images are views of one photograph, and scenes are pasted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from handful.arrays import JSONObject, StrPath
from handful.data import formats
from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.files import replacing_folder
from handful.pick import need, unknown
from handful.types import Category, Dataset, Mask, Object, Sample

CLASSES = ("building", "cat", "coffee", "flower", "rocket")
OTHER = ("astronaut", "motorcycle", "retina")  # never taught
# things that stand out from their ground, with a box around them in px of the photograph: left, top, right, bottom
THINGS = {
    "cup": ("coffee", (60, 20, 560, 390)),
    "flower": ("flower", (150, 70, 470, 375)),
    "motorcycle": ("motorcycle", (60, 60, 680, 480)),
}
MASKS = Path(__file__).parent / "data" / "sample_masks"  # of THINGS, by tools/sample_masks.py
GROUNDS = ("building", "galaxies", "cat", "officer", "rocket")
SCENE_WH = (320, 240)
SCENES = {"train": 16, "val": 6}


def write(kind: str, out: StrPath, *, seed: int = 0) -> JSONObject:
    """Write one of KINDS into the new folder `out`; the same seed writes the same bytes.

    "classes": a folder of images for each of five classes. "new": other views of them, and of things of no class.
    "boxes": COCO, scenes of cups, flowers and motorcycles with boxes and outlines, splits train and val. "pixels": such
    scenes with the class of each pixel, as images and masks. "seeds": a cup and a flower, each with its mask, to dream
    from. Returns kind, out, images. Raises UnknownName for another kind, DataError where something is at `out`, and
    MissingPackage without the packages that carry the photographs (handful[demo]; scenes and masks: handful[dream]).
    """
    if kind not in KINDS:
        raise unknown("kind of sample data", kind, KINDS)
    place = Path(out)
    if place.exists():
        raise DataError(f"{place} is there already; sample data is written into a new folder")
    with replacing_folder(place) as folder:
        images = KINDS[kind](folder, np.random.default_rng(seed))
    return {"kind": kind, "out": str(place), "images": images}


def _classes(folder: Path, rng: np.random.Generator) -> int:
    from handful.demo import view

    for label in CLASSES:
        for i in range(5):
            _save(view(sample_photo(label), rng).rgb_u8, folder / label / f"{i}.jpg")
    return 5 * len(CLASSES)


def _new(folder: Path, rng: np.random.Generator) -> int:
    from handful.demo import view

    for label in (*CLASSES, *OTHER):
        for i in range(3):
            _save(view(sample_photo(label), rng, changed=True).rgb_u8, folder / label / f"new{i}.jpg")
    return 3 * len((*CLASSES, *OTHER))


@cache
def _cut(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A thing's photograph, (h, w, 3) uint8 RGB, and its pixels, (h, w) bool."""
    photo, box = THINGS[name]
    rgb = sample_photo(photo).rgb_u8
    with need("PIL.Image", "data").open(MASKS / f"{name}.png") as held:
        pixels = np.array(held, dtype=bool)
    if pixels.shape != rgb.shape[:2]:  # a package that has the photograph in another size
        from handful.lucid.outline import mask_in_box

        pixels = mask_in_box(rgb, box)
    pixels.setflags(write=False)
    return rgb, pixels


def _seeds(folder: Path, rng: np.random.Generator) -> int:
    names = ("cup", "flower")
    cut = {name: _cut(name) for name in names}
    shown = [(name, *cut[name], np.uint8(i)) for i, name in enumerate(names, 1)]
    samples = [
        (f"{name}.jpg", None, rgb, Mask(np.where(pixels, number, np.uint8(0)).astype(np.uint8)), ())
        for name, rgb, pixels, number in shown
    ]
    return _dataset(folder, "masks", ("background", *names), samples)


def _scenes(rng: np.random.Generator) -> list[tuple[str, str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, split, rgb_u8, ids of things (h, w), class of each thing, boxes (n, 4) px) of every scene."""
    from handful.image import fit
    from handful.lucid.scenes import items_of, scene
    from handful.lucid.seed import Seed

    items = []
    for label, name in enumerate(THINGS, 1):
        rgb, pixels = _cut(name)
        items += items_of(Seed(name, rgb, pixels.astype(np.uint8)), {1: label}, rng=rng)
    grounds = [fit(sample_photo(name).rgb_u8, SCENE_WH[::-1]) for name in GROUNDS]
    made = []
    for split, count in SCENES.items():
        for i in range(count):
            # val is laid on the grounds that train has not, so that nothing is known by its ground
            ground = grounds[i % 3] if split == "train" else grounds[3 + i % 2]
            one = scene(ground, items, rng=rng, count=(2, 4), scale=(0.15, 0.45), min_side_px=24)
            made.append((f"{split}{i:02}.jpg", split, one.rgb_u8, one.ids, one.boxes.label, one.boxes.xyxy_px))
    return made


def _boxes(folder: Path, rng: np.random.Generator) -> int:
    from handful.data.shapes import rle_of

    names = tuple(THINGS)
    samples = []
    for name, split, rgb, ids, labels, boxes in _scenes(rng):
        things = tuple(
            Object(names[int(label) - 1], (box[0], box[1], box[2], box[3]), rle=rle_of(ids == i))
            for i, (label, box) in enumerate(zip(labels.tolist(), boxes.tolist(), strict=True), 1)
        )
        samples.append((name, split, rgb, None, things))
    return _dataset(folder, "coco", names, samples)


def _pixels(folder: Path, rng: np.random.Generator) -> int:
    samples = []
    for name, split, rgb, ids, labels, _ in _scenes(rng):
        lookup = np.concatenate([[0], labels]).astype(np.uint8)
        samples.append((name, split, rgb, Mask(lookup[ids]), ()))
    return _dataset(folder, "masks", ("background", *THINGS), samples)


def _dataset(
    folder: Path, format: str, names: tuple[str, ...],
    samples: Sequence[tuple[str, str | None, np.ndarray, Mask | None, tuple[Object, ...]]],
) -> int:  # fmt: skip
    """Write images, then their labels in a format, with classes of these names."""
    import tempfile

    first = 0 if names[0] == "background" else 1
    with tempfile.TemporaryDirectory() as held:
        rows = []
        for name, split, rgb, mask, things in samples:
            path = _save(rgb, Path(held) / name)
            rows.append(
                Sample(path, name=name, split=split, objects=things if mask is None else None,
                       mask=None if mask is None else partial(_same, mask), size_wh=(rgb.shape[1], rgb.shape[0]))
            )  # fmt: skip
        classes = tuple(Category(i, name) for i, name in enumerate(names, first))
        formats.write(Dataset(format, folder, classes, lambda: iter(rows), len(rows)), folder, format)
    return len(samples)


def _same(mask: Mask) -> Mask:
    return mask


def _save(rgb_u8: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    need("PIL.Image", "teach").fromarray(rgb_u8).save(path, quality=92)
    return path


KINDS: dict[str, Callable[[Path, np.random.Generator], int]] = {
    "classes": _classes, "new": _new, "boxes": _boxes, "pixels": _pixels, "seeds": _seeds,
}  # fmt: skip
