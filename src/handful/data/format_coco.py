"""COCO: boxes, outlines, run lengths, crowds (instances_*.json) and panoptic maps (panoptic_*.json and PNG).

https://cocodataset.org/#format-data. A file is indexed, not loaded (coco_index.py), so that one of a million labels
takes little more memory than its own size. Read are COCO's own layout, images/SPLIT beside instances_SPLIT.json, one
JSON beside its images, and a JSON in each split's folder. Ids are kept as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from handful.data import coco_panoptic
from handful.data.coco_index import Index, index
from handful.data.coco_rows import (
    IMAGE_KEYS,
    attributes_of,
    category_row,
    identifier,
    image_row,
    label_row,
    object_of,
    size_of,
)
from handful.data.finding import Finding, OnFinding, stop
from handful.data.paths import Shelf, relative, safe_name
from handful.data.writing import Writer, image_of
from handful.errors import DataError
from handful.types import Category, Dataset, Object, Sample

PRECEDENCE = 10
_NAME = re.compile(r"^(?P<kind>instances|panoptic|stuff|_?annotations(\.coco)?)?[_-]?(?P<split>.*)$")
_SNIFF_BYTES = 1 << 16


def detect(folder: Path) -> bool:
    """Whether the folder holds COCO JSON, or is such a file."""
    return bool(_files(Path(folder)))


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder] if folder.suffix.lower() == ".json" and _looks_like(folder) else []
    places = [folder.glob("*.json"), folder.glob("annotations/*.json"), folder.glob("*/_annotations.coco.json")]
    found = [p for place in places for p in sorted(place) if not p.name.startswith(".")]
    named = [p for p in found if p.name.startswith(("instances", "panoptic"))]
    # captions and keypoints repeat the same images; with files named as COCO names them, only those are read
    return named or [p for p in found if _looks_like(p)]


def _looks_like(file: Path) -> bool:
    """From the file's ends: "images" and "annotations" or "categories" are lists at the top of it."""
    try:
        with open(file, "rb") as opened:
            start = opened.read(_SNIFF_BYTES)
            opened.seek(max(0, file.stat().st_size - _SNIFF_BYTES))
            text = start + opened.read(_SNIFF_BYTES)
    except OSError:
        return False
    keys = {key for key in (b"images", b"annotations", b"categories") if re.search(rb'"%s"\s*:\s*\[' % key, text)}
    return len(keys) >= 2 or (not text.strip() and file.parent.name == "annotations")


def _split_of(file: Path, root: Path) -> tuple[str, str | None]:
    """("instances" or "panoptic", split) from a file's name, or from its folder's for Roboflow's layout."""
    match = _NAME.match(file.stem)
    kind = "panoptic" if match and match["kind"] == "panoptic" else "instances"
    split = (match["split"] if match else file.stem) or None
    if split is None and file.parent != root and file.parent.name != "annotations":
        split = file.parent.name
    return kind, split


def _images_of(part: Index, root: Path, on_finding: OnFinding) -> Path:
    """The folder the images of a file lie in: the first of the usual places that has the first image listed."""
    split = part.split or ""
    base = part.file.parent
    places = [root / "images" / split, root / split, root / "images", root / f"{split}2017", base / "images",
              base / split, base, root / "train2017", root / "val2017", root]  # fmt: skip
    names = [str(row.get("file_name")) for row, _ in zip(part.rows(_pass, root), range(20), strict=False)]
    for place in places:
        if any((place / name).is_file() for name in names if "\0" not in name and len(name) < 255):
            return place
    return next((p for p in places if p.is_dir()), root)


