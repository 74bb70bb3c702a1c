"""Where YOLO's labels lie: which folders and files are of a YOLO data set, and which label file an image has.

A label file's place follows from its image's: the last folder named images becomes labels, or else it lies beside the
image.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from pathlib import Path

from handful.data.folder_names import IN_ORDER
from handful.data.paths import is_image_name, walk
from handful.data.reading import is_pointer

CONFIG_BYTES, SNIFF_BYTES = 1 << 19, 4096
_SNIFF_FILES = 200
_CONFIG = re.compile(rb"^['\"]?(names|train|val)['\"]?[ \t]*:", re.MULTILINE)
_LABEL_LINE = re.compile(rb"\s*\d+(\.0*)?([ \t]+[-+.\deE]+){4,}\s*(\n|$)")
_IMAGES, _LABELS = re.compile(r"(?i)(.*/)images/(.*)"), re.compile(r"(?i)(.*/)labels/(.*)")


def detect(folder: Path) -> bool:
    """Whether a folder, or a data.yaml, is a YOLO data set."""
    if folder.is_file():
        return folder.suffix.lower() in (".yaml", ".yml") and is_config(folder)
    if not folder.is_dir():
        return False
    if any(is_config(path) for path in configs(folder)) or (folder / "obj.names").is_file():
        return True
    splits = split_folders(folder)
    places = [below for place in (folder, *splits) for below in called(place, "labels")]
    places += [folder] if (folder / "classes.txt").is_file() else []
    return any(map(_has_labels, places)) or any(map(labels_beside, (folder, *splits)))


def called(folder: Path, *names: str) -> list[Path]:
    """The folders in a folder that have one of these names, in letters of any case; in the order of the names."""
    found = [entry for entry in os.scandir(folder) if entry.name.lower() in names and entry.is_dir()]
    return [folder / e.name for e in sorted(found, key=lambda e: (names.index(e.name.lower()), e.name))]


def split_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are splits."""
    return called(folder, *IN_ORDER)


def configs(root: Path) -> list[Path]:
    """The YAML files of a folder, those named as usual first."""
    found = sorted(p for p in (*root.glob("*.yaml"), *root.glob("*.yml")) if p.is_file())
    return sorted(found, key=lambda p: p.stem not in ("data", "dataset"))


def is_config(path: Path) -> bool:
    """Whether a YAML file is that of a YOLO data set."""
    try:
        with open(path, "rb") as opened:
            text = opened.read(CONFIG_BYTES)
    except OSError:
        return False
    keys = set(_CONFIG.findall(text))
    return (b"names" in keys and len(keys) > 1) or (is_pointer(text) and path.stem in ("data", "dataset"))


def _has_labels(folder: Path) -> bool:
    names = itertools.islice(walk(folder), _SNIFF_FILES)
    return any(name.lower().endswith(".txt") and is_label(folder / name) for name in names)


def labels_beside(folder: Path) -> bool:
    """Whether label files lie directly beside the images that they are named after."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return False
    stems = {os.path.splitext(name)[0] for name in names if is_image_name(name)}
    labels = [name for name in names if name.lower().endswith(".txt") and os.path.splitext(name)[0] in stems]
    return any(is_label(folder / name) for name in labels[:_SNIFF_FILES])


def is_label(path: Path) -> bool:
    """Whether a file begins as a label file does."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as opened:
            start = opened.read(SNIFF_BYTES)
        return _LABEL_LINE.match(start) is not None or (is_pointer(start) and path.parent.name == "labels")
    except OSError:
        return False


def label_of(image: str) -> str:
    """Where the label file of an image lies, by Ultralytics' rule; Images/ in any case, beside Labels/."""
    stem = os.path.splitext(f"/{image}")[0]
    apart = _IMAGES.fullmatch(stem)
    return (f"{apart[1]}labels/{apart[2]}" if apart else stem)[1:] + ".txt"


def any_case(label: str) -> str:
    """What a label file's path is compared by: the name itself as it is, but for how accents are composed, labels/ and
    .txt in small letters."""
    stem = unicodedata.normalize("NFC", os.path.splitext(f"/{label}")[0])
    apart = _LABELS.fullmatch(stem)
    return f"{apart[1]}labels/{apart[2]}" if apart else stem


def images_of(label: str) -> str:
    """Where the image of a label file would lie, without suffix: label_of, backwards."""
    stem = os.path.splitext(f"/{label}")[0]
    apart = _LABELS.fullmatch(stem)
    return (f"{apart[1]}images/{apart[2]}" if apart else stem)[1:]


def below_images(image: str) -> bool:
    """Whether a file lies below a folder called images."""
    return _IMAGES.fullmatch(f"/{image}") is not None


def below_labels(label: str) -> bool:
    """Whether a file lies below a folder called labels."""
    return _LABELS.fullmatch(f"/{label}") is not None
