"""Files that are whole or absent: atomic writes, hashes, JSON and tensors that never execute anything."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handful import places, running
from handful.errors import DataError
from handful.pick import need

SHOWN = 100  # characters of a name, in that of its temporary file: names may not be much longer than they are
YOUNG_S = 60.0  # a folder that was begun just now may not be held yet


def write_page(path: Path, html: str) -> None:
    """Write an HTML page atomically. It says in its head who made it, so that it may be replaced later."""
    head = "<head>\n"
    with replacing(path) as part:
        said = f'{head}<meta name="generator" content="{places.MARK}">\n'
        part.write_text(html.replace(head, said, 1), encoding="utf-8", errors="backslashreplace")


def check_page(path: Path) -> None:
    """Raises DataError for a name that is no page's, so that no other file is replaced by one."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"got {path} for the page; wanted a file name that ends in .html")


@contextlib.contextmanager
def _into(path: Path) -> Iterator[None]:
    """With the folder that a file or folder goes into; raises DataError where that, or what is begun in it, cannot be
    made."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except FileExistsError as error:
        raise DataError(f"{folder} is a file, so nothing can be written into it; choose another folder") from error
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"nothing can be written into {folder} ({why}); choose another folder") from error


@contextlib.contextmanager
def replacing(path: Path, *, own: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`; renamed over it when the block ends, removed when the block fails.

    After a full disk, Ctrl-C or `kill -9` the old file (or no file) is there, never half of the new one. A link is
    followed. Only a file that handful made is replaced (places.ours), and any where `own`: in a folder whose files are
    all handful's, or where the caller knows. Raises DataError.
    """
    if not own and Path(path).exists():
        places.check_file(Path(path))
    path = places.real(Path(path)) if Path(path).is_symlink() else Path(path)
    with _into(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:SHOWN]}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _sync(part)
        # mkstemp makes the file private; a model is as readable as any other file of its owner
        part.chmod(0o666 & ~_umask())
        os.replace(part, path)
        _sync(path.parent)
        _told(path)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); nothing was changed") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, ours: Callable[[Path], Collection[str]] | None = None) -> Iterator[Path]:
    """As `replacing`, for a folder: everything in it appears at once, or not at all. A link is followed.

    ours: (the old folder) -> names in it that are handful's, and go, or paths below it, with /; what else lies there is
    the user's, and is in the new folder too. None: all of it is ours.

    Where a file system cannot exchange two folders there is an instant with neither; a `kill -9` just then leaves the
    old one beside it, as .NAME.*.old. A folder that is a mounted volume stays where it is: its files are replaced one
    by one. What a killed process had begun is removed by the next one that writes to the same place.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    home = path if os.path.ismount(path) else path.parent
    with _into(home / path.name):
        _sweep(home, path.name)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=home))
    alive, old = _mark(part), part.with_suffix(".old")
    try:
        yield part
        if ours is not None and path.is_dir():
            _carry(path, part, {*ours(path), part.name})
        for file in part.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _sync(file)
        part.chmod(0o777 & ~_umask())
        if home == path:
            _one_by_one(part, path)
        elif not (path.exists() and _exchanged(part, path)):  # now part is the old one
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(part, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
        _sync(path.parent)
        _told(path)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        if alive is not None:
            os.close(alive)


def _carry(old: Path, new: Path, own: Collection[str]) -> None:
    """A user's own files and folders, into the new folder. own: names, and paths below, of what is not theirs."""
    for entry in sorted(old.iterdir()):
        to, below = new / entry.name, {one.partition("/")[2] for one in own if one.startswith(f"{entry.name}/")}
        if entry.name in own:
            continue
        if below and entry.is_dir() and not entry.is_symlink():
            there = to.is_dir()
            to.mkdir(exist_ok=True)
            _carry(entry, to, below)
            if not there and not any(to.iterdir()):
                to.rmdir()
        elif not os.path.lexists(to):
            _same_again(entry, to)


def _same_again(entry: Path, to: Path) -> None:
    """A user's own file or folder, at a second place; the first one stays until the new folder is there."""
    if entry.is_symlink():
        os.symlink(os.readlink(entry), to)
    elif entry.is_dir():
        to.mkdir()
        for one in entry.iterdir():
            _same_again(one, to / one.name)
        shutil.copystat(entry, to)
    else:
        try:
            os.link(entry, to)
        except OSError:  # a file system without hard links
            shutil.copy2(entry, to)


