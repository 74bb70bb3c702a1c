"""The labeling store, over SQLite, PostgreSQL and MariaDB: what is said stays, and every step can be undone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from handful.data.shapes import rle_of
from handful.errors import DataError
from handful.store.store import Annotation, Keyframe, Store
from handful.types import Category, Dataset, Image, Mask, Object, Rle, Sample

pytest_plugins = ["tests.store.fixture"]
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOX = Object("cat", box_px=(10.1, 20.2, 30.3, 40.4))
OTHER = Object("dog", box_px=(1, 2, 3, 4))


class Clock:
    """A second later at each look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    with Store.open(store_url, clock=clock) as store:
        store.add_category("cat")
        store.add_category("dog")
        yield store
        assert store.check() == ()


@pytest.fixture
def image(store: Store) -> int:
    return store.add_image("s3://photos/1.jpg", name="1.jpg", size_wh=(640, 480))


def execute(store: Store, *statements: str) -> None:
    with store._database.writing() as db:
        for statement in statements:
            db.execute(text(statement))


def only(store: Store) -> Sample:
    (sample,) = store.dataset()
    return sample


# what is said


def test_nobody_looked_and_nothing_there_are_two_things(store: Store, image: int) -> None:
    def now() -> tuple[str, Any]:
        return store.state(image), only(store).objects

    assert now() == ("unlabeled", None)
    store.mark_empty(image, author="ann")
    assert now() == ("empty", ())
    store.unmark_empty(image, author="ann")
    assert now() == ("unlabeled", None)
    label = store.add(image, BOX, author="ann")
    state, objects = now()
    assert state == "labeled" and [o.box_px for o in objects] == [(10.1, 20.2, 30.3, 40.4)]
    store.remove(label.id, version=label.version, author="ann")
    assert now() == ("unlabeled", None)


def test_an_image_with_objects_is_not_empty(store: Store, image: int) -> None:
    store.add(image, Annotation("tag", "cat"), author="ann")
    store.mark_empty(image, author="ann")  # a class of the whole image is no object in it
    assert only(store).objects == () and only(store).label == "cat"
    store.add(image, BOX, author="bob")
    assert [label.annotation.kind for label in store.labels(image)] == ["tag", "box"]
    with pytest.raises(DataError, match=r"1\.jpg has 1 object and cannot be empty; clear it first"):
        store.mark_empty(image, author="ann")
    store.undo()
    assert [label.annotation.kind for label in store.labels(image)] == ["tag", "empty"]
    assert store.clear(image, author="ann") == 2
    assert store.state(image) == "unlabeled"
    # a tag that becomes an object takes the mark away too
    tag = store.add(image, Annotation("tag", "cat"), author="ann")
    store.mark_empty(image, author="ann")
    store.change(tag.id, BOX, version=tag.version, author="ann")
    assert [label.annotation.kind for label in store.labels(image)] == ["box"]


def test_saying_the_same_again_is_no_step(store: Store, image: int) -> None:
    store.mark_empty(image, author="ann")
    store.mark_empty(image, author="ann")
    assert store.last_revision() == 1
    label = store.add(image, BOX, author="ann")
    assert store.change(label.id, BOX, version=label.version, author="bob") == label
    assert store.clear(store.add_image("s3://2", name="2"), author="ann") == 0
    assert store.last_revision() == 2


MARKS = [
    Annotation(
        "box", "cat", box_px=(0.1, 1 / 3, 639.9999999999999, 480.0), attributes={"difficult": True, "ключ": [1, None]}
    ),
    Annotation(
        "polygon", "dog", polygons_px=(((0.0, 0.1), (5.5, 1e-17), (3.0, 7.25)), ((1.0, 1.0), (2.0, 1.0), (2.0, 2.0)))
    ),
    Annotation(
        "polygon", "cat", box_px=(1.0, 1.0, 2.0, 2.0), polygons_px=(((0.0, 0.0), (5.0, 1.0), (3.0, 7.0)),), crowd=True
    ),
    Annotation("mask", "cat", rle=Rle((480, 640), (10, 20, 480 * 640 - 30)), track=2**40),
    Annotation("mask", "cat", box_px=(0.0, 0.0, 1.0, 1.0), rle=rle_of(np.eye(480, 640) > 0)),
    Annotation("point", "dog", point_px=(0.30000000000000004, -0.5)),
    Annotation("somewhere", "dog", attributes={"nul": "\0", "surrogate": "\ud800", "big": 2**70, "tiny": 5e-324}),
    Annotation("tag", "cat"),
    Annotation("area", "cat", rle=Rle((480, 640), (0, 480 * 640)), wide=True),
    Annotation("ignore", rle=Rle((480, 640), (0, 480 * 640))),
]


@pytest.mark.parametrize("annotation", MARKS, ids=lambda m: m.kind)
def test_every_kind_comes_back_as_it_was(store_url: str, annotation: Annotation) -> None:
    with Store.open(store_url, clock=Clock()) as store:
        store.add_category("cat")
        store.add_category("dog")
        image = store.add_image("s3://1", name="1", size_wh=(640, 480))
        made = store.add(image, annotation, author="ann")
    with Store.open(store_url) as store:
        (label,) = store.labels(image)
        assert label == made
        assert label.annotation == annotation
        assert label.annotation._parts() == annotation._parts()
        assert (label.author, label.time, label.version) == ("ann", START + timedelta(seconds=1), 1)
        assert store.as_of(1) == (label,)
        assert store.check() == ()


