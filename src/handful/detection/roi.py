"""RoIAlign: the mean of feature maps in boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from handful.pick import need
from handful.threads import inference

GRID = 6  # a feature is the mean of so many points across and down


def roi_means(maps: Sequence[torch.Tensor], boxes: np.ndarray, strides: Sequence[float]) -> np.ndarray:
    """The mean of each map in each box (RoIAlign; He 2017, arXiv:1703.06870), one after another: (n, sum of channels).

    maps: [(1, c, h, w), ...] float32; boxes: (n, 4) in px of the network's input.
    """
    roi_align = need("torchvision.ops", "detect").roi_align
    given = torch.from_numpy(np.ascontiguousarray(boxes, np.float32))
    with inference():
        parts = [
            roi_align(one, [given], 1, spatial_scale=1 / stride, sampling_ratio=GRID, aligned=True).flatten(1)
            for one, stride in zip(maps, strides, strict=True)
        ]
    return np.asarray(torch.cat(parts, 1).numpy())
