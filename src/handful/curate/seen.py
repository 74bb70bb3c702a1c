"""Which images a model was taught or trained on, kept in its folder: so that whoever measures it is told of leaks.

Of an image 16 bytes of the SHA-256 of its pixels are kept, its pHash and the mean colors of sixteen parts: 56 bytes,
from which no picture can be made.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.arrays import U8, JSONObject
from handful.curate.near_duplicates import fingerprint
from handful.errors import DataError
from handful.files import read_tensors, write_tensors
from handful.types import Image
from handful.words import counted

FILE = "seen.safetensors"
BITS = 6  # of 64 of the pHash may differ: a copy at another size or JPEG quality or cropped a little, not another view
COLOR = 10  # how far a sixteenth's color may be off, of 255; both as benchmarks/seen.py measured them
Mark = tuple[bytes, int, bytes]  # 16 bytes of the pixels' SHA-256, pHash, colors


def mark(rgb_u8: np.ndarray) -> Mark:
    """What is kept of an image (h, w, 3) uint8 RGB."""
    rgb = np.ascontiguousarray(rgb_u8)
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(rgb.data)
    found = fingerprint(Image(rgb))
    return digest.digest()[:16], found.bits, found.chroma.tobytes()


@dataclass(frozen=True)
class Learned:
    """How many images were learned, were known already and so not counted again, and could not be read."""

    images: int
    known: int
    unreadable: int

    def told(self) -> list[str]:
        """What is worth a warning."""
        known = counted(self.known, "image was", "images were")
        unread = counted(self.unreadable, "image that cannot be read was", "images that cannot be read were")
        rows = (
            (self.known, f"{known} learned before as the same class and not counted again; to count again: --again"),
            (self.unreadable, f"{unread} left out"),
        )
        return [text for n, text in rows if n]


class Seen:
    """The marks of images, each with the classes it was learned as ("" for an image without one class)."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, str], Mark] = {}

    def __len__(self) -> int:
        return len({digest for digest, _ in self.rows})

    def knows(self, one: Mark, label: str = "") -> bool:
        """Whether these very pixels were learned as this class."""
        return (one[0], label) in self.rows

    def add(self, one: Mark, label: str = "") -> None:
        """Remember an image."""
        self.rows[one[0], label] = one

    def drop(self, one: Mark, label: str = "") -> None:
        """Forget an image that was unlearned."""
        self.rows.pop((one[0], label), None)

    def forget(self, label: str) -> None:
        """Forget all images of a class."""
        self.rows = {key: row for key, row in self.rows.items() if key[1] != label}

    def save(self, folder: Path) -> None:
        """Write FILE into a folder."""
        keys = sorted(self.rows)
        names = sorted({label for _, label in keys})
        marks = [self.rows[key] for key in keys]
        text = "\0".join(names).encode("utf-8", "surrogateescape")
        write_tensors(folder / FILE, {
            "sha256": _bytes([m[0] for m in marks], 16), "colors": _bytes([m[2] for m in marks], 32),
            "hash": np.array([m[1] for m in marks], np.uint64).view(np.int64),
            "label": np.array([names.index(label) for _, label in keys], np.int64),
            "names": np.frombuffer(text or b"\0", np.uint8)[: len(text)],
        })  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Seen | None:
        """From a model folder; None for one of a version that did not remember. Raises DataError for a damaged one."""
        file = Path(folder) / FILE
        if not file.exists():
            return None
        held, found = read_tensors(file), cls()
        try:
            names = held["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            rows = zip(held["sha256"], held["hash"].view(np.uint64), held["colors"], held["label"], strict=True)
            for digest, bits, colors, label in rows:
                found.add((digest.tobytes(), int(bits), colors.tobytes()), names[int(label)])
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(f"{file} is damaged ({error}); make the model again") from error
        return found

    def copied(self, marks: Sequence[Mark], labels: Sequence[str]) -> list[bool]:
        """Of images that are among these, whether another one of the same class is nearly the same, or the same."""
        wanted, own = set(labels), defaultdict[str, list[Mark]](list)
        for (_, label), row in self.rows.items():
            if label in wanted:
                own[label].append(row)
        groups = {label: _Near(rows) for label, rows in own.items()}
        return [label in groups and any(digest != one[0] for digest in groups[label].to(one))
                for one, label in zip(marks, labels, strict=True)]  # fmt: skip

    def compared(self, marks: Iterable[Mark]) -> dict[str, int]:
        """{"images": how many, "copies": of them the same pixels as one of these, "near_copies": nearly the same}."""
        own = {row[0]: row for row in self.rows.values()}
        near = _Near(list(own.values()))
        told = {"images": 0, "copies": 0, "near_copies": 0}
        for one in marks:
            told["images"] += 1
            if one[0] in own:
                told["copies"] += 1
            else:
                told["near_copies"] += bool(near.to(one))
        return told


class _Near:
    """Images that were seen, to be asked which are nearly the same as another."""

    def __init__(self, rows: Sequence[Mark]) -> None:
        self._digests = [row[0] for row in rows]
        self._bits = np.array([row[1] for row in rows], np.uint64)
        self._colors = _bytes([row[2] for row in rows], 32).astype(np.int16)

    def to(self, one: Mark) -> list[bytes]:
        """The digests of those that are nearly the same, or the same."""
        _, code, tint = one
        near = np.flatnonzero(np.bitwise_count(self._bits ^ np.uint64(code)) <= BITS)
        apart = np.abs(self._colors[near] - np.frombuffer(tint, np.uint8).astype(np.int16)).max(axis=1, initial=0)
        return [self._digests[i] for i in near[apart <= COLOR]]


def _bytes(rows: Sequence[bytes], width: int) -> U8:
    return np.frombuffer(b"".join(rows) or b"\0" * width, np.uint8).reshape(-1, width)[: len(rows)].copy()


def leak(seen: Seen | None, marks: Iterable[Mark]) -> JSONObject | None:
    """What a measurement says under "seen": Seen.compared, or None where it is not known."""
    return None if seen is None else dict(seen.compared(marks))


def mostly_new(found: Mapping[str, object] | None) -> bool:
    """Whether half of the images at least, by what `leak` says, are not those that a model was taught."""
    return found is None or 2 * (int(str(found["copies"])) + int(str(found["near_copies"]))) <= int(
        str(found["images"])
    )


def told(result: Mapping[str, object]) -> str:
    """That in words, "" where no image was seen before."""
    found = result.get("seen")
    if not isinstance(found, Mapping):
        return "whether the model was taught or trained on these images is not known: its folder does not say"
    exact, near = int(found["copies"]), int(found["near_copies"])
    if not exact + near:
        return ""
    copies = f" ({counted(near, 'near copy', 'near copies')} among them)" if near else ""
    return (
        f"{exact + near} of {counted(int(found['images']), 'image')} {'was' if exact + near == 1 else 'were'} taught "
        f"or trained on{copies}: the figures are too good; measure on other images"
    )