NAN, INF = float("nan"), float("inf")
REFUSED = [
    (Annotation("box", "cow", box_px=(1, 2, 3, 4)), "no class 'cow'"),
    (Annotation("box", "ca", box_px=(1, 2, 3, 4)), "did you mean 'cat'"),
    (Annotation("box", "cat", box_px=(1, 2, 1, 4)), "box without area"),
    (Annotation("box", "cat", box_px=(1, 5, 3, 4)), "box without area"),
    (Annotation("box", "cat", box_px=(1, 2, NAN, 4)), "NaN or infinity"),
    (Annotation("box", "cat", box_px=(1, 2, INF, 4)), "NaN or infinity"),
    (Annotation("box", "cat", box_px=(1, 2, 3)), "box of 3 numbers"),  # type: ignore[arg-type]
    (Annotation("box", "cat", box_px=("a", 2, 3, 4)), "not two numbers"),  # type: ignore[arg-type]
    (Annotation("box", "cat", box_px=(1, 2, 641.1, 4)), "leaves the 640x480 image by 1.1 px"),
    (Annotation("box", "cat", box_px=(-1.5, 2, 5, 4)), "leaves the 640x480 image by 1.5 px"),
    (Annotation("box", "cat"), "has no box_px"),
    (Annotation("box", "cat", box_px=(1, 2, 3, 4), point_px=(1, 2)), "has a point_px"),
    (Annotation("box", "cat", box_px=(1, 2, 3, 4), track=1.5), "track 1.5"),  # type: ignore[arg-type]
    (Annotation("box", "cat", box_px=(1, 2, 3, 4), attributes={"a": NAN}), "cannot be kept"),
    (Annotation("box", "cat", box_px=(1, 2, 3, 4), attributes={"a": object()}), "cannot be kept"),
    (Annotation("box", None, box_px=(1, 2, 3, 4)), "without a class"),
    (Annotation("ignore", "cat", rle=Rle((480, 640), (0, 480 * 640))), "cannot have one"),
    (Annotation("circle", "cat"), "no label of kind 'circle'"),
    (Annotation("polygon", "cat", polygons_px=(((1, 2), (3, 4)),)), "outline of 2 points"),
    (Annotation("polygon", "cat", polygons_px=(((1, 2), (3, 4), (NAN, 1)),)), "NaN or infinity"),
    (Annotation("polygon", "cat", polygons_px=(((1, 2), (3, 4), (700, 1)),)), "leaves the 640x480 image"),
    (Annotation("mask", "cat", rle=Rle((480, 640), (1, 2))), "sum to 3; wanted 480 x 640"),
    (Annotation("mask", "cat", rle=Rle((480, 640), (-1, 480 * 640 + 1))), "run lengths"),
    (Annotation("mask", "cat", rle=Rle((480, 640), (480 * 640,))), "on no pixel"),
    (Annotation("mask", "cat", rle=Rle((4, 6), (0, 24))), "painted on 6x4 px; the image has 640x480"),
    (Annotation("mask", "cat", rle=Rle((480, 640), b"\xff")), "cannot be read"),
    (Annotation("point", "cat", point_px=(641.5, 1)), "leaves the 640x480 image"),
    (Annotation("track", "cat", keyframes=(Keyframe(0, (1, 2, 3, 4)),)), "use add_track"),
    (Annotation("empty"), "use add_track and mark_empty"),
    (Object("cat", polygons_px=(np.zeros(6),)), r"wanted \(n, 2\)"),
]


@pytest.mark.parametrize(("annotation", "why"), REFUSED)
def test_what_cannot_be_meant_is_refused(sqlite_store: tuple[Store, int, int], annotation: Any, why: str) -> None:
    store, image, label = sqlite_store
    before = store.labels(image), store.last_revision()
    with pytest.raises(DataError, match=why):
        store.add(image, annotation, author="ann")
    with pytest.raises(DataError):
        store.change(label, annotation, version=0, author="ann", force=True)
    assert (store.labels(image), store.last_revision()) == before
    assert store.check() == ()


@pytest.fixture(scope="module")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, int, int]]:
    with Store.open(tmp_path_factory.mktemp("store")) as store:
        store.add_category("cat")
        image = store.add_image("s3://1", name="1", size_wh=(640, 480))
        yield store, image, store.add(image, BOX, author="ann").id


def test_without_a_size_nothing_is_outside(store: Store) -> None:
    image = store.add_image("s3://2", name="2")
    assert store.add(image, Annotation("box", "cat", box_px=(-100, 2, 9000, 4)), author="ann").version == 1


def test_what_is_not_there(store: Store, image: int) -> None:
    for say in (
        lambda: store.add(99, BOX, author="ann"),
        lambda: store.labels(99),
        lambda: store.image(99),
        lambda: store.mark_empty(99, author="ann"),
        lambda: store.unmark_empty(99, author="ann"),
        lambda: store.clear(99, author="ann"),
        lambda: store.history(99),
    ):
        with pytest.raises(DataError, match="no image 99"):
            say()
    with pytest.raises(DataError, match="no label 7"):
        store.change(7, BOX, version=1, author="ann")
    with pytest.raises(DataError, match="no clip 3"):
        store.boxes_at(3, 0)
    with pytest.raises(DataError, match=r"no image 'x\.jpg' in split 'val'"):
        store.find("x.jpg", "val")
    for bad in (-1, 1):
        with pytest.raises(DataError, match=f"no revision {bad}; wanted 0 to 0"):
            store.as_of(bad)
    with pytest.raises(DataError, match=r"author '.*' has a NUL"):
        store.add(image, BOX, author="a\0b")
    assert store.undo() is None and store.redo() is None and store.last_revision() == 0


# the history


def test_several_changes_are_one_step(store: Store, image: int) -> None:
    first = store.add(image, BOX, author="ann")
    with store.revision("bob") as step:
        second = step.add(image, OTHER)
        second = step.change(second.id, BOX, version=second.version)
        step.remove(first.id, version=first.version)
    assert store.last_revision() == 2 and store.labels(image) == (second,)

    def fail() -> None:
        with store.revision("bob") as step:
            step.clear(image)
            step.mark_empty(image)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.last_revision() == 2 and store.labels(image) == (second,)
    assert store.undo() == 2
    assert [label.annotation for label in store.labels(image)] == [first.annotation]
    assert [change.action for change in store.history()] == ["add", "several", "several", "several", *["undo"] * 3]


