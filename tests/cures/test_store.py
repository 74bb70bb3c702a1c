"""What the labeling store proposes in plain words: each is done, and then it works. On servers of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handful.lucid.source import opened
from handful.store import backend, backends
from handful.store.store import Annotation, Store
from handful.types import Category, Dataset, Object, Sample
from tests.cures.desk import Desk, cures
from tests.cures.test_rest import there
from tests.cures.test_writing import made
from tests.store.test_backends import ask, tables

pytest_plugins = ["tests.store.fixture"]
BOX = Object("cat", box_px=(1.0, 2.0, 30.0, 20.0))


@cures("store.backend:_engine choose", "store.backend:_engine look", "store.backend:_engine run",
       "store.backend:_engine pip install", "store.mysql:_log_in pip install", "store.backend:_waited try",
       "store.store:_revision change", "store.revisions:reverse undo #2", "lucid.source:opened leave")  # fmt: skip
def test_a_store_in_a_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.at("file").write_text("mine")
    desk.raises(Store.open, desk.at("file/labels.db"))
    with Store.open(desk.at("free/labels.db")) as one, Store.open(desk.at("free/labels.db"), wait_s=0.1) as two:
        one.add_category("cat")
        image = one.add_image("1.jpg", name="1.jpg", size_wh=(64, 48))
        with one.revision("ann") as revision:
            desk.raises(two.add, image, BOX, author="bob")
            desk.raises(one.add, image, BOX, author="ann")
            revision.add(image, BOX)
        label = two.add(image, BOX, author="bob")  # again
        for one_label in one.labels(image):
            if one_label.id != label.id:
                one.remove(one_label.id, version=one_label.version, author="ann")
        one.remove(label.id, version=label.version, author="bob")
        one.mark_empty(image, author="cy")
        desk.raises(one.undo, "bob")
        one.undo("cy")
        assert one.undo("bob") and [held.id for held in one.labels(image)] == [label.id]
    place = desk.at("free/labels.db")
    desk.raises(_taken, place, format="coco")
    assert _taken(place) == ["1.jpg"]

    pytest.importorskip("pymysql")
    address = "mysql+pymysql://me:secret@127.0.0.1/labels"
    wrong = f"{address}?read_timeout=soon"
    assert "after its ?" in desk.raises(Store.open, wrong)
    with monkeypatch.context() as patch:  # no server listens there: with the address mended it gets as far as that
        patch.setattr("pymysql.connect", _refuse)
        assert "refused here" in desk.raises(Store.open, f"{address}?read_timeout=5")
        patch.setattr("pymysql.connect", _no_package)
        there(desk.raises(Store.open, address))
        patch.setattr(backend, "create_engine", _no_driver)
        there(desk.raises(Store.open, address))


def _taken(place: Path, **how: Any) -> list[str]:
    with opened(place, lambda finding: None, **how) as (dataset, _):
        return [str(sample.name) for sample in dataset]


def _refuse(**_: Any) -> Any:
    import pymysql

    raise pymysql.err.OperationalError(2003, "refused here")


def _no_package(**_: Any) -> Any:
    raise RuntimeError("'cryptography' package is required for sha256_password or caching_sha2_password auth methods")


def _no_driver(*_: Any, **__: Any) -> Any:
    raise ImportError("No module named 'pymysql'")


@cures("store.dataset:_bad fix")
def test_a_set_with_a_label_that_cannot_be_kept(desk: Desk) -> None:
    good = list(made(desk.at("photos"), "0.jpg", "1.jpg", "2.jpg", thing="cat"))
    bad = [*good[:1], replace(good[1], objects=(Object("cat", (5.0, 5.0, 5.0, 9.0)),)), good[2]]

    def given(samples: list[Sample]) -> Dataset:
        return Dataset("made", desk.at("photos"), (Category(1, "cat"),), samples.__iter__, len(samples))

    with Store.open(desk.at("a.db")) as store:
        desk.raises(store.add_dataset, given(bad), "ann", batch=1)
        added = store.add_dataset(given(good), "ann", batch=1)
        assert (added.images, added.skipped) == (2, 1)  # what came in before stayed, and was skipped
    with Store.open(desk.at("b.db")) as store:
        added = store.add_dataset(given(bad), "ann", skip_bad=True)
        assert (added.images, added.labels, len(added.refused)) == (3, 2, 1)
        assert store.state(store.find("1.jpg")) == "unlabeled"


@cures("store.mysql:_said set")
def test_a_server_that_takes_too_little_at_once(desk: Desk, mariadb: str, new_mariadb: Callable[[], str]) -> None:
    url, large = new_mariadb(), Annotation("tag", "cat", attributes={"x": "y" * 1_100_000})
    try:
        ask(f"{mariadb}/mysql", "SET GLOBAL max_allowed_packet = 1048576")
        with Store.open(url) as store:
            store.add_category("cat")
            image = store.add_image("s3://1", name="1")
            assert "max_allowed_packet higher" in desk.raises(store.add, image, large, author="ann")
    finally:
        ask(f"{mariadb}/mysql", "SET GLOBAL max_allowed_packet = 16777216")
    with Store.open(url) as store:
        assert store.add(image, large, author="ann").version == 1


@cures("store.backend:_waited try #2", "store.database:_clear_away try")
def test_a_server_of_another_kind(
    desk: Desk, mariadb: str, new_mariadb: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(backends.KINDS, "mysql")
    url = new_mariadb()
    with monkeypatch.context() as patch:
        patch.setattr(backends.Other, "protect", _killed)
        with pytest.raises(_Killed):
            Store.open(url)
    desk.raises(Store.open, url, wait_s=0.1)
    ask(url, "SET foreign_key_checks = 0", *(f"DROP TABLE {name}" for name in sorted(tables(url))))  # all of them
    Store.open(url).close()

    second, protect = new_mariadb(), backends.Other.protect
    begun, go = threading.Event(), threading.Event()

    def slowly(self: backends.Other, *words: Any) -> None:
        begun.set()
        assert go.wait(30)
        protect(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(backends.Other, "protect", slowly)
        other = threading.Thread(target=lambda: Store.open(second).close())
        other.start()
        assert begun.wait(30)
        desk.raises(Store.open, second, wait_s=0.1)
        go.set()
        other.join()
    Store.open(second).close()  # tried again

    try:
        ask(f"{mariadb}/mysql", "SET GLOBAL innodb_lock_wait_timeout = 1")
        with Store.open(url) as one, Store.open(url) as two:
            one.add_category("cat")
            image = one.add_image("s3://1", name="1")
            with one.revision("ann"):
                desk.raises(two.add, image, BOX, author="bob")
            assert two.add(image, BOX, author="bob").version == 1
    finally:
        ask(f"{mariadb}/mysql", "SET GLOBAL innodb_lock_wait_timeout = DEFAULT")


class _Killed(BaseException):
    """Ends a process at once, as far as the database can tell."""


def _killed(*_: Any) -> None:
    raise _Killed
