"""Small data sets that hypothesis makes up: any names, any classes, masks of every awkward kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data.finding import Finding
from handful.data.masks import write_ids
from handful.types import Category, Dataset, Mask, Sample

SIZE = 11, 9
KINDS = ("none", "any", "all ignore", "all first", "one pixel", "hole")
# "/", NUL and "\" separate, a leading "." hides, "C:" is a drive: what is left may be in a name
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/\0\\:")
PARTS = st.text(CHARACTERS, min_size=1, max_size=12).filter(lambda s: not s.startswith(".") and len(s.encode()) < 200)
CLASS_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda s: s == s.strip() and "\ufeff" not in s
)


@dataclass(frozen=True)
class Row:
    name: str
    split: str | None
    kind: str
    seed: int


def folded(text: str) -> str:
    return " ".join(text.split()).casefold()


@st.composite
def rows(draw: Any, splits: Sequence[str | None], *, folders: int = 2, deep: int = 0, most: int = 5) -> list[Row]:
    """Images with names in `deep` to `folders` folders, unique up to their suffix."""
    found: dict[tuple[str | None, str], Row] = {}
    for _ in range(draw(st.integers(1, most))):
        parts = draw(st.lists(PARTS, min_size=deep + 1, max_size=folders + 1))
        split = draw(st.sampled_from(list(splits)))
        path = "/".join(parts)
        row = Row(f"{path}.png", split, draw(st.sampled_from(KINDS)), draw(st.integers(0, 999)))
        found.setdefault((split, path), row)
    # an image cannot be called as a folder is, or lie where another split has its images
    paths = {f"{r.split}/{r.name}" if r.split else r.name for r in found.values()}
    clear = [r for r in found.values() if not any(p.startswith(f"{r.split}/{r.name}/" if r.split else f"{r.name}/")
                                                  for p in paths)]  # fmt: skip
    return [r for r in clear if r.split is not None or r.name.split("/")[0] not in {q.split for q in clear}]


@st.composite
def classes(draw: Any, *, first: int = 0, most_id: int = 254, most: int = 8) -> tuple[Category, ...]:
    names = draw(st.lists(CLASS_NAMES, min_size=1, max_size=most, unique_by=folded))
    ids = draw(st.lists(st.integers(first, most_id), min_size=len(names), max_size=len(names), unique=True))
    colored = draw(st.booleans())
    rng = np.random.default_rng(len(names))
    return tuple(
        Category(i, name, rgb=tuple(rng.integers(0, 256, 3).tolist()) if colored else None)
        for i, name in zip(ids, names, strict=True)
    )


def ids_of(row: Row, categories: Sequence[Category]) -> np.ndarray | None:
    if row.kind == "none":
        return None
    wide = max(c.id for c in categories) >= 255
    kind = np.uint16 if wide else np.uint8
    known = [c.id for c in categories]
    top = int(np.iinfo(kind).max)
    rng = np.random.default_rng(row.seed)
    height, width = SIZE[::-1]
    ids = np.full((height, width), top if row.kind == "all ignore" else known[0], kind)
    if row.kind == "any":
        ids = rng.choice(np.array([*known, top]), (height, width)).astype(kind)
    elif row.kind == "one pixel":
        ids[rng.integers(height), rng.integers(width)] = known[-1]
    elif row.kind == "hole":
        ids[2:7, 2:8] = known[-1]
        ids[4, 4] = top
    return ids


def made(root: Path, found: Sequence[Row], categories: Sequence[Category]) -> Dataset:
    """The rows as a data set whose images lie in root, in order of split and name."""
    samples = []
    for i, row in enumerate(sorted(found, key=lambda r: (r.split or "", r.name))):
        path = root / f"{i}.png"
        root.mkdir(parents=True, exist_ok=True)
        rgb = np.random.default_rng(row.seed + i).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
        PIL_Image.fromarray(rgb).save(path)
        ids = ids_of(row, categories)
        mask = None if ids is None else (lambda ids=ids: Mask(ids))
        samples.append(Sample(path, name=row.name, split=row.split, mask=mask))

    def again() -> Iterator[Sample]:
        return iter(samples)

    return Dataset("made", root, tuple(categories), again, len(samples))


def said(dataset: Dataset) -> list[tuple[Any, ...]]:
    """What a data set says of each image, in order: name, split, bytes of the image, values and type of the mask."""
    found = []
    for s in dataset:
        mask = None if s.mask is None else s.mask().ids
        about = None if mask is None else (mask.dtype.name, mask.shape, mask.tobytes())
        found.append((s.name, s.split, s.path.read_bytes(), about))
    return found


def same(a: Dataset, b: Dataset) -> None:
    """Fail where two sets differ, in order too."""
    one, two = said(a), said(b)
    assert [r[:2] for r in one] == [r[:2] for r in two]
    assert [r[2] for r in one] == [r[2] for r in two]
    for mine, other in zip(one, two, strict=True):
        assert (mine[3] is None) == (other[3] is None), mine[0]
        assert mine[3] == other[3], mine[0]


def tree(root: Path, files: dict[str, Any], *, size: tuple[int, int] = SIZE) -> Path:
    """Write files by name: an array as a mask or image, None as an image, bytes and text as they are."""
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if value is None:
            rgb = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
            PIL_Image.fromarray(rgb).save(path)
        elif isinstance(value, np.ndarray) and value.ndim == 2:
            write_ids(path, value)
        elif isinstance(value, np.ndarray):
            PIL_Image.fromarray(value).save(path)
        elif isinstance(value, bytes):
            path.write_bytes(value)
        else:
            path.write_text(value)
    return root


def ids(value: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size[::-1], value, np.uint8)


def codes(told: list[Finding]) -> list[str]:
    return [finding.code for finding in told]