def test_a_step_inside_a_step_is_told(store: Store, image: int) -> None:
    def nested() -> None:
        with store.revision("ann") as step:
            step.add(image, BOX)
            store.add(image, BOX, author="ann")

    with pytest.raises(DataError, match="a revision is under way"):
        nested()
    assert store.labels(image) == ()
    store.add(image, BOX, author="ann")  # and the store goes on


def test_nobodys_change_is_lost(store: Store, image: int) -> None:
    mine = store.add(image, BOX, author="ann")
    store.change(mine.id, OTHER, version=mine.version, author="bob")
    with pytest.raises(DataError, match=r"label 1 was changed by 'bob' at 2026-01-01 12:00:02 UTC \(revision 2\)"):
        store.change(mine.id, BOX, version=mine.version, author="ann")
    store.change(mine.id, BOX, version=mine.version, author="ann", force=True)
    with pytest.raises(DataError, match=r"label 1 was changed by 'ann' at .* \(revision 3\)"):
        store.remove(mine.id, version=mine.version, author="bob")
    store.remove(mine.id, version=mine.version, author="bob", force=True)
    with pytest.raises(DataError, match=r"label 1 was removed by 'bob' at .* \(revision 4\)"):
        store.change(mine.id, BOX, version=mine.version, author="bob", force=True)
    assert store.undo() == 4
    with pytest.raises(DataError, match="changed by ''"):  # what is brought back is new: nobody has read it yet
        store.change(mine.id, BOX, version=3, author="ann")


def test_undo_is_a_step_too(store: Store, image: int) -> None:
    label = store.add(image, BOX, author="ann")
    changed = store.change(label.id, OTHER, version=label.version, author="bob")
    assert store.undo(by="cy") == 2
    (back,) = store.labels(image)
    assert (back.annotation, back.author, back.time) == (label.annotation, label.author, label.time)
    assert store.redo(by="cy") == 2
    assert [x.annotation for x in store.labels(image)] == [changed.annotation]
    assert [store.undo(by="cy"), store.undo(by="cy"), store.undo(by="cy")] == [2, 1, None]
    assert store.labels(image) == ()
    assert [store.redo(), store.redo(), store.redo()] == [1, 2, None]
    assert [x.annotation for x in store.labels(image)] == [changed.annotation]
    rows = [(c.revision, c.action, c.target, c.author) for c in store.history()]
    assert rows == [
        (1, "add", None, "ann"), (2, "change", None, "bob"), (3, "undo", 2, "cy"), (4, "redo", 2, "cy"),
        (5, "undo", 2, "cy"), (6, "undo", 1, "cy"), (7, "redo", 1, ""), (8, "redo", 2, ""),
    ]  # fmt: skip


def test_something_new_ends_what_can_be_redone(store: Store, image: int) -> None:
    store.add(image, BOX, author="ann")
    store.add(image, BOX, author="ann")
    store.undo()
    store.add(image, OTHER, author="ann")
    assert store.redo() is None
    assert [store.undo(), store.undo(), store.undo()] == [4, 1, None]


def test_undoing_ones_own(store: Store, image: int) -> None:
    anns = store.add(image, BOX, author="ann")
    bobs = store.add(image, OTHER, author="bob")
    assert store.undo("ann") == 1  # though bob's is later
    assert store.labels(image) == (bobs,)
    assert store.redo("bob") is None
    assert store.redo("ann") == 1  # though bob's is later
    (anns, _) = store.labels(image)
    store.change(anns.id, OTHER, version=anns.version, author="bob")
    with pytest.raises(
        DataError, match=r"revision 1 by 'ann' cannot be undone: label 1 was changed by 'bob' .*undo that"
    ):
        store.undo("ann")
    assert store.undo("bob") == 5 and store.undo("ann") == 1
    assert store.history()[-1].author == "ann"
    store.add(image, OTHER, author="bob")  # new, but not ann's
    assert store.redo() is None
    assert store.redo("ann") == 1


def test_undo_does_not_make_what_cannot_be(store: Store, image: int) -> None:
    label = store.add(image, BOX, author="ann")
    store.remove(label.id, version=label.version, author="ann")
    store.mark_empty(image, author="bob")
    with pytest.raises(DataError, match=r"1\.jpg would be marked empty and have objects"):
        store.undo("ann")
    assert store.state(image) == "empty"
    store.unmark_empty(image, author="ann")
    store.mark_empty(image, author="cy")
    with pytest.raises(DataError, match="would be marked empty"):  # twice empty
        store.undo("ann")


def test_labels_as_they_were(store: Store, image: int, clock: Clock) -> None:
    states: list[Any] = [store.as_of(0)]
    times: list[datetime] = []
    label = store.add(image, BOX, author="ann")
    states, times = [*states, store.labels(image)], [*times, clock.now]
    label = store.change(label.id, OTHER, version=label.version, author="ann")
    states, times = [*states, store.labels(image)], [*times, clock.now]
    store.undo()
    states, times = [*states, store.labels(image)], [*times, clock.now]
    store.clear(image, author="ann")
    store.mark_empty(image, author="ann")
    other = store.add_image("s3://2", name="2")
    store.add(other, BOX, author="ann")
    for step, state in enumerate(states):
        assert store.as_of(step) == state == store.as_of(step, image)
        assert store.as_of(step, other) == ()
        if step:
            assert store.as_of(times[step - 1]) == state
            assert store.as_of(times[step - 1] + timedelta(microseconds=999_999)) == state
            assert store.as_of(times[step - 1] - timedelta(microseconds=1)) == states[step - 1]
    tokyo = timezone(timedelta(hours=9))
    assert store.as_of(times[1].astimezone(tokyo)) == states[2]
    with pytest.raises(DataError, match="has no zone"):
        store.as_of(datetime(2026, 1, 1))
    objects = [[s.objects and [o.label for o in s.objects] for s in store.dataset(k)] for k in range(7)]
    one, two, none = [["cat"], None], [["dog"], None], [None, None]
    assert objects == [none, one, two, one, none, [(), None], [(), ["cat"]]]


