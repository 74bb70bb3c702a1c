"""This machine: a process of its own, whose crash, threads and memory are not ours."""

from __future__ import annotations

from collections.abc import Sequence

from handful.bundle import Bundle
from handful.device.runtimes.contract import machine
from handful.device.targets.contract import Trace
from handful.device.targets.job import Feed, Job, run_job

DESCRIPTION = "this machine, in a process of its own"


def available() -> bool:
    """See handful.device.targets.contract.Target."""
    return True


def run(
    bundle: Bundle, feeds: Sequence[Feed], *, graph: str = "", runs: int = 0, threads: int = 1,
    timeout_s: float = 900.0, exporter: str = "",
) -> Trace:  # fmt: skip
    """See handful.device.targets.contract.Target."""
    job = Job(
        "run", bundle.runtime, str(bundle.model or ""), exporter if bundle.model else "",
        bundle=str(bundle.folder.resolve()), precision=bundle.precision, graph=graph, threads=threads, runs=runs,
    )  # fmt: skip
    done = run_job(job, feeds, timeout_s=timeout_s)
    times = tuple(map(float, done.facts["times_ms"]))
    return Trace(done.outputs, times, float(done.facts["load_ms"]), done.peak_rss_mb, done.seconds, machine())