def _one_by_one(part: Path, path: Path) -> None:
    """Put files over those of a folder that cannot be moved. What says which files there are is the last."""
    made = {entry.name for entry in part.iterdir()}
    for entry in sorted(part.iterdir(), key=lambda entry: (entry.suffix == ".json", entry.name)):
        to = path / entry.name
        if to.is_dir() and not to.is_symlink():
            shutil.rmtree(to)
        os.replace(entry, to)
    for entry in path.iterdir():
        if entry.name not in made and entry.name != part.name:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _mark(part: Path) -> int | None:
    """Hold a lock on what is begun, so that others see that somebody is at it; None where there are no locks."""
    try:
        import fcntl

        handle = os.open(part, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return None
    return handle


def _sweep(home: Path, name: str) -> None:
    """Remove what killed processes had begun here: nobody holds it any more."""
    for stale in home.glob(f".{glob.escape(name)}.*.part"):
        age_s = time.time() - stale.lstat().st_mtime if stale.is_dir() else 0.0
        if age_s < YOUNG_S or (handle := _mark(stale)) is None:
            continue
        shutil.rmtree(stale, ignore_errors=True)
        os.close(handle)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system or the file system cannot."""
    import ctypes

    names, at, exchange = (os.fsencode(one), os.fsencode(other)), -100, 2  # AT_FDCWD; RENAME_EXCHANGE, RENAME_SWAP
    try:
        system = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(system.renamex_np(*names, exchange) == 0)
        return bool(system.renameat2(at, names[0], at, names[1], exchange) == 0)
    except (AttributeError, OSError, TypeError):  # another system, an old C library
        return False


def _told(path: Path) -> None:
    home = cache_home()
    if home is None or not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(home)):
        running.wrote(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10 has no file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def to_json(value: Any, *, ascii: bool = False) -> str:
    """JSON text, keys in the order given. NaN and infinity are refused: they are not JSON. A byte of a file's name that
    is no UTF-8 is told as \\xNN, since JSON has no bytes. ascii: all else escaped, for a terminal without letters."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    text = re.sub("[\ud800-\udfff]", _no_text, text)
    return re.sub(r"[^\x00-\x7f]", lambda m: json.dumps(m[0])[1:-1], text) if ascii else text


def _no_text(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(path: Path, value: Any, *, own: bool = False) -> None:
    """Write JSON atomically. own: as in replacing."""
    text = to_json(value)
    with replacing(path, own=own) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DataError naming the file when it is absent, unreadable or not an object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; wanted a JSON file there") from None
    except (OSError, ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, numbers without end, a million [
        raise DataError(f"{path} is not readable JSON ({error}); restore it or make it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}; wanted an object")
    return value


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as safetensors, atomically, in a folder that is handful's own."""
    save_file = need("safetensors.numpy", "teach").save_file
    with replacing(path, own=True) as part:
        try:
            save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, str(part))
        except Exception as error:  # the library wraps a full disk in an error of its own
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Named arrays from a safetensors file. Raises DataError, naming the file; nothing in it is ever executed."""
    load_file = need("safetensors.numpy", "teach").load_file
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; wanted a safetensors file there") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    # safetensors: eight bytes of the header's length, which may well begin as a pickle does, then the header in JSON
    if start[8:] != b"{" and (start[:1] == b"\x80" or start[:4] == b"PK\x03\x04"):
        raise DataError(
            f"{path} is a Python pickle under a .safetensors name; a pickle can run code, so it is not opened; "
            "convert it to safetensors where it came from"
        )
    try:
        return dict(load_file(str(path)))
    except Exception as error:
        raise DataError(f"{path} is not a whole safetensors file ({error}); restore it or make it again") from error


def cache_home() -> Path | None:
    """Where what can be computed again is kept: $HANDFUL_CACHE (empty for nowhere), else ~/.cache/handful."""
    said = os.environ.get("HANDFUL_CACHE")
    if said is not None:
        return Path(said) if said else None
    try:
        return Path.home() / ".cache" / "handful"
    except RuntimeError:  # a user without a home
        return None
