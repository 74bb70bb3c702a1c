"""The child process of a job; see handful.device.targets.job."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Bundle, Graph, Session, read_bundle
from handful.device.lab.agreement import packed
from handful.device.lab.beside import Beside
from handful.device.sessions import runtime_of, sessions_of
from handful.device.targets.job import GRAPH_IS, IN, JOB, OUT, PARENT, RESULT, Feed, Job
from handful.errors import CompileError, DataError, HandfulError
from handful.files import read_json, replacing, write_json

Results = tuple[dict[str, Any], dict[str, np.ndarray]]
Photos = Sequence[np.ndarray]


def main(folder: Path) -> int:
    """Do the job in a folder; 0 when result.json holds facts, 3 when it holds one of handful's own errors."""
    import faulthandler

    faulthandler.enable()
    if PARENT in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[PARENT]),), daemon=True).start()
    value = read_json(folder / JOB)
    known = {one.name for one in fields(Job)}
    told: dict[str, Any] = {name: item for name, item in value.items() if name in known}
    job = Job(**{**told, "layers": tuple(told["layers"])})
    feeds, photos = _given(folder)
    try:
        facts, outputs = TASKS[job.do](job, feeds, photos)
    except HandfulError as error:
        write_json(folder / RESULT, {"error": {"class": type(error).__name__, "text": str(error)}})
        return 3
    if outputs:
        with replacing(folder / OUT, own=True) as part, open(part, "wb") as file:
            np.savez(file, **{f"o{i}": array for i, array in enumerate(outputs.values())})  # type: ignore[arg-type]
    write_json(folder / RESULT, {"facts": facts, "outputs": list(outputs), "peak_rss_mb": peak_rss_mb()})
    return 0


def _given(folder: Path) -> tuple[list[Feed], list[np.ndarray]]:
    feeds: dict[int, dict[str, np.ndarray]] = {}
    photos: dict[int, np.ndarray] = {}
    if (folder / IN).exists():
        with np.load(folder / IN, allow_pickle=False) as arrays:
            for key in arrays.files:
                at, _, name = key.partition("/")
                if at == "photo":
                    photos[int(name)] = arrays[key]
                else:
                    feeds.setdefault(int(at), {})[name] = arrays[key]
    return [feeds[i] for i in sorted(feeds)], [photos[i] for i in sorted(photos)]


