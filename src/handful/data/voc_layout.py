"""Where a VOC data set keeps what: which photo, XML file, maps and split belong together. Names only; nothing is held
of what the files say.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from handful.data.finding import Finding, OnFinding
from handful.data.paths import Shelf, relative, walk
from handful.data.reading import Few, label_bytes, label_text
from handful.data.voc_rows import annotation

SPLITS = ("test", "val", "train")  # a photo in two of them stays in the first
FOLDERS = ("train", "valid", "val", "test")  # of photos and XML files together
PHOTOS, LABELS = ("JPEGImages", "images", "Images"), ("Annotations", "annotations")
CLASS_MAPS, OBJECT_MAPS = "SegmentationClass", "SegmentationObject"
_SNIFF_FILES, _SNIFF_BYTES = 200, 4096


@dataclass
class Part:
    """Photos and labels that lie together.

    rows: (photo, XML file or None, split) of each sample. maps: for each kind of map, its file for a photo's stem.
    base: the folder of ImageSets and the maps, None where XML files lie beside photos.
    """

    photos: Shelf
    labels: Shelf
    split: str | None = None
    base: Path | None = None
    rows: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)

    def map_path(self, kind: str, photo: str) -> Path | None:
        """A photo's map of a kind, None when it has none."""
        name = self.maps.get(kind, {}).get(stem_of(photo))
        return self.base / kind / name if name is not None and self.base is not None else None


def stem_of(name: str) -> str:
    """A name without its suffix, which is what VOC's files know a photo by."""
    return os.path.splitext(name)[0]


def bases(folder: Path) -> list[Path]:
    """The folders of the data sets in a folder."""
    if not folder.is_dir():
        return []
    if _is_set(folder) or any(_has_xml(_top(place)) for place in (folder, *(folder / f for f in FOLDERS))):
        return [folder]
    return [p for p in sorted((*folder.glob("VOC*"), *folder.glob("VOCdevkit/VOC*"))) if p.is_dir() and _is_set(p)]


def _is_set(folder: Path) -> bool:
    said = [folder / "ImageSets" / "Main", folder / "ImageSets" / "Segmentation", folder / CLASS_MAPS]
    labels = _first(folder, LABELS)
    return _first(folder, PHOTOS) is not None and (
        any(p.is_dir() for p in said) or (labels is not None and _has_xml(labels / name for name in walk(labels)))
    )


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _top(folder: Path) -> list[Path]:
    """The files directly in a folder."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.lower().endswith(".xml"))
    except OSError:
        return []


def _has_xml(files: Iterable[Path]) -> bool:
    """Whether one of the first files is an XML file of VOC's kind."""
    for path in itertools.islice(files, _SNIFF_FILES):
        if path.suffix.lower() == ".xml" and path.is_file():
            try:
                with open(path, "rb") as opened:
                    start = opened.read(_SNIFF_BYTES).replace(b"\0", b"")  # UTF-16 has a NUL beside each letter
            except OSError:
                continue
            if b"<annotation>" in start or b"<annotation " in start:
                return True
    return False


def parts_in(base: Path, root: Path) -> Iterator[Part]:
    """The photos and labels of a data set, not yet brought together."""
    if _is_set(base):
        photos = Shelf(_first(base, PHOTOS) or base, root)
        yield Part(photos, Shelf(_first(base, LABELS) or base / LABELS[0], root), base=base)
    elif _has_xml(_top(base)):
        shelf = Shelf(base, root)
        yield Part(shelf, shelf)
    else:
        for name in FOLDERS:
            if (base / name).is_dir():
                shelf = Shelf(base / name, root)
                yield Part(shelf, shelf, split=name)


def fill(part: Part, root: Path, on_finding: OnFinding) -> None:
    """Find out which photo, XML file, split and maps belong together; what does not is told."""
    photo_of: dict[str, str] = {}
    for name in sorted(part.photos.photos):
        other = photo_of.setdefault(stem_of(name), name)
        if other != name:
            file = relative(part.photos.folder / name, root)
            detail = f"and {other} would share one XML file; only {other} is read"
            on_finding(Finding("duplicate_image", file, other, detail=detail))
    xml_of: dict[str, str] = {}
    others = []
    for name in part.labels.others:
        if name.lower().endswith(".xml"):
            photo = photo_of.get(stem_of(name))
            if photo is None:
                others.append(name)
            elif xml_of.setdefault(photo, name) != name:
                _twice(part, name, xml_of[photo], photo, root, on_finding)
    for name in others:
        photo = _photo_named(part, name, photo_of, root, on_finding)
        if photo is not None and xml_of.setdefault(photo, name) != name:
            _twice(part, name, xml_of[photo], photo, root, on_finding)
        elif photo is not None:
            photo_of[stem_of(name)] = photo
    splits: dict[str, str | None] = {}
    if part.base is not None:
        for kind in (CLASS_MAPS, OBJECT_MAPS):
            at = part.base / kind
            part.maps[kind] = {stem_of(n): n for n in walk(at) if n.lower().endswith(".png")} if at.is_dir() else {}
        for stem in sorted(part.maps[CLASS_MAPS].keys() - photo_of.keys()):
            file = relative(part.base / CLASS_MAPS / part.maps[CLASS_MAPS][stem], root)
            on_finding(Finding("missing_image", file, stem, detail=f"is a mask of {stem}, of which there is no photo"))
        for kind in ("Main", "Segmentation"):  # Main decides; Segmentation lists the photos that have masks
            for stem, split in _listed(part, part.base / "ImageSets" / kind, photo_of, root, on_finding):
                splits.setdefault(photo_of[stem], split)
    order = sorted(splits, key=lambda photo: splits[photo] or "")  # stable: within a split as listed
    rest = sorted(set(photo_of.values()) - splits.keys())
    part.rows = [(photo, xml_of.get(photo), splits.get(photo, part.split)) for photo in (*order, *rest)]


