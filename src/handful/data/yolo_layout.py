"""Where a YOLO data set keeps what: data.yaml, lists of images, folders; which split and label file an image has.

A label file's place follows from its image's: the last folder named images becomes labels, or else it lies beside the
image. Names only; nothing is held of what the files say.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import above
from handful.data.paths import COPY_LINKED, Shelf, is_image_name, linked_folders, relative, split_kind
from handful.data.reading import Few, label_text
from handful.data.yolo_names import ABOVE, names_beside, with_notes
from handful.data.yolo_places import (
    CONFIG_BYTES,
    SNIFF_BYTES,
    any_case,
    below_images,
    below_labels,
    called,
    configs,
    images_of,
    is_config,
    is_label,
    label_of,
    labels_beside,
    split_folders,
)  # fmt: skip
from handful.pick import need
from handful.words import counted

OTHER_KEYS = frozenset(("path", "names", "nc", "download", "kpt_shape", "kpt_names", "flip_idx", "channels", "roboflow",
                        "masks_dir", "train_label_dir", "val_label_dir"))  # fmt: skip
SPLITS = ("test", "val", "valid", "train")  # an image in two of them stays in the first
_SPLIT_FOLDER = re.compile(r"(?i)(train(ing)?|val(id(ation)?)?|test(ing)?)\d*")
_DRIVE = re.compile(r"^[A-Za-z]:(?=/)")
_MOST_PARTS = 20


@dataclass
class Layout:
    """All files below a folder, and what its data.yaml says of them.

    rows: (image, name, split) of each sample. names: (id, name) of each class as listed, None when nothing lists
    them; names_file says where. classes: the name of each id, filled in by who reads the names. points: how many
    keypoints follow each box, and of how many numbers each; point_names: what they are called.
    """

    shelf: Shelf
    rows: list[tuple[str, str, str | None]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    names: list[tuple[Any, Any]] | None = None
    names_file: str = "."
    classes: dict[int, str] = field(default_factory=dict)
    points: tuple[int, int] = (0, 0)
    point_names: list[str] = field(default_factory=list)

    def label_of(self, image: str) -> str:
        """Where the label file of an image lies: by Ultralytics' rule, or as that in letters of another case, as
        Images/a.jpg and Labels/a.TXT on Windows.
        """
        exact = label_of(image)
        return exact if exact in self.labels else self._by_letters.get(any_case(exact), exact)

    @cached_property
    def _by_letters(self) -> dict[str, str]:
        """The label files by their names in any case; without those that are alike."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.labels:
            found[any_case(name)].append(name)
        return {key: names[0] for key, names in found.items() if len(names) == 1}


def layout(folder: Path, on_finding: OnFinding) -> Layout:
    """Find the images of a data set with their splits; what data.yaml and lists name in vain is told."""
    root = folder.parent if folder.is_file() else folder
    found = Layout(Shelf(root, root))
    found.labels = {name for name in found.shelf.others if name.lower().endswith(".txt")}
    config: Mapping[str, Any] = {}
    file = "."
    path = folder if folder.is_file() else next(filter(is_config, configs(root)), None)
    if path is not None:
        config = _yaml(path, root, on_finding)
        file = found.names_file = relative(path, root)
        found.names = _listed_names(config.get("names"))
        _tell_count(config.get("nc"), found, on_finding)
        found.points = _points(config.get("kpt_shape"))
        found.point_names = _point_names(config.get("kpt_names"), found.points[0])
        entries = _entries(config)
    else:
        entries, file = _darknet(root, on_finding)
        entries = entries or _usual(root)
    if found.names is None:
        found.names_file, found.names = names_beside(root, on_finding)
    if found.names is None and (top := above(root)) is not None:
        _from_above(found, top, path is None)
    found.names_file, found.names = with_notes(found.names_file, found.names, root, on_finding)
    _images(found, entries, config.get("path"), root, file, on_finding)
    return found


