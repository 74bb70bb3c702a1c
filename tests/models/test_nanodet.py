"""NanoDet as ONNX, written from its weights, is NanoDet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handful import engine
from handful.data.sample_images import sample_photo
from handful.detection.letterbox import letterbox
from handful.detection.proposer_nanodet import Nanodet
from handful.detection.roi import GRID, roi_means
from handful.models import nanodet_onnx
from handful.models.nanodet import NanoDet
from handful.models.nanodet_onnx import SIDE_PX
from tests.skips import need_runtime


def lively() -> NanoDet:
    """Untrained, and what goes in reaches the end."""
    torch.manual_seed(3)
    made = NanoDet()
    with torch.no_grad():
        for layer in made.parameters():  # kernels as large as keeps the signal's size to the end
            layer.normal_(std=0.0 if layer.ndim == 1 else (2 / layer[0].numel()) ** 0.5)
        for _, last in made.heads:
            last.weight *= 0.1
    return made.eval()


@pytest.fixture(scope="module")
def network() -> NanoDet:
    return lively()


def test_both_engines_propose_the_same(network: NanoDet) -> None:
    need_runtime("onnxruntime")
    frame, _, _ = letterbox(sample_photo("coffee").rgb_u8, SIDE_PX)
    boxes = np.array([[3.0, 5.0, 90.0, 200.0], [0, 0, 416, 416], [100.5, 7.25, 101, 9]])
    found = {}
    for name in ("onnxruntime", "torch"):
        with engine.using(name):
            one = Nanodet(network, {"name": "nanodet"})
        one.propose(frame, 1)
        assert one._run is not None
        quality, raw, means = one._run(frame)
        found[name] = quality, raw, means(boxes), means(np.zeros((0, 4)))
    quality, raw, _, none = found["onnxruntime"]
    assert quality.shape == (3549,) and raw.shape == (3549, 4) and none.shape == (0, 1152)
    for own, other in zip(found["onnxruntime"], found["torch"], strict=True):
        assert own.dtype == other.dtype == np.float32
        np.testing.assert_allclose(own, other, atol=1e-3, rtol=1e-4)
    # another frame is another answer, and so is RGB taken for BGR
    assert np.abs(found["torch"][1] - one._run(np.ascontiguousarray(frame[..., ::-1]))[1]).max() > 1


def test_means_in_boxes_are_roi_align() -> None:
    need_runtime("onnxruntime")
    rng = np.random.default_rng(0)
    strides, widths = (8, 32), (3, 5)
    sides = [64 // stride for stride in strides]
    maps = [rng.normal(size=(1, width, n, n)).astype(np.float32) for width, n in zip(widths, sides, strict=True)]
    low = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.5, 1, (40, 2)) * (64 - low)], 1).astype(np.float32)
    graph = nanodet_onnx.box_means(widths, sides, strides, GRID)
    got = engine.onnx_session(graph).run(None, {**{f"map_{i}": one for i, one in enumerate(maps)}, "boxes": boxes})[0]
    want = roi_means([torch.from_numpy(one) for one in maps], boxes, strides)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert np.abs(got[:, :3] - want[::-1, :3]).max() > 0.1
