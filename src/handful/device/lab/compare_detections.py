"""What a compiled detector must reach: what it finds, held against what the taught one finds, and graph by graph."""

from __future__ import annotations

from typing import Any

from handful.device.lab.agreement import OVERLAP
from handful.device.lab.metrics import METRICS

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
