"""The folder in which what the documents say is typed: small photographs, data sets and models under their names.

A page's commands and snippets run in the order of the page, in an empty folder; what one of them names and none before
it made is put there from `MAKERS`. So a new page needs no test of its own, and a new name is one more entry here. Pages
may rely on what the entries say. All of it is tiny: photos of 100 to 240 px.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image as PIL_Image

from handful.data.sample_images import sample_photo
from handful.demo import view
from tests.conftest import save
from tests.lucid.made import labelled
from tests.training import made, test_classify, test_detect

SIDE_PX = 160  # of photographs, at most


def _photo(name: str, to: Path, seed: int | None = None) -> Path:
    """A photograph that comes inside a package, or a view of it, made small."""
    image = sample_photo(name)
    rgb = (image if seed is None else view(image, np.random.default_rng(seed))).rgb_u8
    small = PIL_Image.fromarray(rgb)
    small.thumbnail((SIDE_PX, SIDE_PX))
    return save(np.asarray(small), to)


def _folder(photos: dict[str, str], count: int, seed: int) -> Callable[[Path], None]:
    """A folder a class with views of one photograph each."""

    def make(to: Path) -> None:
        for k, (label, name) in enumerate(photos.items()):
            for i in range(count):
                _photo(name, to / label / f"{'abcdef'[i]}.jpg", seed + 100 * k + i)

    return make


def _one(name: str) -> Callable[[Path], None]:
    return lambda to: void(save(sample_photo(name), to))


def _labelled(to: Path) -> None:
    made_in = to.parent / f".{to.name}"
    labelled(made_in / "labelled", 6).rename(to)
    shutil.rmtree(made_in)


def void(_: object) -> None:
    """For makers that give something back."""


def _clip(to: Path) -> None:
    from handful.data.video import write_video

    frames = []
    for i in range(6):
        rgb = np.full((96, 128, 3), 110, np.uint8)
        for _, (left, top, right, bottom), inside in test_detect.things_of(17):
            del left, top, right, bottom
            rgb[np.roll(inside, 2 * i, axis=1)] = (220, 40, 30)
        frames.append(rgb)
    write_video(frames, to, Fraction(10))


def _model(to: Path) -> None:
    from handful.fewshot.teaching import teach

    photos = to.parent / f".{to.name}-photos"
    MAKERS["photos"](photos)
    teach(photos, to, backbone="lite0", frame_hw=(96, 128))
    shutil.rmtree(photos)


def _detector(to: Path) -> None:
    from handful.detection.teaching import teach

    shop = to.parent / f".{to.name}-shop"
    MAKERS["shop"](shop)
    teach(shop, to, proposer="objectness")
    shutil.rmtree(shop)


MUG, STAPLER, LAMP = {"mug": "coffee"}, {"stapler": "cat"}, {"lamp": "flower"}
MAKERS: dict[str, Callable[[Path], None]] = {
    # a folder a class: mug, stapler; lamp, a third one
    "photos": _folder({**MUG, **STAPLER}, 3, 0),
    "more-photos": _folder(MUG, 2, 1000),
    "test-photos": _folder({**MUG, **STAPLER}, 2, 2000),
    "new-photos": _folder(LAMP, 3, 3000),
    # single photographs
    "new.jpg": _one("coffee"),
    "photo.jpg": _one("flower"),  # 640 x 427 px
    "flower.jpg": _one("flower"),
    "someone-elses.jpg": _one("rocket"),
    # COCO: outlines of things, in the split train
    "labelled": _labelled,
    # photos and masks, with splits: background, box, sky
    "scenes": lambda to: void(made.small(to, {"train": 8, "val": 3})),
    # a folder a class, with splits: blue, green, red
    "flowers": lambda to: void(test_classify.folders(to)),
    # COCO: boxes and outlines, with splits: box, disc
    "shop": lambda to: void(test_detect.small(to, {"train": 4, "val": 2})),
    "clip.mp4": _clip,
    # taught from photos, and from shop
    "model": _model,
    "detector": _detector,
}


class World:
    """What was made of MAKERS, each once a session, and given to any number of pages."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def put(self, name: str, folder: Path) -> None:
        """MAKERS' entry of that name, in a folder, unless it is there."""
        if (folder / name).exists():
            return
        if not (self.store / name).exists():
            MAKERS[name](self.store / name)
        copy = shutil.copytree if (self.store / name).is_dir() else shutil.copyfile
        copy(self.store / name, folder / name)

    def before_command(self, words: list[str], folder: Path) -> None:
        """Put what a command names. What it is to make is taken away where an earlier command of the page made it: a
        reader types one of them."""
        goes_on = {"--add", "--resume", "--overwrite"} & set(words)
        outs = {words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--out", "-o")}
        for word in words:
            name = word.split("/")[0]
            if name in MAKERS and (name not in outs or goes_on):
                self.put(name, folder)
        for out in outs if not goes_on else ():
            path = folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def after_command(self, words: list[str], folder: Path) -> None:
        """A detector looks at whole sample photographs for a minute: the rest of a page goes on with small ones."""
        if words[:3] == ["data", "samples", "boxes"]:
            assert any((folder / "shop").rglob("*.json")), f"{' '.join(words)} wrote no boxes"
            shutil.rmtree(folder / "shop")
            self.put("shop", folder)

    def before_snippet(self, text: str, folder: Path) -> None:
        """Put what the strings of a snippet name, but for the folder that it makes."""
        makes = set(re.findall(r"""handful\.(?:teach|train|dream)\(.*?, ?["']([\w-]+)["']""", text))
        for path in re.findall(r"""["']([\w./-]+)["']""", text):
            name = path.split("/")[0]
            if name in MAKERS and name not in makes:
                self.put(name, folder)


def lines_of(block: str) -> list[str]:
    """The commands of a shell block: continued lines joined, comments and empty lines left out."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            found.append(shlex.join(words) if "#" in line else " ".join(line.split()))
    return found
