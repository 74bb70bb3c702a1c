"""NEMO: a classifier that learns one sample at a time, never forgets, can unlearn, and says "none of these".

What is kept is three exact sums over the samples: how many of each class (n), their sum (S) and the sum of their
outer products (G). Samples are rounded to a fixed point first, so the sums are integers: the same samples in any
order, one by one, in batches, or taught to two models that are then merged, give the same bits.

From the sums, in float64:

    mean of a class             m_k = S_k / n_k
    scatter inside the classes  R   = G - sum_k S_k S_k' / n_k
    whitening                   L L' = R + ridge I           (linear discriminant analysis, Fisher 1936, Rao 1948)
    score of a class            cos(L^-1 z, L^-1 m_k)        (nearest class mean: Snell 2017; cosine: SimpleShot 2019)
    expected score              the cosine that a taught sample would have had to its own class, had it not been
                                taught, on average: a closed form of n, S and G (expected.py)
    none of these               expected - (5.1 - vigilance) / 10

so `vigilance` is in tenths of a cosine: at 5.1 an image must be as near to its class as taught images are on
average; each whole step below lets it be 0.1 further away. Higher is more careful. docs/choices.md has the
measurements behind each line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError
from handful.fewshot.expected import before_0_4, left_out_cosine
from handful.fewshot.ledger import BLOCK, Ledger
from handful.fewshot.vigilance import MEANING
from handful.files import read_json, read_tensors, sha256, write_json, write_tensors
from handful.pick import need, unknown
from handful.results import NONE_OF_THESE
from handful.words import is_a_line

SCHEMA_VERSION = 2  # 1: vigilance counted from another expected score
VIGILANCE = 3.0
RIDGE = 0.25
GAIN = 20.0  # logits (calibrated in nats) per unit of cosine; the predicted class does not depend on it
SCALE = 1 << 15
MAX_SAMPLES = 1 << 22  # products are below 2^30, so float64 holds the sums exactly up to 2^53
STATE, ABOUT = "nemo.safetensors", "nemo.json"


@dataclass(frozen=True)
class Solution:
    """NEMO's constants, ready to classify. Classes are in order of name.

    whiten: (d, d) float64. prototypes: (k, d) float64, unit rows in the whitened space; lengths: (k,) float64, how long
    the whitened class means are. none: the score below which the answer is "none of these", on the cosine's scale.
    """

    classes: tuple[str, ...]
    whiten: np.ndarray
    prototypes: np.ndarray
    lengths: np.ndarray
    expected: float
    none: float

    def scores(self, z: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, k + 1) float64 logits: one column a class, the last for "none of these"."""
        white = np.atleast_2d(z).astype(np.float64) @ self.whiten.T
        norm = np.linalg.norm(white, axis=1, keepdims=True)
        cosine = (white / np.maximum(norm, 1e-12)) @ self.prototypes.T
        return GAIN * np.concatenate([cosine, np.full((len(cosine), 1), self.none)], axis=1)