def test_a_clock_that_goes_back(store: Store, image: int, clock: Clock) -> None:
    first = store.add(image, BOX, author="ann")
    clock.now -= timedelta(days=1)
    second = store.add(image, BOX, author="ann")
    assert second.time == first.time
    assert store.as_of(first.time) == (first, second)
    clock.now = (clock.now + timedelta(days=2)).astimezone(timezone(timedelta(hours=9)))
    third = store.add(image, BOX, author="ann")
    assert third.time == clock.now and third.time.tzinfo == UTC
    assert store.undo() == 3
    clock.now = clock.now.replace(tzinfo=None)
    with pytest.raises(DataError, match="without a zone"):
        store.add(image, BOX, author="ann")


def test_the_history_of_one_image(store: Store, image: int) -> None:
    other = store.add_image("s3://2", name="2")
    label = store.add(image, BOX, author="ann")
    store.add(other, OTHER, author="ann")
    store.remove(label.id, version=label.version, author="bob")
    added, removed = store.history(image)
    assert (added.before, added.after, removed.after) == (None, label, None)
    assert removed.before and removed.before.annotation == label.annotation
    assert (removed.revision, removed.author, removed.time) == (3, "bob", START + timedelta(seconds=3))
    assert [c.revision for c in store.history()] == [1, 2, 3]
    assert [c.revision for c in store.history(after=1, limit=1)] == [2]


def test_the_database_refuses_to_rewrite_history(store: Store, image: int) -> None:
    store.add(image, BOX, author="ann")
    for table in ("steps", "history"):
        for verb in (f"DELETE FROM {table}", f"UPDATE {table} SET {'author' if table == 'steps' else 'after'} = NULL"):
            with pytest.raises(DataError, match="only ever added to"):
                execute(store, verb)


FAULTS = {
    "label 1 is not as the history says": "UPDATE labels SET author = 'eve' WHERE id = 1",
    "label 1 is in the history, and is not there": "DELETE FROM labels WHERE id = 1",
    "revision 2 is not whole": "DELETE FROM history WHERE step = 2",
    "changed label 1 from what it was not": "DELETE FROM history WHERE id = 1",
    "revision 2 is missing": "UPDATE labels SET version = 3; DELETE FROM history WHERE step = 2; "
    "DELETE FROM steps WHERE number = 2",
    "revision 3 is older": "UPDATE steps SET time = '2020-01-01 00:00:00.000000' WHERE number = 3",
    "marked empty, and has something": "UPDATE labels SET kind = 'empty' WHERE id = 1",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_sees_every_fault(store_url: str, kind: str, fault: str) -> None:
    with Store.open(store_url) as store:
        store.add_category("cat")
        store.add_category("dog")
        image = store.add_image("s3://1", name="1")
        label = store.add(image, BOX, author="ann")
        store.change(label.id, OTHER, version=label.version, author="ann")
        store.add(image, BOX, author="ann")
        assert store.check() == ()
        unprotect(store, kind)
        execute(store, *FAULTS[fault].split("; "))
        assert any(fault in said for said in store.check())


def unprotect(store: Store, kind: str) -> None:
    one = kind == "postgresql"
    for table in ("steps", "history"):
        for what in ("only_added_to",) if one else ("update", "delete"):
            execute(store, f"DROP TRIGGER {table}_{what}{f' ON {table}' if one else ''}")


def test_a_label_of_no_step_is_refused_or_seen(store_url: str, kind: str) -> None:
    """Where the database cannot refuse it, since references there cannot wait for the commit, the check sees it."""
    with Store.open(store_url) as store:
        store.add_category("cat")
        image = store.add_image("s3://1", name="1")
        store.add(image, BOX, author="ann")
        other = store.add(image, BOX, author="ann")
        if kind != "mysql":
            with pytest.raises(DataError, match=r"FOREIGN KEY|fk_labels_version"):
                execute(store, "UPDATE labels SET version = 99 WHERE id = 1")
            return
        execute(store, "UPDATE labels SET version = 99 WHERE id = 1")
        assert store.check() == ("label 1 is not as the history says",)
        execute(store, "UPDATE labels SET version = 1 WHERE id = 1")
        assert store.check() == ()
        unprotect(store, kind)
        execute(store, "SET foreign_key_checks = 0", f"DELETE FROM steps WHERE number = {other.version}",
                "SET foreign_key_checks = 1")  # fmt: skip
        assert store.check() == (f"revision {other.version} has changes, and is not there",)


# tracks


def test_a_track_is_straight_between_its_keyframes(store: Store) -> None:
    clip = store.add_clip("film", size_wh=(640, 480), frames=100, fps=25)
    keys = (
        Keyframe(10, (0.1, 0.2, 10.1, 10.2)), Keyframe(20, (100.0, 50.0, 120.0, 70.0)), Keyframe(30, None),
        Keyframe(40, (5.0, 5.0, 6.0, 6.0)), Keyframe(41, (7.0, 5.0, 8.0, 6.0)),
    )  # fmt: skip
    label = store.add_track(clip, Annotation("track", "cat", keyframes=keys, attributes={"a": 1}), author="ann")
    assert (label.clip, label.image, label.annotation.track) == (clip, None, 1)

    def at(frame: int) -> Any:
        found = store.boxes_at(clip, frame)
        return found[0].box_px if found else None

    assert at(9) is None
    assert [at(k.frame) for k in keys] == [k.box_px for k in keys]
    assert at(15) == pytest.approx((50.05, 25.1, 65.05, 40.1))
    assert at(29) == (100.0, 50.0, 120.0, 70.0)
    assert at(35) is None and at(42) is None
    (drawn,), (made,) = store.boxes_at(clip, 10), store.boxes_at(clip, 11)
    assert (drawn.label, drawn.track, drawn.attributes) == ("cat", 1, {"a": 1})
    assert made.attributes == {"a": 1, "interpolated": True}
    store.undo()
    assert store.tracks(clip) == ()
    second = store.add_track(clip, Annotation("track", "dog", keyframes=keys[:1]), author="ann")
    assert second.annotation.track == 2  # 1 may come back
    moved = store.change(
        second.id, Annotation("track", "cat", keyframes=keys[1:2]), version=second.version, author="ann"
    )
    assert moved.annotation.track == 2 and store.tracks(clip) == (moved,)
    assert [c.label for c in store.history(clip=clip)] == [1, 1, 2, 2]
    assert store.as_of(1, clip=clip) == (label,)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ((), "has no keyframes"),
        ((Keyframe(1, None),), "never in view"),
        ((Keyframe(2, (0, 0, 1, 1)), Keyframe(2, None)), "keyframe 2 after 2"),
        ((Keyframe(-1, (0, 0, 1, 1)),), "keyframe -1"),
        ((Keyframe(1.5, (0, 0, 1, 1)),), "keyframe 1.5"),  # type: ignore[arg-type]
        ((Keyframe(100, (0, 0, 1, 1)),), "from 0, rising, below 100"),
        ((Keyframe(1, (0, 0, 0, 1)),), "in frame 1 has a box without area"),
        ((Keyframe(1, (0, 0, 700, 1)),), "leaves the 640x480 image"),
    ],
)
def test_keyframes_that_cannot_be(store: Store, keys: Any, why: str) -> None:
    clip = store.add_clip("film", size_wh=(640, 480), frames=100)
    with pytest.raises(DataError, match=why):
        store.add_track(clip, Annotation("track", "cat", keyframes=keys), author="ann")
    good = store.add_track(clip, Annotation("track", "cat", keyframes=(Keyframe(0, (0, 0, 1, 1)),)), author="ann")
    with pytest.raises(DataError, match=why):
        store.change(good.id, Annotation("track", "cat", keyframes=keys), version=good.version, author="ann")
    with pytest.raises(DataError, match="cannot become a box"):
        store.change(good.id, BOX, version=good.version, author="ann")
    with pytest.raises(DataError, match="wanted an annotation of kind track"):
        store.add_track(clip, Annotation("tag", "cat"), author="ann")


