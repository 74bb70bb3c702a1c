"""How far two detectors agree in what they find, and a compiled one's graphs with PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handful.detection.fusion import iou
from handful.device.detector import OnDevice
from handful.device.lab.metrics import differences, same_names
from handful.device.runtimes.contract import Session
from handful.errors import DataError
from handful.results import Detections

OVERLAP = 0.9


def agreement(got: Sequence[Detections], want: Sequence[Detections]) -> dict[str, Any]:
    """Two detectors' answers to the same photos, see compare_detector.RULE: matched_of_want,
    matched_of_got, counts, score differences.

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
        both.score(rgb)
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
