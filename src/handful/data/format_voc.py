"""Pascal VOC: an XML file an image, lists of splits, and two palette PNG files for class and object of each pixel.

http://host.robots.ox.ac.uk/pascal/VOC/. Read are JPEGImages with Annotations, ImageSets, SegmentationClass and
SegmentationObject (also inside VOCdevkit/VOC2012, also images with annotations), and XML files beside their images
(also in train, valid and test). An image is found by its XML file's name, or else by <filename>. Classes are those of
CVAT's labelmap.txt, or else the names found, sorted; VOC's names have VOC's ids, others count from 1.
Values of masks are named by labelmap.txt, by a list such as class_names.txt, or by VOC's names where its names stand in
the XML files; otherwise they are called by their numbers. XML files may lie in any folder beside the images or below.
VOC counts pixels from 1; a set with a box that begins at 0 counts from 0, as many tools write it.

Not held: licenses, outlines (they become pixels), and what a later object hides of an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from handful.data import voc_masks
from handful.data.finding import Finding, OnFinding, stop
from handful.data.masks import no_mask, open_values, value_counts, voc_palette, write_ids
from handful.data.near_names import spelled_alike
from handful.data.paths import folded, name_parts, relative
from handful.data.reading import label_bytes, label_text, unless_dropped, upright_size
from handful.data.shapes import box_of
from handful.data.voc_classes import (
    BACKGROUND,
    CLASSES,
    LISTS,
    implied,
    listed,
    map_classes,
    map_text,
    numbered,
)
from handful.data.voc_layout import CLASS_MAPS, OBJECT_MAPS, Part, bases, fill, parts_in, stem_of
from handful.data.voc_rows import annotation, counts_from_zero, objects_of, xml_of
from handful.data.writing import Writer, size_for_writing
from handful.errors import DataError
from handful.types import Category, Dataset, Mask, Object, Sample
from handful.words import counted

_MAP_BYTES = 1 << 20
_VOC_STEM = re.compile(r"20\d\d_\d{6}")
PRECEDENCE = 30  # its masks would be taken for a folder of masks otherwise
TITLE = "Pascal VOC XML"
TREE = """\
JPEGImages/2007_000032.jpg
Annotations/2007_000032.xml            <annotation><object><name>person</name><bndbox>...
ImageSets/Main/train.txt               2007_000032
SegmentationClass/2007_000032.png      a class a pixel; labelmap.txt or class_names.txt says which
SegmentationObject/2007_000032.png
"""


def detect(folder: Path) -> bool:
    """Whether the folder is one VOC data set."""
    return len(bases(Path(folder))) == 1


def is_own_map(name: str) -> bool:
    """Whether a picture is one of VOC's maps, which are read with it and are no masks of their own."""
    return bool({CLASS_MAPS, OBJECT_MAPS} & set(name.split("/")))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of a VOC data set, split by split in the order of its lists, then the images that no list names.

    An image without an XML file is one nobody labeled (objects None). Objects get their pixels from
    SegmentationObject, where its numbers and classes agree with the XML file; `mask` reads SegmentationClass. tell:
    what to do about a finding (finding.stop: raise DataError at the first error). Raises DataError when the folder
    holds no VOC data set, or several.
    """
    folder = Path(folder)
    found = bases(folder)
    if len(found) > 1:
        raise DataError(f"{folder} holds {len(found)} VOC data sets; name one: {', '.join(p.name for p in found)}")
    if not found:
        raise DataError(f"{folder} is no VOC data set; wanted JPEGImages with Annotations, or XML files beside images")
    parts = list(parts_in(found[0], folder))
    for part in parts:
        fill(part, folder, on_finding)
    first = 1
    for part in parts:
        part.names, zero = _first_look(part, folder)
        first = 0 if zero else first
    categories, known = _categories(parts, found[0], folder, on_finding)
    unseen = [relative(p.images.folder / image, folder) for p in parts for image, xml, _ in p.rows
              if xml is None and not any(p.map_path(kind, image) for kind in (CLASS_MAPS, OBJECT_MAPS))]  # fmt: skip
    if unseen:
        detail = (
            f"{counted(len(unseen), 'image has', 'images have')} neither an XML file nor a mask, so they count as "
            f"unlabeled ({unseen[0]}, ...)"
        )
        on_finding(Finding("unlabeled_image", unseen[0] if len(unseen) == 1 else ".", unseen[:5], len(unseen), detail))

    def samples() -> Iterator[Sample]:
        for part in parts:
            for image, xml, split in part.rows:
                sample = _sample(part, image, xml, split, categories, known, folder, on_finding, first)
                if sample is not None:
                    yield sample

    return Dataset("voc", folder, categories, samples, sum(len(p.rows) for p in parts))


def _categories(
    parts: Sequence[Part], base: Path, root: Path, on_finding: OnFinding
) -> tuple[tuple[Category, ...], bool]:
    """The classes, and whether the values of the masks are known to be theirs."""
    masks = any(part.maps.get(CLASS_MAPS) for part in parts)
    path = base / "labelmap.txt"
    text = label_text(path, root, on_finding, most=_MAP_BYTES) if path.is_file() else None
    where = relative(path, root) if text is not None else "Annotations"
    known = True
    if text is not None:
        found = numbered(map_classes(text, on_finding, file=where))
    else:
        names = {name for part in parts for name in part.names} - {""}
        if masks and not _is_vocs_own(parts, names):
            found, known, where = _of_masks(parts, names, base, root, on_finding)
        else:
            found = implied(names, masks=masks)
    folded: dict[str, str] = {}
    for c in found:
        twin = folded.setdefault(spelled_alike(c.name), c.name)
        if twin != c.name:
            on_finding(
                Finding("category_twins", where, [twin, c.name], detail=f"has the classes {twin!r} and {c.name!r}")
            )
    return found, known


def _is_vocs_own(parts: Sequence[Part], names: set[str]) -> bool:
    """Whether the classes of the masks are VOC's 20: its names in the XML files, or else its images."""
    if names:
        return names <= {*CLASSES, BACKGROUND}
    return any(_VOC_STEM.fullmatch(PurePosixPath(image).stem) for part in parts for image, _, _ in part.rows)