def test_frames_show_the_tracks(store: Store) -> None:
    for frame in range(4):
        store.add_image(f"s3://film/{frame}", name=f"film/{frame}", clip="film", frame=frame)
    clip = store.find_clip("film")
    still = store.find("film/1")
    store.add(still, Object("dog", box_px=(1, 1, 2, 2), track=7), author="ann")
    keys = (Keyframe(1, (0, 0, 10, 10)), Keyframe(3, (2, 0, 12, 10)))
    label = store.add_track(clip, Annotation("track", "cat", keyframes=keys), author="ann")
    assert label.annotation.track == 8  # 7 is another object
    store.remove(label.id, version=label.version, author="ann")
    for at, shown in ((None, False), (2, True)):
        samples = list(store.dataset(at))
        assert [(s.clip, s.frame) for s in samples] == [("film", f) for f in range(4)]
        boxes = [s.objects and [o.box_px for o in s.objects] for s in samples]
        track = [[(0, 0, 10, 10)], [(1, 0, 11, 10)], [(2, 0, 12, 10)]]
        assert boxes == ([None, [(1, 1, 2, 2), *track[0]], *track[1:]] if shown else [None, [(1, 1, 2, 2)], None, None])


# classes and images


def test_classes(store: Store) -> None:
    bus = store.add_category("bus", id=7, parent="vehicle", thing=True, rgb=(1, 2, 3))
    assert bus == Category(7, "bus", "vehicle", True, (1, 2, 3)) == store.add_category("bus")
    assert store.add_category("car").id == 8
    assert [(c.id, c.name) for c in store.categories()] == [(0, "cat"), (1, "dog"), (7, "bus"), (8, "car")]
    with pytest.raises(DataError, match="class id 7 is 'bus'"):
        store.add_category("lorry", id=7)
    with pytest.raises(DataError, match="'bus' has the id 7"):
        store.add_category("bus", id=9)


def test_images(store: Store, tmp_path: Path) -> None:
    one = store.add_image(tmp_path / "images/a b/ü.jpg", root=tmp_path / "images", split="val", size_wh=(3, 4),
                          sha256="ab", license="CC0", attributes={"k": [1]})  # fmt: skip
    photo = store.image(one)
    assert (photo.name, photo.split, photo.path) == ("a b/ü.jpg", "val", tmp_path / "images/a b/ü.jpg")
    assert (photo.size_wh, photo.sha256, photo.license, photo.attributes) == ((3, 4), "ab", "CC0", {"k": [1]})
    two = store.add_image("s3://bucket/b.jpg", name="b.jpg", clip="film", frame=3)
    assert (store.image(two).uri, store.image(two).clip, store.image(two).frame) == ("s3://bucket/b.jpg", "film", 3)
    assert store.find("a b/ü.jpg", "val") == one
    assert [p.id for p in store.images()] == [one, two] and [p.id for p in store.images(after=one)] == [two]
    with pytest.raises(DataError, match=r"'b\.jpg' is there already, as image 2"):
        store.add_image("s3://other/b.jpg", name="b.jpg")
    assert store.add_image("s3://other/b.jpg", name="b.jpg", split="val") == 3
    store.move_root(tmp_path / "images", tmp_path / "moved")
    assert store.image(one).path == tmp_path / "moved/a b/ü.jpg"
    with pytest.raises(DataError, match=r"wanted .*images to be one of them"):
        store.move_root(tmp_path / "images", tmp_path / "again")
    with pytest.raises(DataError, match="not UTF-8"):
        store.add_image("s3://\udcff", name="\udcff")


