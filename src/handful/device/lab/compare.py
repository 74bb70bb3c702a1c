"""Hold a compiled model against PyTorch on real photographs: its answers, and layer by layer where they part."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import handful.device.runtimes
from handful.device.compile import Artefact, compile_model
from handful.device.frames import frames_of
from handful.device.lab.metrics import METRICS, differences, same_names, top1_agreement, whole
from handful.device.runtimes.contract import machine
from handful.device.targets.worker import Job, run_job
from handful.errors import DataError
from handful.pick import pick
from handful.types import Image

SCHEMA_VERSION = 1

# layer_psnr_db is asked of every layer, and of the tapped variant's outputs against the shipped file's. It stands
# below the least that was measured over every runtime (lite0, photographs: fp32 112 dB, fp16 56 dB) and above what a
# fault leaves: swapped channels about 25 dB. One layer 1 % too large leaves 50 to 60 dB: fp32 sees it, fp16 cannot,
# because half precision alone does as much. So look for faults in fp32 first.
GATES: dict[str, dict[str, float]] = {
    "fp32": {"psnr_db": 110.0, "top1_agreement": 1.0, "layer_psnr_db": 100.0},
    "fp16": {"psnr_db": 60.0, "top1_agreement": 0.999, "layer_psnr_db": 45.0},
}
# Where a runtime computes in half precision, the processor decides: one without such arithmetic converts around every
# step and kept 66 dB, one with it (AVX512-FP16, as phones have) 54 dB on photographs of nothing that was taught.
COMPUTED_IN_HALF: dict[str, float] = {**GATES["fp16"], "psnr_db": 50.0}
Outputs = Mapping[str, np.ndarray]


def gates_of(runtime: str, precision: str) -> dict[str, float]:
    """What a comparison must reach: the runtime's file says whether its fp16 is only stored, or computed (HALF)."""
    computed = (
        precision == "fp16"
        and getattr(pick(handful.device.runtimes, "runtime", runtime), "HALF", "stored") == "computed"
    )
    return COMPUTED_IN_HALF if computed else GATES[precision]


def compare_outputs(got: Outputs, want: Outputs) -> dict[str, Any]:
    """{name: (n, ...)} on both sides -> the metrics of all outputs together and of each, and top1_agreement.

    top1_agreement is null, and `skipped` says why, for a network without an output named scores.
    Raises DataError for other names or shapes, nothing to compare, or values that are not finite.
    """
    report: dict[str, Any] = {**whole(got, want), "top1_agreement": None, "skipped": []}
    if "scores" in want:
        report["top1_agreement"] = top1_agreement(got, want)
    else:
        report["skipped"].append("top1_agreement: the network has no output named scores")
    report["outputs"] = {name: differences(got[name], want[name], name) for name in want}
    return report


def compare_layers(got: Outputs, want: Outputs, order: Sequence[str], precision: str) -> dict[str, Any]:
    """Each layer's metrics in order of execution, and `first_bad_layer`: the first under its gate, or null.

    Raises DataError as `compare_outputs`.
    """
    same_names(got, want)
    same_names(order, want)
    layers = [{"name": name, **differences(got[name], want[name], name)} for name in order]
    gate = GATES[precision]["layer_psnr_db"]
    return {"layers": layers, "first_bad_layer": next((row["name"] for row in layers if row["psnr_db"] < gate), None)}


