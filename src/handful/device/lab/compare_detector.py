"""A compiled detector held against the one that was taught: what each finds in the same photos, and graph by graph."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.device.compile import compile_model
from handful.device.lab.agreement import OVERLAP, agreement, unpacked
from handful.device.lab.metrics import METRICS
from handful.device.runtimes.contract import machine
from handful.device.targets.worker import Job, run_job
from handful.errors import DataError
from handful.types import Image

SCHEMA_VERSION = 1
# measured on coco-mini's val (benchmarks/detect_device.py): fp32 100 %, graphs 121 dB and more; fp16 99.2 % and 56 dB
GATES: dict[str, dict[str, float]] = {
    "fp32": {"matched": 0.99, "graph_psnr_db": 100.0},
    "fp16": {"matched": 0.95, "graph_psnr_db": 45.0},
}
RULE = {
    "matched": "share of the boxes of one side, those told as unknown among them, that have a box of the other to "
    f"themselves with the same class, known or unknown alike, and IoU {OVERLAP:g} or more; both ways",
    "largest_score_difference": "of matched boxes",
    "graph_psnr_db": METRICS["psnr_db"] + "; the least of a graph's outputs, each given what PyTorch's was given",
}


def compare_detector(
    model: Path, runtime: str, precision: str = "fp32", images: Sequence[Image | np.ndarray] | None = None, *,
    graphs: bool = True, graph_images: int = 2, threads: int = 1, timeout_s: float = 3600.0,
) -> dict[str, Any]:  # fmt: skip
    """Compare a compiled detector with the one that was taught, compiling it first when that was not done; JSON.

    images: Image or uint8 (h, w, 3) RGB of any size; None: the sample photographs. graphs: also hold each graph against
    PyTorch, on the first `graph_images`. "verdict" is "pass" when nothing is under its gate, else "fail" with
    "reasons".
    Raises as compile_model, DeviceError when a process dies, DataError when there is nothing to compare.
    """
    began = time.perf_counter()
    if images is None:
        from handful.data.sample_images import sample_photos

        images = sample_photos()
    if not len(images):
        raise DataError("no photographs were given; give at least one")
    photos = [one.rgb_u8 if isinstance(one, Image) else one for one in images]
    artefact = compile_model(model, runtime, precision)
    where, classes = (str(artefact.model), str(artefact.folder), precision), artefact.meta["classes"]
    job = Job("detect", "torch", where[0], threads=threads)
    want = unpacked(run_job(job, photos, timeout_s=timeout_s).outputs, classes)
    job = Job("detect", runtime, *where, threads=threads)
    got = unpacked(run_job(job, photos, timeout_s=timeout_s).outputs, classes)
    report = {**agreement(got, want), "graphs": []}
    if graphs:
        job = Job("graphs", runtime, *where, threads=threads)
        report["graphs"] = run_job(job, photos[:graph_images], timeout_s=timeout_s).facts["graphs"]
    gates = GATES[precision]
    reasons = reasons_of(report, gates)
    return {
        "schema_version": SCHEMA_VERSION, "task": "detect", "runtime": runtime, "precision": precision,
        "verdict": "fail" if reasons else "pass", "reasons": reasons, "gates": gates, **report, "rule": RULE,
        "bytes": artefact.bytes, "weights_bytes": artefact.meta["weights_bytes"],
        "compile_seconds": artefact.meta["compile_seconds"], "facts": artefact.meta["facts"],
        "versions": artefact.meta["versions"], "machine": machine(), "threads": threads,
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def reasons_of(report: dict[str, Any], gates: dict[str, float]) -> list[str]:
    """Why the verdict is "fail": one clause each with the figure and the gate; empty for "pass"."""
    reasons = []
    bad = next((row for row in report["graphs"] if row["psnr_db"] < gates["graph_psnr_db"]), None)
    if bad is not None:
        reasons.append(f"the graph {bad['name']} is {bad['psnr_db']:.1f} dB from PyTorch's (in {bad['worst']}); wanted "
                       f"{gates['graph_psnr_db']:g} or more")  # fmt: skip
    for key, said in (("matched_of_want", "the detector's boxes are found again"),
                      ("matched_of_got", "the runtime's boxes are the detector's")):  # fmt: skip
        if report[key] < gates["matched"]:
            reasons.append(f"{report[key]:.1%} of {said}; wanted {gates['matched']:.0%} or more")
    return reasons