def read(folder: Path, *, on_finding: OnFinding = stop, images: str | Path | None = None) -> Dataset:
    """The samples of a COCO data set, images in the order of the files, then those on disk that no file lists.

    Objects carry boxes, outlines or run lengths; with a panoptic map, `mask` reads the class of each pixel. An image
    on disk without an entry is a sample nobody labeled (objects None); one listed without labels is empty. tell:
    what to do about a finding (finding.stop: raise DataError at the first error). images: the folder of the images,
    where they do not lie beside the labels. Raises DataError when there is no COCO file, or no such folder.
    """
    folder = Path(folder)
    if images is not None and not Path(images).is_dir():
        raise DataError(f"{images} is not a folder; wanted the one that holds the images of {folder}")
    root = folder.parent if folder.is_file() else folder
    if root.name == "annotations" and folder.is_file():
        root = root.parent
    parts: dict[str | None, dict[str, Index]] = {}
    for file in _files(folder):
        kind, split = _split_of(file, root)
        part = index(file, root, split, on_finding)
        if part is not None:
            parts.setdefault(split, {})[kind] = part
    if not parts and not _files(folder):
        raise DataError(f"{folder} has no COCO JSON in it; wanted instances_SPLIT.json or annotations/*.json")
    every = [part for kinds in parts.values() for part in kinds.values()]
    categories = _merged(every, root, on_finding)
    shelves: dict[Path, Shelf] = {}
    listed: dict[Path, set[str]] = {}
    for kinds in parts.values():
        first = kinds.get("instances") or kinds["panoptic"]
        place = Path(images) if images is not None else _images_of(first, root, on_finding)
        shelves.setdefault(place, Shelf(place, root))
        for part in kinds.values():
            part.folder = place
        names = listed.setdefault(place, set())
        for row in first.rows(_pass, root):
            names.add(shelves[place].find(row.get("file_name"), _pass, file="") or "")
    loose = {place: sorted(shelf.images - listed[place] - _below(place, shelves)) for place, shelf in shelves.items()}
    of_place = {(k.get("instances") or k["panoptic"]).folder: split for split, k in parts.items()}

    def samples() -> Iterator[Sample]:
        for split, kinds in parts.items():
            yield from _samples(split, kinds, shelves, categories, root, on_finding)
        for place, names in loose.items():
            for name in names:
                if shelves[place].inside(name, on_finding):
                    yield Sample(place / name, name=name, split=of_place[place])

    about = {split or "": value for split, k in parts.items() if (value := next(iter(k.values())).rest.get("info"))}
    licenses = {str(row): row for part in every for row in _licenses(part)}
    info = {key: value for key, value in (("about", about), ("licenses", list(licenses.values()))) if value}
    count = sum(len((k.get("instances") or k["panoptic"]).images) for k in parts.values())
    return Dataset("coco", root, categories, samples, count + sum(map(len, loose.values())), info)


def _pass(finding: Finding) -> None:
    """For a second look at what is told when the samples are read."""


def _licenses(part: Index) -> list[dict[str, Any]]:
    rows = part.rest.get("licenses")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _below(place: Path, shelves: dict[Path, Shelf]) -> set[str]:
    """Names on a shelf that belong to another shelf inside it."""
    inner = [p for p in shelves if p != place and place in p.parents]
    return {f"{p.relative_to(place).as_posix()}/{name}" for p in inner for name in shelves[p].images}


