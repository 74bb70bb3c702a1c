"""No traceback on the terminal: one line, and a file with the trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful.cli import cli, main
from handful.cli.places import home
from handful.errors import DataError
from handful.fewshot.evaluate import evaluate
from handful.fewshot.teaching import teach
from handful.files import cache_home


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and err.count("\n") == 1
    return int(stop.value.code or 0), out, err


def test_a_fault_is_one_line_and_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, ZeroDivisionError("by\nzero"))
    code, out, err = ended(capsys, "check", "photos", "--json")
    assert code == 70 and "a fault of handful itself: ZeroDivisionError: by zero" in err
    (file,) = tmp_path.glob("handful-trace-*.txt")
    assert str(file) in err and "Traceback" in file.read_text() and "photos" in file.read_text()
    assert json.loads(out)["exit_code"] == 70


def test_nowhere_to_keep_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    failing(monkeypatch, ValueError("odd"))
    code, _, err = ended(capsys, "demo")
    assert code == 70 and "its trace could not be kept (No such file or directory)" in err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GB")])
def test_memory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    code, _, err = ended(capsys, "train")
    assert code == 2 and re.search("not enough memory.*smaller --batch", err)


def test_a_file_that_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, PermissionError(13, "Permission denied", "/a/b"))
    code, _, err = ended(capsys, "demo")
    assert code == 2 and "'/a/b' cannot be read or written (Permission denied)" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_stdout_is_full(more: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "handful", "weights", "list", *more], stdout=full,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the answer could not be printed (No space left on device)" in done.stderr


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert home("~/m") == f"{tmp_path}/m" and home("a~b") == "a~b" and home("~nobody-at-all/m") == "~nobody-at-all/m"
    os.mkdir("~")
    assert home("~") == "~"


@pytest.mark.parametrize("how", ["a file", "nowhere", "no home"])
def test_without_a_place_for_the_cache_the_work_is_done(
    how: str, photo_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    photos = photo_folder(("cat", "rocket"), 2)
    (tmp_path / "file").touch()
    if how == "no home":  # and nobody in the list of users
        monkeypatch.delenv("HANDFUL_CACHE")
        monkeypatch.delenv("HOME")

        def nobody(uid: int) -> None:
            raise KeyError(uid)

        monkeypatch.setattr("pwd.getpwuid", nobody)
        assert cache_home() is None
    else:
        places = {"a file": tmp_path / "file", "nowhere": "/proc/1/none"}
        monkeypatch.setenv("HANDFUL_CACHE", str(places[how]))
    main(["data", "check", str(photos), "--json"])
    assert json.loads(capsys.readouterr().out)["ok"]
    teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(64, 64), cache=cache_home())
    assert (tmp_path / "m" / "handful.json").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_of_train_and_test_is_taught_by_its_split(
    split: str, photo_folder: Callable[..., Path], tmp_path: Path
) -> None:  # fmt: skip
    place = tmp_path / "set"
    for i, name in enumerate(("train", "test")):
        place.mkdir(exist_ok=True)
        photo_folder(("cat", "rocket"), 2, seed=i, name=name).rename(place / name)
    with pytest.raises(DataError, match=r"is split into test, train; name one of them: --split"):
        teach(place, tmp_path / "m", backbone="lite0", frame_hw=(64, 64))
    made = teach(place, tmp_path / "m", backbone="lite0", frame_hw=(64, 64), split=split)
    found = evaluate(tmp_path / "m", place)
    assert made["images"] == 4 and found["split"] == "test" and found["images"] == 4
    assert found["seen"]["copies"] == (4 if split == "test" else 0)
