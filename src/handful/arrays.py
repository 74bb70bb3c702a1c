"""Names for the array types in public signatures, so that a type checker knows what is in them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

import numpy as np

U8: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
I64: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
F32: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
F64: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Bool: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

StrPath: TypeAlias = Union[str, "os.PathLike[str]"]

# what json.loads gives and json.dumps takes
JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
JSONObject: TypeAlias = dict[str, JSON]