def _of_masks(
    parts: Sequence[Part], names: set[str], base: Path, root: Path, on_finding: OnFinding
) -> tuple[tuple[Category, ...], bool, str]:
    """The classes of masks that are not VOC's own: from a list of names beside them, or else called by their numbers.

    Names that only stand in XML files get ids that no mask has.
    """
    present: set[int] = set()
    for part in parts:
        for image, _, _ in part.rows:
            at = part.map_path(CLASS_MAPS, image)
            values = None if at is None else open_values(at, root, _pass)
            present |= set(value_counts(values)[0].tolist()) if values is not None and values.ndim == 2 else set()
    present -= {255, 65535}
    some = ", ".join(map(str, sorted(present)[:12])) + (", ..." if len(present) > 12 else "")
    tried = (base / place / name for place in (".", "ImageSets", CLASS_MAPS) for name in LISTS)
    path = next((p for p in tried if p.is_file()), None)
    where = CLASS_MAPS
    detail = f"has no names for its values ({some}): no labelmap.txt, and no list of class names"
    if path is not None:
        where = relative(path, root)
        text = label_text(path, root, on_finding, most=_MAP_BYTES)
        found = None if text is None else listed(text, present)
        if found is not None:
            rest = sorted(names - {c.name for c in found})
            more = (Category(len(found) + i, name) for i, name in enumerate(rest))
            return (*found, *more), True, where
        detail = f"does not say which of the masks' values ({some}) is which of its names"
    detail += "; each is called by its number"
    on_finding(Finding("no_label_map", where, sorted(present)[:20], len(present), detail))
    numbers = [Category(i, str(i)) for i in sorted(present)]
    more = (Category(max(present, default=0) + i, name) for i, name in enumerate(sorted(names), 1))
    return (*numbers, *more), False, where


def _pass(finding: Finding) -> None:
    """For a first look at what is told when the samples are read."""