class Nemo:
    """The learner. dim: length of the vectors it learns from. features: names what made them; merging and loading
    refuse another. Vectors must be finite, of length 1 or less."""

    def __init__(self, dim: int, *, features: str = "", vigilance: float = VIGILANCE, ridge: float = RIDGE) -> None:
        if dim < 1 or not ridge > 0:
            raise DataError(f"NEMO needs dim >= 1 and ridge > 0, got {dim} and {ridge}")
        self.dim, self.features, self.ridge = dim, features, float(ridge)
        self.vigilance = vigilance
        self._n: dict[str, int] = {}
        self._sum: dict[str, np.ndarray] = {}
        # the lower triangle; integers held in float64: exact below 2^53, and BLAS adds a batch in one product
        self._gram = np.zeros((dim, dim), order="F")
        self._ledger = Ledger()

    @property
    def vigilance(self) -> float:
        """How careful NEMO is: 0 to 10, in practice 1.2 to 4.1; see the module's text for the unit."""
        return self._vigilance

    @vigilance.setter
    def vigilance(self, value: float) -> None:
        if not np.isfinite(value):
            raise DataError(f"vigilance is {value!r}; wanted a number from {MEANING}")
        self._vigilance = float(value)

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name."""
        return tuple(sorted(self._n))

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each class, in order of name."""
        return {name: self._n[name] for name in self.classes}

    def __len__(self) -> int:
        return sum(self._n.values())

    def learn(self, z: np.ndarray, label: str) -> None:
        """Learn one sample: z (d,) float, |z| <= 1."""
        self.learn_many(np.asarray(z)[None], [label])

    def learn_many(self, z: np.ndarray, labels: Sequence[str]) -> None:
        """Learn a batch: z (n, d) float, one label a row. All or nothing: bad input changes nothing."""
        z = self._checked(z, labels)
        if not len(z):
            return
        for label in dict.fromkeys(labels):
            if not is_a_line(label):
                raise DataError(
                    f"a class is named {label!r}; wanted one line of text that is not empty; rename the class"
                )
            if label.strip().casefold() == NONE_OF_THESE:
                raise DataError(
                    f"no class can be called {label!r}: that is the answer for images of no class; rename the class, "
                    "or leave these samples out, since unknown things need not be taught"
                )
        if len(self) + len(z) > MAX_SAMPLES:
            raise DataError(f"NEMO holds at most {MAX_SAMPLES} samples; it has {len(self)} and was given {len(z)}")
        with _one_thread() if len(z) > 1 else nullcontext():
            for start in range(0, len(z), BLOCK):
                part = labels[start : start + BLOCK]
                self._add(self._fixed(z[start : start + BLOCK], part), part, +1)

    def knows(self, z: np.ndarray, label: str) -> bool:
        """Whether this sample was learned under this label, and not taken back; as in `unlearn`."""
        return label in self._n and self._ledger.find(self._fixed(np.asarray(z)[None], [label])[0], label) is not None

    def unlearn(self, z: np.ndarray, label: str) -> np.ndarray:
        """Take one sample back, as if it had never been learned. Raises DataError if it never was.

        z may come from another engine or machine than the one that was learned: what is subtracted is the vector that
        was added, to the bit (see handful.fewshot.ledger). It is returned, so that it can be learned again.
        """
        if label not in self._n:
            raise unknown("class", label, self.classes)
        q = self._ledger.find(self._fixed(np.asarray(z)[None], [label])[0], label)
        if q is None:
            raise DataError(f"this sample was never learned as {label!r}, so it cannot be unlearned")
        self._add(q[None], [label], -1)
        taken: np.ndarray = q / SCALE
        return taken

    def only_exact(self, label: str) -> bool:
        """Whether there are samples of a class that only the very same vector unlearns: those that 0.3 has saved."""
        return self._ledger.only_exact(label)

    def forget(self, label: str) -> None:
        """Take a whole class back, without its samples at hand. Raises DataError for a class that was never taught.

        Its mean and its count are gone, and so it can be taught anew. How its samples scattered around that mean stays
        in the whitening, which pools this over all classes; to undo that, too, unlearn each sample.
        """
        if label not in self._n:
            raise unknown("class", label, self.classes)
        n, total = self._n.pop(label), self._sum.pop(label)
        self._ledger.forget(label)
        # rounded, since the sums are whole numbers wherever they are kept
        self._gram -= np.tril(np.rint(np.outer(total, total) / n))
        if not self._n:
            self._gram[:] = 0.0

    def merge(self, other: Nemo) -> Nemo:
        """A new NEMO that knows what both know; the same bits as if one had learned everything."""
        if (self.dim, self.features, self.ridge) != (other.dim, other.features, other.ridge):
            raise DataError(
                f"these two were taught on different features: {self.features or '?'} ({self.dim}, ridge {self.ridge}) "
                f"and {other.features or '?'} ({other.dim}, ridge {other.ridge}); teach both with the same backbone"
            )
        both = Nemo(self.dim, features=self.features, vigilance=self.vigilance, ridge=self.ridge)
        for one in (self, other):
            for name, n in one._n.items():
                both._n[name] = both._n.get(name, 0) + n
                both._sum[name] = both._sum.get(name, 0) + one._sum[name]
            both._gram += one._gram
            both._ledger.update(one._ledger)
        return both

    def shared_samples(self, other: Nemo) -> int:
        """How many samples both have learned under the same label: merging counts those twice."""
        return self._ledger.shared(other._ledger)

    def _checked(self, z: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        z = np.asarray(z)
        if z.ndim != 2 or z.shape != (len(labels), self.dim):
            raise DataError(f"samples must be ({len(labels)}, {self.dim}), one label a row, got {z.shape}")
        if not np.isfinite(z).all():
            raise DataError(f"a sample holds NaN or infinity (row {int(np.argmin(np.isfinite(z).all(axis=1)))})")
        if len(z) and np.abs(z).max() > 1:
            raise DataError(f"samples must have length 1 or less, got a value of {np.abs(z).max():.3g}; normalize them")
        for label in labels:
            if not isinstance(label, str) or not label:
                raise DataError(f"a label must be a name, got {label!r}")
        return z

    def _fixed(self, z: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        z = self._checked(z, labels)
        q: np.ndarray = np.empty(z.shape)
        np.multiply(z, SCALE, out=q)
        np.rint(q, out=q)
        return q

    def _add(self, q: np.ndarray, labels: Sequence[str], sign: int) -> None:
        for label, added, count in _sums(q, labels):
            n = self._n.get(label, 0) + sign * count
            if n:
                self._n[label] = n
                self._sum[label] = self._sum.get(label, 0) + sign * added
            else:
                del self._n[label], self._sum[label]
        blas = need("scipy.linalg.blas", "teach")
        if len(q) == 1:
            self._gram = blas.dsyr(sign, q[0], a=self._gram, lower=1, overwrite_a=True)
        else:
            self._gram = blas.dsyrk(sign, q.T, beta=1, c=self._gram, lower=1, overwrite_c=True)
        if sign > 0:
            self._ledger.add(q, labels)
        else:
            self._ledger.drop(q[0], labels[0])

    def solve(self) -> Solution:
        """The constants that classify, from the sums alone. Raises DataError when nothing has been learned."""
        if not self._n:
            raise DataError("nothing has been learned yet; learn at least one sample")
        with _one_thread():
            return self._solve()

    def _solve(self) -> Solution:
        from scipy.linalg import cholesky, lapack

        n = np.array([self._n[name] for name in self.classes], float)
        sums = np.stack([self._sum[name] for name in self.classes]) / SCALE
        within = self._gram / SCALE**2
        within -= ((sums / n[:, None]).T @ sums).T  # symmetric; turned so that both lie alike in memory
        within[np.diag_indices(self.dim)] += self.ridge
        # reads the lower triangle only
        lower = cholesky(within, lower=True, check_finite=False, overwrite_a=True)
        whiten = lapack.dtrtri(lower, lower=1)[0]  # the upper triangle is zero and stays so
        white_sums = sums @ whiten.T
        norms = np.linalg.norm(white_sums, axis=1, keepdims=True)
        prototypes = white_sums / np.maximum(norms, 1e-12)
        expected = left_out_cosine(n, white_sums / n[:, None], whiten, self.ridge)
        lengths, none = norms[:, 0] / n, none_below(expected, self.vigilance)
        return Solution(self.classes, whiten, prototypes, lengths, expected, none)

    def _from_schema_1(self) -> None:
        """The vigilance at which the answers are those of the version that saved it."""
        if not self._n:
            return
        solution, n = self.solve(), np.array(list(self.counts.values()), float)
        before = before_0_4(n, solution.prototypes * solution.lengths[:, None], solution.whiten, self.ridge)
        self.vigilance += 10 * (before - solution.expected)

    def save(self, folder: Path) -> None:
        """Write the sums as `nemo.safetensors` and what they are as `nemo.json`, each whole or not at all."""
        folder = Path(folder)
        names = self.classes
        write_tensors(
            folder / STATE,
            {
                "count": np.array([self._n[name] for name in names], np.int64),
                "sum": np.array([self._sum[name] for name in names], np.int64).reshape(len(names), self.dim),
                "gram": self._gram.astype(np.int64),
                **self._ledger.tensors(names, self.dim),
            },
        )
        about = {
            "schema_version": SCHEMA_VERSION,
            "classes": names,
            "dim": self.dim,
            "features": self.features,
            "ridge": self.ridge,
            "vigilance": self.vigilance,
            "scale": SCALE,
            "sha256": sha256(folder / STATE),
        }
        write_json(folder / ABOUT, about)

    @classmethod
    def load(cls, folder: Path, *, features: str | None = None, whole: bool = True) -> Nemo:
        """Read what `save` wrote. Raises DataError, naming the file, if it is damaged, newer, or was taught on
        other features than `features`. whole: False where its files were found to be as saved before."""
        folder = Path(folder)
        about = read_json(folder / ABOUT)
        version = about.get("schema_version")
        if version not in (1, SCHEMA_VERSION):
            raise DataError(
                f"{folder / ABOUT} has schema_version {version!r}; this version reads 1 to {SCHEMA_VERSION}; "
                "run: pip install --upgrade handful"
            )
        if features is not None and about["features"] != features:
            raise DataError(
                f"{folder / STATE} was taught on the features {about['features']!r}, but this model makes "
                f"{features!r}; teach it again with this backbone"
            )
        tensors = read_tensors(folder / STATE)
        if whole and sha256(folder / STATE) != about["sha256"]:
            raise DataError(f"{folder / STATE} is not the file that {ABOUT} describes; restore it or teach again")
        if about["scale"] != SCALE:
            raise DataError(f"{folder / ABOUT} has scale {about['scale']}; wanted {SCALE}")
        nemo = cls(about["dim"], features=about["features"], vigilance=about["vigilance"], ridge=about["ridge"])
        names = about["classes"]
        want = {"count": (len(names),), "sum": (len(names), nemo.dim), "gram": (nemo.dim, nemo.dim)}
        for name, shape in want.items():
            if name not in tensors or tensors[name].shape != shape:
                raise DataError(f"{folder / STATE} holds no {name!r} of shape {shape}; restore it or teach again")
        nemo._n = {name: int(n) for name, n in zip(names, tensors["count"], strict=True)}
        nemo._sum = {name: row.astype(np.float64) for name, row in zip(names, tensors["sum"], strict=True)}
        nemo._gram = np.asfortranarray(tensors["gram"].astype(np.float64))
        nemo._ledger = Ledger.of(tensors, names)
        if version == 1:
            nemo._from_schema_1()
        return nemo


def none_below(expected: float, vigilance: float) -> float:
    """The cosine below which the answer is "none of these"; see the module's text."""
    return expected - (5.1 - vigilance) / 10


def expected_from(none: float, vigilance: float) -> float:
    """The expected score from which `none_below` gives `none`."""
    return none + (5.1 - vigilance) / 10


def _one_thread() -> AbstractContextManager[Any]:
    """BLAS on one thread: the matrices are small, and threads that spin on a busy machine made it ten times slower."""
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@cache
def _controller() -> Any:
    need("scipy.linalg", "teach")  # its BLAS must be loaded to be found
    return need("threadpoolctl", "teach").ThreadpoolController()


def _sums(q: np.ndarray, labels: Sequence[str]) -> Iterator[tuple[str, np.ndarray, int]]:
    """(class, sum of its rows, how many) for each class among the labels. Every row is added once, so the time grows
    with the samples and not with the classes; whole numbers, so the order of the additions does not show."""
    rows: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        rows.setdefault(label, []).append(i)
    for label, mine in rows.items():
        yield label, q[mine].sum(axis=0), len(mine)


def labels_of(scores: np.ndarray, classes: Iterable[str], none: str | None = None) -> list[str | None]:
    """The answers in `Solution.scores`: class names, or `none` where the last column wins (or ties)."""
    names: list[str | None] = [*classes]
    best = np.argmax(scores[:, :-1], axis=1)
    return [names[k] if row[k] > row[-1] else none for k, row in zip(best, scores, strict=True)]
