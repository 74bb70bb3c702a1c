"""One writer at a time; what a user keeps in a model folder stays; nothing begun is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from handful import files, locks
from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.files import read_json
from handful.locks import one_writer
from tests.conftest import save

HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def holding(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that changes a folder, until its stdin is closed or it is killed."""
    other = subprocess.Popen([sys.executable, "-S", "-c", HOLD, str(folder)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    return other


def ended(other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.communicate()


def test_another_writer_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    other = holding(tmp_path)
    with pytest.raises(DataError, match="another handful command has been changing"), one_writer(tmp_path, 0.0):
        pytest.fail("two writers at once")
    threading.Timer(0.2, ended, [other]).start()
    with one_writer(tmp_path):  # killed: the lock goes with it
        assert other.poll() is not None or other.wait(10) is not None


def test_compilations_of_one_model_go_side_by_side(tmp_path: Path) -> None:
    both = one_writer(tmp_path, 0.0, shared=True), one_writer(tmp_path, 0.0, shared=True)
    with both[0], both[1], pytest.raises(DataError), one_writer(tmp_path, 0.0):
        pytest.fail("changed while it is compiled")
    with one_writer(tmp_path, 0.0), pytest.raises(DataError), one_writer(tmp_path, 0.0, shared=True):
        pytest.fail("compiled while it is changed")


def test_the_folder_that_came_in_its_place_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waited has the old folder in its hand; what lies there now counts."""
    place = tmp_path / "model"
    place.mkdir()
    locked, seen = locks._locked, []

    def late(handle: int, shared: bool) -> bool:
        seen.append(os.fstat(handle).st_ino)
        if len(seen) == 1:
            os.rename(place, tmp_path / "before")
            place.mkdir()
        return locked(handle, shared)

    monkeypatch.setattr(locks, "_locked", late)
    with one_writer(place):
        assert len(seen) == 2 and seen[1] == place.stat().st_ino != seen[0]


def test_what_is_not_there_yet_is_locked_by_what_is_above(tmp_path: Path) -> None:
    other = holding(tmp_path)
    with pytest.raises(DataError), one_writer(tmp_path / "a" / "model", 0.0):
        pytest.fail("two writers at once")
    ended(other)


def test_a_volume_without_locks_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with one_writer(tmp_path, 0.0):
        pass


def refused(folder: Path, *, shared: bool) -> bool:
    try:
        with one_writer(folder, 0.0, shared=shared):
            return False
    except DataError:
        return True


def test_compilations_go_side_by_side_and_no_writer_beside_them(tmp_path: Path) -> None:
    with one_writer(tmp_path, 0.0, shared=True):
        assert not refused(tmp_path, shared=True) and refused(tmp_path, shared=False)
    with one_writer(tmp_path, 0.0):
        assert refused(tmp_path, shared=True) and refused(tmp_path, shared=False)


def test_a_users_folder_in_the_place_of_a_bundle_stays(tmp_path: Path) -> None:
    from handful.bundle import own_names

    (tmp_path / "mine.txt").write_text("mine")
    assert own_names(tmp_path) == frozenset()


def written(place: Path, names: dict[str, str], ours: Any = None) -> None:
    with files.replacing_folder(place, ours) as part:
        for name, text in names.items():
            (part / name).write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a file of ours, and what a user has put beside it."""
    place = tmp_path / "model"
    written(place, {"a.json": "old", "gone": "old"})
    (place / "NOTES.md").write_text("mine")
    (place / "mine" / "deep").mkdir(parents=True)
    (place / "mine" / "deep" / "b.txt").write_text("mine too")
    (place / "link").symlink_to("NOTES.md")
    return place


def is_new(place: Path) -> None:
    """The files of ours are the new ones, the user's are as they were, and nothing else is there or beside it."""
    assert (place / "a.json").read_text() == "new" and not (place / "gone").exists()
    assert (place / "NOTES.md").read_text() == "mine" and (place / "mine/deep/b.txt").read_text() == "mine too"
    assert os.readlink(place / "link") == "NOTES.md"
    assert {entry.name for entry in place.iterdir()} == {"a.json", "NOTES.md", "mine", "link"}
    assert [entry.name for entry in place.parent.iterdir() if entry.name.startswith(".")] == []


OURS = ("a.json", "gone")


def test_a_users_own_files_stay(place: Path) -> None:
    written(place, {"a.json": "new"}, lambda old: OURS)
    is_new(place)


def test_without_hard_links_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    written(place, {"a.json": "new"}, lambda old: OURS)
    is_new(place)


def test_a_link_is_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(place)
    written(tmp_path / "linked", {"a.json": "new"}, lambda old: OURS)
    assert (tmp_path / "linked").is_symlink()
    is_new(place)


def test_a_mounted_volume_stays_where_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be exchanged with it, nor renamed to it."""
    rename = os.replace

    def across(one: Any, other: Any) -> None:
        assert place not in (Path(one), Path(other)), "a mounted volume cannot be moved"
        rename(one, other)

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == place)
    monkeypatch.setattr(os, "replace", across)
    before = place.stat().st_ino
    written(place, {"a.json": "new"}, lambda old: OURS)
    assert place.stat().st_ino == before
    is_new(place)


def test_what_a_killed_process_had_begun_is_removed(place: Path, tmp_path: Path) -> None:
    stale, young, held = (tmp_path / f".model.{name}.part" for name in ("stale", "young", "held"))
    for part in (stale, young, held):
        part.mkdir()
        (part / "half").write_text("x")
    for part in (stale, held):
        os.utime(part, (0, 0))
    other = holding(held)
    written(place, {"a.json": "new"}, lambda old: OURS)
    assert not stale.exists() and young.exists() and held.exists()
    ended(other)
    shutil.rmtree(young)
    written(place, {"a.json": "new"}, lambda old: OURS)
    is_new(place)


def test_a_taught_model_keeps_what_is_the_users(taught_model: Path, tmp_path: Path) -> None:
    """By every way of changing it: taught more, set, unlearned, compiled, saved over, through a link."""
    from handful.kinds.changing import set_own, unlearn
    from handful.kinds.compiling import compile_model
    from handful.kinds.loading import load

    model, link = tmp_path / "real", tmp_path / "model"
    shutil.copytree(taught_model, model)
    link.symlink_to(model)
    notes = [model / "NOTES.md", model / "mine" / "a.txt"]
    for note in notes:
        note.parent.mkdir(exist_ok=True)
        note.write_text("mine")
    set_own(link, {"vigilance": 2.0})
    bundle = compile_model(link, "torch").folder
    (bundle / "NOTES.md").write_text("mine")
    compile_model(link, "torch", force=True)
    assert (bundle / "NOTES.md").read_text() == "mine"
    unlearn(link, None, ["rocket"], {})
    loaded: Any = load(link)
    loaded.save(link)
    assert [note.read_text() for note in notes] == ["mine", "mine"] and link.is_symlink()
    assert (bundle / "NOTES.md").read_text() == "mine" and list(loaded.classes) == ["cat", "coffee"]
    assert [path.name for path in (model / "compiled").rglob("*")] == [bundle.name, "NOTES.md"]
    (bundle / "NOTES.md").unlink()
    loaded.save(link)
    assert not (model / "compiled").exists()  # nothing of a user's is in it


def test_what_changes_nothing_drops_nothing(taught_model: Path, tmp_path: Path) -> None:
    from handful.fewshot.teaching import teach
    from handful.kinds.changing import set_own
    from handful.kinds.compiling import compile_model

    model, photos = tmp_path / "model", tmp_path / "photos"
    shutil.copytree(taught_model, model)
    save(sample_photo("cat").rgb_u8, photos / "tabby" / "1.png")
    teach(photos, model, add=True, allow=["one_image"])
    bundle = compile_model(model, "torch").folder
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.is_file()}
    assert teach(photos, model, add=True)["learned"] == 0
    own = read_json(model / "nemo.json")["vigilance"]
    assert set_own(model, {"vigilance": own})["bundles_kept"] == [bundle.name]
    assert before == {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.is_file()}
    assert set_own(model, {"vigilance": own - 0.5})["bundles_dropped"] == [bundle.name] and not bundle.exists()


def test_a_model_changed_meanwhile_is_not_compiled(taught_model: Path, tmp_path: Path) -> None:
    from handful.device.compile import compile_bundle
    from handful.kinds.changing import set_own
    from handful.kinds.compiling import source_of

    shutil.copytree(taught_model, tmp_path / "model")
    source = source_of(tmp_path / "model")
    set_own(tmp_path / "model", {"vigilance": 2.0})
    with pytest.raises(DataError, match="changed by another command"):
        compile_bundle(source, "torch")


def test_a_model_replaced_while_it_is_read_is_read_again(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun on the old folder may be half of each; an error of it says nothing of the new one."""
    from handful.kinds import loading, registry

    place, before = tmp_path / "model", tmp_path / "before"
    shutil.copytree(taught_model, place)
    loader, reads = registry.loader(place), []

    class Late:
        @staticmethod
        def load(folder: Path) -> Any:
            model = loader.load(folder)
            reads.append(model)
            if len(reads) < 3:  # once as if it were whole, once with an error
                os.rename(place, before.with_suffix(f".{len(reads)}"))
                shutil.copytree(taught_model, place)
            if len(reads) == 2:
                raise DataError("half of each")
            return model

    monkeypatch.setattr(registry, "loader", lambda folder: Late)
    assert loading.load(place) is reads[2] and len(reads) == 3
    monkeypatch.setattr(Late, "load", staticmethod(lambda folder: loader.load(tmp_path / "absent")))
    with pytest.raises(DataError, match="absent"):  # nothing has changed: the error is true
        loading.load(place)