def compare_model(
    model: Path,
    runtime: str,
    precision: str = "fp32",
    images: Sequence[Image | np.ndarray] | None = None,
    *,
    layers: bool = True,
    layer_images: int = 4,
    threads: int = 1,
    timeout_s: float = 900.0,
    kept: dict[str, dict[str, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Compare a compiled model with PyTorch, compiling it first when that was not done; a JSON object.

    images: Image or uint8 (h, w, 3) RGB, fitted to the model's frame; None: the sample photographs.
    layers: also compare layers, on the first `layer_images` photographs, through the tapped variant;
    `tapped_psnr_db` holds that variant's own outputs against the shipped file's. "verdict" is "pass" when nothing
    is under its gate, else "fail" with "reasons". kept: a dict to share between comparisons of one model on the same
    images, so that PyTorch is asked once; leave it to this function to fill.
    Raises as `compile_model`, DeviceError when a process dies, DataError when there is nothing sound to compare.
    """
    start = time.perf_counter()
    if layer_images < 1:
        raise DataError(f"layer_images must be 1 or more, got {layer_images}")
    artefact = compile_model(model, runtime, precision, taps=layers)
    frames = frames_of(artefact, images)
    few = frames[:layer_images]
    tapped_layers = tuple(artefact.layers) if layers else ()
    reference = dict(_reference(artefact, frames, len(few), tapped_layers, threads, timeout_s, kept))
    want_layers = {name: reference.pop(name) for name in tapped_layers}
    got = _run(artefact, artefact.folder, frames, threads, timeout_s)
    report = compare_outputs(got, reference)
    report |= {"layers": [], "first_bad_layer": None, "tapped_psnr_db": None, "layer_images": 0}
    if layers:
        got_layers = _run(artefact, artefact.taps, few, threads, timeout_s)
        same_names(got_layers, [*reference, *tapped_layers])
        tapped = {name: got_layers.pop(name) for name in reference}
        report["tapped_psnr_db"] = whole(tapped, {name: out[: len(few)] for name, out in got.items()})["psnr_db"]
        report["layer_images"] = len(few)
        report |= compare_layers(got_layers, want_layers, tapped_layers, precision)
    gates = gates_of(runtime, precision)
    reasons = _reasons(report, gates)
    return {
        "schema_version": SCHEMA_VERSION,
        "runtime": runtime,
        "precision": precision,
        "images": len(frames),
        "verdict": "fail" if reasons else "pass",
        "reasons": reasons,
        "gates": gates,
        **report,
        "metrics": METRICS,
        "bytes": artefact.bytes,
        "weights_bytes": artefact.meta["weights_bytes"],
        "compile_seconds": artefact.meta["compile_seconds"],
        "facts": artefact.meta["facts"],
        "versions": artefact.meta["versions"],
        "machine": machine(),
        "threads": threads,
        "seconds": round(time.perf_counter() - start, 2),
    }


def _reference(
    artefact: Artefact,
    frames: np.ndarray,
    few: int,
    layers: tuple[str, ...],
    threads: int,
    timeout_s: float,
    kept: dict[str, dict[str, np.ndarray]] | None,
) -> dict[str, np.ndarray]:
    """What PyTorch says: its outputs for all frames, its layers for the first few."""
    key = hashlib.sha256(repr((artefact.meta["source"], few, layers, threads)).encode() + frames.tobytes()).hexdigest()
    if kept is not None and key in kept:
        return kept[key]
    job = Job("reference", "torch", str(artefact.model), layers=layers, layer_frames=few, threads=threads)
    outputs = dict(run_job(job, frames, timeout_s=timeout_s).outputs)
    if kept is not None:
        kept[key] = outputs
    return outputs


def _run(artefact: Artefact, folder: Path, frames: np.ndarray, threads: int, timeout_s: float) -> dict[str, np.ndarray]:
    job = Job("run", artefact.runtime, str(artefact.model), str(folder), artefact.precision, threads=threads)
    return run_job(job, frames, timeout_s=timeout_s).outputs


def _reasons(report: Mapping[str, Any], gates: Mapping[str, float]) -> list[str]:
    """Why the verdict is "fail": one clause each with the figure and the gate; empty for "pass"."""
    reasons = []
    if report["psnr_db"] < gates["psnr_db"]:
        reasons.append(f"outputs are {report['psnr_db']:.1f} dB from PyTorch's; wanted {gates['psnr_db']:g} or more")
    agree = report["top1_agreement"]
    if agree is not None and agree < gates["top1_agreement"]:
        reasons.append(f"{agree:.2%} of the answers agree with PyTorch's; wanted {gates['top1_agreement']:.2%}")
    gate = gates["layer_psnr_db"]
    if report["first_bad_layer"] is not None:
        worst = next(row for row in report["layers"] if row["name"] == report["first_bad_layer"])
        reasons.append(f"layer {worst['name']} is {worst['psnr_db']:.1f} dB from PyTorch's; wanted {gate:g} or more")
    tapped = report["tapped_psnr_db"]
    if tapped is not None and tapped < gate:
        reasons.append(
            f"the variant with layers is {tapped:.1f} dB from the shipped file; wanted {gate:g} or more, so its layers "
            "do not speak for what is shipped"
        )
    return reasons
