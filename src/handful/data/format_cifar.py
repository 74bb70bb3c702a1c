"""CIFAR-10 and CIFAR-100, binary version: images of 32x32 px in records of equal length.

https://www.cs.toronto.edu/~kriz/cifar.html. A record is one byte of class (CIFAR-100: group, then class), then 1024
bytes each of red, green and blue. data_batch_1.bin to data_batch_5.bin and test_batch.bin with batches.meta.txt; or
train.bin and test.bin with fine_label_names.txt and coarse_label_names.txt. An image has no name there: it is called
data_batch_1/00000.png by its place. Folders of CIFAR's images as image files are the format "folder".
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.paths import Shelf, relative
from handful.data.reading import label_text
from handful.data.writing import Writer, image_of
from handful.errors import DataError
from handful.types import Category, Dataset, Image, Sample
from handful.words import counted

PRECEDENCE = 70
TITLE = "CIFAR-10 and CIFAR-100, binary"
TREE = """\
data_batch_1.bin
test_batch.bin
batches.meta.txt                   the names of the classes
"""
SIDE = 32
IMAGE = 3 * SIDE * SIDE
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
PARTS = ("train", "test")
META, FINE, COARSE = "batches.meta.txt", "fine_label_names.txt", "coarse_label_names.txt"
BELOW = ("cifar-10-batches-bin", "cifar-100-binary")  # what the published archives unpack to
PICKLED = ("cifar-10-batches-py", "cifar-100-python")
BATCH = 10_000
_NAME = re.compile(r"^(data_batch_[1-5]|test_batch|train|test)/\d{5,}\.png$")


@dataclass(frozen=True)
class _File:
    """One file of records. label: the class byte of each image; group: the byte before it, in CIFAR-100."""

    path: Path
    split: str
    label: np.ndarray
    group: np.ndarray | None

    @property
    def head(self) -> int:
        """Bytes before the pixels."""
        return 1 if self.group is None else 2


def detect(folder: Path) -> bool:
    """Whether the folder holds CIFAR's files, also those of the Python version, which read() refuses."""
    return _place(Path(folder)) is not None or _pickled(Path(folder)) is not None


def _place(folder: Path) -> Path | None:
    """The folder of the binary files: the one given, or the one its archive unpacks to."""
    for place in (folder, *(folder / name for name in BELOW)):
        if any((place / f"{name}.bin").is_file() for name in BATCHES):
            return place
        if (place / FINE).is_file() and any((place / f"{name}.bin").is_file() for name in PARTS):
            return place
    return None


