"""Which format a folder is in, and the one way to read and write any of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import handful.data
from handful.data import sniff
from handful.data.archive import opened
from handful.data.finding import OnFinding, stop
from handful.data.writing import Writer
from handful.errors import DataError
from handful.pick import names, pick
from handful.types import Dataset
from handful.words import counted

BOXES = ("coco", "voc", "yolo")
FLAGS = {"masks": "masks-in"}  # what the commands call an option of a reader
DEPTH = 3  # how far below a folder label sets are looked for


@dataclass(frozen=True)
class Source:
    """One set of labels on disk: its format, its folder, and what the reader must be told (which masks, ...)."""

    format: str
    place: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The format, with what tells this set from others in the same folder."""
        return self.format + "".join(f" {value}" for value in self.options.values() if isinstance(value, str))

    def read(self, on_finding: OnFinding = stop) -> Dataset:
        """The samples; see the format's own read(). Raises DataError for an option that the format does not have."""
        reader = module(self.format).read
        odd = [name for name in self.options if name not in inspect.signature(reader).parameters]
        if odd:
            raise DataError(f"--{FLAGS.get(odd[0], odd[0])} is nothing that {self.format} has; leave it out")
        dataset: Dataset = reader(self.place, on_finding=on_finding, **self.options)
        return dataset


def module(name: str) -> ModuleType:
    """The module of a format. Raises UnknownName with the nearest real one."""
    return pick(handful.data, "format", name)


def known() -> list[str]:
    """The formats there are, most specific first: the order in which a folder is tried."""
    return sorted(names(handful.data, "format"), key=lambda name: (getattr(module(name), "PRECEDENCE", 50), name))


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
        return [Source(format, place, options)]
    if options.get("flat"):
        return [Source("folder", place, options)]
    found = _sources(place, DEPTH, options)
    if not found:
        raise DataError(
            f"{place} holds no images or labels in a layout known here; wanted one of {', '.join(known())}; "
            "give it with --format if you know it"
        )
    return found


def _sources(place: Path, depth: int, options: dict[str, Any]) -> list[Source]:
    with sniff.remembering():
        return _sources_in(place, depth, options)


def _sources_in(place: Path, depth: int, options: dict[str, Any]) -> list[Source]:
    for name in known():
        if not module(name).detect(place):
            continue
        if name == "masks":
            return _mask_sources(place, options)
        if name == "coco" and place.is_dir() and module("masks").detect(place):
            # the same images often have boxes and pixel masks side by side; who names a folder of masks means those
            masks = _mask_sources(place, options)
            return masks if options.get("masks") else [Source(name, place, _own(name, options)), *masks]
        return [Source(name, place, _own(name, options))]
    if depth and place.is_dir():
        below = sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
        return [source for p in below for source in _sources_in(p, depth - 1, options)]
    return []


def _own(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a format that was found is told: where its images are, if it asks; the rest is about finding it."""
    return {"images": options["images"]} if name == "coco" and options.get("images") else {}


def _mask_sources(place: Path, options: dict[str, Any]) -> list[Source]:
    trees = [options["masks"]] if options.get("masks") else module("masks").mask_trees(place)
    return [Source("masks", place, {"masks": tree}) for tree in trees]


def one(place: Path, *, format: str | None = None, **options: Any) -> Source:
    """The one set of labels in a folder. Raises DataError, with what to say, when there are several."""
    found = sources(place, format=format, **options)
    if len(found) > 1:
        said = "; ".join(
            str(s.place)
            if s.place != Path(place)
            else " ".join(f"--{FLAGS.get(k, k)} {v}" for k, v in s.options.items()) or f"--format {s.format}"
            for s in found
        )
        raise DataError(f"{place} holds {counted(len(found), 'set')} of labels; name one: {said}")
    return found[0]


def with_boxes(place: Path, format: str | None = None) -> str | None:
    """The format of the boxes in a folder or file, whatever else lies beside them; None without."""
    found = [source for source in sources(place, format=format) if source.format in BOXES or _has_marks(source)]
    return found[0].format if len(found) == 1 else None


def _has_marks(source: Source) -> bool:
    """Whether any image has boxes, in a format that may hold boxes or the class of each image."""
    return getattr(module(source.format), "MARKS", False) and any(s.objects for s in source.read(lambda finding: None))


def read(place: Path, *, format: str | None = None, on_finding: OnFinding = stop, **options: Any) -> Dataset:
    """The samples of the one set of labels in a folder, its format found from what lies there."""
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
    first = next((s for s in dataset if s.objects is not None or s.label is not None), None)
    return "csv_classes" if first is not None and first.objects is None else "coco"
