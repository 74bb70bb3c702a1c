"""COCO: boxes, outlines, run lengths, crowds (instances_*.json) and panoptic maps (panoptic_*.json and PNG).

https://cocodataset.org/#format-data. A file is indexed, not loaded (coco_index.py), so that one of a million labels
takes little more memory than its own size. Read are COCO's own layout, images/SPLIT beside instances_SPLIT.json, one
JSON beside its images, and a JSON in each split's folder. Ids are kept as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from handful.data import coco_panoptic
from handful.data.coco_files import files_in, split_of, tell_others
from handful.data.coco_images import LABEL_FOLDERS, Bound, bind
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
    written_name,
)
from handful.data.finding import Finding, OnFinding, stop
from handful.data.paths import Shelf, relative, safe_name
from handful.data.reading import unless_dropped, upright_size
from handful.data.writing import Writer, image_of
from handful.errors import DataError
from handful.types import Category, Dataset, Object, Sample

PRECEDENCE = 10
TITLE = "COCO JSON (detection, segmentation, keypoints, panoptic)"
TREE = """\
train2017/000000000009.jpg
val2017/000000000139.jpg
annotations/instances_train2017.json   {"images": [{"id": 9, "file_name": "000000000009.jpg", ...}],
                                        "annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 187, 611, 285]}],
                                        "categories": [{"id": 1, "name": "person"}]}
annotations/instances_val2017.json
annotations/panoptic_val2017.json      with annotations/panoptic_val2017/000000000139.png
"""


def detect(folder: Path) -> bool:
    """Whether the folder holds COCO JSON, or is such a file."""
    return bool(files_in(Path(folder)))


@dataclass
class _Group:
    """The files that speak of the same images: boxes and outlines, and perhaps a panoptic map of each."""

    split: str | None
    kinds: dict[str, Index]
    bound: Bound
    shelf: Shelf

    @property
    def first(self) -> Index:
        """The file whose list of images counts."""
        return self.kinds.get("instances") or self.kinds["panoptic"]

    def at(self, name: str) -> str:
        """Where an image lies, as text: a Path for each of many images takes longer than reading their labels."""
        return f"{self.bound.place}/{name}"


def is_own_map(name: str) -> bool:
    """Whether a picture is one of COCO's panoptic maps, which are read with it and are no masks of their own."""
    return any("panoptic" in part.lower() for part in name.split("/")[:-1])


def read(folder: Path, *, on_finding: OnFinding = stop, images: str | Path | None = None) -> Dataset:
    """The samples of a COCO data set, images in the order of the files, then those on disk that no file lists.

    Objects carry boxes, outlines or run lengths; with a panoptic map, `mask` reads the class of each pixel. An image
    on disk without an entry is a sample nobody labeled (objects None), and so is one whose labels could not be used;
    one listed without labels is empty. Which folder a file speaks of is decided for the whole file (coco_images.py).
    on_finding: what to do about a finding (finding.stop: raise DataError at the first error). images: the folder of
    the images, where they do not lie beside the labels. Raises DataError when there is no COCO file, or no such folder.
    """
    folder = Path(folder)
    if images is not None and not Path(images).is_dir():
        raise DataError(f"{images} is not a folder; wanted the one that holds the images of {folder}")
    root = folder.parent if folder.is_file() else folder
    if root.name in LABEL_FOLDERS and folder.is_file():
        root = root.parent
    files = files_in(folder)
    if not files:
        raise DataError(f"{folder} has no COCO JSON in it; wanted instances_SPLIT.json or annotations/*.json")
    if folder.is_dir():
        tell_others(folder, on_finding)
    groups: list[tuple[str | None, dict[str, Index]]] = []
    for file in files:
        kind, split = split_of(file, root)
        part = index(file, root, split, on_finding)
        if part is not None:
            kinds = next((kinds for own, kinds in groups if own == split and kind not in kinds), None)
            if kinds is None:
                groups.append((split, kinds := {}))
            kinds[kind] = part
    every = [part for _, kinds in groups for part in kinds.values()]
    categories = _merged(every, root, on_finding)
    firsts = [kinds.get("instances") or kinds["panoptic"] for _, kinds in groups]
    bound, tree = bind(firsts, root, None if images is None else Path(images), on_finding)
    shelves: dict[Path, Shelf] = {}
    those: list[_Group] = []
    for (split, kinds), first in zip(groups, firsts, strict=True):
        place = bound[first.file].place
        if place not in shelves:
            inside = relative(place, tree.root) if place != tree.root else ""
            shelves[place] = Shelf(place, tree.root, tree.below(inside))
        those.append(_Group(split, kinds, bound[first.file], shelves[place]))
    listed = Counter((g.split, g.at(name)) for g in those for name in set(g.bound.names.values()))
    twice = {key for key, count in listed.items() if count > 1}
    for split, path in sorted(twice, key=str):
        detail = f"is described by two label files of {split or 'one split'}"
        on_finding(
            Finding("two_label_files", relative(Path(path), root), split, detail=detail, cause="images in two files")
        )
    splits: dict[str, list[str]] = {}
    for split, path in listed:
        splits.setdefault(path, []).append(split or "no split")
    for path, several in splits.items():
        if len(several) > 1:
            at, detail = relative(Path(path), root), f"is listed in {' and '.join(several)}"
            on_finding(Finding("same_image_across_splits", at, [at], len(several), detail=detail))
    loose = _loose(those, {path for _, path in listed})

    def samples() -> Iterator[Sample]:
        for group in those:
            skip = {path for split, path in twice if split == group.split}
            yield from _samples(group, skip, categories, root, on_finding)
        for shelf, name, split in loose:
            if shelf.inside(name, on_finding):
                yield Sample(shelf.folder / name, name=name, split=split)

    return Dataset("coco", root, categories, samples, len(listed) + len(loose), _info(those))


