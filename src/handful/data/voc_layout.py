"""Where a VOC data set keeps what: which image, XML file, maps and split belong together. Names only; nothing is held
of what the files say.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from handful.data.finding import Finding, OnFinding
from handful.data.paths import Shelf, Tails, is_image_name, relative, split_kind, walk
from handful.data.reading import Few, is_pointer, label_bytes, label_text
from handful.data.voc_rows import annotation

SPLITS = ("test", "val", "train")  # an image in two of them stays in the first
FOLDERS = ("train", "training", "valid", "val", "validation", "test", "testing")  # of images and XML files together
IMAGES = ("JPEGImages", "images", "Images", "image", "imgs", "img", "photos", "data")
LABELS = ("Annotations", "annotations", "Annotation", "annotation", "annots", "anns", "ann", "xmls", "xml", "XML",
          "labels", "Labels", "label", "bboxes")  # fmt: skip
CLASS_MAPS, OBJECT_MAPS = "SegmentationClass", "SegmentationObject"
_SNIFF_FILES, _SNIFF_BYTES, _MOST_APART = 200, 4096, 100_000


@dataclass
class Part:
    """Images and labels that lie together.

    rows: (image, XML file or None, split) of each sample. maps: for each kind of map, its file for an image's stem.
    names: of the classes in the XML files.
    base: the folder of ImageSets and the maps, None where XML files lie beside images. apart: images and XML files lie
    in folders of any name, so that only those beside images with labels are of the set.
    """

    images: Shelf
    labels: Shelf
    split: str | None = None
    base: Path | None = None
    apart: bool = False
    rows: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def map_path(self, kind: str, image: str) -> Path | None:
        """An image's map of a kind, None when it has none."""
        name = self.maps.get(kind, {}).get(stem_of(image))
        return self.base / name if name is not None and self.base is not None else None


def stem_of(name: str) -> str:
    """A name without its suffix, which is what VOC's files know an image by."""
    return os.path.splitext(name)[0]


def bases(folder: Path) -> list[Path]:
    """The folders of the data sets in a folder."""
    if not folder.is_dir():
        return []
    if _is_set(folder) or any(_has_xml(_top(folder / f)) or _is_set(folder / f) for f in ("", *_splits(folder))):
        return [folder]
    sets = [p for p in sorted((*folder.glob("VOC*"), *folder.glob("VOCdevkit/VOC*"))) if p.is_dir() and _is_set(p)]
    return sets or ([folder] if _is_apart(folder) else [])


def _splits(folder: Path) -> list[str]:
    """The folders of splits, those usually called so first."""
    found = [p.name for p in folder.iterdir() if p.is_dir() and split_kind(p.name) and not p.name.startswith(".")]
    return [name for name in FOLDERS if name in found] + sorted(set(found) - set(FOLDERS))


def _is_set(folder: Path) -> bool:
    said = [folder / "ImageSets" / "Main", folder / "ImageSets" / "Segmentation", folder / CLASS_MAPS]
    if not folder.is_dir():
        return False
    if _first(folder, IMAGES) is not None and any(p.is_dir() for p in said):
        return True
    return _labels(folder) is not None and (_first(folder, IMAGES) is not None or _has_images(folder))


def _labels(folder: Path) -> Path | None:
    """The folder of XML files: the first with a usual name that holds some, however deep."""
    places = (folder / name for name in LABELS if (folder / name).is_dir())
    return next((place for place in places if _has_xml(place / name for name in walk(place))), None)


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_image_name(entry.name) and entry.is_file() for entry in entries)


def _holds_images(folder: Path) -> bool:
    return any(is_image_name(name) for name in walk(folder))


def _is_apart(folder: Path) -> bool:
    """Whether XML files and images lie in folders of any name, and no folder inside is a set of its own."""
    below = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
    names = list(itertools.islice(walk(folder), _MOST_APART)) if len(below) > 1 else []
    if not any(name.lower().endswith(".xml") for name in names) or any(bases(p) and _holds_images(p) for p in below):
        return False
    stems = {PurePosixPath(name).stem for name in names if is_image_name(name)}
    xml = [name for name in names if name.lower().endswith(".xml") and PurePosixPath(name).stem in stems]
    return _has_xml(folder / name for name in xml)


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
    named = (path for path in files if path.suffix.lower() == ".xml")
    for path in itertools.islice(named, _SNIFF_FILES):
        if path.is_file():
            try:
                with open(path, "rb") as opened:
                    start = opened.read(_SNIFF_BYTES).replace(b"\0", b"")  # UTF-16 has a NUL beside each letter
            except OSError:
                continue
            if b"<annotation>" in start or b"<annotation " in start or is_pointer(start):
                return True
    return False


