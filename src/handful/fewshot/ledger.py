"""Which samples NEMO has learned, without the samples: so that exactly what was added can be taken away.

A sample is kept as a hash of its whole numbers and its label, and as the lowest four bits of each number. The same
photo on another engine, processor or version has features that differ in their last digits, so one or two of its
numbers fall into the next cell of the grid. The low bits say which number was meant, as long as it is less than eight
cells away, and the hash says whether all of them were found. So the very vector that was added is subtracted, or none.
From the low bits alone no picture can be made: they are noise at a hundredth of what tells two photos apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

BITS = 4
CELLS = 1 << BITS
BLOCK = 4096  # samples that wait to be written into the ledger: more would only take memory


class Ledger:
    """How often each sample was learned, by its key. Rows are (n, d) whole numbers, a label each."""

    def __init__(self) -> None:
        self._times: Counter[bytes] = Counter()
        self._class_of: dict[bytes, str] = {}  # of each key in it, where that is known
        self._low: dict[bytes, bytes] = {}  # the same
        self._unread: list[tuple[np.ndarray, tuple[str, ...]]] = []

    def add(self, q: np.ndarray, labels: Sequence[str]) -> None:
        """Samples were learned. They are written down later, since classifying does not need it."""
        self._unread.append((q, tuple(labels)))
        if sum(len(rows) for rows, _ in self._unread) >= BLOCK:
            self._read()

    def drop(self, q: np.ndarray, label: str) -> None:
        """A sample (d,) that it holds was taken back."""
        self._read()
        key = _key(q.astype(np.int32), label)
        self._times[key] -= 1
        if self._times[key] < 1:
            self._remove(key)

    def forget(self, label: str) -> None:
        """A whole class was taken back."""
        self._read()
        for key in [key for key, name in self._class_of.items() if name == label]:
            self._remove(key)

    def find(self, q: np.ndarray, label: str) -> np.ndarray | None:
        """The sample that was learned under this label and is this one, or this one seen a little otherwise; None if
        there is none. q: (d,) whole numbers."""
        self._read()
        whole = q.astype(np.int32)
        if self._times[_key(whole, label)] > 0:
            return q
        keys = [key for key, name in self._class_of.items() if name == label and key in self._low]
        if not keys:
            return None
        low = _unpacked(
            np.frombuffer(b"".join(self._low[key] for key in keys), np.uint8).reshape(len(keys), -1), len(q)
        )
        off = (low.astype(np.int32) - whole + CELLS // 2) % CELLS - CELLS // 2
        for i in np.argsort(np.abs(off).sum(axis=1), kind="stable"):  # the likeliest first
            meant: np.ndarray = whole + off[i]
            if _key(meant, label) == keys[i]:
                return np.asarray(meant, np.float64)
        return None

    def only_exact(self, label: str) -> bool:
        """Whether a sample of a class, or of one that is not known, has no low bits."""
        return any(self._class_of.get(key, label) == label and key not in self._low for key in self._times)

    def shared(self, other: Ledger) -> int:
        """How many samples both hold, as often as both do."""
        self._read()
        other._read()
        return sum((self._times & other._times).values())

    def update(self, other: Ledger) -> None:
        """Take in all that another one holds."""
        self._read()
        other._read()
        self._times.update(other._times)
        self._class_of.update(other._class_of)
        self._low.update(other._low)

    def tensors(self, classes: Sequence[str], dim: int) -> dict[str, np.ndarray]:
        """As arrays for a file; classes: in the order in which the file has them."""
        self._read()
        keys, number = sorted(self._times), {name: i for i, name in enumerate(classes)}
        none = bytes(_width(dim))
        return {
            "seen": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16),
            "seen_times": np.array([self._times[key] for key in keys], np.int64),
            "seen_class": np.array([number.get(self._class_of.get(key, ""), -1) for key in keys], np.int64),
            "seen_low": np.frombuffer(b"".join(self._low.get(key, none) for key in keys), np.uint8).reshape(
                len(keys), _width(dim)
            ),
            "seen_low_known": np.array([key in self._low for key in keys], np.uint8),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], classes: Sequence[str]) -> Ledger:
        """From the arrays of a file; those of older versions say less."""
        found, times = cls(), tensors["seen_times"].tolist()
        known = tensors.get("seen_class", np.full(len(times), -1)).tolist()
        low, told = tensors.get("seen_low"), tensors.get("seen_low_known")
        for i, (key, count, number) in enumerate(zip(tensors["seen"], times, known, strict=True)):
            found._times[bytes(key)] = int(count)
            if 0 <= number < len(classes):
                found._class_of[bytes(key)] = classes[number]
                if low is not None and told is not None and told[i]:
                    found._low[bytes(key)] = low[i].tobytes()
        return found

    def _remove(self, key: bytes) -> None:
        del self._times[key]
        self._class_of.pop(key, None)
        self._low.pop(key, None)

    def _read(self) -> None:
        for q, labels in self._unread:
            whole = q.astype(np.int32)
            low = _packed(whole)
            for row, bits, label in zip(whole, low, labels, strict=True):
                key = _key(row, label)
                self._times[key] += 1
                self._class_of[key], self._low[key] = label, bits.tobytes()
        self._unread.clear()


def _key(q: np.ndarray, label: str) -> bytes:
    digest = hashlib.blake2b(q.data, digest_size=16)
    digest.update(label.encode())
    return digest.digest()


def _width(dim: int) -> int:
    return (dim + 1) // 2


def _packed(whole: np.ndarray) -> np.ndarray:
    """(n, d) int32 -> (n, ceil(d / 2)) uint8: two numbers' low bits a byte, the first in the upper half."""
    low = (whole & CELLS - 1).astype(np.uint8)
    if low.shape[1] % 2:
        low = np.concatenate([low, np.zeros((len(low), 1), np.uint8)], axis=1)
    packed: np.ndarray = low[:, ::2] << BITS | low[:, 1::2]
    return packed


def _unpacked(packed: np.ndarray, dim: int) -> np.ndarray:
    low: np.ndarray = np.stack([packed >> BITS, packed & CELLS - 1], axis=2).reshape(len(packed), -1)[:, :dim]
    return low