def _end_with(parent: int) -> None:
    """Stop this process and all it started once the parent is gone, even if that was killed without a word."""
    while os.getppid() == parent:
        time.sleep(1)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def called(name: str) -> Any:
    """A function by "module:function". Raises DataError for a name that is none."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"{name!r} is no function that can be called ({error}); wanted module:function") from error


def _compile(job: Job, feeds: Sequence[Feed], photos: Photos) -> Results:
    from handful.device.fold_norms import fold_norms
    from handful.device.network import graph_of
    from handful.device.taps import Tapped, tap_names

    # converters make millions of objects and drop few: looked through as often as by default they take a tenth longer
    gc.set_threshold(100_000, 50, 50)
    runtime, to = runtime_of(job.runtime, to_compile=True), Path(job.to)
    export = called(job.exporter)(Path(job.model))
    manifest, graphs, facts = dict(export.manifest), list[Graph](), dict[str, Any]()
    start = time.perf_counter()
    layers = tap_names(next(iter(export.graphs.values()))) if len(export.graphs) == 1 else []
    networks = export.graphs
    if getattr(runtime, "FOLDS", True):
        networks = {name: fold_norms(network, layers) for name, network in networks.items()}
    for name, network in networks.items():
        print(f"{GRAPH_IS}{name}", flush=True)  # for run_job, should this process die
        folder = name if len(export.graphs) > 1 else ""
        graph = graph_of(network, name, folder, manifest.get("labels"))
        base = Path(job.base) / folder if job.base else None
        graphs.append(_compiled(runtime, network, graph, to / folder, job.precision, facts, base))
    manifest["takes"] = runtime.TAKES
    told: dict[str, Any] = {
        "graphs": [one.to_json() for one in graphs], "facts": facts, "seconds": time.perf_counter() - start,
        "manifest": manifest, "layers": [],
    }  # fmt: skip
    if job.taps:
        ((name, network),) = networks.items()
        tapped = Tapped(network, layers)
        told["layers"] = layers
        base, graph = Path(job.taps_base) if job.taps_base else None, graph_of(tapped, name)
        own = _compiled(runtime, tapped, graph, Path(job.taps), job.precision, {}, base)
        told["tapped"] = own.to_json()
    return told, {}


def _compiled(
    runtime: Any, network: Any, graph: Graph, to: Path, precision: str, facts: dict[str, Any], base: Path | None
) -> Graph:  # fmt: skip
    """Compile one network; its graph with what its files are called, and what is in them."""
    to.mkdir(exist_ok=True)
    before = {file.name for file in to.iterdir()}
    facts[graph.name] = runtime.compile(network, to, precision, base)
    files = tuple(sorted(file.name for file in to.iterdir() if file.is_file() and file.name not in before))
    if not files:
        raise CompileError(f"the converter wrote nothing for the graph {graph.name}")
    found: Graph = runtime.named(to, replace(graph, files=files))
    return found


def _reference(job: Job, feeds: Sequence[Feed], photos: Photos) -> Results:
    import torch

    from handful.device.network import InTorch
    from handful.device.taps import Tapped

    torch.set_num_threads(job.threads)
    export = called(job.exporter)(Path(job.model))
    network = export.graphs[job.graph] if job.graph else next(iter(export.graphs.values()))
    outputs = _over(feeds, InTorch(network))
    if job.layers:
        outputs = {**_over(feeds[: job.layer_feeds], InTorch(Tapped(network, job.layers))), **outputs}
    return {}, outputs


def _sessions(job: Job, bundle: Bundle) -> dict[str, Session]:
    @cache
    def graphs() -> Mapping[str, Any]:
        found: Mapping[str, Any] = called(job.exporter)(Path(job.model)).graphs
        return found

    def rebuild(name: str) -> Any:
        return graphs()[name]

    return sessions_of(bundle, job.threads, rebuild if job.exporter else None)


def _run(job: Job, feeds: Sequence[Feed], photos: Photos) -> Results:
    bundle = read_bundle(Path(job.bundle))
    name = job.graph or bundle.graphs[0].name
    if not feeds:
        raise DataError("no frames to run on")
    start = time.perf_counter()
    session = _sessions(job, replace(bundle, graphs=(bundle.graph(name),)))[name]
    load_ms = (time.perf_counter() - start) * 1000
    times_ms: list[float] = []
    rows: list[dict[str, np.ndarray]] = []
    for i in range(job.runs or len(feeds)):
        feed = feeds[i % len(feeds)]
        start = time.perf_counter()
        row = session.run(feed)
        times_ms.append((time.perf_counter() - start) * 1000)
        if i < len(feeds):
            rows.append(row)
    return {"load_ms": load_ms, "times_ms": times_ms}, _joined(rows)


def _answers(job: Job, feeds: Sequence[Feed], photos: Photos) -> Results:
    if job.bundle:
        bundle = read_bundle(Path(job.bundle))
        asked = called(job.program)(bundle, _sessions(job, bundle))
    else:
        import torch

        torch.set_num_threads(job.threads)
        asked = called(job.reference)(Path(job.model))
    return {}, packed([asked(rgb) for rgb in photos])


def _beside(job: Job, feeds: Sequence[Feed], photos: Photos) -> Results:
    import torch

    from handful.device.network import InTorch

    torch.set_num_threads(job.threads)
    bundle = read_bundle(Path(job.bundle))
    compiled, export = _sessions(job, bundle), called(job.exporter)(Path(job.model))
    if set(compiled) != set(export.graphs):
        raise DataError(f"{bundle.folder} has the graphs {sorted(compiled)}; the model has {sorted(export.graphs)}; "
                        "compile it again")  # fmt: skip
    beside = {name: Beside(name, InTorch(network), compiled[name]) for name, network in export.graphs.items()}
    asked = called(job.program)(bundle, beside)
    for rgb in photos:
        asked(rgb)
    return {"graphs": [one.told() for one in beside.values()]}, {}


TASKS: dict[str, Callable[[Job, Sequence[Feed], Photos], Results]] = {
    "compile": _compile,
    "reference": _reference,
    "run": _run,
    "answers": _answers,
    "beside": _beside,
}


def _over(feeds: Sequence[Feed], session: Session) -> dict[str, np.ndarray]:
    if not feeds:
        raise DataError("no frames to run on")
    return _joined([session.run(feed) for feed in feeds])


def _joined(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of all feeds, one after another along the first axis."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def peak_rss_mb() -> float | None:
    """The most memory this process has held, in MB of 10^6 bytes; None where the system does not say."""
    with contextlib.suppress(OSError):
        # not ru_maxrss on Linux: it survives exec, so a child would report its parent's size
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.M)
        if found:
            return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
