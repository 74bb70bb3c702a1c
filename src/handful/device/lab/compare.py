"""Outputs held against PyTorch's: how far apart, whether the answers agree, and the first layer where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import handful.device.runtimes
from handful.device.lab.metrics import differences, same_names, top1_agreement, whole
from handful.pick import pick

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


def reasons_of(report: Mapping[str, Any], gates: Mapping[str, float]) -> list[str]:
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