def test_names_that_look_alike_are_different(store_url: str) -> None:
    """By case, accents, how an accent is made, and blanks at the end."""
    names = ["a", "A", "á", "a\u0301", "a ", " a", "a  ", "а", "🐈", "🐕"]
    with Store.open(store_url) as store:
        assert [store.add_category(name).id for name in names] == list(range(len(names)))
        ids = [store.add_image(f"s3://{i}", name=name, split="s") for i, name in enumerate(names)]
        ids += [store.add_image(f"s3://{i}", name="a", split=name) for i, name in enumerate(names)]
        assert [store.find(name, "s") for name in names] + [store.find("a", name) for name in names] == ids
        clips = [store.add_clip(name) for name in names]
        assert [store.find_clip(name) for name in names] == clips == sorted(set(clips))
        for i, name in enumerate(names):
            store.add(ids[0], Annotation("tag", name), author=name)
            store.undo(name)
            assert store.history()[-1].revision == store.last_revision() == 2 * i + 2
        root = Path("/r")
        given = Dataset("test", root, (), lambda: iter(samples), len(names))
        samples = [Sample(root / f"{i}.jpg", name=name, split="new") for i, name in enumerate(names)]
        assert store.add_dataset(given, "ann").images == len(names)
        assert store.add_dataset(given, "ann").skipped == len(names)
        assert store.check() == ()


def test_long_names_are_kept_whole_or_refused(store_url: str, kind: str) -> None:
    with Store.open(store_url) as store:
        store.add_category("🐈" * 640)
        long = store.add_image("s3://" + "x" * 60_000, name="🐈" * 640, split="🐕" * 128, license="l" * 60_000)
        photo = store.image(long)
        assert (photo.name, photo.split, photo.license) == ("🐈" * 640, "🐕" * 128, "l" * 60_000)
        bounded = kind == "mysql"
        for i, (part, text_) in enumerate((("name", "n" * 641), ("split", "s" * 129), ("license", "l" * 65_536))):
            more: Any = {"name": f"{i}", part: text_}
            column = {"license": "licence"}.get(part, part)
            if bounded:
                with pytest.raises(DataError, match=f"'{column}'.*; names can have 640 characters.*: shorten it"):
                    store.add_image("s3://2", **more)
            else:
                assert getattr(store.image(store.add_image("s3://2", **more)), part) == text_
        assert len(store.images()) == (1 if bounded else 4)
        assert store.check() == ()


def test_a_mask_of_five_megabytes(store_url: str) -> None:
    rle = Rle((1000, 2500), (1,) * 2_500_000)
    with Store.open(store_url) as store:
        store.add_category("cat")
        image = store.add_image("s3://1", name="1")
        label = store.add(image, Annotation("mask", "cat", rle=rle), author="ann")
        label = store.change(label.id, Annotation("mask", "cat", rle=rle, track=1), version=label.version, author="ann")
        (back,) = store.labels(image)
        assert back.annotation.rle and back.annotation.rle.counts == rle.counts and back.annotation.track == 1
        assert store.undo() == 2
        (back,) = store.labels(image)
        assert back.annotation.rle and back.annotation.rle.counts == rle.counts and back.annotation.track is None
        assert store.check() == ()


def test_more_than_the_server_takes(new_mariadb: Callable[[], str]) -> None:
    with Store.open(new_mariadb()) as store:
        store.add_category("cat")
        image = store.add_image("s3://1", name="1")
        label = store.add(image, Annotation("tag", "cat", attributes={"x": "y" * 9_000_000}), author="ann")
        with pytest.raises(DataError, match=r"what is to be kept has \d+ bytes.* takes 16777216 .*max_allowed_packet"):
            store.add(image, Annotation("tag", "cat", attributes={"x": "y" * 17_000_000}), author="ann")
        with pytest.raises(DataError, match=r"has 18\d+ bytes with what it was before"):
            store.change(label.id, Annotation("tag", "cat", attributes={"x": "z" * 9_000_000}), version=1, author="ann")
        assert store.labels(image) == (label,)
        assert store.check() == ()


def test_photos_beside_the_store_move_with_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "old") as store:
        image = store.add_image(tmp_path / "old/photos/1.jpg")
        assert store.image(image).name == "photos/1.jpg"
    (tmp_path / "old").rename(tmp_path / "new")
    with Store.open(tmp_path / "new") as store:
        assert store.image(image).path == tmp_path / "new/photos/1.jpg"


# whole data sets


def same(a: Object, b: Object) -> bool:
    rle = (a.rle is None) == (b.rle is None)
    if a.rle and b.rle:
        rle = (a.rle.size_hw, a.rle.counts, type(a.rle.counts)) == (b.rle.size_hw, b.rle.counts, type(b.rle.counts))
    outlines = len(a.polygons_px) == len(b.polygons_px) and all(
        p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(a.polygons_px, b.polygons_px, strict=True)
    )
    rest = [(o.label, o.box_px, o.crowd, o.track, dict(o.attributes)) for o in (a, b)]
    return rle and outlines and rest[0] == rest[1]