def _first_look(part: Part, root: Path) -> tuple[set[str], bool]:
    """The class names in the XML files, and whether they count pixels from 0; what is wrong with a file is told when
    its sample is read.
    """
    names, zero = set[str](), False
    for _, xml, _ in part.rows:
        if xml is not None and part.labels.inside(xml, lambda finding: None):
            data = label_bytes(part.labels.folder / xml, root, lambda finding: None)
            said = None if data is None else annotation(data, lambda finding: None, file=xml)
            if said is not None:
                names |= {(node.findtext("name") or "").strip() for node in said.objects}
                zero = zero or counts_from_zero(said)
    return names, zero


def _sample(
    part: Part, image: str, xml: str | None, split: str | None, categories: tuple[Category, ...], known: bool,
    root: Path, on_finding: OnFinding, first: int,
) -> Sample | None:  # fmt: skip
    if not part.images.inside(image, on_finding) or (xml is not None and not part.labels.inside(xml, on_finding)):
        return None
    objects: tuple[Object, ...] | None = None
    size, attributes, painted, file, dropped = None, {}, False, "", 0
    if xml is not None:
        file = relative(part.labels.folder / xml, root)
        data = label_bytes(part.labels.folder / xml, root, on_finding)
        said = None if data is None else annotation(data, on_finding, file=file)
        if said is None:
            return None
        _tell_other(part, image, said.filename, file, on_finding)
        size, attributes, painted = said.size_wh, said.attributes, said.painted
        if size is None and said.objects:
            size = _measured(part.images.folder / image, said.size_text, root, on_finding, file)
        things = objects_of(said, {c.name: c.name for c in categories}, size, on_finding, file=file, first=first)
        objects, dropped = unless_dropped(things, len(said.objects)), len(said.objects) - len(things)
    class_png, object_png = part.map_path(CLASS_MAPS, image), part.map_path(OBJECT_MAPS, image)
    if object_png is not None and objects != () and not dropped:  # its numbers count dropped objects too
        objects = _with_pixels(object_png, class_png, objects, size, categories, known, root, on_finding)
    drawn = class_png if not painted else None
    mask = None if drawn is None else lambda: _mask(drawn, root, categories, on_finding)
    return Sample(
        part.images.folder / image, objects=objects, mask=mask, mask_path=drawn, name=image, split=split,
        size_wh=size, attributes=attributes, dropped=dropped,
    )  # fmt: skip


def _tell_other(part: Part, image: str, said: str, file: str, on_finding: OnFinding) -> None:
    """Tell an XML file that names another image than the one of its own name, where that one is there too."""
    name = next(iter(name_parts(said)[-1:]), "")
    stem = folded(PurePosixPath(image).stem)
    if name and stem not in (folded(PurePosixPath(name).stem), folded(name)) and part.images.tails.ending([name]):
        detail = f"names {name[:100]}, and is read as the labels of {image}, whose name it has"
        cause = "XML files name another image than they are called after, whose labels they are read as"
        on_finding(Finding("other_filename", file, name[:100], detail=detail, cause=cause))


def _measured(image: Path, said: str, root: Path, on_finding: OnFinding, file: str) -> tuple[int, int] | None:
    """The size of an image whose XML file does not say it, from the image."""
    size = upright_size(image, root, on_finding)
    if size is not None:
        detail = f"says {f'that the image is {said} px' if said else 'no size'}; it has {size[0]} x {size[1]}"
        cause = "sizes that are not said are read from the images"
        on_finding(Finding("no_size", file, said, detail=detail, cause=cause))
    return size


def _mask(path: Path, root: Path, categories: tuple[Category, ...], on_finding: OnFinding) -> Mask:
    found = voc_masks.class_map(path, root, categories, on_finding)
    if found is None:
        raise no_mask(path)
    return found


def _with_pixels(
    object_png: Path, class_png: Path | None, objects: tuple[Object, ...] | None, size_wh: tuple[int, int] | None,
    categories: tuple[Category, ...], known: bool, root: Path, on_finding: OnFinding,
) -> tuple[Object, ...] | None:  # fmt: skip
    """The objects with their pixels from the instance map; as they were, after telling, where it cannot be used."""
    classes = voc_masks.class_map(class_png, root, categories, lambda finding: None) if class_png is not None else None
    found = voc_masks.pieces(object_png, root, classes, size_wh, on_finding)
    names = {c.id: c.name for c in categories}
    file = relative(object_png, root)
    if found is None:
        return objects
    if objects is not None:
        return voc_masks.paired(objects, found, names if known else {}, on_finding, file=file)
    if classes is None:
        on_finding(Finding("missing_mask", file, detail="has neither an XML file nor a class map beside it"))
        return None
    return voc_masks.objects_from(found, names, on_finding, file=file)


