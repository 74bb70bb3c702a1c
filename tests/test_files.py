"""Files are whole or absent, whatever interrupts, and nothing read from disk can run code."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from handful import files
from handful.errors import DataError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def fail() -> None:
        with files.replacing(path) as part:
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


def test_the_file_is_there_or_not_after_kill(tmp_path: Path) -> None:
    """A writer killed at random moments: every file found is whole."""
    code = (
        "import sys; from pathlib import Path; from handful.files import write_json\n"
        "for i in range(10**6): write_json(Path(sys.argv[1]), {'i': i, 'filler': 'x' * 200000})"
    )
    for wait in (0.25, 0.35, 0.45):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.json")])
        time.sleep(wait)
        child.kill()
        child.wait()
        if (tmp_path / "a.json").exists():
            assert len(files.read_json(tmp_path / "a.json")["filler"]) == 200000


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