def _pickled(folder: Path) -> Path | None:
    for place in (folder, *(folder / name for name in PICKLED)):
        for name in ("data_batch_1", "test_batch", "batches.meta", "meta"):
            try:
                with open(place / name, "rb") as file:
                    if file.read(1) == b"\x80":
                        return place / name
            except OSError:
                pass
    return None


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The images of the training batches, then those of the test batch, in order; pixels are decoded when asked for.

    In CIFAR-100 `label` is the fine class, its group is the class's parent and the attribute "coarse". Raises
    DataError for the Python version: a pickle can run code, so it is not opened.
    """
    folder = Path(folder)
    place, pickled = _place(folder), _pickled(folder)
    if place is None and pickled is not None:
        raise DataError(
            f"{pickled} is a Python pickle, which can run code and is not opened; get CIFAR's binary version"
        )
    if place is None:
        raise DataError(f"{folder} has none of CIFAR's files in it; wanted data_batch_1.bin, or train.bin and {FINE}")
    ten = any((place / f"{name}.bin").is_file() for name in BATCHES)
    shelf = Shelf(place, folder)
    files = []
    for name in BATCHES if ten else PARTS:
        path = place / f"{name}.bin"
        if path.is_file() and shelf.inside(path.name, on_finding):
            files.append(
                _labels(path, "test" if name.startswith("test") else "train", 1 if ten else 2, folder, on_finding)
            )
    groups = [] if ten else _names(place / COARSE, folder, on_finding)
    rows: list[dict[str, Any]] = [
        {"id": i, "name": name} for i, name in enumerate(_names(place / (META if ten else FINE), folder, on_finding))
    ]
    parents = _parents(files, groups, folder, on_finding)
    for row in rows:
        row["supercategory"] = parents.get(row["id"])
    categories = categories_of(rows, on_finding, file=relative(place / (META if ten else FINE), folder))
    classes = {c.id: c.name for c in categories}
    for file in files:
        _outside(file, classes, groups, folder, on_finding)

    def samples() -> Iterator[Sample]:
        for file in files:
            for i in range(len(file.label)):
                about = {}
                if file.group is not None and file.group[i] < len(groups):
                    about["coarse"] = groups[file.group[i]]
                yield Sample(
                    file.path, label=classes.get(int(file.label[i])), name=f"{file.path.stem}/{i:05d}.png",
                    split=file.split, size_wh=(SIDE, SIDE), attributes=about,
                    pixels=partial(_pixels, file.path, i, file.head),
                )  # fmt: skip

    return Dataset("cifar", folder, categories, samples, sum(len(file.label) for file in files))


def _labels(path: Path, split: str, head: int, root: Path, on_finding: OnFinding) -> _File:
    """The bytes before each image, a block of the file at a time."""
    record = head + IMAGE
    size, file = os.path.getsize(path), relative(path, root)
    if size == 0:
        on_finding(Finding("empty_file", file, 0, detail="has zero bytes"))
    elif size % record:
        # not the file's own name: all its other images are whole
        detail = f"the file has {size} bytes, {size % record} after the last whole record of {record}"
        on_finding(Finding("unreadable_image", f"{file}/{size // record:05d}", size % record, detail=detail))
    found = np.zeros((size // record, head), dtype=np.uint8)
    try:
        with open(path, "rb") as opened:
            for start in range(0, len(found), 1000):
                count = min(1000, len(found) - start)
                block = np.frombuffer(opened.read(count * record), dtype=np.uint8)
                found[start : start + count] = block.reshape(count, record)[:, :head]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    return _File(path, split, found[:, -1].copy(), found[:, 0].copy() if head == 2 else None)


def _names(path: Path, root: Path, on_finding: OnFinding) -> list[str]:
    """The names in a file, one a line; CIFAR-10's own when it has none."""
    if not path.exists():
        if path.name == META:
            return list(TEN)
        on_finding(Finding("no_label_map", relative(path, root), detail="is missing, so that groups have no names"))
        return []
    text = label_text(path, root, on_finding, empty=False)
    if text is not None and "\0" in text[:65536]:
        on_finding(Finding("unreadable_labels", relative(path, root), detail="is no text"))
        text = None
    names = [line.strip() for line in (text or "").rstrip().split("\n")]
    if len(names) > 256:
        detail = f"has {len(names)} lines; a class is one byte, so wanted 256 names at most"
        on_finding(Finding("unreadable_labels", relative(path, root), len(names), detail=detail))
        names = []
    return names if text is not None else []


def _parents(files: list[_File], groups: list[str], root: Path, on_finding: OnFinding) -> dict[int, str]:
    """{class: its group}, as most of its images say; tells when they do not agree."""
    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for file in files:
        if file.group is not None:
            pairs, counts = np.unique(np.stack([file.label, file.group]), axis=1, return_counts=True)
            for (label, group), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
                seen[label][group] += count
    found = {}
    for label, groups_of in seen.items():
        (group, most), *rest = groups_of.most_common()
        if rest:
            detail = f"has images of class {label} in {counted(len(rest) + 1, 'group')}; {group} has most"
            on_finding(Finding("broken_label", relative(files[0].path, root), label, groups_of.total() - most, detail))
        if group < len(groups):
            found[label] = groups[group]
    return found


def _outside(file: _File, classes: dict[int, str], groups: list[str], root: Path, on_finding: OnFinding) -> None:
    """Tell bytes that are no class and no group, once for each."""
    name = relative(file.path, root)
    for value, count in zip(*map(np.ndarray.tolist, np.unique(file.label, return_counts=True)), strict=True):
        if value not in classes:
            detail = f"has {counted(count, 'image')} of class {value}; there are {len(classes)} names"
            on_finding(Finding("unknown_category", name, value, count, detail))
    if file.group is not None and groups:
        for value, count in zip(*map(np.ndarray.tolist, np.unique(file.group, return_counts=True)), strict=True):
            if value >= len(groups):
                detail = f"has {counted(count, 'image')} of group {value}; there are {len(groups)} names"
                on_finding(Finding("unknown_category", name, value, count, detail))