def parts_in(base: Path, root: Path) -> Iterator[Part]:
    """The images and labels of a data set, not yet brought together."""
    if _is_set(base):
        yield _part(base, root)
    elif _has_xml(_top(base)):
        shelf = Shelf(base, root)
        yield Part(shelf, shelf)
    elif _is_apart(base):
        shelf = Shelf(base, root)
        yield Part(shelf, shelf, apart=True)
    else:
        for name in _splits(base):
            if _is_set(base / name):
                yield _part(base / name, root, split=name)
            else:
                shelf = Shelf(base / name, root)
                yield Part(shelf, shelf, split=name)


def _part(base: Path, root: Path, split: str | None = None) -> Part:
    images = Shelf(_first(base, IMAGES) or base, root)
    return Part(images, Shelf(_labels(base) or _first(base, LABELS) or base / LABELS[0], root), split=split, base=base)


def fill(part: Part, root: Path, on_finding: OnFinding) -> None:
    """Find out which image, XML file, split and maps belong together; what does not is told."""
    image_of: dict[str, str] = {}
    for name in sorted(part.images.images):
        other = image_of.setdefault(stem_of(name), name)
        if other != name:
            file = relative(part.images.folder / name, root)
            detail = f"and {other} would share one XML file; only {other} is read"
            on_finding(Finding("shared_label_file", file, other, detail=detail))
    xml_of: dict[str, str] = {}
    doubled: set[str] = set()
    others = []
    for name in part.labels.others:
        if name.lower().endswith(".xml"):
            image = image_of.get(stem_of(name))
            if image is None:
                others.append(name)
            elif xml_of.setdefault(image, name) != name:
                doubled.add(image)
                _twice(part, name, xml_of[image], image, root, on_finding)
    tails = Tails(sorted(image_of)) if others else Tails(())
    for name in others:
        image = _image_beside(part, name, image_of, tails, root, on_finding)
        if image is not None and xml_of.setdefault(image, name) != name:
            doubled.add(image)
            _twice(part, name, xml_of[image], image, root, on_finding)
        elif image is not None:
            image_of.setdefault(stem_of(name), image)
    if part.apart:
        places = {os.path.dirname(image) for image in xml_of}
        image_of = {stem: image for stem, image in image_of.items() if os.path.dirname(image) in places}
    splits: dict[str, str | None] = {}
    if part.base is not None:
        for kind in (CLASS_MAPS, OBJECT_MAPS):
            at = part.base / kind
            found = {stem_of(n): f"{kind}/{n}" for n in walk(at) if n.lower().endswith(".png")} if at.is_dir() else {}
            if not found and (at := part.base / f"{kind}PNG").is_dir():  # labelme keeps arrays in the other one
                found = {stem_of(n): f"{kind}PNG/{n}" for n in walk(at) if n.lower().endswith(".png")}
            part.maps[kind] = found
        for stem in sorted(part.maps[CLASS_MAPS].keys() - image_of.keys()):
            file = relative(part.base / part.maps[CLASS_MAPS][stem], root)
            on_finding(Finding("missing_image", file, stem, detail=f"is a mask of {stem}, of which there is no image"))
        for kind in ("Main", "Segmentation"):  # Main decides; Segmentation lists the images that have masks
            for stem, split in _listed(part, part.base / "ImageSets" / kind, image_of, root, on_finding):
                splits.setdefault(image_of[stem], split)
    order = sorted(splits, key=lambda image: splits[image] or "")  # stable: within a split as listed
    rest = sorted(set(image_of.values()) - splits.keys())
    part.rows = [(image, xml_of.get(image), splits.get(image, part.split or _split_of(part, image)))
                 for image in (*order, *rest) if image not in doubled]  # fmt: skip


def _split_of(part: Part, image: str) -> str | None:
    """The split that a folder of any name stands for."""
    folders = image.split("/")[:-1] if part.apart else []
    return next((name for name in folders if split_kind(name)), None)


def _twice(part: Part, name: str, first: str, image: str, root: Path, on_finding: OnFinding) -> None:
    file = relative(part.labels.folder / name, root)
    detail = f"and {first} both label {image}, so that neither is read"
    on_finding(Finding("two_label_files", file, image, detail=detail))


