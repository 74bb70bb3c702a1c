"""Hold a compiled detector against the one that was taught: its graphs one by one, and what it finds in photographs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.detect.fusion import iou
from handful.detect.irene import Detections
from handful.device.compile import compile_model
from handful.device.contract import Session, machine
from handful.device.detector import OnDevice
from handful.device.job import Job, run_job
from handful.device.metrics import METRICS, differences, same_names
from handful.errors import DataError
from handful.types import Image

SCHEMA_VERSION = 1
OVERLAP = 0.9
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


def agreement(got: Sequence[Detections], want: Sequence[Detections]) -> dict[str, Any]:
    """Two detectors' answers to the same photos, see RULE: matched_of_want, matched_of_got, counts, score differences.

    Raises DataError for other numbers of photos, other classes, or nothing found on the side of `want`.
    """
    if len(got) != len(want) or any(g.classes != w.classes for g, w in zip(got, want, strict=True)):
        raise DataError(f"{len(got)} and {len(want)} photos, or other classes; wanted the same detector and photos")
    pairs, gaps = 0, [0.0]
    for one, other in zip(got, want, strict=True):
        over = iou(other.xyxy_px, one.xyxy_px)
        same = (other.label[:, None] == one.label[None]) & (other.unknown[:, None] == one.unknown[None])
        over[~same] = 0.0
        for i in np.argsort(-other.score, kind="stable").tolist():
            if over.shape[1] and over[i].max() >= OVERLAP:
                j = int(over[i].argmax())
                over[:, j] = 0.0
                pairs += 1
                gaps.append(abs(float(one.score[j] - other.score[i])))
    counts = sum(map(len, got)), sum(map(len, want))
    if not counts[1]:
        raise DataError(f"the detector found nothing in {len(want)} photos, so there is nothing to compare; give "
                        "photos with things in them (--images)")  # fmt: skip
    return {
        "photos": len(want), "boxes_want": counts[1], "boxes_got": counts[0], "matched": pairs,
        "matched_of_want": pairs / counts[1], "matched_of_got": pairs / counts[0] if counts[0] else 0.0,
        "largest_score_difference": max(gaps), "mean_score_difference": sum(gaps) / max(1, pairs),
    }  # fmt: skip


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
        from handful.data.samples import sample_photos

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


class Beside:
    """A Session that hands on what PyTorch says, and holds what the runtime says to the same beside it."""

    def __init__(self, name: str, reference: Any, runtime: Session) -> None:
        self.name, self.reference, self.runtime = name, reference, runtime
        self.rows: dict[str, dict[str, Any]] = {}

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run, PyTorch's."""
        import torch

        from handful.device.taps import as_tuple

        with torch.inference_mode():
            out = as_tuple(self.reference(*(torch.from_numpy(feed[name]) for name in self.reference.input_names)))
        want = {name: value.numpy().copy() for name, value in zip(self.reference.output_names, out, strict=True)}
        got = self.runtime.run(feed)
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


def graphs_beside(detector: OnDevice, reference: dict[str, Any], photos: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Each graph of a compiled detector held against the torch module of the same name, as photos run through them."""
    same_names(detector.sessions, reference)
    beside = {name: Beside(name, reference[name], detector.sessions[name]) for name in reference}
    both = OnDevice(detector.plan, beside)
    for rgb in photos:
        both.ask(rgb)
    return [one.told() for one in beside.values()]


def packed(found: Sequence[Detections]) -> dict[str, np.ndarray]:
    """Answers to photos as arrays, one after another, without their vectors."""
    names = ("xyxy_px", "score", "label", "margin")
    whole = {name: np.concatenate([getattr(one, name) for one in found]) for name in names}
    return {**whole, "count": np.array([len(one) for one in found])}


def unpacked(arrays: dict[str, np.ndarray], classes: Sequence[str]) -> list[Detections]:
    """The answers that went into `packed`."""
    ends, found = np.cumsum(arrays["count"]), []
    for end, count in zip(ends.tolist(), arrays["count"].tolist(), strict=True):
        part: dict[str, Any] = {
            name: arrays[name][end - count : end] for name in ("xyxy_px", "score", "label", "margin")
        }
        found.append(Detections(tuple(classes), vectors=np.zeros((count, 0)), **part))
    return found
