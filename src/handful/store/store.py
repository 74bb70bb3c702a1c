"""The labeling store: what people said of images and clips, who said it and when, with undo and redo.

with Store.open("labels") as store:
    store.add_category("cat")
    image = store.add_image("images/1.jpg", size_wh=(640, 480))
    label = store.add(image, Object("cat", box_px=(10, 20, 200, 220)), author="ann")
    store.undo()
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from handful.errors import DataError
from handful.store import dataset as exchange
from handful.store import images
from handful.store import queries as read
from handful.store.annotations import Annotation, Change, Keyframe, Label, plain_json
from handful.store.check import problems
from handful.store.database import Database
from handful.store.dataset import Added
from handful.store.images import StoredImage
from handful.store.revisions import Revision
from handful.store.tables import CategoryRow, ClipRow, HistoryRow, ImageRow, LabelRow, RevisionRow, Source
from handful.types import Category, Dataset, Object

__all__ = ["Added", "Annotation", "Change", "Keyframe", "Label", "Revision", "Store", "StoredImage"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Labels with their history. Threads may share one, and processes may open the same at once.

    Each call is a transaction of its own: when it returns, what it did is on the disk. Every method raises DataError,
    naming the store, for what cannot be meant or done; then nothing has changed. An `author` is any name, "" for none.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Use `Store.open`."""
        self._database, self._clock = database, clock
        self._busy = threading.local()

    @classmethod
    def open(cls, place: str | Path, *, clock: Callable[[], datetime] = _utc_now, wait_s: float = 30.0) -> Store:
        """Open a store, made when it is not there and brought up to date when an older handful wrote it.

        place: a folder (it holds labels.sqlite), a .sqlite file, or an SQLAlchemy address such as
        postgresql+pg8000://USER:PASSWORD@HOST/DATABASE or mysql+pymysql://... clock: now, with a zone. wait_s: how long
        to wait for other writers. Raises DataError for a store of a newer handful, MissingPackage without the
        address's driver.
        """
        return cls(Database(place, wait_s=wait_s), clock)

    def close(self) -> None:
        """Let go of the database."""
        self._database.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The file, or the address without its password."""
        return self._database.place

    # classes, images and clips: not part of the history

    def add_category(
        self,
        name: str,
        *,
        id: int | None = None,
        parent: str | None = None,
        thing: bool | None = None,
        rgb: tuple[int, int, int] | None = None,
    ) -> Category:
        """Add a class; the one there is when name, and id if given, are the same. id None: the next number from 0."""
        with self._database.writing() as db:
            names = read.class_names(db)
            same = {known: number for number, known in names.items()}.get(name)
            if same is None:
                number = max(names, default=-1) + 1 if id is None else id
                if number in names:
                    raise DataError(f"the class id {number} is {names[number]!r} in {self.place}; choose another")
                exchange.add_categories(db, [Category(number, name, parent, thing, rgb)])
                same = number
            if id not in (None, same):
                raise DataError(f"the class {name!r} has the id {same} in {self.place}, not {id}; leave the id out")
            return images.to_category(db.execute(_all(CategoryRow).where(CategoryRow.id == same)).one())

    def categories(self) -> tuple[Category, ...]:
        """Every class, by id."""
        with self._database.reading() as db:
            return tuple(images.to_category(row) for row in db.execute(_all(CategoryRow).order_by(CategoryRow.id)))

    def add_image(
        self,
        path: Path | str,
        *,
        root: Path | str | None = None,
        name: str | None = None,
        split: str | None = None,
        size_wh: tuple[int, int] | None = None,
        sha256: str | None = None,
        license: str | None = None,
        clip: str | None = None,
        frame: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an image and return its id. path: a file, best inside the folder `root`, or a URI.

        name: unique in its split; None for the path inside the root. size_wh: (width, height) in px; labels are held
        against it. clip and frame: its place in a clip, which is added when it is new.
        """
        with self._database.writing() as db:
            more = {"sha256": sha256, "licence": license, "frame": frame}
            more["attributes"] = plain_json(attributes or {}, str(path))
            return images.add_image(
                db,
                self._database.folder,
                path,
                root=root,
                name=name,
                split=split or "",
                clip=clip,
                size_wh=size_wh,
                **more,
            )

    def find(self, name: str, split: str | None = None) -> int:
        """The id of an image by its name."""
        return self._find(ImageRow, name, split)

    def image(self, image: int) -> StoredImage:
        """One image."""
        with self._database.reading() as db:
            read.image_row(db, image, self.place)
            return images.images(db, self._database.folder, image - 1, 1)[0]

    def images(self, *, after: int = 0, limit: int = 100) -> tuple[StoredImage, ...]:
        """The images by id, `limit` at a time, beginning after the id `after`."""
        with self._database.reading() as db:
            return tuple(images.images(db, self._database.folder, after, limit))

    def move_root(self, old: Path | str, new: Path | str) -> None:
        """Say that a folder of images is somewhere else now."""
        folder = self._database.folder
        texts = images.root_text(folder, old), images.root_text(folder, new)
        with self._database.writing() as db:
            roots = list(db.scalars(select(Source.root)))
            if texts[0] not in roots or texts[1] in roots:
                raise DataError(
                    f"{self.place} has the roots {roots}; wanted {old} to be one of them and {new} to be none"
                )
            db.execute(update(Source).where(Source.root == texts[0]).values(root=texts[1]))

    def add_clip(
        self,
        name: str,
        *,
        split: str | None = None,
        path: Path | str | None = None,
        size_wh: tuple[int, int] | None = None,
        fps: float | None = None,
        frames: int | None = None,
    ) -> int:
        """Add a clip and return its id; what is said of one that is there is replaced. frames: how many it has."""
        width, height = size_wh or (None, None)
        with self._database.writing() as db:
            id = next(iter(images.clip_ids(db, {(split or "", name)}).values()))
            values = {"path": path and str(path), "width": width, "height": height, "fps": fps, "frames": frames}
            db.execute(update(ClipRow).where(ClipRow.id == id).values(**values))
            return id

    def find_clip(self, name: str, split: str | None = None) -> int:
        """The id of a clip by its name."""
        return self._find(ClipRow, name, split)

    # labels as they are now

    def labels(self, image: int) -> tuple[Label, ...]:
        """What was said of an image, in the order it was first said; "empty" annotations too."""
        with self._database.reading() as db:
            read.image_row(db, image, self.place)
            return tuple(read.labels_now(db, read.class_names(db), LabelRow.image_id == image))

    def state(self, image: int) -> str:
        """Whether somebody looked: "unlabeled"; "empty", when nothing is there; "labeled", when something is."""
        kinds = {label.annotation.kind for label in self.labels(image)}
        return "unlabeled" if not kinds else "empty" if kinds == {"empty"} else "labeled"

    def tracks(self, clip: int) -> tuple[Label, ...]:
        """The tracks of a clip."""
        with self._database.reading() as db:
            read.clip_row(db, clip, self.place)
            return tuple(read.labels_now(db, read.class_names(db), LabelRow.clip_id == clip))

    def boxes_at(self, clip: int, frame: int) -> tuple[Object, ...]:
        """What the tracks of a clip show in one frame: straight lines between keyframes, nothing while out of view.

        An object nobody drew in that very frame has the attribute "interpolated": True.
        """
        return tuple(exchange.objects_at(self.tracks(clip), frame))

    # changes: each is a revision of the history

    @contextlib.contextmanager
    def revision(self, author: str) -> Iterator[Revision]:
        """Several changes as one revision: all of them are kept when the block ends, none when it fails.

        Nobody else can write meanwhile, so keep it short.
        """
        with self._revision(author) as revision:
            yield revision

    def add(self, image: int, annotation: Annotation | Object, *, author: str) -> Label:
        """Add an annotation to an image. An object in an image marked empty takes that annotation away.

        Refused: a class that is not there, a box without area, NaN, more than a pixel outside an image of known size.
        """
        with self._revision(author) as revision:
            return revision.add(image, annotation)

    def add_track(self, clip: int, annotation: Annotation, *, author: str) -> Label:
        """Add a track: where one object is throughout a clip: an annotation of kind "track", with keyframes.

        A track without a number gets the next one of its clip.
        """
        with self._revision(author) as revision:
            return revision.add_track(clip, annotation)

    def change(
        self, label: int, annotation: Annotation | Object, *, version: int, author: str, force: bool = False
    ) -> Label:
        """Replace an annotation.

        version: the label's, as it was read. Raises DataError saying who changed it when it is not that any more; force
        changes it all the same. The same again is no revision.
        """
        with self._revision(author) as revision:
            return revision.change(label, annotation, version=version, force=force)

    def remove(self, label: int, *, version: int, author: str, force: bool = False) -> None:
        """Remove a label. version and force as in `change`."""
        with self._revision(author) as revision:
            revision.remove(label, version=version, force=force)

    def mark_empty(self, image: int, *, author: str) -> None:
        """Mark an image as empty: somebody looked, and nothing is there. Raises DataError when the image has
        objects."""
        with self._revision(author) as revision:
            revision.mark_empty(image)

    def unmark_empty(self, image: int, *, author: str) -> None:
        """Take the empty mark back: nobody looked."""
        with self._revision(author) as revision:
            revision.unmark_empty(image)

    def clear(self, image: int, *, author: str) -> int:
        """Remove all labels of an image, so that it is unlabeled. Returns how many there were."""
        with self._revision(author) as revision:
            return revision.clear(image)

    # the history

    def undo(self, author: str | None = None, *, by: str | None = None) -> int | None:
        """Undo the last revision, of `author` or of anybody, that is not undone. Returns its number; None: there is
        none.

        This is a revision too, made by `by` (or else `author`). Raises DataError, saying who, when somebody else
        changed the same labels since.
        """
        return self._reverse(author, by, back=True)

    def redo(self, author: str | None = None, *, by: str | None = None) -> int | None:
        """Do again what was undone last, unless something new was done since. As `undo` in all else."""
        return self._reverse(author, by, back=False)

    def last_revision(self) -> int:
        """The number of the last revision; 0 for a new store."""
        with self._database.reading() as db:
            return read.last_revision(db)

    def history(
        self, image: int | None = None, *, clip: int | None = None, after: int = 0, limit: int | None = None
    ) -> tuple[Change, ...]:
        """The changes of an image, of a clip or of all, oldest first. after: only revisions later than this one."""
        query = select(
            *HistoryRow.__table__.c, RevisionRow.action, RevisionRow.target, RevisionRow.author, RevisionRow.time
        ).join(RevisionRow, RevisionRow.number == HistoryRow.step)  # fmt: skip
        query = query.where(HistoryRow.step > after).order_by(HistoryRow.id).limit(limit)
        if image is not None or clip is not None:
            query = query.where(read.of_place(HistoryRow, image, clip))
        with self._database.reading() as db:
            if image is not None:
                read.image_row(db, image, self.place)
            names = read.class_names(db)
            return tuple(read.change_of(row, names) for row in db.execute(query))

    def as_of(self, at: int | datetime, image: int | None = None, *, clip: int | None = None) -> tuple[Label, ...]:
        """The labels as they were after a revision (0: before the first) or at a moment, by id: of an image, a clip or
        all.

        `dataset(at)` is the same for what does not fit in memory.
        """
        where = None if image is None and clip is None else read.of_place(HistoryRow, image, clip)
        with self._database.reading() as db:
            return tuple(read.labels_then(db, read.class_names(db), read.revision_at(db, at), where))

    def check(self) -> tuple[str, ...]:
        """What is wrong with the store, one line each; () when its labels are what its history makes. Reads all."""
        with self._database.reading() as db:
            return tuple(problems(db))

    # whole data sets

    def add_dataset(
        self, dataset: Dataset, author: str, *, batch: int = 500, skip_bad: bool = False, hashes: bool = False
    ) -> Added:
        """Add the images of a data set that are not there yet, by split and name, with all their labels.

        One revision a batch of images; stopped half way, it goes on there the next time. Classes are matched by name,
        and keep their ids where these are free. skip_bad: leave out what `add` would refuse and tell it in `refused`,
        instead of raising DataError. hashes: read each image's file and keep its SHA-256.
        """
        return exchange.bring_in(
            self._database, lambda: self._revision(author), dataset, batch=batch, skip_bad=skip_bad, hashes=hashes
        )

    def dataset(self, at: int | datetime | None = None) -> Dataset:
        """All images with their labels as they are now, or were after a revision or at a moment.

        Samples are read a page at a time as they are asked for, and stay as they were at this call whatever is changed
        meanwhile. A frame of a clip has the objects that its tracks show there.
        """
        return exchange.take_out(self._database, at)

    @contextlib.contextmanager
    def _revision(self, author: str, action: str | None = None) -> Iterator[Revision]:
        if getattr(self._busy, "now", False):  # it would wait for itself
            raise DataError(f"{self.place}: a revision is under way in this thread; change things through it")
        now = self._clock()
        if now.tzinfo is None:
            raise DataError(f"the clock of {self.place} says {now}, without a zone; wanted one, such as UTC")
        self._busy.now = True
        try:
            with self._database.writing() as db:
                revision = Revision(db, author=author, now=now.astimezone(UTC), place=self.place, action=action)
                yield revision
                revision.finish()
        finally:
            self._busy.now = False

    def _reverse(self, author: str | None, by: str | None, *, back: bool) -> int | None:
        with self._revision(by or author or "") as revision:
            target = (read.to_undo if back else read.to_redo)(revision.db, author)
            if target is not None:
                revision.reverse(target, back=back)
            return None if target is None else int(target.number)

    def _find(self, table: Any, name: str, split: str | None) -> int:
        with self._database.reading() as db:
            found = db.scalar(select(table.id).where(table.split == (split or ""), table.name == name))
        if found is None:
            where = f"split {split!r}" if split else "no split"
            raise DataError(f"{self.place} has no {table.__tablename__[:-1]} {name!r} in {where}; add it first")
        return int(found)


def _all(table: Any) -> Any:
    return select(*table.__table__.c)
