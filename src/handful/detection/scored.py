"""From scored proposals to detections: thresholds, non-maximum suppression within a class and across classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handful.detection.fusion import Fusion, fuse, nms
from handful.detection.scoring import select_candidates
from handful.fewshot.nemo import Solution
from handful.results import Detections


@dataclass(frozen=True, eq=False)
class ScoredProposals:
    """The proposals of an image with NEMO's logits. They do not depend on vigilance or score threshold, so detections
    at another vigilance can be selected from the same for next to nothing.

    xyxy_px (n, 4), quality (n,), scale (n,): as Proposals. vectors: (n, dim) float64, the box embeddings; logits:
    (n, k) float64, one a class. cosine_floor: (n,) float64, see Background.cosine_floor; None for a detector without a
    background.
    """

    xyxy_px: np.ndarray
    quality: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    logits: np.ndarray
    cosine_floor: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.quality)


def select_detections(
    scored: ScoredProposals, solution: Solution, fusion: Fusion, vigilance: float, *, unknown: bool = False,
    ranking: bool = False, score_threshold: float | None = None, open_set: bool = True,
) -> Detections:  # fmt: skip
    """As Irene.select, from NEMO's constants alone; of `solution` the classes and the expected score are read."""
    candidates = select_candidates(
        solution, scored.logits, scored.quality, vigilance, cosine_floor=scored.cosine_floor, open_set=open_set,
        unknown=unknown, ranking=ranking, score_threshold=score_threshold,
    )  # fmt: skip
    box, margin, none = candidates.box, candidates.margin, candidates.margin.shape[1]
    fused = fuse(scored.xyxy_px[box], candidates.score, candidates.label, scored.scale[box], fusion)
    stays = np.arange(len(fused))
    if not ranking:  # an object has one class, a known one where there is one; a ranking keeps all of them
        stays = np.sort(nms(fused.xyxy_px, (fused.score + (fused.label != none)) / 2, fusion.cross_class_iou))
    box = box[fused.source[stays]]
    nearest = margin.argmax(axis=1)
    label = np.where(fused.label[stays] == none, nearest[box], fused.label[stays])
    return Detections(solution.classes, fused.xyxy_px[stays], fused.score[stays], label, margin[box, label],
                      scored.vectors[box])  # fmt: skip
