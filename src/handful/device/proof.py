"""Whether a compiled model says what PyTorch says, and how long it takes: runs both, and hands the lab what came."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from handful.bundle import Bundle
from handful.device.compile import ModelSource, compile_bundle, layers_of, tapped_bundle
from handful.device.frames import frames_of, photos_of
from handful.device.lab import compare, compare_detections
from handful.device.lab.agreement import agreement, unpacked
from handful.device.lab.measure import LEAST_RUNS, WARMUP, Timing, timing
from handful.device.lab.metrics import METRICS, same_names, whole
from handful.device.runtimes.contract import machine
from handful.device.targets import target_here
from handful.device.targets.job import Feed, Job, run_job
from handful.errors import DataError
from handful.image import Image

SCHEMA_VERSION = 1
Images = Sequence[Image | np.ndarray] | None
Known = dict[str, dict[str, np.ndarray]]


def compare_graph(
    source: ModelSource, runtime: str, precision: str = "fp32", images: Images = None, *, layers: bool = True,
    layer_images: int = 4, threads: int = 1, timeout_s: float = 900.0, known: Known | None = None,
    target: ModuleType = target_here,
) -> dict[str, Any]:  # fmt: skip
    """Compare a compiled model of one graph with PyTorch, compiling it first when that was not done; a JSON object.

    images: Image or uint8 (h, w, 3) RGB, fitted to the model's frame; None: the sample photographs.
    layers: also compare layers, on the first `layer_images` photographs, through the variant that has them;
    `tapped_psnr_db` holds that variant's own outputs against the shipped file's. "verdict" is "pass" when nothing
    is under its gate, else "fail" with "reasons". known: a dict to share between comparisons of one model on the same
    images, so that PyTorch is asked once; leave it to this function to fill. target: where the bundle is run.
    Raises as `compile_bundle`, DeviceError when a process dies, DataError when there is nothing sound to compare.
    """
    start = time.perf_counter()
    if layer_images < 1:
        raise DataError(f"layer_images must be 1 or more, got {layer_images}")
    photos = photos_of(images)
    bundle = compile_bundle(source, runtime, precision, taps=layers)
    feeds = frames_of(bundle, photos)
    few = feeds[:layer_images]
    tapped = tapped_bundle(bundle) if layers else None
    names = layers_of(tapped) if tapped is not None else ()
    reference = dict(_reference(source, feeds, len(few), names, threads, timeout_s, known))
    want_layers = {name: reference.pop(name) for name in names}
    how: dict[str, Any] = {"threads": threads, "timeout_s": timeout_s, "exporter": source.exporter}
    got = dict(target.run(bundle, feeds, **how).outputs)
    report = compare.compare_outputs(got, reference)
    report |= {"layers": [], "first_bad_layer": None, "tapped_psnr_db": None, "layer_images": 0}
    if tapped is not None:
        got_layers = dict(target.run(tapped, few, **how).outputs)
        same_names(got_layers, [*reference, *names])
        own = {name: got_layers.pop(name) for name in reference}
        report["tapped_psnr_db"] = whole(own, {name: out[: len(few)] for name, out in got.items()})["psnr_db"]
        report["layer_images"] = len(few)
        report |= compare.compare_layers(got_layers, want_layers, names, precision)
    gates = compare.gates_of(runtime, precision)
    reasons = compare.reasons_of(report, gates)
    told = {"images": len(feeds), **_verdict(reasons, gates), **report, "metrics": METRICS}
    return {**_head(bundle, threads), **told, "seconds": round(time.perf_counter() - start, 2)}


def compare_answers(
    source: ModelSource, runtime: str, precision: str = "fp32", images: Images = None, *, graphs: bool = True,
    graph_images: int = 2, threads: int = 1, timeout_s: float = 3600.0,
) -> dict[str, Any]:  # fmt: skip
    """Compare a compiled model of several graphs with the one it was compiled from, compiling it first when that was
    not done; a JSON object: what each finds in the same photographs.

    images: Image or uint8 (h, w, 3) RGB of any size; None: the sample photographs. graphs: also hold each graph against
    PyTorch, on the first `graph_images`. "verdict" is "pass" when nothing is under its gate, else "fail" with
    "reasons".
    Raises as compile_bundle, DeviceError when a process dies, DataError when there is nothing to compare.
    """
    began = time.perf_counter()
    photos = photos_of(images)
    bundle = compile_bundle(source, runtime, precision)
    own: dict[str, Any] = {
        "model": str(source.folder), "exporter": source.exporter, "program": source.program, "threads": threads,
        "reference": source.reference,
    }  # fmt: skip
    done = run_job(Job("answers", **own), photos=photos, timeout_s=timeout_s)
    want = unpacked(done.outputs, bundle.classes)
    own |= {"runtime": runtime, "precision": precision, "bundle": str(bundle.folder)}
    got = unpacked(run_job(Job("answers", **own), photos=photos, timeout_s=timeout_s).outputs, bundle.classes)
    report = {**agreement(got, want), "graphs": []}
    if graphs:
        beside = run_job(Job("beside", **own), photos=photos[:graph_images], timeout_s=timeout_s)
        report["graphs"] = beside.facts["graphs"]
    gates = compare_detections.GATES[precision]
    verdict = _verdict(compare_detections.reasons_of(report, gates), gates)
    told = {"task": bundle.task, **verdict, **report, "rule": compare_detections.RULE}
    return {**_head(bundle, threads), **told, "seconds": round(time.perf_counter() - began, 2)}


def measure_graph(
    source: ModelSource, runtime: str, precision: str = "fp32", *, threads: int = 1, runs: int = 50,
    images: Images = None, timeout_s: float = 900.0, target: ModuleType = target_here,
) -> Timing:  # fmt: skip
    """Time a compiled model of one graph, compiling it first when that was not done.

    images: cycled through; None: the sample photographs. Raises as `compile_bundle`, and DeviceError.
    """
    if runs < LEAST_RUNS:
        raise DataError(f"{runs} runs are too few for a timing; wanted {LEAST_RUNS} or more")
    bundle = compile_bundle(source, runtime, precision)
    feeds = frames_of(bundle, photos_of(images))
    how: dict[str, Any] = {"threads": threads, "timeout_s": timeout_s, "exporter": source.exporter}
    trace = target.run(bundle, feeds, runs=1 + WARMUP + runs, **how)
    versions: Any = bundle.meta["versions"]
    return timing(trace, threads=threads, versions=dict(versions))


def _reference(
    source: ModelSource, feeds: Sequence[Feed], few: int, layers: tuple[str, ...], threads: int, timeout_s: float,
    known: Known | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What PyTorch says: its outputs for all feeds, its layers for the first few."""
    digest = hashlib.sha256(repr((sorted(source.hashes.items()), few, layers, threads)).encode())
    for feed in feeds:
        for name, array in feed.items():
            digest.update(name.encode() + array.tobytes())
    key = digest.hexdigest()
    if known is not None and key in known:
        return known[key]
    job = Job("reference", model=str(source.folder), exporter=source.exporter, layers=layers, layer_feeds=few,
              threads=threads)  # fmt: skip
    outputs = dict(run_job(job, feeds, timeout_s=timeout_s).outputs)
    if known is not None:
        known[key] = outputs
    return outputs


def _verdict(reasons: list[str], gates: dict[str, float]) -> dict[str, Any]:
    return {"verdict": "fail" if reasons else "pass", "reasons": reasons, "gates": gates}


def _head(bundle: Bundle, threads: int) -> dict[str, Any]:
    told = {key: bundle.meta[key] for key in ("weights_bytes", "compile_seconds", "facts", "versions")}
    return {"schema_version": SCHEMA_VERSION, "model": str(bundle.model or ""), "bundle": str(bundle.folder),
            "runtime": bundle.runtime, "precision": bundle.precision, "bytes": bundle.bytes, **told,
            "machine": machine(), "threads": threads}  # fmt: skip