def full_dataset(root: Path) -> Dataset:
    """Every kind of label that a Sample can carry."""
    rng = np.random.default_rng(0)
    blob = rng.random((48, 64)) < 0.3
    things = (
        Object("a", box_px=(0.1, 0.2, 1 / 3 + 40, 2**-30 + 3.0), attributes={"difficult": False, "id": 2**60}),
        Object("b", (1.0, 2.0, 3.0, 4.0), (rng.random((5, 2)) * 40, rng.random((3, 2)) * 40), crowd=True, track=4),
        Object("a", rle=rle_of(blob)),
        Object("b", (1.0, 1.0, 5.0, 5.0), (rng.random((4, 2)),), Rle((48, 64), b"0PP3")),
        Object("c", attributes={"point_px": [1.25, 2.5], "visible": 2}),
        Object("c", attributes={"nothing": None}),
    )
    small = np.array([[0, 1, 5], [255, 255, 0]], np.uint8)
    wide = np.array([[0, 1], [65535, 300]], np.uint16)
    samples = [
        Sample(root / "train/1.jpg", objects=things, name="1.jpg", split="train", size_wh=(64, 48), license="CC0",
               attributes={"tägs": ["x"], "f": 0.1}, clip="film", frame=5),
        Sample(root / "train/2.jpg", name="2.jpg", split="train"),
        Sample(root / "val/1.jpg", objects=(), name="1.jpg", split="val", label="a"),
        Sample(root / "val/3.jpg", name="3.jpg", split="val", mask=lambda: Mask(small)),
        Sample(root / "4.jpg", name="4.jpg", mask=lambda: Mask(wide), objects=things[:1]),
        Sample(root / "5.jpg", name="5.jpg", mask=lambda: Mask(np.full((2, 2), 255, np.uint8))),
        Sample(root / "5w.jpg", name="5w.jpg", mask=lambda: Mask(np.array([[0, 1]], np.uint16))),
        Sample(root / "6.bin", name="6/1", pixels=lambda: Image(np.zeros((1, 1, 3), np.uint8))),
        Sample(Path("s3://b/7.jpg"), name="7.jpg", attributes={"uri": "s3://b/7.jpg"}),
        Sample(root / "deep/8.jpg"),
    ]  # fmt: skip
    classes = (
        Category(0, "a", "g", True, (1, 2, 3)),
        Category(1, "b"),
        Category(5, "c", thing=False),
        Category(300, "d"),
    )
    return Dataset("test", root, classes, lambda: iter(samples), len(samples), {"licenses": [{"id": 1}]})


def test_a_data_set_comes_back_as_it_was(store_url: str, tmp_path: Path) -> None:
    given = full_dataset(tmp_path)
    with Store.open(store_url) as store:
        added = store.add_dataset(given, "ann", batch=4)
        assert (added.images, added.labels, added.skipped, added.refused) == (10, 20, 0, ())
        assert store.last_revision() == 2  # the last batch says nothing of its image
        back = store.dataset()
        assert (back.root, back.categories, back.count, back.info) == (tmp_path, given.categories, 10, given.info)
        for a, b in zip(given, back, strict=True):
            for part in ("path", "label", "split", "size_wh", "license", "clip", "frame"):
                assert getattr(a, part) == getattr(b, part), part
            assert (a.name or "deep/8.jpg", dict(a.attributes)) == (b.name, dict(b.attributes))
            assert (a.objects is None) == (b.objects is None)
            for mine, theirs in zip(a.objects or (), b.objects or (), strict=True):
                assert same(mine, theirs), mine
            assert (a.mask is None) == (b.mask is None)
            if a.mask and b.mask:
                assert a.mask().ids.dtype == b.mask().ids.dtype
                assert np.array_equal(a.mask().ids, b.mask().ids)
        packed = next(s for s in back if s.name == "6/1")
        assert packed.pixels
        with pytest.raises(DataError, match=r"lies inside .*6\.bin"):
            packed.pixels()
        assert store.check() == ()


def plain(n: int, *, root: Path = Path("/photos"), alive: Callable[[Sample], object] = id, **more: Any) -> Dataset:
    def samples() -> Iterator[Sample]:
        for i in range(n):
            if i == more.get("fails_at"):
                raise KeyboardInterrupt
            sample = Sample(root / f"{i}.jpg", objects=(Object("cat", (0, 0, 1 + i, 1)),), name=f"{i}.jpg")
            alive(sample)
            yield sample

    return Dataset("test", root, (Category(0, "cat"),), samples, n)


def test_an_import_goes_on_where_it_stopped(store_url: str) -> None:
    with Store.open(store_url) as store:
        with pytest.raises(KeyboardInterrupt):
            store.add_dataset(plain(50, fails_at=33), "ann", batch=10)
        assert store.dataset().count == 30 and store.last_revision() == 3
        added = store.add_dataset(plain(50), "ann", batch=10)
        assert (added.images, added.labels, added.skipped) == (20, 20, 30)
        assert [s.name for s in store.dataset()] == [f"{i}.jpg" for i in range(50)]
        assert [s.objects[0].box_px for s in store.dataset() if s.objects] == [(0, 0, 1 + i, 1) for i in range(50)]
        assert store.add_dataset(plain(50), "ann").skipped == 50
        assert store.last_revision() == 5
        assert store.undo() == 5
        assert sum(s.objects is None for s in store.dataset()) == 10
        assert store.redo() == 5
        assert sum(s.objects is None for s in store.dataset()) == 0
        assert store.check() == ()


def test_a_data_set_need_not_fit_in_memory(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Sample] = weakref.WeakSet()
    most = 0

    def count(sample: Sample) -> None:
        nonlocal most
        alive.add(sample)
        most = max(most, len(alive))

    with Store.open(tmp_path) as store:
        store.add_dataset(plain(2000, alive=count), "ann", batch=50)
        gc.collect()
        assert 50 <= most <= 110
        alive, most = weakref.WeakSet(), 0
        for sample in store.dataset():
            count(sample)
        assert most <= 10
        asked: list[str] = []
        execute_hook(store, asked)
        it = iter(store.dataset())
        next(it)
        assert not any("FROM images" in q and "LIMIT" not in q and "count" not in q for q in asked)


