"""A compiled graph held against PyTorch's, each given what PyTorch's was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handful.bundle import Session
from handful.device.lab.metrics import differences, same_names
from handful.errors import DataError


class Beside:
    """A Session that hands on what the reference says, and holds what the runtime says to the same beside it."""

    def __init__(self, name: str, reference: Session, runtime: Session) -> None:
        self.name, self.reference, self.runtime = name, reference, runtime
        self.rows: dict[str, dict[str, Any]] = {}

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run, the reference's."""
        want, got = self.reference.run(feed), self.runtime.run(feed)
        same_names(got, want)
        for name in want:
            row = differences(got[name], want[name], f"{self.name}: {name}")
            if name not in self.rows or row["psnr_db"] < self.rows[name]["psnr_db"]:
                self.rows[name] = row
        return want

    def told(self) -> dict[str, Any]:
        """The worst of all runs: name, psnr_db, worst (which output), outputs. Raises DataError when it never ran."""
        if not self.rows:
            raise DataError(f"the graph {self.name} was never run, so there is nothing to compare; give other photos")
        worst = min(self.rows, key=lambda name: self.rows[name]["psnr_db"])
        return {"name": self.name, "psnr_db": self.rows[worst]["psnr_db"], "worst": worst, "outputs": self.rows}