def _pixels(path: Path, index: int, head: int) -> Image:
    try:
        with open(path, "rb") as file:
            file.seek(index * (head + IMAGE) + head)
            data = file.read(IMAGE)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    if len(data) != IMAGE:
        raise DataError(f"{path} ends in image {index}; it was cut since it was listed")
    rgb = np.frombuffer(data, dtype=np.uint8).reshape(3, SIDE, SIDE).transpose(1, 2, 0)
    return Image(np.ascontiguousarray(rgb), path)


def write(dataset: Dataset, writer: Writer) -> None:
    """Write the binary files: CIFAR-10's for ten classes, CIFAR-100's for a hundred with parents.

    An image keeps its batch where it has one. Raises DataError, naming the image, for one that is not 32x32 px, has no
    class, or is in another split than train and test; images of no split go to train.
    """
    classes = sorted(dataset.categories, key=lambda c: c.id)
    if len(classes) not in (10, 100):
        raise DataError(f"{dataset.root} has {counted(len(classes), 'class')}; CIFAR has 10 or 100")
    ten = len(classes) == 10
    number = {c.name: i for i, c in enumerate(classes)}
    group = {} if ten else _groups(dataset, classes)
    batch_of = _batches(dataset, ten)
    files: dict[str, IO[bytes]] = {}
    with ExitStack() as stack:
        for i, sample in enumerate(dataset):
            if sample.label not in number:
                raise DataError(f"{sample.path} ({sample.name}) has no class; CIFAR holds images of one class each")
            image = image_of(sample)
            if image.size_wh != (SIDE, SIDE):
                size = f"{image.size_wh[0]}x{image.size_wh[1]}"
                raise DataError(f"{sample.path} ({sample.name}) is {size} px; CIFAR holds images of 32x32 px only")
            batch = batch_of[i]
            if batch not in files:
                files[batch] = stack.enter_context(open(writer.path(f"{batch}.bin"), "wb"))
            coarse = sample.attributes.get("coarse")
            parent = classes[number[sample.label]].parent
            head = (
                [number[sample.label]] if ten else [group[coarse if coarse in group else parent], number[sample.label]]
            )
            files[batch].write(bytes(head) + image.rgb_u8.transpose(2, 0, 1).tobytes())
    for file, names in ((META if ten else FINE, [c.name for c in classes]), (COARSE, list(group))):
        if names:
            if any(name != name.strip() or not name or "\n" in name or "\0" in name for name in names):
                raise DataError(f"{file} holds a name a line; {names} has one that begins or ends with a space or line")
            writer.text(file, "".join(f"{name}\n" for name in names))


def _groups(dataset: Dataset, classes: list[Category]) -> dict[Any, int]:
    """{group: its number}, in order of name, as CIFAR-100 has them."""
    without = [c.name for c in classes if c.parent is None]
    if without:
        raise DataError(f"{dataset.root} has the class {without[0]!r} without a parent; CIFAR-100 has a group for each")
    said = {s.attributes.get("coarse") for s in dataset if isinstance(s.attributes.get("coarse"), str)}
    names = sorted({str(name) for name in said | {c.parent for c in classes}})
    if len(names) > 256:
        raise DataError(f"{dataset.root} has {counted(len(names), 'group')}; CIFAR-100 holds 256 at most")
    return {name: i for i, name in enumerate(names)}


def _batches(dataset: Dataset, ten: bool) -> list[str]:
    """The file each image goes to: the one its name says, if all of them do, or else one after the other."""
    splits, named = [], []
    for sample in dataset:
        if sample.split not in (None, *PARTS):
            raise DataError(f"{sample.path} ({sample.name}) is in {sample.split!r}; CIFAR has train and test only")
        split = sample.split or "train"
        match = _NAME.match(sample.name)
        splits.append(split)
        if match and (match[1] in BATCHES) == ten and match[1].startswith("test") == (split == "test"):
            named.append(match[1])
    if len(named) == len(splits) and named == sorted(named, key=(*BATCHES, *PARTS).index):
        return named
    if not ten:
        return splits
    size = max(BATCH, -(-splits.count("train") // 5))
    counts: Counter[str] = Counter()
    found = []
    for split in splits:
        found.append("test_batch" if split == "test" else BATCHES[counts[split] // size])
        counts[split] += 1
    return found
