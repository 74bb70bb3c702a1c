"""Files are whole or absent, whatever interrupts, and nothing read from disk can run code."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handful import files
from handful.errors import DataError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def fail() -> None:
        with files.replacing(path, own=True) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files.read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_folder_leaves_the_old_folder(
    tmp_path: Path, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "model"
    with files.replacing_folder(place) as part:
        (part / "a").write_text("old")

    def full(path: Path) -> None:
        raise fault

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises((DataError, KeyboardInterrupt)) as caught, files.replacing_folder(place) as part:
        (part / "a").write_text("new")
    if isinstance(caught.value, DataError):
        assert "No space left" in str(caught.value)
    assert (place / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


KILLER = """
import json, os, resource, shutil, signal, sys
from pathlib import Path

import handful.files as files

OLD, NEW = ({"text": letter * 200_000} for letter in "on")
how = sys.argv[2]
place = Path(sys.argv[1]) / ("a/a.json" if "folder" in how else "a.json")


def direct(path, value):
    path.write_text(files.to_json(value))


def moved(path, value):
    path.with_suffix(".new").write_text(files.to_json(value))
    path.unlink()
    path.with_suffix(".new").rename(path)


def folder(path, value):
    with files.replacing_folder(path.parent) as part:
        (part / path.name).write_text(files.to_json(value))


if how == "folder in two steps":
    files._exchanged = lambda one, other: False
write = {"ours": lambda *given: files.write_json(*given, own=True), "direct": direct, "moved": moved}.get(how, folder)


def state():
    try:
        return {"o": "old", "n": "new"}[json.loads(place.read_text())["text"][0]]
    except FileNotFoundError:
        return "absent"
    except ValueError:
        return "torn"


def after_kill(prepare):
    for path in Path(sys.argv[1]).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(OLD))
    if not (child := os.fork()):
        prepare()
        write(place, NEW)
        os._exit(0)
    return os.waitpid(child, 0)[1], state()


def at_event(number):
    seen = 0

    def count(event, given):
        nonlocal seen
        if event == "open" or event.startswith("os."):
            seen += 1
            if seen > number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def at_byte(number):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; now the kernel kills in the middle of write()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))


found, number = {"killed": [], "survived": []}, 0
while True:
    status, seen = after_kill(lambda: at_event(number))
    found["killed" if status else "survived"].append(seen)
    number += 1
    if not status:
        break
for size in (0, 1, 4096, 150_000):
    status, seen = after_kill(lambda: at_byte(size))
    found["killed" if status else "survived"].append(seen)
print(json.dumps(found))
"""


def after_kills(folder: Path, how: str) -> dict[str, list[str]]:
    """What an old file is after a writer of a new one was killed before each of its steps, and after so many bytes:
    {"killed", "survived"}: "old", "new", "absent" or "torn" each."""
    done = subprocess.run([sys.executable, "-c", KILLER, str(folder), how], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and needs a file size limit")
def test_the_file_is_old_or_new_after_any_kill(tmp_path: Path) -> None:
    """kill -9 before every system call of a write that Python tells of, and in the middle of the bytes."""
    found = after_kills(tmp_path, "ours")
    assert set(found["killed"]) == {"old", "new"} and found["survived"] == ["new"]
    assert len(found["killed"]) >= 8


def can_exchange(folder: Path) -> bool:
    for name in ("one", "other"):
        (folder / name).mkdir()
    return files._exchanged(folder / "one", folder / "other")


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and needs a file size limit")
def test_the_folder_is_old_or_new_after_any_kill(tmp_path: Path) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange two folders")
    found = after_kills(tmp_path, "folder")
    assert set(found["killed"]) == {"old", "new"} and found["survived"] == ["new"]
    assert len(found["killed"]) >= 8


def test_folders_change_places_or_stay(tmp_path: Path) -> None:
    assert not files._exchanged(tmp_path / "none", tmp_path / "there")
    if can_exchange(tmp_path):
        (tmp_path / "one" / "was other").touch()
        assert files._exchanged(tmp_path / "one", tmp_path / "other")
        assert (tmp_path / "other" / "was other").exists() and not list((tmp_path / "one").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and needs a file size limit")
@pytest.mark.parametrize(("how", "seen"), [("direct", "torn"), ("moved", "absent"), ("folder in two steps", "absent")])
def test_a_writer_that_is_not_atomic_is_caught(tmp_path: Path, how: str, seen: str) -> None:
    assert seen in after_kills(tmp_path, how)["killed"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A real write that does not fit (a file size limit stands for the full disk)."""
    code = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np\n"
        "from handful.errors import DataError; from handful.files import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try: write_tensors(Path(sys.argv[1]), {'a': np.zeros(10**6)})\n"
        "except DataError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.safetensors")], capture_output=True, text=True)
    assert "could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.path),)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_pickle_under_another_name_is_refused_and_never_run(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb(harm)))
    with pytest.raises(DataError, match="pickle"):
        files.read_tensors(path)
    assert not harm.exists()
    pickle.loads(path.read_bytes())
    assert harm.exists()  # so the bomb would have gone off


def test_damaged_tensors_and_json_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write_tensors(path, {"a": np.arange(6).reshape(2, 3), "scalar": np.array(3.0)})
    back = files.read_tensors(path)
    assert back["scalar"].shape == ()
    assert (back["a"] == np.arange(6).reshape(2, 3)).all()
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"a\.safetensors is not a whole"):
        files.read_tensors(path)
    with pytest.raises(DataError, match="missing"):
        files.read_tensors(tmp_path / "b.safetensors")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(DataError, match=r"c\.json"):
        files.read_json(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(DataError, match="wanted an object"):
        files.read_json(tmp_path / "c.json")
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "d.json", {"nan": float("nan")})


def test_every_length_of_a_header_is_read(tmp_path: Path) -> None:
    """The length comes first in the file, and some lengths begin like a pickle."""
    from handful.files import read_tensors, write_tensors

    starts = set()
    for letters in range(1, 2200, 8):
        file = tmp_path / f"{letters}.safetensors"
        write_tensors(file, {"n" * letters: np.arange(3.0)})
        assert (read_tensors(file)["n" * letters] == np.arange(3.0)).all()
        starts.add(file.read_bytes()[:2])
    assert b"\x80\x02" in starts and b"\x80\x04" in starts  # pickle's first bytes


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file, so nothing can be written into it"):
        files.write_json(tmp_path / "file" / "a.json", {})
    if sys.platform == "linux":
        for place in ("/proc/a.json", "/proc/none/a.json"):
            with pytest.raises(DataError, match=r"nothing can be written into /proc.*; choose another folder"):
                files.write_json(Path(place), {})


def test_a_page_replaces_no_other_file(tmp_path: Path) -> None:
    files.check_page(tmp_path / "a.HTML")
    with pytest.raises(DataError, match=r"got .*api\.py for the page; wanted a file name that ends in \.html"):
        files.check_page(tmp_path / "api.py")