def _image_beside(
    part: Part, xml: str, image_of: Mapping[str, str], tails: Tails, root: Path, on_finding: OnFinding
) -> str | None:
    """The image of an XML file in another folder: the one with its name, the nearest where several have it."""
    own = PurePosixPath(xml).stem
    near = [stem for stem in tails.longest(stem_of(xml).split("/")) if PurePosixPath(stem).name == own]
    if len(near) > 1 and part.images.folder == part.labels.folder:
        depth = {stem: _shared(stem, xml) for stem in near}
        near = [stem for stem in near if depth[stem] == max(depth.values())]
    if len(near) == 1:
        return image_of[near[0]]
    if near:
        file = relative(part.labels.folder / xml, root)
        names = ", ".join(image_of[stem] for stem in sorted(near)[:3])
        on_finding(Finding("ambiguous_image", file, sorted(near)[:20], detail=f"may label {names}; nothing is guessed"))
        return None
    return _image_named(part, xml, image_of, root, on_finding)


def _shared(a: str, b: str) -> int:
    """How many first folders two names have in common."""
    pairs = zip(a.split("/")[:-1], b.split("/")[:-1], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _image_named(part: Part, xml: str, image_of: Mapping[str, str], root: Path, on_finding: OnFinding) -> str | None:
    """The image that an XML file of another name means."""
    if not part.labels.inside(xml, on_finding):
        return None
    file = relative(part.labels.folder / xml, root)
    data = label_bytes(part.labels.folder / xml, root, on_finding)
    said = None if data is None else annotation(data, on_finding, file=file)
    if said is None:
        return None
    said_name = said.filename or f"{stem_of(PurePosixPath(xml).name)}.jpg"
    name = str(PurePosixPath(xml).parent / said_name)
    if (own := image_of.get(stem_of(name)) or image_of.get(stem_of(said_name))) is not None:
        return own
    return part.images.find(name if "/" not in xml else said_name, on_finding, file=file)


def _listed(
    part: Part, folder: Path, image_of: Mapping[str, str], root: Path, on_finding: OnFinding
) -> Iterator[tuple[str, str | None]]:
    """(stem, split) of every image that the lists of ImageSets/Main or /Segmentation name, each once."""
    if not folder.is_dir():
        return
    paths = {name[:-4]: folder / name for name in walk(folder) if name.endswith(".txt")}
    lists: dict[str, list[str]] = {}
    for split, path in paths.items():
        text = label_text(path, root, on_finding)
        lines = [line.rstrip("\r") for line in (text or "").split("\n") if line.strip()]
        # Main also has a list a class, cat_train.txt, whose lines end in -1, 0 or 1
        per_class = any(split.endswith(f"_{other}") for other in paths)
        if not (per_class and all(line.split()[-1] in ("-1", "0", "1") and line not in image_of for line in lines)):
            lists[split] = _stems(lines, image_of, relative(path, root), on_finding)
    if {"train", "val"} <= lists.keys():
        lists.pop("trainval", None)
    alone = list(lists) == ["default"]  # CVAT's name for no split
    first: dict[str, str] = {}
    for split in sorted(lists, key=lambda s: (SPLITS.index(s) if s in SPLITS else len(SPLITS), s)):
        for stem in lists[split]:
            other = first.setdefault(stem, split)
            if other != split and split in SPLITS:
                image = relative(part.images.folder / image_of[stem], root)
                on_finding(
                    Finding("same_image_across_splits", image, [image], detail=f"is listed in {other} and {split}")
                )
    for split, stems in lists.items():
        for stem in stems:
            if first[stem] == split:
                yield stem, None if alone else split


def _stems(lines: Iterable[str], image_of: Mapping[str, str], file: str, on_finding: OnFinding) -> list[str]:
    """The images that a list names, each once; what is wrong with the others is told."""
    found: dict[str, None] = {}
    folded: dict[str, str] = {}
    few = Few(on_finding)
    for line in lines:
        stem, text = _stem_in(line, image_of), line.strip()[:200]
        if stem is None:
            folded = folded or {s.casefold(): s for s in image_of}
            stem = folded.get(line.strip().casefold())
            if stem is None:
                few(Finding("missing_image", file, text, detail=f"lists {text}, of which there is no image"))
                continue
            few(Finding("wrong_case_name", file, text, detail=f"lists {text}, the image is {image_of[stem]}"))
        if stem in found:
            few(Finding("duplicate_image", file, stem, detail=f"lists {stem} twice"))
        found[stem] = None
    few.close()
    return list(found)


def _stem_in(line: str, image_of: Mapping[str, str]) -> str | None:
    """The image's stem in a line of a list: the line, what CVAT puts in quotes, or a word with VOC's -1, 0 or 1."""
    text = line.strip()
    tries = [line, text, stem_of(text)]
    if text.startswith('"') and text.count('"') >= 2:
        tries.append(text.split('"')[1])
    words = text.split()
    if len(words) == 2 and words[1] in ("-1", "0", "1"):
        tries.append(words[0])
    return next((stem for stem in tries if stem in image_of), None)
