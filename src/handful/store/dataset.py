"""Whole data sets into the store and out of it again, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from handful.data.shapes import pixels_of
from handful.errors import DataError
from handful.files import sha256
from handful.pick import need
from handful.progress import track
from handful.store import queries as read
from handful.store.annotations import OBJECTS, Annotation, Label, box_at, checked_text, plain_json
from handful.store.database import Database
from handful.store.images import add_source, clip_ids, clip_names, place_of, root_of, stored_image, to_category
from handful.store.revisions import Revision, insert_all
from handful.store.tables import CategoryRow, HistoryRow, ImageRow, LabelRow, Source
from handful.types import Category, Dataset, Image, Mask, Object, Rle, Sample

PAGE = 200  # images in memory at once on the way out


@dataclass(frozen=True)
class Added:
    """What came in. skipped: images that were there already. refused: what could not be meant, one line each."""

    images: int
    labels: int
    skipped: int
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ready:
    row: dict[str, Any]
    clip: str | None
    annotations: list[Annotation]

    @property
    def key(self) -> tuple[str, str]:
        return self.row["split"], self.row["name"]


def bring_in(
    database: Database,
    begin: Callable[[], AbstractContextManager[Revision]],
    dataset: Dataset,
    *,
    batch: int,
    skip_bad: bool,
    hashes: bool,
) -> Added:
    """Add the images of a data set that are not there yet, one revision a batch."""
    with database.writing() as db:
        source = add_source(db, database.folder, dataset.root, dataset.format, plain_json(dataset.info, "the data set"))
        add_categories(db, dataset.categories)
    names = {c.id: c.name for c in dataset.categories}
    refused: list[str] = []
    images = labels = skipped = 0
    # numbers instead of the names themselves: a million images are some 60 MB
    seen: set[int] = set()
    for part in read.chunks(track(dataset, "importing", total=len(dataset)), batch):
        keyed = []
        for sample in part:
            key = sample.split or "", sample.name or place_of(sample.path, dataset.root)[1]
            if hash(key) in seen:
                _bad(f"{dataset.root}: two images are named {key[1]!r} in split {sample.split!r}", skip_bad, refused)
                continue
            seen.add(hash(key))
            keyed.append((key, sample))
        with database.reading() as db:
            there = _there(db, [key for key, _ in keyed])
        ready = []
        for key, sample in keyed:
            if key not in there:
                try:
                    ready.append(_ready(sample, key, dataset.root, source, names, hashes, skip_bad, refused))
                except DataError as error:
                    _bad(str(error), skip_bad, refused)
        new = _keep(begin, ready) if ready else (0, 0)
        images, labels, skipped = images + new[0], labels + new[1], skipped + len(there)
        skipped += len(ready) - new[0]
    return Added(images, labels, skipped, tuple(refused))


def _keep(begin: Callable[[], AbstractContextManager[Revision]], ready: Sequence[_Ready]) -> tuple[int, int]:
    with begin() as revision:
        there = _there(revision.db, [one.key for one in ready])  # again: another import may have been quicker
        ready = [one for one in ready if one.key not in there]
        clips = clip_ids(revision.db, {(one.row["split"], one.clip) for one in ready if one.clip is not None})
        first = read.next_id(revision.db, ImageRow.id)
        rows = [
            {"id": i, **one.row, "clip_id": None if one.clip is None else clips[one.row["split"], one.clip]}
            for i, one in enumerate(ready, first)
        ]
        insert_all(revision.db, insert(ImageRow), rows)
        return len(rows), revision.add_many(
            [(i, annotation) for i, one in enumerate(ready, first) for annotation in one.annotations]
        )


def _bad(text: str, skip: bool, refused: list[str]) -> None:
    if not skip:
        raise DataError(
            f"{text}; fix it, or import with skip_bad; what came in before it stays, and is skipped next time"
        )
    refused.append(text)


def _ready(
    sample: Sample,
    key: tuple[str, str],
    root: Path,
    source: int,
    names: Mapping[int, str],
    hashes: bool,
    skip_bad: bool,
    refused: list[str],
) -> _Ready:
    attributes = plain_json(sample.attributes, key[1])
    uri = attributes.get("uri")
    if isinstance(uri, str) and "://" in uri and Path(uri) == sample.path:
        inside, path = False, attributes.pop("uri")
    else:
        inside, path = place_of(sample.path, root)
    width, height = sample.size_wh or (None, None)
    row = {
        "source_id": source if inside else None,
        "path": checked_text(path, "the path"),
        "split": checked_text(key[0], "the split"),
        "name": checked_text(key[1], "the name"),
        "sha256": sha256(sample.path) if hashes else None,
        "width": width,
        "height": height,
        "licence": sample.license,
        "frame": sample.frame,
        "packed": sample.pixels is not None,
        "attributes": attributes,
    }
    annotations: list[Annotation] = []

    def say(make: Callable[[], list[Annotation]]) -> None:
        try:
            for annotation in make():
                annotation = annotation.checked(sample.size_wh)
                if annotation.label is not None and annotation.label not in known:
                    raise DataError(f"the class {annotation.label!r} is none of the data set's categories")
                annotations.append(annotation)
        except DataError as error:
            _bad(f"{sample.path}: {error}", skip_bad, refused)

    known = set(names.values())
    if sample.label is not None:
        say(lambda: [Annotation("tag", sample.label)])
    for thing in sample.objects or ():
        say(lambda thing=thing: [Annotation.of(thing)])  # type: ignore[misc]
    if sample.objects == ():
        say(lambda: [Annotation("empty")])
    if sample.mask is not None:
        read_mask = sample.mask
        say(lambda: areas_of(read_mask(), names))
    return _Ready(row, sample.clip, annotations)


def _there(db: Connection, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of (split, name) that the store has."""
    found = set()
    for split in {split for split, _ in keys}:
        for part in read.chunks(name for s, name in keys if s == split):
            query = select(ImageRow.name).where(ImageRow.split == split, ImageRow.name.in_(part))
            found |= {(split, name) for name in db.scalars(query)}
    return found


