"""Which format a folder is in, and the one way to read and write any of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import handful.data
from handful import running
from handful.data import against_folders, angles, class_maps, fractions, pairing, sniff
from handful.data.archive import opened
from handful.data.csv_columns import NO_CLASS
from handful.data.finding import Finding, OnFinding, stop
from handful.data.folder_names import LABELED_SPLITS
from handful.data.paths import COPY_LINKED, MADE, is_image_name, linked_out, walk
from handful.data.writing import Writer
from handful.errors import DataError
from handful.pick import names, pick
from handful.types import Category, Dataset, Sample
from handful.words import counted, shell

BOXES = ("coco", "voc", "yolo")
FLAGS = {
    "masks": "masks-in",
    "threshold": "mask-threshold",
}  # what the commands call an option of a reader
PAIRED = ("masks", "pairs")
LAST = ("pairs", "folder")  # formats without a file of their own: whatever else is there comes first
DEPTH = 3  # how far below a folder label sets are looked for


class Found(str):
    """A format that was found out and is named so that it need not be again: what contradicts it still counts."""

    __slots__ = ()


@dataclass(frozen=True)
class Source:
    """One set of labels on disk: its format, its folder, and what the reader must be told (which masks, ...).

    parts: the sets that it is made of, where each lies in a folder that is a split: train/annotations.json, ...
    chosen: whether its format was named, so that nothing beside it counts.
    """

    format: str
    place: Path
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Source, ...] = ()
    chosen: bool = False

    @property
    def title(self) -> str:
        """The format, with what tells this set from others in the same folder."""
        named = (value for value in self.options.values() if isinstance(value, str) and value != self.format)
        return self.format + "".join(f" {value}" for value in named)

    def read(self, on_finding: OnFinding = stop) -> Dataset:
        """The samples; see the format's own read(). Raises DataError for an option that the format does not have."""
        held: list[Finding] = []
        known: list[bool] = []  # once it is: whether a file names the classes

        def tell(finding: Finding) -> None:
            if finding.code != "no_label_map" or (known and not known[0]):
                on_finding(finding)
            elif not known:
                held.append(finding)

        dataset = self._read(tell)
        bare = any(NO_CLASS in finding.detail for finding in held)
        named = None if bare or self.format == "folder" else class_maps.named(dataset, self._folder, on_finding)
        known.append(named is not None)
        for finding in held:
            tell(finding)
        dataset = dataset if named is None else named
        # a set of parts is watched in each
        alone = self.chosen or self.parts or self.format in (*LAST, *PAIRED)
        if not self.parts:
            dataset = fractions.watched(angles.watched(dataset, on_finding), on_finding)
        if self.format == "coco" and not self.parts:
            dataset = fractions.watched_areas(dataset, on_finding)
        if self.format == "yolo" and not self.parts:
            dataset = fractions.watched_outlines(dataset, on_finding)
        return dataset if alone else against_folders.watched(dataset, on_finding)

    @property
    def _folder(self) -> Path:
        return self.place.parent if self.place.is_file() else self.place

    def _read(self, on_finding: OnFinding) -> Dataset:
        if self.parts:
            return _joined(self, on_finding)
        reader = module(self.format).read
        odd = [name for name in self.options if name not in inspect.signature(reader).parameters]
        if odd:
            raise DataError(f"--{FLAGS.get(odd[0], odd[0])} is nothing that {self.format} has; leave it out")
        dataset: Dataset = reader(self.place, on_finding=on_finding, **self.options)
        return dataset


@cache  # the package is listed once, not for every folder
def module(name: str) -> ModuleType:
    """The module of a format. Raises UnknownName with the nearest real one."""
    return pick(handful.data, "format", name)


def known() -> list[str]:
    """The formats there are, most specific first: the order in which a folder is tried."""
    return list(_known())


@cache
def _known() -> tuple[str, ...]:
    return tuple(sorted(names(handful.data, "format"), key=lambda n: (getattr(module(n), "PRECEDENCE", 50), n)))


def located(place: Path) -> Path:
    """The folder (or label file) itself; an archive is unpacked into the cache, once. Raises DataError if absent."""
    place = Path(place)
    if not place.exists():
        raise DataError(f"{place} does not exist; wanted a folder of images and labels, or an archive of one")
    return opened(place, cache=None)


