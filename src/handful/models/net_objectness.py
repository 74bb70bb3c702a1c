"""Objectness: boxes around things of any kind, each with how well it fits, and where small things want a closer look.

Kim et al. 2021, Object Localization Network (arXiv:2108.06753): a network that learns how well a box lies, not whether
it is one of the labeled classes, also finds things of classes nobody labeled. Points instead of anchors: Tian et al.
2019, FCOS (arXiv:1904.01355). Quality as a soft target: Li et al. 2020 (arXiv:2006.04388). Where to look closer: Najibi
et al. 2019, AutoFocus (arXiv:1812.01600).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from handful.errors import DataError
from handful.models.detector import Detector, Targets
from handful.models.encoder import Lite, Timm, pretrained_encoder
from handful.models.preprocessing import NetCard, check_frame
from handful.pick import need

CARD = NetCard(
    task="detect",
    what="where things of any kind are: a light pyramid on EfficientNet-Lite0, points that say how well their box "
    "lies, and a second look at the best of them; one class, a thing",
    paper="Kim 2021, OLN, arXiv:2108.06753; Tian 2019, FCOS, arXiv:1904.01355; Najibi 2019, AutoFocus, "
    "arXiv:1812.01600",
    license="Apache-2.0; weights as those of handful.models.backbone",
    frame_hw=(320, 320),
    presets={"open": {"background": 0.0}},
    classes=1,
    training={"": {"ema": 0.998, "augment": {"scale": [0.7, 2.0]}, "lr_of": {"core.backbone.encoder": 0.3},
                   "freeze": [f"core.backbone.encoder.{p}" for p in ("conv_stem", "bn1", "blocks.0", "blocks.1")]}},
)  # fmt: skip

# size of a thing, the root of its box's area in strides, that the points of a level learn; neighbors overlap
LEAST, MOST = 2.0, 7.0
NEAR = 1.5  # strides from a thing's middle within which points learn its sides
SMALL_PX, MEDIUM_PX, LARGE_PX = 5.0, 64.0, 90.0  # AutoFocus: not seen, focused on, left to this scale
FOCUS_STRIDE = 16
ROI = 5  # a second look is at so many by so many places in a box
DRAWN = 96  # boxes of a photo that the second look learns from
FIRST = 400
ALIKE = 0.8  # boxes that share more are one thing; things in a row share less


class Separable(nn.Sequential):
    """A 5x5 depthwise convolution and a 1x1, each normalized, ReLU6 at the end."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 5, stride, 2, groups=channels, bias=False), nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6(inplace=True),
        )  # fmt: skip