def execute_hook(store: Store, asked: list[str]) -> None:
    from sqlalchemy import event

    @event.listens_for(store._database.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement.replace("\n", " "))


def test_bad_labels_in_a_data_set(store_url: str) -> None:
    good = Object("cat", (0, 0, 1, 1))
    samples = [
        Sample(Path("/p/1.jpg"), objects=(good, Object("cat", (5, 5, 5, 6))), name="1.jpg"),
        Sample(Path("/p/2.jpg"), objects=(Object("cow", (0, 0, 1, 1)),), name="2.jpg"),
        Sample(Path("/p/3.jpg"), mask=lambda: Mask(np.full((2, 2), 9, np.uint8)), name="3.jpg"),
        Sample(Path("/p/4.jpg"), name="4.jpg", attributes={"x": float("nan")}),
        Sample(Path("/p/5.jpg"), objects=(good,), name="1.jpg"),
    ]
    given = Dataset("test", Path("/p"), (Category(0, "cat"),), lambda: iter(samples), len(samples))
    with Store.open(store_url) as store:
        first = Dataset("test", Path("/p"), given.categories, lambda: iter(samples[:1]), 1)
        for what, why in (
            (first, r"1\.jpg: .*class 'cat' has a box without area.*skip_bad"),
            (given, "two images are"),
        ):
            with pytest.raises(DataError, match=why):
                store.add_dataset(what, "ann")
        assert store.dataset().count == 0
        added = store.add_dataset(given, "ann", skip_bad=True)
        assert (added.images, added.labels) == (3, 1)
        for text_, said in zip(
            ("two images are named '1.jpg'", "without area", "class 'cow' is none", "the mask holds 9", "4.jpg has"),
            added.refused,
            strict=True,
        ):
            assert text_ in said
        # what was refused is not "nothing is there"
        assert [s.objects and len(s.objects) for s in store.dataset()] == [1, None, None]
        assert store.check() == ()


def test_classes_are_matched_by_name(store_url: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255]], np.uint8)
    sample = Sample(tmp_path / "1.jpg", name="1.jpg", mask=lambda: Mask(ids), label="cat")
    given = Dataset("test", tmp_path, (Category(0, "dog"), Category(1, "cat")), lambda: iter([sample]), 1)
    with Store.open(store_url) as store:
        store.add_category("cat")
        store.add_category("far", id=254)
        store.add_dataset(given, "ann")
        assert {c.name: c.id for c in store.categories()} == {"cat": 0, "far": 254, "dog": 255}
        (back,) = store.dataset()
        assert back.mask and back.mask().ids.tolist() == [[255, 0, 65535]]  # 255 is a class here: 16 bits


def test_a_data_set_stays_as_it_was_asked_for(store_url: str) -> None:
    with Store.open(store_url) as store:
        store.add_dataset(plain(450), "ann")
        given, again = store.dataset(), store.dataset()
        it = iter(given)
        first = [next(it) for _ in range(10)]
        for name in ("5.jpg", "449.jpg"):
            store.clear(store.find(name), author="bob")
        store.add(store.find("300.jpg"), Object("cat", (0, 0, 2, 2)), author="bob")
        store.add_image("s3://new", name="new")
        for samples in ([*first, *it], list(again)):
            assert [len(s.objects or ()) for s in samples] == [1] * 450
        now = [len(s.objects or ()) for s in store.dataset()]
        assert (len(now), now[5], now[300], now[449], now[450]) == (451, 0, 2, 0, 0)


def test_two_tags(store: Store, image: int) -> None:
    store.add(image, Annotation("tag", "dog"), author="ann")
    store.add(image, Annotation("tag", "cat"), author="ann")
    sample = only(store)
    assert (sample.label, sample.attributes["tags"], sample.objects) == ("dog", ["dog", "cat"], None)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"abc")
    with Store.open(tmp_path / "store") as store:
        store.add_dataset(plain(1, root=tmp_path), "ann", hashes=True)
        assert str(store.image(1).sha256).startswith("ba7816bf")


# many at once


def test_threads_share_a_store(store: Store, image: int) -> None:
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(20):
                store.add(image, Annotation("tag", "cat", attributes={"i": i}), author=name)
                store.labels(image)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    said = {(label.author, label.annotation.attributes["i"]) for label in store.labels(image)}
    assert len(said) == len(store.labels(image)) == 160
    assert store.last_revision() == 160


WRITER = """
import sys
from handful.store.store import Annotation, Store
with Store.open(sys.argv[1]) as store:
    store.add_category("cat")
    try:
        image = store.add_image("s3://1", name="1")
    except Exception:
        image = store.find("1")
    for i in range(80):
        label = store.add(image, Annotation("tag", "cat", attributes={"i": i}), author=sys.argv[2])
        assert label.author == sys.argv[2]
"""


def test_no_process_loses_a_write(store_url: str) -> None:
    """All four make the store, too, and none is told that it is locked."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store_url, f"w{i}"], stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    said = [writer.communicate(timeout=300)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, said
    with Store.open(store_url) as store:
        found = {(label.author, label.annotation.attributes["i"]) for label in store.labels(store.find("1"))}
        assert found == {(f"w{i}", k) for i in range(4) for k in range(80)}
        assert store.last_revision() == 320 == len(store.history())
        assert store.check() == ()


def test_waiting_ends_with_a_clear_error(store_url: str) -> None:
    with Store.open(store_url) as one, Store.open(store_url, wait_s=0.2) as other:
        one.add_category("cat")
        image = one.add_image("s3://1", name="1")
        with one.revision("ann"):
            with pytest.raises(DataError, match=r"another program has been writing to it for over 0\.2 s"):
                other.add(image, BOX, author="bob")
            assert other.labels(image) == ()  # reading does not wait
            Store.open(store_url, wait_s=0.2).close()
        assert other.add(image, BOX, author="bob").version == 1