def _yaml(path: Path, root: Path, on_finding: OnFinding) -> Mapping[str, Any]:
    """A small YAML file with every scalar as its text: YAML would turn the class "no" into False."""
    yaml = need("yaml", "data")
    text = label_text(path, root, on_finding, most=CONFIG_BYTES)
    if text is None:
        return {}
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except Exception as error:  # PyYAML raises YAMLError, ValueError, RecursionError and more
        why = " ".join(str(error).split())[:200]
        on_finding(Finding("unreadable_labels", relative(path, root), why, detail=f"is not readable YAML ({why})"))
        return {}
    if not isinstance(value, dict):
        on_finding(
            Finding("unreadable_labels", relative(path, root), type(value).__name__, detail="is no YAML mapping")
        )
        return {}
    return value


def _tell_count(said: Any, found: Layout, on_finding: OnFinding) -> None:
    """Tell a number of classes that is not how many are named: a name was forgotten, or names are of another set."""
    named = len(found.names or ())
    if named and isinstance(said, str) and said.isascii() and said.isdigit() and int(said[:9]) != named:
        detail = f"says {counted(int(said[:9]), 'class')} (nc) and names {named}; mend the one that is wrong"
        on_finding(Finding("class_count", found.names_file, int(said[:9]), detail=detail))


def _from_above(found: Layout, top: Path, points: bool) -> None:
    """The names of a data.yaml or list in the folder above a split; what is wrong there is not of this set.

    points: whether data.yaml is asked for keypoints too.
    """
    for path in filter(is_config, configs(top)):
        config = _yaml(path, top, lambda finding: None)
        found.names = _listed_names(config.get("names"))
        if found.names is not None:
            found.names_file = f"../{path.name}"
            if points:
                found.points = _points(config.get("kpt_shape"))
                found.point_names = _point_names(config.get("kpt_names"), found.points[0])
            return
    file, found.names = names_beside(top, lambda finding: None, ABOVE)
    found.names_file = f"../{file}" if found.names is not None else found.names_file


def _listed_names(value: Any) -> list[tuple[Any, Any]] | None:
    """(id, name) as data.yaml lists them: a list, or a mapping from ids."""
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else None


def _points(value: Any) -> tuple[int, int]:
    shape = value if isinstance(value, list) and len(value) == 2 else []
    numbers = [int(v) for v in shape if isinstance(v, str) and v.isascii() and v.isdigit() and len(v) < 5]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[1] in (2, 3) else (0, 0)


def _point_names(value: Any, count: int) -> list[str]:
    """The names of the keypoints in kpt_names, {class: [name, ...]}, where all classes have the same ones."""
    lists = list(value.values()) if isinstance(value, dict) else [value]
    same = bool(lists) and isinstance(lists[0], list) and all(names == lists[0] for names in lists)
    return list(lists[0]) if same and len(lists[0]) == count and all(isinstance(v, str) for v in lists[0]) else []


