"""Weights as TensorFlow.js keeps them: a JSON file that says what is in the binary files beside it. Nothing is run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.files import read_json

KINDS = {"float32": np.float32, "int32": np.int32, "float16": np.float16, "uint8": np.uint8, "uint16": np.uint16,
         "bool": np.bool_}  # fmt: skip
MOST_BYTES = 1 << 30


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of a TensorFlow.js model, whose model.json is `path`.

    What was kept in fewer bits (float16, or uint8 and uint16 with a scale) comes back as float32. Raises DataError,
    naming the file, for anything that does not fit: a file outside the folder, a size that is not what was said.
    """
    path = Path(path)
    groups = read_json(path).get("weightsManifest")
    if not isinstance(groups, list):
        raise DataError(f"{path} has no weightsManifest; wanted the model.json of a TensorFlow.js model")
    found: dict[str, np.ndarray] = {}
    for group in groups:
        files, entries = _list(path, group, "paths"), _list(path, group, "weights")
        held, at = b"".join(_beside(path, name) for name in files), 0
        for entry in entries:
            name, kept, kind, shape, scale, least = _entry(path, entry)
            size = math.prod(shape) * np.dtype(kept).itemsize
            if size > len(held) - at:
                raise DataError(f"{path}: {name} wants {size} bytes, but {len(held) - at} are left in "
                                f"{', '.join(map(str, files))}; get the files again")  # fmt: skip
            value = np.frombuffer(held, kept, math.prod(shape), at).reshape(shape)
            at += size
            if scale is not None:
                value = value.astype(np.float64) * scale + least
            found[name] = value.astype(kind)
        if at != len(held):
            raise DataError(f"{path}: {', '.join(map(str, files))} has {len(held)} bytes, {path.name} speaks of {at}; "
                            "get the files again")  # fmt: skip
    return found


def _list(path: Path, group: Any, key: str) -> list[Any]:
    value = group.get(key) if isinstance(group, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{path}: a group of weights has no {key}; wanted a TensorFlow.js model")
    return value


def _beside(path: Path, name: Any) -> bytes:
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".", ".."):
        raise DataError(f"{path} names the file {name!r}; wanted the name of one in the same folder")
    file = path.parent / name
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{file} has {size} bytes; wanted at most {MOST_BYTES}")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); it belongs to {path.name}") from error


def _entry(path: Path, entry: Any) -> tuple[str, Any, Any, tuple[int, ...], float | None, float]:
    """Name, how it is kept, what it is, shape, scale and least value of one array."""
    try:
        name, kind, shape = str(entry["name"]), KINDS[entry["dtype"]], tuple(entry["shape"])
        less = entry.get("quantization")
        kept = KINDS[less["dtype"]] if less else kind
        scale = float(less["scale"]) if less and "scale" in less else None
        least = float(less.get("min", 0.0)) if less else 0.0
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: an array is described by {str(entry)[:80]!r}; wanted name, shape and dtype "
                        f"({', '.join(KINDS)})") from error  # fmt: skip
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise DataError(f"{path}: {name} has the shape {list(shape)}; wanted whole numbers of 0 or more")
    if scale is not None and not (math.isfinite(scale) and math.isfinite(least)):
        raise DataError(f"{path}: {name} has the scale {scale} and the least value {least}; wanted numbers")
    return name, kept, kind, shape, scale, least