def add_categories(db: Connection, categories: Sequence[Category]) -> None:
    """Add those whose name is new; each keeps its id when that is free, and gets the next one otherwise."""
    names = read.class_names(db)
    known, rows = set(names.values()), []
    for c in categories:
        if c.name not in known:
            id = c.id if c.id not in names else max(names) + 1
            names[id] = checked_text(c.name, "the class")
            rgb = None if c.rgb is None else list(map(int, c.rgb))
            rows.append({"id": id, "name": c.name, "parent": c.parent, "thing": c.thing, "rgb": rgb})
            known.add(c.name)
    insert_all(db, insert(CategoryRow), rows)


def areas_of(mask: Mask, names: Mapping[int, str]) -> list[Annotation]:
    """A mask as one mark a class that is in it, and one for the pixels nobody decided on. names: classes by id.

    Raises DataError for an id that is no class.
    """
    coder = need("pycocotools.mask", "data")
    height, width = mask.ids.shape
    wide, annotations = mask.ids.dtype == np.uint16, []
    for value in np.unique(mask.ids).tolist():
        counts = coder.encode(np.asfortranarray(mask.ids == value).view(np.uint8))["counts"]
        rle = Rle((height, width), bytes(counts))
        if value == mask.ignore:
            annotations.append(Annotation("ignore", rle=rle, wide=wide))
        elif value in names:
            annotations.append(Annotation("area", names[value], rle=rle, wide=wide))
        else:
            raise DataError(f"the mask holds {value}, which is none of the data set's categories")
    return annotations


def mask_of(annotations: Sequence[Annotation], ids: Mapping[str, int]) -> Mask:
    """The mask that "area" and "ignore" annotations came from. ids: of the classes; pixels without one are ignored."""
    first = annotations[0].rle
    if first is None:
        raise DataError(f"an annotation of kind {annotations[0].kind} has no pixels; wanted an area")
    # a class may have another id here than it had where it came from
    top = max((ids[annotation.label] for annotation in annotations if annotation.label is not None), default=0)
    dtype = np.uint16 if top >= 255 or any(annotation.wide for annotation in annotations) else np.uint8
    if top >= 65535:
        raise DataError(f"the class id {top} does not fit in a mask; wanted one below 65535")
    values = np.full(first.size_hw, np.iinfo(dtype).max, dtype=dtype)
    for annotation in annotations:
        if annotation.rle is not None and annotation.label is not None:
            values[pixels_of(annotation.rle)] = ids[annotation.label]
    return Mask(values)