def _twice(part: Part, name: str, first: str, photo: str, root: Path, on_finding: OnFinding) -> None:
    file = relative(part.labels.folder / name, root)
    on_finding(Finding("duplicate_image", file, photo, detail=f"and {first} both label {photo}; only {first} is read"))


def _photo_named(part: Part, xml: str, photo_of: Mapping[str, str], root: Path, on_finding: OnFinding) -> str | None:
    """The photo that an XML file of another name means."""
    if not part.labels.inside(xml, on_finding):
        return None
    file = relative(part.labels.folder / xml, root)
    data = label_bytes(part.labels.folder / xml, root, on_finding)
    said = None if data is None else annotation(data, on_finding, file=file)
    if said is None:
        return None
    name = str(PurePosixPath(xml).parent / (said.filename or f"{stem_of(PurePosixPath(xml).name)}.jpg"))
    return photo_of.get(stem_of(name)) or part.photos.find(name, on_finding, file=file)


def _listed(
    part: Part, folder: Path, photo_of: Mapping[str, str], root: Path, on_finding: OnFinding
) -> Iterator[tuple[str, str | None]]:
    """(stem, split) of every photo that the lists of ImageSets/Main or /Segmentation name, each once."""
    if not folder.is_dir():
        return
    paths = {name[:-4]: folder / name for name in walk(folder) if name.endswith(".txt")}
    lists: dict[str, list[str]] = {}
    for split, path in paths.items():
        text = label_text(path, root, on_finding)
        lines = [line.rstrip("\r") for line in (text or "").split("\n") if line.strip()]
        # Main also has a list a class, cat_train.txt, whose lines end in -1, 0 or 1
        per_class = any(split.endswith(f"_{other}") for other in paths)
        if not (per_class and all(line.split()[-1] in ("-1", "0", "1") and line not in photo_of for line in lines)):
            lists[split] = _stems(lines, photo_of, relative(path, root), on_finding)
    if {"train", "val"} <= lists.keys():
        lists.pop("trainval", None)
    alone = list(lists) == ["default"]  # CVAT's name for no split
    first: dict[str, str] = {}
    for split in sorted(lists, key=lambda s: (SPLITS.index(s) if s in SPLITS else len(SPLITS), s)):
        for stem in lists[split]:
            other = first.setdefault(stem, split)
            if other != split and split in SPLITS:
                photo = relative(part.photos.folder / photo_of[stem], root)
                on_finding(
                    Finding("same_photo_across_splits", photo, [photo], detail=f"is listed in {other} and {split}")
                )
    for split, stems in lists.items():
        for stem in stems:
            if first[stem] == split:
                yield stem, None if alone else split


def _stems(lines: Iterable[str], photo_of: Mapping[str, str], file: str, on_finding: OnFinding) -> list[str]:
    """The photos that a list names, each once; what is wrong with the others is told."""
    found: dict[str, None] = {}
    folded: dict[str, str] = {}
    few = Few(on_finding)
    for line in lines:
        stem, text = _stem_in(line, photo_of), line.strip()[:200]
        if stem is None:
            folded = folded or {s.casefold(): s for s in photo_of}
            stem = folded.get(line.strip().casefold())
            if stem is None:
                few(Finding("missing_image", file, text, detail=f"lists {text}, of which there is no photo"))
                continue
            few(Finding("wrong_case_name", file, text, detail=f"lists {text}, the photo is {photo_of[stem]}"))
        if stem in found:
            few(Finding("duplicate_image", file, stem, detail=f"lists {stem} twice"))
        found[stem] = None
    few.close()
    return list(found)


def _stem_in(line: str, photo_of: Mapping[str, str]) -> str | None:
    """The photo's stem in a line of a list: the line, what CVAT puts in quotes, or a word with VOC's -1, 0 or 1."""
    text = line.strip()
    tries = [line, text, stem_of(text)]
    if text.startswith('"') and text.count('"') >= 2:
        tries.append(text.split('"')[1])
    words = text.split()
    if len(words) == 2 and words[1] in ("-1", "0", "1"):
        tries.append(words[0])
    return next((stem for stem in tries if stem in photo_of), None)
