"""EfficientNet-Lite without PyTorch is the one with it: the same weights to the bit, the same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handful.data.sample_images import sample_photo
from handful.engine import onnx_session
from handful.image import fit
from handful.models import backbone, lite
from handful.models.net_taught import TaughtNet
from tests.skips import need_runtime


@pytest.mark.parametrize("name", lite.LITE)
def test_the_weights_are_those_that_pytorch_reads(name: str) -> None:
    built, held = backbone.build(name), lite.weights(name)
    want = {key: value.numpy() for key, value in built.state_dict().items()}
    assert held.keys() == want.keys()
    for key, value in want.items():
        assert held[key].dtype == value.dtype and held[key].shape == value.shape and (held[key] == value).all(), key
    assert lite.shapes(name) == {key: value.shape for key, value in want.items()}
    assert built.card == lite.card(name) and built.card.dim == lite.DIM


def largest_difference(frame_hw: tuple[int, int]) -> float:
    """Of a feature, between ONNX Runtime and PyTorch, where features are up to about 6."""
    state, net = lite.weights("lite0"), TaughtNet(backbone.build("lite0"), 1, frame_hw, 8).eval()
    session = onnx_session(lite.onnx(state, lite.card("lite0"), frame_hw))
    frames = np.stack([fit(sample_photo(name).rgb_u8, frame_hw) for name in ("cat", "coffee")])
    with torch.inference_mode():
        want = net.features(torch.from_numpy(frames)).numpy()
    found = session.run(None, {"image": frames})[0]
    assert found.shape == want.shape == (2, lite.DIM) and want.max() > 1
    return float(np.abs(found - want).max())


# smaller than the network's own square, as it is, and so large that pixels are averaged first
@pytest.mark.parametrize("frame_hw", [(64, 96), (288, 288), (600, 880)])
def test_the_onnx_model_gives_pytorchs_features(frame_hw: tuple[int, int]) -> None:
    need_runtime("onnxruntime")
    assert largest_difference(frame_hw) < 1e-4


def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    need_runtime("onnxruntime")
    monkeypatch.setattr(lite, "BATCH_NORM_EPS", 1e-5)
    assert largest_difference((64, 64)) > 1e-4
    monkeypatch.undo()
    monkeypatch.setattr(lite, "STAGE_STRIDES", (1, 2, 2, 2, 2, 1, 1))
    assert largest_difference((64, 64)) > 1e-4


def test_the_model_is_valid_onnx_and_the_same_bytes_again() -> None:
    onnx = pytest.importorskip("onnx")
    state, card = lite.weights("lite0"), lite.card("lite0")
    made = lite.onnx(state, card, (448, 448))
    onnx.checker.check_model(onnx.load_from_string(made), full_check=True)
    assert made == lite.onnx(state, card, (448, 448))