def take_out(database: Database, at: int | datetime | None) -> Dataset:
    """The store as a data set, as it is now or was at a revision or moment; read a page at a time when iterated."""
    with database.reading() as db:
        revision = read.last_revision(db) if at is None else read.revision_at(db, at)
        count, last = db.execute(select(func.count(), func.coalesce(func.max(ImageRow.id), 0))).one()
        categories = tuple(to_category(row) for row in db.execute(_all(CategoryRow)))
        sources = {row.id: row for row in db.execute(_all(Source))}
    roots = {id: root_of(database.folder, row.root) for id, row in sources.items()}
    ids = {c.name: c.id for c in categories}
    only = next(iter(sources.values())) if len(sources) == 1 else None
    root = roots[only.id] if only else database.folder or Path()

    def samples() -> Iterator[Sample]:
        done = 0
        while done < last:
            with database.reading() as db:  # short, so that nothing is held while somebody trains
                page = _page(db, done, last, revision)
            if not page.rows:
                return
            for row in page.rows:
                yield _sample(row, page, roots, ids)
            done = page.rows[-1].id

    return Dataset("store", root, categories, samples, count, only.info if only else {})


@dataclass(frozen=True)
class _Page:
    rows: Sequence[Any]
    labels: Mapping[int, list[Label]]
    tracks: Mapping[int, list[Label]]
    clips: Mapping[int, str]


def _page(db: Connection, after: int, last: int, revision: int) -> _Page:
    query = _all(ImageRow).where(ImageRow.id > after, ImageRow.id <= last).limit(PAGE)
    rows = db.execute(query).all()
    if not rows:
        return _Page((), {}, {}, {})
    names = read.class_names(db)
    low, high = rows[0].id, rows[-1].id
    clips = sorted({row.clip_id for row in rows if row.clip_id is not None})
    if read.last_revision(db) == revision:
        labels = read.labels_now(db, names, LabelRow.image_id.between(low, high))
        tracks = read.labels_now(db, names, LabelRow.clip_id.in_(clips)) if clips else []
    else:
        labels = read.labels_then(db, names, revision, HistoryRow.image_id.between(low, high))
        tracks = read.labels_then(db, names, revision, HistoryRow.clip_id.in_(clips)) if clips else []
    by_image: dict[int, list[Label]] = {}
    by_clip: dict[int, list[Label]] = {}
    for label in labels:
        by_image.setdefault(label.image or 0, []).append(label)
    for label in tracks:
        by_clip.setdefault(label.clip or 0, []).append(label)
    return _Page(rows, by_image, by_clip, clip_names(db, clips))


def _sample(row: Any, page: _Page, roots: Mapping[int, Path], ids: Mapping[str, int]) -> Sample:
    photo = stored_image(row, roots, page.clips)
    annotations = [label.annotation for label in page.labels.get(row.id, ())]
    tags = [annotation.label for annotation in annotations if annotation.kind == "tag"]
    areas = [annotation for annotation in annotations if annotation.kind in ("area", "ignore")]
    things = [annotation.object() for annotation in annotations if annotation.kind in OBJECTS]
    if row.frame is not None and row.clip_id is not None:
        things += objects_at(page.tracks.get(row.clip_id, ()), row.frame)
    empty = any(annotation.kind == "empty" for annotation in annotations)
    attributes = {**photo.attributes, **({"uri": photo.uri} if photo.uri else {})}
    if len(tags) > 1:
        attributes["tags"] = tags  # a sample has one class only: the first
    return Sample(
        photo.path,
        label=tags[0] if tags else None,
        objects=tuple(things) if things or empty else None,
        mask=(lambda: mask_of(areas, ids)) if areas else None,
        name=photo.name,
        split=photo.split,
        size_wh=photo.size_wh,
        clip=photo.clip,
        frame=photo.frame,
        license=photo.license,
        attributes=attributes,
        pixels=_packed(photo.path) if row.packed else None,
    )


def objects_at(tracks: Sequence[Label], frame: int) -> list[Object]:
    """What the tracks of a clip show in one frame; "interpolated" among the attributes where nobody drew it."""
    found = []
    for annotation in (label.annotation for label in tracks):
        box = box_at(annotation.keyframes, frame)
        if box is not None and annotation.label is not None:
            drawn = any(key.frame == frame for key in annotation.keyframes)
            attributes = {**annotation.attributes, **({} if drawn else {"interpolated": True})}
            found.append(
                Object(annotation.label, box, crowd=annotation.crowd, track=annotation.track, attributes=attributes)
            )
    return found


def _packed(path: Path) -> Callable[[], Image]:
    def fail() -> Image:
        raise DataError(f"the image lies inside {path}, among others; read that with its own format to see it")

    return fail


def _all(table: Any) -> Any:
    return select(*table.__table__.c).order_by(table.id)
