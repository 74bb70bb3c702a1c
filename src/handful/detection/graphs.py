"""A taught detector as a few networks of fixed shapes, for phones, and the steps between them.

    propose    the letterboxed image                     -> proposals, quality of each, feature maps
    refine     maps, boxes (where the proposer has it)   -> better boxes, quality of each
    features   maps, boxes                               -> proposer features of each box
    crops      crops of the image                        -> crop features of each box
    head       both                                      -> the vector of each box, logits of each class

Boxes and crops come in fixed numbers, padded with zeros. `plan` has the order, the shapes and the constants of the
steps between: all that a program on a phone needs beside the graphs. handful.detection.compiled is such a program. A
detector of several scales has the same graphs: propose, refine and features are run once more for each canvas.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from handful.detection.background import FLOOR_MARGIN, Background
from handful.detection.compiled import SCHEMA_VERSION
from handful.detection.contract import ProposerGraph
from handful.detection.crops import LEAST_IOU, MIN_PX, SHARED_IOU
from handful.detection.multiscale import Scales
from handful.detection.scoring import MAX_CLASSES_PER_BOX, linear_scale
from handful.errors import DataError
from handful.fewshot.front_end import FrontEnd
from handful.fewshot.nemo import GAIN, Solution
from handful.models.preprocessing import Normalize

CROP_BATCH = 10
TINY = 1e-12  # the least length that is divided by: padding rows have none

FIRST_STEP = (
    "letterbox: scale the image (bilinear, antialiased) until it fits the frame of side_px, put it in the middle, the "
    "rest black; factor: px of frame for one px of image, rounded sides; left, top: (side_px - side) // 2"
)
LAST_STEPS = (
    "head -> logits of each class, cosine_floor; "
    "logit of none of these = gain * max(expected - (5.1 - vigilance) / 10, cosine_floor)",
    "probability = softmax over both; score = sqrt(quality * probability); of each box the max_classes_per_box best "
    "classes whose logits are above that of none of these, with a score of score_threshold or more",
    "boxes of one class are fused as `fusion` says (handful.detection.fusion); the fusion.max_boxes best stay",
)
STEPS = (
    FIRST_STEP,
    "propose -> quality, boxes, maps; (box - left top) / factor is in px of the image",
    "take the pre_nms_top_k boxes of the best quality, clip them to the image, leave out those without area; best "
    "first, drop each that shares more than nms_iou IoU with one that stays",
    "if there is a graph refine: give it the first refine.max_boxes of them in px of the frame, padded with zeros; its "
    "boxes and quality replace theirs; clip, sort and drop once more",
    "the first max_boxes go on; in px of the frame, padded with zeros, they go into features with the maps",
    "with scales.count above 1, or an image more than 3 times as long as high: the steps so far again for canvases of "
    "scales.side_px, on which parts of the image lie twice as large, where the focus map or small boxes say that it is "
    "worth it (handful.detection.multiscale); boxes of all scales go on together, and features of a box come from the "
    "coarsest scale that shows it 42 px large",
    "where crops.max_crops is a number: going down the boxes, best first, one that overlaps no crop by an IoU of "
    "crops.shared_iou or more gets a crop, max_crops at most; each box takes the crop_features of the crop that it "
    "overlaps most, zeros where that is less than crops.least_iou",
    "crops: add `margin` of the box's width and height on each side, floor left top, ceil right bottom, clip to the "
    "image, at least min_px a side; resize to crops.side_px (bilinear, antialiased), `batch` at a time",
    *LAST_STEPS,
)


class RoiMeans(nn.Module):
    """RoIAlign: the mean of each map in each box, as with one cell and `points` x `points` samples has it (He 2017,
    arXiv:1703.06870; torchvision's aligned=True), written as one matrix product a map, which every runtime has.

    The share of a cell in bilinear sampling is a share by its row times a share by its column, and so is the mean over
    a grid of points: the shares of all cells are an outer product. Points are held inside the map, where torchvision
    lets those fade that lie more than a cell outside; boxes that lie in the frame have none.

    forward: (*maps (1, c, h, w), boxes (n, 4) px of the frame) -> float32 (n, sum of c).
    sides: cells of each (square) map; strides: px of the frame a cell.
    """

    steps: torch.Tensor

    def __init__(self, sides: Sequence[int], strides: Sequence[int], points: int) -> None:
        super().__init__()
        self.strides = tuple(float(s) for s in strides)
        for i, side in enumerate(sides):
            self.register_buffer(f"cells_{i}", torch.arange(side, dtype=torch.float32), persistent=False)
        self.register_buffer("steps", (torch.arange(points, dtype=torch.float32) + 0.5) / points, persistent=False)

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        *maps, boxes = given
        found = []
        for i, (one, stride) in enumerate(zip(maps, self.strides, strict=True)):
            cells = getattr(self, f"cells_{i}")
            across = self.shares(boxes[:, 0:1], boxes[:, 2:3], cells, stride)
            down = self.shares(boxes[:, 1:2], boxes[:, 3:4], cells, stride)
            shares = (down.unsqueeze(2) * across.unsqueeze(1)).flatten(1)
            found.append(shares @ one.flatten(2).squeeze(0).transpose(0, 1))
        return torch.cat(found, 1)

    def shares(self, low: torch.Tensor, high: torch.Tensor, cells: torch.Tensor, stride: float) -> torch.Tensor:
        """How much of each cell of a line is in the mean from low to high, (n, 1) px each -> (n, cells), rows of 1."""
        low, high = low / stride - 0.5, high / stride - 0.5
        at = (low + (high - low) * self.steps).clamp(0.0, float(len(cells) - 1))
        return torch.relu(1.0 - (at.unsqueeze(2) - cells).abs()).mean(1)


class Front(nn.Module):
    """handful.fewshot.front_end.FrontEnd as a layer: (n, d) -> (n, rank), rows of length 1."""

    def __init__(self, front: FrontEnd, *, signed: bool) -> None:
        super().__init__()
        self.signed = signed
        self.project = nn.Linear(len(front.center), front.rank)
        projection = front.projection.astype(np.float64)
        with torch.no_grad():
            self.project.weight.copy_(torch.from_numpy(projection.T.copy()))
            self.project.bias.copy_(torch.from_numpy(-front.center.astype(np.float64) @ projection))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        root = torch.sqrt(torch.relu(features))
        if self.signed:
            root = root - torch.sqrt(torch.relu(-features))
        return unit(self.project(root))


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows (n, d) of length 1."""
    # not sum + TINY: the exporter to ONNX takes so small a number for 0 and leaves it out
    return x / torch.sqrt(torch.sum(x * x, dim=1, keepdim=True)).clamp(min=TINY)


class Propose(nn.Module):
    """image: uint8 (1, side, side, 3) RGB -> quality (1, n), boxes (1, n, 4) px of the frame, focus (1, h, w) where it
    is wanted and the proposer has it, map_0, map_1, ..."""

    input_names = ("image",)

    def __init__(self, proposer: ProposerGraph, *, focus: bool = False) -> None:
        super().__init__()
        self.proposer, self.frame_hw = proposer.propose, (proposer.side_px, proposer.side_px)
        self.has_focus, self.focus = proposer.focus, focus and proposer.focus
        with torch.no_grad():
            out = tuple(self.proposer(torch.zeros((1, *self.frame_hw, 3), dtype=torch.uint8)))
        at = 2 + proposer.focus
        fits = len(out) >= at and out[0].ndim == 2 and out[1].shape == (*out[0].shape, 4)
        if not fits or any(m.ndim != 3 for m in out[2:at]) or any(m.ndim != 4 for m in out[at:]):
            raise DataError(f"propose gives {[tuple(o.shape) for o in out]}; wanted quality (1, n), boxes (1, n, 4), "
                            + "focus (1, h, w), " * proposer.focus + "and maps (1, c, h, w)")  # fmt: skip
        self.maps = tuple(tuple(one.shape) for one in out[at:])
        self.output_names = ("quality", "boxes", *["focus"] * self.focus, *(f"map_{i}" for i in range(len(self.maps))))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the class says."""
        out = tuple(self.proposer(image))
        return out if self.focus == self.has_focus else (*out[:2], *out[3:])


class OnMaps(nn.Module):
    """map_0, map_1, ..., boxes (most, 4) px of the frame -> what `module` makes of them, named so."""

    def __init__(self, module: nn.Module, maps: Sequence[Sequence[int]], most: int, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.maps, self.most = module, maps, most
        self.input_names = (*(f"map_{i}" for i in range(len(maps))), "boxes")
        self.output_names = tuple(names)

    def examples(self) -> tuple[torch.Tensor, ...]:
        """Zeros."""
        return (*(torch.zeros(tuple(shape)) for shape in self.maps), torch.zeros((self.most, 4)))

    def forward(self, *given: torch.Tensor) -> Any:
        """As the class says."""
        return self.module(*given)


class ProposerFeatures(nn.Module):
    """A proposer's features of boxes, as their part of NEMO's vector."""

    def __init__(self, features: nn.Module, front: FrontEnd) -> None:
        super().__init__()
        self.features, self.front = features, Front(front, signed=True)

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """(*maps, boxes (k, 4)) -> (k, rank)."""
        out: torch.Tensor = self.front(self.features(*given))
        return out


class Crops(nn.Module):
    """crops: uint8 (n, side, side, 3) RGB -> crop_features (n, rank), their part of NEMO's vectors."""

    input_names, output_names = ("crops",), ("crop_features",)

    def __init__(self, backbone: Any, front: FrontEnd, side_px: int, batch: int) -> None:
        super().__init__()
        card = backbone.card
        self.normalize = Normalize(card.mean, card.std)
        self.backbone, self.front = backbone, Front(front, signed=card.signed)
        self.shape = (batch, side_px, side_px, 3)

    def examples(self) -> tuple[torch.Tensor, ...]:
        """Black crops."""
        return (torch.zeros(self.shape, dtype=torch.uint8),)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        out: torch.Tensor = self.front(self.backbone(self.normalize(crops.permute(0, 3, 1, 2).float())))
        return out


class Head(nn.Module):
    """proposer_features (n, r), crop_features (n, s), those there are -> vectors (n, d) of length 1, logits (n,
    classes), and cosine_floor (n, 1), the cosine that "none of these" has at least, -1 for a detector without a
    background.

    weights: how much of each goes into the vector. Whitening, class means and background are NEMO's and the detector's;
    what is taught later changes this graph alone.
    """

    output_names = ("vectors", "logits", "cosine_floor")

    def __init__(
        self, solution: Solution, ranks: dict[str, int], weights: dict[str, float], most: int,
        background: Background | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_names, self.most = tuple(ranks), most
        self.ranks, self.weights = tuple(ranks.values()), tuple(weights[name] for name in ranks)
        dim, classes = solution.whiten.shape[0], len(solution.classes)
        self.whiten, self.classify = nn.Linear(dim, dim, bias=False), nn.Linear(dim, classes, bias=False)
        self.linear = nn.Linear(dim, classes)
        with torch.no_grad():
            # a cosine does not see how long the vector is, so the map may be scaled to sit well inside float16; the
            # linear score does, so its weights are scaled back
            scale = float(np.abs(solution.whiten).max())
            self.whiten.weight.copy_(torch.from_numpy(solution.whiten / scale))
            self.classify.weight.copy_(torch.from_numpy(solution.prototypes * GAIN))
            means, logits = solution.prototypes * solution.lengths[:, None], linear_scale(solution)
            self.linear.weight.copy_(torch.from_numpy(means * scale * logits))
            self.linear.bias.copy_(torch.from_numpy(-logits * solution.lengths**2 / 2))
        self.background: nn.Linear | None = None
        if background is not None:
            centers = background.centers @ solution.whiten.T
            centers /= np.linalg.norm(centers, axis=1, keepdims=True)
            self.background = nn.Linear(dim, len(centers), bias=False)
            with torch.no_grad():
                self.background.weight.copy_(torch.from_numpy(centers))

    def examples(self) -> tuple[torch.Tensor, ...]:
        """Zeros."""
        return tuple(torch.zeros((self.most, rank)) for rank in self.ranks)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the class says."""
        vectors = unit(torch.cat([w * one for w, one in zip(self.weights, given, strict=True)], 1))
        whitened = self.whiten(vectors)
        white, linear = unit(whitened), self.linear(whitened)
        logits = self.classify(white) + linear - torch.amax(linear, dim=1, keepdim=True)
        if self.background is None:
            return vectors, logits, torch.sum(white, dim=1, keepdim=True) * 0.0 - 1.0
        return vectors, logits, torch.amax(self.background(white), dim=1, keepdim=True) - FLOOR_MARGIN


def graph_of(proposer: Any) -> ProposerGraph:
    """The graph of a proposer. Raises DataError for one that cannot be compiled."""
    if getattr(proposer, "scales", None) is not None:
        proposer = proposer.proposer
    if not hasattr(proposer, "graph"):
        raise DataError(f"the proposer {proposer.about.get('name')!r} cannot be compiled: it has no graph(); teach the "
                        "detector with one that has, such as --proposer nanodet")  # fmt: skip
    found: ProposerGraph = proposer.graph()
    return found


def crop_batch(irene: Any) -> int:
    """How many crops go into their graph at a time."""
    return min(CROP_BATCH, irene.embedder.settings.max_crops or CROP_BATCH)


def parts(irene: Any, *, batch: int | None = None) -> dict[str, nn.Module]:
    """The networks of a taught detector (handful.detection.irene.Irene) by name, in the order in which they run.

    batch: crops at a time, crop_batch unless given. Each has input_names, output_names, and frame_hw or examples(), as
    handful.device wants them. Raises DataError for a proposer that cannot be compiled, or when nothing was taught.
    """
    most, batch = irene.embedder.settings.max_boxes, batch or crop_batch(irene)
    embedder, proposer = irene.embedder, graph_of(irene.proposer)
    propose = Propose(proposer, focus=scales_of(irene).count > 1)
    found: dict[str, nn.Module] = {"propose": propose}
    if proposer.refine is not None:
        names = ("refined_quality", "refined_boxes")
        found["refine"] = OnMaps(proposer.refine, propose.maps, proposer.refine_top_k, names)
    share, ranks = embedder.settings.share, dict[str, int]()
    if embedder.proposer_front_end is not None:
        if proposer.features is None:
            raise DataError(f"{irene.proposer.about.get('name')} has features, but its graph() gives none to compile")
        described = ProposerFeatures(proposer.features, embedder.proposer_front_end)
        found["features"] = OnMaps(described, propose.maps, most, ("proposer_features",))
        ranks["proposer_features"] = embedder.proposer_front_end.rank
    if embedder.crop_front_end is not None:
        backbone = copy.deepcopy(embedder.backbone)
        found["crops"] = Crops(backbone, embedder.crop_front_end, embedder.settings.side_px, batch)
        ranks["crop_features"] = embedder.crop_front_end.rank
    weights = {"proposer_features": float(np.sqrt(share)), "crop_features": float(np.sqrt(1 - share))}
    found["head"] = Head(irene.solution(), ranks, weights, most, irene.background())
    return {name: part.eval() for name, part in found.items()}


def scales_of(irene: Any) -> Scales:
    """At which scales a detector looks at an image."""
    found: Scales = getattr(irene.proposer, "scales", Scales())
    return found


def plan(irene: Any, *, batch: int | None = None) -> dict[str, Any]:
    """How the graphs go together, and every constant of the steps between: JSON. Raises as parts."""
    from handful.detection.folder import KIND, RULE

    proposer, how, solution = graph_of(irene.proposer), irene.embedder.settings, irene.solution()
    front = irene.embedder.proposer_front_end
    crops = {"side_px": how.side_px, "margin": how.margin, "min_px": MIN_PX, "batch": batch or crop_batch(irene),
             "color_order": "RGB", "dtype": "uint8", "max_crops": how.max_crops, "shared_iou": SHARED_IOU,
             "least_iou": LEAST_IOU if how.share else 0.0}  # fmt: skip
    return {
        "schema_version": SCHEMA_VERSION, "kind": KIND, "classes": list(solution.classes), "steps": list(STEPS),
        "frame": {"side_px": proposer.side_px, "fill": 0, "place": "middle", "color_order": "RGB", "dtype": "uint8"},
        "boxes": {"pre_nms_top_k": proposer.pre_nms_top_k, "nms_iou": proposer.nms_iou, "max_boxes": how.max_boxes,
                  "refine": {"max_boxes": proposer.refine_top_k} if proposer.refine is not None else None},
        "scales": {**asdict(scales_of(irene)), "side_px": getattr(irene.proposer, "side_px", proposer.side_px)},
        "features": {"dim": front.rank} if front is not None else None,
        "crops": crops if irene.embedder.crop_front_end is not None else None,
        "answer": {"gain": GAIN, "expected": solution.expected, "vigilance": irene.nemo.vigilance,
                   "max_classes_per_box": MAX_CLASSES_PER_BOX, "score_threshold": irene.score_threshold, "rule": RULE},
        "fusion": asdict(irene.fusion), "proposer": irene.proposer.about,
    }  # fmt: skip
