"""A detector as graphs: each computes what its part of the detector does, and the plan says what is between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import handful.detection
from handful.data.sample_images import sample_photo
from handful.detection import graphs
from handful.detection.background import Background
from handful.detection.contract import ProposerGraph
from handful.detection.embedder import CropSettings
from handful.detection.irene import Irene
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, top_boxes
from handful.detection.proposer_nanodet import Nanodet, roi_means
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD, MAX_CLASSES_PER_BOX, logits_of
from handful.errors import DataError
from handful.fewshot.front_end import FrontEnd, unit
from handful.fewshot.nemo import GAIN
from tests.models.test_nanodet import lively

PROPOSERS = str(Path(__file__).parent / "proposers")
BOXES = [[0, 0, 64, 64.0], [3.3, 40.1, 4.4, 63.9], [60, 0, 64, 1], [10, 10, 10.5, 10.5], [7, 21, 50, 33]]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def taught(proposer: str = "dots", **look: Any) -> Irene:
    irene = Irene.new(proposer, crop=CropSettings(**{"backbone": None, "share": 1, **look}))
    for name in ("cat", "coffee", "rocket"):
        rgb = sample_photo(name).rgb_u8
        high, wide = rgb.shape[:2]
        boxes = np.array([[0, 0, wide, high], [wide / 4, high / 4, wide * 0.8, high * 0.9]])
        irene.learn(rgb, boxes, [name, name], name)
    return irene


def boxes_of(seed: int, side: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side - 2, (80, 2))
    return np.concatenate([low, np.minimum(low + rng.uniform(0.5, side, (80, 2)), side)], 1)


@pytest.mark.parametrize("points", [1, 2, 6])
def test_roi_means_are_roi_aligns(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.detection.roi.GRID", points)
    maps = [torch.randn(1, c, side, side, generator=torch.manual_seed(c)) for c, side in ((5, 16), (3, 8), (4, 2))]
    boxes = np.concatenate([np.array(BOXES), boxes_of(0, 64)])
    want = roi_means(maps, boxes, [4, 8, 32])
    given = torch.from_numpy(boxes).float()
    got = graphs.RoiMeans([16, 8, 2], [4, 8, 32], points)(*maps, given).numpy()
    assert got.shape == want.shape == (len(boxes), 12) and np.abs(want).max() > 1
    np.testing.assert_allclose(got, want, atol=2e-5)
    wrong = graphs.RoiMeans([16, 8, 2], [4, 8, 16], points)(*maps, given).numpy()
    assert np.abs(wrong - want).max() > 0.1


def test_shares_of_cells_are_shares() -> None:
    means = graphs.RoiMeans([16], [4], 6)
    low, high = torch.tensor([[0.0], [63.5]]), torch.tensor([[64.0], [64.0]])
    shares = means.shares(low, high, torch.arange(16.0), 4.0)
    assert torch.allclose(shares.sum(1), torch.ones(2)) and shares[1, 15] == 1 and (shares >= 0).all()


@pytest.mark.parametrize("signed", [False, True])
def test_a_front_end_as_a_layer(signed: bool) -> None:
    rng = np.random.default_rng(0)
    front = FrontEnd(rng.normal(size=9).astype(np.float32), np.linalg.qr(rng.normal(size=(9, 4)))[0].astype(np.float32))
    features = rng.normal(size=(20, 9)).astype(np.float32)
    given = features if signed else np.abs(features)
    got = graphs.Front(front, signed=signed)(torch.from_numpy(given)).detach().numpy()
    np.testing.assert_allclose(got, front(given), atol=1e-6)


def test_the_head_says_what_nemo_says() -> None:
    irene = taught()
    solution, rng = irene.solution(), np.random.default_rng(1)
    part = unit(rng.normal(size=(7, irene.nemo.dim)))
    background = Background(unit(rng.normal(size=(3, irene.nemo.dim))))
    plain = graphs.Head(solution, {"proposer_features": irene.nemo.dim}, {"proposer_features": 1.0}, 7)
    assert (plain(torch.from_numpy(part).float())[2] == -1).all()
    head = graphs.Head(solution, {"proposer_features": irene.nemo.dim}, {"proposer_features": 1.0}, 7, background)
    vectors, logits, below = (out.detach().numpy() for out in head(torch.from_numpy(part).float()))
    np.testing.assert_allclose(below[:, 0], background.cosine_floor(solution, part), atol=1e-5)
    np.testing.assert_allclose(vectors, part, atol=1e-6)
    np.testing.assert_allclose(logits, logits_of(solution, part), atol=1e-4)
    assert np.abs(logits).max() > 1


@pytest.mark.parametrize(
    ("look", "names"),
    [
        ({}, ["propose", "features", "head"]),
        ({"backbone": "lite0", "share": 0.4, "side_px": 32}, ["propose", "features", "crops", "head"]),
        ({"backbone": "lite0", "share": 0, "side_px": 32}, ["propose", "crops", "head"]),
    ],
)
def test_which_graphs_a_detector_has(look: dict[str, Any], names: list[str]) -> None:
    irene = taught(**look)
    found = graphs.parts(irene, batch=3)
    assert list(found) == names and all(not part.training for part in found.values())
    told = graphs.plan(irene, batch=3)
    assert (told["crops"] is None) == ("crops" not in names) and bool(told["features"]) == ("features" in names)
    if "crops" in names:
        assert told["crops"]["batch"] == 3 and found["crops"].examples()[0].shape == (3, 32, 32, 3)


def test_the_plan_holds_every_constant() -> None:
    irene = taught()
    told = graphs.plan(irene)
    assert json.loads(json.dumps(told)) == told
    assert told["classes"] == ["cat", "coffee", "rocket"] and told["frame"]["side_px"] == 64
    assert told["boxes"] == {"pre_nms_top_k": 64, "nms_iou": 0.5, "max_boxes": 100, "refine": None}
    answer = told["answer"]
    assert (answer["gain"], answer["max_classes_per_box"], answer["score_threshold"]) == (
        GAIN,
        MAX_CLASSES_PER_BOX,
        DEFAULT_SCORE_THRESHOLD,
    )
    assert answer["expected"] == irene.solution().expected and answer["vigilance"] == irene.nemo.vigilance
    assert told["fusion"]["within"] == "hard" and told["frame"]["color_order"] == "RGB"


def test_a_second_look_is_a_graph_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from handful.pick import pick

    monkeypatch.setattr(pick(handful.detection, "proposer", "dots").Proposer, "refined", True)
    irene = taught()
    found = graphs.parts(irene)
    assert list(found) == ["propose", "refine", "features", "head"]
    for part in found.values():  # ONNX has one name space for what goes in and what comes out
        assert not set(part.input_names) & set(part.output_names)
    assert graphs.plan(irene)["boxes"]["refine"] == {"max_boxes": 10}


def test_nanodet_as_a_graph() -> None:
    proposer = Nanodet(lively(), {"name": "nanodet"})
    rgb = sample_photo("coffee").rgb_u8
    frame, factor, left_top = letterbox(rgb, 416)
    graph = proposer.graph()
    with torch.inference_mode():
        quality, raw, *maps = graph.propose(torch.from_numpy(frame[None]))
        _, _, *wrong = graph.propose(torch.from_numpy(frame[None, ..., ::-1].copy()))
    boxes = frame_to_image(raw[0].numpy(), factor, left_top)
    size_wh = rgb.shape[1], rgb.shape[0]
    how = {"pre_nms_top_k": graph.pre_nms_top_k, "nms_iou": graph.nms_iou, "max_boxes": 20}
    boxes, best = top_boxes(boxes, quality[0].numpy(), size_wh, **how)
    seen = proposer.propose(rgb, 20)
    np.testing.assert_allclose(best, seen.quality, atol=1e-4)
    np.testing.assert_allclose(boxes, seen.xyxy_px, atol=0.1)
    with torch.inference_mode():
        given = torch.from_numpy(image_to_frame(boxes, factor, left_top)).float()
        got = graph.features(*maps, given).numpy()
    np.testing.assert_allclose(got, seen.features(boxes), atol=1e-3, rtol=1e-3)
    assert best.max() < 0.999 and (wrong[0] - maps[0]).abs().max() > 0.1 * maps[0].abs().max()


def test_what_cannot_be_compiled_says_so() -> None:
    with pytest.raises(DataError, match=r"the proposer 'blobs' cannot be compiled: it has no graph\(\)"):
        graphs.parts(taught("blobs"))
    with pytest.raises(DataError, match="nothing has been learned yet"):
        graphs.parts(Irene.new("dots", crop=CropSettings(backbone=None, share=1)))
    irene = taught()
    whole = irene.proposer.proposer.graph()
    irene.proposer.proposer.graph = lambda: ProposerGraph(64, whole.propose, None, 10, 0.5)
    with pytest.raises(DataError, match="has features, but its graph"):
        graphs.parts(irene)
    irene.proposer.proposer.graph = lambda: ProposerGraph(
        64, lambda image: (torch.zeros(1, 3), torch.zeros(1, 2, 4)), None, 10, 0.5
    )
    with pytest.raises(DataError, match=r"propose gives \[\(1, 3\), \(1, 2, 4\)\]; wanted quality"):
        graphs.parts(irene)


@pytest.mark.parametrize("wrong", [{"side_px": 0}, {"pre_nms_top_k": 0}, {"nms_iou": 0.0}, {"refine_top_k": 5}])
def test_an_eyes_graph_is_checked(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"side_px": 64, "propose": None, "features": None, "pre_nms_top_k": 10, "nms_iou": 0.5}
    ProposerGraph(**good)
    with pytest.raises(DataError, match="wanted"):
        ProposerGraph(**{**good, **wrong})


def test_boxes_come_and_go() -> None:
    boxes = boxes_of(2, 300)
    there = image_to_frame(boxes, 0.37, (0.0, 12.0))
    np.testing.assert_allclose(frame_to_image(there, 0.37, (0.0, 12.0)), boxes)
    told, best = top_boxes(
        np.array([[-5, 0, 10, 10], [-4, 0, 10, 10], [500, 0, 510, 9], [20, 20, 30, 30.0]]),
        np.array([0.4, 0.5, 0.9, 0.3]), (100, 50), pre_nms_top_k=10, nms_iou=0.8, max_boxes=5,
    )  # fmt: skip
    assert told.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]] and best.tolist() == [0.5, 0.3]