def sources(place: Path, *, format: str | None = None, **options: Any) -> list[Source]:
    """Every set of labels in a folder, or in the folders below it when it holds none itself.

    format: take it as this, without looking. options: passed to the reader (masks, flat). Raises DataError when
    nothing is recognized.
    """
    place = located(place)
    if format is not None:
        module(format)
        return [Source(format, place, options, chosen=not isinstance(format, Found))]
    if options.get("flat"):
        return [Source("folder", place, options)]
    if "{}" in str(options.get("masks", "")):  # a pattern says how images and masks pair
        return [Source("pairs", place, options)]
    found = _sources(place, DEPTH, options)
    if not found:
        links = linked_out(place) if place.is_dir() else []
        passed: dict[str, str] = {}
        loose = place.is_dir() and any([is_image_name(name) for name in walk(place, passed)])
        flat = ", or with --flat where each image's name is its class" if running.has("--flat") else ""
        raise DataError(
            f"{place} holds no {'labels' if loose else 'images or labels'} in a layout known here; wanted one of "
            f"{', '.join(known())}; give the folder where a set begins"
            + (f"{flat}; images of one class each go into a folder for each class" if loose else "")
            + ("; what handful drew or made itself is no data" if MADE in passed.values() else "")
            + "".join(f"; {name} is a link to {to}, which is not followed" for name, to in links[:3])
            + (f"; {COPY_LINKED}" if links else "")
        )
    return found


def _sources(place: Path, depth: int, options: dict[str, Any]) -> list[Source]:
    with sniff.remembering(), pairing.remembering():
        return _sources_in(place, depth, options)


def _sources_in(place: Path, depth: int, options: dict[str, Any]) -> list[Source]:
    for name in known():
        if not module(name).detect(place):
            continue
        if name in LAST and depth and place.is_dir():
            # these look into every folder below; one of them may be a set of its own that says more of itself
            found = [s for p in _below(place) for s in _sources_in(p, depth - 1, options) if s.format not in LAST]
            if found:
                return _by_splits(place, found)
        if name in PAIRED:
            return _mask_sources(place, options, name)
        if name == "coco" and place.is_dir() and module("masks").detect(place):
            # the same images often have boxes and pixel masks side by side; who names a folder of masks means those
            masks = _mask_sources(place, options, "masks")
            return masks if options.get("masks") else [Source(name, place, _own(name, options)), *masks]
        if (name in BOXES or getattr(module(name), "MARKS", False)) and place.is_dir():
            own = getattr(module(name), "is_own_map", lambda name: False)
            pictures = [n for n in walk(place) if is_image_name(n) and not own(n)]
            if pairing.find(place, pictures):
                beside = _mask_sources(place, options, "pairs")
                return beside if options.get("masks") else [Source(name, place, _own(name, options)), *beside]
        return [Source(name, place, _own(name, options))]
    if depth and place.is_dir():
        return _by_splits(place, [source for p in _below(place) for source in _sources_in(p, depth - 1, options)])
    return []


def _by_splits(place: Path, found: list[Source]) -> list[Source]:
    """Sets that lie in folders which are splits, as one set; the others as they are."""
    kinds: dict[str, list[Source]] = {}
    for source in found:
        kinds.setdefault(source.title, []).append(source)
    rows: list[Source] = []
    for several in kinds.values():
        splits = {s.place.name for s in several if s.place.parent == place and s.place.name.lower() in LABELED_SPLITS}
        if several and len(splits) == len(several) and not any(s.parts for s in several):
            rows.append(Source(several[0].format, place, several[0].options, tuple(several)))
        else:
            rows += several
    return rows