def _merged(parts: list[Index], root: Path, on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes of all files; two files that disagree about an id or a name are told."""
    by_id: dict[int, Category] = {}
    by_name: dict[str, int] = {}
    for part in parts:
        for c in part.categories:
            if by_id.get(c.id, c).name != c.name or by_name.get(c.name, c.id) != c.id:
                detail = f"gives the id {c.id} to {c.name!r}; another file says otherwise"
                on_finding(Finding("duplicate_category", relative(part.file, root), c.id, detail=detail))
                continue
            by_id[c.id] = by_id.get(c.id) or c
            if c.thing is not None:
                by_id[c.id] = c
            by_name[c.name] = c.id
    return tuple(by_id.values())


def _samples(
    split: str | None, kinds: dict[str, Index], shelves: dict[Path, Shelf], categories: tuple[Category, ...],
    root: Path, on_finding: OnFinding,
) -> Iterator[Sample]:  # fmt: skip
    part = kinds.get("instances") or kinds["panoptic"]
    panoptic = kinds.get("panoptic")
    file = relative(part.file, root)
    known = {c.name for c in categories}
    names = {c.id: c.name for c in part.categories if c.name in known}
    licenses = {identifier(row.get("id")): str(row.get("name") or row.get("url") or row.get("id"))
                for row in _licenses(part)}  # fmt: skip
    shelf = shelves[part.folder]
    seen: set[str] = set()
    label_ids: set[Any] = set()
    for row in part.rows(on_finding, root):
        key = row.get("id")
        if key in part.doubled:
            continue
        name = shelf.find(row.get("file_name"), on_finding, file=file)
        if name is None:
            continue
        if name in seen:
            on_finding(Finding("duplicate_image", file, name, detail=f"lists {name} twice"))
            continue
        seen.add(name)
        size = size_of(row)
        if size is None:
            value = [row.get("width"), row.get("height")]
            detail = f"says that {name} is {value[0]} x {value[1]} px"
            on_finding(Finding("broken_label", file, str(value), detail=detail))
        license = identifier(row.get("license"))
        if license not in (None, 0) and license not in licenses:
            on_finding(
                Finding("unknown_license", file, str(license), detail=f"{name} has the license {license}, not listed")
            )
        objects: tuple[Object, ...] | None = None
        if part is not panoptic and part.has_labels:
            rows = list(part.labels_of(key, on_finding, root))
            for label in rows:  # an id used twice was told when the file was indexed; here the second loses it
                label_id = identifier(label.get("id"))
                if label_id in label_ids:
                    label.pop("id", None)
                else:
                    label_ids.add(label_id)
            found = (object_of(label, names, size, on_finding, file=file) for label in rows)
            objects = tuple(thing for thing in found if thing is not None)
        mask = mask_path = None
        if panoptic is not None:
            mask_row = next(panoptic.labels_of(key, on_finding, root), None)
            png = _panoptic_png(panoptic, mask_row, root)
            if mask_row is not None and png is not None:
                of = relative(panoptic.file, root)
                mask_path = png
                mask = coco_panoptic.mask_reader(png, mask_row, categories, root, on_finding, of)
                if objects is None and any(c.thing for c in categories):
                    objects = coco_panoptic.objects_of(png, mask_row, categories, root, on_finding, of)
        attributes = attributes_of(row, IMAGE_KEYS, on_finding, file=file, what=f"the image {name}")
        yield Sample(
            part.folder / name, objects=objects, mask=mask, mask_path=mask_path, name=name, split=split, size_wh=size,
            license=licenses.get(license), attributes=attributes,
        )  # fmt: skip


def _panoptic_png(part: Index, row: dict[str, Any] | None, root: Path) -> Path | None:
    name = safe_name((row or {}).get("file_name"))
    return part.file.parent / part.file.stem / name if name is not None else None


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can hold and UTF-8 cannot
        text = json.dumps(value, allow_nan=False)
    return text


class _Out:
    """One split being written: the images go straight to the file, the annotations to another until the end."""

    def __init__(self, folder: Path, kind: str, split: str | None) -> None:
        self.path = folder / "annotations" / (f"{kind}_{split}.json" if split else f"{kind}.json")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.later = self.path.with_suffix(".rows")
        self.file: IO[str] = open(self.path, "w", encoding="utf-8")  # noqa: SIM115, closed in close()
        self.rows: IO[str] = open(self.later, "w", encoding="utf-8")  # noqa: SIM115
        self.counts = [0, 0]
        self.ids: tuple[set[Any], set[Any]] = (set(), set())
        self.file.write('{"images": [')

    def free(self, which: int, wanted: Any) -> Any:
        """The id wanted, if nothing has it yet, or else the next number."""
        taken = self.ids[which]
        if not isinstance(wanted, int | str) or isinstance(wanted, bool) or wanted in taken:
            wanted = self.counts[which] + 1
            while wanted in taken:
                wanted += 1
        taken.add(wanted)
        return wanted

    def add(self, which: int, row: dict[str, Any]) -> None:
        file = (self.file, self.rows)[which]
        file.write((",\n" if self.counts[which] else "\n") + _json(row))
        self.counts[which] += 1

    def close(self, rest: dict[str, Any]) -> None:
        self.rows.close()
        self.file.write('\n],\n"annotations": [')
        with open(self.later, encoding="utf-8") as rows:
            while block := rows.read(1 << 20):
                self.file.write(block)
        self.file.write("\n]")
        for key, value in rest.items():
            self.file.write(f',\n"{key}": {_json(value)}')
        self.file.write("}\n")
        self.file.close()
        self.later.unlink()


def write(dataset: Dataset, writer: Writer) -> None:
    """Write annotations/instances_SPLIT.json (and panoptic_SPLIT.json with PNG for masks) and images/SPLIT/.

    An image nobody labeled (objects None, no mask) is copied and not listed. Ids given as attributes are kept.
    """
    ids = {c.name: c.id for c in dataset.categories}
    outs: dict[tuple[str, str | None], _Out] = {}
    splits: set[str | None] = set()

    def out(kind: str, split: str | None) -> _Out:
        if (kind, split) not in outs:
            outs[kind, split] = _Out(writer.folder, kind, split)
        return outs[kind, split]

    for sample in dataset:
        folder = f"images/{sample.split}" if sample.split else "images"
        name = str(PurePosixPath(writer.image(sample, f"{folder}/{sample.name}")).relative_to(folder))
        splits.add(sample.split)
        if sample.objects is None and sample.mask is None:
            continue
        size = sample.size_wh or image_of(sample).size_wh
        stem = PurePosixPath(name).stem
        wanted = sample.attributes.get("id", int(stem) if stem.isascii() and stem.isdigit() else None)
        if sample.objects is not None:
            to = out("instances", sample.split)
            key = to.free(0, wanted)
            to.add(0, image_row(sample, key, name, size))
            for thing in sample.objects:
                number = to.free(1, thing.attributes.get("id"))
                to.add(1, label_row(thing, number, key, ids[thing.label], size))
        if sample.mask is not None:
            to = out("panoptic", sample.split)
            key = to.free(0, wanted)
            png = str(PurePosixPath(name).with_suffix(".png"))
            picture, segments = coco_panoptic.encode(sample.mask(), sample.objects or (), ids, size)
            picture.save(writer.path(f"annotations/{to.path.stem}/{png}"), format="PNG")
            to.add(0, image_row(sample, key, name, size))
            to.add(1, {"image_id": key, "file_name": png, "segments_info": segments})
    for split in splits - {split for _, split in outs}:
        out("instances", split)  # a list of nothing says that the folder is a split, whose images nobody looked at
    about = dataset.info.get("about") or {}
    for (_, split), to in outs.items():
        rest: dict[str, Any] = {"info": about[split or ""]} if about.get(split or "") else {}
        if dataset.info.get("licenses"):
            rest["licenses"] = dataset.info["licenses"]
        to.close({**rest, "categories": [category_row(c) for c in dataset.categories]})
