"""Every source of boxes keeps the contract; NanoDet's own ways."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import handful.detection
from handful.data.sample_images import sample_photo
from handful.detection import proposer_torchvision
from handful.detection.contract import Proposals, Proposer, clip_to_image
from handful.detection.fusion import iou
from handful.detection.letterbox import letterbox
from handful.detection.proposer_nanodet import NMS_IOU
from handful.detection.roi import roi_means
from handful.errors import DataError
from handful.files import sha256, write_json, write_tensors
from handful.models.nanodet import NanoDet
from handful.pick import names, pick

PROPOSERS = names(handful.detection, "proposer")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with weights to be fetched, drawn at random: what is found means nothing, how it is told does."""
    folder = tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)
    path = folder / "weights" / "nanodet.safetensors"
    write_tensors(path, {key: value.numpy() for key, value in NanoDet().state_dict().items()})
    write_json(path.with_suffix(".json"), {"name": "nanodet", "license": "none", "sha256": sha256(path)})
    for name in proposer_torchvision.NETS:
        path = folder / "weights" / f"{name}.safetensors"
        held = proposer_torchvision.build(name).state_dict()
        write_tensors(path, {key: value.numpy() for key, value in held.items()})
        write_json(path.with_suffix(".json"), {"name": name, "license": "none", "sha256": sha256(path)})
    return folder


@pytest.fixture
def module(request: pytest.FixtureRequest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HANDFUL_CACHE", str(cache))
    return pick(handful.detection, "proposer", request.param)


@pytest.fixture
def proposer(module: ModuleType) -> Proposer:
    assert module.available() and module.DESCRIPTION
    found: Proposer = module.load()
    return found


every = pytest.mark.parametrize("module", PROPOSERS, indirect=True)


def photo(size_wh: tuple[int, int], seed: int = 0) -> np.ndarray:
    wide, high = size_wh
    whole = sample_photo("astronaut").rgb_u8
    y, x = np.mgrid[:high, :wide]
    return np.ascontiguousarray(whole[(y + seed) % len(whole), x % whole.shape[1]])


@every
@pytest.mark.parametrize("size_wh", [(320, 200), (37, 90), (8, 8), (1, 3), (2000, 40)])
def test_boxes_lie_in_the_photo_best_first(proposer: Proposer, size_wh: tuple[int, int]) -> None:
    seen = proposer.propose(photo(size_wh), 30)
    boxes = seen.xyxy_px
    assert 0 < len(seen) <= 30 and boxes.dtype == np.float64
    assert (boxes >= 0).all() and (boxes[:, ::2] <= size_wh[0]).all() and (boxes[:, 1::2] <= size_wh[1]).all()
    assert (np.diff(seen.quality) <= 0).all() and (seen.quality >= 0).all() and (seen.quality <= 1).all()
    found = seen.features(boxes)
    assert found.shape == (len(seen), proposer.dim) and found.dtype == np.float32 and np.isfinite(found).all()
    assert seen.features(np.zeros((0, 4))).shape == (0, proposer.dim)
    if seen.focus is not None:
        assert seen.focus.ndim == 2 and (seen.focus >= 0).all() and (seen.focus <= 1).all()


@every
def test_the_same_photo_is_seen_the_same(proposer: Proposer) -> None:
    one, again = proposer.propose(photo((300, 200))), proposer.propose(photo((300, 200)))
    assert (one.xyxy_px == again.xyxy_px).all() and (one.quality == again.quality).all()
    few = proposer.propose(photo((300, 200)), 5)
    assert (few.xyxy_px == one.xyxy_px[:5]).all()
    boxes = np.array([[10, 10, 60, 80], [100, 20, 260, 180.0]])
    assert (one.features(boxes) == again.features(boxes)).all()
    assert np.allclose(one.features(boxes[1:]), one.features(boxes)[1:], atol=1e-4)


@every
def test_features_tell_places_apart_and_what_they_are_of_is_known(proposer: Proposer) -> None:
    seen = proposer.propose(photo((300, 200)))
    left, right = seen.features(np.array([[5, 5, 60, 80], [200, 100, 290, 190.0]]))
    assert not proposer.dim or not np.allclose(left, right)
    assert {"name", "license", "trained_on", "params"} <= proposer.about.keys()


def test_nanodet_keeps_one_of_boxes_that_are_one_thing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(cache))
    seen = pick(handful.detection, "proposer", "nanodet").load().propose(photo((320, 240)), 100)
    assert np.triu(iou(seen.xyxy_px, seen.xyxy_px), 1).max() <= NMS_IOU
    assert np.allclose(seen.quality[0], seen.quality.max())


def test_absent_weights_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path))
    nanodet = pick(handful.detection, "proposer", "nanodet")
    assert not nanodet.available()
    with pytest.raises(DataError, match="run: handful weights get nanodet"):
        nanodet.load()


def test_a_letterbox() -> None:
    frame, factor, at = letterbox(np.full((50, 100, 3), 200, np.uint8), 40)
    assert factor == 0.4 and at == (0, 10) and (frame[10:30] == 200).all() and not frame[:10].any()
    assert not frame[30:].any()
    frame, factor, at = letterbox(np.full((1, 300, 3), 9, np.uint8), 30)
    assert factor == 0.1 and at == (0, 14) and (frame[14] == 9).all()


def test_a_feature_is_the_mean_in_the_box() -> None:
    ramp = torch.arange(16.0).repeat(16, 1)[None, None]
    # cells of 8 px whose middles are at 4, 12, ...: a box from 16 to 48 spans cells 2 to 5
    assert roi_means([ramp], np.array([[16, 16, 48, 48.0]]), [8])[0, 0] == pytest.approx(3.5)
    both = roi_means([ramp, 2 * ramp], np.array([[16, 16, 48, 48.0]]), [8, 8])
    assert both.tolist() == [[pytest.approx(3.5), pytest.approx(7.0)]]


def test_what_was_seen_is_checked() -> None:
    nothing = lambda boxes: np.zeros((len(boxes), 0), np.float32)  # noqa: E731
    box, one, zero = np.array([[0, 0, 5, 5.0]]), np.ones(1), np.zeros(1, np.int64)
    assert len(Proposals(box, one, zero, nothing)) == 1
    for wrong, said in (
        ((box, np.ones(2), zero), "do not fit"),
        ((box * np.nan, one, zero), "NaN or infinite"),
        ((box[:, [2, 1, 0, 3]], one, zero), "has no area"),
    ):
        with pytest.raises(DataError, match=said):
            Proposals(*wrong, nothing)
    cut, there = clip_to_image(np.array([[-5, -5, 5, 5], [20, 0, 30, 5], [2, 2, 4, 4.0]]), (10, 10))
    assert cut[0].tolist() == [0, 0, 5, 5] and there.tolist() == [True, False, True]
