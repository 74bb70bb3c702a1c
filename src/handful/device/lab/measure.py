"""How long a compiled model takes on this machine, with the spread, the count and the machine beside the number."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from handful.device.targets.contract import Trace
from handful.errors import DataError

LEAST_RUNS = 20
WARMUP = 5


@dataclass(frozen=True)
class Timing:
    """Times of single runs, one frame each, in milliseconds; after `warmup` runs that are not counted.

    first_ms: the very first run. load_ms: from file to ready. peak_rss_mb: of the whole process, Python included, in
    MB of 10^6 bytes; compare it within one runtime only. Raises DataError for fewer than 20 runs or impossible times.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    n: int
    warmup: int
    threads: int
    peak_rss_mb: float | None
    load_ms: float
    first_ms: float
    machine: dict[str, Any]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.n < LEAST_RUNS:
            raise DataError(f"{self.n} runs are too few for a timing; wanted {LEAST_RUNS} or more after warm-up")
        if self.threads < 1 or self.warmup < 0:
            raise DataError(f"threads must be 1 or more and warmup 0 or more; got {self.threads} and {self.warmup}")
        times = (self.median_ms, self.p90_ms, self.min_ms, self.load_ms, self.first_ms)
        if not (np.isfinite(times).all() and 0 < self.min_ms <= self.median_ms <= self.p90_ms):
            raise DataError(f"these are not times: min {self.min_ms}, median {self.median_ms}, p90 {self.p90_ms} ms")

    def to_json(self) -> dict[str, Any]:
        """A plain object."""
        return asdict(self)


def timing(trace: Trace, *, threads: int, versions: dict[str, str], warmup: int = WARMUP) -> Timing:
    """Of a trace, whose first run and `warmup` runs after it do not count."""
    times = np.asarray(trace.times_ms[1 + warmup :])
    if len(times) < LEAST_RUNS:
        raise DataError(f"{len(times)} runs are too few for a timing; wanted {LEAST_RUNS} or more after {1 + warmup}")
    return Timing(
        median_ms=float(np.median(times)),
        p90_ms=float(np.quantile(times, 0.9)),
        min_ms=float(times.min()),
        n=len(times),
        warmup=1 + warmup,
        threads=threads,
        peak_rss_mb=trace.peak_rss_mb,
        load_ms=trace.load_ms,
        first_ms=trace.times_ms[0],
        machine=dict(trace.machine),
        versions=versions,
    )