def write(dataset: Dataset, writer: Writer) -> None:
    """Write JPEGImages, Annotations, ImageSets, and SegmentationClass and SegmentationObject where there are pixels.

    Without splits all images are listed in default.txt. labelmap.txt is written where the classes would not be read
    back without it. An image nobody labeled gets no XML file. Raises DataError when two images differ in split or
    suffix only, and for a class name that XML cannot hold.
    """
    classes = [(c.name, c.rgb) for c in dataset.categories]
    ids = {c.name: c.id for c in numbered(classes)}
    stems: dict[str, Path] = {}
    lists: dict[tuple[str, str | None], list[str]] = {}
    used: set[str] = set()
    masks = False
    (writer.folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    for sample in dataset:
        name = writer.image(sample, f"JPEGImages/{sample.name}").removeprefix("JPEGImages/")
        stem = stem_of(name)
        if stem in stems:
            raise DataError(f"{sample.path} and {stems[stem]} would share Annotations/{stem}.xml; rename one")
        stems[stem] = sample.path
        lists.setdefault(("Main", sample.split), []).append(stem)
        if sample.objects is None and sample.mask is None:
            continue
        size = size_for_writing(sample)
        objects = tuple(thing for thing in sample.objects or () if box_of(thing) is not None)
        drawn = None if sample.mask is None else _translated(sample.mask(), dataset.categories, ids)
        both = voc_masks.encode(objects, drawn, ids, size)
        if both is not None:
            write_ids(writer.path(f"{OBJECT_MAPS}/{stem}.png"), both[1])
        classes_of_pixels = drawn if both is None else both[0]
        if classes_of_pixels is not None:
            masks = True
            write_ids(writer.path(f"{CLASS_MAPS}/{stem}.png"), classes_of_pixels, _colors(dataset.categories, ids))
            lists.setdefault(("Segmentation", sample.split), []).append(stem)
        if sample.objects is not None and (objects or not sample.objects):  # not where all lack a box: it is not empty
            used.update(thing.label.strip() for thing in objects)
            painted = drawn is None and both is not None
            text = xml_of(replace(sample, objects=objects), PurePosixPath(name).name, size, painted=painted)
            writer.text(f"Annotations/{stem}.xml", text)
    lists = lists or {("Main", None): []}
    whole = all(split is None for _, split in lists)
    for (kind, split), names in lists.items():
        if split is not None or whole:
            lines = "".join(f"{name}\n" for name in names if _fits_a_line(name))
            writer.text(f"ImageSets/{kind}/{split or 'default'}.txt", lines)
    if masks or numbered(classes) != implied(used, masks=False):
        writer.text("labelmap.txt", map_text(classes))


def _fits_a_line(name: str) -> bool:
    """Whether a list can name the image: names on a disk may hold line ends, and bytes that are no UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return bool(name.strip()) and not set(name) & {"\n", "\r"}


def _translated(mask: Mask, categories: Sequence[Category], ids: Mapping[str, int]) -> np.ndarray:
    """A class map with VOC's ids, the largest value for ignore."""
    kind = np.uint16 if max(ids.values(), default=0) >= 255 else np.uint8
    table = np.full(mask.ignore + 1, np.iinfo(kind).max, dtype=kind)
    for c in categories:
        if c.id < mask.ignore:
            table[c.id] = ids[c.name]
    return np.asarray(table[mask.ids])


def _colors(categories: Sequence[Category], ids: Mapping[str, int]) -> tuple[Category, ...]:
    """The classes by the ids in the map, each with a color, if any has one of its own."""
    if all(c.rgb is None for c in categories):
        return ()
    palette = voc_palette()
    found = {0: Category(0, BACKGROUND, rgb=(0, 0, 0))}
    for c in categories:
        at = 3 * (ids[c.name] % 255)
        found[ids[c.name]] = Category(ids[c.name], c.name, rgb=c.rgb or (palette[at], palette[at + 1], palette[at + 2]))
    return tuple(found.values())