def _info(groups: list[_Group]) -> dict[str, Any]:
    """What the files say beside images, labels and classes."""
    about = {g.split or "": g.first.rest["info"] for g in groups if g.first.rest.get("info")}
    licenses = {str(row): row for g in groups for part in g.kinds.values() for row in _licenses(part)}
    more = {g.split or "": rest for g in groups
            if (rest := {k: v for k, v in g.first.rest.items() if k not in ("info", "licenses")})}  # fmt: skip
    return {k: v for k, v in (("about", about), ("licenses", list(licenses.values())), ("more", more)) if v}


def _loose(groups: list[_Group], listed: set[str]) -> list[tuple[Shelf, str, str | None]]:
    """(shelf, name, split) of each image that no file lists, in the folders where others are listed."""
    places = {g.bound.place for g in groups if g.bound.sure}
    found = []
    for place in sorted(places):
        here = [g for g in groups if g.bound.place == place]
        shelf, splits = here[0].shelf, {g.split for g in here}
        tops = {name.split("/")[0] if "/" in name else "" for g in here for name in g.bound.names.values()}
        inner = [f"{p.relative_to(place).as_posix()}/" for p in places if place in p.parents]
        for name in sorted(shelf.images):
            top = name.split("/")[0] if "/" in name else ""
            if f"{place}/{name}" in listed or any(name.startswith(p) for p in inner):
                continue
            if place != shelf.root or not tops or top in tops:
                found.append((shelf, name, splits.copy().pop() if len(splits) == 1 else None))
    return found


def _pass(finding: Finding) -> None:
    """For a second look at what is told when the samples are read."""


