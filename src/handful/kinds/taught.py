"""What taught models do alike, classifiers and detectors: NEMO is asked, changed and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.arrays import StrPath
from handful.bundle import Bundle
from handful.kinds import shared
from handful.models.folder import check_replaceable


class Taught:
    """Comes before a Model among the bases of a taught kind. inner: what was taught; it has `nemo`."""

    inner: Any
    folder: Path | None

    def _changed(self) -> None:
        """After what it knows or its settings changed."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name."""
        classes: tuple[str, ...] = self.inner.classes
        return classes

    @property
    def vigilance(self) -> float:
        """How careful it is unless a call says otherwise: 0 to 10, in practice 1.2 to 4.1."""
        return float(self.inner.nemo.vigilance)

    @property
    def samples(self) -> dict[str, int]:
        """How many images, or boxes, of each class it has learned."""
        return dict(self.inner.nemo.counts)

    def forget(self, label: str) -> None:
        """Take a whole class back, without its images at hand; what stays of it is said in Nemo.forget."""
        self.inner.forget(label)
        self._changed()

    def set_vigilance(self, vigilance: float) -> None:
        """The model's own vigilance from now on; `save` keeps it. Raises DataError, telling the range."""
        self.inner.nemo.vigilance = shared.check(vigilance)
        self._changed()

    def compile(self, runtime: str, precision: str = "fp32") -> Bundle:
        """As Model.compile."""
        return shared.compiled(self.folder, runtime, precision)

    def save(self, folder: StrPath) -> Path:
        """As Model.save."""
        place = Path(folder)
        check_replaceable(place)
        self.inner.save(place)
        self.folder = place
        return place