def _joined(source: Source, on_finding: OnFinding) -> Dataset:
    """The sets of several splits as one. Raises DataError where one id means two classes in them."""
    read = []
    for part in source.parts:
        name = part.place.name

        def told(finding: Finding, name: str = name) -> None:
            file = name if finding.file == "." else f"{name}/{finding.file}"
            on_finding(replace(finding, file=file))

        read.append((name, part.read(told)))
    names: dict[int, Category] = {}
    for split, dataset in read:
        for category in dataset.categories:
            other = names.setdefault(category.id, category)
            if other.name != category.name:
                raise DataError(f"{source.place} calls class {category.id} {other.name!r} in one split and "
                                f"{category.name!r} in {split}; give the splits one by one")  # fmt: skip
    if len({category.name for category in names.values()}) < len(names):
        raise DataError(f"{source.place} has one class under two ids in its splits; give the splits one by one")

    def samples() -> Iterator[Sample]:
        for split, dataset in read:
            for sample in dataset:
                yield sample if sample.split else replace(sample, split=split)

    categories = tuple(names[i] for i in sorted(names))
    return Dataset(source.format, source.place, categories, samples, sum(len(d) for _, d in read), read[0][1].info)


def _below(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))


def _mask_sources(place: Path, options: dict[str, Any], name: str) -> list[Source]:
    trees = [options["masks"]] if options.get("masks") else module(name).mask_trees(place)
    told = {key: options[key] for key in ("threshold",) if key in options}
    return [Source(name, place, {**told, "masks": tree}) for tree in trees]


def _own(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a format that was found is told: where its images are, if it asks; the rest is about finding it."""
    return {"images": options["images"]} if name == "coco" and options.get("images") else {}


def one(place: Path, *, format: str | None = None, **options: Any) -> Source:
    """The one set of labels in a folder. Raises DataError, with what to say, when there are several."""
    found = sources(place, format=format, **options)
    if len(found) > 1:
        said = "; ".join(_choice(s, Path(place)) for s in found)
        raise DataError(f"{place} holds {counted(len(found), 'set')} of labels; name one: {said}")
    return found[0]


def _choice(source: Source, place: Path) -> str:
    """What names one of several sets: its folder, or what to say."""
    if source.place != place:
        return shell(source.place)
    named = " ".join(f"--{FLAGS.get(k, k)} {shell(v)}" for k, v in source.options.items())
    return running.reading(named or f"--format {source.format}", place, "masks")


def with_boxes(place: Path, format: str | None = None) -> str | None:
    """The format of the boxes in a folder or file, whatever else lies beside them; None without."""
    found = [source for source in sources(place, format=format) if source.format in BOXES or _has_marks(source)]
    if len(found) != 1:
        return None
    return found[0].format if format is not None else Found(found[0].format)


def with_labels(place: Path) -> str | None:
    """The format that says the class of each image otherwise than by folders; None where none or several do."""
    found = sources(place)
    if len(found) != 1 or found[0].format in LAST or found[0].format in PAIRED:
        return None
    return found[0].format if any(s.label is not None for s in found[0].read(lambda finding: None)) else None


def _has_marks(source: Source) -> bool:
    """Whether any image has boxes, in a format that may hold boxes or the class of each image."""
    return getattr(module(source.format), "MARKS", False) and any(s.objects for s in source.read(lambda finding: None))


def read(place: Path, *, format: str | None = None, on_finding: OnFinding = stop, **options: Any) -> Dataset:
    """The samples of the one set of labels in a folder, its format found from what lies there."""
    with pairing.remembering():
        return one(place, format=format, **options).read(on_finding)


def write(dataset: Dataset, folder: Path, format: str, *, link: bool = False) -> None:
    """Write a data set into an empty folder in a format. What it cannot hold is not written: see differences.

    Raises DataError for a format that is read only.
    """
    if not hasattr(module(format), "write"):
        raise DataError(f"{format} is read and not written; wanted one of {', '.join(written())}")
    module(format).write(dataset, Writer(folder, link=link))


def written() -> list[str]:
    """The formats that can be written, in the order of known()."""
    return [name for name in known() if hasattr(module(name), "write")]


def copied_as(dataset: Dataset) -> str:
    """The format of a copy of a data set: its own, or one that holds what it has where that is not written."""
    if hasattr(module(dataset.format), "write"):
        return dataset.format
    first = next((s for s in dataset if s.objects is not None or s.label is not None or s.mask is not None), None)
    if first is not None and first.mask is not None and first.objects is None:
        return "masks"
    return "csv_classes" if first is not None and first.objects is None else "coco"