class Neck(nn.Module):
    """An encoder's strides 8, 16 and 32, from coarse to fine and back, and one at 64.

    (n, 3, h, w) normalized float32, multiples of 64 -> [(n, channels, h / s, w / s) for s in strides].
    """

    strides = (8, 16, 32, 64)

    def __init__(self, encoder: Lite | Timm, channels: int) -> None:
        super().__init__()
        self.encoder, self.out_channels = encoder, channels
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for given in encoder.channels[-3:]
        )
        self.down = nn.ModuleList(Separable(channels, stride=2) for _ in range(3))
        self.up = nn.ModuleList(Separable(channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """As the class says."""
        return self.joined(self.encoder(x)[-3:])

    def joined(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same from what the encoder gives at strides 8, 16 and 32."""
        c3, c4, c5 = (one(y) for one, y in zip(self.lateral, features, strict=True))
        p4 = self.up[0](c4 + F.interpolate(c5, scale_factor=2.0, mode="nearest"))
        p3 = self.up[1](c3 + F.interpolate(p4, scale_factor=2.0, mode="nearest"))
        n4 = p4 + self.down[0](p3)
        n5 = c5 + self.down[1](n4)
        return [p3, n4, n5, self.down[2](n5)]


class Head(nn.Module):
    """What every point of every level says: (n, c, h, w) -> (n, 6, h, w): quality, four sides, focus."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(Separable(channels), Separable(channels))
        self.last = nn.Conv2d(channels, 6, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            self.last.bias[0] = self.last.bias[5] = -2.0  # most points begin as no thing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        out: torch.Tensor = self.last(self.deep(x))
        return out


class Core(nn.Module):
    """Neck, points, second look.

    background: weight of the points and boxes on no thing, which should say 0. At 0 nothing is learned there, as in
    OLN: what nobody labeled is not held against the network. proposals: boxes looked at twice; detections: most
    predictions.
    """

    stride, masks = 64, False

    def __init__(self, neck: Neck, *, background: float, hidden: int, proposals: int, detections: int) -> None:
        super().__init__()
        channels = neck.out_channels
        self.backbone, self.head = neck, Head(channels)
        self.scale = nn.Parameter(torch.full((len(neck.strides),), math.log(LEAST)))
        last = nn.Linear(hidden, 5)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        self.look = nn.Sequential(nn.Linear(channels * ROI**2, hidden), nn.ReLU6(), last)
        self.background, self.proposals, self.detections = background, proposals, detections

    def dense(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What all points say, finest level first: quality (n, p) logits, boxes (n, p, 4) px of the frame, and focus
        (n, h, w) logits of the level of stride FOCUS_STRIDE."""
        quality, boxes, focus = [], [], None
        for i, (one, stride) in enumerate(zip(maps, self.backbone.strides, strict=True)):
            out = self.head(one)
            middle = points(out.shape[2], out.shape[3], stride, out.device)
            sides = (out[:, 1:5].flatten(2).transpose(1, 2) + self.scale[i]).clamp(max=8.0).exp() * stride
            quality.append(out[:, 0].flatten(1))
            boxes.append(torch.cat([middle - sides[..., :2], middle + sides[..., 2:]], 2))
            if stride == FOCUS_STRIDE:
                focus = out[:, 5]
        assert focus is not None
        return torch.cat(quality, 1), torch.cat(boxes, 1), focus

    def second(self, maps: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """A closer look at boxes [(k, 4) px of the frame, one tensor an image]: (r,) logits of how well each lies, and
        the (r, 4) boxes put right. All images' one after another."""
        out = self.look(self.pooled(maps, boxes))
        return out[:, 0], moved(torch.cat(list(boxes)), out[:, 1:])

    def pooled(self, maps: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]) -> torch.Tensor:
        """(r, channels * ROI^2): ROI x ROI places of each box, from the level that fits its size; never the finest,
        whose many cells would cost more than the others together."""
        maps, strides = maps[1:], self.backbone.strides[1:]
        roi_align = need("torchvision.ops", "detect").roi_align
        whole = torch.cat(list(boxes))
        size = ((whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])).clamp(min=1).sqrt()
        level = torch.stack([size >= least for least in steps(strides)]).sum(0)
        photo = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        out = whole.new_zeros((len(whole), maps[0].shape[1], ROI, ROI))
        for i, (one, stride) in enumerate(zip(maps, strides, strict=True)):
            own = (level == i).nonzero()[:, 0]
            given = torch.cat([photo, whole], 1)[own]
            out = out.index_put((own,), roi_align(one, given, ROI, 1 / stride, 2, True))
        return out.flatten(1)

    def forward(self, x: torch.Tensor, targets: Targets | None = None) -> tuple[Targets, dict[str, torch.Tensor]]:
        """As handful.models.detector.Core."""
        maps = [one.float() for one in self.backbone(x)]
        with torch.autocast(x.device.type, enabled=False):
            if targets is not None:
                return [], self.losses(maps, targets)
            size = x.new_tensor([x.shape[3], x.shape[2]] * 2)
            return [self.found(maps, size)], {}

    def found(self, maps: Sequence[torch.Tensor], size: torch.Tensor) -> dict[str, torch.Tensor]:
        """The predictions in one image, best first. size: (4,) width, height, width, height in px."""
        nms = need("torchvision.ops", "detect").nms
        quality, boxes, _ = self.dense(maps)
        first = quality[0].topk(min(FIRST, quality.shape[1])).indices
        own = torch.minimum(boxes[0, first].clamp(min=0), size)
        own = own[nms(own, quality[0, first], ALIKE)][: self.proposals]
        again, better = self.second(maps, [own])
        score = again.sigmoid()
        better = torch.minimum(better.clamp(min=0), size)
        large = (better[:, 2:] - better[:, :2] >= 1).all(1).nonzero()[:, 0]
        kept = large[nms(better[large], score[large], ALIKE)][: self.detections]
        labels = torch.ones(len(kept), dtype=torch.int64, device=score.device)
        return {"boxes": better[kept], "scores": score[kept], "labels": labels}

    def losses(self, maps: Sequence[torch.Tensor], targets: Targets) -> dict[str, torch.Tensor]:
        """quality, sides, focus, and of the second look again and better; all means."""
        quality, boxes, focus = self.dense(maps)
        sizes = [(m.shape[2], m.shape[3]) for m in maps]
        spots = [points(h, w, s, focus.device) for (h, w), s in zip(sizes, self.backbone.strides, strict=True)]
        stride = torch.cat([p.new_full((len(p),), s) for p, s in zip(spots, self.backbone.strides, strict=True)])
        spot, found, drawn = torch.cat(spots), dict[str, list[torch.Tensor]](), []
        for i, target in enumerate(targets):
            truth, ignored = target["boxes"], target["ignored"]
            which = assigned(spot, stride, truth)
            on = which >= 0
            with torch.no_grad():
                over = overlap(boxes[i], truth)
                best = over.amax(1) if len(truth) else over.new_zeros(len(spot))
                weight = torch.where(within(spot, ignored).any(1), 0.0, self.background)
                weight = torch.where(within(spot, truth).any(1), 1.0, weight)
            _add(found, "quality", soft(quality[i], best) * weight, over=max(1, int(on.sum())))
            if on.any():
                _add(found, "sides", apart(boxes[i, on], truth[which[on]]), over=int(on.sum()))
            label = focus_target(truth, (focus.shape[1], focus.shape[2]), ignored)
            counted = label >= 0
            if counted.any():
                value = F.binary_cross_entropy_with_logits(focus[i][counted], label[counted])
                found.setdefault("focus", []).append(value)
            drawn.append(self._drawn(boxes[i].detach(), quality[i].detach(), truth))
        again, better = self.second(maps, drawn)
        at = 0
        for target, own in zip(targets, drawn, strict=True):
            part = slice(at, at + len(own))
            at += len(own)
            truth = target["boxes"]
            over = overlap(own, truth)
            best, which = over.max(1) if len(truth) else (over.new_zeros(len(own)), over.new_zeros(len(own)).long())
            with torch.no_grad():
                put = overlap(better[part], truth).amax(1) if len(truth) else best
            weight = torch.where(mostly_in(own, target["ignored"]), 0.0, self.background)
            weight = torch.where(best >= 0.3, 1.0, weight)
            _add(found, "again", soft(again[part], put) * weight, over=max(1.0, float((best >= 0.5).sum())))
            near = best >= 0.4
            if near.any():
                _add(found, "better", apart(better[part][near], truth[which[near]]), over=int(near.sum()))
        weights = {"quality": 1.0, "sides": 2.0, "focus": 0.3, "again": 1.0, "better": 2.0}
        zero = quality.sum() * 0
        return {
            key: weights[key] * (torch.stack(found[key]).mean() if key in found else zero) for key in weights
        }  # fmt: skip

    def _drawn(self, boxes: torch.Tensor, quality: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Boxes that the second look learns from: the image's best ones, some by chance, and moved true ones."""
        nms = need("torchvision.ops", "detect").nms
        first = quality.topk(min(300, len(quality))).indices
        kept = first[nms(boxes[first], quality[first], ALIKE)][: DRAWN // 2]
        chance = torch.randint(len(boxes), (DRAWN // 8,), device=boxes.device)
        parts = [boxes[kept], boxes[chance]]
        if len(truth):
            which = torch.randint(len(truth), (DRAWN - DRAWN // 2 - DRAWN // 8,), device=boxes.device)
            own = truth[which]
            sides = (own[:, 2:] - own[:, :2]).repeat(1, 2)
            spread = torch.rand(len(own), 1, device=boxes.device) * 0.3
            parts.append(own + torch.randn(own.shape, device=boxes.device) * sides * spread)
        every = torch.cat(parts)
        low, high = torch.minimum(every[:, :2], every[:, 2:]), torch.maximum(every[:, :2], every[:, 2:])
        return torch.cat([low, torch.maximum(high, low + 1)], 1)


class Objectness(Detector):
    """See handful.models.detector.Detector; all labels are 0, scores are how well the box lies on a thing."""

    def counted(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As Detector."""
        core: Any = self.core
        x = self.normalize(image.permute(0, 3, 1, 2).float())
        for one in core.backbone(x):
            core.head(one)
        core.look(x.new_zeros((core.proposals, core.backbone.out_channels * ROI**2)))
        n = core.detections
        return x.new_zeros((n, 4)), x.new_zeros(n), x.new_zeros(n, dtype=torch.int64)


def build(
    classes: int = 1, *, frame_hw: tuple[int, int] = (320, 320), backbone: str = "lite0", channels: int = 96,
    background: float = 1.0, hidden: int = 192, proposals: int = 150, detections: int = 300, pretrained: bool = True,
) -> Objectness:  # fmt: skip
    """For images squashed to frame_hw, multiples of 64 px.

    classes: 1, a thing. backbone: "lite0" to "lite2" or "timm:NAME". channels: of the pyramid; hidden: of the second
    look. background, proposals, detections: see Core. pretrained: begin with ImageNet weights. Raises DataError or
    UnknownName.
    """
    if classes != 1:
        raise DataError(f"objectness has one class, a thing; got {classes}: give the data one class for all its things")
    hw = check_frame(frame_hw)
    if any(side % Core.stride for side in hw):
        raise DataError(f"objectness wants a frame of multiples of {Core.stride} px, got {hw[0]}x{hw[1]}")
    if not 0 <= background <= 10:
        raise DataError(f"background is {background!r}; wanted 0 (as OLN) to 10")
    for name, number in (("channels", channels), ("hidden", hidden), ("proposals", proposals),
                         ("detections", detections)):  # fmt: skip
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise DataError(f"{name} must be a whole number of 1 or more, got {number!r}")
    neck = Neck(pretrained_encoder(backbone, pretrained=pretrained, last_stride=32), channels)
    core: Any = Core(neck, background=background, hidden=hidden, proposals=proposals, detections=detections)
    return Objectness(core, frame_hw=hw).eval()


def steps(strides: Sequence[int]) -> list[float]:
    """The sizes in px of the frame from which on a box is looked at again on the second, third, ... level: halfway, in
    the logarithm, between those whose ROI cells are as large as the levels' own."""
    return [ROI * low * 2**0.5 for low in strides[:-1]]


def points(high: int, wide: int, stride: int, device: torch.device) -> torch.Tensor:
    """Middles (h * w, 2) x, y in px of a level's cells, row by row."""
    down = (torch.arange(high, device=device, dtype=torch.float32) + 0.5).repeat_interleave(wide) * stride
    across = (torch.arange(wide, device=device, dtype=torch.float32) + 0.5).repeat(high) * stride
    return torch.stack([across, down], 1)


def overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, 4), (m, 4) -> IoU (n, m)."""
    out: torch.Tensor = need("torchvision.ops", "detect").box_iou(a, b)
    return out


def mostly_in(boxes: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """(n, 4), (m, 4) -> (n,) bool: boxes of which half or more lies in one of the regions."""
    sides = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:]) - torch.maximum(
        boxes[:, None, :2], regions[None, :, :2]
    )
    shared = sides.clamp(min=0).prod(2)
    return (shared >= 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]).any(1)


def apart(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(k,) generalized IoU loss, 0 for the same box (Rezatofighi 2019, arXiv:1902.09630)."""
    out: torch.Tensor = need("torchvision.ops", "detect").generalized_box_iou_loss(found, truth)
    return out


def soft(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Quality focal loss of each (Li 2020): cross-entropy to a target 0..1, the less the nearer it already is."""
    far = (logits.detach().sigmoid() - target).abs().square()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * far


def moved(boxes: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Boxes (r, 4) whose sides are moved by shares of their width and height (r, 4)."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    low, high = (boxes + by * sides).split(2, 1)
    return torch.cat([low, torch.maximum(high, low + 1e-3)], 1)


def within(spot: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(p, 2) px, (k, 4) -> (p, k) bool: points inside boxes."""
    return ((spot[:, None] > truth[None, :, :2]) & (spot[:, None] < truth[None, :, 2:])).all(2)


def assigned(spot: torch.Tensor, stride: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Which true box each point learns the sides of: (p,) int64, -1 for none.

    Points near the middle of a thing, on the levels its size fits; the smallest where several fit. A thing so small or
    narrow that it has no such point gets the nearest one of the level that fits best.
    """
    if not len(truth):
        return torch.full((len(spot),), -1, dtype=torch.int64, device=spot.device)
    sides = truth[:, 2:] - truth[:, :2]
    size = sides.clamp(min=1e-3).prod(1).sqrt()
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    steps = size[None] / stride[:, None]
    low = torch.where(stride == stride.min(), 0.0, LEAST)[:, None]
    high = torch.where(stride == stride.max(), math.inf, MOST)[:, None]
    away = (spot[:, None] - middle[None]).abs().amax(2) / stride[:, None]
    fits = within(spot, truth) & (steps >= low) & (steps <= high) & (away <= NEAR)
    area = torch.where(fits, size[None], math.inf)
    least, which = area.min(1)
    which = torch.where(least < math.inf, which, -1)
    for k in (~fits.any(0)).nonzero()[:, 0].tolist():
        level = stride[(steps[:, k] - 4).abs().argmin()]
        which[torch.where(stride == level, away[:, k], math.inf).argmin()] = k
    return which


def focus_target(
    truth: torch.Tensor, grid_hw: tuple[int, int], ignored: torch.Tensor | None = None
) -> torch.Tensor:  # fmt: skip
    """AutoFocus's labels: (h, w) float32 a cell of FOCUS_STRIDE: 1 where a box of SMALL_PX to MEDIUM_PX touches it, 0
    elsewhere, -1 (not counted) where only a smaller box, one up to LARGE_PX or one that is ignored does. truth: (k, 4),
    ignored: (j, 4) px of the frame."""
    label = torch.zeros(grid_hw, device=truth.device)
    _marked(label, truth.new_zeros((0, 4)) if ignored is None else ignored, -1.0)
    size = (truth[:, 2:] - truth[:, :2]).clamp(min=0).prod(1).sqrt()
    focus = (size > SMALL_PX) & (size < MEDIUM_PX)
    unsure = (size <= SMALL_PX) | ((size >= MEDIUM_PX) & (size <= LARGE_PX))
    _marked(label, truth[unsure], -1.0)
    _marked(label, truth[focus], 1.0)
    return label


def _marked(label: torch.Tensor, boxes: torch.Tensor, value: float) -> None:
    """The cells that boxes (k, 4) px of the frame touch."""
    for left, top, right, bottom in (boxes / FOCUS_STRIDE).tolist():
        rows = slice(max(0, math.floor(top)), max(1, math.ceil(bottom)))
        label[rows, max(0, math.floor(left)) : max(1, math.ceil(right))] = value


def _add(found: dict[str, list[torch.Tensor]], key: str, values: torch.Tensor, over: float) -> None:
    found.setdefault(key, []).append(values.sum() / over)
