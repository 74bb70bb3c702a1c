"""Files that are whole or absent: atomic writes, hashes, JSON and tensors that never execute anything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.pick import need


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
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed over it when the block ends, removed when the block fails.

    After a full disk, Ctrl-C or `kill -9` the old file (or no file) is there, never half of the new one.
    """
    path = Path(path)
    with _into(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _sync(part)
        # mkstemp makes the file private; a model is as readable as any other file of its owner
        part.chmod(0o666 & ~_umask())
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); nothing was changed") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, for a folder: everything in it appears at once, or not at all.

    Where a file system cannot exchange two folders there is an instant with neither; a `kill -9` just then leaves the
    old one beside it, as .NAME.*.old.
    """
    path = Path(path)
    with _into(path):
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    old = part.with_suffix(".old")
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _sync(file)
        part.chmod(0o777 & ~_umask())
        if not (path.exists() and _exchanged(part, path)):  # now part is the old one
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(part, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
        _sync(path.parent)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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


def to_json(value: Any) -> str:
    """JSON text, keys in the order given. NaN and infinity are refused: they are not JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    text = to_json(value)
    with replacing(path) as part:
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
    """Write named arrays as safetensors, atomically."""
    save_file = need("safetensors.numpy", "teach").save_file
    with replacing(path) as part:
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
    return Path.home() / ".cache" / "handful"