def _licenses(part: Index) -> list[dict[str, Any]]:
    rows = part.rest.get("licenses")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _merged(parts: list[Index], root: Path, on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes of all files, by name; where two files disagree about an id, it is told, and the second gives way."""
    by_name: dict[str, Category] = {}
    taken: dict[int, str] = {}
    for part in parts:
        for c in part.categories:
            if taken.get(c.id, c.name) != c.name or by_name.get(c.name, c).id != c.id:
                detail = f"gives the id {c.id} to {c.name!r}; another file says otherwise"
                on_finding(Finding("category_mismatch", relative(part.file, root), c.id, detail=detail))
            own = by_name.get(c.name)
            number = c.id if c.id not in taken else max(taken) + 1
            if own is None or (own.thing is None and c.thing is not None):
                own = replace(c, id=number if own is None else own.id)
            by_name[c.name] = own
            taken.setdefault(own.id, c.name)
    return tuple(by_name.values())


def _samples(
    group: _Group, skip: set[str], categories: tuple[Category, ...], root: Path, on_finding: OnFinding
) -> Iterator[Sample]:
    part, panoptic, names, shelf = group.first, group.kinds.get("panoptic"), group.bound.names, group.shelf
    file = relative(part.file, root)
    licenses = {identifier(row.get("id")): str(row.get("name") or row.get("url") or row.get("id"))
                for row in _licenses(part)}  # fmt: skip
    entries: dict[str, list[Any]] = {}
    if len(set(names.values())) < len(part.images):  # some are listed twice
        for row in part.rows(_pass, root):
            entries.setdefault(names.get(str(written_name(row)), ""), []).append(row.get("id"))
    seen: set[str] = set()
    label_ids: set[Any] = set()
    for row in part.rows(on_finding, root):
        key, name = row.get("id"), names.get(str(written_name(row)))
        if key in part.doubled or name is None or group.at(name) in skip or not shelf.inside(name, on_finding):
            continue
        if name in seen:
            on_finding(Finding("duplicate_image", file, name, detail=f"lists {name} twice"))
            continue
        seen.add(name)
        size = size_of(row) or _measured(row, name, group, file, root, on_finding)
        license = identifier(row.get("license"))
        if license not in (None, 0) and license not in licenses:
            on_finding(
                Finding("unknown_license", file, str(license), detail=f"{name} has the license {license}, not listed")
            )
        keys = entries.get(name, [key])
        objects: tuple[Object, ...] | None = None
        dropped = 0
        if part is not panoptic and part.has_labels:
            rows = [label for k in keys for label in part.labels_of(k, on_finding, root)]
            for label in rows:  # an id used twice was told when the file was indexed; here the second loses it
                label_id = identifier(label.get("id"))
                if label_id in label_ids:
                    label.pop("id", None)
                else:
                    label_ids.add(label_id)
            found = (object_of(label, part.names, size, on_finding, file=file) for label in rows)
            things = [thing for thing in found if thing is not None]
            listed = sum(len(part.labels.get(k, ())) for k in keys)
            objects, dropped = unless_dropped(things, listed), listed - len(things)
        mask = mask_path = None
        if panoptic is not None:
            mask_row = next((r for k in keys for r in panoptic.labels_of(k, on_finding, root)), None)
            png = _panoptic_png(panoptic, mask_row, root)
            if mask_row is not None and png is not None:
                of = relative(panoptic.file, root)
                mask_path = png
                mask = coco_panoptic.mask_reader(png, mask_row, panoptic.names, categories, root, on_finding, of)
                if part is panoptic and any(c.thing for c in categories):
                    objects = coco_panoptic.objects_of(png, mask_row, panoptic.names, categories, root, on_finding, of)
        attributes = attributes_of(row, IMAGE_KEYS, on_finding, file=file, what=f"the image {name}")
        yield Sample(
            group.bound.place / name, objects=objects, mask=mask, mask_path=mask_path, name=name, split=group.split,
            size_wh=size, license=licenses.get(license), attributes=attributes, dropped=dropped,
        )  # fmt: skip


def _measured(
    row: Mapping[str, Any], name: str, group: _Group, file: str, root: Path, on_finding: OnFinding
) -> tuple[int, int] | None:
    """The size of an image whose entry does not say it, from the image."""
    size = upright_size(Path(group.at(name)), root, on_finding)
    if size is not None:
        said = [row.get("width"), row.get("height")]
        detail = f"says that {name} is {str(said[0])[:20]} x {str(said[1])[:20]} px; it has {size[0]} x {size[1]}"
        cause = "sizes that are not said are read from the images"
        on_finding(Finding("no_size", file, [str(v)[:20] for v in said], detail=detail, cause=cause))
    return size


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
    for split in (splits or {None}) - {split for _, split in outs}:
        out("instances", split)  # a list of nothing says that the folder is a split, whose images nobody looked at
    about = dataset.info.get("about") or {}
    for (_, split), to in outs.items():
        rest: dict[str, Any] = {"info": about[split or ""]} if about.get(split or "") else {}
        if dataset.info.get("licenses"):
            rest["licenses"] = dataset.info["licenses"]
        rest |= (dataset.info.get("more") or {}).get(split or "", {})
        to.close({**rest, "categories": [category_row(c) for c in dataset.categories]})
