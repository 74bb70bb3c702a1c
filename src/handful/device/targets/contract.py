"""What a place is where a bundle is tried: the contract of every target_*.py.

A file `target_x.py` makes the target "x" exist: this machine, a browser, a board by ssh, a phone. It carries a bundle
and feeds there, and brings back what came of them. It holds what `Target` below lists and nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handful.bundle import Bundle
from handful.device.targets.job import Feed


@dataclass(frozen=True, eq=False)
class Trace:
    """What running a graph brought back.

    outputs: {output: float32}, of all feeds one after another along the first axis, in torch's layout. times_ms: of
    each run, in order, the first among them. load_ms: from file to ready. peak_rss_mb: the most memory the process
    held, in MB of 10^6 bytes, None where nobody can say. seconds: of all of it. machine: where it ran.
    """

    outputs: Mapping[str, np.ndarray]
    times_ms: tuple[float, ...]
    load_ms: float
    peak_rss_mb: float | None
    seconds: float
    machine: Mapping[str, Any]


class Target(Protocol):
    """A module target_*.py. DESCRIPTION: a line for people."""

    DESCRIPTION: str

    def available(self) -> bool:
        """Whether it can be reached from here."""
        ...

    def run(
        self, bundle: Bundle, feeds: Sequence[Feed], *, graph: str = "", runs: int = 0, threads: int = 1,
        timeout_s: float = 900.0, exporter: str = "",
    ) -> Trace:  # fmt: skip
        """Run one graph of a bundle, the first unless named, over the feeds.

        runs: how often in all, cycling through the feeds; 0 for once each. exporter: who rebuilds the network, for the
        runtime torch, whose files hold weights alone. Raises DeviceError when it dies there, DataError for no feeds.
        """
        ...