def _entries(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> folders or lists, from data.yaml."""
    found = {}
    for key, value in config.items():
        places = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if isinstance(key, str) and key not in OTHER_KEYS:
            found[key] = [p for p in places if isinstance(p, str) and p not in ("", "~", "null") and "\0" not in p]
    return found


def _darknet(root: Path, on_finding: OnFinding) -> tuple[dict[str, list[str]], str]:
    """Split -> lists, from obj.data or from train.txt and its like, and the file that says so."""
    data = next(iter(sorted(root.glob("*.data"))), None)
    text = label_text(data, root, on_finding, most=CONFIG_BYTES) if data is not None and data.is_file() else None
    pairs = [line.split("=", 1) for line in (text or "").split("\n") if "=" in line]
    found = {k.strip(): [v.strip()] for k, v in pairs if k.strip() not in ("classes", "names", "backup")}
    for path in sorted(root.glob("*.txt")) if not found else ():
        if path.is_file():
            with open(path, "rb") as opened:
                first = opened.read(SNIFF_BYTES).split(b"\n")[0].decode("utf-8", "replace").strip()
            if is_image_name(first):
                found[path.stem] = [path.name]
    return found, relative(data, root) if data is not None else "."


def _usual(root: Path) -> dict[str, list[str]]:
    """Split -> folder, where nothing but folders says so: images/train or train/images."""
    below = [place for images in called(root, "images") for place in images.iterdir() if place.is_dir()]
    found = [place for place in sorted(below) if _SPLIT_FOLDER.fullmatch(place.name)]
    found = found or [images for place in split_folders(root) for images in called(place, "images")]
    found = found or [place for place in split_folders(root) if labels_beside(place)]
    held: dict[str, list[str]] = {}
    for place in found:
        split = place.parent.name if place.name.lower() == "images" else place.name
        held.setdefault(split.lower(), []).append(relative(place, root))
    return held


def _images(
    found: Layout, entries: Mapping[str, list[str]], prefix: Any, root: Path, file: str, on_finding: OnFinding
) -> None:
    """Fill in the rows: images that lists name, images in a split's folder, and the others below images."""
    folders: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    lost: list[tuple[str, str]] = []
    for split, places in entries.items():
        for place in places:
            at = _resolved(place, prefix, root)
            if at is None:
                lost += [(split, place)] if split in SPLITS else []
            elif at.endswith(".txt"):
                lists[split] = [*lists.get(split, []), at]
            elif at not in folders or split == os.path.basename(at):  # val: images/valid, valid: images/valid
                folders[at] = split
    together = [at for places in entries.values() for p in places if (at := _resolved(p, prefix, root)) is not None]
    alone = len(together) > 1 and len(set(together)) == 1  # train and val are the same images: there are no splits
    of_image: dict[str, str] = {}
    order: list[tuple[str, str]] = []
    for split in sorted(lists, key=lambda s: (SPLITS.index(s) if s in SPLITS else len(SPLITS), s)):
        for at in lists[split]:
            for image in _in_list(found.shelf, at, root, on_finding):
                other = of_image.get(image)
                if other is None:
                    of_image[image] = split
                    order.append((image, split))
                elif other != split and split in SPLITS and not alone:
                    detail = f"is listed in {other} and {split}"
                    on_finding(Finding("same_image_across_splits", image, [image], detail=detail))
    rows: list[tuple[str, str, str | None]] = [(p, _name(p, s), None if alone else s) for p, s in order]
    flat = not folders and not lists and not any(map(below_images, found.shelf.images))
    for image in sorted(found.shelf.images - of_image.keys()):
        at = next((a for a in _above(image) if a in folders), None)
        if at is not None:
            rows.append((image, image[len(at) + 1 :] if at else image, None if alone else folders[at]))
        elif not lists and (below_images(image) or flat or found.label_of(image) in found.labels):
            rows.append((image, _name(image, ""), None))
    _tell_lost(lost, rows, root, file, on_finding)
    _without_clashes(found, rows, on_finding)


def _tell_lost(
    lost: list[tuple[str, str]], rows: list[tuple[str, str, str | None]], root: Path, file: str, on_finding: OnFinding
) -> None:
    """Tell folders that are not there: never exported, if all images have a split, or else named wrongly."""
    exported = bool(rows) and all(split is not None for _, _, split in rows)
    for split, place in lost:
        code = "missing_split" if exported and split != "train" else "missing_image"
        if code == "missing_image" and (os.path.isabs(place) or ".." in place.split("/")):
            code = "unsafe_path"
        detail = f"says that {split} is in {place[:200]!r}, which is not in the folder"
        on_finding(Finding(code, file, place[:200], detail=detail))


def _without_clashes(found: Layout, rows: Iterable[tuple[str, str, str | None]], on_finding: OnFinding) -> None:
    """Keep the first image of each label file; tell the others, and label files without an image."""
    first: dict[str, str] = {}
    few = Few(on_finding)
    for row in sorted(rows, key=lambda row: row[2] or ""):  # stable: within a split as listed
        label = found.label_of(row[0])
        other = first.setdefault(label, row[0])
        if other == row[0]:
            found.rows.append(row)
        else:
            detail = f"and {other} would share the label file {label}; only {other} is read"
            few(Finding("shared_label_file", row[0], other, detail=detail))
    used = {found.label_of(image) for image in found.shelf.images}
    places = {os.path.dirname(label) for label in used & found.labels}
    lost = [
        label for label in sorted(found.labels - used)
        if os.path.basename(label) != "classes.txt"
        and (below_labels(label) or (os.path.dirname(label) in places and is_label(found.shelf.folder / label)))
    ]  # fmt: skip
    links = linked_folders(found.shelf.root) if lost else []
    for link, to in links:
        detail = f"is a link to {to}, which is not followed, so that its images are not read; {COPY_LINKED}"
        few(Finding("linked_folder", link, to, detail=detail))
    for label in lost:
        if not any(images_of(label).startswith(f"{link}/") for link, _ in links):
            detail, cause = "is a label file without an image", "label files without an image"
            few(Finding("missing_image", label, detail=detail, cause=cause))
    few.close()


def _above(image: str) -> Iterator[str]:
    """The folders an image lies in, the nearest first; "" is the whole data set."""
    while image:
        image = image.rpartition("/")[0]
        yield image


def _resolved(place: str, prefix: Any, root: Path) -> str | None:
    """A folder or list of data.yaml inside the data set, or None.

    Absolute paths and those that start with .. were right on another machine: what they end with is looked for.
    """
    parts, before = _parts(place), _parts(prefix) if isinstance(prefix, str) else []
    elsewhere = place.startswith(("/", "..")) or place[1:2] == ":"
    elsewhere = elsewhere or (bool(parts) and not os.path.exists(root / parts[0]))  # project-1/train/images
    tries = ["/".join(before[i:] + parts) for i in range(len(before) + 1)]
    if elsewhere:  # a last part that leaves out which split it was says nothing
        tries += ["/".join(parts[i:]) for i in range(len(parts)) if split_kind(*parts[:i]) is None]
    tries += parts[-1:] if place.endswith(".txt") else []  # CVAT's obj.data says data/train.txt, and has no data/
    for at in tries:
        if os.path.isdir(root / at) or (at.endswith(".txt") and os.path.isfile(root / at)):
            return at
    return None


def _parts(path: str) -> list[str]:
    """The names in a path, without drive and dots; the last of them when there are more than any path has."""
    parts = _DRIVE.sub("", path.replace("\\", "/")).split("/")
    return [part for part in parts if part not in ("", ".", "..")][-_MOST_PARTS:]


def _in_list(shelf: Shelf, file: str, root: Path, on_finding: OnFinding) -> Iterator[str]:
    """The images that a list names, each once; a path from another machine is found by what it ends with."""
    text = (label_text(root / file, root, on_finding) if shelf.inside(file, on_finding) else None) or ""
    beside = os.path.dirname(file) or "."
    seen: set[str] = set()
    few = Few(on_finding)
    for line in text.split("\n"):
        if not line.strip():
            continue
        parts = _parts(line.strip()) if len(line) < 2000 else []
        tries = [
            line.rstrip("\r"),
            f"{beside}/{'/'.join(parts)}".removeprefix("./"),
            *("/".join(parts[i:]) for i in range(len(parts))),
        ]
        image = next((name for name in tries if name in shelf.images), None)
        image = image or shelf.find("/".join(parts) or line.strip()[:100], few, file=file)
        if image is not None and image in seen:
            few(Finding("duplicate_image", file, image, detail=f"lists {image} twice"))
        elif image is not None:
            seen.add(image)
            yield image
    few.close()


def _name(image: str, split: str) -> str:
    """An image's path inside its split: images/train/a.jpg and obj_train_data/a.jpg are a.jpg."""
    parts = image.split("/")
    lower = [part.lower() for part in parts[:-1]]
    if "images" in lower:
        parts = parts[lower.index("images") + 1 :]
    elif len(parts) > 1 and re.fullmatch(r"obj_.*data", parts[0]):
        parts = parts[1:]
    if len(parts) > 1 and split and re.fullmatch(rf"(?i){re.escape(split)}\d*", parts[0]):
        parts = parts[1:]
    return "/".join(parts)
